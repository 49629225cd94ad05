/* ---- What pgstock-relay check looks at ----------------------------------- */

CREATE FUNCTION pgstock_internal.has_builtin_handler(topic text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_has_builtin_handler' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_internal.has_builtin_handler IS
	'returns whether a built-in handler applies the messages of a topic';

CREATE FUNCTION pgstock_internal.disk_unused(part text)
RETURNS float8
AS 'MODULE_PATHNAME', 'pgstock_disk_unused' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.disk_unused IS
	'returns the unused share of the file system that has a folder of the '
	'data directory; NULL if it is not known';

/*
 * The relay's session has values of its own for what it rests on, so the values
 * of other sessions are read where they are declared.  The first
 * row of a name is in force.
 */
CREATE FUNCTION pgstock_internal.declared_settings(caller name)
RETURNS TABLE (name text, value text, origin text, for_caller boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
		SELECT split_part(c.entry, '=', 1),
			   substr(c.entry, strpos(c.entry, '=') + 1),
			   CASE WHEN s.setrole = 0
					THEN format('ALTER DATABASE %I', current_database())
					WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I', caller)
					ELSE format('ALTER ROLE %I IN DATABASE %I', caller,
								current_database()) END,
			   s.setrole <> 0
		  FROM pg_db_role_setting s
		 CROSS JOIN unnest(s.setconfig) AS c (entry)
		 WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d
									  WHERE d.datname = current_database()))
		   AND s.setrole IN (0, (SELECT r.oid FROM pg_roles r
								  WHERE r.rolname = caller))
		 ORDER BY s.setrole = 0, s.setdatabase = 0;
	/* superusers only, and so the owner of an extension in C, as a rule */
	RETURN QUERY
		SELECT f.name, f.setting, format('%s, line %s', f.sourcefile,
										 f.sourceline), false
		  FROM pg_file_settings f
		 WHERE f.applied;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN;
END
$$;
COMMENT ON FUNCTION pgstock_internal.declared_settings IS
	'returns the settings of new sessions in this database, as far as they '
	'are declared for the database, the role caller or the server';

CREATE FUNCTION pgstock_internal.application_setting(setting text, bad text[])
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%s = %s (%s)', d.name, d.value, d.origin)
  FROM (SELECT * FROM pgstock_internal.declared_settings(NULL)
		 WHERE name = setting LIMIT 1) d
 WHERE lower(d.value) = ANY (bad)
$$;
COMMENT ON FUNCTION pgstock_internal.application_setting IS
	'returns the value that a setting has in sessions of applications, and '
	'where it is declared, if it is one of bad';

CREATE FUNCTION pgstock_internal.connection_checks(caller name)
RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.name, s.value
  FROM (SELECT count(*), count(DISTINCT a.client_addr)
		  FROM pg_stat_activity a
		 WHERE a.application_name = current_setting('application_name')
		   AND a.datname = current_database() AND a.pid <> pg_backend_pid()
		   AND a.backend_type = 'client backend') r (sessions, hosts)
 CROSS JOIN LATERAL (VALUES ('own_sessions', r.sessions::text),
							('own_hosts', r.hosts::text)) s (name, value)
UNION ALL
SELECT 'connections_free',
	   (current_setting('max_connections')::int
		- current_setting('superuser_reserved_connections')::int
		/* PostgreSQL 16 */
		- coalesce(current_setting('reserved_connections', true)::int, 0)
		- count(*))::text
  FROM pg_stat_activity a
 WHERE a.backend_type = 'client backend'
UNION ALL
SELECT 'connection_limit',
	   least(nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1))::text
  FROM pg_roles r, pg_database d
 WHERE r.rolname = caller AND NOT r.rolsuper
   AND d.datname = current_database()
$$;
COMMENT ON FUNCTION pgstock_internal.connection_checks IS
	'returns the rows of relay_check about sessions and their limits';

CREATE FUNCTION pgstock_internal.declaration_checks(caller name)
RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'synchronous_commit', pgstock_internal.application_setting(
	   'synchronous_commit', '{off,false,no,0}')
UNION ALL
SELECT 'read_only', pgstock_internal.application_setting(
	   'default_transaction_read_only', '{on,true,yes,1}')
UNION ALL
SELECT 'overridden', string_agg(format('%s = %s (%s)', s.name, s.value,
									   s.origin), ', ')
  FROM pgstock_internal.declared_settings(caller) s
 WHERE s.for_caller AND s.name IN (
	   'statement_timeout', 'lock_timeout', 'transaction_timeout',
	   'idle_in_transaction_session_timeout', 'idle_session_timeout',
	   'default_transaction_read_only', 'default_transaction_isolation',
	   'search_path', 'role')
