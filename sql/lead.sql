/* ---- The lead of the outbox: docs/relay-protocol.md ---------------------- */

CREATE FUNCTION pgstock_internal.try_lead()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lead' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.try_lead IS
	'acquires the session-level advisory lock of the outbox''s lead if it is '
	'free; returns whether it did';

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

/* Its session has the lock of try_lead (extension/outbox/window.c). */
CREATE FUNCTION pgstock_internal.leader(OUT pid int, OUT name text,
	OUT since timestamptz)
RETURNS record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT l.pid, coalesce(nullif(a.application_name, ''), 'process ' || l.pid),
	   a.backend_start
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.objsubid = x'7064'::int AND l.granted
   AND l."database" = (SELECT d.oid FROM pg_database d
						WHERE d.datname = current_database())
$$;
COMMENT ON FUNCTION pgstock_internal.leader IS
	'returns the session that leads the outbox; NULL if none does';

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
SELECT pg_terminate_backend(l.pid)
  FROM pgstock_internal.leader() l JOIN pg_stat_activity a USING (pid)
 WHERE a.client_addr IS NULL AND a.wait_event = 'ClientWrite'
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
	PERFORM pgstock_internal.raise_other_publisher();
	IF NOT pgstock_internal.try_lead() THEN
		PERFORM pgstock_internal.end_frozen_leader();
		RETURN NULL;
	END IF;
	new_epoch := pgstock_internal.raise_epoch();
	/* Again: the epoch may have waited for it. */
	PERFORM pgstock_internal.raise_other_publisher();
	UPDATE pgstock_internal.relay_epoch
	   SET receipts = pgstock_internal.try_open_receipts();
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
	'by a subscription, SK023 if another program publishes the outbox';

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
