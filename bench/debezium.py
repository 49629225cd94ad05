# SPDX-License-Identifier: PostgreSQL
"""Debezium beside the relay: the same outbox, the same backlogs, in turns.

Kafka Connect with Debezium's PostgreSQL connector and outbox router, set as
docs/events.md says, and tuned: a short poll, large batches and queues, a heap
of its own size.
"""

import os
import statistics
import time

from cluster import HOST
from process import Server, wait_until
from relay import (EVENTS, RATES, Bench, cpu_seconds, drain, latency,
                   write_backlog)
from stock import ROUNDS, cell

WORKER = """\
bootstrap.servers={brokers}
key.converter=io.debezium.converters.BinaryDataConverter
value.converter=io.debezium.converters.BinaryDataConverter
header.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={directory}/offsets
offset.flush.interval.ms=1000
listeners=HTTP://127.0.0.1:{port}
producer.linger.ms=0
producer.batch.size=262144
"""
CONNECTOR = """\
name=pgstock-outbox
connector.class=io.debezium.connector.postgresql.PostgresConnector
database.hostname={host}
database.port={pg_port}
database.user=postgres
database.password=none
database.dbname={database}
topic.prefix=shop
plugin.name=pgoutput
slot.name=pgstock_outbox
publication.name=pgstock_outbox
publication.autocreate.mode=disabled
snapshot.mode=no_data
tombstones.on.delete=false
poll.interval.ms=5
max.batch.size=8192
max.queue.size=32768
transforms=outbox
transforms.outbox.type=io.debezium.transforms.outbox.EventRouter
transforms.outbox.route.by.field=aggregatetype
transforms.outbox.route.topic.replacement=${{routedByValue}}
transforms.outbox.route.tombstone.on.empty.payload=true
transforms.outbox.table.fields.additional.placement=\
type:header:eventType,traceparent:header:traceparent,seq:header:ce_sequence
"""


class Connect(Server):
    """Kafka Connect, standalone, with the one connector."""

    def __init__(self, bench):
        super().__init__(os.path.join(bench.directory, "connect"))
        self.db = bench.db
        values = {"brokers": bench.kafka.brokers, "directory": self.directory,
                  "port": self.take_port(), "host": HOST,
                  "pg_port": bench.pg.port, "database": bench.db.name}
        for name, text in ("worker", WORKER), ("connector", CONNECTOR):
            path = os.path.join(self.directory, name)
            with open(path, "w", encoding="ascii") as file:
                file.write(text.format(**values))
            os.chmod(path, 0o644)

    def start(self):
        self.spawn(["java", "-cp",
                    os.path.join(os.environ["PGSTOCK_DEBEZIUM"], "*"),
                    "org.apache.kafka.connect.cli.ConnectStandalone",
                    os.path.join(self.directory, "worker"),
                    os.path.join(self.directory, "connector")])

    def wait_slot(self, active):
        wait_until(lambda: self.db.sql(
            "SELECT active FROM pg_replication_slots") == [(active,)], 120,
            lambda: self.tail())

    def peak_mb(self):
        with open(f"/proc/{self.pid}/status", encoding="utf8") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    def stop(self):
        self.signal(15)
        self.wait_end(60)
        self.wait_slot(False)


def publish(db):
    tables = db.value(
        "SELECT string_agg(attrelid::regclass::text, ', ') FROM pg_attribute"
        " JOIN pg_class c ON c.oid = attrelid WHERE attname = 'aggregatetype'"
        " AND relnamespace = 'pgstock_internal'::regnamespace"
        " AND relkind = 'r'")
    db.sql(f"CREATE PUBLICATION pgstock_outbox FOR TABLE {tables}"
           " WITH (publish = 'insert')")


def drain_connect(bench, connect):
    """As relay.drain."""
    goal = bench.kafka.count("bench") + EVENTS
    started = time.time()
    connect.start()
    wait_until(lambda: bench.kafka.count("bench") >= goal, 900,
               lambda: connect.tail(), step=0.2)
    took, cpu = time.time() - started, cpu_seconds(connect.pid)
    peak = connect.peak_mb()
    connect.stop()
    return EVENTS / took, cpu / EVENTS * 1e6, peak


def drains(bench, connect):
    cell(f"drain of {EVENTS:,}, start included, {ROUNDS} rounds", "relay",
         "Debezium", "ratio", "CPU s/M", "its own", "peak", "its own")
    for each in (100, 1):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            write_backlog(bench, EVENTS, each)
            ours.append(drain(bench))
            theirs.append(drain_connect(bench, connect))
        rate, cpu, peak = map(statistics.median, zip(*ours))
        other, other_cpu, other_peak = map(statistics.median, zip(*theirs))
        cell(f"transactions of {each}", f"{rate:,.0f}/s", f"{other:,.0f}/s",
             f"{rate / other:.1f}x", f"{cpu:.2f}", f"{other_cpu:.2f}",
             f"{peak:.0f} MB", f"{other_peak:.0f} MB")


def latencies(bench, connect):
    cell("Debezium: commit to append", "p50", "p95", "p99", "max",
         "of a core")
    connect.start()
    connect.wait_slot(True)
    time.sleep(5)
    for rate in RATES[:3]:
        latency(bench, rate, connect)
    connect.stop()
    cell("the relay: commit to append", "p50", "p95", "p99", "max",
         "of a core")
    with bench.streaming():
        for rate in RATES[:3]:
            latency(bench, rate, bench.relay)


def debezium(directory):
    bench = Bench(os.path.join(directory, "debezium-bench"),
                  {"wal_level": "logical"})
    publish(bench.db)
    connect = Connect(bench)
    connect.start()
    connect.wait_slot(True)
    connect.stop()
    drains(bench, connect)
    latencies(bench, connect)
    bench.close()
