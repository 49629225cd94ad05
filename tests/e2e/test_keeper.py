# SPDX-License-Identifier: PostgreSQL
"""Upkeep runs by itself: due lines expire, old history is deleted.

There are two ways. Where pgstock is preloaded, the server does it: a launcher
starts a worker in a database that has due lines. Elsewhere the relay calls it.
Most tests run both ways; the rest check that the worker misses no line, blocks
no DROP and doubles nothing.
"""

import os
import time
from contextlib import closing

import psycopg2
import pytest

from checks import check_all, of_type
from cluster import Database, Postgres
from process import run_tool, wait_until
from slow import clock_is_ahead, settable_clock

LATE_S = 0.3        # an idle server needs 0.1 s; two busy cores more
PRELOAD = {"shared_preload_libraries": "pgstock"}


@pytest.fixture(scope="module")
def preloaded(new_dir):
    server = Postgres(new_dir("postgres-keeper"),
                      PRELOAD).init().start()
    yield server
    server.close()


@pytest.fixture
def kept(preloaded):
    """A database of the preloaded server."""
    database = preloaded.create_database(f"k{time.monotonic_ns()}")
    yield database
    drift = database.drift()
    database.drop()
    assert drift == []


@pytest.fixture(params=["preloaded", "relay"])
def either(request):
    """A database with upkeep, one way or the other."""
    if request.param == "preloaded":
        return request.getfixturevalue("kept")
    request.getfixturevalue("start_relay")()
    return request.getfixturevalue("db")


def lines(db, state):
    return db.value("SELECT count(*) FROM stock_reservations"
                    " WHERE state = %s", (state,))


def written(db, state):
    """The state that the rows hold: a due line counts as expired before its
    row says so. An expired line counts here once its event is written."""
    return db.value("SELECT count(*) FROM pgstock_internal.reservation"
                    " WHERE state = %s AND (state <> 'e' OR due_at IS NULL)",
                    (state,))


def wait_expired(db, number, timeout=20):
    wait_until(lambda: written(db, "e") == number, timeout,
               lambda: f"{written(db, 'e')} lines of {number} have expired")


def lateness(db):
    """By order: seconds from expires_at to its expiry."""
    return dict(db.sql(
        "SELECT order_id, extract(epoch FROM ended_at - expires_at)::float8"
        " FROM stock_reservations WHERE state = 'expired'"))



