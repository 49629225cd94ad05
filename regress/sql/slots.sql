--
-- slots: one product's stock in several rows, which a query shows as one level
--
SELECT receive_stock('slots-a', 10);
SELECT outcome_of($$SELECT configure_product('slots-a', slots => 0)$$);
SELECT outcome_of($$SELECT configure_product('slots-a', slots => 65)$$), outcome_of($$SELECT configure_product('slots-a', slots => -2)$$);
SELECT outcome_of($$SELECT configure_product('slots-none', slots => 4)$$);
SELECT configure_product('slots-a', slots => 4), level_of('slots-a'), slots_of('slots-a');
-- one row in the view
SELECT * FROM stock_levels WHERE product_id = 'slots-a';
-- from one slot, from several, all stock, and no more
SELECT status, available, version FROM reserve_stock('slots-a', 2, 'slots-1');
SELECT status, available, version FROM reserve_stock('slots-a', 7, 'slots-2');
SELECT status, available FROM try_reserve_stock('slots-a', 2, 'slots-3');
SELECT outcome_of($$SELECT reserve_stock('slots-a', 2, 'slots-3')$$);
SELECT status, available FROM try_reserve_stock('slots-a', 1, 'slots-3');
SELECT status, available FROM try_reserve_stock('slots-a', 1, 'slots-4');
SELECT level_of('slots-a'), lines_of('slots-2');
SELECT * FROM verify_stock('slots-a');
-- lines are settled in the slot where they count, and found in any slot
SELECT status, available, version FROM confirm_stock('slots-2');
SELECT status, available FROM release_stock('slots-1');
SELECT status, available FROM return_stock('slots-2', '[{"product_id": "slots-a", "quantity": 5}]');
SELECT status, available FROM rollback_stock('slots-2');
SELECT status, available FROM try_reserve_stock('slots-a', 9, 'slots-5');
SELECT level_of('slots-a');
SELECT * FROM verify_stock('slots-a');
-- supply is of the sum; each change raises the version by one
SELECT receive_stock('slots-a', 3), level_of('slots-a'), slots_of('slots-a') ~ '!';
SELECT adjust_stock('slots-a', -2, 'broken'), outcome_of($$SELECT adjust_stock('slots-a', -2, 'broken')$$);
SELECT set_stock('slots-a', 20, (SELECT version FROM stock_levels WHERE product_id = 'slots-a'));
SELECT outcome_of($$SELECT set_stock('slots-a', 30, 5)$$);
SELECT move_stock('slots-a', 9, 'main', 'east');
-- a new location begins with the product's slots
SELECT level_of('slots-a'), level_of('slots-a', 'east'), slots_of('slots-a', 'east');
SELECT * FROM verify_stock('slots-a');
SELECT event_type, payload->'on_hand' AS on_hand, payload->'available' AS available, payload->'version' AS version
  FROM stock_outbox WHERE key = 'slots-a' ORDER BY seq DESC LIMIT 2;
-- more of them and fewer, with stock and with lines in them
SELECT configure_product('slots-a', slots => 8);
SELECT level_of('slots-a'), (SELECT count(*) FROM pgstock_internal.level WHERE product_id = 'slots-a');
SELECT configure_product('slots-a', slots => -1);
SELECT level_of('slots-a'), (SELECT sum(on_hand - reserved) FROM pgstock_internal.level WHERE product_id = 'slots-a' AND location = 'main' AND slot > 0) AS outside;
SELECT status, available FROM confirm_stock('slots-5');
SELECT status, available FROM return_stock('slots-5', '[{"product_id": "slots-a", "quantity": 8}]');
SELECT status, available FROM try_reserve_stock('slots-a', 10, 'slots-6');
SELECT status, available FROM release_stock('slots-6');
SELECT configure_product('slots-a', slots => 3), level_of('slots-a');
SELECT status, available FROM release_stock('slots-3');
SELECT level_of('slots-a'), * FROM stock_levels WHERE product_id = 'slots-a' ORDER BY location;
SELECT * FROM verify_stock('slots-a');
-- safety stock and back-order limit hold for the sum
SELECT receive_stock('slots-s', 10);
SELECT configure_product('slots-s', 4, 3, 3), slots_of('slots-s');
SELECT safety, available FROM stock_levels WHERE product_id = 'slots-s';
SELECT status, available FROM try_reserve_stock('slots-s', 6, 'slots-s1');
SELECT status, available FROM try_reserve_stock('slots-s', 4, 'slots-s2');
SELECT status, available FROM try_reserve_stock('slots-s', 3, 'slots-s2');
SELECT status, available FROM try_reserve_stock('slots-s', 1, 'slots-s3');
SELECT configure_product('slots-s', safety => -1), level_of('slots-s');
SELECT status, available FROM try_reserve_stock('slots-s', 3, 'slots-s3');
SELECT outcome_of($$SELECT configure_product('slots-s', backorder_limit => 1)$$);
SELECT configure_product('slots-s', backorder_limit => 2, slots => 1), level_of('slots-s');
SELECT status FROM confirm_stock('slots-s1') UNION ALL SELECT status FROM confirm_stock('slots-s2')
	UNION ALL SELECT status FROM confirm_stock('slots-s3');
