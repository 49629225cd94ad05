# SPDX-License-Identifier: PostgreSQL
"""Flash sales: the quota, and no user above the limit.

The races: 100 users see ten pieces at once; one user buys in 50 sessions
before any of them has committed; the sale closes while users buy from it. A
count that was read before the lock sells too much, to all or to one.
"""

import os
import random
import threading
from collections import Counter

import psycopg2
import pytest

from checks import check_all
from kafkaio import delivered, send
from load import Clients, together
from process import wait_until

USERS, PIECES = 100, 10
ROUNDS = 3


def purchase(cur, user, order, sale="sale", quantity=1):
    """The status, run again for as long as the answer is 40001."""
    while True:
        try:
            cur.execute("SELECT status"
                        " FROM purchase_flash_sale(%s, %s, %s, %s)",
                        (sale, user, order, quantity))
            return cur.fetchone()[0]
        except psycopg2.errors.SerializationFailure:
            cur.connection.rollback()


def live(db, user="%"):
    return db.value("SELECT coalesce(sum(quantity), 0)::int"
                    " FROM stock_reservations WHERE user_id LIKE %s"
                    " AND state IN ('reserved', 'confirmed')", (user,))


def quota(db, sale="sale"):
    """(on_hand, reserved) of an open sale's quota."""
    (row,) = db.sql("SELECT on_hand, reserved FROM pgstock_internal.level"
                    " JOIN pgstock_internal.sale USING (product_id, location,"
                    " slot) WHERE activity_id = %s", (sale,))
    return row


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("durable", ["on", "off"])
def test_hundred_users_for_ten_pieces(db, durable, isolation):
    """Once with early lock release, once with sessions that have none."""
    db.sql("SELECT receive_stock('hot', 25)")
    db.sql("SELECT open_flash_sale('sale', 'hot', %s)", (PIECES,))

    def buy(cur, number):
        cur.execute(f"SET synchronous_commit = {durable}")
        cur.execute("SET default_transaction_isolation = %s", (isolation,))
        cur.connection.commit()
        return purchase(cur, f"user-{number}", f"order-{number}")

    answers = Counter(together(db, USERS, buy))
    assert answers == {"granted": PIECES, "insufficient": USERS - PIECES}
    assert quota(db) == (PIECES, PIECES)
    assert db.level("hot") == (25, PIECES, 15)
    assert db.value("SELECT array_agg((payload#>>'{items,0,remaining_stock}')"
                    "::int ORDER BY seq) FROM stock_outbox WHERE event_type ="
                    " 'FlashSalePurchased'") == list(range(PIECES))[::-1]
    assert db.value("SELECT close_flash_sale('sale')") == 0


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("quantity", [1, 2])
def test_one_user_in_fifty_sessions(db, quantity, isolation):
    db.sql("SELECT receive_stock('hot', 500)")
    db.sql("SELECT open_flash_sale('sale', 'hot', 500, per_user_limit => 5)")

    def buy(cur, number):
        cur.execute("SET default_transaction_isolation = %s", (isolation,))
        cur.connection.commit()
        return purchase(cur, "greedy", f"order-{number}", quantity=quantity)

    granted = 5 // quantity
    assert Counter(together(db, 50, buy)) == {"granted": granted,
                                              "over_limit": 50 - granted}
    assert live(db, "greedy") == granted * quantity


EXPIRE = "SELECT extend_reservation(%s, '1 microsecond')"
GIVE_BACK = {
    "release": ["SELECT release_stock(%s)"],
    "rollback": ["SELECT rollback_stock(%s)"],
    "rollback of paid": ["SELECT confirm_stock(%s)",
                         "SELECT rollback_stock(%s)"],
    "return": ["SELECT confirm_stock(%s)", "SELECT return_stock(%s)"],
    "expiry": [EXPIRE],
}


@pytest.mark.parametrize("way", GIVE_BACK)
def test_a_returned_piece_frees_the_user(db, way):
    """And only that much: of 20 sessions that see it, one gets it."""
    db.sql("SELECT receive_stock('hot', 50)")
    db.sql("SELECT open_flash_sale('sale', 'hot', 50, per_user_limit => 3)")
    for number in range(3):
        db.sql("SELECT purchase_flash_sale('sale', 'ann', %s)",
               (f"o-{number}",))
    assert db.value("SELECT status FROM purchase_flash_sale('sale', 'ann',"
                    " 'o-3')") == "over_limit"
    for command in GIVE_BACK[way]:
        db.sql(command, ("o-1",))
    answers = together(db, 20, lambda cur, number:
                       purchase(cur, "ann", f"again-{number}"))
    assert Counter(answers) == {"granted": 1, "over_limit": 19}
    db.sql("SELECT expire_reservations()")
    assert live(db, "ann") == 3


def buyer(db, number, answers, granted):
    """Request the same order until there is an answer, whatever breaks."""
    conn = None
    while answers[number] is None:
        try:
            conn = conn or db.connect()
            with conn, conn.cursor() as cur:
                status = purchase(cur, f"user-{number}", f"order-{number}")
            answers[number] = status
            if status == "granted":
                granted.set()
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            conn = None
            answers.append("broken")


