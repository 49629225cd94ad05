--
-- limits: every sum at its maximum, JSON at its limits, names that need quotes
--
\pset format unaligned
\pset tuples_only on
\set max 9007199254740992
-- on_hand: by every way of supply
SELECT receive_stock('limits-a', :max);
SELECT outcome_of($$SELECT receive_stock('limits-a', 1)$$);
SELECT outcome_of($$SELECT adjust_stock('limits-a', 1, 'r')$$);
SELECT outcome_of($$SELECT adjust_stock('limits-a', -9007199254740993, 'r')$$);
SELECT receive_stock('limits-a', 1, 'east');
SELECT outcome_of($$SELECT move_stock('limits-a', 1, 'east', 'main')$$);
SELECT status, available FROM reserve_stock('limits-a', :max, 'limits-1');
SELECT status, available FROM confirm_stock('limits-1');
SELECT receive_stock('limits-a', :max);
SELECT outcome_of($$SELECT return_stock('limits-1')$$);
SELECT outcome_of($$SELECT rollback_stock('limits-1')$$);
SELECT status, available FROM return_stock('limits-1', restock => false);
SELECT level_of('limits-a'), level_of('limits-a', 'east'), lines_of('limits-1');
-- reserved, beyond stock as far as a limit goes; one line, merged lines,
-- a batch
SELECT configure_product('limits-a', NULL, :max);
SELECT status, available FROM reserve_stock('limits-a', :max, 'limits-2');
SELECT outcome_of($$SELECT reserve_order('limits-3', '[{"product_id": "limits-a", "quantity": 9007199254740992}, {"product_id": "limits-a", "quantity": 1}]')$$);
SELECT status, available FROM reserve_stock('limits-a', :max, 'limits-3');
SELECT granted, status, available FROM try_reserve_stock('limits-a', 1, 'limits-4');
SELECT order_id, granted, status, available FROM reserve_orders('[{"order_id": "limits-4", "items": [{"product_id": "limits-a", "quantity": 9007199254740992}]},
	{"order_id": "limits-5", "items": [{"product_id": "limits-a", "quantity": 9007199254740992, "location": "east"}]}]');
SELECT status, available FROM confirm_stock('limits-3');
SELECT outcome_of($$SELECT adjust_stock('limits-a', -1, 'r')$$);
SELECT outcome_of($$SELECT configure_product('limits-a', 0, 0)$$);
SELECT level_of('limits-a'), level_of('limits-a', 'east');
-- safety: up to its maximum, and the available stock is never below 0
SELECT configure_product('limits-a', :max);
SELECT available FROM stock_levels WHERE product_id = 'limits-a' ORDER BY location;
SELECT outcome_of($$SELECT configure_product('limits-a', 9007199254740993)$$), outcome_of($$SELECT configure_product('limits-a', -2)$$);
SELECT outcome_of($$SELECT configure_product('limits-a', NULL, 9223372036854775807)$$);
-- time: up to the last timestamp
SELECT receive_stock('limits-t', 1005);
SELECT outcome_of(format('SELECT reserve_stock(%L, 1, %L, ttl => %L)', 'limits-t', 'limits-t1', t))
  FROM unnest(ARRAY['300000 years', '-1 us', '178000000 years', '2147483647 days']) t;
