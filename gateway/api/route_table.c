/*
 * route_table.c - the resources of the API
 *
 * A statement gives each argument with its type and names no schema: the
 * session's search_path is pg_catalog and the extension's schema (db/pool.c).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/list.h"
#include "api/overview.h"
#include "api/reserve.h"
#include "api/route.h"
#include "api/sold_out.h"
#include "db/pool.h"

/* clang-format off: a row for each field, as long as it is */

#define KEY                                                               \
	{                                                                     \
		"Idempotency-Key", IN_HEADER, FIELD_KEY, false,                   \
			"the same request with the same key takes effect only once; " \
			"\"k\", a string of RFC 8941, and k are the same key"         \
	}
#define ORDER                                            \
	{                                                    \
		"order_id", IN_PATH, FIELD_ID, true, "the order" \
	}
#define PRODUCT                                              \
	{                                                        \
		"product_id", IN_PATH, FIELD_ID, true, "the product" \
	}
#define SALE                                                     \
	{                                                            \
		"activity_id", IN_PATH, FIELD_ID, true, "the flash sale" \
	}
#define LOCATION                                              \
	{                                                         \
		"location", IN_BODY, FIELD_ID, false, "default: main" \
	}
#define USER                                             \
	{                                                    \
		"user_id", IN_BODY, FIELD_ID, false, "the buyer" \
	}
#define REASON                                                  \
	{                                                           \
		"reason", IN_BODY, FIELD_TEXT, false, "why; it is kept" \
	}
#define SOME_ITEMS                                    \
	{                                                 \
		"items", IN_BODY, FIELD_ITEMS, false,         \
			"a part of the order; default: all of it" \
	}
#define FAILURE                                            \
	{                                                      \
		"id", IN_PATH, FIELD_QUANTITY, true, "the message" \
	}
#define TTL                                                               \
	{                                                                     \
		"ttl", IN_BODY, FIELD_TTL, false,                                 \
			"seconds until it expires; 0: never; default: the database's" \
	}

/* ---- fields, in the order of the statement's parameters ---- */

static const Field no_fields[] = {FIELDS_END};

static const Field reserve_stock[] = {
	[RESERVE_ORDER_ID] = {"order_id", IN_BODY, FIELD_ID, true,
						  "the order that the line is added to"},
	[RESERVE_USER_ID] = USER,
	[RESERVE_TTL] = TTL,
	[RESERVE_KEY] = KEY,
	[RESERVE_PRODUCT_ID] = PRODUCT,
	[RESERVE_QUANTITY] = {"quantity", IN_BODY, FIELD_QUANTITY, true, "pieces"},
	[RESERVE_LOCATION] = LOCATION,
	FIELDS_END,
};
static const Field reserve_order[] = {
	[RESERVE_ORDER_ID] = {"order_id", IN_BODY, FIELD_ID, true, "the order"},
	[RESERVE_USER_ID] = USER,
	[RESERVE_TTL] = TTL,
	[RESERVE_KEY] = KEY,
	[RESERVE_ITEMS] = {"items", IN_BODY, FIELD_ITEMS, true, "all of its lines"},
	FIELDS_END,
};
static const Field order_read[] =
	{ORDER,
	 {"history", IN_QUERY, FIELD_BOOLEAN, false,
	  "1: with all that happened to the order; not for "
	  "the role app"},
	 FIELDS_END};
static const Field confirm[] = {ORDER,
								{"payment_id", IN_BODY, FIELD_ID, false,
								 "the payment"},
								KEY,
								FIELDS_END};
static const Field give_back[] = {ORDER, REASON, SOME_ITEMS, KEY, FIELDS_END};
static const Field returned[] =
	{ORDER,
	 SOME_ITEMS,
	 {"restock", IN_BODY, FIELD_BOOLEAN, false,
	  "whether it can be sold again; default: true"},
	 KEY,
	 FIELDS_END};
static const Field extend[] = {ORDER,
							   {"ttl", IN_BODY, FIELD_TTL, true,
								"seconds until it expires, from now; 0: never"},
							   KEY,
							   FIELDS_END};
