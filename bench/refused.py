# SPDX-License-Identifier: PostgreSQL
"""What a refusal costs, through a front and directly in a shard: see bench/run.

One session calls reserve_stock for a product that is sold out (SK001), and in
turns for one that is not.  psycopg2 is the client, because pgbench ends at an
error; what it takes itself is in every arm.
"""

import statistics
import time
from contextlib import closing

import psycopg2

from scaling import COUNTS, ROLE, Machines, merchants
from stock import ROUNDS, SECONDS, cell, goal

WARM = 500                      # calls
CALL = "SELECT status FROM reserve_stock(%s, 1, %s)"


def call(cur, product, order):
    """The SQLSTATE, or None."""
    try:
        cur.execute(CALL, (product, order))
    except psycopg2.Error as error:
        return error.pgcode
    return None


class Caller:
    """One session of a database; `state` is the answer of each call."""

    def __init__(self, machines, database, product, state):
        self.machines = machines
        self.database = database
        self.product = product
        self.state = state
        self.calls = 0

    def again(self, cur):
        self.calls += 1
        state = call(cur, self.product, f"{self.product}-{self.calls}")
        assert state == self.state, state

    def spent(self):
        """CPU time of the shards and of the front."""
        cpu = self.machines.cpu
        return cpu(*self.machines.servers), cpu(self.machines.front)

    def run(self):
        """(ms for each call, us of the shards' CPU, us of the front's)"""
        with closing(self.database.connect(user=ROLE)) as conn:
            conn.autocommit = True
            cur = conn.cursor()
            for _ in range(WARM):
                self.again(cur)
            before, began, times = self.spent(), time.monotonic(), []
            while time.monotonic() < began + SECONDS:
                start = time.monotonic()
                self.again(cur)
                times.append(time.monotonic() - start)
            shards, front = (b - a for a, b in zip(before, self.spent()))
        return (statistics.median(times) * 1e3, shards / len(times) * 1e6,
                front / len(times) * 1e6)


def refused(directory):
    count = COUNTS[-1]
    machines = Machines(directory, (count,))
    direct, front = machines.direct[0], machines.fleets[count].front
    callers = {}
    for where, database, merchant in (
            ("directly", direct, merchants(1)[0]),
            ("through the front", front, merchants(count)[0])):
        sold_out = f"m{merchant}/sold-out"
        database.sql("SELECT receive_stock(%s, 1)", (sold_out,))
        database.sql("SELECT reserve_stock(%s, 1, 'last', ttl => '1 day')",
                     (sold_out,))
        callers[f"granted {where}"] = Caller(
            machines, database, f"m{merchant}/1", None)
        callers[f"refused {where}"] = Caller(
            machines, database, sold_out, "SK001")
    rounds = {name: [] for name in callers}
    for _ in range(ROUNDS):
        for name, caller in callers.items():
            rounds[name].append(caller.run())
    medians = {name: tuple(map(statistics.median, zip(*runs)))
               for name, runs in rounds.items()}
    cell("one piece, one client", "ms", "CPU shard", "CPU front")
    for name, (took, shard, own) in medians.items():
        cell(name, f"{took:.2f}", f"{shard:.0f} us", f"{own:.0f} us")
    took = medians["refused through the front"][0]
    goal("a refusal through the front", "< 1 ms", f"{took:.2f} ms", took < 1)
    machines.stop()
