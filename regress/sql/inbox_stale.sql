--
-- inbox_stale: a late message does not end a later attempt
--
-- The story: ann's card is declined at 10:00, or ann cancels, and the message
-- is delayed.  At 10:05 ann orders again under the same id, pays, and the goods
-- are packed.  At 10:10 the first message arrives: it must not release the
-- goods that have been paid for since.  Its own timestamp reveals it.  But
-- clocks differ: a failure of the present attempt, whose producer is three
-- seconds behind, must take effect.
--
SELECT receive_stock('ins-a', 1000);
CREATE TABLE late AS SELECT t.topic, s.state, format('ins %s %s', t.topic, s.state) AS order_id
  FROM unnest('{payment-failed,order-cancelled,order_failed}'::text[]) t (topic),
	   unnest('{reserved,confirmed,due}'::text[]) s (state);
-- the first attempt, an hour ago, has ended; the second begins now
CREATE FUNCTION two_attempts(id text, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM reserve_stock('ins-a', 2, id);
	PERFORM release_stock(id);
	UPDATE pgstock_internal.reservation r SET created_at = now() - interval '1 h' WHERE r.order_id = id;
	PERFORM reserve_stock('ins-a', 3, id);
	IF state = 'confirmed' THEN
		PERFORM confirm_stock(id, 'paid');
	ELSIF state = 'due' THEN
		PERFORM make_due(id);
	END IF;
	RETURN state;
END
$$;
SELECT two_attempts(order_id, state), count(*) FROM late GROUP BY 1 ORDER BY 1;
-- A message that long before (or after,
-- if negative) the start of the present attempt.
CREATE FUNCTION late_by(topic text, id text, before interval) RETURNS text LANGUAGE sql AS $$
SELECT apply_one(topic, jsonb_build_object('order_id', id, 'timestamp',
	to_char((max(created_at) - before) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
  FROM pgstock_internal.reservation r WHERE r.order_id = id
$$;
SET timezone = 'UTC';
SELECT topic, state, late_by(topic, order_id, '10 min'), lines_of(order_id) FROM late ORDER BY topic COLLATE "C", state COLLATE "C";
-- beyond the tolerance by a little, too
SELECT topic, late_by(topic, order_id, '5.001 s') FROM late WHERE state = 'confirmed' ORDER BY topic COLLATE "C";
-- a clock that is three seconds behind
SELECT topic, state, late_by(topic, order_id, '3 s'), lines_of(order_id) FROM late ORDER BY topic COLLATE "C", state COLLATE "C";
-- a setting gives the tolerance
SELECT two_attempts('ins-t', 'reserved');
SET pgstock.clock_tolerance = '1min';
SELECT late_by('order_failed', 'ins-t', '61 s');
SET pgstock.clock_tolerance = 0;
SELECT late_by('order_failed', 'ins-t', '1 ms');
SELECT late_by('order_failed', 'ins-t', '0');
RESET pgstock.clock_tolerance;
-- a line that was added to the attempt later does not make it begin later
SELECT two_attempts('ins-l', 'reserved');
UPDATE pgstock_internal.reservation SET created_at = now() - interval '10 s' WHERE order_id = 'ins-l' AND attempt = 2;
SELECT receive_stock('ins-0', 1);
SELECT status FROM reserve_stock('ins-0', 1, 'ins-l');
SELECT late_by('order-cancelled', 'ins-l', '8 s'), lines_of('ins-l');
-- refused at first, and reserved since by the application: the same
SELECT apply_one('order-created', '{"order_id": "ins-r", "items": [{"product_id": "ins-a", "quantity": 5000}]}');
SELECT status FROM reserve_stock('ins-a', 1, 'ins-r');
SELECT late_by('order-cancelled', 'ins-r', '1 min'), lines_of('ins-r');
-- a first attempt cannot be confused with another, whatever the clocks show
SELECT status FROM reserve_stock('ins-a', 1, 'ins-f');
SELECT late_by('payment-failed', 'ins-f', '1 year'), lines_of('ins-f');
-- a payment is never too old: it pays for the present attempt
SELECT two_attempts('ins-p', 'reserved');
SELECT late_by('payment-success', 'ins-p', '1 h'), lines_of('ins-p');
-- a waiting message without a timestamp is as old as its first arrival
SELECT apply('[{"topic": "order-cancelled", "json": {"order_id": "ins-w"}}]');
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '10 min', next_retry_at = now() - interval '1 s' WHERE order_id = 'ins-w';
SELECT two_attempts('ins-w', 'reserved');
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(50, relay_options());
SELECT lines_of('ins-w');
RESET timezone;
DROP TABLE late;
DROP FUNCTION two_attempts, late_by;
SELECT * FROM verify_stock();
