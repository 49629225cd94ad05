--
-- idempotency: an explicit key returns the stored answer again, also a refusal;
-- another request is SK007;
-- and a reservation is not "granted" once it has ended
--
\set row 'order_id, product_id, requested, granted, status, available, version, replayed'
SELECT receive_stock('key-a', 10), receive_stock('key-b', 1);
SELECT :row FROM reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1');
SELECT :row FROM reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1',
							   ttl => '1 day', strategy => 'advisory');
-- through the try form; and its state once it has ended, for a caller that
-- takes it for granted ships goods of another order
SELECT :row FROM try_reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1');
SELECT status FROM release_stock('key-1');
SELECT :row FROM try_reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1');
SELECT outcome_of($$SELECT reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1')$$);
SELECT level_of('key-a'), lines_of('key-1'), events_of('key-1');
-- another request: quantity, user, product, location, order
SELECT outcome_of($$SELECT reserve_stock('key-a', 5, 'key-1', 'ann', idempotency_key => 'k1')$$);
SELECT outcome_of($$SELECT reserve_stock('key-a', 4, 'key-1', 'bob', idempotency_key => 'k1')$$);
SELECT outcome_of($$SELECT try_reserve_stock('key-b', 4, 'key-1', 'ann', idempotency_key => 'k1')$$);
SELECT outcome_of($$SELECT reserve_stock('key-a', 4, 'key-1', 'ann', 'east', idempotency_key => 'k1')$$);
SELECT outcome_of($$SELECT reserve_stock('key-a', 4, 'key-9', 'ann', idempotency_key => 'k1')$$);
-- no request is mistaken for another one: its parts are delimited
SELECT :row FROM try_reserve_order('key-2', '[{"product_id": "1:a;2", "quantity": 1}]', idempotency_key => 'k2');
SELECT outcome_of($$SELECT try_reserve_order('key-2',
	'[{"product_id": "1", "quantity": 1, "location": "a;2"}]', idempotency_key => 'k2')$$);
-- an order: the merged lines are the request, not their order
SELECT :row FROM reserve_order('key-3', '[{"product_id": "key-b", "quantity": 1},
	{"product_id": "key-a", "quantity": 1}, {"product_id": "key-a", "quantity": 1}]',
	idempotency_key => 'k3');
SELECT :row FROM reserve_order('key-3', '[{"product_id": "key-a", "quantity": 2},
	{"product_id": "key-b", "quantity": 1}]', idempotency_key => 'k3');
-- names with characters that a row's text form must quote
SELECT receive_stock('key "q", \(x)', 1, '  ');
SELECT order_id, product_id, location, status, replayed
  FROM reserve_stock('key "q", \(x)', 1, E'key\n4', location => '  ', idempotency_key => 'k 4''');
SELECT order_id, product_id, location, status, replayed
  FROM reserve_stock('key "q", \(x)', 1, E'key\n4', location => '  ', idempotency_key => 'k 4''');
-- a returned refusal is stored: new stock changes nothing
SELECT :row FROM try_reserve_stock('key-b', 2, 'key-5', idempotency_key => 'k5');
SELECT receive_stock('key-b', 5);
SELECT :row FROM try_reserve_stock('key-b', 2, 'key-5', idempotency_key => 'k5');
SELECT :row FROM try_reserve_order('key-6', '[{"product_id": "key-b", "quantity": 99},
	{"product_id": "key-a", "quantity": 1}]', idempotency_key => 'k6');
SELECT :row FROM try_reserve_order('key-6', '[{"product_id": "key-b", "quantity": 99},
	{"product_id": "key-a", "quantity": 1}]', idempotency_key => 'k6');
-- the raising form raises it: no caller may take it for a success
SELECT outcome_of($$SELECT reserve_stock('key-b', 2, 'key-5', idempotency_key => 'k5')$$);
-- a raised refusal is not stored
SELECT outcome_of($$SELECT reserve_stock('key-b', 50, 'key-7', idempotency_key => 'k7')$$);
SELECT receive_stock('key-b', 50);
SELECT :row FROM reserve_stock('key-b', 50, 'key-7', idempotency_key => 'k7');
-- and without a key a refusal is not stored either
SELECT status FROM try_reserve_stock('key-b', 50, 'key-8');
SELECT receive_stock('key-b', 50);
SELECT status FROM try_reserve_stock('key-b', 50, 'key-8');
-- a new key for a live reservation of the same order: its replay is stored
SELECT :row FROM reserve_stock('key-b', 50, 'key-8', idempotency_key => 'k8');
SELECT outcome_of($$SELECT reserve_stock('key-b', 51, 'key-8', idempotency_key => 'k9')$$);
-- an invalid key
SELECT outcome_of($$SELECT reserve_stock('key-a', 1, 'key-9', idempotency_key => '')$$);
SELECT outcome_of($$SELECT reserve_stock('key-a', 1, 'key-9', idempotency_key => repeat('k', 256))$$);
-- at least a day
SELECT count(*) AS kept FROM pgstock_internal.idempotency WHERE key ~ '^k';
UPDATE pgstock_internal.idempotency SET created_at = now() - interval '23:59' WHERE key = 'k1';
UPDATE pgstock_internal.idempotency SET created_at = now() - interval '24:01' WHERE key = 'k2';
SELECT pgstock_internal.relay_purge('100 years', '100 years', 1000);
SELECT replayed FROM try_reserve_stock('key-a', 4, 'key-1', 'ann', idempotency_key => 'k1');
SELECT count(*) AS kept FROM pgstock_internal.idempotency WHERE key = 'k2';
SELECT * FROM verify_stock();
