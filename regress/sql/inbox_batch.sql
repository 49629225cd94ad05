--
-- inbox_batch: many messages in one commit; each takes effect once, however
-- often it is delivered, and each partition's next offset moves with it
--
SELECT receive_stock('inbb-a', 3), receive_stock('inbb-b', 100);
-- orders that compete, and their payments, in one batch: in the batch's order
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 10, "json": {"event_id": "inbb-e1", "order_id": "inbb-1", "items": [{"product_id": "inbb-a", "quantity": 2}]}},
	{"topic": "order-created", "offset": 11, "json": {"event_id": "inbb-e2", "order_id": "inbb-2", "items": [{"product_id": "inbb-a", "quantity": 2}]}},
	{"topic": "order-created", "offset": 12, "json": {"event_id": "inbb-e3", "order_id": "inbb-3", "items": [{"product_id": "inbb-a", "quantity": 1}, {"product_id": "inbb-b", "quantity": 1}]}},
	{"topic": "order-created", "offset": 14, "partition": 1, "json": {"event_id": "inbb-e4", "order_id": "inbb-4", "items": [{"product_id": "inbb-b", "quantity": 1}]}},
	{"topic": "payment-success", "offset": 7, "json": {"event_id": "inbb-e5", "order_id": "inbb-1", "payment_id": "P"}},
	{"topic": "order_failed", "offset": 8, "json": {"event_id": "inbb-e6", "order_id": "inbb-3"}},
	{"topic": "order_failed", "offset": 9, "json": {"event_id": "inbb-e7", "order_id": "inbb-2"}},
	{"topic": "nobody-listens", "offset": 1, "json": {"event_id": "inbb-e8", "order_id": "inbb-1"}}]');
SELECT lines_of('inbb-1'), lines_of('inbb-2'), lines_of('inbb-3'), lines_of('inbb-4'), level_of('inbb-a'), level_of('inbb-b');
SELECT events_of('inbb-1'), events_of('inbb-2'), events_of('inbb-3');
SELECT topic, partition, "offset", event_id, order_id, result, reason FROM stock_inbox WHERE event_id ~ '^inbb-' ORDER BY event_id;
SELECT topic, partition, next_offset, fingerprint FROM pgstock_internal.relay_offsets('{order-created,payment-success,order_failed,nobody-listens,none}')
 WHERE topic <> 'order_failed' OR partition = 0 ORDER BY 1, 2;
-- the same records again: duplicates, and no second row for any of them
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 11, "json": {"event_id": "inbb-e2", "order_id": "inbb-2", "items": [{"product_id": "inbb-b", "quantity": 2}]}},
	{"topic": "order_failed", "offset": 8, "json": {"event_id": "inbb-e6", "order_id": "inbb-3"}},
	{"topic": "nobody-listens", "offset": 1, "json": {"event_id": "inbb-e8", "order_id": "inbb-1"}}]');
-- the same ids in other records, whatever their content: duplicates with a row,
-- in their topic
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 20, "json": {"event_id": "inbb-e2", "order_id": "inbb-9", "items": [{"product_id": "inbb-b", "quantity": 2}]}},
	{"topic": "payment-success", "offset": 20, "headers": {"ce_id": "inbb-e6"}, "text": "not even JSON"}]');
-- the same id twice in one batch: the first one counts, and may be the bad one
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 21, "json": {"event_id": "inbb-e9", "order_id": "inbb-9", "items": [{"product_id": "inbb-b", "quantity": 1}]}},
	{"topic": "order-created", "offset": 22, "json": {"event_id": "inbb-e9", "order_id": "inbb-9", "items": [{"product_id": "inbb-b", "quantity": 5}]}},
	{"topic": "order-created", "offset": 23, "json": {"event_id": "inbb-e10", "order_id": "inbb-10", "items": "none"}},
	{"topic": "order-created", "offset": 24, "json": {"event_id": "inbb-e10", "order_id": "inbb-10", "items": [{"product_id": "inbb-b", "quantity": 1}]}}]');
