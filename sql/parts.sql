/* ---- Parts --------------------------------------------------------------- */

/*
 * The outbox and the ledger are tables in parts: NAME is partitioned into
 * NAME_1, NAME_2 and so on, and NAME_part has the states of those in use.
 * sql/rotation.sql says what the states are; NAME_add_part() adds a part.
 */

CREATE FUNCTION pgstock_internal.try_lock_table(name text, readers boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_try_lock_table' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.try_lock_table IS
	'locks a table of pgstock against writers, and also against readers if '
	'readers is true; returns false if the lock is not free';

CREATE FUNCTION pgstock_internal.part_switched(state text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_part_switched' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.part_switched IS
	'invalidates the cached part of all sessions when this transaction '
	'commits; state: the table that names the part';

CREATE FUNCTION pgstock_internal.part_seal(name text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	EXECUTE format('
		UPDATE pgstock_internal.%1$s_part p
		   SET state = ''s'', since = DEFAULT, xid = DEFAULT
		 WHERE p.state = ''l''
		   AND pgstock_internal.try_lock_table(''%1$s_'' || p.part, false)',
		name);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.part_seal IS
	'seals the parts of a table in which no open transaction has rows; '
	'returns their number';

/* Part 0 is not rotated. */
CREATE FUNCTION pgstock_internal.part_next(name text)
RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	free	int;
	last	int;
BEGIN
	EXECUTE format('
		SELECT min(n) FILTER (WHERE u.part IS NULL AND n > 0), max(n)
		  FROM pg_inherits i
		  JOIN pg_class c ON c.oid = i.inhrelid
		 CROSS JOIN LATERAL CAST(substring(c.relname FROM ''[0-9]+$'') AS int) n
		  LEFT JOIN pgstock_internal.%1$s_part u ON u.part = n
		 WHERE i.inhparent = ''pgstock_internal.%1$s''::regclass', name)
	   INTO free, last;
	IF free IS NULL THEN
		EXECUTE format('LOCK TABLE ONLY pgstock_internal.%s
			IN SHARE UPDATE EXCLUSIVE MODE NOWAIT', name);
		free := last + 1;
		EXECUTE format('SELECT pgstock_internal.%s_add_part($1)', name)
		  USING free;
	END IF;
	RETURN free;
EXCEPTION WHEN lock_not_available THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.part_next IS
	'returns an empty part of a table, added if necessary; NULL if a lock is '
	'not available';

/* A switch each quarter of the retention: rows stay 5/4 of it at most. */
CREATE FUNCTION pgstock_internal.part_switch(name text, retention interval)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	period	interval := greatest(retention / 4, interval '1 second');
	written	int;
	begun	timestamptz;
	next	int;
BEGIN
	EXECUTE format('SELECT p.part, p.since FROM pgstock_internal.%s_part p
		WHERE p.state = ''w''', name) INTO written, begun;
	IF begun > clock_timestamp() - period
		OR pg_relation_size(format('pgstock_internal.%s_%s', name, written)) = 0
	THEN
		RETURN 0;
	END IF;
	next := pgstock_internal.part_next(name);
	IF next IS NULL THEN
		RETURN 0;
	END IF;
	EXECUTE format('UPDATE pgstock_internal.%s_part
		SET state = ''l'', since = DEFAULT, xid = DEFAULT
		WHERE state = ''w''', name);
	EXECUTE format('INSERT INTO pgstock_internal.%s_part (part, state)
		VALUES ($1, ''w'')', name) USING next;
	PERFORM pgstock_internal.part_switched(name || '_part');
	RETURN 1;
END
$$;
COMMENT ON FUNCTION pgstock_internal.part_switch IS
	'switches a table to another part after a quarter of the retention; '
	'returns 1 if it did, else 0';
