# SPDX-License-Identifier: PostgreSQL
"""How fast the relay is: see bench/run.

Drain is measured in turns with librdkafka alone, which sends the same records
from memory. Latency is from clock_timestamp() in the statement that inserts to
the broker's append time, so the writer's own commit is in it; the broker's
clock has whole milliseconds.
"""

import os
import re
import statistics
import subprocess
import time
from contextlib import contextmanager

from cluster import Kafka, Postgres, Relay
from process import as_server, make_dir, wait_until
from stock import HERE, ROUNDS, SECONDS, cell, cpu_seconds

EVENTS = int(os.environ.get("EVENTS", "500000"))
RATES = 100, 500, 2_000, 10_000
WRITERS = 16
PAD = "repeat('x', 280)"
SINGLE = ("SELECT publish_event('bench', 'k' || :client_id,"
          f" jsonb_build_object('pad', {PAD}));")
TIMED = ("SELECT publish_event('latency', 'k' || :client_id,"
         " jsonb_build_object('at', extract(epoch FROM clock_timestamp())));")


class Bench:
    """A server, a broker and a relay with nothing else to do."""

    def __init__(self, directory, settings=None):
        self.directory = make_dir(directory)
        self.pg = Postgres(os.path.join(directory, "pg"),
                           {"fsync": "on", **(settings or {})}).init().start()
        self.db = self.pg.create_database("bench")
        self.kafka = Kafka(os.path.join(directory, "kafka"), short=False)
        self.kafka.init().start()
        self.kafka.create_topics("bench", "alone")
        self.kafka.create_topics("latency",
                                 message_timestamp_type="LogAppendTime")
        self.relay = Relay(os.path.join(directory, "relay"),
                           self.db.conninfo(), self.kafka.brokers)
        self.producer = os.path.join(directory, "producer")
        subprocess.run(["gcc", "-O2", "-o", self.producer,
                        os.path.join(HERE, "producer.c"), "-lrdkafka"],
                       check=True)

    def pgbench(self, script, clients, *options):
        path = os.path.join(self.directory, "relay.sql")
        with open(path, "w", encoding="utf8") as file:
            file.write(script)
        os.chmod(path, 0o644)
        return subprocess.Popen(
            as_server([Postgres.bin("pgbench"), "-n", "-M", "prepared", "-c",
                       str(clients), "-j", "2", "-f", path, *options, "-h",
                       "127.0.0.1", "-p", str(self.pg.port), "-U", "postgres",
                       self.db.name]), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PGOPTIONS": "-c synchronous_commit=off"
                 if "-t" in options else ""})

    def published(self, topic="bench"):
        return self.relay.metric("outbox_published_total", topic=topic)

    @contextmanager
    def streaming(self):
        """The relay at work, its backlog behind it."""
        self.relay.start()
        wait_until(lambda: self.db.value(
            "SELECT value::bigint FROM pgstock_internal.relay_status()"
            " WHERE name = 'pending_events'") == 0, 300, "all is published")
        yield
        assert self.relay.terminate() == 0

    def close(self):
        self.kafka.stop()
        self.pg.stop()


# ---- Drain -------------------------------------------------------------------