static const Field stock[] = {PRODUCT,
							  {"location", IN_QUERY, FIELD_ID, false,
							   "default: all locations"},
							  FIELDS_END};
static const Field receive[] = {PRODUCT,
								{"quantity", IN_BODY, FIELD_AMOUNT, true,
								 "pieces; 0 for a product that is new"},
								LOCATION,
								{"reference", IN_BODY, FIELD_TEXT, false,
								 "such as a delivery note"},
								FIELDS_END};
static const Field adjust[] = {PRODUCT,
							   {"delta", IN_BODY, FIELD_DELTA, true,
								"pieces more, or less; not 0"},
							   {"reason", IN_BODY, FIELD_TEXT, true,
								"why; it is kept"},
							   LOCATION,
							   FIELDS_END};
static const Field set[] =
	{PRODUCT,
	 {"on_hand", IN_BODY, FIELD_AMOUNT, true, "pieces"},
	 {"If-Match", IN_HEADER, FIELD_VERSION, false,
	  "the ETag of the stock as it was read; without it, nothing is compared"},
	 LOCATION,
	 FIELDS_END};
static const Field move[] =
	{PRODUCT,
	 {"quantity", IN_BODY, FIELD_QUANTITY, true, "pieces"},
	 {"from_location", IN_BODY, FIELD_ID, true, "from here"},
	 {"to_location", IN_BODY, FIELD_ID, true, "to there"},
	 FIELDS_END};
static const Field open_sale[] =
	{{"activity_id", IN_BODY, FIELD_ID, true, "the flash sale"},
	 {"product_id", IN_BODY, FIELD_ID, true, "the product"},
	 {"quantity", IN_BODY, FIELD_QUANTITY, true, "its quota, in pieces"},
	 {"per_user_limit", IN_BODY, FIELD_QUANTITY, false, "default: 1"},
	 {"starts_at", IN_BODY, FIELD_TIME, false, "default: now"},
	 {"ends_at", IN_BODY, FIELD_TIME, false, "default: when it is closed"},
	 LOCATION,
	 FIELDS_END};
static const Field sale[] = {SALE, FIELDS_END};
static const Field purchase[] = {
	[PURCHASE_ACTIVITY] = SALE,
	[PURCHASE_USER] = {"user_id", IN_BODY, FIELD_ID, true, "the buyer"},
	[PURCHASE_ORDER] = {"order_id", IN_BODY, FIELD_ID, true, "the order"},
	[PURCHASE_QUANTITY] = {"quantity", IN_BODY, FIELD_QUANTITY, false,
						   "pieces; default: 1"},
	[PURCHASE_ATTRIBUTES] = {"attributes", IN_BODY, FIELD_OBJECT, false,
							 "published with the event, such as a price"},
	FIELDS_END,
};

static const Field availability[] = {{"items", IN_BODY, FIELD_ITEMS, true,
									  "the lines to ask about"},
									 FIELDS_END};
static const Field console_file[] = {{"file", IN_PATH, FIELD_ID, true,
									  "its name"},
									 FIELDS_END};
static const Field event[] = {{"event_id", IN_PATH, FIELD_UUID, true,
							   "the event"},
							  {"wait", IN_QUERY, FIELD_WAIT, false,
							   "answers when Kafka has it, or after so long"},
							  FIELDS_END};

static const Field transactions[] =
	{{"state", IN_QUERY, FIELD_ORDER_STATE, false, "only in this state"},
	 {"after", IN_QUERY, FIELD_TEXT, false, "the \"next\" of an earlier page"},
	 LIST_LIMIT,
	 {"hanging", IN_QUERY, FIELD_BOOLEAN, false,
	  "1: reservations, and messages that wait, for longer than "
	  "pgstock.hanging_after"},
	 FIELDS_END};
static const Field failures[] =
	{{"topic", IN_QUERY, FIELD_ID, false, "only of this topic"},
	 {"state", IN_QUERY, FIELD_FAILURE, false, "only in this state"},
	 {"order_id", IN_QUERY, FIELD_ID, false, "only of this order"},
	 {"after", IN_QUERY, FIELD_QUANTITY, false,
	  "the page that follows the message of this id"},
	 LIST_LIMIT,
	 FIELDS_END};
