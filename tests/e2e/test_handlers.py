# SPDX-License-Identifier: PostgreSQL
"""Handlers that users register: none of them affects other messages.

Each message's payload holds the commands of its handler, so that one topic
holds every mistake that a handler can make, between harmless messages.
"""

import json
import os
import re

import psycopg2
import pytest

from checks import inbox_results
from kafkaio import delivered, send
from process import wait_until
from test_inbox import order

QUICK = {"inbox": {"retry_delays": "200ms, 200ms"}}

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.seen (id text PRIMARY KEY, attempt int, who name);
CREATE TABLE shop.parent (id int PRIMARY KEY);
CREATE TABLE shop.child (
    parent int REFERENCES shop.parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE shop.relay (pid int);
CREATE FUNCTION shop.run(payload jsonb, message jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT jsonb_array_elements_text(payload->'run') LOOP
        EXECUTE replace(command, '$attempt', message->>'attempt');
    END LOOP;
    INSERT INTO seen VALUES (message->>'event_id',
                             (message->>'attempt')::int, current_user);
END
$$;
"""

# The commands of a handler, and whether its message is applied all the same.
ACTS = {
    "a mistake": (["SELECT 1/0"], False),
    "an exception": (["DO $do$BEGIN RAISE 'no'; END$do$"], False),
    "a deferred constraint": (["INSERT INTO shop.child VALUES (1)"], False),
    "one that is kept": (["INSERT INTO shop.child VALUES (2)",
                          "INSERT INTO shop.parent VALUES (2)"], True),
    "a sleep": (["SELECT pg_sleep(100)"], False),
    "a sleep that will not end": (
        ["SET statement_timeout = 0",
         "DO $do$BEGIN PERFORM pg_sleep(100);"
         " EXCEPTION WHEN query_canceled THEN END$do$",
         "SELECT pg_sleep(100)"], False),
    "an end of the transaction": (["DO $do$BEGIN COMMIT; END$do$"], False),
    "the relay's role": (["RESET ROLE"], False),
    "another role": (["SET ROLE postgres"], False),
    "another user": (["SET SESSION AUTHORIZATION postgres"], False),
    "a role by set_config": (["SELECT set_config('role', 'none', false)"],
                             False),
    "our tables": (["DELETE FROM pgstock_internal.level"], False),
    "the relay's functions": (
        ["SELECT * FROM pgstock_internal.relay_retry(1, '{}')"], False),
    "the relay's statements": (["DEALLOCATE ALL"], False),
    "LISTEN": (["LISTEN shop"], False),
    "a lock for the session": (["SELECT pg_advisory_lock(4711)"], True),
    "settings": (["SET search_path = pg_temp", "SET work_mem = '64kB'",
                  "SET default_transaction_read_only = on",
                  "RESET search_path", "SET search_path = shop"], True),
    "a temporary table": (["CREATE TEMP TABLE t (a int)"], True),
    "the same one": (["CREATE TEMP TABLE t (a int)"], True),
}


@pytest.fixture
def shop(db):
    """The handler, registered by a role that owns nothing else; and a role for
    the relay, which owns nothing either."""
    db.sql(SCHEMA)
    name, relay = f"{db.name}_shop", f"{db.name}_relay"
    db.sql(f"CREATE ROLE {relay} LOGIN;"
           f"SELECT grant_stock_access('{relay}', 'relay')")
    db.sql(f"""CREATE ROLE {name};
        GRANT USAGE ON SCHEMA shop TO {name};
        GRANT ALL ON ALL TABLES IN SCHEMA shop TO {name};
        SELECT grant_stock_access('{name}', 'admin')""")
    db.sql(f"SET ROLE {name}; SELECT register_handler('shop', 'shop.run');"
           f"SELECT grant_stock_access('{name}', 'none')")
    yield db
    for gone in (name, relay):
        db.sql(f"SELECT grant_stock_access('{gone}', 'none');"
               f"DROP OWNED BY {gone}; DROP ROLE {gone}")


def put(kafka, *messages):
    """Send (event id, commands) pairs to one partition, in their order."""
    out = kafka.producer()
    for event_id, commands in messages:
        send(out, "shop", {"run": commands}, headers={"ce_id": event_id},
             partition=0)
    delivered(out)


def ends(db, topic="shop"):
    return dict(db.sql("SELECT event_id, result FROM stock_inbox"
                       " WHERE topic = %s", (topic,)))


def is_dead(db, event_id):
    """The server may be recovering when this queries it."""
    try:
        return ends(db).get(event_id) == "dead"
    except psycopg2.OperationalError:
        return False


def wait_ends(db, relay, count, timeout=60):
    def all_ended():
        found = ends(db)
        return len(found) >= count and "waiting" not in found.values()
    wait_until(all_ended, timeout,
               lambda: f"of {count}: {ends(db)}\n{relay.tail()}")


def test_nothing_touches_others(shop, kafka, start_relay):
    """Between any two of them stands a message that must be applied, and
    orders continue beside them; the relay's own role has no rights."""
    db = shop
    kafka.create_topics("shop", "shop_dlq")
    db.sql("SELECT receive_stock('book', 100)")
    db.sql(f"ALTER DATABASE {db.name} SET pgstock.handler_timeout = '300ms'")
    messages = []
    for name, (commands, _) in ACTS.items():
        messages += [(name, commands), (f"after {name}", [])]
    put(kafka, *messages)
    out = kafka.producer()
    for number in range(50):
        send(out, "order-created", order(number))
    delivered(out)
    relay = start_relay(QUICK, topics=["shop", "order-created"],
                        conninfo=db.conninfo(user=f"{db.name}_relay"))
    wait_ends(db, relay, len(messages))
    expected = {name: "applied" if well else "dead"
                for name, (_, well) in ACTS.items()}
    expected.update({f"after {name}": "applied" for name in ACTS})
    assert ends(db) == expected
    assert {who for (who,) in db.sql("SELECT who FROM shop.seen")} == \
        {f"{db.name}_shop"}
    wait_until(lambda: inbox_results(db, topic="order-created")["applied"]
               == 50, 20, relay.tail)
    assert db.value("SELECT count(*) FROM pg_locks"
                    " WHERE locktype = 'advisory' AND objid = 4711") == 0
    assert db.sql("SELECT parent FROM shop.child") == [(2,)]
    # graded: a command that might have succeeded was tried three times
    tries = dict(db.sql("SELECT event_id, attempts FROM failed_order_archives"))
    assert tries["a mistake"] == tries["a deferred constraint"] == 1
    assert tries["a sleep"] == tries["LISTEN"] == tries["an exception"] == 3
    assert relay.metric("inbox_attempts_count") == \
        len(messages) + 50
    assert relay.metric("inbox_attempts_bucket", le="1") == \
        len([end for end in expected.values() if end == "applied"]) + 50 \
        + list(tries.values()).count(1)


TERMINATE = "SELECT pg_terminate_backend(pg_backend_pid())"
KILL = ("DO $do$BEGIN EXECUTE format('COPY shop.relay FROM PROGRAM %L',"
        " 'kill -9 ' || pg_backend_pid()); END$do$")
CATCH = ("DO $do$BEGIN LOOP BEGIN PERFORM pg_sleep(100);"
         " EXCEPTION WHEN query_canceled THEN END; END LOOP; END$do$")
SECOND = "DO $do$BEGIN IF $attempt = 1 THEN RAISE 'again'; END IF; END$do$"


@pytest.mark.parametrize("commands", [[TERMINATE], [KILL],
                                      [SECOND, TERMINATE], [CATCH]],
                         ids=["terminated", "killed", "at its second try",
                              "catches each cancel"])
def test_that_ends_its_backend(db, kafka, start_relay, commands):
    """The session ends too, so that no error names the message."""
    kafka.create_topics("shop", "shop_dlq")
    db.sql("SELECT receive_stock('book', 100)")
    db.sql(SCHEMA)
    db.sql("SELECT register_handler('shop', 'shop.run')")
    if commands == [CATCH]:
        db.sql(f"ALTER DATABASE {db.name} SET pgstock.handler_timeout = '1s'")
    relay = start_relay(QUICK, topics=["shop", "order-created"])
    put(kafka, *[(f"before {n}", []) for n in range(10)],
        ("bad", commands), *[(f"after {n}", []) for n in range(10)])
    out = kafka.producer()
    for number in range(50):
        send(out, "order-created", order(number))
    delivered(out)
    wait_until(lambda: is_dead(db, "bad"), 90, relay.tail)
    wait_ends(db, relay, 21)
    assert list(ends(db).values()).count("applied") == 20
    (row,) = db.sql("SELECT event_id, reason, attempts"
                    " FROM failed_order_archives")
    assert row[0] == "bad" and "ended with the process" in row[1]
    assert row[2] >= 3
    wait_until(lambda: inbox_results(db, topic="order-created")["applied"]
               == 50, 20, relay.tail)
    assert db.value("SELECT count(*) FROM shop.seen") == 20
    with kafka.tail("shop_dlq") as tail:
        (letter,) = tail.until(lambda r: r, 20, "a dead letter")
    assert json.loads(letter.value) == {"run": commands}
    assert letter.header("__dlq.errors.class") == "crash"


@pytest.mark.long
def test_that_ends_the_relay(db, kafka, start_relay):
    """The relay that applies it is killed, each time a new one."""
    kafka.create_topics("shop", "shop_dlq")
    db.sql(SCHEMA)
    db.sql("SELECT register_handler('shop', 'shop.run')")
    kill = ("DO $do$DECLARE p int; BEGIN LOOP"
            " SELECT min(pid) INTO p FROM shop.relay; EXIT WHEN p > 0;"
            " PERFORM pg_sleep(0.01); END LOOP;"    # which relay is said soon
            " EXECUTE format('COPY shop.relay FROM PROGRAM %L',"
            " 'kill -9 ' || p); PERFORM pg_sleep(10); END$do$")
    relay = start_relay({**QUICK, "kafka": {"session.timeout.ms": "6000"}},
                        topics=["shop"])
    put(kafka, *[(f"before {n}", []) for n in range(3)],
        ("bad", [kill]), *[(f"after {n}", []) for n in range(3)])
    kills = 0
    while ends(db).get("bad") != "dead":
        db.sql("INSERT INTO shop.relay VALUES (%s)", (relay.pid,))
        wait_until(lambda: not relay.running
                   or ends(db).get("bad") == "dead", 60, relay.tail)
        if not relay.running:
            kills += 1
            assert kills < 10
            # the session that it left behind must not meet the next one
            for pid in db.pg.backends("pgstock-relay%"):
                db.sql("SELECT pg_terminate_backend(%s)", (pid,))
            relay.wait_end(10)
            db.sql("TRUNCATE shop.relay")
            relay.start(wait=None)
    wait_ends(db, relay, 7)
    assert list(ends(db).values()).count("applied") == 6
    assert kills >= 3


def documented_example():
    """The commands in docs/events.md."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "../../docs/events.md")
    with open(path, encoding="utf8") as file:
        text = file.read()
    (commands,) = re.findall(r"```\w*\n(CREATE SCHEMA shop;.*?)```", text, re.S)
    ((record, names),) = re.findall(
        r"\$ echo '(.*?)' \|\n *kcat .*? -t parcels -P -K: (.*?)\n", text)
    return commands, record, dict(re.findall(r"-H (\w+)=(\S+)", names))


def test_documented_example(db, kafka, start_relay):
    """Typed literally it works, and its events name their cause."""
    commands, record, headers = documented_example()
    kafka.create_topics("parcels", "parcels_dlq", "notifications")
    db.sql(commands)
    relay = start_relay(topics=["parcels"])
    key, value = record.split(":", 1)
    out = kafka.producer()
    trace = "0af7651916cd43dd8448eb211c80319c"
    send(out, "parcels", value, key=key, headers={
        **headers, "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    send(out, "parcels", value, key=key, headers=headers)
    send(out, "parcels", value, key=key, headers={"ce_type": "ParcelLost"})
    send(out, "parcels", "no JSON", key=key, headers={
        **headers, "ce_id": "parcel-8", "trace_id": "t",
        "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    delivered(out)
    wait_until(lambda: len(inbox_results(db)) == 4, 20, relay.tail)
    assert inbox_results(db) == {"applied": 1, "duplicate": 1, "skipped": 1,
                                 "dead": 1}
    assert db.sql("SELECT order_id, carrier, shipped_at > now() - '1 h'::"
                  "interval FROM shop.shipment") == [("order-7", "DHL", True)]
    with kafka.tail("notifications") as tail:
        (told,) = tail.until(lambda r: r, 20, "the handler's own event")
    assert told.header("traceparent").split("-")[1] == trace
    # the one that was given up: in the archive and in the log, by its trace
    assert db.value("SELECT trace_id FROM failed_order_archives") == trace
    assert f"event_id=parcel-8 trace_id={trace}" in relay.tail()
