--
-- publish: an application's own events through the same outbox; an event that
-- Kafka would refuse later is refused at once
--
CREATE VIEW published AS
SELECT o.seq, o.aggregatetype AS topic, convert_from(o.aggregateid, 'UTF8') AS key, o.type,
	   o.format, o.payload, s.headers, o.traceparent
  FROM pgstock_internal.outbox o JOIN stock_outbox s USING (seq)
 WHERE o.aggregatetype ~ '^publish' OR o.type ~ '^Publish';
-- the value is the payload and nothing around it;
-- the type defaults to the topic
SELECT publish_event('publish.a', 'k1', '{"b": [1, 2.50, "é"], "a": null}') IS NOT NULL AS id;
SELECT count(publish_event('publish.a', 'k1', v::jsonb, 'Published')) FROM unnest('{"\"text\"","null","7"}'::text[]) v;
-- any bytes, also none
SELECT publish_bytes('publish-b', 'k2', '\x00ff0001', 'Published.bytes') IS NOT NULL AS id;
SELECT publish_bytes('publish-b', 'k2', '') IS NOT NULL AS id;
-- a NULL payload is a tombstone, a NULL key is none, an empty one is empty
SELECT publish_event('publish_c', 'k3', NULL) IS NOT NULL AS id;
SELECT publish_bytes('publish_c', NULL, NULL) IS NOT NULL AS id;
SELECT publish_event('publish_c', '', '1') IS NOT NULL AS id;
-- the caller's headers, a null one, a strange one; the caller's id
SELECT publish_event('publish_d', 'k4', '{}', headers => '{"tenant": "acme", "é \"q\"": "ü", "none": null, "empty": ""}',
	event_id => '11111111-2222-4333-8444-555555555555');
SELECT publish_event('publish_d', 'k4', '{}', NULL, NULL, NULL) IS NOT NULL AS id;
-- the trace of the transaction
BEGIN;
SET LOCAL pgstock.trace_id = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT publish_event('publish_e', 'k5', '{}') IS NOT NULL AS id;
SET LOCAL pgstock.trace_id = 'no traceparent';
SELECT publish_event('publish_e', 'k5', '{}') IS NOT NULL AS id;
COMMIT;
SELECT topic, quote_nullable(key) AS key, type, format, quote_nullable(payload) AS payload, convert_from(CASE WHEN format = 'j' THEN payload END, 'UTF8') AS json,
	   headers, traceparent FROM published ORDER BY seq;
SELECT count(*) FROM stock_outbox WHERE event_id = '11111111-2222-4333-8444-555555555555';
-- the view
SELECT payload FROM stock_outbox WHERE topic IN ('publish.a', 'publish-b', 'publish_c') ORDER BY seq;
-- a rolled-back event is not published
BEGIN;
SELECT publish_event('publish_f', 'k6', '{}') IS NOT NULL AS id;
SAVEPOINT s;
SELECT publish_event('publish_f', 'gone', '{}') IS NOT NULL AS id;
ROLLBACK TO s;
COMMIT;
SELECT string_agg(key, ' ') FROM stock_outbox WHERE topic = 'publish_f';
\pset format unaligned
\pset tuples_only on
-- topics that Kafka does not accept
SELECT coalesce(quote_literal(left(t, 12)), 'NULL'), outcome_of(format('SELECT publish_event(%L, %L, %L)', t, 'k', '{}'))
  FROM unnest(ARRAY['', '.', '..', 'a b', 'a/b', 'é', E'a\n', repeat('t', 250), NULL]) t;
SELECT left(t, 12), outcome_of(format('SELECT publish_bytes(%L, %L, NULL)', t, 'k')) FROM unnest(ARRAY['...', 'A-z_0.9', repeat('t', 249)]) t;
-- other arguments
SELECT outcome_of($$SELECT publish_event('publish_g', 'k', '{}', '')$$);
-- the mark of a copy is pgstock's
SELECT outcome_of(format('SELECT %s(%L, NULL, NULL, headers => %L)', f, 'publish_g', '{"tenant": "acme", "replay_of": "00000000000000000001"}')) FROM unnest('{publish_event,publish_bytes}'::text[]) f;
SELECT outcome_of(format('SELECT publish_event(%L, %L, %L, headers => %L)', 'publish_g', 'k', '{}', h))
  FROM unnest('{[],7,"\"x\"","{\"a\": 1}","{\"a\": true}","{\"a\": {}}","{\"a\": []}"}'::text[]) h;
-- a header's name is short: its length must fit where it is packed
SELECT outcome_of(format('SELECT publish_event(%L, %L, %L, headers => %L)', 'publish_h', 'k', '{}',
	jsonb_build_object(repeat('n', n), 'v'))) FROM unnest('{0,255,256,65536,70000}'::int[]) n;
SELECT length(h) FROM stock_outbox, jsonb_object_keys(headers) h WHERE topic = 'publish_h';
-- as large as the limit, headers included, and no larger
CREATE FUNCTION fits(key_bytes int, payload_bytes int, header_bytes int) RETURNS text LANGUAGE sql AS $$
SELECT left(outcome_of(format('SELECT publish_bytes(%L, repeat(%L, %s), convert_to(repeat(%L, %s), %L), headers => %L)',
	'publish_i', 'k', key_bytes, 'v', payload_bytes, 'UTF8', jsonb_build_object('h', repeat('h', header_bytes)))), 6)
$$;
SELECT fits(1, 999000, 1), fits(1, 1000000, 1), fits(499000, 1, 1), fits(500000, 1, 1), fits(1, 1, 999000), fits(1, 1, 1000000);
SELECT fits(1, 500000, 499000), fits(1, 500000, 500000), fits(200000, 300000, 290000), fits(200000, 300000, 310000);
-- and no row of the outbox is larger than the limit
SELECT count(*), bool_and(octet_length(aggregateid) + octet_length(payload) + octet_length(headers) <= 1000000) AS within
  FROM pgstock_internal.outbox WHERE aggregatetype = 'publish_i';
DROP FUNCTION fits;
DROP VIEW published;