static const Field failure[] = {FAILURE, FIELDS_END};
static const Field retry[] = {FAILURE, REASON, FIELDS_END};
static const Field discard[] = {FAILURE,
								{"reason", IN_BODY, FIELD_TEXT, true,
								 "why; it is kept"},
								FIELDS_END};
static const Field handled[] = {FAILURE,
								{"note", IN_BODY, FIELD_TEXT, true,
								 "what was done; it is kept"},
								FIELDS_END};

/* ---- statements ---- */

#define LINES                                                               \
	"SELECT r.order_id, r.product_id, r.location, r.requested, r.granted, " \
	"r.status, r.available, r.expires_at, r.version, r.replayed FROM "

/* What is on hand now, and the version that it has. */
#define LEVEL(call, location)                                                 \
	"SELECT 200, json_build_object('product_id', $1::text, 'location', l.l, " \
	"'on_hand', " call "), NULL::text "                                       \
	"FROM (SELECT coalesce(" location "::text, 'main')) l(l)"

#define GET_STOCK                                                            \
	"SELECT CASE count(*) WHEN 0 THEN 404 ELSE 200 END, json_build_object("  \
	"'product_id', $1::text, 'levels', json_agg(json_build_object("          \
	"'location', l.location, 'on_hand', l.on_hand, 'reserved', l.reserved, " \
	"'safety', l.safety, 'available', l.available, 'version', l.version) "   \
	"ORDER BY l.location COLLATE \"C\")), "                                  \
	"CASE count(*) WHEN 1 THEN min(l.version)::text END "                    \
	"FROM stock_levels l WHERE l.product_id = $1::text "                     \
	"AND ($2::text IS NULL OR l.location = $2::text)"

#define ORDER_LINES                                                    \
	"json_agg(json_build_object("                                      \
	"'product_id', r.product_id, 'location', r.location, "             \
	"'quantity', r.quantity, 'user_id', r.user_id, 'state', r.state, " \
	"'created_at', r.created_at, "                                     \
	"'expires_at', nullif(r.expires_at, 'infinity'), "                 \
	"'ended_at', r.ended_at, 'reason', r.reason, "                     \
	"'payment_id', r.payment_id) "                                     \
	"ORDER BY r.created_at, r.product_id COLLATE \"C\", "              \
	"r.location COLLATE \"C\")"

#define GET_ORDER                                                           \
	"SELECT CASE count(*) WHEN 0 THEN 404 ELSE 200 END, json_build_object(" \
	"'order_id', $1::text, 'lines', " ORDER_LINES "), NULL::text "          \
	"FROM stock_reservations r WHERE r.order_id = $1::text"

/* Of an order without lines there may be messages. */
#define GET_ORDER_HISTORY                                              \
	"SELECT CASE WHEN l.lines IS NULL AND h.history IS NULL THEN 404 " \
	"ELSE 200 END, json_build_object('order_id', $1::text, "           \
	"'lines', coalesce(l.lines, '[]'), "                               \
	"'history', coalesce(h.history, '[]')), NULL::text "               \
	"FROM (SELECT " ORDER_LINES " AS lines FROM stock_reservations r " \
	"WHERE r.order_id = $1::text) l, "                                 \
	"(SELECT json_agg(f) AS history FROM order_history($1::text) f) h"

#define LIST_TRANSACTIONS                                  \
	"SELECT o.*, o.order_id AS after FROM stock_orders o " \
	"WHERE ($1::text IS NULL OR o.state = $1::text) "      \
	"AND ($2::text IS NULL OR o.order_id > $2::text) "     \
	"ORDER BY o.order_id" LIST_ROWS("$3")

/* The oldest first.  A page that follows no time is an error: '' is none. */
#define LIST_HANGING                                                       \
	"SELECT h.*, json_build_array(h.since, h.order_id, h.event_id)::text " \
	"AS after FROM stock_hanging_orders h WHERE ($1::text IS NULL "        \
	"OR (h.kind = 'reservation' AND $1::text = 'reserved')) "              \
	"AND ($2::text IS NULL OR "                                            \
	"(h.since, coalesce(h.order_id, ''), coalesce(h.event_id, '')) > "     \
	"(coalesce($2::json->>0, left($2::text, 0))::timestamptz, "            \
	"coalesce($2::json->>1, ''), "                                         \
	"coalesce($2::json->>2, ''))) ORDER BY h.since, "                      \
	"coalesce(h.order_id, ''), coalesce(h.event_id, '')" LIST_ROWS("$3")

