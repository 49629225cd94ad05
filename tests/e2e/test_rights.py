# SPDX-License-Identifier: PostgreSQL
"""The rights in Kafka that docs/transports.md lists are enough, and each is
needed: without it the relay says which one is missing."""

import pathlib
import re
import shlex

import pytest

import secure
from checks import wait_complete
from documents import Terminal, blocks
from kafkaio import delivered, send
from process import wait_until
from test_inbox import order

MANUAL = pathlib.Path(__file__).parents[2] / "docs/transports.md"
ROW = re.compile(r"^\| ([a-z ]+) \| (\w+) \| `([^`]+)` \| (\w+) \|$",
                 re.MULTILINE)
RESOURCES = {"Topic": "TOPIC", "Group": "GROUP",
             "TransactionalId": "TRANSACTIONAL_ID"}
TOPIC, OTHER = "order-created", "invoices"

session_kafka = secure.session_kafka
no_rights = secure.no_rights


def rights(db, *uses):
    """The rows of the manual for these uses, as grants."""
    incarnation = db.value(
        "SELECT id::text FROM pgstock_internal.incarnation")
    group = db.value("SELECT inbox_group FROM pgstock_internal.relay_hello()")
    names = {"<incarnation>": incarnation, "<group>": group,
             "<topic>": TOPIC, "<other topic>": OTHER}
    found = []
    for use, resource, name, operation in ROW.findall(
            MANUAL.read_text("utf-8")):
        for place, real in names.items():
            name = name.replace(place, real)
        if use in uses:
            found.append((RESOURCES[resource], name, operation.upper()))
    assert found
    return found


def certified(db, kafka, relays, mode, topics=TOPIC):
    relay = relays(db.conninfo(), kafka.brokers, {
        "outbox": {"mode": mode}, "inbox": {"topics": topics}})
    relay.config["kafka"] = kafka.client("MTLS")
    return relay


class Flow:
    """Messages in and events out, each time with ids of their own."""

    TOPICS = ("stock-events", "stock-freeze-failed", OTHER, f"{TOPIC}_dlq")

    def __init__(self, db, kafka, once=False):
        self.db, self.kafka, self.once, self.count = db, kafka, once, 0
        db.sql("SELECT receive_stock('book', 1000)")

    def put(self, *values):
        out = self.kafka.producer()
        for value in values:
            send(out, TOPIC, value, key=f"o-{self.count}")
        delivered(out)

    def begin(self):
        """An order, one that asks for too much, a message that fails, and an
        event of the application: a record in each topic."""
        self.count += 1
        self.put(order(self.count), order(f"large-{self.count}", 100000),
                 b"poison")
        self.db.sql("SELECT publish_event(%s, 'k', '{}')", (OTHER,))

    def end(self, relay):
        """All of it has arrived; twice only where a producer was replaced."""
        wait_until(lambda: self.db.value(
            "SELECT count(*) FROM stock_inbox") == 3 * self.count, 40,
                   relay.tail)
        wanted = {event for (event,) in self.db.sql(
            "SELECT event_id::text FROM stock_outbox"
            " WHERE event_type <> 'DeadLetter'")}
        with self.kafka.tail(*self.TOPICS) as tail:
            tail.until(lambda records: wanted <= set(self.events(records))
                       and len(self.dead(records)) >= self.count, 40,
                       relay.log_path)
            assert set(self.events(tail.records)) == wanted
            if self.once:
                assert len(self.events(tail.records)) == len(wanted)
                assert len(self.dead(tail.records)) == self.count

    @staticmethod
    def events(records):
        return [record.header("ce_id") for record in records
                if record.topic != f"{TOPIC}_dlq"]

    @staticmethod
    def dead(records):
        return [record for record in records
                if record.topic == f"{TOPIC}_dlq"]


REFUSALS = {
    "TOPIC": "Topic authorization failed",
    "GROUP": "Group authorization failed",
    "TRANSACTIONAL_ID": "Transactional Id authorization failed",
}


def test_the_commands_that_grant(kafka, new_dir):
    """As the manual has them."""
    (block,) = [block for block in blocks("docs/transports.md")
                if "kafka-acls.sh" in block.text]
    terminal = Terminal(new_dir("administrator"), {}, {
        "kafka-acls.sh": shlex.join(kafka.java(
            "org.apache.kafka.tools.AclCommand")),
        "localhost:9092": kafka.brokers})
    try:
        printed = terminal.type(block.text)
    finally:
        terminal.close()
    for topic, operation in (("stock-events", "WRITE"),
                             ("stock-freeze-failed", "WRITE"),
                             ("order-created", "READ")):
        assert re.search(rf"name={topic},.*\n.*principal=User:relay,"
                         rf".*operation={operation}", printed), printed


def uses_of(mode):
    both = ("publishing", "consuming")
    return both if mode == "idempotent" else (*both, "transactional mode")


