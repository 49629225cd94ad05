# SPDX-License-Identifier: PostgreSQL
"""Orders that arrive by Kafka where stock is in several shards: the
coordinator's relay, what is sent to it, and what became of it."""

import json

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until

TOPICS = ("order-created", "payment-success", "payment-failed",
          "order-cancelled", "order_failed")
ANSWERS = ("order-answers", "stock-freeze-failed")
RELAY = {"inbox": {"topics": ", ".join(TOPICS),
                   "retry_delays": ", ".join(["300ms"] * 16)}}


def install_front(database):
    """pgstock's functions are in public, the front's in a schema of their
    own."""
    database.sql("CREATE SCHEMA front")
    database.sql("CREATE EXTENSION pgstock_front SCHEMA front CASCADE")


class Messages:
    """Messages of orders, each with an id of its own."""

    def __init__(self, kafka, name):
        self.kafka = kafka
        self.out = kafka.producer()
        self.name = name
        self.sent = 0

    def put(self, topic, order, times=1, headers=None, **value):
        self.sent += 1
        value = {"order_id": order, "event_id": f"{self.name}-{self.sent}",
                 **value}
        for _ in range(times):
            send(self.out, topic, value, key=order, headers=headers)
        self.sent += times - 1
        return value["event_id"]

    def created(self, order, items, **more):
        return self.put("order-created", order, items=json.loads(items),
                        user_id="u-1", **more)

    def paid(self, order, payment, **more):
        return self.put("payment-success", order, payment_id=payment, **more)

    def handled(self, database, relay, timeout=60):
        """Waits until each message has ended."""
        delivered(self.out)

        def done():
            found = inbox_results(database)
            return sum(found.values()) == self.sent and not found["waiting"]
        wait_until(done, timeout, lambda: (
            f"of {self.sent}: {inbox_results(database)} "
            f"{failures(database)}\n{relay.tail()}"))


def failures(database):
    return database.sql("SELECT topic, order_id, state, attempts, error"
                        " FROM stock_failed_events")


def answers(database, order):
    """The events that answer an order's messages, without their items."""
    return [(row["event_type"], row.get("reason"), row.get("replayed", False))
            for (row,) in database.sql(
                "SELECT payload FROM stock_outbox WHERE key = %s ORDER BY seq",
                (order,))]


def answered_items(database, order):
    """The items of each answer."""
    return [sorted((item["product_id"], item["quantity"])
                   for item in row["items"])
            for (row,) in database.sql(
                "SELECT payload FROM stock_outbox WHERE key = %s ORDER BY seq",
                (order,))]
