# SPDX-License-Identifier: PostgreSQL
"""P1 for slots and flash sales: whatever many sessions do at once, every piece
is where the acknowledged answers put it.

test_model compares each answer with one row of the ledger; a level of several
rows answers as they were a moment before. Sums must hold all the same. Eight
sessions sell one product from its slots, whose number changes, and from flash
sales that open and close meanwhile. An order belongs to one session, which
knows its state; users are shared, so that sessions race for their limit.
Meanwhile an observer reads one snapshot after another: no user is above the
limit, and verify_stock() finds nothing. In the end the levels are the sum of
the acknowledged answers, and each order has the state that its session knows.

A failure names its seed. PGSTOCK_SEED=n runs that one again, PGSTOCK_SALES=n
is the number of calls.
"""

import os
import random
import threading
import time
from collections import Counter
from contextlib import closing
from typing import NamedTuple, Optional

import psycopg2
import pytest

from model import (ACT, AGAIN, ALREADY, CONFIRMED, DUE, RELEASED, RESERVED,
                   RETAKE, RETURNED, ROLLED_BACK, RULES, SHORTFALL, STATUS)

pytestmark = pytest.mark.proof

SESSIONS = 8
CALLS = int(os.environ.get("PGSTOCK_SALES", 16_000))
LIMIT, QUOTA, START = 3, 12, 60
SETTLE = {"confirm": "SELECT status FROM confirm_stock(%s)",
          "release": "SELECT status FROM release_stock(%s)",
          "rollback": "SELECT status FROM rollback_stock(%s)",
          "return": "SELECT status FROM return_stock(%s)",
          "extend": "SELECT status FROM extend_reservation(%s,"
                    " '1 microsecond')"}
BECOMES = {"confirm": CONFIRMED, "release": RELEASED, "rollback": ROLLED_BACK,
           "return": RETURNED, "extend": DUE}


class Order(NamedTuple):
    state: str
    quantity: int
    user: Optional[str]
    sale: Optional[str]


class World:
    """The state that the sessions share."""

    def __init__(self, db, seed, mode):
        self.db, self.seed, self.mode = db, seed, mode
        self.sale = "sale-0"
        self.errors = []
        self.counts = Counter()


