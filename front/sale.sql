/* ---- Flash sales over shards --------------------------------------------- */

/*
 * A sale is opened in the shard of its product, which in the same transaction
 * sends each other shard a part of the quota.  A buyer is routed by the user's
 * id, so one shard knows all purchases of a user, and its count for the limit
 * is exact.  If that shard has too little left, pieces are moved there from
 * others.  What moves, and why no piece is ever in two shards, is in
 * front/shard_sale.sql; the reasons are in
 * docs/decisions/0028-flash-sales-over-shards.md.
 *
 * A session may fail at any instruction here.  The moves that it leaves are
 * under way until a buyer who needs them, close_flash_sale or the sweeper lets
 * them arrive.
 *
 * Where the order id names its shard (order_key), a sale is in the shard of its
 * product alone.
 */
SELECT pgstock_front.make_shard_calls('sale_open',
	'{text,text,bigint,bigint,timestamptz,timestamptz,text}');
SELECT pgstock_front.make_shard_calls('sale_buy',
	'{text,text,text,bigint,jsonb,jsonb}');
SELECT pgstock_front.make_shard_calls('sale_send', '{text,int,bigint}');
SELECT pgstock_front.make_shard_calls('open_flash_sale',
	'{text,text,bigint,bigint,timestamptz,timestamptz,text}');
SELECT pgstock_front.make_shard_calls('purchase_flash_sale',
	'{text,text,text,bigint,jsonb}');
SELECT pgstock_front.make_shard_calls('sale_close', '{text}');

/* ---- Opening ---- */

/* If no order id names a shard, orders may be in any. */
CREATE FUNCTION pgstock_front.sale_is_shared()
RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_front.shard_count() > 1
	   AND pg_get_function_sqlbody(
				to_regprocedure('pgstock_front.order_shard(text)'))
		   LIKE '%shard\_of(NULL::text,%'
$$;
COMMENT ON FUNCTION pgstock_front.sale_is_shared IS
	'returns whether flash sales are open in all shards: there is no order_key';

CREATE FUNCTION pgstock_front.sale_check_new(activity_id text, home int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	states	jsonb[] := pgstock_front.sale_states($1);
BEGIN
	PERFORM pgstock_front.sale_check_states(states);
	/* its own shard looks for it itself, after it has checked the arguments */
	IF EXISTS (SELECT FROM unnest(states) s
				WHERE (s ->> 'known')::boolean
				  AND (s ->> 'shard')::int <> home) THEN
		PERFORM pgstock_front.raise('22023',
			format('flash sale "%s" was opened before', $1), NULL,
			'Give each sale an activity_id of its own.');
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_check_new IS
	'raises 22023 for a sale that another shard knows';

CREATE FUNCTION @extschema@.open_flash_sale(activity_id text,
	product_id text, quantity bigint, per_user_limit bigint DEFAULT 1,
	starts_at timestamptz DEFAULT now(), ends_at timestamptz DEFAULT NULL,
	location text DEFAULT 'main')
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	home	int[];
	trace	text := nullif(current_setting('pgstock.trace_id', true), '');
	actor	text := pgstock_front.actor();
	answers	pgstock_front.answer[];
BEGIN
	PERFORM pgstock_front.begin_call('open_flash_sale');
	BEGIN
		home := pgstock_front.shards_of_line(product_id, location);
		IF NOT pgstock_front.sale_is_shared() THEN
			answers := ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.open_flash_sale(home,
					pgstock_front.caller(), trace, actor, $1, $2, $3, $4, $5,
					$6, $7) a);
		ELSE
			PERFORM pgstock_front.sale_check_new(activity_id, home[1]);
			answers := ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_open(home, pgstock_front.caller(),
					trace, actor, $1, $2, $3, $4, $5, $6, $7) a);
		END IF;
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('open_flash_sale', SQLSTATE,
										  SQLERRM);
	END;
	answers := pgstock_front.check_answers(answers);
	/* the sale is open; a buyer or the sweeper delivers what this does not */
	BEGIN
		PERFORM pgstock_front.sale_deliver((answers[1]).rows::jsonb[]);
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
END
$$;
COMMENT ON FUNCTION @extschema@.open_flash_sale IS
	'calls open_flash_sale of pgstock in the shard of the product, and sends '
	'the other shards their parts of the quota';

/* ---- Purchases ---- */

CREATE FUNCTION pgstock_front.sale_buy_in(shard int, activity_id text,
	user_id text, order_id text, quantity bigint, attributes jsonb,
	moves jsonb[])
