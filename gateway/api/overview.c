/*
 * overview.c - the lists and sums that people look at: their fields and
 * statements, for the table of routes
 *
 * A list is read in the order of an index and ends with its page.  What has no
 * index is looked for in the latest rows only, so that a search by a person
 * cannot read a year.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/overview.h"

#include "api/list.h"

/* clang-format off: a row for each field, as long as it is */

#define NEWEST "9223372036854775807"

/* ---- stock ---- */

const Field overview_products[] = {
	{"search", IN_QUERY, FIELD_ID, false,
	 "only products whose id contains this"},
	{"available_max", IN_QUERY, FIELD_AMOUNT, false,
	 "only products that have at most so many pieces available at a location"},
	{"after", IN_QUERY, FIELD_ID, false, "the page that follows this product"},
	LIST_LIMIT,
	FIELDS_END,
};
const char overview_products_sql[] =
	"SELECT l.product_id, json_agg(json_build_object('location', l.location, "
	"'on_hand', l.on_hand, 'reserved', l.reserved, 'safety', l.safety, "
	"'available', l.available, 'version', l.version) "
	"ORDER BY l.location COLLATE \"C\") AS levels, l.product_id AS after "
	"FROM stock_levels l WHERE ($1::text IS NULL "
	"OR strpos(lower(l.product_id), lower($1::text)) > 0) "
	"AND ($3::text IS NULL OR l.product_id > $3::text) "
	"GROUP BY l.product_id "
	"HAVING $2::bigint IS NULL OR min(l.available) <= $2::bigint "
	"ORDER BY l.product_id COLLATE \"C\"" LIST_ROWS("$4");

const Field overview_movements[] = {
	{"product_id", IN_PATH, FIELD_ID, true, "the product"},
	{"after", IN_QUERY, FIELD_QUANTITY, false,
	 "the page that follows the movement of this id"},
	LIST_LIMIT,
	FIELDS_END,
};
const char overview_movements_sql[] =
	"SELECT m.id, m.at, m.kind, m.location, m.on_hand_delta, "
	"m.reserved_delta, m.order_id, m.actor, m.reason, m.reference, "
	"m.event_id::text AS event_id, m.id AS after "
	"FROM (SELECT l.* FROM stock_movements l "
	"WHERE l.id > 0 AND l.id < coalesce($2::bigint, " NEWEST ") "
	"ORDER BY l.id DESC LIMIT 200000) m "
	"WHERE m.product_id = $1::text ORDER BY m.id DESC" LIST_ROWS("$3");

/* ---- orders ---- */

const Field overview_orders[] = {
	{"search", IN_QUERY, FIELD_ID, false,
	 "the orders whose id begins with this, by their id, without a next page; "
	 "default: those of the latest movements"},
	{"state", IN_QUERY, FIELD_ORDER_STATE, false, "only those in this state"},
	{"after", IN_QUERY, FIELD_QUANTITY, false,
	 "the page that follows the movement of this id"},
	LIST_LIMIT,
	FIELDS_END,
};
const char overview_orders_sql[] =
	"WITH found AS MATERIALIZED (SELECT r.order_id, NULL::bigint AS id FROM "
	"(SELECT v.order_id FROM stock_reservations v WHERE $1::text IS NOT NULL "
	"AND v.order_id >= $1::text ORDER BY v.order_id LIMIT 1000) r "
	"WHERE starts_with(r.order_id, $1::text) GROUP BY r.order_id UNION ALL "
	"SELECT m.order_id, max(m.id) FROM (SELECT l.id, l.order_id "
	"FROM stock_movements l WHERE $1::text IS NULL AND l.id > 0 "
	"AND l.id < coalesce($3::bigint, " NEWEST ") "
	"ORDER BY l.id DESC LIMIT 5000) m "
	"WHERE m.order_id IS NOT NULL GROUP BY m.order_id "
	/* not those of an earlier page, or that have changed since */
	"HAVING $3::bigint IS NULL OR (SELECT count(*) FROM stock_movements n "
	"WHERE n.order_id = m.order_id AND n.id >= $3::bigint) = 0) "
	"SELECT o.order_id, o.state, o.user_id, o.created_at, o.expires_at, "
	"o.confirmed_at, o.ended_at, o.lines, o.quantity, o.reason, o.payment_id, "
	"f.id AS after FROM stock_orders o JOIN found f ON f.order_id = o.order_id "
	"WHERE o.order_id = ANY (ARRAY(SELECT order_id FROM found)) "
	"AND ($2::text IS NULL OR o.state = $2::text) "
	"ORDER BY f.id DESC, o.order_id LIMIT " LIST_PAGE(
		"$4") " + CASE WHEN $1::text IS NULL THEN 1 ELSE 0 END";

