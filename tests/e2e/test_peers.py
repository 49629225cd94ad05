# SPDX-License-Identifier: PostgreSQL
"""P4: either peer may be unreachable, at the start or at any moment after.

That is a state of the relay, not its end; the relay reports it, and continues
by itself. The callers of reserve_stock notice nothing.
"""

import json
import os
import random
import time
from contextlib import closing

import pytest

from checks import check_all, inbox_results, of_type
from cluster import HOST
from process import Proxy, wait_until
from test_inbox import QUICK, TOPICS, handled, order, put


@pytest.fixture
def link(pg):
    """A link to the database that can be cut."""
    proxy = Proxy(pg.port)
    yield proxy
    proxy.close()


def reserve(db, name):
    db.sql("SELECT reserve_stock('book', 1, %s)", (name,))


def broker_up(relay):
    outbox = json.loads(relay.get("/status")[1])["components"]["outbox"]
    return outbox["broker_up"]


def wait_reserved(tail, count, timeout=20):
    tail.until(lambda r: len(of_type(r, "StockReserved")) >= count, timeout,
               f"{count} reservations")


def test_both_away_at_start(db, kafka, link, start_relay):
    link.cut()
    kafka.proxy.cut()
    relay = start_relay(conninfo=db.conninfo(link.port),
                        brokers=kafka.proxied_brokers, wait="/livez")
    status, body = relay.get("/readyz")
    assert status == 503 and body.strip()
    db.sql("SELECT receive_stock('book', 100)")
    reserve(db, "o-1")
    link.restore()
    wait_until(lambda: "outbox: connected" in relay.log(), 20,
               lambda: relay.tail())
    assert relay.get("/readyz")[0] == 503
    assert relay.get("/livez")[0] == 200
    kafka.proxy.restore()
    relay.wait_ok("/readyz")
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 1)
        check_all(db, tail)


@pytest.mark.alone
def test_broker_away_costs_callers_nothing(db, kafka, start_relay):
    """The promise: reserve_stock needs nothing of Kafka. The slowest call
    while the broker is cut off is nowhere near any timeout."""
    db.sql("SELECT receive_stock('book', 10000)")
    relay = start_relay(brokers=kafka.proxied_brokers)
    slowest = {}
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for state in ("there", "away"):
            if state == "away":
                kafka.proxy.cut()
            slowest[state] = 0
            for number in range(1000):
                began = time.monotonic()
                cur.execute("SELECT reserve_stock('book', 1, %s)",
                            (f"{state}-{number}",))
                slowest[state] = max(slowest[state],
                                     time.monotonic() - began)
    print(f"slowest call: {slowest}")
    assert slowest["away"] < 0.5
    assert relay.get("/livez")[0] == 200
    kafka.proxy.restore()
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 2000)
        check_all(db, tail)


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_broker_comes_and_goes(db, kafka, start_relay, how):
    """Cut: connections break. Stall: they stay, and nothing moves, which only
    a timer can detect."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay({"kafka": {"socket.timeout.ms": 1000}},
                        brokers=kafka.proxied_brokers)
    for turn in range(3):
        wait_until(lambda: broker_up(relay), 30, relay.tail)
        for number in range(20):
            if number == 10:
                getattr(kafka.proxy, how)()
            reserve(db, f"o-{turn}-{number}")
        wait_until(lambda: not broker_up(relay), 30, relay.tail)
        kafka.proxy.restore()
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 60, 60)
        check_all(db, tail)


def test_database_restarted(db, pg, kafka, start_relay):
    """Fast, immediate, and with transactions under way: the relay is ready
    again, without an operator, as soon as the database is."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(topics=["order-created"])
    reserve(db, "o-1")
    pg.restart()
    reserve(db, "o-2")
    relay.wait_ok("/readyz")
    pg.stop()
    wait_until(lambda: relay.get("/readyz")[0] == 503, 15, "not ready")
    assert relay.get("/livez")[0] == 200
    pg.start()
    reserve(db, "o-3")
    out = kafka.producer()
    out.produce("order-created", key=b"o-4", value=b'{"order_id": "o-4",'
                b' "items": [{"product_id": "book", "quantity": 1}]}')
    out.flush()
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 4)
        check_all(db, tail)


def test_stalled_database(db, kafka, link, start_relay):
    """The network drops every packet to the database: the relay must not wait
    for ever on a connection that will never answer, nor must the server keep
    the lead for it."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(conninfo=db.conninfo(link.port))
    link.stall()
    reserve(db, "o-1")
    wait_until(lambda: relay.get("/readyz")[0] == 503, 40, "it notices")
    assert relay.get("/livez")[0] == 200
    link.cut()
    link.restore()
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 1)
        check_all(db, tail)


def test_a_server_that_is_frozen(db, kafka, link, start_relay):
    """The first of two servers takes connections, as the kernel of a frozen
    machine does, and answers nothing: the other one is tried all the same."""
    db.sql("SELECT receive_stock('book', 100)")
    link.stall()
    start_relay(conninfo=db.conninfo(
        host=f"{HOST},{HOST}", port=f"{link.port},{db.pg.port}",
        connect_timeout=2))
    reserve(db, "o-1")
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 1)
        check_all(db, tail)


def test_second_relay_stands_by(db, kafka, start_relay):
    """Two relays on one outbox publish each event once; when the leader is
    killed the other one leads, with nothing lost."""
    db.sql("SELECT receive_stock('book', 1000)")
    first = start_relay({"outbox": {"poll_interval": "200ms"}})
    wait_until(lambda: first.metric("leader") == 1, 20, first.tail)
    other = start_relay({"outbox": {"poll_interval": "200ms"}})
    assert (first.metric("leader"), other.metric("leader")) == (1, 0)
    for number in range(20):
        reserve(db, f"o-{number}")
    with kafka.tail("stock-events") as tail:
        wait_reserved(tail, 20)
        assert len(tail.read_to_end()) == 21
        first.kill9()
        for number in range(20):
            reserve(db, f"p-{number}")
        wait_reserved(tail, 40)
        assert other.metric("leader") == 1
        check_all(db, tail)


RESETS = int(os.environ.get("PGSTOCK_RESETS") or 8)


def test_resets_give_no_healthy_message_up(db, kafka, link, start_relay):
    """The link is reset again and again, most often just after a commit: the
    answer to it is lost. A message whose try was begun then is no message that
    kills processes: none is dead, and each takes effect once."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    rng = random.Random(seed)
    total = 100 * RESETS
    db.sql("SELECT receive_stock('book', 1000000)")
    start_relay(QUICK, topics=TOPICS, conninfo=db.conninfo(link.port))
    for sent in range(0, total, 100):
        put(kafka, *[("order-created", order(n))
                     for n in range(sent, sent + 100)])
        place = sent + rng.randrange(100)
        wait_until(lambda p=place: db.value("SELECT count(*) FROM stock_inbox")
                   > p, 60, lambda: inbox_results(db))
        link.cut()
        link.restore()
    handled(db, total, 60)
    assert inbox_results(db) == {"applied": total}
    assert db.value("SELECT count(*) FROM stock_failed_events") == 0
    assert db.level("book") == (1000000, total, 1000000 - total)
