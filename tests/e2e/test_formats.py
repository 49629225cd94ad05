# SPDX-License-Identifier: PostgreSQL
"""Incoming formats: each record was made by a producer's client library
(dev/record-formats), and goes through Kafka and the relay.

Bindings alone accept them: no record is changed, and no function is written.
"""

import json
import os

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until

RECORDS = os.path.join(os.path.dirname(__file__), "..", "formats",
                       "records.jsonl")

BINDINGS = """
SELECT bind_topic('orders', 'order_created'),
       bind_topic('orders', 'ignore', 'OrderSeen'),
       bind_topic('orders', 'order_created', 'com.shop.order.placed'),
       bind_topic('orders', 'order_created', 'OrderPlaced',
                  options => '{"source": "/outbox"}'),
       bind_topic('orders', 'order_created', 'Record$OrderPlaced',
                  '{"order_id": "$.orderId"}'),
       bind_topic('changes', 'order_created', fields => '{"items": "$",
                  "product_id": "$.product_id", "quantity": "$.quantity"}')
"""

# what the record shows, and the order that it makes; None: a dead letter
EXPECTED = {
    "structured": "ce-1", "structured, data_base64": "ce-2",
    "binary": "ce-3", "batch": None,
    "JavaScript, structured": "js-1",
    "JavaScript, structured, data_base64": "js-2",
    "JavaScript, binary": "js-3", "JavaScript, batch": None,
    "JSONSerializer": "confluent-1", "JsonSerializer": "spring-1",
    "EventRouter, outbox-text": "outbox-text",
    "EventRouter, outbox-text-schema": "outbox-text-schema",
    "EventRouter, outbox-expanded": "outbox-expanded",
    "EventRouter, outbox-expanded-schema": "outbox-expanded-schema",
    "change event, change": "change",
    "change event, change-schema": "change-schema",
    "outbox row, row": "row", "outbox row, row-schema": "row-schema",
}


def records():
    with open(RECORDS, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def produce(kafka, found, topic=None):
    out = kafka.producer()
    for record in found:
        changes = record["what"].startswith("change event")
        send(out, topic or ("changes" if changes else "orders"),
             bytes.fromhex(record["value"]),
             key=record["key"] and bytes.fromhex(record["key"]),
             headers=[(name, bytes.fromhex(value))
                      for name, value in record["headers"]])
    delivered(out)


def test_records_of_client_libraries(db, kafka, start_relay):
    found = records()
    assert {record["what"] for record in found} == set(EXPECTED)
    orders = {order for order in EXPECTED.values() if order}
    kafka.create_topics("orders", "changes", "orders_dlq")
    db.sql("SELECT receive_stock('book', 1000)")
    db.sql(BINDINGS)
    start_relay(topics=("orders", "changes"))
    produce(kafka, found)
    wait_until(lambda: sum(inbox_results(db).values()) == len(found), 30,
               lambda: f"all are in the inbox: {inbox_results(db)}")
    assert dict(db.sql("SELECT order_id, quantity FROM stock_reservations")) \
        == {order: 2 for order in orders}
    assert db.sql("SELECT topic, error FROM stock_failed_events") == [
        ("orders", "the value is a batch of CloudEvents; a record must hold"
         " one event")] * list(EXPECTED.values()).count(None)
    # what identifies them: the event's id and source, the outbox's id
    ids = dict(db.sql("SELECT order_id, (source, event_id)::text"
                      " FROM stock_inbox"))
    for order in ("ce-1", "ce-3", "js-1", "js-3"):
        assert ids[order] == f"(/shop,{order})"
    assert ids["outbox-text"] == "(/outbox,outbox-text-event)"
    assert ids["row"] == "(/outbox,row-event)"
    # sent again: CloudEvents and outbox events are known, whatever the order
    again = [one for one in found if EXPECTED[one["what"]]
             and (one["client"] == "cloudevents" or "utbox" in one["what"])]
    produce(kafka, again)
    wait_until(lambda: inbox_results(db)["duplicate"] == len(again), 30,
               lambda: f"all are duplicates: {inbox_results(db)}")
    assert db.sql("SELECT bool_and(quantity = 2), count(*)"
                  " FROM stock_reservations") == [(True, len(orders))]
