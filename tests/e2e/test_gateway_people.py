# SPDX-License-Identifier: PostgreSQL
"""The gateway's requests for people: failed messages, the state of the relay,
orders that hang."""

import csv
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import pytest

from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")

offsets = itertools.count(1)


def fail(shop, value, topic="order-created", key=None):
    """Applies a message as a relay does; the id of the failure that follows."""
    result = shop.value(
        "SELECT result FROM pgstock_internal.relay_apply(ARRAY[%s], ARRAY[0],"
        " ARRAY[%s::bigint], ARRAY[-1::bigint], ARRAY[%s::bytea],"
        " ARRAY[%s::bytea], ARRAY[NULL::bytea], %s)",
        (topic, next(offsets), key, value.encode(), json.dumps({
            "group": "g", "dlq_topic": "{topic}_dlq", "order_wait_ms": 900000,
            "retry_delays_ms": [1000000]})))
    assert result in ("dead", "waiting")
    return shop.value("SELECT max(id) FROM stock_failed_events")


def unpaid(shop, order):
    """A payment that waits for its order."""
    return fail(shop, json.dumps({"order_id": order}), "payment-success")


def once(gateway, role, path):
    """The answer to one GET on a connection of its own."""
    with closing(gateway.client(role)) as client:
        return client.get(path)


# ---- failed messages --------------------------------------------------------

def test_failed_messages_are_listed_by_pages(reader, shop):
    first = fail(shop, "{1")
    ids = [first] + [fail(shop, "{") for _ in range(4)]
    if shop.value("SELECT count(*) FROM stock_failed_events") % 2:
        ids.append(fail(shop, "{"))     # the last page is full
    found, after = [], ""
    while after is not None:
        page = reader.get(f"/failed?limit=2{after}").json
        assert 1 <= len(page["rows"]) <= 2
        found += [row["id"] for row in page["rows"]]
        after = page["next"] and f"&after={page['next']}"
    assert found[:len(ids)] == ids[::-1] and len(set(found)) == len(found)
    row = reader.get("/failed?limit=1").json["rows"][0]
    assert (row["state"], row["topic"], row["handled"]) == (
        "archived", "order-created", False)
    assert row["archived_at"].endswith("Z") and row["next_retry_at"] is None
    assert "payload" not in row
    whole = reader.get(f"/failed/{first}").json
    assert (whole["id"], whole["payload"]) == (first, "{1")
    answer = reader.get("/failed/999999")
    assert (answer.status, answer.problem) == (404, "unknown-message")


def test_failed_messages_are_filtered(reader, shop, product):
    order = f"unpaid-{product}"
    waiting = unpaid(shop, order)
    archived = fail(shop, "{")

    def found(query):
        rows = reader.get(f"/failed?{query}").json["rows"]
        return [row["id"] for row in rows]

    assert waiting in found("state=waiting")
    assert archived not in found("state=waiting")
    assert archived in found("state=archived")
    assert waiting not in found("topic=order-created")
    assert found(f"order_id={order}&state=waiting") == [waiting]
    assert not found(f"order_id={order}&topic=order-created")
    for query, detail in (("state=lost", "must be one of waiting, archived"),
                          ("limit=0", "from 1 to 1000"),
                          ("limit=1001", "from 1 to 1000"),
                          ("limit=x", "must be an integer"),
                          ("after=-1", "must be an integer"),
                          ("topic=", "is empty"),
                          ("topics=x", 'no parameter "topics"'),
                          ("%ff=x", 'no parameter "')):
        answer = reader.get(f"/failed?{query}")
        assert (answer.status, answer.problem) == (400, "invalid"), query
        assert detail in answer.json["detail"]


def test_failed_messages_as_a_spreadsheet(reader, shop):
    fail(shop, "{")
    order = '=cmd|"\n;@x'
    waiting = unpaid(shop, order)
    answer = reader.get("/failed?limit=1", Accept="text/csv, */*;q=0.1")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Next-After"] == str(waiting)
    row, = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["order_id"] == '\'=cmd|"\n;\'@x'
    assert (row["id"], row["handled"], row["archived_at"]) == (
        str(waiting), "false", "")
    assert row["first_failed_at"].endswith("Z")
    assert "after" not in row
    for accept in ("application/json, text/csv", "text/csvx", "*/*"):
        assert reader.get("/failed?limit=1", Accept=accept).json["next"]
    answer = reader.get("/failed?topic=none", Accept="text/csv")
    assert answer.text.startswith('"id","state"')
    assert answer.text.count("\r\n") == 1 and "Next-After" not in answer.headers


