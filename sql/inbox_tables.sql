/* ---- Tables of the inbox ------------------------------------------------- */

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
CREATE INDEX inbox_order ON pgstock_internal.inbox (order_id)
 WHERE order_id IS NOT NULL;
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
 * The bindings of topics.  event_type is empty if the binding is for all types
 * of the topic that have none of their own.  A built-in handler has its name
 * only; of a function there are the oids too, which are valid in the database
 * given by system_id and database only: see
 * extension/inbox/handler_registration.c.
 */
CREATE TABLE pgstock_internal.user_handler
(
	topic			text COLLATE "C" NOT NULL,
	event_type		text COLLATE "C" NOT NULL,
	handler			text NOT NULL,
	role			text,
	owner			text,
	function_oid	oid,
	owner_oid		oid,
	role_oid		oid,
	schema_oid		oid,
	system_id		bigint,
	"database"		oid,
	fields			jsonb,
	options			jsonb,
	CONSTRAINT user_handler_pkey PRIMARY KEY (topic, event_type)
);
COMMENT ON TABLE pgstock_internal.user_handler IS
	'bindings of incoming topics to built-in handlers or registered functions';
COMMENT ON COLUMN pgstock_internal.user_handler.fields IS
	'where a message has its fields: JSON paths';
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
	ON pgstock_internal.failed_event (next_retry_at, id)
	WHERE state = 'waiting';
/* For a message that is sent back from its dead letter topic. */
CREATE INDEX failed_event_message
	ON pgstock_internal.failed_event (event_id, source, id);
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

CREATE INDEX failed_event_order ON pgstock_internal.failed_event (order_id)
	WHERE order_id IS NOT NULL;

/* With a webhook, open archived messages are counted every few seconds. */
CREATE INDEX failed_event_open ON pgstock_internal.failed_event (id)
	WHERE archived_at IS NOT NULL AND NOT handled AND state <> 'discarded';

/* Contents of tables and sequences that pg_dump includes. */
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox', '');
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.refused_order', '');
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.surplus_payment', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_offset', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_topic', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.inbox_gap', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.user_handler', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.failed_event', '');
SELECT pg_catalog.pg_extension_config_dump(
	'pgstock_internal.failed_event_id', '');
