--
-- event_names: names of event types and of their members
--
SELECT * FROM stock_event_formats ORDER BY 1;
SELECT receive_stock('nam-a', 10), receive_stock('nam-b', 5);
CREATE FUNCTION written(text) RETURNS SETOF text LANGUAGE sql AS $$
SELECT regexp_replace(o.type || ' ' || convert_from(o.payload, 'UTF8'),
	'[0-9a-f]{8}-[-0-9a-f]{27}|20..-..-..T..:..:..[.][0-9]{6}Z', '…', 'g')
  FROM pgstock_internal.outbox o WHERE o.aggregateid = convert_to($1, 'UTF8') ORDER BY seq
$$;
-- one type: its name, and then its members
SELECT set_event_format('StockReserved', 'InventoryReserved');
SELECT status FROM reserve_stock('nam-a', 1, 'nam-1', 'ann', ttl => '1 h');
SELECT set_event_format('StockReserved', members => 'camelCase');
SELECT status FROM reserve_stock('nam-a', 1, 'nam-1', 'ann', location => 'main') UNION ALL SELECT status FROM reserve_stock('nam-b', 1, 'nam-1', 'ann');
SELECT status FROM release_stock('nam-1', 'never_mind');
SELECT written('nam-1');
-- all types, and one that is different; each setting by itself
SELECT set_event_format('*', members => 'camelCase');
SELECT set_event_format('StockReserved', 'com.shop.reserved-1_x', 'snake_case');
SELECT set_event_format('StockReleased', 'InventoryReleased');
SELECT set_event_topic('StockReleased', 'inventory'), set_event_topic('*', 'stock');
SELECT * FROM stock_event_formats ORDER BY 1;
SELECT status FROM reserve_stock('nam-a', 1, 'nam-2', 'ann', ttl => '1 h');
SELECT status FROM release_stock('nam-2');
SELECT written('nam-2');
SELECT topic, event_type FROM stock_outbox WHERE key = 'nam-2' ORDER BY seq;
DELETE FROM pgstock_internal.event_topic;
-- a profile: every type, and what differs from a known order;
-- attributes stay as they were
SELECT count(*) AS actions FROM stock_admin_actions \gset
SELECT set_event_profile('inventory');
SELECT count(*) - :actions AS recorded FROM stock_admin_actions;
SELECT * FROM stock_event_formats ORDER BY 1;
SELECT * FROM pgstock_internal.relay_topics() ORDER BY 1;
SELECT receive_stock('nam-a', 1, reference => 'delivery_7');
SELECT apply_one('order-created', '{"order_id": "nam-3", "event_id": "nam-e1", "user_id": "ann", "my_note": {"a_b": 1}, "items": [{"product_id": "nam-a", "quantity": 2}]}');
SELECT apply_one('order-created', '{"order_id": "nam-3", "event_id": "nam-e2", "user_id": "b\"o_b\": \\\" ", "items": [{"product_id": "nam-b", "quantity": 1}, {"product_id": "x\"product_id\":\\", "quantity": 2}]}');
SELECT apply_one('order-created', '{"order_id": "nam-4", "event_id": "nam-e3", "items": [{"product_id": "nam-a", "quantity": 99}]}');
SELECT status FROM confirm_stock('nam-3', 'pay_1');
SELECT status FROM rollback_stock('nam-3', 'lost');
SELECT written(k) FROM unnest('{nam-3,nam-4,nam-a}'::text[]) k;
-- the ledger's event ids and the key do not change
SELECT count(*) FROM stock_movements m JOIN stock_outbox o USING (event_id) WHERE m.order_id = 'nam-3';
SELECT DISTINCT topic, event_type ~ 'Failed' AS refusal FROM stock_outbox WHERE key ~ '^nam-[34]$' ORDER BY 1;
-- its topics: instead of what was set, but what is not written stays so
CREATE FUNCTION nam_topics(profile text) RETURNS TABLE (topic text, event_types text) LANGUAGE sql AS $$
SELECT set_event_profile(profile);
SELECT f.topic, CASE WHEN count(*) > 3 THEN count(*)::text ELSE string_agg(f.event_type, ' ' ORDER BY f.event_type) END FROM stock_event_formats f GROUP BY 1 ORDER BY 1
$$;
BEGIN;
SELECT set_event_topic('StockReserved', 'own'), set_event_topic('StockReturned', NULL), set_event_topic('NamOther', 'own');
SELECT * FROM nam_topics('inventory');
SELECT * FROM nam_topics('default');
SELECT * FROM pgstock_internal.event_topic;
SELECT set_event_topic('*', NULL), set_event_topic('StockReserved', 'own');
SELECT * FROM nam_topics('inventory');
SELECT * FROM nam_topics('default');
ROLLBACK;
SELECT set_event_topic('*', 'all');
SELECT * FROM nam_topics('inventory');
-- not if a built-in handler would read them
SELECT set_event_profile('default'), bind_topic('inventory-freeze-failed', 'order_created');
SELECT outcome_of($$SELECT set_event_profile('inventory')$$);
SELECT unbind_topic('inventory-freeze-failed'), set_event_profile('inventory');
DROP FUNCTION nam_topics;
-- parts of an event that is too large
SET debug_discard_caches = 0;
SET pgstock.max_lines = 2500;
SELECT count(receive_stock(rpad('nam-p' || i, 250, '"'), 1)) FROM generate_series(1, 2000) i;
SELECT count(*) FROM reserve_order('nam-5', (SELECT jsonb_agg(jsonb_build_object('product_id', rpad('nam-p' || i, 250, '"'), 'quantity', 1)) FROM generate_series(1, 2000) i));
RESET pgstock.max_lines;
RESET debug_discard_caches;
SELECT payload->>'eventType' AS type, payload->'part' AS part, payload->'parts' AS parts, jsonb_array_length(payload->'items') > 100 AS items FROM stock_outbox WHERE key = 'nam-5' ORDER BY seq;
SELECT sum(jsonb_array_length(payload->'items')) FROM stock_outbox WHERE key = 'nam-5';
-- it takes effect at the next call, and not if it is rolled back
BEGIN;
SELECT set_event_profile('default');
SELECT status FROM reserve_stock('nam-a', 1, 'nam-6');
SELECT events_of('nam-6');
ROLLBACK;
SELECT status FROM reserve_stock('nam-a', 1, 'nam-6');
SELECT events_of('nam-6');
-- a user is forgotten in members of either form
SELECT status FROM reserve_stock('nam-a', 1, 'nam-7', 'nam-user-77');
SELECT written('nam-7');
SELECT forget_user('nam-user-77', 'test') > 0 AS forgotten;
SELECT written('nam-7');
-- what is refused
\pset format unaligned
\pset tuples_only on
SELECT outcome_of($$SELECT set_event_format('Stock', 'x')$$);
SELECT outcome_of($$SELECT set_event_format(NULL, 'x')$$);
SELECT outcome_of($$SELECT set_event_format('*', 'x')$$);
SELECT outcome_of(format('SELECT set_event_format(''StockReserved'', %L)', n)), left(n, 9) FROM unnest('{"",a b,"a\"b",é}'::text[] || repeat('x', 101)) n;
SELECT outcome_of($$SELECT set_event_format('StockReleased', 'Forgotten')$$);
SELECT outcome_of($$SELECT set_event_format('StockReserved', members => 'PascalCase')$$);
SELECT outcome_of($$SELECT set_event_profile('other')$$);
SELECT outcome_of($$SELECT set_event_profile(NULL)$$);
SELECT set_event_profile('default');
SELECT set_event_format('*');
SELECT count(*) FROM pgstock_internal.event_format;
SELECT count(*) FROM pgstock_internal.event_topic;
SELECT action, target, reason FROM stock_admin_actions WHERE action ~ '^set_event_[fp]' ORDER BY at;
DROP FUNCTION written;
