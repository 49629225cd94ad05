# SPDX-License-Identifier: PostgreSQL
"""Order topics of each shard: a producer chooses the topic by the key, and the
relay of the shard reads it, as on one database."""

import hashlib
import json

import pytest

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until

BOUND = {"order-created": "order_created", "payment-success": "payment_success"}
ORDERS = 200


@pytest.fixture(name="shop")
def fixture_shop(shards):
    """Each shard reads topics of its own."""
    for n, shard in enumerate(shards.shards):
        for topic, handler in BOUND.items():
            shard.sql("SELECT bind_topic(%s, %s)",
                      (f"shop{n}.{topic}", handler))
    for (product,) in shards.products():
        shards.front.sql("SELECT receive_stock(%s, 1000)", (product,))
    return shards


def shard_of(key, shards):
    """As docs/sharding.md computes it."""
    digest = hashlib.md5(key.encode()).hexdigest()
    return int(digest[:8], 16) % shards


def put(out, number, products):
    """An order, and the payment of most; how many messages."""
    (product,) = products[number % len(products)]
    shard = shard_of(product, len(products))
    order = f"topic-{number}"
    send(out, f"shop{shard}.order-created", {
        "order_id": order, "event_id": f"created-{number}", "items": [
            {"product_id": product, "quantity": 1}]}, key=order)
    if number % 5 == 0:
        return 1
    send(out, f"shop{shard}.payment-success", {
        "order_id": order, "event_id": f"paid-{number}"}, key=order)
    return 2


def test_each_shard_reads_its_topics(shop, kafka, relays):
    """Two relays are killed in the middle of it."""
    topics = [[f"shop{n}.{topic}" for topic in BOUND]
              for n in range(len(shop.shards))]
    kafka.create_topics(*(name for names in topics for topic in names
                          for name in (topic, f"{topic}_dlq")))
    running = [relays(shard.conninfo(), kafka.brokers, {
        "inbox": {"topics": ", ".join(names)},
        "kafka": {"session.timeout.ms": "6000"}})
        for shard, names in zip(shop.shards, topics)]
    for relay in running:
        relay.start(wait=None)
    products = shop.products()
    assert [shard_of(name, 4) for (name,) in products] == [0, 1, 2, 3]
    out, sent = kafka.producer(), 0

    def count():
        return sum(sum(inbox_results(shard).values()) for shard in shop.shards)

    for number in range(ORDERS):
        sent += put(out, number, products)
        if number % (ORDERS // 3) == ORDERS // 3 - 1:
            delivered(out)
            goal = sent // 2
            wait_until(lambda n=goal: count() >= n, 60, lambda: f"{count()}")
            victim = running[number % 4]
            victim.kill9()
            victim.start(wait=None)
    delivered(out)
    wait_until(lambda: count() == sent and not any(
        inbox_results(shard)["waiting"] for shard in shop.shards), 90,
        lambda: f"{count()} of {sent}")
    for n, shard in enumerate(shop.shards):
        assert set(inbox_results(shard)) - {"waiting"} == {"applied"}
        assert {topic for (topic,) in shard.sql(
            "SELECT DISTINCT topic FROM stock_inbox")} == set(topics[n])
    assert shop.front.sql(
        "SELECT state, count(*), count(DISTINCT order_id), sum(quantity)"
        " FROM stock_reservations WHERE order_id LIKE 'topic-%'"
        " GROUP BY 1 ORDER BY 1") == [
        ("confirmed", *[ORDERS * 4 // 5] * 3), ("reserved", *[ORDERS // 5] * 3)]
    with kafka.tail("stock-events") as tail:
        tail.until(lambda records: len({
            record.header("ce_id") for record in records
            if json.loads(record.value).get("order_id")}) == sent, 60,
            "one event of each message")
