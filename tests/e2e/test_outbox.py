# SPDX-License-Identifier: PostgreSQL
"""P2: a committed change has its events, a rolled-back one has none."""

import json
import statistics
import time
from contextlib import closing

import pytest

from checks import check_all, of_type, wait_complete
from process import wait_until

TRIES = 50


@pytest.fixture
def orders(db):
    """The application's own table, beside pgstock's."""
    db.sql("CREATE TABLE orders (id text PRIMARY KEY)")
    db.sql("SELECT receive_stock('book', 1000)")
    return db


def order(cur, name):
    cur.execute("INSERT INTO orders VALUES (%s)", (name,))
    cur.execute("SELECT reserve_stock('book', 1, %s)", (name,))


def test_rollback_leaves_nothing(orders, kafka, start_relay):
    """The promise: stock, order and event are one transaction. A relay that
    read uncommitted rows, or a NOTIFY that outlived its transaction, would
    announce an order that never existed."""
    start_relay({"outbox": {"poll_interval": "100ms"}})
    with closing(orders.connect()) as conn, conn.cursor() as cur:
        order(cur, "never")
        conn.rollback()
        order(cur, "real")
        conn.commit()
    assert orders.level("book") == (1000, 1, 999)
    assert orders.sql("SELECT id FROM orders") == [("real",)]
    assert orders.value("SELECT count(*) FROM stock_movements"
                        " WHERE order_id = 'never'") == 0
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: of_type(r, "StockReserved"), 10, "the event")
        assert [r.key for r in of_type(tail.read_to_end(),
                                       "StockReserved")] == [b"real"]
        check_all(orders, tail)


def test_very_first_event(db, kafka, start_relay):
    """The race: the relay reads an outbox that no event was ever written to. A
    sequence shows 1 before its first number and after it; a relay that
    confuses the two skips the first event."""
    relay = start_relay({"outbox": {"poll_interval": "10ms"}})
    before = relay.metric("wakeups_total")
    wait_until(lambda: relay.metric("wakeups_total") > before + 20, 10,
               "the relay has looked, and looked again")
    db.sql("SELECT publish_event('stock-events', 'first', '{}')")
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 10)


def test_savepoints(orders, kafka, start_relay):
    """Events of a rolled-back savepoint are gone, those beside it are not;
    both share one transaction id, so only visibility distinguishes them."""
    start_relay()
    with closing(orders.connect()) as conn, conn.cursor() as cur:
        order(cur, "first")
        cur.execute("SAVEPOINT s")
        order(cur, "undone")
        cur.execute("ROLLBACK TO s")
        order(cur, "second")
        cur.execute("SAVEPOINT t")
        order(cur, "third")
        cur.execute("RELEASE t")
        conn.commit()
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(of_type(r, "StockReserved")) == 3, 10,
                   "three events")
        assert {r.key for r in of_type(tail.read_to_end(), "StockReserved")
                } == {b"first", b"second", b"third"}
        check_all(orders, tail)
    assert orders.level("book") == (1000, 3, 997)


@pytest.mark.alone
def test_in_kafka_within_50_ms_of_commit(orders, kafka, start_relay):
    """The promise: an event is in Kafka within 50 ms of its commit. The poll
    is too slow to help (60 s), so it is the wake-up that counts. The time is
    the broker's own append time, against the moment just before COMMIT was
    sent. Best of three rounds: the machine is shared."""
    kafka.alter_topic("stock-events", message_timestamp_type="LogAppendTime")
    start_relay({"outbox": {"poll_interval": "60s"}})
    worst = []
    with kafka.tail("stock-events") as tail:
        for number in range(3):
            late = commit_to_append_ms(orders, tail, f"round-{number}")
            print(f"commit to append: median {statistics.median(late):.1f} ms,"
                  f" max {max(late):.1f} ms")
            worst.append(max(late))
            assert statistics.median(late) < 20
            if worst[-1] < 50:
                return
    assert min(worst) < 50


