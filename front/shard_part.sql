/* ---- An order's part in this shard --------------------------------------- */

/*
 * An order whose lines are in several shards has a part in each.  The shard
 * receives the numbered steps of its saga (front/saga_table.sql).  Each takes
 * effect once, however often it arrives; a step that arrives after a newer one
 * is rejected, because the session that sent it may have ended long ago.  The
 * row is written in the step's own transaction.
 */
CREATE TABLE pgstock_shard.order_part
(
	order_id	text COLLATE "C" NOT NULL,
	held		bigint,
	saga		bigint NOT NULL,
	step		int NOT NULL,
	verb		text NOT NULL,
	shards		int[] NOT NULL,
	answer		pgstock_shard.answer,
	changed_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT order_part_pkey PRIMARY KEY (order_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE pgstock_shard.order_part IS
	'orders over several shards: the shards of each, the latest step that this '
	'shard has taken, and its answer';
COMMENT ON COLUMN pgstock_shard.order_part.held IS
	'the latest saga to which lines here have belonged; NULL: none, so lines '
	'that the order has here belong to another request';
/* a step changes no column of an index */
CREATE INDEX order_part_saga ON pgstock_shard.order_part (saga);
SELECT pg_extension_config_dump('pgstock_shard.order_part', '');

/*
 * The functions that use the table have its owner's rights; so has a step
 * (shard_part_row.c).  Only a front may call them.
 */
CREATE FUNCTION pgstock_shard.part_check_role()
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front'
		AND NOT (SELECT r.rolsuper FROM pg_roles r
				  WHERE r.rolname = session_user) THEN
		RAISE EXCEPTION 'permission denied for orders over shards'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Call the functions of the front.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_check_role IS
	'raises 42501 in a session that is not a front''s';

/* What another database records as done must not be lost here. */
CREATE FUNCTION pgstock_shard.be_durable()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
	setting	text := current_setting('synchronous_commit');
BEGIN
	IF setting IN ('off', 'local') THEN
		setting := set_config('synchronous_commit', 'on', true);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_shard.be_durable IS
	'makes the caller''s commit wait for its flush and for the standbys, '
	'whatever synchronous_commit the role has; returns true';

/*
 * If a client relies on what was read here, that must be flushed first.  A
 * transaction id alone does not make a commit wait for its flush: the
 * transaction must have written to the WAL.
 */
CREATE FUNCTION pgstock_shard.fence()
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	PERFORM pgstock_shard.be_durable();
	RETURN pg_logical_emit_message(true, 'pgstock_shard', '') IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.fence IS
	'makes the caller''s commit flush what its transaction has read; returns '
	'true';

/*
 * Two checks of a row of a coordinator that was restored from a backup.  A step
 * that settles an order is sent only after all shards have kept it, and none is
 * sent before all shards have taken the previous one.
 */
CREATE FUNCTION pgstock_shard.part_kept(order_id text, saga bigint, step int)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pgstock_shard.order_part o
				WHERE o.order_id = $1 AND (o.saga, o.step) >= ($2, $3)
				  AND o.verb NOT IN ('hold', 'undo')
				  AND (o.verb <> 'keep' OR (o.answer).error IS NULL)
				  AND pgstock_shard.fence())
$$;
COMMENT ON FUNCTION pgstock_shard.part_kept IS
	'returns whether this shard has kept its part of a saga, and not undone it';
SELECT pgstock_shard.wrap('pgstock_shard.part_kept(text,bigint,int)'::
	regprocedure);

CREATE FUNCTION pgstock_shard.part_past(order_id text, saga bigint, step int)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pgstock_shard.order_part o
				WHERE o.order_id = $1 AND (o.saga, o.step) > ($2, $3)
				  AND pgstock_shard.fence())
$$;
COMMENT ON FUNCTION pgstock_shard.part_past IS
	'returns whether this shard has taken a later step than this one';
SELECT pgstock_shard.wrap('pgstock_shard.part_past(text,bigint,int)'::
	regprocedure);

CREATE FUNCTION pgstock_shard.part_place(order_id text)
RETURNS pgstock_shard.order_place
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	RETURN (SELECT (o.saga, NULL, o.shards)::pgstock_shard.order_place
			  FROM pgstock_shard.order_part o WHERE o.order_id = $1);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_place IS
	'returns saga and shards of an order over shards';

/* A call with a key that is known is a repetition. */
CREATE FUNCTION pgstock_shard.part_key(key text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	RETURN pgstock_internal.key_is_known(key);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_key IS
	'returns whether an idempotency key was used in this shard';
SELECT pgstock_shard.wrap('pgstock_shard.part_key(text)'::regprocedure);

CREATE FUNCTION pgstock_shard.part_purge(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	DELETE FROM pgstock_shard.order_part o
	 WHERE o.order_id IN (
		SELECT d.order_id FROM pgstock_shard.order_part d
		 WHERE d.saga < (extract(epoch FROM before) * 1000000)::bigint
		   AND d.changed_at < least(before, now() - '1 day'::interval)
		 LIMIT 10000);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_purge IS
	'deletes up to 10,000 parts of orders whose last step was before that '
	'time, and at least a day ago';
SELECT pgstock_shard.wrap('pgstock_shard.part_purge(timestamptz)'::
	regprocedure);

/* The schema of pgstock is known only here. */
DO $do$
DECLARE
	pgstock text := (SELECT extnamespace::regnamespace FROM pg_extension
					  WHERE extname = 'pgstock');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.part_look(order_id text)
RETURNS TABLE (product_id text, location text, quantity bigint, state text,
	expires_at timestamptz, available bigint, version bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $body$
SELECT DISTINCT ON (r.product_id, r.location) r.product_id, r.location,
	   r.quantity,
	   CASE WHEN r.state = 'reserved' AND r.expires_at <= clock_timestamp()
			THEN 'expired' ELSE r.state END,
	   r.expires_at, l.available, l.version
  FROM %1$s.stock_reservations r
  JOIN %1$s.stock_levels l
	ON l.product_id = r.product_id AND l.location = r.location
 WHERE r.order_id = part_look.order_id
   AND pgstock_shard.fence()
 ORDER BY r.product_id, r.location, r.created_at DESC
$body$
$f$, pgstock);
END
$do$;
COMMENT ON FUNCTION pgstock_shard.part_look IS
	'returns the latest line of each product of an order, in its current state';
SELECT pgstock_shard.wrap('pgstock_shard.part_look(text)'::regprocedure);

/* A step: shard_part.c. */
CREATE TYPE pgstock_shard.part_step_call AS
(
	shards		int[],
	parts		jsonb[],
	role		text,
	trace		text,
	actor		text,
	order_id	text,
	saga		bigint,
	step		int,
	order_shards int[],
	verb		text,
	args		jsonb
);
COMMENT ON TYPE pgstock_shard.part_step_call IS
	'a step of an order over shards, as a front sends it; parts[1]: the lines '
	'that it applies to, null: all';

CREATE FUNCTION pgstock_shard.part_step_call(call text)
RETURNS pgstock_shard.answer
AS 'MODULE_PATHNAME', 'pgstock_shard_part_step_call' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_shard.part_step_call IS
	'takes a step of an order over shards in this shard, once; its argument is '
	'a row of the type of the same name, as text';
