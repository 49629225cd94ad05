/* ---- Pieces of flash sales, moved to another database -------------------- */

CREATE FUNCTION pgstock_internal.move_out(activity_id text, product_id text,
	location text, reason text, reference text, wanted bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_move_out' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.move_out IS
	'takes at most the wanted pieces out of an open flash sale, or (NULL) out '
	'of ordinary stock, for another database; returns how many it has taken';

CREATE FUNCTION pgstock_internal.move_in(activity_id text, product_id text,
	location text, reason text, reference text, quantity bigint,
	per_user_limit bigint, starts_at timestamptz, ends_at timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_move_in' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.move_in IS
	'adds pieces from another database to a flash sale, which it opens if it '
	'is unknown here, or to ordinary stock if the sale has closed or is NULL; '
	'returns whether the sale has them';

/* ---- What another database needs to know of them ---- */

/* NULL in all columns: the sale is unknown. */
CREATE FUNCTION pgstock_internal.sale_terms(activity_id text,
	OUT product_id text, OUT location text, OUT quantity bigint,
	OUT terms jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT s.product_id, s.location, s.quantity,
		   jsonb_build_object('per_user_limit', s.per_user_limit,
							  'starts_at', s.starts_at, 'ends_at', s.ends_at)
	  INTO product_id, location, quantity, terms
	  FROM pgstock_internal.sale s WHERE s.activity_id = $1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.sale_terms IS
	'returns the product and the quota of a flash sale, and the terms by which '
	'move_in() opens it in another database';

/*
 * Due lines count as expired, as they do for a purchase.  The caller's snapshot
 * is used: it reads its own rows of the sale in the same statement.
 */
CREATE FUNCTION pgstock_internal.sale_rest(activity_id text,
	OUT is_known boolean, OUT is_open boolean, OUT free bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT s.closed_at IS NULL,
		   greatest(0, coalesce(l.on_hand - l.reserved, 0) + (
				SELECT coalesce(sum(r.quantity), 0)
				  FROM pgstock_internal.reservation r
				 WHERE r.product_id = s.product_id AND r.location = s.location
				   AND r.slot = s.slot AND r.state = 'r'
				   AND r.due_at <= statement_timestamp()))
	  INTO is_open, free
	  FROM pgstock_internal.sale s
	  LEFT JOIN pgstock_internal.level l
		ON l.product_id = s.product_id AND l.location = s.location
	   AND l.slot = s.slot AND s.closed_at IS NULL
	 WHERE s.activity_id = $1;
	is_known := FOUND;
	is_open := coalesce(is_open, false);
	free := coalesce(free, 0);
END
$$;
COMMENT ON FUNCTION pgstock_internal.sale_rest IS
	'returns whether a flash sale is known and open here, and how many pieces '
	'of its quota are free';

CREATE FUNCTION pgstock_internal.unreserved(products text[], locations text[])
RETURNS TABLE (product_id text, location text, free bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT l.product_id, l.location, sum(l.on_hand - l.reserved)::bigint
	  FROM unnest(products, locations) k (product_id, location)
	  JOIN pgstock_internal.level l
		ON l.product_id = k.product_id AND l.location = k.location
	 WHERE l.slot >= 0
	 GROUP BY 1, 2 HAVING sum(l.on_hand - l.reserved) > 0;
END
$$;
COMMENT ON FUNCTION pgstock_internal.unreserved IS
	'returns which of these levels have pieces of ordinary stock that are not '
	'reserved, also those of the safety stock';

/* A line that has ended may be returned, as long as it is kept. */
CREATE FUNCTION pgstock_internal.levels_in_use(products text[],
	locations text[])
RETURNS TABLE (product_id text, location text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT k.product_id, k.location
	  FROM unnest(products, locations) k (product_id, location)
	 WHERE EXISTS (SELECT FROM pgstock_internal.level l
					WHERE l.product_id = k.product_id
					  AND l.location = k.location
					  AND (l.on_hand <> 0 OR l.reserved <> 0))
		OR EXISTS (SELECT FROM pgstock_internal.reservation r
					WHERE r.product_id = k.product_id
					  AND r.location = k.location);
END
$$;
COMMENT ON FUNCTION pgstock_internal.levels_in_use IS
	'returns which of these levels have stock, or lines in "reservation"';
