/* ---- Flash sales that end by themselves ---------------------------------- */

CREATE FUNCTION pgstock_internal.end_sale(activity_id text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_end_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.end_sale IS
	'ends a flash sale that is open and past ends_at; returns whether it has';

CREATE FUNCTION pgstock_internal.until_sale_end()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(greatest(0, least(60000000, 1000000 *
		extract(epoch FROM min(s.ends_at) - clock_timestamp()))),
		60000000)::bigint
  FROM pgstock_internal.sale s
 WHERE s.closed_at IS NULL AND s.ends_at IS NOT NULL
$$;
COMMENT ON FUNCTION pgstock_internal.until_sale_end IS
	'returns the microseconds until the next flash sale ends, at most 60 s';

/*
 * Ends one sale at most, so that its transaction holds the locks of one product
 * only.  A sale that another session holds is passed over, so that it does not
 * keep others open; its lock is released with the subtransaction.
 */
CREATE FUNCTION pgstock_internal.end_sales()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '50ms'
AS $$
DECLARE
	sale	text;
	ended	boolean := false;
	failed	boolean := false;
BEGIN
	FOR sale IN
		SELECT s.activity_id FROM pgstock_internal.sale s
		 WHERE s.closed_at IS NULL AND s.ends_at IS NOT NULL
		   AND s.ends_at <= clock_timestamp()
		 ORDER BY s.ends_at LIMIT 4
	LOOP
		BEGIN
			ended := pgstock_internal.end_sale(sale);
			/* Again: what it found may have been restored since then. */
			PERFORM pgstock_internal.raise_foreign(
				pgstock_internal.incomplete_because());
		EXCEPTION
			WHEN SQLSTATE 'SK020' THEN
				RETURN 10000000;
			WHEN OTHERS THEN
				PERFORM pgstock_internal.upkeep_failed('sales', SQLSTATE,
													   SQLERRM);
				failed := true;
		END;
		EXIT WHEN ended;
	END LOOP;
	IF NOT failed THEN
		PERFORM pgstock_internal.upkeep_worked('sales');
	END IF;
	IF ended THEN
		RETURN 0;
	END IF;
	RETURN coalesce(nullif(pgstock_internal.until_sale_end(), 0), 1000000);
END
$$;
COMMENT ON FUNCTION pgstock_internal.end_sales IS
	'ends a flash sale that is past ends_at; returns the microseconds until '
	'the next call, 0 if it has ended one';
