# SPDX-License-Identifier: PostgreSQL
"""P3: in whichever order messages arrive, the stock ends right.

The regression tests walk through one message in each state of its order
(inbox_payment, inbox_back, inbox_waiting); these tests add the cases that only
Kafka and relays can cause.
"""

import json
import os
import time
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from checks import check_all, inbox_results
from process import wait_until
from test_inbox import (QUICK, TOPICS, handled, order, put, states,
                        types_by_key)

BACKLOG = int(os.environ.get("PGSTOCK_MESSAGES") or 3000)


def put_orders(kafka, numbers):
    put(kafka, *[("order-created", order(n)) for n in numbers])


def paid(number):
    return {"order_id": f"o-{number}", "event_id": f"paid-{number}",
            "payment_id": f"payment-{number}"}


def test_failure_before_its_order(db, kafka, start_relay):
    """Each kind of cancellation or failure arrives before its order: the order
    is reserved when it arrives, and released at once."""
    db.sql("SELECT receive_stock('book', 10)")
    start_relay(QUICK, topics=TOPICS)
    put(kafka, *[(topic, {"order_id": f"o-{n}", "event_id": f"early-{n}"})
                 for n, topic in enumerate(TOPICS[2:])])
    wait_until(lambda: inbox_results(db) == {"waiting": 3}, 15,
               lambda: f"they wait: {inbox_results(db)}")
    put(kafka, *[("order-created", order(n)) for n in range(3)])
    handled(db, 6)
    assert states(db) == {"o-0": "released", "o-1": "released",
                          "o-2": "rolled_back"}
    assert db.level("book") == (10, 0, 10)
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        types = types_by_key(tail)
    assert types == {"o-0": ["StockReserved", "StockReleased"],
                    "o-1": ["StockReserved", "StockReleased"],
                    "o-2": ["StockReserved", "StockRolledBack"]}


def test_late_failure_of_an_earlier_attempt(db, kafka, start_relay):
    """An order fails, is reserved again and paid; then a slow sender repeats
    the failure: it does not apply to the paid attempt."""
    db.sql("SELECT receive_stock('book', 10)")
    start_relay(QUICK, topics=TOPICS)
    put(kafka, ("order-created", order(1)))
    handled(db, 1)
    failed_at = int((time.time() - 60) * 1000)  # clocks may differ by 5 s
    put(kafka, ("order_failed", {"order_id": "o-1", "event_id": "f-1"}))
    handled(db, 2)
    db.sql("SELECT reserve_stock('book', 2, 'o-1')")
    put(kafka, ("payment-success", paid(1)))
    handled(db, 3)
    put(kafka, ("order_failed", {"order_id": "o-1", "event_id": "f-2",
                                 "timestamp": failed_at}))
    handled(db, 4)
    assert db.sql("SELECT result, reason FROM stock_inbox"
                  " WHERE event_id = 'f-2'") == [("skipped", "stale")]
    assert db.level("book") == (8, 0, 8)


