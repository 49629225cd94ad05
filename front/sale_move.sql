/* ---- Flash sales over shards: moves, and the state of a sale ------------- */

/*
 * Pieces that are under way are in no shard.  front/shard_sale.sql has what a
 * shard does to send and to receive them; front/sale.sql what they are for.
 */
SELECT pgstock_front.make_shard_calls('sale_resend', '{uuid[]}');
SELECT pgstock_front.make_shard_calls('sale_arrived', '{uuid[]}');
SELECT pgstock_front.make_shard_calls('sale_receive', '{jsonb,text}');
SELECT pgstock_front.make_shard_calls('sale_home', '{}');
SELECT pgstock_front.make_shard_calls('sale_state', '{text}');
SELECT pgstock_front.make_shard_calls('sale_old_moves', '{timestamptz}');
SELECT pgstock_front.make_shard_calls('sale_delete_arrivals', '{uuid[]}');
SELECT pgstock_front.make_shard_calls('sale_delete_moves', '{uuid[]}');
SELECT pgstock_front.make_shard_calls('sale_forget_guests', '{}');

CREATE FUNCTION pgstock_front.sale_rows(answers pgstock_front.answer[])
RETURNS jsonb[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(
		SELECT r::jsonb
		  FROM unnest(pgstock_front.check_answers(answers)) a, unnest(a.rows) r
		 ORDER BY a.shard);
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_rows IS
	'returns what shards have answered, or raises their error';

/* ---- Moves ---- */

CREATE FUNCTION pgstock_front.sale_mark_arrived(moves jsonb[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source	int;
	ids		uuid[];
BEGIN
	FOR source, ids IN
		SELECT (m ->> 'source')::int, array_agg((m ->> 'id')::uuid)
		  FROM unnest(moves) m GROUP BY 1
	LOOP
		PERFORM pgstock_front.check_answers(ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.sale_arrived(ARRAY[source], NULL, NULL, NULL,
											  ids) a));
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_mark_arrived IS
	'marks moves as arrived in the shards that have sent them';

/*
 * One sale in one transaction: those of several would lock the levels of their
 * products in another order than calls for these products do.  A shard that
 * does not take its moves delays no other one.
 */
CREATE FUNCTION pgstock_front.sale_deliver(moves jsonb[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target	int;
	part	jsonb[];
	f		pgstock_front.failure;
	first	pgstock_front.failure;
BEGIN
	FOR target, part IN
		SELECT (m ->> 'target')::int, array_agg(m)
		  FROM unnest(moves) m
		 GROUP BY 1, m ->> 'product_id', m ->> 'location', m ->> 'activity_id'
		 ORDER BY 1
	LOOP
		BEGIN
			PERFORM pgstock_front.check_answers(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_receive(ARRAY[target], NULL, NULL,
						NULL, to_jsonb(part), NULL) a));
			PERFORM pgstock_front.sale_mark_arrived(part);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS f.sqlstate = RETURNED_SQLSTATE,
				f.message = MESSAGE_TEXT, f.detail = PG_EXCEPTION_DETAIL,
				f.hint = PG_EXCEPTION_HINT;
			IF first.sqlstate IS NULL THEN
				first := f;
			END IF;
		END;
	END LOOP;
	IF first.sqlstate IS NOT NULL THEN
		PERFORM pgstock_front.raise(first.sqlstate, first.message,
			nullif(first.detail, ''), nullif(first.hint, ''));
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_deliver IS
	'delivers moves to their target shards; then raises the first error, if '
	'there was one';

/* Moves as sale_state returns them may not be durable in their shard yet. */
CREATE FUNCTION pgstock_front.sale_redeliver(moves jsonb[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source	int;
	ids		uuid[];
	again	jsonb[] := '{}';
BEGIN
	FOR source, ids IN
		SELECT (m ->> 'source')::int, array_agg((m ->> 'id')::uuid)
		  FROM unnest(moves) m GROUP BY 1 ORDER BY 1
	LOOP
		again := again || pgstock_front.sale_rows(ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.sale_resend(ARRAY[source], NULL, NULL, NULL,
											 ids) a));
	END LOOP;
	PERFORM pgstock_front.sale_deliver(again);
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_redeliver IS
	'delivers moves that another session has left under way';

/*
 * Finishes what sessions have left under way, and sends what has remained of
 * sales to the shards of their products.  A shard that does not respond delays
 * no other one.
 */
CREATE FUNCTION pgstock_front.sale_sweep()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR shard IN 0 .. pgstock_front.shard_count() - 1 LOOP
		BEGIN
			PERFORM pgstock_front.sale_deliver(pgstock_front.sale_rows(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_home(ARRAY[shard], NULL, NULL,
											   NULL) a)));
		EXCEPTION
			WHEN internal_error OR connection_exception OR admin_shutdown
				OR crash_shutdown OR cannot_connect_now THEN
				CONTINUE;
			WHEN OTHERS THEN
				RAISE WARNING
					'could not deliver moves of flash sales from shard %: %',
					shard, SQLERRM;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_sweep IS
	'delivers unfinished moves of flash sales, and sends the pieces that '
	'sales have left to the shards of the products';

CREATE FUNCTION pgstock_front.sale_delete_old(source int, target int,
	ids uuid[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_front.check_answers(ARRAY(
		SELECT a::pgstock_front.answer
		  FROM pgstock_front.sale_delete_arrivals(ARRAY[target], NULL, NULL,
												  NULL, ids) a));
	PERFORM pgstock_front.check_answers(ARRAY(
		SELECT a::pgstock_front.answer
		  FROM pgstock_front.sale_delete_moves(ARRAY[source], NULL, NULL, NULL,
											   ids) a));
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_delete_old IS
	'deletes moves from one shard to another that have arrived long ago';

/* A shard that does not respond keeps its rows of moves and arrivals. */
CREATE FUNCTION pgstock_front.sale_purge()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before	timestamptz := clock_timestamp()
		- pgstock_front.saga_setting('saga_retention');
	parts	jsonb[];
	o		jsonb;
BEGIN
	FOR source IN 0 .. pgstock_front.shard_count() - 1 LOOP
		BEGIN
			parts := pgstock_front.sale_rows(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_old_moves(ARRAY[source], NULL, NULL,
													NULL, before) a));
			FOREACH o IN ARRAY parts LOOP
				PERFORM pgstock_front.sale_delete_old(source,
					(o ->> 'target')::int, ARRAY(
						SELECT jsonb_array_elements_text(o -> 'ids'))::uuid[]);
			END LOOP;
			PERFORM pgstock_front.check_answers(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_forget_guests(ARRAY[source], NULL,
														NULL, NULL) a));
		EXCEPTION
			WHEN internal_error OR connection_exception OR admin_shutdown
				OR crash_shutdown OR cannot_connect_now THEN
				CONTINUE;
			WHEN OTHERS THEN
				RAISE WARNING
					'could not delete old moves of flash sales of shard %: %',
					source, SQLERRM;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_purge IS
	'deletes moves of flash sales that have arrived longer ago than '
	'pgstock_front.saga_retention, and what shards no longer need to know of '
	'products of other shards';

/* ---- The state of a sale ---- */

CREATE FUNCTION pgstock_front.sale_states_of(shards int[], activity_id text)
RETURNS jsonb[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN pgstock_front.sale_rows(ARRAY(
		SELECT s::pgstock_front.answer
		  FROM pgstock_front.sale_state(shards, NULL, NULL, NULL, $2) s));
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_states_of IS
	'returns the state of a flash sale in each of the given shards';

/* If a shard does not respond, each is called by itself. */
CREATE FUNCTION pgstock_front.sale_states(activity_id text)
RETURNS jsonb[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards	int[] := pgstock_front.all_shards();
	states	jsonb[] := '{}';
BEGIN
	BEGIN
		RETURN pgstock_front.sale_states_of(shards, activity_id);
	EXCEPTION WHEN internal_error OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		NULL;
	END;
	FOR i IN 1 .. cardinality(shards) LOOP
		BEGIN
			states := states
				|| pgstock_front.sale_states_of(shards[i:i], activity_id);
		EXCEPTION WHEN internal_error OR connection_exception
			OR admin_shutdown OR crash_shutdown OR cannot_connect_now THEN
			states := states || jsonb_build_object('failed', SQLERRM,
				'sqlstate', SQLSTATE);
		END;
	END LOOP;
	RETURN states;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_states IS
	'returns the state of a flash sale in each shard, or the error of a shard '
	'that did not respond';

CREATE FUNCTION pgstock_front.sale_check_states(states jsonb[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s	jsonb;
BEGIN
	FOREACH s IN ARRAY states LOOP
		IF s ? 'failed' THEN
			PERFORM pgstock_front.raise(s ->> 'sqlstate', s ->> 'failed', NULL,
										NULL);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_check_states IS
	'raises the error of a shard that did not respond';

CREATE FUNCTION pgstock_front.sale_waiting(states jsonb[], late boolean)
RETURNS jsonb[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(array_agg(m), '{}')
  FROM unnest(states) s, jsonb_array_elements(s -> 'waiting') m
 WHERE NOT late OR (m ->> 'late')::boolean
$$;
COMMENT ON FUNCTION pgstock_front.sale_waiting IS
	'returns the moves that are under way; late: only those whose sessions '
	'must have failed';
