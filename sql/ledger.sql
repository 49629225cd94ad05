/* ---- Ledger -------------------------------------------------------------- */

/*
 * The ledger consists of parts, as the outbox does (sql/rotation.sql): one is
 * written, and the others are older.  So old movements are not deleted one by
 * one.  A part whose rows are all past pgstock.history_retention is added to
 * the opening movements and then truncated.  Each part has its own indexes
 * rather than partitions of a partitioned index, so that a part added later
 * can be dumped and restored.
 *
 * Part 0 is not written by the stock functions.  It contains the opening
 * movements, and rows that were inserted by hand.
 */
CREATE SEQUENCE pgstock_internal.movement_id;
CREATE TABLE pgstock_internal.movement
(
	id				bigint NOT NULL
		DEFAULT nextval('pgstock_internal.movement_id'),
	at				timestamptz NOT NULL,
	kind			text NOT NULL,
	product_id		text COLLATE "C" NOT NULL,
	location		text COLLATE "C" NOT NULL,
	on_hand_delta	bigint NOT NULL,
	reserved_delta	bigint NOT NULL,
	order_id		text COLLATE "C",
	actor			text NOT NULL,
	reason			text,
	reference		text,
	event_id		uuid,
	part			smallint NOT NULL DEFAULT 0
) PARTITION BY LIST (part);
ALTER SEQUENCE pgstock_internal.movement_id
	OWNED BY pgstock_internal.movement.id;
/* No key spans the parts; each has its own. */
ALTER TABLE pgstock_internal.movement REPLICA IDENTITY FULL;
COMMENT ON TABLE pgstock_internal.movement IS
	'movements, in parts: see ledger';
COMMENT ON COLUMN pgstock_internal.movement.part IS
	'number of the part: rows with n are in movement_n';

