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
