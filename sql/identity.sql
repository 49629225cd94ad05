/* ---- Identity of the database -------------------------------------------- */

/*
 * The identity refers to its database by the system identifier of the cluster
 * and the oid of the database.  A copy (CREATE DATABASE ... TEMPLATE, the
 * extension in template1, pg_upgrade, a logical subscriber) contains the row
 * of the original database, which does not match, and draws its own at the
 * first request.  A physical standby is the same database and has the same
 * identity.  The row is not dumped: in a restored database, CREATE EXTENSION
 * draws a new one.
 */
CREATE TABLE pgstock_internal.incarnation
(
	id				uuid NOT NULL,
	inbox_group		text NOT NULL,
	system_id		bigint NOT NULL,
	"database"		oid NOT NULL,
	restored		boolean NOT NULL,
	CONSTRAINT incarnation_pkey PRIMARY KEY (id),
	CONSTRAINT incarnation_of UNIQUE (system_id, "database")
);
COMMENT ON TABLE pgstock_internal.incarnation IS
	'identities; that of this database matches its cluster and oid';
COMMENT ON COLUMN pgstock_internal.incarnation.inbox_group IS
	'consumer group, unless [inbox] group is set';
COMMENT ON COLUMN pgstock_internal.incarnation.restored IS
	'true if the extension was created by a restore and the data is not yet '
	'adopted';

CREATE FUNCTION pgstock_internal.own_incarnation()
RETURNS pgstock_internal.incarnation
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT i
  FROM pgstock_internal.incarnation i, pg_control_system() c, pg_database d
 WHERE d.datname = current_database() AND i."database" = d.oid
   AND i.system_id = c.system_identifier
$$;
COMMENT ON FUNCTION pgstock_internal.own_incarnation IS
	'returns the identity of this database; NULL if none is drawn yet';

CREATE FUNCTION pgstock_internal.draw_incarnation(restored boolean DEFAULT false)
RETURNS pgstock_internal.incarnation
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own	pgstock_internal.incarnation := pgstock_internal.own_incarnation();
BEGIN
	IF own.id IS NOT NULL OR pg_is_in_recovery() THEN
		RETURN own;
	END IF;
	INSERT INTO pgstock_internal.incarnation
	SELECT gen_random_uuid(), 'pgstock-'
		   || lpad((random() * float8 '99999999')::int::text, 8, '0'),
		   c.system_identifier, d.oid, $1
	  FROM pg_control_system() c, pg_database d
	 WHERE d.datname = current_database()
	ON CONFLICT ON CONSTRAINT incarnation_of DO NOTHING;
	own := pgstock_internal.own_incarnation();
	DELETE FROM pgstock_internal.incarnation i WHERE i.id <> own.id;
	RETURN own;
END
$$;
COMMENT ON FUNCTION pgstock_internal.draw_incarnation IS
	'returns the identity of this database, drawing it if there is none';

/*
 * The output of pg_dump sets row_security in the session before anything else,
 * which an interactive CREATE EXTENSION hardly ever does.
 */
CREATE FUNCTION pgstock_internal.is_restore()
RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.source = 'session' FROM pg_settings s WHERE s.name = 'row_security'
$$;
COMMENT ON FUNCTION pgstock_internal.is_restore IS
	'returns whether this session restores the output of pg_dump';

SELECT pgstock_internal.draw_incarnation(pgstock_internal.is_restore());

/* ---- Origin of the data -------------------------------------------------- */

/*
 * While a subscription writes to the tables, or before a restored database is
 * adopted, the tables are incomplete and the sequences lag behind them.
 */
CREATE FUNCTION pgstock_internal.incomplete_because()
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own				pgstock_internal.incarnation
					:= pgstock_internal.own_incarnation();
	subscription	name;
BEGIN
	SELECT s.subname INTO subscription
	  FROM pg_subscription_rel r
	  JOIN pg_subscription s ON s.oid = r.srsubid AND s.subenabled
	  JOIN pg_class c ON c.oid = r.srrelid
	 WHERE c.relnamespace = 'pgstock_internal'::regnamespace LIMIT 1;
	IF FOUND THEN
		RETURN format('subscription "%s" writes to tables of pgstock',
					  subscription);
	ELSIF own.restored THEN
		RETURN 'the database was restored from a dump';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.incomplete_because IS
	'returns why the data is incomplete and must not be used yet; NULL if it '
	'is complete';

