# SPDX-License-Identifier: PostgreSQL
"""Orders whose lines are in several shards, as callers see them."""

import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

import saga_shop
from process import wait_until
from saga_part import take_in
from saga_shop import (call, expire, fails, in_parallel, lines, saga, states,
                       statuses)

SWEEPER = Path(__file__).parents[2] / "deploy/shards/pgstock-sweeper.service"

fixture_shop, fixture_order = saga_shop.fixture_shop, saga_shop.fixture_order


def test_an_order_is_reserved_in_all_shards(shop, order):
    rows = call(shop, "reserve_order", order, lines(shop, 1, 2, 3, 4), "u")
    assert statuses(rows) == {"granted"} and len(rows) == 4
    assert [row["granted"] for row in rows] == [row["requested"]
                                                for row in rows]
    assert rows == sorted(rows, key=lambda row: row["product_id"])
    assert states(shop, order) == ["reserved"] * 4
    assert saga(shop, order) == [("reserved", None)]
    # the expiry time is the requested one, not the hold's
    assert shop.front.value(
        "SELECT bool_and(expires_at > now() + interval '20 minutes')"
        " FROM stock_reservations WHERE order_id = %s", (order,))


def test_an_order_in_one_shard_has_no_saga(shop, order):
    call(shop, "reserve_order", order, lines(shop, 0, 2), "u")
    call(shop, "confirm_stock", order)
    assert saga(shop, order) == []
    assert all(shard.value("SELECT count(*) FROM pgstock_shard.order_part"
                           " WHERE order_id = %s", (order,)) == 0
               for shard in shop.shards)


def test_the_same_request_again(shop, order):
    items = lines(shop, 1, 1)
    first = call(shop, "reserve_order", order, items, "u")
    again = call(shop, "reserve_order", order, items, "u")
    assert all(row["replayed"] for row in again)
    for row in first + again:
        del row["replayed"]
    assert first == again
    diag = fails("SK007", call, shop, "reserve_order", order,
                 lines(shop, 1, 2), "u")
    assert "another request" in diag.message_primary
    fails("SK007", call, shop, "reserve_order", order, items, "another user")
    call(shop, "release_stock", order)
    rows = call(shop, "reserve_order", order, lines(shop, 2, 2, 2), "u")
    assert statuses(rows) == {"granted"} and not rows[0]["replayed"]


def test_an_order_of_one_shard_is_not_taken_over(shop, order):
    """If a hold is granted because the shard has the same lines already, they
    belong to another request: undoing this one must not release them."""
    call(shop, "reserve_order", order, lines(shop, 3), "u")
    fails("SK007", call, shop, "reserve_order", order, lines(shop, 3, 1), "u")
    assert states(shop, order) == ["released", "reserved"] \
        or states(shop, order) == ["reserved"]
    assert shop.front.value(
        "SELECT quantity FROM stock_reservations WHERE order_id = %s"
        " AND state = 'reserved'", (order,)) == 3


def test_a_refusal_leaves_nothing(shop, order):
    rows = call(shop, "try_reserve_order", order, lines(shop, 1, 1000), "u")
    assert sorted(row["status"] for row in rows) == ["insufficient", "refused"]
    assert {row["granted"] for row in rows} == {0}
    assert set(states(shop, order)) == {"released"}
    assert saga(shop, order) == [("refused", None)]
    diag = fails("SK001", call, shop, "reserve_order", order,
                 lines(shop, 1, 1000), "u")
    assert "wanted 1000, available" in diag.message_detail
    assert set(states(shop, order)) == {"released"}
    unknown = json.dumps(json.loads(lines(shop, 1, 1, 1, 1)) + [
        {"product_id": f"unknown-{order}", "quantity": 1}])
    fails("SK002", call, shop, "reserve_order", order, unknown)
    fails("22P02", call, shop, "reserve_order", order, json.dumps(
        json.loads(lines(shop, 1)) + [dict(json.loads(lines(shop, 0, 1))[0],
                                           quantity=1.5)]))
    fails("22023", call, shop, "reserve_order", order, lines(shop, 1, 1), "u",
          "-1 hour")
    assert set(states(shop, order)) == {"released"}
    rows = call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert statuses(rows) == {"granted"}


