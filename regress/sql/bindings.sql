--
-- bindings: any topic, or a type in it, to a built-in handler; where the fields
-- of its messages are, and what of them an answer may repeat
--
SELECT receive_stock(p, 1000) FROM unnest('{bind-a,bind-b,7,42}'::text[]) p;
CREATE FUNCTION bind_retry(options jsonb DEFAULT relay_options())
RETURNS TABLE (topic text, result text, reason text, n bigint) LANGUAGE sql AS $$
UPDATE pgstock_internal.failed_event SET next_retry_at = now() - interval '1 min' WHERE state = 'waiting' AND next_retry_at IS NOT NULL;
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(100, options)
$$;
-- the defaults are rows
SELECT topic, event_type, handler, role, fields, options FROM stock_bindings ORDER BY topic COLLATE "C";
-- checked at once: the topic, the handler
SELECT outcome_of(format('SELECT bind_topic(%s, %s)', t, h)) FROM (VALUES
	($$'no topic'$$, $$'order_created'$$), ('NULL', $$'ignore'$$), ($$'pgstock-position-x'$$, $$'ignore'$$), ($$'bind'$$, 'NULL'), ($$'bind'$$, $$''$$),
	($$'bind'$$, $$'order-created'$$), ($$'bind'$$, $$'ORDER_CREATED'$$), ($$'bind'$$, $$'shop.missing'$$), ($$'bind'$$, $$'pg_typeof'$$)) v (t, h);
SELECT outcome_of($$SELECT bind_topic('bind', 'ignore', '')$$), outcome_of(format('SELECT bind_topic(%L, %L, %L)', 'bind', 'ignore', repeat('t', 256)));
SELECT outcome_of($$SELECT unbind_topic(NULL)$$), outcome_of($$SELECT unbind_topic('no topic')$$);
-- no built-in handler reads what stock events are written to,
-- in whatever order the two are set
SELECT outcome_of(format('SELECT bind_topic(%L, %L)', t, h)) FROM unnest('{stock-events,stock-freeze-failed}'::text[]) t, unnest('{order_created,payment_failed,ignore}'::text[]) h;
SELECT outcome_of($$SELECT bind_topic('stock-events', 'order_created', 'T')$$);
SELECT set_event_topic('BindEvent', 'bind-events');
SELECT outcome_of($$SELECT bind_topic('bind-events', 'order_failed')$$);
SELECT bind_topic('bind-read', 'order_created', 'T'), bind_topic('bind-seen', 'ignore');
SELECT t, outcome_of(format('SELECT set_event_topic(%L, %L)', 'BindEvent', t)) FROM unnest('{bind-read,order-created,bind-seen}'::text[]) t;
SELECT bind_topic('order-created', 'ignore'), set_event_topic('BindEvent', 'order-created');
SELECT outcome_of($$SELECT unbind_topic('order-created')$$), outcome_of($$SELECT register_handler('order-created', NULL)$$);
DELETE FROM pgstock_internal.event_topic WHERE event_type = 'BindEvent';
SELECT unbind_topic(t) FROM unnest('{order-created,bind-seen,stock-events,stock-freeze-failed}'::text[]) t;
SELECT unbind_topic('bind-read', 'T');
-- the fields, and their paths
SELECT f, outcome_of(format('SELECT bind_topic(%L, %L, fields => %L)', 'bind', 'order_created', f)) FROM unnest(ARRAY[
	'[]', '"$"', '1', '{"orderId": "$.id"}', '{"order_id": 1}', '{"order_id": null}', '{"order_id": ["$.id"]}', '{"order_id": ""}', '{"order_id": "id"}',
	'{"order_id": "$id"}', '{"order_id": "$."}', '{"order_id": "$.a."}', '{"order_id": "$..id"}', '{"order_id": "$.*"}', '{"order_id": "$[*].id"}',
	'{"order_id": "$[?(@.id)]"}', '{"order_id": "$[0:2]"}', '{"order_id": "$[0,1]"}', '{"order_id": "$[-1]"}', '{"order_id": "$[]"}', '{"order_id": "$[1"}',
	'{"order_id": "$[100000]"}', '{"order_id": "$[99999999999999999999]"}', '{"order_id": "$[id]"}', '{"order_id": "$[''id]"}', '{"order_id": "$[''id''"}',
	'{"order_id": "$[''i\\n'']"}', '{"order_id": "$.a b"}', '{"order_id": "$.id "}', '{"order_id": " $.id"}', '{"order_id": "$.a$"}',
	'{"order_id": "$.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q"}']::jsonb[]) f;
