/* ---- Receipts: docs/decisions/0018-receipts.md --------------------------- */

/* The session that leads has the memory; extension/outbox/receipt_board.c. */
CREATE FUNCTION pgstock_internal.open_receipts()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_open_receipts' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.open_receipts IS
	'makes this session''s memory for sessions that wait for events, and '
	'returns its handle; NULL if there is no room';

/* The memory may be full, or the limit of open files reached. */
CREATE FUNCTION pgstock_internal.try_open_receipts()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	problem	text;
BEGIN
	RETURN pgstock_internal.open_receipts();
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
	RAISE WARNING 'sessions that wait for events are not woken: %', problem
		USING HINT = 'They poll instead. The next session that takes the lead '
					 'tries again.';
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.try_open_receipts IS
	'open_receipts, but NULL after an error: sessions that wait for events '
	'poll then';

CREATE FUNCTION pgstock_internal.receipt_waiters(OUT waiter int, OUT xid xid8,
	OUT seq bigint, OUT held boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_receipt_waiters' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.receipt_waiters IS
	'returns the sessions that wait for an event to be published by this one';

CREATE FUNCTION pgstock_internal.wake_waiter(waiter int)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_wake_waiter' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.wake_waiter IS
	'wakes a waiting session when this transaction commits; returns true';

/*
 * CASE, because only it fixes the order of evaluation: a session is woken only
 * if its event is done.
 */
CREATE FUNCTION pgstock_internal.answer_receipts(crossed_off bigint[])
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p	pgstock_internal.outbox_progress;
BEGIN
	PERFORM FROM pgstock_internal.receipt_waiters();
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	p := pgstock_internal.progress();
	RETURN (
		SELECT coalesce(bool_or(CASE
				   WHEN CASE WHEN w.held
							 THEN coalesce(w.seq = ANY (crossed_off), false)
							 ELSE NOT pgstock_internal.is_pending(w.xid, w.seq,
																  p) END
				   THEN NOT pgstock_internal.wake_waiter(w.waiter)
				   ELSE NOT w.held END), false)
		  FROM pgstock_internal.receipt_waiters() w);
END
$$;
COMMENT ON FUNCTION pgstock_internal.answer_receipts IS
	'wakes the sessions whose events the stored position passes, or that are '
	'crossed off; returns whether others wait for the position';

/*
 * An id may have several rows: copies of a replay have that of their original,
 * and a caller may publish an id twice.  Kafka has the event if it has one of
 * them.
 */
CREATE FUNCTION pgstock_internal.event_rows(event_id uuid)
RETURNS TABLE (topic text, state text, seq bigint, xid xid8,
	created_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	p	pgstock_internal.outbox_progress := pgstock_internal.progress();
BEGIN
	RETURN QUERY
		SELECT h.aggregatetype, 'held', h.seq, h.xid, h.created_at
		  FROM pgstock_internal.held_event h WHERE h.id = $1
		 UNION ALL
		SELECT o.aggregatetype,
			   CASE WHEN pgstock_internal.is_pending(o.xid, o.seq, p)
					THEN 'pending'
					WHEN pgstock_internal.is_discarded(o.id) THEN 'unknown'
					ELSE 'published' END,
			   o.seq, o.xid, o.created_at
		  FROM pgstock_internal.outbox o
		 WHERE o.id = $1
		   AND NOT EXISTS (SELECT FROM pgstock_internal.held_event h
							WHERE h.seq = o.seq);
END
$$;
COMMENT ON FUNCTION pgstock_internal.event_rows IS
	'returns the rows of an event in the outbox and their states';

CREATE FUNCTION pgstock_internal.event_row(event_id uuid)
RETURNS TABLE (topic text, state text, seq bigint, xid xid8,
	created_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.topic, r.state, r.seq, r.xid, r.created_at
  FROM pgstock_internal.event_rows($1) r
 ORDER BY array_position('{published,held,pending}', r.state), r.seq LIMIT 1
$$;
COMMENT ON FUNCTION pgstock_internal.event_row IS
	'returns the row of an event that is furthest, and its state';

/* What wait_for_event looks at. */
CREATE FUNCTION pgstock_internal.receipt(event_id uuid, OUT state text,
	OUT xid xid8, OUT seq bigint, OUT receipts bigint)
RETURNS record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(r.state, 'unknown'), r.xid, r.seq, e.receipts
  FROM (VALUES (1)) one
  LEFT JOIN pgstock_internal.event_row($1) r ON true
  LEFT JOIN pgstock_internal.relay_epoch e ON true
$$;
COMMENT ON FUNCTION pgstock_internal.receipt IS
	'returns the state of an event, and the memory of the relay''s session';

/*
 * The latest positions are kept, a thousand at least, and those of the last
 * minutes.  The first one that passes the row is found by halving.
 */
CREATE FUNCTION pgstock_internal.published_at(xid xid8, seq bigint)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	low		bigint;
	high	bigint;
	middle	pgstock_internal.position_even;
	at		timestamptz;
BEGIN
	SELECT min(p.n), max(p.n) INTO low, high
	  FROM (SELECT min(n) AS n FROM pgstock_internal.position_even
			UNION ALL SELECT max(n) FROM pgstock_internal.position_even
			UNION ALL SELECT min(n) FROM pgstock_internal.position_odd
			UNION ALL SELECT max(n) FROM pgstock_internal.position_odd) p;
	WHILE low <= high LOOP
		SELECT p.* INTO middle
		  FROM ((SELECT * FROM pgstock_internal.position_even
				  WHERE n <= (low + high) / 2 ORDER BY n DESC LIMIT 1)
				UNION ALL
				(SELECT * FROM pgstock_internal.position_odd
				  WHERE n <= (low + high) / 2 ORDER BY n DESC LIMIT 1)) p
		 ORDER BY p.n DESC LIMIT 1;
		IF middle.n < low OR pgstock_internal.is_pending($1, $2,
			pgstock_internal.progress_of(middle."window", middle.seq,
										 middle.finished)) THEN
			low := (low + high) / 2 + 1;
		ELSE
			at := middle.stored_at;
			high := middle.n - 1;
		END IF;
	END LOOP;
	RETURN at;
END
$$;
COMMENT ON FUNCTION pgstock_internal.published_at IS
	'returns when the first of the kept positions that passes a row was '
	'stored';

CREATE TYPE @extschema@.event_receipt AS
(
	event_id		uuid,
	topic			text,
	state			text,
	seq				bigint,
	created_at		timestamptz,
	published_at	timestamptz
);
COMMENT ON TYPE @extschema@.event_receipt IS
	'whether Kafka has an event: state is pending, published, held or unknown';

/*
 * A lock on the parts of the outbox or on the positions would keep them from
 * being truncated until the caller's transaction ends.  The subtransaction's
 * rollback releases it; variables stay.
 */
CREATE FUNCTION @extschema@.event_status(event_id uuid)
RETURNS @extschema@.event_receipt
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	receipt	record;
	read	boolean := false;
BEGIN
	SELECT $1, r.topic, coalesce(r.state, 'unknown'), r.seq, r.created_at,
		   CASE WHEN r.state = 'published'
				THEN pgstock_internal.published_at(r.xid, r.seq) END
	  INTO receipt
	  FROM (VALUES (1)) one
	  LEFT JOIN pgstock_internal.event_row($1) r ON true;
	read := true;
	RAISE EXCEPTION 'release the locks';
EXCEPTION WHEN raise_exception THEN
	IF NOT read THEN
		RAISE;
	END IF;
	RETURN receipt;
END
$$;
COMMENT ON FUNCTION @extschema@.event_status IS
	'returns whether Kafka has an event: pending, published, held (the broker '
	'refuses its topic) or unknown (not in the outbox, past its retention, or '
	'discarded)';

CREATE FUNCTION @extschema@.wait_for_event(event_id uuid,
	timeout interval DEFAULT '5s')
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_wait_for_event'
LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.wait_for_event IS
	'waits until Kafka has an event: returns true then, and false when the '
	'timeout, at most 1 minute, has passed; 25001 if this transaction wrote '
	'the event, 55000 on a standby';
