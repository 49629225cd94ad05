# SPDX-License-Identifier: PostgreSQL
"""A front loses the leader of a shard under load, as docs/sharding.md says.

The first of four shards and the coordinator are on a group of three servers;
the front connects to it through HAProxy. Sessions of the front buy in that
shard, in another one, and orders over several. The leader is killed, with the
relay that leads and with orders over shards in known steps; it is frozen, while
Kafka is killed; or it is cut off. Every call has an answer in time, the
sessions continue, and at the end verify_stock(), audit and the orders over
shards show that nothing was lost.

Then the front calls the shards through PgBouncer, and a leader is frozen, or
lost in each of PGSTOCK_WAYS=kill,freeze,cut.
"""

import json
import os
import random
import time
from contextlib import contextmanager

import pytest

import test_shards
from callers import RESERVE, Callers, Order, Session, Sweepers
from checks import audit
from documents import blocks
from fleet import leading
from group import TTL
from grouped import Buyer, GroupedFleet
from process import make_dir, wait_until
from saga_fleet import Caller

MODE = os.environ.get("PGSTOCK_MODE", "transactional")
SLACK_S = float(os.environ.get("PGSTOCK_SLACK_S", "10"))
# from the loss to an acknowledged call, as in test_patroni.py
FAIL_OVER_S = {"kill": TTL + 5, "freeze": TTL + 10, "cut": TTL + 10}
# three checks of deploy/shards/haproxy.cfg with their timeouts, and a second
ANSWER_S = 7
CALLERS = 3
# one by default: each takes 40 s
POOLED = os.environ.get("PGSTOCK_WAYS", "freeze").split(",")
SHARDING, GROUP = "docs/sharding.md", "docs/high-availability.md"
# commands of the guide
CREATE, CHECK = "create shards.json", "verify_stock()"
FAILOVER = "Failover of a shard"
# orders over two shards, and what they are after the coordinator's leader was
# lost in the step
LOST = {
    "lost-before": "confirmed",     # reserved before; confirmed afterwards
    "lost-confirm": "confirmed",    # one shard has not confirmed it
    "lost-whole": "reserved",       # every shard has kept it
    "lost-half": "abandoned",       # one shard has not kept it
}
CONFIRM = "SELECT status FROM confirm_stock(%s)"


def documented(document, kind, text, section=None):
    """The only block of the document, or of a section, with that text."""
    (found,) = [block.text for block in blocks(document, section)
                if block.kind == kind and text in block.text]
    return found


@pytest.fixture(scope="module")
def fleet(lan, new_dir, run, broker):
    made = GroupedFleet(lan, new_dir, run)
    made.make_group(documented(GROUP, "sql", "ROLE replicator"),
                    new_dir("group"))
    made.start_proxy(new_dir("haproxy"),
                     documented(SHARDING, "sh", "haproxy", FAILOVER))
    made.admin = make_dir(new_dir("admin"))
    type_guide(made, CREATE)
    made.type_coordinator(documented(
        SHARDING, "sql", "set_coordinator", FAILOVER))
    made.start_group_relays(new_dir, broker, MODE)
    made.told = {}              # orders of all tests
    made.pieces = test_shards.receive(made)
    yield made
    made.stop_all()


def guide_entry():
    return documented(SHARDING, "text", '"port": "6000"').strip(" ,\n")


def type_guide(fleet, text):
    fleet.type(documented(SHARDING, "sh", text, FAILOVER), guide_entry(),
               fleet.admin)


