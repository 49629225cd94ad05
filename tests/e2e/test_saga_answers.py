# SPDX-License-Identifier: PostgreSQL
"""Answers of shards to an order over shards: those that cannot be, of a
function that is not the extension's or of another version, and texts that must
be quoted."""

import itertools
import json
import re
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import saga_shop
from saga_shop import call, fails, lines, saga, states, statuses

FRONT = Path(__file__).resolve().parents[2] / "front"

fixture_shop, fixture_order = saga_shop.fixture_shop, saga_shop.fixture_order


@contextmanager
def answering(shard, returns, body):
    """The shard answers steps with a function that is not the extension's."""
    own = "pgstock_shard.part_step_call"
    shard.sql(f"ALTER FUNCTION {own}(text) RENAME TO kept")
    shard.sql(f"ALTER TYPE {own} RENAME TO kept")     # found by its name
    shard.sql(f"CREATE FUNCTION {own}(text) RETURNS {returns} LANGUAGE sql"
              f" AS $$SELECT {body}$$")
    try:
        yield
    finally:
        shard.sql(f"DROP FUNCTION {own}(text)")
        for what in "FUNCTION", "TYPE":
            shard.sql(f"ALTER {what} pgstock_shard.kept RENAME TO"
                      " part_step_call")


def end_late(shop, order):
    """The state of an order that its caller could not end, once it is late."""
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now()"
                   " WHERE order_id = %s", (order,))
    shop.front.sql("SELECT sweep_orders()")
    ((state, verb),) = saga(shop, order)
    assert verb is None
    return state


@pytest.mark.parametrize("returns,body,code,text", [
    ("text", "NULL::text", "08006", "a shard returned no answer"),
    ("SETOF text", "'' WHERE false", "08006", "a shard returned no answer"),
    ("text", "'(0,'", "08006", "malformed record literal"),
    ("text", "'(0,,{},later)'", "08006", "malformed record literal"),
    ("text", "'(0,,)'", "55000", "a shard returned no answer"),
    ("text", "'(0,,{})'", "55000", "a shard returned no answer"),
    ("text", "'(0,,\"{\"\"(o,p,main,1,1,granted,9,,1,f,later)\"\"}\")'",
     "55000", "a row of 11 columns instead of 10"),
    ("text", "'(0,,\"{\"\"(o,p,main,1,,granted,9,,1,f)\"\"}\")'",
     "55000", "a shard returned no answer")])
def test_a_hold_with_an_answer_that_cannot_be(shop, order, returns, body, code,
                                              text):
    """Of no function of the extension, or of another version: no shard keeps
    the order."""
    with answering(shop.shards[0], returns, body):
        diag = fails(code, call, shop, "reserve_order", order,
                     lines(shop, 1, 1), "u")
        assert text in f"{diag.message_primary} {diag.message_detail}"
        if code == "08006":
            assert "could not reach shard 0" in diag.message_primary
            assert states(shop, order) == ["released"]
    assert end_late(shop, order) == "abandoned"
    assert states(shop, order) == ["released"]
    assert statuses(call(shop, "reserve_order", order, lines(shop, 1, 1),
                         "u")) == {"granted"}


@pytest.mark.parametrize("body,code", [
    ("NULL", "40001"), ("'(0,,{})'", "55000"),
    ("'(0,\"(SK006,x,,)\",)'", "40001"),
    ("'(0,,\"{\"\"(o,p,main,1,0,already,9,,1,f)\"\"}\")'", "40001")])
