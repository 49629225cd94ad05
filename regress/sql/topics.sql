--
-- topics: the topics of stock events; and events from an application's own
-- outbox table
--
SELECT receive_stock('topics-a', 10);
CREATE FUNCTION went(order_id text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(event_type || ' to ' || topic, ', ' ORDER BY seq) FROM stock_outbox WHERE key = order_id
$$;
SELECT set_event_topic('StockReserved', 'reservations');
SELECT set_event_topic('StockReleased', NULL);
SELECT status FROM reserve_stock('topics-a', 1, 'topics-1');
SELECT status FROM release_stock('topics-1');
SELECT went('topics-1');
-- the ledger also has movements whose event is not written
SELECT kind, event_id IS NOT NULL AS has_event FROM stock_movements WHERE order_id = 'topics-1' ORDER BY id;
-- all stock events, except those with a topic of their own, or none
SELECT set_event_topic('*', 'all-stock');
SELECT status FROM reserve_stock('topics-a', 1, 'topics-2');
SELECT status FROM confirm_stock('topics-2');
SELECT status FROM rollback_stock('topics-2');
SELECT went('topics-2');
SELECT receive_stock('topics-a', 1);
SELECT went('topics-a');
-- a refusal is a stock event too, and may have a topic of its own
SELECT apply_one('order-created', '{"order_id": "topics-3", "items": [{"product_id": "topics-a", "quantity": 99}]}');
SELECT went('topics-3');
SELECT set_event_topic('StockReserveFailed', 'refusals');
SELECT apply_one('order-created', '{"order_id": "topics-4", "items": [{"product_id": "topics-a", "quantity": 99}]}');
SELECT went('topics-4');
-- an application's own events and dead letters keep their topics
SELECT publish_event('own-topic', 'topics-5', '{}', 'StockReserved') IS NOT NULL AS id;
SELECT apply_one('order-created', '7', 'topics-5');
SELECT went('topics-5');
-- the relay knows them all
SELECT * FROM pgstock_internal.relay_topics() ORDER BY 1;
-- back to the default
BEGIN;
SELECT set_event_topic('*', NULL);
SELECT status FROM reserve_stock('topics-a', 1, 'topics-6');
SELECT status FROM confirm_stock('topics-6');
SELECT went('topics-6');
ROLLBACK;
SELECT outcome_of($$SELECT set_event_topic('StockReserved', 'no topic')$$), outcome_of($$SELECT set_event_topic('', 'topic')$$),
	   outcome_of($$SELECT set_event_topic(NULL, 'topic')$$);
DELETE FROM pgstock_internal.event_topic;
-- an outbox table of Debezium's form: the same event, its id kept
CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregatetype varchar(255), aggregateid varchar(255), type varchar(255), payload jsonb, more int);
CREATE TRIGGER publish AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
BEGIN;
SET LOCAL pgstock.trace_id = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
INSERT INTO outbox VALUES ('11111111-2222-4333-8444-000000000001', 'topics.order', 'topics-7', 'OrderPlaced', '{"b": 1, "a": [true]}', 7);
COMMIT;
INSERT INTO outbox (id, aggregatetype, aggregateid, type) VALUES ('11111111-2222-4333-8444-000000000002', 'topics.order', 'topics-7', 'OrderGone');
INSERT INTO outbox (id, aggregatetype, payload) SELECT ('11111111-2222-4333-8444-00000000000' || i)::uuid, 'topics.many', to_jsonb(i) FROM generate_series(3, 5) i;
BEGIN;
INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('topics.order', 'topics-7', 'RolledBack');
ROLLBACK;
-- payloads that are text or bytes, ids that are numbers or text
CREATE TABLE outbox_text (id text, aggregatetype text, aggregateid bigint, type text, payload text);
CREATE TRIGGER publish AFTER INSERT ON outbox_text FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
INSERT INTO outbox_text VALUES ('11111111-2222-4333-8444-000000000006', 'topics.text', 42, 'Text', 'é {');
CREATE TABLE outbox_bytes (payload bytea, type text, aggregateid uuid, aggregatetype text, id uuid);
CREATE TRIGGER publish AFTER INSERT ON outbox_bytes FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
INSERT INTO outbox_bytes VALUES ('\x00ff', 'Bytes', '11111111-2222-4333-8444-555555555555', 'topics.bytes', '11111111-2222-4333-8444-000000000007');
-- a domain is what it is made of
CREATE DOMAIN some_bytes AS bytea CHECK (value <> '');
CREATE DOMAIN some_text AS text;
CREATE TABLE outbox_domain (payload some_bytes, type some_text, aggregateid some_text, aggregatetype some_text, id uuid);
CREATE TRIGGER publish AFTER INSERT ON outbox_domain FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
INSERT INTO outbox_domain VALUES ('\x00fe', 'Bytes', 'topics-8', 'topics.domain', '11111111-2222-4333-8444-000000000008');
SELECT s.event_id, o.aggregatetype AS topic, s.key, o.type, o.format, o.payload, s.payload AS readable, s.headers, o.traceparent IS NOT NULL AS traced
  FROM pgstock_internal.outbox o JOIN stock_outbox s USING (seq) WHERE o.aggregatetype ~ '^outbox.event.topics' ORDER BY seq;
-- a row that cannot be published is refused
\pset format unaligned
\pset tuples_only on
SELECT outcome_of($$INSERT INTO outbox (aggregatetype, type) VALUES ('no topic', 't')$$);
SELECT outcome_of($$INSERT INTO outbox (aggregateid, type) VALUES ('a', 't')$$);
SELECT outcome_of($$INSERT INTO outbox (id, aggregatetype) VALUES (NULL, 't')$$);
SELECT outcome_of($$INSERT INTO outbox_text VALUES ('7', 't', 1, 't', 't')$$);
SELECT outcome_of($$INSERT INTO outbox (aggregatetype, payload) VALUES ('t', to_jsonb(repeat('x', 1000000)))$$);
SELECT outcome_of('SELECT publish_outbox_row()');
CREATE TRIGGER before BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
SELECT outcome_of($$INSERT INTO outbox (aggregatetype) VALUES ('t')$$);
DROP TRIGGER before ON outbox;
CREATE TRIGGER statement AFTER INSERT ON outbox EXECUTE FUNCTION publish_outbox_row();
SELECT outcome_of($$INSERT INTO outbox (aggregatetype) VALUES ('t')$$);
CREATE TABLE outbox_less (id uuid, aggregatetype text);
CREATE TRIGGER publish AFTER INSERT ON outbox_less FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
SELECT outcome_of($$INSERT INTO outbox_less VALUES ('11111111-2222-4333-8444-555555555555', 't')$$);
SELECT count(*) FROM outbox;
DROP TABLE outbox, outbox_text, outbox_bytes, outbox_domain, outbox_less;
DROP DOMAIN some_bytes, some_text;
DROP FUNCTION went;
