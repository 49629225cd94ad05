/* ---- Alerts: docs/relay-protocol.md -------------------------------------- */

/*
 * A row is inserted by the transaction that dead-letters a message, and
 * deleted once the alert was sent.  The row without failed_id is the backlog
 * alert: it exists while the backlog is over its limit, and next_try_at is
 * NULL once it was sent.
 */
CREATE SEQUENCE pgstock_internal.alert_id;
CREATE TABLE pgstock_internal.alert
(
	id			bigint NOT NULL DEFAULT nextval('pgstock_internal.alert_id'),
	failed_id	bigint,
	made_at		timestamptz NOT NULL,
	attempts	int NOT NULL,
	next_try_at	timestamptz,
	CONSTRAINT alert_pkey PRIMARY KEY (id)
);
CREATE INDEX alert_due ON pgstock_internal.alert (next_try_at, id);
CREATE UNIQUE INDEX alert_backlog ON pgstock_internal.alert ((true))
	WHERE failed_id IS NULL;
ALTER SEQUENCE pgstock_internal.alert_id OWNED BY pgstock_internal.alert.id;
COMMENT ON TABLE pgstock_internal.alert IS
	'alerts that the relay''s webhook has not sent yet';

SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert_id', '');

/*
 * Chat programs get the text with their control characters replaced
 * (relay/alerts/format.c).
 */
CREATE FUNCTION pgstock_internal.alert_line(f pgstock_internal.failed_event)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat_ws(', ', 'order ' || (f).order_id, 'topic ' || (f).topic,
				 'failed event ' || (f).id) || ': ' || (f).error
$$;
COMMENT ON FUNCTION pgstock_internal.alert_line IS
	'returns the text of an alert for a dead-lettered message, in one line';

/*
 * The backlog alert is sent when the backlog exceeds its limit, and only once
 * until it is within the limit again.  The first count, made every few
 * seconds, ends at the limit; the exact number is counted only for an alert to
 * send.
 */
CREATE FUNCTION pgstock_internal.relay_alerts(backlog bigint, max_rows int)
RETURNS TABLE (id bigint, alert jsonb, line text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	open	bigint;
BEGIN
	SELECT count(*) INTO open
	  FROM (SELECT FROM pgstock_internal.failed_event f
			 WHERE f.archived_at IS NOT NULL AND NOT f.handled
			   AND f.state <> 'discarded' LIMIT backlog + 1) o;
	IF open <= backlog THEN
		DELETE FROM pgstock_internal.alert a WHERE a.failed_id IS NULL;
	ELSIF NOT EXISTS (SELECT FROM pgstock_internal.alert a
					   WHERE a.failed_id IS NULL) THEN
		INSERT INTO pgstock_internal.alert (made_at, attempts, next_try_at)
		VALUES (clock_timestamp(), 0, clock_timestamp())
		ON CONFLICT DO NOTHING;
	END IF;
	RETURN QUERY
		SELECT a.id, jsonb_build_object('id', a.id, 'kind', 'archived',
				'at', pgstock_internal.utc_text(a.made_at),
				'failed_id', a.failed_id, 'order_id', f.order_id,
				'topic', f.topic, 'partition', f.partition,
				'offset', f."offset", 'event_id', f.event_id,
				'trace_id', f.trace_id, 'state', f.state, 'class', f.class,
				'sqlstate', f.sqlstate, 'reason', f.error,
				'attempts', f.attempts),
			   coalesce(pgstock_internal.alert_line(f),
						'failed event ' || a.failed_id)
		  FROM (SELECT * FROM pgstock_internal.alert w
				 WHERE w.next_try_at <= clock_timestamp()
				 ORDER BY w.next_try_at, w.id LIMIT max_rows) a
		  LEFT JOIN pgstock_internal.failed_event f ON f.id = a.failed_id
		 WHERE a.failed_id IS NOT NULL
		UNION ALL
		SELECT a.id, jsonb_build_object('id', a.id, 'kind', 'backlog',
				'at', pgstock_internal.utc_text(a.made_at),
				'archive_open', n.open, 'backlog', backlog),
			   format('%s dead-lettered messages are not handled, more than %s',
					  n.open, backlog)
		  FROM pgstock_internal.alert a,
			   (SELECT count(*) AS open FROM pgstock_internal.failed_event f
				 WHERE f.archived_at IS NOT NULL AND NOT f.handled
				   AND f.state <> 'discarded') n
		 WHERE a.failed_id IS NULL AND a.next_try_at <= clock_timestamp()
		 ORDER BY 1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_alerts IS
	'creates or deletes the backlog alert as needed, and returns the alerts '
	'that are due, at most max_rows and the backlog alert';

/* Delays from 5 s, doubled each time, to at most 10 minutes. */
CREATE FUNCTION pgstock_internal.relay_alerted(ids bigint[], sent boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF sent THEN
		DELETE FROM pgstock_internal.alert a
		 WHERE a.id = ANY (ids) AND a.failed_id IS NOT NULL;
		UPDATE pgstock_internal.alert a SET next_try_at = NULL
		 WHERE a.id = ANY (ids);
	ELSE
		UPDATE pgstock_internal.alert a
		   SET attempts = a.attempts + 1,
			   next_try_at = clock_timestamp()
				+ least(interval '10 minutes',
						interval '5 seconds' * 2 ^ least(a.attempts, 10))
		 WHERE a.id = ANY (ids);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_alerted IS
	'records that alerts were sent, or schedules another try';
