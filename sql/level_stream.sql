/* ---- The level stream: docs/relay-protocol.md ---------------------------- */

/*
 * A compacted topic with a record for each level, whose key is the level and
 * whose value is the level as it is now.  docs/decisions/0022-level-stream.md
 * has the reasons.
 *
 * While level_stream has a row, each transaction that changes a level inserts a
 * mark (extension/stock/level_mark.c).  A step of the stream, which the relay
 * calls several times a second, deletes the marks that it sees and writes the
 * levels that they name to the outbox, as they are.  So a level costs one
 * record for each step, however often it has changed.
 *
 * Why the latest record of a level is the level:
 *
 * - A step that sees a mark reads the level with the same snapshot or a later
 *   one, and so reads the change that the mark stands for.  The mark and the
 *   record are deleted and written in one commit.
 * - Steps, and the pages of a snapshot, exclude each other by a lock, and begin
 *   with a snapshot taken after it.  So of two records of a level the one with
 *   the greater seq is not the older level, and the outbox publishes the events
 *   of a key in order of seq.
 *
 * It does not depend on the order of versions, nor on which slot of a level has
 * changed.
 *
 * In Kafka a record may still end up behind a newer one: a relay that was
 * suspended with records in flight delivers them when it resumes, and another
 * program may write to the topic.  So the relay that leads reads the topic too
 * (relay_levels_read): a level whose record is not the level is set aside, and
 * a step writes it once more if no newer record has followed.
 */
CREATE TABLE pgstock_internal.level_stream
(
	topic			text COLLATE "C" NOT NULL,
	since			timestamptz NOT NULL DEFAULT clock_timestamp(),
	incarnation		uuid NOT NULL,
	timeline		int NOT NULL,
	ready_at		xid8,
	fill_product	text COLLATE "C" NOT NULL DEFAULT '',
	fill_location	text COLLATE "C" NOT NULL DEFAULT '',
	filled_at		timestamptz,
	CONSTRAINT level_stream_pkey PRIMARY KEY (topic)
);
COMMENT ON TABLE pgstock_internal.level_stream IS
	'the topic of the level stream; no row: it is off';
COMMENT ON COLUMN pgstock_internal.level_stream.timeline IS
	'timeline and incarnation in which the stream was begun; in another one it '
	'is begun again, because Kafka may have levels of commits that are lost';
COMMENT ON COLUMN pgstock_internal.level_stream.ready_at IS
	'transactions from this one on have seen that the stream is on; NULL: not '
	'known yet';
COMMENT ON COLUMN pgstock_internal.level_stream.fill_product IS
	'levels up to this one have been written since the stream was begun';
COMMENT ON COLUMN pgstock_internal.level_stream.filled_at IS
	'when all levels had been written; NULL: not yet';
/* Sessions remember whether there is a row. */
CREATE TRIGGER level_stream_changed
	AFTER INSERT OR DELETE OR TRUNCATE ON pgstock_internal.level_stream
	EXECUTE FUNCTION pgstock_internal.event_settings_changed();

/*
 * Neither table is dumped: a restored database begins its stream anew.  The
 * file of the marks is not shortened by VACUUM, which would lock out writers.
 */
