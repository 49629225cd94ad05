# SPDX-License-Identifier: PostgreSQL
"""P3: one bad message never affects the others of its batch, and is never
lost.

Each kind of poison is written, byte by byte as it arrived, to the topic's DLQ
and to the archive; the messages beside it are applied.
"""

import json

import pytest

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until
from test_inbox import QUICK, TOPICS, order

DLQ_HEADERS = {f"__dlq.errors.{name}" for name in (
    "topic", "partition", "offset", "group", "delivery.count", "message",
    "class", "failed.time")} | {f"__dlq.event.{name}" for name in (
        "id", "source", "time")}
BIG = 2_000_000


def line(quantity):
    """An order for one product with this quantity, as written."""
    return (b'{"order_id": "bad", "items": [{"product_id": "book",'
            b' "quantity": ' + quantity.encode() + b"}]}")


POISON = {
    "no JSON": b"order 66",
    "half": b'{"order_id": "bad", "items": [',
    "empty": b"",
    "tombstone": None,
    "a string": b'"bad"',
    "an array": b"[1]",
    "invalid UTF-8": b'{"order_id": "b\xff\xfe", "items": []}',
    "lone surrogate": line('1, "note": "\\ud800"'),
    "byte order mark": b"\xef\xbb\xbf" + line("1"),
    "NUL byte": line("1") + b"\0",
    "escaped NUL": b'{"order_id": "b\\u0000d", "items":'
                   b' [{"product_id": "book", "quantity": 1}]}',
    "duplicate key": b'{"order_id": "bad", "order_id": "worse", "items":'
                     b' [{"product_id": "book", "quantity": 1}]}',
    "two names, two values": b'{"order_id": "bad", "orderId": "worse",'
                             b' "items": [{"product_id": "book",'
                             b' "quantity": 1}]}',
    "deep nesting": b'{"order_id": "bad", "items": ' + b"[" * 100_000,
    "deep and whole": b'{"order_id": "bad", "x": ' + b"[" * 5000
                      + b"]" * 5000 + b"}",
    "no order id": b'{"items": [{"product_id": "book", "quantity": 1}]}',
    "empty order id": b'{"order_id": "", "items":'
                      b' [{"product_id": "book", "quantity": 1}]}',
    "long order id": b'{"order_id": "' + b"x" * 256 + b'", "items":'
                     b' [{"product_id": "book", "quantity": 1}]}',
    "order id null": b'{"order_id": null, "items":'
                     b' [{"product_id": "book", "quantity": 1}]}',
    "no items": b'{"order_id": "bad"}',
    "items empty": b'{"order_id": "bad", "items": []}',
    "items wrong": b'{"order_id": "bad", "items": "book"}',
    "item wrong": b'{"order_id": "bad", "items": ["book"]}',
    "quantity text": line('"3"'),
    "quantity null": line("null"),
    "quantity true": line("true"),
    "quantity 3.0": line("3.0"),
    "quantity 1e6": line("1e6"),
    "quantity 1.5": line("1.5"),
    "quantity 0": line("0"),
    "quantity -1": line("-1"),
    "quantity 2^53 + 1": line("9007199254740993"),
    "quantity 2^63": line("9223372036854775808"),
    "quantity 10^400": line("1" + "0" * 400),
    "quantity NaN": line("NaN"),
    "version of the future": line('1}], "event_version": 99, "x": [{"a": 1'),
}


def dead_letters(kafka, topic, count):
    with kafka.tail(f"{topic}_dlq") as tail:
        tail.until(lambda r: len(r) >= count, 20, f"{count} dead letters")
        return {int(r.header("__dlq.errors.offset")): r
                for r in tail.read_to_end()}


def one_wide_partition(kafka):
    kafka.delete_topics("order-created")
    kafka.create_topics("order-created", partitions=1,
                        max_message_bytes=2 * BIG)


def check_dead_letter(record, original, topic):
    """Key, value and headers unchanged; then why, in KIP-1191's names."""
    assert record.key == original["key"]
    assert record.value == original["value"]
    own = tuple(h for h in record.headers if not h[0].startswith("__dlq."))
    assert own == tuple(original["headers"])
    names = {n for n, _ in record.headers if n.startswith("__dlq.")}
    assert names - {"__dlq.errors.sqlstate"} == DLQ_HEADERS
    assert record.header("__dlq.errors.topic") == topic
    assert record.header("__dlq.errors.partition") == "0"
    assert record.header("__dlq.errors.delivery.count") == "1"
    assert record.header("__dlq.errors.message")


