# SPDX-License-Identifier: PostgreSQL
"""P1, P2 over a longer time: at random moments, at any step, a process is
killed.

Two relays, of which one leads; clients that sell all the time. Relays, a
backend, the postmaster and the broker are killed one after the other, at times
one before the last is up again. In the end every acknowledged order exists,
Kafka has each event in order, `audit` finds none missing and none unknown, and
only those twice that a kill excuses.

A failure names its seed. PGSTOCK_KILL_SECONDS is the duration (1200 for a long
run), PGSTOCK_SEED selects the kills.
"""

import os
import random
import time
from collections import Counter

import pytest

from checks import Kills, audit, check_all, duplicates
from load import Clients
from process import wait_until
from test_crash import PRODUCTS, check_acknowledged, work

pytestmark = pytest.mark.proof

SECONDS = int(os.environ.get("PGSTOCK_KILL_SECONDS", "40"))
WAYS = {"leader": 5, "any relay": 2, "both relays": 1, "backend": 3,
        "postmaster": 3, "broker": 3, "broker and leader": 1}
MODES = ["idempotent", "transactional"]
FLIGHT_MS = 5000                # until a producer has found a broker again
PAUSE = SECONDS / 60_000        # of a client: the reader holds all records


class Chaos:
    """The processes that can be killed, and how each is started again."""

    def __init__(self, db, kafka, relays, seed):
        self.db, self.kafka, self.relays = db, kafka, relays
        self.random = random.Random(seed)
        self.kills = Kills(db)
        self.counts = Counter()

    def leader(self):
        """The relay that leads, if one does."""
        return next((relay for relay in self.relays
                     if '"leader":true' in relay.get("/status")[1]), None)

    def kill_relays(self, relays):
        for relay in relays:
            relay.kill9()
        time.sleep(self.random.choice([0, 0.3, 1]))
        for relay in relays:
            relay.start(wait=None)

    def kill(self):
        what = self.random.choices(list(WAYS), WAYS.values())[0]
        self.counts[what] += 1
        if "relay" in what:
            self.kill_relays(self.relays if "both" in what else
                             [self.random.choice(self.relays)])
        if "leader" in what and self.leader():
            self.kill_relays([self.leader()])
        if "broker" in what:
            self.kafka.kill9()
            time.sleep(self.random.choice([0, 1]))
            self.kafka.start()
        if what == "backend":
            self.db.pg.kill_backend(self.random.choice(
                self.db.pg.backends() or [self.db.pg.pid]))
        if what == "postmaster":
            self.db.pg.kill9()
            self.db.pg.start()

    def run(self):
        ending = time.monotonic() + SECONDS
        while time.monotonic() < ending:
            time.sleep(self.random.uniform(0.05, 3))
            self.kills.kill(self.kill)
        wait_until(self.leader, 60, "no relay leads any more")


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_whatever_dies(db, kafka, start_relay, mode):
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed} PGSTOCK_KILL_SECONDS={SECONDS}")
    db.sql("SELECT receive_stock('p' || i, 10000000)"
           " FROM generate_series(0, %s) i", (PRODUCTS - 1,))
    kafka.alter_topic("stock-events", message_timestamp_type="LogAppendTime")
    relays = [start_relay({"outbox": {"mode": mode}}) for _ in range(2)]
    chaos = Chaos(db, kafka, relays, seed)
    with Clients(db, 4, work, every=PAUSE) as clients:
        chaos.run()
    check_acknowledged(db, clients)
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        again = duplicates(tail.records)
        _, missing, doubled, unknown = audit(relays[0])
        assert (missing, unknown) == (0, 0)
        assert doubled <= again
        if mode == "transactional":
            assert again == 0
        else:
            chaos.kills.check_repeats(tail.records, FLIGHT_MS)
    print(f"{dict(chaos.counts)}; {len(clients.acknowledged)} orders,"
          f" {len(tail.records)} records, {again} of them repeated")