CREATE TABLE pgstock_internal.level_mark
(
	xid			xid8 NOT NULL,
	product_id	text COLLATE "C" NOT NULL,
	location	text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02,
		autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
CREATE INDEX level_mark_xid ON pgstock_internal.level_mark (xid);
/* Two marks may be the same. */
ALTER TABLE pgstock_internal.level_mark REPLICA IDENTITY FULL;
COMMENT ON TABLE pgstock_internal.level_mark IS
	'levels that have changed and whose record is not written yet';

/* Not dumped either: the topic of another database is read from its start. */
CREATE TABLE pgstock_internal.level_read
(
	"partition"		int NOT NULL,
	next_offset		bigint NOT NULL,
	behind_at		timestamptz NOT NULL DEFAULT '-infinity',
	CONSTRAINT level_read_pkey PRIMARY KEY ("partition")
) WITH (fillfactor = 50);
COMMENT ON TABLE pgstock_internal.level_read IS
	'up to which offset the records of the level stream''s topic were compared '
	'with the levels';
COMMENT ON COLUMN pgstock_internal.level_read.behind_at IS
	'when it was last found that records are left to be read';

/*
 * A record that is not the level may be followed by one that is: in the outbox,
 * or in the part of the topic that is not read yet.  Writing the level at once
 * would then cost a record that is as late as this one, and so on without end.
 */
CREATE TABLE pgstock_internal.level_difference
(
	product_id	text COLLATE "C" NOT NULL,
	location	text COLLATE "C" NOT NULL,
	found_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT level_difference_pkey PRIMARY KEY (product_id, location)
);
COMMENT ON TABLE pgstock_internal.level_difference IS
	'levels that differ from their latest record that was read from the topic';

CREATE FUNCTION pgstock_internal.level_key(product_id text, location text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN product_id || '@' || replace(replace(location, '%', '%25'), '@', '%40');
COMMENT ON FUNCTION pgstock_internal.level_key IS
	'returns the key of a level''s record: the location is what follows the '
	'last "@"; in it "%" is written as "%25" and "@" as "%40"';

/*
 * A key that another program made has no level.  The longest one of a level has
 * 255 bytes, the "@", and 255 bytes that are written as three each.
 */
CREATE FUNCTION pgstock_internal.level_of_key(key bytea, OUT product_id text,
	OUT location text)
RETURNS record
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name	text;
BEGIN
	IF octet_length(key) > 1021 THEN
		RETURN;
	END IF;
	name := convert_from(key, 'UTF8');
	product_id := substring(name FROM '^(.*)@');
	location := replace(replace(substring(name FROM '[^@]*$'), '%40', '@'),
						'%25', '%');
	IF pgstock_internal.level_key(product_id, location)
		IS DISTINCT FROM name THEN
		product_id := NULL;
	END IF;
EXCEPTION WHEN data_exception THEN
	product_id := NULL;
END
$$;
COMMENT ON FUNCTION pgstock_internal.level_of_key IS
	'returns the level that a record''s key names; NULL if it names none';

/* Without settings, so that the planner inlines it. */
CREATE FUNCTION pgstock_internal.level_values(products text[],
	locations text[])
RETURNS TABLE (product_id text, location text, value text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT k.product_id, k.location,
		   (SELECT format('{"product_id":%s,"location":%s,"on_hand":%s,'
						  '"reserved":%s,"safety":%s,"available":%s,'
						  '"version":%s,', to_json(k.product_id),
						  to_json(k.location), l.on_hand, l.reserved, l.safety,
						  l.available, l.version)
			  FROM pgstock_internal.level_total l
			 WHERE l.product_id = k.product_id AND l.location = k.location)
	  FROM unnest(products, locations) k (product_id, location);
END;
COMMENT ON FUNCTION pgstock_internal.level_values IS
	'returns these levels as their records have them, up to the time; NULL if '
	'the level is gone';

/* A step of the stream, or a page of a snapshot, begins with this. */
CREATE FUNCTION pgstock_internal.lock_level_stream()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'the level stream must be written at isolation level '
						'READ COMMITTED'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Set default_transaction_isolation for the '
						 'relay''s role.';
	END IF;
	LOCK TABLE pgstock_internal.level_stream IN SHARE UPDATE EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION pgstock_internal.lock_level_stream IS
	'excludes other steps of the level stream until the transaction ends; what '
	'the next statement sees is not older than what they have written';

CREATE FUNCTION pgstock_internal.check_level_topic(topic text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_check_level_topic' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.check_level_topic IS
	'raises 22023 unless levels may go to a topic';

/*
 * Writes a record for each of these levels, as it is now.  As in
 * extension/outbox/record.c, the xid is assigned before the first seq is drawn.
 */
CREATE FUNCTION pgstock_internal.put_levels(topic text, products text[],
	locations text[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off
	SET enable_mergejoin = off
AS $$
DECLARE
	part	int;
	at		timestamptz := clock_timestamp();
BEGIN
	PERFORM pgstock_internal.check_level_topic(topic);
	IF coalesce(cardinality(products), 0) = 0 THEN
		RETURN;
	END IF;
	PERFORM pg_current_xact_id();
	part := pgstock_internal.outbox_lock_part();
	INSERT INTO pgstock_internal.outbox (part, id, aggregatetype, aggregateid,
		type, payload, created_at, format)
	SELECT part, gen_random_uuid(), topic,
		   convert_to(pgstock_internal.level_key(l.product_id, l.location),
					  'UTF8'),
		   'StockLevel',
		   /* A level that is gone has a tombstone. */
		   convert_to(l.value || format('"timestamp":"%s"}',
										pgstock_internal.utc_text(at)), 'UTF8'),
		   at, 'j'
	  FROM pgstock_internal.level_values(products, locations) l;
	PERFORM pgstock_internal.wake_relay();
END
$$;
COMMENT ON FUNCTION pgstock_internal.put_levels IS
	'writes the record of each of these levels to the outbox';

/*
 * Deletes marks, and returns the levels that they name.  since is a snapshot
 * that an earlier step of this session took before it deleted all marks that it
 * saw, or NULL.  What it shows has no mark any more: so the index is entered
 * behind it, past the entries of deleted marks, which stay for as long as any
 * snapshot is held.  Without it all marks are looked at, so that nothing
 * depends on it being right for this history.
 */
CREATE FUNCTION pgstock_internal.take_level_marks(since pg_snapshot,
	max_rows int, OUT n bigint, OUT products text[], OUT locations text[])
RETURNS record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
	late	xid8[] := ARRAY(SELECT pg_snapshot_xip(since));
	first	xid8 := coalesce(pg_snapshot_xmax(since), '0');
BEGIN
	WITH taken AS (
		DELETE FROM pgstock_internal.level_mark m
		 WHERE m.ctid = ANY (ARRAY(
			(SELECT a.ctid FROM pgstock_internal.level_mark a
			  WHERE a.xid = ANY (late))
			 UNION ALL
			(SELECT b.ctid FROM pgstock_internal.level_mark b
			  WHERE b.xid >= first ORDER BY b.xid LIMIT max_rows)
			 LIMIT max_rows))
		RETURNING m.product_id, m.location
	), levels AS (
		SELECT t.product_id, t.location, count(*) AS marks
		  FROM taken t GROUP BY 1, 2
	)
	SELECT coalesce(sum(l.marks), 0), array_agg(l.product_id::text),
		   array_agg(l.location::text)
	  INTO n, products, locations FROM levels l;
END
$$;
COMMENT ON FUNCTION pgstock_internal.take_level_marks IS
	'deletes marks, at most max_rows of them; returns their number and the '
	'levels that they name';

/* A page of all levels, behind the given one. */
CREATE FUNCTION pgstock_internal.level_page(after_product text,
	after_location text, max_rows int, OUT products text[],
	OUT locations text[])
RETURNS record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off SET enable_hashagg = off
AS $$
SELECT coalesce(array_agg(p.product_id::text), '{}'),
	   coalesce(array_agg(p.location::text), '{}')
  FROM (SELECT l.product_id, l.location FROM pgstock_internal.level l
		 WHERE (l.product_id, l.location) > ($1, $2)
		 GROUP BY l.product_id, l.location
		 ORDER BY l.product_id, l.location LIMIT $3) p
$$;
COMMENT ON FUNCTION pgstock_internal.level_page IS
	'returns the levels that follow one, in order, at most max_rows';

/*
 * The fill: each level once.  A transaction that looked for the row of
 * level_stream before it was there has made no mark; so the fill begins when
 * all that may have done so have ended.  next_xid() is read in a later
 * transaction than the one that wrote the row, once its lock is free and hence
 * all sessions have been notified.
 */
CREATE FUNCTION pgstock_internal.fill_level_stream(
	s pgstock_internal.level_stream, max_rows int, OUT filled boolean,
	OUT products text[], OUT locations text[])
RETURNS record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	int;
BEGIN
	filled := s.filled_at IS NOT NULL;
	IF filled THEN
		RETURN;
	ELSIF s.ready_at IS NULL THEN
		UPDATE pgstock_internal.level_stream
		   SET ready_at = pgstock_internal.next_xid();
		RETURN;
	ELSIF pg_snapshot_xmin(pg_current_snapshot()) < s.ready_at THEN
		RETURN;
	END IF;
	SELECT p.products, p.locations INTO products, locations
	  FROM pgstock_internal.level_page(s.fill_product, s.fill_location,
									   max_rows) p;
	n := cardinality(products);
	filled := n < max_rows;
	UPDATE pgstock_internal.level_stream
	   SET fill_product = coalesce(products[n], fill_product),
		   fill_location = coalesce(locations[n], fill_location),
		   filled_at = CASE WHEN filled THEN clock_timestamp() END;
END
$$;
COMMENT ON FUNCTION pgstock_internal.fill_level_stream IS
	'returns a page of levels to write while the stream is being filled, and '
	'whether it is filled';

/*
 * Levels to write because their record in the topic is not the level.  Those
 * that this step writes anyway are not among them: what it writes follows, and
 * is read in turn.  Of the others, those are returned whose newer record, if
 * there were one, would have been read by now: none is in the outbox that was
 * written before the difference was found, and for five seconds, far longer
 * than a record takes from the broker to the reader, the reader has been at the
 * end of the topic.
 */
CREATE FUNCTION pgstock_internal.take_level_differences(written_products text[],
	written_locations text[], max_rows int, OUT products text[],
	OUT locations text[])
RETURNS record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at_end	timestamptz := clock_timestamp() - interval '5 s';
BEGIN
	IF NOT EXISTS (SELECT FROM pgstock_internal.level_difference) THEN
		RETURN;
	END IF;
	DELETE FROM pgstock_internal.level_difference d
	 USING unnest(written_products, written_locations) w (product_id, location)
	 WHERE d.product_id = w.product_id AND d.location = w.location;
	IF EXISTS (SELECT FROM pgstock_internal.level_read r
				WHERE r.behind_at > at_end) THEN
		RETURN;
	END IF;
	SELECT least(at_end, p.oldest) INTO at_end
	  FROM pgstock_internal.pending(max_rows) p;
	WITH taken AS (
		DELETE FROM pgstock_internal.level_difference d
		 WHERE d.ctid = ANY (ARRAY(
			SELECT c.ctid FROM pgstock_internal.level_difference c
			 WHERE c.found_at < at_end LIMIT max_rows))
		RETURNING d.product_id, d.location
	)
	SELECT array_agg(t.product_id::text), array_agg(t.location::text)
	  INTO products, locations FROM taken t;
END
$$;
COMMENT ON FUNCTION pgstock_internal.take_level_differences IS
	'deletes the differences of the levels that are written, and those whose '
	'level is to be written again, at most max_rows; returns the latter';

CREATE FUNCTION pgstock_internal.end_level_stream()
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM pgstock_internal.level_stream;
	DELETE FROM pgstock_internal.level_read;
	DELETE FROM pgstock_internal.level_difference;
	/* Marks of open transactions may follow; the next stream takes them. */
	IF pg_relation_size('pgstock_internal.level_mark') > 0
		AND pgstock_internal.try_lock_table('level_mark', true) THEN
		TRUNCATE pgstock_internal.level_mark;
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.end_level_stream IS
	'turns the level stream off';

/*
 * The commit need not be durable: if it is lost, so are the records, and the
 * marks are there again; and nothing is published before it is durable.
 */
CREATE FUNCTION pgstock_internal.level_stream_step(topic text,
	since pg_snapshot, max_rows int, OUT next_since pg_snapshot, OUT n bigint,
	OUT behind boolean)
RETURNS record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s		pgstock_internal.level_stream;
	own		uuid := (pgstock_internal.draw_incarnation()).id;
	present	int;
	taken	record;
	page	record;
	again	record;
BEGIN
	PERFORM pgstock_internal.lock_level_stream(),
			set_config('synchronous_commit', 'off', true);
	IF since IS NULL THEN
		SELECT f.timeline INTO present
		  FROM pgstock_internal.outbox_fence('local') f;
	END IF;
	n := 0;
	behind := false;
	SELECT * INTO s FROM pgstock_internal.level_stream;
	/* A relay that has lost the lead may call where another program has it. */
	IF topic IS NULL OR pgstock_internal.outbox_retention() IS NOT NULL THEN
		PERFORM pgstock_internal.end_level_stream();
		RETURN;
	ELSIF s.topic IS DISTINCT FROM topic
		OR s.incarnation <> own OR s.timeline <> present THEN
		PERFORM pgstock_internal.check_level_topic(topic);
		DELETE FROM pgstock_internal.level_stream;
		DELETE FROM pgstock_internal.level_read;
		DELETE FROM pgstock_internal.level_difference;
		INSERT INTO pgstock_internal.level_stream (topic, incarnation, timeline)
		SELECT $1, own, f.timeline
		  FROM pgstock_internal.outbox_fence('local') f;
		behind := true;
		RETURN;
	END IF;
	next_since := pg_current_snapshot();
	taken := pgstock_internal.take_level_marks(since, max_rows);
	page := pgstock_internal.fill_level_stream(s, max_rows / 5);
	again := pgstock_internal.take_level_differences(
		taken.products || page.products, taken.locations || page.locations,
		max_rows / 5);
	/* A level that has a mark may be in the page too. */
	PERFORM pgstock_internal.put_levels(topic, array_agg(l.product_id),
										array_agg(l.location))
	   FROM (SELECT * FROM unnest(taken.products, taken.locations)
			  UNION SELECT * FROM unnest(page.products, page.locations)
			  UNION SELECT * FROM unnest(again.products, again.locations)
			) l (product_id, location);
	n := taken.n;
	IF n >= max_rows THEN
		next_since := since;
	END IF;
	behind := n >= max_rows OR NOT page.filled;
END
$$;
COMMENT ON FUNCTION pgstock_internal.level_stream_step IS
	'writes the records of levels that have changed, and of a page of all '
	'levels while the stream is being filled';

/*
 * next_since is for the next call of this session, NULL if it was not one of
 * the same stream.  A failure is recorded as that of a step of the upkeep.
 */
CREATE FUNCTION pgstock_internal.relay_levels(topic text, since text,
	max_rows int, OUT next_since text, OUT n bigint, OUT behind boolean,
	OUT worked boolean)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	step	record;
BEGIN
	n := 0;
	behind := true;
	worked := false;
	IF pgstock_internal.foreign_history() IS NOT NULL THEN
		RETURN;
	END IF;
	BEGIN
		step := pgstock_internal.level_stream_step(topic, since::pg_snapshot,
												   max_rows);
	EXCEPTION WHEN OTHERS THEN
		PERFORM pgstock_internal.upkeep_failed('levels', SQLSTATE, SQLERRM);
		next_since := since;
		RETURN;
	END;
	PERFORM pgstock_internal.upkeep_worked('levels');
	next_since := step.next_since::text;
	n := step.n;
	behind := step.behind;
	worked := true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_levels IS
	'runs a step of the level stream, or turns it off if topic is NULL; '
	'returns the number of changes, whether the step left any, and whether it '
	'was done';

CREATE FUNCTION pgstock_internal.relay_snapshot(topic text,
	after_product text, after_location text, max_rows int,
	OUT n bigint, OUT last_product text, OUT last_location text)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	page	record;
BEGIN
	PERFORM pgstock_internal.raise_foreign(pgstock_internal.foreign_history()),
			pgstock_internal.lock_level_stream();
	page := pgstock_internal.level_page(after_product, after_location,
										max_rows);
	n := cardinality(page.products);
	last_product := page.products[n];
	last_location := page.locations[n];
	PERFORM pgstock_internal.put_levels(topic, page.products, page.locations);
	IF after_product = '' THEN
		PERFORM pgstock_internal.audit('snapshot', 'topic ' || topic, NULL);
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_snapshot IS
	'writes the records of the levels that follow one, in order; n is less '
	'than max_rows: they were the last';

/*
 * Marks the levels of a product that SQL has changed, whether or not the stream
 * is on: this snapshot may be older than that.
 */
CREATE FUNCTION pgstock_internal.mark_levels(product text)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.level_mark
SELECT pg_current_xact_id(), l.product_id, l.location
  FROM pgstock_internal.level l
 WHERE l.product_id = $1
 GROUP BY 2, 3
$$;
COMMENT ON FUNCTION pgstock_internal.mark_levels IS
	'marks the levels of a product as changed';
