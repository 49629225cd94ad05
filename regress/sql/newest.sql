--
-- newest: the place where a session last saw a level is only a hint.  Another
-- level may be there now, or nothing: then the index is searched
--
\set origin :DBNAME
CREATE DATABASE regress_newest;
\c regress_newest
CREATE EXTENSION pgstock;
SELECT receive_stock('new-a', 10);
SELECT receive_stock('new-b', 20);
-- the row of new-b moves to where that of new-a was
SELECT status, available FROM reserve_stock('new-a', 1, 'new-1');
VACUUM FULL pgstock_internal.level;
SELECT status, available FROM reserve_stock('new-a', 1, 'new-2');
SELECT status, available FROM reserve_stock('new-b', 1, 'new-3');
-- nor does a look believe it
VACUUM FULL pgstock_internal.level;
SELECT product_id, available FROM check_availability('[{"product_id": "new-a", "quantity": 1}, {"product_id": "new-b", "quantity": 1}]');
SELECT receive_stock('new-a', 1);
VACUUM FULL pgstock_internal.level;
SELECT product_id, available FROM check_availability('[{"product_id": "new-a", "quantity": 1}, {"product_id": "new-b", "quantity": 1}]');
SELECT product_id, available FROM check_availability('[{"product_id": "new-a", "quantity": 1}, {"product_id": "new-b", "quantity": 1}]');
-- the table ends before the place
SET debug_discard_caches = 0;
SELECT count(receive_stock('pad-' || i, 1)) FROM generate_series(1, 300) i;
RESET debug_discard_caches;
SELECT receive_stock('new-c', 30);
SELECT status, available FROM reserve_stock('new-c', 1, 'new-4');
DELETE FROM pgstock_internal.level WHERE product_id LIKE 'pad%';
DELETE FROM pgstock_internal.movement WHERE product_id LIKE 'pad%';
VACUUM FULL pgstock_internal.level;
SELECT status, available FROM reserve_stock('new-c', 1, 'new-5');
-- it was this transaction's own version, and the transaction was rolled back
BEGIN;
SELECT status, available FROM reserve_stock('new-c', 1, 'new-6');
SELECT status, available FROM reserve_stock('new-c', 1, 'new-7');
ROLLBACK;
SELECT status, available FROM reserve_stock('new-c', 1, 'new-8');
-- it was in a table that was dropped
BEGIN;
DROP EXTENSION pgstock;
CREATE EXTENSION pgstock;
SELECT receive_stock('new-c', 5);
SELECT status, available FROM reserve_stock('new-c', 1, 'new-9');
ROLLBACK;
SELECT status, available FROM reserve_stock('new-c', 1, 'new-9');
-- an older snapshot does not see a version that was noted after it
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT status, available FROM reserve_stock('new-c', 1, 'new-10');
SELECT status, available FROM reserve_stock('new-c', 1, 'new-11');
COMMIT;
SELECT status, available FROM try_reserve_stock('new-c', 99, 'new-12');
SELECT product_id, on_hand, reserved, version FROM stock_levels ORDER BY 1;
SELECT * FROM verify_stock();
\c :origin
DROP DATABASE regress_newest;
