/* ---- Access rights ------------------------------------------------------- */

/*
 * What a role may do is decided by grant_stock_access in each shard.  On the
 * front, the role gets the functions and views of its level, and the functions
 * that compute the shard of a line or order, for clients that connect to the
 * shard themselves.
 */
CREATE FUNCTION pgstock_front.grantable()
RETURNS TABLE (object text, levels text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'FUNCTION ' || p.oid::regprocedure, coalesce(c.levels, '{}')
  FROM pg_proc p LEFT JOIN pgstock_front.call_list() c ON c.name = p.proname
 WHERE p.pronamespace = '@extschema@'::regnamespace
   AND (c.name IS NOT NULL OR p.proname = 'grant_stock_access')
UNION ALL
SELECT c.oid::regclass::text, v.levels
  FROM pg_class c JOIN pgstock_front.view_list() v ON c.relname = v.name
 WHERE c.relnamespace = '@extschema@'::regnamespace
UNION ALL
SELECT 'FUNCTION ' || p.oid::regprocedure, '{reader,app}'
  FROM pg_proc p
 WHERE p.pronamespace = 'pgstock_front'::regnamespace
   AND p.proname IN ('shard_of', 'line_shard', 'order_shard', 'product_shard')
UNION ALL
SELECT 'FUNCTION pgstock_front.shard_status()', '{}'
UNION ALL
SELECT '@extschema@.stock_sagas', '{reader,app}'
UNION ALL
SELECT 'FUNCTION pgstock_front.sagas()', '{reader,app}'
UNION ALL
SELECT 'FUNCTION @extschema@.sweep_orders(int)', '{app}'
UNION ALL
SELECT 'FUNCTION @extschema@.reserve_orders(jsonb, interval)', '{app}'
UNION ALL
SELECT 'FUNCTION ' || p.oid::regprocedure,
	   CASE p.proname WHEN 'purchase_flash_sale' THEN '{app}' ELSE '{}' END
	   ::text[]
  FROM pg_proc p
 WHERE p.pronamespace = '@extschema@'::regnamespace
   AND p.proname IN ('open_flash_sale', 'purchase_flash_sale',
		'close_flash_sale', 'retry_failed_event', 'discard_failed_event',
		'mark_failed_event_handled', 'forget_user')
UNION ALL
SELECT 'FUNCTION @extschema@.abandon_saga(text, text)', '{}'
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
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
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
END
$$;
COMMENT ON FUNCTION pgstock_front.grant_here IS
	'replaces the rights of a role on the front by those of an access level';

CREATE FUNCTION @extschema@.grant_stock_access(role name, level text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
	shards	int[];
BEGIN
	PERFORM pgstock_front.begin_call('grant_stock_access');
	BEGIN
		shards := pgstock_front.all_shards();
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.grant_stock_access(shards,
				pgstock_front.caller(), NULL, pgstock_front.actor(), role,
				level) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('grant_stock_access', SQLSTATE,
										  SQLERRM);
	END;
	PERFORM pgstock_front.check_answers(answers);
	PERFORM pgstock_front.grant_here(role, level);
END
$$;
COMMENT ON FUNCTION @extschema@.grant_stock_access IS
	'replaces the rights of a role by those of an access level, in all shards '
	'and on the front';
SELECT pgstock_front.make_shard_calls('grant_stock_access', '{name,text}');

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
