/* ---- The coordinator: orders over shards --------------------------------- */

/*
 * An order whose lines are in several shards has a row here: its saga.  The
 * functions of this file run in the coordinator's database, which all fronts
 * call through PL/Proxy (saga.sql).  So each change is a commit of its own, and
 * is kept even if the caller's statement fails.
 *
 * verb is the step under way, NULL when there is none.  A step ends when every
 * shard has taken it.  The session that sets verb decides what the step does;
 * to change it, a session must find (saga, step, verb) as it has read them:
 *
 *   verb        sent to the shards        then
 *   reserve     hold, then keep           state reserved; or undo
 *   undo        release                   state refused, abandoned or expired
 *   confirm     confirm                   state confirmed; or compensate
 *   compensate  roll back, where it had   state shortfall
 *               been confirmed
 *   release, rollback, return, extend     state released, rolled_back, ...
 *
 * The commit that sets state to reserved is the one that reserves the order.
 * Before it no client receives "reserved", and any session may undo the saga
 * once due_at has passed.  After it only a call for the order undoes it.
 *
 * state is new, reserved, confirmed, released, rolled_back, returned,
 * shortfall, expired, refused or abandoned.  There is no constraint for this:
 * each statement would parse it again, which took a quarter of the
 * coordinator's CPU time.
 */
CREATE TABLE pgstock_front.saga
(
	order_id	text COLLATE "C" NOT NULL,
	saga		bigint NOT NULL,
	state		text NOT NULL,
	step		int NOT NULL,
	verb		text,
	args		jsonb NOT NULL,
	shards		int[] NOT NULL,
	step_shards	int[] NOT NULL,
	step_parts	jsonb[] NOT NULL,
	request		jsonb,
	idempotency_key text COLLATE "C",
	answer		text[],
	history		text NOT NULL,
	begun_at	timestamptz NOT NULL,
	changed_at	timestamptz NOT NULL,
	due_at		timestamptz NOT NULL,
	tries		int NOT NULL DEFAULT 0,
	error		text,
	CONSTRAINT saga_pkey PRIMARY KEY (order_id),
	CONSTRAINT saga_idempotency_key UNIQUE (idempotency_key)
) WITH (fillfactor = 70);
COMMENT ON TABLE pgstock_front.saga IS
	'orders over several shards: state, and the step that is under way';

CREATE INDEX saga_under_way ON pgstock_front.saga (due_at)
	WHERE verb IS NOT NULL;
CREATE INDEX saga_begun_at ON pgstock_front.saga (begun_at);
SELECT pg_extension_config_dump('pgstock_front.saga', '');

/*
 * What the caller has to do next.  In C, the constants TURN_... are the numbers
 * of the columns (test_saga_answers.py compares them), and saga_reserve_call
 * writes a turn as text.
 */
CREATE TYPE pgstock_front.turn AS
(
	outcome		text,
	order_id	text,
	saga		bigint,
	state		text,
	step		int,
	verb		text,
	args		jsonb,
	shards		int[],
	step_shards	int[],
	step_parts	jsonb[],
	request		jsonb,
	answer		text[],
	doubtful	boolean
);
COMMENT ON TYPE pgstock_front.turn IS
	'a saga, and what the caller has to do (outcome): begun, joined, busy, '
	'other, live, stored, reused or due; doubtful: the row is older than this '
	'history of the coordinator';

/*
 * The history of this database changes with a failover or a restore; a row of
 * an earlier history may be older than the answers that clients received.
 */
CREATE FUNCTION pgstock_front.saga_history()
RETURNS text
AS 'MODULE_PATHNAME', 'pgstock_front_history' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_front.saga_history IS
	'returns the history of the coordinator: system, timeline and database';

/* Defaults and bounds are in front_setting.c. */
CREATE FUNCTION pgstock_front.saga_setting(name text)
RETURNS interval
AS 'MODULE_PATHNAME', 'pgstock_front_setting' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_setting IS
	'returns a setting of orders over shards: hold, patience, saga_retention; '
	'raises 22023 if it is outside of its bounds';

CREATE FUNCTION pgstock_front.saga_turn(s pgstock_front.saga, outcome text)
RETURNS pgstock_front.turn
LANGUAGE plpgsql STABLE
AS $$
BEGIN
	RETURN (outcome, s.order_id, s.saga, s.state, s.step, s.verb, s.args,
			s.shards, s.step_shards, s.step_parts, s.request, s.answer,
			CASE WHEN outcome = 'begun' THEN false
				 ELSE s.history <> pgstock_front.saga_history() END)
		   ::pgstock_front.turn;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_turn IS
	'returns a saga with what the caller has to do';

