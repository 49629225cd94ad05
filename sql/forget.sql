/* ---- forget_user: tables ------------------------------------------------- */

/*
 * Columns that may name a user, and the function for their values.  Those of
 * reservation, reservation_history, sale_order, idempotency and outbox are
 * treated below.  regress/sql/forget.sql shows the columns that are not here.
 */
CREATE FUNCTION pgstock_internal.personal_columns()
RETURNS TABLE (relation text, "column" text, kind text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES
	('movement', 'actor', 'actor'), ('movement', 'reason', 'text'),
	('movement', 'reference', 'text'),
	('inbox', 'key', 'key'), ('inbox', 'reason', 'text'),
	('failed_event', 'key', 'key'), ('failed_event', 'value', 'payload'),
	('failed_event', 'headers', 'headers'), ('failed_event', 'error', 'text'),
	('failed_event', 'failures', 'texts'),
	('held_event', 'aggregateid', 'key'), ('held_event', 'payload', 'payload'),
	('held_event', 'headers', 'headers'),
	('refused_order', 'reason', 'text'), ('surplus_payment', 'reason', 'text'),
	('admin_action', 'actor', 'actor'), ('admin_action', 'target', 'text'),
	('admin_action', 'reason', 'text'), ('upkeep_failure', 'error', 'text')
$$;
COMMENT ON FUNCTION pgstock_internal.personal_columns IS
	'returns the columns in which forget_user replaces an id';

/*
 * Of those that forget_user publishes.  The type alone proves nothing: an
 * application chooses those of its events.
 */
CREATE FUNCTION pgstock_internal.is_tombstone(type text, payload bytea,
	headers bytea)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN type = 'Forgotten' AND payload IS NULL AND headers IS NULL;
COMMENT ON FUNCTION pgstock_internal.is_tombstone IS
	'returns whether an event is a tombstone that forget_user published, or '
	'the like: it names a user by its key only';

/*
 * A waiting message keeps its key, by which later ones of the key wait for it,
 * and a held tombstone its own until it is published: a later call replaces
 * them.
 */
CREATE FUNCTION pgstock_internal.forget_columns(user_id text,
	of_messages boolean)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command	text;
	changed	bigint;
	n		bigint := 0;
BEGIN
	IF NOT of_messages THEN
		DELETE FROM pgstock_internal.idempotency k
		 WHERE pgstock_internal.forget_text(k.key, user_id) <> k.key;
		GET DIAGNOSTICS n = ROW_COUNT;
	END IF;
	FOR command IN
		SELECT format('UPDATE pgstock_internal.%I SET %s WHERE %s', c.relation,
				string_agg(format('%I = %s', c."column", c.forgotten), ', '),
				string_agg(format('%s IS DISTINCT FROM %I', c.forgotten,
								  c."column"), ' OR '))
		  FROM (SELECT p.relation, p."column", format(CASE p.relation || '.'
						  || p."column"
					   WHEN 'failed_event.key' THEN
						  'CASE WHEN state = ''waiting'' THEN %1$I'
						  ' ELSE pgstock_internal.forget_%2$s(%1$I, $1) END'
					   WHEN 'held_event.aggregateid' THEN
						  'CASE WHEN pgstock_internal.is_tombstone(type, '
						  'payload, headers) THEN %1$I'
						  ' ELSE pgstock_internal.forget_%2$s(%1$I, $1) END'
					   ELSE 'pgstock_internal.forget_%2$s(%1$I, $1)' END,
					   p."column", p.kind) AS forgotten
				  FROM pgstock_internal.personal_columns() p) c
		 WHERE of_messages
			   = (c.relation IN ('failed_event', 'inbox', 'held_event'))
		 GROUP BY c.relation ORDER BY c.relation
	LOOP
		EXECUTE command USING user_id;
		GET DIAGNOSTICS changed = ROW_COUNT;
		n := n + changed;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_columns IS
	'replaces a user''s id in the tables of messages, or in all others but '
	'those of lines and events; returns the number of rows';

CREATE FUNCTION pgstock_internal.lock_orders(order_ids text[])
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_lock_orders' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.lock_orders IS
	'locks orders until the transaction ends, waiting for each';

/*
 * A call that settles an order, and expiry, write their copy of a line.  The
 * locks of the order, and of the level of a line that can expire, keep them
 * away: without them they would write the id back.  The locks are held until
 * the transaction ends, so this is a late step, and of at most max_orders
 * orders.  The rows of sale_order stay: they lead to the sale's lines.
 */
CREATE FUNCTION pgstock_internal.forget_lines(user_id text, max_orders int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	ids	text[] := ARRAY(
		SELECT DISTINCT l.order_id
		  FROM (SELECT r.order_id, r.user_id, r.reason
				  FROM pgstock_internal.reservation r
				 UNION ALL
				SELECT h.order_id, h.user_id, h.reason
				  FROM pgstock_internal.reservation_history h
				 UNION ALL
				SELECT s.order_id, s.user_id, NULL
				  FROM pgstock_internal.sale_order s) l
		 WHERE l.user_id = $1
			OR pgstock_internal.forget_text(l.reason, $1) <> l.reason
		 LIMIT max_orders);
	n		bigint := 0;
	changed	bigint;
	lines	text;
BEGIN
	IF cardinality(ids) = 0 THEN
		RETURN 0;
	END IF;
	PERFORM pgstock_internal.lock_orders(ids);
	/* Twice: the end of a sale may have moved lines to another slot. */
	FOR turn IN 1..2 LOOP
		PERFORM FROM pgstock_internal.level v
		  WHERE (v.product_id, v.location, v.slot) IN (
				SELECT r.product_id, r.location, r.slot
				  FROM pgstock_internal.reservation r
				 WHERE r.order_id = ANY (ids)
				   AND (r.state = 'r' OR r.due_at IS NOT NULL OR r.slot < 0))
		  ORDER BY v.product_id, v.location, v.slot FOR NO KEY UPDATE;
	END LOOP;
	FOREACH lines IN ARRAY '{reservation,reservation_history}'::text[] LOOP
		EXECUTE format('UPDATE pgstock_internal.%I r
			   SET user_id = nullif(r.user_id, $1),
				   reason = pgstock_internal.forget_text(r.reason, $1)
			 WHERE r.order_id = ANY ($2) AND (r.user_id = $1
				OR pgstock_internal.forget_text(r.reason, $1) <> r.reason)',
			lines) USING user_id, ids;
		GET DIAGNOSTICS changed = ROW_COUNT;
		n := n + changed;
	END LOOP;
	DELETE FROM pgstock_internal.sale_order s
	 USING pgstock_internal.sale_order other
	 WHERE s.order_id = ANY (ids) AND s.user_id = $1
	   AND (other.activity_id, other.user_id, other.order_id)
		   = (s.activity_id, 'forgotten', s.order_id);
	GET DIAGNOSTICS changed = ROW_COUNT;
	n := n + changed;
	UPDATE pgstock_internal.sale_order s SET user_id = 'forgotten'
	 WHERE s.order_id = ANY (ids) AND s.user_id = $1;
	GET DIAGNOSTICS changed = ROW_COUNT;
	RETURN n + changed;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_lines IS
	'removes a user from the lines of at most max_orders orders; returns the '
	'number of rows';

/* ---- forget_user: events ------------------------------------------------- */

/*
 * The one update of rows of the outbox.  Their xid and seq stay, so windows do
 * not change.
 *
 * What Kafka has already cannot be changed, but a compacted topic keeps only
 * the last record of a key.  So for each key whose last event named the user,
 * a redacted copy of that event is published, and a tombstone for each key
 * that is the user.  (Events that seem to be pending too: the position is
 * stored after their publication.)
 *
 * A dead letter has no id in its record, and the audit compares its bytes.  So
 * its row is replaced by a new one, and published as another record.
 */
CREATE FUNCTION pgstock_internal.events_of_user(user_id text)
RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
BEGIN
	RETURN ARRAY(
		SELECT o.seq FROM pgstock_internal.outbox o
		 WHERE (pgstock_internal.may_name(o.payload, $1)
				OR pgstock_internal.may_name(o.headers, $1)
				OR pgstock_internal.may_name(o.aggregateid, $1))
		   AND (pgstock_internal.forget_payload(o.payload, $1)
				IS DISTINCT FROM o.payload
				OR pgstock_internal.forget_headers(o.headers, $1)
				IS DISTINCT FROM o.headers
				OR pgstock_internal.forget_key(o.aggregateid, $1)
				IS DISTINCT FROM o.aggregateid)
		   /* a tombstone keeps its key until it is published */
		   AND NOT (pgstock_internal.is_tombstone(o.type, o.payload, o.headers)
					AND (pgstock_internal.is_pending(o.xid, o.seq, p)
						 OR EXISTS (SELECT FROM pgstock_internal.held_event h
									 WHERE h.seq = o.seq))));
END
$$;
COMMENT ON FUNCTION pgstock_internal.events_of_user IS
	'returns the events of the outbox that name a user';

CREATE TYPE pgstock_internal.last_event AS
(
	seq			bigint,
	topic		text,
	key			bytea,
	tombstone	boolean
);
COMMENT ON TYPE pgstock_internal.last_event IS
	'last event of a key that forget_user redacts: a copy of it is published, '
	'or, for a key that was the user, a tombstone';

/* "since": a snapshot that shows no event that was not looked at here. */
CREATE FUNCTION pgstock_internal.forget_events(user_id text, OUT n bigint,
	OUT "last" pgstock_internal.last_event[], OUT since pg_snapshot)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_seqs	bigint[];
	written		int;
BEGIN
	since := pg_current_snapshot();
	found_seqs := pgstock_internal.events_of_user(user_id);
	n := cardinality(found_seqs);
	IF n = 0 THEN
		RETURN;
	END IF;
	/* As in extension/outbox/record.c, the xid before the first seq. */
	PERFORM pg_current_xact_id();
	written := pgstock_internal.outbox_lock_part();
	"last" := ARRAY(
		SELECT ROW(max(o.seq), o.aggregatetype, o.aggregateid,
				   true)::pgstock_internal.last_event
		  FROM pgstock_internal.outbox o
		 WHERE o.seq = ANY (found_seqs)
		   AND NOT pgstock_internal.is_tombstone(o.type, o.payload, o.headers)
		   AND pgstock_internal.forget_key(o.aggregateid, $1)
			   IS DISTINCT FROM o.aggregateid
		 GROUP BY o.aggregatetype, o.aggregateid);
	WITH gone AS (
		DELETE FROM pgstock_internal.outbox o
		 WHERE o.seq = ANY (found_seqs) AND o.format = 'r' RETURNING o.*
	)
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, headers, traceparent, created_at, format, by_key)
	SELECT written, g.id, g.aggregatetype,
		   pgstock_internal.forget_key(g.aggregateid, $1), g.type,
		   pgstock_internal.forget_payload(g.payload, $1),
		   pgstock_internal.forget_headers(g.headers, $1), g.traceparent,
		   g.created_at, g.format, g.by_key
	  FROM gone g ORDER BY g.seq;
	UPDATE pgstock_internal.outbox o
	   SET payload = pgstock_internal.forget_payload(o.payload, $1),
		   headers = pgstock_internal.forget_headers(o.headers, $1),
		   aggregateid = pgstock_internal.forget_key(o.aggregateid, $1)
	 WHERE o.seq = ANY (found_seqs);
	"last" := "last" || ARRAY(
		SELECT ROW(l.seq, l.aggregatetype, l.aggregateid,
				   false)::pgstock_internal.last_event
		  FROM (SELECT DISTINCT ON (o.aggregatetype, o.aggregateid)
					   o.aggregatetype, o.aggregateid, o.seq
				  FROM pgstock_internal.outbox o
				 WHERE (o.aggregatetype, o.aggregateid) IN (
					SELECT c.aggregatetype, c.aggregateid
					  FROM pgstock_internal.outbox c
					 WHERE c.seq = ANY (found_seqs))
				   AND o.aggregateid <> 'forgotten'
				 ORDER BY o.aggregatetype, o.aggregateid, o.seq DESC) l
		 WHERE l.seq = ANY (found_seqs)
		   AND NOT EXISTS (SELECT FROM pgstock_internal.held_event h
						   WHERE h.seq = l.seq));
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_events IS
	'removes a user from the events of the outbox; returns their number, and '
	'the keys whose last event was one of them';

/*
 * A session that has written an event holds a lock on the part that it wrote to
 * until its transaction ends, and has drawn the event's seq under that lock.
 * So with this lock no event is neither visible nor still to be written.  It
 * keeps all writers waiting: it is the last that a transaction takes, and waits
 * 0.2 s for its own part unless the caller has set lock_timeout.
 */
CREATE FUNCTION pgstock_internal.outbox_lock_writers()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	patience	text := current_setting('lock_timeout');
BEGIN
	IF patience = '0' THEN
		PERFORM set_config('lock_timeout', '200ms', true);
	END IF;
	LOCK TABLE pgstock_internal.outbox IN SHARE MODE;
	PERFORM set_config('lock_timeout', patience, true);
EXCEPTION WHEN lock_not_available THEN
	RAISE EXCEPTION 'could not lock the outbox'
		USING ERRCODE = 'lock_not_available',
			  DETAIL = 'A transaction that has written events is still open, '
					   'or VACUUM runs on the outbox.',
			  HINT = 'Run it again. With a longer lock_timeout it waits '
					 'longer, and so do sessions that write events.';
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_lock_writers IS
	'locks the outbox until the transaction ends: every event is visible then, '
	'and no other session writes one; 55P03 if a transaction that has written '
	'events does not end';

/*
 * A copy must not follow a later event of its key: a compacted topic would keep
 * the older state.  Which event of a key is the last is certain only while no
 * other session writes one.  The order's lock ensures that for the events of an
 * order, but any key is possible (publish_event), and writers of these share no
 * lock but that on the part.  So the events are found and redacted first, which
 * takes long, and the copies are made last, under a lock that all writers need:
 * only keys with an event since then are looked at again, by the index on xid,
 * and get no copy.  Such an event, if it names the user, is found by the next
 * call.
 *
 * The commit is local, so that no session waits for that lock, or for those of
 * the orders, while a synchronous standby is unavailable.  The last call, which
 * finds nothing, commits as its session asks, and so confirms the earlier ones.
 */
CREATE FUNCTION pgstock_internal.forget_publish(
	"last" pgstock_internal.last_event[], since pg_snapshot)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	written	int;
BEGIN
	IF coalesce(cardinality("last"), 0) = 0 THEN
		RETURN;
	END IF;
	IF current_setting('synchronous_commit') <> 'off' THEN
		PERFORM set_config('synchronous_commit', 'local', true);
	END IF;
	PERFORM pgstock_internal.outbox_lock_writers();
	written := pgstock_internal.outbox_lock_part();
	WITH newer AS MATERIALIZED (
		SELECT o.aggregatetype, o.aggregateid, o.seq
		  FROM pgstock_internal.outbox o
		 WHERE o.xid >= pg_snapshot_xmax(since)
		 UNION ALL
		SELECT o.aggregatetype, o.aggregateid, o.seq
		  FROM pgstock_internal.outbox o
		 WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(since)))
	)
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, headers, traceparent, created_at, format, by_key)
	SELECT written, CASE WHEN l.tombstone THEN gen_random_uuid() ELSE o.id END,
		   l.topic, l.key, CASE WHEN l.tombstone THEN 'Forgotten'
						   ELSE o.type END,
		   o.payload, CASE WHEN pgstock_internal.is_copy(o.headers)
								OR l.tombstone THEN o.headers
					  ELSE coalesce(o.headers, '')
						   || pgstock_internal.replay_header(o.seq) END,
		   o.traceparent, coalesce(o.created_at, clock_timestamp()),
		   coalesce(o.format, 'b'),
		   coalesce(o.by_key, octet_length(l.key) <= 255)
	  FROM unnest("last") l
	  LEFT JOIN pgstock_internal.outbox o ON o.seq = l.seq AND NOT l.tombstone
	 WHERE NOT EXISTS (SELECT FROM newer n
						WHERE n.aggregatetype = l.topic
						  AND n.aggregateid = l.key AND n.seq > l.seq)
	 ORDER BY l.tombstone DESC, l.seq;
	PERFORM pgstock_internal.wake_relay();
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_publish IS
	'publishes copies of redacted events, and tombstones, for keys that have '
	'no later event; since: a snapshot that precedes the search for them';

