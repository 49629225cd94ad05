# SPDX-License-Identifier: PostgreSQL
"""History ends with a TRUNCATE or a DROP: the ledger still adds up, no session
waits, and an order past pgstock.confirmed_retention is unknown."""

import os
import threading
from contextlib import closing

import psycopg2
import pytest

from cluster import HOST, Database, Postgres
from load import Clients
from process import make_dir, run_tool, wait_until

PRELOAD = {"shared_preload_libraries": "pgstock"}
NO_WAIT_MS = 500                    # a writer waits for other writers, not so
MONTHS = ("SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE"
          " i.inhparent = 'pgstock_internal.reservation_history'::regclass"
          " ORDER BY 1")


@pytest.fixture(scope="module")
def server(new_dir):
    one = Postgres(new_dir("postgres-retention"),
                   PRELOAD).init().start()
    yield one
    one.close()


@pytest.fixture
def shop(server):
    db = server.create_database("shop")
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(0, 99) i")
    yield db
    settings(db, history="90d", confirmed="0")
    drift = db.drift()
    db.drop()
    assert drift == []


def settings(db, history, confirmed):
    for name, value in (("history_retention", history),
                        ("confirmed_retention", confirmed)):
        db.sql(f"ALTER SYSTEM SET pgstock.{name} = '{value}'")
    db.sql("SELECT pg_reload_conf()")
    wait_until(lambda: db.value("SELECT setting FROM pg_settings WHERE name ="
                                " 'pgstock.confirmed_retention'")
               == db.value("SELECT extract(epoch FROM %s::interval)::int::text",
                           (confirmed,)), 10, "the settings")


def sell(db, order, days):
    """An order that was confirmed so many days ago."""
    db.sql("SELECT reserve_stock('p1', 3, %s), confirm_stock(%s)",
           (order, order))
    db.sql("UPDATE pgstock_internal.reservation SET confirmed_at ="
           " confirmed_at - %s * interval '1 day' WHERE order_id = %s",
           (days, order))


def upkeep(db):
    """Until there is nothing left to do."""
    wait_until(lambda: db.value("SELECT pgstock_internal.keeper_purge(1000)")
               == 0, 30, "the upkeep")


def begin_purge(conn, cur):
    """A purge that stays open; the worker may be purging too."""
    def has_begun():
        conn.rollback()
        cur.execute("SELECT pgstock_internal.purge_old(10)")
        cur.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
        return cur.fetchone() == (True,)

    wait_until(has_begun, 30, "a purge")


def error_of(db, query):
    with pytest.raises(psycopg2.Error) as failure:
        db.sql(query)
    return failure.value.pgcode, failure.value.diag.message_detail


def test_confirmed_retention(shop, server, run):
    """By default all orders stay. Otherwise they move to months, come back for
    a call, are part of a dump, and end with a DROP."""
    for order, days in (("new", 1), ("old", 100), ("older", 300),
                        ("ancient", 800)):
        sell(shop, order, days)
    upkeep(shop)
    assert shop.sql(MONTHS) == [], "by default all orders stay"
    settings(shop, history="90d", confirmed="730d")
    assert error_of(shop, "SELECT return_stock('none')") == (
        "SK004", "Confirmed orders are kept for 730d"
                 " (pgstock.confirmed_retention).")
    shop.sql("SELECT pgstock_internal.retire_orders(now() - interval '90 d',"
             " 9)")
    assert len(shop.sql(MONTHS)) == 3
    assert shop.sql("SELECT order_id, state FROM stock_reservations"
                    " ORDER BY 1") == [(order, "confirmed") for order in (
                        "ancient", "new", "old", "older")]
    assert error_of(shop, "SELECT return_stock('ancient')")[0] == "SK004"
    assert error_of(shop, "SELECT confirm_stock('ancient')")[0] == "SK004"
    for verb in ("rollback_stock", "release_stock"):
        assert shop.sql(f"SELECT status, granted FROM {verb}('ancient')") == [
            ("unknown_order", 0)]

    path = os.path.join(run, "retention.dump")
    server.dump(shop.name, path)
    copy = server.create_database("retention_copy", extension=False)
    server.restore(copy.name, path)
    assert copy.sql(MONTHS) == shop.sql(MONTHS)
    copy.sql("SELECT pgstock_internal.relay_adopt(true)")
    assert copy.value("SELECT status FROM return_stock('older')") == "returned"
    upkeep(copy)
    assert copy.drift() == []
    copy.sql("DROP EXTENSION pgstock")
    assert copy.sql("SELECT relname FROM pg_class WHERE relname ~"
                    " 'history|movement'") == []
    copy.drop()

    upkeep(shop)
    assert len(shop.sql(MONTHS)) == 2, "the month of the third is dropped"
    assert shop.value("SELECT status FROM return_stock('old', %s)", (
        '[{"product_id": "p1", "quantity": 1}]',)) == "returned"
    assert shop.value("SELECT status FROM rollback_stock('older')") == (
        "rolled_back")
    assert shop.level("p1") == (999992, 0, 999992)
    upkeep(shop)
    assert shop.sql("SELECT order_id FROM pgstock_internal.reservation_history"
                    ) == [("old",)]


