# SPDX-License-Identifier: PostgreSQL
"""The contract of published records (design, section 3): a consumer in another
language has only these names to rely on."""

import re
import uuid
from contextlib import closing

import pytest

from kafkaio import murmur2, partition_of

RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
CLOUDEVENTS = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time",
               "ce_subject", "ce_sequence", "ce_incarnation", "content-type"]
PLAIN = ["event_id", "event_type", "timestamp"]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def events(kafka, count, topic="stock-events"):
    with kafka.tail(topic) as tail:
        tail.until(lambda r: len(r) >= count, 15, f"{count} records")
        return sorted(tail.read_to_end(), key=lambda r: r.sequence)


def names(record):
    return [name for name, _ in record.headers]


def check_headers(record, db, event_type, content_type="application/json"):
    assert record.header("ce_specversion") == "1.0"
    assert record.header("ce_source") == f"/pgstock/{db.name}"
    assert record.header("ce_type") == record.header("event_type")
    assert record.header("ce_type") == event_type
    assert record.header("ce_id") == record.header("event_id")
    uuid.UUID(record.header("ce_id"))
    assert record.header("ce_time") == record.header("timestamp")
    assert RFC3339.match(record.header("ce_time"))
    assert re.match(r"^\d{20}$", record.header("ce_sequence"))
    if content_type:
        assert record.header("content-type") == content_type


def test_stock_events(db, kafka, start_relay):
    """Every field of the value and every header, for each event type that a
    call of this version emits."""
    start_relay()
    db.sql("SELECT receive_stock('book', 10, reference => 'delivery 7')")
    with closing(db.connect()) as conn, conn.cursor() as cur:
        cur.execute("SET LOCAL pgstock.trace_id = %s", (TRACE,))
        cur.execute("SELECT reserve_stock('book', 2, 'o-1', 'user-1')")
        conn.commit()
    db.sql("SELECT confirm_stock('o-1', 'pay-1')")
    db.sql("SELECT rollback_stock('o-1', 'broken')")
    db.sql("SELECT reserve_stock('book', 3, 'o-2')")
    db.sql("SELECT release_stock('o-2', 'changed mind')")
    records = events(kafka, 6)
    assert [r.header("ce_type") for r in records] == [
        "StockLevelChanged", "StockReserved", "StockConfirmed",
        "StockRolledBack", "StockReserved", "StockReleased"]
    always = {"event_id", "event_type", "event_version", "timestamp"}
    for record in records:
        value = record.json
        check_headers(record, db, value["event_type"])
        extra = ["traceparent", "ce_traceparent"] if "trace_id" in value else []
        assert sorted(names(record)) == sorted(CLOUDEVENTS + PLAIN + extra)
        assert value["event_id"] == record.header("ce_id")
        assert value["event_version"] == 1
        assert RFC3339.match(value["timestamp"])
        assert always <= set(value)
    level, reserved, confirmed, rolled, other, released = (
        r.json for r in records)
    assert records[0].key == b"book" and records[0].header(
        "ce_subject") == "book"
    assert set(level) - always == {"product_id", "location", "on_hand",
                                   "available", "version", "kind", "reference"}
    assert (level["on_hand"], level["available"], level["kind"],
            level["reference"]) == (10, 10, "received", "delivery 7")
    common = always | {"order_id", "items"}
    assert set(reserved) == common | {"user_id", "trace_id", "expires_at"}
    assert reserved["trace_id"] == TRACE.split("-")[1]
    assert records[1].header("traceparent") == TRACE
    assert records[1].header("ce_traceparent") == TRACE
    assert reserved["items"] == [{
        "product_id": "book", "location": "main", "quantity": 2,
        "remaining_stock": 8, "version": level["version"] + 1}]
    assert set(confirmed) - {"user_id"} == common | {"payment_id"}
    assert confirmed["payment_id"] == "pay-1"
    assert set(rolled) - {"user_id"} == common | {"reason"}
    assert rolled["reason"] == "broken"
    assert set(other) == common | {"expires_at"}
    assert set(released) == common | {"reason"}
    assert released["items"][0]["remaining_stock"] == 10
    versions = [level["version"]] + [r.json["items"][0]["version"]
                                     for r in records[1:]]
    assert versions == sorted(set(versions)), "the highest version wins"
    assert [r.key for r in records[1:]] == [b"o-1"] * 3 + [b"o-2"] * 2