def test_idempotency_keys(shop, order):
    args = ("u", None, "auto", f"key-{order}")
    small, large = lines(shop, 1, 1), lines(shop, 1, 1000)
    first = call(shop, "try_reserve_order", order, large, *args)
    again = call(shop, "try_reserve_order", order, large, *args)
    assert [row["status"] for row in first] == [row["status"] for row in again]
    assert all(row["replayed"] for row in again)
    fails("SK007", call, shop, "try_reserve_order", order, small, *args)
    fails("SK007", call, shop, "try_reserve_order", f"{order}-b", small, *args)
    args = ("u", None, "auto", f"key-2-{order}")
    call(shop, "reserve_order", order, small, *args)
    call(shop, "release_stock", order)
    rows = call(shop, "try_reserve_order", order, small, *args)
    assert statuses(rows) == {"released"} and rows[0]["granted"] == 0
    fails("SK005", call, shop, "reserve_order", order, small, *args)


@pytest.mark.parametrize("verb,after,again", [
    ("confirm_stock", "confirmed", "already"),
    ("release_stock", "released", "already"),
    ("rollback_stock", "rolled_back", "already")])
def test_settling(shop, order, verb, after, again):
    call(shop, "reserve_order", order, lines(shop, 1, 1, 1), "u")
    assert statuses(call(shop, verb, order)) == {after}
    assert states(shop, order) == [after] * 3
    assert saga(shop, order) == [(after, None)]
    rows = call(shop, verb, order)
    assert statuses(rows) == {again} and all(r["replayed"] for r in rows)


def test_what_a_state_refuses(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    fails("SK005", call, shop, "return_stock", order)
    call(shop, "confirm_stock", order)
    diag = fails("SK005", call, shop, "release_stock", order)
    assert diag.message_hint == ("Use rollback_stock for an order that is"
                                 " confirmed.")
    fails("SK004", call, shop, "confirm_stock", f"unknown-{order}")
    assert saga(shop, order) == [("confirmed", None)]


def test_pieces_come_back(shop, order):
    call(shop, "reserve_order", order, lines(shop, 3, 3), "u")
    call(shop, "confirm_stock", order)
    diag = fails("22023", call, shop, "return_stock", order,
                 lines(shop, 1, 4))
    assert diag.message_detail == "It holds 3."
    assert states(shop, order) == ["confirmed"] * 2     # in neither shard
    rows = call(shop, "return_stock", order, lines(shop, 1, 2))
    assert statuses(rows) == {"returned"}
    assert saga(shop, order) == [("confirmed", None)]
    rows = call(shop, "return_stock", order)
    assert sorted(row["granted"] for row in rows) == [1, 2]
    assert saga(shop, order) == [("returned", None)]


def test_an_order_of_several_calls_is_settled_as_one(shop, order):
    """Each reserve_stock() is a call to one shard; the call that settles the
    order makes it an order over shards."""
    for item in json.loads(lines(shop, 1, 1)):
        call(shop, "reserve_stock", item["product_id"], 1, order)
    assert saga(shop, order) == []
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}
    assert states(shop, order) == ["confirmed"] * 2
    assert saga(shop, order) == [("confirmed", None)]


