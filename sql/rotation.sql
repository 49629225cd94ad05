/* ---- Rotation of the outbox ---------------------------------------------- */

/*
 * Rows are not deleted one by one.  The outbox consists of parts, of which one
 * is written, and a part is truncated when all its rows are published and past
 * their retention.  The states of a part:
 *
 *		empty -> written -> left -> sealed -> empty
 *
 * written		The only part that rows are inserted into.  A writer locks it
 *				and then checks again that it is still in this state
 *				(extension/base/rotation.c).
 * left			Transactions that were open at the switch may have rows in it.
 *				Each of them holds a lock on it; when a conflicting lock is
 *				available, all have ended.
 * sealed		Set by a transaction that began its commit after the last of
 *				them had ended.  So a snapshot that shows the seal shows all
 *				rows, and when a window up to such a snapshot is published, so
 *				are they.
 *
 * Where another program publishes the outbox (set_outbox_retention), there is
 * no position to compare a sealed part with: its age alone decides.
 *
 * The rotation blocks no session and waits for none: it takes only locks that
 * are available.  If all parts that could be written next are locked (pg_dump
 * locks all), a new part is added; it is never removed.
 */

CREATE FUNCTION pgstock_internal.outbox_lock_part()
RETURNS smallint
AS 'MODULE_PATHNAME', 'pgstock_outbox_lock_part' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.outbox_lock_part IS
	'returns the part to write, locked so that it cannot be truncated';

CREATE FUNCTION pgstock_internal.outbox_seal()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.part_seal('outbox')
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_seal IS
	'seals the parts in which no open transaction has rows; returns their '
	'number';

CREATE FUNCTION pgstock_internal.outbox_empty(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p		pgstock_internal.outbox_progress := pgstock_internal.progress();
	by_time	boolean := pgstock_internal.outbox_retention() IS NOT NULL;
	old		int;
	n		bigint := 0;
BEGIN
	IF p.by_seq AND NOT by_time THEN
		RETURN 0;	/* its snapshots are of another history */
	END IF;
	FOR old IN
		SELECT o.part FROM pgstock_internal.outbox_part o
		 WHERE o.state = 's' AND o.since < clock_timestamp() - retention
		   AND (by_time OR pg_visible_in_snapshot(o.xid, p.done))
		 ORDER BY o.since
	LOOP
		IF pgstock_internal.try_lock_table('outbox_' || old, true) THEN
			EXECUTE format('TRUNCATE pgstock_internal.outbox_%s', old);
			DELETE FROM pgstock_internal.outbox_part o WHERE o.part = old;
			n := n + 1;
		END IF;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_empty IS
	'truncates sealed parts that are past their retention and, if a relay '
	'publishes the outbox, published; returns their number';

CREATE FUNCTION pgstock_internal.outbox_next_part()
RETURNS int
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.part_next('outbox')
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_next_part IS
	'returns an empty part of the outbox, added if necessary; NULL if that is '
	'not possible now';

CREATE FUNCTION pgstock_internal.outbox_switch(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM pgstock_internal.outbox_part p WHERE p.state = 'w';
	IF NOT FOUND THEN
		INSERT INTO pgstock_internal.outbox_part (part, state) VALUES (1, 'w');
		RETURN 0;
	END IF;
	RETURN pgstock_internal.part_switch('outbox', retention);
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_switch IS
	'switches to another part after a quarter of the retention; returns 1 if '
	'it did, else 0';

/*
 * Parts are sealed before the switch, so that a part is sealed only after the
 * transaction that left it has sent its invalidation to all sessions.  The
 * lock serializes concurrent callers.  Commits are local, so that the locks
 * are not held while a synchronous standby is unavailable.
 */
CREATE FUNCTION pgstock_internal.outbox_rotate(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	BEGIN
		LOCK TABLE pgstock_internal.outbox_part
			IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
	EXCEPTION WHEN lock_not_available THEN
		RETURN 0;
	END;
	PERFORM pgstock_internal.raise_foreign(pgstock_internal.foreign_history()),
			set_config('synchronous_commit', 'local', true);
	/* Correct times in the future, from a clock that was ahead for a while. */
	UPDATE pgstock_internal.outbox_part SET since = DEFAULT
	 WHERE since > clock_timestamp();
	n := pgstock_internal.upkeep_step('empty',
			'SELECT pgstock_internal.outbox_empty($1)', retention, NULL)
	   + pgstock_internal.upkeep_step('seal',
			'SELECT pgstock_internal.outbox_seal()', NULL, NULL)
	   + pgstock_internal.upkeep_step('switch',
			'SELECT pgstock_internal.outbox_switch($1)', retention, NULL);
	/* Again: rows that were restored since then are not of this history. */
	PERFORM pgstock_internal.raise_foreign(
		pgstock_internal.incomplete_because());
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_rotate IS
	'runs one step of the rotation for rows past their retention; returns the '
	'number of parts changed, 0 if nothing is left to do';

/*
 * For the background worker.  The row is locked, so that no relay leads before
 * the parts that it has decided about are empty.
 */
CREATE FUNCTION pgstock_internal.outbox_rotate_by_time()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	keeps	interval;
BEGIN
	SELECT p.retention INTO keeps FROM pgstock_internal.other_publisher p
	   FOR KEY SHARE;
	RETURN CASE WHEN FOUND THEN pgstock_internal.outbox_rotate(keeps) ELSE 0
		   END;
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_rotate_by_time IS
	'runs one step of the rotation if another program publishes the outbox; '
	'returns the number of parts changed';
