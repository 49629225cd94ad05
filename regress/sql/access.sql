--
-- access: grant_stock_access is the only way to any right, and each level of
-- access has the rights of its name and no more
--
CREATE ROLE regress_reader;
CREATE ROLE regress_app;
CREATE ROLE regress_relay;
CREATE ROLE regress_admin;
CREATE ROLE regress_nobody;
CREATE ROLE regress_other;
SELECT grant_stock_access('regress_reader', 'reader'), grant_stock_access('regress_app', 'app'),
	   grant_stock_access('regress_relay', 'relay'), grant_stock_access('regress_admin', 'admin');
CREATE VIEW own AS
SELECT d.classid, d.objid FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
 WHERE x.extname = 'pgstock';
-- nothing for PUBLIC
SELECT p.oid::regprocedure FROM own JOIN pg_proc p ON p.oid = objid, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 WHERE classid = 'pg_proc'::regclass AND a.grantee = 0;
SELECT c.oid::regclass FROM own JOIN pg_class c ON c.oid = objid, aclexplode(c.relacl) a WHERE classid = 'pg_class'::regclass AND a.grantee = 0;
SELECT n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'pgstock_internal' AND a.grantee = 0;
-- every function that runs with its owner's rights has its search_path pinned
SELECT p.oid::regprocedure FROM own JOIN pg_proc p ON p.oid = objid
 WHERE classid = 'pg_proc'::regclass AND p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);
-- the functions and views of each level, according to the catalogs
SELECT r, string_agg(f, ' ' ORDER BY f COLLATE "C") AS functions
  FROM unnest('{regress_reader,regress_app,regress_relay,regress_nobody}'::name[]) r,
	   LATERAL (SELECT p.proname::text AS f FROM own JOIN pg_proc p ON p.oid = objid
				 WHERE classid = 'pg_proc'::regclass AND has_function_privilege(r, p.oid, 'EXECUTE')) x GROUP BY 1 ORDER BY 1;
