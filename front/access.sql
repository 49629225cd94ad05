/* ---- Access rights ------------------------------------------------------- */

/*
 * In each shard grant_stock_access decides what a role may do.  Here it gets
 * what leads there: the functions and views of its level, what these are made
 * of, and the servers.
 */
CREATE FUNCTION pgstock_front.grantable()
RETURNS TABLE (object text, levels text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'FUNCTION ' || p.oid::regprocedure,
	   CASE WHEN c.name IS NOT NULL THEN c.levels
			WHEN p.proname IN ('call_failed', 'checked', 'raise', 'begin_call',
				'line', 'product', 'move', 'items', 'order', 'key', 'event',
				'all', 'shard_count', 'shard_of', 'line_shard', 'order_shard',
				'product_shard', 'has_order', 'order_parts', 'saga_list',
				'ask_list')
			THEN '{reader,app}'
			WHEN p.proname ~ '^(saga|ask|part)_' OR p.proname = 'sweep_orders'
			THEN '{app}' ELSE '{}' END
  FROM pg_proc p LEFT JOIN pgstock_front.call_list() c ON c.name = p.proname
 WHERE p.pronamespace = 'pgstock_front'::regnamespace
	OR p.pronamespace = '@extschema@'::regnamespace
	   AND (c.name IS NOT NULL OR p.proname IN ('grant_stock_access',
			'sweep_orders', 'abandon_saga'))
UNION ALL
SELECT c.oid::regclass::text, v.levels
  FROM pg_class c JOIN pgstock_front.view_list() v
	ON c.relname = v.name OR c.relname ~ ('^' || v.name || '_[0-9]+$')
 WHERE c.relnamespace IN ('pgstock_front'::regnamespace,
						  '@extschema@'::regnamespace)
UNION ALL
SELECT '@extschema@.stock_sagas', '{reader,app}'
UNION ALL
SELECT 'SCHEMA pgstock_front', '{reader,app}'
UNION ALL
SELECT 'SCHEMA @extschema@', '{reader,app}'
 WHERE '@extschema@' <> 'public'
$$;
COMMENT ON FUNCTION pgstock_front.grantable IS
	'returns the objects of the front on which grant_stock_access grants and '
	'revokes rights, and the levels that have them besides admin';

CREATE FUNCTION pgstock_front.grant_here(role name, level text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g	record;
BEGIN
	FOR g IN SELECT * FROM pgstock_front.grantable() LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %I', g.object, role);
		IF level = 'admin' OR level = ANY (g.levels) THEN
			EXECUTE format('GRANT %s ON %s TO %I', CASE
				WHEN g.object LIKE 'FUNCTION %' THEN 'EXECUTE'
				WHEN g.object LIKE 'SCHEMA %' THEN 'USAGE' ELSE 'SELECT' END,
				g.object, role);
		END IF;
	END LOOP;
	PERFORM pgstock_front.map_user(role, level <> 'none');
END
$$;
COMMENT ON FUNCTION pgstock_front.grant_here IS
	'replaces the rights of a role on the front by those of an access level';

CREATE FUNCTION @extschema@.grant_stock_access(role name, level text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
	shards	int[];
BEGIN
	PERFORM pgstock_front.begin_call('grant_stock_access');
	BEGIN
		shards := pgstock_front.all();
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.grant_stock_access(shards, NULL,
				nullif(current_setting('pgstock.actor', true), ''), role,
				level) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('grant_stock_access', SQLSTATE,
										  SQLERRM);
	END;
	PERFORM pgstock_front.checked(answers);
	PERFORM pgstock_front.grant_here(role, level);
END
$$;
COMMENT ON FUNCTION @extschema@.grant_stock_access IS
	'replaces the rights of a role by those of an access level, in all shards '
	'and here';
SELECT pgstock_front.route('grant_stock_access', '{name,text}');

DO $$
BEGIN
	EXECUTE (SELECT string_agg(format('REVOKE ALL ON FUNCTION %s FROM PUBLIC',
									  p.oid::regprocedure), '; ')
			   FROM pg_extension x
			   JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
							   AND d.refobjid = x.oid AND d.deptype = 'e'
							   AND d.classid = 'pg_proc'::regclass
			   JOIN pg_proc p ON p.oid = d.objid
			  WHERE x.extname = 'pgstock_front');
END
$$;
