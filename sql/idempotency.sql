/* ---- Idempotency keys ---------------------------------------------------- */

CREATE FUNCTION pgstock_internal.key_is_known(key text)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM pgstock_internal.idempotency i
					WHERE i.key = $1);
END
$$;
COMMENT ON FUNCTION pgstock_internal.key_is_known IS
	'returns whether a call with this explicit key has its result stored';

CREATE FUNCTION pgstock_internal.purge_keys(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.idempotency k
	 WHERE k.key = ANY (ARRAY(
		SELECT o.key FROM pgstock_internal.idempotency o
		 WHERE o.created_at < clock_timestamp() - interval '24 hours'
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_keys IS
	'deletes idempotency keys older than 24 hours, at most max_rows of them; '
	'returns their number';
