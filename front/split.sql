/* ---- From one database to several shards --------------------------------- */

CREATE FUNCTION pgstock_shard.check_books(moment text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pgstock_internal.verify(NULL)) THEN
		RAISE EXCEPTION 'verify_stock() finds differences %', moment
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'Nothing was changed.',
				  HINT = 'Find their cause first; repair_stock() sets the '
						 'levels of a product to the sums of its ledger.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.check_books IS
	'raises 55000 if verify_stock() finds a difference';

/*
 * In a shard that is a copy of the original database (pg_dump, pg_restore), all
 * products of other shards are deleted.  A level, its ledger and its lines have
 * the same key, so verify_stock() finds no difference before and after.
 * Idempotency keys are kept in all shards: a repeated call is recognized in
 * each of them.
 */
CREATE FUNCTION pgstock_shard.keep_own()
RETURNS TABLE (relation text, deleted bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	shard	int := pgstock_shard.own_number();
	shards	int := pgstock_shard.shard_count();
	line_key text := (pgstock_shard.own_key())[1];
BEGIN
	IF shard IS NULL OR line_key IS NULL THEN
		RAISE EXCEPTION 'this database has no shard number or no key'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Run pgstock-shards create first.';
	END IF;
	PERFORM pgstock_shard.check_books('before the split');
	FOR relation IN
		SELECT c.oid::regclass::text
		  FROM pg_class c
		 WHERE c.relnamespace = 'pgstock_internal'::regnamespace
		   AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		   AND (SELECT count(*) FROM pg_attribute a
				 WHERE a.attrelid = c.oid AND NOT a.attisdropped
				   AND a.attname IN ('product_id', 'location')) = 2
		 ORDER BY 1
	LOOP
		EXECUTE format('DELETE FROM %s WHERE pgstock_shard.shard_of((%s)::text,'
					   ' $1) IS DISTINCT FROM $2', relation, line_key)
		  USING shards, shard;
		GET DIAGNOSTICS deleted = ROW_COUNT;
		RETURN NEXT;
	END LOOP;
	PERFORM pgstock_shard.check_books('after the split');
END
$$;
COMMENT ON FUNCTION pgstock_shard.keep_own IS
	'deletes the products of other shards, in a shard that is a copy of the '
	'original database, by the key that set_shard has set';
REVOKE ALL ON FUNCTION pgstock_shard.check_books, pgstock_shard.keep_own
  FROM PUBLIC;
