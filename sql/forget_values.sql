/* ---- forget_user: values ------------------------------------------------- */

/*
 * Each of these functions returns its value without the user, and the value
 * itself if it does not name the user.  A value names the user if it is the
 * id, or if it has the id as a word of its own.  A short id, or a short
 * number, is common in other texts: it must be the whole value.
 */

CREATE FUNCTION pgstock_internal.forget_text(value text, user_id text)
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
COMMENT ON FUNCTION pgstock_internal.forget_text IS
	'returns a text without a user''s id';

/* The role is no user: what follows the slash is (pgstock.actor). */
CREATE FUNCTION pgstock_internal.forget_actor(value text, user_id text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN position('/' in value) = 0 THEN value
	ELSE split_part(value, '/', 1) || '/' || pgstock_internal.forget_text(
			substr(value, position('/' in value) + 1), user_id) END;
COMMENT ON FUNCTION pgstock_internal.forget_actor IS
	'returns an actor without a user''s id';

CREATE FUNCTION pgstock_internal.forget_texts(value text[], user_id text)
RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT pgstock_internal.forget_text(v.text, user_id)
			   FROM unnest(value) WITH ORDINALITY AS v (text, n) ORDER BY v.n);
COMMENT ON FUNCTION pgstock_internal.forget_texts IS
	'returns texts without a user''s id';

/* Not NULL: a compacted topic refuses a record without a key. */
CREATE FUNCTION pgstock_internal.forget_key(value bytea, user_id text)
RETURNS bytea
LANGUAGE sql STABLE
RETURN CASE WHEN pgstock_internal.forget_text(
					pgstock_internal.bytes_text(value), user_id)
				 IS DISTINCT FROM pgstock_internal.bytes_text(value)
			THEN 'forgotten'::bytea ELSE value END;
COMMENT ON FUNCTION pgstock_internal.forget_key IS
	'returns a key without a user''s id';

/*
 * JSON may contain any character as \u and four digits; quotes, slashes and
 * control characters also as others.
 */
CREATE FUNCTION pgstock_internal.may_name(value bytea, user_id text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN position(convert_to(user_id, 'UTF8') in value) > 0
	OR position(E'\\x5c75'::bytea in value) > 0
	OR (user_id ~ '["/\\[:cntrl:]]' AND position(E'\\x5c'::bytea in value) > 0);
COMMENT ON FUNCTION pgstock_internal.may_name IS
	'returns false if bytes certainly do not name a user';

/*
 * Members that name a user are omitted, so that consumers read what they would
 * have read without a user: user_id, and those whose own name is the id or
 * contains it, as in a map by user.  In other members the id is replaced.
 * Members that name other things stay: the id of an order may be the same text.
 * So do the names that pgstock itself writes or reads, whatever the id is.  A
 * name is matched as text, with a space before it: one that is a short id or a
 * short number is more likely to be something else.
 */
CREATE FUNCTION pgstock_internal.forget_json(value json, user_id text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	users	CONSTANT text[] := '{user_id,userId}';
	others	CONSTANT text[] := '{order_id,orderId,product_id,productId,location,
		payment_id,paymentId,event_id,eventId,event_type,eventType,trace_id,
		traceId,causation_id,activity_id,activityId,timestamp,status,kind,
		quantity,productQuantityMap,product_quantity_map}';
	names	CONSTANT text[] := users || others || '{items,attributes,reason,
		failed_reason,failedReason,event_version,eventVersion,expires_at,
		remaining_stock,version,wanted,available,on_hand,reference,part,parts,
		cut,differs,replayed}'::text[];
	without	text;
