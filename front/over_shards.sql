/* ---- Orders over several shards ------------------------------------------ */

/*
 * Until an order is one promise over several shards, it is refused: each of
 * them would reserve its part alone.
 */
CREATE FUNCTION pgstock_front.whole(order_id text, items jsonb)
RETURNS int[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards	int[] := pgstock_front.items($2);
BEGIN
	IF cardinality(shards) > 1 THEN
		RAISE EXCEPTION 'order "%" has lines in more than one shard', $1
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = format('Its lines are in the shards %s.',
								  array_to_string(shards, ', ')),
				  HINT = 'Choose a key that no order crosses.';
	END IF;
	RETURN shards;
END
$$;
COMMENT ON FUNCTION pgstock_front.whole IS
	'returns the shard of all lines of an order; 0A000 if there are several';