def parts(db):
    return dict(db.sql("SELECT part, state"
                       " FROM pgstock_internal.movement_part"))


def trade(cur, name):
    cur.execute(f"SET LOCAL lock_timeout = {NO_WAIT_MS}")
    cur.execute("SELECT reserve_stock('p' || (random() * 99)::int, 1, %s),"
                " confirm_stock(%s)", (name, name))


def test_the_ledger_under_load(shop):
    """The races: a part is truncated while a proof of the ledger that began
    before still needs its rows, or is folded while a writer that began before
    still inserts there. Either way the books seem wrong. And pg_dump locks all
    parts: no writer waits behind it."""
    settings(shop, history="3s", confirmed="8s")
    wrong = []
    stop = threading.Event()

    def prove():
        while not stop.is_set():
            wrong.extend(shop.drift())

    def work():         # as the worker does, but more often
        while not stop.wait(0.02):
            shop.sql("SELECT pgstock_internal.keeper_purge(1000)")
            shop.sql("SELECT pgstock_internal.retire_orders("
                     "clock_timestamp() - interval '2 s', 1000)")

    threads = [threading.Thread(target=run) for run in (prove, work)]
    for thread in threads:
        thread.start()
    try:
        with Clients(shop, 4, trade) as clients:
            seen = set()

            def turned():
                seen.update(parts(shop).items())
                return {part for part, state in seen if state == "f"} >= {1, 2}

            wait_until(turned, 60, lambda: f"parts turn: {sorted(seen)}")
            with closing(shop.connect()) as dump, dump.cursor() as cur:
                cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cur.execute("LOCK TABLE pgstock_internal.movement,"
                            " pgstock_internal.reservation_history"
                            " IN ACCESS SHARE MODE")
                (now,) = [part for part, state in parts(shop).items()
                          if state == "w"]
                wait_until(lambda: parts(shop).get(now) == "f", 60,
                           lambda: f"folded, not truncated: {parts(shop)}")
                assert shop.value("SELECT count(*) FROM pgstock_internal."
                                  f"movement_{now}") > 0
                dump.rollback()
            wait_until(lambda: shop.sql(MONTHS), 30, "orders are retired")
            clients.stop()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    sold = shop.value("SELECT sum(1000000 - on_hand) FROM stock_levels")
    assert sold == len(set(clients.acknowledged))
    print(f"{sold} orders; parts {sorted(seen)}")


def test_orders_stay_while_their_keys_are_kept(shop):
    """The answer under an idempotency key refers to the lines, for 24 hours,
    however short the retention is."""
    settings(shop, history="1h", confirmed="30h")
    assert shop.value("SELECT pgstock_internal.retire_after()::text") == (
        "24:00:00")
    for order, hours in (("young", 10), ("old", 25)):
        sell(shop, order, hours / 24)
    upkeep(shop)
    assert shop.sql("SELECT order_id FROM pgstock_internal.reservation"
                    ) == [("young",)]
    settings(shop, history="90d", confirmed="2000d")
    assert shop.value("SELECT pgstock_internal.retire_after()::text") == (
        "90 days")
    settings(shop, history="0", confirmed="400d")
    with closing(shop.connect()) as purge, purge.cursor() as cur:
        begin_purge(purge, cur)
        cur.execute("SHOW synchronous_commit")
        assert cur.fetchone() == ("local",), "no call waits for a standby"
    assert shop.value("SELECT pgstock_internal.retire_after()::text") == (
        "100 days")


# ---- Snapshots on a standby --------------------------------------------------

