--
-- registration: a handler runs with the rights of the role that registered it,
-- so it is refused once a name denotes another object: role, function, owner,
-- database
--
\set origin :DBNAME
CREATE DATABASE regress_reg;
\c regress_reg
CREATE EXTENSION pgstock;
CREATE ROLE regress_reg;
CREATE ROLE regress_reg_author;
CREATE ROLE regress_reg_thief;
CREATE SCHEMA rg AUTHORIZATION regress_reg_author;
GRANT CREATE ON DATABASE regress_reg TO regress_reg_author;
SELECT grant_stock_access('regress_reg', 'admin');
CREATE TABLE ran (what text, who name);
GRANT INSERT ON ran TO PUBLIC;
SET ROLE regress_reg_author;
GRANT USAGE ON SCHEMA rg TO PUBLIC;
CREATE FUNCTION rg.f(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('first', current_user) $$;
SET ROLE regress_reg;
SELECT register_handler('reg', 'rg.f');
RESET ROLE;
CREATE SEQUENCE o;
CREATE FUNCTION apply() RETURNS TABLE (result text, reason text) LANGUAGE sql AS $$
SELECT r.result, r.reason FROM pgstock_internal.relay_apply('{reg}', '{0}', ARRAY[nextval('o')], '{-1}', '{NULL}', '{"{}"}', '{NULL}',
	'{"dlq_topic": "{topic}_dlq", "retry_delays_ms": [1], "order_wait_ms": 900000, "group": "regress"}') r
$$;
SELECT * FROM apply();
-- its author may change it
SET ROLE regress_reg_author;
CREATE OR REPLACE FUNCTION rg.f(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('second', current_user) $$;
RESET ROLE;
SELECT * FROM apply();
-- created again, perhaps by another role
SET ROLE regress_reg_author;
DROP FUNCTION rg.f;
GRANT CREATE ON SCHEMA rg TO regress_reg_thief;
SET ROLE regress_reg_thief;
CREATE FUNCTION rg.f(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('thief', current_user) $$;
RESET ROLE;
SELECT * FROM apply();
-- registered again it runs, also for waiting messages
SET ROLE regress_reg;
SELECT register_handler('reg', 'rg.f');
RESET ROLE;
SELECT * FROM apply();
UPDATE pgstock_internal.failed_event SET next_retry_at = now() WHERE state = 'waiting';
SELECT r.result, r.reason FROM pgstock_internal.relay_retry(50, '{"dlq_topic": "{topic}_dlq", "retry_delays_ms": [1], "order_wait_ms": 900000, "group": "regress"}') r;
-- given to another owner, which may then change it
ALTER FUNCTION rg.f OWNER TO regress_reg_author;
SELECT * FROM apply();
SET ROLE regress_reg;
SELECT register_handler('reg', 'rg.f');
-- another schema of its name
SET ROLE regress_reg_author;
ALTER SCHEMA rg RENAME TO rg_before;
RESET ROLE;
SELECT * FROM apply();
SET ROLE regress_reg_author;
CREATE SCHEMA rg;
GRANT USAGE ON SCHEMA rg TO PUBLIC;
CREATE FUNCTION rg.f(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('other schema', current_user) $$;
RESET ROLE;
SELECT * FROM apply();
SET ROLE regress_reg_author;
DROP SCHEMA rg CASCADE;
ALTER SCHEMA rg_before RENAME TO rg;
RESET ROLE;
SELECT * FROM apply();
-- another role of the name, with other rights
SELECT grant_stock_access('regress_reg', 'none');
DROP ROLE regress_reg;
SELECT * FROM apply();
CREATE ROLE regress_reg SUPERUSER;
SELECT * FROM apply();
-- a role that lost the right to call it
ALTER ROLE regress_reg NOSUPERUSER;
SELECT grant_stock_access('regress_reg', 'admin');
SET ROLE regress_reg;
SELECT register_handler('reg', 'rg.f');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION rg.f FROM PUBLIC;
SELECT * FROM apply();
GRANT EXECUTE ON FUNCTION rg.f TO PUBLIC;
SELECT * FROM ran;
SELECT topic, handler, role FROM stock_handlers;
-- a copy of the database has its handlers once it is adopted,
-- if names and owners are the same
SET ROLE regress_reg_author;
CREATE FUNCTION rg.g(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('g', current_user) $$;
SET ROLE regress_reg;
SELECT register_handler('reg', 'rg.g', 'G'), register_handler('reg', 'rg.g', 'Lost');
RESET ROLE;
TRUNCATE ran;
\c :origin
CREATE DATABASE regress_reg_copy TEMPLATE regress_reg;
\c regress_reg_copy
SELECT * FROM apply();
-- as in a dump: other oids
SET ROLE regress_reg_author;
CREATE FUNCTION rg.h(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('f of the copy', current_user) $$;
DROP FUNCTION rg.f;
ALTER FUNCTION rg.h RENAME TO f;
RESET ROLE;
ALTER FUNCTION rg.g OWNER TO regress_reg_thief;
SELECT count(*) > 0 AS shown FROM pgstock_internal.relay_adopt(false);
SELECT * FROM apply();
SELECT count(*) > 0 AS adopted FROM pgstock_internal.relay_adopt(true);
SELECT * FROM apply();
SELECT * FROM ran;
SELECT h.topic, h.event_type, h."database" = d.oid AS here FROM pgstock_internal.user_handler h, pg_database d WHERE d.datname = current_database() ORDER BY 1, 2;
-- adopted again, it keeps no handler that was replaced meanwhile
SET ROLE regress_reg_author;
DROP FUNCTION rg.f;
CREATE FUNCTION rg.f(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES ('replaced', current_user) $$;
RESET ROLE;
SELECT count(*) > 0 AS adopted FROM pgstock_internal.relay_adopt(true);
SELECT * FROM apply();
\c :origin
DROP DATABASE regress_reg;
DROP DATABASE regress_reg_copy;
DROP ROLE regress_reg, regress_reg_author, regress_reg_thief;
