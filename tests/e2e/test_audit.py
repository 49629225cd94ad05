# SPDX-License-Identifier: PostgreSQL
"""audit: every event is in its topic once, and exceptions are named."""

import json
import re
import time
import uuid

import pytest
from confluent_kafka import TopicPartition

from kafkaio import delivered, send
from process import wait_until

OK, RUNTIME = range(2)


def settle(relay):
    """Wait until every event is published, and its position stored."""
    def pending():
        return json.loads(relay.command("status", "--json").stdout)[
            "pending_events"]
    wait_until(lambda: pending() == 0, 60, lambda: f"{pending()} pending")


def audit(relay, *args):
    """(exit code, {topic: {what: count}}, [named lines])"""
    done = relay.command("audit", *args)
    assert not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    counts = {}
    for line in lines:
        if match := re.match(r"topic (\S+): (.*)", line):
            counts[match[1]] = {what: int(n) for n, what in re.findall(
                r"(\d+) ([a-z ]+)", match[2])}
    assert lines[-1] == ("audit: clean" if done.returncode == OK else
                         "audit: outbox and topics do not agree")
    pending = sum(topic["pending"] for topic in counts.values())
    if pending:
        assert lines.pop(-2) == (
            f"pending: {pending} events are not published yet; whether they"
            " arrive was not compared")
    return done.returncode, counts, [
        line for line in lines[:-1] if not line.startswith("topic ")]


@pytest.fixture
def relay(db, start_relay):
    """A relay that has published ten reservations, and a dead letter."""
    db.sql("SELECT receive_stock('book', 100)")
    db.sql("SELECT reserve_stock('book', 1, 'o-' || i)"
           " FROM generate_series(1, 10) i")
    started = start_relay(topics=["order-created"])
    settle(started)
    return started


def pick(db, n=5):
    """The seq and id of one event in the middle."""
    return db.sql("SELECT seq, event_id::text FROM stock_outbox"
                  " ORDER BY seq OFFSET %s LIMIT 1", (n,))[0]


def test_clean(db, kafka, relay):
    out = kafka.producer()
    for i in range(3):
        send(out, "order-created", b"poison", key=b"", headers=[
            ("ce_id", b"x%d" % i), ("a", None), ("a", b"")])
    delivered(out)
    db.sql("SELECT publish_bytes('stock-events', NULL, NULL)")
    wait_until(lambda: db.value("SELECT count(*) FROM failed_order_archives")
               == 3, 20, "dead letters")
    settle(relay)
    code, counts, named = audit(relay)
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["events"] == 12
    assert counts["order-created_dlq"]["events"] == 3
    assert relay.command("replay", "--from", "1").returncode == OK
    settle(relay)
    code, counts, named = audit(relay)
    assert (code, named) == (OK, []), "copies are no doubles"
    assert counts["stock-events"]["replayed copies"] == 12
    assert counts["order-created_dlq"]["replayed copies"] == 3
    assert relay.terminate() == OK
    db.sql("SELECT receive_stock('book', 1)")
    code, counts, named = audit(relay)
    assert (code, counts["stock-events"]["pending"]) == (OK, 1)


@pytest.mark.parametrize("profile", ["cloudevents", "plain", "debezium"])
def test_profiles(db, kafka, start_relay, profile):
    """With every header profile, events are distinguished."""
    db.sql("SELECT receive_stock('book', 1) FROM generate_series(1, 5)")
    relay = start_relay({"outbox": {"header_profile": profile}})
    settle(relay)
    assert relay.command("replay", "--from", "1").returncode == OK
    settle(relay)
    assert audit(relay)[0] == OK


def test_missing(db, kafka, relay):
    """A row that was never published, as if its record had been lost."""
    seq, event = pick(db)
    db.sql("UPDATE pgstock_internal.outbox SET id = gen_random_uuid()"
           " WHERE seq = %s", (seq,))
    lost = db.value("SELECT event_id::text FROM stock_outbox WHERE seq = %s",
                    (seq,))
    code, counts, named = audit(relay)
    assert code == RUNTIME
    assert counts["stock-events"]["missing"] == 1
    assert counts["stock-events"]["unknown"] == 1
    assert len(named) == 2
    assert any(line.startswith("missing topic=stock-events") and lost in line
               and f"seq={seq} " in line for line in named)
    assert any(line.startswith("unknown") and event in line for line in named)
    code, _, named = audit(relay, "--from", str(seq + 1))
    assert (code, named) == (OK, []), "what is before is not asked for"


def test_removed_from_the_outbox(db, kafka, relay):
    seq, event = pick(db)
    db.sql("DELETE FROM pgstock_internal.outbox WHERE seq = %s", (seq,))
    code, counts, named = audit(relay)
    assert code == RUNTIME and counts["stock-events"]["unknown"] == 1
    assert len(named) == 1 and event in named[0]
    assert re.match(r"unknown topic=stock-events partition=\d offset=\d+ "
                    rf"seq={seq} ", named[0])


def test_added_to_the_topic(db, kafka, relay):
    """A repeated record; and a record of another application, which is not
    ours."""
    seq, event = pick(db)
    record, = (r for r in kafka.consume("stock-events")
               if r.header("ce_id") == event)
    out = kafka.producer()
    for _ in range(2):
        send(out, "stock-events", record.value, key=record.key,
             headers=list(record.headers))
    send(out, "stock-events", b"{}", key=b"k")
    delivered(out)
    code, counts, named = audit(relay)
    assert code == RUNTIME and counts["stock-events"]["doubled"] == 2
    assert counts["stock-events"]["other records"] == 1
    assert len(named) == 1 and event in named[0] and "times=3" in named[0]
    assert named[0].startswith("doubled topic=stock-events")


