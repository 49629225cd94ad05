/* ---- Failed messages ----------------------------------------------------- */

/*
 * Each shard numbers its failed messages itself.  On the front, an id is that
 * of the shard times the number of shards, plus the number of the shard, as in
 * the views stock_failed_events and failed_order_archives.
 */
SELECT pgstock_front.route('retry_failed_event', '{bigint,text,text}');
SELECT pgstock_front.route('discard_failed_event', '{bigint,text}');
SELECT pgstock_front.route('mark_failed_event_handled', '{bigint,text}');

/* Errors name the id of the front. */
CREATE FUNCTION pgstock_front.failed_checked(answers pgstock_front.answer[],
	id bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f	pgstock_front.failure := (answers[1]).error::pgstock_front.failure;
BEGIN
	IF id IS NOT NULL AND f.sqlstate = 'P0002' THEN
		PERFORM pgstock_front.raise(f.sqlstate,
			regexp_replace(f.message, 'event -?\d+', 'event ' || id), f.detail,
			f.hint);
	END IF;
	PERFORM pgstock_front.checked(answers);
END
$$;
COMMENT ON FUNCTION pgstock_front.failed_checked IS
	'raises the error of a call for a failed message';

CREATE FUNCTION pgstock_front.failed_shard(id bigint)
RETURNS int[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY[(coalesce(id, 0)
				  & (cardinality(pgstock_front.all()) - 1))::int];
END
$$;
COMMENT ON FUNCTION pgstock_front.failed_shard IS
	'returns the shard of a failed message';

CREATE FUNCTION @extschema@.retry_failed_event(id bigint DEFAULT NULL,
	order_id text DEFAULT NULL, reason text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
	shards	int[];
BEGIN
	PERFORM pgstock_front.begin_call('retry_failed_event');
	BEGIN
		shards := CASE WHEN id IS NULL AND order_id IS NOT NULL
					   THEN pgstock_front.all()
					   ELSE pgstock_front.failed_shard(id) END;
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.retry_failed_event(shards,
				pgstock_front.caller(), NULL, pgstock_front.actor(),
				id / pgstock_front.shard_count(), $2, $3) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('retry_failed_event', SQLSTATE,
										  SQLERRM);
	END;
	PERFORM pgstock_front.failed_checked(answers, id);
END
$$;
COMMENT ON FUNCTION @extschema@.retry_failed_event IS
	'calls retry_failed_event of pgstock in the shard of the message, or in '
	'all shards for an order';

CREATE FUNCTION @extschema@.discard_failed_event(id bigint, reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	PERFORM pgstock_front.begin_call('discard_failed_event');
	BEGIN
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.discard_failed_event(
				pgstock_front.failed_shard(id), pgstock_front.caller(), NULL,
				pgstock_front.actor(), id / pgstock_front.shard_count(), $2) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('discard_failed_event', SQLSTATE,
										  SQLERRM);
	END;
	PERFORM pgstock_front.failed_checked(answers, id);
END
$$;
COMMENT ON FUNCTION @extschema@.discard_failed_event IS
	'calls discard_failed_event of pgstock in the shard of the message';

CREATE FUNCTION @extschema@.mark_failed_event_handled(id bigint, note text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	PERFORM pgstock_front.begin_call('mark_failed_event_handled');
	BEGIN
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.mark_failed_event_handled(
				pgstock_front.failed_shard(id), pgstock_front.caller(), NULL,
				pgstock_front.actor(), id / pgstock_front.shard_count(), $2) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('mark_failed_event_handled',
										  SQLSTATE, SQLERRM);
	END;
	PERFORM pgstock_front.failed_checked(answers, id);
END
$$;
COMMENT ON FUNCTION @extschema@.mark_failed_event_handled IS
	'calls mark_failed_event_handled of pgstock in the shard of the message';
