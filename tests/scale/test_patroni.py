# SPDX-License-Identifier: PostgreSQL
"""P1 to P5 while a database loses its leader in every way that we know.

Three machines with etcd, Patroni and PostgreSQL, as docs/high-availability.md
sets them up; two relays, a broker, a gateway, and buyers, half of whose answers
depend on the commit of another buyer. Some buy through the gateway. Whatever is
lost: no acknowledged call is missing afterwards, Kafka has the events of the
committed changes and no others, and relay and gateway continue without help.

PGSTOCK_FAILOVERS=20 kills the leader 20 more times, or loses it in other ways
in turn: PGSTOCK_WAYS=kill,freeze,cut. PGSTOCK_MODE=idempotent permits events
that are published twice.
"""

import os
import re
import signal
import time
from contextlib import contextmanager

import pytest

from buyers import Buyers, WebBuyers
from checks import audit, check_all, inbox_results
from cluster import Database, Kafka, Postgres, Relay
from gateway import Gateway
from group import NAMES, PASSWORD, TTL, Group
from kafkaio import delivered, send
from network import state_of
from process import children_of, run_tool, wait_until, write_private

MODE = os.environ.get("PGSTOCK_MODE", "transactional")
FAILOVERS = int(os.environ.get("PGSTOCK_FAILOVERS", "0"))
AGAIN = os.environ.get("PGSTOCK_WAYS", "kill").split(",")
# From the loss of the leader to an answer; a machine that does not refuse
# connections costs etcd, Patroni and clients a wait of some seconds each.
FAIL_OVER_S = {"kill": TTL + 5, "freeze": TTL + 10, "cut": TTL + 10,
               "switch_over": TTL}
TAKE_OVER_S = 3                 # from that answer to a new event
GATEWAY_S = 5                   # to an answer of the gateway
# What a loaded machine may add to each, for it delays the elections of etcd,
# Patroni and the relay alike; 0 where the figures are measured.
SLACK_S = float(os.environ.get("PGSTOCK_SLACK_S", "10"))
OLD_ORDERS = 50
PAGE = "../../docs/high-availability.md"
TOPICS = ("stock-events", "stock-freeze-failed", "order-created",
          "order-created_dlq")


def documented(kind, text):
    """The only block of docs/high-availability.md with that text."""
    path = os.path.join(os.path.dirname(__file__), PAGE)
    with open(path, encoding="utf-8") as file:
        blocks = re.findall(rf"```{kind}\n(.*?)```", file.read(), re.S)
    (block,) = [block for block in blocks if text in block]
    return block


@pytest.fixture(scope="module")
def machines(lan):
    return [lan.add(name) for name in NAMES]