def test_topic_retention(db, kafka, relay):
    """Records that the topic's retention has deleted are not missing; later
    ones that are absent still are."""
    seq, _ = pick(db, 9)
    db.sql("UPDATE pgstock_internal.outbox SET id = gen_random_uuid()"
           " WHERE seq = %s", (seq,))
    records = kafka.consume("stock-events")
    keep = min(r.offset for r in records if r.sequence == seq)
    place = next(r.partition for r in records if r.sequence == seq)
    gone = [r for r in records if r.partition == place and r.offset < keep]
    kafka.delete_records(TopicPartition("stock-events", place, keep))
    code, counts, named = audit(relay)
    assert code == RUNTIME
    assert counts["stock-events"]["removed by retention"] == len(gone)
    assert counts["stock-events"]["missing"] == 1
    assert f"seq={seq} " in [n for n in named if n.startswith("missing")][0]


def test_topic_gone(db, kafka, relay):
    assert relay.terminate() == OK
    kafka.delete_topics("stock-events")
    code, counts, named = audit(relay)
    assert code == RUNTIME and counts["stock-events"]["missing"] == 11
    assert len(named) == 11


def test_replay_mends(db, kafka, relay):
    """A topic was lost and created again: a replay of the named events mends
    it. It used to stay red until retention ended."""
    out = kafka.producer()
    send(out, "order-created", b"poison", key=b"k", headers=[("a", b"1")])
    delivered(out)
    wait_until(lambda: db.value("SELECT count(*) FROM failed_order_archives"),
               20, "a dead letter, which has no headers of ours")
    settle(relay)
    assert relay.terminate() == OK
    for topic in ("stock-events", "order-created_dlq"):
        kafka.delete_topics(topic)
        kafka.create_topics(topic)
    code, counts, named = audit(relay)
    assert code == RUNTIME and len(named) == 12
    relay.start()
    for line in named:
        seq = re.search(r" seq=(\d+) ", line)[1]
        assert relay.command("replay", "--from", seq, "--to",
                             seq).returncode == OK
    settle(relay)
    code, counts, named = audit(relay)
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["there as a copy alone"] == 11
    assert counts["order-created_dlq"]["there as a copy alone"] == 1


def test_another_database_of_that_name(db, kafka, relay):
    """Two servers have a database "shop" and share a topic."""
    seq, event = pick(db)
    record, = (r for r in kafka.consume("stock-events")
               if r.header("ce_id") == event)
    ours = db.value("SELECT id::text FROM pgstock_internal.incarnation")
    assert record.header("ce_incarnation") == ours
    out = kafka.producer()
    for identity in (ours, str(uuid.uuid4())):
        changed = {"ce_id": str(uuid.uuid4()).encode(),
                   "ce_incarnation": identity.encode()}
        changed["event_id"] = changed["ce_id"]
        send(out, "stock-events", record.value, key=record.key,
             headers=[(name, changed.get(name, value))
                      for name, value in record.headers])
    delivered(out)
    code, counts, named = audit(relay)
    assert code == RUNTIME and len(named) == 1
    assert counts["stock-events"]["unknown"] == 1
    assert counts["stock-events"]["other records"] == 1


def test_a_right_is_missing(db, relay):
    """For a role without rights it names the missing right."""
    db.sql("CREATE ROLE blind LOGIN")
    relay.config["postgres"]["conninfo"] = db.conninfo(user="blind")
    done = relay.command("audit")
    db.sql("DROP ROLE blind")
    assert done.returncode == RUNTIME
    assert "grant_stock_access('<role>', 'relay')" in done.stderr


def test_outbox_retention(db, kafka, relay):
    """Events that the outbox's retention has deleted prove nothing about the
    topic."""
    seq, _ = pick(db)
    db.sql("DELETE FROM pgstock_internal.outbox WHERE seq < %s", (seq,))
    code, counts, named = audit(relay)
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["other records"] == 5


def test_from_time(db, kafka, relay):
    """Only events written then or later. A row that was skipped for that, and
    whose seq is among the others, is not unknown."""
    seq, _ = pick(db)
    code, counts, named = audit(relay, "--from", "2100-01-01T00:00:00Z")
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["events"] == 0
    db.sql("UPDATE pgstock_internal.outbox SET created_at = '2001-01-01'"
           " WHERE seq = %s", (seq,))
    code, counts, named = audit(relay, "--from", "2020-01-01T00:00:00Z")
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["events"] == 10
    assert counts["stock-events"]["other records"] == 1


def test_while_events_are_written(db, kafka, relay):
    """Events written meanwhile are neither missing nor unknown."""
    for i in range(5):
        db.sql("SELECT receive_stock('book', 1) FROM generate_series(1, 200)")
        code, _, named = audit(relay)
        assert (code, named) == (OK, []), i


def test_time_and_memory(db, kafka, start_relay):
    """100,000 events: 1,000,000 in under 30 s are measured by bench/run."""
    relay = start_relay()
    db.sql("SELECT publish_event('stock-events', i::text, '{}')"
           " FROM generate_series(1, 100000) i")
    settle(relay)
    began = time.monotonic()
    code, counts, _ = audit(relay)
    assert code == OK and counts["stock-events"]["events"] == 100000
    assert time.monotonic() - began < 15
