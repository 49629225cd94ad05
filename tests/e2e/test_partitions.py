# SPDX-License-Identifier: PostgreSQL
"""P3, whatever happens to a broker's partitions: no message is skipped, none
takes effect twice, and missing messages are named.

The database's offset is a place in one history of a partition. A topic that is
deleted and created again has other records at the same places; a partition
whose end is lost with a broker has none.
"""

import json
import threading
from types import SimpleNamespace

import pytest

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until

TOPIC = "order-created"


def put_orders(kafka, numbers, topic=TOPIC):
    """Orders without an id of their own."""
    out = kafka.producer()
    for number in numbers:
        send(out, topic, {"order_id": f"o-{number}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=f"o-{number}")
    delivered(out)


def reserved(db):
    return {order for (order,) in
            db.sql("SELECT order_id FROM stock_reservations")}


def until_reserved(db, relay, numbers, timeout=40):
    wanted = {f"o-{number}" for number in numbers}
    wait_until(lambda: reserved(db) >= wanted, timeout, lambda:
               f"{len(wanted - reserved(db))} missing of {len(wanted)}:"
               f" {inbox_results(db)}\n{relay.tail()}")
    assert reserved(db) == wanted
    assert db.level("book") == (1000, len(wanted), 1000 - len(wanted))


def made_anew(kafka, partitions=1):
    kafka.delete_topics(TOPIC)
    kafka.create_topics(TOPIC, partitions=partitions)


def status(relay):
    return json.loads(relay.command("status", "--json").stdout)


@pytest.fixture
def sold(db, kafka, start_relay):
    """A relay that has applied 50 orders of a topic with one partition."""
    db.sql("SELECT receive_stock('book', 1000)")
    made_anew(kafka)
    put_orders(kafka, range(50))
    relay = start_relay(topics=[TOPIC])
    until_reserved(db, relay, range(50))
    return relay


@pytest.mark.parametrize("count", [20, 50, 120])
def test_topic_made_anew_while_no_relay_runs(db, kafka, sold, count):
    """With fewer messages than were read, as many, and more: the offset that
    the database has is beyond the end, at it, or in the middle."""
    sold.terminate()
    made_anew(kafka)
    put_orders(kafka, range(100, 100 + count))
    sold.start()
    until_reserved(db, sold, [*range(50), *range(100, 100 + count)])
    assert sold.metric("inbox_histories_total", topic=TOPIC,
                       partition="0") == 1
    assert "partition has another history: " in sold.log()
    assert inbox_results(db) == {"applied": 50 + count}
    assert [gap["reason"] for gap in status(sold)["missing_messages"]] == [
        "history"]
    # and from there on it is known
    sold.terminate()
    put_orders(kafka, range(300, 310))
    sold.start()
    until_reserved(db, sold, [*range(50), *range(100, 100 + count),
                              *range(300, 310)])
    assert sold.metric("inbox_histories_total") == 0


@pytest.mark.parametrize("count", [20, 50, 120])
def test_topic_made_anew_under_a_running_relay(db, kafka, sold, count):
    made_anew(kafka)
    put_orders(kafka, range(100, 100 + count))
    until_reserved(db, sold, [*range(50), *range(100, 100 + count)], 60)
    assert inbox_results(db) == {"applied": 50 + count}


def test_topic_made_anew_under_a_relay_that_ends_before_it_looks(db, kafka,
                                                                 sold):
    """It has read on at the same offset, and the record before the next one is
    of the new history: an older one reveals it."""
    made_anew(kafka)
    put_orders(kafka, range(100, 220))
    wait_until(lambda: len(reserved(db)) > 50, 60, sold.tail)
    sold.kill9()
    sold.start()
    until_reserved(db, sold, [*range(50), *range(100, 220)])
    assert inbox_results(db) == {"applied": 50 + 120}


def test_topic_that_lost_its_tail(db, kafka, sold):
    """The same messages again, except the last ones: their effects stand, and
    the messages in place of the lost ones are new. They have to be the same
    records, so their times are given."""
    sold.terminate()
    made_anew(kafka)
    out = kafka.producer()
    for number in range(80):
        out.produce(TOPIC, json.dumps({"order_id": f"o-{number + 400}",
                                       "items": [{"product_id": "book",
                                                  "quantity": 1}]}).encode(),
                    key=f"o-{number}".encode(), timestamp=1764000000000)
    delivered(out)
    sold.start()
    first = [*range(50), *range(400, 480)]
    until_reserved(db, sold, first)
    sold.terminate()
    made_anew(kafka)
    for number in [*range(60), *range(90, 130)]:
        out.produce(TOPIC, json.dumps({"order_id": f"o-{number + 400}",
                                       "items": [{"product_id": "book",
                                                  "quantity": 1}]}).encode(),
                    key=f"o-{number}".encode(), timestamp=1764000000000)
    delivered(out)
    sold.start()
    until_reserved(db, sold, first + list(range(490, 530)))
    assert inbox_results(db) == {"applied": 50 + 80 + 40}
    assert sold.metric("inbox_events_total", result="duplicate") == 60


def test_offsets_that_retention_took(db, kafka, sold):
    sold.terminate()
    put_orders(kafka, range(50, 90))
    kafka.delete_records(SimpleNamespace(topic=TOPIC, partition=0, offset=70))
    sold.start()
    until_reserved(db, sold, [*range(50), *range(70, 90)])
    assert sold.metric("inbox_missing_messages_total", topic=TOPIC,
                       partition="0") == 20
    assert "first_missing=50 last_missing=69" in sold.log()
    (gap,) = status(sold)["missing_messages"]
    assert (gap["topic"], gap["partition"], gap["first_offset"],
            gap["last_offset"], gap["reason"]) == (TOPIC, 0, 50, 69,
                                                   "retention")


def test_no_record_is_left(db, kafka, sold):
    """No record is left to read, or to compare with."""
    put_orders(kafka, [50])
    until_reserved(db, sold, range(51))
    sold.terminate()
    put_orders(kafka, range(51, 60))
    kafka.delete_records(SimpleNamespace(topic=TOPIC, partition=0, offset=60))
    sold.start()
    wait_until(lambda: sold.metric("inbox_missing_messages_total") == 9, 20,
               sold.tail)
    put_orders(kafka, range(60, 70))
    until_reserved(db, sold, [*range(51), *range(60, 70)])


# ---- first_offset ----------------------------------------------------------

LATEST = {"inbox": {"first_offset": "latest"}}


def topics_known(db):
    return {topic for (topic,) in
            db.sql("SELECT topic FROM pgstock_internal.inbox_topic")}


def test_latest_and_a_topic_that_is_added(db, kafka, start_relay):
    """Its earlier messages are not read; the known topic continues."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay(LATEST, topics=[TOPIC])
    wait_until(lambda: topics_known(db) == {TOPIC}, 20, relay.tail)
    put_orders(kafka, range(10))
    until_reserved(db, relay, range(10))
    relay.terminate()
    put_orders(kafka, range(10, 20))
    put_orders(kafka, range(20), "order-cancelled")
    relay = start_relay(LATEST, topics=[TOPIC, "order-cancelled"])
    until_reserved(db, relay, range(20))
    wait_until(lambda: topics_known(db) == {TOPIC, "order-cancelled"}, 20,
               relay.tail)
    put_orders(kafka, [3], "order-cancelled")
    wait_until(lambda: inbox_results(db, topic="order-cancelled")["applied"]
               == 1, 20, relay.tail)
    assert sum(inbox_results(db, topic="order-cancelled").values()) == 1


@pytest.mark.parametrize("first", ["latest", "2020-01-01T00:00:00Z"])
def test_partitions_that_are_added(db, kafka, start_relay, first):
    """They were empty when they were created: all their messages are read,
    even those from before the relay notices them."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay({"inbox": {"first_offset": first}}, topics=[TOPIC])
    wait_until(lambda: topics_known(db) == {TOPIC}, 20, relay.tail)
    put_orders(kafka, range(10))
    until_reserved(db, relay, range(10))
    kafka.add_partitions(TOPIC, 6)
    put_orders(kafka, range(10, 50))
    until_reserved(db, relay, range(50))


def test_topic_that_is_made_later(db, kafka, start_relay):
    db.sql("SELECT receive_stock('book', 1000)")
    kafka.delete_topics(TOPIC)
    relay = start_relay(LATEST, topics=[TOPIC, "payment-success"])
    wait_until(lambda: TOPIC in topics_known(db), 20, relay.tail)
    assert "topic to consume does not exist" in relay.log()
    assert "topics are missing: order-created" in relay.get("/readyz")[1]
    kafka.create_topics(TOPIC)
    put_orders(kafka, range(40))
    until_reserved(db, relay, range(40))
    wait_until(lambda: "missing" not in relay.get("/readyz")[1], 20,
               relay.tail)


# ---- damage, lag -----------------------------------------------------------

class Flipped:
    """A server's end of a connection, with a bit flipped on its way: once, or
    each time."""

    seen = 0
    change = (b"", b"")
    again = False

    def __init__(self, end):
        self.end = end

    def recv(self, size):
        data = self.end.recv(size)
        if self.change[0] in data and (self.again or not self.seen):
            Flipped.seen += 1
            data = data.replace(*self.change, 1)
        return data

    def shutdown(self, how):
        self.end.shutdown(how)

    def close(self):
        self.end.close()


def flip(kafka, old, new, again=False):
    """Bytes from the broker through the proxy are damaged."""
    pump = kafka.proxy._pump
    Flipped.seen, Flipped.again = 0, again
    Flipped.change = (old, new)

    def serve(client, server):
        for ends in ((client, server), (Flipped(server), client)):
            threading.Thread(target=pump, args=ends, daemon=True).start()

    kafka.proxy.cut()
    kafka.proxy.serve = serve
    kafka.proxy.restore()


def test_bit_flipped_on_the_way(db, kafka, start_relay):
    """A quantity of 1 that arrives as 9 is not applied; the batch is read
    again, as are those that arrived with it."""
    db.sql("SELECT receive_stock('book', 1000)")
    made_anew(kafka)
    for first in range(0, 40, 10):
        put_orders(kafka, range(first, first + 10))
    order = b'"o-15", "items": [{"product_id": "book", "quantity": '
    flip(kafka, order + b"1", order + b"9")
    relay = start_relay(topics=[TOPIC], brokers=kafka.proxied_brokers)
    until_reserved(db, relay, range(40))
    assert Flipped.seen == 1
    assert relay.metric("inbox_damaged_batches_total", topic=TOPIC) >= 1
    assert inbox_results(db) == {"applied": 40}


def test_damaged_batch_stops_its_partition_alone(db, kafka, start_relay):
    """It is damaged on the broker's disk. The other partitions continue at
    their pace: the relay does not look at the damage with each of their
    batches."""
    db.sql("SELECT receive_stock('book', 9000)")
    flip(kafka, b'"quantity": 3}', b'"quantity": 9}', again=True)
    made_anew(kafka, partitions=2)
    relay = start_relay(topics=[TOPIC], brokers=kafka.proxied_brokers)
    wait_until(lambda: topics_known(db) == {TOPIC}, 20, relay.tail)
    out = kafka.producer()

    def put(partition, number, quantity):
        out.produce(TOPIC, json.dumps({"order_id": f"o-{number}", "items": [
            {"product_id": "book", "quantity": quantity}]}).encode(),
            key=f"o-{number}".encode(), partition=partition)

    def damaged():
        return relay.metric("inbox_damaged_batches_total", topic=TOPIC)

    put(0, 0, 3)
    delivered(out)
    wait_until(lambda: damaged() >= 3, 30, relay.tail)
    before = damaged()
    for batch in range(12):
        for number in range(500):
            put(1, 1 + batch * 500 + number, 1)
        delivered(out)
        wait_until(lambda n=batch: len(reserved(db)) == (n + 1) * 500, 60,
                   relay.tail)
    assert damaged() - before <= 3
    assert "order-created/0 could not be read" in relay.get("/readyz")[1]
    assert "o-0" not in reserved(db)


def until_published(relay):
    wait_until(lambda: status(relay)["pending_events"] == 0, 40, relay.tail)


def audited(relay):
    done = relay.command("audit")
    return done.returncode, done.stdout + done.stderr


def test_bit_flipped_before_an_audit(db, kafka, start_relay):
    """Unreadable records are reported as such, not as missing."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay(brokers=kafka.proxied_brokers)
    until_published(relay)
    flip(kafka, b'"book"', b'"bool"')
    code, said = audited(relay)
    assert Flipped.seen == 1
    assert code == 1 and "a batch did not match its checksum" in said, said
    assert audited(relay)[0] == 0


def test_bit_flipped_in_the_position(db, kafka, start_relay):
    """A damaged position is not used."""
    db.sql("SELECT receive_stock('book', 1) FROM generate_series(1, 5)")
    relay = start_relay({"outbox": {"mode": "transactional"}},
                        brokers=kafka.proxied_brokers)
    until_published(relay)
    relay.terminate()
    flip(kafka, b'"epoch":1,', b'"epoch":9,')
    relay.start()
    db.sql("SELECT receive_stock('book', 1)")
    until_published(relay)
    assert audited(relay)[0] == 0, audited(relay)
    assert Flipped.seen == 1
    assert "could not be read: Local: Bad message format" in relay.log()


def test_lag_of_transactional_producers(db, kafka, start_relay):
    """Transaction markers are no messages, and uncommitted records cannot be
    read."""
    db.sql("SELECT receive_stock('book', 1000)")
    made_anew(kafka)
    relay = start_relay(topics=[TOPIC])
    out = kafka.producer(transactional_id="shop")
    out.init_transactions()

    def lag():
        return [line.split()[1] for line in relay.get("/metrics")[1].split("\n")
                if line.startswith("pgstock_consumer_lag{")]

    for number in range(3):
        out.begin_transaction()
        send(out, TOPIC, {"order_id": f"o-{number}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=f"o-{number}")
        out.commit_transaction()
    until_reserved(db, relay, range(3))
    relay.terminate()                   # it looks for the end as it starts
    relay.start()
    wait_until(lambda: lag() == ["0"], 20, lambda: f"{lag()}")
    (known,) = status(relay)["consumers"]
    assert (known["next_offset"], known["end_offset"], known["lag"]) == (
        5, 6, 0)
    out.begin_transaction()
    for number in range(3, 9):
        send(out, TOPIC, {"order_id": f"o-{number}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=f"o-{number}")
    delivered(out)
    for _ in range(5):
        assert lag() == ["0"]
    out.abort_transaction()
    put_orders(kafka, [9])
    until_reserved(db, relay, [0, 1, 2, 9])
    wait_until(lambda: lag() == ["0"], 20, lambda: f"{lag()}")
