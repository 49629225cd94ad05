/* ---- Orders over shards: settling, and the sweeper ----------------------- */

/* ---- Settling ---- */

/*
 * Combines the answers of several shards by the rule of one shard: the lines
 * that the call changed; only if there are none, the other lines.
 */
CREATE FUNCTION pgstock_front.saga_merge(verb text,
	answers pgstock_front.answer[])
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql
AS $$
DECLARE
	nothing	text[] := '{already,unknown_order}';
	all_rows pgstock_front.stock_result[] := ARRAY(
		SELECT r FROM pgstock_front.saga_rows(answers) r);
	acted	boolean := EXISTS (
		SELECT FROM unnest(all_rows) r WHERE r.status <> ALL (nothing)
		   AND NOT (r.status = 'shortfall' AND r.replayed));
	known	boolean := EXISTS (SELECT FROM unnest(all_rows) r
								WHERE r.status <> 'unknown_order');
	f		pgstock_front.failure := pgstock_front.saga_failure(answers, true);
BEGIN
	IF NOT acted AND f.sqlstate IS NOT NULL
		AND (verb <> 'confirm' OR NOT known) THEN
		PERFORM pgstock_front.saga_raise(f);
	END IF;
	RETURN QUERY
	SELECT r.* FROM unnest(all_rows) r
	 WHERE CASE WHEN acted THEN r.status <> ALL (nothing)
				WHEN known THEN r.status <> 'unknown_order'
				ELSE r IS NOT DISTINCT FROM all_rows[1] END
	 ORDER BY r.product_id COLLATE "C", r.location COLLATE "C";
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_merge IS
	'returns the rows of a step in all shards, or raises its error';

/* NULL: the state is unchanged: nothing was done, or only for some items. */
CREATE FUNCTION pgstock_front.saga_state(t pgstock_front.turn,
	answers pgstock_front.answer[])
RETURNS text
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
	found	text[] := ARRAY(SELECT r.status
							  FROM pgstock_front.saga_rows(answers) r);
BEGIN
	RETURN CASE
		WHEN t.verb = 'undo' THEN t.args ->> 'outcome'
		WHEN t.verb = 'compensate' THEN 'shortfall'
		WHEN t.verb = 'confirm' THEN
			CASE WHEN found && '{confirmed,already}' THEN 'confirmed'
				 WHEN found && '{shortfall}' THEN 'shortfall' END
		WHEN t.args ? 'items' THEN NULL
		WHEN t.verb = 'release' AND found && '{released}' THEN 'released'
		WHEN t.verb = 'rollback' AND found && '{rolled_back}'
		THEN 'rolled_back'
		WHEN t.verb = 'return' AND found && '{returned}' THEN 'returned'
		WHEN t.verb = 'extend' AND found && '{granted}' THEN 'reserved' END;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_state IS
	'returns the state of an order after a step; NULL: unchanged';

CREATE FUNCTION pgstock_front.saga_lost(t pgstock_front.turn)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM pgstock_front.raise('40001',
		format('another session has ended step "%s" of order "%s"', t.verb,
			   t.order_id), NULL,
		'Repeat the call: it returns the outcome.');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_lost IS
	'raises 40001: another session has ended the step';

/*
 * Begins the step that must follow if the shards have different outcomes:
 * confirmed in some and short in others, or extended in some and expired in
 * others.  One of several sessions begins it; the others cannot use the answers
 * that they have.
 */
CREATE FUNCTION pgstock_front.saga_next(t pgstock_front.turn,
	answers pgstock_front.answer[])
RETURNS pgstock_front.turn
LANGUAGE plpgsql
AS $$
DECLARE
	after	pgstock_front.turn;
	done	int[];
