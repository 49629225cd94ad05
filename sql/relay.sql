/* ---- What the relay calls: docs/relay-protocol.md ----------------------- */

/*
 * A stretch of the outbox: the rows whose transaction is visible in s2 and not
 * in s1 (PgQ's window).  The relay keeps it as text and never looks inside.
 *
 * What makes a page one walk along seq: before snapshot s1 was taken, outbox_seq
 * stood at floor; after it, the next xid was next_xid.  A transaction with an
 * xid from next_xid on got it after floor was read, and drew its seq after
 * that: it lies above floor.  Every other one that s1 does not show was running
 * then: it is in s1's list, or between s1's xmax and next_xid (a snapshot's
 * xmax is the latest xid that has completed, plus one, so running xids lie
 * above it too).  Those few are fetched by xid.  Nothing that s2 shows lies
 * above ceiling, which was read after s2.  The s2_ members become those of s1
 * in the next window.
 *
 * A restored window covers rows that carry xids of another history: there s1
 * and floor belong to that history, and only rows up to ceiling are meant.  In
 * those that follow adopted is that ceiling: rows up to it are published, and
 * their xids say nothing.
 */
CREATE TYPE pgstock_internal.outbox_window AS
(
	system_id	bigint,
	"database"	oid,
	incarnation	uuid,
	timeline	int,
	lsn			pg_lsn,
	s1			pg_snapshot,
	floor		bigint,
	next_xid	xid8,
	s2			pg_snapshot,
	s2_floor	bigint,
	s2_next_xid	xid8,
	ceiling		bigint,
	restored	boolean,
	adopted		bigint
);
COMMENT ON TYPE pgstock_internal.outbox_window IS
	'rows visible in s2 and not in s1, and the history in which that holds';

CREATE FUNCTION pgstock_internal.outbox_fence(publish_after text,
	OUT lsn pg_lsn, OUT timeline int)
RETURNS record
AS 'MODULE_PATHNAME', 'pgstock_outbox_fence' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.outbox_fence IS
	'waits until all that is visible now is durable: here (local), at the synchronous standby too if one is named (auto), or not without one (remote_flush)';

CREATE FUNCTION pgstock_internal.next_xid()
RETURNS xid8
AS 'MODULE_PATHNAME', 'pgstock_next_xid' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.next_xid IS
	'the xid that the next transaction to need one will get';

CREATE FUNCTION pgstock_internal.last_seq()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_last_seq' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.last_seq IS
	'the latest seq that was drawn; 0: none was';

CREATE FUNCTION pgstock_internal.try_lead()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lead' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.try_lead IS
	'takes the session''s lock on the outbox''s lead, if it is free';

/* The window before the first one: nothing has been seen. */
CREATE FUNCTION pgstock_internal.first_window()
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT ROW(NULL, NULL, NULL, NULL, NULL, '1:1:', 0, '1', '1:1:', 0, '1', 0,
		   false, 0)::text
$$;
COMMENT ON FUNCTION pgstock_internal.first_window IS
	'the position of an outbox that was never published';

CREATE FUNCTION pgstock_internal.history_contains(timeline int, lsn pg_lsn)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_history_contains' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.history_contains IS
	'whether this server''s present history went through that point';

CREATE FUNCTION pgstock_internal.pin_settings()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_pin_settings' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.pin_settings IS
	'what role and database set does not reach this session, as far as the relay rests on it';

CREATE FUNCTION pgstock_internal.relay_hello(OUT relay_api int,
	OUT extension_version text, OUT "database" text, OUT inbox_group text,
	OUT in_recovery boolean, OUT preloaded boolean, OUT max_event_bytes int,
	OUT incarnation uuid, OUT backend_pid int)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own	pgstock_internal.incarnation;
