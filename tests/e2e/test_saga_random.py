# SPDX-License-Identifier: PostgreSQL
"""Random orders over shards while front, coordinator and shards are killed.

Callers reserve random lines and settle their orders in random ways. Then all
servers are started, unfinished steps are swept, and the state of each order in
the shards must match the last answer that its caller received; if it received
none, the shards must match each other. PGSTOCK_SAGA_SECONDS sets the duration.
"""

import json
import os
import random
import threading
import time
from contextlib import closing

import psycopg2
import pytest

from process import wait_until
from saga_fleet import Fleet

pytestmark = [pytest.mark.long, pytest.mark.alone]

SECONDS = float(os.environ.get("PGSTOCK_SAGA_SECONDS", 25))
CALLERS = 4
PIECES = 60                     # of each product: some orders are refused
VERBS = {"confirm_stock": "confirmed", "release_stock": "released",
         "rollback_stock": "rolled_back"}


class Caller(threading.Thread):
    """Makes orders, one after another, and records the answers."""

    def __init__(self, fleet, number, end):
        super().__init__(daemon=True)
        self.fleet, self.number, self.end = fleet, number, end
        self.random = random.Random(number)
        self.orders = {}        # id: (lines, last answer)
        self.wrong = []
        self.conn = None

    def call(self, query, *args):
        """The rows; None if the outcome is unknown."""
        try:
            if self.conn is None:
                self.conn = self.fleet.front.connect()
                self.conn.autocommit = True
            with self.conn.cursor() as cur:
                cur.execute(query, args)
                return cur.fetchall()
        except psycopg2.Error as error:
            if self.conn is not None and self.conn.closed:
                self.conn = None
            if error.pgcode and error.pgcode[:2] not in (
                    "08", "40", "57", "55", "XX", "SK"):
                self.wrong.append(str(error))
            return None

    def lines(self):
        products = [name for names in self.fleet.stocked for name in names]
        chosen = self.random.sample(products, self.random.randint(1, 4))
        return {product: self.random.randint(1, 3) for product in chosen}

    def run(self):
        n = 0
        while time.monotonic() < self.end:
            n += 1
            order, lines = f"c{self.number}-{n}", self.lines()
            items = json.dumps([{"product_id": product, "quantity": count}
                                for product, count in lines.items()])
            told = None
            rows = self.call("SELECT granted FROM try_reserve_order(%s, %s)",
                             order, items)
            if rows is None and self.random.random() < 0.5:
                rows = self.call(
                    "SELECT granted FROM try_reserve_order(%s, %s)", order,
                    items)
            if rows is not None:
                told = "reserved" if rows[0][0] else "refused"
                if len({granted > 0 for (granted,) in rows}) != 1 \
                        or len(rows) != len(lines):
                    self.wrong.append(f"{order}: {rows}")
            if told == "reserved" and self.random.random() < 0.7:
                verb = self.random.choice(list(VERBS))
                rows = self.call(f"SELECT status FROM {verb}(%s)", order)
                told = VERBS[verb] if rows else f"perhaps {VERBS[verb]}"
            self.orders[order] = lines, told


def kill_now_and_then(fleet, end):
    """Kills random servers at random times and restarts them; the number.
    Only this thread may start one."""
    kills = 0
    while time.monotonic() < end:
        time.sleep(random.uniform(0.2, 2))
        victim = random.choice(fleet.all)
        fleet.kill9(victim)
        kills += 1
        time.sleep(random.uniform(0, 1))
        victim.start()
    return kills


class Sweeper(threading.Thread):
    def __init__(self, fleet, end):
        super().__init__(daemon=True)
        self.fleet, self.end = fleet, end

    def run(self):
        while time.monotonic() < self.end:
            try:
                with closing(self.fleet.front.connect()) as conn:
                    conn.autocommit = True
                    with conn.cursor() as cur:
                        while time.monotonic() < self.end:
                            cur.execute("SELECT sweep_orders()")
                            time.sleep(random.uniform(0.1, 0.5))
            except psycopg2.Error:
                time.sleep(random.uniform(0.1, 0.5))


@pytest.fixture(name="fleet")
def fixture_fleet(new_dir):
    made = Fleet(new_dir)
    made.receive(PIECES)
    yield made
    made.stop_all()


def states(fleet):
    """{order: {product: (state, quantity)}} of the lines in all shards."""
    found = {}
    for shard in fleet.shards:
        for order, product, quantity, state in shard.sql(
                "SELECT DISTINCT ON (order_id, product_id) order_id,"
                " product_id, quantity, CASE WHEN state = 'reserved' AND"
                " expires_at < clock_timestamp() THEN 'expired'"
                " ELSE state END FROM stock_reservations"
                " ORDER BY order_id, product_id, created_at DESC"):
            found.setdefault(order, {})[product] = (state, quantity)
    return found


def test_random_orders_under_kills(fleet):
    end = time.monotonic() + SECONDS
    callers = [Caller(fleet, n, end) for n in range(CALLERS)]
    for thread in [*callers, Sweeper(fleet, end)]:
        thread.start()
    kills = kill_now_and_then(fleet, end)
    for thread in callers:
        thread.join(120)
        assert not thread.is_alive()
    fleet.revive()
    fleet.sweep()
    # holds that no saga refers to any more expire by themselves
    wait_until(lambda: all(shard.value(
        "SELECT count(*) = 0 FROM stock_reservations WHERE state = 'reserved'"
        " AND expires_at BETWEEN clock_timestamp()"
        " AND clock_timestamp() + interval '5 seconds'")
        for shard in fleet.shards), 20, "holds have not ended")
    fleet.check_books()
    found = states(fleet)
    wrong = [text for caller in callers for text in caller.wrong]
    counts = {}
    for order, (lines, told) in [item for caller in callers
                                 for item in caller.orders.items()]:
        counts[told] = counts.get(told, 0) + 1
        have = found.get(order, {})
        live = {product: quantity for product, (state, quantity)
                in have.items() if state in ("reserved", "confirmed")}
        after = {state for state, _ in have.values()}
        if live and live != lines:
            wrong.append(f"half of {order}, told {told}: {have}")
        elif told == "reserved" and not live:
            wrong.append(f"{order} was told reserved: {have}")
        elif told == "refused" and live:
            wrong.append(f"{order} was told refused: {have}")
        elif told in VERBS.values() and after != {told}:
            wrong.append(f"{order} was told {told}: {have}")
    assert wrong == []
    assert kills >= SECONDS / 10, kills
    assert counts.get("reserved") and counts.get("confirmed"), counts
