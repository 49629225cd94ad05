# SPDX-License-Identifier: PostgreSQL
"""Another session keeps a lock that messages need: those messages wait,
graded, and no others do."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg2
import pytest

from checks import check_all, inbox_results
from kafkaio import delivered, send
from process import wait_until

TOPICS = ["order-created", "payment-success"]


@contextmanager
def held(db, *statements):
    """An application that forgets to commit."""
    conn = db.connect()
    try:
        with conn.cursor() as cur:
            for statement in statements:
                cur.execute(statement)
        yield conn
    finally:
        conn.close()


def order(kafka, *orders):
    """Send (order id, product, key) as order-created."""
    out = kafka.producer()
    for order_id, product, key in orders:
        send(out, "order-created", {
            "order_id": order_id, "event_id": f"created-{order_id}",
            "items": [{"product_id": product, "quantity": 1}]}, key=key)
    delivered(out)


def reserved(db, product):
    return db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE product_id = %s AND state = 'reserved'",
                    (product,))


def test_one_product_is_locked(db, kafka, start_relay):
    """Every second order wants a product that an open transaction has locked.
    Messages that share a key with one of them queue behind it, all others are
    answered; after the commit the waiting ones are answered too."""
    db.sql("SELECT receive_stock(p, 1000) FROM unnest('{book,pen}'::text[]) p")
    relay = start_relay({"inbox": {"retry_delays": "1s, 1s, 60s"}},
                        topics=TOPICS)
    with held(db, "SELECT reserve_stock('book', 1, 'app')"):
        order(kafka, *[(f"{product}-{n}", product, f"k-{n}".encode())
                       for n in range(100) for product in ("book", "pen")])
        began = time.monotonic()
        wait_until(lambda: inbox_results(db).total() == 200, 60,
                   lambda: f"{inbox_results(db)}\n{relay.tail()}")
        assert time.monotonic() - began < 50
        assert reserved(db, "book") == 0
        rows = db.sql("SELECT sqlstate, class, count(*)"
                      " FROM pgstock_internal.failed_event"
                      " WHERE state = 'waiting' GROUP BY 1, 2")
        assert {(s, c) for s, c, _ in rows} <= {("55P03", "retry"),
                                                (None, "queue")}
        assert reserved(db, "pen") == 0, "they queue"
        order(kafka, *[(f"more-{n}", "pen", b"m-%d" % n) for n in range(50)])
        wait_until(lambda: reserved(db, "pen") >= 50, 30,
                   lambda: f"others flow: {inbox_results(db)}")
        wait_until(lambda: relay.metric("inbox_waiting_keys") == 100, 20,
                   lambda: relay.get("/metrics")[1])
        assert "applying messages one by one" in relay.log()
    db.sql("SELECT retry_failed_event(id) FROM stock_failed_events"
           " WHERE state = 'waiting'")
    wait_until(lambda: (reserved(db, "book"), reserved(db, "pen"))
               == (100, 150), 60, lambda: f"{inbox_results(db)}")
    assert inbox_results(db) == {"applied": 250}
    assert relay.metric("order_answer_seconds_count") == 250
    assert relay.metric("order_answer_seconds_sum") > 100 * 5, (
        "the time that they waited is in it")
    assert relay.metric("inbox_attempts_bucket", le="1") < 250
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)


def test_one_order_is_locked(db, kafka, start_relay):
    """The same for an order that an open transaction is about to change."""
    db.sql("SELECT receive_stock('book', 10), reserve_stock('book', 1, 'o-1'),"
           " reserve_stock('book', 1, 'o-2')")
    start_relay({"inbox": {"retry_delays": "1s, 1s, 1s, 1s, 1s, 1s"}},
                topics=TOPICS)
    with held(db, "SELECT pg_advisory_xact_lock(1)",
              "SELECT extend_reservation('o-1', '1h')") as conn:
        out = kafka.producer()
        for n in (1, 2):
            send(out, "payment-success", {"order_id": f"o-{n}",
                                          "event_id": f"paid-{n}"},
                 key=b"o-%d" % n)
        delivered(out)
        wait_until(lambda: db.value(
            "SELECT count(*) FROM stock_failed_events WHERE state = 'waiting'"
            " AND order_id = 'o-1'") == 1, 40, lambda: str(inbox_results(db)))
        conn.commit()
    wait_until(lambda: inbox_results(db) == {"applied": 2}, 30,
               lambda: str(inbox_results(db)))


def test_a_lock_that_stays(db, kafka, start_relay):
    """After the last try the message is dead-lettered like any other, and an
    operator can retry it."""
    db.sql("SELECT receive_stock('book', 10)")
    relay = start_relay({"inbox": {"retry_delays": "100ms, 100ms"}},
                        topics=TOPICS)
    with held(db, "SELECT reserve_stock('book', 1, 'app')"):
        order(kafka, ("o-1", "book", b"k"))
        wait_until(lambda: inbox_results(db) == {"dead": 1}, 60,
                   lambda: f"{inbox_results(db)}\n{relay.tail()}")
        assert db.sql("SELECT attempts, class, sqlstate"
                      " FROM pgstock_internal.failed_event") == [
            (3, "retries", "55P03")]
    assert relay.command("failed", "retry", "--sqlstate", "55P03",
                         "--reason", "the report has ended").returncode == 0
    wait_until(lambda: reserved(db, "book") == 1, 20, "it is reserved")


def test_a_long_call_can_be_ended(db):
    """An order of many lines holds row locks: an administrator can end its
    session at any moment, and nothing of it stays."""
    db.sql("SELECT count(receive_stock('p' || i, 9))"
           " FROM generate_series(1, 20000) i")
    busy = []

    def reserve():
        with contextlib.closing(db.connect()) as conn, conn.cursor() as cur:
            cur.execute("SET pgstock.max_lines = 100000;"
                        " SELECT pg_backend_pid()")
            busy.append(cur.fetchone()[0])
            cur.execute("SELECT count(*) FROM reserve_order('o', (SELECT"
                        " jsonb_agg(jsonb_build_object('product_id', 'p' || i,"
                        " 'quantity', 1)) FROM generate_series(1, 20000) i))")

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reserve)
        wait_until(lambda: busy and db.value(
            "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype ="
            " 'relation' AND relation = 'pgstock_internal.level'::regclass",
            (busy[0],)) == 1, 20, "it has begun")
        begun = time.monotonic()
        db.sql("SELECT pg_terminate_backend(%s)", (busy[0],))
        with pytest.raises(psycopg2.OperationalError):
            call.result()
        assert time.monotonic() - begun < 5
    assert db.value("SELECT sum(reserved) FROM stock_levels") == 0
    assert db.drift() == []
