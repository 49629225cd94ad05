/* ---- Held topics: docs/relay-protocol.md --------------------------------- */

/*
 * An event of a held topic is set aside: it is copied here from the outbox, so
 * that the position can move past it and retention need not wait for it.  Its
 * copy is deleted when Kafka has acknowledged it, and the topic is resumed
 * when no copy is left.
 */
CREATE TABLE pgstock_internal.held_topic
(
	topic		text COLLATE "C" NOT NULL,
	since		timestamptz NOT NULL DEFAULT clock_timestamp(),
	reason		text NOT NULL,
	tries		int NOT NULL DEFAULT 1,
	tried_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT held_topic_pkey PRIMARY KEY (topic)
);
COMMENT ON TABLE pgstock_internal.held_topic IS
	'topics whose events are set aside, because the broker refused one of '
	'them';

CREATE TABLE pgstock_internal.held_event
	(LIKE pgstock_internal.outbox,
	 CONSTRAINT held_event_pkey PRIMARY KEY (seq));
CREATE INDEX held_event_topic
	ON pgstock_internal.held_event (aggregatetype, seq);
CREATE INDEX held_event_id ON pgstock_internal.held_event (id);
CREATE INDEX held_event_key ON pgstock_internal.held_event (aggregateid)
 WHERE octet_length(aggregateid) <= 255;
COMMENT ON TABLE pgstock_internal.held_event IS
	'events of held topics, with the columns of the outbox';

SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.held_topic', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.held_event', '');

CREATE FUNCTION pgstock_internal.relay_held_topics()
RETURNS TABLE (topic text, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.topic, t.reason FROM pgstock_internal.held_topic t ORDER BY 1
$$;
COMMENT ON FUNCTION pgstock_internal.relay_held_topics IS
	'returns the topics whose events are to be set aside, and why';

CREATE FUNCTION pgstock_internal.relay_hold(topic text, reason text,
	epoch bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_lead(epoch);
	INSERT INTO pgstock_internal.held_topic AS t (topic, reason)
	VALUES ($1, $2)
	ON CONFLICT ON CONSTRAINT held_topic_pkey DO UPDATE
	   SET reason = excluded.reason, tries = t.tries + 1,
		   tried_at = clock_timestamp();
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_hold IS
	'holds a topic whose event the broker refused, or records another '
	'refusal; SK021 if another relay leads';

/*
 * Parsed when it is created, so the caller's search_path has no effect.  It is
 * called for each row; the index admin_action_target serves it.
 */
CREATE FUNCTION pgstock_internal.is_discarded(event_id uuid)
RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pgstock_internal.admin_action a
				WHERE a.action = 'discard_held_event'
				  AND a.target = concat('event ', event_id) COLLATE "C");
COMMENT ON FUNCTION pgstock_internal.is_discarded IS
	'returns whether an administrator discarded this event of a held topic';

/*
 * After the loss of a position, the relay passes events again that are here
 * already or were discarded; these are not copied again.
 */
CREATE FUNCTION pgstock_internal.relay_set_aside(seqs bigint[], epoch bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n	bigint;
BEGIN
	PERFORM pgstock_internal.check_lead(epoch);
	INSERT INTO pgstock_internal.held_event
	SELECT o.* FROM pgstock_internal.outbox o
	 WHERE o.seq = ANY (seqs) AND NOT pgstock_internal.is_discarded(o.id)
	ON CONFLICT DO NOTHING;
	SELECT count(*) INTO n
	  FROM (SELECT h.seq FROM pgstock_internal.held_event h
			 WHERE h.seq = ANY (seqs)
			UNION
			SELECT o.seq FROM pgstock_internal.outbox o
			 WHERE o.seq = ANY (seqs)
			   AND pgstock_internal.is_discarded(o.id)) found;
	IF n <> cardinality(seqs) THEN
		RAISE EXCEPTION 'could not set events aside'
			USING ERRCODE = 'data_corrupted', DETAIL = format(
				'The outbox contains only %s of %s events.', n,
				cardinality(seqs));
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_set_aside IS
	'copies events of the outbox that are to be published later, so that the '
	'position can move past them; SK021 if another relay leads';

CREATE FUNCTION pgstock_internal.relay_held_page(of_topic text, max_rows int,
	max_bytes int)
RETURNS TABLE (seq bigint, event_id uuid, topic text, key bytea,
	event_type text, payload bytea, headers bytea, traceparent text,
	created_at timestamptz, format "char", ends "char")
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT r.*
		  FROM (SELECT h.seq, h.id, h.aggregatetype, h.aggregateid, h.type,
					   h.payload, h.headers, h.traceparent, h.created_at,
					   h.format, h.ends
				  FROM pgstock_internal.held_event h
				 WHERE h.aggregatetype = of_topic
				 ORDER BY h.seq LIMIT max_rows) r
		 WHERE pgstock_internal.page_has_room(r.payload, r.headers,
											  r.aggregateid, r.type, max_bytes);
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_held_page IS
	'returns the first events that were set aside for a topic, in the form of '
	'relay_page';

CREATE FUNCTION pgstock_internal.relay_cross_off(topic text, seqs bigint[],
	resume boolean, epoch bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_lead(epoch);
	DELETE FROM pgstock_internal.held_event h WHERE h.seq = ANY (seqs);
	PERFORM pgstock_internal.answer_receipts(seqs);
	IF NOT resume OR EXISTS (SELECT FROM pgstock_internal.held_event h
							  WHERE h.aggregatetype = $1) THEN
		RETURN false;
	END IF;
	DELETE FROM pgstock_internal.held_topic t WHERE t.topic = $1;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_cross_off IS
	'deletes events that Kafka has acknowledged; if resume is true and the '
	'topic has no others, resumes it and returns true; SK021 if another relay '
	'leads';

CREATE FUNCTION pgstock_internal.held_status()
RETURNS TABLE (topic text, since timestamptz, reason text, tries int,
	tried_at timestamptz, events bigint, oldest timestamptz, first_event uuid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.topic, t.since, t.reason, t.tries, t.tried_at, e.n, e.oldest,
	   (SELECT h.id FROM pgstock_internal.held_event h
		 WHERE h.aggregatetype = t.topic ORDER BY h.seq LIMIT 1)
  FROM pgstock_internal.held_topic t,
	   LATERAL (SELECT count(*) AS n, min(h.created_at) AS oldest
				  FROM pgstock_internal.held_event h
				 WHERE h.aggregatetype = t.topic) e
 ORDER BY t.topic
$$;
COMMENT ON FUNCTION pgstock_internal.held_status IS
	'returns the held topics: since when, why, and the number and age of '
	'their events';

/*
 * The row of the outbox remains and is read again after the loss of a
 * position.  The row of admin_action prevents it from being set aside again.
 */
CREATE FUNCTION pgstock_internal.discard_held(event_id uuid, reason text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgstock_internal.check_reason($2);
	DELETE FROM pgstock_internal.held_event h WHERE h.id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no held event % to discard', $1
			USING ERRCODE = 'no_data_found',
				  HINT = 'Only events of held topics can be discarded: '
						 '"pgstock-relay status" shows the first event of '
						 'each.';
	END IF;
	PERFORM pgstock_internal.audit('discard_held_event', 'event ' || $1, $2);
END
$$;
COMMENT ON FUNCTION pgstock_internal.discard_held IS
	'discards an event of a held topic, for discard_held_event';

CREATE FUNCTION @extschema@.discard_held_event(event_id uuid, reason text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.discard_held($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.discard_held_event IS
	'discards an event of a held topic that the broker will never accept; '
	'later events of the topic are published; the reason is required; P0002 '
	'if there is none';
