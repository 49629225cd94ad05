/* ---- forget_user: values ------------------------------------------------- */

/*
 * Each of these functions returns its value without the user, and the value
 * itself if it does not name the user.  A value names the user if it is the
 * id, or if it has the id as a word of its own.  A short id, or a short
 * number, is common in other texts: it must be the whole value.
 */

CREATE FUNCTION pgstock_internal.forget_text(value text, user_id text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN user_id = '' OR position(user_id in value) = 0 THEN value
	WHEN value = user_id THEN 'forgotten'
	WHEN length(user_id) < 3
		OR (user_id ~ '^[0-9]+$' AND length(user_id) < 6) THEN value
	ELSE regexp_replace(value,
			'(^|[^[:alnum:]_-])' || regexp_replace(user_id, '[^[:alnum:]]',
												   '\\\&', 'g')
			|| '(?![[:alnum:]_-])', '\1forgotten', 'g') END;
COMMENT ON FUNCTION pgstock_internal.forget_text IS
	'returns a text without a user''s id';

/* The role is no user: what follows the slash is (pgstock.actor). */
CREATE FUNCTION pgstock_internal.forget_actor(value text, user_id text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN position('/' in value) = 0 THEN value
	ELSE split_part(value, '/', 1) || '/' || pgstock_internal.forget_text(
			substr(value, position('/' in value) + 1), user_id) END;
COMMENT ON FUNCTION pgstock_internal.forget_actor IS
	'returns an actor without a user''s id';

CREATE FUNCTION pgstock_internal.forget_texts(value text[], user_id text)
RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT pgstock_internal.forget_text(v.text, user_id)
			   FROM unnest(value) WITH ORDINALITY AS v (text, n) ORDER BY v.n);
COMMENT ON FUNCTION pgstock_internal.forget_texts IS
	'returns texts without a user''s id';

/* Not NULL: a compacted topic refuses a record without a key. */
CREATE FUNCTION pgstock_internal.forget_key(value bytea, user_id text)
RETURNS bytea
LANGUAGE sql STABLE
RETURN CASE WHEN pgstock_internal.forget_text(
					pgstock_internal.bytes_text(value), user_id)
				 IS DISTINCT FROM pgstock_internal.bytes_text(value)
			THEN 'forgotten'::bytea ELSE value END;
COMMENT ON FUNCTION pgstock_internal.forget_key IS
	'returns a key without a user''s id';

/* JSON may contain any character as \u and four digits, and some as others. */
CREATE FUNCTION pgstock_internal.may_name(value bytea, user_id text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN position(convert_to(user_id, 'UTF8') in value) > 0
	OR position(E'\\x5c75'::bytea in value) > 0
	OR (user_id ~ '["/\\]' AND position(E'\\x5c'::bytea in value) > 0);
COMMENT ON FUNCTION pgstock_internal.may_name IS
	'returns false if bytes certainly do not name a user';

/*
 * Members that name a user are omitted, so that consumers read what they would
 * have read without a user; in other members the id is replaced.  Members that
 * name other things stay: the id of an order may be the same text.
 */
CREATE FUNCTION pgstock_internal.forget_json(value json, user_id text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	users	CONSTANT text[] := '{user_id,userId}';
	others	CONSTANT text[] := '{order_id,orderId,product_id,productId,location,
		payment_id,paymentId,event_id,eventId,event_type,eventType,trace_id,
		traceId,causation_id,activity_id,activityId,timestamp,status,kind,
		quantity,productQuantityMap,product_quantity_map}';
	without	text;
BEGIN
	IF NOT pgstock_internal.may_name(convert_to(value::text, 'UTF8'),
									 user_id) THEN
		RETURN NULL;
	END IF;
	CASE json_typeof(value)
		WHEN 'object' THEN
			SELECT format('{%s}', string_agg(format('%s:%s', to_json(m.key),
						  coalesce(m.without, m.value::text)), ',' ORDER BY m.n)
						  FILTER (WHERE NOT m.omit))
			  INTO without
			  FROM (SELECT e.key, e.value, e.n,
						   coalesce(e.key = ANY (users)
									AND e.value #>> '{}' = user_id,
									false) AS omit,
						   CASE WHEN e.key <> ALL (others)
						   THEN pgstock_internal.forget_json(e.value, user_id)
						   END AS without
					  FROM json_each(value) WITH ORDINALITY
						   AS e (key, value, n)) m
			HAVING bool_or(m.omit OR m.without IS NOT NULL);
			RETURN without;
		WHEN 'array' THEN
			SELECT format('[%s]', string_agg(
						  coalesce(e.without, e.value::text), ',' ORDER BY e.n))
			  INTO without
			  FROM (SELECT a.value, a.n,
						   pgstock_internal.forget_json(a.value, user_id)
						   AS without
					  FROM json_array_elements(value) WITH ORDINALITY
						   AS a (value, n)) e
			HAVING bool_or(e.without IS NOT NULL);
			RETURN without;
		WHEN 'string' THEN
			without := pgstock_internal.forget_text(value #>> '{}', user_id);
			IF without <> value #>> '{}' THEN
				RETURN to_json(without);
			END IF;
			RETURN NULL;
		ELSE
			RETURN NULL;
	END CASE;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_json IS
	'returns JSON without a user''s id; NULL if it does not name the user';

/* Bytes that are no text cannot be changed: they become a tombstone. */
CREATE FUNCTION pgstock_internal.forget_payload(value bytea, user_id text)
RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	without	text;
	shown	text;
BEGIN
	IF value IS NULL OR NOT pgstock_internal.may_name(value, user_id) THEN
		RETURN value;
	END IF;
	BEGIN
		without := pgstock_internal.forget_json(
			convert_from(value, 'UTF8')::json, user_id);
		RETURN coalesce(convert_to(without, 'UTF8'), value);
	EXCEPTION WHEN data_exception OR feature_not_supported
				   OR statement_too_complex THEN
		shown := pgstock_internal.bytes_text(value);
	END;
	without := regexp_replace(pgstock_internal.forget_text(shown, user_id),
		'("user_?[iI]d"[[:space:]]*:[[:space:]]*"?)'
		|| regexp_replace(user_id, '[^[:alnum:]]', '\\\&', 'g')
		|| '(?![[:alnum:]_-])', '\1forgotten', 'g');
	IF without <> shown THEN
		RETURN convert_to(without, 'UTF8');
	ELSIF shown LIKE E'\\\\x%' AND length(user_id) > 5
		AND position(convert_to(user_id, 'UTF8') in value) > 0 THEN
		RETURN NULL;
	END IF;
	RETURN value;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_payload IS
	'returns a payload without a user''s id; NULL if it is not text';

/* Packed as extension/outbox/headers.c describes. */
CREATE FUNCTION pgstock_internal.forget_headers(value bytea, user_id text)
RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at		int := 0;
	named	int;
	size	int;
	shown	text;
	without	text;
	result	bytea := '';
BEGIN
	IF value IS NULL OR NOT pgstock_internal.may_name(value, user_id) THEN
		RETURN value;
	END IF;
	WHILE at < length(value) LOOP
		named := 2 + get_byte(value, at) * 256 + get_byte(value, at + 1);
		size := ('x' || encode(substr(value, at + named + 1, 4), 'hex'))
				::bit(32)::int;
		shown := pgstock_internal.bytes_text(
			substr(value, at + named + 5, greatest(size, 0)));
		without := pgstock_internal.forget_text(shown, user_id);
		IF size > 0 AND without <> shown THEN
			result := result || substr(value, at + 1, named)
				|| int4send(length(convert_to(without, 'UTF8')))
				|| convert_to(without, 'UTF8');
		ELSE
			result := result || substr(value, at + 1,
									   named + 4 + greatest(size, 0));
		END IF;
		at := at + named + 4 + greatest(size, 0);
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_headers IS
	'returns packed headers without a user''s id';

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
						  'CASE WHEN type = ''Forgotten'' THEN %1$I'
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
		   AND NOT (o.type = 'Forgotten'
					AND (pgstock_internal.is_pending(o.xid, o.seq, p)
						 OR EXISTS (SELECT FROM pgstock_internal.held_event h
									 WHERE h.seq = o.seq))));
END
$$;
COMMENT ON FUNCTION pgstock_internal.events_of_user IS
	'returns the events of the outbox that name a user';

CREATE FUNCTION pgstock_internal.forget_events(user_id text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_seqs	bigint[] := pgstock_internal.events_of_user(user_id);
	written		int;
BEGIN
	IF cardinality(found_seqs) = 0 THEN
		RETURN 0;
	END IF;
	/* As in extension/outbox/record.c, the xid before the first seq. */
	PERFORM pg_current_xact_id();
	written := pgstock_internal.outbox_lock_part();
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, created_at, format)
	SELECT written, gen_random_uuid(), k.aggregatetype, k.aggregateid,
		   'Forgotten', clock_timestamp(), 'b'
	  FROM (SELECT DISTINCT o.aggregatetype, o.aggregateid
			  FROM pgstock_internal.outbox o
			 WHERE o.seq = ANY (found_seqs) AND o.type <> 'Forgotten'
			   AND pgstock_internal.forget_key(o.aggregateid, $1)
				   IS DISTINCT FROM o.aggregateid) k;
	WITH gone AS (
		DELETE FROM pgstock_internal.outbox o
		 WHERE o.seq = ANY (found_seqs) AND o.format = 'r' RETURNING o.*
	)
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, headers, traceparent, created_at, format)
	SELECT written, g.id, g.aggregatetype,
		   pgstock_internal.forget_key(g.aggregateid, $1), g.type,
		   pgstock_internal.forget_payload(g.payload, $1),
		   pgstock_internal.forget_headers(g.headers, $1), g.traceparent,
		   g.created_at, g.format
	  FROM gone g ORDER BY g.seq;
	UPDATE pgstock_internal.outbox o
	   SET payload = pgstock_internal.forget_payload(o.payload, $1),
		   headers = pgstock_internal.forget_headers(o.headers, $1),
		   aggregateid = pgstock_internal.forget_key(o.aggregateid, $1)
	 WHERE o.seq = ANY (found_seqs);
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, headers, traceparent, created_at, format)
	SELECT written, l.id, l.aggregatetype, l.aggregateid, l.type, l.payload,
		   CASE WHEN pgstock_internal.is_copy(l.headers) THEN l.headers
				ELSE coalesce(l.headers, '')
					 || pgstock_internal.replay_header(l.seq) END,
		   l.traceparent, l.created_at, l.format
	  FROM (SELECT DISTINCT ON (o.aggregatetype, o.aggregateid) o.*
			  FROM pgstock_internal.outbox o
			 WHERE (o.aggregatetype, o.aggregateid) IN (
				SELECT c.aggregatetype, c.aggregateid
				  FROM pgstock_internal.outbox c
				 WHERE c.seq = ANY (found_seqs))
			   AND o.aggregateid <> 'forgotten'
			 ORDER BY o.aggregatetype, o.aggregateid, o.seq DESC) l
	 WHERE l.seq = ANY (found_seqs)
	   AND NOT EXISTS (SELECT FROM pgstock_internal.held_event h
					   WHERE h.seq = l.seq)
	 ORDER BY l.seq;
	PERFORM pgstock_internal.wake_relay();
	RETURN cardinality(found_seqs);
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_events IS
	'removes a user from the events of the outbox, and publishes redacted '
	'copies and tombstones; returns the number of events';

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
				  DETAIL = 'It is written in place of ids that were.';
	ELSIF pgstock_internal.forget_text(reason, user_id) <> reason THEN
		RAISE EXCEPTION 'reason must not contain the user id'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'stock_admin_actions records the reason.',
				  HINT = 'State the number of the request instead.';
	ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'forget_user must run at isolation level READ COMMITTED'
			USING ERRCODE = 'invalid_transaction_state', DETAIL =
				'It waits for calls of the user, and must see what they wrote.';
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
	n	bigint;
BEGIN
	PERFORM pgstock_internal.check_forget($1, $2);
	/*
	 * In the order of extension/base/lock.h: the inbox locks orders and levels
	 * before its messages.  So the relay's rows are not locked for long either.
	 */
	n := pgstock_internal.forget_events($1);
	n := n + pgstock_internal.forget_columns($1, false);
	n := n + pgstock_internal.forget_lines($1, 1000);
	n := n + pgstock_internal.forget_columns($1, true);
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
