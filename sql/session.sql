/* ---- Sessions of the relay: docs/relay-protocol.md ----------------------- */

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

CREATE FUNCTION pgstock_internal.relay_topics()
RETURNS TABLE (topic text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT f.topic FROM pgstock_internal.event_formats() f
 WHERE f.topic IS NOT NULL
 UNION SELECT e.topic FROM pgstock_internal.event_topic e
		WHERE e.topic IS NOT NULL AND e.event_type <> '*'
$$;
COMMENT ON FUNCTION pgstock_internal.relay_topics IS
	'returns the topics that stock events go to; a default topic only if '
	'events go to it';
