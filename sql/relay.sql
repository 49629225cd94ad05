/* ---- Functions that the relay calls: docs/relay-protocol.md -------------- */

/*
 * A window of the outbox: the rows whose transaction is visible in s2 and not
 * in s1 (as in PgQ).  The relay stores it as text and never parses it.
 *
 * Why a page is one index scan along seq: before snapshot s1 was taken,
 * outbox_seq stood at floor; after it, the next xid was next_xid.  A
 * transaction with an xid of next_xid or above was assigned it after floor was
 * read and drew its seq after that, so its seq is above floor.  Every other
 * transaction that s1 does not show was running at that time: its xid is in
 * s1's list of xids, or between s1's xmax and next_xid (a snapshot's xmax is
 * the latest completed xid plus one, so running xids can lie above it too).
 * These few are fetched by xid.  No row that s2 shows is above ceiling, which
 * was read after s2.  The s2_ members become those of s1 in the next window.
 *
 * A restored window covers rows with xids of another history: s1 and floor
 * belong to that history, and only rows up to ceiling are in the window.  In
 * the windows that follow, adopted is that ceiling: rows up to it are
 * published, and their xids are not comparable.
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
	'window of the outbox: the rows visible in s2 and not in s1, and the '
	'history in which that is true';

CREATE FUNCTION pgstock_internal.outbox_fence(publish_after text,
	OUT lsn pg_lsn, OUT timeline int)
RETURNS record
AS 'MODULE_PATHNAME', 'pgstock_outbox_fence' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.outbox_fence IS
	'waits until everything visible now is durable: locally (local), also on '
	'the synchronous standby if one is configured (auto), or with an error if '
	'none is (remote_flush); returns the place in the WAL';

CREATE FUNCTION pgstock_internal.next_xid()
RETURNS xid8
AS 'MODULE_PATHNAME', 'pgstock_next_xid' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.next_xid IS
	'returns the xid that will be assigned next';

CREATE FUNCTION pgstock_internal.last_seq()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_last_seq' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.last_seq IS
	'returns the latest seq that was drawn; 0 if none';

CREATE FUNCTION pgstock_internal.try_lead()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lead' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.try_lead IS
	'acquires the session-level advisory lock of the outbox''s lead if it is '
	'free; returns whether it did';

/* The window before the first one, in which no row is visible. */
CREATE FUNCTION pgstock_internal.first_window()
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT ROW(NULL, NULL, NULL, NULL, NULL, '1:1:', 0, '1', '1:1:', 0, '1', 0,
		   false, 0)::text
$$;
COMMENT ON FUNCTION pgstock_internal.first_window IS
	'returns the position of an outbox that was never published';

CREATE FUNCTION pgstock_internal.history_contains(timeline int, lsn pg_lsn)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_history_contains' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.history_contains IS
	'returns whether the history of this server contains a place in the WAL';

CREATE FUNCTION pgstock_internal.pin_settings()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_pin_settings' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.pin_settings IS
	'overrides role and database settings that the relay''s session must not '
	'have';

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
	'identifies the server to a relay, which checks relay_api before any '
	'other call';

CREATE FUNCTION pgstock_internal.relay_beat(OUT max_event_bytes int)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_relay_beat' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_beat IS
	'keeps the session of a relay open, which ends after 10 s without a '
	'query; a sleeping relay keeps sleeping; returns pgstock.max_event_bytes';

