# SPDX-License-Identifier: PostgreSQL
"""An outbox that another program publishes is emptied by time.

The other program reads a logical replication slot, as Debezium does. What a
part had when it was truncated is in the WAL that the slot keeps.
"""

import json
import re
import threading
from contextlib import closing

import psycopg2
import pytest

from cluster import Postgres
from process import wait_until

OK, RUNTIME = range(2)
SETTINGS = {"shared_preload_libraries": "pgstock", "wal_level": "logical"}
READ = "SELECT data FROM pg_logical_slot_get_changes('reader', NULL, NULL)"


@pytest.fixture(scope="module")
def logical(new_dir):
    server = Postgres(new_dir("postgres-logical"), SETTINGS).init().start()
    yield server
    server.close()


@pytest.fixture
def shop(logical):
    database = logical.create_database("shop")
    database.sql("SELECT pg_create_logical_replication_slot('reader',"
                 " 'test_decoding')")
    yield database
    database.sql("SELECT pg_drop_replication_slot('reader')")
    assert database.drift() == []
    database.drop()


def publish(shop, first, count):
    shop.sql("SELECT publish_event('events', 'k', to_jsonb(n))"
             " FROM generate_series(%s, %s) n", (first, first + count - 1))


def read_slot(shop):
    """What the slot returns: the events that were inserted."""
    return [int(bytes.fromhex(payload).decode()) for (data,) in shop.sql(READ)
            for payload in re.findall(r"outbox_\d+: INSERT: .*payload\[bytea\]"
                                      r":'\\x([0-9a-f]*)'", data)]


def age(shop, by):
    shop.sql("UPDATE pgstock_internal.outbox_part SET since = since"
             " - %s::interval", (by,))


def empty(shop):
    """As the background worker does, without waiting for its minute."""
    for _ in range(4):
        age(shop, "1 hour")
        shop.sql("SELECT pgstock_internal.keeper_purge(1000)")


def rows(shop):
    return shop.value("SELECT count(*) FROM stock_outbox")


def test_the_reader_gets_every_event(logical, shop):
    """Parts are emptied while the slot lags, writers write, and the server is
    killed; then the slot returns each event once, in order."""
    shop.sql("SELECT set_outbox_retention('1 minute', 'a test')")
    stop = threading.Event()
    written = []

    def write():
        with closing(psycopg2.connect(shop.conninfo())) as conn:
            conn.autocommit = True
            cursor = conn.cursor()
            while not stop.is_set():
                cursor.execute("SELECT publish_event('events', 'k',"
                               " to_jsonb(%s))", (len(written),))
                written.append(len(written))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        count = len(written)
        wait_until(lambda: len(written) > count + 50, 30, "it writes")
        empty(shop)
    stop.set()
    writer.join()
    empty(shop)
    assert rows(shop) == 0 and len(written) > 250
    logical.kill9()
    logical.start()
    assert read_slot(shop) == written
    assert read_slot(shop) == []


def test_the_worker_does_it_by_itself(shop):
    """Within a minute of being due, without a call; a minute later for each
    lock that it did not get, because this test or autovacuum had it."""
    publish(shop, 0, 10)
    shop.sql("SELECT set_outbox_retention('1 hour')")
    for _ in range(3):      # the next part is written, this one sealed
        age(shop, "20 minutes")
        shop.sql("SELECT pgstock_internal.keeper_purge(1000)")
    assert rows(shop) == 10
    age(shop, "1 hour")
    wait_until(lambda: rows(shop) == 0, 200, "the worker empties it", step=5)
    assert read_slot(shop) == list(range(10))


def test_a_relay_or_another_program(logical, shop, kafka, relays):
    """Whichever is there first excludes the other, and says so."""
    kafka.create_topics("events")
    relay = relays(shop.conninfo(), kafka.brokers).start()
    with pytest.raises(psycopg2.Error) as refused:
        shop.sql("SELECT set_outbox_retention('1 day')")
    assert refused.value.pgcode == "55006"
    assert '"pgstock-relay main"' in str(refused.value)
    publish(shop, 0, 3)
    wait_until(lambda: kafka.count("events") == 3, 20, relay.tail)
    assert relay.terminate() == OK
    wait_until(lambda: not shop.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'"
        " AND application_name LIKE 'pgstock-relay%'"), 20,
        "the relay's sessions end")
    shop.sql("SELECT set_outbox_retention('1 day', 'a test')")
    relay.start(wait=None)
    assert relay.wait_end(30) == RUNTIME
    assert "another program publishes the outbox" in relay.tail()
    assert "set_outbox_retention(NULL)" in relay.tail()
    publish(shop, 3, 3)
    done = relay.command("check", "--json")
    assert done.returncode == RUNTIME
    (found,) = [one for one in json.loads(done.stdout)["findings"]
                if one["check"] == "other_publisher"]
    assert found["severity"] == "error"
    assert 'removed after 1 day; slot "reader" is not in use' in found["what"]
    assert "its WAL is reserved" in found["what"]
    done = relay.command("status")
    assert "another program publishes the outbox" in done.stdout
    assert "status: ok" in done.stdout, "no relay is missing"
    known = shop.value("SELECT stock_status()")
    assert known["status"] == "ok" and known["problems"] == []
    shop.sql("SELECT set_outbox_retention(NULL, 'the relay is back')")
    relay.start()
    wait_until(lambda: kafka.count("events") == 6, 20, relay.tail)
    assert relay.terminate() == OK
    assert [r.json for r in kafka.consume("events")] == list(range(6))


def test_the_level_stream_ends(shop):
    """Nothing would take its marks."""
    marks = "SELECT count(*) FROM pgstock_internal.level_mark"
    shop.sql("SELECT pgstock_internal.relay_levels('stock-levels', NULL, 9)")
    shop.sql("SELECT receive_stock('a', 1)")
    assert shop.value(marks) == 1
    shop.sql("SELECT set_outbox_retention('1 day')")
    shop.sql("SELECT receive_stock('a', 1)")
    assert shop.value(marks) == 0


def test_a_dump_has_it(logical, shop, run):
    """A restored copy is not published by a relay that nobody meant."""
    shop.sql("SELECT set_outbox_retention('1 day')")
    copy = logical.create_database("shop_copy", extension=False)
    logical.dump("shop", f"{run}/other.sql")
    logical.restore("shop_copy", f"{run}/other.sql")
    assert copy.value("SELECT retention::text FROM"
                      " pgstock_internal.other_publisher") == "1 day"
    copy.drop()