def sessions(server, kind):
    return [pid for (pid,) in Database(server, "postgres").sql(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = %s", (kind,))]


def alter_system(db, what):
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("LOAD 'pgstock'")       # the session must know the setting
        cur.execute(f"ALTER SYSTEM {what}")
        cur.execute("SELECT pg_reload_conf()")


def make_due(db):
    """Every reserved line is made due, and the keeper is woken: a direct
    change of the rows wakes nothing."""
    db.sql("UPDATE pgstock_internal.reservation SET expires_at = now(),"
           " due_at = now() WHERE state = 'r'")
    db.sql("SELECT receive_stock('alarm', 1)")
    db.sql("SELECT reserve_stock('alarm', 1, 'alarm', ttl => '1 ms')")


def reserve_many(db, orders, products=100, each=10):
    """Orders of many lines; the number of lines."""
    db.sql("SELECT count(receive_stock('p-' || i, 1000000))"
           " FROM generate_series(0, %s) i", (products - 1,))
    db.sql("""
        SELECT count(*) FROM (SELECT (reserve_orders(jsonb_agg(
            jsonb_build_object('order_id', 'o-' || o, 'items', (
                SELECT jsonb_agg(jsonb_build_object(
                    'product_id', 'p-' || (o * 7 + i) %% %s, 'quantity', 1))
                FROM generate_series(1, %s) i))))).*
            FROM generate_series(1, %s) o GROUP BY o / 90) r""",
           (products, each, orders))
    return orders * each


def check_once(db, orders, per_order):
    """Each line expired once, and each order has its events."""
    assert db.value("SELECT count(*) FROM stock_movements"
                    " WHERE kind = 'expired'") == orders * per_order + 1
    told = db.sql("SELECT key, sum(jsonb_array_length(payload->'items'))"
                  " FROM stock_outbox WHERE event_type = 'StockExpired'"
                  " AND key LIKE 'o-%%' GROUP BY key")
    assert {number for _, number in told} == {per_order}
    assert len(told) == orders
    assert db.drift() == []


def test_each_expires_when_it_is_due(either):
    either.sql("SELECT receive_stock('a', 100)")
    either.sql("SELECT reserve_stock('a', 1, 'far', ttl => '1 h')")
    for turn in range(5):
        either.sql("SELECT reserve_stock('a', 1, %s, ttl => %s)",
                   (f"o-{turn}", f"{2000 - 150 * turn} ms"))
    wait_expired(either, 5)
    late = lateness(either)
    print(late)
    assert max(late.values()) < LATE_S, late
    assert either.level("a") == (100, 1, 99)


def test_an_earlier_one_wakes_the_server(kept):
    """Each line is due earlier than the time that the server sleeps for, down
    to the shortest lifetime."""
    kept.sql("SELECT receive_stock('a', 1000)")
    kept.sql("SELECT reserve_stock('a', 1, 'far', ttl => '1 h')")
    with closing(kept.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for turn in range(30):
            cur.execute("SELECT reserve_stock('a', 1, %s, ttl => %s)",
                        (f"o-{turn}", f"{turn * 13 % 120 + 1} ms"))
            if turn % 3 == 0:
                wait_expired(kept, turn + 1)
    wait_expired(kept, 30)
    late = lateness(kept)
    print(sorted(late.values()))
    assert max(late.values()) < LATE_S, late


def test_an_idle_database_has_no_session_in_it(kept, preloaded):
    """DROP, RENAME, TEMPLATE and the extension's DDL go through."""
    kept.sql("SELECT receive_stock('a', 1000)")
    kept.sql("SELECT reserve_stock('a', 1, 'far', ttl => '1 h')")
    wait_until(lambda: not sessions(preloaded, "pgstock keeper worker"), 10,
               "a worker stays")
    assert len(sessions(preloaded, "pgstock keeper")) == 1
    for turn in range(100):         # one is due every 100 ms, all the time
        kept.sql("SELECT reserve_stock('a', 1, %s, ttl => %s)",
                 (f"o-{turn}", f"{500 + turn * 100} ms"))
    admin = Database(preloaded, "postgres")
    admin.sql(f'CREATE DATABASE "{kept.name}-copy" TEMPLATE "{kept.name}"')
    admin.sql(f'ALTER DATABASE "{kept.name}" RENAME TO "{kept.name}-old"')
    admin.sql(f'ALTER DATABASE "{kept.name}-old" RENAME TO "{kept.name}"')
    copy = Database(preloaded, f"{kept.name}-copy")
    copy.sql("SELECT reserve_stock('a', 1, 'new', ttl => '1 ms')")
    wait_expired(copy, 101, 30)
    kept.sql("DROP EXTENSION pgstock")
    kept.sql("DROP SCHEMA IF EXISTS pgstock_internal")
    kept.sql("CREATE EXTENSION pgstock")
    kept.sql("SELECT receive_stock('a', 2)")
    kept.sql("SELECT reserve_stock('a', 1, 'again', ttl => '200 ms')")
    wait_expired(kept, 1)
    for turn in range(100):
        copy.sql("SELECT reserve_stock('a', 1, %s, ttl => %s)",
                 (f"d-{turn}", f"{turn * 100 + 1} ms"))
    oid = copy.value("SELECT oid FROM pg_database"
                     " WHERE datname = current_database()")
    admin.sql(f'DROP DATABASE "{copy.name}"')      # without FORCE
    # A worker that waited to connect finds it dropped, and is not retried.
    kept.sql("SELECT reserve_stock('a', 1, 'later', ttl => '1500 ms')")
    wait_expired(kept, 2)
    assert preloaded.log().count(f"database {oid} does not exist") < 3


def test_a_level_that_is_kept_does_not_hold_up_others(either):
    """An application keeps one product's lock in an open transaction."""
    either.sql("SELECT receive_stock('kept', 10), receive_stock('free', 10),"
               " receive_stock('zzz', 10)")
    for product in ("free", "kept", "zzz"):
        either.sql("SELECT reserve_stock(%s, 1, %s, ttl => '1500 ms')",
                   (product, product))
    with closing(either.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT reserve_stock('kept', 1, 'app')")
        wait_expired(either, 2)
        late = lateness(either)
        assert max(late.values()) < LATE_S, late
        with closing(either.connect()) as other, other.cursor() as buyer:
            # upkeep that waits for "kept" holds no other level
            buyer.execute("SET lock_timeout = '1s'")
            for turn in range(20):
                buyer.execute("SELECT reserve_stock('free', 1, %s)",
                              (f"buyer-{turn % 5}",))
                other.commit()
        conn.commit()
    wait_expired(either, 3)


@pytest.mark.alone
@pytest.mark.parametrize("orders", [2000])
def test_a_long_backlog_lets_others_work(either, orders):
    """And the sessions that expire lines at the same time double nothing."""
    reserve_many(either, orders)
    either.sql("SELECT receive_stock('hot', 1000000)")
    make_due(either)
    began = time.monotonic()
    slowest = 0
    with closing(either.connect()) as conn, conn.cursor() as cur, \
            closing(either.connect()) as hand, hand.cursor() as by_hand:
        conn.autocommit = hand.autocommit = True
        turn = 0
        while written(either, "e") < orders * 10 + 1:
            before = time.monotonic()
            cur.execute("SELECT reserve_stock('hot', 1, %s)", (f"h-{turn}",))
            cur.execute("SELECT reserve_stock(%s, 1, %s)",
                        (f"p-{turn % 100}", f"g-{turn}"))
            slowest = max(slowest, time.monotonic() - before)
            if turn % 10 == 0:
                by_hand.execute("SELECT expire_reservations(50)")
            turn += 1
            assert time.monotonic() - began < 60
    print(f"{orders * 10} lines in {time.monotonic() - began:.1f} s,"
          f" slowest call of {turn}: {slowest * 1000:.0f} ms")
    assert slowest < 1
    check_once(either, orders, 10)


@pytest.mark.parametrize("way", ["preloaded", "relay"])
def test_kill_9_in_the_middle(way, run, kafka, relays):
    """The server is killed while half of the lines have expired, and continues
    by itself."""
    server = Postgres(os.path.join(run, f"postgres-kill-{way}"),
                      PRELOAD if way == "preloaded" else {}).init().start()
    try:
        db = server.create_database("shop")
        orders = 1000
        reserve_many(db, orders)
        relay = relays(db.conninfo(), kafka.brokers).start()
        make_due(db)
        for part in (1, 3, 6):
            wait_until(lambda n=part: written(db, "e") >= n * orders, 60,
                       "no line expires")
            server.kill9()
            server.start()
        wait_expired(db, orders * 10 + 1, 60)
        check_once(db, orders, 10)
        with kafka.tail("stock-events") as tail:
            check_all(db, tail)
            ends = {record.key for record in
                    of_type(tail.records, "StockExpired")}
            assert len(ends) == orders + 1
        told = relay.metric("reservation_ends_total", state="expired")
        assert told >= orders + 1
        wait_until(lambda: relay.metric("reservations_overdue") == 0, 20,
                   "some are still overdue")
        assert relay.terminate() == 0
    finally:
        server.close()


def test_the_worker_gives_way_to_drop_extension(kept):
    """The worker runs as soon as the extension exists, and locks its objects
    in another order than DROP EXTENSION does."""
    with closing(kept.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for turn in range(40):
            cur.execute("SELECT receive_stock('a', 100)")
            for order in range(turn % 4 + 1):
                cur.execute("SELECT reserve_stock('a', 1, %s, ttl => '1 ms')",
                            (f"o-{order}",))
            cur.execute("DROP EXTENSION pgstock")
            cur.execute("CREATE EXTENSION pgstock")
        # an uncommitted one: the worker does not wait, and continues
        cur.execute("SELECT receive_stock('a', 100)")
        cur.execute("BEGIN; DROP EXTENSION pgstock")
        assert kept.sql("SELECT pid FROM pg_stat_activity WHERE backend_type ="
                        " 'pgstock keeper worker' AND wait_event_type = 'Lock'"
                        " AND datname = %s", (kept.name,)) == []
        cur.execute("ROLLBACK")
        cur.execute("SELECT reserve_stock('a', 1, 'last', ttl => '1 ms')")
    wait_expired(kept, 1)
    assert "deadlock detected" not in kept.pg.log()


@pytest.mark.long
def test_a_clock_that_was_ahead(run):
    """The times stored meanwhile (the next look, the next purge) lie a month
    ahead; the worker still exits a second later."""
    server = settable_clock(Postgres(os.path.join(run, "postgres-clock"),
                                     PRELOAD).init()).start()
    try:
        db = server.create_database("clock")
        db.sql("SELECT receive_stock('a', 10)")
        db.sql("SELECT reserve_stock('a', 1, 'plain', ttl => '0')")
        with clock_is_ahead(server):
            db.sql("SELECT reserve_stock('a', 1, 'ahead', ttl => '1 ms')")
            db.sql("SELECT pg_reload_conf()")   # sleepers look at the clock
            wait_expired(db, 1)
        wait_until(lambda: not sessions(server, "pgstock keeper worker"), 20,
                   "a worker stays")
        # nothing announces this one: the look once a minute finds it
        db.sql("UPDATE pgstock_internal.reservation SET due_at = now(),"
               " expires_at = now() WHERE order_id = 'plain'")
        db.sql("SELECT pg_reload_conf()")
        wait_expired(db, 2, 90)
    finally:
        server.close()


# Settings of a database that must not affect pgstock's sessions.
ODD_SETTINGS = {
    "role": "odd_role", "search_path": "odd_schema",
    "standard_conforming_strings": "off", "row_security": "off",
    "session_replication_role": "replica",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1ms", "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1s", "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard", "bytea_output": "escape",
    "TimeZone": "Asia/Kathmandu", "extra_float_digits": "-15",
    "work_mem": "64", "jit": "on", "jit_above_cost": "0",
    "transform_null_equals": "on", "array_nulls": "off",
    "quote_all_identifiers": "on", "enable_indexscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "plpgsql.variable_conflict": "use_variable",
    "plpgsql.extra_errors": "all", "backslash_quote": "on",
}


@pytest.mark.parametrize("place", ["kept", "db"])
def test_no_setting_of_a_database_reaches_us(place, request, kafka, relays):
    """Neither the worker, which has expired its lines before a relay starts,
    nor the relay."""
    db = request.getfixturevalue(place)
    db.sql("SELECT receive_stock('a', 100)")
    db.sql("DROP ROLE IF EXISTS odd_role")
    db.sql("CREATE ROLE odd_role")
    db.sql("LOAD 'plpgsql'")
    plain = {"options": "".join(f" -c {name}={value}" for name, value in (
        ("role", "none"), ("search_path", "public"), ("statement_timeout", "0"),
        ("lock_timeout", "0"), ("default_transaction_read_only", "off"),
        ("standard_conforming_strings", "on"), ("extra_float_digits", "1"),
        ("idle_in_transaction_session_timeout", "0"),
        ("default_transaction_isolation", "read\\ committed"),
        ("idle_session_timeout", "0"), ("session_replication_role", "origin")))}
    for name, value in ODD_SETTINGS.items():
        db.sql(f"ALTER DATABASE \"{db.name}\" SET {name} = '{value}'",
                   **plain)
    try:
        relay = relays(db.conninfo(), kafka.brokers)
        if place == "db":
            relay.start()
        for turn in range(3):
            db.sql("SELECT reserve_stock('a', 1, %s, ttl => '1 s')",
                       (f"odd-{turn}",), **plain)
        wait_until(lambda: db.value(
            "SELECT count(*) FROM pgstock_internal.reservation WHERE"
            " state = 'e' AND order_id ~ '^odd'", **plain) == 3, 20, "expired")
        if place == "kept":
            relay.start()
        with kafka.tail("stock-events") as tail:
            tail.until(lambda r: len(of_type(r, "StockExpired")) >= 3, 20,
                       "all are published")
        wait_until(lambda: relay.metric("outbox_pending_events") == 0, 20,
                   "pending is wrong")
        assert relay.get("/readyz")[0] == 200
        assert "upkeep" not in relay.log(), relay.tail()
        assert relay.terminate() == 0
        done = relay.command("check")
        assert done.returncode == 0, done.stderr + done.stdout
    finally:
        db.sql(f'ALTER DATABASE "{db.name}" RESET ALL', **plain)
        db.sql("DROP OWNED BY odd_role; DROP ROLE odd_role")


def test_processes_that_die_are_replaced(kept, preloaded):
    """A worker's crash restarts the server, a launcher's end the launcher."""
    kept.sql("SELECT receive_stock('a', 1000)")
    for turn in range(40):
        kept.sql("SELECT reserve_stock('a', 1, %s, ttl => %s)",
                 (f"o-{turn}", f"{turn * 250 + 1} ms"))
    (launcher,) = sessions(preloaded, "pgstock keeper")
    os.kill(launcher, 15)
    wait_until(lambda: sessions(preloaded, "pgstock keeper")
               not in ([], [launcher]), 20, "no new launcher")
    wait_until(lambda: sessions(preloaded, "pgstock keeper worker"), 20,
               "no worker")
    for pid in sessions(preloaded, "pgstock keeper worker"):
        preloaded.kill_backend(pid)
    wait_expired(kept, 40, 30)
    preloaded.restart()
    kept.sql("SELECT reserve_stock('a', 1, 'late', ttl => '10 ms')")
    wait_expired(kept, 41)


def test_a_look_that_fails_is_repeated(kept):
    """After any error the database is looked at again."""
    kept.sql("SELECT receive_stock('a', 10)")
    kept.sql("ALTER FUNCTION pgstock_internal.expire_due RENAME TO away")
    kept.sql("SELECT reserve_stock('a', 1, 'o', ttl => '1 ms')")
    wait_until(lambda: "expire_due(integer) does not exist"
               in kept.pg.log(), 20, "no look has failed")
    kept.sql("ALTER FUNCTION pgstock_internal.away RENAME TO expire_due")
    wait_expired(kept, 1)


def test_a_schema_of_our_name_is_not_ours(kept, preloaded):
    """The story: a database's owner, no superuser, creates a schema of our
    name, with functions of the names that the keeper calls as a superuser. The
    keeper checks for the extension first."""
    admin = Database(preloaded, "postgres")
    mimic = preloaded.create_database("mimic", extension=False)
    admin.sql("CREATE ROLE mimic LOGIN")
    admin.sql("ALTER DATABASE mimic OWNER TO mimic")
    for statement in (
            "CREATE SCHEMA pgstock_internal",
            "CREATE TABLE pgstock_internal.ran (who name)",
            *(f"CREATE FUNCTION pgstock_internal.{name}(max_rows int) RETURNS"
              " bigint LANGUAGE sql AS 'INSERT INTO pgstock_internal.ran VALUES"
              " (current_user); SELECT 1000000::bigint'"
              for name in ("expire_due", "purge_old"))):
        mimic.sql(statement, user="mimic")
    looks = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'mimic'"
    before = admin.value(looks)
    preloaded.restart()
    kept.sql("SELECT receive_stock('a', 10)")
    kept.sql("SELECT reserve_stock('a', 1, 'o', ttl => '1 ms')")
    wait_expired(kept, 1)
    wait_until(lambda: admin.value(looks) > before, 30, "no worker looked")
    assert mimic.sql("SELECT * FROM pgstock_internal.ran") == []
    mimic.drop()
    admin.sql("DROP ROLE mimic")


def test_a_standby_begins_when_it_is_promoted(kept, preloaded, run):
    kept.sql("SELECT receive_stock('a', 10)")
    kept.sql("SELECT reserve_stock('a', 1, 'o', ttl => '1 h')")
    standby = Postgres(os.path.join(run, "postgres-standby"), PRELOAD)
    run_tool([standby.bin("pg_basebackup"),
              *preloaded.tool_args("postgres")[:6],
              "-D", standby.data, "-R", "-c", "fast"])
    try:
        standby.start()
        copy = Database(standby, kept.name)
        assert copy.value("SELECT pg_is_in_recovery()")
        assert copy.level("a") == (10, 1, 9)
        assert sessions(standby, "pgstock keeper") == []
        copy.sql("SELECT pg_promote()")
        copy.sql("SELECT reserve_stock('a', 1, 'new', ttl => '1 ms')")
        wait_expired(copy, 1)
        assert len(sessions(standby, "pgstock keeper")) == 1
        assert copy.drift() == []
    finally:
        standby.close()


def test_an_order_whose_event_is_too_large(either):
    """It has grown piece by piece; it must not delay all others."""
    either.sql("SELECT count(receive_stock('a-' || i, 9)),"
               " count(reserve_stock('a-' || i, 1, 'o', ttl => '1 h'))"
               " FROM generate_series(1, 30) i")
    either.sql("SELECT reserve_stock('a-1', 1, 'z', ttl => '1 h')")
    alter_system(either, "SET pgstock.max_event_bytes = 1500")
    try:
        wait_until(lambda: either.value("SELECT current_setting("
                                        "'pgstock.max_event_bytes', true)")
                   == "1500", 10, "the setting")
        make_due(either)
        wait_expired(either, 32)
    finally:
        alter_system(either, "RESET pgstock.max_event_bytes")


def test_the_relay_steps_in_for_a_server_that_cannot(run, kafka, relays):
    """Preloaded, but there is no room for a worker."""
    server = Postgres(os.path.join(run, "postgres-full"), {
        **PRELOAD, "max_worker_processes": 1,
        "max_logical_replication_workers": 0}).init().start()
    try:
        db = server.create_database("shop")
        db.sql("SELECT receive_stock('a', 10)")
        db.sql("SELECT reserve_stock('a', 1, 'o', ttl => '10 ms')")
        relays(db.conninfo(), kafka.brokers).start()
        wait_expired(db, 1, 30)
        assert db.drift() == []
    finally:
        server.close()


@pytest.mark.parametrize("way", ["preloaded", "relay"])
def test_old_history_is_deleted(way, request):
    """At history_retention, in batches; the ledger still adds up."""
    either = request.getfixturevalue("kept" if way == "preloaded" else "db")
    either.sql("SELECT receive_stock('a', 100000), receive_stock('b', 1)")
    either.sql("DO $$ BEGIN FOR i IN 1..3000 LOOP"
               " PERFORM reserve_stock('a', 1, 'o-' || i);"
               " PERFORM release_stock('o-' || i); END LOOP; END $$")
    either.sql("SELECT reserve_stock('a', 2, 'stays')")
    either.sql("SELECT try_reserve_stock('a', 1, 'k', idempotency_key => 'k')")
    either.sql("UPDATE pgstock_internal.idempotency"
               " SET created_at = now() - interval '25 h'")
    either.sql("UPDATE pgstock_internal.movement SET at = at - interval '91 d'")
    either.sql("UPDATE pgstock_internal.reservation"
               " SET ended_at = ended_at - interval '91 d'")
    if way == "preloaded":          # at its start, then each minute
        either.pg.restart()
    else:
        request.getfixturevalue("start_relay")()
    wait_until(lambda: either.value(
        "SELECT count(*) FROM stock_movements WHERE kind <> 'opening'") == 0,
        90, lambda: either.sql("SELECT kind, count(*) FROM stock_movements"
                               " GROUP BY 1"))
    wait_until(lambda: lines(either, "released") == 0
               and either.value("SELECT count(*) FROM"
                                " pgstock_internal.idempotency") == 0,
               30, "ended lines and keys")
    assert either.sql("SELECT product_id, on_hand_delta, reserved_delta"
                      " FROM stock_movements ORDER BY 1") == [
                          ("a", 100000, 3), ("b", 1, 0)]
    assert lines(either, "reserved") == 2
    assert either.drift() == []


def test_another_library_is_preloaded(kept):
    """The script is newer than the library that the server holds: a new
    session has the old library too, so the hint is to restart."""
    ours = kept.value("SELECT extversion FROM pg_extension"
                      " WHERE extname = 'pgstock'")
    kept.sql("UPDATE pg_extension SET extversion = '99'"
             " WHERE extname = 'pgstock'")
    with pytest.raises(psycopg2.OperationalError) as error:
        kept.sql("SELECT receive_stock('a', 1)")
    assert "restart PostgreSQL" in error.value.diag.message_hint
    kept.sql("UPDATE pg_extension SET extversion = %s"
             " WHERE extname = 'pgstock'", (ours,))
    assert kept.value("SELECT receive_stock('a', 1)") == 1