class Shop:
    """The callers of a test, and what they were told."""

    def __init__(self, fleet, name):
        self.fleet = fleet
        products = fleet.products(1, name)
        self.products = [products[n][0] for n in (0, 1)]
        for product in self.products:
            fleet.front.sql("SELECT receive_stock(%s, 10000)", (product,))
            fleet.pieces[product] = 10000
        self.seed = random.randrange(10**6)
        self.callers = Callers(fleet, CALLERS, f"{name}-{self.seed}")
        self.sweepers = Sweepers(fleet)
        self.buyers = [Buyer(fleet.front, product)
                       for product in self.products]

    def progress(self):
        now = time.monotonic()
        for buyer in self.buyers:
            buyer.wait_first(now, 30, self.fleet.group.report)
        crossing = len(self.callers.orders)
        wait_until(lambda: self.callers.errors or
                   len(self.callers.orders) > crossing + 20, 60,
                   lambda: self.callers.counts())

    def stop(self):
        for threads in (*self.buyers, self.callers):
            threads.stop()
        test_shards.wait_unfinished(self.fleet)
        self.sweepers.stop()

    def check(self):
        found = test_shards.states(self.fleet)
        self.fleet.told.update(self.callers.orders)
        test_shards.check_orders(self.fleet.told, found,
                                 test_shards.sagas(self.fleet),
                                 self.fleet.pieces)
        for buyer in self.buyers:
            assert sorted(name for name in found
                          if name.rsplit("-", 1)[0] == buyer.product) \
                == sorted(buyer.orders), buyer.product
        self.fleet.check_books()


@contextmanager
def busy(fleet, name):
    fleet.group.wait_sound()
    shop = Shop(fleet, name)
    print(f"seed {shop.seed}")
    try:
        shop.progress()
        yield shop
        fleet.group.wait_sound()
        shop.progress()
    finally:
        shop.stop()
    shop.check()


def lose(fleet, shop, name, how):
    """Loses the leader: each call has an answer in time, and those for other
    shards notice nothing."""
    leader = fleet.group.leader()
    began = time.monotonic()
    how(leader)
    lost = time.monotonic()
    here, other = shop.buyers
    back = here.wait_first(lost, 90, fleet.group.report)
    longest = [max(call.took for call in buyer.since(began))
               for buyer in shop.buyers]
    states = {call.sqlstate for call in here.since(began)} - {None}
    print(f"{name}: acknowledged after {back - began:.1f} s; the longest call"
          f" {longest[0]:.1f} s, in another shard {longest[1]:.2f} s; {states}")
    assert back - began <= FAIL_OVER_S[name] + SLACK_S
    assert longest[0] <= ANSWER_S + SLACK_S
    assert states and states <= {"08001", "08006"}
    assert {call.sqlstate for call in other.since(began)} == {None}
    assert longest[1] <= 1 + SLACK_S
    return leader


@contextmanager
def steps_under_way(fleet, shop):
    """The orders of LOST are in their steps; none ends during the block, if
    the coordinator's leader is lost in it. Afterwards their callers have an
    answer."""
    items = {}
    for name, *products in zip(LOST, *fleet.products(len(LOST), "lost")[:2]):
        for product in products:    # a step locks those of its order
            fleet.front.sql("SELECT receive_stock(%s, 1)", (product,))
            fleet.pieces[product] = 1
        items[name] = json.dumps([{"product_id": product, "quantity": 1}
                                  for product in products])
        shop.callers.orders[name] = Order(dict.fromkeys(products, 1), 2)
    here, other = fleet.shards[:2]
    session = Session(fleet.front)

    def reserve(name):
        return Caller(fleet.front, RESERVE, (name, items[name]))

    for name in ("lost-before", "lost-confirm"):
        wait_until(lambda: session.call(RESERVE, name, items[name]), 30, name)
    with fleet.stopped_at(
            fleet.coordinator, "r.order_id = 'lost-whole' AND"
            " r.state = 'reserved' OR r.order_id = 'lost-half' AND"
            " r.verb = 'undo'") as waits, fleet.stopped_at(
                other, "r.order_id = 'lost-half' AND r.step = 2 OR"
                " r.order_id = 'lost-confirm' AND r.step = 3"):
        callers = [reserve("lost-whole")]

        def is_stopped():
            if not callers[0].is_alive():   # late, and so undone by a sweeper
                callers[0] = reserve("lost-whole")
            return waits()
        wait_until(is_stopped, 30, "the coordinator ends the step")
        callers += [reserve("lost-half"),
                    Caller(fleet.front, CONFIRM, ("lost-confirm",))]
        wait_until(lambda: fleet.stopped(other) == 2, 30, "a shard takes them")
        wait_until(lambda: here.value(
            "SELECT array_agg(verb ORDER BY verb) = '{confirm,keep}' FROM"
            " pgstock_shard.order_part WHERE order_id IN ('lost-half',"
            " 'lost-confirm')"), 30, "the other shard has taken them")
        yield
        wait_until(lambda: fleet.coordinator.value(
            "SELECT verb = 'undo' FROM pgstock_front.saga"
            " WHERE order_id = 'lost-half'"), 60, "the sweeper undoes it")
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert [caller.rows for caller in callers[:2]] == [None, None]
    for name in ("lost-before", "lost-confirm"):
        wait_until(lambda: session.call(CONFIRM, name), 30, name)
        shop.callers.orders[name].told = "confirmed"


