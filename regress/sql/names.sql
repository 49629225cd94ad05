--
-- names: a message is identified by a source and an id,
-- for services count from 1;
-- a duplicate has a row that names its original
--
SELECT receive_stock('sender', 100);
CREATE VIEW named AS
SELECT topic, "offset", event_id, source, result, reason, order_id FROM stock_inbox WHERE topic ~ '^sender-' OR order_id ~ '^sender-';
-- the first event of the orders, and the first of the payments
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 5001, "json": {"event_id": 1, "order_id": "sender-1", "items": [{"product_id": "sender", "quantity": 1}]}},
	{"topic": "payment-success", "offset": 5001, "json": {"event_id": 1, "order_id": "sender-1"}},
	{"topic": "order-created", "offset": 5002, "headers": {"id": "2"}, "json": {"order_id": "sender-2", "items": [{"product_id": "sender", "quantity": 1}]}},
	{"topic": "payment-success", "offset": 5002, "headers": {"event_id": "2"}, "json": {"order_id": "sender-2"}}]');
-- CloudEvents of two services in one topic; one of them in two topics
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 5011, "headers": {"ce_id": "3", "ce_source": "/web"}, "json": {"order_id": "sender-3", "items": [{"product_id": "sender", "quantity": 1}]}},
	{"topic": "order-created", "offset": 5012, "headers": {"ce_id": "3", "ce_source": "/app"}, "json": {"order_id": "sender-4", "items": [{"product_id": "sender", "quantity": 1}]}},
	{"topic": "payment-success", "offset": 5011, "headers": {"ce_id": "3"}, "json": {"order_id": "sender-3"}}]');
SELECT * FROM apply('[{"topic": "payment-success", "offset": 5012, "headers": {"ce_id": "3", "ce_source": "/app"}, "json": {"order_id": "sender-4"}}]');
-- a source counts only with a CloudEvent's id
SELECT * FROM apply('[{"topic": "payment-success", "offset": 5013, "headers": {"event_id": "2", "ce_source": "/app"}, "json": {"order_id": "sender-2"}}]');
-- a source that is the name of a topic is not that topic: no producer of one
-- makes messages of another one duplicates
SELECT * FROM apply('[
	{"topic": "sender-none", "offset": 21, "headers": {"ce_id": "7", "ce_source": "payment-success"}},
	{"topic": "sender-none", "offset": 22, "headers": {"ce_id": "7", "ce_source": "payment-success"}}]');
SELECT * FROM apply('[{"topic": "payment-success", "offset": 5014, "json": {"event_id": "7", "order_id": "sender-3"}}]');
-- nor by the headers of a message that was sent back
SELECT * FROM apply('[
	{"topic": "sender-none", "offset": 23, "headers": {"__dlq.redrive.count": "1", "__dlq.event.id": "8", "__dlq.event.source": "payment-success"}},
	{"topic": "sender-none", "offset": 24, "headers": {"__dlq.redrive.count": "1", "__dlq.event.id": "8", "__dlq.event.source": "sender-none"}}]');
SELECT * FROM apply('[{"topic": "payment-success", "offset": 5015, "json": {"event_id": "8", "order_id": "sender-4"}}]');
-- a repeated message is a duplicate,
-- also where two parts could be divided otherwise
SELECT * FROM apply('[
	{"topic": "sender-none", "offset": 1, "headers": {"ce_id": "b c", "ce_source": "a"}},
	{"topic": "sender-none", "offset": 2, "headers": {"ce_id": "c", "ce_source": "a b"}},
	{"topic": "sender-none", "offset": 3, "headers": {"ce_id": "c", "ce_source": "a b"}},
	{"topic": "sender-none", "offset": 4, "headers": {"ce_id": "c", "ce_source": "a b"}, "json": 7}]');
SELECT * FROM apply('[{"topic": "sender-none", "offset": 5, "headers": {"ce_id": "c", "ce_source": "a b"}}]');
-- an id that is not valid as a name counts by its digest,
-- an empty one not at all
SELECT * FROM apply(jsonb_build_array(
	jsonb_build_object('topic', 'sender-none', 'offset', 6, 'headers', jsonb_build_object('ce_id', repeat('x', 256), 'ce_source', repeat('s', 999))),
	jsonb_build_object('topic', 'sender-none', 'offset', 7, 'headers', jsonb_build_object('ce_id', repeat('x', 256), 'ce_source', repeat('s', 999))),
	jsonb_build_object('topic', 'sender-none', 'offset', 8, 'headers', '{"ce_id": "", "event_id": "", "id": "9"}'::jsonb),
	jsonb_build_object('topic', 'sender-none', 'offset', 9, 'headers', '{"ce_id": null, "ce_source": "a"}'::jsonb),
	jsonb_build_object('topic', 'sender-none', 'offset', 10, 'headers', '{"ce_id": "1", "ce_source": ""}'::jsonb)));
SELECT topic, "offset", CASE WHEN length(event_id) > 60 THEN left(event_id, 12) ELSE event_id END AS event_id, left(source, 15) AS source, result, reason
  FROM named ORDER BY topic COLLATE "C", "offset";
-- two wait under one id, each for its own order; each ends in its own row
SELECT * FROM apply('[
	{"topic": "payment-success", "offset": 5021, "headers": {"ce_id": "4", "ce_source": "/a"}, "json": {"order_id": "sender-5"}},
	{"topic": "payment-success", "offset": 5022, "headers": {"ce_id": "4", "ce_source": "/b"}, "json": {"order_id": "sender-6"}},
	{"topic": "payment-success", "offset": 5023, "headers": {"ce_id": "4", "ce_source": "/c"}, "json": {"order_id": "sender-7"}}]');
SELECT status FROM reserve_stock('sender', 1, 'sender-6');
SELECT discard_failed_event(id, 'refunded') FROM stock_failed_events WHERE order_id = 'sender-7';
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE order_id ~ '^sender-';
SELECT r.topic, r.result, r.reason, r.n FROM pgstock_internal.relay_retry(10, relay_options()) r;
SELECT "offset", event_id, source, result, reason FROM named WHERE event_id = '4' ORDER BY 1;
SELECT lines_of('sender-6');
SELECT discard_failed_event(id, 'over') FROM stock_failed_events WHERE order_id = 'sender-5';
DROP VIEW named;
-- every index on text has the order of bytes, as the code that searches it
SELECT i.indexrelid::regclass, c.column_number
  FROM pg_index i JOIN pg_class r ON r.oid = i.indrelid, unnest(i.indcollation) WITH ORDINALITY c (collation_oid, column_number)
 WHERE r.relnamespace = 'pgstock_internal'::regnamespace AND c.collation_oid NOT IN (0, (SELECT oid FROM pg_collation WHERE collname = 'C'));
