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
		UPDATE pgstock_internal.movement_part SET xid = DEFAULT;
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
