# SPDX-License-Identifier: PostgreSQL
"""Transactional mode with a fault in the position topic: the relay waits and
reports the reason, holds no other topic, and when it continues, each event is
published once."""

import pytest

from checks import wait_stored
from cluster import Kafka
from kafkaio import delivered, send
from process import wait_until
from test_transactional import MODE, check_once, position_topic


def publish(db, count=1):
    db.sql("SELECT publish_event('stock-events', 'k', '{}')"
           " FROM generate_series(1, %s)", (count,))


def wait_log(relay, text):
    wait_until(lambda: text in relay.log(), 60,
               lambda: f"{text}\n{relay.tail()}")


def none_is_held(db, relay):
    assert db.value("SELECT count(*) FROM pgstock_internal.held_topic") == 0
    assert "held back" not in relay.log()


def test_record_that_is_too_large(db, kafka, start_relay):
    relay = start_relay(MODE)
    publish(db)
    wait_stored(db)
    kafka.alter_topic(position_topic(db), cleanup_policy="compact",
                      max_message_bytes=100)
    publish(db, 10)
    wait_log(relay, "MSG_SIZE_TOO_LARGE")
    wait_log(relay, f"(topic {position_topic(db)})")
    kafka.alter_topic(position_topic(db), cleanup_policy="compact")
    assert check_once(db, kafka) == 11
    none_is_held(db, relay)


def test_deleted_while_it_is_used(db, kafka, start_relay):
    relay = start_relay(MODE)
    publish(db, 10)
    wait_stored(db)
    kafka.delete_topics(position_topic(db))
    publish(db, 10)
    assert check_once(db, kafka) == 20
    none_is_held(db, relay)
    assert kafka.topic_config(position_topic(db))["cleanup.policy"] == "compact"


@pytest.mark.long
def test_end_that_cannot_be_seen(db, kafka, start_relay):
    """Behind an open transaction of another producer a read_committed reader
    sees nothing: if the relay took the last position before it for the last
    one, it would publish the events since then again."""
    relay = start_relay(MODE)
    publish(db)
    assert check_once(db, kafka) == 1
    other = kafka.producer(transactional_id="other")
    other.init_transactions(30)
    other.begin_transaction()
    send(other, position_topic(db), b"x", key="other")
    delivered(other)
    publish(db)
    wait_stored(db)
    relay.terminate()
    db.sql('UPDATE pgstock_internal.position_even SET "window" ='
           " pgstock_internal.first_window(), finished = true")
    relay.start(wait="/livez")
    publish(db)
    wait_log(relay, "an open transaction hides its end")
    assert relay.get("/readyz")[0] == 503
    other.abort_transaction(30)
    relay.wait_ok("/readyz", 60)
    assert check_once(db, kafka) == 3


# ---- brokers as they come ----------------------------------------------------

@pytest.fixture
def kafka_with(new_dir):
    """Makes a broker with these settings."""
    made = []

    def make(**settings):
        made.append(Kafka(
            new_dir("kafka"), proxied=False,
            settings="".join(f"{key.replace('_', '.')}={value}\n"
                             for key, value in settings.items())))
        return made[-1].init().start()

    yield make
    for server in made:
        server.close()


def test_broker_that_makes_topics(db, kafka_with, relays):
    """Each topic that a producer names is created, with the broker's own
    defaults."""
    kafka = kafka_with(auto_create_topics_enable="true")
    relay = relays(db.conninfo(), kafka.brokers, MODE)
    relay.start()
    publish(db)
    wait_stored(db)
    assert kafka.topic_config(position_topic(db))["cleanup.policy"] == "compact"


def test_broker_without_a_coordinator(db, kafka_with, relays):
    kafka = kafka_with(transaction_state_log_replication_factor=3)
    relay = relays(db.conninfo(), kafka.brokers, MODE)
    relay.start(wait="/livez")
    wait_until(lambda: "the producer is not open yet"
               in relay.get("/readyz")[1], 30, lambda: relay.get("/readyz"))
    assert relay.terminate() == 0
