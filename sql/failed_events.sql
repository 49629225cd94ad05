/* ---- Failed messages ----------------------------------------------------- */

CREATE FUNCTION pgstock_internal.retry_failed(id bigint, order_id text,
	reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ($1 IS NULL) = ($2 IS NULL) THEN
		RAISE EXCEPTION 'exactly one of id and order_id must be specified'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF $2 IS NOT NULL THEN
		PERFORM pgstock_internal.check_id('order_id', $2);
	END IF;
	UPDATE pgstock_internal.failed_event f
	   SET state = 'waiting', next_retry_at = clock_timestamp()
	 WHERE (f.id = $1 OR f.order_id = $2)
	   AND f.state IN ('waiting', 'archived');
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no failed event to retry'
			USING ERRCODE = 'no_data_found',
				  HINT = 'Failed events in state waiting or archived can be '
						 'retried: see stock_failed_events.';
	END IF;
	PERFORM pgstock_internal.audit('retry_failed_event',
		coalesce('id ' || $1, 'order ' || $2), $3);
END
$$;
COMMENT ON FUNCTION pgstock_internal.retry_failed IS
	'schedules failed messages for another try at once, and records the '
	'reason';

CREATE FUNCTION @extschema@.retry_failed_event(id bigint DEFAULT NULL,
	order_id text DEFAULT NULL, reason text DEFAULT NULL)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.retry_failed($1, $2, $3)
$$;
COMMENT ON FUNCTION @extschema@.retry_failed_event IS
	'schedules another try at once for one failed message or for all of an '
	'order (exactly one of id and order_id is required), and records the '
	'reason; P0002 if there is none';

CREATE FUNCTION pgstock_internal.discard_failed(id bigint, reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	event	pgstock_internal.failed_event;
BEGIN
	PERFORM pgstock_internal.check_reason($2);
	/* No message must start waiting behind it in the meantime. */
	LOCK TABLE pgstock_internal.failed_event IN SHARE ROW EXCLUSIVE MODE;
	UPDATE pgstock_internal.failed_event f
	   SET state = 'discarded', next_retry_at = NULL
	 WHERE f.id = $1 AND f.state IN ('waiting', 'archived')
	RETURNING f.* INTO event;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no failed event % to discard', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'Failed events in state waiting or archived can be '
						 'discarded: see stock_failed_events.';
	END IF;
	UPDATE pgstock_internal.inbox i SET result = 'dead', reason = $2
	 WHERE i.dedup_id = event.event_id AND i.source = event.source
	   AND i.result = 'waiting';
	UPDATE pgstock_internal.failed_event f SET next_retry_at = clock_timestamp()
	 WHERE f.id = (SELECT min(w.id) FROM pgstock_internal.failed_event w
					WHERE w.state = 'waiting' AND w.topic = event.topic
					  AND w.key = event.key AND w.key <> '');
	PERFORM pgstock_internal.audit('discard_failed_event', 'id ' || $1, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.discard_failed IS
	'discards a failed message, for discard_failed_event';

CREATE FUNCTION @extschema@.discard_failed_event(id bigint, reason text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.discard_failed($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.discard_failed_event IS
	'discards a failed message; messages waiting behind it are processed; the '
	'reason is required; P0002 if there is none';

CREATE FUNCTION pgstock_internal.mark_failed_handled(id bigint, note text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgstock_internal.failed_event f
	   SET handled = true, handled_at = clock_timestamp(),
		   handled_by = pgstock_internal.actor()
	 WHERE f.id = $1 AND f.archived_at IS NOT NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no archived event %', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'See failed_order_archives for archived events.';
	END IF;
	PERFORM pgstock_internal.audit('mark_failed_event_handled', 'id ' || $1,
								   $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.mark_failed_handled IS
	'marks an archived message as handled, for mark_failed_event_handled';

CREATE FUNCTION @extschema@.mark_failed_event_handled(id bigint, note text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.mark_failed_handled($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.mark_failed_event_handled IS
	'marks an archived message as handled, by the current user and '
	'pgstock.actor; P0002 if there is none';
