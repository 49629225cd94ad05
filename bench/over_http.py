# SPDX-License-Identifier: PostgreSQL
"""How fast the gateway is: see bench/run.

wrk asks over 64 connections that are kept alive, on the same cores. What is
compared runs in turns, and the medians are taken, as in stock.py. Each row of
the table has its target, and whether it was missed.
"""

import os
import shutil
import statistics
import subprocess
import time
from contextlib import closing

from cluster import HOST
from gateway import TOKENS, Gateway
from process import Server, http_get, make_dir, wait_until
from stock import (BARE, HERE, HOT, MANY, PRODUCTS, ROUNDS, SECONDS, Arm,
                   Bench, cpu_seconds, prepare)

CONNECTIONS = 64
POOL = int(os.environ.get("POOL", "6"))     # the gateway's sessions
RATE = 1000                     # a second, where latency is measured
ANSWER_MS = 3                   # about what an answer takes then
IDLE_SECONDS = 10
MANY_RESERVE = MANY + "SELECT reserve_stock('p' || :p, 1, 'o' || :o);"


def row(what, target, reached, met, *more):
    line = f"{what:64}{target:>9}{reached:>10} {'' if met else 'missed':6}"
    print((line + "".join(f"{text:>10}" for text in more)).rstrip(),
          flush=True)


class Shop(Server):
    """bench/shop, the service that the gateway is compared with."""

    def __init__(self, directory, conninfo):
        super().__init__(directory)
        self.port = self.take_port()
        self.conninfo = conninfo
        self.binary = os.path.join(directory, "shop")
        shutil.copy(os.environ["PGSTOCK_SHOP"], self.binary)

    def start(self):
        self.spawn([self.binary, f"{HOST}:{self.port}", self.conninfo])
        wait_until(lambda: http_get(HOST, self.port, "/readyz", 5)[0] == 200,
                   30, "the shop's service")
        return self


class Http:
    """An arm: what wrk asks a server for; refused: all is to be."""

    def __init__(self, bench, server, what, products=1, pause=0,
                 refused=False):
        self.bench = bench
        self.server = server
        self.args = [what, TOKENS["app"], str(products), str(pause)]
        self.refused = refused
        self.latencies = []

    def run(self, seconds):
        """(answers in a second, us of CPU for each: of the service and of the
        database's server)"""
        cpu = self.cpu()
        done = subprocess.run(
            ["wrk", "-t", "2", "-c", str(CONNECTIONS), "-d", f"{seconds}s",
             "-s", os.path.join(HERE, "over_http.lua"),
             f"http://{HOST}:{self.server.port}", "--", *self.args],
            capture_output=True, text=True, check=True)
        figures = done.stdout.split("FIGURES ")[1].split()
        count, took, refused, failed, p50, p99 = map(int, figures)
        assert failed == 0 and refused == (count if self.refused else 0), \
            done.stdout
        self.latencies.append((p50, p99))
        return (count / took * 1e6,
                (self.cpu() - cpu) / count * 1e6)

    def cpu(self):
        return cpu_seconds(self.server.pid) + self.bench.server_cpu()


