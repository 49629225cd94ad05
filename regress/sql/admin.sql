--
-- admin: an operator's actions, each with a row in stock_admin_actions: repair,
-- purge, and the ends of failed events
--
SET pgstock.actor = 'ops';
CREATE VIEW done AS SELECT actor = session_user || '/ops' AS me, action, target, reason FROM stock_admin_actions
 WHERE target ~ 'admin-|^id' ORDER BY at;
-- repair: sets the level to the ledger's sum; reports each difference once
SELECT receive_stock('admin-a', 10), receive_stock('admin-a', 5, 'east'), receive_stock('admin-b', 1);
SELECT status FROM reserve_stock('admin-a', 2, 'admin-1');
UPDATE pgstock_internal.level SET on_hand = on_hand + 7, reserved = 1 WHERE product_id = 'admin-a' AND location = 'main';
UPDATE pgstock_internal.level SET on_hand = 9 WHERE product_id = 'admin-b';
SELECT * FROM verify_stock();
SELECT outcome_of($$SELECT repair_stock('admin-a', '')$$), outcome_of($$SELECT repair_stock('admin-a', NULL)$$);
SELECT * FROM repair_stock('admin-a', 'ticket 7');
SELECT * FROM verify_stock();
SELECT * FROM repair_stock('admin-a', 'ticket 8');
SELECT level_of('admin-a'), level_of('admin-a', 'east'), level_of('admin-b');
SELECT count(*) FROM repair_stock('admin-b', 'ticket 9');
SELECT * FROM done;
-- purge: old movements become one opening each; levels and ledger still agree
SELECT count(*) FROM confirm_stock('admin-1');
SELECT status FROM reserve_stock('admin-a', 3, 'admin-2');
SELECT status FROM reserve_stock('admin-a', 1, 'admin-3');
SELECT status FROM release_stock('admin-3');
UPDATE pgstock_internal.movement SET at = now() - interval '1 year' WHERE product_id = 'admin-a' AND order_id IS DISTINCT FROM 'admin-3';
UPDATE pgstock_internal.reservation SET ended_at = now() - interval '1 year', created_at = now() - interval '1 year'
 WHERE order_id IN ('admin-1', 'admin-2', 'admin-3');
SELECT purge_history(now() - interval '100 days');
SELECT kind, location, on_hand_delta, reserved_delta, order_id, at < now() - interval '100 days' AS old
  FROM stock_movements WHERE product_id = 'admin-a' ORDER BY at, id;
-- sold and reserved lines stay: an order can still be returned
SELECT lines_of('admin-1') AS sold, lines_of('admin-2') AS reserved, lines_of('admin-3') AS ended;
SELECT * FROM verify_stock();
SELECT purge_history(now() - interval '100 days');
SELECT outcome_of('SELECT purge_history(now() + interval ''1 h'')'), outcome_of('SELECT purge_history(NULL)');
-- upkeep: a batch at a time; later movements go into the same opening
SELECT receive_stock('admin-c', 5), receive_stock('admin-c', 5);
SELECT count(receive_stock('admin-d', 1)) FROM generate_series(1, 2000);
UPDATE pgstock_internal.movement SET at = now() - interval '1 year' WHERE kind <> 'opening';
SELECT count(*) > 3 AS batches FROM generate_series(1, 30) WHERE pgstock_internal.purge_old(500) > 0;
SELECT count(*) FROM stock_movements WHERE kind <> 'opening';
SELECT kind, location, on_hand_delta, reserved_delta, at < now() - interval '100 days' AS old
  FROM stock_movements WHERE product_id IN ('admin-a', 'admin-c') ORDER BY product_id COLLATE "C", id;
SELECT * FROM verify_stock();
-- failed events: two are waiting, one for its order and one behind it;
-- one is poison
CREATE VIEW failing AS SELECT f.event_id, f.state, f.attempts, f.next_retry_at <= now() AS due, f.error, i.result, i.reason, a.handled, a.handled_by = session_user AS by_me
  FROM stock_failed_events f LEFT JOIN stock_inbox i ON i.event_id = f.event_id LEFT JOIN failed_order_archives a USING (id)
 WHERE f.event_id ~ '^admin-' ORDER BY f.id;
CREATE FUNCTION id_of(event_id text) RETURNS bigint LANGUAGE sql AS $$
SELECT id FROM stock_failed_events f WHERE f.event_id = $1
$$;
SELECT result, reason, n FROM apply('[
	{"topic": "payment-success", "key": "K", "json": {"event_id": "admin-e1", "order_id": "admin-4"}},
	{"topic": "payment-success", "key": "K", "json": {"event_id": "admin-e2", "order_id": "admin-2"}},
	{"topic": "payment-success", "json": {"event_id": "admin-e3"}}]');
-- discarded: the message behind it is retried
SELECT outcome_of(format('SELECT discard_failed_event(%s, %L)', id_of('admin-e1'), ''));
SELECT discard_failed_event(id_of('admin-e1'), 'paid twice');
SELECT * FROM failing;
SELECT result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT * FROM failing;
SELECT lines_of('admin-2');
-- handled: an operator has dealt with it
SELECT mark_failed_event_handled(id_of('admin-e3'), 'called the shop');
SELECT outcome_of(format('SELECT mark_failed_event_handled(%s, NULL)', id_of('admin-e2'))) ~ '^P0002: there is no archived event \d+' AS none;
-- retried: it is still poison, and a second dead letter is written
SELECT retry_failed_event(id_of('admin-e3'));
SELECT event_id, state, due FROM failing WHERE event_id = 'admin-e3';
SELECT result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT event_id, state, attempts, result, handled FROM failing WHERE event_id = 'admin-e3';
-- a dead letter that can be applied now
SELECT result, n FROM pgstock_internal.relay_apply_failed('{order-created}', '{0}', ARRAY[nextval('next_offset')], '{-1}', '{NULL}',
	'{"{\"event_id\": \"admin-e4\", \"order_id\": \"admin-5\", \"items\": [{\"product_id\": \"admin-a\", \"quantity\": 1}]}"}', '{NULL}', relay_options(), 'SK001', 'no');
SELECT outcome_of($$SELECT retry_failed_event()$$), outcome_of($$SELECT retry_failed_event(1, 'admin-5')$$), outcome_of($$SELECT retry_failed_event(order_id => 'admin-none')$$);
SELECT retry_failed_event(order_id => 'admin-5', reason => 'stock arrived');
SELECT result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT * FROM failing WHERE event_id = 'admin-e4';
SELECT lines_of('admin-5');
-- an ended message cannot be ended again
SELECT outcome_of(format('SELECT discard_failed_event(%s, %L)', id_of('admin-e1'), 'x')) ~ '^P0002: there is no failed event \d+ to discard' AS none;
SELECT outcome_of(format('SELECT retry_failed_event(%s)', id_of('admin-e4')));
-- purge deletes handled and ended messages, and no open archive
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '1 year' WHERE event_id ~ '^admin-';
SELECT event_id, state, handled FROM failing;
SELECT purge_history(now() - interval '100 days') > 0 AS some;
SELECT event_id, state, handled FROM failing;
SELECT me, action, regexp_replace(target, '\d+', 'N') AS target, reason FROM done;
DROP VIEW failing, done;
DROP FUNCTION id_of;
SELECT * FROM verify_stock();
