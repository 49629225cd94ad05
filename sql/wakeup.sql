/* ---- Wake-up of a sleeping relay: docs/relay-protocol.md ----------------- */

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