SELECT right(split_part(outcome_of(format('SELECT bind_topic(%L, %L, fields => %L)', 'bind', 'order_created', jsonb_build_object('order_id', '$.' || repeat('x', 500)))), E'\n', 1), 60);
SELECT outcome_of($$SELECT bind_topic('bind', 'ignore', fields => '{"status": "$.s"}')$$);
SELECT f, outcome_of(format('SELECT bind_topic(%L, %L, fields => %L)', 'bind', 'order_created', f)) FROM unnest(ARRAY[
	'{}', '{"order_id": "$"}', '{"order_id": "$.a-b_c.0.Ünïcode"}', '{"order_id": "$[''a b''][\"c.d\"][0][99999][''it\\''s \\\\ \\\"'']['''']"}',
	'{"order_id": "$.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p"}']::jsonb[]) f;
-- the options
SELECT h, o, outcome_of(format('SELECT bind_topic(%L, %L, options => %L)', 'bind', h, o)) FROM (VALUES
	('order_created', '[]'), ('order_created', '{"attribute": "all"}'), ('order_created', '{"attributes": "some"}'), ('order_created', '{"attributes": 1}'),
	('order_created', '{"attributes": {"a": 1}}'), ('order_created', '{"attributes": [1]}'), ('order_created', '{"attributes": [""]}'),
	('ignore', '{"attributes": "all"}'), ('order_created', '{"order_wait": "1m"}'), ('ignore', '{"order_wait": "1m"}'),
	('payment_success', '{"order_wait": 60}'), ('payment_success', '{"order_wait": "60"}'), ('payment_success', '{"order_wait": "m"}'),
	('payment_success', '{"order_wait": "-1m"}'), ('payment_success', '{"order_wait": "31d"}'), ('payment_success', '{"order_wait": "99999999999999999999ms"}'),
	('order_created', '{"source": ""}'), ('order_created', '{"source": 1}'), ('order_created', '{"source": "s", "attributes": []}'),
	('payment_success', '{"order_wait": "30d"}'), ('payment_success', '{"order_wait": "250ms", "attributes": ["a"]}'), ('ignore', '{"source": "s"}')) v (h, o);
SELECT outcome_of(format('SELECT bind_topic(%L, %L, options => %L)', 'bind', 'order_created', jsonb_build_object('attributes', (SELECT jsonb_agg(n::text) FROM generate_series(1, 101) n))));
-- what is replaced, removed, and recorded
SELECT topic, event_type, handler, role, fields, options FROM stock_bindings WHERE topic = 'bind';
SELECT unbind_topic('bind'), unbind_topic('bind'), unbind_topic('bind', 'T'), unbind_topic('order-created'), unbind_topic('order-created', 'T');
SELECT actor = current_user AS mine, action, target, reason FROM stock_admin_actions WHERE target ~ '^bind' ORDER BY at DESC LIMIT 3;
-- orders as five shops write them: nested and flat, snake and camel case,
-- lists and maps, numeric ids
SELECT bind_topic('shop.orders', 'order_created', fields => '{"order_id": "$.data.orderNo", "items": "$.data.lines", "product_id": "$.sku", "quantity": "$.qty", "location": "$.from.site", "user_id": "$.data.customer.id", "event_id": "$.meta.id", "timestamp": "$.meta.at"}');
SELECT bind_topic('carts', 'order_created', fields => '{"order_id": "$.orderId", "items": "$", "product_id": "$.productId", "quantity": "$.amount", "location": "$.store"}');
SELECT bind_topic('basket', 'order_created', fields => '{"order_id": "$.order.id", "items": "$.order.quantities"}');
SELECT bind_topic('bestellung', 'order_created', fields => '{"order_id": "$[''Bestell-Nr.'']", "items": "$[\"Stücke je Artikel\"]", "quantity": "$.Stück", "location": "$.Lager"}');
SELECT bind_topic('events', 'order_created', 'OrderPlaced', fields => '{"order_id": "$.body[0].id", "items": "$.body[1]", "user_id": "$.body[0].by"}');
SELECT t, apply_one(t, v, 'k') FROM (VALUES
	('order-created', '{"order_id": "bind-0", "user_id": "u", "items": [{"product_id": "bind-a", "quantity": 1}]}'::jsonb),
	('shop.orders', '{"meta": {"id": "bind-e1", "at": "2026-01-31T12:00:00Z"}, "data": {"orderNo": 9001, "customer": {"id": 17}, "lines": [{"sku": "bind-a", "qty": 2, "from": {"site": "main"}}, {"sku": 7, "qty": 1}]}}'),
	('carts', '{"orderId": 9002, "productId": 42, "amount": 3, "store": ""}'),
	('basket', '{"order": {"id": "bind-3", "quantities": {"bind-a": 1, "42": 2}}}'),
	('bestellung', '{"Bestell-Nr.": "bind-4", "Stücke je Artikel": {"bind-b": {"Stück": 4, "Lager": "main"}, "7": 1}}'),
	('events', '{"eventType": "OrderPlaced", "body": [{"id": "bind-5", "by": "u"}, [{"productId": "bind-b", "quantity": 1}]]}'),
	('events', '{"eventType": "OrderSeen", "body": []}')) m (t, v);
SELECT order_id, product_id, location, quantity, user_id FROM stock_reservations WHERE order_id ~ '^(bind-|900)' ORDER BY 1, 2;
SELECT topic, event_id, order_id, result, reason FROM stock_inbox WHERE event_id = 'bind-e1';
-- a field that is mapped is at its path only; the dead letter names it
SELECT t, v, apply_one(t, v) FROM (VALUES
	('shop.orders', '{"order_id": "bind-6", "items": [{"product_id": "bind-a", "quantity": 1}]}'::jsonb), ('shop.orders', '{"data": {"orderNo": null}}'), ('shop.orders', '{"data": {"orderNo": [1]}}'), ('shop.orders', '{"data": []}'),
	('shop.orders', '{"data": {"orderNo": 1}}'), ('shop.orders', '{"data": {"orderNo": 1, "lines": "bind-a"}}'), ('shop.orders', '{"data": {"orderNo": 1, "lines": {}}}'),
	('shop.orders', '{"data": {"orderNo": 1, "lines": [{"product_id": "bind-a", "qty": 1}]}}'), ('shop.orders', '{"data": {"orderNo": 1, "lines": [{"sku": "bind-a", "quantity": 1}]}}'),
	('shop.orders', '{"data": {"orderNo": 1, "lines": [{"sku": "bind-a", "qty": "1"}]}}'), ('shop.orders', '{"data": {"orderNo": 1, "lines": [{"sku": "bind-a", "qty": 0}]}}'),
	('shop.orders', '{"data": {"orderNo": 1, "lines": [{"sku": "bind-a", "qty": 1}], "customer": {"id": {}}}}'), ('shop.orders', '{"meta": {"at": "noon"}, "data": {"orderNo": 1, "lines": [{"sku": "bind-a", "qty": 1}]}}'),
	('carts', '{"orderId": 1}'), ('basket', '{"order": {"id": 1, "quantities": {"bind-a": {"quantity": 1}, "": 1}}}'), ('basket', '{"order": {"id": 1, "quantities": {"bind-a": "1"}}}')) m (t, v);
-- the other handlers, in one topic of mixed types, with what their topics have
-- by default: full batches, and waiting for the order
SELECT bind_topic('money', 'payment_success', 'Paid', '{"order_id": "$.tx.ref", "payment_id": "$.tx.id", "status": "$.tx.state"}');
SELECT bind_topic('money', 'payment_failed', 'Declined', '{"order_id": "$.tx.ref"}'), bind_topic('money', 'ignore', 'Seen'), bind_topic('money', 'order_cancelled', 'Cancelled', '{"items": "$.parts"}');
SELECT bind_topic('money', 'order_failed', 'Failed', '{"order_id": "$.id", "reason": "$.why"}'), bind_topic('money', 'order_created', 'Placed');
SELECT * FROM apply('[{"topic": "money", "headers": {"ce_type": "Placed"}, "json": {"orderId": "bind-10", "items": [{"productId": "bind-a", "quantity": 1}]}},
	{"topic": "money", "headers": {"ce_type": "Paid"}, "json": {"tx": {"ref": "bind-10", "id": 77, "state": "SUCCEEDED"}}},
	{"topic": "money", "headers": {"ce_type": "Placed"}, "json": {"orderId": "bind-11", "items": [{"productId": "bind-a", "quantity": 2}, {"productId": "bind-b", "quantity": 2}]}},
	{"topic": "money", "json": {"eventType": "Cancelled", "order_id": "bind-11", "parts": {"bind-a": 1}}},
	{"topic": "money", "headers": {"eventType": "Declined"}, "json": {"tx": {"ref": "bind-11"}}},
	{"topic": "money", "headers": {"event_type": "Failed"}, "json": {"id": "bind-10", "why": "lost"}},
	{"topic": "money", "headers": {"ce_type": "Seen"}, "text": "anything"}, {"topic": "money", "json": {"event_type": "Seen"}},
	{"topic": "money", "json": {"event_type": "Other"}}, {"topic": "money", "json": {"tx": {"ref": "bind-10"}}}, {"topic": "money", "text": "broken, of a type that may have a handler"}]');
SELECT lines_of('bind-10'), lines_of('bind-11'), events_of('bind-10'), events_of('bind-11');
SELECT payment_id, reason FROM stock_reservations WHERE order_id = 'bind-10';
SELECT bind_topic('money', 'ignore');
SELECT * FROM apply('[{"topic": "money", "json": {"event_type": "Other"}}, {"topic": "money", "text": "broken, of a type that may have a handler"}]');
SELECT bind_topic('noise', 'ignore');
SELECT * FROM apply('[{"topic": "noise", "text": "broken"}, {"topic": "noise", "headers": {"ce_type": "T"}, "text": ""}, {"topic": "noise", "headers": {}}, {"topic": "noise", "json": {"event_id": "bind-n", "order_id": 5}}, {"topic": "noise", "json": {"event_id": "bind-n"}}]');
-- a payment before its order waits, by its binding's own time;
-- a message behind it with its key does so too
SELECT bind_topic('money', 'payment_success', 'Paid', '{"order_id": "$.tx.ref"}', '{"order_wait": "1h"}'), bind_topic('money', 'order_cancelled', 'Cancelled', options => '{"order_wait": "1m"}');
SELECT * FROM apply('[{"topic": "money", "key": "k1", "headers": {"ce_type": "Paid"}, "json": {"event_id": "bind-w1", "tx": {"ref": "bind-20"}}}, {"topic": "money", "key": "k1", "headers": {"ce_type": "Seen"}, "json": {"event_id": "bind-w2"}},
	{"topic": "money", "headers": {"ce_type": "Cancelled"}, "json": {"event_id": "bind-w3", "order_id": "bind-21"}}, {"topic": "money", "headers": {"ce_type": "Paid"}, "json": {"event_id": "bind-w4", "tx": {"ref": "bind-22"}}}]');
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '20 min' WHERE event_id ~ '^bind-w';
SELECT * FROM bind_retry();
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '61 min' WHERE event_id = 'bind-w4';
SELECT * FROM apply('[{"topic": "money", "headers": {"ce_type": "Placed"}, "json": {"order_id": "bind-20", "items": [{"product_id": "bind-a", "quantity": 1}]}}]');
SELECT * FROM bind_retry();
SELECT lines_of('bind-20');
-- an order that differs from the one that is known is still answered,
-- and marked
SELECT apply_one('shop.orders', '{"data": {"orderNo": 9001, "lines": [{"sku": "bind-a", "qty": 3}]}}');
-- a function of one's own that calls a built-in handler: its message waits for
-- the order like that of the handler itself
CREATE SCHEMA bind;
CREATE FUNCTION bind.pays(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM handle_payment_success(jsonb_build_object('order_id', payload->'ref', 'payment_id', payload->'id'), message);
END
$$;
CREATE FUNCTION bind.fails(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM handle_order_failed(payload, message);
END
$$;
CREATE FUNCTION bind.confirms(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM handle_payment_success(payload, message);
	EXCEPTION WHEN SQLSTATE 'SK004' THEN
	END;
	PERFORM confirm_stock('bind-none');
END
$$;
SELECT bind_topic('bind-own', 'bind.pays', 'Paid', '{"order_id": "$.ref"}', '{"order_wait": "1h"}'), register_handler('bind-own', 'bind.fails', 'Failed'), register_handler('bind-own', 'bind.confirms', 'Confirms');
SELECT outcome_of($$SELECT bind_topic('bind-own', 'bind.pays', fields => '{"items": "$.x"}')$$), outcome_of($$SELECT bind_topic('bind-own', 'bind.pays', options => '{"attributes": "all"}')$$);
SELECT topic, event_type, handler, role = current_user AS mine, fields, options FROM stock_bindings WHERE topic = 'bind-own' ORDER BY event_type;
SELECT * FROM apply('[{"topic": "bind-own", "key": "k2", "headers": {"ce_type": "Paid"}, "json": {"event_id": "bind-o1", "ref": "bind-30", "id": "P30"}}, {"topic": "bind-own", "key": "k2", "headers": {"ce_type": "Failed"}, "json": {"event_id": "bind-o2", "order_id": "bind-30"}},
	{"topic": "bind-own", "headers": {"ce_type": "Failed"}, "json": {"event_id": "bind-o3", "order_id": "bind-31"}}, {"topic": "bind-own", "headers": {"ce_type": "Paid"}, "json": {"event_id": "bind-o4", "ref": "bind-32"}}]');
SELECT event_id, order_id, attempts, state, error FROM stock_failed_events WHERE event_id ~ '^bind-o' ORDER BY id;
SELECT * FROM bind_retry();
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '16 min' WHERE event_id = 'bind-o3';
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '61 min' WHERE event_id = 'bind-o4';
SELECT apply_one('order-created', '{"order_id": "bind-30", "items": [{"product_id": "bind-a", "quantity": 1}]}');
SELECT * FROM bind_retry();
SELECT * FROM bind_retry();
SELECT * FROM bind_retry();
SELECT lines_of('bind-30'), events_of('bind-30');
SELECT event_id, attempts, state, error FROM stock_failed_events WHERE event_id ~ '^bind-o' ORDER BY id;
-- only where that is what it failed with
SELECT * FROM apply('[{"topic": "bind-own", "headers": {"ce_type": "Confirms"}, "json": {"event_id": "bind-o5", "order_id": "bind-33"}}]');
-- attributes: all that is not read and no secret, none of a payment,
-- or those that are listed
SELECT bind_topic('a.all', 'order_created', fields => '{"order_id": "$.data.no", "items": "$.data.lines", "user_id": "$.who"}'), bind_topic('a.none', 'order_created', options => '{"attributes": "none"}'),
	   bind_topic('a.some', 'order_created', options => '{"attributes": ["gift", "card_number", "items", "ünï"]}'), bind_topic('a.pay', 'payment_success', options => '{"attributes": "all"}');
CREATE FUNCTION attributes_of(topic text, value text) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason) || coalesce(' ' || (SELECT (convert_from(o.payload, 'UTF8')::json->'attributes')::text FROM pgstock_internal.outbox o ORDER BY o.seq DESC LIMIT 1), '')
  FROM apply(jsonb_build_array(jsonb_build_object('topic', topic, 'text', value))) a
$$;
SELECT attributes_of('a.all', '{"data": {"no": "bind-40", "lines": [{"product_id": "bind-a", "quantity": 1}], "gift": true, "inner": {"x": [1.50, {"y": null}]}}, "who": "u", "user_id": "mine", "n": 1.10, "event_version": 7}');
SELECT attributes_of('a.all', '{"data" : {"no":"bind-41", "lines":[{"product_id": "bind-a", "quantity": 1}] } , "empty": {}, "e2": [ ], "\u0070assword": "p", "api_key": "k", "x": {"cardNumber": "1", "accessToken": 1, "deep": [{"cvv": 1, "ok": 2}, "4111 1111 1111 1111", 5500000000000004]}, "note": "4111-1111-1111-1111", "gone": {"secret": 1}}');
SELECT attributes_of('a.all', '{"data": {"no": "bind-42", "lines": [{"product_id": "bind-a", "quantity": 1}]}, "at_ms": 1700000000003, "not_luhn": "4111111111111112", "tracking": 123456789012345678, "phone": "+49 30 1234567"}');
SELECT bind_topic('a.card', 'order_created', fields => '{"order_id": "$.card.order", "items": "$.lines"}');
SELECT attributes_of('a.card', '{"card": {"order": "bind-46", "holder": "x"}, "lines": [{"product_id": "bind-a", "quantity": 1}], "channel": "app"}');
SELECT attributes_of('a.none', '{"order_id": "bind-43", "items": [{"product_id": "bind-a", "quantity": 1}], "gift": 1}');
SELECT attributes_of('a.some', '{"order_id": "bind-44", "items": [{"product_id": "bind-a", "quantity": 1}], "gift": [1, "x"], "card_number": "4111111111111111", "\u00fcn\u00ef": {"password": 1}, "other": 1}');
SELECT attributes_of('a.some', '{"order_id": "bind-45", "items": [{"product_id": "bind-a", "quantity": 1}]}');
SELECT attributes_of('a.pay', '{"order_id": "bind-44", "payment_id": "P", "amount": 1.50, "card": {"number": "4111111111111111", "brand": "V"}}');
SELECT attributes_of('payment-success', '{"order_id": "bind-45", "payment_id": "P", "amount": 1.50}');
SELECT attributes_of('order-cancelled', '{"order_id": "bind-45", "why": "x"}');
-- one source for topics of one service: the same id is a duplicate;
-- otherwise each topic has its own ids
SELECT bind_topic('s.one', 'order_created', options => '{"source": "/shop"}'), bind_topic('s.two', 'order_created', options => '{"source": "/shop"}'), bind_topic('s.three', 'order_created');
SELECT * FROM apply('[{"topic": "s.one", "json": {"event_id": "bind-s1", "order_id": "bind-50", "items": [{"product_id": "bind-a", "quantity": 1}]}}, {"topic": "s.two", "json": {"event_id": "bind-s1", "order_id": "bind-51", "items": [{"product_id": "bind-a", "quantity": 1}]}},
	{"topic": "s.three", "json": {"event_id": "bind-s1", "order_id": "bind-52", "items": [{"product_id": "bind-a", "quantity": 1}]}}]');
SELECT topic, source, result FROM stock_inbox WHERE event_id = 'bind-s1' ORDER BY topic;
-- a default topic can have another handler, or none
SELECT bind_topic('order_failed', 'ignore'), bind_topic('order-cancelled', 'order_failed', 'Lost');
SELECT topic, event_type, handler FROM stock_bindings WHERE topic IN ('order_failed', 'order-cancelled') ORDER BY 1, 2;
SELECT apply_one('order_failed', '{"order_id": "bind-50"}'), apply_one('order-cancelled', '{"order_id": "bind-50", "event_type": "Lost"}'), apply_one('order-cancelled', '{"order_id": "bind-52"}');
SELECT lines_of('bind-50'), lines_of('bind-52'), events_of('bind-50'), events_of('bind-52');
SELECT unbind_topic('order_failed'), unbind_topic('order-cancelled', 'Lost');
SELECT topic, event_type, handler FROM stock_bindings WHERE topic IN ('order_failed', 'order-cancelled') ORDER BY 1, 2;
-- register_handler replaces a binding, and removes it
SELECT register_handler('s.three', 'bind.fails'), (SELECT handler FROM stock_bindings WHERE topic = 's.three');
SELECT handler FROM stock_bindings WHERE topic = 's.three';
SELECT register_handler('s.three', NULL);
SELECT count(*) FROM stock_bindings WHERE topic = 's.three';
-- a topic that is bound is no application's to publish to; only an admin binds
CREATE ROLE regress_bind;
SELECT grant_stock_access('regress_bind', 'app');
SET ROLE regress_bind;
SELECT outcome_of($$SELECT publish_event('shop.orders', 'k', '{}')$$);
SELECT outcome_of($$SELECT bind_topic('mine', 'order_created')$$), outcome_of($$SELECT unbind_topic('shop.orders')$$), outcome_of($$SELECT register_handler('mine', 'bind.pays')$$), outcome_of('SELECT * FROM stock_bindings');
RESET ROLE;
SELECT grant_stock_access('regress_bind', 'relay');
SET ROLE regress_bind;
SELECT outcome_of($$SELECT bind_topic('mine', 'order_created')$$), outcome_of($$SELECT unbind_topic('shop.orders')$$);
RESET ROLE;
SELECT grant_stock_access('regress_bind', 'reader');
SET ROLE regress_bind;
SELECT count(*) > 5 AS sees, bool_or(handler = 'order_failed') AS defaults_too FROM stock_bindings;
SELECT outcome_of($$SELECT bind_topic('mine', 'order_created')$$), outcome_of($$SELECT unbind_topic('shop.orders')$$);
RESET ROLE;
SELECT grant_stock_access('regress_bind', 'admin');
SET ROLE regress_bind;
SELECT bind_topic('mine', 'order_created'), unbind_topic('mine');
RESET ROLE;
SELECT actor, action, target, reason FROM stock_admin_actions WHERE target = 'mine' ORDER BY at, action;
SELECT grant_stock_access('regress_bind', 'none');
DROP ROLE regress_bind;
SELECT unbind_topic(topic, event_type) FROM stock_bindings WHERE topic NOT IN (SELECT topic FROM pgstock_internal.default_bindings());
SELECT * FROM verify_stock() WHERE product_id ~ '^bind-';
DROP SCHEMA bind CASCADE;
DROP FUNCTION bind_retry, attributes_of;
