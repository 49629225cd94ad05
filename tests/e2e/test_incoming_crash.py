# SPDX-License-Identifier: PostgreSQL
"""kill -9 while a message about an order over shards is applied.

A handler has committed in the shards before the inbox commits. Whatever is
killed in between, the message is delivered again, finds what it has done, and
is answered by one event.
"""

from contextlib import closing, contextmanager

import psycopg2
import pytest

import incoming_orders
from incoming_orders import Messages, answers
from cluster import Relay
from kafkaio import delivered
from process import wait_until
from saga_fleet import LOCK, Fleet, wanted

pytestmark = pytest.mark.long

GATE = LOCK + 1

# the handlers, and a gate between their end and the commit of the inbox
GATED = f"""
CREATE SCHEMA gated;
CREATE FUNCTION gated.run(payload jsonb, message jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT pgstock_front.%%I($1, $2)',
                   translate(message ->> 'topic', '-', '_'))
      USING payload, message;
    PERFORM pg_advisory_xact_lock_shared({GATE});
END $$;
SELECT bind_topic(topic, 'gated.run') FROM unnest(%s) topic"""


class IncomingFleet(Fleet):
    """The coordinator has pgstock and a relay."""

    @staticmethod
    def make_coordinator(server):
        database = server.create_database("coordinator")
        incoming_orders.install_front(database)
        return database

    def bind(self):
        self.coordinator.sql("SELECT pgstock_front.bind_orders()")
        self.coordinator.sql(GATED, (list(incoming_orders.TOPICS),))

    @contextmanager
    def gate_closed(self):
        """No message is committed until the block ends; `waits` is true once
        one has done all else."""
        with closing(self.coordinator.connect()) as conn:
            conn.autocommit = True
            conn.cursor().execute("SELECT pg_advisory_lock(%s)", (GATE,))
            yield lambda: self.coordinator.value(
                "SELECT count(*) > 0 FROM pg_locks WHERE objid = %s"
                " AND locktype = 'advisory' AND NOT granted", (GATE,))
        self.revive()


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(new_dir):
    made = IncomingFleet(new_dir)
    made.bind()
    made.receive(1000)
    yield made
    made.stop_all()


@pytest.fixture(scope="module", name="broker")
def fixture_broker(session_kafka):
    """The topics of all tests here: the coordinator knows their offsets."""
    session_kafka.delete_topics(*session_kafka.topics())
    session_kafka.create_topics(
        *incoming_orders.ANSWERS, *incoming_orders.TOPICS,
        *(f"{name}_dlq" for name in incoming_orders.TOPICS))
    return session_kafka


@pytest.fixture(scope="module", name="relay")
def fixture_relay(new_dir, fleet, broker):
    """One for all tests: a new one waits until the group has lost the old."""
    made = Relay(new_dir("relay"), fleet.coordinator.conninfo(),
                 broker.brokers, {**incoming_orders.RELAY, "kafka": {
                     "session.timeout.ms": "6000"}})
    yield made.start()
    made.close()


@pytest.fixture(name="order")
def fixture_order(request):
    return request.node.name


class Story:
    """The messages of one test, and what became of them."""

    def __init__(self, fleet, broker, relay, order):
        self.fleet, self.relay, self.order = fleet, relay, order
        self.messages = Messages(broker, order)

    def send(self, topic, **value):
        self.messages.put(topic, self.order, **value)
        delivered(self.messages.out)

    def handled(self):
        """Waits until each message has ended, none of them as a failure."""
        def done():
            try:
                return self.results() == ["applied"] * self.messages.sent
            except psycopg2.OperationalError:
                return False        # it recovers
        wait_until(done, 90, lambda: (
            f"{self.results()} {incoming_orders.failures(self.coordinator)}\n"
            f"{self.relay.tail()}"))

    @property
    def coordinator(self):
        return self.fleet.coordinator

    def results(self):
        return [result for (result,) in self.coordinator.sql(
            "SELECT result FROM stock_inbox WHERE key = %s ORDER BY 1",
            (self.order,))]

    def kill(self, victim):
        if victim == "relay":
            self.relay.kill9()
            self.relay.start(wait=None)
        else:
            {"coordinator": self.coordinator.pg,
             "shard": self.fleet.shards[1].pg}[victim].power_cut()


