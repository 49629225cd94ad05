/* ---- The position in the outbox: docs/relay-protocol.md ------------------ */

/*
 * TRUNCATE is not MVCC: a snapshot from before the first row of the table that
 * is kept finds no position at all.  So that row must be minutes old, at
 * whatever rate positions are stored.
 */
CREATE FUNCTION pgstock_internal.empty_positions(name text, kept text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first	timestamptz;
BEGIN
	EXECUTE format('SELECT p.stored_at FROM pgstock_internal.%I p
		ORDER BY p.n LIMIT 1', kept) INTO first;
	IF first > clock_timestamp() - interval '3 minutes'
		OR NOT pgstock_internal.try_lock_table(name, true) THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE pgstock_internal.%I', name);
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.empty_positions IS
	'truncates a table of positions, unless the first row of the other one is '
	'less than 3 minutes old or another session has locked the table; returns '
	'whether it did';

/*
 * The caller must have locked the row of relay_epoch.  After each 1000
 * positions the other table is written, if it can be emptied.
 */
CREATE FUNCTION pgstock_internal.put_position("window" text, seq bigint,
	finished boolean)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last_even		bigint := coalesce((SELECT max(p.n)
									FROM pgstock_internal.position_even p), -1);
	last_odd		bigint := coalesce((SELECT max(p.n)
									FROM pgstock_internal.position_odd p), -1);
	n				bigint := greatest(last_even, last_odd) + 1;
	even			boolean := last_even >= last_odd;
	current_epoch	bigint := (SELECT e.epoch
								 FROM pgstock_internal.relay_epoch e);
BEGIN
	IF n > 0 AND n % 1000 = 0 AND (CASE WHEN even
		THEN pgstock_internal.empty_positions('position_odd', 'position_even')
		ELSE pgstock_internal.empty_positions('position_even', 'position_odd')
		END) THEN
		even := NOT even;
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
				= (SELECT f.timeline
					 FROM pgstock_internal.outbox_fence('local') f))
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

CREATE FUNCTION pgstock_internal.relay_store_position("window" text,
	seq bigint, finished boolean, epoch bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_lead(epoch);
	PERFORM pgstock_internal.put_position($1, $2, $3);
	RETURN pgstock_internal.answer_receipts(NULL);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_store_position IS
	'stores how far Kafka has acknowledged the outbox; returns whether '
	'sessions wait for later events (wait_for_event); SK021 if another relay '
	'leads';

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

CREATE FUNCTION pgstock_internal.progress_of("window" text, seq bigint,
	finished boolean)
RETURNS pgstock_internal.outbox_progress
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w	pgstock_internal.outbox_window
		:= "window"::pgstock_internal.outbox_window;
BEGIN
	RETURN ROW(CASE WHEN finished THEN w.s2 ELSE w.s1 END, w.s2, seq,
			   finished, w.restored AND NOT finished, w.floor,
			   CASE WHEN w.restored AND finished THEN w.ceiling
					ELSE w.adopted END);
END
$$;
COMMENT ON FUNCTION pgstock_internal.progress_of IS
	'returns a position in the form that is_pending takes';

CREATE FUNCTION pgstock_internal.progress()
RETURNS pgstock_internal.outbox_progress
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.relay_position;
BEGIN
	SELECT * INTO p FROM pgstock_internal.relay_position;
	IF NOT FOUND THEN
		RETURN ROW(pg_snapshot '1:1:', pg_snapshot '1:1:', bigint '0', true,
				   false, bigint '0', bigint '0');
	END IF;
	RETURN pgstock_internal.progress_of(p."window", p.seq, p.finished);
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
CREATE FUNCTION pgstock_internal.pending(max_rows int DEFAULT NULL,
	OUT n bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	p		pgstock_internal.outbox_progress := pgstock_internal.progress();
	first	xid8 := CASE WHEN p.by_seq THEN xid8 '0'
					ELSE pg_snapshot_xmin(p.done) END;
BEGIN
	/* What another program has to publish is not known. */
	IF pgstock_internal.outbox_retention() IS NOT NULL THEN
		n := 0;
		RETURN;
	END IF;
	SELECT count(*), min(e.created_at) INTO n, oldest
	  FROM (SELECT o.created_at
			  FROM pgstock_internal.outbox o
			 WHERE o.xid >= first
			   AND pgstock_internal.is_pending(o.xid, o.seq, p)
			 LIMIT max_rows) e;
END
$$;
COMMENT ON FUNCTION pgstock_internal.pending IS
	'returns the number of events that Kafka has not acknowledged, counted up '
	'to max_rows, and the time of the oldest of these; 0 if another program '
	'publishes the outbox';
