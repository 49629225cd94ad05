--
-- traps: CREATE EXTENSION runs no code that the owner of the schema, no
-- superuser, has put there; nor does any function later
--
\set origin :DBNAME
CREATE DATABASE regress_traps;
\c regress_traps
CREATE ROLE regress_trapper;
CREATE SCHEMA shop AUTHORIZATION regress_trapper;
CREATE SCHEMA laid;
GRANT USAGE ON SCHEMA laid TO regress_trapper;
-- The words, operators and types that the install script uses.
CREATE TABLE laid.script AS
SELECT pg_read_file(c.setting || '/extension/pgstock--' || e.default_version || '.sql') AS script
  FROM pg_config c, pg_available_extensions e WHERE c.name = 'SHAREDIR' AND e.name = 'pgstock';
CREATE TABLE laid.word AS
SELECT DISTINCT lower(m[1]) AS word FROM laid.script, regexp_matches(script, '[a-zA-Z_][a-zA-Z0-9_]*', 'g') m;
CREATE TABLE laid.operator AS
SELECT o.oprname::text AS name, coalesce(min(o.oprresult::regtype::text) FILTER (WHERE r.typtype = 'b'), 'text') AS result
  FROM pg_operator o JOIN pg_type r ON r.oid = o.oprresult, laid.script WHERE position(o.oprname::text IN script) > 0 AND o.oprleft <> 0 GROUP BY 1;
CREATE TABLE laid.type AS
SELECT 'pg_catalog.' || quote_ident(t.typname) AS name, t.typname::text AS short
  FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typcategory <> 'A'
   AND (t.typname IN (SELECT word FROM laid.word) OR t.typname IN ('int2', 'int4', 'int8', 'float8', 'bool', 'numeric', 'char'));
GRANT SELECT ON ALL TABLES IN SCHEMA laid TO regress_trapper;
SELECT count(*) > 300 AS words, (SELECT count(*) > 15 FROM laid.operator) AS operators, (SELECT count(*) > 15 FROM laid.type) AS types FROM laid.word;
-- Each trap reports that it was called.  The owner of the schema creates them.
SET debug_discard_caches = 0;
SET ROLE regress_trapper;
CREATE FUNCTION shop.sprung(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the trap was called: %', what; END $$;
CREATE PROCEDURE shop.lay_trap(name text, arguments text, result text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE FUNCTION shop.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, arguments, result,
		format('BEGIN PERFORM shop.sprung(%L); RETURN NULL; END', name || '(' || arguments || ')'));
EXCEPTION WHEN duplicate_function THEN
	NULL;
END
$$;
-- Functions: those of the system by the same name,
-- with each argument in turn of each other type.
DO $$
DECLARE
	f	record;
	a	int;
	t	text;
	r	text;
	own	text[];
BEGIN
	FOR f IN SELECT p.* FROM pg_catalog.pg_proc p JOIN laid.word w ON w.word = p.proname
			  WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p' AND p.pronargs <= 4 LOOP
		r := CASE WHEN f.prorettype IN (SELECT y.oid FROM pg_type y WHERE y.typtype = 'p') THEN 'text' ELSE f.prorettype::regtype::text END;
		own := ARRAY(SELECT CASE WHEN y.typtype = 'p' THEN 'text' ELSE y.oid::regtype::text END
					   FROM unnest(f.proargtypes) WITH ORDINALITY u (oid, i) JOIN pg_type y ON y.oid = u.oid ORDER BY u.i);
		CALL shop.lay_trap(f.proname, array_to_string(own, ', '), r);
		FOR a IN 1 .. f.pronargs LOOP
			FOR t IN SELECT y.name FROM laid.type y LOOP
				CALL shop.lay_trap(f.proname, array_to_string(own[:a - 1] || t || own[a + 1:], ', '), r);
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
-- Operators, of all pairs of types.
DO $$
DECLARE
	o	record;
BEGIN
	FOR o IN SELECT DISTINCT l.name AS l, r.name AS r, p.result FROM laid.type l, laid.type r, laid.operator p LOOP
		CALL shop.lay_trap('operator to ' || o.result, o.l || ', ' || o.r, o.result);
	END LOOP;
	FOR o IN SELECT l.name AS l, r.name AS r, p.name, p.result FROM laid.type l, laid.type r, laid.operator p LOOP
		EXECUTE format('CREATE OPERATOR shop.%s (FUNCTION = shop.%I, LEFTARG = %s, RIGHTARG = %s)', o.name, 'operator to ' || o.result, o.l, o.r);
	END LOOP;
END
$$;
-- Types, casts and relations.
DO $$
DECLARE
	t	record;
BEGIN
	FOR t IN SELECT * FROM laid.type LOOP
		EXECUTE format('CREATE DOMAIN shop.%I AS %s CHECK (shop.sprung(%L) IS NULL)', t.short, t.name, 'domain ' || t.short);
	END LOOP;
	CREATE TYPE shop.odd AS (a pg_catalog.int4);
	FOR t IN SELECT * FROM laid.type LOOP
		CALL shop.lay_trap('cast to ' || t.short, 'shop.odd', t.name);
		EXECUTE format('CREATE CAST (shop.odd AS %s) WITH FUNCTION shop.%I(shop.odd) AS IMPLICIT', t.name, 'cast to ' || t.short);
		CALL shop.lay_trap('cast from ' || t.short, t.name, 'shop.odd');
		EXECUTE format('CREATE CAST (%s AS shop.odd) WITH FUNCTION shop.%I(%1$s) AS IMPLICIT', t.name, 'cast from ' || t.short);
	END LOOP;
	FOR t IN SELECT c.relname FROM pg_catalog.pg_class c JOIN laid.word w ON w.word = c.relname WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') LOOP
		EXECUTE format('CREATE VIEW shop.%I AS SELECT shop.sprung(%L)', t.relname, 'relation ' || t.relname);
	END LOOP;
END
$$;
CREATE COLLATION shop."C" (provider = libc, locale = 'POSIX');
CREATE DEFAULT CONVERSION shop.turned FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
RESET ROLE;
RESET debug_discard_caches;
-- They work.
\set VERBOSITY terse
SET search_path = shop, pg_catalog;
SELECT 1::pg_catalog.int8 = true;
SELECT pg_catalog.random() * 99999999;
SELECT now();
RESET search_path;
\set VERBOSITY default
CREATE TABLE laid.trap AS
SELECT 'pg_proc'::regclass::oid AS class, oid FROM pg_proc WHERE pronamespace = 'shop'::regnamespace
UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace = 'shop'::regnamespace
UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = 'shop'::regnamespace
UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = 'shop'::regnamespace
UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384
UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE collnamespace = 'shop'::regnamespace;
SELECT count(*) > 5000 AS many FROM laid.trap;
CREATE TABLE laid.depends AS
SELECT d.classid, d.objid, d.refobjid FROM pg_depend d JOIN laid.trap t ON (t.class, t.oid) = (d.refclassid, d.refobjid);
-- The superuser's search_path begins with them, as ALTER DATABASE can set it.
SET search_path = shop, pg_catalog;
CREATE EXTENSION pgstock SCHEMA shop;
RESET search_path;
-- nor does any remain in a view, a default, an index or a body
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS trap
  FROM pg_depend d JOIN laid.trap t ON (t.class, t.oid) = (d.refclassid, d.refobjid)
 WHERE NOT EXISTS (SELECT FROM laid.depends b WHERE (b.classid, b.objid, b.refobjid) = (d.classid, d.objid, d.refobjid));
-- every function has its search_path, or is C, or was parsed at its creation
SELECT p.oid::regprocedure FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
  JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid JOIN pg_language l ON l.oid = p.prolang
 WHERE x.extname = 'pgstock' AND l.lanname <> 'c' AND p.prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);