def write_backlog(bench, events, each):
    if each == 1:
        bench.pgbench(SINGLE, WRITERS, "-t", str(events // WRITERS)
                      ).communicate()
        return
    for _ in range(events // each // 100):
        bench.db.sql("DO $$ BEGIN FOR t IN 1..100 LOOP"
                     " PERFORM publish_event('bench', 'k' || i,"
                     f" jsonb_build_object('pad', {PAD}))"
                     " FROM generate_series(1, %s) i; COMMIT;"
                     " END LOOP; END $$", (each,))


def drain(bench):
    """Events a second, start and first connection included, the CPU seconds
    of a million, and the most memory."""
    started = time.time()
    bench.relay.start(wait=None)
    wait_until(lambda: bench.relay.get("/readyz")[0] == 200
               and bench.published() >= EVENTS, 600, "all of them")
    took, cpu = time.time() - started, cpu_seconds(bench.relay.pid)
    peak = bench.relay.peak_kb() / 1024
    assert bench.relay.terminate() == 0
    return EVENTS / took, cpu / EVENTS * 1e6, peak


def alone(bench):
    done = subprocess.run([bench.producer, bench.kafka.brokers, "alone",
                           str(EVENTS)], check=True, capture_output=True,
                          text=True)
    took, cpu = map(float, done.stdout.split())
    return EVENTS / took, cpu / EVENTS * 1e6


def drains(bench):
    cell(f"drain of {EVENTS:,}, {ROUNDS} rounds", "relay", "librdkafka",
         "ratio", "CPU s/M", "its own", "peak")
    for each in (100, 1):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            write_backlog(bench, EVENTS, each)
            ours.append(drain(bench))
            theirs.append(alone(bench))
        rate, cpu, peak = map(statistics.median, zip(*ours))
        other, other_cpu = map(statistics.median, zip(*theirs))
        ratio = statistics.median(a[0] / b[0] for a, b in zip(ours, theirs))
        cell(f"transactions of {each}", f"{rate:,.0f}/s", f"{other:,.0f}/s",
             f"{ratio:.2f}x", f"{cpu:.2f}", f"{other_cpu:.2f}",
             f"{peak:.0f} MB")


# ---- Latency, and what streaming costs ---------------------------------------

def latency(bench, rate, publisher):
    """p50, p95, p99 and max in ms of single-row commits at this rate, and the
    publisher's share of a core meanwhile."""
    before = bench.kafka.count("latency")
    cpu, started = cpu_seconds(publisher.pid), time.time()
    out, _ = bench.pgbench(TIMED, WRITERS, "-R", str(rate), "-T", str(SECONDS)
                           ).communicate()
    share = (cpu_seconds(publisher.pid) - cpu) / (time.time() - started)
    count = int(re.search(r"processed: (\d+)", out).group(1))
    wait_until(lambda: bench.kafka.count("latency") >= before + count, 60,
               "all is published", step=0.5)
    records = sorted(bench.kafka.consume("latency"),
                     key=lambda r: r.timestamp_ms)
    late = sorted(r.timestamp_ms - 1000 * r.json["at"]
                  for r in records[before:])
    cell(f"at {rate:,}/s ({count / SECONDS:,.0f}/s came)",
         *(f"{late[min(int(len(late) * part), len(late) - 1)]:.1f} ms"
           for part in (0.5, 0.95, 0.99, 1)), f"{100 * share:.1f} %")


def latencies(bench):
    cell(f"commit to append, {SECONDS} s each", "p50", "p95", "p99", "max",
         "of a core")
    with bench.streaming():
        for rate in RATES:
            latency(bench, rate, bench.relay)


def writers(bench):
    """The rate of single events with and without a relay at work."""
    def rate():
        out, _ = bench.pgbench(SINGLE, WRITERS, "-T", str(SECONDS)
                               ).communicate()
        return float(out.split("tps = ")[1].split()[0])
    with_relay, without = [], []
    for _ in range(ROUNDS):
        with bench.streaming():
            with_relay.append(rate())
        without.append(rate())
    cell(f"{WRITERS} writers of single events, streaming : stopped",
         f"{statistics.median(with_relay):,.0f}/s",
         f"{statistics.median(without):,.0f}/s",
         f"{statistics.median(a / b for a, b in zip(with_relay, without)):.2f}"
         "x")


# ---- The rest ----------------------------------------------------------------

def first_event(bench):
    """From the start of the process to the first event with the broker."""
    times = []
    for _ in range(5):
        bench.db.sql("SELECT publish_event('bench', 'k', '{}')")
        started = time.time()
        bench.relay.start(wait=None)
        wait_until(lambda: bench.relay.get("/readyz")[0] == 200
                   and bench.published() >= 1, 30, "the event", step=0.002)
        times.append(time.time() - started)
        assert bench.relay.terminate() == 0
    cell("start to first event", f"{statistics.median(times):.2f} s")


def idle(bench, seconds=20):
    with bench.streaming():
        time.sleep(2)
        cpu = cpu_seconds(bench.relay.pid)
        time.sleep(seconds)
        share = (cpu_seconds(bench.relay.pid) - cpu) / seconds
        with open(f"/proc/{bench.relay.pid}/statm", encoding="utf8") as file:
            pages = int(file.read().split()[1])
        cell("idle: of a core, memory", f"{100 * share:.2f} %",
             f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.1f} MB")


def audit(bench):
    """The outbox against its topics; the figure to reach is a million in
    30 s."""
    events = bench.db.value("SELECT count(*) FROM stock_outbox")
    with bench.streaming():
        before, started = os.times(), time.time()
        done = bench.relay.run_binary("audit", "--config",
                                      bench.relay.config_path, timeout=600)
        took, after = time.time() - started, os.times()
    assert done.returncode == 0, done.stdout
    cpu = (after.children_user + after.children_system
           - before.children_user - before.children_system)
    cell(f"audit of {events:,} events", f"{took:.1f} s",
         f"{took / events * 1e6:.1f} s/M", "", f"{cpu / events * 1e6:.2f}")


def relay(directory):
    bench = Bench(os.path.join(directory, "relay-bench"))
    first_event(bench)
    idle(bench)
    alone(bench)            # the broker compiles what it needs
    latencies(bench)
    writers(bench)
    drains(bench)
    audit(bench)
    bench.close()
