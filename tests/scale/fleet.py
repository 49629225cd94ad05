# SPDX-License-Identifier: PostgreSQL
"""Four shards, a front and a coordinator on a machine each, two relays for each
shard, and what happens to them."""

import itertools
import random
import time
from collections import Counter

from cluster import Postgres, Relay
from saga_fleet import SMALL, Fleet

# shorter than a link is cut
TIMEOUTS = {"connect_timeout": "2", "tcp_user_timeout": "2000",
            "keepalives_idle": "2", "keepalives_interval": "1"}
# a session whose client was cut off does not stay for hours
KEEPALIVES = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2,
              "tcp_keepalives_count": 2}


class MachinePostgres(Postgres):
    """A server on a machine of its own."""

    clients = "samenet"

    def __init__(self, machine, directory, settings):
        self.machine, self.host = machine, machine.address
        self.elsewhere = machine.elsewhere
        super().__init__(directory, settings)


class MachineFleet(Fleet):
    """Servers on machines, with the relays of each shard."""

    timeouts = TIMEOUTS

    def __init__(self, lan, new_dir):
        self.lan = lan
        self.pairs = []
        super().__init__(new_dir)

    def new_server(self, name, directory):
        return MachinePostgres(self.lan.add(name), directory,
                               {**SMALL, **KEEPALIVES})

    def start_relays(self, new_dir, broker, mode):
        for shard in self.shards:
            self.pairs.append([Relay(
                new_dir("relay"), shard.conninfo(connect_timeout=2),
                broker.brokers, {"outbox": {"mode": mode}}).start()
                               for _ in range(2)])

    def relays(self):
        return list(itertools.chain(*self.pairs))

    def revive(self):
        super().revive()
        for relay in self.relays():
            if not relay.running:
                relay.start(wait=None)

    def stop_all(self):
        for relay in self.relays():
            relay.close()
        super().stop_all()


def leading(pair):
    """The relay of the two that leads; any, if none does."""
    return next((relay for relay in pair
                 if '"leader":true' in relay.get("/status")[1]), pair[0])


class Troubles:
    """Servers and relays are killed, links are cut; one or two things at once,
    each way before any is used again."""

    def __init__(self, fleet, seed, cut_s):
        self.fleet, self.cut_s = fleet, cut_s
        self.random = random.Random(seed)
        self.counts = Counter()
        self.ways = {"shard": self.kill_shard, "front": self.kill_front,
                     "coordinator": self.kill_coordinator,
                     "relay": self.kill_relays, "cut": self.cut}
        self.due = []           # ways to come before any is used again

    def turn(self):
        """Only the thread that runs the tests may start servers."""
        time.sleep(self.random.uniform(0.1, 1.5))
        self.due = self.due or self.random.sample(list(self.ways),
                                                  len(self.ways))
        ends, longest = [], 1
        for way in self.due[:self.random.choice((1, 1, 2))]:
            self.due.remove(way)
            self.counts[way] += 1
            ends.append(self.ways[way]())
            longest = self.cut_s if way == "cut" else longest
        time.sleep(self.random.uniform(0, longest))
        for end in ends:
            end()

    # ---- each way; it returns the function that ends it ----

    def kill(self, server):
        if server.running:
            server.power_cut()
        return self.fleet.revive

    def kill_shard(self):
        return self.kill(self.random.choice(self.fleet.shards).pg)

    def kill_front(self):
        return self.kill(self.fleet.front.pg)

    def kill_coordinator(self):
        return self.kill(self.fleet.coordinator.pg)

    def kill_relays(self):
        """The one that leads, or both: then no other one takes over."""
        pair = self.random.choice(self.fleet.pairs)
        for relay in self.random.choice(([leading(pair)], pair)):
            if relay.running:
                relay.kill9()
        return self.fleet.revive

    def cut(self):
        front = self.fleet.front.pg.machine
        other = self.random.choice(self.fleet.shards).pg.machine
        front.cut_from(other)
        return lambda: front.join_with(other)
