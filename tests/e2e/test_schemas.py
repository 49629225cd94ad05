# SPDX-License-Identifier: PostgreSQL
"""docs/schemas is neither too narrow nor too wide.

Too narrow: kafkaio.py holds every record that a test reads, and every message
that pgstock applied, against it. Too wide: here events with a member that is
missing, unknown or of another type are faults, and so is a message that the
extension itself rejects. Two validators must agree: fastjsonschema, which the
other tests use, and jsonschema, which knows draft 2020-12.
"""

import copy
import json
import os
import random
from dataclasses import replace

import jsonschema
import pytest

import schemas
from cluster import HOST, Database, Kafka, Postgres
from kafkaio import delivered, send
from process import run_tool
from test_fuzz import Maker

OPTIONS = json.dumps({
    "dlq_topic": "{topic}_dlq", "retry_delays_ms": [10000],
    "order_wait_ms": 900000, "dedup_retention_ms": 604800000, "group": "s"})
MESSAGES = 4000
# What JSON Schema cannot state; docs/schemas/README.md lists it.
BEYOND = ("have different values", "255 bytes", "more than", "add up",
          "not valid JSON", "encoding", "RFC 3339", "the value is empty")
OTHERS = (None, True, 0, 1.5, "", "x", [], {})


def apply(db, messages, partition=0):
    """Apply (topic, value) pairs; {index: (result, reason)}."""
    values = [value if isinstance(value, bytes) else json.dumps(value).encode()
              for _, value in messages]
    done = 0
    while done < len(messages):
        n = len(messages) - done
        done += int(db.value(
            "SELECT sum(n) FROM pgstock_internal.relay_apply(%s::text[],"
            " %s::int[], %s::bigint[], %s::bigint[], %s::bytea[],"
            " %s::bytea[], %s::bytea[], %s)",
            ([topic for topic, _ in messages[done:]], [partition] * n,
             list(range(done, len(messages))), [-1] * n, [None] * n,
             values[done:], [None] * n, OPTIONS)))
    return {number: (result, reason) for number, result, reason in db.sql(
        'SELECT "offset", result, reason FROM stock_inbox'
        " WHERE partition = %s", (partition,))}


@pytest.fixture
def events(db):
    """Every event that a database writes in which everything happens once."""
    db.sql("SELECT receive_stock('a', 20, reference => 'd 7'),"
           " receive_stock('b', 5)")
    db.sql("SET pgstock.trace_id = 't-1'; SELECT reserve_order('o-1',"
           " '[{\"product_id\": \"a\", \"quantity\": 2},"
           " {\"product_id\": \"b\", \"quantity\": 1}]', 'u')")
    for call in ("confirm_stock('o-1', 'p-1')", "return_stock('o-1', '[{"
                 "\"product_id\": \"a\", \"quantity\": 1}]')",
                 "rollback_stock('o-1', 'lost')",
                 "reserve_stock('a', 1, 'o-2', ttl => '0')",
                 "release_stock('o-2', 'no')",
                 "open_flash_sale('s', 'a', 3)",
                 "purchase_flash_sale('s', 'u', 'o-3')",
                 "reserve_stock('b', 5, 'o-4', ttl => '1 microsecond')",
                 "expire_reservations()", "reserve_stock('b', 4, 'o-5')",
                 "confirm_stock('o-4')", "configure_product('a', slots => 2)",
                 "close_flash_sale('s')", "move_stock('a', 1, 'main', 'x')"):
        db.sql(f"SELECT {call}")
    order = {"order_id": "m-1", "user_id": "u", "channel": {"a": [1, "x"]},
             "items": [{"product_id": "a", "quantity": 1}]}
    big = {**order, "order_id": "m-2",
           "items": [{"product_id": "a", "quantity": 99}]}
    apply(db, [("order-created", order), ("order-created", big),
               ("order-created", {**order, "user_id": "v", "productQuantityMap":
                                  {"b": 1}, "items": None}),
               ("order-created", {**order, "user_id": "v", "items": [
                   {"product_id": "b", "quantity": 1}]}),
               ("order-created", big), ("payment-success", {"orderId": "m-2"}),
               ("payment-success", {"orderId": "m-1", "paymentId": "p"}),
               ("payment-success", {"orderId": "m-1", "paymentId": "q"}),
               ("order_failed", {"order_id": "m-1"})])
    # too large for one record: in parts
    db.sql("SET pgstock.max_lines = 2500; SELECT count(receive_stock("
           "rpad('p-' || i, 250, '\"'), 1)) FROM generate_series(1, 2000) i;"
           " SELECT count(*) FROM reserve_order('o-9', (SELECT jsonb_agg("
           "jsonb_build_object('product_id', rpad('p-' || i, 250, '\"'),"
           " 'quantity', 1)) FROM generate_series(1, 2000) i))")
    return [(event_type, schemas.load(payload)) for event_type, payload in
            db.sql("SELECT type, convert_from(payload, 'UTF8')"
                   " FROM pgstock_internal.outbox WHERE format = 'j'"
                   " AND (type <> 'StockLevelChanged'"
                   " OR aggregateid IN ('a', 'b')) ORDER BY seq")]


