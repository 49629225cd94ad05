--
-- inbox_back: payment-failed, order-cancelled and order_failed release stock,
-- once
--
SELECT receive_stock('inb-a', 60);
-- each topic with an order in each state; an order is named after both
CREATE TABLE met AS
SELECT t.topic, s.state, 'inb ' || t.topic || ' ' || s.state AS order_id, NULL::text AS answer
  FROM unnest('{payment-failed,order-cancelled,order_failed}'::text[]) t (topic),
	   unnest('{reserved,due,confirmed,released,rolled_back,expired,refused,partly}'::text[]) s (state);
SELECT state, count(reserve_stock('inb-a', 2, order_id, 'ann')) FROM met WHERE state <> 'refused' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM met, LATERAL make_due(order_id) WHERE state = 'expired';
-- 60 on hand, 42 reserved: this order needs those three,
-- and releases its own stock
SELECT status FROM reserve_stock('inb-a', 24, 'inb-taker');
SELECT status FROM release_stock('inb-taker');
SELECT count(*) FROM met, LATERAL make_due(order_id) WHERE state = 'due';
SELECT status, count(*) FROM met, LATERAL confirm_stock(order_id, 'pay') WHERE state = 'confirmed' GROUP BY 1;
SELECT status, count(*) FROM met, LATERAL release_stock(order_id, 'before') WHERE state = 'released' GROUP BY 1;
SELECT status, count(*) FROM met, LATERAL rollback_stock(order_id, 'before') WHERE state = 'rolled_back' GROUP BY 1;
SELECT status, count(*) FROM met, LATERAL release_stock(order_id, 'before', '[{"product_id": "inb-a", "quantity": 1}]') WHERE state = 'partly' GROUP BY 1;
SELECT apply_one('order-created', jsonb_build_object('order_id', order_id, 'items', '[{"product_id": "inb-a", "quantity": 99}]'::jsonb))
  FROM met WHERE state = 'refused';
-- the items of an order_failed are not used
UPDATE met SET answer = apply_one(topic, jsonb_build_object('order_id', order_id, 'failedReason', 'it failed')
	|| CASE topic WHEN 'order_failed' THEN '{"items": [{"product_id": "not used", "quantity": -1}]}'::jsonb ELSE '{}' END);
SELECT topic, state, answer, lines_of(order_id),
	   (SELECT concat_ws(' for ', o.event_type, o.payload->>'reason') FROM stock_outbox o WHERE o.key = order_id ORDER BY seq DESC LIMIT 1) AS last_event
  FROM met ORDER BY topic COLLATE "C", state COLLATE "C";
-- repeated under other ids: nothing takes effect a second time
CREATE TABLE seen AS SELECT level_of('inb-a') AS level, (SELECT count(*) FROM stock_outbox) AS events;
SELECT apply_one(topic, jsonb_build_object('order_id', order_id)) AS answer, count(*) FROM met GROUP BY 1 ORDER BY 1;
SELECT level_of('inb-a') = level AS same_level, (SELECT count(*) FROM stock_outbox) = events AS same_events FROM seen;
SELECT level_of('inb-a');
-- "failedReason" is the reason; else "reason"
SELECT (reserve_stock('inb-a', 1, 'inb-' || i)).status FROM generate_series(1, 4) i;
SELECT apply_one('order_failed', '{"order_id": "inb-1", "failed_reason": "no address", "reason": "other"}');
SELECT apply_one('order_failed', '{"order_id": "inb-2", "reason": "other"}');
SELECT apply_one('order_failed', '{"order_id": "inb-3"}');
SELECT key, payload->>'reason' AS reason, payload ? 'causation_id' AS cause FROM stock_outbox
 WHERE event_type = 'StockRolledBack' AND key ~ '^inb-[1-3]$' ORDER BY seq;
-- a failure from before the new attempt does not apply to it
SELECT status FROM release_stock('inb-4');
SELECT status FROM reserve_stock('inb-a', 1, 'inb-4');
SELECT apply_one('order_failed', '{"order_id": "inb-4", "timestamp": "2020-01-01T00:00:00Z"}');
SELECT apply_one('order_failed', '{"order_id": "inb-4", "timestamp": 1577836800000}');
SELECT * FROM apply('[{"topic": "order_failed", "time": 1577836800000, "json": {"order_id": "inb-4"}}]');
SELECT lines_of('inb-4');
-- its own time counts, not Kafka's
SELECT * FROM apply('[{"topic": "order_failed", "time": 1577836800000,
	"json": {"order_id": "inb-4", "timestamp": "2199-12-31T23:59:59.999999+01:00"}}]');
SELECT lines_of('inb-4');
-- a first attempt cannot be confused with another, whatever the clocks show
SELECT apply_one('order_failed', '{"order_id": "inb-5", "timestamp": "2020-01-01T00:00:00Z"}');
SELECT status FROM reserve_stock('inb-a', 1, 'inb-6');
SELECT apply_one('order_failed', '{"order_id": "inb-6", "timestamp": "2020-01-01T00:00:00Z"}');
-- by hand
SELECT (reserve_stock('inb-a', 1, 'inb-h' || i)).status FROM generate_series(1, 3) i;
SELECT handle_payment_failed('{"order_id": "inb-h1"}', NULL), handle_order_cancelled('{"order_id": "inb-h2"}', NULL),
	   handle_order_failed('{"order_id": "inb-h3"}', NULL);
SELECT lines_of('inb-h1'), lines_of('inb-h2'), lines_of('inb-h3');
SELECT level_of('inb-a');
-- a row that was deleted: a change event without an order
SELECT handle_order_created('{"op": "d", "before": {"order_id": "inb-h1"}, "after": null, "source": {}}', NULL);
DROP TABLE met, seen;
SELECT receive_stock('inb-a', 20), receive_stock('inb-b', 20);
-- items of an order_failed are compared: a difference from the ledger is
-- recorded, and the ledger's items are released
SELECT count(*) FROM unnest('{same,map,more,fewer,other,elsewhere}'::text[]) t, LATERAL reserve_order('inb-d-' || t, '[{"product_id": "inb-a", "quantity": 2}, {"product_id": "inb-b", "quantity": 1}]');
SELECT d.name, a.result, a.reason, a.message ~ 'event_id=inb-e-' AS named
  FROM (VALUES ('same', '{"items": [{"product_id": "inb-b", "quantity": 1}, {"product_id": "inb-a", "quantity": 1}, {"product_id": "inb-a", "quantity": 1}]}'::jsonb),
			   ('map', '{"productQuantityMap": {"inb-a": 2, "inb-b": 1}}'), ('more', '{"productQuantityMap": {"inb-a": 2, "inb-b": 2}}'),
			   ('fewer', '{"productQuantityMap": {"inb-a": 2}}'), ('other', '{"productQuantityMap": {"inb-a": 2, "inb-c": 1}}'),
			   ('elsewhere', '{"items": [{"product_id": "inb-a", "quantity": 2}, {"product_id": "inb-b", "quantity": 1, "location": "east"}]}')) d (name, items),
	   LATERAL pgstock_internal.relay_apply('{order_failed}', '{0}', ARRAY[nextval('next_offset')], '{-1}', '{NULL}',
			ARRAY[convert_to((d.items || jsonb_build_object('order_id', 'inb-d-' || d.name, 'event_id', 'inb-e-' || d.name))::text, 'UTF8')], '{NULL}', relay_options()) a;
SELECT lines_of('inb-d-same'), lines_of('inb-d-other');
SELECT * FROM verify_stock();
