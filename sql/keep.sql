/* ---- What runs by itself ------------------------------------------------- */

/*
 * Where pgstock is preloaded, a server process does it
 * (extension/worker/launcher.c); elsewhere the relay that leads asks for it.
 * Both at once would be harmless: all of it is decided under the locks that
 * everybody takes.
 */

CREATE FUNCTION pgstock_internal.keeper_is_here()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_keeper_is_here' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_is_here IS
	'whether a server process keeps this database, and is not late';

CREATE FUNCTION pgstock_internal.keeper_call()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_keeper_call' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_call IS
	'lets it look at this database once this transaction has committed';

CREATE FUNCTION pgstock_internal.expire_free(max_rows int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_free' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.expire_free IS
	'expire_reservations, but for levels that somebody has: it does not wait';

CREATE FUNCTION pgstock_internal.expire_first(max_rows int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_first' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.expire_first IS
	'expire_reservations, of the level whose line is due first: waits for it';

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
	'microseconds until the first line after then is due, a minute at most';

/*
 * A batch must not hold the levels that it has while it waits for one that an
 * application keeps: so it takes those that are free.  If none is, it waits for
 * one alone, and not for long.
 */
CREATE FUNCTION pgstock_internal.expire_due(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	began	timestamptz := clock_timestamp();
BEGIN
	IF pgstock_internal.expire_free(max_rows) = 0 AND pgstock_internal.until_due('-infinity') <= 0 THEN
		PERFORM pgstock_internal.expire_first(max_rows);
	END IF;
	RETURN pgstock_internal.until_due('-infinity');
EXCEPTION
	WHEN lock_not_available THEN
		/* What has become due meanwhile was not tried yet. */
		RETURN least(1000000, pgstock_internal.until_due(began));
	WHEN program_limit_exceeded THEN
		/* An order of many lines, whose event is too large: line by line. */
		PERFORM pgstock_internal.expire_first(1);
		RETURN 0;
END
$$;
COMMENT ON FUNCTION pgstock_internal.expire_due IS
	'lets due lines go; microseconds until it is to be called again';

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
	'deletes a batch of idempotency keys that are a day old; rows';

/*
 * One batch of what is past pgstock.history_retention, and of keys.  The row
 * that is locked stands for the purge: one at a time, and nobody waits.
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
	'deletes a batch of what is past its retention; rows, 0: no more';

/* From now on: also of what a restore brings next. */
SELECT pgstock_internal.keeper_call();