@pytest.fixture(scope="module")
def group(run, machines):
    """From one server to three."""
    group = Group(machines, run)
    # as a new Debian has them
    single = Postgres(os.path.join(run, "single"), {
        "max_connections": 100, "max_prepared_transactions": 0})
    single.init().start()
    db = single.create_database("shop")
    db.sql("SELECT receive_stock('book', 100000000)")
    db.sql("SELECT reserve_stock('book', 1, 'old-' || i)"
           " FROM generate_series(1, %s) i", (OLD_ORDERS,))
    run_tool([single.bin("psql"), *single.tool_args("shop"),
              "--set=ON_ERROR_STOP=1"],
             input=documented("sql", "ROLE replicator"))
    for role, level in (("shop", "app"), ("pgstock_relay", "relay")):
        db.sql(f"CREATE ROLE {role} LOGIN")
        db.sql(f"SELECT grant_stock_access('{role}', '{level}')")
    for role in ("postgres", "shop", "pgstock_relay"):
        db.sql(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
    single.stop()
    group.take_over(single)
    yield group
    group.close()
    single.close()


@pytest.fixture(scope="module")
def broker(run, machines):
    server = Kafka(os.path.join(run, "kafka"), proxied=False).init().start()
    server.create_topics(*TOPICS, message_timestamp_type="LogAppendTime")
    yield server
    server.close()


@pytest.fixture(scope="module")
def passwords(run):
    path = os.path.join(run, "pgpass")
    write_private(path, f"*:*:*:*:{PASSWORD}\n")
    return path


@pytest.fixture(scope="module")
def gateway(run, group, passwords):
    one = Gateway(os.path.join(run, "gateway"), {
        "app": group.conninfo(user="shop", passfile=passwords)}).start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def relays(run, group, broker, passwords):
    """Two of them, with the settings of docs/high-availability.md."""
    made = []
    for name in ("one", "two"):
        made.append(Relay(
            os.path.join(run, f"relay-{name}"), group.conninfo(
                user="pgstock_relay", passfile=passwords), broker.brokers,
            {"relay": {"name": name, "log_level": "debug"},
             "outbox": {"publish_after": "remote_flush", "mode": MODE},
             "inbox": {"topics": "order-created"}}))
        made[-1].start()
    yield made
    for relay in made:
        relay.close()


def published_after(tail, moment):
    """When the first event after that time was appended."""
    seen = len(tail.records)

    def first(records):
        return next((record.timestamp_ms / 1000 for record in records[seen:]
                     if record.topic == "stock-events"
                     and record.timestamp_ms / 1000 > moment), None)
    return tail.until(first, 60, "the relay publishes")


class Shop:
    """The group, its relays and gateway, and the buyers of a test."""

    def __init__(self, group, broker, relays, gateway):
        self.group, self.broker, self.relays = group, broker, relays
        self.gateway = gateway
        self.db = Database(group, "shop")
        self.buyers = self.web = None
        self.orders = 0         # sent to the topic
        self.times = []         # of each loss: how, and how long it takes

    def order(self, count=20):
        """Orders from Kafka, which the relays apply."""
        out = self.broker.producer()
        for _ in range(count):
            self.orders += 1
            name = f"kafka-{self.orders}"
            send(out, "order-created", {
                "event_id": name, "order_id": name, "user_id": "u",
                "items": [{"product_id": "book", "quantity": 1}]},
                key=name.encode())
        delivered(out)

    @contextmanager
    def busy(self, tail):
        """Runs buyers; at the end all guarantees must hold."""
        self.group.wait_sound()
        self.times.clear()
        self.buyers = Buyers(self.group, 6, "shop")
        self.web = WebBuyers(self.gateway, self.group, 2)
        try:
            self.progress()
            self.order()
            yield self.buyers
            self.order()
            self.group.wait_sound()
            self.progress()
        finally:
            self.buyers.stop()
            self.web.stop()
        self.check(tail)
        for how, began, answer, event, web in self.times:
            kinds, last = self.web.refused(began)
            print(f"{how}: 503 {kinds}, the last after {last - began:.1f} s")
            assert answer <= FAIL_OVER_S[how] + SLACK_S, how
            assert event <= TAKE_OVER_S + SLACK_S, how
            assert web <= GATEWAY_S + SLACK_S, how

    def progress(self):
        self.buyers.progress(200)
        self.web.progress(50)

    def check(self, tail):
        for buyers in (self.buyers, self.web):
            lost = buyers.lost(self.db)
            assert not lost, (f"{len(lost)} were acknowledged and lost:"
                              f" {lost[:5]}")
        wait_until(lambda: inbox_results(self.db)["applied"] == self.orders,
                   60, lambda: f"{inbox_results(self.db)} of {self.orders}")
        check_all(self.db, tail)
        for relay in self.relays:
            assert relay.running and "SK020" not in relay.log()
            assert "another history" not in relay.log(), relay.tail()
            relay.wait_ok("/readyz")
        assert self.gateway.running
        self.audit()

    def audit(self):
        """Kafka has each event and no others; in idempotent mode some twice."""
        _, missing, doubled, unknown = audit(self.relays[0])
        assert (missing, unknown) == (0, 0)
        assert doubled == 0 or MODE == "idempotent"

    def lose(self, tail, how, restore=lambda member: None):
        """Loses the leader. A new one acknowledges calls in time, then the
        gateway does, and the relay publishes their events."""
        leader = self.group.leader()
        began = time.time()
        how(leader)
        new = self.group.leader(other_than=leader)
        answer = self.buyers.wait_first(began, new.machine.address)
        late = published_after(tail, answer.at) - answer.at
        # only the new leader can have acknowledged it
        web = self.web.wait_first(answer.at).at - answer.at
        print(f"{how.__name__}: {leader.name} to {new.name}, answer after"
              f" {answer.at - began:.1f} s, relay {late:.1f} s later, gateway"
              f" {web:.1f} s later, acknowledged {len(self.buyers.answers)} and"
              f" {len(self.web.answers)}")
        self.times.append((how.__name__, began, answer.at - began, late, web))
        restore(leader)


@pytest.fixture(scope="module")
def shop(group, broker, relays, gateway):
    return Shop(group, broker, relays, gateway)


@pytest.fixture(scope="module")
def tail(broker):
    with broker.tail("stock-events", "stock-freeze-failed") as reader:
        yield reader


# ---- the ways to lose a leader, one by one -----------------------------------

def kill(member):
    member.kill9()


def freeze(member):
    member.machine.freeze()


def cut(member):
    member.machine.cut()


def restart(member):
    member.start()


def thaw(member):
    member.machine.thaw()


def join(member):
    member.machine.join()


def test_from_one_server_to_three(shop, tail):
    """The data of the single server is on all three, and check reports only
    what this machine lacks."""
    shop.order()
    wait_until(lambda: inbox_results(shop.db)["applied"] == shop.orders, 30,
               "the relay applies orders")
    assert shop.db.value("SELECT count(*) FROM stock_reservations"
                         " WHERE order_id LIKE 'old-%%'") == OLD_ORDERS
    found = shop.relays[0].command("check").stdout
    assert "patroni_version" not in found, found
    assert "synchronous_standby" not in found, found
    check_all(shop.db, tail)


def test_the_group_is_shown(shop):
    """By the commands with which the manual looks at it."""
    group = shop.group
    group.wait_sound()
    (health,) = documented("sh", "etcdctl endpoint health").splitlines()[1:]
    shown = group.etcdctl(*health.split()[1:])
    assert shown.count("is healthy") == len(NAMES), shown
    group.type(documented("sh", "/etc/patroni list"), "Quorum Standby")


def test_the_leader_is_killed(shop, tail):
    with shop.busy(tail):
        shop.lose(tail, kill, restart)


def test_the_leader_is_frozen(shop, tail):
    """Its kernel still accepts packets: sessions hang, new ones too. When it
    thaws, it continues for an instant, and so do its relay and clients."""
    with shop.busy(tail):
        shop.lose(tail, freeze, thaw)


def test_the_leader_is_cut_off(shop, tail):
    """Packets are dropped, without an error to the sender."""
    with shop.busy(tail):
        shop.lose(tail, cut, join)


def test_switch_over(shop, tail):
    """On request; clients notice only a lost connection."""
    def switch_over(leader):
        # the leader, any standby, now, yes
        shop.group.type(documented("sh", "switchover shop"),
                        "Successfully switched over", f"{leader.name}\n\n\ny\n")

    with shop.busy(tail):
        shop.lose(tail, switch_over)


def test_strict_mode_is_turned_off_and_on(shop):
    """As an operator does who has lost both standbys."""
    group = shop.group
    group.wait_sound()
    turn_off = documented("sh", "synchronous_mode_strict=false")
    for command, strict in ((turn_off, False),
                            (turn_off.replace("=false", "=true"), True)):
        group.type(command, "Configuration changed", "y\n")
        wait_until(lambda: group.leader().patroni.get("/config")[1][
            "synchronous_mode_strict"] is strict, 30,
                   f"strict mode is {strict}")


def receiver_of(member):
    """The process that receives the WAL."""
    (pid,) = [pid for pid in children_of(member.patroni.postmaster())
              if "walreceiver" in command_of(pid)]
    return pid


def command_of(pid):
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        return file.read()


def test_restart_with_commits_that_wait(shop, tail):
    """The standbys receive nothing, so commits wait; after the restart all
    sessions see these commits, although only one server has them. A call that
    repeats such an order returns only once a standby has it."""
    group = shop.group
    with shop.busy(tail):
        leader = group.leader()
        receivers = [receiver_of(one) for one in group.standbys()]
        for pid in receivers:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: waiting(shop.db) > 6, 30, "commits wait")
        began = time.time()
        group.patronictl("Success: restart", "restart", "shop", leader.name,
                         "--force")
        assert group.leader() is leader
        wait_until(lambda: waiting(shop.db) > 6, 60, "commits wait again")
        assert shop.buyers.first_after(began) is None
        for pid in receivers:
            if state_of(pid) not in "ZX":
                os.kill(pid, signal.SIGCONT)
        shop.buyers.wait_first(began)


def waiting(db):
    """The number of buyers whose commit or answer waits for a standby."""
    return db.value("SELECT count(*) FROM pg_stat_activity WHERE usename ="
                    " 'shop' AND wait_event = 'SyncRep'")


def test_etcd_is_lost(shop, tail):
    """The leader continues, because both standbys respond to it."""
    group = shop.group
    with shop.busy(tail):
        leader = group.leader()
        for member in group.members.values():
            member.etcd.kill9()
        lost = time.time()
        # by then a leader that must not continue has stopped
        shop.buyers.wait_first(lost + TTL + 5, timeout=2 * TTL)
        assert leader.patroni.leads()
        published_after(tail, time.time())
        for member in group.members.values():
            member.etcd.start()


@pytest.mark.parametrize("number", range(FAILOVERS))
def test_again_and_again(shop, tail, number):
    """Each lost machine is back before the next one is lost."""
    ways = {"kill": (kill, restart), "freeze": (freeze, thaw),
            "cut": (cut, join)}
    with shop.busy(tail):
        shop.lose(tail, *ways[AGAIN[number % len(AGAIN)]])
