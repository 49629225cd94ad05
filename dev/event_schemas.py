# SPDX-License-Identifier: PostgreSQL
"""What dev/schemas writes: every record and message that pgstock has, as data.

JSON Schema, draft 2020-12, with the keywords whose meaning is the same in
draft 7, so that tools for either can read the schemas. The schemas of events
are closed: a member that is not listed is a fault. Names are in snake_case
here; a profile (PROFILES) gives the events other topics, names and members.
"""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"
UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
SEQ = "^[0-9]{20}$"
TIME = r"^[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
TRACEPARENT = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
QUANTITY_MAX = 2 ** 53
AVAILABLE_MAX = 2 * QUANTITY_MAX    # what is there, and the back-order limit
ID_MAX = 255                    # bytes; no id has more characters
REASON_MAX = 2100               # STOCK_TEXT_BYTES_MAX and the note of a cut

# pgstock_internal.event_profiles() in sql/event_formats.sql has the same
PROFILES = {
    "default": ("snake_case", {}, {}),
    "inventory": ("camelCase", {
        "stock-events": "inventory-events",
        "stock-freeze-failed": "inventory-freeze-failed"}, {
        "StockReserved": "InventoryReserved",
        "StockReserveFailed": "InventoryReserveFailed",
        "StockConfirmed": "InventoryConfirmed",
        "StockReleased": "InventoryReleased",
        "StockExpired": "InventoryExpired",
        "StockRolledBack": "InventoryRolledBack",
        "StockReturned": "InventoryReturned",
        "StockShortfall": "InventoryShortfall",
        "StockLevelChanged": "InventoryLevelChanged",
        "FlashSalePurchased": "FlashSalePurchased"}),
}

KINDS = ["received", "adjusted", "set", "moved", "configured", "sale_opened",
         "sale_closed"]
STATUSES = ["granted", "backordered", "insufficient", "refused",
            "unknown_product", "over_limit", "not_open", "already",
            "confirmed", "released", "rolled_back", "returned", "expired",
            "shortfall"]
ENDS = ["expired", "released", "rolled_back", "returned", "shortfall"]
REFUSALS = ["insufficient", "unknown_product"]


def text(max_length=None, **more):
    return {"type": "string", "minLength": 1,
            **({"maxLength": max_length} if max_length else {}), **more}


def integer(minimum, maximum=QUANTITY_MAX, **more):
    return {"type": "integer", "minimum": minimum, "maximum": maximum, **more}


def camel(name):
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def closed(properties, required, **more):
    return {"type": "object", "properties": properties,
            "required": required, "additionalProperties": False, **more}


def together(*names):
    """These members are all there or none of them."""
    return [{"if": {"required": [name]}, "then": {"required": [
        other for other in names if other != name]}} for name in names]


# ---- Outgoing --------------------------------------------------------------

ID = text(ID_MAX)
MEMBERS = {
    "event_id": {"type": "string", "pattern": UUID,
                 "description": "unique; a repeated record has the same"},
    "event_version": {"type": "integer", "const": 1},
    "timestamp": {"type": "string", "pattern": TIME,
                  "description": "RFC 3339, UTC, microseconds"},
    "part": integer(1, 100000, description=(
        "of an event that is published in parts: the number of this one")),
    "parts": integer(2, 100000, description="their number"),
    "order_id": ID, "user_id": ID, "activity_id": ID, "payment_id": ID,
    "product_id": ID, "location": ID,
    "reason": {"type": "string", "maxLength": REASON_MAX},
    "expires_at": {"type": "string", "pattern": TIME, "description": (
        "when the reservation ends; absent: never")},
    "replayed": {"type": "boolean", "const": True, "description": (
        "nothing changed: an earlier answer is repeated")},
    "differs": closed(
        {"user_id": closed({"given": ID, "known": {"type": [
            "string", "null"]}}, ["given", "known"]),
         "items": {"type": "array", "minItems": 1, "maxItems": 100,
                   "items": closed(
                       {"product_id": ID, "location": ID,
                        "given": integer(0), "known": integer(0)},
                       ["product_id", "location", "given", "known"])},
         "more_items": integer(1, 200000)}, [], minProperties=1, description=(
             "where an order-created differs from the order that is known")),
    "cut": {"type": "array", "minItems": 1, "maxItems": 2,
            "uniqueItems": True,
            "items": {"enum": ["differs", "attributes"]},
            "description": "members that were left out for their size"},
    "trace_id": text(description="of pgstock.trace_id or of the message"),
    "causation_id": text(400, description="the id of the incoming message"),
    "attributes": {"type": "object", "minProperties": 1, "description": (
        "members of the incoming message that pgstock does not know, or the"
        " argument of purchase_flash_sale")},
    "on_hand": integer(0), "available": integer(0, AVAILABLE_MAX),
    "version": integer(0, 2 ** 63 - 1, description=(
        "rises with every change of the level")),
    "kind": {"enum": KINDS},
    "reference": {"type": "string", "maxLength": REASON_MAX},
}
ITEM = {
    "product_id": ID, "location": ID, "quantity": integer(1),
    "remaining_stock": integer(0, AVAILABLE_MAX,
                               description="available after the event"),
    "version": MEMBERS["version"],
    "activity_id": text(ID_MAX, description=(
        "the flash sale whose quota the item refers to")),
}
FAILED_ITEM = {"wanted": integer(1), "available": integer(0, AVAILABLE_MAX),
               "status": {"enum": STATUSES}}