def test_a_spreadsheet_goes_on_behind_any_id(reader, shop):
    """A header holds no text in UTF-8, and a query no blank."""
    ids = ["zz \u00e4&\n", "zz \u00e4&\n2"]
    for name in ids:
        shop.sql("SELECT receive_stock(%s, 1)", (name,))
    path = f"/products?limit=1&search={quote(ids[0])}"
    answer = reader.get(path, Accept="text/csv")
    after = answer.headers["Next-After"]
    assert after == "zz%20%C3%A4%26%0A"
    rows = reader.get(f"{path}&after={after}").json["rows"]
    assert [row["product_id"] for row in rows] == ids[1:]


def test_failed_messages_are_acted_on(admin, reader, shop, product):
    archived, waiting = fail(shop, "{"), unpaid(shop, f"paid-{product}")

    def state(number):
        row = reader.get(f"/failed/{number}").json
        return row["state"], row["handled"], row["handled_by"]

    answer = admin.post(f"/failed/{archived}/handled", {"note": "called them"})
    assert (answer.status, answer.json) == (200, {"id": archived,
                                                  "handled": True})
    assert state(archived) == ("archived", True, "gateway_admin/admin-1")
    answer = admin.post(f"/failed/{archived}/retry", {"reason": "fixed"})
    assert (answer.status, answer.json) == (202, {"id": archived,
                                                  "state": "waiting"})
    assert state(archived)[0] == "waiting"
    answer = admin.post(f"/failed/{waiting}/discard", {"reason": "a test"})
    assert (answer.status, answer.json) == (200, {"id": waiting,
                                                  "state": "discarded"})
    assert state(waiting)[0] == "discarded"
    assert shop.sql(
        "SELECT actor, action, target, reason FROM stock_admin_actions"
        " WHERE target IN (%s, %s) ORDER BY at",
        (f"id {archived}", f"id {waiting}")) == [
        ("gateway_admin/admin-1", action, f"id {number}", reason)
        for action, number, reason in (
            ("mark_failed_event_handled", archived, "called them"),
            ("retry_failed_event", archived, "fixed"),
            ("discard_failed_event", waiting, "a test"))]
    for verb, body in (("retry", {}), ("discard", {"reason": "again"}),
                       ("handled", {"note": "n"})):
        answer = admin.post(f"/failed/{waiting}/{verb}", body)
        assert (answer.status, answer.problem) == (404, "unknown-message"), verb
    for verb, field in (("discard", "reason"), ("handled", "note")):
        answer = admin.post(f"/failed/{archived}/{verb}")
        assert answer.json["detail"] == f'"{field}" is missing'
    assert reader.post(f"/failed/{archived}/retry").problem == "forbidden"
    assert admin.post("/failed/x/retry").problem == "invalid"


# ---- orders -----------------------------------------------------------------

def test_what_an_order_went_through(app, reader, shop, product):
    order = f"long-{product}"
    assert app.reserve(product, 1, order).status == 201
    assert app.post(f"/orders/{order}/release",
                    {"reason": "changed his mind"}).status == 200
    assert "history" not in reader.get(f"/orders/{order}").json
    assert "history" not in reader.get(f"/orders/{order}?history=0").json
    whole = reader.get(f"/orders/{order}?history=1").json
    assert [line["state"] for line in whole["lines"]] == ["released"]
    assert [fact["what"] for fact in whole["history"]
            if fact["kind"] == "movement"] == ["reserved", "released"]
    late = f"late-{product}"
    unpaid(shop, late)
    assert reader.get(f"/orders/{late}").problem == "unknown-order"
    answer = reader.get(f"/orders/{late}?history=1")
    assert answer.json["lines"] == []
    assert {fact["kind"] for fact in answer.json["history"]} >= {"failure"}
    answer = reader.get("/orders/none?history=1")
    assert (answer.status, answer.problem) == (404, "unknown-order")
    answer = reader.get("/orders/none?history=yes")
    assert answer.json["detail"] == '"history" must be 0 or 1'


def walk(client, path):
    """The rows of all pages of a list."""
    rows, after = [], ""
    while after is not None:
        page = client.get(path + after).json
        rows += page["rows"]
        assert f"&after={quote(page['next'] or '')}" != after, "it moves on"
        after = page["next"] and f"&after={quote(page['next'])}"
    return rows