/* ---- flash sales ---- */

const Field overview_sales[] = {
	{"after", IN_QUERY, FIELD_ID, false, "the page that follows this sale"},
	LIST_LIMIT,
	FIELDS_END,
};
const char overview_sales_sql[] =
	"SELECT s.activity_id, s.product_id, s.location, s.quantity, "
	"s.per_user_limit, s.state, s.sold, s.remaining, s.starts_at, s.ends_at, "
	"s.opened_at, s.closed_at, s.activity_id AS after FROM stock_sales s "
	"WHERE $1::text IS NULL OR (s.opened_at, s.activity_id) < "
	"(SELECT a.opened_at, a.activity_id FROM stock_sales a "
	"WHERE a.activity_id = $1::text) "
	"ORDER BY s.opened_at DESC, s.activity_id DESC" LIST_ROWS("$2");

const Field overview_purchases[] = {
	{"activity_id", IN_PATH, FIELD_ID, true, "the flash sale"},
	FIELDS_END,
};
/* 300 points at most, whatever the time between the first and the last. */
const char overview_purchases_sql[] =
	"WITH p AS MATERIALIZED (SELECT * FROM sale_purchases($1::text)), "
	"w AS (SELECT min(p.at) AS first, greatest(1, ceil(extract(epoch FROM "
	"max(p.at) - min(p.at)) / 300))::int AS seconds FROM p) "
	"SELECT 200, json_build_object('activity_id', $1::text, 'seconds', "
	"(SELECT w.seconds FROM w), 'purchases', (SELECT coalesce(json_agg(b "
	"ORDER BY b.at), '[]') FROM (SELECT date_bin(make_interval(secs => "
	"w.seconds), p.at, w.first) AS at, sum(p.orders)::bigint AS orders, "
	"sum(p.pieces)::bigint AS pieces FROM p, w GROUP BY 1) b)), NULL::text";

/* ---- administrators, report ---- */

const Field overview_actions[] = {
	{"search", IN_QUERY, FIELD_ID, false,
	 "only actions with this in actor, action, target or reason"},
	{"after", IN_QUERY, FIELD_TIME, false, "the page that follows this time"},
	LIST_LIMIT,
	FIELDS_END,
};
const char overview_actions_sql[] =
	"SELECT a.at, a.actor, a.action, a.target, a.reason, "
	"to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') "
	"AS after FROM stock_admin_actions a WHERE ($1::text IS NULL OR "
	"strpos(lower(concat_ws(' ', a.actor, a.action, a.target, a.reason)), "
	"lower($1::text)) > 0) AND ($2::timestamptz IS NULL "
	"OR a.at < $2::timestamptz) ORDER BY a.at DESC" LIST_ROWS("$3");

const Field overview_report[] = {
	{"since", IN_QUERY, FIELD_TIME, false,
	 "default: seven days before \"until\""},
	{"until", IN_QUERY, FIELD_TIME, false, "default: now"},
	FIELDS_END,
};
const char overview_report_sql[] =
	"SELECT 200, stock_report($1::timestamptz, $2::timestamptz), NULL::text";