ALWAYS = ["event_id", "event_type", "event_version", "timestamp"]
TRACE = ["trace_id", "causation_id", "attributes"]
PARTS = ["part", "parts", "cut"]


def order_event(title, optional, required=(), **more):
    return {"title": title, "key": "order_id",
            "members": ["order_id", *required, *optional, *PARTS, *TRACE],
            "required": ["order_id", *required, "items"], **more}


EVENTS = {
    "StockReserved": order_event(
        "All lines of a call are reserved",
        ["user_id", "expires_at", "replayed", "differs"]),
    "FlashSalePurchased": order_event(
        "Reserved from the quota of a flash sale",
        ["user_id", "expires_at"], ["activity_id"]),
    "StockReserveFailed": order_event(
        "An incoming order-created was refused",
        ["user_id", "replayed", "differs"], ["reason"],
        narrowed={"reason": {"enum": [*REFUSALS, *ENDS]}}, failed=True),
    "StockConfirmed": order_event(
        "The order is paid",
        ["user_id", "payment_id", "reason", "replayed", "differs"],
        narrowed={"reason": {"const": "paid_twice"}}),
    "StockReleased": order_event(
        "Stock was returned before payment",
        ["user_id", "reason"]),
    "StockExpired": order_event(
        "The reservation has expired", ["user_id"]),
    "StockRolledBack": order_event(
        "The order failed, and its stock was returned",
        ["user_id", "reason"]),
    "StockReturned": order_event(
        "The customer returned goods", ["user_id"]),
    "StockShortfall": order_event(
        "A payment arrived without stock for it",
        ["user_id", "payment_id", "reason"],
        narrowed={"reason": {"enum": [*ENDS, *REFUSALS]}}, items_min=0),
    "StockLevelChanged": {
        "title": "The stock on hand or the settings of a level were changed",
        "key": "product_id",
        "members": ["product_id", "location", "on_hand", "available",
                    "version", "kind", "reference", *TRACE],
        "required": ["product_id", "location", "on_hand", "available",
                     "version", "kind"]},
}


# event_types() has the topics.
TOPICS = dict(re.findall(
    r"\('(\w+)', '([\w-]+)'\)",
    (TOP / "sql/event_formats.sql").read_text(encoding="utf-8")
    .split("$$", maxsplit=2)[1]))
for _type, _event in EVENTS.items():
    _event["topic"] = TOPICS.get(_type)

# The record of the level stream: no event, so no profile renames its members.
BIGINT_MAX = 2 ** 63 - 1
LEVEL_TOPIC = "stock-levels"
LEVEL = {
    "$schema": DRAFT, "title": "StockLevel",
    "description": "A level as it is now; in place of its earlier records",
    **closed({
        "product_id": ID, "location": ID,
        "on_hand": integer(-QUANTITY_MAX, description=(
            "below zero: sold on back-order")),
        "reserved": integer(0, BIGINT_MAX), "safety": integer(0, BIGINT_MAX),
        "available": integer(0, BIGINT_MAX),
        "version": MEMBERS["version"],
        "timestamp": {"type": "string", "pattern": TIME, "description": (
            "when the level was read: RFC 3339, UTC, microseconds")},
    }, ["product_id", "location", "on_hand", "reserved", "safety",
        "available", "version", "timestamp"])}