CREATE FUNCTION pgstock_internal.try_lock_table(name text, readers boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lock_table' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.try_lock_table IS
	'locks a table of pgstock against writers, and also against readers if '
	'readers is true; returns false if the lock is not free';

/*
 * The caller must have locked the row of relay_epoch.  A table is truncated
 * when 1000 positions have been inserted into the other one, which is minutes
 * after its own last row.  So only a snapshot older than that can find it
 * empty.
 */
CREATE FUNCTION pgstock_internal.put_position("window" text, seq bigint,
	finished boolean)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n				bigint := coalesce((SELECT p.n + 1
									FROM pgstock_internal.relay_position p), 0);
	even			boolean := n / 1000 % 2 = 0;
	name			text := CASE WHEN even THEN 'position_even'
							ELSE 'position_odd' END;
	current_epoch	bigint := (SELECT e.epoch
								 FROM pgstock_internal.relay_epoch e);
BEGIN
	IF n % 1000 = 0 AND pgstock_internal.try_lock_table(name, true) THEN
		EXECUTE format('TRUNCATE pgstock_internal.%I', name);
	END IF;
	IF even THEN
		INSERT INTO pgstock_internal.position_even
		VALUES (n, $1, $2, $3, current_epoch);
	ELSE
		INSERT INTO pgstock_internal.position_odd
		VALUES (n, $1, $2, $3, current_epoch);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.put_position IS
	'stores a position';

CREATE FUNCTION pgstock_internal.raise_epoch()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.relay_epoch AS e VALUES (true, 1)
ON CONFLICT (one) DO UPDATE SET epoch = e.epoch + 1
RETURNING epoch
$$;
COMMENT ON FUNCTION pgstock_internal.raise_epoch IS
	'raises the epoch, so that no earlier leader can store a position; '
	'returns the new epoch';

/*
 * idle_session_timeout ends the session of a leader whose process is frozen,
 * except while the server still has a result to send.  In that case
 * tcp_user_timeout ends it, but Unix-domain sockets have no such timeout.  So
 * a relay that waits for the lead ends the session.
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
	'terminates the session of a leader on a Unix-domain socket that has not '
	'received its result for 10 s';

/*
 * The lead is an advisory lock, so that it ends with the session.  The epoch
 * is what prevents damage (relay_store_position), because a leader may still
 * run without knowing that its connection is lost.
 */
CREATE FUNCTION pgstock_internal.relay_lead()
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_epoch	bigint;
BEGIN
	/* Rows written while a dump is being restored would conflict with it. */
	PERFORM pgstock_internal.raise_foreign(
		pgstock_internal.incomplete_because());
	IF NOT pgstock_internal.try_lead() THEN
		PERFORM pgstock_internal.end_frozen_leader();
		RETURN NULL;
	END IF;
	new_epoch := pgstock_internal.raise_epoch();
	IF NOT EXISTS (SELECT FROM pgstock_internal.relay_position) THEN
		PERFORM pgstock_internal.put_position(pgstock_internal.first_window(),
											  0, true);
	END IF;
	RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_lead IS
	'takes the lead of the outbox and returns the new epoch; NULL if another '
	'session leads; SK020 if the data is restored and not adopted, or written '
	'by a subscription';

/*
 * The position that a transaction stored in Kafka together with its events.  A
 * record that cannot be parsed raises an error rather than being ignored: the
 * database's own position may be behind it, and continuing from there would
 * publish events twice unnoticed.
 */
CREATE FUNCTION pgstock_internal.kafka_position(kafka bytea,
	OUT "window" pgstock_internal.outbox_window, OUT seq bigint,
	OUT finished boolean, OUT epoch bigint, OUT held boolean)
RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p		jsonb;
	problem	text;
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
	RAISE EXCEPTION 'a member is missing';
EXCEPTION WHEN data_exception OR program_limit_exceeded OR raise_exception THEN
	GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
	RAISE EXCEPTION 'the outbox position in Kafka is damaged'
		USING ERRCODE = 'SK022',
			  DETAIL = upper(left(problem, 1)) || substr(problem, 2) || '.',
			  HINT = 'Check which programs write to the position topic. To '
					 'continue from the position in the database, stop the '
					 'relay, delete the topic and start the relay.';
END
$$;
COMMENT ON FUNCTION pgstock_internal.kafka_position IS
	'parses a record of the position topic; SK022 if it is not valid';

/*
 * Within one lead the position that is further ahead is current.  That is
 * Kafka's, because the row is stored after it, unless all later events were
 * empty windows or set aside.  Of positions of different leads that of the
 * later lead is current, because it continued from the one before.  If two
 * histories have the same epoch, the later place in the WAL decides.  A commit
 * is in the WAL before it becomes visible, so two windows can have the same
 * place; the later one shows more transactions.
 *
 * A position stored in Kafka while a topic was held may be ahead of events
 * that were set aside, and a fail-over may have lost their rows but not the
 * window.  Then the row in the database is current, because it was lost with
 * them.
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
	'returns the current position, which is the record of the position topic '
	'if that is given and ahead of the stored row; SK020 if it belongs to '
	'another history, SK022 if the record is not valid';

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
		RAISE EXCEPTION 'the outbox must be read at isolation level READ COMMITTED'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Set default_transaction_isolation for the '
						 'relay''s role.';
	END IF;
	w.s1 := w.s2;
	w.floor := w.s2_floor;
	w.next_xid := w.s2_next_xid;
	IF w.restored THEN
		w.adopted := w.ceiling;
	END IF;
	w.restored := false;
	/* Each statement has its own snapshot; the order of these is essential. */
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
	'returns the window that follows a finished one; all its rows are durable';

/*
 * The transactions that were running when s1 was taken, are visible in s2 and
 * wrote events.  The range from xmax to next_xid may be wide, because
 * subtransactions consume xids too, so a loop of index lookups skips from one
 * xid to the next.
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
	'returns the transactions of a window that may have drawn a seq below '
	'floor';

/*
 * Adds up the sizes of successive rows: to be called once for each row in
 * order, hence above the LIMIT of a sorted subquery.  It reads only the
 * lengths, so TOASTed values are not fetched.  (A window function would cost
 * more than the rest of the page.)
 */
CREATE FUNCTION pgstock_internal.page_has_room(payload bytea, headers bytea,
	max_bytes int)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_page_has_room' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.page_has_room IS
	'returns whether the rows before this one have fewer than max_bytes bytes '
	'of payload and headers';

/*
 * The planner must choose the scan along seq, merged from the indexes of the
 * parts.  Hence two statements instead of one, conditions on xid that no index
 * supports, and the settings below.  (With one statement, a generic plan read
 * all retained rows; and a plan made while parts were empty sorts the whole
 * window for each page.)  The rows of late transactions have to be sorted
 * nevertheless, but they are few; jit = off, because the cost added for that
 * sort would cause JIT compilation.
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
	'returns the rows of a window above after_seq in order of seq, up to '
	'max_rows rows and until their payloads and headers reach max_bytes '
	'bytes; no row: the window is finished';


/*
 * One call for both, because the round trip costs more than the work.  The
 * first row contains only the window; the rows of the page follow.
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
	'returns the next window and its first page';

CREATE FUNCTION pgstock_internal.want_hints(wanted boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_want_hints' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.want_hints IS
	'sets whether committing transactions that wrote events notify this '
	'session; returns whether they do';

CREATE FUNCTION pgstock_internal.wake_relay()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_wake_relay' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.wake_relay IS
	'wakes a sleeping relay when this transaction commits';

CREATE FUNCTION pgstock_internal.relay_echo()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_relay_echo' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_echo IS
	'notifies the client of this session when this transaction commits';

/*
 * The lock is taken before the snapshot, and the relay sleeps only if the
 * window is empty: extension/outbox/wakeup.c proves that no commit is missed.
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
	'returns the next window; asleep is true if it is empty and the session '
	'will be notified of the next event';

/* Prevents writes by a relay that has lost the lead. */
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
				'Epoch %s is no longer current.', $1);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_lead IS
	'locks the epoch until the end of the transaction; SK021 if another one '
	'is current';

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
	'stores how far Kafka has acknowledged the outbox; SK021 if another relay '
	'leads';

