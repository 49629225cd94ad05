# SPDX-License-Identifier: PostgreSQL
"""Topics that are bound to built-in handlers: what the default topics have,
any topic has, from Kafka to Kafka; and whatever paths and messages there are,
nothing but their own result depends on them.
"""

import json
import os
import random
from contextlib import closing

import psycopg2

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until

SHOP = ("shop.orders", "shop.money", "shop.noise")

BINDINGS = """
SELECT bind_topic('shop.orders', 'order_created', 'Placed', '{
           "order_id": "$.data.orderNo", "items": "$.data.lines",
           "product_id": "$.sku", "quantity": "$.qty",
           "user_id": "$.data.customer.id"}'),
       bind_topic('shop.orders', 'order_cancelled', 'Cancelled',
                  '{"order_id": "$.data.orderNo"}'),
       bind_topic('shop.orders', 'order_failed', 'Failed',
                  '{"order_id": "$.data.orderNo"}'),
       bind_topic('shop.orders', 'ignore', 'Viewed'),
       bind_topic('shop.money', 'payment_success', 'Captured', '{
           "order_id": "$.tx.ref", "payment_id": "$.tx.id",
           "status": "$.tx.state"}'),
       bind_topic('shop.money', 'payment_failed', 'Declined',
                  '{"order_id": "$.tx.ref"}', '{"order_wait": "1h"}'),
       bind_topic('shop.noise', 'ignore')
"""

ORDERS = 100


def placed(number):
    return {"type": "x", "data": {
        "orderNo": number, "customer": {"id": 7},
        "lines": [{"sku": "book", "qty": 1}, {"sku": 12, "qty": 2}]}}


def fate(number):
    """What the shop says of an order after it was placed."""
    about = {"data": {"orderNo": number}}
    paid = {"tx": {"ref": number, "id": f"p-{number}", "state": "PAID"}}
    return [[("shop.money", "Captured", paid)],
            [("shop.money", "Captured", paid),
             ("shop.orders", "Failed", about)],
            [("shop.money", "Declined", {"tx": {"ref": number}})],
            [("shop.orders", "Cancelled", about)],
            [("shop.orders", "Viewed", about)]][number % 5]


STATES = ("confirmed", "rolled_back", "released", "released", "reserved")


def bound(db, kafka):
    kafka.create_topics(*SHOP, *(f"{name}_dlq" for name in SHOP))
    db.sql("SELECT receive_stock(p, 1000) FROM unnest('{book,12}'::text[]) p")
    db.sql(BINDINGS)


def produce(kafka, numbers):
    """Placed orders and their fates, of which some arrive first; how many."""
    out = kafka.producer()
    sent = 0
    for number in numbers:
        events = [("shop.orders", "Placed", placed(number)), *fate(number)]
        if number % 20 == 0:            # the payment comes first
            events.reverse()
        for topic, kind, value in events:
            send(out, topic, value, key=str(number),
                 headers=[("ce_type", kind.encode())])
            sent += 1
    send(out, "shop.noise", b"\x00anything")
    send(out, "shop.orders", b"{", headers=[("ce_type", b"Placed")])
    delivered(out)
    return sent + 2


def settled(db, count):
    wait_until(lambda: sum(inbox_results(db).values()) == count
               and not inbox_results(db)["waiting"], 40,
               lambda: f"all of {count} are applied: {inbox_results(db)}")


def states(db):
    return dict(db.sql("SELECT order_id, min(state) FROM stock_reservations"
                       " GROUP BY 1 HAVING count(*) = 2 AND min(state) ="
                       " max(state)"))


