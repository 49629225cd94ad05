# SPDX-License-Identifier: PostgreSQL
"""A topic that the broker refuses delays only itself; once accepted again, it
resumes in order with nothing lost."""

import json
import tempfile

import pytest

from checks import check_complete, check_order, wait_complete
from cluster import Kafka
from process import wait_until

MODES = ["idempotent", "transactional"]


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def quick(mode):
    return {"outbox": {"poll_interval": "100ms", "mode": mode}}


@pytest.fixture
def strict_kafka(run, mode):
    """A broker that can deny rights to any client."""
    directory = tempfile.mkdtemp(prefix=f"strict-kafka-{mode}-", dir=run)
    server = Kafka(directory, settings="""\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
""").init().start()
    yield server
    server.close()


def publish(db, topic, count, size=10, keys=3, first=0):
    """Events in one transaction, their key by their number."""
    db.sql("SELECT count(publish_event(%s, 'k' || i %% %s,"
           " jsonb_build_object('i', i, 'fill', repeat('x', %s))))"
           " FROM generate_series(%s, %s) i",
           (topic, keys, size, first, first + count - 1))


def held(relay):
    """{topic: the number of its events set aside}, from /metrics."""
    return {labels["topic"]: value for name, labels, value in relay.samples()
            if name == "outbox_held_events"}


def wait_held(relay, topics, timeout=30):
    wait_until(lambda: set(held(relay)) == set(topics), timeout,
               lambda: f"held: {held(relay)}\n{relay.tail(20)}")


def status(relay):
    done = relay.command("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_named(relay, topic, reason):
    """Log, status, metrics and pages name the held topic and the reason; the
    relay is ready."""
    code, body = relay.get("/readyz")
    assert code == 200 and topic in body and reason in body, body
    known = status(relay)
    assert known["status"] == "failing"
    assert any(topic in line and reason in line for line in known["problems"])
    (row,) = [row for row in known["held_topics"] if row["topic"] == topic]
    assert reason in row["reason"] and row["events"] > 0 and row["tries"] > 0
    plain = relay.command("status").stdout
    assert topic in plain and reason in plain
    told = [line for line in relay.log().splitlines()
            if "topic is held back" in line and f"topic={topic} " in line]
    assert len(told) == 1, told


def check_free(relay, db):
    wait_held(relay, [])
    known = status(relay)
    assert known["held_topics"] == [] and known["held_trouble"] is None
    assert relay.metric("outbox_pending_events") == 0
    assert db.value("SELECT count(*) FROM pgstock_internal.held_event") == 0


def check_all_there(db, kafka, *topics):
    with kafka.tail(*topics) as tail:
        wait_complete(db, tail)
        records = tail.read_to_end()
    check_complete(db, records)
    check_order(records)


def test_one_event_too_large(db, kafka, start_relay, quick):
    """The topic accepts less than the database allows. Its later events wait,
    those of another topic do not, through kill -9 and until the limit is
    raised."""
    kafka.create_topics("small", max_message_bytes=20000)
    relay = start_relay(quick)
    publish(db, "small", 10)
    publish(db, "small", 1, size=100000, first=10)
    publish(db, "small", 10, first=11)
    publish(db, "stock-events", 10)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) >= 10, 10, "the other topic flows")
        wait_held(relay, ["small"])
        check_named(relay, "small", "MSG_SIZE_TOO_LARGE")
        assert relay.metric("outbox_publish_errors_total",
                            **{"class": "MSG_SIZE_TOO_LARGE"}) >= 1
        wait_until(lambda: relay.metric("outbox_pending_events") >= 4, 20,
                   "the gauge counts what is held: it, and those of its key")
        tries = status(relay)["held_topics"][0]["tries"]
        for number in range(3):
            relay.kill9()
            publish(db, "small", 5, first=21 + 5 * number)
            publish(db, "stock-events", 5, first=10 + 5 * number)
            relay.start()
            seen = 15 + 5 * number
            tail.until(lambda r, n=seen: len({x.header("ce_id") for x in r})
                       >= n, 10, "it flows on")
            wait_held(relay, ["small"])
    wait_until(lambda: status(relay)["held_topics"][0]["tries"] > tries, 60,
               "it is tried again")
    with kafka.tail("small") as tail:
        assert all(len(r.value) < 20000 for r in tail.read_to_end())
    kafka.alter_topic("small", max_message_bytes=1000000)
    check_all_there(db, kafka, "small", "stock-events")
    check_free(relay, db)
    assert "topic resumed topic=small" in relay.log()
    publish(db, "small", 10, first=36)
    check_all_there(db, kafka, "small", "stock-events")


