/* ---- Tables of the outbox ------------------------------------------------ */

/*
 * Columns that match Debezium's outbox table have its names (id,
 * aggregatetype, aggregateid, type, payload), so that its connector can read
 * this table.  Rows are never updated.  seq is drawn while the level's lock is
 * held, so it follows the order of the locks.  xid is the top-level
 * transaction; windows depend on it.
 *
 * Rows are never deleted either: the outbox consists of parts, which are
 * written in turn and truncated as a whole (sql/rotation.sql).  Each part has
 * its own indexes rather than partitions of a partitioned index, so that a
 * part added later can be dumped and restored.
 *
 * An order's events are found by the movements that name them.  The index on
 * the key contains the others, which no movement names: an entry for each event
 * of stock would be a twentieth of a reservation's instructions.
 */
CREATE SEQUENCE pgstock_internal.outbox_seq;
CREATE TABLE pgstock_internal.outbox
(
	seq				bigint NOT NULL
		DEFAULT nextval('pgstock_internal.outbox_seq'),
	xid				xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id				uuid NOT NULL,
	aggregatetype	text COLLATE "C" NOT NULL,
	aggregateid		bytea,
	type			text NOT NULL,
	payload			bytea,
	headers			bytea,
	traceparent		text,
	created_at		timestamptz NOT NULL,
	format			"char" NOT NULL,
	by_key			boolean NOT NULL DEFAULT false,
	ends			"char",
	part			smallint NOT NULL
) PARTITION BY LIST (part);
ALTER SEQUENCE pgstock_internal.outbox_seq OWNED BY pgstock_internal.outbox.seq;
/* No key spans the parts; each has its own. */
ALTER TABLE pgstock_internal.outbox REPLICA IDENTITY FULL;
COMMENT ON TABLE pgstock_internal.outbox IS
	'events, one row per Kafka record, written by the transaction that they '
	'describe';
COMMENT ON COLUMN pgstock_internal.outbox.aggregatetype IS 'Kafka topic';
COMMENT ON COLUMN pgstock_internal.outbox.aggregateid IS 'Kafka key';
COMMENT ON COLUMN pgstock_internal.outbox.headers IS
	'application headers, packed (docs/relay-protocol.md)';
COMMENT ON COLUMN pgstock_internal.outbox.format IS
	'j JSON, b bytes, r raw: a dead letter, published with the stored headers '
	'only';
COMMENT ON COLUMN pgstock_internal.outbox.by_key IS
	'in the index on the key: no movement names this event; not keys of more '
	'than 255 bytes, which no order has';
COMMENT ON COLUMN pgstock_internal.outbox.ends IS
	'state of a reservation whose end the event reports, whatever its type is '
	'named: c confirmed, l released, b rolled_back, t returned, e expired, s '
	'shortfall; NULL: none, or a copy';
COMMENT ON COLUMN pgstock_internal.outbox.part IS
	'number of the part: rows with n are in outbox_n';

/*
 * ATTACH PARTITION, because CREATE TABLE ... PARTITION OF would need an ACCESS
 * EXCLUSIVE lock on the outbox.  Insert-driven vacuum is off, because the rows
 * are soon truncated.
 */
