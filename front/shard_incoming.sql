/* ---- What a message needs to know of an order ---------------------------- */

/* If an answer rests on these lines, their commits must be flushed first. */
DO $do$
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.order_lines(order_id text, fenced boolean)
RETURNS TABLE (product_id text, location text, quantity bigint, state text,
	user_id text, payment_id text, expires_at timestamptz, available bigint,
	version bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $body$
SELECT DISTINCT ON (r.product_id, r.location) r.product_id, r.location,
	   r.quantity,
	   CASE WHEN r.state = 'reserved' AND r.expires_at <= clock_timestamp()
			THEN 'expired' ELSE r.state END,
	   r.user_id, r.payment_id, r.expires_at, l.available, l.version
  FROM %1$I.stock_reservations r
  JOIN %1$I.stock_levels l
	ON l.product_id = r.product_id AND l.location = r.location
 WHERE r.order_id = order_lines.order_id
   AND (NOT fenced OR pgstock_shard.fence())
 ORDER BY r.product_id, r.location, r.created_at DESC
$body$
$f$, (SELECT extnamespace::regnamespace FROM pg_extension
	   WHERE extname = 'pgstock'));
END
$do$;
COMMENT ON FUNCTION pgstock_shard.order_lines(text, boolean) IS
	'returns the latest line of each product of an order, in its current '
	'state; fenced: once it is durable';
SELECT pgstock_shard.wrap('pgstock_shard.order_lines(text,boolean)'::
	regprocedure);
