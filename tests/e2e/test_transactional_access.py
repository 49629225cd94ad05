# SPDX-License-Identifier: PostgreSQL
"""Transactional mode with a broker that requires permissions: those listed in
docs/relay.md suffice, and each missing one is named."""

import secure
from checks import check_all, duplicates
from process import wait_until
from test_transactional import MODE, position_topic

session_kafka = secure.session_kafka
no_rights = secure.no_rights


def grants(resource, names, *operations):
    return [(resource, name, operation) for name in names
            for operation in operations]


def strict_relay(db, kafka, relays):
    return relays(db.conninfo(), kafka.at["MTLS"], {
        **MODE, "kafka": kafka.client("MTLS")})


def test_permissions(db, kafka, relays):
    topic = position_topic(db)
    identity = topic.replace("position-", "")
    needs = {
        "id": grants("TRANSACTIONAL_ID", [identity], "WRITE"),
        "position": grants("TOPIC", [topic], "READ", "WRITE", "CREATE"),
        "events": grants("TOPIC", ["stock-events", "stock-freeze-failed"],
                         "WRITE", "CREATE"),
    }
    said = {
        "id": ("Transactional Id authorization failed",
               f"FAIL  transactional.id {identity}: ", "transactional_id"),
        "position": (f"position topic {topic} does not exist and cannot be"
                     " created: Broker: Topic authorization failed",
                     f"FAIL  topic {topic}: Broker: Topic authorization failed",
                     "position_topic"),
        "events": ("topic is held back topic=stock-events reason=",
                   "FAIL  topic stock-events: Broker: Topic authorization"
                   " failed",
                   "topic_creation"),
    }
    relay = strict_relay(db, kafka, relays)
    relay.start(wait=None)
    db.sql("SELECT publish_event('stock-events', 'k', '{}')"
           " FROM generate_series(1, 100)")
    for need in ("position", "id", "events"):
        log, line, name = said[need]
        wait_until(lambda text=log: text in relay.log(), 30,
                   lambda text=log: f"{text}\n{relay.tail()}")
        if need != "events":            # otherwise only that topic is held
            assert relay.get("/readyz")[0] == 503
        relay.terminate()               # so that check may try
        check = relay.command("check")
        assert check.returncode == 1
        assert line in check.stdout, check.stdout
        assert f"[{name}]" in check.stdout
        # the least that the mode needs does not include DescribeConfigs
        assert "[settings]" in check.stdout, check.stdout
        relay.start(wait=None)
        kafka.allow(*needs[need])
    relay.wait_ok("/readyz", 60)
    assert relay.command("check").returncode == 0

    # revoked while it runs: it is reported, until it is granted again
    kafka.forbid(*needs["id"])
    relay.config["relay"]["log_level"] = "info"
    db.sql("SELECT publish_event('stock-events', 'k', '{}')")
    wait_until(lambda: relay.log().count(said["id"][0]) > 1, 30,
               lambda: relay.tail())
    kafka.allow(*needs["id"])
    db.sql("SELECT publish_event('stock-events', 'k', '{}')")
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        assert duplicates(tail.records) == 0


def test_audit_names_the_right_that_is_missing(db, kafka, relays):
    """It used to call all events missing, or to wait for records that never
    arrive."""
    db.sql("SELECT publish_event('audited', 'k', '{}')")
    kafka.create_topics("audited")
    open_relay = relays(db.conninfo(), kafka.brokers).start()
    wait_until(lambda: open_relay.metric("outbox_published_total",
                                         topic="audited"), 20, "published")
    assert open_relay.terminate() == 0
    relay = strict_relay(db, kafka, relays)
    kafka.allow(*grants("TOPIC", ["stock-events", "stock-freeze-failed"],
                        "READ"))
    what = "allow the relay's principal Describe and Read on this topic"
    done = relay.command("audit")
    assert done.returncode == 1 and "missing" not in done.stdout, done.stdout
    assert f'topic "audited": Broker: Topic authorization failed: {what}' \
        in done.stderr
    kafka.allow(("TOPIC", "audited", "DESCRIBE"))
    done = relay.command("audit")
    assert done.returncode == 1 and what in done.stderr, done.stderr
    kafka.allow(("TOPIC", "audited", "READ"))
    done = relay.command("audit")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_names_group_and_topic(db, kafka, relays):
    relay = strict_relay(db, kafka, relays)
    relay.config["inbox"] = {"topics": "order-created"}
    done = relay.command("check")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for name, what in (("group", "Group"), ("topic_missing", "Topic")):
        (at,) = [i for i, line in enumerate(lines) if f"[{name}]" in line]
        assert f"{what} authorization failed" in lines[at - 2], lines
        assert "principal Read on this" in lines[at - 1], lines


def test_may_make_topics_and_nothing_else(db, kafka, relays):
    """The broker answers that the topic exists, but does not show it: the
    relay must not repeat the request for ever without a report."""
    kafka.create_topics(position_topic(db), partitions=1)
    kafka.allow(("BROKER", "kafka-cluster", "CREATE"))
    relay = strict_relay(db, kafka, relays)
    relay.start(wait=None)
    wait_until(lambda: f"position topic {position_topic(db)} could not be"
               " read: Broker: Topic authorization failed" in relay.log(),
               30, lambda: relay.tail())
