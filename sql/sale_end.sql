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

CREATE FUNCTION pgstock_internal.due_sales()
RETURNS TABLE (activity_id text, ends_at timestamptz)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.activity_id, s.ends_at
  FROM pgstock_internal.sale s
 WHERE s.closed_at IS NULL AND s.ends_at IS NOT NULL
   AND s.ends_at <= clock_timestamp()
$$;
COMMENT ON FUNCTION pgstock_internal.due_sales IS
	'returns the flash sales that are open and past ends_at';

/*
 * Ends one sale at most, so that its transaction holds the locks of one product
 * only.  A sale that another session holds, or that fails, is passed over; its
 * lock is released with the subtransaction.  The others are tried in random
 * order behind the first one, so that no number of such sales keeps the rest
 * open.  A failure stays on record until no sale is left that may have caused
 * it.
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
		SELECT s.activity_id
		  FROM (SELECT d.activity_id, row_number() OVER (
					   ORDER BY d.ends_at, d.activity_id) AS nth
				  FROM pgstock_internal.due_sales() d) s
		 ORDER BY CASE WHEN s.nth > 1 THEN random() ELSE -1 END LIMIT 4
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
	IF NOT failed
	   AND NOT EXISTS (SELECT FROM pgstock_internal.due_sales()) THEN
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
