/* ---- Administrative actions ---------------------------------------------- */

CREATE TABLE pgstock_internal.admin_action
(
	at		timestamptz NOT NULL,
	actor	text NOT NULL,
	action	text NOT NULL,
	target	text NOT NULL,
	reason	text
);
ALTER TABLE pgstock_internal.admin_action REPLICA IDENTITY FULL;
CREATE INDEX admin_action_target
	ON pgstock_internal.admin_action (target COLLATE "C");
COMMENT ON TABLE pgstock_internal.admin_action IS
	'administrative actions: time, actor, action, target and reason';

SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.admin_action', '');

/* As call_find_actor() in extension/base/call.c does for the ledger. */
CREATE FUNCTION pgstock_internal.actor()
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat_ws('/', session_user,
				 nullif(current_setting('pgstock.actor', true), ''))
$$;
COMMENT ON FUNCTION pgstock_internal.actor IS
	'returns who acts: the current user, and pgstock.actor where it is set';

CREATE FUNCTION pgstock_internal.audit(action text, target text, reason text)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.admin_action
VALUES (clock_timestamp(), pgstock_internal.actor(), action, target, reason)
$$;
COMMENT ON FUNCTION pgstock_internal.audit IS
	'records an administrative action of the current user';

CREATE FUNCTION pgstock_internal.check_reason(reason text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(reason, '') = '' THEN
		RAISE EXCEPTION 'reason must not be empty'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'State a reason; stock_admin_actions records it.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_reason IS
	'raises 22023 if a required reason is NULL or empty';

/* As args_id() in extension/base/args.c does for functions in C. */
CREATE FUNCTION pgstock_internal.check_id(name text, id text)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(id, '') = '' THEN
		RAISE EXCEPTION '% must not be empty', name
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF octet_length(id) > 255 THEN
		RAISE EXCEPTION '% must not be longer than 255 bytes', name
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.check_id IS
	'raises 22023 if an id is NULL, empty or longer than 255 bytes';