def test_every_kind_among_good_ones(db, kafka, start_relay):
    """One partition, poison and valid messages in turn, all there before the
    relay starts: so they share batches."""
    db.sql("SELECT receive_stock('book', 1000)")
    one_wide_partition(kafka)
    out, sent = kafka.producer(), []
    for number, value in enumerate(POISON.values()):
        headers = [("tenant", b"7"), ("tenant", b"8"), ("null", None),
                   ("binary", b"\x00\xff"), ("empty", b"")]
        sent.append({"key": bytes([255, 0, number]), "value": value,
                     "headers": headers})
        send(out, "order-created", value, key=sent[-1]["key"], headers=headers)
        send(out, "order-created", order(number), key=f"o-{number}")
    delivered(out)
    relay = start_relay(QUICK, topics=TOPICS)
    wait_until(lambda: sum(inbox_results(db).values()) == 2 * len(POISON), 30,
               lambda: f"{inbox_results(db)}\n{relay.tail()}")
    reasons = dict(db.sql('SELECT "offset", result || coalesce(reason, \'\')'
                          " FROM stock_inbox"))
    survived = [name for n, name in enumerate(POISON)
                if not reasons[2 * n].startswith("dead")]
    assert survived == []
    assert inbox_results(db) == {"dead": len(POISON), "applied": len(POISON)}
    letters = dead_letters(kafka, "order-created", len(POISON))
    assert sorted(letters) == [2 * n for n in range(len(POISON))]
    for number, original in enumerate(sent):
        check_dead_letter(letters[2 * number], original, "order-created")
    assert db.sql("SELECT count(*), count(reason), bool_or(handled)"
                  " FROM failed_order_archives") == [
        (len(POISON), len(POISON), False)]
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE order_id LIKE 'o-%'") == len(POISON)
    assert db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE order_id NOT LIKE 'o-%'") == 0
    assert relay.metric("dlq_total", topic="order-created") == len(POISON)
    wait_until(lambda: relay.metric("archive_open") == len(POISON), 20,
               "the gauge counts the archive")
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == len(POISON) + 1, 10, "the good ones")


@pytest.mark.parametrize("topic", TOPICS[1:])
def test_poison_on_the_other_topics(db, kafka, start_relay, topic):
    """The other handlers read fewer members; the same rules hold for those."""
    db.sql("SELECT receive_stock('book', 10)")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    poison = [b"", None, b"{}", b"no", b'{"order_id": 1.5}',
              b'{"order_id": {}}', b'{"order_id": "a\\u0000"}',
              b'{"order_id": "o-1", "orderId": "o-2"}',
              b'{"order_id": "o-1", "event_version": 99}']
    out = kafka.producer()
    for value in poison:
        send(out, topic, value, key=b"k", partition=0)
    send(out, topic, {"order_id": "o-1"}, key=b"k", partition=0)
    delivered(out)
    start_relay(QUICK, topics=TOPICS)
    wait_until(lambda: sum(inbox_results(db).values()) == len(poison) + 1, 20,
               lambda: f"{inbox_results(db)}")
    assert inbox_results(db) == {"dead": len(poison), "applied": 1}
    letters = dead_letters(kafka, topic, len(poison))
    for offset, value in enumerate(poison):
        check_dead_letter(letters[offset], {
            "key": b"k", "value": value, "headers": ()}, topic)
    assert db.value("SELECT state FROM stock_reservations") != "reserved"


def test_unknown_product_is_an_answer(db, kafka, start_relay):
    """An order for an unknown product is not a broken message: it is refused,
    like that of any other buyer."""
    start_relay(topics=TOPICS)
    out = kafka.producer()
    send(out, "order-created", order(1, product="unheard-of"), key="o-1")
    delivered(out)
    with kafka.tail("stock-freeze-failed") as tail:
        (answer,) = tail.until(list, 15, "the refusal")
    assert answer.json["reason"] == "unknown_product"
    assert answer.key == b"o-1"
    assert inbox_results(db) == {"applied": 1}


def test_too_big_for_the_dlq(db, kafka, start_relay):
    """2 MB that are no JSON: the archive keeps it whole, with the reason; the
    DLQ, which cannot take it, gets a small record that names it."""
    one_wide_partition(kafka)
    out = kafka.producer()
    send(out, "order-created", b"x" * BIG, key=b"big")
    send(out, "order-created", order(1), key="o-1")
    delivered(out)
    db.sql("SELECT receive_stock('book', 10)")
    start_relay(topics=TOPICS)
    wait_until(lambda: inbox_results(db) == {"dead": 1, "applied": 1}, 20,
               lambda: f"{inbox_results(db)}")
    assert db.value("SELECT length(payload) FROM failed_order_archives") == BIG
    letter = dead_letters(kafka, "order-created", 1)[0]
    assert len(letter.value or b"") < 10_000
    assert letter.header("__dlq.errors.topic") == "order-created"
    assert letter.header("__dlq.errors.incomplete") == "true"
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 2, 10, "the good one")
        check_all_but_letters(db, tail.records)


def check_all_but_letters(db, records):
    """Dead letters have no ce_* headers: count them apart."""
    assert len(records) == db.value(
        "SELECT count(*) FROM stock_outbox WHERE topic = 'stock-events'")
    assert json.loads(records[0].value)
    assert db.drift() == []
