/* ---- The public functions ------------------------------------------------ */

/*
 * For a call that changes something and finds its shard in the front itself:
 * one call of a C function, instead of the statements for several shards.
 */
CREATE FUNCTION pgstock_front.one_shard_statements(name text, result text,
	type text, shards text, types text[])
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $make$
SELECT format($f$
	shards := pgstock_front.%s;
	IF cardinality(shards) = 1 THEN
		rows := pgstock_front.call_shard('pgstock_front.%I', %L, shards[1],
			%s);
		%s
	END IF;
$f$, shards, name || '_one', name, pgstock_front.call_text(
		ARRAY['shards', 'pgstock_front.caller()',
			  $t$nullif(current_setting('pgstock.trace_id', true), '')$t$,
			  'pgstock_front.actor()']
		|| ARRAY(SELECT '$' || n
				   FROM generate_series(1, cardinality(types)) n),
		'{int[],text,text,text}' || types), CASE
	WHEN result LIKE 'SETOF %'
	THEN format('FOREACH row_text IN ARRAY rows LOOP RETURN NEXT '
				'row_text::%s; END LOOP; RETURN;', type)
	WHEN result = 'void' THEN 'RETURN;'
	ELSE format('RETURN rows[1]::%s;', type) END)
$make$;
COMMENT ON FUNCTION pgstock_front.one_shard_statements IS
	'returns the statements of a public function for a call of one shard';

/*
 * Creates one function of the list.  The function chooses the shards and calls
 * them.  It raises the first error that a shard returned, or returns the rows
 * of all shards; if the result is a number, it returns the sum.
 *
 * It runs with its owner's rights, and the shard switches to the caller's role
 * (front/shard.sql).  If callers had USAGE on the server themselves, each could
 * alter its own user mapping, and connect to the shards as any role whose
 * password the front's password file contains.
 */
CREATE FUNCTION pgstock_front.make_function(name text, arguments text,
	result text, shards text, writes boolean, rows text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $make$
DECLARE
	is_set	boolean := result LIKE 'SETOF %';
	type	text := replace(result, 'SETOF ', '');
	types	text[];
	numbers	text;
	crossing text := pgstock_front.over_shards_statements(name);
	single	text;
BEGIN
	IF to_regtype(type) IS NULL THEN
		type := 'pgstock_front.' || type;
	END IF;
	EXECUTE format($f$
CREATE FUNCTION @extschema@.%I(%s) RETURNS %s%s
LANGUAGE plpgsql AS $$ BEGIN END $$
$f$, name, arguments, CASE WHEN is_set THEN 'SETOF ' END, type);
	SELECT array_agg(format_type(t.oid, NULL) ORDER BY t.n),
		   string_agg(', $' || t.n, '' ORDER BY t.n)
	  INTO types, numbers
	  FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY t (oid, n)
	 WHERE p.proname = name AND p.pronamespace = '@extschema@'::regnamespace;
	PERFORM pgstock_front.make_shard_calls(name, types);
	/* these find the shard in the front itself */
	IF writes AND rows IS NULL
		AND shards ~ '^shards_of_(line|items|key|move|product)\(' THEN
		single := pgstock_front.one_shard_statements(name, result, type,
													 shards, types);
	END IF;
	EXECUTE format($f$
CREATE OR REPLACE FUNCTION @extschema@.%1$I(%2$s) RETURNS %3$s%4$s
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	answers	pgstock_front.answer[];
	shards	int[];
%11$sBEGIN
%5$s%12$s	BEGIN
		shards := coalesce(shards, pgstock_front.%6$s);
		IF %9$s THEN
			answers := ARRAY(
				SELECT a::pgstock_front.answer FROM pgstock_front.%1$I(shards,
					pgstock_front.caller(),
					nullif(current_setting('pgstock.trace_id', true), ''),
					pgstock_front.actor()%7$s) a);
		END IF;
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed(%1$L, SQLSTATE, SQLERRM);
	END;
%10$s	IF cardinality(answers) > 1 OR (answers[1]).error IS NOT NULL THEN
		answers := pgstock_front.check_answers(answers);
	END IF;
%8$sEND
$body$
$f$, name, arguments, CASE WHEN is_set THEN 'SETOF ' END, type,
		CASE WHEN writes THEN
			format(E'\tmay_call := pgstock_front.begin_call(%L);\n', name) END,
		shards, numbers, format(CASE
			WHEN is_set
			THEN E'\tRETURN QUERY SELECT r.*\n'
				 '\t  FROM unnest(answers) a, unnest(a.rows::%s[]) r\n\t '
				 || coalesce(rows, '') || E';\n'
			WHEN result = 'void' THEN ''
			WHEN result IN ('bigint', 'integer')
			THEN E'\tRETURN (SELECT sum(a.rows[1]::bigint)::%s\n'
				 '\t\t\t  FROM unnest(answers) a);\n'
			ELSE E'\tRETURN (answers[1]).rows[1]::%s;\n' END, type),
		CASE WHEN crossing IS NULL THEN 'true'
			 ELSE 'cardinality(shards) = 1' END,
		CASE WHEN single IS NULL THEN crossing END,
		CASE WHEN writes THEN E'\tmay_call\tboolean;\n' END
		|| CASE WHEN single IS NULL THEN ''
				ELSE E'\trows\ttext[];\n\trow_text\ttext;\n' END,
		single || coalesce(crossing, ''));
	EXECUTE format('COMMENT ON FUNCTION @extschema@.%I IS %L', name,
		'calls ' || name || ' of pgstock in the shards ' || shards);
END
$make$;
COMMENT ON FUNCTION pgstock_front.make_function IS
	'creates a public function, and the PL/Proxy function that it calls';

SELECT pgstock_front.make_function(c.name, c.arguments, c.result, c.shards,
								   c.writes, c.rows)
  FROM pgstock_front.call_list() c;