def test_a_keep_with_an_answer_that_cannot_be(shop, order, body, code):
    """The other shard has kept its part: it is undone in both."""
    with answering(shop.shards[0], "text", f"CASE WHEN $1 LIKE '%keep%' THEN"
                   f" {body} ELSE pgstock_shard.kept($1)::text END"):
        fails(code, call, shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert end_late(shop, order) == "abandoned"
    assert states(shop, order) == ["released"] * 2


def test_texts_that_must_be_quoted(shop, order):
    """Rows in the order of bytes, whatever the texts and the session's
    settings are."""
    products = [names[0] for names in shop.products(1, 'x", \\ (é){}')]
    places = ['Z "\\', "a,", "main"]
    for product, place in itertools.product(products[:3], places):
        shop.front.sql("SELECT receive_stock(%s, 9, %s)", (product, place))
    items = [{"product_id": product, "location": place, "quantity": 2}
             for product in products[:3] for place in places]
    query = ("SELECT product_id, location, granted, status, user_id,"
             " r.expires_at = s.expires_at"
             " FROM reserve_order(%s, %s, %s, '1 hour') r"
             " JOIN stock_reservations s USING (order_id, product_id,"
             " location)")
    user = f'{order} "\\, (u)'
    for _ in range(2):
        rows = shop.front.sql(query, (order, json.dumps(items[::-1]), user),
                              options="-c datestyle=German -c"
                              " pgstock.actor=a\\\\b\\ \"")
        assert sorted(rows) == sorted(
            (item["product_id"], item["location"], 2, "granted", user, True)
            for item in items)
    rows = call(shop, "reserve_order", f"{order}-2", json.dumps(items[::-1]),
                user)
    keys = [(row["product_id"], row["location"]) for row in rows]
    assert keys == sorted(keys) and len(keys) == 9
    assert shop.front.sql("SELECT DISTINCT actor FROM stock_movements"
                          " WHERE order_id = %s", (order,)) == [
                              ('pgstock_front/postgres/a\\b "',)]


@pytest.mark.parametrize("style", ["German", "SQL", "Postgres", "ISO"])
def test_the_time_of_a_repetition(shop, order, style):
    """Abbreviations of time zones name another zone elsewhere."""
    query = ("SELECT extract(epoch FROM expires_at)::bigint"
             " FROM reserve_order(%s, %s, 'u', idempotency_key => %s)")
    args = order, lines(shop, 1, 1), order
    first = shop.front.sql(query, args)
    with closing(shop.front.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute(f"SET datestyle = '{style}'")
        cur.execute("SET timezone = 'Asia/Kolkata'")
        cur.execute(query, args)
        assert cur.fetchall() == first


@pytest.mark.parametrize("items", ['{"product_id": "p"}', "5", "null"])
def test_items_that_are_no_array(shop, order, items):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    diag = fails("22P02", call, shop, "release_stock", order, "r", items)
    assert diag.message_primary == "items must be a JSON array"
    assert states(shop, order) == ["reserved"] * 2


def test_a_function_that_the_extension_lacks(shop, order):
    """The module of a newer package, before ALTER EXTENSION: no shard is at
    fault."""
    own = "FUNCTION pgstock_front.part_step"
    shop.front.sql(f"ALTER {own} RENAME TO kept")
    try:
        diag = fails("42883", call, shop, "reserve_order", order,
                     lines(shop, 1, 1), "u")
    finally:
        shop.front.sql("ALTER FUNCTION pgstock_front.kept RENAME TO part_step")
    assert diag.message_primary == ('function "pgstock_front.part_step" does'
                                    " not exist")
    assert "ALTER EXTENSION pgstock_front UPDATE" in diag.message_hint
    assert end_late(shop, order) == "abandoned"
    assert states(shop, order) == []


def test_the_columns_of_a_turn(shop):
    """The C functions find them by their numbers."""
    numbers = {column.lower(): int(number) for path in FRONT.glob("*.[ch]")
               for column, number in re.findall(
                   r"\bTURN_(\w+) = (\d+)", path.read_text(encoding="utf-8"))}
    assert len(numbers) >= 6
    columns = dict(shop.front.sql(
        "SELECT attname, attnum FROM pg_attribute WHERE attnum > 0"
        " AND attrelid = 'pgstock_front.turn'::regclass"))
    assert numbers == {column: columns.get(column) for column in numbers}


def test_the_last_number_of_a_saga(shop):
    fails("22003", shop.front.sql,
          "SELECT pgstock_front.saga_next_number(9223372036854775807)")


def test_a_shard_lacks_the_function_of_a_step(shop, order):
    """That is no refusal: the step is taken once the function is there."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    shard = shop.shards[0]
    shard.sql("ALTER FUNCTION confirm_stock RENAME TO kept")
    try:
        diag = fails("55000", call, shop, "confirm_stock", order)
    finally:
        shard.sql("ALTER FUNCTION kept RENAME TO confirm_stock")
    assert 'no function "confirm_stock"' in diag.message_detail
    assert saga(shop, order) == [("reserved", "confirm")]
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}
    assert states(shop, order) == ["confirmed"] * 2