def test_events_too_large_together(db, kafka, start_relay, quick):
    """Each of them fits; the batch that the producer sends does not. No
    operator has to act."""
    kafka.create_topics("small", partitions=1, max_message_bytes=20000)
    relay = start_relay(quick)
    publish(db, "small", 2000, size=1000)
    publish(db, "stock-events", 2000, size=1000)
    check_all_there(db, kafka, "small", "stock-events")
    check_free(relay, db)


def test_no_key_for_a_compacted_topic(db, kafka, start_relay, quick):
    kafka.create_topics("compact", cleanup_policy="compact")
    relay = start_relay(quick)
    db.sql("SELECT publish_event('compact', NULL, '{}')")
    publish(db, "stock-events", 10)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) >= 10, 10, "the other topic flows")
    wait_held(relay, ["compact"])
    kafka.alter_topic("compact", cleanup_policy="delete")
    check_all_there(db, kafka, "compact", "stock-events")
    check_free(relay, db)


@pytest.mark.long
def test_topic_gone_and_topic_forbidden(db, strict_kafka, start_relay, quick):
    """Two topics are held for two reasons: one was deleted, and may not be
    created again; for the other the right to write is missing. Each resumes
    when its cause is removed, whatever happens to the other."""
    kafka = strict_kafka
    kafka.create_topics("stock-events", "stock-freeze-failed", "gone",
                        "forbidden")
    relay = start_relay(quick, brokers=kafka.brokers)
    for topic in ("gone", "forbidden", "stock-events"):
        publish(db, topic, 10)
    check_all_there(db, kafka, "stock-events", "gone", "forbidden")
    kafka.acl("--add", "--allow-principal", "User:*", "--operation", "All",
              "--cluster", "--topic", "gone", "--topic", "forbidden",
              "--force")
    kafka.acl("--add", "--deny-principal", "User:*", "--operation", "Create",
              "--cluster", "--topic", "gone", "--force")
    kafka.acl("--add", "--deny-principal", "User:*", "--operation", "Write",
              "--topic", "forbidden", "--force")
    kafka.delete_topics("gone")
    for topic in ("gone", "forbidden", "stock-events"):
        publish(db, topic, 20, first=10)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len({x.header("ce_id") for x in r}) >= 30, 20,
                   "the other topic flows")
    wait_held(relay, ["gone", "forbidden"])
    check_named(relay, "gone", "_PART")
    check_named(relay, "forbidden", "AUTHORIZATION_FAILED")
    relay.kill9()
    publish(db, "forbidden", 5, first=30)
    relay.start()
    wait_held(relay, ["gone", "forbidden"])

    kafka.acl("--remove", "--deny-principal", "User:*", "--operation", "Write",
              "--topic", "forbidden", "--force")
    wait_held(relay, ["gone"], 60)
    kafka.acl("--remove", "--deny-principal", "User:*", "--operation",
              "Create", "--cluster", "--topic", "gone", "--force")
    wait_held(relay, [], 60)
    with kafka.tail("stock-events", "gone", "forbidden") as tail:
        records = tail.read_to_end()
    check_order(records)
    for topic, count in (("gone", 20), ("forbidden", 35),
                         ("stock-events", 30)):
        assert len({r.header("ce_id") for r in records
                    if r.topic == topic}) == count
    check_free(relay, db)


def position_topic(db):
    return "pgstock-position-" + db.value(
        "SELECT id::text FROM pgstock_internal.incarnation")


def first_event(relay, topic):
    (row,) = [row for row in status(relay)["held_topics"]
              if row["topic"] == topic]
    return row["first_event"]