def check_lost(fleet):
    """The row of one order is still of the time before the loss: what the
    shards have kept shows that it is reserved."""
    assert dict(fleet.coordinator.sql(
        "SELECT order_id, state FROM pgstock_front.saga"
        " WHERE order_id LIKE 'lost-%'")) == LOST
    assert fleet.coordinator.value(
        "SELECT history <> pgstock_front.saga_history()"
        " FROM pgstock_front.saga WHERE order_id = 'lost-whole'")
    for name, state in LOST.items():
        assert len(fleet.live(name)) == (0 if state == "abandoned" else 2), name


def check_guide(fleet):
    """What the guide looks at after a loss; Kafka has each event."""
    type_guide(fleet, CHECK)
    (pair,) = fleet.pairs
    for relay in pair:
        relay.wait_ok("/readyz", 60)
        assert "SK020" not in relay.log(), relay.tail()
    shard = fleet.shards[0]
    wait_until(lambda: shard.value(
        "SELECT n FROM pgstock_internal.pending()") == 0, 60, pair[0].tail)
    events, missing, doubled, unknown = audit(pair[0])
    assert events > 0 and (missing, unknown) == (0, 0)
    assert doubled == 0 or MODE == "idempotent"


def test_the_leader_is_killed(fleet):
    """With the relay that leads, while orders over shards are in known
    steps."""
    relay = leading(fleet.pairs[0])

    def kill(member):
        relay.kill9()
        member.kill9()

    with busy(fleet, "kill") as shop:
        with steps_under_way(fleet, shop):
            leader = lose(fleet, shop, "kill", kill)
        leader.start()
        fleet.revive()
    check_lost(fleet)
    check_guide(fleet)


def test_the_leader_is_frozen(fleet, broker):
    """Its kernel accepts connections and acknowledges all packets. Kafka is
    away until the shard is back."""
    def freeze(member):
        broker.kill9()
        member.machine.freeze()

    with busy(fleet, "freeze") as shop:
        leader = lose(fleet, shop, "freeze", freeze)
        broker.start()
        leader.machine.thaw()
    check_guide(fleet)


def test_the_leader_is_cut_off(fleet):
    """Packets are dropped, without an error to the sender."""
    with busy(fleet, "cut") as shop:
        leader = lose(fleet, shop, "cut", lambda one: one.machine.cut())
        leader.machine.join()
    check_guide(fleet)


@pytest.fixture(scope="module")
def pooled(fleet, new_dir):
    """The front calls the shards through PgBouncer from now on."""
    fleet.start_pooler(new_dir("pgbouncer"), json.loads(guide_entry()))
    type_guide(fleet, CREATE)
    return fleet


def machine(way):
    return lambda member: getattr(member.machine, way)()


LOSSES = {
    "kill": (lambda one: one.kill9(), lambda one: one.start()),
    "freeze": (machine("freeze"), machine("thaw")),
    "cut": (machine("cut"), machine("join")),
}


@pytest.mark.parametrize("name", POOLED)
def test_through_a_pooler(pooled, name):
    """PgBouncer before HAProxy: answers in the same time."""
    how, end = LOSSES[name]
    with busy(pooled, f"pooled-{name}") as shop:
        end(lose(pooled, shop, name, how))
    check_guide(pooled)
