-- The same writes as reserve_stock's, written by hand in PL/pgSQL: what it is
-- compared with.
CREATE SCHEMA by_hand;
CREATE TABLE by_hand.level (LIKE pgstock_internal.level INCLUDING ALL);
CREATE TABLE by_hand.reservation
	(LIKE pgstock_internal.reservation INCLUDING ALL);
CREATE TABLE by_hand.movement (LIKE pgstock_internal.movement_1 INCLUDING ALL);
CREATE TABLE by_hand.outbox (LIKE pgstock_internal.outbox_1 INCLUDING ALL);
INSERT INTO by_hand.level SELECT * FROM pgstock_internal.level;

CREATE FUNCTION by_hand.reserve(product text, quantity bigint, ord text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	l	by_hand.level;
	e	uuid := gen_random_uuid();
	t	timestamptz := clock_timestamp();
BEGIN
	PERFORM FROM by_hand.reservation r
	  WHERE r.order_id = ord AND r.state = 'r';
	UPDATE by_hand.level SET reserved = reserved + quantity,
		   version = version + 1
	 WHERE product_id = product AND location = 'main' AND slot = 0
	   AND on_hand - reserved - safety >= quantity
	RETURNING * INTO l;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'not enough stock';
	END IF;
	INSERT INTO by_hand.reservation (order_id, attempt, product_id, location,
		slot, quantity, state, created_at, expires_at, due_at)
	VALUES (ord, 1, product, 'main', 0, quantity, 'r', t,
			t + interval '30 min', t + interval '30 min');
	INSERT INTO by_hand.movement (at, kind, product_id, location, on_hand_delta,
		reserved_delta, order_id, actor, event_id)
	VALUES (t, 'reserved', product, 'main', 0, quantity, ord, current_user, e);
	INSERT INTO by_hand.outbox (id, aggregatetype, aggregateid, type, payload,
		created_at, format, part)
	VALUES (e, 'stock-events', convert_to(ord, 'UTF8'), 'StockReserved',
			convert_to(json_build_object('event_id', e, 'event_type',
				'StockReserved', 'event_version', 1, 'timestamp', t, 'order_id',
				ord, 'items', json_build_array(json_build_object('product_id',
					product, 'location', 'main', 'quantity', quantity,
					'remaining_stock', l.on_hand - l.reserved, 'version',
					l.version)))::text, 'UTF8'), t, 'j', 1);
	RETURN l.on_hand - l.reserved;
END
$$;
