# SPDX-License-Identifier: PostgreSQL
"""P1: never oversold, by whichever function the buyers reserve.

The race: 100 buyers see ten pieces at once and each takes one. A check
followed by a write sells more than ten; a lock in the wrong place sells fewer,
or lets two of them wait for each other.
"""

import json

import psycopg2
import pytest

from checks import check_all, inbox_results, of_type
from kafkaio import delivered, send
from load import together

BUYERS, PIECES = 100, 10


def items(product, quantity=1):
    return json.dumps([{"product_id": product, "quantity": quantity}])


ENTRY_POINTS = {
    "reserve_stock": lambda cur, n: cur.execute(
        "SELECT (reserve_stock('hot', 1, %s)).granted", (f"order-{n}",)),
    "try_reserve_stock": lambda cur, n: cur.execute(
        "SELECT (try_reserve_stock('hot', 1, %s)).granted", (f"order-{n}",)),
    "reserve_order": lambda cur, n: cur.execute(
        "SELECT granted FROM reserve_order(%s, %s)",
        (f"order-{n}", items("hot"))),
    "try_reserve_order": lambda cur, n: cur.execute(
        "SELECT granted FROM try_reserve_order(%s, %s)",
        (f"order-{n}", items("hot"))),
}


def check_ten_sold(db):
    assert db.level("hot") == (PIECES, PIECES, 0)
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = 'reserved'") == PIECES
    assert db.value("SELECT count(*) FROM stock_outbox"
                    " WHERE event_type = 'StockReserved'") == PIECES
    assert db.drift() == []


@pytest.mark.parametrize("entry", ENTRY_POINTS)
@pytest.mark.parametrize("durable", ["on", "off"])
def test_hundred_buyers_for_ten_pieces(db, entry, durable):
    """Once with sessions whose commit waits for the disk, and so releases the
    level's lock early, once with sessions whose commit does not."""
    db.sql("SELECT receive_stock('hot', %s)", (PIECES,))

    def buy(cur, number):
        cur.execute(f"SET synchronous_commit = {durable}")
        ENTRY_POINTS[entry](cur, number)
        return cur.fetchone()[0]

    answers = together(db, BUYERS, buy)
    refused = [a for a in answers if isinstance(a, psycopg2.Error)]
    assert answers.count(1) == PIECES
    if entry.startswith("try_"):
        assert not refused and answers.count(0) == BUYERS - PIECES
    else:
        assert len(refused) == BUYERS - PIECES
        assert {error.pgcode for error in refused} == {"SK001"}
        for error in refused:
            assert "hot" in error.diag.message_detail
            assert error.diag.message_hint
    check_ten_sold(db)


@pytest.mark.parametrize("strategy", ["auto", "pessimistic", "optimistic",
                                      "advisory"])
def test_strategies_give_the_same_answer(db, strategy):
    """They differ in which session waits; optimistic may fail with 40001, to
    be run again."""
    db.sql("SELECT receive_stock('hot', %s)", (PIECES,))

    def buy(cur, number):
        while True:
            try:
                cur.execute("SELECT (try_reserve_stock('hot', 1, %s,"
                            " strategy => %s)).granted",
                            (f"order-{number}", strategy))
                return cur.fetchone()[0]
            except psycopg2.errors.SerializationFailure:
                cur.connection.rollback()

    answers = together(db, 40, buy)
    assert sorted(answers) == [0] * (40 - PIECES) + [1] * PIECES
    check_ten_sold(db)


def test_hundred_orders_through_kafka(db, kafka, start_relay):
    """Each order-created is answered: ten StockReserved, ninety
    StockReserveFailed with the reason, from the same ten pieces."""
    db.sql("SELECT receive_stock('hot', %s)", (PIECES,))
    out = kafka.producer()
    for number in range(BUYERS):
        send(out, "order-created",
             {"order_id": f"order-{number}", "event_id": f"created-{number}",
              "items": [{"product_id": "hot", "quantity": 1}]},
             key=f"order-{number}")
    delivered(out)
    start_relay(topics=["order-created"])
    with kafka.tail("stock-events", "stock-freeze-failed") as tail:
        tail.until(lambda records: len(records) == BUYERS + 1, 30,
                   "an answer for each order, and the received stock's event")
        failed = of_type(tail.records, "StockReserveFailed")
        assert len(of_type(tail.records, "StockReserved")) == PIECES
        assert len(failed) == BUYERS - PIECES
        assert {r.topic for r in failed} == {"stock-freeze-failed"}
        assert {r.json["reason"] for r in failed} == {"insufficient"}
        (line,) = failed[0].json["items"]
        assert (line["wanted"], line["available"]) == (1, 0)
        check_all(db, tail)
    check_ten_sold(db)
    assert inbox_results(db) == {"applied": BUYERS}


def test_all_or_none_under_contention(db):
    """The race: orders for (a, b) and for (b, a) hold one product each and
    wait for the other; or one takes a and finds b gone. Locks are taken in one
    order, and an order that does not fit as a whole takes nothing."""
    db.sql("SELECT receive_stock('a', 30), receive_stock('b', 20)")

    def buy(cur, number):
        pair = ["a", "b"] if number % 2 else ["b", "a"]
        cur.execute("SELECT array_agg(status ORDER BY product_id)"
                    " FROM try_reserve_order(%s, %s)", (
                        f"order-{number}", json.dumps(
                            [{"product_id": p, "quantity": 1} for p in pair])))
        return tuple(cur.fetchone()[0])

    answers = together(db, 60, buy)
    assert answers.count(("granted", "granted")) == 20
    assert answers.count(("refused", "insufficient")) == 40
    assert db.level("a") == (30, 20, 10)
    assert db.level("b") == (20, 20, 0)