def test_group_is_ahead_of_the_database(db, kafka, start_relay):
    """As after a promotion or a restore: the group has committed offsets that
    the database has lost. The database's offsets count."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(QUICK, topics=TOPICS)
    put(kafka, *[("order-created", order(n)) for n in range(20)])
    handled(db, 20)
    relay.terminate()
    put(kafka, *[("order-created", order(n)) for n in range(20, 40)],
        *[("payment-success", paid(n)) for n in range(40)])
    group = db.value("SELECT inbox_group FROM pgstock_internal.relay_hello()")
    ahead = Consumer({"bootstrap.servers": kafka.brokers, "group.id": group,
                      "enable.auto.commit": False})
    ends = kafka.ends(*TOPICS)
    assert sum(ends.values()) == 80
    ahead.commit(offsets=[TopicPartition(*place, end)
                          for place, end in ends.items()], asynchronous=False)
    ahead.close()
    relay.start()
    handled(db, 80)
    assert inbox_results(db) == {"applied": 80}
    assert set(states(db).values()) == {"confirmed"}
    assert db.level("book") == (60, 0, 60)


def test_two_relays_with_the_same_messages(db, kafka, start_relay):
    """Two groups by mistake, or a relay that was cut off and does not know it:
    both deliver every message, and each takes effect once and has one row."""
    db.sql("SELECT receive_stock('book', 10000)")
    messages = [("order-created", order(n)) for n in range(1000)]
    messages += [("payment-success", paid(n)) for n in range(0, 1000, 2)]
    # both are at the beginning before there is any message
    relays = [start_relay({"inbox": {**QUICK["inbox"], "group": group}},
                          topics=TOPICS) for group in ("a", "b")]
    for relay in relays:
        wait_until(lambda r=relay: r.get("/metrics")[1].count(
            "\npgstock_consumer_lag{") == 3 * len(TOPICS), 20, relay.tail)
    put(kafka, *messages)
    put(kafka, *messages[::10])             # duplicates have a row as well
    ends = {place: end for place, end in kafka.ends(*TOPICS).items() if end}
    for relay in relays:
        wait_until(lambda r=relay: r.metric("inbox_events_total") >= 1650, 60,
                   lambda r=relay: r.get("/metrics")[1])
    wait_until(lambda: not inbox_results(db)["waiting"], 30, "nothing waits")
    assert db.sql("SELECT count(*), count(DISTINCT (topic, partition,"
                  ' "offset")) FROM stock_inbox') == [(1650, 1650)]
    assert inbox_results(db) == {"applied": 1500, "duplicate": 150}
    assert db.level("book") == (9500, 500, 9000)
    assert {(topic, partition): offset for topic, partition, offset in db.sql(
        "SELECT topic, partition, next_offset"
        " FROM pgstock_internal.relay_offsets(NULL)"
        " WHERE next_offset > 0")} == ends


def test_two_relays_share_and_take_over(db, kafka, start_relay):
    """A second relay joins in the middle of a stream, the first is killed:
    partitions are reassigned twice, and each order is reserved once."""
    db.sql("SELECT receive_stock('book', 10000)")
    put_orders(kafka, range(1000))
    config = {"kafka": {"session.timeout.ms": "6000"}}
    first = start_relay(config, topics=TOPICS)
    wait_until(lambda: len(states(db)) > 0, 30, "it has begun")
    second = start_relay(config, topics=TOPICS)
    put_orders(kafka, range(1000, 3000))
    wait_until(lambda: second.metric("inbox_events_total") > 0
               or len(states(db)) == 3000, 40, "partitions change hands")
    first.kill9()
    put_orders(kafka, range(3000, 4000))
    wait_until(lambda: len(states(db)) == 4000, 60,
               lambda: f"{inbox_results(db)}\n{second.tail()}")
    assert db.level("book") == (10000, 4000, 6000)
    assert inbox_results(db)["applied"] == 4000
    assert not set(inbox_results(db)) - {"applied", "duplicate"}


def test_backlog_with_payments_first(db, kafka, start_relay):
    """After an hour's outage the topics are read in parallel: thousands of
    payments arrive before their orders, and some orders are cancelled too. All
    of them end within the wait, and none delays the others for long."""
    db.sql("SELECT receive_stock('book', %s)", (BACKLOG,))
    start_relay(QUICK, topics=TOPICS)
    put(kafka, *[("payment-success", paid(n)) for n in range(BACKLOG)],
        *[("order-cancelled", {"order_id": f"o-{n}", "event_id": f"off-{n}"})
          for n in range(0, BACKLOG, 10)])
    early = BACKLOG + BACKLOG // 10
    wait_until(lambda: inbox_results(db) == {"waiting": early}, 120,
               lambda: f"they wait: {inbox_results(db)}")
    began = time.monotonic()
    put(kafka, *[("order-created", order(n)) for n in range(BACKLOG)])
    handled(db, BACKLOG + early, 120)
    print(f"{BACKLOG} orders whose payments waited:"
          f" {time.monotonic() - began:.1f} s")
    # a cancellation may have been first, and then the payment was too late
    kept = sum(state == "confirmed" for state in states(db).values())
    assert BACKLOG * 9 // 10 == kept
    assert db.level("book") == (BACKLOG - kept, 0, BACKLOG - kept)
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)


def retry(session):
    """One retry of waiting messages, as a relay does it."""
    with session, session.cursor() as cur:
        cur.execute("SELECT result, n"
                    " FROM pgstock_internal.relay_retry(50, %s)",
                    (json.dumps({
                        "dlq_topic": "{topic}_dlq", "retry_delays_ms": [1000],
                        "order_wait_ms": 0, "dedup_retention_ms": 60000,
                        "group": "g", "count_attempts": True}),))
        return cur.fetchall()


def test_two_relays_retry_waiting_messages(db):
    """Every relay retries all waiting messages. One has recorded its tries
    when the other begins: that is no death, and neither counts the other's
    record as one, however often they meet."""
    db.sql("INSERT INTO pgstock_internal.failed_event (topic, partition,"
           ' "offset", event_id, value, attempts, next_retry_at, state, class,'
           " error, first_failed_at, handled, source)"
           " SELECT 'order_failed', 0, i,"
           " 'e-' || i, '{\"order_id\": \"none\"}', 0, now(), 'waiting',"
           " 'order', 'unknown_order', now(), false, 'order_failed'"
           " FROM generate_series(1, 3) i")
    with closing(db.connect()) as one, closing(db.connect()) as other:
        assert retry(one) == [("started", 3)]
        assert retry(other) == [("skipped", 3)]
        assert retry(one) == []
    assert db.sql("SELECT DISTINCT started, state"
                  " FROM pgstock_internal.failed_event") == [(0, "retried")]
