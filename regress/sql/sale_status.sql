-- what is left of an open sale, and who has bought in it
CREATE FUNCTION status_of(sale text, known bigint = NULL) RETURNS text LANGUAGE sql AS $$
SELECT format('%s at %s: %s left, limit %s, version %s; %s buyers %s', product_id, location, available, per_user_limit, version, buyers, buyer_hashes) FROM flash_sale_status(sale, known)
$$;
SELECT receive_stock('status-a', 9), open_flash_sale('status', 'status-a', 3, 2);
SELECT status_of('status'), status_of('status', 1), status_of('none');
SELECT status FROM purchase_flash_sale('status', 'ann', 'status-1');
SELECT status FROM purchase_flash_sale('status', 'ann', 'status-2');
SELECT status FROM purchase_flash_sale('status', 'Ω', 'status-3');
-- a hash is the begin of SHA-256, each user's once, in order
SELECT buyer_hashes = (SELECT string_agg(left(encode(sha256(convert_to(u, 'UTF8')), 'hex'), 16), '' ORDER BY left(encode(sha256(convert_to(u, 'UTF8')), 'hex'), 16) COLLATE "C") FROM unnest('{ann,Ω}'::text[]) u) AS same,
	   buyers, available FROM flash_sale_status('status');
-- each change is another version
SELECT version AS known FROM flash_sale_status('status') \gset
SELECT status_of('status', :known);
SELECT status FROM release_stock('status-1');
SELECT buyers, available, version > :known AS later FROM flash_sale_status('status', :known);
-- what is due counts as expired, but not what is due outside the sale
SELECT granted FROM reserve_stock('status-a', 1, 'status-4');
SELECT make_due('status-3'), make_due('status-4');
SELECT buyers, available FROM flash_sale_status('status');
SELECT status, available FROM purchase_flash_sale('status', 'bob', 'status-5', 2);
SELECT buyers, available FROM flash_sale_status('status');
-- lines that are not due are not read, however many there are
SELECT receive_stock('status-b', 300);
SELECT count(*) FROM reserve_orders((SELECT jsonb_agg(jsonb_build_object('order_id', 'status-n' || i, 'items', jsonb_build_array(jsonb_build_object('product_id', 'status-b', 'quantity', 1)))) FROM generate_series(1, 200) i));
SELECT open_flash_sale('status-many', 'status-b', 1);
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT seq_tup_read + idx_tup_fetch AS before FROM pg_stat_xact_user_tables WHERE relid = 'pgstock_internal.reservation'::regclass \gset
SELECT available FROM flash_sale_status('status-many');
SELECT seq_tup_read + idx_tup_fetch - :before AS read FROM pg_stat_xact_user_tables WHERE relid = 'pgstock_internal.reservation'::regclass;
COMMIT;
-- nor the buyers, where their version is the known one
SELECT count(*) FROM generate_series(1, 2) i, purchase_flash_sale('status-many', 'user', 'status-m' || i);
SELECT version AS known FROM flash_sale_status('status-many') \gset
BEGIN;
SELECT seq_tup_read + idx_tup_fetch AS before FROM pg_stat_xact_user_tables WHERE relid = 'pgstock_internal.sale_order'::regclass \gset
SELECT buyers, buyer_hashes FROM flash_sale_status('status-many', :known);
SELECT seq_tup_read + idx_tup_fetch - :before AS read FROM pg_stat_xact_user_tables WHERE relid = 'pgstock_internal.sale_order'::regclass;
SELECT buyers FROM flash_sale_status('status-many', :known - 1);
SELECT seq_tup_read + idx_tup_fetch > :before AS read FROM pg_stat_xact_user_tables WHERE relid = 'pgstock_internal.sale_order'::regclass;
COMMIT;
SELECT close_flash_sale('status-many');
-- only while it is open
SELECT open_flash_sale('status-later', 'status-a', 1, starts_at => now() + '1 h'), open_flash_sale('status-past', 'status-a', 1, starts_at => now() - '2 h'::interval, ends_at => now() - '1 h'::interval);
SELECT status_of('status-later'), status_of('status-past');
SELECT count(close_flash_sale(s)) FROM unnest('{status,status-later,status-past}'::text[]) s;
SELECT status_of('status');
SELECT * FROM verify_stock();
DROP FUNCTION status_of;
