# SPDX-License-Identifier: PostgreSQL
"""Figures, each a ratio or a rate of one run: see bench/run."""

import os
import sys
import time
from contextlib import closing

from cluster import Kafka, Postgres, Relay
from kafkaio import delivered
from process import children_of, run_dir, wait_until
from stock import cpu_seconds, stock


def row(what, *cells):
    print(f"{what:52}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def drain(db, relay, events, per_transaction):
    relay.terminate()
    for _ in range(events // per_transaction):
        db.sql("SELECT count(publish_event('bench', 'k' || i,"
               " jsonb_build_object('pad', repeat('x', 280))))"
               " FROM generate_series(1, %s) i", (per_transaction,))
    started = time.time()
    relay.start()
    wait_until(lambda: (relay.metric("outbox_published_total", topic="bench")
                        or 0) >= events, 300, "all of them are published")
    took = time.time() - started
    row(f"drain {events:,} events, {per_transaction:,} a transaction",
        f"{events / took:,.0f}/s", f"{relay.peak_kb() / 1024:.0f} MB",
        f"{cpu_seconds(relay.pid) / events * 1e6:.1f} us")


def latency(db, kafka, rate, seconds=10):
    """clock_timestamp() in the inserting statement to the append time."""
    sent = {}
    with kafka.tail("latency") as tail, closing(db.connect()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        started = time.time()
        for n in range(rate * seconds):
            pause = started + n / rate - time.time()
            if pause > 0:
                time.sleep(pause)
            cursor.execute("SELECT extract(epoch FROM clock_timestamp()),"
                           " publish_event('latency', 'k', '{}')")
            at, event = cursor.fetchone()
            sent[event] = float(at)
        tail.until(lambda r: len(r) >= len(sent), 60, "all of them")
        late = sorted(1000 * (r.timestamp_ms / 1000 - sent[r.header("ce_id")])
                      for r in tail.records if r.header("ce_id") in sent)
    row(f"commit to append, {rate}/s: p50, p99, max (ms)",
        f"{late[len(late) // 2]:.1f}", f"{late[len(late) * 99 // 100]:.1f}",
        f"{late[-1]:.1f}")


def audit(db, relay, events=1_000_000):
    """The outbox against its topics; the figure to reach is 30 s."""
    have = db.value("SELECT count(*) FROM stock_outbox")
    db.sql("SELECT count(publish_event('bench', 'k' || i,"
           " jsonb_build_object('pad', repeat('x', 280))))"
           " FROM generate_series(1, %s) i", (events - have,))
    wait_until(lambda: db.value(
        "SELECT value::bigint FROM pgstock_internal.relay_status()"
        " WHERE name = 'pending_events'") == 0, 300, "all are published")
    before = os.times()
    started = time.time()
    done = relay.run_binary("audit", "--config", relay.config_path,
                            timeout=300)
    took = time.time() - started
    after = os.times()
    assert done.returncode == 0, done.stdout
    cpu = (after.children_user + after.children_system
           - before.children_user - before.children_system)
    row(f"audit of {events:,} events", f"{took:.1f} s", "",
        f"{cpu / events * 1e6:.1f} us")


def relay(directory):
    pg = Postgres(os.path.join(directory, "rpg")).init().start()
    db = pg.create_database("bench")
    kafka = Kafka(os.path.join(directory, "kafka"))
    kafka.init().start()
    kafka.create_topics("bench")
    kafka.create_topics("latency", message_timestamp_type="LogAppendTime")
    daemon = Relay(os.path.join(directory, "relay"), db.conninfo(),
                   kafka.brokers).start()
    row("relay", "rate", "peak RSS", "CPU/event")
    latency(db, kafka, 100)
    latency(db, kafka, 500)
    drain(db, daemon, 200_000, 1_000)
    audit(db, daemon)
    daemon.terminate()
    kafka.stop()
    pg.stop()


def put_orders(kafka, orders, products):
    """Orders of one line each, by the thousand as a shop's service would."""
    out = kafka.producer(**{"linger.ms": 50})
    for n in range(orders):
        while True:
            try:
                out.produce("order-created", key=f"o-{n}", value=(
                    f'{{"event_id": "e-{n}", "order_id": "o-{n}",'
                    f' "user_id": "u-{n % 1000}", "items": [{{"product_id":'
                    f' "p{n % products + 1}", "quantity": 1}}]}}'))
                break
            except BufferError:
                out.poll(0.1)
    delivered(out, 120)


def inbound(directory):
    """order-created consumed to StockReserved published, a backlog of them."""
    orders, products = int(os.environ.get("ORDERS", "100000")), 10_000
    pg = Postgres(os.path.join(directory, "ipg"), {"fsync": "on"})
    pg.init().start()
    db = pg.create_database("bench")
    kafka = Kafka(os.path.join(directory, "ikafka"))
    kafka.init().start()
    kafka.create_topics("order-created", "stock-events", partitions=6)
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(1, %s) i", (products,))
    put_orders(kafka, orders, products)
    daemon = Relay(os.path.join(directory, "irelay"), db.conninfo(),
                   kafka.brokers, {"inbox": {"topics": "order-created"}})
    # the events of the receipts are out of the way first
    daemon.config["inbox"] = {}
    daemon.start()
    published = lambda: daemon.metric("outbox_published_total",
                                      topic="stock-events")
    wait_until(lambda: published() >= products, 60, "the receipts")
    daemon.terminate()
    daemon.config["inbox"] = {"topics": "order-created"}
    row("inbound", "rate", "relay CPU/order", "server CPU/order")
    backends = lambda: sum(map(cpu_seconds, children_of(pg.pid)))
    before, started = backends(), time.time()
    daemon.start()
    wait_until(lambda: published() >= orders, 300, lambda: f"{published()}")
    took = time.time() - started
    row(f"{orders:,} order-created to StockReserved published",
        f"{orders / took:,.0f}/s",
        f"{cpu_seconds(daemon.pid) / orders * 1e6:.1f} us",
        f"{(backends() - before) / orders * 1e6:.1f} us")
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = 'reserved'") == orders
    assert db.drift() == []
    daemon.terminate()
    kafka.stop()
    pg.stop()


if __name__ == "__main__":
    base = run_dir()
    if sys.argv[1] in ("all", "stock"):
        stock(base)
    if sys.argv[1] in ("all", "relay"):
        relay(base)
    if sys.argv[1] in ("all", "inbound"):
        inbound(base)