def both_validators(name, value):
    """Whether the schema permits the value; both must agree."""
    other = jsonschema.Draft202012Validator(schemas.schema(name))
    fine = schemas.fault(name, value) is None
    assert fine == other.is_valid(value), (
        f"{name}: fastjsonschema says {fine}: {value}")
    return fine


def places(value, path=()):
    """The path of each member and element, but not within attributes."""
    inner = (value.items() if isinstance(value, dict)
             else enumerate(value) if isinstance(value, list) else ())
    for key, one in inner:
        yield (*path, key)
        if key != "attributes":
            yield from places(one, (*path, key))


def parent_of(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def damaged(event):
    """Events with one fault each."""
    for path in places(event):
        old = parent_of(event, path)[path[-1]]
        for other in OTHERS:
            if type(other) is type(old) or (
                    path[-1] == "known" and other is None):
                continue
            made = copy.deepcopy(event)
            parent_of(made, path)[path[-1]] = other
            yield f"{path} is {other!r}", made
        if isinstance(old, dict) and path[-1] != "attributes":
            made = copy.deepcopy(event)
            parent_of(made, path)[path[-1]]["more"] = 1
            yield f"{path} has one more", made
    yield "one more", {**event, "more": 1}
    for name in ("event_id", "event_type", "event_version", "timestamp"):
        yield f"no {name}", {key: one for key, one in event.items()
                             if key != name}


def test_events_and_their_mutants(events):
    types = {path.stem for path in (schemas.DIRECTORY / "events").iterdir()}
    assert {event_type for event_type, _ in events} == types
    members = {key for _, event in events for key in event}
    assert members >= {"part", "differs", "replayed", "attributes", "reason",
                       "trace_id", "activity_id", "payment_id", "expires_at"}
    mutants = 0
    for event_type, event in events:
        name = f"events/{event_type}"
        assert schemas.fault(name, event) is None
        if len(event.get("items", ())) > 100:
            del event["items"][2:]
        assert both_validators(name, event), schemas.fault(name, event)
        for what, mutant in damaged(event):
            assert schemas.fault(name, mutant), f"{event_type}: {what}"
            mutants += 1
    assert mutants > 2000


def test_required_members(events):
    """What each event of a type has, its schema requires."""
    always = {}
    for event_type, event in events:
        always.setdefault(event_type, set(event)).intersection_update(event)
    for event_type, event in events:
        for member in schemas.schema(f"events/{event_type}")["required"]:
            assert member in always[event_type]
            mutant = {key: one for key, one in event.items() if key != member}
            assert not both_validators(f"events/{event_type}", mutant)
        for number in range(min(2, len(event.get("items", ())))):
            for member in ("product_id", "location", "quantity", "version",
                           "remaining_stock"):
                mutant = copy.deepcopy(event)
                del mutant["items"][number][member]
                assert not both_validators(f"events/{event_type}", mutant)


def test_messages_as_the_extension_reads_them(db):
    """Accepted: its schema permits it. Poison: its schema forbids it."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    maker = Maker(seed)
    db.sql("SELECT receive_stock(p, 100000) FROM unnest('{book,7}'::text[]) p")
    counts = {True: 0, False: 0}
    for batch in range(MESSAGES // 400):
        messages = [(maker.rng.choice(schemas.MESSAGES),
                     maker.text().encode("utf-8", "surrogatepass"))
                    for _ in range(400)]
        for number, (result, reason) in apply(db, messages, batch).items():
            topic, value = messages[number]
            accepted = schemas.is_accepted(topic, value)
            what = f"{topic} {value[:300]}: {result} {reason}"
            if result == "duplicate":
                continue
            if result == "dead" and any(each in reason for each in BEYOND):
                continue
            assert accepted == (result != "dead"), what
            counts[accepted] += 1
    assert min(counts.values()) > MESSAGES // 20, counts


def test_reason_that_is_not_read(db):
    """A reason is read only where there is no failed_reason."""
    values = [b'{"order_id": "r-1", "failed_reason": "x", "reason": true}',
              b'{"order_id": "r-1", "failed_reason": null, "reason": true}']
    results = apply(db, [("order_failed", value) for value in values], 1000)
    assert [schemas.is_accepted("order_failed", value)
            for value in values] == [True, False]
    assert [result != "dead" for result, _ in results.values()] == [True, False]


HEADERS = {
    "ce_specversion": "1.0", "ce_id": "20c2267b-b67a-4117-baee-50ad404028b9",
    "ce_source": "/pgstock/shop", "ce_type": "StockReserved",
    "ce_time": "2026-11-21T03:14:01.766273Z", "ce_subject": "o",
    "ce_sequence": "00000000000000000007",
    "ce_incarnation": "c4d1a1c2-5b0e-4d64-9a07-0d0f3a8ad1b9",
    "content-type": "application/json"}


def test_a_record_and_a_row_are_held(db, kafka, start_relay):
    """The checks through which every record of every test goes: what the
    extension and the relay have written passes, and not as an application's
    own; without a member or a header it does not."""
    db.sql("SELECT receive_stock('a', 1)")
    start_relay()
    with kafka.tail("stock-events") as tail:
        (record,) = tail.until(lambda records: records, 30, "an event")
    (row,) = schemas.outbox_rows(db)
    assert schemas.row_fault(*row) == ("events/StockLevelChanged", None)
    assert schemas.record_fault(record) is None
    less = record.json
    del less["timestamp"]
    less = json.dumps(less).encode()
    for wrong in (
            schemas.row_fault(*row[:2], less, row[3])[1],
            schemas.record_fault(replace(record, value=less)),
            *(schemas.record_fault(replace(record, headers=tuple(
                header for header in record.headers if header[0] != name)))
              for name, _ in record.headers
              if name not in ("ce_type", "ce_subject", "content-type"))):
        assert wrong


NOT_ONE = b'{"event_type": "StockReserved"}'


def test_servers_are_held_when_they_end(new_dir):
    """Their records, also on a standby; only of a server that was stopped they
    are not known, which is said."""
    primary = Postgres(new_dir("postgres-held")).init().start()
    primary.create_database("shop").sql("SELECT receive_stock('a', 1)")
    Database(primary, "shop").sql(
        "UPDATE pgstock_internal.outbox SET payload = %s", (NOT_ONE,))
    standby = Postgres(new_dir("postgres-held-standby"))
    run_tool([primary.bin("pg_basebackup"), "-D", standby.data, "-R",
              "-c", "fast", "--no-sync", "-h", HOST, "-p", str(primary.port),
              "-U", "postgres"])
    standby.start()
    for server in (standby, primary):
        with pytest.raises(AssertionError, match="records are not as"):
            server.close()
    with pytest.warns(UserWarning, match="not checked: .* was stopped"):
        primary.close()


def test_a_stopped_broker_is_held(new_dir):
    broker = Kafka(new_dir("kafka-held"), proxied=False).init().start()
    broker.create_topics("stock-events")
    producer = broker.producer()
    send(producer, "stock-events", NOT_ONE, key="o", headers=HEADERS)
    delivered(producer)
    broker.stop()
    with pytest.raises(AssertionError, match="records are not as"):
        broker.close()


def test_headers():
    assert both_validators("headers/event", HEADERS)
    for name in HEADERS:
        for value in ("", "x", None):
            if name not in ("ce_type", "ce_subject", "ce_source") or not value:
                assert not both_validators("headers/event",
                                           {**HEADERS, name: value})
        if name not in ("ce_subject", "content-type"):
            assert not both_validators("headers/event", {
                key: one for key, one in HEADERS.items() if key != name})
    assert not both_validators("headers/event", {**HEADERS, "other": "x"})