@pytest.fixture
def mirrored(new_dir):
    """A primary, and a standby that reports its snapshots each second."""
    primary = Postgres(new_dir("postgres-mirrored"), {
        "hot_standby_feedback": "on", "wal_receiver_status_interval": "1s",
        "max_standby_streaming_delay": "1s"}).init().start()
    standby = Postgres(new_dir("postgres-mirror"))
    make_dir(standby.directory)
    run_tool([primary.bin("pg_basebackup"), "-D", standby.data, "-R", "-c",
              "fast", "-d", f"host={HOST} port={primary.port} user=postgres"])
    standby.start()
    yield primary, standby
    standby.close()
    primary.close()


@pytest.mark.parametrize("slot", [False, True])
def test_a_snapshot_on_a_standby_keeps_a_part(mirrored, slot):
    """TRUNCATE empties a part also for an older snapshot of a standby, which
    shows the openings as they were: the ledger would not add up there. So it
    waits for the snapshots that standbys report, by a walsender or a slot."""
    primary, standby = mirrored
    if slot:
        Database(primary, "postgres").sql(
            "SELECT pg_create_physical_replication_slot('mirror')")
        Database(standby, "postgres").sql(
            "ALTER SYSTEM SET primary_slot_name = 'mirror'")
        standby.restart()
    db = primary.create_database("shop")
    copy = Database(standby, "shop")
    db.sql("SELECT receive_stock('p1', 5)")
    db.sql("SELECT pgstock_internal.movement_switch('1 day')")
    db.sql("UPDATE pgstock_internal.movement_part SET since = '2020-01-01'")
    db.sql("SELECT pgstock_internal.movement_switch('1 day')")
    db.sql("SELECT pgstock_internal.movement_seal()")
    reported = ("SELECT backend_xmin FROM pg_stat_replication UNION ALL SELECT"
                " xmin FROM pg_replication_slots")

    def replayed():
        return standby_has(copy, db.value("SELECT pg_current_wal_lsn()"))

    wait_until(replayed, 30, "the standby has the part")
    with closing(copy.connect()) as reader, reader.cursor() as cur:
        cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cur.execute("SELECT 1")
        (xmin,) = copy.sql("SELECT backend_xmin::text FROM pg_stat_activity"
                           " WHERE pid = %s", (reader.info.backend_pid,))[0]
        wait_until(lambda: xmin in {str(x) for (x,) in db.sql(reported)}, 30,
                   lambda: f"{xmin} is reported: {db.sql(reported)}")
        db.sql("UPDATE pgstock_internal.movement_part SET since = '2020-01-01'"
               " WHERE state = 's'")
        assert db.value("SELECT pgstock_internal.movement_fold('2021-01-01',"
                        " 100)") == 1
        assert db.value("SELECT pgstock_internal.movement_empty()") == 0
        wait_until(replayed, 30, "the standby has the fold")
        cur.execute("SELECT * FROM verify_stock()")
        assert cur.fetchall() == []
        reader.rollback()
    wait_until(lambda: db.value("SELECT pgstock_internal.movement_empty()"),
               30, "the part is truncated")
    assert db.drift() == [] == copy.drift()


def standby_has(copy, lsn):
    return copy.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,))


# ---- A restore into an extension that was there before -----------------------

STEP = ("SELECT pgstock_internal.keeper_purge(1000),"
        " pgstock_internal.keeper_expire(1000) > 0;\n")


