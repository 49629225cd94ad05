/* ---- The functions of a shard that a front calls ------------------------- */

\echo Use "CREATE EXTENSION pgstock_shard" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * One function for each public function of pgstock.  A front connects as the
 * role pgstock_front, and each call switches to the role that called the front:
 * that role may do here what grant_stock_access has granted to it, and nothing
 * else.  None of these functions runs with its owner's rights.  An error is
 * returned, because PL/Proxy drops a connection on which one is raised.
 */
CREATE TYPE pgstock_shard.failure AS
(
	sqlstate	text,
	message		text,
	detail		text,
	hint		text
);
COMMENT ON TYPE pgstock_shard.failure IS 'the error of a call';

CREATE TYPE pgstock_shard.answer AS
(
	shard		int,
	error		text,
	rows		text[]
);
COMMENT ON TYPE pgstock_shard.answer IS
	'what a call returned: its rows, or its error (pgstock_shard.failure), as '
	'text; shard: number of the shard';

/* Settings of the database; without SET, so that calls are inlined. */
CREATE FUNCTION pgstock_shard.own_number()
RETURNS int
LANGUAGE sql STABLE
RETURN nullif(current_setting('pgstock_shard.shard', true), '')::int;
COMMENT ON FUNCTION pgstock_shard.own_number IS
	'returns the number of this shard, from 0; NULL before set_shard';

CREATE FUNCTION pgstock_shard.shard_count()
RETURNS int
LANGUAGE sql STABLE
RETURN nullif(current_setting('pgstock_shard.shards', true), '')::int;
COMMENT ON FUNCTION pgstock_shard.shard_count IS
	'returns the number of all shards; NULL before set_shard';

CREATE FUNCTION pgstock_shard.check_shard(shards int[])
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_shard_check_shard' LANGUAGE C STABLE;
COMMENT ON FUNCTION pgstock_shard.check_shard IS
	'returns true; raises 55000 unless this database is one of these shards';

/*
 * Creates the function by which a front calls a function of pgstock
 * (pgstock_shard.c).  Its argument is a row of the type of the same name, as
 * text: the shards that the call is for, role, trace and actor, then the
 * function's own arguments.
 */
CREATE FUNCTION pgstock_shard.wrap(function oid)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $wrap$
DECLARE
	p		pg_proc := (SELECT p FROM pg_proc p WHERE p.oid = wrap.function);
	own		text := format('pgstock_shard.%I', p.proname || '_call');
BEGIN
	EXECUTE format('CREATE TYPE %s AS (shards int[], role text, trace text, '
				   'actor text%s)', own,
				   (SELECT string_agg(format(', a%s %s', n, t::regtype), ''
									  ORDER BY n)
					  FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)));
	EXECUTE format('COMMENT ON TYPE %s IS %L', own,
				   'a call of ' || p.proname || ' by a front');
	EXECUTE format('CREATE FUNCTION %s(call text) RETURNS text '
				   'AS ''MODULE_PATHNAME'', ''pgstock_shard_call'' '
				   'LANGUAGE C STRICT', own);
	EXECUTE format('COMMENT ON FUNCTION %s(text) IS %L', own,
				   'calls ' || p.proname || ' for a front');
END
$wrap$;
COMMENT ON FUNCTION pgstock_shard.wrap IS
	'creates the function of this schema that calls a function of pgstock, and '
	'the type of its argument';

CREATE TYPE pgstock_shard.order_place AS
(
	saga		bigint,
	live		boolean,
	shards		int[]
);
COMMENT ON TYPE pgstock_shard.order_place IS
	'the shards of an order of which this one has lines; of an order over '
	'shards: its saga, and whether lines here are reserved or confirmed';

/* A front uses this to find an order whose id does not contain the key. */
DO $$
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.has_order(order_id text)
RETURNS pgstock_shard.order_place
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	place	pgstock_shard.order_place := pgstock_shard.part_place($1);
BEGIN
	IF place.saga IS NOT NULL THEN
		place.live := EXISTS (
			SELECT FROM %1$I.stock_reservations r
			 WHERE r.order_id = $1
			   AND (r.state = 'confirmed' OR r.state = 'reserved'
					AND r.expires_at > clock_timestamp()));
	ELSIF EXISTS (SELECT FROM %1$I.stock_reservations r
				   WHERE r.order_id = $1) THEN
		place.shards := ARRAY[pgstock_shard.own_number()];
	END IF;
	RETURN place;
END
$body$
$f$, (SELECT extnamespace::regnamespace FROM pg_extension
	   WHERE extname = 'pgstock'));
END
$$;
COMMENT ON FUNCTION pgstock_shard.has_order(text) IS
	'returns where an order is, if this shard has lines or a part of it';
SELECT pgstock_shard.wrap('pgstock_shard.has_order(text)'::regprocedure);

/* Triggers and handlers are called in the shard itself. */
SELECT pgstock_shard.wrap(p.oid)
  FROM pg_extension x
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
				  AND d.refobjid = x.oid AND d.deptype = 'e'
				  AND d.classid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.objid AND p.pronamespace = x.extnamespace
 WHERE x.extname = 'pgstock' AND p.prorettype <> 'trigger'::regtype
   AND p.proname NOT LIKE 'handle\_%';

/* The views of pgstock in a schema that a front knows, with their rights. */
DO $$
DECLARE
	v	record;
BEGIN
	FOR v IN SELECT c.oid::regclass AS view, c.relname AS name
			   FROM pg_extension x
			   JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
							   AND d.refobjid = x.oid AND d.deptype = 'e'
							   AND d.classid = 'pg_class'::regclass
			   JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'v'
							  AND c.relnamespace = x.extnamespace
			  WHERE x.extname = 'pgstock'
	LOOP
		EXECUTE format('CREATE VIEW pgstock_shard.%I WITH (security_invoker) '
					   'AS SELECT * FROM %s', v.name, v.view);
		EXECUTE format('COMMENT ON VIEW pgstock_shard.%I IS %L', v.name,
					   v.name || ' of pgstock, for a front');
		EXECUTE format('GRANT SELECT ON pgstock_shard.%I TO PUBLIC', v.name);
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA pgstock_shard TO PUBLIC;
REVOKE ALL ON FUNCTION pgstock_shard.wrap FROM PUBLIC;
