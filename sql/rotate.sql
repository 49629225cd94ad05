/* ---- Rotation of the outbox ---------------------------------------------- */

/*
 * Rows are not deleted one by one.  They lie in parts; one of them is written,
 * and a part all of whose rows may go is truncated.  A part's life:
 *
 *		empty -> written -> left -> sealed -> empty
 *
 * written		The only one that gets rows.  A writer locks it and then looks
 *				again whether it still is that one (extension/outbox/rotation.c).
 * left			Transactions that were open when it was left may have rows in
 *				it.  Each has a lock on it; when a lock that excludes theirs is
 *				free, none is left.
 * sealed		By a transaction that began its commit after the last of them had
 *				ended.  So a snapshot that shows the seal shows all the rows:
 *				once such a snapshot is published, so are they.
 *
 * Nobody ever waits for a rotation, nor a rotation for anybody: locks are taken
 * if they are free.  While somebody has all the parts that could be used next
 * (pg_dump has every one), a further one is added; it stays.
 */

CREATE FUNCTION pgstock_internal.outbox_lock_part()
RETURNS smallint
AS 'MODULE_PATHNAME', 'pgstock_outbox_lock_part' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.outbox_lock_part IS
	'the part that is written, locked so that it cannot be emptied';

CREATE FUNCTION pgstock_internal.outbox_part_switched()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_outbox_part_switched' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.outbox_part_switched IS
	'tells all sessions at commit to look again which part is written';

CREATE FUNCTION pgstock_internal.outbox_seal()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH sealed AS (
	UPDATE pgstock_internal.outbox_part p
	   SET state = 's', since = DEFAULT, xid = DEFAULT
	 WHERE p.state = 'l' AND pgstock_internal.try_lock_table('outbox_' || p.part, false)
	RETURNING 1
)
SELECT count(*) FROM sealed
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_seal IS
	'seals the parts that no open transaction has rows in; how many';

CREATE FUNCTION pgstock_internal.outbox_empty(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
	old	int;
	n	bigint := 0;
BEGIN
	IF p.by_seq THEN
		RETURN 0;	/* the snapshots of a restored window are not of here */
	END IF;
	FOR old IN
		SELECT o.part FROM pgstock_internal.outbox_part o
		 WHERE o.state = 's' AND o.since < clock_timestamp() - retention
		   AND pg_visible_in_snapshot(o.xid, p.done) ORDER BY o.since
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
	'empties sealed parts that are published and past retention; how many';

/* An empty part, added if there is none; NULL if that is not possible now. */
CREATE FUNCTION pgstock_internal.outbox_next_part()
RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	free	int;
	last	int;
BEGIN
	SELECT min(n) FILTER (WHERE u.part IS NULL), max(n) INTO free, last
	  FROM pg_inherits i
	  JOIN pg_class c ON c.oid = i.inhrelid
	 CROSS JOIN LATERAL CAST(substring(c.relname FROM '[0-9]+$') AS int) n
	  LEFT JOIN pgstock_internal.outbox_part u ON u.part = n
	 WHERE i.inhparent = 'pgstock_internal.outbox'::regclass;
	IF free IS NULL THEN
		LOCK TABLE ONLY pgstock_internal.outbox
			IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
		free := last + 1;
		PERFORM pgstock_internal.outbox_add_part(free);
	END IF;
	RETURN free;
EXCEPTION WHEN lock_not_available THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_next_part IS
	'an empty part of the outbox, a new one if need be';

/* Four parts to a retention: so what is kept is that and a quarter. */
CREATE FUNCTION pgstock_internal.outbox_switch(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	period	interval := greatest(retention / 4, interval '1 second');
	now		pgstock_internal.outbox_part;
	next	int;
BEGIN
	SELECT * INTO now FROM pgstock_internal.outbox_part WHERE state = 'w';
	IF NOT FOUND THEN
		INSERT INTO pgstock_internal.outbox_part (part, state) VALUES (1, 'w');
		RETURN 0;
	END IF;
	IF now.since > clock_timestamp() - period
		OR pg_relation_size('pgstock_internal.outbox_' || now.part) = 0 THEN
		RETURN 0;
	END IF;
	next := pgstock_internal.outbox_next_part();
	IF next IS NULL THEN
		RETURN 0;
	END IF;
	UPDATE pgstock_internal.outbox_part
	   SET state = 'l', since = DEFAULT, xid = DEFAULT WHERE state = 'w';
	INSERT INTO pgstock_internal.outbox_part (part, state) VALUES (next, 'w');
	PERFORM pgstock_internal.outbox_part_switched();
	RETURN 1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_switch IS
	'lets another part be written when it is time; whether it did';

/*
 * Sealing comes before switching: a part is sealed only after the transaction
 * that left it has told all sessions.  The lock makes the steps of several
 * callers one after another.  A synchronous standby that is away shall not keep
 * the locks here.
 */
CREATE FUNCTION pgstock_internal.outbox_rotate(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	BEGIN
		LOCK TABLE pgstock_internal.outbox_part
			IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
	EXCEPTION WHEN lock_not_available THEN
		RETURN 0;
	END;
	PERFORM pgstock_internal.raise_foreign(pgstock_internal.foreign_history()),
			set_config('synchronous_commit', 'local', true);
	/* A clock that was ahead for a while has left times that are to come. */
	UPDATE pgstock_internal.outbox_part SET since = DEFAULT
	 WHERE since > clock_timestamp();
	RETURN pgstock_internal.upkeep_step('empty',
			'SELECT pgstock_internal.outbox_empty($1)', retention, NULL)
		 + pgstock_internal.upkeep_step('seal',
			'SELECT pgstock_internal.outbox_seal()', NULL, NULL)
		 + pgstock_internal.upkeep_step('switch',
			'SELECT pgstock_internal.outbox_switch($1)', retention, NULL);
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_rotate IS
	'one step of the rotation, for what is published and older; 0: nothing to do';
