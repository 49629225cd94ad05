# SPDX-License-Identifier: PostgreSQL
"""Clients of a front that make orders and record the answers."""

import itertools
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import psycopg2

from load import Threads

serial = itertools.count(1)     # no two make the same orders
VERBS = {"confirm_stock": "confirmed", "release_stock": "released",
         "rollback_stock": "rolled_back"}
# after these the outcome is unknown: no connection, a conflict, a shard that is
# down or starts, an answer to what an earlier call has done
UNKNOWN = ("08", "40", "55", "57", "SK", "XX")
RESERVE = "SELECT granted FROM try_reserve_order(%s, %s, ttl => '1 day')"


@dataclass
class Order:
    """An order, and the last that its caller was told of it."""
    lines: dict                 # product: pieces
    shards: int
    told: str = None            # None: nothing, or "perhaps ..."


class Session:
    """A session of a front, opened again when it is broken."""

    def __init__(self, front):
        self.front, self.conn = front, None

    def call(self, query, *args):
        """The rows; None if the outcome is unknown."""
        try:
            if self.conn is None:
                self.conn = self.front.connect()
                self.conn.autocommit = True
            with self.conn.cursor() as cur:
                cur.execute(query, args)
                return cur.fetchall()
        except psycopg2.Error as error:
            if self.conn is not None and self.conn.closed:
                self.conn = None
            if error.pgcode and not error.pgcode.startswith(UNKNOWN):
                raise
            return None


class Callers(Threads):
    """Threads that make orders, one after another, and settle most of them."""

    def __init__(self, fleet, count, seed):
        super().__init__()
        self.fleet = fleet
        self.name = f"callers{next(serial)}"
        self.orders = {}        # id: Order
        self.start(*((self._run, number, random.Random(f"{seed}-{number}"))
                     for number in range(count)))

    def counts(self):
        """How many were told what, over how many shards."""
        return Counter((order.told, order.shards)
                       for order in list(self.orders.values()))

    def _run(self, number, chance):
        session = Session(self.fleet.front)
        turn = 0
        try:
            while not self.ending.wait(chance.uniform(0, 0.02)):
                turn += 1
                self._order(session, chance, f"{self.name}-{number}-{turn}")
        except Exception as error:      # raised by stop()
            self.errors.append(error)

    def _order(self, session, chance, name):
        shards = chance.sample(self.fleet.stocked, chance.choice((1, 2, 2, 3)))
        products = [product for names in shards for product in
                    chance.sample(names, chance.choice((1, 1, 2)))]
        order = self.orders[name] = Order(
            {product: chance.randint(1, 3) for product in products},
            len(shards))
        self._reserve(session, chance, name, order)
        if order.told == "reserved" and chance.random() < 0.7:
            self._settle(session, chance, name, order)

    @staticmethod
    def _repeated(session, chance, *args):
        """Half of the callers without an answer call again, and some of these
        once more."""
        rows = session.call(*args)
        while rows is None and chance.random() < 0.5:
            rows = session.call(*args)
        return rows

    def _reserve(self, session, chance, name, order):
        items = json.dumps([{"product_id": product, "quantity": count}
                            for product, count in order.lines.items()])
        rows = self._repeated(session, chance, RESERVE, name, items)
        if rows is not None:
            granted = {count > 0 for (count,) in rows}
            assert len(rows) == len(order.lines) and len(granted) == 1, (
                f"{name}: {rows}")
            order.told = "reserved" if granted == {True} else "refused"

    def _settle(self, session, chance, name, order):
        verb = chance.choice(list(VERBS))
        order.told = f"perhaps {VERBS[verb]}"
        rows = self._repeated(session, chance,
                              f"SELECT status FROM {verb}(%s)", name)
        if rows is not None:
            found = {status for (status,) in rows}
            assert found in ({VERBS[verb]}, {"already"}), (
                f"{verb} {name}: {rows}")
            order.told = VERBS[verb]


class Sweepers(Threads):
    """Two of them, as docs/sharding.md advises."""

    def __init__(self, fleet):
        super().__init__()
        self.fleet = fleet
        self.start(*[(self._run,)] * 2)

    def _run(self):
        session = Session(self.fleet.front)
        while not self.ending.wait(random.uniform(0.1, 0.5)):
            with suppress(psycopg2.Error):
                session.call("SELECT sweep_orders()")
