/* ---- Windows of the outbox: docs/relay-protocol.md ----------------------- */

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
		RAISE EXCEPTION 'the outbox must be read at isolation level '
						'READ COMMITTED'
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
	key bytea, event_type text, max_bytes int)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_page_has_room' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.page_has_room IS
	'returns whether the rows before this one have fewer than max_bytes bytes '
	'of payload, headers, key and type; the other columns are short';

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
	created_at timestamptz, format "char", ends "char")
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
						   o.format, o.ends
					  FROM pgstock_internal.outbox o
					 WHERE o.seq > after_seq AND o.seq <= w.ceiling
					   AND (o.seq > w.floor
							OR (o.seq > w.adopted
								AND NOT pg_visible_in_snapshot(o.xid, w.s1)))
					 ORDER BY o.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers,
												  r.aggregateid, r.type,
												  max_bytes);
		RETURN;
	END IF;
	late := pgstock_internal.late_xids(w);
	IF late = '{}' THEN
		RETURN QUERY
			SELECT r.*
			  FROM (SELECT o.seq, o.id, o.aggregatetype, o.aggregateid, o.type,
						   o.payload, o.headers, o.traceparent, o.created_at,
						   o.format, o.ends
					  FROM pgstock_internal.outbox o
					 WHERE o.seq > walk AND o.seq <= w.ceiling
					   AND (o.xid >= w.next_xid) IS TRUE
					   AND pg_visible_in_snapshot(o.xid, w.s2)
					 ORDER BY o.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers,
												  r.aggregateid, r.type,
												  max_bytes);
	ELSE
		RETURN QUERY
			SELECT r.*
			  FROM (SELECT m.seq, m.id, m.aggregatetype, m.aggregateid, m.type,
						   m.payload, m.headers, m.traceparent, m.created_at,
						   m.format, m.ends
					  FROM (SELECT l.*
							  FROM unnest(late) x,
								   LATERAL (SELECT o.*
											  FROM pgstock_internal.outbox o
											 WHERE o.xid = x
											   AND o.seq > after_late
											 ORDER BY o.seq LIMIT max_rows) l
							UNION ALL
							(SELECT o.*
							   FROM pgstock_internal.outbox o
							  WHERE o.seq > walk AND o.seq <= w.ceiling
								AND (o.xid >= w.next_xid) IS TRUE
								AND pg_visible_in_snapshot(o.xid, w.s2)
							  ORDER BY o.seq LIMIT max_rows)) m
					 ORDER BY m.seq LIMIT max_rows) r
			 WHERE pgstock_internal.page_has_room(r.payload, r.headers,
												  r.aggregateid, r.type,
												  max_bytes);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_page IS
	'returns the rows of a window above after_seq in order of seq, up to '
	'max_rows rows and until their payloads, headers, keys and types reach '
	'max_bytes bytes; no row: the window is finished';

/*
 * One call for both, because the round trip costs more than the work.  The
 * first row contains only the window; the rows of the page follow.
 */
CREATE FUNCTION pgstock_internal.relay_look("window" text, publish_after text,
	max_rows int, max_bytes int)
RETURNS TABLE (seq bigint, event_id uuid, topic text, key bytea,
	event_type text, payload bytea, headers bytea, traceparent text,
	created_at timestamptz, format "char", ends "char", next_window text)
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