def renamed(schema, name):
    """The schema with its members, and the names of members, renamed."""
    if isinstance(schema, list):
        return [renamed(one, name) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: {name(member): renamed(one, name)
                  for member, one in value.items()} if key == "properties"
            else [name(member) for member in value] if key == "required"
            else renamed(value, name) for key, value in schema.items()}


def event_topic(event_type, profile):
    """The topic of an event in a profile."""
    _, topics, _ = PROFILES[profile]
    topic = EVENTS[event_type]["topic"]
    return topics.get(topic, topic)


def event_schema(event_type, profile):
    """The schema of an event in a profile: (its name there, schema)."""
    style, _, names = PROFILES[profile]
    event = EVENTS[event_type]
    name = names.get(event_type, event_type)
    members = {"event_id": MEMBERS["event_id"], "event_type": {"const": name},
               **{member: MEMBERS[member] for member in (
                   "event_version", "timestamp", *event["members"])},
               **event.get("narrowed", {})}
    more = {}
    if "items" in event["required"]:
        item = {**ITEM, **(FAILED_ITEM if event.get("failed") else {})}
        members["items"] = {
            "type": "array", "minItems": event.get("items_min", 1),
            "items": closed(item, [member for member in item
                                   if member != "activity_id"])}
        more["allOf"] = together("part", "parts")
    schema = closed(members, [*ALWAYS, *event["required"]], **more)
    if style == "camelCase":
        schema = renamed(schema, camel)
    return name, {"$schema": DRAFT, "title": name,
                  "description": event["title"], **schema}


# ---- Headers ---------------------------------------------------------------

HEADERS = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "pattern": UUID},
    "ce_source": {"type": "string", "pattern": "^/pgstock/"},
    "ce_type": text(), "ce_time": MEMBERS["timestamp"], "ce_subject": text(),
    "ce_sequence": {"type": "string", "pattern": SEQ, "description": (
        "rises within a key")},
    "ce_incarnation": {"type": "string", "pattern": UUID},
    "content-type": {"enum": ["application/json", "application/octet-stream"]},
    "traceparent": {"type": "string", "pattern": TRACEPARENT},
    "ce_traceparent": {"type": "string", "pattern": TRACEPARENT},
    "event_id": {"type": "string", "pattern": UUID},
    "event_type": text(), "timestamp": MEMBERS["timestamp"],
    "id": {"type": "string", "pattern": UUID}, "eventType": text(),
    "replay_of": {"type": "string", "pattern": SEQ, "description": (
        "of a copy: the original's ce_sequence")},
}
CLOUDEVENTS = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time",
               "ce_sequence", "ce_incarnation"]
DEAD_LETTER = "__dlq."


def event_headers():
    """The headers of a stock event, in any header_profile."""
    return {"$schema": DRAFT, "title": "headers of a stock event",
            "description": "Each is UTF-8 text.",
            **closed(HEADERS, []),
            "allOf": [*together(*CLOUDEVENTS),
                      *together("event_id", "event_type", "timestamp"),
                      *together("id", "eventType"),
                      *together("traceparent", "ce_traceparent")],
            "anyOf": [{"required": ["ce_id"]}, {"required": ["event_id"]},
                      {"required": ["id"]}]}


def dead_letter_headers():
    """Those that a dead letter has behind the message's own."""
    number = {"type": "string", "pattern": "^[0-9]+$"}
    count = {"type": "string", "pattern": "^[1-9][0-9]*$"}
    always = {
        "errors.topic": text(249), "errors.partition": number,
        "errors.offset": number, "errors.group": text(),
        "errors.delivery.count": count, "errors.message": text(),
        "errors.class": {"enum": ["poison", "permanent", "retries", "order",
                                  "crash"]},
        "errors.failed.time": MEMBERS["timestamp"],
        "event.id": text(ID_MAX), "event.source": text(ID_MAX)}
    sometimes = {
        "errors.sqlstate": {"type": "string", "pattern": "^[0-9A-Z]{5}$"},
        "errors.incomplete": {"const": "true"},
        "event.time": MEMBERS["timestamp"], "redrive.count": count}
    return {"$schema": DRAFT, "title": "headers of a dead letter",
            "description": "Key, value and all other headers are those of the"
                           " message, byte for byte.",
            "type": "object",
            "properties": {DEAD_LETTER + name: schema for name, schema
                           in {**always, **sometimes}.items()},
            "required": [DEAD_LETTER + name for name in always]}


