--
-- errors: every SQLSTATE that a caller can get, with message, detail and hint
--
\pset format unaligned
\pset tuples_only on
SELECT receive_stock('errors-a', 5);
SELECT status FROM reserve_stock('errors-a', 1, 'errors-1', idempotency_key => 'errors-k');
-- SK001 insufficient
SELECT outcome_of($$SELECT reserve_stock('errors-a', 5, 'errors-2')$$);
SELECT outcome_of($$SELECT reserve_order('errors-2', '[{"product_id": "errors-a", "quantity": 9007199254740992}]')$$);
-- SK002 unknown product, also for a known one at another place
SELECT outcome_of($$SELECT reserve_stock('errors-x', 5, 'errors-2')$$);
SELECT outcome_of($$SELECT reserve_stock('errors-a', 1, 'errors-2', location => 'east')$$);
SELECT outcome_of($$SELECT reserve_order('errors-2', '[{"product_id": "errors-a", "quantity": 1, "location": "east"}]')$$);
-- SK004 unknown order
SELECT outcome_of($$SELECT confirm_stock('errors-2')$$);
-- SK005 wrong state
SELECT outcome_of($$SELECT confirm_stock('errors-1'), release_stock('errors-1')$$);
SELECT outcome_of($$SELECT release_stock('errors-1'), confirm_stock('errors-1')$$);
-- SK006 expired
SELECT status FROM reserve_stock('errors-a', 1, 'errors-3');
SELECT make_due('errors-3');
SELECT outcome_of($$SELECT extend_reservation('errors-3', '1 h')$$);
-- SK007 another request
SELECT outcome_of($$SELECT reserve_stock('errors-a', 2, 'errors-1')$$);
SELECT outcome_of($$SELECT reserve_stock('errors-a', 2, 'errors-1', idempotency_key => 'errors-k')$$);
-- SK010 a level that was written to directly
BEGIN;
UPDATE pgstock_internal.level SET reserved = 0 WHERE product_id = 'errors-a';
SELECT outcome_of($$SELECT confirm_stock('errors-1')$$);
UPDATE pgstock_internal.level SET on_hand = 0, reserved = 2 WHERE product_id = 'errors-a';
SELECT outcome_of($$SELECT confirm_stock('errors-1')$$);
SELECT level_of('errors-a'), lines_of('errors-1');
ROLLBACK;
-- SK011 stale version
SELECT outcome_of($$SELECT set_stock('errors-a', 9, 1)$$);
-- SK021 another relay leads; SK020 is in "window",
-- 40001 in the isolation test "snapshots"
SELECT pgstock_internal.relay_lead() > 0 AS leads;
SELECT regexp_replace(outcome_of($$SELECT pgstock_internal.relay_store_position('', 0, true, 0)$$), '\d+ is', 'N is');
-- XX001 events to set aside that the outbox does not contain
SELECT outcome_of($$SELECT pgstock_internal.relay_set_aside('{-1}', epoch) FROM pgstock_internal.relay_epoch$$);
SELECT pg_advisory_unlock_all();
-- 22003 more than a level can hold
SELECT receive_stock('errors-b', 9007199254740992);
SELECT outcome_of($$SELECT receive_stock('errors-b', 1)$$);
SELECT level_of('errors-b');
-- 22023 an invalid argument: see "input"
SELECT outcome_of($$SELECT reserve_stock('errors-a', 1, 'errors-2', strategy => 'lucky')$$);
SELECT outcome_of($$SELECT reserve_stock('errors-a', 1, 'errors-2', ttl => '-1 s')$$);
-- 22P02 items that are not items: see "input"
SELECT outcome_of($$SELECT reserve_order('errors-2', '7')$$);
-- 25006 read-only
BEGIN READ ONLY;
SELECT outcome_of($$SELECT receive_stock('errors-a', 1)$$);
SELECT outcome_of($$SELECT try_reserve_stock('errors-a', 1, 'errors-2')$$);
SELECT outcome_of($$SELECT confirm_stock('errors-1')$$);
SELECT outcome_of($$SELECT publish_event('t', 'k', '{}')$$);
SELECT outcome_of($$SELECT * FROM verify_stock()$$);
COMMIT;
-- 42P01 a table of pgstock's is missing
BEGIN;
ALTER TABLE pgstock_internal.level RENAME TO errors_level;
SELECT outcome_of($$SELECT receive_stock('errors-a', 1)$$);
ROLLBACK;
-- 55000 an altered sequence, no standby; an added column: see "columns"
BEGIN;
ALTER SEQUENCE pgstock_internal.movement_id CYCLE;
SELECT outcome_of($$SELECT receive_stock('errors-a', 1)$$);
ROLLBACK;
SELECT outcome_of($$SELECT pgstock_internal.outbox_fence('remote_flush')$$);
-- 42501 a right is missing
CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
SELECT outcome_of($$SELECT reserve_stock('errors-a', 1, 'errors-2')$$);
SELECT outcome_of($$SELECT * FROM stock_levels$$);
RESET ROLE;
DROP ROLE regress_nobody;
-- 42704 and 22023 of grant_stock_access
SELECT outcome_of($$SELECT grant_stock_access('regress_noone', 'app')$$);
SELECT outcome_of($$SELECT grant_stock_access('public', 'app')$$);
SELECT outcome_of($$SELECT grant_stock_access(current_user, 'owner')$$);
SELECT outcome_of($$SELECT grant_stock_access(current_user, NULL)$$);
-- 54000 an event that is too large
SELECT outcome_of($$SELECT publish_event('t', 'k', to_jsonb(repeat('x', 1000000)))$$);
-- none of these calls changed anything
SELECT level_of('errors-a'), lines_of('errors-1'), lines_of('errors-2');
SELECT * FROM verify_stock();
