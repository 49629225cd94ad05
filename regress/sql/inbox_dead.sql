--
-- inbox_dead: poison becomes a dead letter and an archive row at once; another
-- failure does after the message's last try
--
SELECT receive_stock('ind-a', 100);
CREATE FUNCTION poison(value text, topic text DEFAULT 'order-created') RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', result, reason) FROM apply(jsonb_build_array(jsonb_build_object('topic', topic, 'text', value)))
$$;
\pset format unaligned
\pset tuples_only on
-- not JSON, or not in the accepted form
SELECT v, poison(v) FROM unnest(ARRAY['', ' ', '{', 'null', '[]', '"x"', '{} {}', E'\uFEFF{}', '{"order_id": "a", "order_id": "b"}',
	'{''a'': 1}', '{"a": NaN}', '{"order_id": "\u0000"}', '{"order_id": "\ud800"}', '{"a": 1e999}']) v;
SELECT left(poison(repeat('[', 5000)), 50);
SELECT * FROM apply('[{"topic": "order-created"}, {"topic": "order-created", "hex": "7b22ff"}, {"topic": "order-created", "hex": "efbbbf7b7d"}]');
-- ids
SELECT v, poison(format('{"items": [{"product_id": "ind-a", "quantity": 1}]%s}', v)) FROM unnest(ARRAY['', ', "order_id": null', ', "order_id": ""',
	', "order_id": 1.0', ', "order_id": true', ', "order_id": {}', ', "order_id": "a", "orderId": "b"', ', "order_id": "a", "event_id": []',
	', "order_id": "a", "user_id": []', ', "order_id": "a", "reason": 1', ', "order_id": "a", "status": []']) v;
SELECT poison(format('{"order_id": "%s"}', repeat('x', 256)), 'payment-success');
SELECT poison(format('{"order_id": "x", "payment_id": "%s"}', repeat('x', 256)), 'payment-success');
-- lines
SELECT v, poison(format('{"order_id": "ind-1"%s}', v)) FROM unnest(ARRAY['', ', "items": []', ', "items": {}', ', "items": null', ', "items": [1]',
	', "items": [{"quantity": 1}]', ', "items": [{"product_id": "", "quantity": 1}]', ', "items": [{"product_id": "ind-a"}]',
	', "items": [{"product_id": "ind-a", "productId": "b", "quantity": 1}]', ', "items": [{"product_id": "ind-a", "quantity": 1, "location": 1.5}]',
	', "productQuantityMap": []', ', "productQuantityMap": {}', ', "productQuantityMap": {"": 1}', ', "productQuantityMap": {"ind-a": "1"}',
	', "items": [{"product_id": "ind-a", "quantity": 1}], "productQuantityMap": {"ind-a": 1}']) v;
SELECT q, poison(format('{"order_id": "ind-1", "items": [{"product_id": "ind-a", "quantity": %s}]}', q))
  FROM unnest(ARRAY['0', '-1', '1.5', '3.0', '1e0', '"3"', 'null', 'true', '9007199254740993', '99999999999999999999']) q;
SELECT poison('{"order_id": "ind-1", "items": [{"product_id": "ind-a", "quantity": 9007199254740992}, {"product_id": "ind-a", "quantity": 1}]}');
SELECT poison(jsonb_build_object('order_id', 'ind-1', 'items', (SELECT jsonb_agg('{"product_id": "ind-a", "quantity": 1}'::jsonb) FROM generate_series(1, 1001)))::text);
-- version and time
SELECT v, poison(format('{"order_id": "ind-1", %s}', v), 'order_failed') FROM unnest(ARRAY['"event_version": 2', '"event_version": 0', '"event_version": "1"',
	'"eventVersion": 1.0', '"timestamp": "yesterday"', '"timestamp": "2026-02-30T00:00:00Z"', '"timestamp": "2026-01-01T00:00"', '"timestamp": "2026-01-01T25:00:00Z"',
	'"timestamp": "2026-01-01T00:00:00.Z"', '"timestamp": "2026-01-01T-1:+5: 9Z"', '"timestamp": "2026-01-01TT00:00:00Z"', '"timestamp": "2026-01-01T00:00:00.5e300Z"', '"timestamp": "2026-01-01T00:00:00+24:00"', '"timestamp": "2026-01-01T00:00:00+-1:00"', '"timestamp": "2026-01-01T00:00:00Z "', '"timestamp": -1', '"timestamp": 1.5', '"timestamp": {}']) v;
