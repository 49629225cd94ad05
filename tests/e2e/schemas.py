# SPDX-License-Identifier: PostgreSQL
"""docs/schemas, applied to every record of every test.

The servers of cluster.py hold what they have against them before it is gone:
the outbox of each database that is dropped, and each topic that is deleted.

Compiled by fastjsonschema, because a test may make 100,000 records; the
schemas have only keywords that mean the same in draft 7, which it knows.
test_schemas.py compares it with jsonschema, which knows draft 2020-12.
"""

import json
import re
from contextlib import closing
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import fastjsonschema

DIRECTORY = Path(__file__).resolve().parents[2] / "docs/schemas"
MESSAGES = ("order-created", "payment-success", "payment-failed",
            "order-cancelled", "order_failed")
DEAD_LETTER = "__dlq.errors."
TYPE_HEADERS = ("ce_type", "event_type", "eventType")
OWN = "an application's own"
OTHERS = "others"               # the group of dead letters that tests write


@lru_cache(None)
def paths():
    """The files of docs/schemas, by the names of the schemas."""
    return {str(path.relative_to(DIRECTORY).with_suffix("")): path
            for path in DIRECTORY.rglob("*.json")}


@lru_cache(None)
def schema(name):
    """The schema docs/schemas/NAME.json; None: there is none."""
    path = paths().get(name)
    return path and json.loads(path.read_text(encoding="utf-8"))


@lru_cache(None)
def validator(name):
    """Compiled; raises JsonSchemaValueException."""
    return fastjsonschema.compile(
        {**schema(name), "$schema": "http://json-schema.org/draft-07/schema"})


def fault(name, value):
    """Why the value is not what a schema describes; None: it is."""
    try:
        validator(name)(value)
    except fastjsonschema.JsonSchemaValueException as error:
        return f"{name}: {error.message}"
    return None


def load(value):
    """JSON as pgstock reads it: 3.0 is not an integer."""
    return json.loads(value, parse_float=Decimal)


def is_camel(value):
    """Whether an event in bytes has members in camelCase; its attributes have
    any names."""
    return b'"eventId"' in value and "eventId" in load(value)


@lru_cache(None)
def event_name(event_type, camel):
    """The schema of a stock event's type, whose members are in camelCase or
    not; None: it is an application's own type."""
    folder, prefix = ("inventory", "Inventory") if camel else ("events",
                                                               "Stock")
    name = re.sub("^(Stock|Inventory)", prefix, event_type)
    return f"{folder}/{name}" if schema(f"{folder}/{name}") else None


def event_fault(name, event_type, event):
    """Why an event is not as the schema describes, under its type's name."""
    member = "eventType" if name.startswith("inventory") else "event_type"
    if event.get(member) != event_type:
        return f"{name}: {member} is not {event_type}"
    return fault(name, {**event, member: name.split("/")[1]})


def level_fault(record):
    """Why a record of the level stream is not one; None: it is."""
    wrong = fault("headers/event", {key: value.decode()
                                    for key, value in record.headers})
    return wrong or record.value and fault("levels/StockLevel",
                                           load(record.value))


def record_fault(record):
    """Why a record that pgstock published is not as docs/schemas describes;
    None: it is, or others wrote it."""
    headers = dict(record.headers)
    if headers.get(f"{DEAD_LETTER}group") == OTHERS.encode():
        return None
    # names that begin alike may be those of another program
    if any(name.startswith(DEAD_LETTER)
           and name in schema("headers/dead-letter")["properties"]
           for name in headers):
        return fault("headers/dead-letter", {
            name: value.decode() for name, value in headers.items()
            if name.startswith("__dlq.")})
    event_type = next((headers[name].decode() for name in TYPE_HEADERS
                       if headers.get(name)), None)
    if event_type == "StockLevel":
        return level_fault(record)
    value = record.value or b""
    name = event_type and event_name(event_type, is_camel(value))
    if not name:
        return None
    if len(headers) < len(record.headers):
        return "a header is there twice"
    wrong = fault("headers/event", {key: text.decode()
                                    for key, text in headers.items()})
    if wrong or record.value is None:
        return wrong
    return event_fault(name, event_type, load(value))


def row_fault(form, event_type, payload, headers):
    """(what a row of the outbox is checked against, what is wrong or None); the
    headers are those of stock_outbox."""
    if form == "r":
        letter = {name: value for name, value in load(headers).items()
                  if name.startswith("__dlq.")}
        return "dead letter", fault("headers/dead-letter", letter)
    if event_type == "StockLevel":
        name = "levels/StockLevel"
        return name, fault(name, load(payload))
    name = form == "j" and event_name(event_type, is_camel(payload))
    if not name:
        return OWN, None
    event = load(payload)
    if not event.keys() & {"event_type", "eventType"}:
        return OWN, None
    return name, event_fault(name, event_type, event)


def outbox_rows(database):
    """The rows of a database's outbox, if it has one: format, type, payload and
    headers."""
    with closing(database.connect()) as conn:
        conn.set_client_encoding("UTF8")
        with conn.cursor() as cur:
            cur.execute("SELECT to_regclass('pgstock_internal.outbox')")
            if cur.fetchone() == (None,):
                return
        with conn.cursor("outbox") as cur:
            cur.execute(
                "SELECT format::text, type, CASE format WHEN 'j' THEN payload"
                " END, CASE format WHEN 'r' THEN convert_to("
                " pgstock_internal.headers_json(headers)::text, 'UTF8') END"
                " FROM pgstock_internal.outbox"
                " WHERE format <> 'b' AND payload IS NOT NULL")
            for form, event_type, payload, headers in cur:
                yield (form, event_type, bytes(payload or b""),
                       bytes(headers or b""))


def outbox_faults(database):
    """What is wrong with the rows of a database's outbox."""
    faults = []
    for form, event_type, payload, headers in outbox_rows(database):
        wrong = row_fault(form, event_type, payload, headers)[1]
        if wrong:
            faults.append(f"{wrong}: {payload[:300]}")
    return faults


def must_hold(faults, where):
    """Fail, and show the first faults."""
    assert not faults, f"{where}: {len(faults)} records are not as" \
        f" docs/schemas describes: {faults[:5]}"


def is_accepted(topic, value):
    """Whether the schema of a topic's messages permits a value, in bytes."""
    try:
        return not fault(f"messages/{topic}", load(value))
    except (ValueError, RecursionError):    # no JSON, not UTF-8, too deep
        return False


# (topic, partition, offset) of messages that their schema forbids
forbidden = set()


def note_forbidden(error, message):
    """A delivery report of such a message."""
    if error is None:
        forbidden.add((message.topic(), message.partition(),
                       message.offset()))


def forbidden_but_applied(database):
    """The messages that pgstock applied though their schemas forbid them."""
    if not forbidden or not database.value(
            "SELECT to_regclass('pgstock_internal.inbox') IS NOT NULL"):
        return set()
    applied = database.sql(
        "SELECT topic, partition, \"offset\" FROM pgstock_internal.inbox i"
        " WHERE result = 'applied' AND topic = ANY (%s) AND NOT EXISTS"
        " (SELECT FROM pgstock_internal.user_handler h"
        " WHERE h.topic = i.topic)", (list(MESSAGES),))
    return forbidden & set(map(tuple, applied))
