/* ---- Flash sales over shards --------------------------------------------- */

/*
 * A flash sale that a front has opened has a quota in each shard.  Pieces move
 * from one shard to another in two transactions: the first takes them out of a
 * quota and writes a row of stock_move, the second puts them into the quota of
 * the other shard and writes a row of stock_arrival.  Between the two they are
 * in no shard.  Any front may send a move again until it is marked as arrived;
 * the row of stock_arrival lets it take effect once.
 *
 * Both commits must be durable before the next step, whatever the database or
 * role has set: a piece must never be in two shards after a crash.
 */
CREATE TABLE pgstock_shard.shared_sale
(
	activity_id	text COLLATE "C" NOT NULL,
	home		int NOT NULL,
	last_move	uuid,
	left_at_close bigint NOT NULL DEFAULT 0,
	arrived_late bigint NOT NULL DEFAULT 0,
	CONSTRAINT shared_sale_pkey PRIMARY KEY (activity_id)
);
COMMENT ON TABLE pgstock_shard.shared_sale IS
	'flash sales that are open in all shards';
COMMENT ON COLUMN pgstock_shard.shared_sale.home IS
	'the shard of the product, in which the sale was opened';
COMMENT ON COLUMN pgstock_shard.shared_sale.last_move IS
	'the latest move of pieces out of the quota of this shard';
COMMENT ON COLUMN pgstock_shard.shared_sale.left_at_close IS
	'what was left in this shard when the sale was closed';
COMMENT ON COLUMN pgstock_shard.shared_sale.arrived_late IS
	'pieces that have arrived in this shard after that';

