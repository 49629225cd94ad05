# SPDX-License-Identifier: PostgreSQL
"""History ends with a TRUNCATE or a DROP: the ledger still adds up, no session
waits, and an order past pgstock.confirmed_retention is unknown."""

import os
import threading
from contextlib import closing

import psycopg2
import pytest

from cluster import Postgres
from load import Clients
from process import wait_until

PRELOAD = {"shared_preload_libraries": "pgstock"}
NO_WAIT_MS = 500                    # a writer waits for other writers, not so
MONTHS = ("SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE"
          " i.inhparent = 'pgstock_internal.reservation_history'::regclass"
          " ORDER BY 1")


@pytest.fixture(scope="module")
def server(new_dir):
    one = Postgres(new_dir("postgres-retention"),
                   PRELOAD).init().start()
    yield one
    one.close()


@pytest.fixture
def shop(server):
    db = server.create_database("shop")
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(0, 99) i")
    yield db
    settings(db, history="90d", confirmed="0")
    drift = db.drift()
    db.drop()
    assert drift == []


def settings(db, history, confirmed):
    for name, value in (("history_retention", history),
                        ("confirmed_retention", confirmed)):
        db.sql(f"ALTER SYSTEM SET pgstock.{name} = '{value}'")
    db.sql("SELECT pg_reload_conf()")
    wait_until(lambda: db.value("SELECT setting FROM pg_settings WHERE name ="
                                " 'pgstock.confirmed_retention'")
               == db.value("SELECT extract(epoch FROM %s::interval)::int::text",
                           (confirmed,)), 10, "the settings")


def sell(db, order, days):
    """An order that was confirmed so many days ago."""
    db.sql("SELECT reserve_stock('p1', 3, %s), confirm_stock(%s)",
           (order, order))
    db.sql("UPDATE pgstock_internal.reservation SET confirmed_at ="
           " confirmed_at - %s * interval '1 day' WHERE order_id = %s",
           (days, order))


def upkeep(db):
    """Until there is nothing left to do."""
    wait_until(lambda: db.value("SELECT pgstock_internal.keeper_purge(1000)")
               == 0, 30, "the upkeep")


def error_of(db, query):
    with pytest.raises(psycopg2.Error) as failure:
        db.sql(query)
    return failure.value.pgcode, failure.value.diag.message_detail


def test_confirmed_retention(shop, server, run):
    """By default all orders stay. Otherwise they move to months, come back for
    a call, are part of a dump, and end with a DROP."""
    for order, days in (("new", 1), ("old", 100), ("older", 300),
                        ("ancient", 800)):
        sell(shop, order, days)
    upkeep(shop)
    assert shop.sql(MONTHS) == [], "by default all orders stay"
    settings(shop, history="90d", confirmed="730d")
    assert error_of(shop, "SELECT return_stock('none')") == (
        "SK004", "Confirmed orders are kept for 730d"
                 " (pgstock.confirmed_retention).")
    shop.sql("SELECT pgstock_internal.retire_orders(now() - interval '90 d',"
             " 9)")
    assert len(shop.sql(MONTHS)) == 3
    assert shop.sql("SELECT order_id, state FROM stock_reservations"
                    " ORDER BY 1") == [(order, "confirmed") for order in (
                        "ancient", "new", "old", "older")]
    assert error_of(shop, "SELECT return_stock('ancient')")[0] == "SK004"
    assert error_of(shop, "SELECT confirm_stock('ancient')")[0] == "SK004"
    for verb in ("rollback_stock", "release_stock"):
        assert shop.sql(f"SELECT status, granted FROM {verb}('ancient')") == [
            ("unknown_order", 0)]

    path = os.path.join(run, "retention.dump")
    server.dump(shop.name, path)
    copy = server.create_database("retention_copy", extension=False)
    server.restore(copy.name, path)
    assert copy.sql(MONTHS) == shop.sql(MONTHS)
    copy.sql("SELECT pgstock_internal.relay_adopt(true)")
    assert copy.value("SELECT status FROM return_stock('older')") == "returned"
    upkeep(copy)
    assert copy.drift() == []
    copy.sql("DROP EXTENSION pgstock")
    assert copy.sql("SELECT relname FROM pg_class WHERE relname ~"
                    " 'history|movement'") == []
    copy.drop()

    upkeep(shop)
    assert len(shop.sql(MONTHS)) == 2, "the month of the third is dropped"
    assert shop.value("SELECT status FROM return_stock('old', %s)", (
        '[{"product_id": "p1", "quantity": 1}]',)) == "returned"
    assert shop.value("SELECT status FROM rollback_stock('older')") == (
        "rolled_back")
    assert shop.level("p1") == (999992, 0, 999992)
    upkeep(shop)
    assert shop.sql("SELECT order_id FROM pgstock_internal.reservation_history"
                    ) == [("old",)]


def parts(db):
    return dict(db.sql("SELECT part, state"
                       " FROM pgstock_internal.movement_part"))


def trade(cur, name):
    cur.execute(f"SET LOCAL lock_timeout = {NO_WAIT_MS}")
    cur.execute("SELECT reserve_stock('p' || (random() * 99)::int, 1, %s),"
                " confirm_stock(%s)", (name, name))


def test_the_ledger_under_load(shop):
    """The races: a part is truncated while a proof of the ledger that began
    before still needs its rows, or is folded while a writer that began before
    still inserts there. Either way the books seem wrong. And pg_dump locks all
    parts: no writer waits behind it."""
    settings(shop, history="3s", confirmed="8s")
    wrong = []
    stop = threading.Event()

    def prove():
        while not stop.is_set():
            wrong.extend(shop.drift())

    def work():         # as the worker does, but more often
        while not stop.wait(0.02):
            shop.sql("SELECT pgstock_internal.keeper_purge(1000)")
            shop.sql("SELECT pgstock_internal.retire_orders("
                     "clock_timestamp() - interval '2 s', 1000)")

    threads = [threading.Thread(target=run) for run in (prove, work)]
    for thread in threads:
        thread.start()
    try:
        with Clients(shop, 4, trade) as clients:
            seen = set()

            def turned():
                seen.update(parts(shop).items())
                return {part for part, state in seen if state == "f"} >= {1, 2}

            wait_until(turned, 60, lambda: f"parts turn: {sorted(seen)}")
            with closing(shop.connect()) as dump, dump.cursor() as cur:
                cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cur.execute("LOCK TABLE pgstock_internal.movement,"
                            " pgstock_internal.reservation_history"
                            " IN ACCESS SHARE MODE")
                (now,) = [part for part, state in parts(shop).items()
                          if state == "w"]
                wait_until(lambda: parts(shop).get(now) == "f", 60,
                           lambda: f"folded, not truncated: {parts(shop)}")
                assert shop.value("SELECT count(*) FROM pgstock_internal."
                                  f"movement_{now}") > 0
                dump.rollback()
            wait_until(lambda: shop.sql(MONTHS), 30, "orders are retired")
            clients.stop()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    sold = shop.value("SELECT sum(1000000 - on_hand) FROM stock_levels")
    assert sold == len(set(clients.acknowledged))
    print(f"{sold} orders; parts {sorted(seen)}")
