/* ---- Steps of the upkeep -------------------------------------------------- */

/*
 * Each step fails alone: in a subtransaction, with the reason on record until it
 * has succeeded again.  The record is in the metrics, in /readyz and check.
 */
CREATE TABLE pgstock_internal.upkeep_failure
(
	step		text COLLATE "C" NOT NULL,
	since		timestamptz NOT NULL,
	sqlstate	text NOT NULL,
	error		text NOT NULL,
	CONSTRAINT upkeep_failure_pkey PRIMARY KEY (step)
);
COMMENT ON TABLE pgstock_internal.upkeep_failure IS
	'steps of the upkeep whose latest run has failed';

CREATE FUNCTION pgstock_internal.upkeep_steps()
RETURNS SETOF text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
VALUES ('expire'), ('keys'), ('movements'), ('reservations'), ('archive'),
	   ('inbox'), ('refused_orders'), ('surplus_payments'),
	   ('empty'), ('seal'), ('switch')
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_steps IS
	'the names of the steps';

CREATE FUNCTION pgstock_internal.upkeep_worked(step text)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM pgstock_internal.upkeep_failure f WHERE f.step = $1
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_worked IS
	'takes the step''s failure off the record';

/* What a lock or another transaction was in the way of is no failure. */
CREATE FUNCTION pgstock_internal.upkeep_failed(step text, sqlstate text,
	error text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF $2 IN ('55P03', '40P01', '40001') THEN
		RETURN;
	END IF;
	RAISE WARNING 'upkeep of pgstock failed in step "%": %', $1, $3
		USING ERRCODE = $2;
	INSERT INTO pgstock_internal.upkeep_failure AS f
	VALUES ($1, clock_timestamp(), $2, $3)
	ON CONFLICT ON CONSTRAINT upkeep_failure_pkey DO UPDATE
	   SET sqlstate = excluded.sqlstate, error = excluded.error;
END
$$;
COMMENT ON FUNCTION pgstock_internal.upkeep_failed IS
	'puts the step''s failure on record';

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
	'runs a step ($1 of its query is period, $2 max_rows); its answer, 0: it failed';

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
	'what fails, since when and why; NULL: nothing does';

/* ---- Who calls it --------------------------------------------------------- */

CREATE FUNCTION pgstock_internal.keeper_expire(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wait_us	bigint;
BEGIN
	IF pgstock_internal.foreign_history() IS NOT NULL THEN
		RETURN 10000000;	/* adoption asks for a look */
	END IF;
	BEGIN
		wait_us := pgstock_internal.expire_due(max_rows);
	EXCEPTION WHEN OTHERS THEN
		PERFORM pgstock_internal.upkeep_failed('expire', SQLSTATE, SQLERRM);
		RETURN 5000000;
	END;
	PERFORM pgstock_internal.upkeep_worked('expire');
	RETURN wait_us;
END
$$;
COMMENT ON FUNCTION pgstock_internal.keeper_expire IS
	'expire_due, where the data is this database''s own; microseconds until it is to be called again';

CREATE FUNCTION pgstock_internal.keeper_purge(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_internal.foreign_history() IS NOT NULL THEN
		RETURN 0;
	END IF;
	RETURN pgstock_internal.purge_old(max_rows);
END
$$;
COMMENT ON FUNCTION pgstock_internal.keeper_purge IS
	'purge_old, where the data is this database''s own';

CREATE FUNCTION pgstock_internal.relay_expire(max_rows int)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_internal.keeper_is_here() THEN
		RETURN 10000000;
	END IF;
	/* No commit announces a line that is due earlier: look every second. */
	RETURN least(1000000, pgstock_internal.keeper_expire(max_rows));
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_expire IS
	'keeper_expire, unless the server does it by itself';

CREATE FUNCTION pgstock_internal.purge_inbox(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.inbox i
	 WHERE i.ctid = ANY (ARRAY(
		SELECT o.ctid FROM pgstock_internal.inbox o
		 WHERE o.received_at < clock_timestamp() - retention
		   AND o.result <> 'waiting' LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_inbox IS
	'deletes a batch of incoming ids past their retention; rows';

CREATE FUNCTION pgstock_internal.purge_refused(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.refused_order r
	 WHERE r.order_id = ANY (ARRAY(
		SELECT o.order_id FROM pgstock_internal.refused_order o
		 WHERE o.refused_at < clock_timestamp() - retention
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_refused IS
	'deletes a batch of refused orders past their retention; rows';

CREATE FUNCTION pgstock_internal.purge_surplus(retention interval, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	DELETE FROM pgstock_internal.surplus_payment p
	 WHERE p.ctid = ANY (ARRAY(
		SELECT o.ctid FROM pgstock_internal.surplus_payment o
		 WHERE o.reported_at < clock_timestamp() - retention
		 LIMIT max_rows));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_surplus IS
	'deletes a batch of surplus payments past their retention; rows';

/* A batch each: no transaction of the purge is long. */
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
	/* Last: the parts that it locks are locked until the transaction ends. */
	RETURN n + pgstock_internal.outbox_rotate(retention);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_purge IS
	'a batch of what is past its retention, a step of the outbox''s rotation; 0: no more';

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
	'relay_purge, and which steps of the upkeep fail';

