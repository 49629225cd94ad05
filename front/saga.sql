/* ---- Orders over shards -------------------------------------------------- */

/*
 * What a front does for an order whose lines are in several shards.  The rows
 * and states are in saga_table.sql, the parts in shard_part.sql; the reasons
 * are in docs/decisions/0027-orders-across-shards.md.
 *
 * Only the functions that callers may call set a search path; those below run
 * in theirs, because setting one again costs each of them some microseconds.
 *
 * A session may fail at any instruction here.  It then leaves a row whose verb
 * is not NULL, and the sweeper, or the next call for the order, finishes the
 * step with the same functions.
 */

/* ---- The request ---- */

CREATE FUNCTION pgstock_front.saga_lines(items jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN (
		SELECT jsonb_agg(jsonb_build_array(l.product, l.location, l.quantity)
						 ORDER BY l.product, l.location)
		  FROM (SELECT i ->> 'product_id' AS product,
					   coalesce(i ->> 'location', 'main') AS location,
					   sum(CASE jsonb_typeof(i -> 'quantity')
						   WHEN 'number' THEN (i ->> 'quantity')::numeric END)
						   AS quantity
				  FROM jsonb_array_elements(items) i
				 GROUP BY 1, 2) l);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_lines IS
	'returns the merged lines of a request';

/* Called only if there is an earlier request to compare with. */
CREATE FUNCTION pgstock_front.saga_same(request jsonb, other jsonb)
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN request -> 'user_id' = other -> 'user_id'
	   AND pgstock_front.saga_lines(request -> 'items')
		 = pgstock_front.saga_lines(other -> 'items');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_same IS
	'returns whether two requests are the same: user and merged lines';

/* Each step has the role, trace and actor of the call that began it. */
CREATE FUNCTION pgstock_front.saga_args(args jsonb)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'pgstock_front_args' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION pgstock_front.saga_args IS
	'returns the arguments of a step that are not null, with role, trace and '
	'actor';

CREATE FUNCTION pgstock_front.saga_reused(order_id text, key text)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF key IS NOT NULL THEN
		PERFORM pgstock_front.raise('SK007',
			format('idempotency key "%s" was used for another request', key),
			NULL, 'Repeat the same request, or use a new key.');
	END IF;
	PERFORM pgstock_front.raise('SK007',
		format('order "%s" is already reserved by another request', order_id),
		'Its live lines, their quantities or its user differ from this '
		'request.',
		'Repeat the same request, release the order first, or use another '
		'order id.');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_reused IS
	'raises SK007: the order or the key belongs to another request';

/* ---- Reserving ---- */

/*
 * Releases the lines of an order that was not reserved completely.  The row is
 * changed first: from then on no session can set the order to reserved.
 */
CREATE FUNCTION pgstock_front.saga_undo(t pgstock_front.turn, outcome text,
	answer text[], shards int[])
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	after	pgstock_front.turn;
BEGIN
	SELECT * INTO after FROM pgstock_front.ask_follow(t.order_id, t.saga,
		t.step, 'undo', jsonb_build_object('outcome', outcome,
			'reason', outcome), shards, answer);
	IF FOUND THEN
		PERFORM pgstock_front.saga_finish(after);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_undo IS
	'releases in the given shards the lines of an order that was not reserved';

/*
 * The same for the session that began it.  If that has not sent a keep yet, a
 * shard that did not answer needs no release: its hold, if it took one, expires
 * by itself.  If the undo fails now, the sweeper repeats it.
 */
CREATE FUNCTION pgstock_front.saga_give_up(t pgstock_front.turn, outcome text,
	answer text[], held pgstock_front.answer[], keeping boolean)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	shards	int[];
BEGIN
	SELECT array_agg(DISTINCT a.shard) INTO shards
	  FROM unnest(held) a, unnest(a.rows) r
	 WHERE (r::pgstock_front.stock_result).granted > 0;
	IF shards IS NULL THEN
		PERFORM pgstock_front.ask_end(t.order_id, t.saga, t.step, outcome,
									  answer);
	ELSE
		PERFORM pgstock_front.saga_undo(t, outcome, answer,
			CASE WHEN keeping THEN t.shards ELSE shards END);
	END IF;
EXCEPTION WHEN OTHERS THEN
	NULL;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_give_up IS
	'undoes the reservation that this session began; if that fails, the '
	'sweeper repeats it';

/*
 * The rows of an order that was not reserved: lines that a shard granted get
 * the status refused, because of the others.
 */
CREATE FUNCTION pgstock_front.saga_refused(answers pgstock_front.answer[])
RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET datestyle = 'ISO'
AS $$
DECLARE
	r		pgstock_front.stock_result;
	result	text[];
BEGIN
	FOR r IN SELECT x.* FROM pgstock_front.saga_rows(answers) x
			  ORDER BY x.product_id COLLATE "C", x.location COLLATE "C"
	LOOP
		IF r.granted > 0 THEN
			r.status := 'refused';
			r.available := r.available + r.granted;
			r.granted := 0;
			r.expires_at := NULL;
			r.replayed := false;
		END IF;
		result := result || r::text;
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_refused IS
	'returns the rows of an order that a shard refused';

/* Only the answer of the hold shows which lines are back-ordered. */
CREATE FUNCTION pgstock_front.saga_backordered(held pgstock_front.answer[],
	kept pgstock_front.answer[])
RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET datestyle = 'ISO'
AS $$
BEGIN
	RETURN (
		SELECT array_agg((k.order_id, k.product_id, k.location, k.requested,
						  k.granted, h.status, k.available, k.expires_at,
						  k.version, false)
						 ::pgstock_front.stock_result::text
						 ORDER BY k.product_id COLLATE "C",
								  k.location COLLATE "C")
		  FROM pgstock_front.saga_rows(held) h
		  JOIN pgstock_front.saga_rows(kept) k
			ON k.product_id = h.product_id AND k.location = h.location);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_backordered IS
	'returns the rows of the keep, with the status of the hold';

CREATE FUNCTION pgstock_front.saga_not_held(t pgstock_front.turn,
	outcome text, held pgstock_front.answer[])
RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
	answer	text[];
	f		pgstock_front.failure := coalesce(
				pgstock_front.saga_failure(held, true),
				pgstock_front.saga_failure(held, false));
BEGIN
	IF outcome = 'refused' THEN
		answer := pgstock_front.saga_refused(held);
		PERFORM pgstock_front.saga_give_up(t, 'refused', answer, held, false);
		RETURN answer;
	END IF;
	PERFORM pgstock_front.saga_give_up(t,
		CASE WHEN f.sqlstate ~ '^SK00[12]' THEN 'refused' ELSE 'abandoned' END,
		NULL, held, false);
	PERFORM pgstock_front.saga_raise(f);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_not_held IS
	'gives up an order that the shards do not hold, and returns its rows, or '
	'raises the reason';

CREATE FUNCTION pgstock_front.saga_not_kept(t pgstock_front.turn,
	held pgstock_front.answer[], kept pgstock_front.answer[])
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	f	pgstock_front.failure := coalesce(
			pgstock_front.saga_failure(kept, true),
			pgstock_front.saga_failure(kept, false));
BEGIN
	PERFORM pgstock_front.saga_give_up(t, 'abandoned', NULL, held, true);
	IF f.sqlstate ~ '^22' THEN
		PERFORM pgstock_front.saga_raise(f);
	END IF;
	PERFORM pgstock_front.raise('40001',
		format('could not reserve order "%s" in all of its shards', t.order_id),
		f.message, 'Nothing is reserved. Repeat the call.');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_not_kept IS
	'gives up an order that a shard could not keep, and raises the reason';

/*
 * Hold, keep, and the commit that reserves: the order is not reserved before
 * ask_end returns.
 */
CREATE FUNCTION pgstock_front.saga_take(order_id text, saga bigint, args jsonb,
	shards int[], parts jsonb[])
RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
	t		pgstock_front.turn := ('begun', order_id, saga, 'new', 2,
				'reserve', args, shards, shards, parts, NULL, NULL, false);
	held	pgstock_front.answer[];
	outcome	text;
	kept	pgstock_front.answer[];
	answer	text[];
BEGIN
	held := pgstock_front.saga_push(t, 'hold', t.step - 1);
	outcome := pgstock_front.saga_outcome(held);
	IF outcome IN ('failed', 'refused') THEN
		RETURN pgstock_front.saga_not_held(t, outcome, held);
	END IF;
	kept := pgstock_front.saga_push(t, 'keep', t.step);
	IF pgstock_front.saga_outcome(kept) NOT IN ('granted', 'backordered') THEN
		PERFORM pgstock_front.saga_not_kept(t, held, kept);
	END IF;
	answer := CASE outcome WHEN 'backordered'
			  THEN pgstock_front.saga_backordered(held, kept)
			  ELSE pgstock_front.saga_sorted(kept) END;
	IF NOT pgstock_front.ask_end(t.order_id, t.saga, t.step, 'reserved',
								 answer) THEN
		PERFORM pgstock_front.raise('40001',
			format('could not reserve order "%s" in time', t.order_id),
			'It took longer than pgstock_front.patience, and was undone.',
			'Repeat the call.');
	END IF;
	RETURN answer;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_take IS
	'holds and keeps an order in all of its shards; returns its rows';

/* ---- The same order again ---- */

CREATE TYPE pgstock_front.part_line AS
(
	product_id	text,
	location	text,
	quantity	bigint,
	state		text,
	expires_at	timestamptz,
	available	bigint,
	version		bigint
);
COMMENT ON TYPE pgstock_front.part_line IS
	'the latest line of a product of an order, in its current state';

CREATE FUNCTION pgstock_front.saga_look(order_id text, shards int[])
RETURNS SETOF pgstock_front.part_line
LANGUAGE plpgsql
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	answers := pgstock_front.check_answers(ARRAY(
		SELECT a::pgstock_front.answer
		  FROM pgstock_front.part_look(shards, pgstock_front.caller(),
									   NULL, NULL, order_id) a));
	RETURN QUERY
	SELECT l.*
	  FROM unnest(answers) a, unnest(a.rows::pgstock_front.part_line[]) l;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_look IS
	'returns the lines of an order in its shards, in their current state';

/*
 * Compares an order that was reserved with a request: "again" if all lines are
 * live and are those of the request; "ended" if none is live, or all that are
 * not have expired; "another" otherwise.
 */
CREATE FUNCTION pgstock_front.saga_standing(lines pgstock_front.part_line[],
	requested jsonb, same boolean)
RETURNS text
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
	RETURN (
		SELECT CASE WHEN NOT bool_or(m.live) THEN 'ended'
					WHEN NOT same OR bool_or(m.live AND m.differs)
					THEN 'another'
					WHEN bool_and(m.live) THEN 'again'
					WHEN bool_and(m.live OR m.expired) THEN 'ended'
					ELSE 'another' END
		  FROM (SELECT coalesce(l.state IN ('reserved', 'confirmed'), false)
						   AS live,
					   coalesce(l.state = 'expired', false) AS expired,
					   l.quantity IS DISTINCT FROM r.quantity AS differs
				  FROM unnest(lines) l
				  FULL JOIN (SELECT q ->> 0 AS product_id, q ->> 1 AS location,
									(q ->> 2)::numeric AS quantity
							   FROM jsonb_array_elements(requested) q)
					   r USING (product_id, location)) m);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_standing IS
	'compares a request with the lines of an order: again, ended or another';

CREATE FUNCTION pgstock_front.saga_replay(order_id text,
	lines pgstock_front.part_line[])
RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET datestyle = 'ISO'
AS $$
BEGIN
	RETURN (
		SELECT array_agg((order_id, l.product_id, l.location, l.quantity,
						  l.quantity, 'granted', l.available, l.expires_at,
						  l.version, true)::pgstock_front.stock_result::text
						 ORDER BY l.product_id COLLATE "C",
								  l.location COLLATE "C")
		  FROM unnest(lines) l);
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_replay IS
	'returns the rows of an order that is already reserved';

CREATE FUNCTION pgstock_front.saga_raise_stored(r pgstock_front.stock_result,
	key text)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF r.status IN ('insufficient', 'refused', 'unknown_product') THEN
		PERFORM pgstock_front.raise(
			CASE r.status WHEN 'unknown_product' THEN 'SK002' ELSE 'SK001' END,
			format('not enough stock for order "%s"', r.order_id),
			format('Product "%s": wanted %s, available %s.', r.product_id,
				   r.requested, r.available),
			'To try again, use a new key.');
	END IF;
	PERFORM pgstock_front.raise(
		CASE r.status WHEN 'expired' THEN 'SK006' ELSE 'SK005' END,
		format('the reservation under idempotency key "%s" has ended', key),
		format('Product "%s" of order "%s" is %s.', r.product_id, r.order_id,
			   r.status),
		'To reserve again, use a new key.');
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_raise_stored IS
	'raises the error of a stored row that is not granted';

/* The lines that a stored answer calls granted may have ended since. */
CREATE FUNCTION pgstock_front.saga_stored(t pgstock_front.turn, key text)
RETURNS text[]
LANGUAGE plpgsql SET datestyle = 'ISO'
AS $$
DECLARE
	lines	pgstock_front.part_line[];
	r		pgstock_front.stock_result;
	l		pgstock_front.part_line;
	answer	text[];
BEGIN
	lines := ARRAY(SELECT x FROM pgstock_front.saga_look(t.order_id,
														 t.shards) x);
	FOR r IN SELECT x.* FROM unnest(t.answer::pgstock_front.stock_result[]) x
	LOOP
		l := (SELECT x FROM unnest(lines) x
			   WHERE x.product_id = r.product_id AND x.location = r.location);
		r.replayed := true;
		IF r.granted > 0 THEN
			r.status := CASE WHEN l.state IN ('reserved', 'confirmed')
							 THEN r.status
							 ELSE coalesce(l.state, 'released') END;
			r.granted := CASE WHEN l.state IN ('reserved', 'confirmed')
							  THEN least(r.granted, l.quantity) ELSE 0 END;
		END IF;
		IF r.granted = 0 AND (t.args ->> 'raise')::boolean THEN
			PERFORM pgstock_front.saga_raise_stored(r, key);
		END IF;
		answer := answer || r::text;
	END LOOP;
	RETURN answer;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_stored IS
	'returns the answer stored under an idempotency key, brought up to date';

/*
 * If another session is reserving the same order, waits until it has finished,
 * or until it is late; then its saga is undone.
 *
 * Of a saga that it has begun, the coordinator returns its number and the time
 * of a hold: the other columns are those of the call.
 */
CREATE FUNCTION pgstock_front.saga_order(order_id text, items jsonb,
	user_id text, ttl interval, strategy text, idempotency_key text,
	raises boolean, shards int[])
RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
	t		pgstock_front.turn;
	request	jsonb := jsonb_build_object('user_id', user_id, 'items', items);
	args	jsonb := pgstock_front.saga_args(jsonb_build_object('user_id',
						user_id, 'ttl', ttl, 'strategy', strategy,
						'raise', raises));
	places	int[] := pgstock_front.places_of_items(items);
	lines	pgstock_front.part_line[];
	ended	bigint;
	answer	text[];
	pause	double precision := 0.002;
	since	timestamptz;
BEGIN
	IF pgstock_front.order_shard(order_id) IS NOT NULL
		OR NOT pgstock_front.has_coordinator() THEN
		PERFORM pgstock_front.saga_check_coordinator(order_id, shards);
	END IF;
	WHILE answer IS NULL LOOP
		t := pgstock_front.ask_reserve(order_id, shards, places, request, args,
									   idempotency_key, ended);
		IF t.outcome = 'begun' THEN
			RETURN pgstock_front.saga_take(order_id, t.saga, args || t.args,
				shards, pgstock_front.saga_parts(items, places, shards));
		END IF;
		CASE t.outcome
		WHEN 'stored' THEN
			t.args := args;
			answer := pgstock_front.saga_stored(t, idempotency_key);
		WHEN 'busy' THEN
			PERFORM pg_sleep(pause);
			pause := least(2 * pause, 0.1);
		WHEN 'other' THEN
			PERFORM pgstock_front.saga_resume(t);
		WHEN 'live' THEN
			lines := ARRAY(SELECT x FROM pgstock_front.saga_look(order_id,
																 t.shards) x);
			CASE pgstock_front.saga_standing(lines,
				pgstock_front.saga_lines(items),
				pgstock_front.saga_same(t.request, request))
			WHEN 'again' THEN
				answer := pgstock_front.saga_replay(order_id, lines);
			WHEN 'ended' THEN
				ended := t.saga;
			ELSE
				PERFORM pgstock_front.saga_reused(order_id, NULL);
			END CASE;
		ELSE
			PERFORM pgstock_front.saga_reused(order_id, idempotency_key);
		END CASE;
		IF answer IS NULL THEN
			since := pgstock_front.saga_check_wait(order_id, since);
		END IF;
	END LOOP;
	RETURN answer;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_order IS
	'reserves an order whose lines are in several shards, all or none; returns '
	'its rows (pgstock_front.stock_result), sorted';
