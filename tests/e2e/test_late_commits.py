# SPDX-License-Identifier: PostgreSQL
"""P2, the outbox poller's classic: order of numbers is not order of commits.

A relay that remembers "the last seq" or "the last xid" loses a transaction
that began early and committed late. One that waits for the oldest running
transaction loses nothing, but then any open session, anywhere in the cluster,
stalls all events.
"""

import random
import time
from contextlib import closing

import pytest

from checks import check_all, of_type, wait_complete
from load import Clients
from process import wait_until


def reserve(cur, name):
    cur.execute("SELECT reserve_stock('book', 1, %s)", (name,))


def keys(records):
    return [r.key.decode() for r in of_type(records, "StockReserved")]


def test_early_transaction_commits_late(db, kafka, start_relay):
    """A draws its xid and its seq first, B and C are published, then A
    commits; then the same with an aborted one in the middle."""
    db.sql("SELECT receive_stock(p, 100) FROM unnest('{a,b,c}'::text[]) p")
    start_relay({"outbox": {"poll_interval": "100ms"}})
    with kafka.tail("stock-events") as tail, \
            closing(db.connect()) as early, closing(db.connect()) as aborted:
        with early.cursor() as cur, aborted.cursor() as cur2:
            cur.execute("SELECT reserve_stock('a', 1, 'early')")
            cur2.execute("SELECT reserve_stock('b', 1, 'aborted')")
            db.sql("SELECT reserve_stock('c', 1, 'later')")
            tail.until(lambda r: keys(r) == ["later"], 5, "the later one")
            for number in range(30):
                db.sql("SELECT reserve_stock('c', 1, %s)", (f"n-{number}",))
            tail.until(lambda r: len(keys(r)) == 31, 5, "thirty more")
            aborted.rollback()
            early.commit()
            tail.until(lambda r: "early" in keys(r), 5, "the early one")
        assert len(tail.read_to_end()) == 35
        check_all(db, tail)


@pytest.mark.alone
def test_no_event_waits_for_an_open_transaction(db, pg, kafka, start_relay):
    """Open for the whole test: one in this database that has written to the
    outbox, one that only holds a snapshot, one in another database with an
    xid, and one idle in a prepared state."""
    db.sql("SELECT receive_stock('book', 100), receive_stock('other', 9)")
    elsewhere = pg.create_database(f"{db.name}_elsewhere", extension=False)
    start_relay()
    try:
        with closing(db.connect()) as writer, closing(db.connect()) as reader,\
                closing(elsewhere.connect()) as foreign:
            writer.cursor().execute("SELECT reserve_stock('other', 1, 'open')")
            reader.set_session(isolation_level="REPEATABLE READ")
            reader.cursor().execute("SELECT count(*) FROM stock_levels")
            foreign.cursor().execute("CREATE TABLE t ()")
            with kafka.tail("stock-events") as tail:
                tail.until(lambda r: len(r) == 2, 5, "the received stock")
                for number in range(20):
                    started = time.monotonic()
                    db.sql("SELECT reserve_stock('book', 1, %s)",
                           (f"o-{number}",))
                    tail.until(lambda r, n=number: len(keys(r)) == n + 1, 2,
                               "an event beside open transactions")
                    assert time.monotonic() - started < 1
                assert "open" not in keys(tail.records)
                writer.commit()
                tail.until(lambda r: "open" in keys(r), 5, "the writer's own")
                check_all(db, tail)
    finally:
        elsewhere.drop()


def test_prepared_transaction(db, kafka, start_relay):
    """PREPARE detaches from the session, keeps its locks and its xid, and
    survives a restart of the relay; COMMIT PREPARED sends no wake-up, the poll
    must find it."""
    db.sql("SELECT receive_stock('book', 100), receive_stock('other', 9)")
    relay = start_relay({"outbox": {"poll_interval": "200ms"}})
    for name in ("kept", "dropped"):
        with closing(db.connect()) as conn:
            conn.tpc_begin(conn.xid(1, f"{db.name}-{name}", ""))
            conn.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                                  ("book" if name == "kept" else "other",
                                   name))
            conn.tpc_prepare()
    with kafka.tail("stock-events") as tail:
        db.sql("SELECT publish_event('stock-events', 'beside', '{}')")
        tail.until(lambda r: len(r) == 3, 5, "an event beside the prepared")
        assert keys(tail.read_to_end()) == []
        relay.kill9()
        relay.start()
        with closing(db.connect()) as conn:
            found = {xid.gtrid: xid for xid in conn.tpc_recover()
                     if xid.gtrid.startswith(f"{db.name}-")}
            conn.tpc_rollback(found[f"{db.name}-dropped"])
            conn.tpc_commit(found[f"{db.name}-kept"])
        tail.until(lambda r: keys(r) == ["kept"], 5, "the prepared one")
        check_all(db, tail)
    assert db.level("book") == (100, 1, 99)
    assert db.level("other") == (9, 0, 9)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_crowd_of_late_commits(db, kafka, start_relay, isolation):
    """Many sessions that each draw their number and commit after a random
    while, so that every window holds transactions that began before it, and
    some whose xid is above every completed one (a snapshot does not list
    those as running). The database's default isolation must not change what
    the relay sees, for it may be set for the application's sake."""
    db.sql(f'ALTER DATABASE "{db.name}" SET default_transaction_isolation ='
           f" '{isolation}'")
    db.sql("SELECT receive_stock('p' || i, 100000)"
           " FROM generate_series(0, 23) i")
    start_relay({"outbox": {"poll_interval": "10ms"}})

    def work(cur, name):
        if random.random() < 0.5:
            cur.execute("SELECT publish_event('stock-events', %s, '{}')",
                        (name,))
        cur.execute("SELECT reserve_stock(%s, 1, %s)",
                    (f"p{name.split('-')[1]}", name))
        time.sleep(random.choice((0, 0, 0, 0, 0.002, 0.05, 0.3)))
        if random.random() < 0.1:
            cur.connection.rollback()

    with Clients(db, 24, work) as clients:
        wait_until(lambda: len(clients.acknowledged) > 2000, 60,
                   lambda: f"only {len(clients.acknowledged)} have committed")
    total = db.value("SELECT count(*) FROM stock_outbox")
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 20)
        check_all(db, tail)
        assert len(tail.records) == total   # nothing was killed: no repeat


def test_floor_is_never_ahead(db):
    """nextval sets the sequence's last_value 32 ahead for an instant, each
    time it writes WAL. A window that takes that for its floor skips events
    drawn below it later; from outside, the floor seems to move back."""
    def draw(cur, _):
        cur.execute("SELECT count(nextval('pgstock_internal.outbox_seq'))"
                    " FROM generate_series(1, 10000)")

    with Clients(db, 2, draw):
        db.sql("""
            DO $$
            DECLARE
                next    text := pgstock_internal.first_window();
                floor   bigint := 0;
                w       pgstock_internal.outbox_window;
            BEGIN
                FOR i IN 1 .. 100000 LOOP
                    next := pgstock_internal.relay_next_window(next);
                    w := next;
                    ASSERT w.s2_floor >= floor AND w.ceiling >= w.s2_floor,
                        format('window %s: %s after %s', i, w, floor);
                    floor := w.s2_floor;
                END LOOP;
            END
            $$""")
