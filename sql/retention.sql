/* ---- Retention ----------------------------------------------------------- */

/*
 * The outer condition repeats the inner one: a line that was taken back up
 * meanwhile is another version of the row, which only the outer one sees.
 */
CREATE FUNCTION pgstock_internal.purge_reservations(before timestamptz,
	max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.reservation r
	 WHERE r.ctid = ANY (ARRAY(
		SELECT o.ctid FROM pgstock_internal.reservation o
		 WHERE o.state NOT IN ('r', 'c') AND o.ended_at < before
		 ORDER BY o.ended_at LIMIT max_rows))
	   AND r.state NOT IN ('r', 'c') AND r.ended_at < before;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_reservations IS
	'deletes lines that ended before a time, at most max_rows of them; '
	'returns their number';

CREATE FUNCTION pgstock_internal.purge_failed(before timestamptz, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.failed_event f
	 WHERE f.id = ANY (ARRAY(
		SELECT o.id FROM pgstock_internal.failed_event o
		 WHERE o.state <> 'waiting' AND o.first_failed_at < before
		   AND (o.handled OR o.archived_at IS NULL OR o.state = 'discarded')
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_failed IS
	'deletes failed messages that have ended and first failed before a time, '
	'at most max_rows of them; returns their number';

CREATE FUNCTION pgstock_internal.purge_purchases(before timestamptz,
	max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.sale_order p
	 WHERE p.ctid = ANY (ARRAY(
		SELECT o.ctid
		  FROM pgstock_internal.sale s
		  JOIN pgstock_internal.sale_order o ON o.activity_id = s.activity_id
		 WHERE s.closed_at < before LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_purchases IS
	'deletes from sale_order the orders of flash sales that were closed before '
	'a time, at most max_rows of them; returns their number';

/* The lock on the row serializes purges: see purge_old. */
CREATE FUNCTION @extschema@.purge_history(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own	uuid := (pgstock_internal.draw_incarnation()).id;
BEGIN
	IF before IS NULL OR before > clock_timestamp() THEN
		RAISE EXCEPTION 'before must be a time in the past'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM FROM pgstock_internal.incarnation i
	  WHERE i.id = own FOR NO KEY UPDATE;
	PERFORM pgstock_internal.raise_foreign(
		pgstock_internal.incomplete_because());
	PERFORM pgstock_internal.audit('purge_history',
		'before ' || pgstock_internal.utc_text(before), NULL);
	RETURN pgstock_internal.purge_movements(before)
		 + pgstock_internal.purge_reservations(before, NULL)
		 + pgstock_internal.purge_failed(before, NULL)
		 + pgstock_internal.purge_purchases(before, NULL);
END
$$;
COMMENT ON FUNCTION @extschema@.purge_history IS
	'replaces older movements by opening movements, deletes ended '
	'reservations and handled archived messages; before must be in the past; '
	'returns the number of rows';

CREATE FUNCTION pgstock_internal.purge_inbox(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.inbox i
	 WHERE i.ctid = ANY (ARRAY(
		SELECT o.ctid FROM pgstock_internal.inbox o
		 WHERE o.received_at < clock_timestamp() - retention
		   AND o.result <> 'waiting' LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_inbox IS
	'deletes inbox rows past their retention, at most max_rows of them; '
	'returns their number';

CREATE FUNCTION pgstock_internal.purge_refused(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.refused_order r
	 WHERE r.order_id = ANY (ARRAY(
		SELECT o.order_id FROM pgstock_internal.refused_order o
		 WHERE o.refused_at < clock_timestamp() - retention
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_refused IS
	'deletes refused orders past their retention, at most max_rows of them; '
	'returns their number';

CREATE FUNCTION pgstock_internal.purge_surplus(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.surplus_payment p
	 WHERE p.ctid = ANY (ARRAY(
		SELECT o.ctid FROM pgstock_internal.surplus_payment o
		 WHERE o.reported_at < clock_timestamp() - retention
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_surplus IS
	'deletes surplus payments past their retention, at most max_rows of them; '
	'returns their number';
