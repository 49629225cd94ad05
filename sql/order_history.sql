/* ---- What an order went through ------------------------------------------ */

/* "settled_at" is NULL unless the order is retired. */
CREATE VIEW pgstock_internal.order_line AS
SELECT r.order_id, r.attempt, r.product_id, r.location, r.quantity, r.state,
	   r.user_id, r.created_at, r.expires_at, r.ended_at, r.reason,
	   r.payment_id, r.activity_id, r.confirmed_at,
	   NULL::timestamptz AS settled_at
  FROM pgstock_internal.reservation r
 UNION ALL
SELECT h.order_id, h.attempt, h.product_id, h.location, h.quantity, h.state,
	   h.user_id, h.created_at, h.expires_at, h.ended_at, h.reason,
	   h.payment_id, h.activity_id, h.confirmed_at, h.settled_at
  FROM pgstock_internal.reservation_history h;
COMMENT ON VIEW pgstock_internal.order_line IS
	'lines of orders, retired ones included';

/*
 * An order id that was retired may be used again: its latest attempt is then
 * the one that is not retired.  The condition order_id = ... reaches the
 * indexes, because it names the column of PARTITION BY and GROUP BY.
 */
CREATE VIEW @extschema@.stock_orders AS
SELECT l.order_id, l.attempt,
	   (ARRAY['reserved', 'confirmed', 'shortfall', 'returned', 'rolled_back',
			  'released', 'expired'])[min(position(l.state::text IN 'rcstble'))]
		   AS state,
	   max(l.user_id) AS user_id, min(l.created_at) AS created_at,
	   min(l.expires_at) AS expires_at, max(l.confirmed_at) AS confirmed_at,
	   CASE WHEN count(l.ended_at) = count(*) THEN max(l.ended_at) END
		   AS ended_at,
	   count(*)::int AS lines, sum(l.quantity)::bigint AS quantity,
	   (array_agg(l.reason ORDER BY l.ended_at DESC NULLS LAST, l.product_id,
				  l.location) FILTER (WHERE l.reason IS NOT NULL))[1]
		   AS reason,
	   max(l.payment_id) AS payment_id
  FROM (SELECT o.*, rank() OVER (PARTITION BY o.order_id
								 ORDER BY o.settled_at DESC NULLS FIRST,
										  o.attempt DESC) AS nth
		  FROM pgstock_internal.order_line o) l
 WHERE l.nth = 1
 GROUP BY l.order_id, l.attempt;
COMMENT ON VIEW @extschema@.stock_orders IS
	'latest attempt of each order: its state is that of the line that is '
	'furthest from its end';

/*
 * A reservation that has an expiry time is in the index reservation_due, any
 * other in reservation_endless.  Lines
 * are chosen by their age before they are grouped: most are younger.
 */
CREATE VIEW pgstock_internal.hanging_order AS
WITH age AS MATERIALIZED (
	SELECT clock_timestamp() - coalesce(nullif(
		current_setting('pgstock.hanging_after', true), ''), '1h')::interval
		AS before
)
SELECT r.order_id, 'reservation' AS kind, min(r.created_at) AS since,
	   min(r.expires_at) AS expires_at, NULL::text AS topic,
	   NULL::text AS event_id,
	   CASE WHEN min(r.expires_at) <= clock_timestamp()
			THEN 'overdue' ELSE 'neither paid nor canceled' END AS reason
  FROM (SELECT d.order_id, d.created_at, d.expires_at
		  FROM pgstock_internal.reservation d
		 WHERE d.due_at > '-infinity' AND d.state = 'r'
		   AND d.created_at < (SELECT a.before FROM age a)
		UNION ALL
		SELECT n.order_id, n.created_at, n.expires_at
		  FROM pgstock_internal.reservation n
		 WHERE n.due_at IS NULL AND n.ended_at IS NULL
		   AND n.confirmed_at IS NULL AND n.state = 'r'
		   AND n.created_at < (SELECT a.before FROM age a)) r
 GROUP BY r.order_id
UNION ALL
SELECT f.order_id, 'message', f.first_failed_at, NULL, f.topic, f.event_id,
	   f.error
  FROM pgstock_internal.failed_event f
 WHERE f.state = 'waiting'
   AND f.first_failed_at < (SELECT a.before FROM age a);
