--
-- input: an invalid argument is a clear error and changes nothing
--
\pset format unaligned
\pset tuples_only on
SELECT receive_stock('input-a', 10);
SELECT status FROM reserve_stock('input-a', 1, 'input-1');
CREATE FUNCTION items(item text) RETURNS text LANGUAGE sql AS $$
SELECT outcome_of(format('SELECT reserve_order(%L, %L)', 'input-2', item))
$$;
-- quantities
SELECT q, outcome_of(format('SELECT receive_stock(%L, %s)', 'input-a', q)),
	   outcome_of(format('SELECT reserve_stock(%L, %s, %L)', 'input-a', q, 'input-2'))
  FROM unnest('{0,-1,9007199254740993,9223372036854775807,-9223372036854775808,"NULL"}'::text[]) q;
SELECT q, outcome_of(format('SELECT reserve_stock(%L, %s, %L)', 'input-a', q, 'input-2'))
  FROM unnest('{9223372036854775808,1.5,"''1.5''","''NaN''","''NaN''::float8::bigint","''two''","''''"}'::text[]) q;
-- ids: empty, too long by bytes, none; 255 bytes are fine
SELECT outcome_of($$SELECT receive_stock('', 1)$$);
SELECT outcome_of($$SELECT receive_stock(NULL, 1)$$);
SELECT outcome_of($$SELECT receive_stock(repeat('é', 128), 1)$$);
SELECT outcome_of($$SELECT receive_stock('input-a', 1, '')$$);
SELECT outcome_of($$SELECT receive_stock('input-a', 1, repeat('l', 256))$$);
SELECT outcome_of($$SELECT reserve_stock('', 1, 'input-2')$$);
SELECT outcome_of($$SELECT reserve_stock('input-a', 1, '')$$);
SELECT outcome_of($$SELECT reserve_stock('input-a', 1, NULL)$$);
SELECT outcome_of($$SELECT reserve_stock('input-a', 1, repeat('o', 256))$$);
SELECT outcome_of($$SELECT reserve_stock('input-a', 1, 'input-2', '')$$);
SELECT outcome_of($$SELECT reserve_stock('input-a', 1, 'input-2', repeat('u', 256))$$);
SELECT outcome_of($$SELECT reserve_order('', '[{"product_id": "input-a", "quantity": 1}]')$$);
SELECT outcome_of($$SELECT reserve_order(NULL, '[{"product_id": "input-a", "quantity": 1}]')$$);
SELECT outcome_of($$SELECT reserve_order('input-2', NULL)$$);
SELECT outcome_of($$SELECT confirm_stock('')$$), outcome_of($$SELECT confirm_stock(NULL)$$);
SELECT outcome_of($$SELECT confirm_stock('input-1', '')$$);
SELECT outcome_of($$SELECT confirm_stock('input-1', repeat('p', 256))$$);
SELECT outcome_of($$SELECT release_stock('')$$), outcome_of($$SELECT rollback_stock(NULL)$$);
SELECT outcome_of($$SELECT receive_stock(repeat('p', 255), 1, repeat('l', 255))$$),
	   outcome_of($$SELECT reserve_stock(repeat('p', 255), 1, repeat('o', 255), repeat('u', 255), repeat('l', 255))$$);
-- items: shapes
SELECT items(i) FROM unnest(ARRAY['', '{', 'null', '"x"', '1', '{}', '[]', '[1]', '[[]]', '["x"]', '[null]',
	'[{"product_id": "input-a", "quantity": 1}, 7]', NULL]) i;
-- items: ids
SELECT items(format('[{"product_id": %s, "quantity": 1}]', i))
  FROM unnest(ARRAY['null', '""', 'true', '{}', '[]', to_jsonb(repeat('x', 256))::text, '1e300', '"\u0000"']) i;
SELECT items('[{"quantity": 1}]'), items('[{"productid": "input-a", "quantity": 1}]');
SELECT items(format('[{"product_id": "input-a", "quantity": 1, "location": %s}]', i))
  FROM unnest(ARRAY['""', 'false', '[]', to_jsonb(repeat('x', 256))::text]) i;
-- items: quantities
SELECT items(format('[{"product_id": "input-a", "quantity": %s}]', q))
  FROM unnest(ARRAY['0', '-1', '-0', '1.5', '3.0', '"3"', 'null', 'true', '[1]', '{}', 'NaN', '1e400',
	'9007199254740993', '-9007199254740993', '99999999999999999999']) q;
SELECT items('[{"product_id": "input-a"}]'), items('[{"product_id": "input-a", "qty": 1}]');
-- two lines that together are too much
SELECT items('[{"product_id": "input-a", "quantity": 9007199254740992}, {"product_id": "input-a", "quantity": 1}]');
-- which item is wrong
SELECT items('[{"product_id": "input-a", "quantity": 1}, {"product_id": "input-a", "quantity": 0}]');
-- settings
SET pgstock.max_lines = 0;
-- (the range of one with a unit is worded by the server's version)
\set VERBOSITY sqlstate
SET pgstock.reservation_ttl = -1;
\set VERBOSITY default
SET pgstock.nothing = 1;
-- only the valid calls have changed anything
SELECT level_of('input-a'), lines_of('input-1'), lines_of('input-2'), events_of('input-1'), events_of('input-2');
SELECT * FROM verify_stock();
DROP FUNCTION items;
