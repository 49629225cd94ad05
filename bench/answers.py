# SPDX-License-Identifier: PostgreSQL
"""What questions and answers cost: see bench/run.

order_history beside rows that are retained; check_availability; wait_for_event;
what bindings add to the application of messages. Each has a goal.
"""

import json
import os
import statistics
import time
from contextlib import closing

from cluster import Kafka, Postgres, Relay
from stock import PRODUCTS, ROUNDS, SECONDS, Arm, Bench, cell, goal

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
    median = statistics.median(times[1:])
    goal("order_history", "< 10 ms", f"{median:.1f} ms", median < 10)
    pg.stop()


# ---- check_availability ------------------------------------------------------

def availability(directory):
    directory = os.path.join(directory, "availability")
    os.makedirs(directory, 0o777)
    os.chmod(directory, 0o777)
    bench = Bench(directory)
    bench.db.sql("SELECT receive_stock('p' || i, 1000000000)"
                 " FROM generate_series(1, %s) i", (PRODUCTS,))
    cell(f"a line, {ROUNDS} rounds of {SECONDS} s", "pgstock", "against",
         "ratio", "CPU/call", "against")
    for what, product in (("one product", "1"),
                          (f"{PRODUCTS:,} products", "' || :p || '")):
        bench.compare(f"check_availability, {what}", Arm(
            f"\\set p random(1, {PRODUCTS})\nSELECT * FROM"
            " check_availability(('[{\"product_id\": \"p" + product
            + "\", \"quantity\": 1}]')::jsonb);"),
            {"SELECT 1": Arm("SELECT 1;")})
        ratio = bench.points[-1][4]
        goal(f"check_availability, {what}, by rate", ">= 0.8",
             f"{ratio:.2f}", ratio >= 0.8)
    bench.pg.stop()


# ---- wait_for_event ----------------------------------------------------------

def acks(relay):
    return [relay.metric(f"outbox_commit_to_ack_seconds_{part}")
            for part in ("sum", "count")]


def wait_once(cursor, relay, after):
    """Of one event, from its writing on: ms to the answer that Kafka has it,
    and ms to the acknowledgement, which the relay measured; after: the relay's
    figures before."""
    cursor.execute("SELECT publish_event('bench', 'k', '{}')")
    event = cursor.fetchone()[0]
    cursor.execute("SELECT wait_for_event(%s)", (event,))
    returned = time.time()
    assert cursor.fetchone()[0]
    cursor.execute("SELECT extract(epoch FROM created_at)"
                   "  FROM event_status(%s)", (event,))
    created = float(cursor.fetchone()[0])
    total, count = (b - a for a, b in zip(after, acks(relay)))
    assert count == 1
    return (returned - created) * 1000, total * 1000


def wait(db, relay, pause):
    """Pairs of wait_once."""
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        pairs = []
        for _ in range(WAITS):
            pairs.append(wait_once(cursor, relay, acks(relay)))
            time.sleep(pause)
    return pairs


def wait_at_once(db, relay):
    """One wait after the other, with nothing between: the mean ms of the
    answers and, which the relay measured, of the acknowledgements."""
    returned, before = {}, acks(relay)
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for _ in range(WAITS):
            cursor.execute("SELECT publish_event('bench', 'k', '{}')")
            event = cursor.fetchone()[0]
            cursor.execute("SELECT wait_for_event(%s)", (event,))
            returned[event] = time.time()
            assert cursor.fetchone()[0]
    total, count = (b - a for a, b in zip(before, acks(relay)))
    assert count == WAITS
    created = dict(db.sql("SELECT event_id, extract(epoch FROM created_at)"
                          "::float8 FROM stock_outbox"))
    return (statistics.mean(at - created[event]
                            for event, at in returned.items()) * 1000,
            total / count * 1000)


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
         "to the ack", "to the answer", "between", "p90")
    wait(db, relay, 0.02)           # the broker compiles what it needs
    pairs = wait(db, relay, 0.02)
    beyond = sorted(answer - ack for answer, ack in pairs)
    median = statistics.median(beyond)
    cell("one each 20 ms, medians of the pairs",
         *(f"{statistics.median(column):.2f} ms" for column in
           ((ack for _, ack in pairs), (answer for answer, _ in pairs),
            beyond)), f"{beyond[len(beyond) * 9 // 10]:.2f} ms")
    goal("wait_for_event beyond the ack, one each 20 ms", "< 2 ms",
         f"{median:.2f} ms", median < 2)
    answer, ack = wait_at_once(db, relay)
    cell("one after the other, means", f"{ack:.2f} ms", f"{answer:.2f} ms",
         f"{answer - ack:.2f} ms")
    goal("wait_for_event beyond the ack, one after the other", "< 2 ms",
         f"{answer - ack:.2f} ms", answer - ack < 2)
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
    goal("fields of a binding, by CPU", "< 1.05x", f"{ratio:.3f}x",
         ratio < 1.05)
    pg.stop()


def answers(directory):
    bindings(directory)
    availability(directory)
    waits(directory)
    history(directory)
