# SPDX-License-Identifier: PostgreSQL
"""Four shards, a front and a coordinator on a machine each, two relays for each
shard, and what happens to them."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cluster import Postgres, Relay
from network import HERE
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
                broker.proxied_brokers, {"outbox": {"mode": mode}}).start()
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
            if relay.running:
                relay.terminate()   # leaves Kafka no open transaction
            relay.close()
        super().stop_all()


def leading(pair):
    """The relay of the two that leads; any, if none does."""
    return next((relay for relay in pair
                 if '"leader":true' in relay.get("/status")[1]), pair[0])


@dataclass
class Trouble:
    """What was done, and when: to which servers no order has a connection."""
    way: str
    servers: tuple
    end: Callable               # ends it
    began: float                # time.time()
    ended: float = None

    def stop(self):
        self.end()
        self.ended = time.time()


class Troubles:
    """Servers and relays are killed, links are cut; one or two things at once,
    each way before any is used again."""

    def __init__(self, fleet, broker, seed, cut_s):
        self.fleet, self.broker, self.cut_s = fleet, broker, cut_s
        self.random = random.Random(seed)
        self.past = []          # each Trouble
        self.kills = {"shard": self.kill_shard, "front": self.kill_front,
                      "coordinator": self.kill_coordinator,
                      "relay": self.kill_relays}
        self.cuts = {"front-shard": self.cut_shard,
                     "front-coordinator": self.cut_coordinator,
                     "relay-shard": self.cut_relay,
                     "relay-Kafka": self.cut_broker}
        self.ways = {**self.kills, **self.cuts}
        self.due = []           # ways to come before any is used again

    def counts(self):
        return Counter(trouble.way for trouble in self.past)

    def turn(self):
        """Only the thread that runs the tests may start servers."""
        time.sleep(self.random.uniform(0.1, 1.5))
        self.due = self.due or self.random.sample(list(self.ways),
                                                  len(self.ways))
        now = []
        for way in self.due[:self.random.choice((1, 1, 2))]:
            self.due.remove(way)
            began = time.time()
            now.append(Trouble(way, *self.ways[way](), began))
        is_cut = any(trouble.way in self.cuts for trouble in now)
        time.sleep(self.random.uniform(0, self.cut_s if is_cut else 1))
        # a server that starts is asked through the link of the relays
        for trouble in sorted(now, key=lambda one: one.way in self.kills):
            trouble.stop()
        self.past += now

    def lasted(self, servers, began, ended):
        """For how long, at most, a trouble with one of the servers lasted
        between the two times."""
        return sum(max(0, min(ended, one.ended) - max(began, one.began))
                   for one in self.past if not servers.isdisjoint(one.servers))

    # ---- each way; it returns the servers that have no connection with the
    # ---- front, and the function that ends it

    def kill(self, server):
        if server.running:
            server.power_cut()
        return (server.machine.name,), self.fleet.revive

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
        return (), self.fleet.revive

    def cut(self, other):
        front = self.fleet.front.pg.machine
        front.cut_from(other)
        return (other.name,), lambda: front.join_with(other)

    def cut_shard(self):
        return self.cut(self.random.choice(self.fleet.shards).pg.machine)

    def cut_coordinator(self):
        return self.cut(self.fleet.coordinator.pg.machine)

    def cut_relay(self):
        """The relays are here."""
        machine = self.random.choice(self.fleet.shards).pg.machine
        machine.drop_to(HERE)
        return (), lambda: machine.send_to(HERE)

    def cut_broker(self):
        self.broker.proxy.stall()
        return (), self.broker.proxy.restore
