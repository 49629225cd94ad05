# SPDX-License-Identifier: PostgreSQL
"""The outbox is kept small by truncating whole parts: no event is lost, no
session waits, and a dump restores every part."""

import os
import threading
from contextlib import closing

import psycopg2
import pytest

from checks import check_order
from cluster import Postgres
from load import Clients
from process import wait_until

PARTS = 6
RETENTION_S = 2
RELAY = {"outbox": {"retention": f"{RETENTION_S}s"}}
INHERITS = ("SELECT i.inhrelid::regclass::text FROM pg_inherits i"
            " WHERE i.inhparent = 'pgstock_internal.outbox'::regclass")
NO_WAIT_MS = 500                    # a writer waits for other writers, not so


def parts(db):
    """{part: its state} of those in use."""
    return dict(db.sql("SELECT part, state FROM pgstock_internal.outbox_part"))


def reserve(cur, name):
    cur.execute(f"SET LOCAL lock_timeout = {NO_WAIT_MS}")
    cur.execute("SELECT reserve_stock('p' || (random() * 99)::int, 1, %s)",
                (name,))


def all_published(db, tail):
    """The ledger knows every event that there was; the outbox has deleted
    them."""
    wanted = {str(event) for (event,) in db.sql(
        "SELECT event_id FROM stock_movements WHERE event_id IS NOT NULL")}
    tail.until(lambda r: wanted <= {x.header("ce_id") for x in r}, 60,
               f"all of {len(wanted)} events")
    records = tail.read_to_end()
    assert {r.header("ce_id") for r in records} == wanted
    check_order(records)


@pytest.fixture
def shop(db):
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(0, 99) i")
    return db


@pytest.mark.long
def test_under_load_with_kills(shop, pg, kafka, start_relay):
    """The race: a part is truncated while a writer that began before still
    inserts rows there, or before the position that is stored after a kill has
    passed it. Either way events are lost that no consumer has seen."""
    relay = start_relay(RELAY)
    with kafka.tail("stock-events") as tail, \
            Clients(shop, 6, reserve) as clients:
        for turn in range(6):
            written = shop.value("SELECT pgstock_internal.last_seq()")
            wait_until(lambda s=written: (shop.value(
                "SELECT min(seq) FROM pgstock_internal.outbox") or s) >= s,
                60, lambda: f"what was there is gone: {parts(shop)}")
            if turn == 3:
                pg.kill_backend(pg.backends("pgstock-relay%")[0])
            elif turn % 2 == 0:
                relay.kill9()
                relay.start(wait=None)
        clients.stop()
        print(f"{len(clients.acknowledged)} orders, seq {written}")
        all_published(shop, tail)
    assert len(shop.sql(INHERITS)) == PARTS, "none was in the way"
    reserved = {name for (name,) in shop.sql(
        "SELECT order_id FROM stock_movements WHERE kind = 'reserved'")}
    assert set(clients.acknowledged) <= reserved


def due(db, part, state):
    """The part has been in this state for longer than the retention."""
    return db.value("SELECT count(*) FROM pgstock_internal.outbox_part"
                    " WHERE (part, state) = (%s, %s) AND since <"
                    " clock_timestamp() - %s * interval '1.5 s'",
                    (part, state, RETENTION_S)) == 1


def test_a_long_transaction_and_a_relay_far_behind(shop, kafka, start_relay):
    """Rows of a transaction that ended after the switch, and rows that no
    relay has published yet, remain, however old they are."""
    start_relay(RELAY, brokers=kafka.proxied_brokers)
    with kafka.tail("stock-events") as tail, \
            Clients(shop, 2, reserve) as clients, \
            closing(shop.connect()) as slow, slow.cursor() as cur:
        cur.execute("SELECT pgstock_internal.outbox_lock_part()")
        ((part,),) = cur.fetchall()
        reserve(cur, "slow-1")
        wait_until(lambda: due(shop, part, "l"), 30,
                   lambda: f"part {part} is left, not sealed: {parts(shop)}")
        kafka.proxy.stall()
        reserve(cur, "slow-2")
        slow.commit()
        wait_until(lambda: due(shop, part, "s"), 30,
                   lambda: f"part {part} is sealed, not empty: {parts(shop)}")
        kafka.proxy.restore()
        wait_until(lambda: not due(shop, part, "s"), 30,
                   lambda: f"part {part} is emptied: {parts(shop)}")
        clients.stop()
        all_published(shop, tail)


def test_while_a_dump_runs(shop, pg, run, kafka, start_relay):
    """pg_dump has a lock on every part until it ends. A truncation that waited
    for it would block every session behind it."""
    relay = start_relay(RELAY)
    read = threading.Event()
    with closing(shop.connect()) as dump, dump.cursor() as cur:
        cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cur.execute("LOCK TABLE pgstock_internal.outbox IN ACCESS SHARE MODE")

        def work(session, name):
            reserve(session, name)
            session.execute("SELECT count(*) FROM (SELECT FROM stock_outbox"
                            " LIMIT 1) x")
            read.set()

        with kafka.tail("stock-events") as tail, \
                Clients(shop, 3, work) as clients:
            wait_until(lambda: len(shop.sql(INHERITS)) > PARTS + 1, 60,
                       lambda: f"further parts: {parts(shop)}")
            assert set(range(1, PARTS + 1)) <= set(parts(shop))
            assert read.is_set()
            path = os.path.join(run, "rotation.dump")
            pg.dump(shop.name, path)
            dump.rollback()
            kept = max(parts(shop))
            wait_until(lambda: len(parts(shop)) < PARTS, 60,
                       lambda: f"they are emptied again: {parts(shop)}")
            clients.stop()
            all_published(shop, tail)
    assert relay.metric("outbox_table_bytes") > 0
    restore(pg, path, kept)