@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_each_right_is_needed(db, kafka, relays, mode):
    """Exactly these: all works. One less: the relay says what is refused, and
    goes on when it is granted again, without a loss and, in transactional
    mode, without a repetition."""
    kafka.create_topics(OTHER)
    if mode == "transactional":
        kafka.create_topics(
            "pgstock-position-" + db.value(
                "SELECT id::text FROM pgstock_internal.incarnation"),
            partitions=1, cleanup_policy="compact")
    needed = rights(db, *uses_of(mode))
    kafka.allow(*needed)
    relay = certified(db, kafka, relays, mode)
    done = relay.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
    relay.start()
    flow = Flow(db, kafka, once=mode == "transactional")
    flow.begin()
    flow.end(relay)
    for grant in needed:
        resource, name, operation = grant
        seen = len(relay.log())
        kafka.forbid(grant)
        if "position" in name and operation == "READ":
            relay.terminate()           # it is read by a start
            relay.start(wait=None)
        flow.begin()

        def is_named():
            new = relay.log()[seen:]
            return (f"principal Read {resource.lower()}={name}" in new or
                    (REFUSALS[resource] in new and (
                        resource == "TRANSACTIONAL_ID" or name in new)
                     and name != TOPIC))
        wait_until(is_named, 40, lambda: f"{grant}\n{relay.tail(40)}")
        kafka.allow(grant)
        flow.end(relay)
    relay.wait_ok("/readyz", 60)


@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_check_names_each_right(db, kafka, relays, mode):
    """As far as the broker shows it without a record being written."""
    kafka.create_topics(OTHER)
    needed = rights(db, *uses_of(mode))
    create = rights(db, "creating topics")
    kafka.allow(*needed, *create)
    relay = certified(db, kafka, relays, mode)
    done = relay.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
    for grant in needed:
        resource, name, operation = grant
        if name == OTHER or (name.startswith("pgstock-position")):
            continue                    # check does not know the one; below
        kafka.forbid(grant, *create)
        done = relay.command("check")
        assert done.returncode == 1, (grant, done.stdout)
        lines = done.stdout.splitlines()
        (at,) = [i for i, line in enumerate(lines) if line.startswith("FAIL")
                 and name in line and "position" not in line]
        assert REFUSALS[resource] in lines[at], lines[at]
        assert operation.title() in lines[at + 1], lines[at + 1]
        kafka.allow(grant, *create)


def test_rights_of_the_commands(db, kafka, relays):
    """status needs no more than run does; audit reads what was published."""
    kafka.create_topics(OTHER)
    kafka.allow(*rights(db, "publishing", "consuming"))
    relay = certified(db, kafka, relays, "idempotent")
    relay.start()
    flow = Flow(db, kafka)
    flow.begin()
    flow.end(relay)
    for command in (["status"], ["check"], ["replay", "--from", "1"]):
        done = relay.command(*command)
        assert done.returncode == 0, (command, done.stdout + done.stderr)
    assert relay.terminate() == 0
    done = relay.command("rewind", "--topic", TOPIC, "--to", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    needed = rights(db, "audit")
    for grant in needed:
        kafka.allow(*needed)
        kafka.forbid(grant)
        done = relay.command("audit")
        assert done.returncode == 1, (grant, done.stdout)
        assert f'topic "{grant[1]}": Broker: Topic authorization' \
            " failed: allow the relay's principal" in done.stderr, done.stderr
    kafka.allow(*needed)
    done = relay.command("audit")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "authorization" not in done.stdout + done.stderr


def test_rights_of_the_level_stream(db, kafka, relays):
    """Without Read it is published all the same, and the log says that it is
    not compared; once it is granted, it is."""
    kafka.create_topics("stock-levels", cleanup_policy="compact")
    writes, reads = rights(db, "level stream")
    kafka.allow(*rights(db, "publishing"), writes)
    relay = certified(db, kafka, relays, "idempotent", topics="")
    relay.config["levels"] = {"topic": "stock-levels"}
    relay.start()
    db.sql("SELECT receive_stock('book', 1)")
    wait_until(lambda: kafka.count("stock-levels") == 1, 30, relay.tail)
    wait_until(lambda: 'could not read topic "stock-levels"' in relay.log(),
               30, relay.tail)
    out = kafka.producer()
    send(out, "stock-levels", None, key=b"book@main")
    send(out, "stock-levels", b"{}", key=b"book@main")
    delivered(out)
    kafka.allow(reads)
    wait_until(lambda: kafka.count("stock-levels") == 4, 60, relay.tail)


def test_rights_of_redrive(db, kafka, relays):
    """What it needs beside the rights of the relay, and no more."""
    relay = certified(db, kafka, relays, "idempotent")
    kafka.allow(*rights(db, "publishing", "consuming"))
    relay.start()
    with kafka.tail(f"{TOPIC}_dlq") as tail:
        out = kafka.producer()
        send(out, TOPIC, b"poison", key=b"k")
        delivered(out)
        tail.until(list, 30, "a letter")
    assert relay.terminate() == 0
    needed = rights(db, "redrive")
    ask = ["redrive", "--topic", f"{TOPIC}_dlq"]
    for grant in needed:
        kafka.allow(*needed)
        kafka.forbid(grant)
        done = relay.command(*ask)
        assert done.returncode == 1, (grant, done.stdout)
        assert "uthorization failed" in done.stderr, (grant, done)
    kafka.allow(*needed)
    done = relay.command(*ask)
    assert done.stdout == "sent back 1 dead letters, left 0\n", done


def test_missing_topics_are_created(db, kafka, relays):
    """Create on the topics is enough; the position topic too."""
    kafka.delete_topics("stock-events", "stock-freeze-failed", f"{TOPIC}_dlq")
    kafka.allow(*rights(db, *uses_of("transactional")))
    kafka.allow(*rights(db, "creating topics"))
    relay = certified(db, kafka, relays, "transactional")
    relay.start()
    flow = Flow(db, kafka)
    flow.put(order(1))
    wait_until(lambda: "stock-events" in kafka.topics(), 30, relay.tail)
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
