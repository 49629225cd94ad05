# SPDX-License-Identifier: PostgreSQL
"""P2 across promotion, point-in-time recovery and pg_upgrade: Kafka gets every
event that the database has, from whichever history.

The position lies in the database, so it went back as far as everything else
did, and the next transaction ids were all used before, for rows that Kafka has
and this database has not. A relay that kept a position in its memory, or
anywhere else, would confuse the new rows with those.
"""

import os

import pytest

from checks import check_order, first_occurrences, wait_complete
from cluster import HOST, Database, Postgres
from load import Clients
from process import make_dir, run_tool, wait_until
from test_history import adopt, refused
from test_standby import Pair

pytestmark = pytest.mark.proof


def sell(db, prefix, count):
    for number in range(count):
        db.sql("SELECT reserve_stock('book', 1, %s)", (f"{prefix}-{number}",))


def orders(db):
    return {order.split("-")[0] for (order,) in
            db.sql("SELECT order_id FROM stock_reservations")}


def check_goes_on(db, tail):
    """Every event of this database is there; in the order of each key."""
    sell(db, "new", 40)
    wait_complete(db, tail)
    ours = {str(event) for (event,) in
            db.sql("SELECT event_id FROM stock_outbox")}
    check_order([record for record in first_occurrences(tail.read_to_end())
                 if record.header("ce_id") in ours])
    assert db.drift() == []


def make_pair(run, name, synchronous):
    return Pair(Postgres(os.path.join(run, f"{name}-primary")),
                os.path.join(run, f"{name}-standby"), synchronous=synchronous)


def test_a_synchronous_standby_under_load(run, kafka, relays):
    pair = make_pair(run, "sync", True)
    try:
        relay = relays(pair.both_hosts(), kafka.brokers).start()
        with kafka.tail("stock-events") as tail:
            with Clients(pair.db, 6, lambda cur, name: cur.execute(
                    "SELECT reserve_stock('book', 1, %s)",
                    (name,))) as clients:
                wait_until(lambda: len(clients.acknowledged) > 500, 60,
                           "the clients make no progress")
                pair.primary.kill9()
            copy = pair.fail_over()
            stored = {order for (order,) in copy.sql(
                "SELECT order_id FROM stock_reservations")}
            assert set(clients.acknowledged) <= stored
            check_goes_on(copy, tail)
        relay.wait_ok("/readyz")
    finally:
        pair.close()


def test_an_asynchronous_standby_that_is_behind(run, kafka, relays):
    """Kafka has events of rows that the new primary never received. Their ids
    and numbers are used again there, and none of the new ones is skipped."""
    pair = make_pair(run, "async", False)
    try:
        relay = relays(pair.both_hosts(), kafka.brokers).start()
        with kafka.tail("stock-events") as tail:
            sell(pair.db, "both", 30)
            wait_until(lambda: pair.copy.sql(
                "SELECT 1 FROM stock_reservations WHERE order_id = 'both-29'"),
                30, "the standby has them")
            with pair.cut_off():
                sell(pair.db, "lost", 30)
                wait_complete(pair.db, tail)
                pair.primary.kill9()
            copy = pair.fail_over()
            assert orders(copy) == {"both"}
            check_goes_on(copy, tail)
            assert any(r.key.startswith(b"lost") for r in tail.records)
        relay.wait_ok("/readyz")
    finally:
        pair.close()