BEGIN
	SELECT array_agg(DISTINCT a.shard) INTO done
	  FROM unnest(answers) a, unnest(a.rows) r
	 WHERE (r::pgstock_front.stock_result).status =
		   CASE t.verb WHEN 'confirm' THEN 'confirmed' ELSE 'granted' END;
	IF t.verb = 'confirm' AND done IS NOT NULL
		AND EXISTS (SELECT FROM pgstock_front.saga_rows(answers) r
					 WHERE r.status = 'shortfall') THEN
		SELECT * INTO after FROM pgstock_front.ask_follow(t.order_id, t.saga,
			t.step, 'compensate', '{"reason": "shortfall"}', done, NULL);
		IF NOT FOUND THEN
			PERFORM pgstock_front.saga_lost(t);
		END IF;
	ELSIF t.verb = 'extend' AND done IS NOT NULL
		AND (pgstock_front.saga_failure(answers, true)).sqlstate = 'SK006' THEN
		SELECT * INTO after FROM pgstock_front.ask_follow(t.order_id, t.saga,
			t.step, 'undo', '{"reason": "expired", "outcome": "expired"}',
			t.shards, NULL);
		IF NOT FOUND THEN
			PERFORM pgstock_front.saga_lost(t);
		END IF;
	END IF;
	RETURN after;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_next IS
	'begins the step that must follow another one, if there is one';

/* The caller has a right on the front that no shard has granted. */
CREATE FUNCTION pgstock_front.saga_forbidden(answers pgstock_front.answer[])
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN (SELECT bool_and(coalesce((a.error::pgstock_front.failure).sqlstate
									 = '42501', false))
			  FROM unnest(answers) a);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_forbidden IS
	'returns whether every shard has refused the role of a step';

/*
 * Sends a step to all of its shards and ends it, or raises the reason why it
 * cannot end yet.  Several sessions may do so at once: each shard takes the
 * step once.
 */
CREATE FUNCTION pgstock_front.saga_finish(t pgstock_front.turn)
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql
AS $$
DECLARE
	answers	pgstock_front.answer[];
	f		pgstock_front.failure;
	after	pgstock_front.turn;
	patience text := current_setting('pgstock_front.shard_lock_timeout', true);
BEGIN
	/* the sweeper does not wait long for a row that is locked */
	IF patience <> '' THEN
		t.args := t.args || jsonb_build_object('lock_timeout', patience);
	END IF;
	answers := pgstock_front.saga_push(t, t.verb, t.step);
	f := pgstock_front.saga_failure(answers, false);
	IF t.verb NOT IN ('undo', 'compensate')
		AND pgstock_front.saga_forbidden(answers) THEN
		PERFORM pgstock_front.ask_end(t.order_id, t.saga, t.step, NULL, NULL);
		PERFORM pgstock_front.saga_raise(f);
	ELSIF f.sqlstate IS NOT NULL THEN
		PERFORM pgstock_front.ask_note(t.order_id, t.saga, t.step,
			concat_ws(': ', f.message, f.detail));
		IF f.sqlstate = '40001' THEN
			PERFORM pgstock_front.saga_lost(t);
		END IF;
		PERFORM pgstock_front.raise(
			CASE WHEN f.sqlstate ~ '^(40|55)' THEN f.sqlstate ELSE '08006' END,
			format('step "%s" of order "%s" has not reached all shards',
				   t.verb, t.order_id),
			concat_ws(': ', f.message, f.detail),
			'It is repeated until every shard has taken it. The same call '
			'again returns the outcome.');
	END IF;
	after := pgstock_front.saga_next(t, answers);
	IF after.verb IS NULL THEN
		PERFORM pgstock_front.ask_end(t.order_id, t.saga, t.step,
			pgstock_front.saga_state(t, answers), NULL);
		RETURN QUERY SELECT * FROM pgstock_front.saga_merge(t.verb, answers);
		RETURN;
	END IF;
	PERFORM pgstock_front.saga_finish(after);
	IF after.verb = 'undo' THEN
		PERFORM pgstock_front.saga_raise(
			pgstock_front.saga_failure(answers, true));
	END IF;
	RETURN QUERY SELECT r.order_id, r.product_id, r.location, r.requested,
						0::bigint, 'shortfall', r.available, r.expires_at,
						r.version, r.replayed
				   FROM pgstock_front.saga_rows(answers) r;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_finish IS
	'sends a step to its shards, with those that must follow; returns its rows';