def test_orders_are_listed_by_state(app, reader, product):
    orders = [f"{name}é-{product}" for name in "abcde"]
    for order in orders:
        assert app.reserve(product, 1, order, user_id="ann").status == 201
    assert app.post(f"/orders/{quote(orders[1])}/confirm").status == 200

    def found(query):
        rows = walk(reader, f"/transactions?limit=2{query}")
        assert [row["order_id"] for row in rows] == sorted(
            row["order_id"] for row in rows)
        return [row for row in rows if row["order_id"] in orders]

    assert [row["order_id"] for row in found("")] == orders
    row, = found("&state=confirmed")
    assert (row["order_id"], row["state"], row["quantity"], row["user_id"]
            ) == (orders[1], "confirmed", 1, "ann")
    assert len(found("&state=reserved")) == 4
    answer = reader.get("/transactions?state=paid")
    assert "must be one of reserved, confirmed" in answer.json["detail"]


def test_orders_are_on_one_page_each(app, reader, product):
    """The order that changed first has movements below those of the others."""
    orders = [f"page-{product}-{i}" for i in range(5)]
    for order in orders:
        assert app.reserve(product, 1, order).status == 201
    for order in orders:
        assert app.post(f"/orders/{order}/release").status == 200
    rows = [row["order_id"] for row in walk(reader, "/orders?limit=2")]
    assert len(rows) == len(set(rows))
    assert [row for row in rows if row in orders] == orders[::-1]


def test_hanging_orders_and_a_rollback_by_hand(app, admin, reader, shop,
                                               product):
    orders = [f"hang-{product}-{i}" for i in range(3)]
    for order in orders:
        assert app.reserve(product, 1, order, ttl=0).status == 201
    unpaid(shop, f"hang-{product}-x")
    path = "/transactions?hanging=1&limit=1"

    def found(query=""):
        return [row["order_id"] for row in walk(reader, path + query)
                if (row["order_id"] or "").startswith(f"hang-{product}-")]

    assert not found()
    shop.sql("UPDATE pgstock_internal.reservation SET created_at = created_at"
             " - interval '2 hours' WHERE order_id = ANY (%s)", (orders,))
    shop.sql("UPDATE pgstock_internal.failed_event SET first_failed_at ="
             " first_failed_at - interval '3 hours' WHERE order_id = %s",
             (f"hang-{product}-x",))
    assert found() == [f"hang-{product}-x", *orders]
    assert found("&state=reserved") == orders
    assert not found("&state=confirmed")
    for after in ("x", "[]", "[null]", "[7]", "{}", "7", '["", "a"]'):
        assert reader.get(f"{path}&after={quote(after)}").problem == "invalid"
    answer = admin.post(f"/orders/{orders[0]}/rollback",
                        {"reason": "the shop has closed"})
    assert answer.json["lines"][0]["status"] == "rolled_back"
    assert found("&state=reserved") == orders[1:]
    assert shop.sql("SELECT actor, reason FROM stock_movements WHERE order_id ="
                    " %s AND kind = 'rolled_back'", (orders[0],)) == [
        ("gateway_admin/admin-1", "the shop has closed")]


# ---- the roles of sessions --------------------------------------------------

def test_reads_run_with_the_role_of_a_reader(gateways, product, shop):
    """They may only read, and take no session from reservations."""
    gateway = gateways({"postgres": {"pool": 1}}).start()
    number = fail(shop, "{")
    with closing(shop.connect()) as lock, ThreadPoolExecutor(1) as pool:
        lock.cursor().execute("LOCK TABLE pgstock_internal.failed_event")
        answer = pool.submit(once, gateway, "reader", f"/failed/{number}")
        wait_until(lambda: shop.value(
            "SELECT count(*) FROM pg_stat_activity WHERE usename ="
            " 'gateway_reader' AND wait_event_type = 'Lock'"), 30, gateway.tail)
        app = gateway.client("app")
        assert app.reserve(product, 1, f"beside-{product}").status == 201
        app.close()
        lock.rollback()
        assert answer.result().json["id"] == number


def test_without_a_role_for_readers(gateways, product):
    gateway = gateways({"postgres": {"reader_conninfo": ""}}).start()
    stock = f"/products/{product}/stock"
    for role in ("reader", "admin"):
        assert once(gateway, role, stock).status == 200
        answer = once(gateway, role, "/failed")
        assert (answer.status, answer.problem) == (403, "forbidden")
        assert "stock_failed_events" in answer.json["detail"]
        assert "levels reader and admin" in answer.json["hint"]
