# SPDX-License-Identifier: PostgreSQL
"""How stock in several shards scales, directly and through a front: see
bench/run.

Each shard is a server of its own that is held to the limit of a small machine,
well below its part of this one: what is left is for the front and the clients.
All arms run in turns, and the medians are taken.

A product is "m<merchant>/<number>", and the merchant is the key: for each
number of shards there is one merchant for each shard, so that a script knows
in which shard a product is.
"""

import json
import os
import re
import statistics
import subprocess
import time
from hashlib import md5

from cap import NoCap, WalCap, choose
from cluster import HOST, Database, Postgres
from plot import draw
from process import as_server, children_of
from shard_pooler import ShardPooler
from shards import Shards
from stock import HERE, ROUNDS, SECONDS, cell, cpu_seconds, goal

COUNTS = (1, 2, 4)
POOLED = (1, 4)                 # with a pooler, too
LINE_KEY = "split_part(product_id, '/', 1)"
WARM = 4                        # seconds until all sessions have connected
CLIENTS = 8                     # for each shard
PRODUCTS = 1000                 # in each shard
CROSSING = 38                   # orders of a hundred
# autovacuum would take most of a small limit, in one arm or another
SETTINGS = {"fsync": "on", "shared_buffers": "64MB", "max_connections": 150,
            "autovacuum": "off"}
ROLE = "shop"


def merchants(count):
    """One merchant for each of so many shards, by its number."""
    found = {}
    number = 0
    while len(found) < count:
        number += 1
        found.setdefault(shard_of(f"m{number}", count), number)
    return [found[shard] for shard in range(count)]


def shard_of(key, count):
    """As pgstock_front.shard_of."""
    return int(md5(key.encode()).hexdigest()[:8], 16) & (count - 1)


def pick(count):
    """The start of a script: an order and a shard of so many."""
    whens = " ".join(f"when %s = {shard} then {merchant}"
                     for shard, merchant in enumerate(merchants(count)))
    lines = ["\\set o random(1, 1000000000000000)",
             f"\\set s random(0, {count - 1})"]
    for n in range(3):
        place = f"(:s + {n}) % {count}"
        lines += [f"\\set m{n} case {whens} end".replace("%s", place),
                  f"\\set p{n} random(1, {PRODUCTS})"]
    return "\n".join(lines) + "\n"


def one_line(count):
    return (pick(count) + "SELECT status FROM reserve_stock("
            "'m' || :m0 || '/' || :p0, 1, 'o' || :o);\n")


def order(count, shards):
    """An order with a line in each of so many shards; in one where there is
    only one."""
    items = ", ".join(
        f"jsonb_build_object('product_id', 'm' || :m{n} || '/' || :p{n},"
        " 'quantity', 1)" for n in range(shards))
    return (pick(count) + "SELECT count(*) FROM reserve_order('o' || :o,"
            f" jsonb_build_array({items}));\n")