class GatewayBench(Bench):
    """The server and the services in front of it."""

    def __init__(self, directory):
        super().__init__(directory)
        for role, level in (("gateway_app", "app"), ("gateway_admin", "admin")):
            self.db.sql(f"CREATE ROLE {role} LOGIN")
            self.db.sql("SELECT grant_stock_access(%s, %s)", (role, level))
        self.gateway = Gateway(
            make_dir(os.path.join(directory, "gateway")),
            {role: self.db.conninfo(user=f"gateway_{role}")
             for role in ("app", "admin")}, {"postgres": {"pool": POOL}})
        self.shop = Shop(make_dir(os.path.join(directory, "shop")),
                         self.db.conninfo(user="gateway_app"))

        self.targets = {}               # a ratio for each of the others

    def run(self, arm, seconds):
        if isinstance(arm, Arm):
            return super().run(arm, seconds)
        return arm.run(seconds)

    def line(self, what, name, ours, others):
        a, b, ratio, a_cpu, b_cpu = self.figures(what, name, ours, others)
        target = self.targets.get(name)
        row(f"{what} : {name}", f"{target}x" if target else "",
            f"{ratio:.2f}x", not target or ratio >= target, f"{a:,.0f}/s",
            f"{b:,.0f}/s", f"{a_cpu:.0f} us", f"{b_cpu:.0f} us")

    def begin(self, flush):
        """Both services, with a flush that takes that long."""
        self.flush(flush)
        for server in (self.gateway, self.shop):
            if not server.running:
                server.start()
        self.gateway.wait_status("/readyz", 200)

    def server_cpu(self):
        return super().server_cpu() if self.pg.running else 0

    def paced(self, refused=False):
        """Answers in a second, and p50 and p99 in ms, at about RATE."""
        arm = Http(self, self.gateway, "reserve", refused=refused,
                   pause=CONNECTIONS * 1000 // RATE - ANSWER_MS)
        rates = [arm.run(SECONDS)[0] for _ in range(ROUNDS)]
        return (statistics.median(rates),
                *(statistics.median(column) / 1000
                  for column in zip(*arm.latencies)))

    def latency(self):
        rate, p50, p99 = self.paced()
        what = f"latency at {rate:,.0f}/s, one hot product, flush + 1 ms"
        row(f"{what}: p50", "3 ms", f"{p50:.1f} ms", p50 <= 3)
        row(f"{what}: p99", "10 ms", f"{p99:.1f} ms", p99 <= 10)

    def refusals(self):
        """In turns with the cheapest request that there is."""
        with closing(self.gateway.client("admin")) as admin:
            answer = admin.post("/sales", {
                "activity_id": "sale", "product_id": "p1", "quantity": 1})
            assert answer.status in (201, 400), answer.text
            answer = admin.post("/sales/sale/purchase", {
                "user_id": "u", "order_id": "sale-o"})
            assert answer.status in (200, 201), answer.text
        what = "a refusal of a sale that is sold out"
        self.targets = {}
        self.compare(what, Http(self, self.gateway, "purchase", refused=True),
                     {"GET /livez": Http(self, self.gateway, "/livez")})
        rate = self.points[-1][2]
        row(what, "40,000/s", f"{rate:,.0f}/s", rate >= 40000)

    def away(self):
        """What the circuit breaker answers while there is no database."""
        with self.pg.away():
            self.gateway.wait_status("/readyz", 503)
            rate, _, p99 = self.paced(refused=True)
        self.gateway.wait_status("/readyz", 200)
        row(f"503 while the database is away, at {rate:,.0f}/s: p99", "5 ms",
            f"{p99:.1f} ms", p99 <= 5)

    def footprint(self):
        """Memory after all that; then idle CPU, and a start."""
        with open(f"/proc/{self.gateway.pid}/status", encoding="ascii") as file:
            peak = next(line.split()[1] for line in file
                        if line.startswith("VmHWM"))
        megabytes = int(peak) / 1024
        row("memory, at most", "24 MB", f"{megabytes:.1f} MB", megabytes <= 24)
        before = cpu_seconds(self.gateway.pid)
        time.sleep(IDLE_SECONDS)
        used = (cpu_seconds(self.gateway.pid) - before) / IDLE_SECONDS
        row("CPU when idle", "0.1 %", f"{used:.2%}", used <= 0.001)
        starts = []
        for _ in range(ROUNDS):
            self.gateway.terminate()
            self.gateway.write_config()
            began = time.monotonic()
            self.gateway.spawn([self.gateway.binary, "run", "--config",
                                self.gateway.config_path])
            while http_get(HOST, self.gateway.port, "/readyz",
                           timeout=1)[0] != 200:
                pass
            starts.append(time.monotonic() - began)
        took = statistics.median(starts) * 1e3
        row("start to first answer", "50 ms", f"{took:.0f} ms", took <= 50)


def over_http(directory):
    bench = GatewayBench(directory)
    prepare(bench)
    row(f"gateway, pool of {POOL}, {CONNECTIONS} connections, {ROUNDS} rounds"
        f" of {SECONDS} s", "target", "reached", True, "gateway", "against",
        "CPU each", "against")
    bench.begin(1000)
    ours, go = (Http(bench, server, "reserve")
                for server in (bench.gateway, bench.shop))
    bench.targets = {"32 pgbench clients, reserve_stock": 1.5,
                     "32 pgbench clients, bare UPDATE": 25,
                     "Go service, pool of 16": 3}
    bench.compare("one hot product, flush + 1 ms", ours, {
        "32 pgbench clients, reserve_stock": Arm(HOT),
        "32 pgbench clients, bare UPDATE": Arm(BARE),
        "Go service, pool of 16": go})
    bench.latency()
    bench.begin(None)
    ours, go = (Http(bench, server, "reserve", PRODUCTS)
                for server in (bench.gateway, bench.shop))
    bench.targets["32 pgbench clients, reserve_stock"] = 1.2
    bench.compare("10,000 products", ours, {
        "32 pgbench clients, reserve_stock": Arm(MANY_RESERVE),
        "Go service, pool of 16": go})
    bench.refusals()
    bench.away()
    bench.footprint()
    assert bench.db.drift() == []
    bench.gateway.terminate()
    bench.shop.close()
    bench.pg.stop()
