# SPDX-License-Identifier: PostgreSQL
"""P3: the start of a topic is decided once, and nothing is skipped after."""

from test_inbox import handled, order, put

from process import wait_until

TOPIC = "order-created"


def begun(db):
    return db.value("SELECT count(*) FROM pgstock_internal.inbox_offset")


def test_latest_is_decided_once(db, kafka, start_relay):
    """first_offset = latest, and no message yet: the relay stops, orders
    arrive, it starts again.  If it queried the end once more it would skip
    them."""
    db.sql("SELECT receive_stock('book', 100)")
    put(kafka, *[(TOPIC, order(n)) for n in range(3)])
    relay = start_relay({"inbox": {"first_offset": "latest"}}, topics=[TOPIC])
    wait_until(lambda: begun(db) > 0, 20, lambda: "the beginning is stored")
    relay.terminate()
    put(kafka, *[(TOPIC, order(n)) for n in range(10, 19)])
    relay.start()
    handled(db, 9)
    assert db.level("book") == (100, 9, 91)


def test_earliest_reads_what_is_there(db, kafka, start_relay):
    """The counterpart: messages from before the relay are read too."""
    db.sql("SELECT receive_stock('book', 100)")
    put(kafka, *[(TOPIC, order(n)) for n in range(3)])
    start_relay({"inbox": {"first_offset": "earliest"}}, topics=[TOPIC])
    handled(db, 3)
    assert db.level("book") == (100, 3, 97)
