--
-- inbox_pay_again: a card is declined, then another card pays; and every
-- payment without stock is reported, once
--
-- The story: carl's card is declined and the order released; a minute later
-- carl pays by another card, the stock is still available, and the payment was
-- refused all the same.  Or the stock is gone, and the two payments A and B are
-- delivered in turn: both must be refunded, and neither twice.
--
SELECT receive_stock('ipa-a', 100), receive_stock('ipa-b', 2);
CREATE FUNCTION send(topic text, id text, payment_id text DEFAULT NULL, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
SELECT apply_one(topic, jsonb_strip_nulls(jsonb_build_object('order_id', id, 'payment_id', payment_id)) || more)
$$;
CREATE FUNCTION emits(id text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(concat_ws(' ', event_type, payload->>'reason', payload->>'payment_id'), ', ' ORDER BY seq)
  FROM stock_outbox WHERE key = id
$$;
-- declined, then paid: the stock is taken again
SELECT status FROM reserve_stock('ipa-a', 1, 'ipa-1', 'carl');
SELECT send('payment-failed', 'ipa-1', 'card-1', '{"reason": "no funds"}'), lines_of('ipa-1'), level_of('ipa-a');
SELECT send('payment-success', 'ipa-1', 'card-2'), lines_of('ipa-1'), level_of('ipa-a'), emits('ipa-1');
SELECT state, reason, ended_at, payment_id FROM stock_reservations WHERE order_id = 'ipa-1';
-- the ledger shows each step
SELECT kind, on_hand_delta, reserved_delta FROM stock_movements WHERE order_id = 'ipa-1' ORDER BY id;
-- a late message about the first card changes nothing
SELECT send('payment-failed', 'ipa-1', 'card-1'), lines_of('ipa-1');
-- by hand the table of states holds: a released order cannot be confirmed
SELECT status FROM reserve_stock('ipa-a', 1, 'ipa-2');
SELECT send('payment-failed', 'ipa-2');
SELECT outcome_of($$SELECT confirm_stock('ipa-2')$$);
-- declined, and the stock sold meanwhile: shortfall;
-- due lines of other orders do not prevent a payment
SELECT status FROM reserve_stock('ipa-b', 2, 'ipa-3');
SELECT send('payment-failed', 'ipa-3');
SELECT status FROM reserve_stock('ipa-b', 1, 'ipa-taker');
SELECT send('payment-success', 'ipa-3', 'card-2'), lines_of('ipa-3'), emits('ipa-3'), level_of('ipa-b');
SELECT status FROM reserve_stock('ipa-b', 1, 'ipa-4');
SELECT send('payment-failed', 'ipa-4');
SELECT status FROM reserve_stock('ipa-b', 1, 'ipa-due');
SELECT make_due('ipa-due');
SELECT send('payment-success', 'ipa-4', 'card-2'), lines_of('ipa-4'), lines_of('ipa-due'), level_of('ipa-b');
-- two lines, one of which was declined by name: the payment covers both
SELECT count(*) FROM reserve_order('ipa-5', '[{"product_id": "ipa-a", "quantity": 1}, {"product_id": "ipa-a", "quantity": 1, "location": "main"}]');
SELECT receive_stock('ipa-c', 5);
SELECT status FROM reserve_stock('ipa-c', 2, 'ipa-5');
SELECT send('payment-failed', 'ipa-5', more => '{"items": [{"product_id": "ipa-c", "quantity": 2}]}'), lines_of('ipa-5');
SELECT send('payment-success', 'ipa-5', 'P'), lines_of('ipa-5');
-- after a cancellation nothing is sold, however the order had ended before it
SELECT count(reserve_stock('ipa-a', 1, 'ipa-c' || i)) FROM generate_series(1, 5) i;
SELECT send('order-cancelled', 'ipa-c1'), send('payment-success', 'ipa-c1', 'P');
SELECT send('payment-failed', 'ipa-c2'), send('order-cancelled', 'ipa-c2'), send('payment-success', 'ipa-c2', 'P');
SELECT make_due('ipa-c3');
SELECT expire_reservations() > 0, send('order-cancelled', 'ipa-c3'), send('payment-success', 'ipa-c3', 'P');
SELECT make_due('ipa-c4');
SELECT send('order_failed', 'ipa-c4'), send('payment-success', 'ipa-c4', 'P');
SELECT make_due('ipa-c5');
SELECT status, replayed FROM release_stock('ipa-c5');
SELECT send('payment-success', 'ipa-c5', 'P');
SELECT o, lines_of(o), emits(o) FROM (SELECT 'ipa-c' || i FROM generate_series(1, 5) i) x (o) ORDER BY o;
SELECT expire_reservations() > 0, lines_of('ipa-c4'), level_of('ipa-a');
-- reserved again it is an order like any other; but a payment that is to be
-- refunded pays for nothing more
SELECT status FROM reserve_stock('ipa-a', 1, 'ipa-c1');
SELECT send('payment-success', 'ipa-c1', 'P'), send('payment-success', 'ipa-c1', 'Q'), lines_of('ipa-c1');
-- A, B, A, B, A without stock: one shortfall for each, whatever the order's end
SELECT status FROM reserve_stock('ipa-c', 3, 'ipa-out', ttl => '0');
SELECT count(*) FROM unnest('{expired,declined,cancelled,failed}'::text[]) s, LATERAL (SELECT receive_stock('ipa-' || s, 1)) r (n), LATERAL reserve_stock('ipa-' || s, 1, 'ipa-x-' || s) v;
SELECT send('payment-failed', 'ipa-x-declined'), send('order-cancelled', 'ipa-x-cancelled'), send('order_failed', 'ipa-x-failed'), make_due('ipa-x-expired');
SELECT count(*) FROM unnest('{expired,declined,cancelled,failed}'::text[]) s, LATERAL reserve_stock('ipa-' || s, 1, 'ipa-taker-' || s);
SELECT send('order-created', 'ipa-x-refused', more => '{"items": [{"product_id": "ipa-c", "quantity": 1000}]}');
SELECT p, send('payment-success', 'ipa-x-expired', p) AS expired, send('payment-success', 'ipa-x-declined', p) AS declined,
	   send('payment-success', 'ipa-x-cancelled', p) AS cancelled, send('payment-success', 'ipa-x-failed', p) AS failed, send('payment-success', 'ipa-x-refused', p) AS refused
  FROM unnest('{A,B,A,B,A}'::text[]) WITH ORDINALITY x (p, i) ORDER BY i;
SELECT s, emits('ipa-x-' || s) FROM unnest('{expired,declined,cancelled,failed,refused}'::text[]) s;
-- all in one batch, and without an id: once for the order
SELECT count(*) FROM unnest('{b}'::text[]) s, LATERAL (SELECT receive_stock('ipa-' || s, 1)) r (n), LATERAL reserve_stock('ipa-' || s, 1, 'ipa-x-' || s) v;
SELECT status FROM release_stock('ipa-x-b');
SELECT * FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'payment-success', 'json', jsonb_strip_nulls(jsonb_build_object('order_id', 'ipa-x-b', 'payment_id', p))) ORDER BY i)
	FROM unnest('{A,B,A,B,A,NULL,NULL}'::text[]) WITH ORDINALITY x (p, i)));