@pytest.fixture(name="story")
def fixture_story(fleet, broker, relay, order):
    return Story(fleet, broker, relay, order)


VICTIMS = ("relay", "coordinator", "shard")


@pytest.mark.parametrize("counts", [(1, 2, 3), (0, 2)])
@pytest.mark.parametrize("victim", VICTIMS)
def test_between_the_two_commits(fleet, story, order, victim, counts):
    """Each message of an order, in turn, is applied in the shards, and the
    inbox's commit is lost."""
    items = fleet.items(*counts)
    lines = incoming_orders.json.loads(items)
    for topic, more, live in (
            ("order-created", {"items": lines, "user_id": "u"}, wanted(items)),
            ("payment-success", {"payment_id": "pay-1"}, wanted(items)),
            ("order-cancelled", {"reason": "late"}, [])):
        with fleet.gate_closed() as waits:
            story.send(topic, **more)
            wait_until(waits, 30, lambda: f"none waits\n{story.relay.tail()}")
            assert fleet.live(order) == live
            story.kill(victim)
        story.handled()
        assert fleet.live(order) == live
    # that the lines are known is all that order-created can find
    first, *rest = answers(fleet.coordinator, order)
    assert first[:2] == ("StockReserved", None)
    assert rest == [("StockConfirmed", None, False),
                    ("StockRolledBack", "late", False)]
    fleet.sweep()
    fleet.check_books()
    assert fleet.coordinator.drift() == []


# where a step stops: the database, and the row that it is about to write
STEPS = {
    "row": ("coordinator", "r.verb = 'reserve'"),
    "hold": ("shard", "r.step = 1"),
    "keep": ("shard", "r.step = 2"),
    "end": ("coordinator", "r.state = 'reserved' AND r.verb IS NULL"),
    "confirm": ("shard", "r.step = 3"),
}


# a relay that is lost leaves its session to go on: once suffices
@pytest.mark.parametrize("step,victim", [
    (step, victim) for step in STEPS for victim in VICTIMS
    if victim != "relay" or step == "end"])
def test_in_a_step(fleet, story, order, step, victim):
    """The order ends whole, whatever the handler had done of it."""
    where, condition = STEPS[step]
    database = fleet.coordinator if where == "coordinator" else fleet.shards[1]
    items = fleet.items(1, 2, 3)
    with fleet.stopped_at(database, condition) as waits:
        story.send("order-created", user_id="u",
                   items=incoming_orders.json.loads(items))
        story.send("payment-success", payment_id="pay-1")
        wait_until(waits, 30, lambda: f"no step stops\n{story.relay.tail()}")
        story.kill(victim)
    story.handled()
    fleet.sweep()
    assert fleet.live(order) == wanted(items)
    # a lost order-created may find that its order is paid, also after the
    # payment was answered; none reports an earlier state than the one before
    found = answers(fleet.coordinator, order)
    paid = ("StockConfirmed", None, False)
    (created,) = [answer for answer in found if answer != paid]
    assert found == [created, paid] and created[0] == "StockReserved" \
        or sorted(found) == sorted([paid, ("StockConfirmed", None, True)])
    fleet.check_books()


def test_a_shard_is_down(fleet, story, order):
    """An order that does not need it goes on; the others wait, with the
    messages behind them."""
    items = fleet.items(1, 2, 3)
    with fleet.shards[2].pg.away():
        story.send("order-created", user_id="u",
                   items=incoming_orders.json.loads(items))
        story.send("payment-success", payment_id="pay-1")
        other = Messages(story.messages.kafka, f"{order}-other")
        other.created(f"{order}-other", fleet.items(1, 1))
        delivered(other.out)
        wait_until(lambda: answers(fleet.coordinator, f"{order}-other"), 30,
                   lambda: story.relay.tail())
        assert answers(fleet.coordinator, order) == []
    story.handled()
    fleet.sweep()
    assert fleet.live(order) == wanted(items)
    fleet.check_books()