$$;
COMMENT ON FUNCTION pgstock_internal.declaration_checks IS
	'returns the rows of relay_check about settings that are declared for '
	'roles and databases';

CREATE FUNCTION pgstock_internal.topic_checks(topics text[])
RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'no_handler', string_agg(t.topic, ', ')
  FROM unnest(topics) AS t (topic)
 WHERE NOT pgstock_internal.has_builtin_handler(t.topic)
   AND NOT EXISTS (SELECT FROM pgstock_internal.user_handler h
					WHERE h.topic = t.topic)
UNION ALL
SELECT 'bindings', string_agg(b.topic || coalesce(' ' || b.event_type, '')
							  || ' to ' || b.handler, ', '
							  ORDER BY b.topic, b.event_type NULLS FIRST)
  FROM pgstock_internal.binding b
 WHERE b.topic = ANY (topics)
UNION ALL
SELECT 'unconsumed', string_agg(DISTINCT h.topic, ', ')
  FROM pgstock_internal.user_handler h
 WHERE h.topic <> ALL (topics)
$$;
COMMENT ON FUNCTION pgstock_internal.topic_checks IS
	'returns the rows of relay_check about consumed topics and their handlers';

CREATE FUNCTION pgstock_internal.standby_checks()
RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'no_standby', 'yes'
 WHERE current_setting('synchronous_standby_names') = ''
UNION ALL
SELECT 'standby_away', current_setting('synchronous_standby_names')
 WHERE current_setting('synchronous_standby_names') <> ''
   AND NOT EXISTS (SELECT FROM pg_stat_replication r
					WHERE r.sync_state IN ('sync', 'quorum'))
UNION ALL
/* Later versions name each session, such as "Patroni heartbeat". */
SELECT 'old_patroni', 'yes'
 WHERE EXISTS (SELECT FROM pg_stat_activity a
				WHERE a.application_name = 'Patroni'
				  AND a.backend_type = 'client backend')
$$;
COMMENT ON FUNCTION pgstock_internal.standby_checks IS
	'returns the rows of relay_check about the server''s standbys';

/*
 * Names and values instead of columns, so that a new name breaks no relay.  A
 * value is NULL if there is nothing to report.
 */
CREATE FUNCTION pgstock_internal.relay_check(topics text[], caller name)
RETURNS TABLE (name text, value text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'rights_missing', string_agg(l.name, ', ' ORDER BY l.name)
  FROM pgstock_internal.access_list() l
  JOIN pg_proc p ON p.proname = l.name
				AND p.pronamespace = 'pgstock_internal'::regnamespace
 WHERE l.level = 'relay' AND l.kind = 'function'
   AND NOT has_function_privilege(caller, p.oid, 'EXECUTE')
UNION ALL
SELECT 'publications',
	   string_agg(format('%s (%s tables)', p.pubname, p.n), ', ')
  FROM (SELECT t.pubname, count(*) AS n FROM pg_publication_tables t
		 WHERE t.schemaname = 'pgstock_internal'
		   AND t.tablename !~ '^outbox(_[0-9]+)?$'
		 GROUP BY t.pubname) p
UNION ALL
SELECT 'keeper_is_missing', 'yes'
 WHERE current_setting('shared_preload_libraries') ~ E'\\mpgstock\\M'
   AND NOT EXISTS (SELECT FROM pg_stat_activity a
					WHERE a.backend_type = 'pgstock keeper')
UNION ALL
SELECT * FROM pgstock_internal.connection_checks(caller)
UNION ALL
SELECT * FROM pgstock_internal.declaration_checks(caller)
UNION ALL
SELECT * FROM pgstock_internal.topic_checks(topics)
UNION ALL
SELECT 'disk', string_agg(format('%s: %s %% unused', d.part,
								 round(100 * d.unused)), ', ')
  FROM (SELECT p.part, pgstock_internal.disk_unused(p.part) AS unused
		  FROM (VALUES ('base'), ('pg_wal')) p (part)) d
 WHERE d.unused < 0.05
UNION ALL
SELECT 'other_publisher', format('its events are removed after %s; %s',
								 pgstock_internal.outbox_retention(),
								 pgstock_internal.other_publisher_guard())
 WHERE pgstock_internal.outbox_retention() IS NOT NULL
UNION ALL
SELECT * FROM pgstock_internal.standby_checks()
$$;
COMMENT ON FUNCTION pgstock_internal.relay_check IS
	'returns what pgstock-relay check cannot see with the rights of its own '
	'role';