#define ASK_AVAILABILITY                                                \
	"SELECT 200, json_build_object('fits', bool_and(a.fits), 'lines', " \
	"json_agg(a)), NULL::text FROM check_availability($1::jsonb) a"

/* Kafka does not have it yet: the answer is later. */
#define GET_EVENT                                                        \
	"SELECT CASE s.state WHEN 'unknown' THEN 404 WHEN 'published' THEN " \
	"200 ELSE 202 END, row_to_json(s), NULL::text FROM "                 \
	"event_status($1::uuid) s"

#define OPEN_SALE                                                         \
	"SELECT 201, json_build_object('activity_id', $1::text), NULL::text " \
	"FROM open_flash_sale($1::text, $2::text, $3::bigint, "               \
	"coalesce($4::bigint, 1), coalesce($5::timestamptz, now()), "         \
	"$6::timestamptz, coalesce($7::text, 'main'))"

/* The newest first. */
#define LIST_FAILURES                                                      \
	"SELECT f.id, f.state, f.topic, f.order_id, left(f.key, 255) AS key, " \
	"f.event_id, f.attempts, f.error, f.first_failed_at, "                 \
	"f.next_retry_at, a.archived_at, coalesce(a.handled, false) "          \
	"AS handled, a.handled_at, a.handled_by, f.id AS after "               \
	"FROM stock_failed_events f "                                          \
	"LEFT JOIN failed_order_archives a ON a.id = f.id "                    \
	"WHERE ($1::text IS NULL OR f.topic = $1::text) "                      \
	"AND ($2::text IS NULL OR f.state = $2::text) "                        \
	"AND ($3::text IS NULL OR f.order_id = $3::text) "                     \
	"AND ($4::bigint IS NULL OR f.id < $4::bigint) "                       \
	"ORDER BY f.id DESC" LIST_ROWS("$5")

#define GET_FAILURE                                                           \
	"SELECT CASE WHEN r.id IS NULL THEN 404 ELSE 200 END, row_to_json(r), "   \
	"NULL::text FROM (VALUES (1)) one LEFT JOIN (SELECT f.id, f.state, "      \
	"f.topic, f.order_id, f.key, f.event_id, a.trace_id, f.attempts, "        \
	"f.error, f.first_failed_at, f.next_retry_at, a.archived_at, "            \
	"coalesce(a.handled, false) AS handled, a.handled_at, a.handled_by, "     \
	"f.payload FROM stock_failed_events f LEFT JOIN failed_order_archives a " \
	"ON a.id = f.id WHERE f.id = $1::bigint) r ON true"

/* What the message is afterwards: the statement itself does not see it. */
#define ACT_ON_FAILURE(status, call, name, value)                   \
	"SELECT " status ", json_build_object('id', $1::bigint, '" name \
	"', " value "), NULL::text FROM " call

/* ---- routes ---- */