CREATE FUNCTION pgstock_internal.outbox_add_part(part int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE TABLE pgstock_internal.outbox_%1$s
		(LIKE pgstock_internal.outbox INCLUDING DEFAULTS,
		 CONSTRAINT outbox_%1$s_pkey PRIMARY KEY (seq))
		WITH (autovacuum_vacuum_insert_threshold = -1,
			  toast.autovacuum_vacuum_insert_threshold = -1)', part);
	EXECUTE format('CREATE INDEX outbox_%1$s_xid
		ON pgstock_internal.outbox_%1$s (xid, seq)', part);
	EXECUTE format('CREATE INDEX outbox_%1$s_id
		ON pgstock_internal.outbox_%1$s (id)', part);
	EXECUTE format('CREATE INDEX outbox_%1$s_key
		ON pgstock_internal.outbox_%1$s (aggregateid) WHERE by_key', part);
	EXECUTE format('COMMENT ON TABLE pgstock_internal.outbox_%s IS %L',
				   part, 'a part of the outbox');
	PERFORM pgstock_internal.revoke_default_grants(
		format('pgstock_internal.outbox_%s', part)::regclass);
	EXECUTE format('ALTER TABLE pgstock_internal.outbox ATTACH PARTITION
		pgstock_internal.outbox_%1$s FOR VALUES IN (%1$s)', part);
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_add_part IS
	'adds an empty part to the outbox';
SELECT pgstock_internal.outbox_add_part(n)
  FROM pg_catalog.generate_series(1, 6) n;

/* If no row is in state 'w', part 1 is written. */
CREATE TABLE pgstock_internal.outbox_part
(
	part	smallint NOT NULL,
	state	"char" NOT NULL,
	since	timestamptz NOT NULL DEFAULT clock_timestamp(),
	xid		xid8 NOT NULL DEFAULT pg_current_xact_id(),
	CONSTRAINT outbox_part_pkey PRIMARY KEY (part)
);
CREATE UNIQUE INDEX outbox_part_written ON pgstock_internal.outbox_part (state)
 WHERE state = 'w';
COMMENT ON TABLE pgstock_internal.outbox_part IS
	'parts of the outbox in use; all others are empty';
COMMENT ON COLUMN pgstock_internal.outbox_part.state IS
	'w written; l left, open transactions may still have rows in it; s '
	'sealed, no open transaction has rows in it';
COMMENT ON COLUMN pgstock_internal.outbox_part.xid IS
	'transaction that set this state';

CREATE TABLE pgstock_internal.event_topic
(
	event_type	text COLLATE "C" NOT NULL,
	topic		text COLLATE "C",
	CONSTRAINT event_topic_pkey PRIMARY KEY (event_type)
);
CREATE INDEX event_topic_topic ON pgstock_internal.event_topic (topic);
COMMENT ON TABLE pgstock_internal.event_topic IS
	'topics of event types that are not published to their default topic';

CREATE TABLE pgstock_internal.event_format
(
	event_type	text COLLATE "C" NOT NULL,
	name		text COLLATE "C",
	members		text COLLATE "C",
	CONSTRAINT event_format_pkey PRIMARY KEY (event_type)
);
COMMENT ON TABLE pgstock_internal.event_format IS
	'names under which event types are published, and how their members are '
	'named; NULL: as by default';

/*
 * The position is stored several times a second.  Updates of a single row
 * would leave dead versions for as long as any snapshot is held.  So each
 * position is inserted as a new row, into two tables in turn; each table is
 * truncated before it is used again (put_position).
 */
CREATE TABLE pgstock_internal.position_even
(
	n				bigint NOT NULL,
	"window"		text NOT NULL,
	seq				bigint NOT NULL,
	finished		boolean NOT NULL,
	stored_epoch	bigint NOT NULL,
	stored_at		timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT position_even_pkey PRIMARY KEY (n)
);
COMMENT ON TABLE pgstock_internal.position_even IS
	'stored positions; the row with the greatest n in both tables is current: '
	'see relay_position';
CREATE TABLE pgstock_internal.position_odd
	(LIKE pgstock_internal.position_even INCLUDING DEFAULTS,
	 CONSTRAINT position_odd_pkey PRIMARY KEY (n));
COMMENT ON TABLE pgstock_internal.position_odd IS
	'stored positions, as in position_even';

CREATE TABLE pgstock_internal.relay_epoch
(
	one				boolean NOT NULL DEFAULT true,
	epoch			bigint NOT NULL,
	receipts		bigint,
	CONSTRAINT relay_epoch_pkey PRIMARY KEY (one),
	CONSTRAINT relay_epoch_one CHECK (one)
);
COMMENT ON TABLE pgstock_internal.relay_epoch IS
	'number of times the lead of the outbox was taken; locked by each '
	'transaction that stores a position';
COMMENT ON COLUMN pgstock_internal.relay_epoch.receipts IS
	'shared memory of the leading session, for wait_for_event; NULL: none';

CREATE VIEW pgstock_internal.relay_position AS
SELECT p."window", p.seq, p.finished, e.epoch, p.stored_at, p.n,
	   p.stored_epoch
  FROM pgstock_internal.relay_epoch e,
	   (SELECT * FROM pgstock_internal.position_even
		 UNION ALL
		SELECT * FROM pgstock_internal.position_odd
		 ORDER BY n DESC LIMIT 1) p
 LIMIT 1;
COMMENT ON VIEW pgstock_internal.relay_position IS
	'how far Kafka has acknowledged the outbox';
COMMENT ON COLUMN pgstock_internal.relay_position.stored_epoch IS
	'epoch of the relay that stored the position; epoch is the current one';

/* Contents of tables and sequences that pg_dump includes. */
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_1', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_2', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_3', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_4', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_5', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_6', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_part', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.outbox_seq', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.event_topic', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.event_format', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.relay_epoch', '');
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.position_even', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.position_odd', '');