def test_event_that_no_topic_takes(db, kafka, start_relay, quick):
    """An event that claims to be a position: an earlier version accepted it.
    It is blamed on its topic, in a transaction too, the others flow, and only
    an operator can discard it, which is recorded."""
    position = position_topic(db)
    publish(db, "own", 3)
    db.sql("UPDATE pgstock_internal.outbox SET aggregatetype = %s"
           " WHERE seq = (SELECT min(seq) FROM pgstock_internal.outbox)",
           (position,))
    publish(db, "stock-events", 3)
    relay = start_relay(quick)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 3, 30, "the others flow")
    wait_held(relay, [position])
    check_named(relay, position, "for positions, not for events")
    event = first_event(relay, position)
    audit = relay.command("audit")
    assert audit.returncode == 0, audit.stdout
    for bad in ((event,), (event, "--reason", ""), ("x", "--reason", "r")):
        assert relay.command("discard", *bad).returncode == 2
    absent = "00000000-0000-4000-8000-000000000000"
    done = relay.command("discard", absent, "--reason", "r")
    assert done.returncode == 1 and absent in done.stderr
    done = relay.command("discard", event, "--reason", "a forgery")
    assert (done.returncode, done.stdout) == (0, f"{event} is discarded\n")
    wait_held(relay, [], 60)
    assert db.sql("SELECT action, target, reason FROM stock_admin_actions") == [
        ("discard_held_event", f"event {event}", "a forgery")]
    # a relay that has lost its position reads it again, and leaves it
    relay.terminate()
    db.sql("SELECT pgstock_internal.put_position("
           "pgstock_internal.first_window(), 0, true)")
    if quick["outbox"]["mode"] == "transactional":
        kafka.delete_topics(position)
    relay.start()
    publish(db, "stock-events", 1, first=3)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len({x.header("ce_id") for x in r}) == 4, 30,
                   "it goes on")
    assert relay.command("audit").returncode in (0, 1)     # doubled
    assert "missing 1" not in relay.command("audit").stdout
    wait_held(relay, [], 60)


@pytest.mark.long
def test_many_topics_that_are_refused(db, strict_kafka, start_relay, quick):
    """A role that may publish may name any number of topics that do not exist.
    The first few delay the others for seconds each, and no more do."""
    kafka = strict_kafka
    kafka.create_topics("stock-events", "stock-freeze-failed", "good")
    kafka.create_topics(position_topic(db), partitions=1,
                        cleanup_policy="compact")
    relay = start_relay(quick, brokers=kafka.brokers)
    kafka.acl("--add", "--allow-principal", "User:*", "--operation", "All",
              "--cluster", "--topic", "*", "--force")
    kafka.acl("--add", "--deny-principal", "User:*", "--operation", "Create",
              "--cluster", "--topic", "*", "--force")
    for number in range(14):
        publish(db, f"none-{number}", 2)
        publish(db, "stock-events", 1, first=number)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len({x.header("ce_id") for x in r}) == 14, 60,
                   "the others flow")
        wait_held(relay, [f"none-{number}" for number in range(14)])
        told = relay.get("/readyz")[1]
        assert "and 4 others" in told, told
        # a topic that exists, and was unknown, is soon found
        publish(db, "good", 20)
        publish(db, "stock-events", 20, first=14)
        tail.until(lambda r: len({x.header("ce_id") for x in r}) == 34, 5,
                   "nothing is held up any more")
    with kafka.tail("good") as tail:
        tail.until(lambda r: len({x.header("ce_id") for x in r}) == 20, 60,
                   "it comes apart, and before those that never will")
        check_order(tail.records)


@pytest.mark.long
def test_many_topics_that_may_not_be_written(db, strict_kafka, start_relay,
                                             quick):
    """Each exists, so each could be tried, and each try costs all topics the
    producer: after four the others are held without one, and not for long."""
    kafka = strict_kafka
    names = [f"shut-{number}" for number in range(10)]
    kafka.create_topics("stock-events", "stock-freeze-failed", *names)
    kafka.acl("--add", "--deny-principal", "User:*", "--operation", "Write",
              "--topic", "shut-", "--resource-pattern-type", "prefixed",
              "--force")
    relay = start_relay(quick, brokers=kafka.brokers)
    for name in names:
        publish(db, name, 2)
    wait_held(relay, names)
    lines = [line for line in relay.log().splitlines()
             if "topic is held back" in line]
    tried = [line for line in lines if "AUTHORIZATION_FAILED" in line]
    apart = [line for line in lines if "many topics were refused" in line]
    assert (len(tried), len(apart)) == (4, 6), lines
    kafka.acl("--remove", "--deny-principal", "User:*", "--operation", "Write",
              "--topic", "shut-", "--resource-pattern-type", "prefixed",
              "--force")
    wait_held(relay, [], 60)
    check_all_there(db, kafka, *names)
