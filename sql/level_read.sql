/* ---- What the level stream's topic has: docs/relay-protocol.md ---------- */

/*
 * The topic as Kafka has it, read by the relay that leads.  A record that is
 * the latest of its key is compared with the level as it is now.  If they are
 * the same, each later change of the level has a mark; if not, the difference
 * stays until a record of the key is read or written that follows, and is read
 * in turn, or until the level is written again for it.  So once all is written
 * and read, the latest record of each key is the level, whatever came between.
 * That ends, because the record of a level that no longer changes is the same.
 *
 * Records of another database are ignored, because two databases would correct
 * each other's without end.  So are those of no database, if there is no such
 * level: it may be the other one's.
 *
 * Offsets and differences are one commit, which need not be durable: if it is
 * lost, the records are read again.
 */
CREATE FUNCTION pgstock_internal.relay_levels_read(topic text,
	partitions int[], offsets bigint[], keys bytea[], "values" bytea[],
	incarnations bytea[], behind boolean)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off
	SET enable_mergejoin = off
AS $$
DECLARE
	n			bigint;
	own			bytea;
	products	text[];
	locations	text[];
	latest		bytea[];
	ours		boolean[];
BEGIN
	PERFORM set_config('synchronous_commit', 'off', true);
	SELECT convert_to(s.incarnation::text, 'UTF8') INTO own
	  FROM pgstock_internal.level_stream s WHERE s.topic = $1;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	SELECT array_agg(k.product_id), array_agg(k.location), array_agg(r.value),
		   array_agg(r.incarnation IS NOT NULL)
	  INTO products, locations, latest, ours
	  FROM (SELECT DISTINCT ON (u.key) u.key, u.value, u.incarnation
			  FROM unnest(keys, "values", incarnations)
				   WITH ORDINALITY u (key, value, incarnation, n)
			 WHERE u.key IS NOT NULL
			 ORDER BY u.key, u.n DESC) r,
		   pgstock_internal.level_of_key(r.key) k
	 WHERE k.product_id IS NOT NULL
	   AND (r.incarnation IS NULL OR r.incarnation = own);
	DELETE FROM pgstock_internal.level_difference d
	 USING unnest(products, locations) l (product_id, location)
	 WHERE d.product_id = l.product_id AND d.location = l.location;
	INSERT INTO pgstock_internal.level_difference (product_id, location)
	SELECT l.product_id, l.location
	  FROM ROWS FROM (unnest(latest, ours),
					  pgstock_internal.level_values(products, locations)
					 ) l (found, ours, product_id, location, value)
	 WHERE (l.ours OR l.value IS NOT NULL)
	   AND ((l.found IS NULL) <> (l.value IS NULL)
			OR substr(l.found, 1, octet_length(convert_to(l.value, 'UTF8')))
			   <> convert_to(l.value, 'UTF8'))
	ON CONFLICT ON CONSTRAINT level_difference_pkey
	DO UPDATE SET found_at = excluded.found_at;
	GET DIAGNOSTICS n = ROW_COUNT;
	INSERT INTO pgstock_internal.level_read AS o ("partition", next_offset)
	SELECT p."partition", max(p."offset") + 1
	  FROM unnest(partitions, offsets) p ("partition", "offset")
	 GROUP BY 1 ORDER BY 1
	ON CONFLICT ("partition") DO UPDATE SET next_offset = excluded.next_offset;
	UPDATE pgstock_internal.level_read SET behind_at = clock_timestamp()
	 WHERE behind;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_levels_read IS
	'compares records of the level stream''s topic with the levels, and sets '
	'aside the levels that differ from their latest record; returns their '
	'number; behind: more records are left';

CREATE FUNCTION pgstock_internal.relay_level_offsets()
RETURNS TABLE ("partition" int, next_offset bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT r."partition", r.next_offset FROM pgstock_internal.level_read r
$$;
COMMENT ON FUNCTION pgstock_internal.relay_level_offsets IS
	'returns where each partition of the level stream''s topic is to be read '
	'on; one that is missing, from its first record';