BEGIN
	PERFORM pgstock_internal.pin_settings();
	own := pgstock_internal.draw_incarnation();
	SELECT 1, e.extversion, current_database(), own.inbox_group,
		   pg_is_in_recovery(),
		   current_setting('shared_preload_libraries') ~ E'\\mpgstock\\M',
		   current_setting('pgstock.max_event_bytes'), own.id, pg_backend_pid()
	  INTO relay_api, extension_version, "database", inbox_group, in_recovery,
		   preloaded, max_event_bytes, incarnation, backend_pid
	  FROM pg_extension e
	 WHERE e.extname = 'pgstock';
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_hello IS
	'who is there: the relay compares relay_api before it does anything';

CREATE FUNCTION pgstock_internal.relay_beat(OUT max_event_bytes int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_relay_beat' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_beat IS
	'keeps the session of a relay that lives, asleep if it is; returns what the relay has to know';

CREATE FUNCTION pgstock_internal.try_lock_table(name text, readers boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lock_table' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.try_lock_table IS
	'locks a table of ours against writers, and readers too; false if somebody has it';

/*
 * To be called with the row of relay_epoch locked.  A table is emptied when a
 * thousand positions have gone into the other one, minutes after its own last
 * row: so a snapshot that finds it empty is older than that.
 */
CREATE FUNCTION pgstock_internal.put_position("window" text, seq bigint,
	finished boolean)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n		bigint := coalesce((SELECT p.n + 1
								  FROM pgstock_internal.relay_position p), 0);
	even	boolean := n / 1000 % 2 = 0;
	name	text := CASE WHEN even THEN 'position_even' ELSE 'position_odd' END;
	led		bigint := (SELECT e.epoch FROM pgstock_internal.relay_epoch e);
BEGIN
	IF n % 1000 = 0 AND pgstock_internal.try_lock_table(name, true) THEN
		EXECUTE format('TRUNCATE pgstock_internal.%I', name);
	END IF;
	IF even THEN
		INSERT INTO pgstock_internal.position_even VALUES (n, $1, $2, $3, led);
	ELSE
		INSERT INTO pgstock_internal.position_odd VALUES (n, $1, $2, $3, led);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.put_position IS
	'makes this the position';

CREATE FUNCTION pgstock_internal.raise_epoch()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.relay_epoch AS e VALUES (true, 1)
ON CONFLICT (one) DO UPDATE SET epoch = e.epoch + 1
RETURNING epoch
$$;
COMMENT ON FUNCTION pgstock_internal.raise_epoch IS
	'from now on no earlier leader can store a position; the new epoch';

/*
 * idle_session_timeout ends the session of a leader whose process is frozen, but
 * not while the server still has an answer to write: tcp_user_timeout does that,
 * and a Unix socket has nothing like it.  So another relay ends it.
 */
CREATE FUNCTION pgstock_internal.end_frozen_leader()
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pg_terminate_backend(a.pid)
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.objsubid = x'7064'::int AND l.granted
   AND l."database" = (SELECT d.oid FROM pg_database d
						WHERE d.datname = current_database())
   AND a.client_addr IS NULL AND a.wait_event = 'ClientWrite'
   AND a.query_start < clock_timestamp() - interval '10 seconds'
$$;
COMMENT ON FUNCTION pgstock_internal.end_frozen_leader IS
	'ends the session of a local leader that has not taken its answer for 10 s';

/*
 * Advisory, so that the lead ends with the session; the epoch is what protects
 * (relay_store_position), for a leader may be alive and not know it was cut off.
 */
CREATE FUNCTION pgstock_internal.relay_lead()
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead	bigint;
BEGIN
	/* What is written into a database that is being restored is in the way. */
	PERFORM pgstock_internal.raise_foreign(
		pgstock_internal.incomplete_because());
	IF NOT pgstock_internal.try_lead() THEN
		PERFORM pgstock_internal.end_frozen_leader();
		RETURN NULL;
	END IF;
	lead := pgstock_internal.raise_epoch();
	IF NOT EXISTS (SELECT FROM pgstock_internal.relay_position) THEN
		PERFORM pgstock_internal.put_position(pgstock_internal.first_window(),
											  0, true);
	END IF;
	RETURN lead;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_lead IS
	'the epoch if this session leads the outbox from now on, NULL if another does';

/*
 * The position that a transaction left in Kafka, beside its events.  What is
 * no such thing is an error and not "none": the database's own position may
 * be behind, and going on from there would double events in silence.
 */
CREATE FUNCTION pgstock_internal.kafka_position(kafka bytea,
	OUT "window" pgstock_internal.outbox_window, OUT seq bigint,
	OUT finished boolean, OUT epoch bigint, OUT held boolean)
RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	jsonb;
	why	text;
BEGIN
	p := convert_from(kafka, 'UTF8');
	"window" := (p ->> 'window')::pgstock_internal.outbox_window;
	seq := (p ->> 'seq')::bigint;
	finished := (p ->> 'finished')::boolean;
	epoch := (p ->> 'epoch')::bigint;
	held := (p ->> 'held')::boolean;
	IF "window" IS NOT NULL AND seq IS NOT NULL AND finished IS NOT NULL
		AND epoch IS NOT NULL AND held IS NOT NULL THEN
		RETURN;
	END IF;
	RAISE EXCEPTION 'a part of it is missing';
EXCEPTION WHEN data_exception OR program_limit_exceeded OR raise_exception THEN
	GET STACKED DIAGNOSTICS why = MESSAGE_TEXT;
	RAISE EXCEPTION 'the outbox position in Kafka is damaged'
		USING ERRCODE = 'SK022', DETAIL = why || '.',
			  HINT = 'Find out who writes to the position topic. Without the '
					 'topic the relay goes on from the database''s own '
					 'position: stop it, delete the topic, start it.';
END
$$;
COMMENT ON FUNCTION pgstock_internal.kafka_position IS
	'a record of the position topic, taken apart; SK022 if it is none';

/*
 * Within one lead the further one counts: Kafka's, for the row is written behind
 * it, unless what came since was empty or set aside.  Over several leads the
 * later one counts, for it began where the one before had come to; with the
 * same number of lead in two histories, the later place in the WAL.  A commit is
 * in the WAL before it shows, so two windows may have one place: the later one
 * shows more.
 *
 * One that was written while a topic was held may pass events that were set
 * aside, and a fail-over may have lost those while it kept the window.  Then the
 * row counts: it has been lost with them.
 */
CREATE FUNCTION pgstock_internal.relay_position(kafka bytea = NULL,
	OUT "window" text, OUT seq bigint, OUT finished boolean)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p		pgstock_internal.relay_position;
	w		pgstock_internal.outbox_window;
	k		record;
	kw		pgstock_internal.outbox_window;
BEGIN
	SELECT * INTO p FROM pgstock_internal.relay_position;
	"window" := coalesce(p."window", pgstock_internal.first_window());
	seq := coalesce(p.seq, 0);
	finished := coalesce(p.finished, true);
	w := "window"::pgstock_internal.outbox_window;

	IF kafka IS NOT NULL THEN
		k := pgstock_internal.kafka_position(kafka);
		kw := k."window";
		IF pgstock_internal.foreign_because(kw) IS NULL
			AND (k.epoch, kw.lsn, pg_snapshot_xmax(kw.s2),
				 cardinality(ARRAY(SELECT pg_snapshot_xip(w.s2))),
				 k.finished, k.seq)
				>= (coalesce(p.stored_epoch, 0), coalesce(w.lsn, '0/0'),
					pg_snapshot_xmax(w.s2),
					cardinality(ARRAY(SELECT pg_snapshot_xip(kw.s2))),
					finished, seq)
			AND (NOT k.held OR kw.timeline
				= (SELECT f.timeline FROM pgstock_internal.outbox_fence('local') f))
		THEN
			"window" := kw::text;
			seq := k.seq;
			finished := k.finished;
			RETURN;
		END IF;
	END IF;

	PERFORM pgstock_internal.raise_foreign(pgstock_internal.foreign_history());
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_position IS
	'the stored position, or Kafka''s if that is given and further; SK020 if this database did not live through it';

CREATE FUNCTION pgstock_internal.relay_next_window("window" text,
	publish_after text DEFAULT 'auto')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w	pgstock_internal.outbox_window
		:= "window"::pgstock_internal.outbox_window;
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'the outbox is read in READ COMMITTED only'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Set default_transaction_isolation for the relay''s role.';
	END IF;
	w.s1 := w.s2;
	w.floor := w.s2_floor;
	w.next_xid := w.s2_next_xid;
	IF w.restored THEN
		w.adopted := w.ceiling;
	END IF;
	w.restored := false;
	/* Each statement has its own snapshot; their order is the proof. */
	w.s2_floor := pgstock_internal.last_seq();
	w.s2 := pg_current_snapshot();
	w.s2_next_xid := pgstock_internal.next_xid();
	w.ceiling := pgstock_internal.last_seq();
	SELECT f.lsn, f.timeline INTO w.lsn, w.timeline
	  FROM pgstock_internal.outbox_fence(publish_after) f;
	IF w.system_id IS NULL THEN
		SELECT i.system_id, i."database", i.id
		  INTO w.system_id, w."database", w.incarnation
		  FROM pgstock_internal.draw_incarnation() i;
	END IF;
	RETURN w::text;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_next_window IS
	'what is visible now and was not before; all of it durable';

/*
 * The transactions that were running when s1 was taken and that s2 shows, as
 * far as they wrote events.  Between xmax and next_xid the index is skipped
 * along: subtransactions use up xids too, so the range may be wide.
 */
CREATE FUNCTION pgstock_internal.late_xids(w pgstock_internal.outbox_window)
RETURNS xid8[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	late	xid8[] := ARRAY(SELECT x FROM pg_snapshot_xip(w.s1) x
							WHERE pg_visible_in_snapshot(x, w.s2));
	x		xid8 := pg_snapshot_xmax(w.s1);
BEGIN
	IF x >= w.next_xid THEN
		RETURN late;
	END IF;
	SELECT o.xid INTO x FROM pgstock_internal.outbox o
	 WHERE o.xid >= x AND o.xid < w.next_xid ORDER BY o.xid LIMIT 1;
	WHILE FOUND LOOP
		IF pg_visible_in_snapshot(x, w.s2) THEN
			late := late || x;
		END IF;
		SELECT o.xid INTO x FROM pgstock_internal.outbox o
		 WHERE o.xid > x AND o.xid < w.next_xid ORDER BY o.xid LIMIT 1;
	END LOOP;
	RETURN late;
END
$$;
COMMENT ON FUNCTION pgstock_internal.late_xids IS
	'transactions that s1 left out and that may have drawn their seq before it';

/*
 * Keeps a sum from row to row: to be asked once for each, in their order, so
 * above the LIMIT of a sorted subquery.  It looks at lengths only, which does
 * not fetch what is stored out of line.  (A window function's sum costs more
 * than the rest of the page.)
 */
CREATE FUNCTION pgstock_internal.page_has_room(payload bytea, headers bytea,
	max_bytes int)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_page_has_room' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.page_has_room IS
	'whether the rows before this one have less than max_bytes';

/*
 * Two statements rather than one, and conditions on xid that no index can
 * serve, and settings: the planner is left no choice but the walk along seq,
 * merged from the parts' indexes.  (With one statement a generic plan once
 * walked all that is retained; and one that was made while parts were empty
 * sorts the whole window for each page.)  What must be sorted nevertheless, the
 * rows of late transactions, is few; without jit = off the price that is put on
 * it would have the query compiled.
 */
CREATE FUNCTION pgstock_internal.relay_page("window" text, after_seq bigint,
	max_rows int, max_bytes int)
RETURNS TABLE (seq bigint, event_id uuid, topic text, key bytea,
	event_type text, payload bytea, headers bytea, traceparent text,
	created_at timestamptz, format "char")
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
	SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	w		pgstock_internal.outbox_window
			:= "window"::pgstock_internal.outbox_window;
	walk	bigint := greatest(after_seq, w.floor);
	after_late	bigint := greatest(after_seq, w.adopted);
	late	xid8[];
BEGIN
	IF w.restored THEN
		RETURN QUERY
			SELECT r.*
			  FROM (SELECT o.seq, o.id, o.aggregatetype, o.aggregateid, o.type,
						   o.payload, o.headers, o.traceparent, o.created_at,
						   o.format
					  FROM pgstock_internal.outbox o
					 WHERE o.seq > after_seq AND o.seq <= w.ceiling
					   AND (o.seq > w.floor
							OR (o.seq > w.adopted
								AND NOT pg_visible_in_snapshot(o.xid, w.s1)))
					 ORDER BY o.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers, max_bytes);
		RETURN;
	END IF;
	late := pgstock_internal.late_xids(w);
	IF late = '{}' THEN
		RETURN QUERY
			SELECT r.*
			  FROM (SELECT o.seq, o.id, o.aggregatetype, o.aggregateid, o.type,
						   o.payload, o.headers, o.traceparent, o.created_at,
						   o.format
					  FROM pgstock_internal.outbox o
					 WHERE o.seq > walk AND o.seq <= w.ceiling
					   AND (o.xid >= w.next_xid) IS TRUE
					   AND pg_visible_in_snapshot(o.xid, w.s2)
					 ORDER BY o.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers, max_bytes);
	ELSE
		RETURN QUERY
			SELECT r.*
			  FROM (SELECT m.seq, m.id, m.aggregatetype, m.aggregateid, m.type,
						   m.payload, m.headers, m.traceparent, m.created_at,
						   m.format
					  FROM (SELECT l.*
							  FROM unnest(late) x,
								   LATERAL (SELECT o.*
											  FROM pgstock_internal.outbox o
											 WHERE o.xid = x AND o.seq > after_late
											 ORDER BY o.seq LIMIT max_rows) l
							UNION ALL
							(SELECT o.*
							   FROM pgstock_internal.outbox o
							  WHERE o.seq > walk AND o.seq <= w.ceiling
								AND (o.xid >= w.next_xid) IS TRUE
								AND pg_visible_in_snapshot(o.xid, w.s2)
							  ORDER BY o.seq LIMIT max_rows)) m
					 ORDER BY m.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers, max_bytes);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_page IS
	'the window''s rows above after_seq, by seq, until there are max_rows, or max_bytes of payloads and headers; neither: its end';


/*
 * One call for both, since a call costs more than what it does.  A row that has
 * the window alone comes before those of the page.
 */
CREATE FUNCTION pgstock_internal.relay_look("window" text, publish_after text,
	max_rows int, max_bytes int)
RETURNS TABLE (seq bigint, event_id uuid, topic text, key bytea,
	event_type text, payload bytea, headers bytea, traceparent text,
	created_at timestamptz, format "char", next_window text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	next_window := pgstock_internal.relay_next_window("window", publish_after);
	RETURN NEXT;
	RETURN QUERY SELECT p.*, NULL
				   FROM pgstock_internal.relay_page(next_window, 0, max_rows,
													max_bytes) p;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_look IS
	'the next window, and its first page';

CREATE FUNCTION pgstock_internal.want_hints(wanted boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_want_hints' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.want_hints IS
	'whether this session is signalled from now on at each commit with an event';

CREATE FUNCTION pgstock_internal.wake_relay()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_wake_relay' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.wake_relay IS
	'wakes a relay that sleeps, once this transaction has committed';

CREATE FUNCTION pgstock_internal.relay_echo()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_relay_echo' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_echo IS
	'notifies this session''s client, once this transaction has committed';

/*
 * The lock before the snapshot, and nothing found in it:
 * extension/outbox/wakeup.c has the proof that nothing is slept through.
 */
CREATE FUNCTION pgstock_internal.relay_sleep("window" text,
	publish_after text DEFAULT 'auto', OUT next_window text,
	OUT asleep boolean)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	asleep := pgstock_internal.want_hints(true);
	next_window := pgstock_internal.relay_next_window("window", publish_after);
	IF asleep AND EXISTS
		(SELECT FROM pgstock_internal.relay_page(next_window, 0, 1, 1)) THEN
		asleep := pgstock_internal.want_hints(false);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_sleep IS
	'the next window; asleep: it is empty, and the session is told when there is more';

/* A leader of yesterday changes nothing. */
CREATE FUNCTION pgstock_internal.check_lead(epoch bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM pgstock_internal.relay_epoch e
	  WHERE e.epoch = $1 FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'another relay leads the outbox'
			USING ERRCODE = 'SK021', DETAIL = format(
				'Epoch %s has been overtaken.', $1);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_lead IS
	'SK021 unless this epoch leads, and it does until the transaction ends';

CREATE FUNCTION pgstock_internal.relay_store_position("window" text,
	seq bigint, finished boolean, epoch bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_lead(epoch);
	PERFORM pgstock_internal.put_position($1, $2, $3);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_store_position IS
	'all up to here is acknowledged by Kafka; SK021 if a newer epoch leads';

/*
 * Registered handlers of another database, taken along where function, owner
 * and role have kept their names.  Those of this database are left alone: there
 * another oid is another object.
 */
CREATE FUNCTION pgstock_internal.adopt_handlers()
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
UPDATE pgstock_internal.user_handler h
   SET function_oid = p.oid, owner_oid = p.proowner, role_oid = r.oid,
	   schema_oid = x.extnamespace, system_id = c.system_identifier,
	   "database" = d.oid
  FROM pg_control_system() c, pg_database d, pg_extension x, pg_proc p, pg_roles r
 WHERE d.datname = current_database() AND x.extname = 'pgstock'
   AND (h.system_id, h."database") <> (c.system_identifier, d.oid)
   AND p.oid = to_regprocedure(h.handler || '(jsonb,jsonb)')
   AND pg_get_userbyid(p.proowner) = h.owner
   AND r.rolname = h.role
$$;
COMMENT ON FUNCTION pgstock_internal.adopt_handlers IS
	'registered handlers of the database that this one was made from';

CREATE FUNCTION pgstock_internal.relay_topics()
RETURNS TABLE (topic text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'stock-events' UNION SELECT 'stock-freeze-failed'
 UNION SELECT e.topic FROM pgstock_internal.event_topic e
		WHERE e.topic IS NOT NULL
$$;
COMMENT ON FUNCTION pgstock_internal.relay_topics IS
	'topics that stock events go to';

CREATE FUNCTION pgstock_internal.relay_offsets(topics text[])
RETURNS TABLE (topic text, partition int, next_offset bigint,
	fingerprint text, witness_offset bigint, witness text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT topic, o.partition, o.next_offset, o.fingerprint, o.witness_offset,
	   o.witness
  FROM pgstock_internal.inbox_topic t
  FULL JOIN pgstock_internal.inbox_offset o USING (topic)
 WHERE topics IS NULL OR topic = ANY (topics)
 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION pgstock_internal.relay_offsets IS
	'where the database stands in each partition; NULL: of all topics';

/*
 * Of two relays that come with the same topic one inserts its row, and the
 * other one waits for that, and then finds it.
 */
CREATE FUNCTION pgstock_internal.relay_begin_topic(topic text,
	partitions int[], offsets bigint[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO pgstock_internal.inbox_topic VALUES ($1)
		ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO pgstock_internal.inbox_offset (topic, partition, next_offset)
	SELECT $1, * FROM unnest(partitions, offsets) ORDER BY 2
		ON CONFLICT DO NOTHING;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_begin_topic IS
	'where a topic begins that the database does not know yet; decided once';

/*
 * Only from where the caller thinks that the partition stands: another relay
 * may have it by now.
 */
CREATE FUNCTION pgstock_internal.relay_move_offset(topic text, partition int,
	was bigint, next_offset bigint, last_missing bigint, reason text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO pgstock_internal.inbox_offset AS o
	VALUES ($1, $2, $4)
		ON CONFLICT ON CONSTRAINT inbox_offset_pkey DO UPDATE
	   SET next_offset = $4, fingerprint = NULL, witness_offset = NULL,
		   witness = NULL, heir_offset = NULL, heir = NULL, heir_since = NULL
	 WHERE o.next_offset = $3;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO pgstock_internal.inbox_gap
	VALUES ($1, $2, $3, $5, $6, $4);
	/* its offsets are those of the earlier history */
	DELETE FROM pgstock_internal.inbox_attempt a
	 WHERE a.topic = $1 AND a.partition = $2;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_move_offset IS
	'goes on elsewhere in a partition whose offsets are gone, and notes which';

CREATE FUNCTION pgstock_internal.relay_fingerprint(topic text, partition int,
	next_offset bigint, fingerprint text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
UPDATE pgstock_internal.inbox_offset o SET fingerprint = $4
 WHERE o.topic = $1 AND o.partition = $2 AND o.next_offset = $3
   AND o.fingerprint IS NULL
$$;
COMMENT ON FUNCTION pgstock_internal.relay_fingerprint IS
	'what the record before the next offset is, where that was not known';

CREATE FUNCTION pgstock_internal.relay_apply(topics text[], partitions int[],
	offsets bigint[], timestamps bigint[], keys bytea[], "values" bytea[],
	headers bytea[], options jsonb, OUT topic text, OUT result text,
	OUT reason text, OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_apply IS
	'the first messages of a batch: inbox rows, effects, events and offsets at once';

CREATE FUNCTION pgstock_internal.relay_apply_failed(topics text[],
	partitions int[], offsets bigint[], timestamps bigint[], keys bytea[],
	"values" bytea[], headers bytea[], options jsonb, sqlstate text,
	error text, OUT topic text, OUT result text, OUT reason text,
	OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_apply_failed IS
	'a message that failed alone: waits for another try, or is given up';

CREATE FUNCTION pgstock_internal.relay_retry(max_rows int, options jsonb,
	OUT topic text, OUT result text, OUT reason text, OUT n bigint,
	OUT attempts int, OUT message text,
	OUT sent_ms bigint[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_retry' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_retry IS
	'tries again what waits and is due';

/* ---- How far Kafka has acknowledged the outbox --------------------------- */

CREATE TYPE pgstock_internal.outbox_progress AS
(
	done		pg_snapshot,
	s2			pg_snapshot,
	seq			bigint,
	finished	boolean,
	by_seq		boolean,
	floor		bigint,
	adopted		bigint
);
COMMENT ON TYPE pgstock_internal.outbox_progress IS
	'how far Kafka has acknowledged the outbox, ready to be asked about a row';

CREATE FUNCTION pgstock_internal.progress()
RETURNS pgstock_internal.outbox_progress
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.relay_position;
	w	pgstock_internal.outbox_window;
BEGIN
	SELECT * INTO p FROM pgstock_internal.relay_position;
	IF NOT FOUND THEN
		RETURN ROW(pg_snapshot '1:1:', pg_snapshot '1:1:', bigint '0', true,
				   false, bigint '0', bigint '0');
	END IF;
	w := p."window"::pgstock_internal.outbox_window;
	RETURN ROW(CASE WHEN p.finished THEN w.s2 ELSE w.s1 END, w.s2, p.seq,
			   p.finished, w.restored AND NOT p.finished, w.floor,
			   CASE WHEN w.restored AND p.finished THEN w.ceiling
					ELSE w.adopted END);
END
$$;
COMMENT ON FUNCTION pgstock_internal.progress IS
	'the stored position, as is_pending takes it';

/*
 * As relay_page decides.  Plain SQL without settings of its own, so that the
 * planner inlines it: it is evaluated for each row.  Its body is parsed here and
 * never again, so that no caller's search_path matters.
 */
CREATE FUNCTION pgstock_internal.is_pending(xid xid8, seq bigint,
	p pgstock_internal.outbox_progress)
RETURNS boolean
LANGUAGE sql STABLE
RETURN CASE WHEN (p).by_seq THEN seq > (p).seq
		AND (seq > (p).floor
			 OR (seq > (p).adopted
				 AND NOT pg_visible_in_snapshot(xid, (p).done)))
	   ELSE seq > (p).adopted AND NOT pg_visible_in_snapshot(xid, (p).done)
		AND ((p).finished OR seq > (p).seq
			 OR NOT pg_visible_in_snapshot(xid, (p).s2)) END;
COMMENT ON FUNCTION pgstock_internal.is_pending IS
	'whether the position does not yet say that Kafka has this row';

/*
 * Planned each time, with the position at hand: a plan for any position reads
 * all that is retained.
 */
CREATE FUNCTION pgstock_internal.pending(OUT n bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	p		pgstock_internal.outbox_progress := pgstock_internal.progress();
	first	xid8 := CASE WHEN p.by_seq THEN xid8 '0'
					ELSE pg_snapshot_xmin(p.done) END;
BEGIN
	SELECT count(*), min(o.created_at) INTO n, oldest
	  FROM pgstock_internal.outbox o
	 WHERE o.xid >= first AND pgstock_internal.is_pending(o.xid, o.seq, p);
END
$$;
COMMENT ON FUNCTION pgstock_internal.pending IS
	'how many events Kafka has not acknowledged, and since when';

CREATE FUNCTION pgstock_internal.relay_metrics()
RETURNS TABLE (name text, labels text, value double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH held AS MATERIALIZED (
	SELECT * FROM pgstock_internal.held_status()
), pending AS MATERIALIZED (
	SELECT sum(e.n) AS n, min(e.oldest) AS oldest
	  FROM (SELECT p.n, p.oldest FROM pgstock_internal.pending() p
			UNION ALL SELECT h.events, h.oldest FROM held h) e
)
SELECT 'outbox_pending_events', '', n::float8 FROM pending
UNION ALL
SELECT 'outbox_oldest_pending_seconds', '',
	   coalesce(extract(epoch FROM clock_timestamp() - oldest), 0)::float8
  FROM pending
UNION ALL
SELECT 'outbox_held_events', format('topic="%s"', h.topic), h.events::float8
  FROM held h
UNION ALL
SELECT 'outbox_table_bytes', '',
	   sum(pg_total_relation_size(i.inhrelid))::float8
  FROM pg_inherits i WHERE i.inhparent = 'pgstock_internal.outbox'::regclass
UNION ALL
SELECT 'inbox_waiting_keys', '', count(DISTINCT (f.topic, f.key))::float8
  FROM pgstock_internal.failed_event f WHERE f.state = 'waiting'
UNION ALL
SELECT 'archive_open', '', count(*)::float8
  FROM pgstock_internal.failed_event f
 WHERE f.archived_at IS NOT NULL AND NOT f.handled AND f.state <> 'discarded'
UNION ALL
SELECT 'webhook_waiting', '', count(*)::float8
  FROM pgstock_internal.alert a WHERE a.next_try_at IS NOT NULL
UNION ALL
SELECT 'upkeep_failing', format('step="%s"', s.step), count(f.step)::float8
  FROM pgstock_internal.upkeep_steps() s (step)
  LEFT JOIN pgstock_internal.upkeep_failure f USING (step) GROUP BY s.step
UNION ALL
SELECT 'reservations_open', '', count(*)::float8
  FROM pgstock_internal.reservation r WHERE r.state = 'r'
UNION ALL
SELECT 'reservations_overdue', '', count(*)::float8
  FROM pgstock_internal.reservation r
 WHERE r.due_at <= clock_timestamp()
$$;
COMMENT ON FUNCTION pgstock_internal.relay_metrics IS
	'the gauges that only the database knows';

