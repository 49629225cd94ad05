# SPDX-License-Identifier: PostgreSQL
"""P3 under kills: relay and database are killed in the middle of a stream.

The race: a batch is applied and its commit is on its way when one side dies.
Offsets kept in Kafka would be ahead of the effects or behind them; they are in
the database, in the same commit, so each message ends exactly once.
"""

import pytest

from checks import check_order, inbox_results, of_type
from kafkaio import delivered, send
from process import wait_until
from test_inbox import QUICK, TOPICS

ORDERS, PRODUCTS, PIECES = 3000, 50, 40     # 1,000 orders go without
POISON = 100
KILLS = 6


def stream(kafka):
    """5,000 messages: orders, a payment or a failure for some of them, a
    second copy of some, and poison in between; each order has its reply."""
    out = kafka.producer()
    sent = 0
    for number in range(ORDERS):
        name = f"o-{number}"
        created = {"order_id": name, "event_id": f"created-{number}",
                   "items": [{"product_id": f"p{number % PRODUCTS}",
                              "quantity": 1}]}
        send(out, "order-created", created, key=name)
        sent += 1
        if number % 3 == 0:
            send(out, "order-created", created, key=name)
            sent += 1
        if number % 5 == 0 and number < PRODUCTS * PIECES:
            send(out, "order_failed", {"order_id": name,
                                       "event_id": f"failed-{number}"},
                 key=name)
            sent += 1
        elif number % 5 == 1 and number < PRODUCTS * PIECES:
            send(out, "payment-success", {"order_id": name,
                                          "event_id": f"paid-{number}"},
                 key=name)
            sent += 1
        if number % (ORDERS // POISON) == 0:
            send(out, "payment-failed", b"poison", key=name)
            sent += 1
    delivered(out)
    return sent


@pytest.mark.long
def test_kill_9_in_the_middle_of_a_stream(db, pg, kafka, start_relay):
    db.sql("SELECT receive_stock('p' || i, %s)"
           " FROM generate_series(0, %s) i", (PIECES, PRODUCTS - 1))
    sent = stream(kafka)
    assert sent > 4800
    relay = start_relay(QUICK, topics=TOPICS)
    count = "SELECT count(*) FROM stock_inbox"
    for number in range(KILLS):
        target = sent * number // (KILLS + 1)
        wait_until(lambda n=target: db.value(count) >= n, 60,
                   lambda: f"{inbox_results(db)}\n{relay.tail()}")
        if number % 2:
            relay.kill9()
            relay.start(wait=None)
        else:
            pg.kill9()
            pg.start()
    wait_until(lambda: db.value(count) >= sent
               and not inbox_results(db)["waiting"], 90,
               lambda: f"of {sent}: {inbox_results(db)}\n{relay.tail()}")
    check_end_states(db, sent)
    check_answers(db, kafka)


def check_end_states(db, sent):
    print(inbox_results(db))
    assert db.sql("SELECT count(*), count(DISTINCT (topic, partition,"
                  ' "offset")) FROM stock_inbox') == [(sent, sent)]
    assert inbox_results(db, topic="order-created") == {
        "applied": ORDERS, "duplicate": ORDERS // 3}
    assert inbox_results(db, topic="payment-failed") == {"dead": POISON}
    assert db.value("SELECT count(*) FROM failed_order_archives") == POISON
    assert db.sql("SELECT order_id FROM stock_movements WHERE kind ="
                  " 'reserved' GROUP BY 1 HAVING count(*) > 1") == []


def check_answers(db, kafka):
    """One answer for each order in the table, and every answer in Kafka."""
    topics = ("stock-events", "stock-freeze-failed", "payment-failed_dlq")
    written = dict(db.sql("SELECT event_type, count(*) FROM stock_outbox"
                          " WHERE topic <> %s GROUP BY 1", (topics[2],)))
    assert written["StockReserved"] + written["StockReserveFailed"] == ORDERS
    assert written["StockReserved"] == db.value(
        "SELECT count(DISTINCT order_id) FROM stock_reservations")
    with kafka.tail(*topics[:2]) as tail:
        def missing(records):
            have = {r.header("ce_id") for r in records}
            return [event for (event,) in db.sql(
                "SELECT event_id::text FROM stock_outbox WHERE topic <> %s",
                (topics[2],)) if event not in have]
        tail.until(lambda r: not missing(r), 60, "every event")
        check_order(tail.read_to_end())
        assert {r.json["causation_id"] for r in
                of_type(tail.records, "StockReserved")} <= {
            f"created-{n}" for n in range(ORDERS)}
    with kafka.tail(topics[2]) as tail:
        tail.until(lambda r: len(r) >= POISON, 20, "every dead letter")
    assert db.drift() == []