SELECT status, expires_at > '10000-01-01' AS far FROM reserve_stock('limits-t', 1, 'limits-t2', ttl => '200000 years');
SELECT outcome_of($$SELECT extend_reservation('limits-t2', '300000 years')$$);
-- items: the maximum number, and one more; depth; a name twice; unknown members
SELECT requested, granted FROM try_reserve_order('limits-6', (SELECT jsonb_agg(jsonb_build_object('product_id', 'limits-t', 'quantity', 1)) FROM generate_series(1, 1000)));
SELECT outcome_of($$SELECT reserve_order('limits-6', (SELECT jsonb_agg(jsonb_build_object('product_id', 'limits-t', 'quantity', 1)) FROM generate_series(1, 1001)))$$);
SELECT outcome_of($$SELECT reserve_orders((SELECT jsonb_agg(jsonb_build_object('order_id', i, 'items', '[]'::jsonb)) FROM generate_series(1, 1001) i))$$);
SELECT outcome_of(format('SELECT reserve_order(%L, %L)', 'limits-6', repeat('[', 3000) || repeat(']', 3000)));
SELECT outcome_of(format('SELECT confirm_stock(%L), try_reserve_order(%L, %L)', 'limits-6', 'limits-x', '[{"product_id": "limits-t", "quantity": 1, "x": ' || repeat('[', 3000) || repeat(']', 3000) || '}]'));
SELECT requested, status FROM try_reserve_order('limits-7', '[{"product_id": "limits-t", "quantity": 9, "quantity": 1}]');
SELECT requested, status FROM try_reserve_order('limits-8', ('[{"product_id": "limits-t", "quantity": 1, "note": "' || repeat('x', 1000000) || '"}]')::jsonb);
-- names: every view, event and error shows each unchanged
CREATE TABLE odd (name text);
INSERT INTO odd VALUES ($$'; DROP TABLE odd; --$$), ('"double"'), (E'back\\slash'), (E'new\nline\ttab'), ('%s %n $1 {0}'), ('(a,"b",{c})'), ('NULL'), ($$' OR 1=1$$),
	(E'\u0001\u007f'), (U&'\+01F4E6 \00E9 e\0301 \202E'), (' spaces '), ('<script>&amp;');
SELECT count(receive_stock(name, 3, name, name)) FROM odd;
SELECT count(*), bool_and(r.product_id = name AND r.location = name AND r.order_id = name) FROM odd, reserve_stock(name, 1, name, name, name, idempotency_key => 'limits ' || name) r;
SELECT bool_and(r.replayed AND r.product_id = name) FROM odd, reserve_stock(name, 1, name, name, name, idempotency_key => 'limits ' || name) r;
SELECT count(*) FROM odd, reserve_order('2' || name, jsonb_build_array(jsonb_build_object('product_id', name, 'location', name, 'quantity', 1)), name);
SELECT count(*) FROM odd, confirm_stock(name, name);
SELECT count(*) FROM odd, release_stock('2' || name, name, jsonb_build_array(jsonb_build_object('product_id', name, 'location', name, 'quantity', 1)));
SELECT count(*) FROM odd, rollback_stock(name, name);
SELECT count(*), bool_and(payload->>'order_id' = key AND payload->'items'->0->>'product_id' = o.name) FROM odd o, stock_outbox WHERE key IN (o.name, '2' || o.name) AND event_type <> 'StockLevelChanged';
SELECT count(*), bool_and(payload->>'reference' = name AND payload->>'location' = name) FROM odd, stock_outbox WHERE key = name AND event_type = 'StockLevelChanged';
SELECT count(*), bool_and(user_id = name AND state IN ('released', 'rolled_back') AND reason = name) FROM odd, stock_reservations WHERE product_id = name;
SELECT count(*), bool_and(location = name) FROM odd, stock_movements WHERE product_id = name;
SELECT count(*) FROM odd WHERE strpos(outcome_of(format('SELECT reserve_stock(%L, 99, %L, location => %L)', name, 'o', name)), 'Product "' || name || '": wanted 99, available 3.') > 0;
SELECT count(*) FROM odd, verify_stock(name);
DROP TABLE odd;
-- locks: each new product and order is one until the transaction ends,
-- in a table that sessions share
SELECT outcome_of($$SELECT count(receive_stock('limits-lock-' || i, 1)) FROM generate_series(1, 100000) i$$);
SELECT outcome_of($$SELECT count(*) FROM generate_series(1, 100000) i, release_stock('limits-lock-' || i)$$);
SELECT count(*) FROM stock_levels WHERE product_id ~ '^limits-lock';
SELECT * FROM verify_stock();