SELECT level_of('slots-s'), available FROM stock_levels WHERE product_id = 'slots-s';
SELECT * FROM verify_stock('slots-s');
-- the safety stock exceeds the stock:
-- pieces released in one slot make up for all
SELECT receive_stock('slots-p', 9);
SELECT configure_product('slots-p', slots => 3);
SELECT status FROM reserve_stock('slots-p', 3, 'slots-p1') UNION ALL SELECT status FROM reserve_stock('slots-p', 3, 'slots-p2');
SELECT configure_product('slots-p', safety => 8), slots_of('slots-p') ~ '!' AS pooled;
SELECT status FROM release_stock('slots-p1');
SELECT status, available FROM try_reserve_stock('slots-p', 1, 'slots-p3');
SELECT status FROM release_stock('slots-p2');
SELECT status, available FROM try_reserve_stock('slots-p', 1, 'slots-p3');
SELECT slots_of('slots-p') ~ '!' AS pooled;
SELECT * FROM verify_stock('slots-p');
-- a due line prevents no reservation, in whichever slot it counts
SELECT receive_stock('slots-d', 8);
SELECT configure_product('slots-d', slots => 4);
SELECT status FROM reserve_stock('slots-d', 5, 'slots-d1');
SELECT make_due('slots-d1');
SELECT status, available FROM try_reserve_stock('slots-d', 9, 'slots-d2');
SELECT lines_of('slots-d1');
SELECT status, available FROM try_reserve_stock('slots-d', 8, 'slots-d2');
SELECT lines_of('slots-d1'), level_of('slots-d');
-- and is taken again from any, if it is paid after all
SELECT status FROM rollback_stock('slots-d2');
SELECT status, available FROM confirm_stock('slots-d1');
SELECT status, available FROM try_reserve_stock('slots-d', 3, 'slots-d3');
SELECT make_due('slots-d3');
SELECT expire_reservations(1000) >= 1 AS expired, level_of('slots-d');
SELECT status FROM reserve_stock('slots-d', 2, 'slots-d4');
SELECT status, available FROM confirm_stock('slots-d3');
SELECT * FROM verify_stock('slots-d');
-- a batch takes the sum of its requests; an order of two levels takes both
SELECT receive_stock('slots-b', 8), receive_stock('slots-c', 8);
SELECT configure_product('slots-b', slots => 4), configure_product('slots-c', slots => 2);
SELECT order_id, product_id, status, available FROM reserve_orders('[
	{"order_id": "slots-b1", "items": [{"product_id": "slots-b", "quantity": 2}]},
	{"order_id": "slots-b2", "items": [{"product_id": "slots-b", "quantity": 7}]},
	{"order_id": "slots-b3", "items": [{"product_id": "slots-b", "quantity": 2}, {"product_id": "slots-c", "quantity": 5}]},
	{"order_id": "slots-b4", "items": [{"product_id": "slots-b", "quantity": 4}]}]');
SELECT status FROM reserve_orders('[{"order_id": "slots-b1", "items": [{"product_id": "slots-b", "quantity": 2}]}]');
SELECT level_of('slots-b'), level_of('slots-c');
SELECT * FROM verify_stock('slots-b') UNION ALL SELECT * FROM verify_stock('slots-c');
-- messages that take and settle in one batch
SELECT topic, result, reason FROM apply('[
	{"topic": "payment-success", "json": {"order_id": "slots-b1", "event_id": "slots-m1"}},
	{"topic": "order-cancelled", "json": {"order_id": "slots-b3", "event_id": "slots-m2"}},
	{"topic": "order-created", "json": {"order_id": "slots-b5", "event_id": "slots-m3", "items": [{"product_id": "slots-b", "quantity": 2}]}}]');
SELECT level_of('slots-b'), level_of('slots-c');
SELECT * FROM verify_stock('slots-b') UNION ALL SELECT * FROM verify_stock('slots-c');
-- above READ COMMITTED too
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT status, available FROM reserve_stock('slots-c', 6, 'slots-c1');
SELECT status, available FROM release_stock('slots-c1');
COMMIT;
-- damage is found in its slot, and repaired
SELECT count(*) FROM reserve_stock('slots-c', 3, 'slots-c2');
UPDATE pgstock_internal.level SET reserved = CASE slot WHEN 0 THEN 1 ELSE 2 END WHERE product_id = 'slots-c';
SELECT what ~ 'live reservations and slot' AS by_slot FROM verify_stock('slots-c') ORDER BY 1;
UPDATE pgstock_internal.level SET on_hand = on_hand + 5 WHERE product_id = 'slots-c' AND slot = 1;
SELECT count(*) > 0 AS found FROM repair_stock('slots-c', 'test');
SELECT * FROM verify_stock('slots-c');
SELECT status, available FROM try_reserve_stock('slots-c', 5, 'slots-c3');
SELECT level_of('slots-c');
SELECT * FROM verify_stock('slots-c');
