# SPDX-License-Identifier: PostgreSQL
"""P5: a client gets "reserved" only when its commit is durable.

The race: early lock release lets other sessions see a reservation before its
commit record is on disk. A session that reads it may answer "already
reserved", a relay may publish it, and then a crash undoes it. So the answer,
and the event, wait until the commit that they rest on is on disk.

The server's WAL writer sleeps here for ten seconds at a time: commits that no
session waited for are lost with near certainty, as the control shows. This
server also preloads the extension; in most other tests no server does.
"""


import pytest

from checks import check_all, wait_stored
from cluster import Postgres
from load import Clients

ROUNDS = 3


@pytest.fixture(scope="module")
def pg(new_dir):
    server = Postgres(new_dir("postgres-durable"), {
        "fsync": "on", "wal_writer_delay": "'10s'",
        "wal_writer_flush_after": "'1GB'", "wal_buffers": "'64MB'",
        "autovacuum": "off", "shared_preload_libraries": "pgstock"})
    server.init().start()
    yield server
    server.close()


def pair(name):
    """Two clients share each order's name: o-6-n and o-7-n are o-3-n."""
    _, number, turn = name.split("-")
    return f"o-{int(number) // 2}-{turn}"


def crash_under_load(db, pg, work):
    """The orders that were acknowledged and lost in the crashes."""
    db.sql("SELECT receive_stock('hot', 100000000)")
    with Clients(db, 24, work) as clients:
        for _ in range(ROUNDS):
            clients.progress(1000)
            pg.kill9()
            pg.start()
    there = {order for (order,) in
             db.sql("SELECT order_id FROM stock_reservations")}
    told = {pair(name) for name in clients.acknowledged}
    print(f"{len(told)} orders acknowledged, {len(told - there)} lost")
    assert db.drift() == []
    return told - there


def test_no_acknowledged_reservation_is_lost(db, pg, kafka, start_relay):
    """Two clients request each order, so that half of the answers are replays,
    which write nothing themselves."""
    start_relay()

    def work(cur, name):
        cur.execute("SELECT replayed FROM reserve_stock('hot', 1, %s)",
                    (pair(name),))
        return cur.fetchone()[0]

    assert crash_under_load(db, pg, work) == set()
    with kafka.tail("stock-events") as tail:
        db.sql("SELECT publish_event('stock-events', 'the last', '{}')")
        wait_stored(db)             # and so is what was sent in error
        check_all(db, tail)


def test_the_control_does_lose(db, pg):
    """With synchronous_commit off nothing is guaranteed, and the crash of the
    test above loses some orders: so that test can fail."""
    def work(cur, name):
        cur.execute("SET LOCAL synchronous_commit = off")
        cur.execute("SELECT reserve_stock('hot', 1, %s)", (pair(name),))

    assert crash_under_load(db, pg, work) != set()