SELECT emits('ipa-x-b');
-- the order gets the answer of its refusal, paid or not
SELECT send('order-created', 'ipa-x-refused', more => '{"items": [{"product_id": "ipa-c", "quantity": 1000}]}'), emits('ipa-x-refused');
-- paid twice: the order stays sold, and the second payment must be refunded
SELECT status FROM reserve_stock('ipa-a', 1, 'ipa-t', 'carl');
SELECT p, send('payment-success', 'ipa-t', p) FROM unnest('{A,A,B,A,B,C,NULL}'::text[]) WITH ORDINALITY x (p, i) ORDER BY i;
SELECT emits('ipa-t'), lines_of('ipa-t');
SELECT jsonb_pretty(payload - '{event_id,timestamp,causation_id}'::text[]) FROM stock_outbox WHERE key = 'ipa-t' ORDER BY seq DESC LIMIT 1;
SELECT message ~ 'order_id=ipa-t' AS named, reason FROM pgstock_internal.relay_apply('{payment-success}', '{0}', ARRAY[nextval('next_offset')], '{-1}', '{NULL}',
	ARRAY[convert_to('{"order_id": "ipa-t", "payment_id": "D"}', 'UTF8')], '{NULL}', relay_options());
-- confirmed by hand, without a payment id: it may be that payment
SELECT status FROM reserve_stock('ipa-a', 1, 'ipa-h');
SELECT status FROM confirm_stock('ipa-h');
SELECT send('payment-success', 'ipa-h', 'A');
-- then it was: another payment is a second one
SELECT send('payment-success', 'ipa-h', 'A'), send('payment-success', 'ipa-h', 'B'), send('payment-success', 'ipa-h', 'A'), emits('ipa-h');
-- reserved again: a reported payment pays for nothing more, nor does an earlier
-- payment whose message is late; a new message does
SELECT count(receive_stock('ipa-n' || i, 1)) FROM generate_series(1, 2) i;
SELECT status FROM reserve_stock('ipa-n1', 1, 'ipa-n1');
SELECT make_due('ipa-n1');
SELECT status FROM reserve_stock('ipa-n1', 1, 'ipa-n1-taker');
SELECT send('payment-success', 'ipa-n1', 'A'), lines_of('ipa-n1'), receive_stock('ipa-n1', 1) > 0;
SELECT status FROM reserve_stock('ipa-n1', 1, 'ipa-n1');
SELECT send('payment-success', 'ipa-n1', 'A'), send('payment-success', 'ipa-n1', 'B'), lines_of('ipa-n1'), emits('ipa-n1');
SELECT status FROM reserve_stock('ipa-n2', 1, 'ipa-n2');
SELECT send('payment-success', 'ipa-n2', 'A'), send('order_failed', 'ipa-n2');
SELECT status FROM reserve_stock('ipa-n2', 1, 'ipa-n2');
SELECT send('payment-success', 'ipa-n2', 'A', '{"timestamp": "2020-01-01T00:00:00Z"}'), lines_of('ipa-n2');
SELECT send('payment-success', 'ipa-n2', 'A'), lines_of('ipa-n2'), emits('ipa-n2');
-- reported payments are remembered as long as ids are
SELECT count(*) > 10 AS remembered FROM pgstock_internal.surplus_payment;
UPDATE pgstock_internal.surplus_payment SET reported_at = now() - interval '8 days' WHERE order_id <> 'ipa-t';
SELECT pgstock_internal.relay_purge('100 years', '7 days', 1000) > 0;
SELECT DISTINCT order_id FROM pgstock_internal.surplus_payment;
DROP FUNCTION send, emits;
SELECT * FROM verify_stock();
