/* ---- Another publisher: docs/decisions/0024-another-publisher.md --------- */

/*
 * Where another program reads the outbox, pgstock does not know what it has
 * read.  So the parts are emptied by time, if the owner says so.  A row here
 * and a relay that leads exclude each other: both sides lock the epoch first.
 */
CREATE TABLE pgstock_internal.other_publisher
(
	one			boolean NOT NULL DEFAULT true,
	retention	interval NOT NULL,
	since		timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT other_publisher_pkey PRIMARY KEY (one),
	CONSTRAINT other_publisher_one CHECK (one)
);
COMMENT ON TABLE pgstock_internal.other_publisher IS
	'how long the outbox keeps events that another program publishes; no row: '
	'a relay publishes them';
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.other_publisher', '');

CREATE FUNCTION pgstock_internal.outbox_retention()
RETURNS interval
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT p.retention FROM pgstock_internal.other_publisher p
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_retention IS
	'returns how long the outbox keeps events that another program publishes; '
	'NULL: a relay publishes them';

CREATE FUNCTION pgstock_internal.raise_other_publisher()
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	retention	interval := pgstock_internal.outbox_retention();
BEGIN
	IF retention IS NOT NULL THEN
		RAISE EXCEPTION 'another program publishes the outbox'
			USING ERRCODE = 'SK023', DETAIL = format(
				'Its events are removed after %s, by set_outbox_retention().',
				retention),
				  HINT = 'To have a relay publish them, run SELECT '
						 'set_outbox_retention(NULL).';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.raise_other_publisher IS
	'raises SK023 if another program publishes the outbox';

/*
 * raise_epoch() waits for a relay that takes the lead, and that relay then for
 * this transaction; it also keeps a relay that has lost its session from
 * storing a position.  The level stream ends, because only a relay takes its
 * marks.
 */
CREATE FUNCTION pgstock_internal.empty_outbox_by_time(retention interval)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leader	text;
BEGIN
	IF retention NOT BETWEEN interval '1 minute' AND interval '10 years' THEN
		RAISE EXCEPTION 'retention must be between 1 minute and 10 years'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = format('It is %s.', retention),
				  HINT = 'Write it with a unit, such as ''7 days''.';
	END IF;
	PERFORM pgstock_internal.raise_epoch();
	leader := (pgstock_internal.leader()).name;
	IF leader IS NOT NULL THEN
		RAISE EXCEPTION 'a relay publishes the outbox'
			USING ERRCODE = 'object_in_use',
				  DETAIL = format('It is "%s".', leader),
				  HINT = 'Stop all relays of this database first. A relay '
						 'removes the events that it has published itself: '
						 'see [outbox] retention.';
	END IF;
	IF NOT current_setting('shared_preload_libraries') ~ E'\\mpgstock\\M' THEN
		RAISE EXCEPTION 'nothing would empty the outbox'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'Without a relay, the background worker empties the '
						   'outbox; it runs only if pgstock is preloaded.',
				  HINT = 'Add pgstock to shared_preload_libraries and restart '
						 'the server.';
	END IF;
	INSERT INTO pgstock_internal.other_publisher AS p (retention)
	VALUES ($1)
	ON CONFLICT (one) DO UPDATE SET retention = excluded.retention;
	PERFORM pgstock_internal.lock_level_stream(),
			pgstock_internal.end_level_stream();
END
$$;
COMMENT ON FUNCTION pgstock_internal.empty_outbox_by_time IS
	'enables the removal of events by age, for set_outbox_retention';

CREATE FUNCTION @extschema@.set_outbox_retention(retention interval,
	reason text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF retention IS NULL THEN
		DELETE FROM pgstock_internal.other_publisher;
	ELSE
		PERFORM pgstock_internal.empty_outbox_by_time(retention);
	END IF;
	PERFORM pgstock_internal.audit('set_outbox_retention',
		coalesce(retention::text, 'none'), reason);
END
$$;
COMMENT ON FUNCTION @extschema@.set_outbox_retention IS
	'for an outbox that another program publishes: removes events that are '
	'older, published or not (1 minute to 10 years); NULL: a relay publishes '
	'them; 55006 while a relay does, 55000 if pgstock is not preloaded';

/*
 * What keeps an event for its reader, once its part is emptied: the WAL that a
 * logical slot has not confirmed.
 */
CREATE FUNCTION pgstock_internal.other_publisher_guard()
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(string_agg(
		   format('slot "%s" is %s, %s behind, its WAL is %s', s.slot_name,
				  CASE WHEN s.active THEN 'in use' ELSE 'not in use' END,
				  pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(),
												 s.confirmed_flush_lsn)),
				  coalesce(s.wal_status, 'unknown')), '; '
		   ORDER BY s.slot_name),
	   'no logical replication slot keeps them')
  FROM pg_replication_slots s
 WHERE s."database" = current_database() AND s.slot_type = 'logical'
$$;
COMMENT ON FUNCTION pgstock_internal.other_publisher_guard IS
	'returns the logical replication slots of this database, as text';
