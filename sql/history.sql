/* ---- Retired orders ------------------------------------------------------ */

/*
 * Confirmed lines stay in "reservation" while calls are likely to need them,
 * and then move to this table, a whole order at a time (retire_orders).  It is
 * partitioned by month, so that the end of pgstock.confirmed_retention is a
 * DROP of a partition.  "reservation" itself is not partitioned: every
 * reservation of a new order would have to look for the order in each
 * partition (docs/decisions/0017).
 *
 * A call that settles an order moves it back first (recall_order).  Its
 * lines have the columns of "reservation", and the time that determines the
 * month: when the latest of the order's lines was confirmed.
 *
 * The partitions are not part of the extension.  So pg_dump includes them as
 * it does any other table.
 */
CREATE TABLE pgstock_internal.reservation_history
	(LIKE pgstock_internal.reservation,
	 settled_at	timestamptz NOT NULL) PARTITION BY RANGE (settled_at);
/* No key spans the partitions; an order id may be used again after years. */
ALTER TABLE pgstock_internal.reservation_history REPLICA IDENTITY FULL;
COMMENT ON TABLE pgstock_internal.reservation_history IS
	'lines of confirmed orders that are older than the calls need, by month: '
	'see pgstock.confirmed_retention';
COMMENT ON COLUMN pgstock_internal.reservation_history.settled_at IS
	'time at which the latest of the order''s lines was confirmed';
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.reservation_history', '');

/*
 * ATTACH PARTITION, because CREATE TABLE ... PARTITION OF would lock out
 * readers.  Its lock conflicts with that of a VACUUM or an ALTER TABLE, for
 * which it does not wait.  Months are those of UTC.
 */
CREATE FUNCTION pgstock_internal.history_add_month(at timestamptz)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first	timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
	name	text := 'reservation_history_' || to_char(first, 'YYYYMM');