/*
 * Handlers registered in another database are taken over if function, owner
 * and role have the same names here.  Handlers registered in this database are
 * not changed: there a different oid is a different object.
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
	'takes over handlers registered in the database of which this one is a '
	'copy';

CREATE FUNCTION pgstock_internal.relay_topics()
RETURNS TABLE (topic text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'stock-events' UNION SELECT 'stock-freeze-failed'
 UNION SELECT e.topic FROM pgstock_internal.event_topic e
		WHERE e.topic IS NOT NULL
$$;
COMMENT ON FUNCTION pgstock_internal.relay_topics IS
	'returns the topics of stock events';

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
	'returns the next offset of each partition with its fingerprints; NULL '
	'for all topics';

/*
 * Of two relays that begin the same topic, one inserts its row; the other
 * waits for that transaction and then returns false.
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
	'stores the first offsets of a topic without any; returns false if '
	'another relay was first';

/*
 * Moves the offset only from the expected value: another relay may have been
 * assigned the partition in the meantime.
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
	/* Its offsets belong to the earlier history. */
	DELETE FROM pgstock_internal.inbox_attempt a
	 WHERE a.topic = $1 AND a.partition = $2;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_move_offset IS
	'continues at another offset in a partition that lost records, and '
	'records the missing offsets; returns false if the next offset is not the '
	'expected one';

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
	'stores the fingerprint of the record before the next offset, if it is '
	'not known';

