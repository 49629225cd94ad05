/* ---- Steps of the upkeep ------------------------------------------------- */

/*
 * Each step runs in a subtransaction of its own.  Its failure is recorded
 * until it succeeds again, and reported by the metrics, /readyz and "check".
 */
CREATE TABLE pgstock_internal.upkeep_failure
(
	step		text COLLATE "C" NOT NULL,
	since		timestamptz NOT NULL,
	sqlstate	text NOT NULL,
	error		text NOT NULL,
	warned_at	timestamptz NOT NULL,
	CONSTRAINT upkeep_failure_pkey PRIMARY KEY (step)
);
COMMENT ON TABLE pgstock_internal.upkeep_failure IS
	'steps of the upkeep whose latest run failed';

CREATE FUNCTION pgstock_internal.upkeep_steps()
RETURNS SETOF text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES ('expire'), ('sales'), ('keys'), ('calls'), ('movements'),
	   ('reservations'), ('archive'), ('purchases'), ('retire'), ('drop'),
	   ('truncate'),
	   ('inbox'), ('refused_orders'), ('surplus_payments'),
	   ('empty'), ('seal'), ('switch'), ('levels')
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_steps IS
	'returns the names of the steps';

CREATE FUNCTION pgstock_internal.upkeep_worked(step text)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM pgstock_internal.upkeep_failure f WHERE f.step = $1
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_worked IS
	'deletes the failure record of a step';