class Machines:
    """A server for the front, and one for each shard; on them, for each
    number of shards, databases and a front."""

    def __init__(self, directory, counts=COUNTS):
        self.directory = directory
        self.front = Postgres(os.path.join(directory, "front"), SETTINGS)
        self.servers = [Postgres(os.path.join(directory, f"shard{n}"),
                                 SETTINGS) for n in range(COUNTS[-1])]
        for server in (self.front, *self.servers):
            server.init().start()
            Database(server, "postgres").sql(f"CREATE ROLE {ROLE} LOGIN")
        self.direct = [server.create_database("direct")
                       for server in self.servers]
        for database in self.direct:
            self.fill(database, 1, 0)
            database.sql("SELECT grant_stock_access(%s, 'app')", (ROLE,))
        self.fleets = {count: self.make_fleet(count) for count in counts}
        pooled = [count for count in POOLED if count in counts]
        self.pooler = ShardPooler(os.path.join(directory, "pgbouncer"))
        self.pooler.configure({shard.name: f"host={HOST} port={shard.pg.port}"
                               for count in pooled
                               for shard in self.fleets[count].shards})
        self.pooler.start()
        self.pooled = {count: self.make_pooled_front(self.fleets[count])
                       for count in pooled}
        self.caps = [NoCap(server) for server in self.servers]

    def make_fleet(self, count):
        fleet = Shards(*self.servers[:count], count=count,
                       line_key=LINE_KEY,
                       front_server=self.front)
        for number, database in enumerate(fleet.shards):
            self.fill(database, count, number)
            database.sql(f"GRANT {ROLE} TO pgstock_front")
        fleet.set_coordinator(fleet.front)
        for setting in ("hold", "patience"):    # not those of tests
            fleet.front.sql(f'ALTER DATABASE "{fleet.front.name}"'
                            f" RESET pgstock_front.{setting}")
        fleet.front.sql("SELECT grant_stock_access(%s, 'app')", (ROLE,))
        return fleet

    def make_pooled_front(self, fleet):
        """Another front of the same shards, which calls them through
        PgBouncer, as it is installed."""
        front = self.front.create_database(f"{fleet.front.name}_pooled",
                                           extension=False)
        front.sql("CREATE EXTENSION pgstock_front CASCADE")
        front.sql("SELECT pgstock_front.set_shards(%s, %s)", (json.dumps(
            [{**fleet.connection(shard), "pooler": self.pooler.connection()}
             for shard in fleet.shards]), LINE_KEY))
        front.sql("SELECT grant_stock_access(%s, 'app')", (ROLE,))
        return front

    @staticmethod
    def fill(database, count, number):
        database.sql("SELECT receive_stock(%s || i, 1000000000)"
                     " FROM generate_series(1, %s) i",
                     (f"m{merchants(count)[number]}/", PRODUCTS))

    def limit(self, cap):
        """Holds the shards to a small machine's limit from now on."""
        if cap is WalCap:
            library = os.path.join(self.directory, "slow_wal.so")
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library,
                            os.path.join(HERE, "../tests/e2e/slow_wal.c"),
                            "-ldl"], check=True)
            for server in self.servers:
                server.environment = cap.environment(library)
                server.restart()
        self.caps = [cap(server) for server in self.servers]

    @staticmethod
    def cpu(*servers):
        return sum(cpu_seconds(server.pid, True)
                   + sum(map(cpu_seconds, children_of(server.pid)))
                   for server in servers)

    def stop(self):
        for database in (*self.direct,
                         *(fleet.front for fleet in self.fleets.values())):
            assert database.drift() == []
        for server in (self.front, *self.servers):
            server.stop()
        self.pooler.close()
        for cap in self.caps:
            cap.remove()


