/* ---- Functions that the relay's commands call: docs/relay-protocol.md ---- */

CREATE FUNCTION pgstock_internal.utc_text(at timestamptz)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
COMMENT ON FUNCTION pgstock_internal.utc_text IS
	'formats a time as in events: UTC, microseconds, ISO 8601';

/* Names and values instead of columns, so that a new name breaks no client. */
CREATE FUNCTION pgstock_internal.relay_status()
RETURNS TABLE (name text, value jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	problem	text;
	upkeep	text := pgstock_internal.upkeep_trouble();
	held	text;
	lead	record;
	p		pgstock_internal.relay_position;
BEGIN
	BEGIN
		PERFORM pgstock_internal.relay_position();
	EXCEPTION WHEN SQLSTATE 'SK020' THEN
		GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
	END;
	SELECT * INTO lead FROM pgstock_internal.leader();
	SELECT string_agg(format('%s (%s events since %s: %s)', h.topic, h.events,
							 pgstock_internal.utc_text(h.since), h.reason),
					  '; ') INTO held
	  FROM pgstock_internal.held_status() h;
	SELECT * INTO p FROM pgstock_internal.relay_position;
	RETURN QUERY VALUES
		('problems', pgstock_internal.status_problems(lead.name, problem,
													  upkeep, held)),
		('server_version', to_jsonb(current_setting('server_version'))),
		('in_recovery', to_jsonb(pg_is_in_recovery())),
		('leader', to_jsonb(lead.name)),
		('leader_pid', to_jsonb(lead.pid)),
		('leader_since', to_jsonb(pgstock_internal.utc_text(lead.since))),
		('epoch', to_jsonb(p.epoch)),
		('position_valid', to_jsonb(problem IS NULL)),
		('position_trouble', to_jsonb(problem)),
		('position_stored_at',
			to_jsonb(pgstock_internal.utc_text(p.stored_at))),
		('upkeep_trouble', to_jsonb(upkeep)),
		('held_trouble', to_jsonb(held)),
		('other_publisher_retention',
			to_jsonb(pgstock_internal.outbox_retention()::text));
	RETURN QUERY
		SELECT 'held_topics', coalesce(jsonb_agg(jsonb_build_object(
				   'topic', h.topic,
				   'since', pgstock_internal.utc_text(h.since),
				   'reason', h.reason, 'tries', h.tries,
				   'tried_at', pgstock_internal.utc_text(h.tried_at),
				   'events', h.events, 'first_event', h.first_event)), '[]')
		  FROM pgstock_internal.held_status() h;
	RETURN QUERY
		SELECT 'missing_messages', coalesce(jsonb_agg(jsonb_build_object(
				   'topic', g.topic, 'partition', g.partition,
				   'first_offset', g.first_offset,
				   'last_offset', g.last_offset, 'reason', g.reason,
				   'next_offset', g.next_offset,
				   'found_at', pgstock_internal.utc_text(g.found_at))
				   ORDER BY g.found_at DESC), '[]')
		  FROM (SELECT * FROM pgstock_internal.inbox_gap
				 ORDER BY found_at DESC LIMIT 100) g
		UNION ALL
		SELECT 'bindings', coalesce(jsonb_agg(to_jsonb(b)
				   ORDER BY b.topic, b.event_type NULLS FIRST), '[]')
		  FROM pgstock_internal.binding b;
	RETURN QUERY
		SELECT replace(m.name, 'outbox_', ''), to_jsonb(m.value)
		  FROM pgstock_internal.relay_metrics() m
		 WHERE m.name IN ('outbox_pending_events',
						  'outbox_oldest_pending_seconds', 'archive_open',
						  'webhook_waiting');
	RETURN QUERY
		SELECT n.name, to_jsonb(n.value)
		  FROM (SELECT sum(s.calls) AS calls, sum(s.refused) AS refused,
					   sum(s.failed) AS failed
				  FROM pgstock_internal.call_statistics() s) c,
			   LATERAL (VALUES ('calls', c.calls), ('calls_refused', c.refused),
							   ('calls_failed', c.failed)) AS n (name, value);
	RETURN QUERY
		SELECT s.state, to_jsonb(count(f.state))
		  FROM (VALUES ('failed_waiting', 'waiting'),
					   ('failed_archived', 'archived')) AS s (state, word)
		  LEFT JOIN pgstock_internal.failed_event f ON f.state = s.word
		 GROUP BY s.state ORDER BY s.state DESC;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_status IS
	'returns the leading relay, its position and the backlog, from the '
	'database alone';

/* ---- Replay of the outbox ------------------------------------------------ */

/*
 * A copy is recognized by its last header, replay_of with the seq of the
 * original: 35 bytes in packed form.  Apart from that header, only seq
 * differs.
 */
CREATE FUNCTION pgstock_internal.replay_header(seq bigint)
RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
SELECT E'\\x0009'::bytea || 'replay_of'::bytea || E'\\x00000014'::bytea
	   || convert_to(lpad(seq::text, 20, '0'), 'UTF8')
$$;
COMMENT ON FUNCTION pgstock_internal.replay_header IS
	'returns the header that marks a copy, in packed form';

CREATE FUNCTION pgstock_internal.is_copy(headers bytea)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN headers IS NOT NULL AND length(headers) >= 35
   AND substring(headers, length(headers) - 34, 15)
	   = E'\\x00097265706c61795f6f6600000014'::bytea;
COMMENT ON FUNCTION pgstock_internal.is_copy IS
	'returns whether an event with these headers was written by a replay';

CREATE TYPE pgstock_internal.replay_filter AS
(
	from_seq	bigint,
	to_seq		bigint,
	from_time	timestamptz,
	to_time		timestamptz,
	topic		text
);
COMMENT ON TYPE pgstock_internal.replay_filter IS
	'filter for events of the outbox; NULL: any';

CREATE FUNCTION pgstock_internal.relay_outbox_range(OUT first_seq bigint,
	OUT last_seq bigint, OUT first_at text)
RETURNS record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT f.seq, pgstock_internal.last_seq(),
	   pgstock_internal.utc_text(f.created_at)
  FROM (VALUES (1)) AS one
  LEFT JOIN (SELECT o.seq, o.created_at FROM pgstock_internal.outbox o
			  ORDER BY o.seq LIMIT 1) f ON true
$$;
COMMENT ON FUNCTION pgstock_internal.relay_outbox_range IS
	'returns the oldest event in the outbox and the latest seq';

/*
 * Pending events are published in any case, and of a copy the original can be
 * copied again; so neither is included.  Nor are records of the level stream:
 * the copy of an old one would be the latest of its level.
 */
CREATE FUNCTION pgstock_internal.replayable(f pgstock_internal.replay_filter,
	after_seq bigint, max_rows int)
RETURNS SETOF pgstock_internal.outbox
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
BEGIN
	RETURN QUERY
		SELECT o.* FROM pgstock_internal.outbox o
		 WHERE o.seq > after_seq AND o.seq >= f.from_seq AND o.seq <= f.to_seq
		   AND (f.from_time IS NULL OR o.created_at >= f.from_time)
		   AND (f.to_time IS NULL OR o.created_at <= f.to_time)
		   AND (f.topic IS NULL OR o.aggregatetype = f.topic)
		   AND o.type <> 'StockLevel'
		   AND NOT pgstock_internal.is_copy(o.headers)
		   AND NOT pgstock_internal.is_pending(o.xid, o.seq, p)
		   AND NOT EXISTS (SELECT FROM pgstock_internal.held_event h
						   WHERE h.seq = o.seq)
		 ORDER BY o.seq LIMIT max_rows;
END
$$;
COMMENT ON FUNCTION pgstock_internal.replayable IS
	'returns published events that match the filter and are not copies';

/*
 * One page of a replay, in a transaction of its own.  As in
 * extension/outbox/record.c, the xid is assigned before the first seq is
 * drawn: the floor of a window depends on that.  The copies are published
 * after all rows written so far.  New events are ordered among them by the
 * locks under which they draw their seq, as always.
 */
CREATE FUNCTION pgstock_internal.relay_replay(f pgstock_internal.replay_filter,
	after_seq bigint, max_rows int, execute boolean, reason text,
	OUT events bigint, OUT first_seq bigint, OUT last_seq bigint,
	OUT first_at text, OUT last_at text)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	part	int;
BEGIN
	PERFORM pgstock_internal.relay_position();
	IF NOT execute THEN
		SELECT count(*), min(r.seq), max(r.seq),
			   pgstock_internal.utc_text(min(r.created_at)),
			   pgstock_internal.utc_text(max(r.created_at))
		  INTO events, first_seq, last_seq, first_at, last_at
		  FROM pgstock_internal.replayable(f, after_seq, max_rows) r;
		RETURN;
	END IF;
	PERFORM pg_current_xact_id();
	part := pgstock_internal.outbox_lock_part();
	WITH page AS MATERIALIZED (
		SELECT * FROM pgstock_internal.replayable(f, after_seq, max_rows)
	), copies AS (
		INSERT INTO pgstock_internal.outbox (part, id, aggregatetype,
			aggregateid, type, payload, headers, traceparent, created_at,
			format, by_key)
		SELECT part, r.id, r.aggregatetype, r.aggregateid, r.type, r.payload,
			   coalesce(r.headers, '') || pgstock_internal.replay_header(r.seq),
			   r.traceparent, r.created_at, r.format, r.by_key
		  FROM page r ORDER BY r.seq
	)
	SELECT count(*), min(r.seq), max(r.seq),
		   pgstock_internal.utc_text(min(r.created_at)),
		   pgstock_internal.utc_text(max(r.created_at))
	  INTO events, first_seq, last_seq, first_at, last_at FROM page r;
	IF events = 0 THEN
		RETURN;
	END IF;
	IF after_seq = 0 THEN
		PERFORM pgstock_internal.audit('replay', concat_ws(' ',
			'seq', f.from_seq, 'to', f.to_seq, 'from ' || f.from_time,
			'to ' || f.to_time, 'topic ' || f.topic), reason);
	END IF;
	PERFORM pgstock_internal.wake_relay();
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_replay IS
	'writes published events to the outbox again, one page per call; only '
	'counts them unless execute is true';

/* ---- Rewind of the inbox ------------------------------------------------- */

/* Only back: messages cannot be skipped with this function. */
CREATE FUNCTION pgstock_internal.relay_rewind(topic text, partitions int[],
	offsets bigint[], reason text)
RETURNS TABLE (partition int, was bigint, is_now bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM pgstock_internal.check_id('topic', $1);
	RETURN QUERY
		WITH wanted AS (
			SELECT o.partition, o.next_offset AS was,
				   least(o.next_offset, t.target) AS target
			  FROM pgstock_internal.inbox_offset o
			  JOIN unnest(partitions, offsets) AS t (id, target)
				ON t.id = o.partition
			 WHERE o.topic = $1
			   FOR UPDATE OF o
		), moved AS (
			UPDATE pgstock_internal.inbox_offset o
			   SET next_offset = w.target, fingerprint = NULL
			  FROM wanted w WHERE o.topic = $1 AND o.partition = w.partition
							  AND o.next_offset > w.target
		)
		SELECT w.partition, w.was, w.target FROM wanted w ORDER BY 1;
	PERFORM pgstock_internal.audit('rewind', 'topic ' || $1, reason);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_rewind IS
	'moves the next offsets of a topic back, so that messages are read again';

/* ---- Failed messages ----------------------------------------------------- */

/*
 * A page also ends at 4 MiB of payload and headers, which bounds the client's
 * memory.  Without sorts, the planner scans the index on id; otherwise each
 * page of a million rows would read all rows that follow it.
 */
CREATE FUNCTION pgstock_internal.relay_failed(only_id bigint,
	only_state text, only_topic text, since timestamptz, only_sqlstate text,
	only_order text, after_id bigint, max_rows int)
RETURNS TABLE (id bigint, topic text, partition int, "offset" bigint,
	event_id text, key text, order_id text, state text, class text,
	sqlstate text, attempts int, next_retry_at text, error text,
	first_failed_at text, archived_at text, handled boolean, handled_at text,
	handled_by text, trace_id text, headers text, payload text,
	failures text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_sort = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT f.id, f.topic::text, f.partition, f."offset",
			   f.event_id::text, pgstock_internal.bytes_text(f.key),
			   f.order_id::text, f.state, f.class, f.sqlstate, f.attempts,
			   pgstock_internal.utc_text(f.next_retry_at), f.error,
			   pgstock_internal.utc_text(f.first_failed_at),
			   pgstock_internal.utc_text(f.archived_at), f.handled,
			   pgstock_internal.utc_text(f.handled_at), f.handled_by,
			   f.trace_id, pgstock_internal.headers_json(f.headers)::text,
			   pgstock_internal.bytes_text(f.value),
			   array_to_string(f.failures, '; ')
		  FROM (SELECT * FROM pgstock_internal.failed_event e
				 WHERE e.id > after_id
				   AND (only_id IS NULL OR e.id = only_id)
				   AND (only_state IS NULL OR e.state = only_state)
				   AND (only_topic IS NULL OR e.topic = only_topic)
				   AND (since IS NULL OR e.first_failed_at >= since)
				   AND (only_sqlstate IS NULL OR e.sqlstate = only_sqlstate)
				   AND (only_order IS NULL OR e.order_id = only_order)
				 ORDER BY e.id LIMIT max_rows) f
		 WHERE pgstock_internal.page_has_room(f.value, f.headers, f.key,
				array_to_string(f.failures, '; '), 4194304)
		 ORDER BY f.id;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_failed IS
	'returns failed messages with ids above after_id, in order of id; NULL '
	'for a filter: any';

CREATE FUNCTION pgstock_internal.relay_failed_count(only_state text,
	only_topic text, since timestamptz, only_sqlstate text, only_order text)
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT count(*) FROM pgstock_internal.failed_event e
 WHERE (only_state IS NULL OR e.state = only_state)
   AND (only_topic IS NULL OR e.topic = only_topic)
   AND (since IS NULL OR e.first_failed_at >= since)
   AND (only_sqlstate IS NULL OR e.sqlstate = only_sqlstate)
   AND (only_order IS NULL OR e.order_id = only_order)
$$;
COMMENT ON FUNCTION pgstock_internal.relay_failed_count IS
	'returns the number of failed messages that relay_failed returns for the '
	'same filter';

CREATE FUNCTION pgstock_internal.relay_failed_act(action text, id bigint,
	reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE action
		WHEN 'retry' THEN
			PERFORM pgstock_internal.retry_failed($2, NULL, $3);
		WHEN 'discard' THEN
			PERFORM pgstock_internal.discard_failed($2, $3);
		WHEN 'handled' THEN
			PERFORM pgstock_internal.mark_failed_handled($2, $3);
	END CASE;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_failed_act IS
	'retries, discards or marks as handled, like the public function for each';

CREATE FUNCTION pgstock_internal.relay_discard_held(event_id uuid, reason text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.discard_held($1, $2)
$$;
COMMENT ON FUNCTION pgstock_internal.relay_discard_held IS
	'discards an event of a held topic, like discard_held_event';

/* ---- Audit --------------------------------------------------------------- */

/*
 * Raw events have no id in their record, so their bytes are returned.  The
 * level stream's records are left out, because compaction keeps only the latest
 * of each.
 */
CREATE FUNCTION pgstock_internal.relay_audit_page(from_time timestamptz,
	after_seq bigint, to_seq bigint, max_rows int)
RETURNS TABLE (seq bigint, event_id uuid, topic text, pending boolean,
	copy boolean, copy_of text, format "char", event_type text, key bytea,
	payload bytea, headers bytea, created_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
BEGIN
	RETURN QUERY
		SELECT o.seq, o.id, o.aggregatetype,
			   pgstock_internal.is_pending(o.xid, o.seq, p)
			   OR EXISTS (SELECT FROM pgstock_internal.held_event h
						  WHERE h.seq = o.seq)
			   OR pgstock_internal.is_discarded(o.id),
			   pgstock_internal.is_copy(o.headers),
			   CASE WHEN pgstock_internal.is_copy(o.headers)
				    THEN convert_from(substring(o.headers
									from length(o.headers) - 19), 'UTF8') END,
			   o.format, o.type,
			   CASE WHEN o.format = 'r' THEN o.aggregateid END,
			   CASE WHEN o.format = 'r' THEN o.payload END,
			   CASE WHEN o.format = 'r' THEN o.headers END, o.created_at
		  FROM (SELECT * FROM pgstock_internal.outbox e
				 WHERE e.seq > after_seq AND e.seq <= to_seq
				   AND (from_time IS NULL OR e.created_at >= from_time)
				   AND e.type <> 'StockLevel'
				 ORDER BY e.seq LIMIT max_rows) o
		 WHERE pgstock_internal.page_has_room(o.payload, o.headers,
											  o.aggregateid, o.type, 16777216);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_audit_page IS
	'returns events of the outbox above after_seq with the columns that the '
	'audit compares; no row: there are no more';

CREATE FUNCTION pgstock_internal.relay_audit_holds(seq bigint, event_id uuid)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pgstock_internal.outbox o
				WHERE o.seq = $1 AND o.id = $2)
$$;
COMMENT ON FUNCTION pgstock_internal.relay_audit_holds IS
	'returns whether the outbox contains an event';