def test_a_shortfall_in_one_shard_is_one_of_the_order(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    product = expire(shop, order, 1)
    rest = shop.front.value("SELECT available FROM stock_levels"
                            " WHERE product_id = %s", (product,))
    call(shop, "reserve_stock", product, rest + 1, f"rest-{order}")
    rows = call(shop, "confirm_stock", order, "payment")
    assert statuses(rows) == {"shortfall"} and len(rows) == 2
    assert {row["granted"] for row in rows} == {0}
    assert states(shop, order) == ["rolled_back", "shortfall"]
    assert saga(shop, order) == [("shortfall", None)]
    rows = call(shop, "confirm_stock", order, "payment")
    assert statuses(rows) == {"shortfall"}
    call(shop, "release_stock", f"rest-{order}")


def test_a_late_payment_takes_the_stock_again(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    expire(shop, order, 0)
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}
    assert states(shop, order) == ["confirmed"] * 2


def test_an_order_that_cannot_be_extended_everywhere_has_expired(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    expire(shop, order, 1)
    fails("SK006", call, shop, "extend_reservation", order, "1 hour")
    assert "reserved" not in [
        state for (state,) in shop.front.sql(
            "SELECT state FROM stock_reservations WHERE order_id = %s"
            " AND expires_at > now()", (order,))]
    assert saga(shop, order) == [("expired", None)]
    rows = call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert statuses(rows) == {"granted"}
    rows = call(shop, "extend_reservation", order, "2 hours")
    assert statuses(rows) == {"granted"} and len(rows) == 2


def test_two_callers_with_one_order(shop, order):
    """The same request is answered twice and reserved once; of two requests
    one is refused."""
    for n in range(10):
        items, name = lines(shop, 1, 1, 1), f"{order}-{n}"
        both = in_parallel(*[lambda: call(shop, "reserve_order", name, items,
                                          "u")] * 2)
        assert [statuses(rows) for rows in both] == [{"granted"}] * 2
        assert sorted(rows[0]["replayed"] for rows in both) == [False, True]
        other = lines(shop, 0, 1, 2)
        both = in_parallel(
            lambda: call(shop, "reserve_order", f"{name}-b", items, "u"),
            lambda: call(shop, "reserve_order", f"{name}-b", other, "u"))
        errors = [e for e in both if isinstance(e, psycopg2.Error)]
        assert [e.pgcode for e in errors] == ["SK007"]
        assert states(shop, f"{name}-b").count("reserved") in (2, 3)


def test_two_callers_settle_one_order(shop, order):
    for n in range(10):
        name = f"{order}-{n}"
        call(shop, "reserve_order", name, lines(shop, 1, 1, 1), "u")
        both = in_parallel(lambda: call(shop, "confirm_stock", name),
                           lambda: call(shop, "release_stock", name))
        after = set(states(shop, name))
        assert len(after) == 1, (both, after)
        errors = [e for e in both if isinstance(e, psycopg2.Error)]
        assert all(e.pgcode in ("SK005", "40001") for e in errors)
        assert saga(shop, name) == [(after.pop(), None)]


def test_steps_that_arrive_late_do_nothing(shop, order):
    """A session that ended long ago has sent a hold, a keep and a release that
    arrive only after the undo, or during the next reservation."""
    items = lines(shop, 1, 1)
    call(shop, "reserve_order", order, items, "u")
    old, shard = shop.front.sql("SELECT saga, shards[1] FROM stock_sagas"
                                " WHERE order_id = %s", (order,))[0]
    call(shop, "release_stock", order)
    call(shop, "reserve_order", order, items, "u")
    before = states(shop, order)
    part = json.dumps(json.loads(items)[:1])
    for step, verb in (1, "hold"), (2, "keep"), (3, "release"), (4, "undo"):
        assert take_in(shop.shards[shard], order, verb, step, shards=[shard],
                       parts=[part], saga=old) == "40001"
    assert states(shop, order) == before


def test_no_coordinator(shop, order):
    """The error says what to do next."""
    front = shop.front
    with closing(front.connect()) as conn, conn.cursor() as cur:
        cur.execute("SET pgstock.front_autonomous = on")
        cur.execute("DROP SERVER pgstock_coordinator CASCADE")
        with pytest.raises(psycopg2.Error) as error:
            cur.execute("SELECT reserve_order(%s, %s)",
                        (order, lines(shop, 1, 1)))
        conn.rollback()
    assert error.value.pgcode == "0A000"
    assert "set_coordinator" in error.value.diag.message_hint
    assert states(shop, order) == []


def test_what_an_operator_gives_up(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    fails("SK004", call, shop, "abandon_saga", order, "nothing to do")
    fails("22023", call, shop, "abandon_saga", order, "")
    shop.front.sql("UPDATE pgstock_front.saga SET verb = 'release',"
                   " due_at = now() + interval '1 hour'"
                   " WHERE order_id = %s", (order,))
    call(shop, "abandon_saga", order, "its shard is lost")
    ((state, error),) = shop.front.sql(
        "SELECT state, error FROM stock_sagas WHERE order_id = %s", (order,))
    assert state == "abandoned" and "its shard is lost" in error


def test_many_orders_in_one_call(shop, order):
    """Some in one shard, some in several, one refused, one malformed."""
    orders = [{"order_id": f"{order}-{n}", "user_id": "u",
               "items": json.loads(lines(shop, *counts))}
              for n, counts in enumerate([(1, 1), (1,), (1, 1000), (0, 1),
                                          (0, 1000), (1, 1, 1, 1)])]
    rows = call(shop, "reserve_orders", json.dumps(orders))
    assert [row["order_id"] for row in rows] == [
        one["order_id"] for one in orders for _ in one["items"]]
    assert [row["status"] for row in rows if row["granted"]] == [
        "granted"] * 8
    assert sorted(row["status"] for row in rows if not row["granted"]) == [
        "insufficient", "insufficient", "refused"]
    again = call(shop, "reserve_orders", json.dumps(orders))
    assert all(row["replayed"] for row in again if row["granted"])
    orders[0]["items"][0]["quantity"] = 2
    rows = call(shop, "reserve_orders", json.dumps(orders[:1]))
    assert statuses(rows) == {"already"}
    fails("22P02", call, shop, "reserve_orders", '[{"order_id": "x"}]')
    fails("22P02", call, shop, "reserve_orders", '[7]')
    fails("22023", call, shop, "reserve_orders", '[]')


def test_one_row_for_an_order(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 2, 3), "u")
    query = ("SELECT state, lines, quantity, user_id, shard FROM stock_orders"
             " WHERE order_id = %s")
    assert shop.front.sql(query, (order,)) == [("reserved", 3, 6, "u", None)]
    call(shop, "confirm_stock", order)
    assert shop.front.sql(query, (order,)) == [("confirmed", 3, 6, "u", None)]
    history = call(shop, "order_history", order)
    assert [row["at"] for row in history] == sorted(
        row["at"] for row in history)
    assert len({row["product_id"] for row in history
                if row["kind"] == "movement"}) == 3


def test_rights(shop, order):
    """The levels of access, and the caller's name in the ledger."""
    app = shop.add_role(f"app-{order}", "app")
    reader = shop.add_role(f"reader-{order}", "reader")
    front = shop.front
    assert front.sql("SELECT status FROM reserve_order(%s, %s)",
                     (order, lines(shop, 1, 1)), user=app) == [
                         ("granted",)] * 2
    front.sql("SELECT confirm_stock(%s)", (order,), user=app)
    front.sql("SELECT sweep_orders()", user=app)
    assert front.sql("SELECT DISTINCT actor FROM stock_movements"
                     " WHERE order_id = %s", (order,)) == [(app,)]
    query = "SELECT state FROM stock_sagas WHERE order_id = %s"
    assert front.sql(query, (order,), user=reader) == [("confirmed",)]
    for user, statement in [
            (reader, f"SELECT rollback_stock('{order}')"),
            (reader, "SELECT sweep_orders()"),
            (app, f"SELECT abandon_saga('{order}', 'x')"),
            (app, "SELECT * FROM pgstock_front.saga"),
            (app, "SELECT pgstock_front.saga_end_call('(x,1,1,,)')"),
            (app, "SELECT pgstock_front.ask_abandon('x', 'y', 'z')")]:
        fails("42501", lambda u, s: front.sql(s, user=u), user, statement)
    shard = shop.shards[0]
    for call_ in ("fence()", "part_purge(now())", "part_place('x')",
                  "part_key('x')", "sale_state('x')",
                  "sale_old_moves(now())", "sale_delete_arrivals('{}')",
                  "sale_delete_moves('{}')"):
        fails("42501", lambda c: shard.sql(f"SELECT pgstock_shard.{c}",
                                           user=app), call_)


def test_the_service_sweeps(shop, order):
    """psql runs with the options and the input of the unit file, and exits at
    the first error, so that systemd starts it again."""
    unit = SWEEPER.read_text("utf-8").replace("\\\n", "")
    args = re.search(r"ExecStart=/usr/bin/psql (.*?)\s-d", unit).group(1)
    text = "".join(line.replace("\\\\", "\\") + "\n" for line in re.findall(
        r"StandardInputText=(.*)", unit))
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    shop.front.sql("UPDATE pgstock_front.saga SET verb = 'release',"
                   " step = step + 1, step_shards = shards, step_parts ="
                   " array_fill('null'::jsonb, ARRAY[cardinality(shards)]),"
                   " due_at = now() WHERE order_id = %s", (order,))
    database = shop.front
    with subprocess.Popen(
            [database.pg.bin("psql"), *args.split(), "-d",
             f"host=127.0.0.1 port={database.pg.port} dbname={database.name}"
             " user=postgres"], stdin=subprocess.PIPE, text=True,
            stderr=subprocess.PIPE) as psql:
        psql.stdin.write(text)
        psql.stdin.close()
        wait_until(lambda: saga(shop, order) == [("released", None)], 20,
                   "the order was not released")
        database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE query LIKE '%sweep_orders%'"
                     " AND pid <> pg_backend_pid()")
        assert psql.wait(30) != 0
