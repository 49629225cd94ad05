/* ---- Flash sales over shards: deleting old rows -------------------------- */

/*
 * In three commits, each durable before the next: the mark that a move has
 * arrived, after which it is not sent again; its arrival; the move itself, so
 * that what a crash leaves is found and deleted again.
 */
CREATE FUNCTION pgstock_shard.sale_old_moves(before timestamptz)
RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role();
	RETURN QUERY
	SELECT jsonb_build_object('target', o.target::int, 'ids', jsonb_agg(o.id))
	  FROM (SELECT m.id, m.move ->> 'target' AS target
			  FROM pgstock_shard.stock_move m
			 WHERE m.arrived_at < least(before, now() - '1 day'::interval)
			 ORDER BY m.arrived_at LIMIT 1000) o
	 GROUP BY o.target HAVING pgstock_shard.fence();
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_old_moves IS
	'returns the ids of up to 1,000 moves, by their targets, that have arrived '
	'before that time, and at least a day ago';
SELECT pgstock_shard.wrap('pgstock_shard.sale_old_moves(timestamptz)'::
	regprocedure);

CREATE FUNCTION pgstock_shard.sale_delete_arrivals(ids uuid[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role(), pgstock_shard.fence();
	DELETE FROM pgstock_shard.stock_arrival a WHERE a.id = ANY (ids);
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_delete_arrivals IS
	'deletes the arrivals of moves that sale_old_moves() has returned in '
	'another shard';
SELECT pgstock_shard.wrap('pgstock_shard.sale_delete_arrivals(uuid[])'::
	regprocedure);

CREATE FUNCTION pgstock_shard.sale_delete_moves(ids uuid[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role();
	DELETE FROM pgstock_shard.stock_move m
	 WHERE m.id = ANY (ids) AND m.arrived_at IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_delete_moves IS
	'deletes moves whose arrivals have been deleted';
SELECT pgstock_shard.wrap('pgstock_shard.sale_delete_moves(uuid[])'::
	regprocedure);

/*
 * As long as pieces can come back, from a sale or by return_stock(), the row of
 * their level shows where they belong.  Each row is looked at once a day.
 * Lines move from "reservation" to the history after a day at least, so the
 * months of the history that are older than needed_at have none of the level;
 * a month more is for sweepers that were stopped.
 */
CREATE FUNCTION pgstock_shard.sale_forget_guests()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before	timestamptz := least(clock_timestamp(),
						pgstock_internal.history_since()) - '1 month'::interval;
	products text[];
	locations text[];
BEGIN
	PERFORM pgstock_shard.part_check_role();
	WITH looked AS (
		UPDATE pgstock_shard.guest_level g SET looked_at = clock_timestamp()
		 WHERE g.ctid = ANY (ARRAY(
			SELECT x.ctid FROM pgstock_shard.guest_level x
			 WHERE x.looked_at < clock_timestamp() - '1 day'::interval
			 LIMIT 1000 FOR UPDATE SKIP LOCKED))
		RETURNING g.product_id, g.location)
	SELECT array_agg(l.product_id), array_agg(l.location)
	  INTO products, locations FROM looked l;
	UPDATE pgstock_shard.guest_level g SET needed_at = clock_timestamp()
	  FROM pgstock_internal.levels_in_use(products, locations) u
	 WHERE g.product_id = u.product_id AND g.location = u.location;
	DELETE FROM pgstock_shard.guest_level g
	 USING unnest(products, locations) k (product_id, location)
	 WHERE g.product_id = k.product_id AND g.location = k.location
	   AND g.needed_at < before;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_forget_guests IS
	'deletes the rows of levels that have been without stock and lines for so '
	'long that no piece of them can come back';
SELECT pgstock_shard.wrap('pgstock_shard.sale_forget_guests()'::regprocedure);