-- a second relay with the same records: no second row, of duplicates neither
SELECT * FROM apply('[
	{"topic": "order-created", "offset": 21, "json": {"event_id": "inbb-e9", "order_id": "inbb-9", "items": [{"product_id": "inbb-b", "quantity": 1}]}},
	{"topic": "order-created", "offset": 22, "json": {"event_id": "inbb-e9", "order_id": "inbb-9", "items": [{"product_id": "inbb-b", "quantity": 5}]}},
	{"topic": "order-created", "offset": 24, "json": {"event_id": "inbb-e10", "order_id": "inbb-10", "items": [{"product_id": "inbb-b", "quantity": 1}]}}]');
SELECT lines_of('inbb-9'), lines_of('inbb-10');
SELECT topic, "offset", event_id, order_id, result FROM stock_inbox WHERE event_id ~ '^inbb-' AND ("offset" >= 20 OR result = 'duplicate') ORDER BY "offset", topic;
-- the id is taken from ce_id, event_id or id among the headers, the body,
-- or the offset
SELECT * FROM apply('[
	{"topic": "t", "partition": 3, "offset": 1, "headers": {"id": "inbb-h3", "event_id": "inbb-h2", "ce_id": "inbb-h1"}, "json": {"event_id": "inbb-h4"}},
	{"topic": "t", "partition": 3, "offset": 2, "headers": {"id": "inbb-h3", "event_id": "inbb-h2"}, "json": {"event_id": "inbb-h4"}},
	{"topic": "t", "partition": 3, "offset": 3, "headers": {"id": "inbb-h3"}, "json": {"event_id": "inbb-h4"}},
	{"topic": "t", "partition": 3, "offset": 4, "headers": {"id": ""}, "json": {"event_id": "inbb-h4"}},
	{"topic": "t", "partition": 3, "offset": 5, "json": {"eventId": 5}},
	{"topic": "t", "partition": 3, "offset": 6, "json": {"order_id": "x"}},
	{"topic": "t", "partition": 3, "offset": 7, "hex": "00"},
	{"topic": "t", "partition": 3, "offset": 8}]');
SELECT "offset", event_id FROM stock_inbox WHERE topic = 't' ORDER BY 1;
-- a batch of nothing moves nothing; one that fails leaves nothing
SELECT * FROM apply('[]');
SELECT outcome_of($$SELECT pgstock_internal.relay_apply('{a}', '{0,1}', '{1}', '{-1}', '{NULL}', '{NULL}', '{NULL}', relay_options())$$);
SELECT outcome_of($$SELECT pgstock_internal.relay_apply('{NULL}', '{0}', '{1}', '{-1}', '{NULL}', '{NULL}', '{NULL}', relay_options())$$);
SELECT outcome_of($$SELECT pgstock_internal.relay_apply('{a}', '{0}', '{1}', '{-1}', '{NULL}', '{NULL}', '{"\\x0005"}', relay_options())$$);
SELECT outcome_of($$SELECT pgstock_internal.relay_apply('{a}', '{0}', '{1}', '{-1}', '{NULL}', '{NULL}', NULL, relay_options())$$);
SELECT outcome_of($$SELECT apply('[]', NULL)$$), outcome_of($$SELECT apply('[]', '{}')$$);
SELECT outcome_of($$SELECT apply('[]', relay_options() || '{"retry_delays_ms": "10s"}')$$), outcome_of($$SELECT apply('[]', relay_options() || '{"group": 1}')$$);
BEGIN;
SELECT * FROM apply('[{"topic": "order-created", "partition": 9, "offset": 3, "json": {"event_id": "inbb-e11", "order_id": "inbb-11", "items": [{"product_id": "inbb-b", "quantity": 1}]}}]');
ROLLBACK;
SELECT count(*) FROM stock_inbox WHERE event_id = 'inbb-e11';
SELECT count(*) FROM pgstock_internal.relay_offsets('{order-created}') WHERE partition = 9;
-- a large one: 500 orders, 500 payments, each twice
SELECT receive_stock('inbb-m', 500);
SELECT result, reason, sum(n) FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', topic, 'partition', 7, 'offset', 1000 * n + i, 'json',
		jsonb_build_object('event_id', 'inbb-' || topic || i, 'order_id', 'inbb-m' || i, 'items', '[{"product_id": "inbb-m", "quantity": 1}]'::jsonb)) ORDER BY n, topic, i)
  FROM generate_series(1, 500) i, generate_series(0, 1) n, unnest('{order-created,payment-success}'::text[]) topic))
 GROUP BY 1, 2 ORDER BY 1;
SELECT level_of('inbb-m');
SELECT * FROM verify_stock();
