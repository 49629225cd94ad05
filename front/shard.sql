/* ---- What a front calls in a shard --------------------------------------- */

\echo Use "CREATE EXTENSION pgstock_shard" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * One function for each public function of pgstock, with the rights of the role
 * that calls it: so a front's role may do here what grant_stock_access has
 * granted to it, and nothing else.  An error is returned as a row, because
 * PL/Proxy drops a connection on which one is raised.
 */
CREATE TYPE pgstock_shard.failure AS
(
	sqlstate	text,
	message		text,
	detail		text,
	hint		text
);
COMMENT ON TYPE pgstock_shard.failure IS 'an error of a call';

CREATE TYPE pgstock_shard.answer AS
(
	shard		int,
	error		text,
	value		text
);
COMMENT ON TYPE pgstock_shard.answer IS
	'one row of what a call returned, or its error (pgstock_shard.failure), as '
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
	'makes this database shard number shard (from 0) of so many, for sessions '
	'that begin from now on';

/*
 * Without the check a front whose shards were exchanged would send an order's
 * calls to a database that does not know it.
 */
CREATE FUNCTION pgstock_shard.enter(shards int[], trace text, actor text)
RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shard	int := nullif(current_setting('pgstock_shard.shard', true), '');
BEGIN
	IF shard = ANY (shards) THEN
		IF trace <> '' THEN
			PERFORM set_config('pgstock.trace_id', trace, true);
		END IF;
		IF actor <> '' THEN
			PERFORM set_config('pgstock.actor', actor, true);
		END IF;
		RETURN shard;
	END IF;
	RAISE EXCEPTION 'database "%" is not shard %', current_database(),
			array_to_string(shards, ', ')
		USING ERRCODE = 'object_not_in_prerequisite_state',
			  DETAIL = coalesce('It is shard ' || shard || '.',
								'It has no number.'),
			  HINT = 'Compare pgstock_front.shard_status() with the '
					 'databases: pgstock_shard.set_shard() gives a database '
					 'its number.';
END
$$;
COMMENT ON FUNCTION pgstock_shard.enter IS
	'begins a call of a front: checks that this is one of the shards, takes on '
	'trace and actor; returns the number of the shard';

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
 * A function of pgstock as a function of this schema: the same arguments behind
 * those of enter(), a row of type answer for each row.
 */
CREATE FUNCTION pgstock_shard.wrap(function oid)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $wrap$
DECLARE
	p		pg_proc := (SELECT p FROM pg_proc p WHERE p.oid = wrap.function);
	types	text := (SELECT coalesce(string_agg(', ' || format_type(t, NULL),
												'' ORDER BY n), '')
					   FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n));
	arguments text := (SELECT string_agg('$' || n + 3, ', ' ORDER BY n)
						 FROM generate_series(1, p.pronargs) n);
	call	text := format('%s(%s)', p.oid::regproc, arguments);
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.%1$I(int[], text, text%2$s)
RETURNS SETOF pgstock_shard.answer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	shard	int;
	f		pgstock_shard.failure;
BEGIN
	shard := pgstock_shard.enter($1, $2, $3);
	RETURN QUERY SELECT shard, NULL, %3$s FROM %4$s r;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS f.sqlstate = RETURNED_SQLSTATE,
		f.message = MESSAGE_TEXT, f.detail = PG_EXCEPTION_DETAIL,
		f.hint = PG_EXCEPTION_HINT;
	f.detail := nullif(f.detail, '');
	f.hint := nullif(f.hint, '');
	RETURN QUERY SELECT shard, f::text, NULL;
END
$body$
$f$, p.proname, types,
		CASE WHEN p.prorettype = 'void'::regtype THEN $$''$$
			 ELSE 'r::text' END, call);
	EXECUTE format('COMMENT ON FUNCTION pgstock_shard.%I(int[], text, text%s) '
				   'IS %L', p.proname, types,
				   'calls ' || p.proname || ' for a front');
END
$wrap$;
COMMENT ON FUNCTION pgstock_shard.wrap IS
	'makes the function of this schema that calls a function of pgstock';

SELECT pgstock_shard.wrap('pgstock_shard.about()'::regprocedure);

/* Where a front finds an order whose id does not name its shard. */
DO $$
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.has_order(order_id text)
RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
SELECT EXISTS (SELECT FROM %I.stock_reservations r
				WHERE r.order_id = has_order.order_id)
$body$
$f$, (SELECT extnamespace::regnamespace FROM pg_extension
	   WHERE extname = 'pgstock'));
END
$$;
COMMENT ON FUNCTION pgstock_shard.has_order(text) IS
	'returns whether this shard has lines of an order';
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

/* The views of pgstock under a name that a front knows, with their rights. */
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
