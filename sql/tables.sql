/* sql/pgstock--1.0.sql */

\echo Use "CREATE EXTENSION pgstock" to load this file. \quit

/*
 * CREATE EXTENSION runs this script as a superuser with the target schema in
 * search_path.  The owner of that schema could have created functions or
 * operators there that match better than the system's.  So search_path is
 * reduced to pg_catalog, and every other object is named with its schema.
 */
SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * Tables are in pgstock_internal, which only its owner may write to; the
 * public functions and views are in @extschema@.  CREATE SCHEMA fails if the
 * schema exists, so no object in it belongs to another user.
 *
 * Text columns that are keys have COLLATE "C": the C code compares keys byte
 * by byte and locks them in that order, and the indexes must agree.
 */
CREATE SCHEMA pgstock_internal;
COMMENT ON SCHEMA pgstock_internal IS
	'tables of pgstock and functions for its relay';

/* ---- Stock --------------------------------------------------------------- */

/*
 * There are no foreign keys, no triggers and no indexes on changing columns,
 * so that updates of a hot row are HOT updates and take no further locks.
 *
 * A level with slots is the sum of its rows, safety and backorder_limit
 * included.
 */
CREATE TABLE pgstock_internal.level
(
	product_id		text COLLATE "C" NOT NULL,
	location		text COLLATE "C" NOT NULL,
	slot			int NOT NULL,
	on_hand			bigint NOT NULL,
	reserved		bigint NOT NULL,
	safety			bigint NOT NULL,
	backorder_limit	bigint NOT NULL,
	slots			int NOT NULL,
	version			bigint NOT NULL,
	slots_made		int NOT NULL,
	pooled			boolean NOT NULL,
	CONSTRAINT level_pkey PRIMARY KEY (product_id, location, slot)
		WITH (fillfactor = 90)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.02,
		autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE pgstock_internal.level IS
	'stock on hand and reserved stock of each product and location';
COMMENT ON COLUMN pgstock_internal.level.version IS
	'counter raised by every change of the level; with slots, their sum is '
	'the level''s version';
COMMENT ON COLUMN pgstock_internal.level.slots IS
	'number of slots that take reservations: 0 to slots - 1';
COMMENT ON COLUMN pgstock_internal.level.slots_made IS
	'number of slots that exist, including removed slots that still have '
	'lines';
COMMENT ON COLUMN pgstock_internal.level.pooled IS
	'true if the slots together are short of the safety stock: reserving then '
	'requires the locks of all slots';

/*
 * Lines carry the attempt number: an order that has ended can be reserved
 * again, and the lines of its earlier attempts keep their final state.
 */
CREATE TABLE pgstock_internal.reservation
(
	order_id	text COLLATE "C" NOT NULL,
	attempt		int NOT NULL,
	product_id	text COLLATE "C" NOT NULL,
	location	text COLLATE "C" NOT NULL,
	slot		int NOT NULL,
	quantity	bigint NOT NULL,
	state		"char" NOT NULL,
	user_id		text,
	created_at	timestamptz NOT NULL,
	expires_at	timestamptz,
	due_at		timestamptz,
	ended_at	timestamptz,
	reason		text,
	payment_id	text,
	activity_id	text COLLATE "C",
	retake		boolean,
	CONSTRAINT reservation_pkey
		PRIMARY KEY (order_id, attempt, product_id, location)
) WITH (fillfactor = 80);
CREATE INDEX reservation_due ON pgstock_internal.reservation (due_at);
CREATE INDEX reservation_level_due
	ON pgstock_internal.reservation (product_id, location, due_at);
/* For purge_history: contains neither reserved nor confirmed lines. */
CREATE INDEX reservation_ended
	ON pgstock_internal.reservation (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE pgstock_internal.reservation IS
	'lines of orders; a line is protected by the lock of the level in which '
	'it counts';
COMMENT ON COLUMN pgstock_internal.reservation.due_at IS
	'expires_at while the line is reserved or its StockExpired event is owed, '
	'else NULL; indexed';
COMMENT ON COLUMN pgstock_internal.reservation.state IS
	'r reserved, c confirmed, l released, b rolled_back, t returned, e '
	'expired, s shortfall';

COMMENT ON COLUMN pgstock_internal.reservation.activity_id IS
	'flash sale in which the line was bought';
COMMENT ON COLUMN pgstock_internal.reservation.retake IS
	'whether a payment reserves an ended line again; NULL: only if it has '
	'expired';
COMMENT ON COLUMN pgstock_internal.reservation.slot IS
	'slot of the level in which the line counts';

/*
 * The quota of an open flash sale is a level row with the slot number of its
 * sale, which is negative and never used again.
 */
CREATE SEQUENCE pgstock_internal.sale_number AS int;
CREATE TABLE pgstock_internal.sale
(
	activity_id		text COLLATE "C" NOT NULL,
	product_id		text COLLATE "C" NOT NULL,
	location		text COLLATE "C" NOT NULL,
	slot			int NOT NULL
		DEFAULT -nextval('pgstock_internal.sale_number'),
	quantity		bigint NOT NULL,
	per_user_limit	bigint NOT NULL,
	starts_at		timestamptz NOT NULL,
	ends_at			timestamptz,
	opened_at		timestamptz NOT NULL,
	closed_at		timestamptz,
	CONSTRAINT sale_pkey PRIMARY KEY (activity_id)
);
ALTER SEQUENCE pgstock_internal.sale_number OWNED BY pgstock_internal.sale.slot;
COMMENT ON TABLE pgstock_internal.sale IS
	'flash sales, open and closed';

/*
 * A separate table, because an index on reservation made reservations outside
 * flash sales about 10 % slower.
 */
CREATE TABLE pgstock_internal.sale_order
(
	activity_id		text COLLATE "C" NOT NULL,
	user_id			text COLLATE "C" NOT NULL,
	order_id		text COLLATE "C" NOT NULL,
	CONSTRAINT sale_order_pkey PRIMARY KEY (activity_id, user_id, order_id)
);
COMMENT ON TABLE pgstock_internal.sale_order IS
	'orders of each user in each open flash sale';

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
	CONSTRAINT movement_pkey PRIMARY KEY (id)
);
/*
 * The opening movements that purge_history writes; costs nothing for other
 * rows.
 */
CREATE UNIQUE INDEX movement_opening
	ON pgstock_internal.movement (product_id, location) WHERE kind = 'opening';
ALTER SEQUENCE pgstock_internal.movement_id
	OWNED BY pgstock_internal.movement.id;
COMMENT ON TABLE pgstock_internal.movement IS
	'ledger: every change of every level, append-only';

CREATE TABLE pgstock_internal.idempotency
(
	key			text COLLATE "C" NOT NULL,
	request		bigint NOT NULL,
	answer		text[] NOT NULL,
	created_at	timestamptz NOT NULL,
	CONSTRAINT idempotency_pkey PRIMARY KEY (key)
);
CREATE INDEX idempotency_created
	ON pgstock_internal.idempotency USING brin (created_at);
COMMENT ON TABLE pgstock_internal.idempotency IS
	'explicit idempotency keys with a hash of the request and its result';
COMMENT ON COLUMN pgstock_internal.idempotency.answer IS
	'rows of stock_result as text';

/* ---- Outbox -------------------------------------------------------------- */

/*
 * Columns that match Debezium's outbox table have its names (id,
 * aggregatetype, aggregateid, type, payload), so that its connector can read
 * this table.  Rows are never updated.  seq is drawn while the level's lock is
 * held, so it follows the order of the locks.  xid is the top-level
 * transaction; windows depend on it.
 *
 * Rows are never deleted either: the outbox consists of parts, which are
 * written in turn and truncated as a whole (sql/rotate.sql).  Each part has
 * its own indexes rather than partitions of a partitioned index, so that a
 * part added later can be dumped and restored.
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
DECLARE
	grantee	oid;
BEGIN
	EXECUTE format('CREATE TABLE pgstock_internal.outbox_%1$s
		(LIKE pgstock_internal.outbox INCLUDING DEFAULTS,
		 CONSTRAINT outbox_%1$s_pkey PRIMARY KEY (seq))
		WITH (autovacuum_vacuum_insert_threshold = -1,
			  toast.autovacuum_vacuum_insert_threshold = -1)', part);
	EXECUTE format('CREATE INDEX outbox_%1$s_xid
		ON pgstock_internal.outbox_%1$s (xid, seq)', part);
	EXECUTE format('COMMENT ON TABLE pgstock_internal.outbox_%s IS %L',
				   part, 'a part of the outbox');
	/* Revokes rights granted by the owner's default privileges. */
	FOR grantee IN
		SELECT DISTINCT a.grantee
		  FROM pg_class c, aclexplode(c.relacl) a
		 WHERE c.oid = format('pgstock_internal.outbox_%s', part)::regclass
		   AND a.grantee <> c.relowner
	LOOP
		EXECUTE format('REVOKE ALL ON pgstock_internal.outbox_%s FROM %s', part,
					   CASE grantee WHEN 0 THEN 'PUBLIC'
					   ELSE grantee::regrole::text END);
	END LOOP;
	EXECUTE format('ALTER TABLE pgstock_internal.outbox ATTACH PARTITION
		pgstock_internal.outbox_%1$s FOR VALUES IN (%1$s)', part);
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_add_part IS
	'adds an empty part to the outbox';
SELECT pgstock_internal.outbox_add_part(n) FROM pg_catalog.generate_series(1, 6) n;

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
	CONSTRAINT relay_epoch_pkey PRIMARY KEY (one),
	CONSTRAINT relay_epoch_one CHECK (one)
);
COMMENT ON TABLE pgstock_internal.relay_epoch IS
	'number of times the lead of the outbox was taken; locked by each '
	'transaction that stores a position';

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

/* ---- Inbox --------------------------------------------------------------- */

/*
 * dedup_id is the event id of the message that took effect; the row of a
 * duplicate has none, so that both can exist.  Event ids are unique only
 * within a source, because some services number their events from 1.
 */
CREATE TABLE pgstock_internal.inbox
(
	topic		text COLLATE "C" NOT NULL,
	partition	int NOT NULL,
	"offset"	bigint NOT NULL,
	event_id	text COLLATE "C" NOT NULL,
	dedup_id	text COLLATE "C",
	key			bytea,
	order_id	text COLLATE "C",
	result		text NOT NULL,
	reason		text,
	trace_id	text,
	received_at	timestamptz NOT NULL,
	source		text COLLATE "C" NOT NULL,
	value_hash	bigint NOT NULL
);
CREATE UNIQUE INDEX inbox_dedup ON pgstock_internal.inbox (dedup_id, source);
COMMENT ON COLUMN pgstock_internal.inbox.source IS
	'scope in which the event id is unique: header ce_source, else the topic';
COMMENT ON COLUMN pgstock_internal.inbox.value_hash IS
	'hash of the value, to distinguish a redelivered message from another one '
	'with the same id';
/* There is no unique key, so logical replication needs the full row. */
ALTER TABLE pgstock_internal.inbox REPLICA IDENTITY FULL;
CREATE INDEX inbox_received ON pgstock_internal.inbox USING brin (received_at);
COMMENT ON TABLE pgstock_internal.inbox IS
	'incoming messages and their results';

CREATE TABLE pgstock_internal.refused_order
(
	order_id	text COLLATE "C" NOT NULL,
	reason		text NOT NULL,
	refused_at	timestamptz NOT NULL,
	CONSTRAINT refused_order_pkey PRIMARY KEY (order_id)
);
CREATE INDEX refused_order_refused
	ON pgstock_internal.refused_order USING brin (refused_at);
COMMENT ON TABLE pgstock_internal.refused_order IS
	'incoming orders that were refused: known orders without lines';

/* payment_id is empty if the payment has no id; then one row per order. */
CREATE TABLE pgstock_internal.surplus_payment
(
	order_id	text COLLATE "C" NOT NULL,
	payment_id	text COLLATE "C" NOT NULL,
	reason		text NOT NULL,
	reported_at	timestamptz NOT NULL,
	CONSTRAINT surplus_payment_pkey PRIMARY KEY (order_id, payment_id)
);
CREATE INDEX surplus_payment_reported
	ON pgstock_internal.surplus_payment USING brin (reported_at);
COMMENT ON TABLE pgstock_internal.surplus_payment IS
	'payments reported as surplus, because nothing was sold for them; each is '
	'reported once';

CREATE TABLE pgstock_internal.inbox_offset
(
	topic		text COLLATE "C" NOT NULL,
	partition	int NOT NULL,
	next_offset	bigint NOT NULL,
	fingerprint	text COLLATE "C",
	witness_offset	bigint,
	witness		text COLLATE "C",
	heir_offset	bigint,
	heir		text COLLATE "C",
	heir_since	timestamptz,
	CONSTRAINT inbox_offset_pkey PRIMARY KEY (topic, partition)
) WITH (fillfactor = 10);
COMMENT ON TABLE pgstock_internal.inbox_offset IS
	'next offset of each partition, updated in the transaction that applies '
	'the batch';
COMMENT ON COLUMN pgstock_internal.inbox_offset.fingerprint IS
	'fingerprint of the record before next_offset, which shows that the '
	'partition still has the history that was read; NULL: not known';
COMMENT ON COLUMN pgstock_internal.inbox_offset.witness IS
	'fingerprint of the record at witness_offset, which was applied long '
	'enough ago that a relay would have noticed another history before; NULL: '
	'none yet';
COMMENT ON COLUMN pgstock_internal.inbox_offset.heir IS
	'fingerprint of the record at heir_offset, the next witness';

/*
 * A topic has a row here once its first offsets are decided.  Partitions added
 * later were empty when they were created and are read from offset 0, and so
 * are all partitions of a topic that did not exist at that time.
 */
CREATE TABLE pgstock_internal.inbox_topic
(
	topic		text COLLATE "C" NOT NULL,
	begun_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT inbox_topic_pkey PRIMARY KEY (topic)
);
COMMENT ON TABLE pgstock_internal.inbox_topic IS
	'topics whose first offsets were decided';

CREATE TABLE pgstock_internal.inbox_gap
(
	topic			text COLLATE "C" NOT NULL,
	partition		int NOT NULL,
	first_offset	bigint NOT NULL,
	last_offset		bigint,
	reason			text NOT NULL,
	next_offset		bigint NOT NULL,
	found_at		timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT inbox_gap_pkey PRIMARY KEY (topic, partition, found_at)
);
COMMENT ON TABLE pgstock_internal.inbox_gap IS
	'offsets deleted by the broker before they were read, and changes of '
	'history';
COMMENT ON COLUMN pgstock_internal.inbox_gap.last_offset IS
	'last missing offset; NULL: not known, because the partition has another '
	'history';
COMMENT ON COLUMN pgstock_internal.inbox_gap.reason IS
	'retention: the records were deleted; history: the partition has another '
	'history';
COMMENT ON COLUMN pgstock_internal.inbox_gap.next_offset IS
	'offset at which reading continued';

/*
 * The sessions of the tries recorded here do not exist in a restored database,
 * so the rows are not dumped: they would be counted as tries that ended with
 * their process.
 */
CREATE TABLE pgstock_internal.inbox_attempt
(
	topic			text COLLATE "C" NOT NULL,
	partition		int NOT NULL,
	first_offset	bigint NOT NULL,
	last_offset		bigint NOT NULL,
	started			int NOT NULL,
	process			bigint NOT NULL,
	suspect_to		bigint NOT NULL,
	started_at		timestamptz NOT NULL,
	"session"		bigint NOT NULL,
	CONSTRAINT inbox_attempt_pkey PRIMARY KEY (topic, partition)
) WITH (fillfactor = 10);
COMMENT ON TABLE pgstock_internal.inbox_attempt IS
	'latest try of each partition that was recorded before it began';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.started IS
	'number of processes that began a try at first_offset; all except the '
	'last one ended during their try';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.process IS
	'hash of the relay''s name and the server''s start time';
COMMENT ON COLUMN pgstock_internal.inbox_attempt."session" IS
	'session that recorded the try; while it is connected, the try is in '
	'progress';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.suspect_to IS
	'last offset of the messages that are applied one at a time';

/*
 * event_type is empty if the handler is for all types of the topic that have
 * no handler of their own.  The oids are valid in the database given by
 * system_id and database only: see extension/inbox/handler_registration.c.
 */
CREATE TABLE pgstock_internal.user_handler
(
	topic			text COLLATE "C" NOT NULL,
	event_type		text COLLATE "C" NOT NULL,
	handler			text NOT NULL,
	role			text NOT NULL,
	owner			text NOT NULL,
	function_oid	oid NOT NULL,
	owner_oid		oid NOT NULL,
	role_oid		oid NOT NULL,
	schema_oid		oid NOT NULL,
	system_id		bigint NOT NULL,
	"database"		oid NOT NULL,
	CONSTRAINT user_handler_pkey PRIMARY KEY (topic, event_type)
);
COMMENT ON TABLE pgstock_internal.user_handler IS
	'functions registered as handlers of incoming messages';
COMMENT ON COLUMN pgstock_internal.user_handler.role IS
	'role that registered the handler, which runs with its rights';
COMMENT ON COLUMN pgstock_internal.user_handler.owner IS
	'owner of the function when it was registered';
COMMENT ON COLUMN pgstock_internal.user_handler.schema_oid IS
	'schema of the extension, second in the handler''s search_path';

/*
 * A message has one row from its first failure to its end; the archive
 * consists of the rows with archived_at.
 */
CREATE SEQUENCE pgstock_internal.failed_event_id;
CREATE TABLE pgstock_internal.failed_event
(
	id				bigint NOT NULL
		DEFAULT nextval('pgstock_internal.failed_event_id'),
	topic			text COLLATE "C" NOT NULL,
	partition		int NOT NULL,
	"offset"		bigint NOT NULL,
	event_id		text COLLATE "C" NOT NULL,
	key				bytea,
	value			bytea,
	headers			bytea,
	sent_at			timestamptz,
	order_id		text COLLATE "C",
	attempts		int NOT NULL,
	next_retry_at	timestamptz,
	state			text NOT NULL,
	class			text NOT NULL,
	sqlstate		text,
	error			text NOT NULL,
	trace_id		text,
	first_failed_at	timestamptz NOT NULL,
	archived_at		timestamptz,
	handled			boolean NOT NULL,
	handled_at		timestamptz,
	handled_by		text,
	started			int NOT NULL DEFAULT 0,
	session			bigint,
	source			text COLLATE "C" NOT NULL,
	failures		text[] NOT NULL DEFAULT '{}',
	process			bigint,
	CONSTRAINT failed_event_pkey PRIMARY KEY (id)
);
/* By digest, because a key may be longer than an index entry. */
CREATE INDEX failed_event_waiting
	ON pgstock_internal.failed_event (topic, sha256(key), id)
	WHERE state = 'waiting';
CREATE INDEX failed_event_due
	ON pgstock_internal.failed_event (next_retry_at, id) WHERE state = 'waiting';
ALTER SEQUENCE pgstock_internal.failed_event_id
	OWNED BY pgstock_internal.failed_event.id;
COMMENT ON COLUMN pgstock_internal.failed_event.error IS
	'latest error; kept when a later try succeeds';
COMMENT ON COLUMN pgstock_internal.failed_event.failures IS
	'distinct consecutive failures: time, class, error';
COMMENT ON COLUMN pgstock_internal.failed_event.started IS
	'number of tries that began and whose end was not recorded';
COMMENT ON COLUMN pgstock_internal.failed_event.session IS
	'session that began the latest of these tries';
COMMENT ON COLUMN pgstock_internal.failed_event.process IS
	'hash of the relay''s name and the server''s start time';
COMMENT ON TABLE pgstock_internal.failed_event IS
	'messages waiting for another try, and the archive of dead-lettered '
	'messages';

/* With a webhook, open archived messages are counted every few seconds. */
CREATE INDEX failed_event_open ON pgstock_internal.failed_event (id)
	WHERE archived_at IS NOT NULL AND NOT handled AND state <> 'discarded';

/*
 * A row is inserted by the transaction that dead-letters a message, and
 * deleted once the alert was sent.  The row without failed_id is the backlog
 * alert: it exists while the backlog is over its limit, and next_try_at is
 * NULL once it was sent.
 */
CREATE SEQUENCE pgstock_internal.alert_id;
CREATE TABLE pgstock_internal.alert
(
	id			bigint NOT NULL DEFAULT nextval('pgstock_internal.alert_id'),
	failed_id	bigint,
	made_at		timestamptz NOT NULL,
	attempts	int NOT NULL,
	next_try_at	timestamptz,
	CONSTRAINT alert_pkey PRIMARY KEY (id)
);
CREATE INDEX alert_due ON pgstock_internal.alert (next_try_at, id);
CREATE UNIQUE INDEX alert_backlog ON pgstock_internal.alert ((true))
	WHERE failed_id IS NULL;
ALTER SEQUENCE pgstock_internal.alert_id OWNED BY pgstock_internal.alert.id;
COMMENT ON TABLE pgstock_internal.alert IS
	'alerts that the relay''s webhook has not sent yet';

CREATE TABLE pgstock_internal.admin_action
(
	at		timestamptz NOT NULL,
	actor	text NOT NULL,
	action	text NOT NULL,
	target	text NOT NULL,
	reason	text
);
ALTER TABLE pgstock_internal.admin_action REPLICA IDENTITY FULL;
CREATE INDEX admin_action_discarded
	ON pgstock_internal.admin_action (target COLLATE "C")
 WHERE action = 'discard_held_event';
COMMENT ON TABLE pgstock_internal.admin_action IS
	'administrative actions: time, actor, action, target and reason';

/* Contents of tables and sequences that pg_dump includes. */
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.level', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.reservation', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale_number', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale_order', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.movement_id', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.idempotency', '');
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
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.relay_epoch', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.position_even', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.position_odd', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.refused_order', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.surplus_payment', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_offset', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_topic', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_gap', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.user_handler', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.failed_event', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.failed_event_id', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert_id', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.admin_action', '');