-- Every function of ours without required arguments, and some more, called by a
-- superuser with that search_path.
SET search_path = shop, pg_catalog;
SELECT shop.receive_stock('trap-a', 10);
SELECT (shop.reserve_stock('trap-a', 2, 'trap-1', 'ann', idempotency_key => 'trap-k')).status;
SELECT (shop.reserve_stock('trap-a', 2, 'trap-1', 'ann', idempotency_key => 'trap-k')).replayed;
SELECT status FROM shop.confirm_stock('trap-1');
SELECT shop.open_flash_sale('trap-sale', 'trap-a', 2);
SELECT (shop.purchase_flash_sale('trap-sale', 'ann', 'trap-2')).status;
SELECT shop.close_flash_sale('trap-sale');
SELECT shop.publish_event('trap', 'k', '{"a": 1}', headers => '{"h": "v"}') IS NOT NULL;
SELECT * FROM shop.verify_stock();
SELECT * FROM shop.repair_stock('trap-a', 'r');
SELECT shop.purge_history('1990-01-01'), shop.expire_reservations();
SELECT shop.grant_stock_access('regress_trapper', 'app'), shop.grant_stock_access('regress_trapper', 'none');
SELECT pgstock_internal.relay_hello() IS NOT NULL, pgstock_internal.relay_lead();
SELECT pgstock_internal.relay_next_window("window") IS NOT NULL FROM pgstock_internal.relay_position();
SELECT pg_catalog.count(*) FROM pgstock_internal.relay_position() p, LATERAL pgstock_internal.relay_look(p."window", 'local', 10, 100000);
SELECT result, reason FROM pgstock_internal.relay_apply('{payment-failed}', '{0}', '{1}', '{-1}', '{k}', '{7b7d}', '{NULL}',
	'{"group": "g", "dlq_topic": "{topic}_dlq", "order_wait_ms": 1, "retry_delays_ms": []}');
SELECT pgstock_internal.relay_failed_act('handled', id, 'r') FROM shop.stock_failed_events;
SELECT pg_catalog.count(*) FROM pgstock_internal.relay_failed(NULL, NULL, NULL, NULL, NULL, NULL, 0, 10);
SELECT pg_catalog.count(*) IS NOT NULL FROM pgstock_internal.relay_status();
SELECT pg_catalog.count(*) IS NOT NULL FROM pgstock_internal.relay_metrics();
SELECT pg_catalog.count(*) FROM pgstock_internal.relay_alerts(10, 10);
SELECT pg_catalog.count(*) IS NOT NULL FROM pgstock_internal.relay_adopt(false);
SELECT pgstock_internal.relay_purge('100 years', '100 years', 1000), pgstock_internal.expire_due(10) IS NOT NULL, pgstock_internal.purge_old(10);
SELECT events FROM pgstock_internal.relay_replay(NULL, 0, 10, false, 'r');
SELECT pg_catalog.count(*) IS NOT NULL FROM pgstock_internal.relay_audit_page(NULL, 0, 1000, 10);
SELECT pg_catalog.count(*) FROM shop.stock_levels;
SELECT pg_catalog.count(*) FROM shop.stock_outbox;
SELECT pg_catalog.count(*) FROM shop.failed_order_archives;
RESET search_path;
\c :origin
DROP DATABASE regress_traps;
DROP ROLE regress_trapper;