CREATE FUNCTION pgstock_internal.relay_apply(topics text[], partitions int[],
	offsets bigint[], timestamps bigint[], keys bytea[], "values" bytea[],
	headers bytea[], options jsonb, OUT topic text, OUT result text,
	OUT reason text, OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_apply IS
	'applies the first messages of a batch; writes inbox rows, effects, '
	'events and next offsets in one transaction; returns the number of '
	'messages by result';

CREATE FUNCTION pgstock_internal.relay_apply_failed(topics text[],
	partitions int[], offsets bigint[], timestamps bigint[], keys bytea[],
	"values" bytea[], headers bytea[], options jsonb, sqlstate text,
	error text, OUT topic text, OUT result text, OUT reason text,
	OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_apply_failed IS
	'records the failure of a message that failed alone: schedules another '
	'try or dead-letters it';

CREATE FUNCTION pgstock_internal.relay_retry(max_rows int, options jsonb,
	OUT topic text, OUT result text, OUT reason text, OUT n bigint,
	OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_retry' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_retry IS
	'tries waiting messages that are due again, at most max_rows of them';

/* ---- Progress of the outbox ---------------------------------------------- */

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
	'how far Kafka has acknowledged the outbox, in the form that is_pending '
	'takes';

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
	'returns the stored position in the form that is_pending takes';

/*
 * The same decision as in relay_page.  It is a plain SQL function without
 * settings, so that the planner inlines it, because it is evaluated for each
 * row.  Its body is parsed when it is created, so the caller's search_path has
 * no effect.
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
	'returns whether a row of the outbox is not yet acknowledged according to '
	'the position';

/*
 * Planned for each call with the actual position, because a generic plan reads
 * all retained rows.
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
	'returns the number of events that Kafka has not acknowledged, and the '
	'time of the oldest';

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
SELECT 'outbox_held_oldest_seconds', format('topic="%s"', h.topic),
	   coalesce(extract(epoch FROM clock_timestamp() - h.oldest), 0)::float8
  FROM held h
UNION ALL
SELECT 'held_tries_total', format('topic="%s"', h.topic), h.tries::float8
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
UNION ALL
SELECT m.name, m.labels, m.value FROM pgstock_internal.database_metrics() m
UNION ALL
SELECT m.name, m.labels, m.value FROM pgstock_internal.statistics_metrics() m
$$;
COMMENT ON FUNCTION pgstock_internal.relay_metrics IS
	'returns the metrics that are computed from the database';

