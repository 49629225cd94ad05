--
-- history: an offset identifies a record only together with the record's
-- fingerprint; a topic created again has other records at the same offsets
--
SELECT receive_stock('hist-a', 100);
CREATE FUNCTION hist_offsets(topic text) RETURNS TABLE (partition int, next_offset bigint, fingerprint text) LANGUAGE sql AS $$
SELECT o.partition, o.next_offset, o.fingerprint FROM pgstock_internal.relay_offsets(ARRAY[topic]) o
$$;
CREATE FUNCTION hist_order(n int) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('topic', 'order-created', 'partition', 70, 'offset', n % 10, 'time', 1764000000000 + n,
	'json', jsonb_build_object('order_id', 'hist-' || n, 'items', '[{"product_id": "hist-a", "quantity": 1}]'::jsonb))
$$;
-- orders without an id: the record's offset, time and checksum are their id
SELECT * FROM apply(jsonb_build_array(hist_order(0), hist_order(1)));
SELECT "offset", event_id FROM stock_inbox WHERE topic = 'order-created' AND partition = 70 ORDER BY 1, 2;
SELECT next_offset, fingerprint FROM hist_offsets('order-created') WHERE partition = 70;
-- the same records read again are duplicates
SELECT * FROM apply(jsonb_build_array(hist_order(0), hist_order(1)));
-- other records at their offsets are not, as after a topic was created again
SELECT pgstock_internal.relay_move_offset('order-created', 70, 2, 0, NULL, 'history');
SELECT next_offset, fingerprint FROM hist_offsets('order-created') WHERE partition = 70;
SELECT * FROM apply(jsonb_build_array(hist_order(10), hist_order(11)));
SELECT "offset", result, count(DISTINCT event_id) FROM stock_inbox WHERE topic = 'order-created' AND partition = 70 GROUP BY 1, 2 ORDER BY 1, 2;
SELECT level_of('hist-a');
-- fingerprints: the same bytes cut in another way are another record; NULL
-- differs from empty; the relay computes the same
-- (tests/unit/test_fingerprint.c)
SELECT * FROM apply('[{"topic": "hist-t", "partition": 0, "offset": 0, "time": 1764000000000, "key": "ab", "text": "c"},
	{"topic": "hist-t", "partition": 1, "offset": 0, "time": 1764000000000, "key": "a", "text": "bc"},
	{"topic": "hist-t", "partition": 2, "offset": 0, "time": 1764000000000, "key": "abc", "text": ""},
	{"topic": "hist-t", "partition": 3, "offset": 0, "time": 1764000000000, "key": "abc"},
	{"topic": "hist-t", "partition": 4, "offset": 0, "time": 1764000000000, "key": "ab", "text": "c", "headers": {"h": "1"}},
	{"topic": "hist-t", "partition": 5, "offset": 0}]');
SELECT * FROM hist_offsets('hist-t');
-- the start of a topic is decided once, for all its partitions
SELECT pgstock_internal.relay_begin_topic('hist-new', '{0,1}', '{5,7}'), pgstock_internal.relay_begin_topic('hist-absent', '{}', '{}');
SELECT pgstock_internal.relay_begin_topic('hist-new', '{0,1,2}', '{50,70,90}'), pgstock_internal.relay_begin_topic('hist-absent', '{0}', '{9}');
SELECT * FROM pgstock_internal.relay_offsets('{hist-new,hist-absent,hist-unknown}');
-- the fingerprint before the offset becomes known later,
-- unless the offset has moved on
SELECT pgstock_internal.relay_fingerprint('hist-new', 0, 4, 'old'), pgstock_internal.relay_fingerprint('hist-new', 1, 7, 'found');
SELECT pgstock_internal.relay_fingerprint('hist-new', 1, 7, 'another');
SELECT * FROM hist_offsets('hist-new');
-- continuing at another offset: only from the offset that the caller names;
-- missing messages are recorded
SELECT pgstock_internal.relay_move_offset('hist-new', 0, 4, 10, 9, 'retention');
SELECT pgstock_internal.relay_move_offset('hist-new', 0, 5, 10, 9, 'retention'), pgstock_internal.relay_move_offset('hist-new', 2, 0, 3, 2, 'retention');
SELECT pgstock_internal.relay_move_offset('hist-new', 0, 5, 10, 9, 'retention');
SELECT * FROM hist_offsets('hist-new');
SELECT topic, partition, first_offset, last_offset, reason, next_offset FROM pgstock_internal.inbox_gap WHERE topic ~ '^(hist|order)' ORDER BY 1, 2;
SELECT m - 'found_at' AS missing FROM pgstock_internal.relay_status() s, jsonb_array_elements(s.value) m WHERE s.name = 'missing_messages' AND m->>'topic' ~ '^hist' ORDER BY m->>'topic', m->'partition';
-- a rewind sets an offset whose records are not known yet
SELECT * FROM pgstock_internal.relay_rewind('hist-new', '{1}', '{6}', 'a test');
SELECT * FROM hist_offsets('hist-new') WHERE partition = 1;
-- an older record is the witness: the first known one, and later one that is
-- old enough, however the clock moved
CREATE FUNCTION hist_witness() RETURNS text LANGUAGE sql AS $$
SELECT format('next %s, witness %s %s, heir %s %s', next_offset, witness_offset, left(witness, 13), heir_offset, left(heir, 13))
  FROM pgstock_internal.inbox_offset WHERE topic = 'hist-w'
$$;
CREATE FUNCTION hist_apply(n int) RETURNS text LANGUAGE sql AS $$
SELECT result FROM apply(jsonb_build_array(jsonb_build_object('topic', 'hist-w', 'partition', 0, 'offset', n, 'time', 1764000000000 + n, 'text', 'x')))
$$;
SELECT n, hist_apply(n), hist_witness() FROM generate_series(0, 3) n;
UPDATE pgstock_internal.inbox_offset SET heir_since = heir_since - interval '31 seconds' WHERE topic = 'hist-w';
SELECT n, hist_apply(n), hist_witness() FROM generate_series(4, 5) n;
UPDATE pgstock_internal.inbox_offset SET heir_since = heir_since + interval '30 days' WHERE topic = 'hist-w';
SELECT n, hist_apply(n), hist_witness() FROM generate_series(6, 7) n;
SELECT witness_offset, left(witness, 13) FROM pgstock_internal.relay_offsets('{hist-w}');
-- a rewind keeps it; another history has none yet
SELECT * FROM pgstock_internal.relay_rewind('hist-w', '{0}', '{2}', 'a test');
SELECT hist_witness(), hist_apply(2), hist_witness();
SELECT pgstock_internal.relay_move_offset('hist-w', 0, 3, 0, NULL, 'history'), hist_witness();
DROP FUNCTION hist_offsets, hist_order, hist_witness, hist_apply;
