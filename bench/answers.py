# SPDX-License-Identifier: PostgreSQL
"""What questions and answers cost: see bench/run.

order_history beside rows that are retained; wait_for_event; what bindings add
to the application of messages.
"""

import json
import os
import statistics
import time
from contextlib import closing

from cluster import Kafka, Postgres, Relay
from stock import ROUNDS, cell

ROWS = int(os.environ.get("ROWS", "10000000"))
PARTS = 5                   # of outbox and ledger, in which they are
LINES = 25                  # of the order that is asked for: 100 facts
WAITS = 300
BATCH = 500                 # messages
BATCHES = 20
OPTIONS = json.dumps({
    "dlq_topic": "{topic}_dlq", "retry_delays_ms": [10000],
    "order_wait_ms": 900000, "dedup_retention_ms": 604800000,
    "group": "bench"})


def cpu_ns(pid):
    with open(f"/proc/{pid}/schedstat", encoding="utf8") as file:
        return int(file.read().split()[0])


# ---- order_history -----------------------------------------------------------

def retain(db, part, rows):
    """A movement and the event that it names for each order."""
    first = part * rows
    db.sql("INSERT INTO pgstock_internal.movement (id, at, kind, product_id,"
           " location, on_hand_delta, reserved_delta, order_id, actor,"
           " event_id, part) SELECT -i, now(), 'reserved', 'p' || i %% 1000,"
           " 'main', 0, 0, 'r' || md5(i::text), 'bench', lpad(to_hex(i), 32,"
           " '0')::uuid, %s FROM generate_series(%s, %s) i",
           (part, first, first + rows - 1))
    db.sql("INSERT INTO pgstock_internal.outbox (id, aggregatetype,"
           " aggregateid, type, payload, created_at, format, part)"
           " SELECT lpad(to_hex(i), 32, '0')::uuid, 'stock-events',"
           " convert_to('r' || md5(i::text), 'UTF8'), 'StockReserved',"
           " '{\"event_type\": \"StockReserved\", \"items\": []}', now(),"
           " 'j', %s FROM generate_series(%s, %s) i",
           (part, first, first + rows - 1))


def order_of_100_facts(db):
    """Lines, a movement of each at each of two steps, two events, and
    events of an application."""
    items = json.dumps([{"product_id": f"p{n}", "quantity": 1}
                        for n in range(LINES)])
    db.sql("SELECT receive_stock('p' || i, 1000) FROM"
           " generate_series(0, %s) i", (LINES - 1,))
    db.sql("SELECT reserve_order('o-100', %s)", (items,))
    db.sql("SELECT confirm_stock('o-100', 'p-1')")
    facts = db.value("SELECT count(*) FROM order_history('o-100')")
    db.sql("SELECT publish_event('shop', 'o-100', '{}')"
           " FROM generate_series(1, %s)", (100 - facts,))