RETURNS pgstock_front.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	trace	text := nullif(current_setting('pgstock.trace_id', true), '');
	a		pgstock_front.answer;
	f		pgstock_front.failure;
BEGIN
	IF moves = '{}' THEN
		a := pgstock_front.purchase_flash_sale(ARRAY[shard],
			pgstock_front.caller(), trace, pgstock_front.actor(), $2, $3, $4,
			$5, $6);
	ELSE
		a := pgstock_front.sale_buy(ARRAY[shard], pgstock_front.caller(),
			trace, pgstock_front.actor(), $2, $3, $4, $5, $6, to_jsonb($7));
	END IF;
	IF a.error IS NOT NULL THEN
		f := a.error::pgstock_front.failure;
		PERFORM pgstock_front.raise(f.sqlstate, f.message, f.detail, f.hint);
	END IF;
	PERFORM pgstock_front.sale_mark_arrived(moves);
	RETURN a.rows[1]::pgstock_front.stock_result;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_buy_in IS
	'purchases in one shard, where the moves arrive in the same transaction';

/*
 * A shard that has much left sends half of it: then the next buyers of the same
 * shard need no move.
 */
CREATE FUNCTION pgstock_front.sale_gather(activity_id text, target int,
	states jsonb[], wanted bigint)
RETURNS jsonb[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s		jsonb;
	a		pgstock_front.answer;
	moves	jsonb[] := '{}';
BEGIN
	FOR s IN SELECT t FROM unnest(states) t
			  WHERE (t ->> 'free')::bigint > 0
			  ORDER BY (t ->> 'shard')::int <> target,
					   (t ->> 'free')::bigint DESC, random()
	LOOP
		EXIT WHEN wanted <= 0;
		IF (s ->> 'shard')::int = target THEN
			wanted := wanted - (s ->> 'free')::bigint;
			CONTINUE;
		END IF;
		a := pgstock_front.sale_send(ARRAY[(s ->> 'shard')::int], NULL, NULL,
			NULL, activity_id, target,
			greatest(wanted, (s ->> 'free')::bigint / 2));
		PERFORM pgstock_front.check_answers(ARRAY[a]);
		IF a.rows[1] IS NOT NULL THEN
			moves := moves || a.rows[1]::jsonb;
			wanted := wanted - (a.rows[1]::jsonb ->> 'quantity')::bigint;
		END IF;
	END LOOP;
	RETURN moves;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_gather IS
	'takes pieces out of other shards, as many as the target lacks, and '
	'returns their moves';

/*
 * Whether the states prove that too few pieces are left.  A piece that stays
 * free during a call is in a shard or on the way at the moment between two
 * looks.  The second look finds it there, unless it has left that shard since
 * the first one; then last_move has changed.  The first look may be that of an
 * earlier call of the session, as it was before this moment too.
 */
CREATE FUNCTION pgstock_front.sale_is_proved(activity_id text, states jsonb[])
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen	text := activity_id || (
				SELECT string_agg(concat_ws(' ', '', s ->> 'shard',
											s ->> 'last_move'), ',' ORDER BY n)
				  FROM unnest(states) WITH ORDINALITY t (s, n));
	before	text := current_setting('pgstock_front.sale_seen', true);
BEGIN
	PERFORM set_config('pgstock_front.sale_seen', seen, false);
	RETURN coalesce(seen = before, false);
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_is_proved IS
	'returns whether no piece has left a shard since this session last read '
	'the states of the sale';

/* The answer, if the shard of the user does not know the sale. */
CREATE FUNCTION pgstock_front.sale_buy_elsewhere(activity_id text,
	user_id text, order_id text, quantity bigint, attributes jsonb,
	states jsonb[], otherwise pgstock_front.stock_result)
RETURNS pgstock_front.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shard	int := (SELECT (s ->> 'shard')::int FROM unnest(states) s
					 WHERE (s ->> 'known')::boolean
					 ORDER BY (s ->> 'shared')::boolean LIMIT 1);
	named	int := pgstock_front.order_shard(order_id);
BEGIN
	IF shard IS NULL THEN
		PERFORM pgstock_front.sale_check_states(states);
		RETURN otherwise;
	ELSIF named <> shard THEN
		PERFORM pgstock_front.raise('0A000',
			format('order "%s" and flash sale "%s" are in different shards',
				   order_id, activity_id),
			format('The sale is in shard %s, but shard %s is named by the '
				   'order id.', shard, named),
			'Use an order id with the key of the sale''s product.');
	END IF;
	RETURN pgstock_front.sale_buy_in(shard, activity_id, user_id, order_id,
									 quantity, attributes, '{}');
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_buy_elsewhere IS
	'purchases in the one shard that knows the sale; if none does, returns the '
	'answer "otherwise"';

CREATE FUNCTION pgstock_front.sale_late(order_id text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_front.raise('40001',
		format('could not gather the pieces for order "%s" in time', order_id),
		'Other buyers have taken the pieces that were moved for it.',
		'Repeat the call.');
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_late IS
	'raises 40001: the pieces of a purchase could not be gathered';

/*
 * The shard of the user has refused: it has too little left, or does not know
 * the sale yet.  Moves of other sessions are waited for, and finished if these
 * sessions must have failed.
 */
CREATE FUNCTION pgstock_front.sale_find(home int, activity_id text,
	user_id text, order_id text, quantity bigint, attributes jsonb,
	refusal pgstock_front.stock_result)
RETURNS pgstock_front.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r		pgstock_front.stock_result := refusal;
	states	jsonb[];
	own		jsonb;
	total	bigint;
	moves	jsonb[];
	until	timestamptz := clock_timestamp() + '10s'::interval;
BEGIN
	LOOP
		IF clock_timestamp() > until THEN
			PERFORM pgstock_front.sale_late(order_id);
		END IF;
		states := pgstock_front.sale_states(activity_id);
		own := (SELECT s FROM unnest(states) s
				 WHERE (s ->> 'shard')::int = home);
		total := (SELECT sum((s ->> 'free')::bigint) FROM unnest(states) s);
		moves := '{}';
		IF NOT coalesce((own ->> 'known')::boolean, false)
			AND NOT EXISTS (SELECT FROM unnest(states) s
							 WHERE (s ->> 'shared')::boolean) THEN
			RETURN pgstock_front.sale_buy_elsewhere(activity_id, user_id,
				order_id, quantity, attributes, states, r);
		ELSIF (own ->> 'known')::boolean AND NOT (own ->> 'shared')::boolean
		THEN
			RETURN r;
		ELSIF NOT (own ->> 'known')::boolean THEN
			PERFORM pgstock_front.sale_redeliver(ARRAY(
				SELECT m
				  FROM unnest(pgstock_front.sale_waiting(states, false)) m
				 WHERE (m ->> 'target')::int = home));
		ELSIF total >= r.requested THEN
			moves := pgstock_front.sale_gather(activity_id, home, states,
											   r.requested);
		ELSIF pgstock_front.sale_waiting(states, false) <> '{}' THEN
			PERFORM pgstock_front.sale_redeliver(
				pgstock_front.sale_waiting(states, true));
		ELSIF r.product_id IS NOT NULL THEN
			PERFORM pgstock_front.sale_check_states(states);
			CONTINUE WHEN NOT pgstock_front.sale_is_proved(activity_id,
														   states);
			r.available := total;
			/* it is being closed, or has ended by the clock of a shard */
			IF EXISTS (SELECT FROM unnest(states) s
						WHERE NOT (s ->> 'open')::boolean) THEN
				r.status := 'not_open';
			END IF;
			RETURN r;
		END IF;
		/* without a product: the shard did not know the sale, and now does */
		r := pgstock_front.sale_buy_in(home, activity_id, user_id, order_id,
									   quantity, attributes, moves);
		IF r.status <> 'insufficient' AND r.product_id IS NOT NULL THEN
			RETURN r;
		END IF;
		PERFORM pg_sleep(random() * 0.02);
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_find IS
	'purchases with pieces of other shards; returns a refusal only if too few '
	'are left in all of them';

CREATE FUNCTION @extschema@.purchase_flash_sale(activity_id text, user_id text,
	order_id text, quantity bigint DEFAULT 1, attributes jsonb DEFAULT NULL)
RETURNS pgstock_front.stock_result
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r		pgstock_front.stock_result;
	home	int;
BEGIN
	PERFORM pgstock_front.begin_call('purchase_flash_sale');
	BEGIN
		/* NULL: shard 0 raises the error of the argument */
		home := coalesce(pgstock_front.order_shard(order_id),
			pgstock_front.shard_of(user_id,
								   cardinality(pgstock_front.all_shards())), 0);
		r := pgstock_front.sale_buy_in(home, activity_id, user_id, order_id,
									   quantity, attributes, '{}');
		IF r.status = 'insufficient' OR r.product_id IS NULL THEN
			r := pgstock_front.sale_find(home, activity_id, user_id, order_id,
										 quantity, attributes, r);
		END IF;
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('purchase_flash_sale', SQLSTATE,
										  SQLERRM);
	END;
	RETURN r;
END
$$;
COMMENT ON FUNCTION @extschema@.purchase_flash_sale IS
	'calls purchase_flash_sale of pgstock in the shard of the user; if too few '
	'pieces are left there, moves pieces of other shards to it';

/* ---- Closing ---- */

/* Returns NULL if a call has closed the sale in all of these shards before. */
CREATE FUNCTION pgstock_front.sale_close_in(shards int[], activity_id text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[];
BEGIN
	answers := ARRAY(
		SELECT a::pgstock_front.answer
		  FROM pgstock_front.sale_close(shards, pgstock_front.caller(),
			nullif(current_setting('pgstock.trace_id', true), ''),
			pgstock_front.actor(), $2) a);
	PERFORM pgstock_front.check_answers(ARRAY(
		SELECT a FROM unnest(answers) a
		 WHERE (a.error::pgstock_front.failure).sqlstate <> 'SK008'));
	RETURN (SELECT sum(a.rows[1]::bigint) FROM unnest(answers) a);
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_close_in IS
	'closes a sale in several shards, and returns what was left in those in '
	'which it was open or has ended by itself';

CREATE FUNCTION pgstock_front.sale_not_closed(activity_id text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_front.raise('40001',
		format('could not close flash sale "%s" in all shards in time',
			   activity_id),
		'Moves of its pieces are still under way between shards.',
		'The sweeper delivers them. Repeat the call: SK008 then means that '
		'the sale is closed.');
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_not_closed IS
	'raises 40001: moves of a sale that is being closed have not arrived';

/*
 * A shard whose sale is closed sends nothing any more.  What is on the way then
 * arrives, and may open the sale in a shard that did not know it yet.
 */
CREATE FUNCTION pgstock_front.sale_close_all(activity_id text, states jsonb[])
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards	int[] := ARRAY(SELECT (s ->> 'shard')::int FROM unnest(states) s
							WHERE (s ->> 'known')::boolean);
	remain	bigint;
	until	timestamptz := clock_timestamp() + pgstock_front.longest_wait();
BEGIN
	LOOP
		IF shards <> '{}' THEN
			remain := coalesce(
				pgstock_front.sale_close_in(shards, activity_id), remain);
		END IF;
		states := pgstock_front.sale_states(activity_id);
		PERFORM pgstock_front.sale_check_states(states);
		shards := ARRAY(SELECT (s ->> 'shard')::int FROM unnest(states) s
						 WHERE (s ->> 'open')::boolean);
		IF pgstock_front.sale_waiting(states, false) <> '{}' THEN
			PERFORM pgstock_front.sale_redeliver(
				pgstock_front.sale_waiting(states, false));
		ELSIF shards = '{}' THEN
			EXIT;
		END IF;
		IF clock_timestamp() > until THEN
			PERFORM pgstock_front.sale_not_closed(activity_id);
		END IF;
		PERFORM pg_sleep(random() * 0.02);
	END LOOP;
	/* also what an earlier call has closed that failed before its end */
	RETURN CASE WHEN remain IS NOT NULL THEN coalesce((
		SELECT sum((s ->> 'left')::bigint) FROM unnest(states) s), remain) END;
END
$$;
COMMENT ON FUNCTION pgstock_front.sale_close_all IS
	'closes a sale in all shards; returns what was left, or NULL if a call has '
	'closed it before';

CREATE FUNCTION @extschema@.close_flash_sale(activity_id text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	states	jsonb[];
	remain	bigint;
BEGIN
	PERFORM pgstock_front.begin_call('close_flash_sale');
	BEGIN
		states := pgstock_front.sale_states(activity_id);
		PERFORM pgstock_front.sale_check_states(states);
		remain := pgstock_front.sale_close_all(activity_id, states);
		IF remain IS NULL THEN
			/* one of them raises the error */
			PERFORM pgstock_front.check_answers(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.sale_close(ARRAY(
						SELECT (s ->> 'shard')::int FROM unnest(states) s
						 ORDER BY (s ->> 'known')::boolean DESC LIMIT 1),
					pgstock_front.caller(), NULL, NULL, $1) a));
		END IF;
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR connection_exception OR admin_shutdown
		OR crash_shutdown OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('close_flash_sale', SQLSTATE,
										  SQLERRM);
	END;
	PERFORM pgstock_front.sale_sweep();
	RETURN remain;
END
$$;
COMMENT ON FUNCTION @extschema@.close_flash_sale IS
	'calls close_flash_sale of pgstock in all shards; returns the sum of what '
	'was left, which goes to the shard of the product';
