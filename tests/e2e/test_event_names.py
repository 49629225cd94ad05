# SPDX-License-Identifier: PostgreSQL
"""Events under the names of a profile, from the call to the topic.

Every record is checked against docs/schemas/inventory as it is read
(schemas.py).
Here: the headers have the type's name too, keys and order are as ever, and the
relay's commands work on what they find, whatever it is named.
"""

import schemas
from checks import check_order, wait_complete
from kafkaio import delivered, send
from process import wait_until
from test_audit import OK, audit, settle

TYPES = {"InventoryLevelChanged", "InventoryReserved", "InventoryConfirmed",
         "InventoryReserveFailed", "InventoryReleased", "InventoryRolledBack",
         "InventoryReturned", "InventoryExpired", "InventoryShortfall",
         "FlashSalePurchased"}


def everything_happens(db):
    """Each type of event that a call can write, at least once."""
    for call in ("receive_stock('a', 20)", "receive_stock('b', 5)",
                 "reserve_stock('a', 2, 'o-1', 'u')", "confirm_stock('o-1')",
                 "return_stock('o-1', '[{\"product_id\": \"a\","
                 " \"quantity\": 1}]')", "rollback_stock('o-1', 'lost')",
                 "reserve_stock('a', 1, 'o-2')", "release_stock('o-2')",
                 "open_flash_sale('s', 'a', 3)", "purchase_flash_sale('s',"
                 " 'u', 'o-3', attributes => '{\"unit_price\": 9.90}')",
                 "reserve_stock('b', 5, 'o-4', ttl => '1 microsecond')",
                 "expire_reservations()", "reserve_stock('b', 4, 'o-5')",
                 "confirm_stock('o-4')", "close_flash_sale('s')"):
        db.sql(f"SELECT {call}")


def described():
    """The topics and messages that the profile's AsyncAPI document has events
    in."""
    document = schemas.schema("asyncapi-inventory")
    return {(channel["address"], message["$ref"])
            for channel in document["channels"].values()
            for message in channel["messages"].values()
            if channel["description"] == "stock events"}


def test_profile_through_kafka(db, kafka, start_relay):
    db.sql("SELECT set_event_profile('inventory')")
    assert described() == {(topic, f"#/components/messages/{name}")
                           for topic, name in db.sql(
        "SELECT topic, name FROM stock_event_formats")}
    relay = start_relay({"outbox": {"header_profile":
                                    "cloudevents, plain, debezium"}},
                        topics=["order-created"])
    everything_happens(db)
    out = kafka.producer()
    send(out, "order-created", {"order_id": "m-1", "my_note": 1, "items": [
        {"product_id": "a", "quantity": 99}]}, key="m-1")
    send(out, "order-created", {"order_id": "o-5", "user_id": "v", "items": [
        {"product_id": "a", "quantity": 1}]}, key="o-5")
    delivered(out)
    wait_until(lambda: db.value("SELECT count(*) FROM stock_inbox") == 2, 30,
               "both messages")
    settle(relay)
    assert "topic inventory-events: " in relay.command("check").stdout
    assert kafka.count("stock-events") == 0     # the relay made the others
    with kafka.tail("inventory-events", "inventory-freeze-failed") as tail:
        wait_complete(db, tail)
        records = tail.read_to_end()
        check_order(records)
    assert {record.json["eventType"] for record in records} == TYPES
    assert {record.json["eventType"] for record in records
            if record.topic == "inventory-freeze-failed"} == {
        "InventoryReserveFailed"}
    for record in records:
        names = {record.header(name)
                 for name in ("ce_type", "event_type", "eventType")}
        assert names == {record.json["eventType"]}
        assert record.header("ce_id") == record.json["eventId"]
        assert record.key.decode() == record.json.get(
            "orderId", record.json.get("productId"))
    assert [record.json["eventType"] for record in sorted(
        records, key=lambda r: r.sequence) if record.key == b"o-1"] == [
        "InventoryReserved", "InventoryConfirmed", "InventoryReturned",
        "InventoryRolledBack"]
    (bought,) = (r for r in records
                 if r.json["eventType"] == "FlashSalePurchased")
    assert bought.json["attributes"] == {"unit_price": 9.90}
    (differs,) = (r.json["differs"] for r in records if "differs" in r.json)
    assert differs["userId"] == {"given": "v", "known": None}
    assert differs["items"][0]["productId"] == "a"
    wait_until(lambda: relay.metric("reservation_ends_total",
                                    state="rolled_back") == 1, 10, "metric")
    assert relay.metric("reservation_ends_total",
                        state="confirmed") == 1


def test_commands_know_renamed_events(db, kafka, start_relay):
    """Audit and replay, across a change of the names."""
    relay = start_relay()
    db.sql("SELECT receive_stock('a', 20)")
    db.sql("SELECT reserve_stock('a', 1, 'o-1')")
    db.sql("SELECT set_event_format('*', members => 'camelCase'),"
           " set_event_format('StockReserved', 'com.shop.reserved'),"
           " set_event_format('StockReleased', 'com.shop.free')")
    db.sql("SELECT reserve_stock('a', 1, 'o-3')")
    db.sql("SELECT release_stock('o-3')")
    wait_until(lambda: relay.metric("reservation_ends_total",
                                    state="released") == 1, 10, "metric")
    db.sql("SELECT reserve_stock('a', 1, 'o-2')")
    settle(relay)
    code, counts, named = audit(relay)
    assert (code, named, counts["stock-events"]["events"]) == (OK, [], 5)
    assert relay.command("replay", "--from", "1").returncode == OK
    settle(relay)
    code, counts, named = audit(relay)
    assert (code, named) == (OK, [])
    assert counts["stock-events"]["replayed copies"] == 5
    records = kafka.consume("stock-events")
    for key, name, member in ((b"o-1", "StockReserved", "event_type"),
                              (b"o-2", "com.shop.reserved", "eventType")):
        told = [r for r in records if r.key == key]
        assert len(told) == 2
        assert {r.json[member] for r in told} == {name}
        assert {r.header("ce_type") for r in told} == {name}
        assert told[0].value == told[1].value
    # a copy ends no reservation again
    assert relay.metric("reservation_ends_total", state="released") == 1
