# SPDX-License-Identifier: PostgreSQL
"""forget_user: a person's id is in no table, and in no topic's latest records.

The id is given to every path that stores one. Then all columns of all tables
are searched for it, as text and as bytes, and all topics. A record that Kafka
has cannot be changed; what must not name the user is the last record of each
key, which is what a compacted topic keeps. The record before it goes with the
topic's retention.
"""

import json
import re

from kafkaio import delivered, send
from process import wait_until
from test_inbox import TOPICS

ID = "user-4711"
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('pgstock_internal', 'public') AND c.relkind IN ('r', 'v')
 ORDER BY 1
"""
VIEWS = ("stock_reservations", "stock_movements", "stock_outbox",
         "stock_inbox", "stock_failed_events", "failed_order_archives",
         "stock_admin_actions")


def tables_with(db, needle):
    """{table or view: its rows that have the text, or its bytes in hex}."""
    found = {}
    for (table,) in db.sql(TABLES):
        rows = [row for (row,) in db.sql(f"SELECT t::text FROM {table} t")
                if needle in row or needle.encode().hex() in row]
        if rows:
            found[table] = rows
    return found


def latest(records):
    """The last record of each key, as compaction leaves them."""
    last = {}
    for record in records:
        last[record.topic, record.key or id(record)] = record
    return last.values()


def names(record):
    """Whether a record that is no tombstone names the user."""
    return record.value is not None and ID.encode() in b" ".join(
        [record.key or b"", record.value,
         *(value or b"" for _, value in record.headers)])


def use_everywhere(db, kafka):
    """Give the id to each path that stores one."""
    person = {"pgstock.actor": ID}
    options = "".join(f" -c {name}={value}" for name, value in person.items())
    db.sql("SELECT receive_stock('book', 100)")
    for number in range(3):
        db.sql("SELECT reserve_stock('book', 1, %s, %s, idempotency_key => %s)",
               (f"o-{number}", ID, f"{ID} {number}"), options=options)
    db.sql("SELECT confirm_stock('o-0'), confirm_stock('o-1')")
    db.sql("SELECT pgstock_internal.retire_orders(clock_timestamp(), 1)")
    db.sql("SELECT release_stock('o-2', %s)", (f"called by {ID}",))
    db.sql("SELECT open_flash_sale('friday', 'book', 10)")
    db.sql("SELECT purchase_flash_sale('friday', %s, 'o-sale')", (ID,))
    db.sql("SELECT publish_event('profiles', %s, '{\"name\": \"Ann\"}')", (ID,))
    db.sql("SELECT publish_event('baskets', 'b-1', jsonb_build_object('owner',"
           " %s::text), headers => jsonb_build_object('for', %s::text))",
           (ID, ID))
    db.sql("SELECT publish_event('small', 's-1', jsonb_build_object('user_id',"
           " %s::text, 'fill', repeat('x', 50000)))", (ID,))
    out = kafka.producer()
    item = [{"product_id": "book", "quantity": 1}]
    for topic, key, value in (
            ("order-created", "m-1", {"order_id": "m-1", "userId": ID,
                                      "items": item, "note": f"for {ID}"}),
            ("order-created", "m-2", {"order_id": "m-2", "user_id": ID,
                                      "items": [{"product_id": "none",
                                                 "quantity": 1}]}),
            ("order-created", ID, {"order_id": "m-3", "user_id": ID,
                                   "items": item}),
            ("order-created", "m-4", {"user_id": ID}),          # poison
            ("order-created", "m-5", b'{"user_id": "%s", broken' % ID.encode()),
            ("order-created", ID, {"user_id": ID, "items": []}),
            ("payment-success", "m-6", {"order_id": "m-6", "userId": ID}),
            ("order-cancelled", "m-7", {"order_id": "m-7", "userId": ID})):
        send(out, topic, value, key=key, headers={"who": ID})
    delivered(out)


def forget(db):
    """Until nothing is left; the number of rows of each call."""
    counts = []
    while not counts or counts[-1] > 0:
        counts.append(db.value("SELECT forget_user(%s, 'request 17')", (ID,)))
        assert len(counts) < 5, counts
    return counts


def test_a_user_is_forgotten(db, kafka, start_relay):
    kafka.create_topics("profiles", "baskets", partitions=1)
    kafka.create_topics("small", max_message_bytes=20000)
    relay = start_relay({"outbox": {"poll_interval": "100ms"},
                         "inbox": {"retry_delays": "10m"}}, topics=TOPICS)
    use_everywhere(db, kafka)
    wait_until(lambda: db.value("SELECT count(*) FROM stock_inbox") == 8, 30,
               lambda: db.sql("TABLE stock_inbox"))
    wait_until(lambda: relay.metric("outbox_held_events", topic="small") == 1
               and relay.metric("outbox_pending_events") == 1, 30, relay.tail)
    replayed = relay.command("replay", "--from", "1")
    assert replayed.returncode == 0, replayed.stderr
    before = tables_with(db, ID)
    print({table: len(rows) for table, rows in before.items()})
    assert {f"pgstock_internal.{name}" for name in (
        "reservation", "sale_order", "idempotency", "failed_event",
        "held_event", "inbox")} <= before.keys()
    assert any("reservation_history_" in name for name in before)
    assert any("movement_" in name for name in before)
    assert len([name for name in before if "." not in name]) >= 6, "views"

    first = db.value("SELECT forget_user(%s, 'request 17')", (ID,))
    assert first > 20
    wait_until(lambda: relay.metric("outbox_pending_events") == 1, 30,
               relay.tail)
    # the stored position may be older than the tombstones
    wait_until(lambda: forget(db)[-1] == 0 and not tables_with(db, ID), 30,
               lambda: tables_with(db, ID))

    topics = [name for name in kafka.topics() if not name.startswith("__")
              and name != "small" and name not in TOPICS]
    with kafka.tail(*topics) as tail:
        records = tail.read_to_end()
    assert len([r for r in records if names(r)]) > 5, "they were there"
    assert [r for r in latest(records) if names(r)] == []
    keys = {(r.topic, r.key) for r in records if r.key == ID.encode()}
    assert len(keys) >= 2
    for topic, key in keys:
        last = [r for r in records if (r.topic, r.key) == (topic, key)][-1]
        assert last.value is None, last

    assert db.sql("SELECT DISTINCT action, reason FROM stock_admin_actions"
                  " WHERE action = 'forget_user'") == [
                      ("forget_user", "request 17")]
    audit = relay.command("audit").stdout
    assert "topic baskets" in audit     # a held topic may have doubled events
    assert not re.search(r"^(missing|unknown) ", audit, re.M), audit
    assert db.level("book") == (98, 3, 86)
    check_orders_go_on(db)


def check_orders_go_on(db):
    """The orders are what they were, without the user."""
    assert db.value("SELECT status FROM return_stock('o-0')") == "returned"
    assert db.value("SELECT status FROM confirm_stock('o-sale')") == "confirmed"
    (payload,) = [row for (row,) in db.sql(
        "SELECT payload::text FROM stock_outbox WHERE key = 'o-sale'"
        " AND event_type = 'StockConfirmed'")]
    assert "user_id" not in json.loads(payload)


def test_a_large_user_needs_several_calls(db):
    """1000 orders a call, so that no call holds many locks."""
    db.sql("SELECT receive_stock('book', 10000)")
    db.sql("SELECT count(*) FROM reserve_orders((SELECT jsonb_agg("
           "jsonb_build_object('order_id', 'o-' || i, 'user_id', %s::text,"
           " 'items', '[{\"product_id\": \"book\", \"quantity\": 1}]'::jsonb))"
           " FROM generate_series(1, 1000) i))", (ID,))
    db.sql("SELECT count(*) FROM reserve_orders((SELECT jsonb_agg("
           "jsonb_build_object('order_id', 'p-' || i, 'user_id', %s::text,"
           " 'items', '[{\"product_id\": \"book\", \"quantity\": 1}]'::jsonb))"
           " FROM generate_series(1, 500) i))", (ID,))
    assert db.value("SELECT forget_user(%s, 'x')", (ID,)) >= 2500
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE user_id IS NOT NULL") == 500
    assert forget(db)[0] == 500
    assert tables_with(db, ID) == {}