CREATE FUNCTION pgstock_internal.is_conflict(sqlstate text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_is_conflict' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_internal.is_conflict IS
	'returns whether an error is a conflict with another session: over a lock, '
	'or with its changes';

/*
 * A step that is in conflict with another session runs again soon.  A step
 * that keeps failing in the same way, perhaps each second, is a WARNING once a
 * minute.
 */
CREATE FUNCTION pgstock_internal.upkeep_failed(step text, sqlstate text,
	error text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	warns	boolean;
BEGIN
	IF pgstock_internal.is_conflict($2) THEN
		RETURN;
	END IF;
	warns := NOT EXISTS (
		SELECT FROM pgstock_internal.upkeep_failure f
		 WHERE f.step = $1 AND f.sqlstate = $2
		   AND f.warned_at > clock_timestamp() - interval '1 min');
	IF warns THEN
		RAISE WARNING 'upkeep step "%" of pgstock failed: %', $1, $3
			USING ERRCODE = $2;
	END IF;
	INSERT INTO pgstock_internal.upkeep_failure AS f
	VALUES ($1, clock_timestamp(), $2, $3, clock_timestamp())
	ON CONFLICT ON CONSTRAINT upkeep_failure_pkey DO UPDATE
	   SET sqlstate = excluded.sqlstate, error = excluded.error,
		   warned_at = CASE WHEN warns THEN excluded.warned_at
							ELSE f.warned_at END;
END
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_failed IS
	'records the failure of a step';

CREATE FUNCTION pgstock_internal.upkeep_step(step text, query text,
	period interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	BEGIN
		EXECUTE query INTO n USING period, max_rows;
	EXCEPTION WHEN OTHERS THEN
		PERFORM pgstock_internal.upkeep_failed(step, SQLSTATE, SQLERRM);
		RETURN 0;
	END;
	PERFORM pgstock_internal.upkeep_worked(step);
	RETURN coalesce(n, 0);
END
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_step IS
	'runs a query as a step ($1: period, $2: max_rows) and returns its '
	'result; 0 if it failed';

CREATE FUNCTION pgstock_internal.upkeep_trouble()
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%s since %s: %s (SQLSTATE %s)', f.step,
						 pgstock_internal.utc_text(f.since), f.error,
						 f.sqlstate), '; ' ORDER BY f.step)
  FROM pgstock_internal.upkeep_failure f
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_trouble IS
	'returns the failing steps with time and error; NULL if there are none';

/* ---- Entry points of the upkeep ------------------------------------------ */

/*
 * Where pgstock is preloaded, a background worker calls these functions (see
 * extension/worker/launcher.c); elsewhere the relay that leads does.  Both at
 * the same time are harmless, because all decisions are made under the usual
 * locks.
 */

CREATE FUNCTION pgstock_internal.keeper_is_here()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_keeper_is_here' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_is_here IS
	'returns whether a background worker serves this database without delay';

CREATE FUNCTION pgstock_internal.keeper_call()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_keeper_call' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.keeper_call IS
	'requests a run of the background worker when this transaction commits';

/*
 * One batch of the rows older than pgstock.history_retention, of orders older
 * than pgstock.confirmed_retention, and of idempotency keys.
 *
 * The lock on the row of the incarnation serializes purges, without waiting:
 * all steps of this one, purge_history, which waits, and a restore, which
 * writes to that row before it fills a table (note_restore).  So once the row
 * is locked, no table is being filled.  A lock on a table, as outbox_rotate
 * has, would conflict with VACUUM too, and would serialize rotations only.
 *
 * The commit is local: no client relies on it, and after a failover the steps
 * are repeated.  Otherwise orders and parts would stay locked while a
 * synchronous standby is unavailable.  A table that is dropped or truncated
 * stays locked until then, also for readers; so these steps are the last.
 */
CREATE FUNCTION pgstock_internal.purge_old(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	retention	interval := current_setting('pgstock.history_retention');
	confirmed	interval := current_setting('pgstock.confirmed_retention');
	own			uuid := (pgstock_internal.draw_incarnation()).id;
	n			bigint;
BEGIN
	PERFORM FROM pgstock_internal.incarnation i
	  WHERE i.id = own AND NOT i.restored FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	PERFORM set_config('synchronous_commit', 'local', true);
	n := pgstock_internal.upkeep_step('keys',
			'SELECT pgstock_internal.purge_keys($2)', NULL, max_rows)
	   + pgstock_internal.upkeep_step('calls',
			'SELECT pgstock_internal.purge_calls(clock_timestamp() - $1) '
			'FROM pgstock_internal.keep_calls()',
			nullif(retention, interval '0'), NULL);
	IF retention > interval '0' THEN
		n := n
		   + pgstock_internal.upkeep_step('movements',
				'SELECT pgstock_internal.movement_rotate($1, $2)',
				retention, max_rows)
		   + pgstock_internal.upkeep_step('reservations',
				'SELECT pgstock_internal.purge_reservations('
				'clock_timestamp() - $1, $2)',
				retention, max_rows)
		   + pgstock_internal.upkeep_step('archive',
				'SELECT pgstock_internal.purge_failed('
				'clock_timestamp() - $1, $2)',
				retention, max_rows)
		   + pgstock_internal.upkeep_step('purchases',
				'SELECT pgstock_internal.purge_purchases('
				'clock_timestamp() - $1, $2)',
				retention, max_rows);
	END IF;
	IF confirmed > interval '0' THEN
		n := n
		   + pgstock_internal.upkeep_step('retire',
				'SELECT pgstock_internal.retire_orders('
				'clock_timestamp() - $1, $2)',
				pgstock_internal.retire_after(), max_rows)
		   + pgstock_internal.upkeep_step('drop',
				'SELECT pgstock_internal.history_drop(clock_timestamp() - $1)',
				confirmed, NULL);
	END IF;
	IF retention > interval '0' THEN
		n := n + pgstock_internal.upkeep_step('truncate',
				'SELECT pgstock_internal.movement_empty()', NULL, NULL);
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_old IS
	'deletes a batch of rows past their retention; returns their number, 0 if '
	'none is left';

CREATE FUNCTION pgstock_internal.keeper_expire(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wait_us	bigint;
BEGIN
	IF pgstock_internal.foreign_history() IS NOT NULL THEN
		RETURN 10000000;	/* adoption requests a run */
	END IF;
	/* A transaction of its own for each sale: it locks all slots. */
	wait_us := pgstock_internal.end_sales();
	IF wait_us = 0 THEN
		RETURN 0;
	END IF;
	BEGIN
		wait_us := least(wait_us, pgstock_internal.expire_due(max_rows));
		/* Again: lines that it found may have been restored since then. */
		PERFORM pgstock_internal.raise_foreign(
			pgstock_internal.incomplete_because());
	EXCEPTION
		WHEN SQLSTATE 'SK020' THEN
			RETURN 10000000;
		WHEN OTHERS THEN
			PERFORM pgstock_internal.upkeep_failed('expire', SQLSTATE, SQLERRM);
			RETURN 5000000;
	END;
	PERFORM pgstock_internal.upkeep_worked('expire');
	RETURN wait_us;
END
$$;
COMMENT ON FUNCTION pgstock_internal.keeper_expire IS
	'ends flash sales and calls expire_due, unless the data has to be adopted '
	'first; returns the microseconds until the next call';

CREATE FUNCTION pgstock_internal.keeper_purge(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_internal.foreign_history() IS NOT NULL THEN
		RETURN 0;
	END IF;
	RETURN pgstock_internal.purge_old(max_rows)
		 + pgstock_internal.outbox_rotate_by_time();
END
$$;
COMMENT ON FUNCTION pgstock_internal.keeper_purge IS
	'calls purge_old, and empties the outbox by time if another program '
	'publishes it, unless the data has to be adopted first';

CREATE FUNCTION pgstock_internal.relay_expire(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_internal.keeper_is_here() THEN
		RETURN 10000000;
	END IF;
	/* Commits do not announce earlier due times here: poll each second. */
	RETURN least(1000000, pgstock_internal.keeper_expire(max_rows));
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_expire IS
	'calls keeper_expire unless the background worker does; returns the '
	'microseconds until the next call';

/* One batch of each, so that no transaction is long. */
CREATE FUNCTION pgstock_internal.relay_purge(retention interval,
	dedup_retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	n := pgstock_internal.upkeep_step('inbox',
			'SELECT pgstock_internal.purge_inbox($1, $2)',
			dedup_retention, max_rows)
	   + pgstock_internal.upkeep_step('refused_orders',
			'SELECT pgstock_internal.purge_refused($1, $2)',
			dedup_retention, max_rows)
	   + pgstock_internal.upkeep_step('surplus_payments',
			'SELECT pgstock_internal.purge_surplus($1, $2)',
			dedup_retention, max_rows);
	IF NOT pgstock_internal.keeper_is_here() THEN
		n := n + pgstock_internal.keeper_purge(max_rows);
	END IF;
	/* Last, because parts stay locked until the end of the transaction. */
	RETURN n + pgstock_internal.outbox_rotate(retention);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_purge IS
	'deletes a batch of rows past their retention and runs one step of the '
	'outbox''s rotation; returns the number of rows and parts, 0 if nothing '
	'is left to do';

CREATE FUNCTION pgstock_internal.relay_upkeep(retention interval,
	dedup_retention interval, max_rows int, OUT n bigint, OUT trouble text)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	n := pgstock_internal.relay_purge(retention, dedup_retention, max_rows);
	trouble := pgstock_internal.upkeep_trouble();
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_upkeep IS
	'calls relay_purge and returns its result and the failing steps';

/* Requests the first run; a later one finds what a restore loads next. */
SELECT pgstock_internal.keeper_call();