CREATE TABLE pgstock_shard.stock_move
(
	id			uuid NOT NULL,
	activity_id	text COLLATE "C",
	move		jsonb NOT NULL,
	sent_at		timestamptz NOT NULL DEFAULT clock_timestamp(),
	arrived_at	timestamptz,
	CONSTRAINT stock_move_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE pgstock_shard.stock_move IS
	'pieces that this shard has sent to another one; activity_id is NULL for '
	'ordinary stock, which a sale has left here';
CREATE INDEX stock_move_waiting ON pgstock_shard.stock_move (activity_id)
 WHERE arrived_at IS NULL;
CREATE INDEX stock_move_arrived_at ON pgstock_shard.stock_move (arrived_at)
 WHERE arrived_at IS NOT NULL;

CREATE TABLE pgstock_shard.stock_arrival
(
	id			uuid NOT NULL,
	arrived_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT stock_arrival_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE pgstock_shard.stock_arrival IS
	'moves of pieces that have arrived in this shard';

CREATE TABLE pgstock_shard.guest_level
(
	product_id	text COLLATE "C" NOT NULL,
	location	text COLLATE "C" NOT NULL,
	home		int NOT NULL,
	needed_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	looked_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT guest_level_pkey PRIMARY KEY (product_id, location)
);
COMMENT ON TABLE pgstock_shard.guest_level IS
	'levels of products of other shards, which flash sales have brought here';
COMMENT ON COLUMN pgstock_shard.guest_level.needed_at IS
	'when pieces last arrived (to the hour), or the level was last found in '
	'use';
COMMENT ON COLUMN pgstock_shard.guest_level.looked_at IS
	'when sale_forget_guests() has last looked whether it is in use';

SELECT pg_extension_config_dump('pgstock_shard.shared_sale', '');
SELECT pg_extension_config_dump('pgstock_shard.stock_move', '');
SELECT pg_extension_config_dump('pgstock_shard.stock_arrival', '');
SELECT pg_extension_config_dump('pgstock_shard.guest_level', '');

/* What every function that moves pieces begins with. */
CREATE FUNCTION pgstock_shard.sale_begin()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role();
	PERFORM pgstock_shard.be_durable();
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_begin IS
	'raises 42501 in a session that is not a front''s, and makes its commit '
	'durable';

/* ---- Sending ---- */

CREATE FUNCTION pgstock_shard.sale_as_sent(m pgstock_shard.stock_move)
RETURNS jsonb
LANGUAGE sql STABLE
AS $$
SELECT m.move || pg_catalog.jsonb_build_object('sent_at', m.sent_at)
$$;
COMMENT ON FUNCTION pgstock_shard.sale_as_sent IS
	'returns a move as its target receives it';

/*
 * A move of no pieces makes the sale known in the other shard.  terms: as
 * pgstock_internal.sale_terms() returns them.
 */
CREATE FUNCTION pgstock_shard.sale_take_out(activity_id text, terms jsonb,
	product_id text, location text, target int, home int, wanted bigint)
RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id		uuid := gen_random_uuid();
	sent	bigint := 0;
	move	jsonb;
BEGIN
	IF wanted > 0 THEN
		sent := pgstock_internal.move_out(activity_id, product_id, location,
			'to shard ' || target, id::text, wanted);
		IF sent = 0 THEN
			RETURN NULL;
		END IF;
	END IF;
	move := terms || jsonb_build_object('id', id,
		'activity_id', activity_id, 'product_id', product_id,
		'location', location, 'quantity', sent, 'target', target,
		'home', home, 'source', pgstock_shard.own_number());
	INSERT INTO pgstock_shard.stock_move AS m (id, activity_id, move)
	VALUES (id, activity_id, move)
	RETURNING pgstock_shard.sale_as_sent(m) INTO move;
	UPDATE pgstock_shard.shared_sale h SET last_move = id
	 WHERE h.activity_id = $1;
	RETURN move;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_take_out IS
	'takes at most the wanted pieces out of a sale, or (NULL) out of ordinary '
	'stock, and returns their move to another shard; NULL: there are none';

CREATE FUNCTION pgstock_shard.sale_send(activity_id text, target int,
	wanted bigint)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s		record;
	home	int;
BEGIN
	PERFORM pgstock_shard.sale_begin();
	s := pgstock_internal.sale_terms(activity_id);
	home := (SELECT h.home FROM pgstock_shard.shared_sale h
			  WHERE h.activity_id = $1);
	IF s.terms IS NULL OR home IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN pgstock_shard.sale_take_out(activity_id, s.terms, s.product_id,
									   s.location, target, home, wanted);
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_send IS
	'sends at most the wanted pieces of a sale to another shard; NULL: it has '
	'none';
SELECT pgstock_shard.wrap('pgstock_shard.sale_send(text,int,bigint)'::
	regprocedure);

/*
 * The commit of the move may be visible but not durable yet: this writes too,
 * so its own commit is durable only with that one.
 */
CREATE FUNCTION pgstock_shard.sale_resend(ids uuid[])
RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.sale_begin();
	RETURN QUERY
	UPDATE pgstock_shard.stock_move m SET sent_at = clock_timestamp()
	 WHERE m.id = ANY (ids) AND m.arrived_at IS NULL
	RETURNING pgstock_shard.sale_as_sent(m);
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_resend IS
	'returns moves again that have not been marked as arrived';
SELECT pgstock_shard.wrap('pgstock_shard.sale_resend(uuid[])'::regprocedure);

CREATE FUNCTION pgstock_shard.sale_arrived(ids uuid[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role();
	UPDATE pgstock_shard.stock_move m SET arrived_at = clock_timestamp()
	 WHERE m.id = ANY (ids) AND m.arrived_at IS NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_arrived IS
	'marks moves as arrived in the other shard';
SELECT pgstock_shard.wrap('pgstock_shard.sale_arrived(uuid[])'::regprocedure);

/*
 * What a sale has left here after its end, or was returned since, goes back to
 * the shard of the product.  Moves that their fronts have not finished are
 * returned too.
 */
CREATE FUNCTION pgstock_shard.sale_home()
RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.sale_begin(),
			set_config('lock_timeout', '2s', true);	/* for the sweeper */
	RETURN QUERY
	UPDATE pgstock_shard.stock_move m SET sent_at = clock_timestamp()
	 WHERE m.arrived_at IS NULL
	   AND m.sent_at < clock_timestamp() - '2s'::interval
	RETURNING pgstock_shard.sale_as_sent(m);
	RETURN QUERY
	SELECT t.move
	  FROM (SELECT u.product_id, u.location, g.home, u.free
			  FROM pgstock_internal.unreserved(
					ARRAY(SELECT x.product_id FROM pgstock_shard.guest_level x
						   ORDER BY x.product_id, x.location),
					ARRAY(SELECT x.location FROM pgstock_shard.guest_level x
						   ORDER BY x.product_id, x.location)) u
			  JOIN pgstock_shard.guest_level g USING (product_id, location)
			 ORDER BY 1, 2) f,
		   LATERAL (SELECT pgstock_shard.sale_take_out(NULL, '{}', f.product_id,
						f.location, f.home, f.home, f.free) AS move) t
	 WHERE t.move IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_home IS
	'sends what sales have left as ordinary stock here to the shards of the '
	'products; returns these moves, and others that are unfinished';
SELECT pgstock_shard.wrap('pgstock_shard.sale_home()'::regprocedure);

/* ---- Receiving ---- */

/*
 * Once its row of stock_arrival is deleted, nothing shows that a move has
 * arrived.  So a session that was suspended for long must not deliver a move
 * that it read before.
 */
CREATE FUNCTION pgstock_shard.sale_check_sent(move jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (move ->> 'sent_at')::timestamptz
		< clock_timestamp() - '1 hour'::interval THEN
		RAISE EXCEPTION 'move % was sent too long ago', move ->> 'id'
			USING ERRCODE = 'serialization_failure',
				  DETAIL = format('It was sent at %s.', move ->> 'sent_at'),
				  HINT = 'The sweeper sends it again if it has not arrived. If '
						 'it does not arrive then, compare the clocks of the '
						 'shards.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_check_sent IS
	'raises 40001 for a move that was sent more than an hour ago';

/*
 * Once an hour, because the row stays locked until the transaction ends, and
 * many buyers receive pieces of one product.
 */
CREATE FUNCTION pgstock_shard.sale_note_guest(product_id text, location text,
	home int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgstock_shard.guest_level g SET needed_at = clock_timestamp()
	 WHERE g.product_id = $1 AND g.location = $2
	   AND g.needed_at < clock_timestamp() - '1 hour'::interval;
	IF NOT FOUND THEN
		INSERT INTO pgstock_shard.guest_level VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING;
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_note_guest IS
	'notes that pieces of a product of another shard arrive in this one';

/*
 * The order is locked first, as a call that settles it does, and the moves
 * before any level: no two calls wait for each other.
 */
CREATE FUNCTION pgstock_shard.sale_receive(moves jsonb, order_id text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m			jsonb;
	fresh		jsonb[] := '{}';
	own			int := pgstock_shard.own_number();
BEGIN
	PERFORM pgstock_shard.sale_begin();
	IF order_id IS NOT NULL THEN
		PERFORM pgstock_internal.lock_orders(ARRAY[order_id]);
	ELSE
		PERFORM set_config('lock_timeout', '2s', true);	/* for the sweeper */
	END IF;
	FOR m IN SELECT v FROM jsonb_array_elements(moves) v
			  ORDER BY v ->> 'id' LOOP
		IF (m ->> 'target')::int <> own THEN
			PERFORM pgstock_shard.check_shard(ARRAY[(m ->> 'target')::int]);
		END IF;
		PERFORM pgstock_shard.sale_check_sent(m);
		INSERT INTO pgstock_shard.stock_arrival VALUES ((m ->> 'id')::uuid)
			ON CONFLICT DO NOTHING;
		IF FOUND THEN
			fresh := fresh || m;
		ELSE
			/* that commit may not be durable yet, see sale_resend */
			UPDATE pgstock_shard.stock_arrival a
			   SET arrived_at = clock_timestamp()
			 WHERE a.id = (m ->> 'id')::uuid;
		END IF;
	END LOOP;
	FOREACH m IN ARRAY fresh LOOP
		IF m ->> 'activity_id' IS NOT NULL THEN
			INSERT INTO pgstock_shard.shared_sale
			VALUES (m ->> 'activity_id', (m ->> 'home')::int)
				ON CONFLICT DO NOTHING;
		END IF;
		IF (m ->> 'home')::int <> own THEN
			PERFORM pgstock_shard.sale_note_guest(m ->> 'product_id',
				m ->> 'location', (m ->> 'home')::int);
		END IF;
		IF NOT pgstock_internal.move_in(m ->> 'activity_id',
			m ->> 'product_id', m ->> 'location',
			'from shard ' || (m ->> 'source'), m ->> 'id',
			(m ->> 'quantity')::bigint, (m ->> 'per_user_limit')::bigint,
			(m ->> 'starts_at')::timestamptz, (m ->> 'ends_at')::timestamptz)
		THEN
			UPDATE pgstock_shard.shared_sale h
			   SET arrived_late = arrived_late + (m ->> 'quantity')::bigint
			 WHERE h.activity_id = m ->> 'activity_id';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_receive IS
	'receives moves in this shard, each once; the pieces of a sale that has '
	'closed become ordinary stock; order_id: the order that the same '
	'transaction is about, or NULL';
SELECT pgstock_shard.wrap('pgstock_shard.sale_receive(jsonb,text)'::
	regprocedure);

/* ---- The state of a sale ---- */

/*
 * One statement, so one snapshot.  A piece is free here, or in a move that has
 * not been marked as arrived, or last_move shows that it has left.
 */
CREATE FUNCTION pgstock_shard.sale_state(activity_id text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.part_check_role();
	RETURN (
		SELECT jsonb_build_object('shard', pgstock_shard.own_number(),
				'known', s.is_known, 'shared', h.activity_id IS NOT NULL,
				'open', s.is_open, 'last_move', h.last_move,
				'left', h.left_at_close + h.arrived_late, 'free', s.free,
				'waiting', coalesce((
					SELECT jsonb_agg(m.move || jsonb_build_object('late',
								m.sent_at < statement_timestamp()
											- '2s'::interval))
					  FROM pgstock_shard.stock_move m
					 WHERE m.activity_id = $1 AND m.arrived_at IS NULL), '[]'))
		  FROM pgstock_internal.sale_rest($1) s
		  LEFT JOIN pgstock_shard.shared_sale h ON h.activity_id = $1);
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_state IS
	'returns the state of a flash sale in this shard, from one snapshot: the '
	'pieces that are free, and the moves that are under way from here';
SELECT pgstock_shard.wrap('pgstock_shard.sale_state(text)'::regprocedure);

/* ---- The calls ---- */

CREATE FUNCTION pgstock_shard.sale_share(activity_id text)
RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s		record;
	own		int := pgstock_shard.own_number();
	shards	int := pgstock_shard.shard_count();
BEGIN
	PERFORM pgstock_shard.sale_begin();
	s := pgstock_internal.sale_terms(activity_id);
	ASSERT s.terms IS NOT NULL;
	INSERT INTO pgstock_shard.shared_sale VALUES ($1, own);
	FOR target IN 0 .. shards - 1 LOOP
		IF target <> own THEN
			RETURN NEXT pgstock_shard.sale_take_out($1, s.terms, s.product_id,
				s.location, target, own, s.quantity / shards);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_share IS
	'sends each other shard its part of a sale that this transaction has '
	'opened';

CREATE FUNCTION pgstock_shard.sale_note_left(activity_id text,
	left_over bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_shard.sale_begin();
	UPDATE pgstock_shard.shared_sale h SET left_at_close = left_over
	 WHERE h.activity_id = $1;
END
$$;
COMMENT ON FUNCTION pgstock_shard.sale_note_left IS
	'records what was left when a sale was closed';

/* They call pgstock, whose schema is known only here. */
DO $do$
DECLARE
	pgstock text := (SELECT extnamespace::regnamespace FROM pg_extension
					  WHERE extname = 'pgstock');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.sale_open(activity_id text, product_id text,
	quantity bigint, per_user_limit bigint, starts_at timestamptz,
	ends_at timestamptz, location text)
RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM %1$s.open_flash_sale($1, $2, $3, $4, $5, $6, $7);
	RETURN QUERY SELECT pgstock_shard.sale_share($1);
END
$body$
$f$, pgstock);
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.sale_buy(activity_id text, user_id text,
	order_id text, quantity bigint, attributes jsonb, moves jsonb)
RETURNS %1$s.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM pgstock_shard.sale_receive(moves, order_id);
	RETURN %1$s.purchase_flash_sale($1, $2, $3, $4, $5);
END
$body$
$f$, pgstock);
	EXECUTE format($f$
CREATE FUNCTION pgstock_shard.sale_close(activity_id text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	left_over	bigint := %1$s.close_flash_sale($1);
BEGIN
	PERFORM pgstock_shard.sale_note_left($1, left_over);
	RETURN left_over;
END
$body$
$f$, pgstock);
END
$do$;
COMMENT ON FUNCTION pgstock_shard.sale_open IS
	'opens a flash sale of a product of this shard, and returns the moves of '
	'the other shards'' parts';
SELECT pgstock_shard.wrap('pgstock_shard.sale_open(text,text,bigint,bigint,'
	'timestamptz,timestamptz,text)'::regprocedure);
COMMENT ON FUNCTION pgstock_shard.sale_buy IS
	'receives moves and makes a purchase in one transaction: no other buyer '
	'gets the pieces in between';
SELECT pgstock_shard.wrap('pgstock_shard.sale_buy(text,text,text,bigint,jsonb,'
	'jsonb)'::regprocedure);
COMMENT ON FUNCTION pgstock_shard.sale_close IS
	'closes a flash sale in this shard; returns what was left';
SELECT pgstock_shard.wrap('pgstock_shard.sale_close(text)'::regprocedure);
