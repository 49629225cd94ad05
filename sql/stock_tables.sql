/* ---- Tables of stock ----------------------------------------------------- */

/*
 * There are no foreign keys, no row triggers and no indexes on changing
 * columns, so that updates of a hot row are HOT updates and take no further
 * locks.
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
	needs_all_slots	boolean NOT NULL,
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
COMMENT ON COLUMN pgstock_internal.level.needs_all_slots IS
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
	confirmed_at	timestamptz,
	CONSTRAINT reservation_pkey
		PRIMARY KEY (order_id, attempt, product_id, location)
) WITH (fillfactor = 80);
CREATE INDEX reservation_due ON pgstock_internal.reservation (due_at);
CREATE INDEX reservation_level_due
	ON pgstock_internal.reservation (product_id, location, due_at);
/* For purge_history: contains neither reserved nor confirmed lines. */
CREATE INDEX reservation_ended
	ON pgstock_internal.reservation (ended_at) WHERE ended_at IS NOT NULL;
/*
 * For retire_orders, confirmed lines; and for stock_hanging_orders, reserved
 * ones without an expiry time, whose confirmed_at is NULL.  One index, because
 * each costs every reservation, whether it has an entry in it or not.
 */
CREATE INDEX reservation_endless
	ON pgstock_internal.reservation (confirmed_at, created_at)
	WHERE due_at IS NULL AND ended_at IS NULL;
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
COMMENT ON COLUMN pgstock_internal.reservation.confirmed_at IS
	'time of the payment, also of a line that has been returned since';
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
	left_at_end		bigint,
	CONSTRAINT sale_pkey PRIMARY KEY (activity_id)
);
CREATE INDEX sale_end ON pgstock_internal.sale (ends_at)
 WHERE closed_at IS NULL AND ends_at IS NOT NULL;
ALTER SEQUENCE pgstock_internal.sale_number OWNED BY pgstock_internal.sale.slot;
COMMENT ON TABLE pgstock_internal.sale IS
	'flash sales, open and closed';
COMMENT ON COLUMN pgstock_internal.sale.left_at_end IS
	'pieces that were left when the sale ended by itself; NULL: it is open, or '
	'a call has closed it';

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
	'orders of each user in each flash sale; of a closed one they are kept for '
	'sale_purchases';

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

/* Contents of tables and sequences that pg_dump includes. */
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.level', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.reservation', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale_number', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.sale_order', '');
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.idempotency', '');
