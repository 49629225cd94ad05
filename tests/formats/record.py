# SPDX-License-Identifier: PostgreSQL
"""Prints records that CloudEvents' and Confluent's libraries make.

Run by dev/record-formats, in an environment that has them. One JSON object a
line: client, what it shows, key, value and headers, bytes in hex.
"""

import json

from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent
from cloudevents.kafka import to_binary as kafka_binary
from cloudevents.kafka import to_structured as kafka_structured
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

SCHEMA = json.dumps({
    "$schema": "http://json-schema.org/draft-07/schema#", "title": "Order",
    "type": "object", "properties": {
        "orderId": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object"}}}})


def order(order_id):
    return {"orderId": order_id,
            "items": [{"productId": "book", "quantity": 2}]}


def show(client, what, value, headers=(), key=None):
    print(json.dumps({
        "client": client, "what": what, "key": key and key.hex(),
        "value": value.hex(),
        "headers": [[name, data.hex()] for name, data in headers]}))


def cloudevents():
    def event(number, **more):
        return CloudEvent({"id": f"ce-{number}", "source": "/shop",
                           "type": "com.shop.order.placed",
                           "time": "2026-01-31T12:00:00+00:00",
                           "datacontenttype": "application/json",
                           "partitionkey": f"ce-{number}"},
                          more.pop("data", order(f"ce-{number}")))

    for what, event, convert in (
            ("structured", event(1), kafka_structured),
            ("structured, data_base64",
             event(2, data=json.dumps(order("ce-2")).encode()),
             kafka_structured),
            ("binary", event(3), kafka_binary)):
        message = convert(event)
        key = message.key
        show("cloudevents", what, message.value, message.headers.items(),
             key.encode() if isinstance(key, str) else key)
    batch = [json.loads(to_structured(CloudEvent(
        {"id": f"ce-{n}", "source": "/shop", "type": "t",
         "time": "2026-01-31T12:00:00+00:00"}, order("no")))[1])
             for n in (4, 5)]
    show("cloudevents", "batch", json.dumps(batch).encode(),
         [("content-type", b"application/cloudevents-batch+json")])


def confluent():
    # the library's registry for tests: the bytes are those of the serializer
    registry = SchemaRegistryClient.new_client({"url": "mock://formats"})
    serialize = JSONSerializer(SCHEMA, registry)
    value = serialize(order("confluent-1"),
                      SerializationContext("orders", MessageField.VALUE))
    assert value[0] == 0, value
    show("confluent-kafka", "JSONSerializer", value)


cloudevents()
confluent()
