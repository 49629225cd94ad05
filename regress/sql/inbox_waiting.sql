--
-- inbox_waiting: a message that arrives before its order waits, apart from its
-- tries, and so does a message behind it with its key; all others are applied
--
SELECT receive_stock('inw-a', 100);
-- what other tests left waiting would be counted here
UPDATE pgstock_internal.failed_event SET state = 'discarded' WHERE state = 'waiting';
CREATE FUNCTION retry(options jsonb DEFAULT relay_options())
RETURNS TABLE (topic text, result text, reason text, n bigint) LANGUAGE sql AS $$
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(100, options)
$$;
-- Makes every message due that waits for a time.
CREATE FUNCTION later() RETURNS void LANGUAGE sql AS $$
UPDATE pgstock_internal.failed_event SET next_retry_at = now() - interval '1 min'
 WHERE state = 'waiting' AND next_retry_at IS NOT NULL
$$;
CREATE VIEW waiting AS
SELECT f.topic, f.event_id, f.key, f.order_id, f.state, f.attempts, i.class, f.error, n.result, n.reason,
	   f.next_retry_at > now() AS later
  FROM stock_failed_events f JOIN pgstock_internal.failed_event i USING (id) LEFT JOIN stock_inbox n ON n.event_id = f.event_id AND n.result <> 'duplicate'
 WHERE f.event_id ~ '^inw-' ORDER BY f.id;
-- a payment before its order, a failure of another key, a cancellation behind
-- the payment; all others are applied
SELECT * FROM apply('[
	{"topic": "payment-success", "key": "K1", "json": {"event_id": "inw-e1", "order_id": "inw-1", "payment_id": "P1"}},
	{"topic": "order_failed", "key": "K2", "json": {"event_id": "inw-e2", "order_id": "inw-2"}},
	{"topic": "payment-success", "key": "K1", "json": {"event_id": "inw-e3", "order_id": "inw-3", "payment_id": "P3"}},
	{"topic": "order-created", "key": "K1", "json": {"event_id": "inw-e4", "order_id": "inw-3", "items": [{"product_id": "inw-a", "quantity": 1}]}},
	{"topic": "payment-success", "json": {"event_id": "inw-e5", "order_id": "inw-5"}},
	{"topic": "payment-success", "json": {"event_id": "inw-e6", "order_id": "inw-6"}}]');
-- in the next batch too: behind its key, although its own order exists;
-- but no duplicate, and no poison
SELECT * FROM apply('[
	{"topic": "payment-success", "key": "K1", "json": {"event_id": "inw-e7", "order_id": "inw-3", "payment_id": "P7"}},
	{"topic": "payment-success", "key": "K1", "json": {"event_id": "inw-e1", "order_id": "inw-1"}},
	{"topic": "payment-success", "key": "K1", "json": {"event_id": "inw-e8"}},
	{"topic": "payment-success", "key": "K9", "json": {"event_id": "inw-e9", "order_id": "inw-3", "payment_id": "P9"}}]');
SELECT * FROM waiting;
SELECT lines_of('inw-3');
-- not yet due: nothing is retried (on a slow
-- machine the second may have passed)
UPDATE pgstock_internal.failed_event SET next_retry_at = next_retry_at + interval '1 min' WHERE state = 'waiting';
SELECT * FROM retry();
-- due, and still no order: it continues to wait,
-- and so do the messages behind it
SELECT later();
SELECT * FROM retry();
SELECT event_id, state, attempts, class FROM waiting;
-- the order arrives: the messages that waited for it or behind it are applied,
-- in order
SELECT apply_one('order-created', '{"order_id": "inw-1", "items": [{"product_id": "inw-a", "quantity": 1}]}');
SELECT apply_one('order-created', '{"order_id": "inw-5", "items": [{"product_id": "inw-a", "quantity": 1}]}');
SELECT later();
SELECT * FROM retry();
SELECT * FROM waiting;
SELECT lines_of('inw-1'), lines_of('inw-3'), lines_of('inw-5'), level_of('inw-a');
SELECT key, payload->>'causation_id' AS cause, payload->>'payment_id' AS payment_id
  FROM stock_outbox WHERE event_type = 'StockConfirmed' AND key ~ '^inw-' ORDER BY seq;
-- its time is up: a payment becomes a dead letter, a failure is skipped; no
-- message waits behind them any more
SELECT * FROM apply('[{"topic": "payment-success", "key": "K6", "json": {"event_id": "inw-e10", "order_id": "inw-10", "amount": 1}},
	{"topic": "order-cancelled", "key": "K6", "json": {"event_id": "inw-e11", "order_id": "inw-11"}},
	{"topic": "payment-failed", "key": "K6", "json": {"event_id": "inw-e12", "order_id": "inw-12"}},
	{"topic": "payment-failed", "key": "K6", "json": {"event_id": "inw-e13", "order_id": "inw-13"}}]');
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '15 min' WHERE state = 'waiting' AND event_id <> 'inw-e13';
SELECT later();
SELECT * FROM retry();
SELECT event_id, state, class, error, result, reason FROM waiting WHERE event_id NOT IN ('inw-e1', 'inw-e3', 'inw-e5', 'inw-e7');
SELECT order_id, topic, event_id, reason, payload, handled FROM failed_order_archives WHERE event_id = 'inw-e10';
SELECT topic, key, event_type, headers->>'__dlq.errors.class' AS class, headers->>'__dlq.errors.message' AS message
  FROM stock_outbox WHERE key = 'K6';
-- the relay's setting gives the wait;
-- it counts from the message's own first failure
SELECT * FROM apply('[{"topic": "order_failed", "json": {"event_id": "inw-e14", "order_id": "inw-14"}}]', relay_options() || '{"order_wait_ms": 0}');
SELECT later();
SELECT * FROM retry(relay_options() || '{"order_wait_ms": 0}');
-- at most 50 in a transaction, those due longest first
SELECT result, n FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'payment-success', 'json',
	jsonb_build_object('event_id', 'inw-m' || i, 'order_id', 'inw-m'))) FROM generate_series(1, 60) i));
SELECT later();
SELECT sum(n) FROM retry();
SELECT count(*) FROM waiting WHERE NOT later;
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(3, relay_options());
-- none is lost, none is left behind
SELECT apply_one('order-created', '{"order_id": "inw-m", "items": [{"product_id": "inw-a", "quantity": 1}]}');
SELECT later();
SELECT * FROM retry();
SELECT * FROM retry();
SELECT state, count(*) FROM waiting WHERE order_id = 'inw-m' GROUP BY 1;
-- a queued message that was made due by hand
-- is applied with the head of its queue
SELECT * FROM apply('[{"topic": "payment-success", "key": "K7", "json": {"event_id": "inw-e15", "order_id": "inw-15"}},
	{"topic": "payment-success", "key": "K7", "json": {"event_id": "inw-e16", "order_id": "inw-15"}}]');
SELECT retry_failed_event(order_id => 'inw-15');
SELECT apply_one('order-created', '{"order_id": "inw-15", "items": [{"product_id": "inw-a", "quantity": 1}]}');
SELECT * FROM retry();
SELECT * FROM retry();
SELECT count(*) FROM waiting WHERE state = 'waiting';
DROP VIEW waiting;
DROP FUNCTION retry, later;
SELECT * FROM verify_stock();
