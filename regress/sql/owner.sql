--
-- owner: the powers of the owner of the extension's schema, no superuser, after
-- the install; and default privileges: other roles get nothing
--
\set origin :DBNAME
CREATE DATABASE regress_owner;
\c regress_owner
CREATE ROLE regress_keeper;
CREATE ROLE regress_clerk;
GRANT CREATE ON DATABASE regress_owner TO regress_keeper;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_clerk;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_clerk;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_clerk;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_clerk;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_clerk, PUBLIC;
SET ROLE regress_keeper;
CREATE SCHEMA shop;
RESET ROLE;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT ALL ON FUNCTIONS TO regress_clerk;
CREATE EXTENSION pgstock SCHEMA shop;
-- a superuser's default privileges give nothing of pgstock's
SELECT * FROM pgstock_internal.default_grants();
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'pgstock_internal'::regnamespace AND c.relkind IN ('r', 'p', 'v')
   AND has_table_privilege('regress_clerk', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'pgstock_internal'::regnamespace AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('regress_clerk', c.oid, 'USAGE, SELECT, UPDATE') END;
SELECT t.oid::regtype FROM pg_type t, aclexplode(t.typacl) a WHERE t.typnamespace IN ('pgstock_internal'::regnamespace, 'shop'::regnamespace) AND a.grantee = 'regress_clerk'::regrole;
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace IN ('pgstock_internal'::regnamespace, 'shop'::regnamespace) AND has_function_privilege('regress_clerk', p.oid, 'EXECUTE');
SELECT has_schema_privilege('regress_clerk', 'pgstock_internal', 'USAGE, CREATE') AS schema, has_type_privilege('regress_clerk', 'shop.stock_result', 'USAGE') AS type;
-- nor of later objects
SELECT pgstock_internal.outbox_add_part(7);
SELECT grantee::regrole FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'pgstock_internal.outbox_7'::regclass AND a.grantee <> c.relowner;
-- USAGE on the schema: granted and revoked, but never other roles' grants,
-- nor its owner's
SELECT shop.grant_stock_access('regress_keeper', 'admin'), shop.grant_stock_access('regress_keeper', 'none');
SELECT has_schema_privilege('regress_keeper', 'shop', 'USAGE') AS usage;
CREATE ROLE regress_own_usage;
SET ROLE regress_keeper;
GRANT USAGE ON SCHEMA shop TO regress_own_usage;
RESET ROLE;
SELECT count(shop.grant_stock_access(r, l))
  FROM (VALUES ('regress_clerk', 'app'), ('regress_own_usage', 'reader'), ('regress_clerk', 'reader'), ('regress_own_usage', 'none'), ('regress_clerk', 'none'),
			   ('regress_clerk', 'none'), ('regress_keeper', 'admin'), ('regress_keeper', 'none')) AS v (r, l);
SELECT r, has_schema_privilege(r, 'shop', 'USAGE') AS usage FROM unnest('{regress_clerk,regress_own_usage,regress_keeper}'::name[]) r;
-- a role of the same name that is another one
SELECT shop.grant_stock_access('regress_clerk', 'app');
DROP OWNED BY regress_clerk;
DROP ROLE regress_clerk;
CREATE ROLE regress_clerk;
GRANT USAGE ON SCHEMA shop TO regress_clerk;
SELECT shop.grant_stock_access('regress_clerk', 'none');
SELECT shop.grant_stock_access('regress_clerk', 'app'), shop.grant_stock_access('regress_clerk', 'none');
SELECT has_schema_privilege('regress_clerk', 'shop', 'USAGE') AS usage;
-- rows for each function to find
SELECT shop.receive_stock('own-a', 10);
SELECT (shop.reserve_stock('own-a', 3, 'own-1')).granted;
UPDATE pgstock_internal.level SET reserved = 4 WHERE product_id = 'own-a';
CREATE FUNCTION dead(n int) RETURNS text LANGUAGE sql AS $$
SELECT result FROM pgstock_internal.relay_apply('{payment-failed}', '{0}', ARRAY[n::bigint], '{-1}', '{k}', '{7b7d}', '{NULL}',
	'{"group": "g", "dlq_topic": "{topic}_dlq", "order_wait_ms": 1, "retry_delays_ms": []}')
$$;
SELECT dead(1), dead(2), dead(3);
-- The schema is replaced by another, with a double of each of our functions.
SET ROLE regress_keeper;
ALTER SCHEMA shop RENAME TO shop_before;
CREATE SCHEMA shop;
SET check_function_bodies = off;
CREATE FUNCTION shop.sprung(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the double was called: %', what; END $$;
DO $$
DECLARE
	p	pg_proc;
	v	record;
BEGIN
	FOR p IN SELECT * FROM pg_proc f WHERE f.pronamespace = 'shop_before'::regnamespace AND f.proname <> 'publish_outbox_row' LOOP
		EXECUTE format('CREATE FUNCTION shop.%I(%s) RETURNS %s LANGUAGE sql AS %L', p.proname, pg_get_function_arguments(p.oid),
			pg_get_function_result(p.oid), format('SELECT shop.sprung(%L)', p.proname));
	END LOOP;
	FOR v IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'shop_before'::regnamespace AND c.relkind = 'v' LOOP
		EXECUTE format('CREATE VIEW shop.%I AS SELECT shop.sprung(%L)', v.relname, v.relname);
	END LOOP;
END
$$;
RESET ROLE;
RESET check_function_bodies;
SELECT count(*) > 30 AS doubles FROM pg_proc f WHERE f.pronamespace = 'shop'::regnamespace;
SELECT what, expected, found FROM shop_before.verify_stock() ORDER BY 1;
SELECT what, expected, found FROM shop_before.repair_stock('own-a', 'r') ORDER BY 1;
SELECT * FROM shop_before.verify_stock();
SELECT pgstock_internal.relay_failed_act('retry', 1, 'r'), pgstock_internal.relay_failed_act('discard', 1, 'r'), pgstock_internal.relay_failed_act('handled', 2, 'r');
SELECT shop_before.retry_failed_event(3), shop_before.discard_failed_event(3, 'r'), shop_before.mark_failed_event_handled(2, 'r');
SELECT id, state, handled FROM pgstock_internal.failed_event ORDER BY id;
SELECT action, target FROM shop_before.stock_admin_actions WHERE action ~ 'failed|repair' ORDER BY at;
SELECT shop_before.grant_stock_access('regress_clerk', 'app');
SELECT has_schema_privilege('regress_clerk', 'shop_before', 'USAGE') AS ours, has_function_privilege('regress_clerk', 'shop_before.confirm_stock(text, text, text)', 'EXECUTE') AS function;
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'shop'::regnamespace AND p.proacl IS NOT NULL;
SELECT (shop_before.reserve_stock('own-a', 1, 'own-2', idempotency_key => 'own-k')).status, pgstock_internal.expire_due(10) IS NOT NULL AS due;
SELECT pgstock_internal.purge_old(10) AS purged;
SELECT pgstock_internal.relay_purge('1 year', '1 year', 10) AS more;
SELECT count(*) > 0 AS some FROM pgstock_internal.relay_status();
SELECT count(*) > 0 AS some FROM pgstock_internal.relay_metrics();
-- No body names the extension's schema, so no name in it counts.
SELECT p.oid::regprocedure FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
  JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE x.extname = 'pgstock' AND p.prosrc ~ '\mshop\M';
-- A function with a new owner is that owner's,
-- and no function of ours calls it.
SELECT format('ALTER FUNCTION %s OWNER TO regress_keeper', p.oid::regprocedure) FROM pg_proc p WHERE p.pronamespace = 'shop_before'::regnamespace
   AND p.proname IN ('verify_stock', 'discard_failed_event', 'mark_failed_event_handled') ORDER BY 1 \gexec
SET ROLE regress_keeper;
CREATE OR REPLACE FUNCTION shop_before.verify_stock(product_id text DEFAULT NULL, OUT product_id text, OUT location text, OUT what text, OUT expected bigint, OUT found bigint)
RETURNS SETOF record LANGUAGE sql AS $$ SELECT ''::text, ''::text, shop.sprung('given away'), 0::bigint, 0::bigint $$;
CREATE OR REPLACE FUNCTION shop_before.discard_failed_event(id bigint, reason text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.sprung('given away'); END $$;
RESET ROLE;
SELECT * FROM shop_before.repair_stock('own-a', 'r');
SELECT dead(4), pgstock_internal.relay_failed_act('discard', 4, 'r');
-- actions that the schema's owner cannot do
SET ROLE regress_keeper;
\set VERBOSITY terse
CREATE OR REPLACE FUNCTION shop_before.receive_stock(product_id text, quantity bigint, location text DEFAULT 'main', reference text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
ALTER FUNCTION shop_before.receive_stock RENAME TO other;
DROP FUNCTION shop_before.receive_stock;
DROP VIEW shop_before.stock_levels;
CREATE FUNCTION pgstock_internal.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER SCHEMA pgstock_internal RENAME TO other;
ALTER EXTENSION pgstock SET SCHEMA shop;
ALTER EXTENSION pgstock DROP FUNCTION shop_before.receive_stock;
ALTER EXTENSION pgstock UPDATE;
RESET ROLE;
-- ... but one it can: drop everything
SET ROLE regress_keeper;
DROP SCHEMA shop_before CASCADE;
RESET ROLE;
-- a role that owns the database and is no superuser cannot create the extension
CREATE DATABASE regress_owned OWNER regress_keeper;
\c regress_owned
SET ROLE regress_keeper;
CREATE EXTENSION pgstock;
RESET ROLE;
\c :origin
DROP DATABASE regress_owner;
DROP DATABASE regress_owned;
DROP ROLE regress_keeper, regress_clerk, regress_own_usage;
