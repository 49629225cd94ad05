--
-- sale: a quota of a product, a time window, a limit for each user; the states
-- of a purchase, before and after the end of the sale
--
\set row 'order_id, product_id, requested, granted, status, available, expires_at > now() AS expires, version, replayed'
CREATE VIEW pieces AS SELECT product_id AS p, on_hand, reserved, available, version FROM stock_levels WHERE product_id ~ '^sale-';
SELECT receive_stock('sale-a', 20);
-- bad arguments change nothing
SELECT outcome_of($$SELECT open_flash_sale(NULL, 'sale-a', 1)$$), outcome_of($$SELECT open_flash_sale('', 'sale-a', 1)$$);
SELECT outcome_of($$SELECT open_flash_sale('s', NULL, 1)$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', NULL)$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 0)$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', -1)$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 9007199254740993)$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1, 0)$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1, 9007199254740993)$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1, ends_at => now())$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1, starts_at => '2030-01-02', ends_at => '2030-01-01')$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-x', 1)$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1, location => 'nowhere')$$);
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 21)$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', 9007199254740992)$$);
SELECT outcome_of($$SELECT open_flash_sale(repeat('s', 256), 'sale-a', 1)$$);
SELECT outcome_of($$SELECT close_flash_sale('s')$$), outcome_of($$SELECT close_flash_sale(NULL)$$);
SELECT * FROM pieces;
-- the quota is taken from the available stock; on_hand still counts it
SELECT open_flash_sale('s', 'sale-a', 8, 2);
SELECT * FROM pieces;
SELECT outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1)$$);
SELECT status, available FROM try_reserve_stock('sale-a', 13, 'sale-0');
-- bought, and the same again; one order, one purchase
SELECT :row FROM purchase_flash_sale('s', 'ann', 'sale-1');
SELECT :row FROM purchase_flash_sale('s', 'ann', 'sale-1');
SELECT outcome_of($$SELECT purchase_flash_sale('s', 'ann', 'sale-1', 2)$$);
SELECT outcome_of($$SELECT purchase_flash_sale('s', 'bob', 'sale-1')$$);
SELECT outcome_of($$SELECT reserve_stock('sale-a', 1, 'sale-1', 'ann')$$);
-- a refusal is an answer
SELECT :row FROM purchase_flash_sale('s', 'ann', 'sale-2', 2);
SELECT :row FROM purchase_flash_sale('s', 'ann', 'sale-2', NULL);
SELECT :row FROM purchase_flash_sale('s', 'ann', 'sale-3');
SELECT :row FROM purchase_flash_sale('s', 'bob', 'sale-3', 3);
SELECT :row FROM purchase_flash_sale('nothing', 'bob', 'sale-3', 3);
-- a refusal costs no transaction id; other failures raise errors
BEGIN;
SELECT status FROM purchase_flash_sale('s', 'ann', 'sale-3');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT outcome_of($$SELECT purchase_flash_sale('s', 'bob', 'sale-3', 0)$$), outcome_of($$SELECT purchase_flash_sale('s', 'bob', 'sale-3', 9007199254740993)$$);
SELECT outcome_of($$SELECT purchase_flash_sale(NULL, 'bob', 'sale-3')$$), outcome_of($$SELECT purchase_flash_sale('s', NULL, 'sale-3')$$), outcome_of($$SELECT purchase_flash_sale('s', 'bob', NULL)$$);
-- after a release, in any way, the user may buy again; after a confirmation not
SELECT status, available FROM confirm_stock('sale-1', 'P');
SELECT status, available FROM release_stock('sale-2');
SELECT status FROM purchase_flash_sale('s', 'ann', 'sale-3', 2);
SELECT status FROM purchase_flash_sale('s', 'ann', 'sale-3');
SELECT status, available FROM rollback_stock('sale-1');
SELECT status FROM purchase_flash_sale('s', 'ann', 'sale-4');
SELECT make_due('sale-3');
SELECT status, available FROM purchase_flash_sale('s', 'ann', 'sale-5');
SELECT * FROM pieces;
SELECT * FROM verify_stock();
-- paid too late: taken again if the user's limit allows it, else a shortfall
SELECT make_due('sale-4'), make_due('sale-5');
SELECT status FROM purchase_flash_sale('s', 'ann', 'sale-6');
SELECT status, granted FROM confirm_stock('sale-4');
SELECT status, granted FROM confirm_stock('sale-5');
SELECT status FROM return_stock('sale-4');
SELECT status FROM confirm_stock('sale-6');
-- due purchases prevent no other purchase; the quota runs out
SELECT status, count(*) FROM generate_series(1, 10) i, LATERAL purchase_flash_sale('s', 'user-' || i, 'sale-u' || i) GROUP BY 1 ORDER BY 1;
SELECT make_due('sale-u2');
SELECT status, available FROM purchase_flash_sale('s', 'user-9', 'sale-u9');
SELECT status, available FROM purchase_flash_sale('s', 'user-10', 'sale-u10');
SELECT state FROM stock_reservations WHERE order_id = 'sale-u2';
-- due purchases give ordinary buyers nothing,
-- nor does ordinary stock the sale's buyers
SELECT make_due('sale-u3');
SELECT status FROM try_reserve_stock('sale-a', 13, 'sale-0');
SELECT status FROM try_reserve_stock('sale-a', 13, 'sale-u3');
SELECT status FROM reserve_stock('sale-a', 12, 'sale-0');
SELECT status FROM purchase_flash_sale('s', 'user-11', 'sale-u11', 2);
-- on_hand counts the quota; the admin cannot take it while the sale is open
SELECT receive_stock('sale-a', 5), adjust_stock('sale-a', -1, 'broken');
SELECT set_stock('sale-a', 19), outcome_of($$SELECT set_stock('sale-a', 18)$$);
SELECT configure_product('sale-a', 0, 0);
SELECT * FROM pieces;
-- closed: the rest is ordinary stock, and so are later returns
SELECT close_flash_sale('s');
SELECT outcome_of($$SELECT close_flash_sale('s')$$), outcome_of($$SELECT open_flash_sale('s', 'sale-a', 1)$$);
SELECT * FROM pieces;
SELECT :row FROM purchase_flash_sale('s', 'user-12', 'sale-u12');
SELECT order_id, status, replayed FROM purchase_flash_sale('s', 'user-1', 'sale-u1');
SELECT status, available FROM release_stock('sale-u1');
SELECT status, available FROM return_stock('sale-6');
SELECT status, available FROM confirm_stock('sale-u2');
SELECT status, available FROM purchase_flash_sale('s', 'user-1', 'sale-u1');
SELECT slot, count(*) FROM pgstock_internal.reservation WHERE product_id = 'sale-a' GROUP BY 1;
SELECT * FROM pieces;
SELECT * FROM verify_stock();
-- a time window; two sales of one product at once; only stock without
-- back-orders, and above the safety stock
SELECT receive_stock('sale-b', 10), configure_product('sale-b', 2, 50);
SELECT outcome_of($$SELECT open_flash_sale('b', 'sale-b', 9)$$);
SELECT open_flash_sale('b-later', 'sale-b', 3, 1, now() + '1 h', now() + '2 h'), open_flash_sale('b-past', 'sale-b', 2, NULL, '-infinity', now() - interval '1 s', NULL),
	   open_flash_sale('b-ever', 'sale-b', 2, 9, NULL, 'infinity');