def test_kill_9_while_it_sells(db, pg):
    """The postmaster dies once a client has got "granted": ten pieces are sold
    in the end, to the clients that got "granted", and none is left."""
    broken = 0
    for turn in range(ROUNDS):
        hot = f"hot-{turn}"
        db.sql("SELECT receive_stock(%s, %s)", (hot, PIECES))
        db.sql("SELECT open_flash_sale('sale', %s, %s)", (hot, PIECES))
        answers, granted = [None] * USERS, threading.Event()
        threads = [threading.Thread(target=buyer, daemon=True,
                                    args=(db, number, answers, granted))
                   for number in range(USERS)]
        for thread in threads:
            thread.start()
        assert granted.wait(60)
        pg.kill9()
        pg.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "a buyer hangs"
        told = {f"order-{n}" for n in range(USERS) if answers[n] == "granted"}
        sold = {order for (order,) in db.sql(
            "SELECT order_id FROM stock_reservations WHERE state = 'reserved'")}
        assert told == sold and len(sold) == PIECES
        assert answers[:USERS].count("insufficient") == USERS - PIECES
        assert quota(db) == (PIECES, PIECES)
        assert db.drift() == []
        broken += answers.count("broken")
        clear(db)
    assert broken > 0, "no buyer was connected when the server died"


def clear(db):
    """Ready for the next round: nothing reserved, no sale."""
    db.sql("SELECT release_stock(order_id) FROM stock_reservations"
           " WHERE state = 'reserved'")
    db.sql("SELECT close_flash_sale('sale')")
    db.sql("DELETE FROM pgstock_internal.sale")
    db.sql("DELETE FROM pgstock_internal.reservation")


def refused(clients):
    return list(clients.acknowledged.values()).count("not_open")


def test_closed_while_it_sells(db):
    """The race: a purchase, a payment, a cancellation or an expiry has read
    that its line is in the sale, and waits for the quota's lock while the sale
    is closed. Then its line lies in ordinary stock, and its effect must count
    there; and no two sessions may wait for each other."""
    db.sql("SELECT receive_stock('hot', 100000)")
    db.sql("SELECT open_flash_sale('sale-0', 'hot', 200, 1000)")
    current = ["sale-0"]

    def work(cur, name):
        status = purchase(cur, random.choice("abcdef"), name, current[0])
        cur.connection.commit()
        what = random.choice(("confirm_stock", "release_stock",
                              "rollback_stock", "due", "reserve", None))
        if status == "granted" and what == "due":
            cur.execute(EXPIRE, (name,))
            cur.connection.commit()
            cur.execute("SELECT expire_reservations(5)")
        elif what == "reserve":
            cur.execute("SELECT reserve_stock('hot', 1, %s)", (name + "-r",))
        elif status == "granted" and what:
            cur.execute(f"SELECT {what}(%s)", (name,))
        return status

    with Clients(db, 8, work) as clients:
        for turn in range(1, 30):
            done = len(clients.acknowledged)
            wait_until(lambda n=done: len(clients.acknowledged) > n + 60, 60,
                       "the clients make no progress")
            db.sql("SELECT open_flash_sale(%s, 'hot', 200, 1000)",
                   (f"sale-{turn}",))
            db.sql("SELECT close_flash_sale(%s)", (current[0],))
            wait_until(lambda n=turn: refused(clients) >= n, 60,
                       "no client gets not_open")
            current[0] = f"sale-{turn}"
    assert clients.broken == 0, "a deadlock, or a session that ended"
    statuses = Counter(clients.acknowledged.values())
    assert statuses["granted"] > 500, statuses
    db.sql("SELECT close_flash_sale(%s)", (current[0],))
    on_hand, reserved, available = db.level("hot")
    sold = db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = 'confirmed'")
    held = db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = 'reserved'")
    assert (on_hand, reserved) == (100000 - sold, held)
    assert available == on_hand - reserved
    assert db.value("SELECT count(*) FROM pgstock_internal.level") == 1


def test_a_sale_survives_dump_and_restore(db, pg, run):
    """Quota, limit and purchases are part of the dump, and a sale opened after
    it gets a quota of its own."""
    db.sql("SELECT receive_stock('hot', 10)")
    db.sql("SELECT open_flash_sale('sale', 'hot', 3)")
    db.sql("SELECT purchase_flash_sale('sale', 'ann', 'o-1')")
    path = os.path.join(run, "sale.dump")
    pg.dump(db.name, path)
    other = pg.create_database("restored_sale", extension=False)
    try:
        pg.restore(other.name, path)
        status = "SELECT status FROM purchase_flash_sale(%s, %s, %s)"
        assert other.value(status, ("sale", "ann", "o-2")) == "over_limit"
        assert other.value(status, ("sale", "bob", "o-2")) == "granted"
        other.sql("SELECT open_flash_sale('next', 'hot', 7)")
        assert other.value(status, ("next", "ann", "o-3")) == "granted"
        assert quota(other) == (3, 2) and quota(other, "next") == (7, 1)
        assert other.drift() == []
    finally:
        other.drop()


def test_from_purchase_to_payment_through_kafka(db, kafka, start_relay):
    """The order id is the key of all events of a purchase, and the payment
    finds the purchase by it."""
    db.sql("SELECT receive_stock('hot', 10)")
    db.sql("SELECT open_flash_sale('sale', 'hot', 3)")
    db.sql("SELECT purchase_flash_sale('sale', 'ann', 'o-1')")
    start_relay(topics=["payment-success"])
    out = kafka.producer()
    send(out, "payment-success", {"order_id": "o-1", "event_id": "paid-1",
                                  "payment_id": "P"}, key="o-1")
    delivered(out)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda records: len(records) == 4, 30, "all four events")
        told = [r for r in tail.records if r.key == b"o-1"]
        assert [r.json["event_type"] for r in told] == ["FlashSalePurchased",
                                                       "StockConfirmed"]
        assert told[0].json["activity_id"] == "sale"
        (item,) = told[0].json["items"]
        assert (item["quantity"], item["remaining_stock"]) == (1, 2)
        changed = [r.json for r in tail.records if r.key == b"hot"]
        assert [(c["kind"], c["on_hand"], c["available"]) for c in changed] == [
            ("received", 10, 10), ("sale_opened", 10, 7)]
        check_all(db, tail)
    assert quota(db) == (2, 0)
