/* ---- Adoption ------------------------------------------------------------ */

/*
 * Handlers registered in another database are taken over if function, owner
 * and role have the same names here.  Handlers registered in this database are
 * not changed: there a different oid is a different object.
 */
CREATE FUNCTION pgstock_internal.adopt_handlers()
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
UPDATE pgstock_internal.user_handler h
   SET function_oid = p.oid, owner_oid = p.proowner, role_oid = r.oid,
	   schema_oid = x.extnamespace, system_id = c.system_identifier,
	   "database" = d.oid
  FROM pg_control_system() c, pg_database d, pg_extension x, pg_proc p,
	   pg_roles r
 WHERE d.datname = current_database() AND x.extname = 'pgstock'
   AND (h.system_id, h."database") <> (c.system_identifier, d.oid)
   AND p.oid = to_regprocedure(h.handler || '(jsonb,jsonb)')
   AND pg_get_userbyid(p.proowner) = h.owner
   AND r.rolname = h.role
$$;
COMMENT ON FUNCTION pgstock_internal.adopt_handlers IS
	'takes over handlers registered in the database of which this one is a '
	'copy';

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
 * A copy by CREATE DATABASE ... TEMPLATE contains the position of its original.
 */
CREATE FUNCTION pgstock_internal.original()
RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT d.datname
  FROM pgstock_internal.relay_position p,
	   CAST(p."window" AS pgstock_internal.outbox_window) w, pg_database d,
	   pg_control_system() c
 WHERE w.system_id = c.system_identifier AND d.oid = w."database"
   AND d.datname <> current_database()
$$;
COMMENT ON FUNCTION pgstock_internal.original IS
	'returns the database of this cluster that stored the position, if it is '
	'another one';

CREATE FUNCTION pgstock_internal.database_was_altered()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_database_was_altered' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.database_was_altered IS
	'returns whether the row of pg_database has been written again since the '
	'database was created';

/*
 * No transaction writes to a database while it is copied by TEMPLATE, so the
 * xids of its rows precede the one that created the copy, and those of rows
 * written in the copy follow it.  Of rows of a dump nothing is known.  Nor is
 * it known which xid created a database that was altered since: then all events
 * count as the copy's own, because an event that two databases publish is
 * better than one that neither does.
 */
CREATE FUNCTION pgstock_internal.last_copied_seq(restored boolean)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	now		bigint := pg_current_xact_id()::text;
	created	xid8 := (SELECT (now - age(d.xmin))::text::xid8 FROM pg_database d
					  WHERE d.datname = current_database()
						AND NOT pgstock_internal.database_was_altered());
BEGIN
	RETURN greatest(0, (SELECT max(o.seq) FROM pgstock_internal.outbox o
						 WHERE restored OR o.xid < created),
					(SELECT max(h.seq) FROM pgstock_internal.held_event h
					  WHERE restored OR h.xid < created));
END
$$;
COMMENT ON FUNCTION pgstock_internal.last_copied_seq IS
	'returns the seq of the last event that is known to have come with the '
	'copy; of a restored database, of the last event';

/*
 * The original publishes the events, and sends the alerts, that were pending
 * when it was copied.
 */
CREATE FUNCTION pgstock_internal.leave_to_original(last_seq bigint)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
DELETE FROM pgstock_internal.held_event h WHERE h.seq <= last_seq;
DELETE FROM pgstock_internal.held_topic t
 WHERE NOT EXISTS (SELECT FROM pgstock_internal.held_event h
					WHERE h.aggregatetype = t.topic);
DELETE FROM pgstock_internal.alert
$$;
COMMENT ON FUNCTION pgstock_internal.leave_to_original IS
	'deletes held events up to a seq, and alerts that are not sent: the '
	'original has them';

CREATE FUNCTION pgstock_internal.adopt_as(origin text, restored boolean)
RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF origin IS NULL THEN
		RETURN CASE WHEN restored OR pgstock_internal.original() IS NULL
			   THEN 'restored' ELSE 'copy' END;
	ELSIF origin NOT IN ('restored', 'copy') THEN
		RAISE EXCEPTION 'a database cannot be adopted as "%"', origin
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Use "restored", or "copy" if the original database '
						 'remains in use.';
	END IF;
	RETURN origin;
END
$$;
COMMENT ON FUNCTION pgstock_internal.adopt_as IS
	'returns what relay_adopt takes the database for: origin, or if that is '
	'NULL, what the database''s own rows show';

/* stored: the position that came with the data, NULL if none did. */
CREATE FUNCTION pgstock_internal.adopted_window(
	stored pgstock_internal.relay_position, own pgstock_internal.incarnation)
