--
-- lifecycle: the extension is created and dropped in one session, in any
-- schema, and the next call works at once; nothing remains of it
--
\set origin :DBNAME
CREATE DATABASE regress_lifecycle;
\c regress_lifecycle
CREATE EXTENSION pgstock;
SELECT receive_stock('life-a', 5);
-- a function of the application's that holds plans on ours
CREATE FUNCTION buy(order_id text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (reserve_stock('life-a', 1, order_id)).status; END $$;
PREPARE buy AS SELECT status FROM reserve_stock('life-a', 1, $1);
SELECT buy('life-1');
EXECUTE buy('life-2');
DROP EXTENSION pgstock;
SELECT buy('life-3');
EXECUTE buy('life-3');
CREATE EXTENSION pgstock;
-- (where it failed is worded by the server's version)
\set SHOW_CONTEXT never
SELECT buy('life-3');
\set SHOW_CONTEXT errors
SELECT receive_stock('life-a', 1);
SELECT buy('life-3');
SELECT on_hand, reserved, version FROM stock_levels;
-- caches for the next call do not outlive a rollback either
BEGIN;
DROP EXTENSION pgstock;
CREATE EXTENSION pgstock;
SELECT receive_stock('life-b', 1);
ROLLBACK;
SELECT buy('life-3');
BEGIN;
DROP EXTENSION pgstock;
ROLLBACK;
SELECT status FROM confirm_stock('life-3');
-- settings exist before the library is loaded, and are checked when it is
\c
SET pgstock.max_lines = 3;
SELECT receive_stock('life-c', 1);
SHOW pgstock.max_lines;
\c
SET pgstock.max_lines = 'many';
SELECT receive_stock('life-c', 1);
SHOW pgstock.max_lines;
-- a dependent object prevents DROP, or is dropped with it
CREATE VIEW mine AS SELECT * FROM stock_levels;
DROP EXTENSION pgstock;
DROP VIEW mine;
DROP EXTENSION pgstock;
-- nothing remains
SELECT nspname FROM pg_namespace WHERE nspname ~ 'stock';
SELECT count(*) FROM pg_proc WHERE probin ~ 'pgstock';
-- the careful way: a schema of its own, outside of every search_path
CREATE SCHEMA "Stock schema";
CREATE EXTENSION pgstock SCHEMA "Stock schema";
SELECT "Stock schema".receive_stock('life-a', 3);
SELECT status FROM "Stock schema".reserve_order('life-4', '[{"product_id": "life-a", "quantity": 1}]');
SELECT status FROM "Stock schema".confirm_stock('life-4');
SELECT available FROM "Stock schema".stock_levels;
SELECT * FROM "Stock schema".verify_stock();
SELECT * FROM "Stock schema".repair_stock('life-a', 'x');
SELECT n.nspname, p.prokind, count(*) > 0 AS some FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.probin ~ 'pgstock' GROUP BY 1, 2 ORDER BY 1;
CREATE ROLE regress_life_app;
SELECT "Stock schema".grant_stock_access('regress_life_app', 'app');
SET ROLE regress_life_app;
SELECT status FROM "Stock schema".reserve_stock('life-a', 1, 'life-5');
RESET ROLE;
SELECT "Stock schema".grant_stock_access('regress_life_app', 'none');
DROP ROLE regress_life_app;
-- it cannot be moved, nor installed twice,
-- nor beside a foreign schema of that name
ALTER EXTENSION pgstock SET SCHEMA public;
CREATE EXTENSION pgstock;
-- a part of the outbox that was added later is dropped with it
SELECT pgstock_internal.outbox_add_part(7);
DROP EXTENSION pgstock;
SELECT to_regclass('pgstock_internal.outbox_7');
CREATE SCHEMA pgstock_internal;
CREATE TABLE pgstock_internal.level (a int);
\set SHOW_CONTEXT never
CREATE EXTENSION pgstock;
\set SHOW_CONTEXT errors
DROP SCHEMA pgstock_internal CASCADE;
CREATE EXTENSION pgstock;
SELECT count(*) FROM pg_extension WHERE extname = 'pgstock';
-- every object has a comment; the types of a table,
-- a view or another type are members from PostgreSQL 18 on
SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
  LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid LEFT JOIN pg_class r ON r.oid = t.typrelid
 WHERE x.extname = 'pgstock' AND obj_description(d.objid, d.classid::regclass::text) IS NULL AND c.relkind IS DISTINCT FROM 'S'
   AND t.typcategory IS DISTINCT FROM 'A' AND (r.relkind = 'c') IS NOT FALSE;
-- all tables and sequences are dumped, except the identity of the database,
-- tries under way and what a restored database records anew
SELECT c.relname FROM pg_extension x, pg_class c WHERE x.extname = 'pgstock' AND c.relnamespace = 'pgstock_internal'::regnamespace
   AND c.relkind IN ('r', 'S') AND c.oid <> ALL (x.extconfig) ORDER BY 1;
\c :origin
DROP DATABASE regress_lifecycle;