def restore(pg, path, kept):
    """Every part exists with its rows, and the same part is written."""
    copy = pg.create_database("rotation_copy", extension=False)
    pg.restore(copy.name, path)
    assert len(copy.sql(INHERITS)) >= PARTS + 2
    held = parts(copy)
    assert max(held) <= kept and "w" in held.values()
    assert copy.value("SELECT count(DISTINCT part) FROM pgstock_internal.outbox"
                      ) > PARTS - 1
    rows = copy.value("SELECT count(*) FROM stock_outbox")
    with pytest.raises(psycopg2.Error, match="another history"):
        copy.sql("SELECT pgstock_internal.relay_purge('0', '1 day', 100)")
    copy.sql("SELECT pgstock_internal.relay_adopt(true)")
    assert "s" not in parts(copy).values()
    tables = copy.sql(INHERITS)
    for (part,) in tables:
        copy.sql(f"INSERT INTO {part} (id, aggregatetype, type, created_at,"
                 " format, part) SELECT gen_random_uuid(), 't', 't', now(),"
                 " 'j', substring(%s FROM '[0-9]+$')::int", (part,))
    copy.sql("SELECT publish_event('t', 'k', '1')")
    assert held[copy.value("SELECT o.part FROM pgstock_internal.outbox o"
                           " ORDER BY seq DESC LIMIT 1")] == "w"
    for _ in range(2):
        copy.sql("SELECT pgstock_internal.relay_purge('0', '1 day', 100)")
    assert copy.value("SELECT count(*) FROM stock_outbox") == \
        rows + len(tables) + 1, "nothing that is not published goes"
    copy.drop()


def blocks_of_outbox(cur):
    """Blocks that this session visits."""
    cur.execute("SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid))"
                " FROM pg_class c WHERE relname ~ '^outbox_[0-9]'")
    ((blocks,),) = cur.fetchall()
    return blocks


def test_few_new_ones_beside_many(db):
    """Retained events cost a page nothing: blocks visited, not time."""
    with closing(db.connect()) as conn, conn.cursor() as cur:
        for part in range(2, PARTS + 1):
            cur.execute("INSERT INTO pgstock_internal.outbox (id,"
                        " aggregatetype, type, payload, created_at, format,"
                        " part)"
                        " SELECT gen_random_uuid(), 't', 't', '{}', now(), 'j',"
                        " %s FROM generate_series(1, 40000)", (part,))
            conn.commit()
        cur.execute("SELECT pgstock_internal.relay_next_window("
                    "pgstock_internal.first_window())")
        ((window,),) = cur.fetchall()
        conn.commit()
        cur.execute("SELECT count(publish_event('t', 'k', '{}'))"
                    " FROM generate_series(1, 100)")
        conn.commit()
        for _ in range(8):          # a plan for one is not yet one for all
            cur.execute("SELECT pgstock_internal.relay_next_window(%s)",
                        (window,))
            ((after,),) = cur.fetchall()
            conn.commit()
            before = blocks_of_outbox(cur)
            cur.execute("SELECT count(*) FROM pgstock_internal.relay_page(%s,"
                        " 0, 1000, 1000000)", (after,))
            assert cur.fetchall() == [(100,)]
            blocks = blocks_of_outbox(cur) - before
            conn.commit()
            assert blocks < 300
        print(f"{blocks} blocks for 100 of 200,100")
        cur.execute("ANALYZE pgstock_internal.outbox")
        cur.execute("SELECT pgstock_internal.relay_store_position(%s, 0, true,"
                    " pgstock_internal.relay_lead())", (after,))
        conn.commit()
        before = blocks_of_outbox(cur)
        cur.execute("SELECT value FROM pgstock_internal.relay_metrics()"
                    " WHERE name = 'outbox_pending_events'")
        assert cur.fetchall() == [(0,)]
        assert blocks_of_outbox(cur) - before < 100


def test_publication_sees_inserts_only(run):
    """Debezium reads the outbox as one table, and does not notice that parts
    of it are truncated."""
    server = Postgres(os.path.join(run, "postgres-logical"),
                      {"wal_level": "logical"}).init().start()
    db = server.create_database("logical")
    db.sql("CREATE PUBLICATION p FOR TABLE pgstock_internal.outbox"
           " WITH (publish = 'insert', publish_via_partition_root = true)")
    db.sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    for _ in range(3):
        db.sql("SELECT publish_event('t', 'k', '1')")
        db.sql("UPDATE pgstock_internal.outbox_part SET since = '2001-01-01'")
        for _ in range(2):
            db.sql("SELECT pgstock_internal.relay_purge('0', '1 day', 100)")
            with closing(db.connect()) as conn, conn.cursor() as cur:
                conn.autocommit = True
                cur.execute("SELECT pgstock_internal.relay_store_position("
                            " pgstock_internal.relay_next_window(p.window), 0,"
                            " true, pgstock_internal.relay_lead())"
                            " FROM pgstock_internal.relay_position() p")
    assert db.value("SELECT count(*) FROM stock_outbox") < 3
    changes = [bytes(data) for (data,) in db.sql(
        "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'p')")]
    assert b"T" not in {change[:1] for change in changes}
    outbox = db.value("SELECT 'pgstock_internal.outbox'::regclass::oid::int")
    assert [int.from_bytes(change[1:5], "big") for change in changes
            if change[:1] == b"I"] == [outbox] * 3
    server.close()