RETURNS pgstock_internal.outbox_window
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w	pgstock_internal.outbox_window := coalesce(stored."window",
			pgstock_internal.first_window())::pgstock_internal.outbox_window;
BEGIN
	IF stored.finished THEN
		w.adopted := (pgstock_internal.progress()).adopted;
		w.s1 := w.s2;
		w.floor := w.s2_floor;
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
	RETURN w;
END
$$;
COMMENT ON FUNCTION pgstock_internal.adopted_window IS
	'returns the window in which relay_adopt continues publishing';

/*
 * Rows written after the restore have xids of this history, earlier rows have
 * xids of another history, and no column distinguishes them.  But rows of this
 * history are above the restored floor, because the sequence was restored too;
 * and an unpublished row of the other history is above that floor or not
 * visible in the restored s1.  So the condition "above floor or not visible in
 * s1" misses neither, and repeats only the events that were in flight.  Rows
 * that an earlier adoption found (up to adopted) were published by seq.  The
 * lock ensures that no open transaction has a row below ceiling.
 *
 * A copy leaves the rows up to last_copied_seq to its original, which goes on.
 */
CREATE FUNCTION pgstock_internal.relay_adopt(execute boolean,
	origin text DEFAULT NULL)
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
	copied	bigint := 0;
	n		bigint;
	theirs	bigint;
	doubt	text := '';
	oldest	timestamptz;
BEGIN
	IF reason LIKE 'subscription%' THEN
		PERFORM pgstock_internal.raise_foreign(reason);
	END IF;
	origin := pgstock_internal.adopt_as(origin, own.restored);
	IF execute THEN
		/* Before the outbox, like an inbox that applies messages. */
		PERFORM pgstock_internal.forget_tries();
		LOCK TABLE pgstock_internal.outbox IN SHARE MODE;
		PERFORM pgstock_internal.catch_up_sequences();
	END IF;
	SELECT * INTO p FROM pgstock_internal.relay_position;
	w := pgstock_internal.adopted_window(p, own);
	/* An adoption that is under way goes on where it is. */
	IF NOT p.finished
		AND (p."window"::pgstock_internal.outbox_window).restored THEN
		after := p.seq;
	END IF;
	IF origin = 'copy' THEN
		copied := pgstock_internal.last_copied_seq(own.restored);
		IF NOT own.restored AND pgstock_internal.database_was_altered() THEN
			doubt := ': ALTER DATABASE or GRANT hides which they are, so both '
					 'databases publish them';
		END IF;
	END IF;
	SELECT count(*) FILTER (WHERE o.seq > copied),
		   min(o.created_at) FILTER (WHERE o.seq > copied),
		   count(*) FILTER (WHERE o.seq <= copied)
		   + (SELECT count(*) FROM pgstock_internal.held_event h
			   WHERE h.seq <= copied)
	  INTO n, oldest, theirs
	  FROM pgstock_internal.outbox o
	 WHERE o.seq > after
	   AND (o.seq > w.floor OR (o.seq > w.adopted
								AND NOT pg_visible_in_snapshot(o.xid, w.s1)));
	after := greatest(after, copied);

	IF execute THEN
		IF origin = 'copy' THEN
			PERFORM pgstock_internal.leave_to_original(copied);
		END IF;
		PERFORM pgstock_internal.raise_epoch();
		PERFORM pgstock_internal.put_position(w::text, after, false);
		PERFORM pgstock_internal.adopt_handlers(),
				pgstock_internal.end_level_stream();
		/* They were sealed in another history. */
		UPDATE pgstock_internal.outbox_part SET state = 'l' WHERE state = 's';
		UPDATE pgstock_internal.movement_part SET xid = DEFAULT;
		UPDATE pgstock_internal.incarnation i SET restored = false
		 WHERE i.id = own.id;
		PERFORM pgstock_internal.keeper_call();
		INSERT INTO pgstock_internal.admin_action
		VALUES (clock_timestamp(), session_user, 'adopt', 'outbox',
				format('%s, %s events to publish', origin, n));
	END IF;
	RETURN QUERY VALUES
		('as', origin),
		('events to publish', n::text),
		('oldest of them', coalesce(oldest::text, 'none')),
		('left to the original', theirs || doubt),
		('last stored', coalesce(p.stored_at::text, 'never'));
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_adopt IS
	'accepts data of another history, so that publishing continues with it; '
	'only reports what would be published unless execute is true; origin: '
	'restored, or copy, which leaves what was pending to the original; NULL: '
	'copy if the original is another database of this cluster and no dump was '
	'restored';
