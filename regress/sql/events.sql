--
-- events: the contract of the stream: fields, their names and their order,
-- topics and keys, and the movement that an event belongs to
--
SELECT receive_stock('events-a', 5, 'east', 'delivery 17'), receive_stock('events-b', 1);
SET pgstock.trace_id = 'checkout-7';
SELECT count(*) FROM reserve_order('events-1', '[{"product_id": "events-b", "quantity": 1},
	{"product_id": "events-a", "quantity": 2, "location": "east"}]', 'ann');
-- a W3C traceparent is recognised: its trace id, and the header
SET pgstock.trace_id = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT status FROM confirm_stock('events-1', 'payment-1');
RESET pgstock.trace_id;
SELECT status FROM rollback_stock('events-1', 'broken "glass"');
BEGIN;
SET LOCAL pgstock.trace_id = 'one transaction';
SELECT status FROM reserve_stock('events-b', 1, 'events-2', ttl => '0');
COMMIT;
SELECT status FROM release_stock('events-2');
SELECT status FROM reserve_stock('events-b', 1, 'events-3', 'bob');
SELECT make_due('events-3');
SELECT status FROM reserve_stock('events-b', 1, 'events-4', 'bob');
SELECT status FROM confirm_stock('events-3', 'too late');
-- topic, key, type, trace
CREATE VIEW event AS
SELECT o.seq, o.aggregatetype AS topic, convert_from(o.aggregateid, 'UTF8') AS key, o.type, o.id, o.traceparent,
	   o.format, o.headers, o.created_at, convert_from(o.payload, 'UTF8')::json AS payload
  FROM pgstock_internal.outbox o
 WHERE convert_from(o.aggregateid, 'UTF8') ~ '^events-';
SELECT topic, key, type, format, headers, traceparent FROM event ORDER BY seq;
-- each event's fields in their order, and those of its items
SELECT DISTINCT ON (type, names) type,
	   (SELECT string_agg(k, ' ') FROM json_object_keys(payload) k) AS names
  FROM event ORDER BY type, names;
SELECT DISTINCT (SELECT string_agg(k, ' ') FROM json_object_keys(payload->'items'->0) k) AS names
  FROM event WHERE type <> 'StockLevelChanged';
-- the values that are neither drawn nor taken from the clock
SELECT jsonb_pretty(payload::jsonb - '{event_id,timestamp,expires_at}'::text[])
  FROM event WHERE key IN ('events-1', 'events-a') ORDER BY seq;
-- those that are drawn or taken from the clock
SELECT bool_and(payload->>'event_id' = id::text) AS id_is_the_rows,
	   bool_and(payload->>'event_type' = type) AS type_is_the_rows,
	   bool_and(id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_4,
	   bool_and(payload->>'timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$') AS rfc_3339,
	   bool_and((payload->>'timestamp')::timestamptz = created_at) AS time_is_the_rows,
	   count(*) = count(DISTINCT id) AS ids_differ
  FROM event;
SELECT e.payload->>'expires_at' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$' AS rfc_3339,
	   (e.payload->>'expires_at')::timestamptz = s.expires_at AS expiry_is_the_lines
  FROM event e JOIN stock_reservations s ON s.order_id = e.key
 WHERE e.type = 'StockReserved' AND e.key = 'events-4';
-- a reader of the stream knows every level: the highest version wins
SELECT i->>'product_id' AS product_id, i->>'location' AS location,
	   max((i->>'version')::bigint) AS version,
	   (array_agg((i->>'remaining_stock')::bigint ORDER BY (i->>'version')::bigint DESC))[1] AS available
  FROM event e, json_array_elements(CASE WHEN type = 'StockLevelChanged'
	THEN json_build_array(json_build_object('product_id', payload->'product_id', 'location', payload->'location',
		'version', payload->'version', 'remaining_stock', payload->'available'))
	ELSE payload->'items' END) i
 GROUP BY 1, 2 ORDER BY 1, 2;
SELECT product_id, location, version, available FROM stock_levels WHERE product_id ~ '^events-' ORDER BY 1, 2;
-- every movement names its event, and each event of an order its movements
SELECT m.kind, m.product_id, e.type FROM stock_movements m LEFT JOIN event e ON e.id = m.event_id
 WHERE m.product_id ~ '^events-' ORDER BY m.id;
-- without a commit there is no event
BEGIN;
SELECT status FROM release_stock('events-4');
ROLLBACK;
SELECT events_of('events-4');
DROP VIEW event;
SELECT * FROM verify_stock();
