/* ---- The state of a flash sale ------------------------------------------- */

/*
 * What refuses a purchase for lack of quota, of one snapshot: a gateway answers
 * from it without a call for each request (gateway/api/sold_out.c).  Due lines
 * count as expired, as they do for a purchase.
 *
 * A user who has bought may repeat the purchase, and is answered what was
 * granted then; so the buyers belong to it, as many as a gateway holds.  Each
 * purchase raises the version: while it is the known one, there are no more.
 */
CREATE FUNCTION @extschema@.flash_sale_status(activity_id text,
	known_version bigint DEFAULT NULL)
RETURNS TABLE (product_id text, location text, available bigint, version bigint,
			   per_user_limit bigint, buyers bigint, buyer_hashes text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT s.product_id, s.location,
		   greatest(0, l.on_hand - l.reserved - l.safety + (
				SELECT coalesce(sum(r.quantity), 0)
				  FROM pgstock_internal.reservation r
				 WHERE r.product_id = s.product_id AND r.location = s.location
				   AND r.due_at <= statement_timestamp() AND r.slot = s.slot
				   AND r.state = 'r'))::bigint,
		   l.version, s.per_user_limit, b.buyers, b.hashes
	  FROM pgstock_internal.sale s
	  JOIN pgstock_internal.level l
		ON l.product_id = s.product_id AND l.location = s.location
	   AND l.slot = s.slot
	  LEFT JOIN LATERAL (
		   SELECT count(*) AS buyers,
				  string_agg(u.hash, '' ORDER BY u.hash COLLATE "C") AS hashes
			 FROM (SELECT encode(substring(sha256(convert_to(o.user_id,
							'UTF8')) FOR 8), 'hex') AS hash
					 FROM (SELECT DISTINCT a.user_id
							 FROM pgstock_internal.sale_order a
							WHERE a.activity_id = s.activity_id
							LIMIT 50001) o) u
		   /* where it is false, no user is read: in ON, all would be */
		   HAVING l.version IS DISTINCT FROM flash_sale_status.known_version
		   ) b ON true
	 WHERE s.activity_id = flash_sale_status.activity_id
	   AND s.closed_at IS NULL AND s.starts_at <= statement_timestamp()
	   AND coalesce(s.ends_at > statement_timestamp(), true);
END
$$;
COMMENT ON FUNCTION @extschema@.flash_sale_status IS
	'returns what is left of a flash sale that is open, and the version of its '
	'quota; unless that is the known one, also how many users have bought (at '
	'most 50001 are counted) and the first 8 bytes of the SHA-256 of each, in '
	'hex; no row if the sale is not open';
