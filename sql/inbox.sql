/* ---- The inbox: docs/relay-protocol.md ----------------------------------- */

CREATE FUNCTION pgstock_internal.relay_offsets(topics text[])
RETURNS TABLE (topic text, partition int, next_offset bigint,
	fingerprint text, witness_offset bigint, witness text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT topic, o.partition, o.next_offset, o.fingerprint, o.witness_offset,
	   o.witness
  FROM pgstock_internal.inbox_topic t
  FULL JOIN pgstock_internal.inbox_offset o USING (topic)
 WHERE topics IS NULL OR topic = ANY (topics)
 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION pgstock_internal.relay_offsets IS
	'returns the next offset of each partition with its fingerprints; NULL '
	'for all topics';

/*
 * Of two relays that begin the same topic, one inserts its row; the other
 * waits for that transaction and then returns false.
 */
CREATE FUNCTION pgstock_internal.relay_begin_topic(topic text,
	partitions int[], offsets bigint[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO pgstock_internal.inbox_topic VALUES ($1)
		ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO pgstock_internal.inbox_offset (topic, partition, next_offset)
	SELECT $1, * FROM unnest(partitions, offsets) ORDER BY 2
		ON CONFLICT DO NOTHING;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_begin_topic IS
	'stores the first offsets of a topic without any; returns false if '
	'another relay was first';

/*
 * Moves the offset only from the expected value: another relay may have been
 * assigned the partition in the meantime.
 */
CREATE FUNCTION pgstock_internal.relay_move_offset(topic text, partition int,
	was bigint, next_offset bigint, last_missing bigint, reason text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO pgstock_internal.inbox_offset AS o
	VALUES ($1, $2, $4)
		ON CONFLICT ON CONSTRAINT inbox_offset_pkey DO UPDATE
	   SET next_offset = $4, fingerprint = NULL, witness_offset = NULL,
		   witness = NULL, heir_offset = NULL, heir = NULL, heir_since = NULL
	 WHERE o.next_offset = $3;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO pgstock_internal.inbox_gap
	VALUES ($1, $2, $3, $5, $6, $4);
	/* Its offsets belong to the earlier history. */
	DELETE FROM pgstock_internal.inbox_attempt a
	 WHERE a.topic = $1 AND a.partition = $2;
	RETURN true;
END
$$;
COMMENT ON FUNCTION pgstock_internal.relay_move_offset IS
	'continues at another offset in a partition that lost records, and '
	'records the missing offsets; returns false if the next offset is not the '
	'expected one';

CREATE FUNCTION pgstock_internal.relay_fingerprint(topic text, partition int,
	next_offset bigint, fingerprint text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
UPDATE pgstock_internal.inbox_offset o SET fingerprint = $4
 WHERE o.topic = $1 AND o.partition = $2 AND o.next_offset = $3
   AND o.fingerprint IS NULL
$$;
COMMENT ON FUNCTION pgstock_internal.relay_fingerprint IS
	'stores the fingerprint of the record before the next offset, if it is '
	'not known';

CREATE FUNCTION pgstock_internal.relay_apply(topics text[], partitions int[],
	offsets bigint[], timestamps bigint[], keys bytea[], "values" bytea[],
	headers bytea[], options jsonb, OUT topic text, OUT result text,
	OUT reason text, OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_apply IS
	'applies the first messages of a batch; writes inbox rows, effects, '
	'events and next offsets in one transaction; returns the number of '
	'messages by result';

CREATE FUNCTION pgstock_internal.relay_apply_failed(topics text[],
	partitions int[], offsets bigint[], timestamps bigint[], keys bytea[],
	"values" bytea[], headers bytea[], options jsonb, sqlstate text,
	error text, OUT topic text, OUT result text, OUT reason text,
	OUT n bigint, OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_apply_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.relay_apply_failed IS
	'records the failure of a message that failed alone: schedules another '
	'try or dead-letters it';

CREATE FUNCTION pgstock_internal.relay_retry(max_rows int, options jsonb,
	OUT topic text, OUT result text, OUT reason text, OUT n bigint,
	OUT attempts int, OUT message text,
	OUT sent_ms bigint[], OUT failure text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgstock_relay_retry' LANGUAGE C VOLATILE
	SET lock_timeout = '2s';
COMMENT ON FUNCTION pgstock_internal.relay_retry IS
	'tries waiting messages that are due again, at most max_rows of them';