BEGIN
	IF NOT pgstock_internal.may_name(convert_to(value::text, 'UTF8'),
									 user_id) THEN
		RETURN NULL;
	END IF;
	CASE json_typeof(value)
		WHEN 'object' THEN
			SELECT format('{%s}', string_agg(format('%s:%s', to_json(m.key),
						  coalesce(m.without, m.value::text)), ',' ORDER BY m.n)
						  FILTER (WHERE NOT m.omit))
			  INTO without
			  FROM (SELECT e.key, e.value, e.n,
						   coalesce(e.key = ANY (users)
									AND e.value #>> '{}' = user_id, false)
						   OR (e.key <> ALL (names)
							   AND pgstock_internal.forget_text(
									' ' || e.key, user_id)
								   <> ' ' || e.key) AS omit,
						   CASE WHEN e.key <> ALL (others)
						   THEN pgstock_internal.forget_json(e.value, user_id)
						   END AS without
					  FROM json_each(value) WITH ORDINALITY
						   AS e (key, value, n)) m
			HAVING bool_or(m.omit OR m.without IS NOT NULL);
			RETURN without;
		WHEN 'array' THEN
			SELECT format('[%s]', string_agg(
						  coalesce(e.without, e.value::text), ',' ORDER BY e.n))
			  INTO without
			  FROM (SELECT a.value, a.n,
						   pgstock_internal.forget_json(a.value, user_id)
						   AS without
					  FROM json_array_elements(value) WITH ORDINALITY
						   AS a (value, n)) e
			HAVING bool_or(e.without IS NOT NULL);
			RETURN without;
		WHEN 'string' THEN
			without := pgstock_internal.forget_text(value #>> '{}', user_id);
			IF without <> value #>> '{}' THEN
				RETURN to_json(without);
			END IF;
			RETURN NULL;
		ELSE
			RETURN NULL;
	END CASE;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_json IS
	'returns JSON without a user''s id; NULL if it does not name the user';

/* Bytes that are no text cannot be changed: they become a tombstone. */
CREATE FUNCTION pgstock_internal.forget_payload(value bytea, user_id text)
RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	without	text;
	shown	text;
BEGIN
	IF value IS NULL OR NOT pgstock_internal.may_name(value, user_id) THEN
		RETURN value;
	END IF;
	BEGIN
		without := pgstock_internal.forget_json(
			convert_from(value, 'UTF8')::json, user_id);
		RETURN coalesce(convert_to(without, 'UTF8'), value);
	EXCEPTION WHEN data_exception OR feature_not_supported
				   OR statement_too_complex THEN
		shown := pgstock_internal.bytes_text(value);
	END;
	/* No JSON after all: the id as it is, and as a JSON string contains it. */
	without := regexp_replace(pgstock_internal.forget_text(
			pgstock_internal.forget_text(shown, user_id),
			regexp_replace(to_json(user_id)::text, '^"|"$', '', 'g')),
		'("user_?[iI]d"[[:space:]]*:[[:space:]]*"?)'
		|| regexp_replace(user_id, '[^[:alnum:]]', '\\\&', 'g')
		|| '(?![[:alnum:]_-])', '\1forgotten', 'g');
	IF without <> shown THEN
		RETURN convert_to(without, 'UTF8');
	ELSIF shown LIKE E'\\\\x%' AND length(user_id) > 5
		AND position(convert_to(user_id, 'UTF8') in value) > 0 THEN
		RETURN NULL;
	END IF;
	RETURN value;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_payload IS
	'returns a payload without a user''s id; NULL if it is not text';

/* Packed as extension/outbox/headers.c describes. */
CREATE FUNCTION pgstock_internal.forget_headers(value bytea, user_id text)
RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at		int := 0;
	named	int;
	size	int;
	shown	text;
	without	text;
	result	bytea := '';
BEGIN
	IF value IS NULL OR NOT pgstock_internal.may_name(value, user_id) THEN
		RETURN value;
	END IF;
	WHILE at < length(value) LOOP
		named := 2 + get_byte(value, at) * 256 + get_byte(value, at + 1);
		size := ('x' || encode(substr(value, at + named + 1, 4), 'hex'))
				::bit(32)::int;
		shown := pgstock_internal.bytes_text(
			substr(value, at + named + 5, greatest(size, 0)));
		without := pgstock_internal.forget_text(shown, user_id);
		IF size > 0 AND without <> shown THEN
			result := result || substr(value, at + 1, named)
				|| int4send(length(convert_to(without, 'UTF8')))
				|| convert_to(without, 'UTF8');
		ELSE
			result := result || substr(value, at + 1,
									   named + 4 + greatest(size, 0));
		END IF;
		at := at + named + 4 + greatest(size, 0);
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION pgstock_internal.forget_headers IS
	'returns packed headers without a user''s id';
