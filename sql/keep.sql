/* ---- Expiry and retention ------------------------------------------------ */

/*
 * Where pgstock is preloaded, a background worker calls these functions (see
 * extension/worker/launcher.c); elsewhere the relay that leads does.  Both at
 * the same time are harmless, because all decisions are made under the usual
 * locks.
 */

CREATE FUNCTION pgstock_internal.keeper_is_here()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_keeper_is_here' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_is_here IS
	'returns whether a background worker serves this database without delay';

CREATE FUNCTION pgstock_internal.keeper_call()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_keeper_call' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_call IS
	'requests a run of the background worker when this transaction commits';

CREATE FUNCTION pgstock_internal.expire_free(max_rows int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_free' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.expire_free IS
	'expires at most max_rows due lines, skipping locked levels; returns '
	'their number';

CREATE FUNCTION pgstock_internal.expire_first(max_rows int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_first' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.expire_first IS
	'expires at most max_rows lines of the level with the line that is due '
	'first, waiting for its lock; returns their number';

CREATE FUNCTION pgstock_internal.until_due(after timestamptz)
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(greatest(0, least(60000000, 1000000 *
		extract(epoch FROM min(r.due_at) - clock_timestamp()))), 60000000)::bigint
  FROM pgstock_internal.reservation r
 WHERE r.due_at > after
$$;
COMMENT ON FUNCTION pgstock_internal.until_due IS
	'returns the microseconds until the first line after a time is due, at '
	'most 60 s';

/*
 * A batch must not keep its levels locked while it waits for a level that an
 * application has locked, so it takes the unlocked ones.  If there are none,
 * it waits for a single level, for at most lock_timeout.
 */
CREATE FUNCTION pgstock_internal.expire_due(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	began	timestamptz := clock_timestamp();
BEGIN
	IF pgstock_internal.expire_free(max_rows) = 0
		AND pgstock_internal.until_due('-infinity') <= 0 THEN
		PERFORM pgstock_internal.expire_first(max_rows);
	END IF;
	RETURN pgstock_internal.until_due('-infinity');
EXCEPTION
	WHEN lock_not_available THEN
		/* Lines that became due since then were not tried. */
		RETURN least(1000000, pgstock_internal.until_due(began));
	WHEN program_limit_exceeded THEN
		/* The event of an order with many lines is too large: line by line. */
		PERFORM pgstock_internal.expire_first(1);
		RETURN 0;
END
$$;
COMMENT ON FUNCTION pgstock_internal.expire_due IS
	'expires due lines; returns the microseconds until the next call';

CREATE FUNCTION pgstock_internal.purge_keys(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.idempotency k
	 WHERE k.key = ANY (ARRAY(
		SELECT o.key FROM pgstock_internal.idempotency o
		 WHERE o.created_at < clock_timestamp() - interval '24 hours'
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_keys IS
	'deletes idempotency keys older than 24 hours, at most max_rows of them; '
	'returns their number';

/*
 * One batch of the rows older than pgstock.history_retention, and of
 * idempotency keys.  The lock on the row serializes purges without waiting.
 */
CREATE FUNCTION pgstock_internal.purge_old(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	retention	interval := current_setting('pgstock.history_retention');
	own			uuid := (pgstock_internal.draw_incarnation()).id;
	n			bigint;
BEGIN
	PERFORM FROM pgstock_internal.incarnation i
	  WHERE i.id = own FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	n := pgstock_internal.upkeep_step('keys',
			'SELECT pgstock_internal.purge_keys($2)', NULL, max_rows);
	IF retention > interval '0' THEN
		n := n
		   + pgstock_internal.upkeep_step('movements',
				'SELECT pgstock_internal.purge_movements(clock_timestamp() - $1, $2)',
				retention, max_rows)
		   + pgstock_internal.upkeep_step('reservations',
				'SELECT pgstock_internal.purge_reservations(clock_timestamp() - $1, $2)',
				retention, max_rows)
		   + pgstock_internal.upkeep_step('archive',
				'SELECT pgstock_internal.purge_failed(clock_timestamp() - $1, $2)',
				retention, max_rows);
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_old IS
	'deletes a batch of rows past their retention; returns their number, 0 if '
	'none is left';

/* Requests the first run; a later one finds what a restore loads next. */
SELECT pgstock_internal.keeper_call();