SELECT r, string_agg(f, ' ' ORDER BY f COLLATE "C") AS relations
  FROM unnest('{regress_reader,regress_app,regress_relay,regress_admin,regress_nobody}'::name[]) r,
	   LATERAL (SELECT c.relname::text AS f FROM own JOIN pg_class c ON c.oid = objid
				 WHERE classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v', 'S') AND has_table_privilege(r, c.oid, 'SELECT')) x GROUP BY 1 ORDER BY 1;
SELECT count(*) AS admin_lacks FROM own JOIN pg_proc p ON p.oid = objid
 WHERE classid = 'pg_proc'::regclass AND NOT has_function_privilege('regress_admin', p.oid, 'EXECUTE');
-- no role writes except through the functions, not even the admin
SELECT r, c.oid::regclass FROM unnest('{regress_reader,regress_app,regress_relay,regress_admin,regress_nobody}'::name[]) r, own JOIN pg_class c ON c.oid = objid
 WHERE classid = 'pg_class'::regclass AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(r, c.oid, 'USAGE, UPDATE')
	   WHEN c.relkind IN ('r', 'v') THEN has_table_privilege(r, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END;
-- and in practice
SELECT receive_stock('access-a', 10);
SET ROLE regress_app;
SELECT status FROM reserve_stock('access-a', 1, 'access-1');
SELECT status FROM try_reserve_order('access-2', '[{"product_id": "access-a", "quantity": 1}]');
SELECT status FROM confirm_stock('access-1');
SELECT status FROM release_stock('access-2');
SELECT status FROM rollback_stock('access-1');
SELECT publish_event('access', 'k', '{}') IS NOT NULL AS id;
SELECT publish_bytes('access', 'k', convert_to('not JSON', 'UTF8')) IS NOT NULL AS id;
SELECT available FROM stock_levels WHERE product_id = 'access-a';
SELECT state FROM stock_reservations WHERE order_id = 'access-1';
SELECT outcome_of($$SELECT receive_stock('access-a', 1)$$);
SELECT outcome_of('SELECT * FROM stock_movements');
SELECT outcome_of('SELECT * FROM pgstock_internal.level');
SELECT outcome_of($$SELECT grant_stock_access('regress_app', 'admin')$$);
SET ROLE regress_reader;
SELECT count(*) > 0 AS some FROM stock_levels;
SELECT count(*) > 0 AS some FROM stock_movements;
SELECT count(payload) > 0 AND count(headers) > 0 AND count(key) > 0 AS some, bool_or(payload = to_jsonb('not JSON'::text)) AS bytes_too FROM stock_outbox;
SELECT count(key) >= 0 AS some FROM stock_inbox;
SELECT count(payload) >= 0 AS some FROM stock_failed_events;
SELECT count(reason) >= 0 AS some FROM failed_order_archives;
SELECT count(*) >= 0 AS some FROM stock_admin_actions;
SELECT * FROM verify_stock();
SELECT outcome_of($$SELECT reserve_stock('access-a', 1, 'access-3')$$);
SELECT outcome_of($$SELECT repair_stock('access-a', 'x')$$);
SET ROLE regress_relay;
SELECT pgstock_internal.relay_lead() > 0 AS leads;
SELECT count(*) > 0 AS some FROM (SELECT pgstock_internal.relay_next_window(p."window") AS w FROM pgstock_internal.relay_position() p) x,
	   LATERAL pgstock_internal.relay_page(w, 0, 10, 1000000);
SELECT count(l.next_window) AS windows FROM pgstock_internal.relay_position() p, pgstock_internal.relay_look(p."window", 'auto', 10, 1000000) l;
SELECT s.asleep FROM pgstock_internal.relay_position() p, pgstock_internal.relay_sleep(p."window") s;
SELECT count(*) > 0 AS some FROM pgstock_internal.relay_metrics();
SELECT relay_api FROM pgstock_internal.relay_hello();
SELECT count(*) > 0 AS some FROM pgstock_internal.relay_topics();
SELECT found FROM pgstock_internal.relay_adopt(false) ORDER BY 1;
SELECT result, reason FROM pgstock_internal.relay_apply('{payment-failed}', '{0}', '{987654321}', '{-1}', '{NULL}', '{7b7d}', '{NULL}', relay_options());
SELECT count(*) FROM pgstock_internal.relay_retry(0, relay_options());
SELECT n >= 0 AS counted, trouble FROM pgstock_internal.relay_upkeep('100 years', '100 years', 1000);
SELECT pg_advisory_unlock_all();
SELECT outcome_of($$SELECT reserve_stock('access-a', 1, 'access-3')$$);
SELECT outcome_of('SELECT * FROM stock_outbox');
SET ROLE regress_nobody;
SELECT outcome_of('SELECT * FROM stock_levels');
SELECT outcome_of('SELECT pgstock_internal.relay_lead()');
SELECT outcome_of('SELECT verify_stock()');
-- the ledger names the calling role,
-- also through a function with another owner's rights
RESET ROLE;
CREATE FUNCTION take(order_id text) RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT status FROM reserve_stock('access-a', 1, order_id) $$;
SET ROLE regress_other;
SELECT take('access-4');
SELECT outcome_of($$SELECT reserve_stock('access-a', 1, 'access-5')$$);
RESET ROLE;
SELECT actor, order_id FROM stock_movements WHERE order_id ~ '^access-' AND kind = 'reserved' ORDER BY id;
-- the admin grants its own rights, and revokes them;
-- a lower level removes the rights of a higher one
SET ROLE regress_admin;
SELECT receive_stock('access-a', 1);
SELECT grant_stock_access('regress_other', 'app');
SELECT grant_stock_access('regress_app', 'reader');
RESET ROLE;
SELECT r, has_function_privilege(r, 'reserve_stock(text,bigint,text,text,text,interval,text,text)', 'EXECUTE') AS reserves, has_table_privilege(r, 'stock_movements', 'SELECT') AS reads
  FROM unnest('{regress_app,regress_other}'::name[]) r;
SELECT grant_stock_access(rolname, 'none') FROM pg_roles WHERE rolname ~ '^regress_(reader|app|relay|admin|other)$';
SELECT r FROM unnest('{regress_reader,regress_app,regress_relay,regress_admin,regress_other}'::name[]) r, own JOIN pg_proc p ON p.oid = objid
 WHERE classid = 'pg_proc'::regclass AND has_function_privilege(r, p.oid, 'EXECUTE');
DROP FUNCTION take;
DROP VIEW own;
-- no dependency remains that would keep a role from being dropped
DROP ROLE regress_reader, regress_app, regress_relay, regress_admin, regress_nobody, regress_other;
