--
-- supply: corrections: by a difference, by compare-and-set, between locations;
-- never below the reserved quantity; safety stock and back-orders
--
SELECT receive_stock('supply-a', 10);
SELECT status FROM reserve_stock('supply-a', 6, 'supply-1');
-- by a difference
SELECT adjust_stock('supply-a', 5, 'found behind the shelf');
SELECT adjust_stock('supply-a', -9, 'broken');
SELECT outcome_of($$SELECT adjust_stock('supply-a', -1, 'broken')$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', 0, 'nothing')$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', NULL, 'nothing')$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', 1, '')$$), outcome_of($$SELECT adjust_stock('supply-a', 1, NULL)$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', -9007199254740993, 'x')$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', 9007199254740992, 'x')$$);
SELECT outcome_of($$SELECT adjust_stock('supply-a', 1, 'x', 'nowhere')$$);
-- by compare-and-set
SELECT level_of('supply-a');
SELECT set_stock('supply-a', 20, 4);
SELECT outcome_of($$SELECT set_stock('supply-a', 21, 4)$$);
SELECT set_stock('supply-a', 8);
SELECT outcome_of($$SELECT set_stock('supply-a', 5)$$);
SELECT set_stock('supply-a', 6);
SELECT outcome_of($$SELECT set_stock('supply-a', -1)$$), outcome_of($$SELECT set_stock('supply-a', NULL)$$);
SELECT set_stock('supply-new', 3, 0), outcome_of($$SELECT set_stock('supply-new', 4, 0)$$);
-- setting the same value is a change too: its version records the count
SELECT set_stock('supply-a', 6);
SELECT level_of('supply-a'), level_of('supply-new');
-- between locations: both sides or neither
SELECT receive_stock('supply-m', 5, 'north');
SELECT move_stock('supply-m', 2, 'north', 'south');
SELECT level_of('supply-m', 'north'), level_of('supply-m', 'south');
SELECT status FROM reserve_stock('supply-m', 2, 'supply-2', location => 'north');
SELECT outcome_of($$SELECT move_stock('supply-m', 2, 'north', 'south')$$);
SELECT outcome_of($$SELECT move_stock('supply-m', 1, 'north', 'north')$$);
SELECT outcome_of($$SELECT move_stock('supply-m', 1, 'west', 'north')$$);
SELECT outcome_of($$SELECT move_stock('supply-m', 0, 'north', 'south')$$);
SELECT outcome_of($$SELECT move_stock('supply-m', 1, 'north', NULL)$$);
SELECT move_stock('supply-m', 1, 'north', 'south');
SELECT level_of('supply-m', 'north'), level_of('supply-m', 'south');
-- safety stock is not for sale, at any location;
-- the available stock is never below 0
SELECT receive_stock('supply-s', 10), receive_stock('supply-s', 1, 'east');
SELECT configure_product('supply-s', safety => 4);
SELECT product_id, location, safety, available FROM stock_levels WHERE product_id = 'supply-s' ORDER BY 2;
SELECT granted, status, available FROM try_reserve_stock('supply-s', 7, 'supply-3');
SELECT granted, status, available FROM try_reserve_stock('supply-s', 6, 'supply-3');
SELECT granted, status, available FROM try_reserve_stock('supply-s', 1, 'supply-4', location => 'east');
-- NULL keeps a setting, -1 removes it
SELECT configure_product('supply-s', backorder_limit => 3);
SELECT safety FROM stock_levels WHERE product_id = 'supply-s' AND location = 'main';
SELECT configure_product('supply-s', -1);
-- beyond stock up to the limit; the view shows the same
SELECT granted, status, available FROM try_reserve_stock('supply-s', 4, 'supply-5');
SELECT granted, status, available FROM try_reserve_stock('supply-s', 2, 'supply-6');
SELECT available FROM stock_levels WHERE product_id = 'supply-s' AND location = 'main';
SELECT granted, status, available FROM try_reserve_stock('supply-s', 2, 'supply-7');
SELECT granted, status, available FROM try_reserve_stock('supply-s', 1, 'supply-7');
-- an order that is a back-order in part is reserved
SELECT product_id, granted, status FROM try_reserve_order('supply-8', '[{"product_id": "supply-s", "quantity": 4, "location": "east"},
	{"product_id": "supply-new", "quantity": 1}]');
-- sold before it is received: on_hand below 0, and never below the limit
SELECT status FROM confirm_stock('supply-8');
SELECT level_of('supply-s', 'east');
SELECT granted, status FROM try_reserve_stock('supply-s', 1, 'supply-9', location => 'east');
-- the limit cannot be set below the quantity already back-ordered
SELECT outcome_of($$SELECT configure_product('supply-s', backorder_limit => 2)$$);
SELECT outcome_of($$SELECT configure_product('supply-s', backorder_limit => -1)$$);
SELECT receive_stock('supply-s', 3, 'east'), receive_stock('supply-s', 3);
SELECT configure_product('supply-s', backorder_limit => -1);
SELECT product_id, location, on_hand, reserved, safety, available FROM stock_levels WHERE product_id = 'supply-s' ORDER BY 2;
SELECT outcome_of($$SELECT configure_product('supply-x', 1)$$);
SELECT outcome_of($$SELECT configure_product('supply-s', -2)$$), outcome_of($$SELECT configure_product('supply-s', 9007199254740993)$$);
-- the ledger and the stream
SELECT kind, location, on_hand_delta, reserved_delta, reason, event_id IS NOT NULL AS has_event FROM stock_movements WHERE product_id IN ('supply-a', 'supply-m') ORDER BY id;
SELECT event_type, payload->>'kind' AS kind, payload->>'location' AS location, payload->'on_hand' AS on_hand, payload->'available' AS available, payload->'version' AS version
  FROM stock_outbox WHERE key IN ('supply-m', 'supply-s') ORDER BY seq;
SELECT * FROM verify_stock();
