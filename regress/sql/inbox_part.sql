--
-- inbox_part: a message that names pieces affects only these pieces
--
-- The story: of an order of three shirts and two caps, bob cancels one cap.
-- The message names it, but the whole order was released without notice, and
-- another customer bought the shirts.  And: the same order-created arrives
-- again with other lines; it was answered "reserved",
-- and the shop took the new lines for reserved.
--
SELECT receive_stock('inr-shirt', 100), receive_stock('inr-cap', 100);
CREATE FUNCTION part_of(topic text, id text, items jsonb, OUT answer text, OUT lines text, OUT event text)
LANGUAGE sql AS $$
WITH first AS (SELECT max(seq) AS seq FROM stock_outbox), a AS (
	SELECT concat_ws(' ', a.result, a.reason, CASE WHEN a.message ~ 'order_id=' THEN '(named)' END) AS answer
	  FROM pgstock_internal.relay_apply(ARRAY[topic], '{0}', ARRAY[nextval('next_offset')], '{-1}', '{NULL}',
		ARRAY[convert_to((jsonb_build_object('order_id', id, 'reason', 'changed mind') || items)::text, 'UTF8')], '{NULL}', relay_options()) a)
SELECT a.answer, NULL::text, NULL::text FROM a
$$;
CREATE FUNCTION parts(topic text, id text, items jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seqs	bigint := (SELECT max(seq) FROM stock_outbox);
	answer	text := (SELECT p.answer FROM part_of(topic, id, items) p);
BEGIN
	RETURN format('%s: %s; %s', answer, lines_of(id),
		(SELECT string_agg(o.event_type || ' ' || (SELECT string_agg(format('%s %s', i->>'quantity', i->>'product_id'), ' + ') FROM jsonb_array_elements(o.payload->'items') i), ', ' ORDER BY seq)
		   FROM stock_outbox o WHERE o.seq > seqs AND o.key = id));
END
$$;
SELECT count(*) FROM unnest('{payment-failed,order-cancelled}'::text[]) t, unnest('{a,paid}'::text[]) s,
	LATERAL reserve_order(format('inr %s %s', t, s), '[{"product_id": "inr-shirt", "quantity": 3}, {"product_id": "inr-cap", "quantity": 2}]');
SELECT count(*) FROM unnest('{payment-failed,order-cancelled}'::text[]) t, LATERAL confirm_stock(format('inr %s paid', t), 'P');
-- one cap, then a shirt by the other spelling, then the cap that is left
SELECT t.topic, parts(t.topic, 'inr ' || t.topic || ' a', p.items) FROM unnest('{order-cancelled,payment-failed}'::text[]) t (topic),
	(VALUES (1, '{"items": [{"product_id": "inr-cap", "quantity": 1}]}'::jsonb), (2, '{"productQuantityMap": {"inr-shirt": 1}}'),
			(3, '{"items": [{"product_id": "inr-cap", "quantity": 1}]}')) p (n, items) ORDER BY topic, n;
-- a paid order: a cancellation rolls the part back,
-- a declined payment has no effect
SELECT parts('order-cancelled', 'inr order-cancelled paid', '{"items": [{"product_id": "inr-cap", "quantity": 1}]}');
SELECT parts('payment-failed', 'inr payment-failed paid', '{"items": [{"product_id": "inr-cap", "quantity": 1}]}');
-- more than the order has: all that it has; another product: nothing;
-- each is marked and named for the log
SELECT count(*) FROM unnest('{payment-failed,order-cancelled}'::text[]) t, unnest('{more,other,both,east}'::text[]) s,
	LATERAL reserve_order(format('inr %s %s', t, s), '[{"product_id": "inr-shirt", "quantity": 3}, {"product_id": "inr-cap", "quantity": 2}]');
SELECT t.topic, p.what, parts(t.topic, format('inr %s %s', t.topic, p.what), p.items) FROM unnest('{order-cancelled,payment-failed}'::text[]) t (topic),
	(VALUES ('more', '{"items": [{"product_id": "inr-cap", "quantity": 3}]}'::jsonb), ('other', '{"items": [{"product_id": "inr-hat", "quantity": 1}]}'),
			('both', '{"productQuantityMap": {"inr-hat": 1, "inr-shirt": 3}}'), ('east', '{"items": [{"product_id": "inr-cap", "quantity": 1, "location": "east"}]}')) p (what, items)
 ORDER BY 1, 2;
-- the same part repeated: the line has ended; and the rest, without items
SELECT parts('order-cancelled', 'inr order-cancelled both', '{"items": [{"product_id": "inr-shirt", "quantity": 3}]}');
SELECT parts('order-cancelled', 'inr order-cancelled both', '{"items": null}');
SELECT parts('order-cancelled', 'inr order-cancelled both', '{"items": [{"product_id": "inr-cap", "quantity": 2}]}');
-- items that cannot be read must not release everything: a dead letter
SELECT count(*) FROM reserve_order('inr-dead', '[{"product_id": "inr-shirt", "quantity": 3}]');
SELECT parts(t, 'inr-dead', i) FROM unnest('{order-cancelled,payment-failed}'::text[]) t, unnest(ARRAY['{"items": []}', '{"items": [{"product_id": "inr-shirt", "quantity": "1"}]}',
	'{"items": {"inr-shirt": 1}}', '{"items": [{"product_id": "inr-shirt"}]}', '{"items": [{"quantity": 1}]}']::jsonb[]) i;
-- order-created again, with the same lines and with others
SELECT parts('order-created', 'inr-o', '{"user_id": "bob", "items": [{"product_id": "inr-shirt", "quantity": 3}, {"product_id": "inr-cap", "quantity": 2}]}');
CREATE FUNCTION again(message jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := (SELECT p.answer FROM part_of('order-created', 'inr-o', message) p);
BEGIN
	RETURN format('%s: %s %s', answer, (SELECT concat_ws(' ', o.event_type, o.payload->'differs') FROM stock_outbox o WHERE o.key = 'inr-o' ORDER BY seq DESC LIMIT 1), lines_of('inr-o'));
END
$$;
SELECT again('{"user_id": "bob", "items": [{"product_id": "inr-cap", "quantity": 1}, {"product_id": "inr-shirt", "quantity": 3}, {"product_id": "inr-cap", "quantity": 1}]}');
SELECT again('{"items": [{"product_id": "inr-cap", "quantity": 2}, {"product_id": "inr-shirt", "quantity": 3}]}');
SELECT again('{"user_id": "eve", "items": [{"product_id": "inr-cap", "quantity": 2}, {"product_id": "inr-shirt", "quantity": 3}]}');
SELECT again('{"user_id": "bob", "items": [{"product_id": "inr-cap", "quantity": 2}]}');
SELECT again('{"user_id": "bob", "items": [{"product_id": "inr-cap", "quantity": 2, "location": "east"}, {"product_id": "inr-shirt", "quantity": 30}, {"product_id": "inr-tie", "quantity": 1}]}');
-- in each state of the order
SELECT status FROM confirm_stock('inr-o', 'P');
SELECT again('{"user_id": "bob", "items": [{"product_id": "inr-cap", "quantity": 1}, {"product_id": "inr-shirt", "quantity": 3}]}');
SELECT status FROM rollback_stock('inr-o');
SELECT again('{"user_id": "bob", "items": [{"product_id": "inr-cap", "quantity": 1}, {"product_id": "inr-shirt", "quantity": 3}]}');
-- with many lines the answer names a hundred:
-- it is not much larger than the order
SELECT parts('order-created', 'inr-o', jsonb_build_object('items', jsonb_agg(jsonb_build_object('product_id', 'inr-' || i, 'quantity', 1)))) IS NOT NULL FROM generate_series(1, 150) i;
SELECT jsonb_array_length(payload->'differs'->'items'), payload->'differs'->'more_items' FROM stock_outbox WHERE key = 'inr-o' ORDER BY seq DESC LIMIT 1;
DROP FUNCTION part_of, parts, again;
SELECT * FROM verify_stock();
