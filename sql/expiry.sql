/* ---- Expiry -------------------------------------------------------------- */

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
		extract(epoch FROM min(r.due_at) - clock_timestamp()))),
		60000000)::bigint
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