def test_debezium_profile(db, kafka, start_relay):
    """Consumers that migrate from Debezium's event router keep its two
    headers."""
    start_relay({"outbox": {"header_profile": "debezium"}})
    db.sql("SELECT publish_event('stock-events', 'k', '{}', 'OrderPlaced')")
    with kafka.tail("stock-events") as tail:
        tail.until(len, 15, "the record")
        (record,) = tail.read_to_end()
    assert sorted(names(record)) == ["eventType", "id"]
    assert record.header("eventType") == "OrderPlaced"
    assert record.header("id") == str(
        db.value("SELECT event_id FROM stock_outbox"))


def test_own_events(db, kafka, start_relay):
    """publish_event: the value is the payload and nothing around it; key, id,
    type, and the application's headers, in order, after ours."""
    given = uuid.uuid4()
    start_relay()
    assert db.value(
        "SELECT publish_event('stock-events', 'κλειδί',"
        " '{\"a\": [1, 2.50]}', 'OrderPlaced',"
        " '{\"tenant\": \"7\", \"größe\": \"ü\"}', %s)::text",
        (str(given),)) == str(given)
    db.sql("SELECT publish_event('stock-events', NULL, '[]')")
    db.sql("SELECT publish_event('stock-events', 'gone', NULL)")
    db.sql("SELECT publish_bytes('stock-events', 'k', '\\x00ff80')")
    db.sql("SELECT publish_bytes('stock-events', 'k', '')")
    own, keyless, gone, raw, empty = events(kafka, 5)
    check_headers(own, db, "OrderPlaced")
    assert own.header("ce_id") == str(given)
    assert own.key == "κλειδί".encode()
    assert own.header("ce_subject") == "κλειδί"
    assert own.json == {"a": [1, 2.5]}
    assert sorted(own.headers[-2:]) == [("größe", "ü".encode()),
                                        ("tenant", b"7")]
    assert keyless.key is None and keyless.value == b"[]"
    assert "ce_subject" not in names(keyless)
    check_headers(keyless, db, "stock-events")      # the type is the topic
    assert gone.key == b"gone" and gone.value is None
    assert raw.value == b"\x00\xff\x80"
    check_headers(raw, db, "stock-events", None)
    assert raw.header("content-type") != "application/json"
    assert empty.value == b""


def test_timestamp_is_the_events_own(db, kafka, start_relay):
    """A consumer's time windows need the time of the event, not the time at
    which a relay published it after an outage."""
    db.sql("SELECT publish_event('stock-events', 'k', '{}')")
    start_relay()
    (record,) = events(kafka, 1)
    written = db.value("SELECT to_char(created_at AT TIME ZONE 'UTC',"
                       " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                       " FROM stock_outbox")
    assert record.header("ce_time") == written


@pytest.mark.parametrize("key, expected", [
    (b"21", -973932308), (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107)])
def test_murmur2_is_javas(key, expected):
    """The vectors of Kafka's own UtilsTest, which the next test rests on."""
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_partitioner_is_javas(db, kafka, start_relay):
    """A Java producer beside the relay must put the same key into the same
    partition, or an order's events are spread over two."""
    kafka.create_topics("wide", partitions=11)
    start_relay()
    db.sql("SELECT publish_event('wide', repeat('kä', i % 9) || i, '{}')"
           " FROM generate_series(1, 300) i")
    records = events(kafka, 300, "wide")
    assert len({r.partition for r in records}) == 11
    for record in records:
        assert record.partition == partition_of(record.key, 11)
