--
-- acts: every function that only an administrator may call leaves a row, of
-- stock_admin_actions or, where it changes stock, of the ledger
--
SET pgstock.actor = 'ops';
CREATE ROLE regress_acts;
SELECT receive_stock('acts-a', 100);
SELECT count(*) FROM unnest('{acts-1,acts-2,acts-3,acts-4,acts-5}'::text[]) o, reserve_stock('acts-a', 1, o);
SELECT make_due('acts-1');
SELECT result, reason FROM apply('[{"topic": "payment-success", "key": "acts", "json": {"event_id": "acts-e1", "order_id": "acts-none"}},
	{"topic": "order-created", "json": {"event_id": "acts-e2"}}, {"topic": "order-created", "json": {"event_id": "acts-e3"}}]');
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT publish_event('acts-held', 'k', '1') AS held \gset
SELECT pgstock_internal.relay_hold('acts-held', 'no', :epoch), pgstock_internal.relay_set_aside(ARRAY[seq], :epoch) FROM event_status(:'held');
UPDATE pgstock_internal.level SET on_hand = on_hand + 1 WHERE product_id = 'acts-a';
CREATE TABLE act (function text PRIMARY KEY, call text);
INSERT INTO act VALUES
	('receive_stock', $$SELECT receive_stock('acts-b', 5)$$),
	('adjust_stock', $$SELECT adjust_stock('acts-b', -1, 'broken')$$),
	('set_stock', $$SELECT set_stock('acts-b', 7)$$),
	('move_stock', $$SELECT move_stock('acts-b', 1, 'main', 'east')$$),
	('configure_product', $$SELECT configure_product('acts-b', safety => 2, slots => 3)$$),
	('open_flash_sale', $$SELECT open_flash_sale('acts-s', 'acts-b', 1)$$),
	('close_flash_sale', $$SELECT close_flash_sale('acts-s')$$),
	('expire_reservations', $$SELECT expire_reservations()$$),
	('set_event_topic', $$SELECT set_event_topic('ActsNone', 'acts-topic')$$),
	('set_event_format', $$SELECT set_event_format('*')$$),
	('set_event_profile', $$SELECT set_event_profile('default')$$),
	('set_outbox_retention', $$SELECT set_outbox_retention(NULL, 'a relay publishes')$$),
	('register_handler', $$SELECT register_handler('acts-topic', NULL)$$),
	('bind_topic', $$SELECT bind_topic('acts-bound', 'ignore')$$),
	('unbind_topic', $$SELECT unbind_topic('acts-bound')$$),
	('retry_failed_event', format('SELECT retry_failed_event(%s)', (SELECT id FROM stock_failed_events WHERE event_id = 'acts-e1'))),
	('discard_failed_event', format('SELECT discard_failed_event(%s, %L)', (SELECT id FROM stock_failed_events WHERE event_id = 'acts-e2'), 'poison')),
	('mark_failed_event_handled', format('SELECT mark_failed_event_handled(%s, NULL)', (SELECT id FROM stock_failed_events WHERE event_id = 'acts-e3'))),
	('discard_held_event', format('SELECT discard_held_event(%L, %L)', :'held', 'never')),
	('repair_stock', $$SELECT repair_stock('acts-a', 'ticket 1')$$),
	('purge_history', $$SELECT purge_history('2001-01-01T00:00:00Z')$$),
	('resend_events', $$SELECT resend_events('acts-0', 'lost')$$),
	('forget_user', $$SELECT forget_user('acts-user', 'request 1')$$),
	('reset_stock_statistics', $$SELECT reset_stock_statistics()$$),
	('grant_stock_access', $$SELECT grant_stock_access('regress_acts', 'reader')$$),
	('handle_order_created', $$SELECT handle_order_created('{"order_id": "acts-6", "items": [{"product_id": "acts-a", "quantity": 1}]}', '{}')$$),
	('handle_payment_success', $$SELECT handle_payment_success('{"order_id": "acts-2"}', '{}')$$),
	('handle_payment_failed', $$SELECT handle_payment_failed('{"order_id": "acts-3"}', '{}')$$),
	('handle_order_cancelled', $$SELECT handle_order_cancelled('{"order_id": "acts-4"}', '{}')$$),
	('handle_order_failed', $$SELECT handle_order_failed('{"order_id": "acts-5"}', '{}')$$);
-- all of them are here; a trigger is not called by hand
SELECT p.proname AS not_here FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
  JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.pronamespace = x.extnamespace
 WHERE x.extname = 'pgstock' AND p.prorettype <> 'trigger'::regtype
   AND p.proname NOT IN (SELECT name FROM pgstock_internal.access_list()) AND p.proname NOT IN (SELECT function FROM act);
CREATE FUNCTION act_rows() RETURNS bigint LANGUAGE sql AS $$
SELECT (SELECT count(*) FROM pgstock_internal.admin_action) + (SELECT count(*) FROM pgstock_internal.movement)
$$;
CREATE FUNCTION act_call(call text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before	bigint := act_rows();
BEGIN
	EXECUTE call;
	RETURN act_rows() - before;
END
$$;
SELECT a.function, act_call(a.call) > 0 AS leaves_a_row FROM act a ORDER BY a.ctid;
-- who did it, and what was set
SELECT action, target, reason, actor = session_user || '/ops' AS me FROM stock_admin_actions
 WHERE action IN ('configure_product', 'set_event_topic', 'grant_stock_access', 'purge_history') AND target ~ '^(acts-b|ActsNone|regress_acts|before)'
 ORDER BY at DESC LIMIT 4;
-- a call that fails leaves none
SELECT outcome_of($$SELECT configure_product('acts-b', safety => -2)$$), outcome_of($$SELECT grant_stock_access('regress_acts', 'god')$$);
SELECT count(*) FROM stock_admin_actions WHERE action = 'configure_product' AND target = 'acts-b';
SELECT set_event_topic('ActsNone', NULL), configure_product('acts-b', safety => -1, slots => -1), grant_stock_access('regress_acts', 'none');
SELECT reason FROM stock_admin_actions WHERE action = 'set_event_topic' AND target = 'ActsNone' ORDER BY at;
DELETE FROM pgstock_internal.event_topic WHERE event_type = 'ActsNone';
SELECT pgstock_internal.relay_cross_off('acts-held', '{}', true, :epoch), discard_failed_event(id, 'a test') FROM stock_failed_events WHERE event_id = 'acts-e1';
DROP TABLE act;
DROP FUNCTION act_rows, act_call;
DROP ROLE regress_acts;
SELECT pg_advisory_unlock_all();
RESET pgstock.actor;
SELECT * FROM verify_stock();
