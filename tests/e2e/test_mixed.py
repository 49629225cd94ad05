# SPDX-License-Identifier: PostgreSQL
"""P1, P2, P3 together: a shop's day in fast motion.

Orders, payments, cancellations and failures from a seed, in batches of any
size: some twice, some broken, some before their order, some after it has
expired; two relays, and kill -9 of a relay, of a backend, of the postmaster
and of the broker in between. At the end each message has exactly one result,
each answer is in Kafka and in order, and the stock equals that of a model
which got the same messages.

PGSTOCK_MESSAGES is the number of messages, PGSTOCK_SEED selects them.
"""

import heapq
import os
import random
import signal
import time
from collections import Counter

import pytest

from checks import check_order, inbox_results
from conftest import DLQ, OUTBOX
from kafkaio import delivered, send
from mixed import (CANCELLED, CREATED, FAILED, PAID, PRODUCTS, TOPICS, Shop,
                   Stream, when)
from mutant import Mutant
from process import wait_until

pytestmark = pytest.mark.proof

MESSAGES = int(os.environ.get("PGSTOCK_MESSAGES") or 12_000)
TTL_S = 12
NO_ID = ("inbox/inbox_row.c",
         "\t\trow_put_text(slot, INBOX_DEDUP_ID, parsed->event_id);\n",
         "\t\t;\n")
CONFIG = {"inbox": {"retry_delays": "300ms, 300ms, 300ms",
                    "order_wait": "1h"},
          "kafka": {"session.timeout.ms": "6000"}}


