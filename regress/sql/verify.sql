--
-- verify: damage to a level, the ledger or a reservation from outside is found;
-- the result is a row for each place where the three disagree
--
SELECT receive_stock('verify-a', 10), receive_stock('verify-b', 3), receive_stock('verify-b', 3, 'east');
SELECT status FROM reserve_stock('verify-a', 4, 'verify-1');
SELECT status FROM reserve_stock('verify-a', 1, 'verify-2');
SELECT status FROM confirm_stock('verify-2');
SELECT status FROM reserve_stock('verify-b', 2, 'verify-3', location => 'east');
-- due lines and back-orders are no damage
SELECT make_due('verify-1');
SELECT * FROM verify_stock();
-- the level
BEGIN;
UPDATE pgstock_internal.level SET on_hand = 11 WHERE product_id = 'verify-a';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
UPDATE pgstock_internal.level SET reserved = 3 WHERE product_id = 'verify-a';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
DELETE FROM pgstock_internal.level WHERE product_id = 'verify-b' AND location = 'east';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
INSERT INTO pgstock_internal.level SELECT 'verify-c', location, slot, 1, 0, 0, 0, 1, 1, 1, false FROM pgstock_internal.level WHERE product_id = 'verify-a';
SELECT * FROM verify_stock();
ROLLBACK;
-- the ledger
BEGIN;
DELETE FROM pgstock_internal.movement WHERE product_id = 'verify-a' AND kind = 'confirmed';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
UPDATE pgstock_internal.movement SET location = 'main' WHERE order_id = 'verify-3';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
DELETE FROM pgstock_internal.movement WHERE product_id ~ '^verify-';
SELECT * FROM verify_stock();
ROLLBACK;
-- the reservations
BEGIN;
UPDATE pgstock_internal.reservation SET quantity = 5 WHERE order_id = 'verify-1';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
UPDATE pgstock_internal.reservation SET state = 'l' WHERE order_id = 'verify-3';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
DELETE FROM pgstock_internal.reservation WHERE order_id ~ '^verify-';
SELECT * FROM verify_stock();
ROLLBACK;
-- all three agree, and yet more is reserved than the stock
BEGIN;
UPDATE pgstock_internal.level SET reserved = 12 WHERE product_id = 'verify-a';
UPDATE pgstock_internal.reservation SET quantity = 12 WHERE order_id = 'verify-1';
UPDATE pgstock_internal.movement SET reserved_delta = 12 WHERE order_id = 'verify-1';
SELECT * FROM verify_stock();
UPDATE pgstock_internal.level SET backorder_limit = 3 WHERE product_id = 'verify-a';
SELECT * FROM verify_stock();
ROLLBACK;
BEGIN;
UPDATE pgstock_internal.level SET reserved = -1 WHERE product_id = 'verify-a';
UPDATE pgstock_internal.reservation SET quantity = -1 WHERE order_id = 'verify-1';
UPDATE pgstock_internal.movement SET reserved_delta = -1 WHERE order_id = 'verify-1';
SELECT * FROM verify_stock();
ROLLBACK;
-- one product
BEGIN;
UPDATE pgstock_internal.level SET on_hand = 11 WHERE product_id ~ '^verify-';
SELECT * FROM verify_stock('verify-b');
SELECT * FROM verify_stock('verify-x');
SELECT count(*) FROM verify_stock(NULL);
ROLLBACK;
-- and no call can oversell a damaged level: it is an error, and nothing changes
BEGIN;
UPDATE pgstock_internal.level SET reserved = 1 WHERE product_id = 'verify-a';
SELECT outcome_of($$SELECT rollback_stock('verify-2'), release_stock('verify-3')$$);
SELECT outcome_of($$SELECT confirm_stock('verify-1')$$) <> 'ok' AS fails;
SELECT level_of('verify-a'), lines_of('verify-1');
ROLLBACK;
SELECT * FROM verify_stock();
