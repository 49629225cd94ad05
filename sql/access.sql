/* ---- Access rights ------------------------------------------------------- */

/*
 * The only list of rights; grant_stock_access grants and revokes by it.  A
 * level has the rights listed here and no others; "admin" has all.
 */
CREATE FUNCTION pgstock_internal.access_list()
RETURNS TABLE (level text, kind text, name text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES
	('reader', 'view', 'stock_levels'),
	('reader', 'view', 'stock_reservations'),
	('reader', 'view', 'stock_movements'), ('reader', 'view', 'stock_outbox'),
	('reader', 'view', 'stock_inbox'),
	('reader', 'view', 'stock_failed_events'),
	('reader', 'view', 'failed_order_archives'),
	('reader', 'view', 'stock_handlers'),
	('reader', 'view', 'stock_bindings'),
	('reader', 'function', 'default_bindings'),
	('reader', 'view', 'stock_admin_actions'),
	('reader', 'view', 'stock_orders'),
	('reader', 'view', 'stock_hanging_orders'),
	('reader', 'function', 'order_history'),
	('reader', 'view', 'stock_sales'),
	('reader', 'function', 'sale_purchases'),
	('reader', 'function', 'stock_activity'),
	('reader', 'function', 'stock_report'),
	('reader', 'function', 'stock_status'),
	('reader', 'function', 'event_status'),
	('reader', 'view', 'stock_event_formats'),
	('reader', 'function', 'event_formats'),
	('reader', 'view', 'stock_statistics'),
	('reader', 'function', 'call_statistics'),
	('reader', 'function', 'verify_stock'),
	('reader', 'function', 'payload_json'),
	('reader', 'function', 'bytes_text'),
	('reader', 'function', 'headers_json'),
	('reader', 'function', 'check_availability'),
	('reader', 'function', 'flash_sale_status'),
	('app', 'view', 'stock_levels'), ('app', 'view', 'stock_reservations'),
	('app', 'function', 'check_availability'),
	('app', 'function', 'event_status'), ('app', 'function', 'wait_for_event'),
	('app', 'function', 'reserve_stock'), ('app', 'function', 'reserve_order'),
	('app', 'function', 'try_reserve_stock'),
	('app', 'function', 'try_reserve_order'),
	('app', 'function', 'confirm_stock'), ('app', 'function', 'release_stock'),
	('app', 'function', 'rollback_stock'), ('app', 'function', 'return_stock'),
	('app', 'function', 'extend_reservation'),
	('app', 'function', 'reserve_orders'),
	('app', 'function', 'purchase_flash_sale'),
	('app', 'function', 'flash_sale_status'),
	('app', 'function', 'publish_event'),
	('app', 'function', 'publish_bytes'),
	('relay', 'function', 'relay_hello'), ('relay', 'function', 'relay_lead'),
	('relay', 'function', 'relay_echo'),
	('relay', 'function', 'relay_beat'),
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
	('relay', 'function', 'relay_begin_topic'),
	('relay', 'function', 'relay_move_offset'),
	('relay', 'function', 'relay_fingerprint'),
	('relay', 'function', 'relay_apply'),
	('relay', 'function', 'relay_apply_failed'),
	('relay', 'function', 'relay_retry'),
	('relay', 'function', 'relay_metrics'),
	('relay', 'function', 'relay_upkeep'),
	('relay', 'function', 'relay_expire'),
	('relay', 'function', 'relay_levels'),
	('relay', 'function', 'relay_level_offsets'),
	('relay', 'function', 'relay_levels_read'),
	('relay', 'function', 'relay_snapshot'),
	('relay', 'function', 'relay_alerts'),
	('relay', 'function', 'relay_alerted'),
	('relay', 'function', 'relay_status'),
	('relay', 'function', 'relay_outbox_range'),
	('relay', 'function', 'relay_check'),
	('relay', 'function', 'relay_replay'),
	('relay', 'function', 'relay_rewind'),
	('relay', 'function', 'relay_failed'),
	('relay', 'function', 'relay_failed_count'),
	('relay', 'function', 'relay_failed_act'),
	('relay', 'function', 'relay_discard_held'),
	('relay', 'function', 'relay_order'),
	('relay', 'function', 'relay_report'),
	('relay', 'function', 'relay_audit_page'),
	('relay', 'function', 'relay_audit_holds'),
	('relay', 'schema', 'pgstock_internal')
$$;
COMMENT ON FUNCTION pgstock_internal.access_list IS
	'returns the rights of each access level';

/*
 * All objects that can be granted, except the extension's own schema (see
 * grant_schema).
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
$$;
COMMENT ON FUNCTION pgstock_internal.grantable IS
	'returns the objects on which grant_stock_access grants and revokes '
	'rights';

/*
 * Not dumped: in a restored database the right comes from the dump's own
 * GRANT.  With the role's oid, because another role can get the same name.
 */
CREATE TABLE pgstock_internal.schema_usage
(
	role		name NOT NULL,
	role_oid	oid NOT NULL,
	CONSTRAINT schema_usage_pkey PRIMARY KEY (role)
);
COMMENT ON TABLE pgstock_internal.schema_usage IS
	'roles to which grant_stock_access granted USAGE on the extension''s '
	'schema';

/*
 * A USAGE right that another GRANT gave remains: only rights granted here are
 * revoked.
 */
CREATE FUNCTION pgstock_internal.grant_schema(role name, granted boolean)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	schema		pg_namespace;
	grantee_oid	oid := (SELECT r.oid FROM pg_roles r
						 WHERE r.rolname = $1);
BEGIN
	SELECT n.* INTO STRICT schema
	  FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
	 WHERE x.extname = 'pgstock';
	IF schema.nspname = 'public' OR schema.nspowner = grantee_oid THEN
		RETURN;
	END IF;
	DELETE FROM pgstock_internal.schema_usage u
	 WHERE u.role = $1 AND u.role_oid <> grantee_oid;
	IF granted THEN
		IF NOT EXISTS (SELECT FROM aclexplode(schema.nspacl) a
						WHERE a.grantee = grantee_oid
						  AND a.privilege_type = 'USAGE') THEN
			EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema.nspname,
						   $1);
			INSERT INTO pgstock_internal.schema_usage VALUES ($1, grantee_oid)
			ON CONFLICT DO NOTHING;
		END IF;
		RETURN;
	END IF;
	DELETE FROM pgstock_internal.schema_usage u WHERE u.role = $1;
	IF FOUND THEN
		EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', schema.nspname, $1);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.grant_schema IS
	'grants USAGE on the extension''s schema to a role, or revokes it if '
	'granted here';