def history(directory):
    pg = Postgres(os.path.join(directory, "hpg"),
                  {"shared_buffers": "1GB", "max_wal_size": "4GB"})
    pg.init().start()
    db = pg.create_database("bench")
    for part in range(1, PARTS + 1):
        retain(db, part, ROWS // PARTS // 2)
    db.sql("VACUUM ANALYZE")
    order_of_100_facts(db)
    times = []
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for n in range(101):
            if n == 1:          # the session has read the catalog
                cpu = cpu_ns(connection.info.backend_pid)
            started = time.perf_counter()
            cursor.execute("SELECT * FROM order_history('o-100')")
            found = len(cursor.fetchall())
            times.append((time.perf_counter() - started) * 1000)
        cpu = (cpu_ns(connection.info.backend_pid) - cpu) / 100 / 1e6
    assert found == 100
    size = db.value("SELECT pg_database_size(current_database())") / 2**30
    cell(f"order_history of 100 facts beside {ROWS:,} rows ({size:.1f} GB)",
         "median", "p99", "the first", "CPU")
    cell("", f"{statistics.median(times[1:]):.1f} ms",
         f"{sorted(times[1:])[98]:.1f} ms", f"{times[0]:.1f} ms",
         f"{cpu:.1f} ms")
    pg.stop()


# ---- wait_for_event ----------------------------------------------------------

def acks(relay):
    return [relay.metric(f"outbox_commit_to_ack_seconds_{part}")
            for part in ("sum", "count")]


def wait(db, relay, pause):
    """Median ms from the call that writes an event to the answer that Kafka
    has it; the mean of the relay's own figure, from the same moment to the
    acknowledgement."""
    times, before = [], acks(relay)
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for _ in range(WAITS):
            started = time.perf_counter()
            cursor.execute("SELECT publish_event('bench', 'k', '{}')")
            event = cursor.fetchone()[0]
            cursor.execute("SELECT wait_for_event(%s)", (event,))
            assert cursor.fetchone()[0]
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(pause)
    total, count = (b - a for a, b in zip(before, acks(relay)))
    assert count == WAITS
    return statistics.median(times), total / count * 1000


def waits(directory):
    pg = Postgres(os.path.join(directory, "wpg"), {"fsync": "on"})
    pg.init().start()
    db = pg.create_database("bench")
    kafka = Kafka(os.path.join(directory, "wkafka"), short=False)
    kafka.init().start()
    kafka.create_topics("bench")
    relay = Relay(os.path.join(directory, "wrelay"), db.conninfo(),
                  kafka.brokers).start()
    cell(f"wait_for_event, {WAITS} of them, from the event's writing",
         "median", "to the ack", "difference")
    wait(db, relay, 0.02)           # the broker compiles what it needs
    for pause, what in ((0.02, "one each 20 ms"), (0, "without a pause")):
        median, ack = wait(db, relay, pause)
        cell(what, f"{median:.2f} ms", f"{ack:.2f} ms",
             f"{median - ack:.2f} ms")
    assert relay.terminate() == 0
    kafka.stop()
    pg.stop()


# ---- Bindings ----------------------------------------------------------------

def plain(n):
    return {"event_id": f"e-{n}", "order_id": f"o-{n}", "user_id": "u",
            "items": [{"product_id": f"p{n % 1000}", "quantity": 1}]}


def mapped(n):
    return {"meta": {"uuid": f"e-{n}"}, "data": {
        "orderNo": f"o-{n}", "buyer": {"login": "u"},
        "lines": [{"sku": f"p{n % 1000}", "qty": 1}]}}


FIELDS = json.dumps({
    "event_id": "$.meta.uuid", "order_id": "$.data.orderNo",
    "user_id": "$.data.buyer.login", "items": "$.data.lines",
    "product_id": "$.sku", "quantity": "$.qty"})


def apply(connection, topic, make, first):
    """us of the session's CPU for each message of a few batches."""
    pid, n = connection.info.backend_pid, BATCH * BATCHES
    values = [json.dumps(make(first + i)).encode() for i in range(n)]
    cpu = cpu_ns(pid)
    with connection.cursor() as cursor:
        for at in range(0, n, BATCH):
            cursor.execute(
                "SELECT sum(n) FROM pgstock_internal.relay_apply(%s::text[],"
                " %s::int[], %s::bigint[], %s::bigint[], %s::bytea[],"
                " %s::bytea[], %s::bytea[], %s)",
                ([topic] * BATCH, [0] * BATCH,
                 list(range(first + at, first + at + BATCH)), [-1] * BATCH,
                 [None] * BATCH, values[at:at + BATCH], [None] * BATCH,
                 OPTIONS))
            assert cursor.fetchone()[0] == BATCH
    return (cpu_ns(pid) - cpu) / n / 1000


def bindings(directory):
    pg = Postgres(os.path.join(directory, "bpg"), {"fsync": "on"})
    pg.init().start()
    db = pg.create_database("bench")
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(0, 999) i")
    db.sql("SELECT bind_topic('bench', 'order_created', fields => %s)",
           (FIELDS,))
    ours, theirs, n = [], [], 0
    with closing(db.connect()) as connection:
        connection.autocommit = True
        for _ in range(2 * ROUNDS + 1):
            for topic, make, runs in (("bench", mapped, ours),
                                      ("order-created", plain, theirs)):
                runs.append(apply(connection, topic, make, n))
                n += BATCH * BATCHES
    ours, theirs = ours[1:], theirs[1:]     # what the first ones build up
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = 'reserved'") == n
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    cell("an order-created, CPU of the session that applies it", "bound",
         "by default", "ratio")
    cell(f"{len(ours)} pairs of {BATCH * BATCHES:,}, all fields mapped",
         f"{statistics.median(ours):.1f} us",
         f"{statistics.median(theirs):.1f} us", f"{ratio:.3f}x")
    pg.stop()


def answers(directory):
    bindings(directory)
    waits(directory)
    history(directory)