class Load:
    """Scripts with their weights, run by so many clients on each of some
    databases, which use so many shards."""

    def __init__(self, machines, count, databases, clients, scripts,
                 rate=None):
        self.machines = machines
        self.count = count
        self.databases = databases
        self.clients = clients
        self.scripts = scripts
        self.rate = rate        # in each database; None: as fast as it can

    def options(self):
        """The scripts, as options of pgbench."""
        for n, (script, weight) in enumerate(self.scripts):
            path = os.path.join(self.machines.directory, f"script{n}.sql")
            with open(path, "w", encoding="utf8") as file:
                file.write(script)
            os.chmod(path, 0o644)
            yield from ("-f", f"{path}@{weight}")
        if self.rate is not None:
            yield f"--rate={self.rate:.0f}"

    def start(self, seconds):
        command = [Postgres.bin("pgbench"), "-n", "-M", "prepared", "-P", "1",
                   "-c", str(self.clients), "-T", str(seconds), "-h",
                   "127.0.0.1", "-U", ROLE, *self.options()]
        return [subprocess.Popen(
            as_server([*command, "-p", str(database.pg.port), database.name]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for database in self.databases]

    def spent(self):
        """CPU time of the shards in use and of the front, with its pooler, and
        when."""
        cpu = self.machines.cpu
        return (cpu(*self.machines.servers[:self.count]),
                cpu(self.machines.front)
                + cpu_seconds(self.machines.pooler.pid), time.monotonic())

    def run(self, seconds=SECONDS):
        """(orders in a second, ms for each, us of the shards' CPU for each,
        us of the front's, used share of the limit)"""
        clients = self.start(WARM + seconds)
        time.sleep(WARM)
        before = self.spent()
        time.sleep(seconds - 1)
        shards, front, took = (b - a for a, b in zip(before, self.spent()))
        rates, latencies = zip(*map(progress, clients))
        rate = sum(rates)
        return (rate, statistics.mean(latencies), shards / took / rate * 1e6,
                front / took / rate * 1e6,
                self.machines.caps[0].share(shards / self.count, took))


def progress(client):
    """(orders in a second, ms for each) after the warm-up."""
    out, err = client.communicate()
    assert client.returncode == 0 and "failed transactions: 0" in out, out + err
    found = re.findall(r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+)",
                       err)
    rates, latencies = zip(*((float(tps), float(ms)) for at, tps, ms in found
                             if WARM < float(at)))
    return statistics.mean(rates), statistics.mean(latencies)


def in_turns(loads):
    """{name: medians} of the loads, and all rounds of each."""
    rounds = {name: [] for name in loads}
    for _ in range(ROUNDS):
        for name, load in loads.items():
            rounds[name].append(load.run())
    return {name: tuple(None if None in column else statistics.median(column)
                        for column in zip(*runs))
            for name, runs in rounds.items()}, rounds


def latency(machines):
    """An order on one, two and three shards, one after the other, without a
    limit."""
    fleet = machines.fleets[COUNTS[-1]]
    loads = {n: Load(machines, COUNTS[-1], [fleet.front], 1,
                     [(order(COUNTS[-1], n), 1)]) for n in (1, 2, 3)}
    medians, rounds = in_turns(loads)
    cell("one client, no limit", "ms", "of 1 shard's", "CPU shards",
         "CPU front")
    ratios = {}
    for n, (_, took, shards, front, _) in medians.items():
        ratios[n] = statistics.median(a[1] / b[1] for a, b in
                                      zip(rounds[n], rounds[1]))
        cell(f"an order on {n} shard{'s' * (n > 1)}", f"{took:.2f}",
             f"{ratios[n]:.2f}x", f"{shards:.0f} us", f"{front:.0f} us")
    for n, limit in ((2, 4), (3, 6)):
        goal(f"an order on {n} shards takes, of one on 1", f"< {limit}x",
             f"{ratios[n]:.2f}x", ratios[n] < limit)


def arms(machines):
    """The loads of the comparison, by what they are and their shards."""
    for count in COUNTS:
        fleet = machines.fleets[count]
        clients = CLIENTS * count
        yield ("direct", count), Load(
            machines, count, machines.direct[:count], CLIENTS,
            [(one_line(1), 1)])
        yield ("front", count), Load(
            machines, count, [fleet.front], clients, [(one_line(count), 1)])
        if count in POOLED:
            yield ("front, PgBouncer", count), Load(
                machines, count, [machines.pooled[count]], clients,
                [(one_line(count), 1)])
        yield (f"front, {CROSSING} % on 2 shards", count), Load(
            machines, count, [fleet.front], clients,
            [(one_line(count), 100 - CROSSING),
             (order(count, 2), CROSSING)])


def throughput(machines):
    """Rates by number of shards; the points of the plot."""
    medians, rounds = in_turns(dict(arms(machines)))
    cell(f"limit: {machines.caps[0].what}", "orders", "of 1 shard's",
         "CPU shards", "CPU front", "limit used")
    lines, ratios = {}, {}
    for (name, count), (rate, _, shards, front, used) in medians.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(
            rounds[name, count], rounds[name, 1]))
        ratios[name, count] = ratio
        lines.setdefault(name, []).append((count, rate))
        cell(f"{name}: {count} shard{'s' * (count > 1)}", f"{rate:,.0f}/s",
             f"{ratio:.2f}x", f"{shards:.0f} us", f"{front:.0f} us",
             "" if used is None else f"{used * 100:.0f} %")
    goals(medians, ratios, direct_cpu(machines, medians))
    return lines


def direct_cpu(machines, medians):
    """us of a shard's CPU for a call without a front, at the front's rate: each
    shard has as many sessions as the front, and so has it through the front."""
    last = COUNTS[-1]
    name = f"direct, {CLIENTS * last} sessions, the front's rate: {last} shards"
    load = Load(machines, last, machines.direct[:last], CLIENTS * last,
                [(one_line(1), 1)], medians["front", last][0] / last)
    found, _ = in_turns({name: load})
    rate, _, shards, front, used = found[name]
    cell(name, f"{rate:,.0f}/s", "", f"{shards:.0f} us", f"{front:.0f} us",
         "" if used is None else f"{used * 100:.0f} %")
    return shards


def goals(medians, ratios, direct):
    last = COUNTS[-1]
    for name, part in (("direct", 0.9), ("front", 0.85)):
        goal(f"{name}: {last} shards, of 1 shard", f"{part * last:.1f}x",
             f"{ratios[name, last]:.2f}x",
             ratios[name, last] >= part * last)
    _, _, shard, front, _ = medians["front", last]
    goal("CPU of a call in the shard, through the front : direct", "1.10",
         f"{shard / direct:.2f}", shard <= 1.1 * direct)
    goal("CPU of a call on the front", "120 us", f"{front:.0f} us",
         front <= 120)


def scaling(directory):
    machines = Machines(directory)
    latency(machines)
    machines.limit(choose())
    lines = throughput(machines)
    machines.stop()
    path = os.environ.get("PLOT", os.path.join(directory, "shards.svg"))
    draw(path, f"Orders a second; {machines.caps[0].what}", lines)
    print(f"plot: {path}")