/*
 * Runs with the owner's rights, so that the admin level can grant its own
 * rights.  It grants only rights on objects of pgstock, and only admin may
 * call it.
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
		RAISE EXCEPTION 'unrecognized access level "%"', level
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'The access levels are reader, app, relay, admin and '
						 'none.';
	END IF;
	IF role IS NULL
		OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role
			USING ERRCODE = 'undefined_object',
				  HINT = 'Create the role with CREATE ROLE first.';
	END IF;
	FOR object IN
		SELECT o.what, o.name, level = 'admin' OR EXISTS (
				SELECT FROM pgstock_internal.access_list() a
				 WHERE a.level = grant_stock_access.level
				   AND a.name = o.short) AS granted
		  FROM pgstock_internal.grantable() o
	LOOP
		EXECUTE format('REVOKE %s %s FROM %I', object.what, object.name, role);
		IF object.granted THEN
			EXECUTE format('GRANT %s %s TO %I', object.what, object.name, role);
		END IF;
	END LOOP;
	PERFORM pgstock_internal.grant_schema(role, level <> 'none');
	PERFORM pgstock_internal.audit('grant_stock_access', role, level);
END
$$;
COMMENT ON FUNCTION @extschema@.grant_stock_access IS
	'replaces the rights of a role by those of access level reader, app, '
	'relay, admin or none; 22023 for another level, 42704 for an unknown role';

/*
 * Rights that the owner's default privileges, or PostgreSQL's own defaults,
 * gave to other roles when the objects were created.  Types keep USAGE for
 * PUBLIC, which gives access to no data.
 */
CREATE FUNCTION pgstock_internal.default_grants()
RETURNS TABLE (object text, grantee text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH own AS (
	SELECT d.classid, d.objid
	  FROM pg_extension x
	  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
					  AND d.refobjid = x.oid AND d.deptype = 'e'
	 WHERE x.extname = 'pgstock'
), object AS (
	SELECT 'FUNCTION ' || p.oid::regprocedure AS name, p.proowner AS owner,
		   coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
	  FROM own JOIN pg_proc p ON p.oid = objid
	 WHERE classid = 'pg_proc'::regclass
	UNION ALL
	SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
		   || c.oid::regclass, c.relowner, c.relacl
	  FROM own JOIN pg_class c ON c.oid = objid
	 WHERE classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'S')
	UNION ALL
	SELECT 'TYPE ' || t.oid::regtype, t.typowner, t.typacl
	  FROM own JOIN pg_type t ON t.oid = objid
	 WHERE classid = 'pg_type'::regclass
	UNION ALL
	SELECT 'SCHEMA ' || n.oid::regnamespace, n.nspowner, n.nspacl
	  FROM own JOIN pg_namespace n ON n.oid = objid
	 WHERE classid = 'pg_namespace'::regclass
)
SELECT DISTINCT o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC'
						ELSE a.grantee::regrole::text END
  FROM object o, aclexplode(o.acl) a
 WHERE a.grantee <> o.owner AND NOT (o.name LIKE 'TYPE %' AND a.grantee = 0)
$$;
COMMENT ON FUNCTION pgstock_internal.default_grants IS
	'returns the rights that roles other than the owner have on objects of '
	'pgstock';

/*
 * Not dumped, because CREATE EXTENSION fills it.  An update script that adds a
 * table or a column must call note_columns at its end.
 */
CREATE TABLE pgstock_internal.own_columns
(
	relation	text COLLATE "C" NOT NULL,
	columns		int NOT NULL,
	types		text NOT NULL,
	CONSTRAINT own_columns_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE pgstock_internal.own_columns IS
	'columns of each table at its creation: see extension/base/column_check.c';
COMMENT ON COLUMN pgstock_internal.own_columns.types IS
	'oids of type and collation of each column, in order; 0: dropped';

CREATE FUNCTION pgstock_internal.note_columns()
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.own_columns AS o
SELECT c.relname, c.relnatts,
	   (SELECT string_agg(format('%s:%s', a.atttypid, a.attcollation), ' '
						  ORDER BY a.attnum)
		  FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)
  FROM pg_class c
 WHERE c.relnamespace = 'pgstock_internal'::regnamespace
   AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ON CONFLICT (relation) DO UPDATE
   SET columns = excluded.columns, types = excluded.types
$$;
COMMENT ON FUNCTION pgstock_internal.note_columns IS
	'records the current columns of the tables as those of pgstock';
SELECT pgstock_internal.note_columns();

/* All rights are granted by grant_stock_access only. */
DO $$
DECLARE
	g	record;
BEGIN
	FOR g IN SELECT * FROM pgstock_internal.default_grants() LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %s', g.object, g.grantee);
	END LOOP;
END
$$;
