--
-- bounds: a large request takes time in proportion to its size, and can be
-- cancelled; and the caller cannot raise the limit of its size
--
-- The story: a role raises pgstock.max_lines for itself and reserves an order
-- of 100,000 lines.  If look-ups go through all lines for each line, that takes
-- ten minutes, with the rows of 100,000 levels locked; and if no loop looks at
-- interrupts, neither statement_timeout nor pg_terminate_backend ends it.
--
LOAD 'pgstock';
CREATE ROLE pgstock_regress_shop LOGIN;
SELECT grant_stock_access('pgstock_regress_shop', 'app');
SET ROLE pgstock_regress_shop;
SELECT outcome_of('SET pgstock.max_lines = 100000');
SELECT outcome_of('SET pgstock.handler_timeout = ''45s''');
SELECT outcome_of('ALTER ROLE pgstock_regress_shop SET pgstock.max_lines = 100000');
RESET ROLE;
SELECT outcome_of('SET pgstock.max_lines = 100001');
SET pgstock.max_lines = 100000;
-- cancelled in time: while lines are read, while they are written, while
-- messages are applied; the whole takes many times as long
CREATE FUNCTION lines(n int, product text, location text DEFAULT '''main''') RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	items jsonb;
BEGIN
	EXECUTE format('SELECT jsonb_agg(jsonb_build_object(''product_id'', %s, ''location'', %s, ''quantity'', 1))
					  FROM generate_series(1, $1) i', product, location) INTO items USING n;
	RETURN items;
END
$$;
CREATE FUNCTION ended(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	began	timestamptz := clock_timestamp();
BEGIN
	EXECUTE command;
	RETURN 'not ended';
EXCEPTION WHEN query_canceled THEN
	RETURN CASE WHEN clock_timestamp() < began + interval '1 s' THEN 'ended in time' ELSE 'ended too late' END;
END
$$;
SET debug_discard_caches = 0;
CREATE TABLE bounds_items AS SELECT lines(100000, '''bounds-none'' || i') AS items;
DO $$BEGIN
	FOR i IN 1..16000 LOOP
		PERFORM receive_stock('bounds-' || i, 100);
		IF i % 1000 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END$$;
CREATE TABLE bounds_real AS SELECT lines(16000, '''bounds-'' || i') AS items;
SET statement_timeout = '20ms';
SELECT ended($$SELECT count(*) FROM bounds_items, try_reserve_order('bounds-o', items)$$);
SELECT ended($$SELECT count(*) FROM bounds_real, try_reserve_order('bounds-o', items)$$);
SELECT ended($$SELECT count(*) FROM apply((SELECT jsonb_agg('{"topic": "order-created", "json": {"order_id": "bounds", "items": [{"product_id": "bounds-1", "quantity": 1}]}}'::jsonb)
			FROM generate_series(1, 50000)))$$);
RESET statement_timeout;
SELECT lines_of('bounds-o');
-- The cost of a command of 16 times the size: "by its size", if not much more
-- than 16 times as much (a command that takes no time counts as 10 ms).  256
-- times would be by its square.
CREATE FUNCTION grows(prepare text, command text, small int, OUT grows text)
LANGUAGE plpgsql AS $$
DECLARE
	began	timestamptz;
	took	float[];
BEGIN
	FOREACH small IN ARRAY ARRAY[small, small, 16 * small] LOOP
		BEGIN
			EXECUTE replace(prepare, '%n', small::text);
			began := clock_timestamp();
			EXECUTE replace(command, '%n', small::text);
			took := took || extract(epoch FROM clock_timestamp() - began)::float;
			RAISE SQLSTATE 'TT000';
		EXCEPTION WHEN SQLSTATE 'TT000' THEN
			NULL; -- as if it had not been
		END;
	END LOOP;
	grows := CASE WHEN took[3] < 80 * greatest(0.01, least(took[1], took[2])) THEN 'by its size'
				  ELSE format('%s times', round((took[3] / least(took[1], took[2]))::numeric)) END;
END
$$;
-- no event is larger than a record may be
SELECT set_event_topic('*', NULL);
-- each line is looked for among the order's lines
SELECT grows($$SELECT count(*) FROM reserve_order('bounds-again', lines(%n, '''bounds-'' || i'))$$,
			 $$SELECT count(*) FROM reserve_order('bounds-again', lines(%n, '''bounds-'' || i'))$$, 1000);
-- one product at many locations: the stock on hand of each
SELECT grows($$SELECT count(receive_stock('bounds-at', 10, 'l' || i)) FROM generate_series(1, %n) i;
			   SELECT count(*) FROM reserve_order('bounds-at', lines(%n, '''bounds-at''', '''l'' || i')), confirm_stock('bounds-at')$$,
			 $$SELECT count(*) FROM return_stock('bounds-at')$$, 100);
-- due lines, and a batch of orders that need their stock: some orders expire
-- them, and are written; some are refused in spite of them
CREATE FUNCTION orders(n int, name text, quantity int) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(jsonb_build_object('order_id', name || i, 'items', jsonb_build_array(jsonb_build_object('product_id', 'bounds-due', 'quantity', quantity))))
  FROM generate_series(1, n) i
$$;
CREATE FUNCTION due(n int) RETURNS void LANGUAGE sql AS $$
SELECT count(*) FROM receive_stock('bounds-due', n), reserve_orders(orders(n, 'bounds-due', 1));
UPDATE pgstock_internal.reservation SET expires_at = '2020-01-01', due_at = '2020-01-01' WHERE product_id = 'bounds-due';
$$;
SELECT grows('SELECT due(%n)', $$SELECT count(*) FROM reserve_orders(orders(%n, 'bounds-new', 1))$$, 150);
SELECT grows('SELECT due(%n)', $$SELECT count(*) FROM reserve_orders(orders(%n, 'bounds-new', 1000000))$$, 150);
SELECT grows('SELECT due(%n)', 'SELECT expire_reservations(%n)', 150);
RESET debug_discard_caches;
DELETE FROM pgstock_internal.event_topic;
RESET pgstock.max_lines;
SELECT grant_stock_access('pgstock_regress_shop', 'none');
DROP TABLE bounds_items, bounds_real;
DROP FUNCTION lines, ended, grows, orders, due;
DROP ROLE pgstock_regress_shop;
SELECT * FROM verify_stock();