def test_each_handler_of_a_bound_topic(db, kafka, start_relay):
    """Mixed types in one topic; a kill -9 in the middle changes nothing."""
    bound(db, kafka)
    relay = start_relay(topics=SHOP)
    first = produce(kafka, range(ORDERS // 2))
    wait_until(lambda: sum(inbox_results(db).values()) > 5, 30, "it applies")
    relay.kill9()
    rest = produce(kafka, range(ORDERS // 2, ORDERS))
    relay.start()
    settled(db, first + rest)
    assert states(db) == {str(n): STATES[n % 5] for n in range(ORDERS)}
    assert set(db.sql("SELECT user_id, payment_id FROM stock_reservations"
                      " WHERE order_id = '5'")) == {("7", "p-5")}
    assert inbox_results(db, topic="shop.noise") == {"skipped": 2}
    assert inbox_results(db, topic="shop.orders")["dead"] == 2
    with kafka.tail("shop.orders_dlq") as tail:
        # a kill may publish one of them twice
        tail.until(lambda found: len({one.header("__dlq.errors.offset") + "/"
                                      + one.header("__dlq.errors.partition")
                                      for one in found})
                   == 2, 20, "the dead letters")
    # an answer each, and what it repeats of the message: not of payments
    rows = db.sql("SELECT event_type, payload->'attributes'"
                  " FROM stock_outbox WHERE key = '5'"
                  " AND event_type <> 'StockLevelChanged' ORDER BY seq")
    assert rows == [("StockReserved", {"type": "x"}), ("StockConfirmed", None)]


def test_bindings_are_dumped_and_seen(db, pg, kafka, start_relay, run):
    """They are in a dump, with the defaults that none of them replaced; the
    commands show them."""
    bound(db, kafka)
    shown = "SELECT * FROM stock_bindings ORDER BY 1, 2"
    relay = start_relay(topics=SHOP[:2])
    report = json.loads(relay.command("status", "--json").stdout)
    names = [(one["topic"], one["event_type"], one["handler"])
             for one in report["bindings"]]
    assert sorted(names, key=str) == sorted(
        ((t, e, h) for t, e, h, *_ in db.sql(shown)), key=str)
    assert "shop.money Captured: payment_success" \
        in relay.command("status").stdout
    report = relay.command("check").stdout
    assert "shop.money Captured to payment_success" in report
    assert "topic shop.noise: it is bound" in report
    path = os.path.join(run, "bindings.dump")
    pg.dump(db.name, path)
    other = pg.create_database("bound", extension=False)
    pg.restore(other.name, path)
    try:
        assert other.sql(shown) == db.sql(shown)
        other.sql("SELECT bind_topic('more', 'ignore')")
        assert len(other.sql(shown)) == len(db.sql(shown)) + 1
    finally:
        other.drop()


# ---- whatever there is -------------------------------------------------------

PIECES = ("$", ".", "..", "a", "b-c", "0", "ünï", "日", "[", "]", "[0]", "[1]",
          "['", "']", '["', '"]', "'", '"', "\\", "*", "?", "@", ",", ":", " ",
          "\x7f", "\U0001f600", "[99999]", "x" * 90)
NAMES = ("a", "b-c", "0", "ünï", "a b", "c.d", "it's", '"', "\\", "", "日")


def any_path(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 8)))


def quoted(name):
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


def place(rng, value):
    """A document that has the value somewhere, and the path to it."""
    path = ""
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.3:
            index = rng.randrange(4)
            value = [None] * index + [value, 1]
            path = f"[{index}]" + path
        else:
            name = rng.choice(NAMES)
            value = {name: value, name + "x": 2}
            path = (f".{name}" if name in NAMES[:4] and rng.random() < 0.5
                    else quoted(name)) + path
    return {"root": value}, "$.root" + path


def apply_one(cursor, offset, value):
    cursor.execute(
        "SELECT result, reason FROM pgstock_internal.relay_apply("
        " ARRAY['fuzz'], ARRAY[0], ARRAY[%s::bigint], ARRAY[-1::bigint],"
        " ARRAY[NULL::bytea], ARRAY[%s::bytea], ARRAY[NULL::bytea], %s)",
        (offset, value, json.dumps({
            "group": "g", "dlq_topic": "{topic}_dlq", "order_wait_ms": 0,
            "retry_delays_ms": []})))
    return cursor.fetchone()


def try_paths(db, rng, encoding):
    """No path does more than to be refused, and no message more than to be
    dead; a path leads to what it names."""
    refused = applied = 0
    with closing(db.connect()) as session:
        session.autocommit = True
        # SQL_ASCII converts nothing: the bytes are UTF-8 all the same
        session.set_client_encoding("UTF8")
        cursor = session.cursor()
        cursor.execute("SELECT receive_stock('book', 1000000),"
                       " pg_backend_pid()")
        process = cursor.fetchone()[1]
        for number in range(250):
            try:
                cursor.execute("SELECT bind_topic('fuzz', 'order_created',"
                               " fields => %s)",
                               (json.dumps({"order_id": any_path(rng),
                                            "items": any_path(rng)},
                                           ensure_ascii=False),))
                apply_one(cursor, 2 * number, b'{"a": {"b-c": ["x"]}}')
            except psycopg2.Error as error:
                # 22P05: jsonb itself, of a character that the encoding lacks
                assert error.pgcode in ("22023", "22P05", "22021"), error
                refused += 1
            document, path = place(rng, f"o-{number}")
            document["items"] = [{"product_id": "book", "quantity": 1}]
            try:
                cursor.execute("SELECT bind_topic('fuzz', 'order_created',"
                               " fields => %s)",
                               (json.dumps({"order_id": path},
                                           ensure_ascii=False),))
            except psycopg2.Error as error:
                assert encoding == "LATIN1" and "日" in path, (path, error)
                continue
            value = json.dumps(document, ensure_ascii=number % 2).encode()
            assert apply_one(cursor, 2 * number + 1, value) == (
                "applied", None), (path, document)
            applied += 1
        cursor.execute("SELECT pg_backend_pid(), array_agg(order_id)"
                       " FROM stock_reservations")
        same, orders = cursor.fetchone()
    assert same == process and len(set(orders)) >= applied
    assert refused > 50 and applied > 50


def test_any_path(pg):
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    for encoding in ("UTF8", "LATIN1", "SQL_ASCII"):
        db = pg.create_database(f"paths_{encoding.lower()}", encoding=encoding)
        try:
            try_paths(db, random.Random(f"{seed} {encoding}"), encoding)
            assert db.drift() == []
        finally:
            db.drop()