/* ---- forget_user --------------------------------------------------------- */

CREATE FUNCTION pgstock_internal.check_forget(user_id text, reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_reason(reason);
	IF coalesce(user_id, '') = '' THEN
		RAISE EXCEPTION 'user_id must not be empty'
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF user_id = 'forgotten' THEN
		RAISE EXCEPTION 'user id "forgotten" cannot be forgotten'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'It replaces the ids of forgotten users.';
	ELSIF pgstock_internal.forget_text(reason, user_id) <> reason THEN
		RAISE EXCEPTION 'reason must not contain the user id'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'stock_admin_actions records the reason.',
				  HINT = 'State the number of the request instead.';
	ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'forget_user must run at isolation level READ COMMITTED'
			USING ERRCODE = 'invalid_transaction_state', DETAIL =
				'It waits for calls of the user, and must see their changes.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_forget IS
	'checks the arguments of forget_user';

CREATE FUNCTION @extschema@.forget_user(user_id text, reason text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n		bigint;
	events	record;
BEGIN
	PERFORM pgstock_internal.check_forget($1, $2);
	/* One call at a time: two would wait for each other's events. */
	LOCK TABLE pgstock_internal.admin_action IN SHARE UPDATE EXCLUSIVE MODE;
	/*
	 * In the order of extension/base/lock.h: the inbox locks orders and levels
	 * before its messages, and writes events last.  So the relay's rows are not
	 * locked for long either.
	 */
	SELECT * INTO events FROM pgstock_internal.forget_events($1);
	n := events.n + pgstock_internal.forget_columns($1, false);
	n := n + pgstock_internal.forget_lines($1, 1000);
	n := n + pgstock_internal.forget_columns($1, true);
	PERFORM pgstock_internal.forget_publish(events."last", events.since);
	INSERT INTO pgstock_internal.admin_action
	VALUES (clock_timestamp(), pgstock_internal.forget_actor(
				concat_ws('/', session_user,
						  nullif(current_setting('pgstock.actor', true), '')),
				$1), 'forget_user', format('%s rows', n), $2);
	RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.forget_user IS
	'removes a user''s id from all tables, and publishes redacted events and '
	'tombstones; at most 1000 orders per call; returns the number of rows '
	'changed: call it until that is 0; the reason is required';
