/* ---- An order's part in this shard --------------------------------------- */

/*
 * An order whose lines are in several shards has a part in each.  The shard
 * receives the numbered steps of its saga (front/saga_table.sql).  Each takes
 * effect once, however often it arrives; a step that arrives after a newer one
 * is rejected, because the session that sent it may have ended long ago.  The
 * row is written in the step's own transaction.
 */
CREATE TABLE pgstock_shard.order_part
(
	order_id	text COLLATE "C" NOT NULL,
	held		bigint,
	saga		bigint NOT NULL,
	step		int NOT NULL,
	verb		text NOT NULL,
	shards		int[] NOT NULL,
	answer		pgstock_shard.answer,
	changed_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT order_part_pkey PRIMARY KEY (order_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE pgstock_shard.order_part IS
	'orders over several shards: the shards of each, the latest step that this '
	'shard has taken, and its answer';
COMMENT ON COLUMN pgstock_shard.order_part.held IS
	'the latest saga to which lines here have belonged; NULL: none, so lines '
	'that the order has here belong to another request';
/* a step changes no column of an index */
CREATE INDEX order_part_saga ON pgstock_shard.order_part (saga);
SELECT pg_extension_config_dump('pgstock_shard.order_part', '');

/*
 * The functions that write the table have its owner's rights, and are called
 * after a step has switched to the role of its caller.  Only a front may use
 * them.
 */
CREATE FUNCTION pgstock_shard.part_check_role()
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front'
		AND NOT (SELECT r.rolsuper FROM pg_roles r
				  WHERE r.rolname = session_user) THEN
		RAISE EXCEPTION 'permission denied for orders over shards'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Call the functions of the front.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_check_role IS
	'raises 42501 in a session that is not a front''s';

/* What another database records as done must not be lost here. */
CREATE FUNCTION pgstock_shard.be_durable()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
	setting	text := current_setting('synchronous_commit');
BEGIN
	IF setting IN ('off', 'local') THEN
		setting := set_config('synchronous_commit', 'on', true);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_shard.be_durable IS
	'makes the caller''s commit wait for its flush and for the standbys, '
	'whatever synchronous_commit the role has; returns true';

/*
 * A stored answer may depend on a commit that is not flushed yet, so the row is
 * written again: the caller's commit then flushes that one too.
 */
CREATE FUNCTION pgstock_shard.part_again(part pgstock_shard.order_part,
	order_id text, saga bigint, step int, verb text)
RETURNS pgstock_shard.answer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (part.saga, part.step) > (saga, step)
		OR (part.saga, part.step) = (saga, step) AND part.verb <> verb THEN
		PERFORM pgstock_shard.part_late(order_id, step);
	ELSIF (part.saga, part.step) = (saga, step) THEN
		UPDATE pgstock_shard.order_part o SET changed_at = clock_timestamp()
		 WHERE o.order_id = $2;
		RETURN part.answer;
	ELSIF verb = 'keep' AND part.held IS DISTINCT FROM saga THEN
		RAISE EXCEPTION 'shard "%" does not hold order "%"',
				current_database(), order_id
			USING ERRCODE = 'SK006',
				  DETAIL = 'The hold was lost when the server stopped.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_again IS
	'returns the answer of a step that was taken before, else NULL; raises '
	'40001 if a later one was taken';

/*
 * Begins a step: returns NULL if it is to be taken, or its answer if it was
 * taken before.
 */
CREATE FUNCTION pgstock_shard.part_begin(order_id text, saga bigint, step int,
	verb text)
RETURNS pgstock_shard.answer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	part	pgstock_shard.order_part;
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	SELECT * INTO part FROM pgstock_shard.order_part o
	 WHERE o.order_id = $1 FOR UPDATE;
	IF part.saga = $2 AND part.step < $3
		AND (verb <> 'keep' OR part.held = $2)
		OR NOT FOUND AND verb <> 'keep' THEN
		RETURN NULL;
	END IF;
	RETURN pgstock_shard.part_again(part, $1, $2, $3, $4);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_begin IS
	'begins a step of an order over shards: returns its answer if it was taken '
	'before, else NULL; raises 40001 if a later one was taken';

/*
 * held: whether the lines here belong to the saga now.  The first step of an
 * order locks no row, so a later step may have ended meanwhile: then the error
 * undoes what this one did.
 */
CREATE FUNCTION pgstock_shard.part_end(order_id text, saga bigint, step int,
	shards int[], verb text, answer pgstock_shard.answer, held boolean)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	INSERT INTO pgstock_shard.order_part AS o
	VALUES ($1, CASE WHEN $7 THEN $2 END, $2, $3, $5, $4, $6)
		ON CONFLICT ON CONSTRAINT order_part_pkey DO UPDATE
	   SET held = coalesce(excluded.held, o.held),
		   saga = excluded.saga, step = excluded.step, verb = excluded.verb,
		   shards = excluded.shards, answer = excluded.answer,
		   changed_at = excluded.changed_at
	 WHERE (o.saga, o.step) <= (excluded.saga, excluded.step);
	IF NOT FOUND THEN
		PERFORM pgstock_shard.part_late(order_id, step);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_end IS
	'ends a step of an order over shards: stores its answer and returns true; '
	'raises 40001 if a later one was taken';

CREATE FUNCTION pgstock_shard.part_late(order_id text, step int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'step % of order "%" arrived too late', step, order_id
		USING ERRCODE = 'serialization_failure',
			  DETAIL = 'A later step has reached the shard.',
			  HINT = 'Repeat the call.';
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_late IS
	'raises 40001: a later step of the order was taken';

CREATE FUNCTION pgstock_shard.part_held(order_id text)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	RETURN (SELECT o.held FROM pgstock_shard.order_part o
			 WHERE o.order_id = $1);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_held IS
	'returns the saga to which an order''s lines here belong; NULL: to none';

/* An order that exists here without a saga belongs to another request. */
CREATE FUNCTION pgstock_shard.part_check_new(order_id text)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_shard.part_held($1) IS NULL THEN
		RAISE EXCEPTION 'order "%" is already reserved by another request', $1
			USING ERRCODE = 'SK007',
				  DETAIL = 'It has lines in one shard only.',
				  HINT = 'Release the order first, or use another order id.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_check_new IS
	'raises SK007 for an order that was reserved before, without a saga';

/*
 * If a client relies on what was read here, that must be flushed first.  A
 * transaction id alone does not make a commit wait for its flush: the
 * transaction must have written to the WAL.
 */
CREATE FUNCTION pgstock_shard.fence()
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	PERFORM pgstock_shard.be_durable();
	RETURN pg_logical_emit_message(true, 'pgstock_shard', '') IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.fence IS
	'makes the caller''s commit flush what its transaction has read; returns '
	'true';

/*
 * Two checks of a row of a coordinator that was restored from a backup.  A step
 * that settles an order is sent only after all shards have kept it, and none is
 * sent before all shards have taken the previous one.
 */
CREATE FUNCTION pgstock_shard.part_kept(order_id text, saga bigint, step int)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pgstock_shard.order_part o
				WHERE o.order_id = $1 AND (o.saga, o.step) >= ($2, $3)
				  AND o.verb NOT IN ('hold', 'undo')
				  AND (o.verb <> 'keep' OR (o.answer).error IS NULL)
				  AND pgstock_shard.fence())
$$;
COMMENT ON FUNCTION pgstock_shard.part_kept IS
	'returns whether this shard has kept its part of a saga, and not undone it';
SELECT pgstock_shard.wrap('pgstock_shard.part_kept(text,bigint,int)'::
	regprocedure);

CREATE FUNCTION pgstock_shard.part_past(order_id text, saga bigint, step int)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pgstock_shard.order_part o
				WHERE o.order_id = $1 AND (o.saga, o.step) > ($2, $3)
				  AND pgstock_shard.fence())
$$;
COMMENT ON FUNCTION pgstock_shard.part_past IS
	'returns whether this shard has taken a later step than this one';
SELECT pgstock_shard.wrap('pgstock_shard.part_past(text,bigint,int)'::
	regprocedure);

CREATE FUNCTION pgstock_shard.part_place(order_id text)
RETURNS pgstock_shard.order_place
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	RETURN (SELECT (o.saga, NULL, o.shards)::pgstock_shard.order_place
			  FROM pgstock_shard.order_part o WHERE o.order_id = $1);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_place IS
	'returns saga and shards of an order over shards';

/* A call with a key that is known is a repetition. */
CREATE FUNCTION pgstock_shard.part_key(key text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	RETURN pgstock_internal.key_is_known(key);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_key IS
	'returns whether an idempotency key was used in this shard';
SELECT pgstock_shard.wrap('pgstock_shard.part_key(text)'::regprocedure);

CREATE FUNCTION pgstock_shard.part_purge(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	IF session_user <> 'pgstock_front' THEN
		PERFORM pgstock_shard.part_check_role();
	END IF;
	DELETE FROM pgstock_shard.order_part o
	 WHERE o.order_id IN (
		SELECT d.order_id FROM pgstock_shard.order_part d
		 WHERE d.saga < (extract(epoch FROM before) * 1000000)::bigint
		   AND d.changed_at < least(before, now() - '1 day'::interval)
		 LIMIT 10000);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_purge IS
	'deletes up to 10,000 parts of orders whose last step was before that '
	'time, and at least a day ago';
SELECT pgstock_shard.wrap('pgstock_shard.part_purge(timestamptz)'::
	regprocedure);

/*
 * The functions that call pgstock, whose schema is known only here.
 *
 * Errors that a repetition would return again are the step's answer and are
 * stored; after any other error the step must be repeated.
 */
DO $do$
DECLARE
	pgstock text := (SELECT extnamespace::regnamespace FROM pg_extension
					  WHERE extname = 'pgstock');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.part_act(verb text, order_id text, items jsonb,
	args jsonb)
RETURNS text[]
LANGUAGE plpgsql
AS $body$
DECLARE
	ttl		interval := CASE verb WHEN 'hold' THEN args ->> 'hold'
								  ELSE args ->> 'ttl' END;
	reason	text := args ->> 'reason';
	key		text := args ->> 'idempotency_key';
BEGIN
	CASE verb
	WHEN 'hold' THEN
		IF (args ->> 'raise')::boolean THEN
			RETURN ARRAY(SELECT r::text FROM %1$s.reserve_order(order_id, items,
				args ->> 'user_id', ttl, args ->> 'strategy') r);
		END IF;
		RETURN ARRAY(SELECT r::text FROM %1$s.try_reserve_order(order_id, items,
			args ->> 'user_id', ttl, args ->> 'strategy') r);
	WHEN 'keep', 'extend' THEN
		RETURN ARRAY(SELECT r::text
					   FROM %1$s.extend_reservation(order_id, ttl, key) r);
	WHEN 'confirm' THEN
		RETURN ARRAY(SELECT r::text FROM %1$s.confirm_stock(order_id,
			args ->> 'payment_id', key) r);
	WHEN 'undo' THEN
		/* also what was confirmed in this shard itself, without the saga */
		BEGIN
			RETURN ARRAY(SELECT r::text
						   FROM %1$s.release_stock(order_id, reason) r);
		EXCEPTION WHEN SQLSTATE 'SK005' THEN
			RETURN ARRAY(SELECT r::text
						   FROM %1$s.rollback_stock(order_id, reason) r);
		END;
	WHEN 'release' THEN
		RETURN ARRAY(SELECT r::text FROM %1$s.release_stock(order_id, reason,
			items, key) r);
	WHEN 'compensate', 'rollback' THEN
		RETURN ARRAY(SELECT r::text FROM %1$s.rollback_stock(order_id, reason,
			items, key) r);
	WHEN 'return' THEN
		RETURN ARRAY(SELECT r::text FROM %1$s.return_stock(order_id, items,
			(args ->> 'restock')::boolean, key) r);
	END CASE;
END
$body$
$f$, pgstock);
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.part_look(order_id text)
RETURNS TABLE (product_id text, location text, quantity bigint, state text,
	expires_at timestamptz, available bigint, version bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $body$
SELECT DISTINCT ON (r.product_id, r.location) r.product_id, r.location,
	   r.quantity,
	   CASE WHEN r.state = 'reserved' AND r.expires_at <= clock_timestamp()
			THEN 'expired' ELSE r.state END,
	   r.expires_at, l.available, l.version
  FROM %1$s.stock_reservations r
  JOIN %1$s.stock_levels l
	ON l.product_id = r.product_id AND l.location = r.location
 WHERE r.order_id = part_look.order_id
   AND pgstock_shard.fence()
 ORDER BY r.product_id, r.location, r.created_at DESC
$body$
$f$, pgstock);
	/*
	 * A call that settles an order applies to all its lines, even if it fails.
	 * After an error the current role has no right to use pgstock's type.
	 */
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.part_holds(verb text, rows text[])
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
AS $body$
BEGIN
	IF verb <> 'hold' THEN
		RETURN verb NOT IN ('keep', 'undo');
	ELSIF rows IS NULL THEN
		RETURN false;
	END IF;
	RETURN (rows[1]::%1$s.stock_result).granted > 0;
END
$body$
$f$, pgstock);
END
$do$;
COMMENT ON FUNCTION pgstock_shard.part_holds IS
	'returns whether the lines here belong to the saga after its step';
COMMENT ON FUNCTION pgstock_shard.part_act IS
	'calls the function of pgstock that a step of an order over shards names';
COMMENT ON FUNCTION pgstock_shard.part_look IS
	'returns the latest line of each product of an order, in its current state';
SELECT pgstock_shard.wrap('pgstock_shard.part_look(text)'::regprocedure);

/*
 * A hold need not be durable: no client has received an answer for it, and if
 * it is lost, the keep fails.  So it does not wait for a flush; the keep's
 * commit flushes both.
 *
 * Results that are not needed are assigned to "done": PL/pgSQL evaluates an
 * assignment without the executor, which PERFORM starts.
 */
CREATE FUNCTION pgstock_shard.part_step(shards int[], parts jsonb[],
	role text, trace text, actor text, order_id text, saga bigint, step int,
	order_shards int[], verb text, args jsonb)
RETURNS pgstock_shard.answer
LANGUAGE plpgsql
AS $$
DECLARE
	shard	int := nullif(current_setting('pgstock_shard.shard', true), '');
	a		pgstock_shard.answer;
	f		pgstock_shard.failure;
	done	text;
BEGIN
	done := pgstock_shard.check_shard(shards);
	IF args ? 'lock_timeout' THEN
		done := set_config('lock_timeout', args ->> 'lock_timeout', true);
	END IF;
	a := pgstock_shard.part_begin(order_id, saga, step, verb);
	IF a.shard IS NOT NULL THEN
		RETURN a;
	END IF;
	IF verb = 'hold' THEN
		done := set_config('synchronous_commit', 'off', true);
	ELSE
		done := pgstock_shard.be_durable();
	END IF;
	done := pgstock_shard.act_as(role, trace, actor);
	a.shard := shard;
	/* lines that the saga does not hold are those of another request */
	IF verb <> 'undo' OR pgstock_shard.part_held(order_id)
		IN (saga, (args ->> 'undoes')::bigint) THEN
		a.rows := pgstock_shard.part_act(verb, order_id,
			nullif(parts[1], 'null'), args);
	END IF;
	/* replayed, the last column, is true */
	IF verb = 'hold' AND a.rows[1] LIKE '%,t)' THEN
		PERFORM pgstock_shard.part_check_new(order_id);
	END IF;
	done := pgstock_shard.part_end(order_id, saga, step, order_shards, verb, a,
								   pgstock_shard.part_holds(verb, a.rows));
	RETURN a;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS f.sqlstate = RETURNED_SQLSTATE,
		f.message = MESSAGE_TEXT, f.detail = PG_EXCEPTION_DETAIL,
		f.hint = PG_EXCEPTION_HINT;
	/* an error before the step itself is no answer: the step is repeated */
	IF a.shard IS NULL AND f.sqlstate ~ '^22' THEN
		f.sqlstate := '55000';
	END IF;
	f.detail := nullif(f.detail, '');
	f.hint := nullif(f.hint, '');
	a.error := f::text;
	a.rows := NULL;
	IF f.sqlstate ~ '^(SK|22)' THEN
		done := pgstock_shard.part_end(order_id, saga, step, order_shards,
			verb, a, pgstock_shard.part_holds(verb, NULL));
	END IF;
	a.shard := shard;
	RETURN a;
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_step IS
	'takes a step of an order over shards in this shard, once; parts[1]: the '
	'lines that it applies to, null: all';

CREATE TYPE pgstock_shard.part_step_call AS
(
	shards		int[],
	parts		jsonb[],
	role		text,
	trace		text,
	actor		text,
	order_id	text,
	saga		bigint,
	step		int,
	order_shards int[],
	verb		text,
	args		jsonb
);
COMMENT ON TYPE pgstock_shard.part_step_call IS
	'a call of part_step by a front';

CREATE FUNCTION pgstock_shard.part_step_call(call text)
RETURNS pgstock_shard.answer
LANGUAGE plpgsql
AS $$
DECLARE
	c	pgstock_shard.part_step_call := call::pgstock_shard.part_step_call;
BEGIN
	RETURN pgstock_shard.part_step(c.shards, c.parts, c.role, c.trace, c.actor,
								   c.order_id, c.saga, c.step, c.order_shards,
								   c.verb, c.args);
END
$$;
COMMENT ON FUNCTION pgstock_shard.part_step_call IS
	'calls part_step for a front, which sends all arguments as one text';