BEGIN
	IF to_regclass('pgstock_internal.' || name) IS NOT NULL THEN
		RETURN true;
	END IF;
	LOCK TABLE ONLY pgstock_internal.reservation_history
		IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
	EXECUTE format('CREATE TABLE pgstock_internal.%I
		(LIKE pgstock_internal.reservation_history)
		WITH (autovacuum_vacuum_insert_threshold = -1)', name);
	EXECUTE format('CREATE INDEX %I ON pgstock_internal.%I (order_id)',
				   name || '_order', name);
	EXECUTE format('ALTER TABLE pgstock_internal.%I REPLICA IDENTITY FULL',
				   name);
	EXECUTE format('COMMENT ON TABLE pgstock_internal.%I IS %L', name,
				   'a month of reservation_history');
	PERFORM pgstock_internal.revoke_default_grants(
		format('pgstock_internal.%I', name)::regclass);
	EXECUTE format('ALTER TABLE pgstock_internal.reservation_history
		ATTACH PARTITION pgstock_internal.%I FOR VALUES FROM (%L) TO (%L)',
		name, first AT TIME ZONE 'UTC',
		(first + interval '1 month') AT TIME ZONE 'UTC');
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;
END
$$;
COMMENT ON FUNCTION pgstock_internal.history_add_month IS
	'adds the partition of reservation_history for the month of a time, '
	'unless it exists; returns false if a lock is not available';

CREATE FUNCTION pgstock_internal.try_lock_order(order_id text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lock_order' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.try_lock_order IS
	'locks an order until the transaction ends; returns false if another '
	'session holds its lock';

/*
 * How long a confirmed line stays in "reservation"; NULL: for ever.  At least
 * as long as idempotency keys: their answers refer to it.
 */
CREATE FUNCTION pgstock_internal.retire_after()
RETURNS interval
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN s.confirmed > interval '0'
			THEN greatest(least(s.confirmed / 4,
								nullif(s.history, interval '0')),
						  interval '24 hours') END
  FROM (SELECT current_setting('pgstock.confirmed_retention')::interval
			   AS confirmed,
			   current_setting('pgstock.history_retention')::interval
			   AS history) s
$$;
COMMENT ON FUNCTION pgstock_internal.retire_after IS
	'returns the age at which confirmed orders move to reservation_history; '
	'NULL: never';

/*
 * An order can be retired if none of its lines can change by itself: all are
 * confirmed or have ended, before that time, and none counts in the quota of
 * an open sale, whose limit and end need it.  The lock of its order protects
 * such a line; an order that another session has locked is left for the next
 * time.  Once they are locked, a new statement decides again.  Months are added
 * before, so that nothing is waited for while orders are locked.
 */
CREATE VIEW pgstock_internal.line_at_rest AS
SELECT r.order_id, r.state, r.confirmed_at,
	   CASE WHEN r.state <> 'r' AND r.due_at IS NULL AND r.slot >= 0
			THEN coalesce(r.ended_at, r.confirmed_at)
			ELSE 'infinity' END AS rests_since
  FROM pgstock_internal.reservation r;
COMMENT ON VIEW pgstock_internal.line_at_rest IS
	'lines, with the time since when they cannot change by themselves; '
	'infinity: they can';

CREATE FUNCTION pgstock_internal.retire_orders(before timestamptz, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids	text[] := ARRAY(
		SELECT DISTINCT c.order_id
		  FROM (SELECT r.order_id FROM pgstock_internal.reservation r
				 WHERE r.due_at IS NULL AND r.ended_at IS NULL
				   AND r.state = 'c' AND r.confirmed_at < before
				   AND NOT EXISTS (
						SELECT FROM pgstock_internal.line_at_rest o
						 WHERE o.order_id = r.order_id
						   AND o.rests_since >= before)
				 ORDER BY r.confirmed_at LIMIT max_rows) c);
	n	bigint;
BEGIN
	IF EXISTS (
		SELECT FROM (SELECT DISTINCT date_trunc('month', r.confirmed_at, 'UTC')
					   FROM pgstock_internal.reservation r
					  WHERE r.order_id = ANY (ids)
						AND r.confirmed_at IS NOT NULL) m (month)
		 WHERE NOT pgstock_internal.history_add_month(m.month))
	THEN
		RETURN 0;
	END IF;
	ids := ARRAY(SELECT o.id FROM unnest(ids) AS o (id)
				  WHERE pgstock_internal.try_lock_order(o.id));
	ids := ARRAY(SELECT o.id FROM unnest(ids) AS o (id)
				  WHERE NOT EXISTS (
						SELECT FROM pgstock_internal.line_at_rest r
						 WHERE r.order_id = o.id AND r.rests_since >= before));
	WITH gone AS (
		DELETE FROM pgstock_internal.reservation r
		 WHERE r.order_id = ANY (ids) RETURNING r.*
	)
	INSERT INTO pgstock_internal.reservation_history
	SELECT g.*, max(g.confirmed_at) OVER (PARTITION BY g.order_id) FROM gone g;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.retire_orders IS
	'moves orders confirmed before a time to reservation_history, at most '
	'max_rows of them; returns the number of lines';

/* Called by stock/order.c, with the order locked. */
CREATE FUNCTION pgstock_internal.recall_order(order_id text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	retention	interval := current_setting('pgstock.confirmed_retention');
	latest		timestamptz;
BEGIN
	SELECT max(h.settled_at) INTO latest
	  FROM pgstock_internal.reservation_history h WHERE h.order_id = $1;
	IF latest IS NULL OR (retention > interval '0'
						  AND latest < clock_timestamp() - retention) THEN
		RETURN false;
	END IF;
	WITH back AS (
		DELETE FROM pgstock_internal.reservation_history h
		 WHERE h.order_id = $1 AND h.settled_at = latest RETURNING h.*
	)
	INSERT INTO pgstock_internal.reservation
	SELECT b.order_id, b.attempt, b.product_id, b.location, b.slot, b.quantity,
		   b.state, b.user_id, b.created_at, b.expires_at, b.due_at,
		   b.ended_at, b.reason, b.payment_id, b.activity_id, b.retake,
		   b.confirmed_at
	  FROM back b;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.recall_order IS
	'moves the lines of an order back from reservation_history; returns '
	'whether it was there, within pgstock.confirmed_retention';

CREATE FUNCTION pgstock_internal.history_since()
RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(min(to_timestamp(right(c.relname, 6) || '01 +00',
											 'YYYYMMDD TZH')), 'infinity')
			  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			 WHERE i.inhparent
				   = 'pgstock_internal.reservation_history'::regclass);
END
$$;
COMMENT ON FUNCTION pgstock_internal.history_since IS
	'returns when the first month of reservation_history begins; infinity: '
	'there is none';

/*
 * Drops months that have ended before a time.  It takes only locks that are
 * free: a session that reads the table delays the DROP, and waits for nothing.
 */
CREATE FUNCTION pgstock_internal.history_drop(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old	text;
	n	bigint := 0;
BEGIN
	FOR old IN
		SELECT c.relname
		  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		 WHERE i.inhparent = 'pgstock_internal.reservation_history'::regclass
		   AND (to_timestamp(right(c.relname, 6) || '01 +00', 'YYYYMMDD TZH')
				AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
			   <= before
		 ORDER BY c.relname
	LOOP
		IF NOT pgstock_internal.try_lock_table('reservation_history', true)
			OR NOT pgstock_internal.try_lock_table(old, true) THEN
			EXIT;
		END IF;
		EXECUTE format('DROP TABLE pgstock_internal.%I', old);
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.history_drop IS
	'drops the months of reservation_history that ended before a time, '
	'unless a session uses the table; returns their number';