# ---- Incoming --------------------------------------------------------------

ANY_ID = {"anyOf": [text(ID_MAX), {"type": "integer",
                                   "minimum": -2 ** 63,
                                   "maximum": 2 ** 63 - 1}]}
MAYBE_ID = {"anyOf": [*ANY_ID["anyOf"], {"enum": ["", None]}],
            "description": "an empty string and null count as absent"}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE_TIME = {"anyOf": [
    {"type": "string", "pattern": (
        r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]"
        r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
        r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$")},
    {"type": "integer", "minimum": 0, "maximum": 253402300799999},
    {"type": "null"}],
    "description": "RFC 3339, UTC if it has no zone, or epoch milliseconds"}
LINE_QUANTITY = integer(1, description="a JSON integer: not 3.0, 1e6 or \"3\"")

LINE = {"type": "object",
        "properties": {"product_id": ANY_ID, "productId": ANY_ID,
                       "quantity": LINE_QUANTITY, "location": MAYBE_ID},
        "required": ["quantity"],
        "anyOf": [{"required": ["product_id"]}, {"required": ["productId"]}]}
ITEMS = {"type": "array", "minItems": 1, "items": LINE}
MAP = {"type": "object", "minProperties": 1,
       "propertyNames": {"minLength": 1, "maxLength": ID_MAX},
       "additionalProperties": LINE_QUANTITY}
LINES = {"items": ITEMS, "product_quantity_map": MAP,
         "productQuantityMap": MAP}

MESSAGES = {
    "order-created": ("reserves all lines of the order or none", "all"),
    "payment-success": ("confirms the order", None),
    "payment-failed": ("releases the order, or the items that it names",
                       "some"),
    "order-cancelled": ("releases the order, or rolls it back if it is paid,"
                        " or the items that it names", "some"),
    "order_failed": ("rolls the order back", None),
}


def both(name, schema):
    """A member in snake_case and in camelCase."""
    return {name: schema, camel(name): schema}


def maybe(schema):
    return {"anyOf": [schema, {"type": "null"}]}


def lines_of_one_kind():
    """Lines are there in one of their three forms only; null counts as absent
    for the maps."""
    maps = [name for name in LINES if name != "items"]
    absent = {name: {"type": "null"} for name in maps}
    return [{"required": ["items"], "properties": absent}] + [
        {"required": [name], "properties": {"items": False, name: MAP}}
        for name in maps]


def message_schema(topic):
    """The messages that pgstock accepts from a topic."""
    effect, lines = MESSAGES[topic]
    schema = {
        "$schema": DRAFT, "title": topic,
        "description": f"Effect: {effect}. Other members are allowed; an event"
                       " that answers the message has them as its attributes."
                       " Beyond what a schema can state: a member that is there"
                       " in snake_case and in camelCase has the same value in"
                       " both, an id has at most 255 bytes, an integer is"
                       " written without a point or an exponent, and no member"
                       " is there twice.",
        "type": "object",
        "properties": {
            **both("order_id", ANY_ID), **both("user_id", MAYBE_ID),
            **both("payment_id", MAYBE_ID), **both("event_id", MAYBE_ID),
            **both("trace_id", MAYBE_ID), **both("event_type", MAYBE_TEXT),
            **both("event_version", {"anyOf": [{"type": "integer", "const": 1},
                                               {"type": "null"}]}),
            **both("failed_reason", MAYBE_TEXT),
            "status": MAYBE_TEXT, "timestamp": MAYBE_TIME},
        "allOf": [{"anyOf": [{"required": ["order_id"]},
                             {"required": ["orderId"]}]},
                  # read only where the other is not
                  {"anyOf": [{"properties": {"reason": MAYBE_TEXT}},
                             *({"required": [name],
                                "properties": {name: {"type": "string"}}}
                               for name in ("failed_reason",
                                            "failedReason"))]}]}
    if lines == "all":
        schema["properties"]["items"] = ITEMS
        schema["allOf"].append({"anyOf": lines_of_one_kind()})
    elif lines == "some":
        schema["properties"] |= {name: maybe(one)
                                 for name, one in LINES.items()}
        schema["allOf"].append({"anyOf": [
            {"properties": {"items": False}},
            {"properties": {name: {"type": "null"} for name in LINES
                            if name != "items"}}]})
    return schema