def commit_to_append_ms(db, tail, name):
    committed = {}
    with closing(db.connect()) as conn, conn.cursor() as cur:
        for number in range(TRIES):
            # so that each is a wake-up of its own
            wait_until(db.relay_sleeps, 10, "the relay sleeps")
            order(cur, f"{name}-{number}")
            committed[f"{name}-{number}".encode()] = time.time() * 1000
            conn.commit()

    def mine(records):
        return [r for r in records if r.key in committed]

    tail.until(lambda r: len(mine(r)) == TRIES, 10, "all events")
    return [r.timestamp_ms - committed[r.key] for r in mine(tail.records)]


def test_every_notify_dropped(orders, kafka, start_relay):
    """The table is the truth, NOTIFY only a hint: with every one of them
    dropped, the poll finds the committed events."""
    orders.sql(f'ALTER DATABASE "{orders.name}" SET pgstock.notify = off')
    relay = start_relay({"outbox": {"poll_interval": "200ms"}})
    with kafka.tail("stock-events") as tail:
        tail.read_to_end()
        notified = []       # at first by the relay's test of itself
        for number in range(20):
            orders.sql("SELECT reserve_stock('book', 1, %s)", (f"o-{number}",))
            tail.until(lambda r, n=number: len(of_type(r, "StockReserved"))
                       == n + 1, 5, "the event by the poll")
            notified.append(relay.metric("wakeups_total", cause="notify"))
        assert notified == 20 * notified[:1]
        check_all(orders, tail)


def test_backlog_from_before_the_relay(orders, kafka, start_relay):
    """Events wait in the table for a relay that starts later, however many
    pages they fill, and one huge transaction is not special."""
    with closing(orders.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT count(publish_event('stock-events', 'k' || i % 7,"
                    " jsonb_build_object('i', i)))"
                    " FROM generate_series(1, 30000) i")
        conn.commit()
    start_relay()
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 30001, 30, "the whole backlog")
        check_all(orders, tail)
        by_key = {}
        for record in tail.records:
            if record.key != b"book":
                by_key.setdefault(record.key, []).append(record.json["i"])
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
        assert json.loads(tail.records[0].value)


def test_topic_that_has_just_been_made(db, kafka, start_relay):
    """The race: a topic is known, but not all of its many partitions have a
    leader yet. The first batch of a partition is refused and the second,
    already on its way, is not; a relay that takes the second's success for the
    first's too has lost the first events of a key."""
    start_relay()
    topics = [f"wide-{number}" for number in range(8)]
    for topic in topics:
        kafka.create_topics(topic, partitions=200)
        with closing(db.connect()) as conn, conn.cursor() as cur:
            for _ in range(50):
                cur.execute("SELECT count(publish_event(%s, 'k' || i, '{}'))"
                            " FROM generate_series(1, 40) i", (topic,))
                conn.commit()
    with kafka.tail(*topics) as tail:
        check_all(db, tail)


@pytest.mark.parametrize("large", ("payload", "headers", "key", "type"))
def test_large_events_after_small_ones(db, kafka, start_relay, large):
    """Memory is bounded by bytes, not by the number of rows that fitted last
    time: a thousand small events, then as many of 900 kB as would fill a page
    of a thousand rows.  Key and type are sent twice.  What server and relay
    count is the same, or the relay would take a full page for the last one."""
    relay = start_relay({"outbox": {"batch_rows": "1000"}})
    kafka.create_topics("pictures", max_message_bytes=2000000)
    db.sql("SELECT count(publish_event('pictures', 'k', '{}'))"
           " FROM generate_series(1, 3000)")
    size = {"payload": 10, "headers": 10, "key": 10, "type": 10,
            large: 450000 if large in ("key", "type") else 900000}
    db.sql("SELECT count(publish_bytes('pictures', repeat('k', %(key)s),"
           " convert_to(repeat('x', %(payload)s), 'UTF8'),"
           " repeat('t', %(type)s), jsonb_build_object('h',"
           " repeat('h', %(headers)s)))) FROM generate_series(1, 300)", size)
    wait_until(lambda: relay.metric("outbox_published_total",
                                    topic="pictures") == 3300, 60,
               "all are published")
    assert relay.peak_kb() < 60 * 1024