class Session(threading.Thread):
    """One connection, with orders of its own."""

    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.world, self.number = world, number
        self.random = random.Random(f"{world.seed}/{number}")
        self.orders = {}
        self.received = 0       # pieces received, less those removed
        self.names = 0
        self.inside = False
        self.doing = None

    def run(self):
        try:
            with closing(self.world.db.connect()) as connection:
                connection.autocommit = True
                self.cur = connection.cursor()
                self.cur.execute("SET deadlock_timeout = '10ms'")
                for _ in range(CALLS // SESSIONS):
                    if self.world.errors:
                        return
                    self.transaction()
        except Exception as error:      # the test reports it
            self.world.errors.append(
                f"session {self.number}, {self.doing}: {error!r}")

    # ---- Transactions ----

    def transaction(self):
        """One call by itself, or several in a block that may be rolled
        back."""
        if self.number < 2 and self.random.random() < 0.03:
            (self.rotate_sale if self.number else self.configure)()
        elif self.world.mode == "single" or self.random.random() < 0.7:
            self.step()
        else:
            self.block()

    def block(self):
        before = dict(self.orders), self.received
        commit = self.random.random() < 0.5
        self.cur.execute("BEGIN")
        self.inside = True
        try:
            for _ in range(self.random.randint(1, 3)):
                self.step()
        except psycopg2.errors.DeadlockDetected:
            commit = False      # a block takes its locks in any order
        self.cur.execute("COMMIT" if commit else "ROLLBACK")
        self.inside = False
        if not commit:
            self.orders, self.received = before

    def call(self, query, *args):
        """(the first column, None) or (None, the code of a refusal); repeated
        for as long as the server asks for it."""
        self.doing = query, args
        while True:
            if self.inside:
                self.cur.execute("SAVEPOINT s")
            try:
                self.cur.execute(query, args)
                return self.cur.fetchone()[0], None
            except psycopg2.errors.SerializationFailure:
                self.world.counts["again"] += 1
                if self.inside:
                    self.cur.execute("ROLLBACK TO s")
            except psycopg2.errors.DeadlockDetected:
                if self.inside or self.world.mode == "single":
                    raise
                self.world.counts["deadlock"] += 1
            except psycopg2.Error as error:
                if not (error.pgcode or "").startswith("SK"):
                    raise
                if self.inside:
                    self.cur.execute("ROLLBACK TO s")
                return None, error.pgcode

    def step(self):
        what = self.random.choices(list(WEIGHTS), WEIGHTS.values())[0]
        if what in SETTLE:
            self.settle(what)
        else:
            getattr(self, what)()
        self.world.counts[what] += 1

    # ---- The calls ----

    def new_order(self):
        self.names += 1
        return f"o-{self.number}-{self.names}"

    def buy(self):
        order, user = self.new_order(), self.random.choice("abcdef")
        quantity, sale = self.random.randint(1, 2), self.world.sale
        query = "SELECT status FROM purchase_flash_sale(%s, %s, %s, %s)"
        status, code = self.call(query, sale, user, order, quantity)
        assert code is None, code
        assert status in ("granted", "not_open", "over_limit",
                          "insufficient"), status
        if status == "granted":
            self.orders[order] = Order(RESERVED, quantity, user, sale)
            if self.random.random() < 0.1:
                query = query.replace("status", "replayed")
                assert self.call(query, sale, user, order, quantity)[0] is True
        self.world.counts[status] += 1

    def reserve(self):
        order, quantity = self.new_order(), self.random.randint(1, 4)
        granted, code = self.call(
            "SELECT granted FROM try_reserve_stock('hot', %s, %s)", quantity,
            order)
        assert code is None and granted in (0, quantity), (code, granted)
        if granted:
            self.orders[order] = Order(RESERVED, quantity, None, None)

    def settle(self, verb):
        if not self.orders:
            return
        name = self.random.choice(list(self.orders)[-12:])
        order = self.orders[name]
        rule = RULES[verb][order.state]
        status, code = self.call(SETTLE[verb], name)
        if rule.startswith("SK"):
            assert code == rule, (name, order, code)
        elif rule in (ALREADY, AGAIN):
            assert status == (ALREADY if rule == ALREADY else SHORTFALL)
        elif rule == RETAKE and status == SHORTFALL:
            self.orders[name] = order._replace(state=SHORTFALL)
        else:
            assert rule in (ACT, RETAKE) and status == STATUS[verb], (
                name, order, status, code)
            self.orders[name] = order._replace(state=BECOMES[verb])

    def supply(self):
        pieces = self.random.choice([-3, -1, 2, 4, 6])
        if pieces > 0:
            _, code = self.call("SELECT receive_stock('hot', %s)", pieces)
            assert code is None
        else:
            _, code = self.call("SELECT adjust_stock('hot', %s, 'count')",
                                pieces)
            assert code in (None, "SK001"), code
        self.received += pieces if code is None else 0

    def move(self):
        """Moves between locations change no sum."""
        here, there = self.random.sample(["main", "east"], 2)
        _, code = self.call("SELECT move_stock('hot', 2, %s, %s)", here, there)
        assert code in (None, "SK001"), code

    def expire(self):
        self.call("SELECT expire_reservations(5)")

    def configure(self):
        self.call("SELECT configure_product('hot', slots => %s)",
                  self.random.choice([1, 2, 4, 8]))

    def rotate_sale(self):
        """The next sale opens if there are pieces for it; then the last one
        closes, while other sessions still buy from it."""
        old, new = self.world.sale, f"sale-{self.new_order()}"
        _, code = self.call("SELECT open_flash_sale(%s, 'hot', %s, %s)", new,
                            QUOTA, LIMIT)
        assert code in (None, "SK001"), code
        if code is None:
            self.call("SELECT close_flash_sale(%s)", old)
            self.world.sale = new
            self.world.counts["sales"] += 1


WEIGHTS = {"buy": 30, "reserve": 12, "confirm": 10, "release": 12,
           "rollback": 10, "return": 6, "extend": 6, "expire": 2, "supply": 6,
           "move": 4}


def observe(world, ending):
    """No user is above the limit, at any moment that can be seen."""
    with closing(world.db.connect()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        while not ending.wait(0.05):
            cursor.execute(
                "SELECT s.activity_id, user_id, sum(r.quantity)"
                " FROM pgstock_internal.reservation r"
                " JOIN pgstock_internal.sale s"
                " USING (product_id, location, slot)"
                " WHERE state = 'c' OR state = 'r' AND (expires_at IS NULL"
                " OR expires_at > clock_timestamp())"
                " GROUP BY 1, 2 HAVING sum(r.quantity) > %s", (LIMIT,))
            found = cursor.fetchall()
            cursor.execute("SELECT * FROM verify_stock()")
            found += cursor.fetchall()
            if found:
                world.errors.append(f"the observer saw {found}")
            world.counts["looks"] += 1


def check_orders(db, sessions):
    """Each order has the state that its session knows; a due one may have
    expired."""
    stored = {order: rest for order, *rest in db.sql(
        "SELECT order_id, state, quantity, user_id FROM stock_reservations")}
    for session in sessions:
        for name, order in session.orders.items():
            state, quantity, user = stored.pop(name)
            assert (quantity, user) == (order.quantity, order.user), name
            assert state == (
                "expired" if order.state == DUE else order.state), name
    assert stored == {}, "orders that no session was granted"


def check_sums(db, sessions):
    """Every piece is where the answers put it."""
    orders = [order for session in sessions
              for order in session.orders.values()]
    sold = sum(o.quantity for o in orders if o.state == CONFIRMED)
    held = sum(o.quantity for o in orders if o.state == RESERVED)
    received = START + sum(session.received for session in sessions)
    assert db.sql("SELECT sum(on_hand)::int, sum(reserved)::int"
                  " FROM stock_levels") == [(received - sold, held)]
    bought = [o for o in orders if o.sale]
    assert db.value("SELECT count(*) FROM stock_outbox WHERE event_type ="
                    " 'FlashSalePurchased'") == len(bought)
    left = db.value("SELECT available FROM stock_levels"
                    " WHERE location = 'main'")
    granted = "SELECT granted FROM try_reserve_stock('hot', %s, %s)"
    assert db.value(granted, (left + 1, "one too many")) == 0
    assert not left or db.value(granted, (left, "all the rest")) == left


@pytest.mark.parametrize("mode", ["single", "blocks"])
def test_random_sales(db, mode):
    """`single`: every call commits by itself, and none may meet a deadlock.
    `blocks`: transactions of many calls take locks in any order, and may."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed} PGSTOCK_SALES={CALLS}")
    world, ending = World(db, seed, mode), threading.Event()
    db.sql("SELECT receive_stock('hot', %s)", (START,))
    db.sql("SELECT receive_stock('hot', 1, 'east'); SELECT"
           " adjust_stock('hot', -1, 'none', 'east')")
    db.sql("SELECT configure_product('hot', slots => 4)")
    db.sql("SELECT open_flash_sale('sale-0', 'hot', %s, %s)", (QUOTA, LIMIT))
    began = time.monotonic()
    sessions = [Session(world, number) for number in range(SESSIONS)]
    observer = threading.Thread(target=observe, args=(world, ending),
                                daemon=True)
    for thread in (observer, *sessions):
        thread.start()
    for session in sessions:
        session.join(600)
        assert not session.is_alive(), "a session hangs"
    ending.set()
    observer.join(60)
    assert not world.errors, f"seed {seed}: {world.errors}"
    while db.value("SELECT expire_reservations()"):
        pass
    check_orders(db, sessions)
    check_sums(db, sessions)
    assert db.drift() == []
    print(f"{time.monotonic() - began:.0f} s; {dict(world.counts)}")
    for what in ("sales", "over_limit", "granted", "insufficient", "looks"):
        assert world.counts[what] > 5, (what, world.counts)
