--
-- reserved_topics: topics that an application's own events may not use: no role
-- may publish to the position topic, and only an administrator to those whose
-- readers trust pgstock
--
\pset format unaligned
\pset tuples_only on
CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregatetype text, aggregateid text, type text, payload jsonb);
CREATE TRIGGER publish AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION publish_outbox_row();
CREATE ROLE regress_publisher;
SELECT grant_stock_access('regress_publisher', 'app');
GRANT INSERT ON outbox TO regress_publisher;
SELECT set_event_topic('StockReserved', 'reservations');
SELECT apply_one('order-created', '7', 'topics-8');
INSERT INTO pgstock_internal.inbox_offset (topic, partition, next_offset) VALUES ('outbox.event.read-back', 0, 0);
CREATE FUNCTION topics_handler(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS '';
SELECT register_handler('topics-handled', 'topics_handler');
CREATE TABLE topic_asked (topic text);
INSERT INTO topic_asked VALUES ('pgstock-position-11111111-2222-4333-8444-555555555555'), ('stock-events'), ('stock-freeze-failed'),
	('reservations'), ('order-created'), ('order-created_dlq'), ('topics-handled'), ('topics-handled_dlq'), ('own'), ('own_dlq'), ('_dlq'),
	('pgstock-own'), ('Stock-Events');
GRANT SELECT ON topic_asked TO regress_publisher;
SET ROLE regress_publisher;
SELECT topic, outcome_of(format('SELECT publish_event(%L, NULL, NULL)', topic)) FROM topic_asked;
SELECT DISTINCT topic, outcome_of(format('SELECT publish_event(%L, NULL, NULL)', topic)) = outcome_of(format('SELECT publish_bytes(%L, NULL, NULL)', topic)) AS same
  FROM topic_asked WHERE topic NOT LIKE '%own%';
SELECT outcome_of($$INSERT INTO outbox (aggregatetype, payload) VALUES ('read-back', '1')$$);
SELECT publish_event('stock-events', 'k', '{}');
SELECT publish_event('pgstock-position-x', 'outbox', '{}');
RESET ROLE;
-- the right of the function's definer counts,
-- or of the role that registered the handler
CREATE FUNCTION publish_for_others() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$SELECT publish_event('stock-events', 'k', '{}') IS NOT NULL$$;
SET ROLE regress_publisher;
SELECT publish_for_others();
RESET ROLE;
GRANT EXECUTE ON FUNCTION pgstock_internal.publish_to_any_topic() TO regress_publisher;
SET ROLE regress_publisher;
SELECT topic, outcome_of(format('SELECT publish_event(%L, NULL, NULL)', topic)) FROM topic_asked WHERE topic NOT LIKE '%own%';
RESET ROLE;
SELECT outcome_of($$SELECT set_event_topic('*', 'pgstock-position-x')$$);
SELECT grant_stock_access('regress_publisher', 'none');
REVOKE ALL ON outbox, topic_asked FROM regress_publisher;
DROP ROLE regress_publisher;
SELECT register_handler('topics-handled', NULL);
DELETE FROM pgstock_internal.inbox_offset WHERE topic = 'outbox.event.read-back';
DELETE FROM pgstock_internal.event_topic;
DROP TABLE outbox, topic_asked;
DROP FUNCTION publish_for_others, topics_handler;
