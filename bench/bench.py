# SPDX-License-Identifier: PostgreSQL
"""Figures, each a ratio or a rate of one run: see bench/run."""

import os
import sys
import time

from cluster import Kafka, Postgres, Relay
from kafkaio import delivered
from process import children_of, run_dir, wait_until
from answers import answers
from debezium import debezium
from over_http import over_http
from refused import refused
from relay import relay
from scaling import scaling
from stock import cell, cpu_seconds, stock


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
    kafka = Kafka(os.path.join(directory, "ikafka"), short=False)
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
    cell("inbound", "rate", "relay CPU/order", "server CPU/order")
    backends = lambda: sum(map(cpu_seconds, children_of(pg.pid)))
    before, started = backends(), time.time()
    daemon.start()
    wait_until(lambda: published() >= orders, 300, lambda: f"{published()}")
    took = time.time() - started
    cell(f"{orders:,} order-created to StockReserved published",
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
    if sys.argv[1] in ("all", "answers"):
        answers(base)
    if sys.argv[1] in ("all", "gateway"):
        over_http(base)
    if sys.argv[1] in ("all", "shards"):
        scaling(base)
    if sys.argv[1] in ("all", "refused"):
        refused(base)
    if sys.argv[1] == "debezium":
        debezium(base)
