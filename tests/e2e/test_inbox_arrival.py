# SPDX-License-Identifier: PostgreSQL
"""Orders of arrival that several servers have a part in: stock is right after
each."""

from confluent_kafka import Consumer, TopicPartition

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until
from test_inbox import order

TOPICS = ["order-created", "payment-success"]


def send_orders(kafka, numbers):
    out = kafka.producer()
    for n in numbers:
        send(out, "order-created", order(n), key=b"o-%d" % n)
    delivered(out)


def reserved(db, state="reserved"):
    return db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = %s", (state,))


def test_group_is_ahead_of_the_database(db, kafka, start_relay):
    """A standby was promoted, or a backup restored: the group has offsets of
    messages that this database never saw. Its own offsets count."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(topics=TOPICS)
    send_orders(kafka, range(20))
    wait_until(lambda: reserved(db) == 20, 20, "the first are taken")
    assert relay.terminate() == 0
    send_orders(kafka, range(20, 60))
    group = db.value("SELECT inbox_group FROM pgstock_internal.incarnation")
    consumer = Consumer({"bootstrap.servers": kafka.brokers,
                         "group.id": group})
    ends = []
    for number in consumer.list_topics("order-created").topics[
            "order-created"].partitions:
        place = TopicPartition("order-created", number)
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        ends.append(place)
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()
    assert sum(place.offset for place in ends) == 60
    relay.start()
    wait_until(lambda: reserved(db) == 60, 20,
               lambda: f"none is skipped: {inbox_results(db)}")
    assert inbox_results(db) == {"applied": 60}


def test_two_relays_share_and_take_over(db, kafka, start_relay):
    """A second relay joins in the middle of a stream, the first is killed:
    partitions change hands twice, and each order is reserved once."""
    db.sql("SELECT receive_stock('book', 10000)")
    send_orders(kafka, range(1000))
    config = {"kafka": {"session.timeout.ms": "6000"}}
    first = start_relay(config, topics=TOPICS)
    wait_until(lambda: reserved(db) > 0, 30, "it has begun")
    second = start_relay(config, topics=TOPICS)
    send_orders(kafka, range(1000, 3000))
    wait_until(lambda: second.metric("inbox_events_total") > 0
               or reserved(db) == 3000, 40, "partitions change hands")
    first.kill9()
    send_orders(kafka, range(3000, 4000))
    wait_until(lambda: reserved(db) == 4000, 60,
               lambda: f"{inbox_results(db)}\n{second.tail()}")
    assert db.level("book") == (10000, 4000, 6000)
    assert inbox_results(db)["applied"] == 4000
    assert not set(inbox_results(db)) - {"applied", "duplicate"}


def test_backlog_with_payments_first(db, kafka, start_relay):
    """The relay was away, and of what lies there the payments come first."""
    db.sql("SELECT receive_stock('book', 10000)")
    out = kafka.producer()
    for n in range(1500):
        send(out, "payment-success", {"order_id": f"o-{n}"}, key=b"o-%d" % n)
    delivered(out)
    start_relay(topics=TOPICS)
    wait_until(lambda: inbox_results(db)["waiting"] == 1500, 40,
               lambda: f"they wait: {inbox_results(db)}")
    send_orders(kafka, range(1500))
    wait_until(lambda: reserved(db, "confirmed") == 1500, 60,
               lambda: f"{inbox_results(db)}")
    assert inbox_results(db) == {"applied": 3000}
    assert db.level("book") == (8500, 0, 8500)