/* NULL: the window belongs to the history of this database. */
CREATE FUNCTION pgstock_internal.foreign_because(w pgstock_internal.outbox_window)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF w.system_id <> (SELECT system_identifier FROM pg_control_system()) THEN
		RETURN 'it was stored in another database cluster';
	ELSIF w."database" <> (SELECT oid FROM pg_database
						   WHERE datname = current_database())
		OR w.incarnation
			IS DISTINCT FROM (pgstock_internal.own_incarnation()).id THEN
		RETURN 'it was stored in another database';
	ELSIF NOT pgstock_internal.history_contains(w.timeline, w.lsn) THEN
		RETURN format('it was stored at %s on timeline %s, which is not in '
					  'the history of this server', w.lsn, w.timeline);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.foreign_because IS
	'returns why a stored window does not belong to the history of this '
	'database; NULL if it does';

CREATE FUNCTION pgstock_internal.foreign_history()
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reason	text := pgstock_internal.incomplete_because();
	w		pgstock_internal.outbox_window;
BEGIN
	IF reason IS NOT NULL THEN
		RETURN reason;
	END IF;
	SELECT (p."window"::pgstock_internal.outbox_window).* INTO w
	  FROM pgstock_internal.relay_position p;
	/* Nothing was published here: rows with future xids were restored. */
	IF w.system_id IS NOT NULL THEN
		RETURN pgstock_internal.foreign_because(w);
	ELSIF EXISTS (SELECT FROM pgstock_internal.outbox o
				  WHERE o.xid >= pgstock_internal.next_xid()) THEN
		RETURN 'the outbox contains rows of another database';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.foreign_history IS
	'returns why the data has to be adopted first; NULL if this database '
	'wrote it';

