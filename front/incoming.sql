/* ---- Incoming messages --------------------------------------------------- */

/*
 * The handlers of the order topics in a coordinator that has pgstock, too: its
 * relay reads the topics, and a message calls the functions of the front.  The
 * inbox there knows each message, and its outbox has the answer for the whole
 * order: both are one commit.
 *
 * What a handler does in the shards is committed there before.  If the inbox's
 * commit is lost, the message is delivered again, and finds what it did: lines
 * of the order, or the answer under the idempotency key of the message.
 *
 * What messages look like, and what is remembered of orders that have no line,
 * is the same as for the built-in handlers: pgstock_internal.read_message(),
 * answer_message() and apply_message() (extension/inbox/routed_message.c).
 * The reasons are in docs/decisions/0029-incoming-orders.md.
 */

CREATE TYPE pgstock_front.order_line AS
(
	product_id	text,
	location	text,
	quantity	bigint,
	state		text,
	user_id		text,
	payment_id	text,
	expires_at	timestamptz,
	available	bigint,
	version		bigint
);
COMMENT ON TYPE pgstock_front.order_line IS
	'the latest line of a product of an order (pgstock_shard.order_lines)';

SELECT pgstock_front.make_shard_calls('order_lines', '{text,boolean}');

/* In pgstock a line has this mark itself; front and shards have none. */
CREATE TABLE pgstock_front.declined_order
(
	order_id	text COLLATE "C" NOT NULL,
	declined_at	timestamptz NOT NULL,
	CONSTRAINT declined_order_pkey PRIMARY KEY (order_id)
);
COMMENT ON TABLE pgstock_front.declined_order IS
	'orders that a payment-failed has released: another payment reserves their '
	'lines again';
CREATE INDEX declined_order_declined_at
	ON pgstock_front.declined_order (declined_at);
SELECT pg_extension_config_dump('pgstock_front.declined_order', '');

/* ---- What is known of an order ---- */

CREATE FUNCTION pgstock_front.incoming_lines(order_id text, shards int[],
	fenced boolean)
