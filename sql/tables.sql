/* sql/pgstock--1.0.sql */

\echo Use "CREATE EXTENSION pgstock" to load this file. \quit

/*
 * A superuser runs this script, and CREATE EXTENSION puts the target schema
 * into search_path, where its owner may have laid a function or an operator
 * that fits better than the system's.  From here on only pg_catalog is searched;
 * every other object is named with its schema.
 */
SET LOCAL search_path = pg_catalog, pg_temp;

/*
 * Tables live in pgstock_internal, where nobody but the owner may write; the
 * functions and views that people use live in @extschema@.  CREATE SCHEMA
 * fails if the schema is there already, so no object in it can be somebody
 * else's.
 *
 * Every text that is a key has COLLATE "C": C code compares keys by their
 * bytes and locks them in that order, so the indexes must agree.
 */
CREATE SCHEMA pgstock_internal;
COMMENT ON SCHEMA pgstock_internal IS
	'tables of pgstock and the functions that its relay calls';

/* ---- Stock ------------------------------------------------------------- */

/*
 * No foreign key, no trigger and no index on a changing column: an update of
 * a hot row must stay on its page (HOT) and take no further lock.
 *
 * With slots a level is the sum of its rows: safety and backorder_limit too are
 * each slot's part of the setting.
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
	'what is there and what of it is reserved, for a product at a location';
COMMENT ON COLUMN pgstock_internal.level.version IS
	'rises with every change of the level; with slots, the sum of theirs does';
COMMENT ON COLUMN pgstock_internal.level.slots IS
	'the slots that a call which takes begins with: 0 to slots - 1';
COMMENT ON COLUMN pgstock_internal.level.slots_made IS
	'the slots that there are: those, and those taken away with lines in them';
COMMENT ON COLUMN pgstock_internal.level.pooled IS
	'all slots together lack what is kept back: only who holds all may take';

/*
 * An order's lines carry the number of the attempt: an order that has ended
 * may be reserved again, and its earlier lines stay as they ended.
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
/* What purge_history looks for; neither open nor sold lines are in it. */
CREATE INDEX reservation_ended
	ON pgstock_internal.reservation (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE pgstock_internal.reservation IS
	'the lines of orders; a level''s lock covers the lines that count in it';
COMMENT ON COLUMN pgstock_internal.reservation.due_at IS
	'expires_at while the line is reserved, or has expired and its event is owed, else NULL: what the index holds';
COMMENT ON COLUMN pgstock_internal.reservation.state IS
	'r reserved, c confirmed, l released, b rolled_back, t returned, e expired, s shortfall';

COMMENT ON COLUMN pgstock_internal.reservation.activity_id IS
	'the flash sale in which the line was bought';
COMMENT ON COLUMN pgstock_internal.reservation.retake IS
	'whether a payment takes an ended line again; null: if it has expired';
COMMENT ON COLUMN pgstock_internal.reservation.slot IS
	'of the level in which the line counts';

/*
 * The quota of a sale that is open is a level with the slot of the sale's row,
 * below zero; slot numbers are never used twice.
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
 * Rather than an index on reservation: that would cost those who buy in no
 * sale a tenth of their time.
 */
CREATE TABLE pgstock_internal.sale_order
(
	activity_id		text COLLATE "C" NOT NULL,
	user_id			text COLLATE "C" NOT NULL,
	order_id		text COLLATE "C" NOT NULL,
	CONSTRAINT sale_order_pkey PRIMARY KEY (activity_id, user_id, order_id)
);
COMMENT ON TABLE pgstock_internal.sale_order IS
	'whose orders have lines in which flash sale, until it is closed';

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
/* What purge_history leaves behind; the index costs other rows nothing. */
CREATE UNIQUE INDEX movement_opening
	ON pgstock_internal.movement (product_id, location) WHERE kind = 'opening';
ALTER SEQUENCE pgstock_internal.movement_id
	OWNED BY pgstock_internal.movement.id;
COMMENT ON TABLE pgstock_internal.movement IS
	'the ledger: every change of every level, only ever appended to';

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
	'explicit idempotency keys, the hash of their request and the answer given';
COMMENT ON COLUMN pgstock_internal.idempotency.answer IS
	'rows of stock_result in their text form';

/* ---- Outbox ------------------------------------------------------------ */

/*
 * The names are Debezium's where the thing is the same (id, aggregatetype,
 * aggregateid, type, payload), so that its connector can read the table.
 * Rows are never updated.  seq is drawn while the level's lock is held: it is
 * the order of the locks.  xid is the top-level transaction, for the window.
 *
 * Nothing is deleted either: rows lie in parts, which are written in turn and
 * emptied as a whole (sql/rotate.sql).  Each part has indexes of its own rather
 * than of the whole outbox, so that one added later can be dumped and restored.
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
/* No key spans its parts, which have one each. */
ALTER TABLE pgstock_internal.outbox REPLICA IDENTITY FULL;
COMMENT ON TABLE pgstock_internal.outbox IS
	'events, one row a Kafka record, written in the transaction they tell of';
COMMENT ON COLUMN pgstock_internal.outbox.aggregatetype IS 'the Kafka topic';
COMMENT ON COLUMN pgstock_internal.outbox.aggregateid IS 'the Kafka key';
COMMENT ON COLUMN pgstock_internal.outbox.headers IS
	'the application''s own headers, packed (docs/relay-protocol.md)';
COMMENT ON COLUMN pgstock_internal.outbox.format IS
	'j JSON, b bytes, r raw: only the stored headers go out (dead letters)';
COMMENT ON COLUMN pgstock_internal.outbox.part IS
	'n: the row lies in outbox_n';

/*
 * Attached, rather than created as a partition: that would lock out those who
 * read the outbox, and wait for them.  To vacuum a part for its inserts would
 * be work for nothing: its rows do not stay.
 */
CREATE FUNCTION pgstock_internal.outbox_add_part(part int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other	oid;
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
	/* What the owner's default privileges have given to others. */
	FOR other IN
		SELECT DISTINCT a.grantee
		  FROM pg_class c, aclexplode(c.relacl) a
		 WHERE c.oid = format('pgstock_internal.outbox_%s', part)::regclass
		   AND a.grantee <> c.relowner
	LOOP
		EXECUTE format('REVOKE ALL ON pgstock_internal.outbox_%s FROM %s', part,
					   CASE other WHEN 0 THEN 'PUBLIC'
					   ELSE other::regrole::text END);
	END LOOP;
	EXECUTE format('ALTER TABLE pgstock_internal.outbox ATTACH PARTITION
		pgstock_internal.outbox_%1$s FOR VALUES IN (%1$s)', part);
END
$$;
COMMENT ON FUNCTION pgstock_internal.outbox_add_part IS
	'adds an empty part to the outbox';
SELECT pgstock_internal.outbox_add_part(n) FROM pg_catalog.generate_series(1, 6) n;

/* Where no row says so it is part 1 that is written. */
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
	'parts of the outbox that are in use; the others are empty';
COMMENT ON COLUMN pgstock_internal.outbox_part.state IS
	'w written; l left, open transactions may have rows there; s sealed, none has';
COMMENT ON COLUMN pgstock_internal.outbox_part.xid IS
	'the transaction that brought it into its state';

CREATE TABLE pgstock_internal.event_topic
(
	event_type	text COLLATE "C" NOT NULL,
	topic		text COLLATE "C",
	CONSTRAINT event_topic_pkey PRIMARY KEY (event_type)
);
CREATE INDEX event_topic_topic ON pgstock_internal.event_topic (topic);
COMMENT ON TABLE pgstock_internal.event_topic IS
	'where an event type goes, if not where it goes by default';

/*
 * The position is written some times a second, for ever.  As a row that is
 * updated it would leave a version each time while somebody holds a snapshot.
 * So each is a row of its own, in two tables by turns, of which the other one
 * is emptied before it is used again (put_position).
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
	'positions, of which the one with the greatest n counts: see relay_position';
CREATE TABLE pgstock_internal.position_odd
	(LIKE pgstock_internal.position_even INCLUDING DEFAULTS,
	 CONSTRAINT position_odd_pkey PRIMARY KEY (n));
COMMENT ON TABLE pgstock_internal.position_odd IS
	'positions, as in position_even';

CREATE TABLE pgstock_internal.relay_epoch
(
	one				boolean NOT NULL DEFAULT true,
	epoch			bigint NOT NULL,
	CONSTRAINT relay_epoch_pkey PRIMARY KEY (one),
	CONSTRAINT relay_epoch_one CHECK (one)
);
COMMENT ON TABLE pgstock_internal.relay_epoch IS
	'how often the lead of the outbox was taken; who stores a position locks it';

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
	'the lead that stored it; epoch is the present one';

/* ---- Inbox ------------------------------------------------------------- */

/*
 * dedup_id is the event id of the message that took effect; a duplicate's row
 * has none, so that it can stand beside it.  An id is unique within its source
 * only: services count from 1.
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
	'within which the event id is unique: ce_source, else the topic';
COMMENT ON COLUMN pgstock_internal.inbox.value_hash IS
	'tells a message that is sent again from another one with its id';
/* No column tells one row from all others: a publication needs all of them. */
ALTER TABLE pgstock_internal.inbox REPLICA IDENTITY FULL;
CREATE INDEX inbox_received ON pgstock_internal.inbox USING brin (received_at);
COMMENT ON TABLE pgstock_internal.inbox IS
	'every incoming message once, with what became of it';

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
	'incoming orders that were refused: they are known, though they have no line';

/* payment_id is empty for a payment that has no id: one for each order. */
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
	'payments for which nothing was sold: each is reported once';

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
	'the next offset of each partition, moved in the transaction of the batch';
COMMENT ON COLUMN pgstock_internal.inbox_offset.fingerprint IS
	'of the record before next_offset: proves that the partition still has the '
	'history that was read; NULL: not known';
COMMENT ON COLUMN pgstock_internal.inbox_offset.witness IS
	'fingerprint of the record at witness_offset: older than any that a relay '
	'may have applied before it noticed another history; NULL: none yet';
COMMENT ON COLUMN pgstock_internal.inbox_offset.heir IS
	'fingerprint of the record at heir_offset, which is the next witness';

/*
 * first_offset counts once, for all partitions that a topic then has.  Those
 * that it gets later were empty when they were made: they are read from their
 * start.  So are all of a topic that was not there yet.
 */
CREATE TABLE pgstock_internal.inbox_topic
(
	topic		text COLLATE "C" NOT NULL,
	begun_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT inbox_topic_pkey PRIMARY KEY (topic)
);
COMMENT ON TABLE pgstock_internal.inbox_topic IS
	'topics of which it is decided where they begin';

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
	'offsets that were gone before they were read, and changes of history';
COMMENT ON COLUMN pgstock_internal.inbox_gap.last_offset IS
	'NULL: of a history that is gone, nobody knows how far it went';
COMMENT ON COLUMN pgstock_internal.inbox_gap.reason IS
	'retention, or history: the partition has other records than those read';
COMMENT ON COLUMN pgstock_internal.inbox_gap.next_offset IS
	'where reading went on';

/*
 * Not dumped: a restored database has no tries under way.
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
	'the latest try of each partition that was put on record before it began';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.started IS
	'how many processes began a try at first_offset; all but the last were cut short';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.process IS
	'the relay''s process and the server''s start, as one number';
COMMENT ON COLUMN pgstock_internal.inbox_attempt."session" IS
	'the session that put it on record; while it lives, its try is no death';
COMMENT ON COLUMN pgstock_internal.inbox_attempt.suspect_to IS
	'up to this offset messages are applied one at a time';

/*
 * The type is empty where the handler has all of the topic that is left.  The
 * oids are those of that database, whose names stood for them: see
 * extension/inbox/handler_registration.c.
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
	'functions that users have registered for incoming messages';
COMMENT ON COLUMN pgstock_internal.user_handler.role IS
	'who registered it: it runs with that role''s rights';
COMMENT ON COLUMN pgstock_internal.user_handler.owner IS
	'the owner of the function when it was registered';
COMMENT ON COLUMN pgstock_internal.user_handler.schema_oid IS
	'the extension''s schema, second in the handler''s search_path';

/*
 * One row for a message from its first failure to its end; the archive is
 * the same row once it has been given up.
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
/* A key may be longer than an index entry: its digest stands for it. */
CREATE INDEX failed_event_waiting
	ON pgstock_internal.failed_event (topic, sha256(key), id)
	WHERE state = 'waiting';
CREATE INDEX failed_event_due
	ON pgstock_internal.failed_event (next_retry_at, id) WHERE state = 'waiting';
ALTER SEQUENCE pgstock_internal.failed_event_id
	OWNED BY pgstock_internal.failed_event.id;
COMMENT ON COLUMN pgstock_internal.failed_event.error IS
	'why it failed last; also of one that a later try has ended well';
COMMENT ON COLUMN pgstock_internal.failed_event.failures IS
	'each failure that was another one than that before it: when, class, error';
COMMENT ON COLUMN pgstock_internal.failed_event.started IS
	'tries that were begun and of whose end nothing is known';
COMMENT ON COLUMN pgstock_internal.failed_event.session IS
	'the session that began the latest of them';
COMMENT ON COLUMN pgstock_internal.failed_event.process IS
	'the relay''s process and the server''s start, as one number';
COMMENT ON TABLE pgstock_internal.failed_event IS
	'messages that wait for another try, and the archive of those given up';

/* What is open is looked at every few seconds where alerts are wanted. */
CREATE INDEX failed_event_open ON pgstock_internal.failed_event (id)
	WHERE archived_at IS NOT NULL AND NOT handled AND state <> 'discarded';

/*
 * Written in the transaction that gives a message up, deleted once it was sent.
 * The one without a message is of the backlog: it is there while that is too
 * long, and has no next try once it was sent.
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
	'what the relay''s webhook is still to tell';

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
	'what people did by hand: who, what, to what, why';

/* pg_dump takes the rows, and where the sequences stand. */
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
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_attempt', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.user_handler', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.failed_event', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.failed_event_id', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.alert_id', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.admin_action', '');

