# SPDX-License-Identifier: PostgreSQL
"""One order, one answer: order_history, pgstock-relay order, and what works on
a hot standby."""

import json
import os
from contextlib import closing

import psycopg2
import pytest

from cluster import Postgres
from kafkaio import delivered, send
from process import wait_until
from test_standby import Pair

OK, RUNTIME, USAGE = range(3)
HOSTILE = "gone\x1b[2J\nforged line\u202etxt"


def history(db, order):
    return db.sql("SELECT kind, what, detail FROM order_history(%s)", (order,))


def steps(db, order, *kinds):
    return [(kind, what) for kind, what, _ in history(db, order)
            if not kinds or kind in kinds]


def deliver(kafka, topic, **value):
    out = kafka.producer()
    send(out, topic, json.dumps(value).encode(), key=value["order_id"].encode())
    delivered(out)


def wait_steps(db, order, n):
    wait_until(lambda: len(steps(db, order)) >= n, 30,
               lambda: f"{n} steps, not {steps(db, order)}")


def test_every_path_names_each_step_once(db, kafka, start_relay):
    """An order that arrives by Kafka, is paid, partly returned and returned;
    its timeline has each message, movement and event once, published."""
    db.sql("SELECT receive_stock('book', 10), receive_stock('pen', 10)")
    start_relay(topics=("order-created", "payment-success", "order_failed"))
    order = "4711"
    deliver(kafka, "order-created", order_id=order, event_id="m1",
            trace_id="t9", user_id="ann",
            items=[{"product_id": "book", "quantity": 2},
                   {"product_id": "pen", "quantity": 1}])
    wait_steps(db, order, 6)
    deliver(kafka, "payment-success", order_id=order, event_id="m2",
            payment_id="p1", trace_id="t9")
    wait_steps(db, order, 10)
    db.sql("SELECT return_stock(%s, '[{\"product_id\": \"pen\","
           " \"quantity\": 1}]')", (order,))
    deliver(kafka, "order_failed", order_id=order, event_id="m3")
    wait_steps(db, order, 15)

    def all_published():
        return all(detail["published"] for kind, _, detail
                   in history(db, order) if kind == "event")
    wait_until(all_published, 30, "its events are published")
    assert steps(db, order, "message", "movement", "event") == [
        ("message", "order-created"), ("movement", "reserved"),
        ("movement", "reserved"), ("event", "StockReserved"),
        ("message", "payment-success"), ("movement", "confirmed"),
        ("movement", "confirmed"), ("event", "StockConfirmed"),
        ("movement", "returned"), ("event", "StockReturned"),
        ("message", "order_failed"), ("movement", "rolled_back"),
        ("event", "StockRolledBack")]
    traces = db.sql("SELECT DISTINCT trace_id FROM order_history(%s) WHERE"
                    " what IN ('order-created', 'reserved', 'StockReserved')"
                    " AND kind <> 'reservation'", (order,))
    assert traces == [("t9",)]


def test_the_command(db, kafka, relays):
    """A timeline whose texts of foreign origin are made safe, with the rights
    of the level relay; JSON; an unknown order."""
    db.sql("SELECT receive_stock('book', 10)")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    db.sql("SELECT release_stock('o-1', %s)", (HOSTILE,))
    db.sql("CREATE ROLE order_relay LOGIN")
    db.sql("SELECT grant_stock_access('order_relay', 'relay')")
    try:
        relay = relays(db.conninfo(user="order_relay"), kafka.brokers)
        done = relay.command("order", "o-1")
        assert done.returncode == OK, done.stderr
        lines = done.stdout.splitlines()
        assert [line.split()[1:3] for line in lines] == [
            ["reservation", "released"], ["movement", "reserved"],
            ["event", "StockReserved"], ["movement", "released"],
            ["event", "StockReleased"]]
        assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
        assert "1 x book@main" in lines[1] and "pending" in lines[2]
        done = relay.command("order", "o-1", "--json")
        assert done.returncode == OK and done.stdout.count("\n") == 1
        found = json.loads(done.stdout)
        assert found["order_id"] == "o-1" and len(found["history"]) == 5
        assert found["history"][1]["quantity"] == 1
        assert found["history"][0]["detail"]["reason"].startswith("gone")
        done = relay.command("order", "o-2")
        assert done.returncode == RUNTIME and "o-2" in done.stderr
        assert not done.stdout
        for wrong in ([], ["a", "b"], ["a", "--csv"]):
            done = relay.command("order", *wrong)
            assert done.returncode == USAGE and not done.stdout
    finally:
        db.sql("SELECT grant_stock_access('order_relay', 'none')")
        db.sql("DROP ROLE order_relay")


def test_on_a_standby(run, new_dir):
    """What reads only answers there; wait_for_event says that it cannot."""
    with closing(Pair(Postgres(new_dir("order-primary")),
                      os.path.join(run, "order-standby"),
                      synchronous=False)) as pair:
        event = pair.db.value("SELECT publish_event('t', 'o-1', '{}')")
        pair.db.sql("SELECT reserve_stock('book', 2, 'o-1')")
        copy = pair.copy
        wait_until(lambda: copy.value("SELECT to_regclass('stock_orders')"), 30,
                   "the standby has the extension")
        wait_until(lambda: copy.value("SELECT count(*) FROM stock_orders"
                                      " WHERE order_id = 'o-1'") == 1, 30,
                   "the standby has the order")
        assert copy.sql(
            "SELECT product_id, location, requested, available, fits FROM"
            " check_availability('[{\"product_id\": \"book\","
            " \"quantity\": 5}]')") == [("book", "main", 5, 999998, True)]
        assert copy.value("SELECT state FROM event_status(%s)",
                          (event,)) == "pending"
        assert steps(copy, "o-1") == steps(pair.db, "o-1")
        with pytest.raises(psycopg2.Error) as failed:
            copy.sql("SELECT wait_for_event(%s, '1 s')", (event,))
        assert failed.value.pgcode == "55000"
        assert "standby" in str(failed.value)
