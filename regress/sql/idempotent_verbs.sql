--
-- idempotent_verbs: pieces are returned once, however often the answer is lost
--
-- The story: a warehouse takes one of three shirts back, the answer is lost,
-- and its service calls again.  Both calls name one shirt of an order that has
-- more, so both take effect: two shirts are on hand where there is one.  A key
-- marks both as the same call.
--
\set row 'order_id, product_id, requested, granted, status, available, replayed'
SELECT receive_stock('idv-a', 10), receive_stock('idv-b', 10);
CREATE FUNCTION one(product_id text) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_array(jsonb_build_object('product_id', product_id, 'quantity', 1))$$;
SELECT count(*) FROM unnest('{return,release,rollback,twice}'::text[]) o, LATERAL reserve_order('idv-' || o, '[{"product_id": "idv-a", "quantity": 2}]');
SELECT a.status, b.status FROM confirm_stock('idv-return', 'P', 'idv-k0') a, confirm_stock('idv-twice') b;
-- without a key two calls are two
SELECT count(*) FROM return_stock('idv-twice', one('idv-a')), return_stock('idv-twice', one('idv-a')) again;
SELECT level_of('idv-a'), lines_of('idv-twice');
-- with one: each verb that takes items, repeated,
-- and repeated once all has ended
SELECT :row FROM return_stock('idv-return', one('idv-a'), idempotency_key => 'idv-k1');
SELECT :row FROM return_stock('idv-return', one('idv-a'), true, 'idv-k1');
SELECT :row FROM release_stock('idv-release', 'first', one('idv-a'), 'idv-k2');
SELECT :row FROM release_stock('idv-release', 'another reason', one('idv-a'), 'idv-k2');
SELECT :row FROM rollback_stock('idv-rollback', 'first', one('idv-a'), 'idv-k3');
SELECT :row FROM rollback_stock('idv-rollback', NULL, one('idv-a'), 'idv-k3');
SELECT lines_of('idv-return'), lines_of('idv-release'), lines_of('idv-rollback'), level_of('idv-a');
SELECT o, events_of('idv-' || o) FROM unnest('{return,release,rollback}'::text[]) o;
SELECT status FROM return_stock('idv-return');
SELECT :row FROM return_stock('idv-return', one('idv-a'), idempotency_key => 'idv-k1');
SELECT outcome_of($$SELECT return_stock('idv-return', '[{"product_id": "idv-a", "quantity": 1}]')$$);
-- confirm: once, although the order has been returned since
SELECT :row FROM confirm_stock('idv-return', 'P', 'idv-k0');
-- extend: not longer the second time;
-- and not "granted" any more once it has ended
SELECT status FROM reserve_stock('idv-b', 2, 'idv-extend', ttl => '1 min');
SELECT status, replayed FROM extend_reservation('idv-extend', '1 h', 'idv-k4');
CREATE TEMP TABLE lasts AS SELECT expires_at FROM stock_reservations WHERE order_id = 'idv-extend';
SELECT e.status, e.replayed, e.expires_at = l.expires_at AS same FROM extend_reservation('idv-extend', '2 h', 'idv-k4') e, lasts l;
SELECT r.expires_at = l.expires_at AS same FROM stock_reservations r, lasts l WHERE order_id = 'idv-extend';
SELECT make_due('idv-extend');
SELECT outcome_of($$SELECT extend_reservation('idv-extend', '1 h', 'idv-k4')$$);
SELECT status FROM reserve_stock('idv-b', 2, 'idv-extend2');
SELECT status FROM extend_reservation('idv-extend2', '1 h', 'idv-k5');
SELECT status FROM release_stock('idv-extend2');
SELECT outcome_of($$SELECT extend_reservation('idv-extend2', '1 h', 'idv-k5')$$);
-- another request under the key: verb, order, items, payment, restock
SELECT outcome_of($$SELECT release_stock('idv-return', NULL, one('idv-a'), 'idv-k1')$$);
SELECT outcome_of($$SELECT return_stock('idv-twice', one('idv-a'), idempotency_key => 'idv-k1')$$);
SELECT outcome_of($$SELECT return_stock('idv-return', idempotency_key => 'idv-k1')$$);
SELECT outcome_of($$SELECT return_stock('idv-return', one('idv-b'), idempotency_key => 'idv-k1')$$);
SELECT outcome_of($$SELECT return_stock('idv-return', one('idv-a'), false, 'idv-k1')$$);
SELECT outcome_of($$SELECT confirm_stock('idv-return', 'Q', 'idv-k0')$$);
SELECT outcome_of($$SELECT reserve_stock('idv-a', 1, 'idv-return', idempotency_key => 'idv-k1')$$);
-- a raised refusal is not stored, an answered one is
SELECT outcome_of($$SELECT confirm_stock('idv-none', 'P', 'idv-k6')$$);
SELECT status, replayed FROM release_stock('idv-none', idempotency_key => 'idv-k7');
SELECT status, replayed FROM release_stock('idv-none', idempotency_key => 'idv-k7');
SELECT status FROM reserve_stock('idv-b', 1, 'idv-none');
SELECT status, replayed FROM confirm_stock('idv-none', 'P', 'idv-k6');
SELECT outcome_of($$SELECT release_stock('idv-none', idempotency_key => '')$$);
-- a key whose reservation has ended, in each way;
-- the order has been reserved again since
CREATE FUNCTION ends(verb text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id		text := 'idv-e-' || verb;
	call	text := format('SELECT format(''%%s %%s %%s'', status, granted, replayed) FROM try_reserve_stock(''idv-b'', 1, %L, idempotency_key => %L)', id, id);
	first	text;
	answer	text;
BEGIN
	EXECUTE call INTO first;
	CASE verb
		WHEN 'lives' THEN NULL;
		WHEN 'confirmed' THEN PERFORM confirm_stock(id);
		WHEN 'released' THEN PERFORM release_stock(id);
		WHEN 'rolled_back' THEN PERFORM rollback_stock(id);
		WHEN 'returned' THEN PERFORM confirm_stock(id); PERFORM return_stock(id);
		WHEN 'due' THEN PERFORM make_due(id);
		WHEN 'expired' THEN PERFORM make_due(id); PERFORM expire_reservations();
		WHEN 'anew' THEN PERFORM rollback_stock(id); PERFORM reserve_stock('idv-b', 1, id);
		WHEN 'purged' THEN DELETE FROM pgstock_internal.reservation r WHERE r.order_id = id;
	END CASE;
	EXECUTE call INTO answer;
	RETURN first || ', then ' || answer;
END
$$;
SELECT receive_stock('idv-b', 100);
BEGIN;
SELECT v, ends(v) FROM unnest('{lives,confirmed,released,rolled_back,returned,due,expired,anew,purged}'::text[]) v;
ROLLBACK;
-- one line of an order has ended: only that one is not granted
SELECT :row FROM try_reserve_order('idv-part', '[{"product_id": "idv-a", "quantity": 1}, {"product_id": "idv-b", "quantity": 2}]', idempotency_key => 'idv-k8');
SELECT status FROM release_stock('idv-part', NULL, '[{"product_id": "idv-b", "quantity": 2}]');
SELECT :row FROM try_reserve_order('idv-part', '[{"product_id": "idv-a", "quantity": 1}, {"product_id": "idv-b", "quantity": 2}]', idempotency_key => 'idv-k8');
SELECT outcome_of($$SELECT reserve_order('idv-part', '[{"product_id": "idv-a", "quantity": 1}, {"product_id": "idv-b", "quantity": 2}]', idempotency_key => 'idv-k8')$$);
-- a part of a line was released: the rest is granted,
-- before it is sold and after
SELECT :row FROM try_reserve_stock('idv-b', 5, 'idv-less', idempotency_key => 'idv-k9');
SELECT status FROM release_stock('idv-less', NULL, '[{"product_id": "idv-b", "quantity": 2}]');
SELECT :row FROM try_reserve_stock('idv-b', 5, 'idv-less', idempotency_key => 'idv-k9');
SELECT status FROM confirm_stock('idv-less');
SELECT status FROM return_stock('idv-less', '[{"product_id": "idv-b", "quantity": 1}]');
SELECT :row FROM reserve_stock('idv-b', 5, 'idv-less', idempotency_key => 'idv-k9');
DROP FUNCTION one, ends;
SELECT * FROM verify_stock();