/* Rejects more than an order holds before any shard takes the step. */
CREATE FUNCTION pgstock_front.saga_check_items(order_id text, items jsonb,
	shards int[], its int[], key text)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	q	record;
BEGIN
	/* what a repetition is about has been given back already */
	IF key IS NOT NULL AND EXISTS (
		SELECT FROM unnest(pgstock_front.check_answers(ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.part_key(its, NULL, NULL, NULL, key) a))) a
		 WHERE a.rows[1]::boolean) THEN
		RETURN;
	END IF;
	FOR q IN
		SELECT i.line ->> 0 AS product_id, i.line ->> 1 AS location,
			   (i.line ->> 2)::numeric AS quantity,
			   coalesce(l.quantity, 0) AS held
		  FROM jsonb_array_elements(
				pgstock_front.saga_lines(items)) i (line)
		  LEFT JOIN pgstock_front.saga_look(order_id, shards) l
			ON l.product_id = i.line ->> 0 AND l.location = i.line ->> 1
		 WHERE (i.line ->> 2)::numeric > coalesce(l.quantity, 0)
	LOOP
		PERFORM pgstock_front.raise('22023',
			format('order "%s" does not hold %s of product "%s" at location '
				   '"%s"', order_id, q.quantity, q.product_id, q.location),
			format('It holds %s.', q.held), NULL);
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_check_items IS
	'raises 22023 for items that an order over shards does not hold';

/* The step of a public call: confirm, release, rollback, return, extend. */
CREATE FUNCTION pgstock_front.saga_call(verb text, order_id text, args jsonb,
	items jsonb, shards int[])
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql
AS $$
DECLARE
	t		pgstock_front.turn;
	its		int[] := shards;
	parts	jsonb[] := array_fill('null'::jsonb, ARRAY[cardinality(shards)]);
	pause	double precision := 0.002;
	since	timestamptz;
BEGIN
	PERFORM pgstock_front.saga_check_coordinator(order_id, shards);
	args := pgstock_front.saga_args(args);
	IF items IS NOT NULL THEN
		its := pgstock_front.shards_of_items(items);
		parts := pgstock_front.saga_parts(items,
			pgstock_front.places_of_items(items), its);
		args := args || '{"items": true}';
	END IF;
	LOOP
		IF items IS NOT NULL THEN
			PERFORM pgstock_front.saga_check_items(order_id, items, shards,
				its, args ->> 'idempotency_key');
		END IF;
		t := pgstock_front.ask_settle(order_id, shards, verb, args, its,
									  parts);
		EXIT WHEN t.outcome IN ('begun', 'joined');
		since := pgstock_front.saga_check_wait(order_id, since);
		IF t.outcome = 'busy' THEN
			PERFORM pg_sleep(pause);
			pause := least(2 * pause, 0.1);
		ELSE
			PERFORM pgstock_front.saga_resume(t);
		END IF;
	END LOOP;
	RETURN QUERY SELECT * FROM pgstock_front.saga_finish(t);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_call IS
	'takes a step of an order in all of its shards';

/* ---- The sweeper ---- */

/*
 * A row that is from before a failover or a restore of the coordinator may lack
 * what followed.  An order that every shard has kept may have been reported to
 * its client as reserved; a step after which a shard has taken another one was
 * taken by all of them.
 */
CREATE FUNCTION pgstock_front.saga_overtaken(t pgstock_front.turn)
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
	known	boolean[];
