/* ---- Users to forget ----------------------------------------------------- */

/* The same function as in pgstock, which a coordinator need not have. */
CREATE FUNCTION pgstock_front.forget_text(value text, user_id text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN user_id = '' OR position(user_id in value) = 0 THEN value
	WHEN value = user_id THEN 'forgotten'
	WHEN length(user_id) < 3
		OR (user_id ~ '^[0-9]+$' AND length(user_id) < 6) THEN value
	ELSE regexp_replace(value,
			'(^|[^[:alnum:]_-])' || regexp_replace(user_id, '[^[:alnum:]]',
												   '\\\&', 'g')
			|| '(?![[:alnum:]_-])', '\1forgotten', 'g') END;
COMMENT ON FUNCTION pgstock_front.forget_text IS
	'returns a text without a user''s id';

/*
 * An actor is what pgstock.actor was in the session that called the front; for
 * a superuser, who has no role in the arguments, its name and a slash precede
 * (pgstock_front.actor).
 */
CREATE FUNCTION pgstock_front.forget_args(args jsonb, user_id text)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
	actor	text := args ->> 'actor';
	super	text := CASE WHEN args ? 'role' THEN ''
						 ELSE substring(actor, '^[^/]*/?') END;
	key		text := args ->> 'idempotency_key';
BEGIN
	IF args ->> 'user_id' = user_id THEN
		args := args - 'user_id';
	END IF;
	IF pgstock_front.forget_text(key, user_id) <> key THEN
		args := args - 'idempotency_key';
	END IF;
	IF args ? 'reason' THEN
		args := args || jsonb_build_object('reason',
			pgstock_front.forget_text(args ->> 'reason', user_id));
	END IF;
	IF args ? 'actor' THEN
		args := args || jsonb_build_object('actor', super ||
			pgstock_front.forget_text(substr(actor, length(super) + 1),
									  user_id));
	END IF;
	RETURN args;
END
$$;
COMMENT ON FUNCTION pgstock_front.forget_args IS
	'returns the arguments of a step without a user''s id';

/* The parts of a step that has ended are not read any more. */
CREATE FUNCTION pgstock_front.forget_saga(s pgstock_front.saga, user_id text)
RETURNS pgstock_front.saga
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	s.args := pgstock_front.forget_args(s.args, user_id);
	IF s.request ->> 'user_id' = user_id THEN
		s.request := s.request || '{"user_id": null}';
	END IF;
	/* members of the lines that pgstock does not know */
	IF pgstock_front.forget_text(s.request ->> 'items', user_id)
		<> s.request ->> 'items' THEN
		s.request := s.request || jsonb_build_object('items', (
			SELECT jsonb_agg(jsonb_build_object('product_id', l -> 0,
				'location', l -> 1, 'quantity', l -> 2))
			  FROM jsonb_array_elements(
				pgstock_front.saga_lines(s.request -> 'items')) l));
	END IF;
	IF pgstock_front.forget_text(s.idempotency_key, user_id)
		<> s.idempotency_key THEN
		s.idempotency_key := NULL;
	END IF;
	IF pgstock_front.forget_text(s.step_parts::text, user_id)
		<> s.step_parts::text THEN
		s.step_parts := array_fill('null'::jsonb,
								   ARRAY[cardinality(s.step_parts)]);
	END IF;
	s.error := pgstock_front.forget_text(s.error, user_id);
	RETURN s;
END
$$;
COMMENT ON FUNCTION pgstock_front.forget_saga IS
	'returns a row of an order over shards without a user''s id';

/*
 * A step under way needs its arguments: the shards take it with the same ones
 * until it ends.
 */
CREATE FUNCTION pgstock_front.saga_forget(user_id text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	UPDATE pgstock_front.saga x
	   SET (args, request, idempotency_key, step_parts, error) = (
			SELECT f.args, f.request, f.idempotency_key, f.step_parts, f.error
			  FROM pgstock_front.forget_saga(x, $1) f)
	 WHERE x.verb IS NULL
	   AND pgstock_front.forget_saga(x, $1) IS DISTINCT FROM x;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_forget IS
	'removes a user from the orders over shards that have no step under way; '
	'returns the number of rows';
SELECT pgstock_front.make_ask('pgstock_front.saga_forget');

/* The shards first: they check the arguments. */
CREATE FUNCTION @extschema@.forget_user(user_id text, reason text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
	shards	int[];
	n		bigint := 0;
BEGIN
	PERFORM pgstock_front.begin_call('forget_user');
	BEGIN
		shards := pgstock_front.all_shards();
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.forget_user(shards, pgstock_front.caller(),
				nullif(current_setting('pgstock.trace_id', true), ''),
				pgstock_front.actor(), $1, $2) a);
		IF pgstock_front.has_coordinator()
			AND NOT EXISTS (SELECT FROM unnest(answers) a
							 WHERE a.error IS NOT NULL) THEN
			n := pgstock_front.ask_forget($1);
		END IF;
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('forget_user', SQLSTATE, SQLERRM);
	END;
	answers := pgstock_front.check_answers(answers);
	RETURN n + (SELECT sum(a.rows[1]::bigint) FROM unnest(answers) a);
END
$$;
COMMENT ON FUNCTION @extschema@.forget_user IS
	'calls forget_user of pgstock in all shards, and removes the user from the '
	'orders over shards; returns the number of rows changed: call it until '
	'that is 0';
SELECT pgstock_front.make_shard_calls('forget_user', '{text,text}');
