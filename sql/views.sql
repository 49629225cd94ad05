/* ---- Views --------------------------------------------------------------- */

/*
 * The definition of "available"; extension/stock/slot.c computes the same.
 * Slots below zero are the quotas of flash sales: their pieces are on hand and
 * can be reserved in the sale, but are not available otherwise.
 */
CREATE VIEW pgstock_internal.level_total AS
SELECT l.product_id, l.location,
	   sum(l.on_hand)::bigint AS on_hand,
	   sum(l.reserved)::bigint AS reserved,
	   sum(l.safety)::bigint AS safety,
	   greatest(0, sum(l.on_hand - l.reserved - l.safety + l.backorder_limit)
				   FILTER (WHERE l.slot >= 0))::bigint AS available,
	   sum(l.version) FILTER (WHERE l.slot >= 0)::bigint AS version
  FROM pgstock_internal.level l
 GROUP BY l.product_id, l.location;
COMMENT ON VIEW pgstock_internal.level_total IS
	'stock_levels, for functions with the owner''s rights';

CREATE VIEW @extschema@.stock_levels AS
SELECT l.product_id, l.location, l.on_hand, l.reserved, l.safety, l.available,
	   l.version
  FROM pgstock_internal.level_total l;
COMMENT ON VIEW @extschema@.stock_levels IS
	'stock on hand, reserved and available of each product and location';

CREATE VIEW @extschema@.stock_reservations AS
SELECT r.order_id, r.product_id, r.location, r.quantity, r.user_id,
	   CASE r.state WHEN 'r' THEN 'reserved' WHEN 'c' THEN 'confirmed'
					WHEN 'l' THEN 'released' WHEN 'b' THEN 'rolled_back'
					WHEN 't' THEN 'returned' WHEN 'e' THEN 'expired'
					WHEN 's' THEN 'shortfall' END AS state,
	   r.created_at, r.expires_at, r.ended_at, r.reason, r.payment_id
  FROM (SELECT l.order_id, l.product_id, l.location, l.quantity, l.user_id,
			   l.state, l.created_at, l.expires_at, l.ended_at, l.reason,
			   l.payment_id
		  FROM pgstock_internal.reservation l
		 UNION ALL
		SELECT h.order_id, h.product_id, h.location, h.quantity, h.user_id,
			   h.state, h.created_at, h.expires_at, h.ended_at, h.reason,
			   h.payment_id
		  FROM pgstock_internal.reservation_history h) r;
COMMENT ON VIEW @extschema@.stock_reservations IS
	'lines of orders, open, confirmed and ended';

CREATE VIEW @extschema@.stock_movements AS
SELECT m.id, m.at, m.kind, m.product_id, m.location, m.on_hand_delta,
	   m.reserved_delta, m.order_id, m.actor, m.reason, m.reference, m.event_id
  FROM pgstock_internal.ledger m;
COMMENT ON VIEW @extschema@.stock_movements IS
	'ledger: every change of every level';

/*
 * JSON that jsonb cannot represent, such as 1e-20000, is returned as a string,
 * and so is JSON with an escape or a character that the database encoding
 * lacks.
 */
CREATE FUNCTION pgstock_internal.payload_json(payload bytea, format "char")
RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF format = 'j' THEN
		RETURN convert_from(payload, 'UTF8')::jsonb;
	END IF;
	RETURN to_jsonb(pgstock_internal.bytes_text(payload));
EXCEPTION WHEN data_exception OR feature_not_supported
			   OR undefined_function THEN
	RETURN to_jsonb(pgstock_internal.bytes_text(payload));
END
$$;
COMMENT ON FUNCTION pgstock_internal.payload_json IS
	'converts a payload for display: JSON unchanged, other bytes to a string';

CREATE FUNCTION pgstock_internal.bytes_text(bytes bytea)
RETURNS text
AS 'MODULE_PATHNAME', 'pgstock_bytes_text' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION pgstock_internal.bytes_text IS
	'converts bytes for display: valid text unchanged, other bytes to hex';

CREATE FUNCTION pgstock_internal.headers_json(headers bytea)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'pgstock_headers_json' LANGUAGE C STABLE;
COMMENT ON FUNCTION pgstock_internal.headers_json IS
	'converts packed headers for display, to a JSON object; values that are '
	'not text are in hex';