RETURNS pgstock_front.order_line[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	BEGIN
		answers := ARRAY(
			SELECT a::pgstock_front.answer FROM pgstock_front.order_lines(
				coalesce(shards, pgstock_front.shards_of_order($1)),
				pgstock_front.caller(), NULL, NULL, $1, fenced) a);
	EXCEPTION WHEN internal_error OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('order_lines', SQLSTATE, SQLERRM);
	END;
	RETURN ARRAY(
		SELECT l FROM unnest(pgstock_front.check_answers(answers)) a,
					  unnest(a.rows::pgstock_front.order_line[]) l
		 ORDER BY l.product_id COLLATE "C", l.location COLLATE "C");
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_lines IS
	'returns the lines of an order in the given shards; NULL: in its shards';

/*
 * Shards may have lines of an order over shards that was not reserved: holds,
 * or what was released when it was undone.  The handlers must ignore them.
 */
CREATE FUNCTION pgstock_front.incoming_known(order_id text, items jsonb)
RETURNS pgstock_front.order_line[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s	pgstock_front.saga;
BEGIN
	SELECT * INTO s FROM pgstock_front.saga x WHERE x.order_id = $1;
	IF s.verb IN ('reserve', 'undo')
		OR s.state IN ('new', 'refused', 'abandoned') THEN
		RETURN '{}';
	END IF;
	RETURN pgstock_front.incoming_lines($1, coalesce(s.shards,
		CASE WHEN items IS NOT NULL
			 THEN pgstock_front.shards_of_items(items) END),
		false);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_known IS
	'returns the lines of an order that was reserved; items: those of a '
	'message that reserves it, in whose shards it is looked for';

CREATE FUNCTION pgstock_front.incoming_state(lines pgstock_front.order_line[])
RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT s.state
			  FROM unnest('{reserved,confirmed,shortfall,expired,rolled_back,'
						  'returned,released}'::text[])
				   WITH ORDINALITY s (state, n)
			  JOIN unnest(lines) l ON l.state = s.state
			 ORDER BY s.n LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_state IS
	'returns the state of an order, as built-in handlers determine it';

CREATE FUNCTION pgstock_front.incoming_rows(order_id text,
	lines pgstock_front.order_line[])
RETURNS pgstock_front.stock_result[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(
		SELECT ($1, l.product_id, l.location, l.quantity, 0, 'refused',
				l.available, l.expires_at, l.version, true)
			   ::pgstock_front.stock_result
		  FROM unnest(lines) l);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_rows IS
	'returns the lines of an order as rows of a result';

/* ---- What the handlers share ---- */

/*
 * The key is the same at each delivery of a message, also if its dead letter
 * was sent back: that is another record with the same topic, source and id.  A
 * message that is applied by hand may have no id, and then has no key.
 */
CREATE FUNCTION pgstock_front.incoming_key(payload jsonb, message jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'message ' || md5(jsonb_build_array(message ->> 'topic', coalesce(
			message -> 'headers' ->> 'ce_source',
			CASE WHEN payload ? 'specversion' THEN payload ->> 'source' END),
		message ->> 'event_id')::text)
 WHERE message ->> 'event_id' IS NOT NULL
$$;
COMMENT ON FUNCTION pgstock_front.incoming_key IS
	'returns the idempotency key of a message';

/* The shards' events have the trace of the message. */
CREATE FUNCTION pgstock_front.incoming_trace(message jsonb, trace_id text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM set_config('pgstock.trace_id', coalesce(
		message -> 'headers' ->> 'traceparent',
		message -> 'headers' ->> 'ce_traceparent', trace_id,
		current_setting('pgstock.trace_id', true), ''), true);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_trace IS
	'sets the trace of a message for the calls of its handler';

/* The order's present state: nothing was changed. */
CREATE FUNCTION pgstock_front.incoming_again(payload jsonb, message jsonb,
	order_id text, items jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards	int[] := coalesce(
		(SELECT x.shards FROM pgstock_front.saga x WHERE x.order_id = $3),
		pgstock_front.shards_of_items(items));
	lines	pgstock_front.order_line[] :=
		pgstock_front.incoming_lines($3, shards, true);
	state	text := pgstock_front.incoming_state(lines);
BEGIN
	PERFORM pgstock_internal.answer_message(payload, message, 'order_created',
		CASE state WHEN 'reserved' THEN 'StockReserved'
				   WHEN 'confirmed' THEN 'StockConfirmed'
				   ELSE 'StockReserveFailed' END,
		CASE WHEN state NOT IN ('reserved', 'confirmed') THEN state END, true,
		(lines[1]).user_id, pgstock_front.incoming_rows($3, lines));
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_again IS
	'answers the message of an order that is known with its present state';

/* ---- order-created ---- */

CREATE FUNCTION pgstock_front.order_created(payload jsonb, message jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET pgstock.front_autonomous = on
AS $$
DECLARE
	m		record;
	rows	pgstock_front.stock_result[];
	refused	boolean;
	detail	text;
	hint	text;
BEGIN
	SELECT * INTO STRICT m
	  FROM pgstock_internal.read_message(payload, message, 'order_created');
	PERFORM pgstock_front.incoming_trace(message, m.trace_id);
	IF m.idle THEN
		RETURN;
	ELSIF pgstock_front.incoming_known(m.order_id, m.items) <> '{}' THEN
		PERFORM pgstock_front.incoming_again(payload, message, m.order_id,
											 m.items);
		RETURN;
	ELSIF m.refused IS NOT NULL THEN
		PERFORM pgstock_internal.apply_message(payload, message,
											   'order_created');
		RETURN;
	END IF;
	BEGIN
		rows := ARRAY(SELECT r FROM @extschema@.try_reserve_order(m.order_id,
						m.items, m.user_id) r);
	EXCEPTION WHEN SQLSTATE 'SK007' THEN
		/* another session has just reserved it */
		PERFORM pgstock_front.incoming_again(payload, message, m.order_id,
											 m.items);
		RETURN;
	WHEN feature_not_supported THEN
		/* the order is at fault, and no other try helps */
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL,
			hint = PG_EXCEPTION_HINT;
		PERFORM pgstock_front.raise('22023', SQLERRM, detail, hint);
	END;
	refused := EXISTS (SELECT FROM unnest(rows) r WHERE r.granted = 0);
	PERFORM pgstock_internal.answer_message(payload, message, 'order_created',
		CASE WHEN refused THEN 'StockReserveFailed' ELSE 'StockReserved' END,
		CASE WHEN EXISTS (SELECT FROM unnest(rows) r
						   WHERE r.status = 'unknown_product')
			 THEN 'unknown_product' WHEN refused THEN 'insufficient' END,
		false, m.user_id, rows);
END
$$;
COMMENT ON FUNCTION pgstock_front.order_created IS
	'handler of order-created: reserves the order through the front';

/* ---- payment-success ---- */

/* A payment after a declined one: the lines are reserved again, if they fit. */
CREATE FUNCTION pgstock_front.incoming_retake(order_id text,
	lines pgstock_front.order_line[])
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM pgstock_front.declined_order d WHERE d.order_id = $1;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	RETURN (
		SELECT bool_and(r.granted > 0)
		  FROM @extschema@.try_reserve_order($1, (
				SELECT jsonb_agg(jsonb_build_object('product_id', l.product_id,
							'location', l.location, 'quantity', l.quantity))
				  FROM unnest(lines) l WHERE l.state = 'released'),
				(lines[1]).user_id) r);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_retake IS
	'reserves again the lines of an order that a declined payment has '
	'released; false if there are none, or too little stock is available';

/* NULL: there is nothing to sell. */
CREATE FUNCTION pgstock_front.incoming_confirm(order_id text, payment_id text,
	key text, lines pgstock_front.order_line[])
RETURNS pgstock_front.stock_result[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR try IN 1 .. 2 LOOP
		BEGIN
			RETURN ARRAY(SELECT r FROM @extschema@.confirm_stock($1, $2, $3) r);
		EXCEPTION WHEN SQLSTATE 'SK004' OR SQLSTATE 'SK005' OR SQLSTATE 'SK006'
			THEN NULL;
		END;
		EXIT WHEN pgstock_front.incoming_retake($1, lines) IS NOT TRUE;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_confirm IS
	'confirms an order for a payment; NULL if it has ended';

CREATE FUNCTION pgstock_front.payment_success(payload jsonb, message jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET pgstock.front_autonomous = on
AS $$
DECLARE
	m		record;
	lines	pgstock_front.order_line[];
	rows	pgstock_front.stock_result[];
	type	text := 'StockConfirmed';
	reason	text;
BEGIN
	SELECT * INTO STRICT m
	  FROM pgstock_internal.read_message(payload, message, 'payment_success');
	PERFORM pgstock_front.incoming_trace(message, m.trace_id);
	IF m.idle THEN
		RETURN;
	END IF;
	lines := pgstock_front.incoming_known(m.order_id, NULL);
	IF lines = '{}' THEN
		/* it was refused, or the message waits for it */
		PERFORM pgstock_internal.apply_message(payload, message,
											   'payment_success');
		RETURN;
	END IF;
	rows := pgstock_front.incoming_confirm(m.order_id, m.payment_id,
		pgstock_front.incoming_key(payload, message), lines);
	IF rows IS NULL THEN
		lines := pgstock_front.incoming_lines(m.order_id, NULL, true);
		type := 'StockShortfall';
		reason := pgstock_front.incoming_state(lines);
		rows := pgstock_front.incoming_rows(m.order_id, lines);
	ELSIF EXISTS (SELECT FROM unnest(rows) r WHERE r.status = 'shortfall') THEN
		type := 'StockShortfall';
		reason := 'expired';
	ELSIF NOT EXISTS (SELECT FROM unnest(rows) r
					   WHERE r.status = 'confirmed') THEN
		lines := pgstock_front.incoming_lines(m.order_id, NULL, false);
		IF NOT EXISTS (SELECT FROM unnest(lines) l
						WHERE l.payment_id <> m.payment_id) THEN
			RETURN;
		END IF;
		reason := 'paid_twice';
	END IF;
	PERFORM pgstock_internal.answer_message(payload, message,
		'payment_success', type, reason, reason IS NOT DISTINCT FROM
		'paid_twice', (lines[1]).user_id, rows);
END
$$;
COMMENT ON FUNCTION pgstock_front.payment_success IS
	'handler of payment-success: confirms the order through the front';

/* ---- Messages that give stock back ---- */

CREATE FUNCTION pgstock_front.incoming_settle(verb text, order_id text,
	reason text, items jsonb, key text)
RETURNS pgstock_front.stock_result[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF verb = 'release' THEN
		RETURN ARRAY(SELECT r FROM @extschema@.release_stock($2, $3, $4, $5) r);
	END IF;
	RETURN ARRAY(SELECT r FROM @extschema@.rollback_stock($2, $3, $4, $5) r);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_settle IS
	'releases an order, or rolls it back';

/* As many of the items as the order has; NULL: none. */
CREATE FUNCTION pgstock_front.incoming_clip(items jsonb,
	lines pgstock_front.order_line[])
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (
		SELECT jsonb_agg(jsonb_build_object('product_id', l.product_id,
					'location', l.location, 'quantity',
					least(l.quantity, (i ->> 'quantity')::bigint)))
		  FROM jsonb_array_elements(items) i
		  JOIN unnest(lines) l ON l.product_id = i ->> 'product_id'
							  AND l.location = i ->> 'location');
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_clip IS
	'returns the items that an order has, and no more pieces than it has';

/* NULL: the order is paid, and a declined payment does not change that. */
CREATE FUNCTION pgstock_front.incoming_release(handler text, order_id text,
	reason text, items jsonb, key text, lines pgstock_front.order_line[])
RETURNS pgstock_front.stock_result[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	verb	text := CASE WHEN handler = 'order_failed' OR handler =
					'order_cancelled' AND pgstock_front.incoming_state(lines)
					IN ('confirmed', 'rolled_back') THEN 'rollback'
					ELSE 'release' END;
BEGIN
	BEGIN
		RETURN pgstock_front.incoming_settle(verb, $2, $3, $4, $5);
	EXCEPTION
		WHEN SQLSTATE 'SK005' THEN
			IF handler = 'payment_failed' THEN
				RETURN NULL;
			END IF;
			/* it was paid meanwhile */
			verb := 'rollback';
		WHEN invalid_parameter_value THEN
			items := pgstock_front.incoming_clip(items, lines);
			key := key || ' clipped';
			IF items IS NULL THEN
				RETURN NULL;
			END IF;
	END;
	RETURN pgstock_front.incoming_settle(verb, $2, $3, items, key);
EXCEPTION WHEN SQLSTATE 'SK007' THEN
	/* an earlier delivery has returned what the order had then */
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_release IS
	'releases an order or rolls it back, or only the items that a message '
	'names';

CREATE FUNCTION pgstock_front.incoming_note_declined(order_id text)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM pgstock_front.declined_order d
 WHERE d.order_id IN (
	SELECT o.order_id FROM pgstock_front.declined_order o
	 WHERE o.declined_at < now()
		   - pgstock_front.saga_setting('saga_retention')
	 LIMIT 10 FOR UPDATE SKIP LOCKED);
INSERT INTO pgstock_front.declined_order VALUES ($1, now())
	ON CONFLICT ON CONSTRAINT declined_order_pkey DO UPDATE
   SET declined_at = excluded.declined_at
$$;
COMMENT ON FUNCTION pgstock_front.incoming_note_declined IS
	'notes that a declined payment has released an order, and deletes old '
	'notes';

CREATE FUNCTION pgstock_front.incoming_give_back(payload jsonb, message jsonb,
	handler text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m		record;
	lines	pgstock_front.order_line[];
	rows	pgstock_front.stock_result[];
BEGIN
	SELECT * INTO STRICT m
	  FROM pgstock_internal.read_message(payload, message, handler);
	PERFORM pgstock_front.incoming_trace(message, m.trace_id);
	IF m.idle THEN
		RETURN;
	END IF;
	lines := pgstock_front.incoming_known(m.order_id, NULL);
	IF lines = '{}' THEN
		/* it was refused, or the message waits for it */
		PERFORM pgstock_internal.apply_message(payload, message, handler);
		RETURN;
	END IF;
	rows := pgstock_front.incoming_release(handler, m.order_id, m.reason,
		CASE WHEN handler <> 'order_failed' THEN m.items END,
		pgstock_front.incoming_key(payload, message), lines);
	IF handler <> 'payment_failed' THEN
		DELETE FROM pgstock_front.declined_order d
		 WHERE d.order_id = m.order_id;
	END IF;
	rows := ARRAY(SELECT r FROM unnest(rows) r
				   WHERE r.status IN ('released', 'rolled_back'));
	IF rows = '{}' THEN
		RETURN;
	ELSIF handler = 'payment_failed' THEN
		PERFORM pgstock_front.incoming_note_declined(m.order_id);
	END IF;
	PERFORM pgstock_internal.answer_message(payload, message, handler,
		CASE (rows[1]).status WHEN 'released' THEN 'StockReleased'
							  ELSE 'StockRolledBack' END,
		m.reason, false, (lines[1]).user_id, rows);
END
$$;
COMMENT ON FUNCTION pgstock_front.incoming_give_back IS
	'releases or rolls back the order of a message, and answers it';

CREATE FUNCTION pgstock_front.payment_failed(payload jsonb, message jsonb)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET pgstock.front_autonomous = on
AS $$
SELECT pgstock_front.incoming_give_back($1, $2, 'payment_failed')
$$;
COMMENT ON FUNCTION pgstock_front.payment_failed IS
	'handler of payment-failed: releases the order through the front; another '
	'payment may follow';

CREATE FUNCTION pgstock_front.order_cancelled(payload jsonb, message jsonb)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET pgstock.front_autonomous = on
AS $$
SELECT pgstock_front.incoming_give_back($1, $2, 'order_cancelled')
$$;
COMMENT ON FUNCTION pgstock_front.order_cancelled IS
	'handler of order-cancelled: releases the order through the front, or '
	'rolls it back';

CREATE FUNCTION pgstock_front.order_failed(payload jsonb, message jsonb)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET pgstock.front_autonomous = on
AS $$
SELECT pgstock_front.incoming_give_back($1, $2, 'order_failed')
$$;
COMMENT ON FUNCTION pgstock_front.order_failed IS
	'handler of order_failed: rolls the order back through the front';

/* ---- Setting up ---- */

/*
 * The handlers read the coordinator's own table of sagas, so they are for no
 * other database.  Events of the whole order have a topic of their own: those
 * of its parts, which the shards publish, would be counted twice.
 */
CREATE FUNCTION pgstock_front.bind_orders(
	answers text DEFAULT 'order-answers')
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pgstock	name := (SELECT x.extnamespace::regnamespace FROM pg_extension x
					  WHERE x.extname = 'pgstock');
	b		record;
BEGIN
	IF pgstock IS NULL THEN
		RAISE EXCEPTION 'extension "pgstock" is not installed in this database'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Run CREATE EXTENSION pgstock: its inbox receives '
						 'the messages.';
	ELSIF NOT EXISTS (
		SELECT FROM pg_foreign_server s, unnest(s.srvoptions) o
		 WHERE s.srvname = 'pgstock_coordinator'
		   AND strpos(o, format('dbname=''%s''', current_database())) > 0) THEN
		RAISE EXCEPTION 'this database is not the coordinator'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Bind the topics in the database that '
						 'pgstock_front.set_coordinator() names.';
	END IF;
	FOR b IN SELECT * FROM (VALUES
		('order-created', 'order_created'),
		('payment-success', 'payment_success'),
		('payment-failed', 'payment_failed'),
		('order-cancelled', 'order_cancelled'),
		('order_failed', 'order_failed')) b (topic, handler)
	LOOP
		EXECUTE format('SELECT %s.bind_topic(%L, %L)', pgstock, b.topic,
					   'pgstock_front.' || b.handler);
	END LOOP;
	/* a session may wait for another one as long as pgstock_front.patience */
	EXECUTE format('ALTER DATABASE %I SET pgstock.handler_timeout = ''30s''',
				   current_database());
	EXECUTE format('SELECT %1$s.set_event_topic(''*'', %2$L), '
				   '%1$s.set_event_topic(''StockReserveFailed'', %3$L)',
				   pgstock, answers, 'stock-freeze-failed');
END
$$;
COMMENT ON FUNCTION pgstock_front.bind_orders IS
	'binds the order topics to the handlers that call the front, and sets the '
	'topic of the answers and pgstock.handler_timeout; in the coordinator''s '
	'database';