/* ATTACH PARTITION needs no lock that conflicts with a reader or a writer. */
CREATE FUNCTION pgstock_internal.movement_add_part(part int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE TABLE pgstock_internal.movement_%1$s
		(LIKE pgstock_internal.movement INCLUDING DEFAULTS,
		 CONSTRAINT movement_%1$s_pkey PRIMARY KEY (id))', part);
	EXECUTE format('CREATE INDEX movement_%1$s_order
		ON pgstock_internal.movement_%1$s (order_id)', part);
	EXECUTE format('COMMENT ON TABLE pgstock_internal.movement_%s IS %L',
				   part, 'a part of the ledger');
	PERFORM pgstock_internal.revoke_default_grants(
		format('pgstock_internal.movement_%s', part)::regclass);
	EXECUTE format('ALTER TABLE pgstock_internal.movement ATTACH PARTITION
		pgstock_internal.movement_%1$s FOR VALUES IN (%1$s)', part);
END
$$;
COMMENT ON FUNCTION pgstock_internal.movement_add_part IS
	'adds an empty part to the ledger';
SELECT pgstock_internal.movement_add_part(n)
  FROM pg_catalog.generate_series(0, 6) n;

CREATE UNIQUE INDEX movement_opening
	ON pgstock_internal.movement_0 (product_id, location)
	WHERE kind = 'opening';

/* If no row is in state 'w', part 1 is written. */
CREATE TABLE pgstock_internal.movement_part
(
	part	smallint NOT NULL,
	state	"char" NOT NULL,
	since	timestamptz NOT NULL DEFAULT clock_timestamp(),
	folded	bigint,
	xid		xid8 NOT NULL DEFAULT pg_current_xact_id(),
	CONSTRAINT movement_part_pkey PRIMARY KEY (part)
);
CREATE UNIQUE INDEX movement_part_written
	ON pgstock_internal.movement_part (state) WHERE state = 'w';
COMMENT ON TABLE pgstock_internal.movement_part IS
	'parts of the ledger in use; all others except part 0 are empty';
COMMENT ON COLUMN pgstock_internal.movement_part.state IS
	'w written; l left, open transactions may still have rows in it; s '
	'sealed, no open transaction has rows in it; f folded, all its rows are in '
	'opening movements';
COMMENT ON COLUMN pgstock_internal.movement_part.folded IS
	'rows up to this id are in opening movements';
COMMENT ON COLUMN pgstock_internal.movement_part.xid IS
	'transaction that set this state';

/*
 * Rows and openings change in one commit, so each snapshot shows a movement
 * either as a row or in an opening.
 */
CREATE VIEW pgstock_internal.ledger AS
SELECT m.id, m.at, m.kind, m.product_id, m.location, m.on_hand_delta,
	   m.reserved_delta, m.order_id, m.actor, m.reason, m.reference,
	   m.event_id, m.part
  FROM pgstock_internal.movement m
  LEFT JOIN pgstock_internal.movement_part p ON p.part = m.part
 WHERE p.folded IS NULL OR m.id > p.folded;
COMMENT ON VIEW pgstock_internal.ledger IS
	'every change of every level, append-only; old movements as one opening '
	'movement for each level';

SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_0', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_1', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_2', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_3', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_4', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_5', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_6', '');
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.movement_part', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_id', '');

/* ---- Retention of the ledger --------------------------------------------- */

/*
 * Movements that are removed are added to one movement of kind "opening" for
 * each level, so that the ledger still adds up to the level.  Its id is
 * negative, so it precedes all others.
 */
CREATE FUNCTION pgstock_internal.add_opening(product_id text, location text,
	at timestamptz, on_hand bigint, reserved bigint)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.movement_0 AS m (id, at, kind, product_id,
	location, on_hand_delta, reserved_delta, actor, part)
VALUES (-nextval('pgstock_internal.movement_id'), $3, 'opening', $1, $2, $4,
		$5, session_user, 0)
ON CONFLICT (product_id, location) WHERE kind = 'opening' DO UPDATE
   SET at = greatest(m.at, excluded.at), actor = excluded.actor,
	   on_hand_delta = m.on_hand_delta + excluded.on_hand_delta,
	   reserved_delta = m.reserved_delta + excluded.reserved_delta
$$;
COMMENT ON FUNCTION pgstock_internal.add_opening IS
	'adds a sum of movements to the opening movement of a level';

/*
 * By hand, for purge_history: any time, in one transaction, so row by row.
 */
CREATE FUNCTION pgstock_internal.purge_movements(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n		bigint;
	levels	bigint;
BEGIN
	WITH deleted AS (
		DELETE FROM pgstock_internal.movement m
		 USING pgstock_internal.ledger o
		 WHERE o.id > 0 AND o.at < before AND m.part = o.part AND m.id = o.id
		RETURNING m.*
	), sums AS (
		SELECT product_id, location, max(at) AS at, count(*) AS n,
			   sum(on_hand_delta)::bigint AS on_hand,
			   sum(reserved_delta)::bigint AS reserved
		  FROM deleted GROUP BY 1, 2 ORDER BY 1, 2
	)
	SELECT coalesce(sum(s.n), 0), count(pgstock_internal.add_opening(
			   s.product_id, s.location, s.at, s.on_hand, s.reserved))
	  INTO n, levels FROM sums s;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_movements IS
	'replaces movements older than before by opening movements; returns their '
	'number';

/*
 * The upkeep folds whole parts.  Only movements that the part being written
 * should not have by now are deleted: their time was changed, the retention
 * was shortened, or they were inserted by hand.  A batch reads no more than
 * the oldest max_rows rows, because ids and times rise together.
 */
CREATE FUNCTION pgstock_internal.purge_written(part int, before timestamptz,
	max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n		bigint;
	levels	bigint;
	first	bigint;
BEGIN
	/* Skip times in the future, from a clock that was ahead for a while. */
	EXECUTE format('SELECT o.id FROM pgstock_internal.movement_%s o
		WHERE o.id > 0 AND o.at <= clock_timestamp() ORDER BY o.id LIMIT 1',
		part) INTO first;
	EXECUTE format('
		WITH deleted AS (
			DELETE FROM pgstock_internal.movement_%1$s m
			 WHERE m.id = ANY (ARRAY(
				SELECT h.id
				  FROM (SELECT o.id, o.at
						  FROM pgstock_internal.movement_%1$s o
						 WHERE o.id >= $1 ORDER BY o.id LIMIT $3) h
				 WHERE h.at < $2))
			RETURNING m.*
		), sums AS (
			SELECT product_id, location, max(at) AS at, count(*) AS n,
				   sum(on_hand_delta)::bigint AS on_hand,
				   sum(reserved_delta)::bigint AS reserved
			  FROM deleted GROUP BY 1, 2 ORDER BY 1, 2
		)
		SELECT coalesce(sum(s.n), 0), count(pgstock_internal.add_opening(
				   s.product_id, s.location, s.at, s.on_hand, s.reserved))
		  FROM sums s', part) INTO n, levels USING first, before, max_rows;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_written IS
	'replaces movements of a part that is not folded, older than before, by '
	'opening movements, at most max_rows of them; returns their number';

/*
 * A page of the oldest part that is past its retention, in order of id.  No
 * session waits for it, and a larger one has fewer sums for its rows.
 */
CREATE FUNCTION pgstock_internal.movement_fold(before timestamptz, max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old		pgstock_internal.movement_part;
	n		bigint;
	last	bigint;
	levels	bigint;
BEGIN
	SELECT * INTO old FROM pgstock_internal.movement_part p
	 WHERE p.state = 's' AND p.since < before ORDER BY p.since LIMIT 1;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	EXECUTE format('
		WITH sums AS (
			SELECT product_id, location, max(at) AS at, count(*) AS n,
				   max(id) AS id, sum(on_hand_delta)::bigint AS on_hand,
				   sum(reserved_delta)::bigint AS reserved
			  FROM (SELECT m.* FROM pgstock_internal.movement_%s m
					 WHERE m.id > $1 ORDER BY m.id LIMIT $2) page
			 GROUP BY 1, 2 ORDER BY 1, 2
		)
		SELECT coalesce(sum(s.n), 0), max(s.id),
			   count(pgstock_internal.add_opening(s.product_id, s.location,
				   s.at, s.on_hand, s.reserved))
		  FROM sums s', old.part)
	   INTO n, last, levels USING coalesce(old.folded, 0), max_rows;
	UPDATE pgstock_internal.movement_part p
	   SET folded = coalesce(last, p.folded, 0), xid = DEFAULT,
		   state = CASE WHEN n < max_rows THEN 'f' ELSE 's' END
	 WHERE p.part = old.part;
	RETURN greatest(n, 1);
END
$$;
COMMENT ON FUNCTION pgstock_internal.movement_fold IS
	'adds movements of a part that was sealed before a time to the opening '
	'movements, at most max_rows of them; returns their number';

CREATE FUNCTION pgstock_internal.movement_seal()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.part_seal('movement')
$$;

/*
 * TRUNCATE empties a table for older snapshots too.  A snapshot that is older
 * than the fold shows the earlier opening movements, and needs the rows.  That
 * of a query on a standby does not conflict with the TRUNCATE either, unless
 * the query has a lock on the part.  A standby with hot_standby_feedback
 * reports its oldest snapshot to its walsender or its slot; of others nothing
 * is known.
 */
CREATE FUNCTION pgstock_internal.is_in_snapshots(xid xid8)
RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT NOT EXISTS (
	SELECT FROM (SELECT a.backend_xmin FROM pg_stat_activity a
				  WHERE a.datname = current_database()
					 OR a.backend_type = 'walsender'
				  UNION ALL
				 SELECT s.xmin FROM pg_replication_slots s) held (xmin)
	 WHERE age(held.xmin) >= age($1::xid))
$$;
COMMENT ON FUNCTION pgstock_internal.is_in_snapshots IS
	'returns whether a transaction that has ended is visible in all snapshots '
	'of this database, and of standbys as far as they report them';

CREATE FUNCTION pgstock_internal.movement_empty()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old	int;
	n	bigint := 0;
BEGIN
	FOR old IN
		SELECT p.part FROM pgstock_internal.movement_part p
		 WHERE p.state = 'f' AND pgstock_internal.is_in_snapshots(p.xid)
		 ORDER BY p.since
	LOOP
		IF pgstock_internal.try_lock_table('movement_' || old, true) THEN
			EXECUTE format('TRUNCATE pgstock_internal.movement_%s', old);
			DELETE FROM pgstock_internal.movement_part p WHERE p.part = old;
			n := n + 1;
		END IF;
	END LOOP;
	RETURN n;
END
$$;

CREATE FUNCTION pgstock_internal.movement_next_part()
RETURNS int
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.part_next('movement')
$$;

CREATE FUNCTION pgstock_internal.movement_switch(retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM pgstock_internal.movement_part p WHERE p.state = 'w';
	IF NOT FOUND THEN
		/* Not in an empty database, where a subscription copies this row. */
		IF pg_relation_size('pgstock_internal.movement_1') > 0 THEN
			INSERT INTO pgstock_internal.movement_part (part, state)
			VALUES (1, 'w');
		END IF;
		RETURN 0;
	END IF;
	RETURN pgstock_internal.part_switch('movement', retention);
END
$$;
COMMENT ON FUNCTION pgstock_internal.movement_seal IS
	'seals the parts of the ledger in which no open transaction has rows; '
	'returns their number';
COMMENT ON FUNCTION pgstock_internal.movement_empty IS
	'truncates folded parts of the ledger once no older snapshot is held; '
	'returns their number';
COMMENT ON FUNCTION pgstock_internal.movement_next_part IS
	'returns an empty part of the ledger, added if necessary; NULL if that is '
	'not possible now';
COMMENT ON FUNCTION pgstock_internal.movement_switch IS
	'switches to another part of the ledger after a quarter of the retention; '
	'returns 1 if it did, else 0';

/*
 * Parts are sealed before the switch, as those of the outbox are;
 * movement_empty truncates them, at the end of the transaction.  There is no
 * switch from a part with rows past their retention: they would stay for as
 * long again.  The caller has locked the row that serializes purges.
 */
CREATE FUNCTION pgstock_internal.movement_rotate(retention interval,
	max_rows int)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before	timestamptz := clock_timestamp() - retention;
	written	int := coalesce((SELECT p.part FROM pgstock_internal.movement_part p
							  WHERE p.state = 'w'), 1);
	late	bigint;
	n		bigint;
BEGIN
	/* Correct times in the future, from a clock that was ahead for a while. */
	UPDATE pgstock_internal.movement_part SET since = DEFAULT
	 WHERE since > clock_timestamp();
	late := pgstock_internal.purge_written(written, before, max_rows);
	n := late + pgstock_internal.purge_written(0, before, max_rows)
	   + pgstock_internal.movement_fold(before, 50 * max_rows)
	   + pgstock_internal.movement_seal();
	IF late = 0 THEN
		n := n + pgstock_internal.movement_switch(retention);
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.movement_rotate IS
	'runs one step of the ledger''s retention, except for the TRUNCATE; '
	'returns the number of rows and parts, 0 if nothing is left to do';