@pytest.mark.parametrize("part", ["--no-owner", "--data-only"])
def test_upkeep_keeps_still_while_a_dump_is_restored(shop, server, run, part):
    """Between two tables of a restore the data are incomplete: a part of the
    ledger is there, and the row that says how far it is folded is not. So
    upkeep after each table, in a database that had the extension before, must
    do nothing until the data are adopted."""
    for number in range(20):
        sell(shop, f"o-{number}", 1)
    shop.sql("SELECT pgstock_internal.movement_switch('1 day')")
    shop.sql("UPDATE pgstock_internal.movement_part SET since = '2020-01-01'")
    shop.sql("SELECT pgstock_internal.movement_switch('1 day')")
    shop.sql("SELECT pgstock_internal.movement_seal()")
    assert shop.value("SELECT pgstock_internal.movement_fold('infinity', 50)"
                      ) == 50
    shop.sql("UPDATE pgstock_internal.incarnation SET restored = true")
    shop.sql("SELECT reserve_stock('p2', 1, 'due', ttl => '1 microsecond')")
    ledger = "SELECT count(*) FROM pgstock_internal.ledger"
    rows = shop.value(ledger)
    path = os.path.join(run, "restore.sql")
    run_tool([server.bin("pg_dump"), *server.tool_args(shop.name), part,
              "-f", path])
    with open(path, encoding="utf-8") as file:
        script = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(script.replace("\n\\.\n", "\n\\.\n" + STEP))
    shop.sql("UPDATE pgstock_internal.incarnation SET restored = false")
    settings(shop, history="1s", confirmed="0")
    copy = server.create_database("restored_copy")
    run_tool([server.bin("psql"), *server.tool_args(copy.name), "-X", "-q",
              "-v", "ON_ERROR_STOP=1", "-o", os.devnull, "-f", path])
    assert copy.value(ledger) == rows
    assert copy.drift() == []
    assert copy.value("SELECT state FROM pgstock_internal.reservation"
                      " WHERE order_id = 'due'") == "r"
    assert error_of(copy, "SELECT purge_history(now())") == (
        "SK020", "The database was restored from a dump.")
    copy.sql("SELECT pgstock_internal.relay_adopt(true)")
    wait_until(lambda: copy.value("SELECT state FROM"
                                  " pgstock_internal.reservation"
                                  " WHERE order_id = 'due'") == "e", 30,
               "upkeep runs once the data are adopted")

    def has_dropped():
        upkeep(copy)                # does nothing while the worker is at it
        return copy.value(ledger) < rows

    wait_until(has_dropped, 30, "the part that is folded is dropped")
    assert copy.drift() == []
    copy.drop()


AS_PG_DUMP = "SET row_security = off; SET check_function_bodies = off"


def blocked(db, pid):
    return db.value("SELECT cardinality(pg_blocking_pids(%s))", (pid,)) > 0


def test_a_restore_waits_for_a_purge_under_way(shop):
    """A purge that has looked may still decide by what it finds later: so the
    first table of a restore is filled after it."""
    with closing(shop.connect()) as purge, closing(shop.connect()) as restore:
        purging, restoring = purge.cursor(), restore.cursor()
        begin_purge(purge, purging)
        restoring.execute(AS_PG_DUMP)
        restore.commit()
        thread = threading.Thread(target=restoring.execute, args=(
            "INSERT INTO pgstock_internal.movement_2"
            " SELECT * FROM pgstock_internal.movement_2",))
        thread.start()
        wait_until(lambda: blocked(shop, restore.info.backend_pid), 30,
                   "the restore waits")
        purge.commit()
        thread.join()
        assert shop.value("SELECT pgstock_internal.purge_old(10)") == 0
        restore.commit()
    assert shop.value("SELECT restored FROM pgstock_internal.incarnation")
    assert shop.value("SELECT pgstock_internal.keeper_purge(10)") == 0
    shop.sql("SELECT pgstock_internal.relay_adopt(true)")


def test_what_is_restored_during_an_expiry_does_not_expire(shop):
    """An expiry that has checked waits for a level; meanwhile a restore
    commits."""
    shop.sql("UPDATE pgstock_internal.incarnation SET restored = true")
    shop.sql("SELECT reserve_stock('p2', 1, 'due', ttl => '1 microsecond')")
    with closing(shop.connect()) as restore, closing(shop.connect()) as keeper:
        restoring, keeping = restore.cursor(), keeper.cursor()
        restoring.execute(AS_PG_DUMP)
        restoring.execute("SELECT FROM pgstock_internal.level"
                          " WHERE product_id = 'p2' FOR UPDATE")
        shop.sql("UPDATE pgstock_internal.incarnation SET restored = false")
        restoring.execute("INSERT INTO pgstock_internal.movement_2"
                          " SELECT * FROM pgstock_internal.movement_2")
        thread = threading.Thread(target=keeping.execute, args=(
            "SELECT pgstock_internal.keeper_expire(10)",))
        thread.start()
        wait_until(lambda: blocked(shop, keeper.info.backend_pid)
                   or not thread.is_alive(), 30, "it waits", step=0.001)
        restore.commit()
        thread.join()
        keeper.commit()
    assert shop.value("SELECT state FROM pgstock_internal.reservation"
                      " WHERE order_id = 'due'") == "r"
    shop.sql("SELECT pgstock_internal.relay_adopt(true)")