BEGIN
	IF t.verb = 'reserve' THEN
		known := ARRAY(
			SELECT a.rows[1]::boolean
			  FROM unnest(pgstock_front.check_answers(ARRAY(
				SELECT k::pgstock_front.answer
				  FROM pgstock_front.part_kept(t.shards, NULL, NULL, NULL,
											   t.order_id, t.saga, t.step)
					   k))) a);
		RETURN true = ALL (known);
	END IF;
	known := ARRAY(
		SELECT a.rows[1]::boolean FROM unnest(pgstock_front.check_answers(ARRAY(
			SELECT p::pgstock_front.answer
			  FROM pgstock_front.part_past(t.shards, NULL, NULL, NULL,
										   t.order_id, t.saga, t.step) p))) a);
	RETURN true = ANY (known);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_overtaken IS
	'returns whether the shards show that a step of a restored row has ended';

/*
 * Ends the step of a saga that its session has not ended.  An order that was
 * being reserved is undone, because no client has received "reserved" for it.
 * Only if the row is from before a failover or a restore of the coordinator,
 * the commit that reserved the order may have been lost: then it is reserved if
 * every shard reports that it has kept its part.
 */
CREATE FUNCTION pgstock_front.saga_resume(t pgstock_front.turn)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF t.doubtful AND pgstock_front.saga_overtaken(t) THEN
		PERFORM pgstock_front.ask_end(t.order_id, t.saga, t.step,
			CASE t.verb WHEN 'reserve' THEN 'reserved' END, NULL);
	ELSIF t.verb = 'reserve' THEN
		PERFORM pgstock_front.saga_undo(t, 'abandoned', NULL, t.shards);
	ELSE
		PERFORM pgstock_front.saga_finish(t);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_resume IS
	'ends the step of a saga that its own session has not ended';

/*
 * The orders are taken one at a time: a session that is canceled delays no
 * other order than the one that it was waiting for.
 */
CREATE FUNCTION pgstock_front.sweep_sagas(max_orders int)
RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t		pgstock_front.turn;
	seen	text[] := '{}';
	ended	int := 0;
	detail	text;
BEGIN
	PERFORM set_config('pgstock_front.shard_lock_timeout', '2s', true);
	FOR n IN 1 .. least(max_orders, 1000) LOOP
		SELECT * INTO t FROM pgstock_front.ask_due(1);
		EXIT WHEN NOT FOUND OR t.order_id = ANY (seen);
		seen := seen || t.order_id;
		BEGIN
			PERFORM pgstock_front.saga_resume(t);
			ended := ended + 1;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
			/* no effect if the error was an answer: the step has ended */
			PERFORM pgstock_front.ask_note(t.order_id, t.saga, t.step,
				concat_ws(': ', SQLERRM, nullif(detail, '')));
		END;
	END LOOP;
	PERFORM set_config('pgstock_front.shard_lock_timeout', '', true);
	RETURN ended;
END
$$;
COMMENT ON FUNCTION pgstock_front.sweep_sagas IS
	'ends steps of orders over shards that their sessions have not ended; '
	'returns how many';

CREATE FUNCTION pgstock_front.purge_sagas()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before	timestamptz := pgstock_front.ask_purge(1000);
BEGIN
	IF before IS NOT NULL THEN
		BEGIN
			PERFORM pgstock_front.check_answers(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.part_purge(pgstock_front.all_shards(),
					NULL, NULL, NULL, before) a));
		EXCEPTION WHEN OTHERS THEN
			/*
			 * a shard that is down must not keep flash sales from their end;
			 * a later purge deletes what this one leaves
			 */
			RAISE WARNING 'could not delete the old parts of orders: %',
				SQLERRM;
		END;
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.purge_sagas IS
	'deletes old rows of orders over shards, and their parts in the shards';

/*
 * Flash sales have no coordinator.  Old rows are deleted at the end: an error
 * of a retention time stops neither orders nor sales.
 */
CREATE FUNCTION @extschema@.sweep_orders(max_orders int DEFAULT 100)
RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ended	int := 0;
BEGIN
	PERFORM pgstock_front.begin_call('sweep_orders');
	IF pgstock_front.has_coordinator() THEN
		ended := pgstock_front.sweep_sagas(max_orders);
	END IF;
	PERFORM pgstock_front.sale_sweep();
	IF pgstock_front.has_coordinator() THEN
		PERFORM pgstock_front.purge_sagas();
	END IF;
	PERFORM pgstock_front.sale_purge();
	RETURN ended;
