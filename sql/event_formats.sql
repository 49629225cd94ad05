/* ---- Names of events and of their members -------------------------------- */

/* extension/protocol/topic.h has the same topics: dev/schemas compares. */
CREATE FUNCTION pgstock_internal.event_types()
RETURNS TABLE (event_type text, topic text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES ('StockReserved', 'stock-events'),
	   ('StockReserveFailed', 'stock-freeze-failed'),
	   ('StockConfirmed', 'stock-events'), ('StockReleased', 'stock-events'),
	   ('StockExpired', 'stock-events'), ('StockRolledBack', 'stock-events'),
	   ('StockReturned', 'stock-events'), ('StockShortfall', 'stock-events'),
	   ('StockLevelChanged', 'stock-events'),
	   ('FlashSalePurchased', 'stock-events')
$$;
COMMENT ON FUNCTION pgstock_internal.event_types IS
	'returns the types of stock events and their default topics';

/*
 * dev/event_schemas.py has the same: each name has a schema in docs/schemas,
 * and each topic is a channel of the profile's AsyncAPI document.
 */
CREATE FUNCTION pgstock_internal.event_profiles()
RETURNS TABLE (profile text, event_type text, topic text, name text,
			   members text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'inventory', t.event_type,
	   regexp_replace(t.topic, '^stock', 'inventory'),
	   regexp_replace(t.event_type, '^Stock', 'Inventory'), 'camelCase'
  FROM pgstock_internal.event_types() t
$$;
COMMENT ON FUNCTION pgstock_internal.event_profiles IS
	'returns the settings of each profile of set_event_profile';

/* Each session keeps these rows: see extension/orders/event_format.c. */
CREATE FUNCTION pgstock_internal.event_settings_changed()
RETURNS trigger
AS 'MODULE_PATHNAME', 'pgstock_event_settings_changed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.event_settings_changed IS
	'makes all sessions read the settings of events again';
CREATE TRIGGER event_topic_changed
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON pgstock_internal.event_topic
	EXECUTE FUNCTION pgstock_internal.event_settings_changed();
CREATE TRIGGER event_format_changed
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON pgstock_internal.event_format
	EXECUTE FUNCTION pgstock_internal.event_settings_changed();

/* The name is written into JSON and into headers as it is. */
CREATE FUNCTION @extschema@.set_event_format(event_type text,
	name text DEFAULT NULL, members text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF $1 IS NULL OR $1 <> '*' AND NOT EXISTS (
		SELECT FROM pgstock_internal.event_types() t
		 WHERE t.event_type = $1) THEN
		RAISE EXCEPTION 'unrecognized event type "%"', $1
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Stock events are of the types ' || (
						 SELECT string_agg(t.event_type, ', ')
						   FROM pgstock_internal.event_types() t)
						 || '; "*" stands for all.';
	END IF;
	IF $1 = '*' AND $2 IS NOT NULL THEN
		RAISE EXCEPTION 'all event types cannot have one name'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Call set_event_format once for each event type.';
	END IF;
	IF $2 !~ '^[A-Za-z0-9._-]{1,100}$' THEN
		RAISE EXCEPTION 'name of an event type must consist of 1 to 100 '
						'letters, digits, ".", "_" and "-"'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF $2 = 'Forgotten' THEN
		RAISE EXCEPTION 'event type "%" cannot have the name "%"', $1, $2
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'It is the name of the tombstones that forget_user '
						   'writes.',
				  HINT = 'Choose another name.';
	END IF;
	IF $3 NOT IN ('snake_case', 'camelCase') THEN
		RAISE EXCEPTION 'unrecognized form of member names "%"', $3
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Members are named in snake_case or in camelCase.';
	END IF;
	DELETE FROM pgstock_internal.event_format f WHERE f.event_type = $1;
	IF $2 IS NOT NULL OR $3 IS NOT NULL THEN
		INSERT INTO pgstock_internal.event_format AS f VALUES ($1, $2, $3)
		ON CONFLICT ON CONSTRAINT event_format_pkey DO UPDATE
		   SET name = excluded.name, members = excluded.members;
	END IF;
	PERFORM pgstock_internal.audit('set_event_format', 'type ' || $1,
		concat_ws(', ', 'name ' || $2, 'members ' || $3));
END
$$;
COMMENT ON FUNCTION @extschema@.set_event_format IS
	'sets the name under which an event type is published, and whether its '
	'members, or with ''*'' those of all types, are named in snake_case or '
	'camelCase; NULL: as by default; 22023 for another type, name or form';

/*
 * For set_event_profile, which has its owner's rights: a function in the schema
 * of the extension could be replaced.
 */
CREATE FUNCTION pgstock_internal.set_topic(event_type text, topic text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_set_topic' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.set_topic IS
	'does what set_event_topic does, with the rights of its caller, and '
	'records nothing';

/*
 * Types that set_event_topic() has suppressed (NULL) stay suppressed: a profile
 * names events, and does not decide which of them are published.
 */
CREATE FUNCTION @extschema@.set_event_profile(profile text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	written text[] := ARRAY(SELECT f.event_type
							  FROM pgstock_internal.event_formats() f
							 WHERE f.topic IS NOT NULL);
	before	text[] := ARRAY(SELECT f.event_type || ' to ' || f.topic
							  FROM pgstock_internal.event_formats() f);
	changed	text;
BEGIN
	IF profile IS NULL OR profile <> 'default' AND NOT EXISTS (
		SELECT FROM pgstock_internal.event_profiles() p
		 WHERE p.profile = $1) THEN
		RAISE EXCEPTION 'unrecognized profile "%"', profile
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'The profiles are default and ' || (
						 SELECT string_agg(DISTINCT p.profile, ', ')
						   FROM pgstock_internal.event_profiles() p) || '.';
	END IF;
	DELETE FROM pgstock_internal.event_format;
	INSERT INTO pgstock_internal.event_format AS f
	SELECT p.event_type, p.name, p.members
	  FROM pgstock_internal.event_profiles() p WHERE p.profile = $1
	ON CONFLICT ON CONSTRAINT event_format_pkey DO UPDATE
	   SET name = excluded.name, members = excluded.members;
	DELETE FROM pgstock_internal.event_topic e
	 WHERE e.topic IS NOT NULL
	   AND (e.event_type = '*' OR e.event_type = ANY (written));
	PERFORM pgstock_internal.set_topic(f.event_type, n.topic)
	  FROM pgstock_internal.event_formats() f
	  JOIN (SELECT t.event_type, coalesce(p.topic, t.topic) AS topic
			  FROM pgstock_internal.event_types() t
			  LEFT JOIN pgstock_internal.event_profiles() p
				ON p.event_type = t.event_type AND p.profile = $1) n
		ON n.event_type = f.event_type
	 WHERE f.event_type = ANY (written) AND f.topic IS DISTINCT FROM n.topic;
	SELECT string_agg(format('%s to %s', c.event_types, c.topic), '; '
					  ORDER BY c.topic) INTO changed
	  FROM (SELECT f.topic, string_agg(f.event_type, ', '
									   ORDER BY f.event_type) AS event_types
			  FROM pgstock_internal.event_formats() f
			 WHERE f.event_type || ' to ' || f.topic <> ALL (before)
			 GROUP BY f.topic) c;
	PERFORM pgstock_internal.audit('set_event_profile', 'profile ' || $1,
								   changed);
END
$$;
COMMENT ON FUNCTION @extschema@.set_event_profile IS
	'sets the topics, names and members of all event types, except '
	'suppressed ones, to those of a profile: default or inventory; 22023 for '
	'another profile, or if a built-in handler reads one of the topics';

CREATE FUNCTION pgstock_internal.event_formats()
RETURNS TABLE (event_type text, topic text, name text, members text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.event_type,
	   CASE WHEN own.event_type IS NOT NULL THEN own.topic
			WHEN every.event_type IS NOT NULL THEN every.topic
			ELSE t.topic END,
	   coalesce(f.name, t.event_type),
	   coalesce(f.members, a.members, 'snake_case')
  FROM pgstock_internal.event_types() t
  LEFT JOIN pgstock_internal.event_topic own ON own.event_type = t.event_type
  LEFT JOIN pgstock_internal.event_topic every ON every.event_type = '*'
  LEFT JOIN pgstock_internal.event_format f ON f.event_type = t.event_type
  LEFT JOIN pgstock_internal.event_format a ON a.event_type = '*'
$$;
COMMENT ON FUNCTION pgstock_internal.event_formats IS
	'returns how each type of stock event is published';

CREATE VIEW @extschema@.stock_event_formats AS
SELECT f.event_type, f.topic, f.name, f.members
  FROM pgstock_internal.event_formats() f;
COMMENT ON VIEW @extschema@.stock_event_formats IS
	'how each type of stock event is published: topic (NULL: not written), '
	'name of the type, names of members';
