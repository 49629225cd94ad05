/* ---- Verification and repair --------------------------------------------- */

/*
 * A function with the owner's rights must not call another function in the
 * extension's schema: the owner of that schema could rename it and put other
 * functions under its name.  Code shared by two functions is in
 * pgstock_internal, where only the owner of pgstock can create objects.
 */

/*
 * Levels, the ledger and the live reservations represent the same quantities
 * in three ways; each row is a difference between them.
 */
CREATE FUNCTION pgstock_internal.stock_faults(product text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH level AS (
	SELECT product_id, location, sum(on_hand)::bigint AS on_hand,
		   sum(reserved)::bigint AS reserved,
		   sum(backorder_limit)::bigint AS backorder_limit
	  FROM pgstock_internal.level
	 WHERE $1 IS NULL OR product_id = $1
	 GROUP BY 1, 2
), ledger AS (
	SELECT product_id, location, sum(on_hand_delta)::bigint AS on_hand,
		   sum(reserved_delta)::bigint AS reserved
	  FROM pgstock_internal.movement
	 WHERE $1 IS NULL OR product_id = $1
	 GROUP BY 1, 2
), slot_line AS (
	SELECT product_id, location, slot, sum(quantity)::bigint AS reserved
	  FROM pgstock_internal.reservation
	 WHERE state = 'r' AND ($1 IS NULL OR product_id = $1)
	 GROUP BY 1, 2, 3
), line AS (
	SELECT product_id, location, sum(reserved)::bigint AS reserved
	  FROM slot_line
	 GROUP BY 1, 2
), combined AS (
	SELECT product_id, location,
		   coalesce(v.on_hand, 0) AS on_hand,
		   coalesce(v.reserved, 0) AS reserved,
		   coalesce(v.backorder_limit, 0) AS backorder_limit,
		   coalesce(g.on_hand, 0) AS ledger_on_hand,
		   coalesce(g.reserved, 0) AS ledger_reserved,
		   coalesce(i.reserved, 0) AS lines
	  FROM level v
	  FULL JOIN ledger g USING (product_id, location)
	  FULL JOIN line i USING (product_id, location)
)
SELECT product_id, location, c.what, c.expected, c.found
  FROM combined t, LATERAL (VALUES
	('on_hand: ledger and level', ledger_on_hand, on_hand),
	('reserved: ledger and level', ledger_reserved, reserved),
	('reserved: live reservations and level', lines, reserved),
	('oversold: minimum and actual free stock', greatest(-backorder_limit,
		on_hand - reserved), on_hand - reserved),
	('reserved: not negative', greatest(0, reserved), reserved)
  ) AS c (what, expected, found)
 WHERE c.expected <> c.found
UNION ALL
/* Quotas of sales: their lines, and not oversold. */
SELECT product_id, location, c.what, c.expected, c.found
  FROM (SELECT * FROM pgstock_internal.level
		 WHERE slot < 0 AND ($1 IS NULL OR product_id = $1)) v
  FULL JOIN (SELECT * FROM slot_line WHERE slot < 0) i
	   USING (product_id, location, slot),
	   LATERAL (VALUES
	('reserved: live purchases and quota of a sale',
		coalesce(i.reserved, 0), coalesce(v.reserved, 0)),
	('oversold: minimum and actual rest of a sale',
		greatest(0, v.on_hand - v.reserved), v.on_hand - v.reserved)
  ) AS c (what, expected, found)
 WHERE c.expected <> c.found
UNION ALL
/* Slots: their lines, and not oversold without the other slots. */
SELECT product_id, location, c.what || slot, c.expected, c.found
  FROM (SELECT l.*, on_hand - reserved + backorder_limit
					- CASE WHEN pooled THEN 0 ELSE safety END AS free
		  FROM pgstock_internal.level l) v
  LEFT JOIN slot_line i USING (product_id, location, slot),
	   LATERAL (VALUES
	('reserved: live reservations and slot ', coalesce(i.reserved, 0),
		v.reserved),
	('oversold: minimum and actual free stock of slot ', greatest(v.free, 0),
		v.free)
  ) AS c (what, expected, found)
 WHERE v.slots_made > 1 AND ($1 IS NULL OR product_id = $1)
   AND c.expected <> c.found
 ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION pgstock_internal.stock_faults IS
	'returns the differences for verify_stock; NULL for all products';

/* The metric ledger_differences is about all products. */
CREATE FUNCTION pgstock_internal.verify(product text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	RETURN QUERY SELECT * FROM pgstock_internal.stock_faults(product);
	GET DIAGNOSTICS n = ROW_COUNT;
	IF product IS NULL THEN
		PERFORM pgstock_internal.note_verification(n);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.verify IS
	'returns the differences for verify_stock, and records their number if '
	'they are those of all products';

CREATE FUNCTION @extschema@.verify_stock(product_id text DEFAULT NULL,
	OUT product_id text, OUT location text, OUT what text,
	OUT expected bigint, OUT found bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM pgstock_internal.verify($1)
$$;
COMMENT ON FUNCTION @extschema@.verify_stock IS
	'compares levels, ledger and live reservations of one product or of all '
	'(NULL) and returns the differences; no row: they agree';

/* ---- Administrative actions ---------------------------------------------- */

CREATE FUNCTION pgstock_internal.audit(action text, target text, reason text)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.admin_action
VALUES (clock_timestamp(),
		concat_ws('/', session_user,
				  nullif(current_setting('pgstock.actor', true), '')),
		action, target, reason)
$$;
COMMENT ON FUNCTION pgstock_internal.audit IS
	'records an administrative action of the current user';

CREATE FUNCTION pgstock_internal.check_reason(reason text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(reason, '') = '' THEN
		RAISE EXCEPTION 'reason must not be empty'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'State a reason; stock_admin_actions records it.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_reason IS
	'raises 22023 if a required reason is NULL or empty';

CREATE FUNCTION @extschema@.reset_stock_statistics()
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.statistics_reset();
SELECT pgstock_internal.audit('reset_stock_statistics', current_database(),
							  NULL)
$$;
COMMENT ON FUNCTION @extschema@.reset_stock_statistics IS
	'sets the counters of stock_statistics to 0';

/*
 * The level is locked first, so that it does not change between comparison and
 * repair.  The ledger is authoritative, because it is append-only.
 */
CREATE FUNCTION pgstock_internal.repair_product(product text, reason text)
RETURNS TABLE (product_id text, location text, what text, expected bigint,
	found bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM pgstock_internal.check_reason($2);
	PERFORM FROM pgstock_internal.level l WHERE l.product_id = product
	  ORDER BY l.product_id, l.location, l.slot FOR NO KEY UPDATE;
	RETURN QUERY SELECT * FROM pgstock_internal.stock_faults(product);
	IF NOT FOUND THEN
		RETURN;
	END IF;
	/* Quotas by their purchases: movements do not contain slots. */
	UPDATE pgstock_internal.level l
	   SET on_hand = greatest(l.on_hand, i.reserved), reserved = i.reserved,
		   version = l.version + 1
	  FROM (SELECT q.location, q.slot,
				   coalesce(sum(r.quantity), 0) AS reserved
			  FROM pgstock_internal.level q
			  LEFT JOIN pgstock_internal.reservation r
				ON (r.product_id, r.location, r.slot)
				 = (q.product_id, q.location, q.slot) AND r.state = 'r'
			 WHERE q.product_id = product AND q.slot < 0
			 GROUP BY q.location, q.slot) i
	 WHERE l.product_id = product
	   AND (l.location, l.slot) = (i.location, i.slot)
	   AND (l.reserved <> i.reserved OR l.on_hand < i.reserved);
	/* With slots, slot 0 gets safety stock and back-order limit. */
	UPDATE pgstock_internal.level l
	   SET safety = s.safety, backorder_limit = s.backorder_limit
	  FROM (SELECT v.location, sum(v.safety) AS safety,
				   sum(v.backorder_limit) AS backorder_limit
			  FROM pgstock_internal.level v
			 WHERE v.product_id = product GROUP BY v.location) s
	 WHERE l.product_id = product AND l.location = s.location AND l.slot = 0
	   AND l.slots_made > 1;
	/* Each other slot keeps the stock of its lines. */
	UPDATE pgstock_internal.level l
	   SET on_hand = r.reserved, reserved = r.reserved, safety = 0,
		   backorder_limit = 0, pooled = true
	  FROM (SELECT v.location, v.slot, coalesce(sum(i.quantity), 0) AS reserved
			  FROM pgstock_internal.level v
			  LEFT JOIN pgstock_internal.reservation i
				ON i.product_id = v.product_id AND i.location = v.location
			   AND i.slot = v.slot AND i.state = 'r'
			 WHERE v.product_id = product AND v.slot > 0 GROUP BY 1, 2) r
	 WHERE l.product_id = product AND (l.location, l.slot)
		   = (r.location, r.slot);
	/* Slot 0 gets the rest of the ledger's sum. */
	UPDATE pgstock_internal.level l
	   SET on_hand = l.on_hand + m.on_hand - s.on_hand,
		   reserved = l.reserved + m.reserved - s.reserved,
		   pooled = l.slots_made > 1, version = l.version + 1
	  FROM (SELECT v.location, sum(v.on_hand_delta) AS on_hand,
				   sum(v.reserved_delta) AS reserved
			  FROM pgstock_internal.movement v
			 WHERE v.product_id = product GROUP BY v.location) m
	  JOIN (SELECT v.location, sum(v.on_hand) AS on_hand,
				   sum(v.reserved) AS reserved
			  FROM pgstock_internal.level v
			 WHERE v.product_id = product GROUP BY v.location) s
	 USING (location)
	 WHERE l.product_id = product AND l.location = m.location AND l.slot = 0
	   AND (l.slots_made > 1 OR (s.on_hand, s.reserved)
			IS DISTINCT FROM (m.on_hand, m.reserved));
	PERFORM pgstock_internal.audit('repair_stock', product, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.repair_product IS
	'sets the levels of a product to the sums of the ledger, for repair_stock';

CREATE FUNCTION @extschema@.repair_stock(product_id text, reason text,
	OUT product_id text, OUT location text, OUT what text,
	OUT expected bigint, OUT found bigint)
RETURNS SETOF record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM pgstock_internal.repair_product($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.repair_stock IS
	'sets the levels of a product to the sums of the ledger and returns the '
	'differences found before; the reason is required';

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

CREATE FUNCTION pgstock_internal.retry_failed(id bigint, order_id text,
	reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ($1 IS NULL) = ($2 IS NULL) THEN
		RAISE EXCEPTION 'exactly one of id and order_id must be specified'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	UPDATE pgstock_internal.failed_event f
	   SET state = 'waiting', next_retry_at = clock_timestamp()
	 WHERE (f.id = $1 OR f.order_id = $2) AND f.state IN ('waiting', 'archived');
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no failed event to retry'
			USING ERRCODE = 'no_data_found',
				  HINT = 'Failed events in state waiting or archived can be '
						 'retried: see stock_failed_events.';
	END IF;
	PERFORM pgstock_internal.audit('retry_failed_event',
		coalesce('id ' || $1, 'order ' || $2), $3);
END
$$;
COMMENT ON FUNCTION pgstock_internal.retry_failed IS
	'schedules failed messages for another try at once, and records the '
	'reason';

CREATE FUNCTION @extschema@.retry_failed_event(id bigint DEFAULT NULL,
	order_id text DEFAULT NULL)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.retry_failed($1, $2, NULL)
$$;
COMMENT ON FUNCTION @extschema@.retry_failed_event IS
	'schedules another try at once for one failed message or for all of an '
	'order (exactly one argument is required); P0002 if there is none';

CREATE FUNCTION pgstock_internal.discard_failed(id bigint, reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	event	pgstock_internal.failed_event;
BEGIN
	PERFORM pgstock_internal.check_reason($2);
	/* No message must start waiting behind it in the meantime. */
	LOCK TABLE pgstock_internal.failed_event IN SHARE ROW EXCLUSIVE MODE;
	UPDATE pgstock_internal.failed_event f
	   SET state = 'discarded', next_retry_at = NULL
	 WHERE f.id = $1 AND f.state IN ('waiting', 'archived')
	RETURNING f.* INTO event;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no failed event % to discard', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'Failed events in state waiting or archived can be '
						 'discarded: see stock_failed_events.';
	END IF;
	UPDATE pgstock_internal.inbox i SET result = 'dead', reason = $2
	 WHERE i.dedup_id = event.event_id AND i.source = event.source
	   AND i.result = 'waiting';
	UPDATE pgstock_internal.failed_event f SET next_retry_at = clock_timestamp()
	 WHERE f.id = (SELECT min(w.id) FROM pgstock_internal.failed_event w
					WHERE w.state = 'waiting' AND w.topic = event.topic
					  AND w.key = event.key AND w.key <> '');
	PERFORM pgstock_internal.audit('discard_failed_event', 'id ' || $1, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.discard_failed IS
	'discards a failed message, for discard_failed_event';

CREATE FUNCTION @extschema@.discard_failed_event(id bigint, reason text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.discard_failed($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.discard_failed_event IS
	'discards a failed message; messages waiting behind it are processed; the '
	'reason is required; P0002 if there is none';

/*
 * The row of the outbox remains and is read again after the loss of a
 * position.  The row of admin_action prevents it from being set aside again.
 */
CREATE FUNCTION pgstock_internal.discard_held(event_id uuid, reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_reason($2);
	DELETE FROM pgstock_internal.held_event h WHERE h.id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no held event % to discard', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'Only events of held topics can be discarded: '
						 '"pgstock-relay status" shows the first event of '
						 'each.';
	END IF;
	PERFORM pgstock_internal.audit('discard_held_event', 'event ' || $1, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.discard_held IS
	'discards an event of a held topic, for discard_held_event';

CREATE FUNCTION @extschema@.discard_held_event(event_id uuid, reason text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.discard_held($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.discard_held_event IS
	'discards an event of a held topic that the broker will never accept; '
	'later events of the topic are published; the reason is required; P0002 '
	'if there is none';

CREATE FUNCTION pgstock_internal.mark_failed_handled(id bigint, note text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgstock_internal.failed_event f
	   SET handled = true, handled_at = clock_timestamp(),
		   handled_by = session_user
	 WHERE f.id = $1 AND f.archived_at IS NOT NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no archived event %', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'See failed_order_archives for archived events.';
	END IF;
	PERFORM pgstock_internal.audit('mark_failed_event_handled', 'id ' || $1, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.mark_failed_handled IS
	'marks an archived message as handled, for mark_failed_event_handled';

CREATE FUNCTION @extschema@.mark_failed_event_handled(id bigint, note text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.mark_failed_handled($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.mark_failed_event_handled IS
	'marks an archived message as handled by the current user; P0002 if there '
	'is none';

