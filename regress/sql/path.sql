--
-- path: a hostile search_path changes nothing: neither functions and operators
-- that look like ours or the system's, nor tables with our tables' names
--
SELECT receive_stock('path-a', 10);
-- Each of these reports that it was called.
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the trap was called'; END $$;
DO $$
DECLARE
	type		text;
	operator	text;
	signature	text;
BEGIN
	FOREACH type IN ARRAY '{text,bigint,int,xid8,timestamptz,uuid,bytea,boolean,name,oid,numeric,interval}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION hostile.sprung(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS %2$L', type, 'SELECT hostile.trap()');
		FOREACH operator IN ARRAY '{=,<>,<,<=,>,>=,+,-,||}'::text[] LOOP
			EXECUTE format('CREATE OPERATOR hostile.%1$s (FUNCTION = hostile.sprung, LEFTARG = %2$s, RIGHTARG = %2$s)', operator, type);
		END LOOP;
	END LOOP;
	FOREACH signature IN ARRAY ARRAY['now()', 'clock_timestamp()', 'pg_current_snapshot()', 'pg_control_system()', 'current_database()',
		'gen_random_uuid()', 'nextval(regclass)', 'to_jsonb(text)', 'convert_from(bytea, text)', 'concat_ws(text, text, text)',
		'pg_try_advisory_lock(bigint)', 'current_setting(text, boolean)', 'set_config(text, text, boolean)', 'format(text, text)', 'verify_stock(text)',
		'receive_stock(text, bigint)', 'numeric_out(numeric)', 'to_json(text)'] LOOP
		EXECUTE format('CREATE FUNCTION hostile.%s RETURNS boolean LANGUAGE sql AS %L', signature, 'SELECT hostile.trap()');
	END LOOP;
END
$$;
-- tables, types and views with the names of ours,
-- also where any role may create them
CREATE TABLE hostile.level AS SELECT 'path-a'::text AS product_id, 1000 AS on_hand;
CREATE TABLE hostile.outbox (seq bigint);
CREATE TYPE hostile.stock_result AS (a int);
CREATE TEMP TABLE level AS SELECT 'path-a'::text AS product_id, 1000 AS on_hand;
CREATE TEMP TABLE reservation (a int);
CREATE TEMP TABLE movement (a int);
CREATE TEMP TABLE outbox (a int);
CREATE TEMP TABLE idempotency (a int);
CREATE TEMP TABLE pg_extension (a int);
CREATE TEMP TABLE pg_proc (a int);
CREATE TEMP TABLE pg_roles (rolname name);
CREATE TEMP SEQUENCE movement_id START 1000000000;
CREATE TEMP SEQUENCE outbox_seq START 1000000000;
CREATE ROLE regress_path;
GRANT USAGE ON SCHEMA hostile, public TO regress_path;
SELECT grant_stock_access('regress_path', 'admin');
SET search_path = pg_temp, hostile, pg_catalog, public;
SHOW search_path;
SELECT 'a'::text = 'a'::text AS the_trap_works;
-- each function once
SELECT public.receive_stock('path-a'::text, 5::bigint, 'main'::text, NULL::text);
SELECT (public.reserve_stock('path-a', 2, 'path-1', 'ann', idempotency_key => 'path-k')).status;
SELECT (public.reserve_stock('path-a', 2, 'path-1', 'ann', idempotency_key => 'path-k')).replayed;
SELECT status FROM public.reserve_order('path-2', '[{"product_id": "path-a", "quantity": 2}]', NULL);
SELECT status, available FROM public.try_reserve_order('path-3', '[{"product_id": "path-a", "quantity": 99}]', NULL);
SELECT status FROM public.reserve_orders('[{"order_id": "path-5", "items": [{"product_id": "path-a", "quantity": 1}]}]');
SELECT status FROM public.confirm_stock('path-1', 'P');
SELECT status FROM public.release_stock('path-2', 'r', NULL);
SELECT status FROM public.rollback_stock('path-5', 'r', NULL);
SELECT status FROM public.return_stock('path-1', NULL);
SELECT public.adjust_stock('path-a', -1, 'r'), public.set_stock('path-a', 20), public.move_stock('path-a', 1, 'main', 'east');
SELECT public.expire_reservations() IS NOT NULL AS done;
SELECT public.publish_event('path', 'path-6', '{}') IS NOT NULL AS id;
SELECT public.set_event_topic('PathEvent', 'path');
SELECT * FROM public.verify_stock(NULL);
SELECT * FROM public.repair_stock('path-a', 'r');
SELECT public.purge_history('1990-01-01');
SELECT pgstock_internal.relay_lead() IS NOT NULL AS leads;
SELECT pgstock_internal.relay_next_window("window") IS NOT NULL AS w FROM pgstock_internal.relay_position();
SELECT pg_catalog.min(name) FROM pgstock_internal.relay_metrics();
SELECT result, reason FROM pgstock_internal.relay_apply('{payment-failed}', '{0}', '{987654322}', '{-1}', '{NULL}', '{7b7d}', '{NULL}', public.relay_options());
SELECT pgstock_internal.relay_purge('100 years', '100 years', 1000) IS NOT NULL AS purge, pgstock_internal.relay_hello() IS NOT NULL AS hello;
SELECT public.grant_stock_access('regress_path', 'none');
SELECT public.grant_stock_access('regress_path', 'app');
SELECT product_id, location, on_hand, reserved FROM public.stock_levels WHERE product_id OPERATOR(pg_catalog.=) 'path-a' ORDER BY location;
SELECT pg_catalog.count(*) FROM public.stock_outbox WHERE key OPERATOR(pg_catalog.=) 'path-6';
SET ROLE regress_path;
SELECT (public.reserve_stock('path-a', 2, 'path-7')).status;
RESET ROLE;
RESET search_path;
SELECT pg_advisory_unlock_all();
SELECT (SELECT count(*) FROM pg_temp.movement) + (SELECT count(*) FROM pg_temp.outbox) + (SELECT count(*) FROM hostile.outbox) AS misled;
SELECT order_id, kind FROM stock_movements WHERE product_id = 'path-a' ORDER BY id;
DELETE FROM pgstock_internal.event_topic;
DROP OWNED BY regress_path;
DISCARD TEMP;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
DROP ROLE regress_path;
RESET client_min_messages;
SELECT * FROM verify_stock();
