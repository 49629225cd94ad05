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

/* The number of the shard is a setting of the database: cheap to read. */
CREATE FUNCTION pgstock_shard.set_shard(shard int, shards int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF shard IS NULL OR shards IS NULL OR shards < 1 OR shard < 0
		OR shard >= shards THEN
		RAISE EXCEPTION 'shard % of % does not exist', shard, shards
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Shards are numbered from 0.';
	END IF;
	EXECUTE format('ALTER DATABASE %I SET pgstock_shard.shard = %L',
				   current_database(), shard);
	EXECUTE format('ALTER DATABASE %I SET pgstock_shard.shards = %L',
				   current_database(), shards);
END
$$;
COMMENT ON FUNCTION pgstock_shard.set_shard IS
	'sets which shard (from 0) of how many this database is, for sessions that '
	'begin after this call';

/*
 * Without this check, a front whose connections were exchanged would send the
 * calls for an order to a database that does not have it.
 */
CREATE FUNCTION pgstock_shard.refuse(shards int[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'database "%" is not shard %', current_database(),
			array_to_string(shards, ' or ')
		USING ERRCODE = 'object_not_in_prerequisite_state',
			  DETAIL = coalesce('It is shard ' || nullif(current_setting(
				  'pgstock_shard.shard', true), '') || '.',
				  'It has no number.'),
			  HINT = 'Compare pgstock_front.shard_status() with the '
					 'databases: pgstock_shard.set_shard() gives a database '
					 'its number.';
END
$$;
COMMENT ON FUNCTION pgstock_shard.refuse IS
	'raises the error of a call that was sent to the wrong shard';

/* Before the call begins, only the switch to the role can fail. */
CREATE FUNCTION pgstock_shard.failure_text(f pgstock_shard.failure, role text,
	before_call boolean)
RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF before_call AND f.hint = '' THEN
		f.hint := format('pgstock-shards role %s LEVEL makes the role in each '
						 'shard, and pgstock_front a member of it.', role);
	END IF;
	f.detail := nullif(f.detail, '');
	f.hint := nullif(f.hint, '');
	RETURN f::text;
END
$$;
COMMENT ON FUNCTION pgstock_shard.failure_text IS
	'returns an error as the text of an answer';

CREATE FUNCTION pgstock_shard.about()
RETURNS TABLE (shard int, shards int, database text, pgstock text,
	pgstock_shard text, standby boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT nullif(current_setting('pgstock_shard.shard', true), '')::int,
	   nullif(current_setting('pgstock_shard.shards', true), '')::int,
	   current_database()::text,
	   (SELECT extversion FROM pg_extension WHERE extname = 'pgstock'),
	   (SELECT extversion FROM pg_extension WHERE extname = 'pgstock_shard'),
	   pg_is_in_recovery()
$$;
COMMENT ON FUNCTION pgstock_shard.about IS
	'returns which shard this database is, and the versions of its extensions';

/*
 * A function of pgstock as a function of this schema: the shards that the call
 * is for, role, trace and actor, then its own arguments.
 *
 * It runs for each call of the front, unprepared, so it must be cheap: it sets
 * no search path, and therefore names operators and types with their schema
 * (nullif would look up an operator).
 */
CREATE FUNCTION pgstock_shard.wrap(function oid)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $wrap$
DECLARE
	p		pg_proc := (SELECT p FROM pg_proc p WHERE p.oid = wrap.function);
	types	text := (SELECT string_agg(', ' || t::regtype, '' ORDER BY n)
					   FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n));
	call	text := format('%s(%s)', p.oid::regproc,
						   (SELECT string_agg('$' || n + 4, ', ' ORDER BY n)
							  FROM generate_series(1, p.pronargs) n));
	own		text := format('pgstock_shard.%I(int[], text, text, text%s)',
						   p.proname, types);
BEGIN
	EXECUTE format($f$
CREATE FUNCTION %1$s
RETURNS pgstock_shard.answer
LANGUAGE plpgsql
AS $body$
DECLARE
	shard	pg_catalog.text := pg_catalog.current_setting(
		'pgstock_shard.shard', true);
	a		pgstock_shard.answer;
	f		pgstock_shard.failure;
BEGIN
	IF (shard OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])) IS NOT TRUE
	THEN
		PERFORM pgstock_shard.refuse($1);
	END IF;
	IF $2 IS NOT NULL THEN
		PERFORM pg_catalog.set_config('role', $2, true);
	END IF;
	a.shard := shard;
	IF $3 IS NOT NULL THEN
		PERFORM pg_catalog.set_config('pgstock.trace_id', $3, true);
	END IF;
	IF $4 IS NOT NULL THEN
		PERFORM pg_catalog.set_config('pgstock.actor', $4, true);
	END IF;
	%2$s;
	RETURN a;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS f.sqlstate = RETURNED_SQLSTATE,
		f.message = MESSAGE_TEXT, f.detail = PG_EXCEPTION_DETAIL,
		f.hint = PG_EXCEPTION_HINT;
	a.error := pgstock_shard.failure_text(f, $2, a.shard IS NULL);
	RETURN a;
END
$body$
$f$, own, format(CASE
		WHEN p.prorettype = 'void'::regtype THEN 'PERFORM %s'
		WHEN p.proretset
		THEN 'a.rows := ARRAY(SELECT r::pg_catalog.text FROM %s r)'
		ELSE 'a.rows := ARRAY[%s::pg_catalog.text]' END, call));
	EXECUTE format('COMMENT ON FUNCTION %s IS %L', own,
				   'calls ' || p.proname || ' for a front');
END
$wrap$;
COMMENT ON FUNCTION pgstock_shard.wrap IS
	'creates the function of this schema that calls a function of pgstock';

SELECT pgstock_shard.wrap('pgstock_shard.about()'::regprocedure);

CREATE TYPE pgstock_shard.order_place AS
(
	saga		bigint,
	live		boolean,
	shards		int[]
);
COMMENT ON TYPE pgstock_shard.order_place IS
	'the shards of an order of which this one has lines; of an order over '
	'shards: its saga, and whether lines here are reserved or confirmed';

/* By this a front finds an order whose id does not contain the key. */
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
		place.shards := ARRAY[current_setting('pgstock_shard.shard')::int];
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
REVOKE ALL ON FUNCTION pgstock_shard.set_shard, pgstock_shard.wrap FROM PUBLIC;
