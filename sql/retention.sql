/* ---- Retention ----------------------------------------------------------- */

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
 * For each level, the sum of the deleted movements is added to one movement of
 * kind "opening", so that the ledger still adds up to the level.  Its id is
 * negative, so it precedes all others, and the oldest of these are found from
 * id 1.  A batch reads no more than the oldest max_rows rows, because ids and
 * times rise together; with NULL, all rows.
 */
CREATE FUNCTION pgstock_internal.purge_movements(before timestamptz,
	max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n		bigint;
	first	bigint;
BEGIN
	/* Skip times in the future, from a clock that was ahead for a while. */
	SELECT o.id INTO first FROM pgstock_internal.movement o
	 WHERE o.id > 0 AND o.at <= clock_timestamp() ORDER BY o.id LIMIT 1;
	WITH deleted AS (
		DELETE FROM pgstock_internal.movement m
		 WHERE m.id = ANY (ARRAY(
			SELECT h.id
			  FROM (SELECT o.id, o.at FROM pgstock_internal.movement o
					 WHERE o.id >= first ORDER BY o.id LIMIT max_rows) h
			 WHERE h.at < before))
		RETURNING m.*
	), opening AS (
		INSERT INTO pgstock_internal.movement AS m (id, at, kind, product_id,
			location, on_hand_delta, reserved_delta, actor)
		SELECT -nextval('pgstock_internal.movement_id'), max(g.at), 'opening',
			   g.product_id, g.location, sum(g.on_hand_delta),
			   sum(g.reserved_delta), session_user
		  FROM deleted g GROUP BY g.product_id, g.location
		ON CONFLICT (product_id, location) WHERE kind = 'opening' DO UPDATE
		   SET at = greatest(m.at, excluded.at), actor = excluded.actor,
			   on_hand_delta = m.on_hand_delta + excluded.on_hand_delta,
			   reserved_delta = m.reserved_delta + excluded.reserved_delta
	)
	SELECT count(*) INTO n FROM deleted;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_movements IS
	'replaces movements older than before by opening movements, at most '
	'max_rows of them; returns their number';

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
		 ORDER BY o.ended_at LIMIT max_rows));
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

/* The lock on the row serializes purges. */
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
	RETURN pgstock_internal.purge_movements(before, NULL)
		 + pgstock_internal.purge_reservations(before, NULL)
		 + pgstock_internal.purge_failed(before, NULL);
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
