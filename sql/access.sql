/* ---- Access: who may do what ---------------------------------------------- */

/*
 * One list, from which grant_stock_access grants and takes back.  What a level
 * may do is what stands here and nothing else; "admin" is everything.
 */
CREATE FUNCTION pgstock_internal.access_list()
RETURNS TABLE (level text, kind text, name text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES
	('reader', 'view', 'stock_levels'), ('reader', 'view', 'stock_reservations'),
	('reader', 'view', 'stock_movements'), ('reader', 'view', 'stock_outbox'),
	('reader', 'view', 'stock_inbox'), ('reader', 'view', 'stock_failed_events'),
	('reader', 'view', 'failed_order_archives'),
	('reader', 'view', 'stock_handlers'),
	('reader', 'view', 'stock_admin_actions'),
	('reader', 'function', 'verify_stock'),
	('reader', 'function', 'payload_json'),
	('reader', 'function', 'bytes_text'), ('reader', 'function', 'headers_json'),
	('app', 'view', 'stock_levels'), ('app', 'view', 'stock_reservations'),
	('app', 'function', 'reserve_stock'), ('app', 'function', 'reserve_order'),
	('app', 'function', 'try_reserve_stock'),
	('app', 'function', 'try_reserve_order'),
	('app', 'function', 'confirm_stock'), ('app', 'function', 'release_stock'),
	('app', 'function', 'rollback_stock'), ('app', 'function', 'return_stock'),
	('app', 'function', 'extend_reservation'),
	('app', 'function', 'reserve_orders'),
	('app', 'function', 'purchase_flash_sale'),
	('app', 'function', 'publish_event'),
	('app', 'function', 'publish_bytes'),
	('relay', 'function', 'relay_hello'), ('relay', 'function', 'relay_lead'),
	('relay', 'function', 'relay_position'),
	('relay', 'function', 'relay_next_window'),
	('relay', 'function', 'relay_look'),
	('relay', 'function', 'relay_sleep'), ('relay', 'function', 'relay_page'),
	('relay', 'function', 'relay_store_position'),
	('relay', 'function', 'relay_held_topics'),
	('relay', 'function', 'relay_hold'),
	('relay', 'function', 'relay_set_aside'),
	('relay', 'function', 'relay_held_page'),
	('relay', 'function', 'relay_cross_off'),
	('relay', 'function', 'relay_adopt'), ('relay', 'function', 'relay_topics'),
	('relay', 'function', 'relay_offsets'),
	('relay', 'function', 'relay_begin_offsets'), ('relay', 'function', 'relay_apply'),
	('relay', 'function', 'relay_apply_failed'),
	('relay', 'function', 'relay_retry'), ('relay', 'function', 'relay_metrics'),
	('relay', 'function', 'relay_purge'), ('relay', 'function', 'relay_expire'),
	('relay', 'function', 'relay_alerts'), ('relay', 'function', 'relay_alerted'),
	('relay', 'function', 'relay_status'),
	('relay', 'function', 'relay_outbox_range'),
	('relay', 'function', 'relay_replay'),
	('relay', 'function', 'relay_rewind'),
	('relay', 'function', 'relay_failed'),
	('relay', 'function', 'relay_failed_act'),
	('relay', 'function', 'relay_audit_page'),
	('relay', 'function', 'relay_audit_holds'),
	('relay', 'schema', 'pgstock_internal')
$$;
COMMENT ON FUNCTION pgstock_internal.access_list IS
	'what each access level may do';

/*
 * What there is to grant.  The extension's own schema is left alone if it is
 * "public": that belongs to everybody, and is not ours to take back.
 */
CREATE FUNCTION pgstock_internal.grantable()
RETURNS TABLE (what text, name text, short text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'ALL ON FUNCTION', p.oid::regprocedure::text, p.proname::text
  FROM pg_extension x
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
				  AND d.refobjid = x.oid AND d.deptype = 'e'
				  AND d.classid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.objid
 WHERE x.extname = 'pgstock'
UNION ALL
SELECT 'SELECT ON', c.oid::regclass::text, c.relname::text
  FROM pg_extension x
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
				  AND d.refobjid = x.oid AND d.deptype = 'e'
				  AND d.classid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'v'
				 AND c.relnamespace = x.extnamespace
 WHERE x.extname = 'pgstock'
UNION ALL
SELECT 'USAGE ON SCHEMA', 'pgstock_internal', 'pgstock_internal'
UNION ALL
SELECT 'USAGE ON SCHEMA', x.extnamespace::regnamespace::text, 'own schema'
  FROM pg_extension x
 WHERE x.extname = 'pgstock' AND x.extnamespace IS DISTINCT FROM to_regnamespace('public')
$$;
COMMENT ON FUNCTION pgstock_internal.grantable IS
	'everything that grant_stock_access gives and takes';

/*
 * Runs with the owner's rights, so that the admin level can give what it has;
 * it gives nothing but pgstock's own objects, and nobody but admin may call it.
 */
CREATE FUNCTION @extschema@.grant_stock_access(role name, level text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	object	record;
BEGIN
	IF level IS NULL
		OR level NOT IN ('reader', 'app', 'relay', 'admin', 'none') THEN
		RAISE EXCEPTION 'there is no access level "%"', level
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'The levels are reader, app, relay, admin and none.';
	END IF;
	IF role IS NULL
		OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role
			USING ERRCODE = 'undefined_object',
				  HINT = 'Create it first, with CREATE ROLE.';
	END IF;
	FOR object IN
		SELECT o.what, o.name, level = 'admin' OR EXISTS (
				SELECT FROM pgstock_internal.access_list() a
				 WHERE a.level = grant_stock_access.level
				   AND a.name = o.short)
			   OR (o.short = 'own schema' AND level <> 'none') AS granted
		  FROM pgstock_internal.grantable() o
	LOOP
		EXECUTE format('REVOKE %s %s FROM %I', object.what, object.name, role);
		IF object.granted THEN
			EXECUTE format('GRANT %s %s TO %I', object.what, object.name, role);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.grant_stock_access IS
	'gives a role the level reader, app, relay or admin; none takes it all back';

/* Nothing is open to everybody. */
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgstock_internal FROM PUBLIC;
DO $$
DECLARE
	f	text;
BEGIN
	FOR f IN
		SELECT g.name FROM pgstock_internal.grantable() g
		 WHERE g.what = 'ALL ON FUNCTION'
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
	END LOOP;
END
$$;
