--
-- forget: forget_user removes an id from every table, and publishes redacted
-- events and tombstones
--
-- Columns of text or bytes that forget_user leaves alone: ids of other things,
-- names of topics and words of pgstock's own.  A new column must be decided:
-- here, in pgstock_internal.personal_columns(), or in sql/forget.sql.
SELECT c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relnamespace = 'pgstock_internal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND a.atttypid::regtype::text IN ('text', 'text[]', 'bytea', 'json', 'jsonb', 'name')
   AND NOT EXISTS (SELECT FROM pgstock_internal.personal_columns() p WHERE p.relation = c.relname AND p."column" = a.attname)
   AND (c.relname::text, a.attname::text) NOT IN (VALUES ('reservation', 'user_id'), ('reservation', 'reason'),
	('reservation_history', 'user_id'), ('reservation_history', 'reason'), ('sale_order', 'user_id'),
	('idempotency', 'key'), ('outbox', 'aggregateid'), ('outbox', 'payload'), ('outbox', 'headers'))
 GROUP BY 1 ORDER BY 1;
-- Every row of every table that names the user.
CREATE FUNCTION named(needle text) RETURNS TABLE (relation text, n bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR relation IN SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'pgstock_internal'::regnamespace AND c.relkind = 'r' ORDER BY c.relname LOOP
		EXECUTE format('SELECT count(*) FROM %s t WHERE position($1 in t::text) > 0 OR position(encode(convert_to($1, ''UTF8''), ''hex'') in t::text) > 0', relation) INTO n USING needle;
		IF n > 0 THEN RETURN NEXT; END IF;
	END LOOP;
END
$$;
-- the values: a whole word, a short id only as the whole value,
-- JSON by its members
SELECT v, pgstock_internal.forget_text(v, 'user-7') FROM unnest('{user-7,by user-7.,user-77,x-user-7,"user-7 user-7",NULL}'::text[]) v;
SELECT v, pgstock_internal.forget_text(v, '7') AS short, pgstock_internal.forget_text(v, 'a.c') AS dot FROM unnest('{7,7 pieces,abc,"x a.c y"}'::text[]) v;
SELECT pgstock_internal.forget_actor('user-7', 'user-7'), pgstock_internal.forget_actor('app/user-7', 'user-7');
SELECT j, convert_from(pgstock_internal.forget_payload(convert_to(j, 'UTF8'), u), 'UTF8') FROM (VALUES
	('user-7', '{"order_id": "user-7", "userId": "user-7", "note": "for user-7", "deep": [{"buyer": "user-7"}, 7]}'),
	('user-7', '{"order_id": "o",  "user_id": "user-77"}'), ('7', '{"user_id": 7, "quantity": 7, "who": "7"}'),
	('user-7', '{"user_id": "\u0075ser-7", "x": 1e-20000}'), ('user-7', '{"user_id": "user-7", broken'), ('7', '{"userId":7, broken 7'),
	('user-7', '{"user_id": "user-7", "x": "\u0000"}'), ('user-7', '{"user_id": "user-7"}'), ('user-7', '[]')) v (u, j);
-- a member whose name names the user is omitted; but pgstock's own names stay,
-- and what may be another thing's
SELECT j, convert_from(pgstock_internal.forget_payload(convert_to(j, 'UTF8'), u), 'UTF8') FROM (VALUES
	('user-7', '{"carts": {"user-7": {"n": 1}, "user-77": 2, "cart:user-7": 3}, "n": 4}'), ('user-7', '{"user-7": 1}'),
	('user-7', '{"productQuantityMap": {"user-7": 1}}'), ('items', '{"items": [{"product_id": "items"}], "user_id": "items"}'),
	('7', '{"sizes": {"7": 2}}'), ('ab', '{"ab": 1}'), ('a"b', '{"x": {"a\"b": 1}, "y": 2}'), ('user-7', '{"u\u0073er-7": 1, "z": 2}')) v (u, j);
-- an id with characters that JSON escapes, also where the rest is not JSON
SELECT to_json(u) AS id, j, convert_from(pgstock_internal.forget_payload(convert_to(j, 'UTF8'), u), 'UTF8') FROM (VALUES
	(E'tab\tbed', '{"user_id": "tab\tbed", "n": 1}'), (E'new\nline', '{"x": "for new\nline"}'), (E'new\nline', '{"x": "for new\u000aline"}'),
	(E'del\x7f', E'{"x": "del\x7f"}'), ('a/b', '{"x": "a\/b"}'), ('a\b', '{"x": "a\\b"}'), ('"a"', '{"x": "\"a\""}'),
	(E'tab\tbed', '{"user_id": "tab\tbed", broken'), ('a"b', '{"x": "a\"b", broken'), ('a"', '{"x": "a\"", broken'), ('"a', '{"x": "\"a", broken')) v (u, j);
SELECT pgstock_internal.forget_payload('\xff' || 'user-7'::bytea, 'user-7') IS NULL AS tombstone, pgstock_internal.forget_payload(NULL, 'user-7') IS NULL AS none;
SELECT pgstock_internal.headers_json(pgstock_internal.forget_headers(pack_headers('{"a": "1", "b": "user-7", "c": null, "d": "", "e": "x"}'), 'user-7'));
-- refused: no id, no reason, a reason that names the user,
-- another isolation level
SELECT outcome_of($$SELECT forget_user('', 'x')$$), outcome_of($$SELECT forget_user(NULL, 'x')$$), outcome_of($$SELECT forget_user('x', '')$$);
SELECT outcome_of($$SELECT forget_user('forgotten', 'x')$$), outcome_of($$SELECT forget_user('user-7', 'user-7 has left')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome_of($$SELECT forget_user('user-7', 'x')$$);
ROLLBACK;
-- a user whose id is everywhere
SELECT receive_stock('forget-a', 100, reference => 'from forget-u7');
SET pgstock.actor = 'forget-u7';
SELECT status FROM reserve_stock('forget-a', 1, 'forget-1', 'forget-u7', idempotency_key => 'forget-u7 1');
SELECT status FROM reserve_stock('forget-a', 1, 'forget-2', 'forget-u7');
SELECT status FROM confirm_stock('forget-2');
SELECT status FROM reserve_stock('forget-a', 1, 'forget-3', 'forget-u8');
SELECT status FROM release_stock('forget-3', 'asked by forget-u7');
RESET pgstock.actor;
SELECT open_flash_sale('forget-sale', 'forget-a', 5, 2);
SELECT status FROM purchase_flash_sale('forget-sale', 'forget-u7', 'forget-4');
SELECT status FROM purchase_flash_sale('forget-sale', 'forget-u8', 'forget-5');
SELECT apply_one('order-created', '{"order_id": "forget-6", "userId": "forget-u7", "items": [{"product_id": "forget-a", "quantity": 1}], "phone": "call forget-u7"}', 'forget-u7');
SELECT apply_one('order-created', '{"order_id": "forget-7", "userId": "forget-u7", "items": []}', 'k');
SELECT apply_one('order-cancelled', '{"order_id": "forget-8", "userId": "forget-u7"}', 'forget-u7');
SELECT publish_event('forget-topic', 'forget-u7', '{"name": "Ann"}') IS NOT NULL AS id, publish_event('forget-topic', 'other', '{"user": "forget-u7"}', headers => '{"who": "forget-u7"}') IS NOT NULL AS id,
	publish_bytes('forget-topic', NULL, '\xff666f726765742d7537') IS NOT NULL AS id;
SELECT pgstock_internal.retry_failed(NULL, 'forget-8', 'forget-u7 has called');
INSERT INTO pgstock_internal.held_event SELECT * FROM pgstock_internal.outbox WHERE aggregatetype = 'forget-topic';
SELECT sum(n) > 15 AS many, count(*) AS tables FROM named('forget-u7');
SELECT max(seq) AS seq FROM stock_outbox \gset
-- forgotten: what remains are the tombstones,
-- which have the id as their key until they are published
SELECT forget_user('forget-u7', 'request 17') > 15 AS many;
SELECT regexp_replace(relation, '_\d+$', '') AS relation, n FROM named('forget-u7');
SELECT topic, key, event_type, payload IS NULL AS tombstone, CASE jsonb_typeof(payload) WHEN 'object' THEN payload - '{event_id,timestamp,expires_at,items,causation_id}'::text[] ELSE payload END AS payload, headers->>'replay_of' IS NOT NULL AS copy FROM stock_outbox WHERE seq > :seq ORDER BY topic, event_type, key;
SELECT forget_user('forget-u7', 'request 17');
SELECT action, target ~ '^\d+ rows$' AS counted, reason, count(*) FROM stock_admin_actions WHERE action = 'forget_user' AND reason = 'request 17' GROUP BY 1, 2, 3;
-- other users keep their rows; lines, levels and ledger are what they were
SELECT order_id, user_id, state, reason FROM stock_reservations WHERE order_id ~ '^forget-' ORDER BY 1;
SELECT user_id, order_id FROM pgstock_internal.sale_order WHERE order_id ~ '^forget' ORDER BY 2;
SELECT status FROM confirm_stock('forget-4');
SELECT payload->'user_id' AS user_id FROM stock_outbox WHERE key = 'forget-4' AND event_type = 'StockConfirmed';
SELECT make_due('forget-5');
SELECT close_flash_sale('forget-sale');
SELECT * FROM verify_stock();
-- published: the tombstones' keys go too, and that of a message that waited
UPDATE pgstock_internal.failed_event SET state = 'discarded' WHERE order_id = 'forget-8' AND state = 'waiting';
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT forget_user('forget-u7', 'request 17');
SELECT * FROM named('forget-u7');
SELECT forget_user('forget-u7', 'request 17');
-- a tombstone that is set aside keeps its key until it is published,
-- although the position has passed it
SELECT publish_event('forget-topic', 'forget-u7', '{}') IS NOT NULL AS id;
SELECT forget_user('forget-u7', 'request 17');
INSERT INTO pgstock_internal.held_event SELECT * FROM pgstock_internal.outbox WHERE type = 'Forgotten' AND aggregateid = 'forget-u7';
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) IS NOT NULL AS stored FROM pgstock_internal.relay_position() p;
SELECT forget_user('forget-u7', 'request 17');
SELECT regexp_replace(relation, '_\d+$', '') AS relation, n FROM named('forget-u7');
DELETE FROM pgstock_internal.held_event WHERE type = 'Forgotten' AND aggregateid = 'forget-u7';
SELECT forget_user('forget-u7', 'request 17');
SELECT * FROM named('forget-u7');
-- an application's event of that type is no tombstone: it is redacted at once,
-- and its key gets one
BEGIN;
SELECT publish_event('forget-topic', 'forget-u7', '{"a": "forget-u7"}', event_type => 'Forgotten') IS NOT NULL AS id;
SELECT publish_event('forget-topic', 'k', '{"a": "forget-u7"}', event_type => 'Forgotten') IS NOT NULL AS id;
SELECT forget_user('forget-u7', 'request 17');
SELECT key, payload FROM stock_outbox WHERE event_type = 'Forgotten' ORDER BY seq DESC LIMIT 4;
SELECT forget_user('forget-u7', 'request 17');
ROLLBACK;
-- one that waits for its first publication, and a waiting message, keep theirs
BEGIN;
SELECT publish_event('forget-topic', 'forget-u7', '{}') IS NOT NULL AS id;
SELECT forget_user('forget-u7', 'request 17') > 0 AS some;
INSERT INTO pgstock_internal.held_event SELECT * FROM pgstock_internal.outbox WHERE type = 'Forgotten' AND aggregateid = 'forget-u7';
UPDATE pgstock_internal.failed_event SET state = 'waiting', key = 'forget-u7' WHERE order_id = 'forget-8';
SELECT forget_user('forget-u7', 'request 17');
SELECT regexp_replace(relation, '_\d+$', '') AS relation, n FROM named('forget-u7');
ROLLBACK;
-- a call of the user's afterwards is a new use of the id
SELECT status FROM reserve_stock('forget-a', 1, 'forget-9', 'forget-u7');
SELECT forget_user('forget-u7', 'request 18');
SELECT * FROM named('forget-u7');
-- a late payment of a purchase whose user is forgotten: no limit counts
SELECT open_flash_sale('forget-sale2', 'forget-a', 5, 1);
SELECT status FROM purchase_flash_sale('forget-sale2', 'forget-u7', 'forget-10');
SELECT make_due('forget-10');
SELECT forget_user('forget-u7', 'request 19') > 0 AS some;
SELECT status FROM confirm_stock('forget-10');
SELECT close_flash_sale('forget-sale2');
DELETE FROM pgstock_internal.held_event WHERE aggregatetype = 'forget-topic';
DELETE FROM pgstock_internal.failed_event WHERE order_id ~ '^forget-';
SELECT * FROM verify_stock();
DROP FUNCTION named;