\pset tuples_only off
\pset format aligned
-- none of them took effect, and all of them are archived and published
SELECT level_of('ind-a'), lines_of('ind-1');
SELECT (SELECT count(*) FROM stock_inbox i WHERE i.result = 'dead' AND i."offset" IS NOT NULL AND i.topic = 'order-created') =
	   (SELECT count(*) FROM failed_order_archives WHERE topic = 'order-created') AS archived,
	   (SELECT count(*) FROM stock_inbox WHERE result = 'dead') = (SELECT count(*) FROM stock_outbox WHERE topic ~ '_dlq$') AS published;
-- a dead letter: key, value and headers unchanged, in their order; pgstock adds
-- only the headers of the reason
SELECT * FROM apply('[{"topic": "payment-success", "partition": 4, "offset": 44, "key": "any key", "headers": {"ce_id": "ind-e1", "none": null, "b": ""},
	"text": "{\"order_id\": 7, \"event_version\": 3 "}]');
SELECT o.aggregatetype AS topic, convert_from(o.aggregateid, 'UTF8') AS key, convert_from(o.payload, 'UTF8') AS value, o.format, o.traceparent,
	   jsonb_pretty(s.headers - '__dlq.errors.failed.time') AS headers, s.headers->>'__dlq.errors.failed.time' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$' AS rfc_3339,
	   position(pack_headers('{"ce_id": "ind-e1"}') IN o.headers) < position(convert_to('__dlq', 'UTF8') IN o.headers) AS own_first
  FROM pgstock_internal.outbox o JOIN stock_outbox s USING (seq) WHERE s.key = 'any key';
SELECT topic, event_id, key, order_id, attempts, next_retry_at, state, error, payload FROM stock_failed_events WHERE event_id = 'ind-e1';
SELECT order_id, topic, event_id, reason, attempts, payload, archived_at IS NOT NULL AS archived, handled FROM failed_order_archives WHERE event_id = 'ind-e1';
-- the topic that the relay names; bytes that are no text; no key
SELECT * FROM apply('[{"topic": "payment-success", "headers": {"ce_id": "ind-e2"}, "hex": "00ff"}]', relay_options() || '{"dlq_topic": "dead.{topic}.letters"}');
SELECT * FROM apply('[{"topic": "payment-success", "headers": {"ce_id": "ind-e3"}}]', relay_options() || '{"dlq_topic": "dead"}');
SELECT topic, key, payload, headers->>'ce_id' AS id FROM stock_outbox WHERE topic ~ '^dead' ORDER BY seq;
SELECT event_id, payload FROM failed_order_archives WHERE event_id IN ('ind-e2', 'ind-e3') ORDER BY id;
-- too large for the dead letter topic: the archive keeps it whole,
-- and a small record is published instead
SELECT * FROM apply(jsonb_build_array(jsonb_build_object('topic', 'payment-success', 'key', 'large', 'headers', '{"ce_id": "ind-e4"}'::jsonb, 'text', repeat('x', 1000001))));
SELECT topic, key, payload, headers ? 'ce_id' AS own_headers, headers->>'__dlq.errors.message' AS message
  FROM stock_outbox WHERE topic = 'payment-success_dlq' ORDER BY seq DESC LIMIT 1;
SELECT length(payload), reason FROM failed_order_archives WHERE event_id = 'ind-e4';
-- the line of the log: a producer's text forms no field of its own
SELECT message FROM unnest(ARRAY['ind-l1', 'ind-l2 result=applied', E'ind-l3\n"\\', 'ind-l4=']) id,
	LATERAL pgstock_internal.relay_apply('{order-created}', '{93}', '{1}', '{-1}', '{NULL}', ARRAY['{'::bytea],
		ARRAY[pack_headers(jsonb_build_object('ce_id', id))], relay_options()) ORDER BY id;
DROP FUNCTION poison;
SELECT * FROM verify_stock();
