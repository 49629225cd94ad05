# SPDX-License-Identifier: PostgreSQL
"""P2 across histories: a restored dump carries positions and transaction ids
of another database.

A relay that trusted them would skip new events for ever (the restored ids lie
in the future) or publish all old ones again. So it stops with a hint, and
continues after `adopt` with nothing skipped.
"""

import os

import pytest

from checks import check_order, first_occurrences
from cluster import Postgres
from process import wait_until

TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'pgstock_internal' AND c.relkind IN ('r', 'p')
"""


@pytest.fixture(scope="module")
def second(new_dir):
    """Another cluster, whose transaction ids are far behind."""
    server = Postgres(new_dir("postgres-second")).init().start()
    yield server
    server.close()


def events_of(db):
    return {str(event) for (event,) in
            db.sql("SELECT event_id FROM stock_outbox")}


def make_history(db, kafka, start_relay):
    """30 events published, 5 not, and one reserved order to continue with."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay()
    for number in range(29):
        db.sql("SELECT reserve_stock('book', 1, %s)", (f"old-{number}",))
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 30, 10, "the old events")
    assert relay.terminate() == 0
    for number in range(5):
        db.sql("SELECT reserve_stock('book', 1, %s)", (f"unsent-{number}",))
    return relay


def restored(source, target_pg, run):
    path = os.path.join(run, f"{source.name}.dump")
    source.pg.dump(source.name, path)
    db = target_pg.create_database(f"{source.name}_copy", extension=False)
    target_pg.restore(db.name, path)
    return db


def refused(relay):
    """The relay stops, and its error names the way out."""
    assert relay.wait_end(15) == 1
    assert "history" in relay.tail(3) and "adopt" in relay.tail(3)


def adopt(relay):
    shown = relay.command("adopt")
    assert shown.returncode == 0, shown.stderr
    done = relay.command("adopt", "--execute")
    assert done.returncode == 0, done.stderr
    return shown.stdout + done.stdout


@pytest.mark.parametrize("where", ["same cluster", "other cluster"])
def test_restored_dump(db, pg, second, run, kafka, relays, start_relay, where):
    make_history(db, kafka, start_relay)
    copy = restored(db, pg if where == "same cluster" else second, run)
    assert copy.drift() == []
    assert copy.level("book") == db.level("book")
    before = events_of(copy)
    assert len(before) == 35

    relay = relays(copy.conninfo(), kafka.brokers)
    relay.start(wait=None)
    refused(relay)
    copy.sql("SELECT reserve_stock('book', 1, 'while stopped')")
    with kafka.tail("stock-events") as tail:
        assert len(tail.read_to_end()) == 30, "nothing went out meanwhile"
        assert "5" in adopt(relay) or "6" in adopt(relay)
        relay.start()
        for number in range(20):
            copy.sql("SELECT reserve_stock('book', 1, %s)", (f"new-{number}",))
        wanted = events_of(copy)
        assert len(wanted) == 56
        tail.until(lambda r: {x.header("ce_id") for x in r} >= wanted, 15,
                   "every event, old, unsent and new")
        check_order(tail.read_to_end())
        assert len(first_occurrences(tail.records)) == 56
        again = len(tail.records) - 56
    print(f"{again} events came twice")
    assert again <= 30
    assert copy.drift() == []
    copy.drop()


def test_every_table_takes_rows_after_a_restore(db, second, run, kafka,
                                                start_relay):
    """Sequences missing from the dump, or rows that both CREATE EXTENSION and
    the dump insert, show up as the first insert's duplicate key."""
    relay = start_relay(topics=["order-created"])
    db.sql("SELECT receive_stock('book', 100)")
    out = kafka.producer()
    for value in (b"poison", b'{"order_id": "in-1", "items":'
                  b' [{"product_id": "book", "quantity": 1}]}'):
        out.produce("order-created", value=value)
    out.flush()
    for call in ("reserve_stock('book', 1, 'o-1', idempotency_key => 'k-1')",
                 "confirm_stock('o-1', 'p')", "publish_event('t', 'k', '{}')"):
        db.sql(f"SELECT {call}")
    wait_until(lambda: db.value("SELECT count(*) FROM stock_inbox") == 2, 10,
               "both messages are in the inbox")
    relay.terminate()
    copy = restored(db, second, run)
    for (table,) in copy.sql(TABLES):
        same = f"SELECT count(*) FROM {table}"
        if table.endswith("inbox_attempt"):
            assert copy.value(same) == 0 < db.value(same), table
        elif not table.endswith("incarnation"):
            assert copy.value(same) == db.value(same), table
    copy.sql("SELECT receive_stock('book', 1), receive_stock('new', 1)")
    copy.sql("SELECT reserve_stock('book', 1, 'o-2', idempotency_key => 'k-2')")
    assert copy.value("SELECT replayed FROM reserve_stock('book', 1, 'o-1',"
                      " idempotency_key => 'k-1')") is True
    copy.sql("SELECT rollback_stock('o-1')")
    copy.sql("SELECT publish_event('t', 'k', '{}')")
    for (column,) in copy.sql("SELECT DISTINCT table_name || '.' || column_name"
                              " FROM information_schema.columns"
                              " WHERE table_schema = 'pgstock_internal'"
                              " AND column_default LIKE 'nextval%%'"):
        table, name = column.split(".")
        assert copy.value(
            "SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, %s))"
            f" >= max({name}) FROM pgstock_internal.{table}",
            (f"pgstock_internal.{table}", name)) is not False, column
    assert copy.drift() == []


def test_base_of_the_same_history(db, kafka, start_relay):
    """A restart, clean or not, is no other history: no adopt is needed."""
    relay = make_history(db, kafka, start_relay)
    db.pg.restart()
    relay.start()
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 35, 10, "the five unsent ones")
        assert len(tail.read_to_end()) == 35