CREATE FUNCTION pgstock_internal.raise_foreign(reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	detail	text := upper(left(reason, 1)) || substr(reason, 2) || '.';
BEGIN
	IF reason LIKE 'subscription%' THEN
		RAISE EXCEPTION 'the outbox is being written by a subscription'
			USING ERRCODE = 'SK020', DETAIL = detail,
				  HINT = 'To publish from this database, disable or drop the '
						 'subscription, then run "pgstock-relay adopt".';
	ELSIF reason IS NOT NULL THEN
		RAISE EXCEPTION 'the outbox position belongs to another history'
			USING ERRCODE = 'SK020', DETAIL = detail,
				  HINT = 'Run "pgstock-relay adopt" to show what would be '
						 'published, and with --execute to publish from this '
						 'database.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.raise_foreign IS
	'raises SK020 with the given reason; NULL: no error';

/* ---- Adoption ------------------------------------------------------------ */

/*
 * Logical replication does not copy sequences, and rows written while a dump
 * was restored may be above the values that it sets.  A column may contain the
 * negated values of its sequence.
 */
CREATE FUNCTION pgstock_internal.catch_up_sequences()
RETURNS TABLE (sequence text, was bigint, is_now bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owned	record;
	highest	bigint;
BEGIN
	FOR owned IN
		SELECT d.objid::regclass AS sequence,
			   d.refobjid::regclass AS table_name, a.attname AS column_name
		  FROM pg_depend d
		  JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
		  JOIN pg_attribute a ON a.attrelid = d.refobjid
							 AND a.attnum = d.refobjsubid
		 WHERE d.classid = 'pg_class'::regclass
		   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
		   AND c.relnamespace = 'pgstock_internal'::regnamespace
		 ORDER BY c.relname
	LOOP
		EXECUTE format('SELECT greatest(max(t.%1$I), -min(t.%1$I)) FROM %2$s t',
					   owned.column_name, owned.table_name) INTO highest;
		IF owned.sequence = 'pgstock_internal.outbox_seq'::regclass THEN
			highest := greatest(highest,
				(SELECT max(h.seq) FROM pgstock_internal.held_event h),
				(SELECT greatest(p.seq, w.s2_floor, w.ceiling)
				   FROM pgstock_internal.relay_position p,
						CAST(p."window" AS pgstock_internal.outbox_window) w));
		END IF;
		was := coalesce(pg_sequence_last_value(owned.sequence), 0);
		IF highest > was THEN
			sequence := owned.sequence;
			is_now := setval(owned.sequence, highest);
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_internal.catch_up_sequences IS
	'advances sequences that lag behind their tables, and returns these';

/*
 * Tries under way when the data was copied were cut off with their session,
 * which says nothing about their messages.
 */
CREATE FUNCTION pgstock_internal.forget_tries()
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM pgstock_internal.inbox_attempt;
UPDATE pgstock_internal.failed_event
   SET started = 0, session = NULL, process = NULL
 WHERE started > 0
$$;
COMMENT ON FUNCTION pgstock_internal.forget_tries IS
	'deletes the records of tries that began and did not end';

/*
 * Rows written after the restore have xids of this history, earlier rows have
 * xids of another history, and no column distinguishes them.  But rows of this
 * history are above the restored floor, because the sequence was restored too;
 * and an unpublished row of the other history is above that floor or not
 * visible in the restored s1.  So the condition "above floor or not visible in
 * s1" misses neither, and repeats only the events that were in flight.  Rows
 * that an earlier adoption found (up to adopted) were published by seq.  The
 * lock ensures that no open transaction has a row below ceiling.
 */
CREATE FUNCTION pgstock_internal.relay_adopt(execute boolean)
RETURNS TABLE (found text, value text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p		pgstock_internal.relay_position;
	w		pgstock_internal.outbox_window;
	own		pgstock_internal.incarnation
			:= pgstock_internal.draw_incarnation();
	reason	text := pgstock_internal.incomplete_because();
	after	bigint := 0;
	n		bigint;
	oldest	timestamptz;
BEGIN
	IF reason LIKE 'subscription%' THEN
		PERFORM pgstock_internal.raise_foreign(reason);
	END IF;
	IF execute THEN
		/* Before the outbox, like an inbox that applies messages. */
		PERFORM pgstock_internal.forget_tries();
		LOCK TABLE pgstock_internal.outbox IN SHARE MODE;
		PERFORM pgstock_internal.catch_up_sequences();
	END IF;
	SELECT * INTO p FROM pgstock_internal.relay_position;
	IF FOUND THEN
		w := p."window"::pgstock_internal.outbox_window;
		IF p.finished THEN
			w.adopted := (pgstock_internal.progress()).adopted;
			w.s1 := w.s2;
			w.floor := w.s2_floor;
		ELSIF w.restored THEN
			after := p.seq;
		END IF;
	ELSE
		w := pgstock_internal.first_window()::pgstock_internal.outbox_window;
	END IF;
	w.s2_floor := pgstock_internal.last_seq();
	w.s2 := pg_current_snapshot();
	w.s2_next_xid := pgstock_internal.next_xid();
	w.ceiling := w.s2_floor;
	w.restored := true;
	w.system_id := own.system_id;
	w."database" := own."database";
	w.incarnation := own.id;
	SELECT f.lsn, f.timeline INTO w.lsn, w.timeline
	  FROM pgstock_internal.outbox_fence('auto') f;
	SELECT count(*), min(o.created_at) INTO n, oldest
	  FROM pgstock_internal.outbox o
	 WHERE o.seq > after
	   AND (o.seq > w.floor OR (o.seq > w.adopted
								AND NOT pg_visible_in_snapshot(o.xid, w.s1)));

	IF execute THEN
		PERFORM pgstock_internal.raise_epoch();
		PERFORM pgstock_internal.put_position(w::text, after, false);
		PERFORM pgstock_internal.adopt_handlers();
		/* They were sealed in another history. */
		UPDATE pgstock_internal.outbox_part SET state = 'l' WHERE state = 's';
		UPDATE pgstock_internal.incarnation i SET restored = false
		 WHERE i.id = own.id;
		PERFORM pgstock_internal.keeper_call();
		INSERT INTO pgstock_internal.admin_action
		VALUES (clock_timestamp(), session_user, 'adopt', 'outbox',
				format('%s events to publish', n));
	END IF;
	RETURN QUERY VALUES
		('events to publish', n::text),
		('oldest of them', coalesce(oldest::text, 'none')),
		('last stored', coalesce(p.stored_at::text, 'never'));
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_adopt IS
	'accepts data of another history, so that publishing continues with it; '
	'only reports what would be published unless execute is true';

