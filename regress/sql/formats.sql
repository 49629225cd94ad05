--
-- formats: frames and envelopes around a message, and what a dead letter says
-- of any other format; tests/e2e/test_formats.py
-- has those of real client libraries
--
SELECT receive_stock('fmt-a', 1000);
-- the value of a message that reserves one piece for an order
CREATE FUNCTION order_json(id text) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('order_id', id, 'items', jsonb_build_array(jsonb_build_object('product_id', 'fmt-a', 'quantity', 1)))
$$;
-- what becomes of values of order-created with headers
CREATE FUNCTION outcomes(value text, headers jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason) FROM apply(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('topic', 'order-created', 'text', value, 'headers', headers)))) a
$$;
CREATE FUNCTION outcome_hex(value bytea) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason) FROM apply(jsonb_build_array(jsonb_build_object('topic', 'order-created', 'hex', encode(value, 'hex')))) a
$$;
-- CloudEvents, structured mode: by the media type,
-- or by the members that every event has
CREATE FUNCTION cloud_event(more jsonb) RETURNS text LANGUAGE sql AS $$ SELECT (jsonb_build_object('specversion', '1.0', 'id', 'fmt-c1', 'source', '/shop', 'type', 'OrderPlaced') || more)::text $$;
SELECT outcomes(cloud_event(jsonb_build_object('data', order_json('fmt-1'))), '{"content-type": "application/cloudevents+json; charset=UTF-8"}');
SELECT outcomes(cloud_event(jsonb_build_object('data', order_json('fmt-2'), 'id', 'fmt-c2', 'time', '2026-01-31T12:00:00Z', 'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')));
SELECT outcomes(cloud_event(jsonb_build_object('data_base64', replace(encode(convert_to(order_json('fmt-3')::text, 'UTF8'), 'base64'), E'\n', ''), 'id', 'fmt-c3')));
-- its id and source identify it, in this mode and the other
SELECT outcomes(cloud_event(jsonb_build_object('data', order_json('fmt-4')))), outcomes(order_json('fmt-4')::text, '{"ce_id": "fmt-c1", "ce_source": "/shop"}'),
	   outcomes(cloud_event(jsonb_build_object('data', order_json('fmt-4'), 'source', '/other')));
SELECT event_id, source, order_id, result, trace_id FROM stock_inbox WHERE event_id ~ '^fmt-c' ORDER BY received_at, "offset";
SELECT v, outcomes(cloud_event('{"id": "fmt-x"}' || v || jsonb_build_object('source', md5(v::text))), h) FROM (VALUES ('{}'::jsonb, NULL::jsonb), ('{"data": null}', NULL), ('{"data": [1]}', NULL), ('{"data": "x"}', NULL), ('{"data": "{\"order_id\": 1}"}', NULL),
	('{"data_base64": "$"}', NULL), ('{"data_base64": "AAEC"}', NULL), ('{"data_base64": "W10="}', NULL), ('{"id": ""}', '{"content-type": "application/cloudevents+json"}'), ('{"data": {}}', NULL)) m (v, h);
SELECT outcomes('[]', '{"content-type": "application/cloudevents-batch+json"}'), outcomes('[' || cloud_event('{"data": {}}') || ']');
-- Confluent's frame before JSON, as its serializer for JSON Schema writes it
SELECT outcome_hex('\x0000000001'::bytea || convert_to(order_json('fmt-5')::text, 'UTF8')), outcome_hex('\x00000000017b7d'), outcome_hex('\x00000000017b00'), outcome_hex('\x00000000ff0602'), outcome_hex('\x0000000001'), outcome_hex('\x00'), outcome_hex('\x00000000017b226f');
-- Kafka Connect's JSON converter; Debezium's outbox router and change events
SELECT outcomes(jsonb_build_object('schema', '{"type": "struct"}'::jsonb, 'payload', order_json('fmt-6'))::text), outcomes(jsonb_build_object('schema', NULL, 'payload', order_json('fmt-7')::text)::text),
	   outcomes('{"schema": {"type": "string"}, "payload": "no JSON"}'), outcomes('{"schema": {}, "payload": null}'), outcomes('{"schema": {}, "payload": [1]}'), outcomes('{"schema": {}, "payload": "[1]"}');
SELECT outcomes(to_json(order_json('fmt-8')::text)::text, '{"id": "fmt-d1"}'), outcomes(to_json(order_json('fmt-9')::text)::text), outcomes('"x"', '{"id": "fmt-d2"}'), outcomes('"[]"', '{"id": "fmt-d3"}');
CREATE FUNCTION change(op text, after jsonb) RETURNS text LANGUAGE sql AS $$ SELECT jsonb_build_object('op', op, 'source', '{"table": "orders"}'::jsonb, 'before', NULL, 'after', after, 'ts_ms', 1)::text $$;
SELECT outcomes(change('c', order_json('fmt-10'))), outcomes(jsonb_build_object('schema', '{}'::jsonb, 'payload', change('r', order_json('fmt-11'))::jsonb)::text), outcomes(change('d', NULL)), outcomes(change('c', '[]')), outcomes(change('u', '{"id": 1}'));
SELECT outcomes(change('c', jsonb_build_object('id', 'fmt-d4', 'aggregatetype', 'order', 'aggregateid', 'x', 'type', 'OrderPlaced', 'payload', order_json('fmt-12')::text))),
	   outcomes(change('c', jsonb_build_object('id', 'fmt-d5', 'aggregatetype', 'order', 'aggregateid', 'x', 'type', 'OrderPlaced', 'payload', order_json('fmt-13')))),
	   outcomes(change('c', '{"aggregatetype": "order", "aggregateid": "x", "payload": "<x/>"}'));