/* Newer sagas of an order have greater numbers: shards reject older ones. */
CREATE FUNCTION pgstock_front.saga_next_number(last bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_front_next_number' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_next_number IS
	'returns the number of a new saga: the time in microseconds, but greater '
	'than the last one';

/*
 * In another history the row may lack steps that shards have taken: its next
 * step does not use their numbers again.
 */
CREATE FUNCTION pgstock_front.saga_renumber(s pgstock_front.saga)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	RETURN CASE WHEN s.history = pgstock_front.saga_history() THEN s.saga
				ELSE pgstock_front.saga_next_number(s.saga) END;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_renumber IS
	'returns the number of a saga; a new one for a row of an earlier history';

/* A line without a shard is sent to the first one, which rejects it. */
CREATE FUNCTION pgstock_front.saga_parts(items jsonb, places int[],
	shards int[])
RETURNS jsonb[]
AS 'MODULE_PATHNAME', 'pgstock_front_parts' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_parts IS
	'returns the lines of each of the shards; places: the shard of each line';

CREATE TYPE pgstock_front.saga_reserve_call AS
(
	order_id	text,
	shards		int[],
	places		int[],
	request		jsonb,
	args		jsonb,
	idempotency_key text,
	replaces	bigint
);
COMMENT ON TYPE pgstock_front.saga_reserve_call IS
	'a call of saga_reserve_call by a front; places: the shard of each line; '
	'replaces: the saga whose reservation, as the caller has found, has ended '
	'in every shard';

/* Begins to reserve an order that has a row, or whose key has. */
CREATE FUNCTION pgstock_front.saga_reserve_again(
	c pgstock_front.saga_reserve_call)
RETURNS pgstock_front.turn
LANGUAGE plpgsql
AS $$
DECLARE
	s	pgstock_front.saga;
	now	timestamptz := clock_timestamp();
BEGIN
	SELECT * INTO s FROM pgstock_front.saga x
	 WHERE x.order_id = c.order_id FOR UPDATE;
	IF NOT FOUND THEN
		/* the key belongs to another order */
		s.order_id := c.order_id;
		RETURN pgstock_front.saga_turn(s, 'reused');
	END IF;
	IF s.verb IS NOT NULL THEN
		RETURN pgstock_front.saga_turn(s,
			CASE WHEN s.verb = 'reserve' AND s.due_at > now THEN 'busy'
				 ELSE 'other' END);
	ELSIF s.idempotency_key = c.idempotency_key AND s.answer IS NOT NULL THEN
		RETURN pgstock_front.saga_turn(s,
			CASE WHEN pgstock_front.saga_same(s.request, c.request)
				 THEN 'stored' ELSE 'reused' END);
	ELSIF s.state IN ('reserved', 'confirmed')
		AND s.saga IS DISTINCT FROM c.replaces THEN
		RETURN pgstock_front.saga_turn(s, 'live');
	ELSIF EXISTS (SELECT FROM pgstock_front.saga x
				   WHERE x.idempotency_key = c.idempotency_key
					 AND x.order_id <> c.order_id) THEN
		RETURN pgstock_front.saga_turn(s, 'reused');
	END IF;
	UPDATE pgstock_front.saga x
	   SET saga = pgstock_front.saga_next_number(s.saga), state = 'new',
		   step = 2, verb = 'reserve', args = c.args, shards = c.shards,
		   step_shards = c.shards, step_parts = pgstock_front.saga_parts(
				c.request -> 'items', c.places, c.shards),
		   request = c.request, idempotency_key = c.idempotency_key,
		   answer = NULL, history = pgstock_front.saga_history(),
		   begun_at = now, changed_at = now, tries = 0, error = NULL,
		   due_at = now + pgstock_front.saga_setting('patience')
	 WHERE x.order_id = c.order_id
	RETURNING * INTO s;
	s.args := jsonb_build_object('hold',
								 pgstock_front.saga_setting('hold'));
	RETURN pgstock_front.saga_turn(s, 'begun');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_reserve_again IS
	'begins to reserve an order over shards that has a row, or returns the '
	'reason why not';

/*
 * Begins to reserve an order.  Returns the text of a turn: if the order is new,
 * only the columns that the caller does not know, of args the time of a hold.
 */
CREATE FUNCTION pgstock_front.saga_reserve_call(call text)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c	pgstock_front.saga_reserve_call :=
			call::pgstock_front.saga_reserve_call;
	now	timestamptz := clock_timestamp();
	hold interval := pgstock_front.saga_setting('hold');
	number bigint := pgstock_front.saga_next_number(0);
BEGIN
	INSERT INTO pgstock_front.saga AS x
	VALUES (c.order_id, number, 'new', 2, 'reserve', c.args, c.shards,
			c.shards, pgstock_front.saga_parts(c.request -> 'items', c.places,
											   c.shards),
			c.request, c.idempotency_key, NULL, pgstock_front.saga_history(),
			now, now, now + pgstock_front.saga_setting('patience'))
		ON CONFLICT DO NOTHING;
	IF FOUND THEN
		/*
		 * as text, for speed: outcome, order_id, saga, state, step, verb, args,
		 * shards, step_shards, step_parts, request, answer, doubtful
		 */
		RETURN format('(begun,,%s,,,,"{""hold"": ""%s""}",,,,,,)', number,
					  hold);
	END IF;
	RETURN pgstock_front.saga_reserve_again(c)::text;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_reserve_call IS
	'begins to reserve an order over shards, or returns the reason why not';

/*
 * Begins a step of an order.  If a step with the same arguments is under way,
 * the caller joins it: each shard takes it once.
 */
CREATE FUNCTION pgstock_front.saga_settle(order_id text, shards int[],
	verb text, args jsonb, step_shards int[], step_parts jsonb[])
RETURNS pgstock_front.turn
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s	pgstock_front.saga;
	now	timestamptz := clock_timestamp();
BEGIN
	/* an order that several reserve_stock() calls reserved has no saga yet */
	INSERT INTO pgstock_front.saga AS x
	VALUES ($1, pgstock_front.saga_next_number(0), 'reserved', 2, NULL, '{}',
			$2, '{}', '{}', NULL, NULL, NULL, pgstock_front.saga_history(),
			now, now, now)
		ON CONFLICT DO NOTHING;
	SELECT * INTO STRICT s FROM pgstock_front.saga x WHERE x.order_id = $1
	   FOR UPDATE;
	IF s.verb = $3 AND s.step_parts = $6
		AND ($4 ? 'idempotency_key' OR NOT $4 ? 'items')
		AND s.history = pgstock_front.saga_history()
		AND s.args - '{role,trace,actor}'::text[]
		= $4 - '{role,trace,actor}'::text[] THEN
		RETURN pgstock_front.saga_turn(s, 'joined');
	ELSIF s.verb IS NOT NULL THEN
		RETURN pgstock_front.saga_turn(s,
			CASE WHEN s.verb = 'reserve' AND s.due_at > now THEN 'busy'
				 ELSE 'other' END);
	ELSE
		UPDATE pgstock_front.saga x
		   SET saga = pgstock_front.saga_renumber(x), step = x.step + 1,
			   verb = $3, args = $4, step_shards = $5, step_parts = $6,
			   changed_at = now, tries = 0, error = NULL,
			   history = pgstock_front.saga_history(),
			   due_at = now + pgstock_front.saga_setting('patience'),
			   shards = ARRAY(SELECT unnest(x.shards) UNION SELECT unnest($2)
							   ORDER BY 1)
		 WHERE x.order_id = $1
		RETURNING * INTO s;
		RETURN pgstock_front.saga_turn(s, 'begun');
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_settle IS
	'begins a step of an order over shards, or returns which one is under way';

/*
 * Begins the next step of a saga, unless another session has done so.  An
 * idempotency key belongs to the call, not to a step that follows it.
 */
CREATE FUNCTION pgstock_front.saga_follow(order_id text, saga bigint, step int,
	verb text, args jsonb, step_shards int[], answer text[])
RETURNS SETOF pgstock_front.turn
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s	pgstock_front.saga;
BEGIN
	UPDATE pgstock_front.saga x
	   SET saga = pgstock_front.saga_renumber(x), step = x.step + 1,
		   verb = $4, args = x.args - 'idempotency_key'
			|| jsonb_build_object('undoes', x.saga) || $5,
		   history = pgstock_front.saga_history(), step_shards = $6,
		   step_parts = array_fill('null'::jsonb, ARRAY[cardinality($6)]),
		   answer = coalesce($7, x.answer), changed_at = clock_timestamp(),
		   due_at = clock_timestamp() + '1s', tries = 0
	 WHERE x.order_id = $1 AND x.saga = $2 AND x.step = $3
	   AND x.verb IS NOT NULL
	RETURNING * INTO s;
	IF FOUND THEN
		RETURN NEXT pgstock_front.saga_turn(s, 'begun');
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_follow IS
	'begins the next step of a saga; no row: another session was first';

CREATE TYPE pgstock_front.saga_end_call AS
(
	order_id	text,
	saga		bigint,
	step		int,
	state		text,
	answer		text[]
);
COMMENT ON TYPE pgstock_front.saga_end_call IS
	'a call of saga_end_call by a front';

/* Ends a step that every shard has taken. */
CREATE FUNCTION pgstock_front.saga_end_call(call text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c	pgstock_front.saga_end_call := call::pgstock_front.saga_end_call;
BEGIN
	UPDATE pgstock_front.saga x
	   SET state = coalesce(c.state, x.state), verb = NULL, error = NULL,
		   answer = coalesce(c.answer, x.answer),
		   changed_at = clock_timestamp()
	 WHERE x.order_id = c.order_id AND x.saga = c.saga AND x.step = c.step
	   AND x.verb IS NOT NULL;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_end_call IS
	'ends a step of a saga; false: another session was first';

CREATE FUNCTION pgstock_front.saga_note(order_id text, saga bigint, step int,
	error text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgstock_front.saga x SET error = left($4, 1000)
	 WHERE x.order_id = $1 AND x.saga = $2 AND x.step = $3
	   AND x.verb IS NOT NULL AND x.error IS DISTINCT FROM left($4, 1000);
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_note IS
	'records why a step of a saga has not ended';

/*
 * The sweeper takes sagas whose callers are late.  It sets the time of the next
 * try before the try, so that a second sweeper takes other sagas.
 */
CREATE FUNCTION pgstock_front.saga_due(max_sagas int)
RETURNS SETOF pgstock_front.turn
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
UPDATE pgstock_front.saga x
   SET tries = x.tries + 1,
	   due_at = clock_timestamp()
				+ '1s'::interval * least(2 ^ least(x.tries, 4), 10)
  FROM (SELECT d.order_id FROM pgstock_front.saga d
		 WHERE d.verb IS NOT NULL AND d.due_at <= clock_timestamp()
		 ORDER BY d.due_at LIMIT max_sagas FOR UPDATE SKIP LOCKED) due
 WHERE x.order_id = due.order_id
RETURNING (pgstock_front.saga_turn(x, 'due')).*
$$;
COMMENT ON FUNCTION pgstock_front.saga_due IS
	'returns sagas whose step should have ended, and sets their next try';

/* If nothing was deleted, the shards need not be called. */
CREATE FUNCTION pgstock_front.saga_purge(max_sagas int)
RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before timestamptz := clock_timestamp()
		- pgstock_front.saga_setting('saga_retention');
BEGIN
	DELETE FROM pgstock_front.saga x
	 WHERE x.order_id IN (
		SELECT d.order_id FROM pgstock_front.saga d
		 WHERE d.begun_at < before AND d.changed_at < before
		   AND d.verb IS NULL
		 LIMIT max_sagas);
	RETURN CASE WHEN FOUND THEN before END;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_purge IS
	'deletes sagas that ended longer ago than pgstock_front.saga_retention; '
	'returns that time if it has deleted any, else NULL';

/* ---- For people ---------------------------------------------------------- */

CREATE TYPE pgstock_front.saga_row AS
(
	order_id	text,
	saga		bigint,
	state		text,
	under_way	text,
	step		int,
	shards		int[],
	begun_at	timestamptz,
	changed_at	timestamptz,
	next_try_at	timestamptz,
	tries		int,
	error		text
);
COMMENT ON TYPE pgstock_front.saga_row IS 'a row of stock_sagas';

CREATE FUNCTION pgstock_front.saga_list()
RETURNS SETOF pgstock_front.saga_row
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.order_id, s.saga, s.state, s.verb, s.step, s.shards, s.begun_at,
	   s.changed_at, CASE WHEN s.verb IS NOT NULL THEN s.due_at END, s.tries,
	   s.error
  FROM pgstock_front.saga s
$$;
COMMENT ON FUNCTION pgstock_front.saga_list IS
	'returns the orders over shards, for stock_sagas';

CREATE FUNCTION pgstock_front.saga_abandon(order_id text, reason text,
	actor text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgstock_front.saga x
	   SET verb = NULL, changed_at = clock_timestamp(), state = 'abandoned',
		   error = format('step "%s" was given up by %s: %s', x.verb, $3, $2)
	 WHERE x.order_id = $1 AND x.verb IS NOT NULL;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_abandon IS
	'gives up the step of an order that cannot end; false: none is under way';
