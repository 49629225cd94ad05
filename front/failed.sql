/* ---- Failed messages ----------------------------------------------------- */

/*
 * Each shard numbers its failed messages itself.  On the front, an id is that
 * of the shard times the number of shards, plus the number of the shard, as in
 * the views stock_failed_events and failed_order_archives.
 */
SELECT pgstock_front.make_shard_calls('retry_failed_event',
									  '{bigint,text,text}');
SELECT pgstock_front.make_shard_calls('discard_failed_event', '{bigint,text}');
SELECT pgstock_front.make_shard_calls('mark_failed_event_handled',
									  '{bigint,text}');

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
	PERFORM pgstock_front.check_answers(answers);
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
				  & (cardinality(pgstock_front.all_shards()) - 1))::int];
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
					   THEN pgstock_front.all_shards()
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

/* Both give up one message, and differ in the name of their second argument. */
DO $do$
DECLARE
	f	record;
BEGIN
	FOR f IN SELECT * FROM (VALUES
		('discard_failed_event', 'reason'),
		('mark_failed_event_handled', 'note')) f (name, note)
	LOOP
		EXECUTE format($f$
CREATE FUNCTION @extschema@.%1$I(id bigint, %2$I text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	PERFORM pgstock_front.begin_call(%1$L);
	BEGIN
		answers := ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.%1$I(
				pgstock_front.failed_shard(id), pgstock_front.caller(), NULL,
				pgstock_front.actor(), id / pgstock_front.shard_count(), $2) a);
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed(%1$L, SQLSTATE, SQLERRM);
	END;
	PERFORM pgstock_front.failed_checked(answers, id);
END
$$
$f$, f.name, f.note);
		EXECUTE format('COMMENT ON FUNCTION @extschema@.%I IS %L', f.name,
					   'calls ' || f.name || ' of pgstock in the shard of the '
					   'message');
	END LOOP;
END
$do$;