END
$$;
COMMENT ON FUNCTION @extschema@.sweep_orders IS
	'ends steps of orders over shards, and moves of flash sales, that their '
	'sessions have not ended, and deletes old rows; returns how many steps it '
	'ended; call it every second';


/* ---- For people ---- */

CREATE FUNCTION pgstock_front.sagas()
RETURNS SETOF pgstock_front.saga_row
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM pgstock_front.ask_list();
END
$$;
COMMENT ON FUNCTION pgstock_front.sagas IS
	'returns the orders over shards, for stock_sagas';

CREATE VIEW @extschema@.stock_sagas AS
SELECT s.order_id, s.saga, s.state, s.under_way, s.step, s.shards, s.begun_at,
	   s.changed_at, s.next_try_at, s.tries, s.error
  FROM pgstock_front.sagas() s;
COMMENT ON VIEW @extschema@.stock_sagas IS
	'orders over several shards: the state that all shards have reached, and '
	'the step that is under way, if any, with the error that delays it';

CREATE FUNCTION @extschema@.abandon_saga(order_id text, reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_front.begin_call('abandon_saga');
	IF reason IS NULL OR reason = '' THEN
		PERFORM pgstock_front.raise('22023', 'reason must not be empty', NULL,
			'Describe why the step cannot end.');
	END IF;
	IF NOT pgstock_front.ask_abandon(order_id, reason, session_user) THEN
		PERFORM pgstock_front.raise('SK004',
			format('no step of order "%s" is under way', order_id), NULL,
			'Steps that are under way are in stock_sagas.');
	END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.abandon_saga IS
	'gives up the step of an order if a shard can never take it, for example '
	'because it is lost; what the other shards did is not undone';

/* ---- Which database is the coordinator ---- */

/*
 * In the coordinator's own database, grants the role of the fronts the
 * functions that they call there.
 */
CREATE FUNCTION pgstock_front.grant_coordinator()
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF to_regrole('pgstock_front') IS NOT NULL THEN
		GRANT USAGE ON SCHEMA pgstock_front TO pgstock_front;
		EXECUTE (SELECT string_agg(format('GRANT EXECUTE ON FUNCTION %s TO '
										  'pgstock_front', p.oid::regprocedure),
								   '; ')
				   FROM pg_proc p
				  WHERE p.pronamespace = 'pgstock_front'::regnamespace
					AND p.proname = ANY ('{saga_reserve_call,saga_settle,
						saga_end_call,saga_follow,saga_note,saga_due,saga_purge,
						saga_list,saga_abandon,saga_forget}'));
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.grant_coordinator IS
	'grants the role pgstock_front, if it exists, the rights that fronts need '
	'to use this database as the coordinator';

CREATE FUNCTION pgstock_front.set_coordinator(coordinator jsonb)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command	text := 'CREATE SERVER pgstock_coordinator FOREIGN DATA WRAPPER '
					'plproxy OPTIONS (p0 %L)';
BEGIN
	PERFORM pgstock_front.check_shards(jsonb_build_array(coordinator));
	IF coordinator ? 'pooler' THEN
		RAISE EXCEPTION 'fronts do not connect to the coordinator through a '
						'pooler'
			USING ERRCODE = 'feature_not_supported',
				  HINT = 'Give the connection parameters of its server.';
	END IF;
	IF EXISTS (SELECT FROM pg_foreign_server s
				WHERE s.srvname = 'pgstock_coordinator') THEN
		command := 'ALTER SERVER pgstock_coordinator OPTIONS (SET p0 %L)';
	END IF;
	EXECUTE format(command, pgstock_front.proxy_connection(coordinator));
	PERFORM pgstock_front.map_owner();
	PERFORM pgstock_front.grant_coordinator();
END
$$;
COMMENT ON FUNCTION pgstock_front.set_coordinator IS
	'sets the database that stores the orders over several shards: connection '
	'parameters, as for set_shards';
