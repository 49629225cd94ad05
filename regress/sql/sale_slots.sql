--
-- sale_slots: the quota of a product with slots is taken from all of them, and
-- returned to all of them
--
SELECT receive_stock('saleslots', 20), configure_product('saleslots', slots => 4), slots_of('saleslots');
-- some lines count in the slots, one of them due; a sale needs its stock
SELECT status FROM reserve_stock('saleslots', 3, 'saleslots-1') UNION ALL SELECT status FROM reserve_stock('saleslots', 4, 'saleslots-2');
SELECT make_due('saleslots-2');
SELECT outcome_of($$SELECT open_flash_sale('saleslots', 'saleslots', 18, 5)$$);
SELECT lines_of('saleslots-2'), * FROM verify_stock();
SELECT open_flash_sale('saleslots', 'saleslots', 14, 5), lines_of('saleslots-2');
SELECT level_of('saleslots'), on_hand, reserved, available FROM stock_levels WHERE product_id = 'saleslots';
SELECT sum(on_hand - reserved) FILTER (WHERE slot >= 0) AS ordinary, min(on_hand - reserved) AS least,
	   sum(on_hand - reserved) FILTER (WHERE slot < 0) AS quota
  FROM pgstock_internal.level WHERE product_id = 'saleslots';
SELECT * FROM verify_stock();
-- purchases from one do not affect the other
SELECT status, available FROM try_reserve_stock('saleslots', 4, 'saleslots-3');
SELECT status, available FROM try_reserve_stock('saleslots', 3, 'saleslots-3');
SELECT status, available FROM purchase_flash_sale('saleslots', 'ann', 'saleslots-4', 5);
SELECT status, available FROM purchase_flash_sale('saleslots', 'bob', 'saleslots-5', 3);
SELECT status, available FROM purchase_flash_sale('saleslots', 'cat', 'saleslots-6', 2);
SELECT status, available FROM confirm_stock('saleslots-5');
SELECT * FROM verify_stock();
-- supply, and the number of slots, while the sale is open
SELECT receive_stock('saleslots', 2), adjust_stock('saleslots', -1, 'broken'), slots_of('saleslots') ~ '!';
SELECT set_stock('saleslots', 19), set_stock('saleslots', 18), outcome_of($$SELECT set_stock('saleslots', 16)$$);
SELECT configure_product('saleslots', safety => 1, slots => 6), level_of('saleslots');
SELECT move_stock('saleslots', 1, 'main', 'west'), level_of('saleslots'), level_of('saleslots', 'west');
SELECT * FROM verify_stock();
-- a sale takes no back-orders
SELECT configure_product('saleslots', backorder_limit => 6);
SELECT outcome_of($$SELECT open_flash_sale('saleslots-b', 'saleslots', 1)$$), level_of('saleslots');
SELECT configure_product('saleslots', safety => -1, backorder_limit => -1);
-- closed: the rest is spread over the slots, its lines count in the first slot
SELECT make_due('saleslots-6');
SELECT close_flash_sale('saleslots'), lines_of('saleslots-4'), lines_of('saleslots-5'), lines_of('saleslots-6');
SELECT count(*) AS rows, max(on_hand - reserved) - min(on_hand - reserved) AS spread, sum(on_hand) AS on_hand, sum(reserved) AS reserved
  FROM pgstock_internal.level WHERE product_id = 'saleslots' AND location = 'main';
SELECT slot = 0 AS first, state FROM pgstock_internal.reservation WHERE order_id IN ('saleslots-4', 'saleslots-5', 'saleslots-6') ORDER BY order_id;
SELECT * FROM verify_stock();
-- and are settled there
SELECT status, available FROM release_stock('saleslots-4');
SELECT status, available FROM confirm_stock('saleslots-6');
SELECT status, available FROM return_stock('saleslots-5', '[{"product_id": "saleslots", "quantity": 3}]');
SELECT level_of('saleslots'), on_hand, reserved, available FROM stock_levels WHERE product_id = 'saleslots' ORDER BY location;
SELECT * FROM verify_stock();
-- damage to a sale's quota and to a slot at once is mended
SELECT open_flash_sale('saleslots-c', 'saleslots', 6, 5);
SELECT status FROM purchase_flash_sale('saleslots-c', 'ann', 'saleslots-7', 2);
UPDATE pgstock_internal.level SET reserved = reserved + 1 WHERE product_id = 'saleslots' AND (slot < 0 OR slot = 1) AND location = 'main';
SELECT location, what, found - expected AS above FROM verify_stock('saleslots');
SELECT count(*) > 0 AS found FROM repair_stock('saleslots', 'test');
SELECT * FROM verify_stock();
SELECT close_flash_sale('saleslots-c'), level_of('saleslots');
SELECT * FROM verify_stock();
-- their sum stays within the numbers of JSON,
-- to whichever of them pieces are returned
SELECT receive_stock('saleslots-m', 9007199254740992), configure_product('saleslots-m', slots => 2);
SELECT open_flash_sale('saleslots-m', 'saleslots-m', 5, 5);
SELECT status FROM purchase_flash_sale('saleslots-m', 'ann', 'saleslots-m1', 2);
SELECT outcome_of($$SELECT receive_stock('saleslots-m', 1)$$);
SELECT status FROM confirm_stock('saleslots-m1');
SELECT receive_stock('saleslots-m', 2);
SELECT outcome_of($$SELECT return_stock('saleslots-m1', '[{"product_id": "saleslots-m", "quantity": 1}]')$$);
SELECT close_flash_sale('saleslots-m'), level_of('saleslots-m');
SELECT * FROM verify_stock();