CREATE VIEW @extschema@.stock_outbox AS
SELECT o.seq, o.id AS event_id, o.aggregatetype AS topic,
	   pgstock_internal.bytes_text(o.aggregateid) AS key,
	   o.type AS event_type,
	   pgstock_internal.payload_json(o.payload, o.format) AS payload,
	   pgstock_internal.headers_json(o.headers) AS headers,
	   o.created_at
  FROM pgstock_internal.outbox o;
COMMENT ON VIEW @extschema@.stock_outbox IS
	'events in the outbox, published or not, until their retention ends';

CREATE VIEW @extschema@.stock_inbox AS
SELECT i.topic, i.partition, i."offset", i.event_id,
	   pgstock_internal.bytes_text(i.key) AS key, i.order_id, i.result,
	   i.reason, i.trace_id, i.received_at, i.source
  FROM pgstock_internal.inbox i;
COMMENT ON VIEW @extschema@.stock_inbox IS
	'incoming messages and their results';

CREATE VIEW @extschema@.stock_handlers AS
SELECT h.topic, nullif(h.event_type, '') AS event_type, h.handler, h.role
  FROM pgstock_internal.user_handler h
 WHERE h.function_oid IS NOT NULL;
COMMENT ON VIEW @extschema@.stock_handlers IS
	'functions registered as handlers of incoming messages, and the roles '
	'that they run as';

CREATE FUNCTION pgstock_internal.default_bindings()
RETURNS TABLE (topic text, handler text)
AS 'MODULE_PATHNAME', 'pgstock_default_bindings' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION pgstock_internal.default_bindings IS
	'returns the topics that have a built-in handler by default';

/*
 * What "check" and "status" show; they use nothing of the extension's schema,
 * where its owner can replace it.
 */
CREATE VIEW pgstock_internal.binding AS
SELECT h.topic, nullif(h.event_type, '') AS event_type, h.handler, h.role,
	   h.fields, h.options, false AS is_default
  FROM pgstock_internal.user_handler h
UNION ALL
SELECT d.topic, NULL, d.handler, NULL, NULL, NULL, true
  FROM pgstock_internal.default_bindings() d
 WHERE NOT EXISTS (SELECT FROM pgstock_internal.user_handler h
					WHERE h.topic = d.topic AND h.event_type = '');
COMMENT ON VIEW pgstock_internal.binding IS
	'the bindings of topics, the default ones too';

CREATE VIEW @extschema@.stock_bindings AS
SELECT b.topic, b.event_type, b.handler, b.role, b.fields, b.options
  FROM pgstock_internal.binding b;
COMMENT ON VIEW @extschema@.stock_bindings IS
	'which handler applies the messages of a topic or type, and how their '
	'fields are found; the default topics too';

CREATE VIEW @extschema@.stock_failed_events AS
SELECT f.id, f.topic, f.event_id, pgstock_internal.bytes_text(f.key) AS key,
	   f.order_id, f.attempts, f.next_retry_at, f.state, f.error,
	   f.first_failed_at, pgstock_internal.bytes_text(f.value) AS payload
  FROM pgstock_internal.failed_event f;
COMMENT ON VIEW @extschema@.stock_failed_events IS
	'incoming messages that failed: waiting, archived, retried or discarded';

CREATE VIEW @extschema@.failed_order_archives AS
SELECT f.id, f.order_id, f.topic, f.event_id, f.error AS reason, f.attempts,
	   pgstock_internal.bytes_text(f.value) AS payload, f.trace_id,
	   f.archived_at, f.handled, f.handled_at, f.handled_by
  FROM pgstock_internal.failed_event f
 WHERE f.archived_at IS NOT NULL;
COMMENT ON VIEW @extschema@.failed_order_archives IS
	'dead-lettered messages with payload and error, and whether they were '
	'handled';

CREATE VIEW @extschema@.stock_admin_actions AS
SELECT a.at, a.actor, a.action, a.target, a.reason
  FROM pgstock_internal.admin_action a;
COMMENT ON VIEW @extschema@.stock_admin_actions IS
	'administrative actions: time, actor, action, target and reason';