def test_a_position_that_may_pass_what_was_set_aside(run, kafka, relays):
    """Transactional mode: Kafka's position counts after a fail-over too, but
    not if a topic was held. Events of it may have been set aside, and lost in
    the fail-over."""
    pair = make_pair(run, "held", False)
    stored = 'SELECT "window", seq FROM pgstock_internal.relay_position'
    further = """SELECT (pgstock_internal.relay_position(convert_to(
        jsonb_build_object('window', p."window", 'seq', p.seq + 1000,
            'finished', true, 'epoch', p.stored_epoch, 'held', %s)::text,
            'UTF8'))).seq
            = p.seq + 1000 FROM pgstock_internal.relay_position p"""
    try:
        relay = relays(pair.db.conninfo(), kafka.brokers,
                       {"outbox": {"mode": "transactional"}}).start()
        sell(pair.db, "both", 1)
        with kafka.tail("stock-events") as tail:
            wait_complete(pair.db, tail)
        assert relay.terminate() == 0
        assert pair.db.value(further, (True,))
        assert pair.db.value(further, (False,))
        wait_until(lambda: pair.copy.sql(stored) == pair.db.sql(stored), 30,
                   "the standby has the position")
        pair.primary.kill9()
        copy = pair.fail_over()
        assert copy.value(further, (False,)) is True
        assert copy.value(further, (True,)) is False
    finally:
        pair.close()


def test_back_to_a_point_in_time(run, kafka, relays):
    archive = make_dir(os.path.join(run, "archive"))
    old = Postgres(os.path.join(run, "before"), {
        "archive_mode": "on", "archive_command": f"'cp %p {archive}/%f'"})
    new = Postgres(os.path.join(run, "after"))
    try:
        db = old.init().start().create_database("shop")
        db.sql("SELECT receive_stock('book', 1000)")
        make_dir(new.directory)
        run_tool([old.bin("pg_basebackup"), "-D", new.data, "-c", "fast", "-d",
                  f"host={HOST} port={old.port} user=postgres"])
        relay = relays(db.conninfo(), kafka.brokers).start()
        with kafka.tail("stock-events") as tail:
            sell(db, "kept", 20)
            wait_complete(db, tail)
            db.sql("SELECT pg_create_restore_point('here')")
            sell(db, "undone", 20)
            wait_complete(db, tail)
            assert relay.terminate() == 0
            old.stop()
            with open(os.path.join(new.data, "postgresql.auto.conf"), "a",
                      encoding="ascii") as file:
                file.write("archive_mode = off\n"
                           f"restore_command = 'cp {archive}/%f %p'\n"
                           "recovery_target_name = 'here'\n"
                           "recovery_target_action = 'promote'\n")
            run_tool(["touch", os.path.join(new.data, "recovery.signal")])
            restored = Database(new.start(), "shop")
            wait_until(lambda: not restored.value("SELECT pg_is_in_recovery()"),
                       30, "it is promoted")
            assert orders(restored) == {"kept"}
            relay = relays(restored.conninfo(), kafka.brokers).start()
            check_goes_on(restored, tail)
    finally:
        old.close()
        new.close()


def test_pg_upgrade(run, kafka, relays):
    """Another system id, the same rows: the relay stops with an error, and
    after adopt nothing is missing."""
    old = Postgres(os.path.join(run, "upgrade-old"))
    new = Postgres(os.path.join(run, "upgrade-new"))
    try:
        db = old.init().start().create_database("shop")
        db.sql("SELECT receive_stock('book', 1000)")
        relay = relays(db.conninfo(), kafka.brokers).start()
        with kafka.tail("stock-events") as tail:
            sell(db, "sent", 20)
            wait_complete(db, tail)
            assert relay.terminate() == 0
            sell(db, "unsent", 5)
            old.stop()
            new.init()
            for server in old, new:     # pg_upgrade connects by a socket
                with open(os.path.join(server.data, "pg_hba.conf"), "a",
                          encoding="ascii") as file:
                    file.write("local all all trust\n")
            run_tool([old.bin("pg_upgrade"), "-U", "postgres",
                      "-b", os.path.dirname(old.bin("postgres")),
                      "-B", os.path.dirname(new.bin("postgres")),
                      "-d", old.data, "-D", new.data, "-s", new.directory,
                      "-p", str(old.port), "-P", str(new.port)],
                     cwd=new.directory)
            upgraded = Database(new.start(), "shop")
            relay = relays(upgraded.conninfo(), kafka.brokers)
            relay.start(wait=None)
            refused(relay)
            adopt(relay)
            relay.start()
            check_goes_on(upgraded, tail)
            assert orders(upgraded) == {"sent", "unsent", "new"}
    finally:
        old.close()
        new.close()
