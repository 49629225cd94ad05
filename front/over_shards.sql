/* ---- Calls of an order that has lines in several shards ------------------ */

/* The functions that they call are in saga.sql and saga_step.sql. */
CREATE FUNCTION pgstock_front.over_shards_list()
RETURNS TABLE (name text, statement text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $list$
SELECT c.name, CASE WHEN c.call LIKE 'saga\_order(%'
	THEN format('FOREACH row_text IN ARRAY pgstock_front.%s LOOP RETURN NEXT '
				'row_text::pgstock_front.stock_result; END LOOP', c.call)
	ELSE format('RETURN QUERY SELECT * FROM pgstock_front.%s', c.call) END
  FROM (VALUES
	('reserve_order', 'saga_order($1, $2, $3, $4, $5, $6, true, shards)'),
	('try_reserve_order', 'saga_order($1, $2, $3, $4, $5, $6, false, shards)'),
	('extend_reservation', $$saga_call('extend', $1, jsonb_build_object(
				'ttl', $2, 'idempotency_key', $3), NULL, shards)$$),
	('confirm_stock', $$saga_call('confirm', $1, jsonb_build_object(
				'payment_id', $2, 'idempotency_key', $3), NULL, shards)$$),
	('release_stock', $$saga_call('release', $1, jsonb_build_object(
				'reason', $2, 'idempotency_key', $4), $3, shards)$$),
	('rollback_stock', $$saga_call('rollback', $1, jsonb_build_object(
				'reason', $2, 'idempotency_key', $4), $3, shards)$$),
	('return_stock', $$saga_call('return', $1, jsonb_build_object('restock',
				coalesce($3, true), 'idempotency_key', $4), $2, shards)$$)
	) c (name, call)
$list$;
COMMENT ON FUNCTION pgstock_front.over_shards_list IS
	'returns the functions for one order, and the statement of each for an '
	'order that has lines in several shards';

/*
 * The errors are those of the coordinator.  Unlike those of a call of shards
 * (functions.sql), connection_exception is not among them: the saga raises it
 * for a shard that did not answer, with its own detail and hint.  Nor is
 * undefined_function, whose hint would name a function of a shard.
 */
CREATE FUNCTION pgstock_front.over_shards_statements(name text)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $make$
SELECT format($f$	IF cardinality(shards) > 1 THEN
		BEGIN
			%s;
			RETURN;
		EXCEPTION WHEN internal_error OR admin_shutdown OR crash_shutdown
			OR cannot_connect_now THEN
			PERFORM pgstock_front.call_failed(%L, SQLSTATE, SQLERRM);
		END;
	END IF;
$f$, c.statement, c.name)
  FROM pgstock_front.over_shards_list() c
 WHERE c.name = over_shards_statements.name
$make$;
COMMENT ON FUNCTION pgstock_front.over_shards_statements IS
	'returns the statements of a public function for an order that has lines '
	'in several shards; NULL: the function has none';