-- three texts in each other: no more than that is entered
SELECT outcomes(jsonb_build_object('schema', NULL, 'payload', change('c', jsonb_build_object('aggregatetype', 'o', 'aggregateid', 'x', 'payload', order_json('fmt-14')::text)))::text);
SELECT event_id, order_id, result FROM stock_inbox WHERE event_id ~ '^fmt-d' ORDER BY event_id;
SELECT order_id FROM stock_reservations WHERE order_id ~ '^fmt-' ORDER BY split_part(order_id, '-', 2)::int;
-- the type of a mixed topic: CloudEvents', Debezium's, Spring Kafka's
SELECT bind_topic('fmt', 'order_created', 'OrderPlaced'), bind_topic('fmt', 'ignore', 'com.shop.OrderSeen'), bind_topic('fmt', 'order_created', 'com.shop.OrderPlaced', '{"order_id": "$.orderId"}');
SELECT * FROM apply(jsonb_build_array(jsonb_build_object('topic', 'fmt', 'text', cloud_event(jsonb_build_object('data', order_json('fmt-20'), 'id', 'fmt-t1'))),
	jsonb_build_object('topic', 'fmt', 'text', change('c', jsonb_build_object('id', 'fmt-t2', 'type', 'OrderPlaced', 'aggregatetype', 'o', 'aggregateid', 'x', 'payload', order_json('fmt-21')))),
	jsonb_build_object('topic', 'fmt', 'headers', '{"__TypeId__": "com.shop.OrderSeen"}'::jsonb, 'text', '{}'), jsonb_build_object('topic', 'fmt', 'headers', '{"__TypeId__": "com.shop.OrderPlaced"}'::jsonb, 'text', '{"orderId": "fmt-22", "items": [{"productId": "fmt-a", "quantity": 1}]}'),
	jsonb_build_object('topic', 'fmt', 'headers', '{"__TypeId__": "com.shop.OrderSeen"}'::jsonb, 'text', '{"event_type": "OrderPlaced"}'), jsonb_build_object('topic', 'fmt', 'headers', '{"__TypeId__": "com.shop.Other"}'::jsonb, 'text', '{}')));
SELECT order_id FROM stock_reservations WHERE order_id ~ '^fmt-2' ORDER BY 1;
-- the attributes are those of the message, not of its envelope, with the digits
-- that it has; a name with an escape is found too
SELECT outcomes('{"specversion": "1.0", "id": "fmt-c9", "source": "s", "type": "t", "d\u0061ta" : {"order_id": "fmt-15", "items": [{"product_id": "fmt-a", "quantity": 1}], "price": 1.10}, "other": 1}');
SELECT convert_from(o.payload, 'UTF8')::json->'attributes' AS attributes FROM pgstock_internal.outbox o ORDER BY o.seq DESC LIMIT 1;
-- a registered handler gets the value as it is, without the frame
CREATE FUNCTION fmt_seen(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'payload %, type %, id %', payload, message->>'event_type', message->>'event_id' USING ERRCODE = '22000';
END
$$;
SELECT register_handler('fmt-own', 'fmt_seen');
SELECT a.result, a.reason FROM apply(jsonb_build_array(jsonb_build_object('topic', 'fmt-own', 'text', cloud_event(jsonb_build_object('data', '{"order_id": 5}'::jsonb, 'id', 'fmt-o1'))),
	jsonb_build_object('topic', 'fmt-own', 'headers', '{"ce_id": "fmt-o2"}'::jsonb, 'hex', '0000000001' || encode('[1]', 'hex')), jsonb_build_object('topic', 'fmt-own', 'headers', '{"ce_id": "fmt-o3"}'::jsonb, 'text', '"{}"'))) a ORDER BY 2;
SELECT order_id FROM stock_failed_events WHERE event_id = 'fmt-o1';
-- any other format is named
SELECT f, outcome_hex(v) FROM (VALUES
	('gzip', '\x1f8b0800000000000003'::bytea), ('zstd', '\x28b52ffd0458'), ('lz4', '\x04224d186040'), ('snappy', '\x82534e415050590000'), ('zip', '\x504b03041400'), ('avro file', '\x4f626a0104'), ('avro, single object', '\xc301a1b2c3'),
	('avro, confluent', '\x0000000007021a'), ('protobuf', '\x0a0331323310021a06090807060504'), ('protobuf, short', '\x0801'), ('message pack', '\x82a2696401a2'), ('message pack, 16', '\xde0001a161'), ('cbor', '\xa26269640163'), ('cbor, tagged', '\xd9d9f7a0'),
	('java', '\xaced000573'), ('xml', convert_to('<?xml version="1.0"?><order/>', 'UTF8')), ('yaml', convert_to(E'---\nid: 1', 'UTF8')), ('utf-16', '\xfffe7b007d00'), ('parquet', '\x50415231'), ('text', convert_to('order 7', 'UTF8')), ('csv', convert_to('7;8', 'UTF8')), ('html entity', convert_to('&amp;', 'UTF8'))) v (f, v);
SELECT unbind_topic('fmt', t) FROM unnest('{OrderPlaced,com.shop.OrderSeen,com.shop.OrderPlaced}'::text[]) t;
SELECT register_handler('fmt-own', NULL);
DROP FUNCTION order_json, outcomes, outcome_hex, cloud_event, change, fmt_seen;