class Run:
    """One stream through two relays, and the kills meanwhile."""

    def __init__(self, db, kafka, start_relay, seed, messages=MESSAGES):
        self.db, self.kafka = db, kafka
        self.rng = random.Random(seed)
        self.stream = Stream(seed, messages)
        self.held = []              # (when to send, serial, message)
        self.sent = 0
        self.stock = {f"p{n}": self.rng.randint(1, 2 * messages // PRODUCTS)
                      for n in range(PRODUCTS)}
        db.sql("SELECT receive_stock(p, q) FROM unnest(%s, %s) s(p, q)",
               (list(self.stock), list(self.stock.values())))
        db.sql(f'ALTER DATABASE "{db.name}"'
               f" SET pgstock.reservation_ttl = '{TTL_S}s'")
        self.relays = [start_relay(CONFIG, topics=TOPICS, wait=None)
                       for _ in range(2)]
        self.out = kafka.producer()

    # ---- sending

    def produce(self, message):
        while True:
            try:
                send(self.out, message.topic, message.value(),
                     key=message.order, headers=message.headers())
                self.sent += 1
                return
            except BufferError:
                self.out.poll(0.1)

    def release_held(self):
        while self.held and self.held[0][0] <= time.monotonic():
            self.produce(heapq.heappop(self.held)[2])

    def send_range(self, first, end):
        """In batches of any size."""
        while first < end:
            step = min(int(10 ** self.rng.uniform(0, 3.3)), end - first)
            for _, message in self.stream.sent[first:first + step]:
                if message.late:
                    heapq.heappush(self.held, (
                        time.monotonic() + TTL_S + 1, len(self.held) + first,
                        message))
                else:
                    self.produce(message)
            self.out.flush(self.rng.choice((0, 0, 5)))
            self.release_held()
            first += step

    # ---- breaking

    def kill_relay(self):
        relay = self.rng.choice(self.relays)
        relay.kill9()
        relay.start(wait=None)

    def kill_backend(self):
        backends = self.db.pg.backends("pgstock%")
        if backends:
            self.db.pg.kill_backend(self.rng.choice(backends))

    def kill_postmaster(self):
        self.db.pg.kill9()
        self.db.pg.start()

    def kill_broker(self):
        self.kafka.kill9()
        self.kafka.start()

    def arrived(self):
        return self.db.value("SELECT count(*) FROM stock_inbox")

    def go(self, kills):
        """The whole stream, and a kill somewhere in each part of it."""
        ways = (self.kill_relay, self.kill_backend, self.kill_postmaster,
                self.kill_broker)
        total, first = len(self.stream.sent), 0
        for number in range(kills):
            end = total * (number + 1) // (kills + 1)
            before = self.arrived()
            self.send_range(first, end)
            target = before + int((end - first) * self.rng.uniform(0.1, 0.9))
            self.wait_arrived(target, f"kill {number}")
            ways[number % len(ways)]()
            first = end
        self.send_range(first, total)
        wait_until(lambda: self.release_held() or not self.held, TTL_S + 10,
                   "the late ones are sent", step=0.2)
        delivered(self.out, 60)

    def wait_arrived(self, count, what):
        wait_until(lambda: self.arrived() >= count, 120,
                   lambda: f"{what}: of {count}: {inbox_results(self.db)}",
                   step=0.1)

    # ---- ending

    def finish(self):
        """Wait until only messages without an order are waiting; then until
        those are done too; then until every reservation has ended, and every
        event is published."""
        with self.kafka.tail(*TOPICS) as tail:
            records = tail.read_to_end(120)
        self.wait_arrived(len(records), "all of them")
        known = {message.order for message in self.stream.messages
                 if message.topic == CREATED and not message.is_poison}
        wait_until(lambda: not {order for (order,) in self.db.sql(
            "SELECT order_id FROM stock_inbox WHERE result = 'waiting'")}
            & known, 120, lambda: f"waits: {inbox_results(self.db)}", step=0.2)
        for relay in self.relays:
            relay.config["inbox"]["order_wait"] = "1s"
            relay.write_config()
            relay.signal(signal.SIGHUP)
        wait_until(lambda: not inbox_results(self.db)["waiting"], 60,
                   lambda: f"waits: {inbox_results(self.db)}", step=0.2)
        # a due line counts as expired before its row says so, and its event may
        # be owed when its level was released before its order
        wait_until(lambda: not self.db.value(
            "SELECT count(*) FROM pgstock_internal.reservation"
            " WHERE state = 'r' OR due_at IS NOT NULL"), TTL_S + 60,
            "all have ended", step=0.2)
        return records


# ---- checks

def name_of(run, record):
    """The message of a record, and its id in the inbox."""
    message = run.stream.messages[int(record.header("number"))]
    return message, message.event_id or record.place_id


def check_ends(run, records):
    """Each record of Kafka has one row, and each message one result."""
    rows = {}
    for row in run.db.sql('SELECT topic, partition, "offset", event_id,'
                          " result, reason, extract(epoch FROM"
                          " received_at)::float8 FROM stock_inbox"):
        assert row[:3] not in rows, f"twice: {row}, {rows[row[:3]]}"
        rows[row[:3]] = row[3:]
    places = {(r.topic, r.partition, r.offset): r for r in records}
    assert places.keys() == rows.keys()
    named = {place: name_of(run, record) for place, record in places.items()}
    ends, copies = {}, 0
    for place, (event_id, result, reason, at) in rows.items():
        message, name = named[place]
        assert event_id == name, place
        if result == "duplicate":
            copies += 1
            continue
        assert name not in ends, f"{name}: {ends[name]} and {result}"
        ends[name] = (message, result, reason, at, place)
    assert len(ends) + copies == len(rows)
    assert {name for _, name in named.values()} == ends.keys()
    for name, (message, result, *_) in ends.items():
        assert not message.is_poison or result == "dead", name
    return ends


def check_letters(run, ends, records):
    """A dead message is in its DLQ unchanged, and in the archive once."""
    dead = {end[4] for end in ends.values() if end[1] == "dead"}
    sent = {(r.topic, r.partition, r.offset): r for r in records}
    with run.kafka.tail(*DLQ) as tail:
        def letters(found):
            return {(r.header("__dlq.errors.topic"),
                     int(r.header("__dlq.errors.partition")),
                     int(r.header("__dlq.errors.offset"))): r for r in found}
        tail.until(lambda r: len(r) >= len(dead) and
                   letters(r).keys() >= dead, 60, "the dead letters")
        assert letters(tail.records).keys() == dead
        for place, letter in letters(tail.records).items():
            assert (letter.key, letter.value) == (sent[place].key,
                                                  sent[place].value)
    assert run.db.sql("SELECT count(*), count(DISTINCT event_id)"
                      " FROM failed_order_archives") == [(len(dead),) * 2]


def check_model(run, ends):
    """Every event is the one that its cause must have; the stock follows."""
    shop, told = Shop(run.stock), set()
    shop.given_up = {message.order for message, result, reason, *_
                     in ends.values() if message.topic in (CANCELLED, FAILED)
                     and (result, reason) == ("skipped", "already")}
    for event_type, event in run.db.sql(
            "SELECT event_type, payload"
            "  FROM stock_outbox WHERE topic = ANY (%s)"
            "   AND event_type <> 'StockLevelChanged' ORDER BY seq",
            (list(OUTBOX),)):
        now = when(event["timestamp"])
        if event_type == "StockExpired":
            shop.expire(event, now)
            continue
        cause = event["causation_id"]
        assert cause not in told, f"two events of {cause}"
        told.add(cause)
        message, result, *_ = ends[cause]
        assert result == "applied", f"{ends[cause]}: {event}"
        reason = event.get("reason")
        items = {item["product_id"]: item["quantity"]
                 for item in event["items"]}
        expected = shop.apply(message, now, event)
        assert (event_type, reason, items) == expected, f"{message}: {event}"
    for name, (message, result, reason, at, _) in ends.items():
        assert (result == "applied") == (name in told), ends[name]
        if result == "skipped":
            assert shop.may_skip(message, reason, at), (
                ends[name], shop.orders.get(message.order))
        elif result == "dead" and not message.is_poison:
            assert message.topic == PAID and message.order not in shop.orders
    assert {product: (on_hand, reserved) for product, on_hand, reserved in
            run.db.sql("SELECT product_id, on_hand, reserved"
                       " FROM stock_levels")} == {
        product: (shop.on_hand[product], shop.reserved[product])
        for product in run.stock}
    return Counter(order.seen(time.time()) for order in shop.orders.values())


def check_published(run):
    with run.kafka.tail(*OUTBOX) as tail:
        missing = {str(event) for (event,) in run.db.sql(
            "SELECT event_id FROM stock_outbox WHERE topic = ANY (%s)",
            (list(OUTBOX),))}
        written, read = set(missing), 0

        def complete(records):
            nonlocal read
            missing.difference_update(
                r.header("ce_id") for r in records[read:])
            read = len(records)
            return not missing
        tail.until(complete, 120, lambda: f"{len(missing)} events")
        assert {r.header("ce_id") for r in tail.records} == written
        check_order(tail.records)
        return len(tail.records) - len(written)


def one_run(run, kills):
    started = time.monotonic()
    run.go(kills)
    records = run.finish()
    took = time.monotonic() - started
    repeated = check_published(run)
    for relay in run.relays:
        relay.terminate()
    assert run.db.drift() == []
    ends = check_ends(run, records)
    check_letters(run, ends, records)
    orders = check_model(run, ends)
    print(f"{len(records)} messages in {took:.0f} s, {kills} kills,"
          f" {repeated} events published again: {inbox_results(run.db)},"
          f" orders {dict(orders)}")


def a_seed():
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    return seed


@pytest.mark.long
def test_mixed_messages_and_kills(db, kafka, start_relay):
    one_run(Run(db, kafka, start_relay, a_seed()), 8 + MESSAGES // 5000)


@pytest.fixture
def forgetful(run):
    """A server whose inbox stores no id."""
    server = Mutant(os.path.join(run, "postgres-no-id"), *NO_ID).init().start()
    yield server.create_database("control")
    server.close()


def test_without_the_ids_it_is_seen(forgetful, kafka, relays):
    """The control: the stream twice takes effect twice, and the check
    fails."""
    def start(config, topics, wait):
        config["inbox"]["topics"] = ", ".join(topics)
        return relays(forgetful.conninfo(), kafka.brokers, config).start(wait)
    run = Run(forgetful, kafka, start, a_seed(), 500)
    for _ in range(2):
        run.send_range(0, len(run.stream.sent))
        delivered(run.out)
        run.wait_arrived(run.sent, "all of them")
    with kafka.tail(*TOPICS) as tail:
        records = tail.read_to_end()
    with pytest.raises(AssertionError, match=r"^e-\d+: .* and "):
        check_ends(run, records)