const Route routes[] = {
	{"POST", "/products/{product_id}/stock/reserve", ROUTE_RESERVE, false,
	 ROLES_APP, "reserveStock", "Reserves pieces of a product for an order",
	 LINES "reserve_orders($1::jsonb, NULL::interval) r", reserve_stock,
	 .returns = "Lines", .answers = ANSWER_NEW | ANSWER_DONE},
	{"POST", "/orders", ROUTE_RESERVE, false, ROLES_APP, "reserveOrder",
	 "Reserves all lines of an order, or none",
	 LINES "reserve_orders($1::jsonb, NULL::interval) r", reserve_order,
	 .returns = "Lines", .answers = ANSWER_NEW | ANSWER_DONE},
	{"GET", "/orders/{order_id}", ROUTE_JSON, false, ROLES_ALL, "getOrder",
	 "Returns the lines of an order and their states", GET_ORDER, order_read,
	 .returns = "Order", .answers = ANSWER_DONE,
	 .missing = PROBLEM_UNKNOWN_ORDER},
	{"POST", "/orders/{order_id}/confirm", ROUTE_LINES, false, ROLES_APP,
	 "confirmOrder", "Sells the reserved pieces: the order is paid",
	 LINES "confirm_stock($1::text, $2::text, $3::text) r", confirm,
	 .returns = "Lines", .answers = ANSWER_DONE},
	{"POST", "/orders/{order_id}/release", ROUTE_LINES, false, ROLES_APP,
	 "releaseOrder", "Returns reserved pieces: the order is canceled",
	 LINES "release_stock($1::text, $2::text, $3::jsonb, $4::text) r",
	 give_back, .returns = "Lines", .answers = ANSWER_DONE},
	{"POST", "/orders/{order_id}/rollback", ROUTE_LINES, false, ROLES_APP,
	 "rollbackOrder", "Returns reserved or sold pieces: the order failed",
	 LINES "rollback_stock($1::text, $2::text, $3::jsonb, $4::text) r",
	 give_back, .returns = "Lines", .answers = ANSWER_DONE},
	{"POST", "/orders/{order_id}/return", ROUTE_LINES, false, ROLES_APP,
	 "returnOrder", "Takes returned goods back",
	 LINES "return_stock($1::text, $2::jsonb, "
		   "coalesce($3::boolean, true), $4::text) r",
	 returned, .returns = "Lines", .answers = ANSWER_DONE},
	{"POST", "/orders/{order_id}/extend", ROUTE_LINES, false, ROLES_APP,
	 "extendOrder", "Sets a later time at which the reservation expires",
	 LINES "extend_reservation($1::text, $2::interval, $3::text) r", extend,
	 .returns = "Lines", .answers = ANSWER_DONE},
	{"GET", "/products/{product_id}/stock", ROUTE_JSON, false, ROLES_ALL,
	 "getStock", "Returns the stock of a product, by location", GET_STOCK,
	 stock, .returns = "Stock", .answers = ANSWER_DONE,
	 .missing = PROBLEM_UNKNOWN_PRODUCT},
	{"POST", "/products/{product_id}/stock/receive", ROUTE_JSON, false,
	 ROLES_ADMIN, "receiveStock", "Adds pieces that have arrived",
	 LEVEL("receive_stock($1::text, $2::bigint, l.l, $4::text)", "$3"), receive,
	 .returns = "OnHand", .answers = ANSWER_DONE},
	{"POST", "/products/{product_id}/stock/adjust", ROUTE_JSON, false,
	 ROLES_ADMIN, "adjustStock", "Corrects the stock by a difference",
	 LEVEL("adjust_stock($1::text, $2::bigint, $3::text, l.l)", "$4"), adjust,
	 .returns = "OnHand", .answers = ANSWER_DONE},
	{"POST", "/products/{product_id}/stock/set", ROUTE_JSON, false, ROLES_ADMIN,
	 "setStock", "Sets the stock, as it was counted",
	 LEVEL("set_stock($1::text, $2::bigint, $3::bigint, l.l)", "$4"), set,
	 .returns = "OnHand", .answers = ANSWER_DONE},
	{"POST", "/products/{product_id}/stock/move", ROUTE_JSON, false,
	 ROLES_ADMIN, "moveStock", "Moves pieces between two locations",
	 "SELECT 200, json_build_object('product_id', $1::text), NULL::text "
	 "FROM move_stock($1::text, $2::bigint, $3::text, $4::text)",
	 move, .returns = "Moved", .answers = ANSWER_DONE},
	{"POST", "/availability", ROUTE_JSON, false, ROLES_ALL, "askAvailability",
	 "Whether lines could be reserved; takes nothing", ASK_AVAILABILITY,
	 availability, .returns = "Availability", .answers = ANSWER_DONE},
	{"GET", "/events/{event_id}", ROUTE_EVENT, false, ROLES_ALL, "getEvent",
	 "Whether Kafka has an event, now or soon", GET_EVENT, event,
	 .returns = "Event", .answers = ANSWER_DONE | ANSWER_LATER,
	 .missing = PROBLEM_UNKNOWN_EVENT},
	{"POST", "/sales", ROUTE_JSON, false, ROLES_ADMIN, "openSale",
	 "Opens a flash sale: sets a quota apart", OPEN_SALE, open_sale,
	 .returns = "OpenedSale", .answers = ANSWER_NEW},
	{"DELETE", "/sales/{activity_id}", ROUTE_JSON, false, ROLES_ADMIN,
	 "closeSale", "Closes a flash sale; what is left becomes stock",
	 "SELECT 200, json_build_object('activity_id', $1::text, 'left', c), "
	 "NULL::text FROM close_flash_sale($1::text) c",
	 sale, .returns = "ClosedSale", .answers = ANSWER_DONE},
	{"POST", "/sales/{activity_id}/purchase", ROUTE_TAKE, false, ROLES_APP,
	 "purchase", "Reserves pieces from the quota of a flash sale",
	 LINES "purchase_flash_sale($1::text, $2::text, $3::text, "
		   "coalesce($4::bigint, 1), "
		   "($5::json->'attributes')::jsonb) r",
	 purchase, .returns = "Lines", .answers = ANSWER_NEW | ANSWER_DONE},
	{"GET", "/failed", ROUTE_LIST, false, ROLES_READ, "listFailed",
	 "Lists incoming messages that failed, the newest first", LIST_FAILURES,
	 failures, .returns = "Failed", .answers = ANSWER_DONE},
	{"GET", "/failed/{id}", ROUTE_JSON, false, ROLES_READ, "getFailed",
	 "Returns a failed message, with its payload", GET_FAILURE, failure,
	 .returns = "FailedMessage", .answers = ANSWER_DONE,
	 .missing = PROBLEM_UNKNOWN_MESSAGE},
	{"POST", "/failed/{id}/retry", ROUTE_JSON, false, ROLES_ADMIN,
	 "retryFailed", "Has a failed message tried again next",
	 /* the relay or the worker tries it */
	 ACT_ON_FAILURE("202",
					"retry_failed_event($1::bigint, NULL::text, $2::text)",
					"state", "'waiting'"),
	 retry, .returns = "FailedState", .answers = ANSWER_LATER},
	{"POST", "/failed/{id}/discard", ROUTE_JSON, false, ROLES_ADMIN,
	 "discardFailed", "Gives a failed message up for good",
	 ACT_ON_FAILURE("200", "discard_failed_event($1::bigint, $2::text)",
					"state", "'discarded'"),
	 discard, .returns = "FailedState", .answers = ANSWER_DONE},
	{"POST", "/failed/{id}/handled", ROUTE_JSON, false, ROLES_ADMIN,
	 "markFailedHandled", "Marks an archived message as handled by a person",
	 ACT_ON_FAILURE("200", "mark_failed_event_handled($1::bigint, $2::text)",
					"handled", "true"),
	 handled, .returns = "FailedHandled", .answers = ANSWER_DONE},
	{"GET", "/transactions", ROUTE_LIST, false, ROLES_READ, "listTransactions",
	 "Lists orders and their states, by id; or those that hang",
	 LIST_TRANSACTIONS, transactions, .returns = "Transaction",
	 .answers = ANSWER_DONE},
	{"GET", "/status", ROUTE_JSON, false, ROLES_READ, "getStatus",
	 "The relays, the backlog, and what is wrong",
	 "SELECT 200, s, NULL::text FROM stock_status() s", no_fields,
	 .returns = "Status", .answers = ANSWER_DONE},
	{"GET", "/products", ROUTE_LIST, false, ROLES_ALL, "listProducts",
	 "Lists products with their levels, by id", overview_products_sql,
	 overview_products, .returns = "Stock", .answers = ANSWER_DONE},
	{"GET", "/products/{product_id}/movements", ROUTE_LIST, false, ROLES_READ,
	 "listMovements", "Lists what has moved a product, the newest first",
	 overview_movements_sql, overview_movements, .returns = "Movement",
	 .answers = ANSWER_DONE},
	{"GET", "/orders", ROUTE_LIST, false, ROLES_READ, "listOrders",
	 "Lists orders, those that changed last first", overview_orders_sql,
	 overview_orders, .returns = "OrderRow", .answers = ANSWER_DONE},
	{"GET", "/sales", ROUTE_LIST, false, ROLES_READ, "listSales",
	 "Lists flash sales, the one that was opened last first",
	 overview_sales_sql, overview_sales, .returns = "Sale",
	 .answers = ANSWER_DONE},
	{"GET", "/sales/{activity_id}/purchases", ROUTE_JSON, false, ROLES_READ,
	 "getPurchases", "How the purchases of a flash sale spread over time",
	 overview_purchases_sql, overview_purchases, .returns = "Purchases",
	 .answers = ANSWER_DONE},
	{"GET", "/admin-actions", ROUTE_LIST, false, ROLES_READ, "listActions",
	 "Lists what administrators did, the newest first", overview_actions_sql,
	 overview_actions, .returns = "Action", .answers = ANSWER_DONE},
	{"GET", "/report", ROUTE_JSON, false, ROLES_READ, "getReport",
	 "Orders, refusals, failures and latencies of a week or another period",
	 overview_report_sql, overview_report, .returns = "Report",
	 .answers = ANSWER_DONE},
	{"GET", "/live", ROUTE_LIVE, false, ROLES_READ, "watch",
	 "What has happened last, as an event; the next one after Last-Event-ID",
	 "SELECT stock_activity()", no_fields, .answers = ANSWER_DONE},
	{"GET", "/livez", ROUTE_ABOUT, true, ROLES_ALL, "getLive",
	 "200 while the process works", NULL, no_fields, .answers = ANSWER_DONE,
	 .about = ABOUT_LIVE},
	{"GET", "/readyz", ROUTE_ABOUT, true, ROLES_ALL, "getReady",
	 "200 while requests can be answered", NULL, no_fields,
	 .answers = ANSWER_DONE | ANSWER_NOT_READY, .about = ABOUT_READY},
	{"GET", "/health", ROUTE_ABOUT, true, ROLES_ALL, "getHealth",
	 "The state of each component", NULL, no_fields, .returns = "Health",
	 .answers = ANSWER_DONE | ANSWER_NOT_READY, .about = ABOUT_HEALTH},
	{"GET", "/metrics", ROUTE_ABOUT, true, ROLES_ALL, "getMetrics",
	 "Metrics for Prometheus", NULL, no_fields, .answers = ANSWER_DONE,
	 .about = ABOUT_METRICS},
	{"GET", "/openapi.json", ROUTE_ABOUT, true, ROLES_ALL, "getOpenApi",
	 "This description", NULL, no_fields, .returns = "Description",
	 .answers = ANSWER_DONE, .about = ABOUT_DESCRIPTION},
	{"GET", "/whoami", ROUTE_ABOUT, false, ROLES_ALL, "getClient",
	 "The name and the role of the token", NULL, no_fields, .returns = "Client",
	 .answers = ANSWER_DONE, .about = ABOUT_CLIENT},
	{"GET", "/console", ROUTE_FILE, true, ROLES_ALL, "findConsole",
	 "Leads to the console", NULL, no_fields, .answers = ANSWER_ELSEWHERE},
	{"GET", "/console/", ROUTE_FILE, true, ROLES_ALL, "getConsole",
	 "The web console", NULL, no_fields, .answers = ANSWER_DONE | ANSWER_SAME},
	{"GET", "/console/{file}", ROUTE_FILE, true, ROLES_ALL, "getConsoleFile",
	 "A file of the console", NULL, console_file,
	 .answers = ANSWER_DONE | ANSWER_SAME},
};
const int route_count = Lengthof(routes);

const RouteFlag route_flags[] = {
	{"getOrder", "getOrderHistory", ROLES_READ, GET_ORDER_HISTORY},
	{"listTransactions", "listHanging", ROLES_READ, LIST_HANGING},
};
const int route_flag_count = Lengthof(route_flags);

_Static_assert(Lengthof(routes) <= ROUTES_MAX, "the metrics have room");
_Static_assert(ROUTES_MAX + Lengthof(route_flags) <= POOL_STATEMENTS_FIRST,
			   "each statement has an id");