SELECT status, available, product_id FROM unnest('{b-later,b-past,b-ever}'::text[]) a, LATERAL purchase_flash_sale(a, 'ann', 'sale-' || a) ORDER BY a;
SELECT receive_stock('sale-b', 1, 'east');
SELECT safety, available FROM stock_levels WHERE product_id = 'sale-b' ORDER BY location;
-- a due reservation does not prevent the quota
SELECT status FROM reserve_stock('sale-b', 1, 'sale-9');
SELECT make_due('sale-9');
SELECT open_flash_sale('b-due', 'sale-b', 1);
SELECT lines_of('sale-9');
SELECT close_flash_sale(a) FROM unnest('{b-later,b-past,b-ever,b-due}'::text[]) a;
SELECT location, on_hand, reserved, available FROM stock_levels WHERE product_id = 'sale-b' ORDER BY 1;
-- an order may hold both; the events name the quota of each line,
-- and only of those in a quota
SELECT open_flash_sale('mix', 'sale-a', 1), status FROM reserve_stock('sale-b', 1, 'sale-m', 'ann');
SELECT status FROM purchase_flash_sale('mix', 'ann', 'sale-m');
SELECT product_id, status, available FROM release_stock('sale-m', items => '[{"product_id": "sale-a", "quantity": 1}]');
-- two payments too late, in one batch: the limit counts the batch's own effects
SELECT receive_stock('sale-c', 5), open_flash_sale('c', 'sale-c', 5);
SELECT status FROM purchase_flash_sale('c', 'ann', 'sale-c1');
SELECT make_due('sale-c1');
SELECT status FROM purchase_flash_sale('c', 'ann', 'sale-c2');
SELECT make_due('sale-c2');
SELECT topic, result, reason FROM apply('[{"topic": "payment-success", "json": {"order_id": "sale-c1"}}, {"topic": "payment-success", "json": {"order_id": "sale-c2"}}]');
SELECT lines_of('sale-c1'), lines_of('sale-c2');
-- the ledger and the stream
SELECT kind, on_hand_delta, reserved_delta, order_id, reference, event_id IS NOT NULL AS has_event FROM stock_movements WHERE product_id = 'sale-a' AND kind ~ '^sale' ORDER BY id;
SELECT event_type, payload - '{event_id,event_type,timestamp,event_version,expires_at,items}'::text[] AS payload, jsonb_path_query_array(payload, '$.items[*]') AS items
  FROM stock_outbox WHERE key IN ('sale-1', 'sale-m') OR (key = 'sale-a' AND payload->>'kind' ~ 'sale') ORDER BY seq;
SELECT * FROM verify_stock();
-- drift of a quota is found and mended
SELECT status FROM purchase_flash_sale('mix', 'bob', 'sale-n');
UPDATE pgstock_internal.level SET reserved = 3 WHERE product_id = 'sale-a' AND slot < 0;
SELECT product_id, what, expected, found FROM verify_stock();
SELECT count(*) FROM repair_stock('sale-a', 'test');
SELECT * FROM verify_stock();
SELECT slot < 0 AS quota, on_hand, reserved FROM pgstock_internal.level WHERE product_id = 'sale-a' ORDER BY slot;
SELECT close_flash_sale('mix'), close_flash_sale('c');
SELECT count(*) FROM pgstock_internal.level WHERE slot < 0;
DROP VIEW pieces;