COMMENT ON VIEW pgstock_internal.hanging_order IS
	'stock_hanging_orders, for functions with the owner''s rights';

CREATE VIEW @extschema@.stock_hanging_orders AS
SELECT h.order_id, h.kind, h.since, h.expires_at, h.topic, h.event_id, h.reason
  FROM pgstock_internal.hanging_order h;
COMMENT ON VIEW @extschema@.stock_hanging_orders IS
	'reservations and waiting messages older than pgstock.hanging_after';

/* ---- Its history --------------------------------------------------------- */

CREATE TYPE pgstock_internal.order_fact AS
(
	at			timestamptz,
	kind		text,
	what		text,
	product_id	text,
	location	text,
	quantity	bigint,
	event_id	text,
	trace_id	text,
	detail		jsonb,
	n			bigint
);
COMMENT ON TYPE pgstock_internal.order_fact IS
	'a fact of an order''s history; n orders facts of the same time and kind';

/*
 * The key of an order's events is its id, and that of a level's a product,
 * which may have the same id.  What an event is shows in its members: its type
 * and their names are settings (set_event_format).
 */
CREATE FUNCTION pgstock_internal.is_level_event(payload jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce((payload ?& '{product_id,location,on_hand,reserved,safety}'
				 OR payload ?& '{event_id,event_type,product_id,on_hand,kind}'
				 OR payload ?& '{eventId,eventType,productId,onHand,kind}')
				AND NOT payload ?| '{order_id,orderId}', false)
$$;
COMMENT ON FUNCTION pgstock_internal.is_level_event IS
	'returns whether a payload is that of a level''s event, or its record in '
	'the level stream';

/*
 * Events that a movement names are found by it, so they are missing when the
 * movement has been purged; the others by the index on the key.
 */
CREATE FUNCTION pgstock_internal.order_rows(order_id text)
RETURNS TABLE (seq bigint, xid xid8, id uuid, topic text, type text,
	payload bytea, headers bytea, traceparent text, created_at timestamptz,
	format "char", by_key boolean, held boolean, body jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off
AS $$
SELECT e.*
  FROM (SELECT k.*, CASE WHEN k.format = 'j' THEN
						 pgstock_internal.payload_json(k.payload, 'j') END
					AS body
		  FROM (SELECT o.seq, o.xid, o.id, o.aggregatetype, o.type, o.payload,
					   o.headers, o.traceparent, o.created_at, o.format,
					   o.by_key, false
				  FROM (SELECT b.* FROM pgstock_internal.outbox b
						 WHERE b.by_key
						UNION ALL
						SELECT i.* FROM pgstock_internal.outbox i
						 WHERE NOT i.by_key AND i.id = ANY (ARRAY(
							SELECT m.event_id FROM pgstock_internal.movement m
							 WHERE m.order_id = $1
							   AND m.event_id IS NOT NULL))) o
				 WHERE o.aggregateid = convert_to($1, 'UTF8')
				   AND NOT EXISTS (SELECT FROM pgstock_internal.held_event h
									WHERE h.seq = o.seq)
				UNION ALL
				SELECT h.seq, h.xid, h.id, h.aggregatetype, h.type, h.payload,
					   h.headers, h.traceparent, h.created_at, h.format,
					   h.by_key, true
				  FROM pgstock_internal.held_event h
				 WHERE h.aggregateid = convert_to($1, 'UTF8')
				   AND octet_length(h.aggregateid) <= 255) k
		OFFSET 0) e
 WHERE NOT pgstock_internal.is_level_event(e.body)
$$;
COMMENT ON FUNCTION pgstock_internal.order_rows IS
	'returns the rows of the outbox with an order''s key; body: the payload, '
	'of an event in JSON';

CREATE FUNCTION pgstock_internal.order_events(order_id text)
RETURNS SETOF pgstock_internal.order_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET jit = off
AS $$
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
BEGIN
	RETURN QUERY
		SELECT e.created_at, 'event', e.type, NULL, NULL, NULL::bigint,
			   e.id::text,
			   coalesce(e.body ->> 'trace_id', e.body ->> 'traceId',
						substring(e.traceparent FROM 4 FOR 32)),
			   jsonb_strip_nulls(jsonb_build_object(
				   'topic', e.topic, 'seq', e.seq,
				   'state', e.state, 'published', e.state = 'published',
				   'replay_of', CASE WHEN pgstock_internal.is_copy(e.headers)
						THEN convert_from(substring(e.headers
								FROM length(e.headers) - 19), 'UTF8')::bigint
						END,
				   'dead_letter', CASE WHEN e.format = 'r' THEN true END,
				   'reason', e.body -> 'reason',
				   'causation_id', coalesce(e.body -> 'causation_id',
											e.body -> 'causationId'),
				   'replayed', e.body -> 'replayed', 'part', e.body -> 'part')),
			   e.seq
		  FROM (SELECT r.*,
					   CASE WHEN r.held THEN 'held'
							WHEN pgstock_internal.is_pending(r.xid, r.seq, p)
							THEN 'pending'
							WHEN pgstock_internal.is_discarded(r.id)
							THEN 'discarded' ELSE 'published' END AS state
				  FROM pgstock_internal.order_rows($1) r OFFSET 0) e;
END
$$;
COMMENT ON FUNCTION pgstock_internal.order_events IS
	'returns the events of an order that are still in the outbox';

CREATE FUNCTION pgstock_internal.order_stock(order_id text)
RETURNS SETOF pgstock_internal.order_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET jit = off
AS $$
BEGIN
	RETURN QUERY
		SELECT l.created_at, 'reservation',
			   (ARRAY['reserved', 'confirmed', 'shortfall', 'returned',
					  'rolled_back', 'released', 'expired'])[
				   position(l.state::text IN 'rcstble')],
			   l.product_id, l.location, l.quantity, NULL, NULL,
			   jsonb_strip_nulls(jsonb_build_object(
				   'attempt', l.attempt, 'user_id', l.user_id,
				   'expires_at', pgstock_internal.utc_text(l.expires_at),
				   'confirmed_at', pgstock_internal.utc_text(l.confirmed_at),
				   'ended_at', pgstock_internal.utc_text(l.ended_at),
				   'reason', l.reason, 'payment_id', l.payment_id,
				   'activity_id', l.activity_id,
				   'retired', CASE WHEN l.settled_at IS NOT NULL THEN true
							  END)),
			   l.attempt::bigint
		  FROM pgstock_internal.order_line l WHERE l.order_id = $1
		 UNION ALL
		SELECT m.at, 'movement', m.kind, m.product_id, m.location,
			   greatest(abs(m.on_hand_delta), abs(m.reserved_delta)),
			   m.event_id::text, NULL,
			   jsonb_strip_nulls(jsonb_build_object(
				   'id', m.id, 'on_hand_delta', m.on_hand_delta,
				   'reserved_delta', m.reserved_delta, 'actor', m.actor,
				   'reason', m.reason, 'reference', m.reference)),
			   m.id
		  FROM pgstock_internal.ledger m WHERE m.order_id = $1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.order_stock IS
	'returns the lines and movements of an order';

CREATE FUNCTION pgstock_internal.order_messages(order_id text)
RETURNS SETOF pgstock_internal.order_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET jit = off
AS $$
BEGIN
	RETURN QUERY
		SELECT i.received_at, 'message', i.topic, NULL, NULL, NULL::bigint,
			   i.event_id, i.trace_id,
			   jsonb_strip_nulls(jsonb_build_object(
				   'result', i.result, 'reason', i.reason,
				   'partition', i.partition, 'offset', i."offset",
				   'source', i.source)), i."offset"
		  FROM pgstock_internal.inbox i WHERE i.order_id = $1
		 UNION ALL
		SELECT f.first_failed_at, 'failure', f.state, NULL, NULL, NULL,
			   f.event_id, f.trace_id,
			   jsonb_strip_nulls(jsonb_build_object(
				   'id', f.id, 'topic', f.topic, 'tries', f.attempts,
				   'class', f.class, 'sqlstate', f.sqlstate,
				   'error', f.error, 'failures', to_jsonb(f.failures),
				   'next_retry_at', pgstock_internal.utc_text(f.next_retry_at),
				   'archived_at', pgstock_internal.utc_text(f.archived_at),
				   'handled_at', pgstock_internal.utc_text(f.handled_at),
				   'handled_by', f.handled_by)), f.id
		  FROM pgstock_internal.failed_event f WHERE f.order_id = $1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.order_messages IS
	'returns the incoming messages of an order, and their failures';

/* The targets of admin_action that concern the order. */
CREATE FUNCTION pgstock_internal.order_acts(order_id text, failed text[],
	events text[])
RETURNS SETOF pgstock_internal.order_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET jit = off
AS $$
BEGIN
	RETURN QUERY
		SELECT a.at, 'admin', a.action, NULL, NULL, NULL::bigint, NULL, NULL,
			   jsonb_strip_nulls(jsonb_build_object(
				   'actor', a.actor, 'target', a.target, 'reason', a.reason)),
			   row_number() OVER (ORDER BY a.at, a.action, a.target)
		  FROM pgstock_internal.admin_action a
		 WHERE a.target COLLATE "C" = ANY ('order ' || $1 || failed || events);
END
$$;
COMMENT ON FUNCTION pgstock_internal.order_acts IS
	'returns what administrators did about an order';

/* A movement's trace is that of its event. */
CREATE FUNCTION pgstock_internal.history_of(order_id text)
RETURNS SETOF pgstock_internal.order_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM pgstock_internal.check_id('order_id', $1);
	RETURN QUERY
		WITH stock AS MATERIALIZED (
			SELECT * FROM pgstock_internal.order_stock($1)
		), events AS MATERIALIZED (
			SELECT * FROM pgstock_internal.order_events($1)
		), messages AS MATERIALIZED (
			SELECT * FROM pgstock_internal.order_messages($1)
		), facts AS (
			SELECT s.at, s.kind, s.what, s.product_id, s.location, s.quantity,
				   s.event_id, t.trace_id, s.detail, s.n
			  FROM stock s
			  LEFT JOIN (SELECT DISTINCT ON (e.event_id) e.event_id, e.trace_id
						   FROM events e ORDER BY e.event_id, e.n) t
				ON t.event_id = s.event_id
			UNION ALL SELECT * FROM events
			UNION ALL SELECT * FROM messages
			UNION ALL SELECT * FROM pgstock_internal.order_acts($1,
				ARRAY(SELECT 'id ' || (m.detail ->> 'id') FROM messages m
					   WHERE m.kind = 'failure'),
				ARRAY(SELECT DISTINCT 'event ' || e.event_id FROM events e))
		)
		SELECT f.* FROM facts f
		 ORDER BY f.at, array_position('{message,failure,admin,reservation,
									   movement,event}', f.kind), f.n,
				  f.product_id COLLATE "C", f.location COLLATE "C", f.what;
END
$$;
COMMENT ON FUNCTION pgstock_internal.history_of IS
	'returns all that is stored about an order, in order of time';

CREATE FUNCTION @extschema@.order_history(order_id text)
RETURNS TABLE (at timestamptz, kind text, what text, product_id text,
	location text, quantity bigint, event_id text, trace_id text,
	detail jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT f.at, f.kind, f.what, f.product_id, f.location, f.quantity, f.event_id,
	   f.trace_id, f.detail
  FROM pgstock_internal.history_of($1) WITH ORDINALITY f
 ORDER BY f.ordinality
$$;
COMMENT ON FUNCTION @extschema@.order_history IS
	'returns the history of an order, in order of time: its reservations, '
	'movements, events, incoming messages, failures and administrative '
	'actions, as far as they are still stored';

CREATE FUNCTION pgstock_internal.relay_order(order_id text)
RETURNS TABLE (at text, kind text, what text, product_id text, location text,
	quantity bigint, event_id text, trace_id text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.utc_text(f.at), f.kind, f.what, f.product_id,
	   f.location, f.quantity, f.event_id, f.trace_id, f.detail::text
  FROM pgstock_internal.history_of($1) WITH ORDINALITY f
 ORDER BY f.ordinality
$$;
COMMENT ON FUNCTION pgstock_internal.relay_order IS
	'returns the history of an order as text, for pgstock-relay order';

/* ---- Its events once more ------------------------------------------------ */

/*
 * As relay_replay does: copies, marked by their last header, of events that are
 * published and are no copies themselves.
 *
 * A copy must not follow a later event of the order that Kafka does not have
 * yet: consumers would end with the older state.  So there must be none,
 * neither here nor in a transaction that is not committed.  The order's lock
 * keeps away the latter, and afterwards another snapshot shows what they
 * committed; lines may expire under the lock of their level alone
 * (expire_may_report).
 */
CREATE FUNCTION pgstock_internal.lock_order_events(order_id text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'resend_events must run at isolation level '
						'READ COMMITTED'
			USING ERRCODE = 'invalid_transaction_state', DETAIL =
				'It waits for calls of the order, and must see their changes.';
	END IF;
	PERFORM pgstock_internal.lock_orders(ARRAY[$1]);
	PERFORM FROM pgstock_internal.level v
	  WHERE (v.product_id, v.location, v.slot) IN (
			SELECT r.product_id, r.location, r.slot
			  FROM pgstock_internal.reservation r
			 WHERE r.order_id = $1 AND r.due_at <= clock_timestamp())
	  ORDER BY v.product_id, v.location, v.slot FOR NO KEY UPDATE;
END
$$;
COMMENT ON FUNCTION pgstock_internal.lock_order_events IS
	'locks an order until the transaction ends: no other session has an event '
	'of it that is not visible then';

/*
 * Movements go before events where the outbox keeps them for longer than the
 * ledger.  A line has the time of its first movement.
 */
CREATE FUNCTION pgstock_internal.warn_of_lost_events(order_id text)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun	timestamptz := (SELECT min(l.created_at)
							  FROM pgstock_internal.order_line l
							 WHERE l.order_id = $1);
BEGIN
	IF (SELECT coalesce(min(m.at), 'infinity') FROM pgstock_internal.movement m
		 WHERE m.order_id = $1) > begun
		AND (SELECT o.created_at FROM pgstock_internal.outbox o
			  ORDER BY o.seq LIMIT 1) <= begun THEN
		RAISE WARNING 'not all events of order "%" may be sent again', $1
			USING DETAIL = 'They are found by its movements, some of which '
						   'were purged.',
				  HINT = 'Publish them with "pgstock-relay replay".';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.warn_of_lost_events IS
	'warns if events of an order may be in the outbox that its movements do '
	'not name any more';

CREATE FUNCTION @extschema@.resend_events(order_id text, reason text)
RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.outbox_progress;
	n	int;
BEGIN
	PERFORM pgstock_internal.check_id('order_id', $1);
	PERFORM pgstock_internal.check_reason($2);
	PERFORM pgstock_internal.relay_position();
	PERFORM pgstock_internal.lock_order_events($1);
	p := pgstock_internal.progress();
	IF EXISTS (SELECT FROM pgstock_internal.order_rows($1) e
				WHERE e.format <> 'r'
				  AND (e.held
					   OR pgstock_internal.is_pending(e.xid, e.seq, p))) THEN
		RAISE EXCEPTION 'events of the order are pending'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'Copies of earlier events would be published after '
						   'them.',
				  HINT = 'Run it again when the relay has published them: '
						 'order_history shows the state of each.';
	END IF;
	PERFORM pgstock_internal.warn_of_lost_events($1);
	/* As in extension/outbox/record.c, the xid before the first seq. */
	PERFORM pg_current_xact_id();
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, headers, traceparent, created_at, format, by_key)
	SELECT w.part, e.id, e.topic, convert_to($1, 'UTF8'), e.type, e.payload,
		   coalesce(e.headers, '') || pgstock_internal.replay_header(e.seq),
		   e.traceparent, e.created_at, e.format, e.by_key
	  FROM (SELECT pgstock_internal.outbox_lock_part() AS part) w,
		   pgstock_internal.order_rows($1) e
	 WHERE e.format <> 'r' AND NOT e.held
	   AND NOT pgstock_internal.is_copy(e.headers)
	   AND NOT pgstock_internal.is_pending(e.xid, e.seq, p)
	   AND NOT pgstock_internal.is_discarded(e.id)
	 ORDER BY e.seq;
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM pgstock_internal.audit('resend_events', 'order ' || $1, $2);
	PERFORM pgstock_internal.wake_relay();
	RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.resend_events IS
	'writes the published events of an order to the outbox again, as copies '
	'with the header replay_of; returns their number; the reason is required; '
	'55000 while one of the order''s events is not published';
