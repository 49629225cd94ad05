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
	'true if a restore has created the extension or filled its tables, and the '
	'data is not yet adopted';

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

CREATE FUNCTION pgstock_internal.draw_incarnation(
	restored boolean DEFAULT false)
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

/*
 * A dump can also be restored where the extension was there before.  It fills
 * one table after the other, so what the upkeep would find in between is not
 * what its decisions assume: a part of the ledger, for instance, without the
 * row that says how far it is folded.  So each table that the upkeep decides by
 * reports a restore, in the transaction that fills it.  pgstock's own functions
 * write these tables without SQL, which runs no trigger, or by few statements.
 * The relay's and the worker's sessions set row_security too
 * (extension/base/session.c), but not what else the output of pg_dump sets.
 */
CREATE FUNCTION pgstock_internal.note_restore()
RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pgstock_internal.is_restore()
		AND NOT current_setting('check_function_bodies')::boolean THEN
		UPDATE pgstock_internal.incarnation i SET restored = true
		 WHERE i.id = (pgstock_internal.draw_incarnation(true)).id
		   AND NOT i.restored;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.note_restore IS
	'trigger that records that a restore fills the table: the data has to be '
	'adopted then';
DO $$
DECLARE
	name	text;
BEGIN
	FOR name IN
		SELECT c.relname FROM pg_catalog.pg_class c
		 WHERE c.relnamespace = 'pgstock_internal'::regnamespace
		   AND c.relkind = 'r'
		   AND c.relname
			   ~ '^(level|reservation|(movement|outbox)_([1-9]|part))$'
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER note_restore
			BEFORE INSERT ON pgstock_internal.%I FOR EACH STATEMENT
			EXECUTE FUNCTION pgstock_internal.note_restore()', name);
	END LOOP;
END
$$;

/* ---- Origin of the data -------------------------------------------------- */

CREATE FUNCTION pgstock_internal.history_contains(timeline int, lsn pg_lsn)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_history_contains' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.history_contains IS
	'returns whether the history of this server contains a place in the WAL';

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
CREATE FUNCTION pgstock_internal.foreign_because(
	w pgstock_internal.outbox_window)
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
