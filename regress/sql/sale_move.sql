--
-- sale_move: pieces of a flash sale, taken out for another database and put in
-- from one
--
CREATE VIEW moved AS SELECT slot < 0 AS is_quota, on_hand, reserved, version FROM pgstock_internal.level WHERE product_id ~ '^move-' ORDER BY product_id, slot;
CREATE FUNCTION out_of(sale text, wanted bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT pgstock_internal.move_out(sale, 'move-a', 'main', 'to shard 3', 'm', wanted) $$;
CREATE FUNCTION put_in(sale text, quantity bigint, product text = 'move-a') RETURNS boolean LANGUAGE sql
	AS $$ SELECT pgstock_internal.move_in(sale, product, 'main', 'from shard 3', 'm', quantity, 2, now() - '1 hour'::interval, NULL) $$;
SELECT receive_stock('move-a', 20);
SELECT open_flash_sale('move-s', 'move-a', 10, 4);
-- out: what is free, and no more; the ledger and an event name the move
SELECT out_of('move-s', 3);
SELECT kind, on_hand_delta, reason, reference, event_id IS NOT NULL AS has_event FROM stock_movements WHERE product_id = 'move-a' ORDER BY id DESC LIMIT 1;
SELECT payload->>'on_hand', payload->>'available', payload->>'kind', (payload->>'version')::bigint = version AS current FROM stock_outbox, stock_levels WHERE key = 'move-a' AND product_id = key ORDER BY seq DESC LIMIT 1;
SELECT * FROM moved;
SELECT quantity, sold, remaining FROM stock_sales WHERE activity_id = 'move-s';
SELECT status, available FROM purchase_flash_sale('move-s', 'ann', 'move-1', 4);
SELECT out_of('move-s', 9), out_of('move-s', 9);
SELECT status, available FROM purchase_flash_sale('move-s', 'bob', 'move-2');
SELECT quantity, state, sold, remaining FROM stock_sales WHERE activity_id = 'move-s';
-- a due purchase is free
SELECT make_due('move-1');
SELECT out_of('move-s', 1), lines_of('move-1');
SELECT * FROM verify_stock();
-- in: the quota grows
SELECT put_in('move-s', 5);
SELECT status, available FROM purchase_flash_sale('move-s', 'bob', 'move-2');
SELECT quantity, sold, remaining FROM stock_sales WHERE activity_id = 'move-s';
SELECT * FROM moved;
-- a sale that is unknown is opened, also without pieces, and with its product
SELECT put_in('move-t', 0), put_in('move-u', 2), put_in('move-v', 0, 'move-b');
SELECT activity_id, quantity, per_user_limit, state FROM stock_sales WHERE activity_id ~ '^move-[tuv]' ORDER BY 1;
SELECT status FROM purchase_flash_sale('move-v', 'ann', 'move-3');
SELECT put_in('move-v', 1, 'move-b');
SELECT status FROM purchase_flash_sale('move-v', 'ann', 'move-3');
-- what is for a sale of another product, or a closed one, is ordinary stock
SELECT put_in('move-v', 1), close_flash_sale('move-u'), put_in('move-u', 4);
SELECT * FROM moved;
-- a sale that is closed or unknown gives nothing, and what has no level neither
SELECT out_of('move-u', 1), out_of('move-x', 1), pgstock_internal.move_out(NULL, 'move-x', 'main', NULL, NULL, 1);
-- ordinary stock: not what is reserved or on back-order
SELECT configure_product('move-a', 0, 5);
SELECT status FROM reserve_stock('move-a', 12, 'move-4');
SELECT out_of(NULL, 99), out_of(NULL, 99);
SELECT put_in(NULL, 3);
SELECT on_hand, available FROM stock_levels WHERE product_id = 'move-a';
SELECT outcome_of($$SELECT out_of('move-s', 0)$$), outcome_of($$SELECT put_in('move-s', -1)$$), outcome_of($$SELECT put_in('', 1)$$);
SELECT * FROM verify_stock();
SELECT close_flash_sale('move-s'), close_flash_sale('move-t'), close_flash_sale('move-v');
SELECT * FROM moved;
SELECT * FROM verify_stock();
DROP VIEW moved;
DROP FUNCTION out_of, put_in;
