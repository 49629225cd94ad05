# SPDX-License-Identifier: PostgreSQL
"""P1, P5: kill -9 of the postmaster, twenty times, each at a moment of its
own: no acknowledged answer is lost, and nothing happens twice.

The disk is slow, so that at every moment there are commits that other sessions
see and that are not flushed; and a client whose session broke repeats its
call, for it cannot know the result. In either case a reservation could be lost
or doubled. The control is the same test without the extension's flush.
"""

import os
import random
import threading
from collections import Counter

import psycopg2
import pytest

from cluster import Postgres
from load import Clients
from mutant import NO_ERROR_FENCE, NO_FENCE, NO_FLUSH, Mutant
from process import NotReached, wait_until
from slow import SETTINGS, disk_stands_still, slow_disk

pytestmark = pytest.mark.proof

KILLS = 20
PRODUCTS = ("hot", "hot", "warm", "cold")
FATES = (None, "confirm", "release")
STATES = {"confirm": "confirmed", "release": "released"}


@pytest.fixture(scope="module")
def pg(new_dir):
    server = Postgres(new_dir("postgres-kills"), SETTINGS).init()
    yield slow_disk(server, flush_us=2000).start()
    server.close()


def mutant(run, name, change):
    server = Mutant(os.path.join(run, f"postgres-{name}"), *change, SETTINGS)
    return slow_disk(server.init(), flush_us=2000).start()


class Shop:
    """The clients' work, and the answers that they got."""

    def __init__(self, db):
        self.db = db
        self.told = {}                  # order: state
        self.opened = threading.Event()
        self.opened.set()
        db.sql("SELECT receive_stock(p, 1000000000)"
               " FROM unnest(%s) p", (sorted(set(PRODUCTS)),))

    def work(self, cur, name):
        """Two clients share an order, unless it is one to be released: one of
        them gets the answer to the other's call."""
        _, number, turn = name.split("-")
        fate = FATES[int(turn) % 3]
        order = name if fate == "release" else f"o-{int(number) // 2}-{turn}"
        rng = random.Random(order)
        self.opened.wait()
        cur.execute("SELECT reserve_stock(%s, 1, %s)",
                    (rng.choice(PRODUCTS), order))
        if rng.random() < 0.5:
            cur.connection.commit()
            self.told.setdefault(order, "reserved")
        if fate:
            cur.execute("SAVEPOINT s")
            cur.execute(f"SELECT {fate}_stock(%s)", (order,))
        cur.connection.commit()
        self.told[order] = STATES.get(fate, "reserved")

    def lost(self):
        """The acknowledged results that are missing; no client is at work."""
        there = dict(self.db.sql(
            "SELECT order_id, state FROM stock_reservations"))
        assert self.db.drift() == []
        return {order for order, state in self.told.items()
                if there.get(order) != state
                and (state, there.get(order)) not in (
                    ("reserved", "confirmed"), ("reserved", "released"))}

    def doubled(self):
        kinds = Counter(dict(self.db.sql(
            "SELECT kind, count(*) - count(DISTINCT order_id)"
            "  FROM stock_movements WHERE order_id IS NOT NULL GROUP BY 1")))
        events = Counter(dict(self.db.sql(
            "SELECT event_type, count(*) - count(DISTINCT key)"
            "  FROM stock_outbox WHERE key ~ '^o-' GROUP BY 1")))
        return +kinds + events


def kill_and_count(shop, pg, seed):
    """One kill under load, at a moment that the seed chooses; the lost
    orders."""
    done = len(shop.told)
    more = random.Random(seed).randint(20, 400)
    wait_until(lambda: len(shop.told) > done + more, 60, "no progress")
    pg.kill9()
    shop.opened.clear()
    pg.start()
    lost = shop.lost()
    shop.opened.set()
    return lost


def test_twenty_kills(db, pg):
    first = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={first}")
    shop = Shop(db)
    with Clients(db, 24, shop.work, again=True) as clients:
        for seed in range(first, first + KILLS):
            lost = kill_and_count(shop, pg, seed)
            assert lost == set(), f"PGSTOCK_SEED={seed}: {len(lost)} lost"
    assert shop.lost() == set() and shop.doubled() == Counter()
    assert clients.broken > KILLS
    print(f"{len(shop.told)} orders, {clients.broken} broken sessions")


def test_without_the_flush_they_are_lost(run):
    """The control: the test above can fail."""
    pg = mutant(run, "no-flush", NO_FLUSH)
    shop = Shop(pg.create_database("control"))
    lost, seed = set(), 0
    with Clients(shop.db, 24, shop.work, again=True):
        while not lost and seed < KILLS:
            lost = kill_and_count(shop, pg, seed)
            seed += 1
    print(f"kill {seed}: {len(lost)} of {len(shop.told)} orders lost")
    assert lost
    pg.close()


# Calls that rest on the unflushed commits of ACTS and write nothing: the
# first ones not even a lock, which would be flushed with its commit.
ACTS = ("SELECT reserve_stock('book', 1, 'o-1', idempotency_key => 'k-1')",
        "SELECT confirm_stock('o-2')", "SELECT release_stock('o-3')")
ECHOES = (
    "SELECT replayed FROM reserve_stock('book', 1, 'o-1')",
    "SELECT replayed FROM try_reserve_stock('book', 1, 'o-1')",
    "SELECT replayed FROM reserve_stock('book', 1, 'o-1',"
    " idempotency_key => 'k-1')",
    "SELECT replayed FROM reserve_order('o-1',"
    " '[{\"product_id\": \"book\", \"quantity\": 1}]')",
    "SELECT replayed FROM reserve_orders('[{\"order_id\": \"o-1\", \"items\":"
    " [{\"product_id\": \"book\", \"quantity\": 1}]}]')",
    "SELECT replayed FROM confirm_stock('o-2')",
    "SELECT replayed FROM release_stock('o-3')",
    "SELECT replayed FROM rollback_stock('o-3')",
)


# And errors that reveal the acts, with their SQLSTATEs.
ERRORS = {
    "SELECT reserve_stock('book', 2, 'o-1')": "SK007",
    "SELECT reserve_stock('book', 1, 'o-4', idempotency_key => 'k-1')":
        "SK007",
    "SELECT extend_reservation('o-3', '1 hour')": "SK005",
    "SELECT set_stock('book', 5, expected_version => 1)": "SK011",
}


class Asker(threading.Thread):
    """One session with one query, and its answer if one arrives."""

    def __init__(self, db, question):
        super().__init__(daemon=True)
        self.question = question
        self.conn = db.connect()
        self.conn.autocommit = True
        self.pid = self.conn.info.backend_pid
        self.answer = None
        self.start()

    def run(self):
        try:
            with self.conn.cursor() as cur:
                cur.execute(self.question)
                self.answer = cur.fetchone()[0]
        except psycopg2.Error as error:
            if (error.pgcode or "").startswith(("SK", "55")):
                self.answer = error.pgcode
            # else it was killed


def waits_for_disk(db, askers):
    return db.value("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"
                    " AND wait_event = 'WALWrite'",
                    ([asker.pid for asker in askers],)) == len(askers)


def answers_before(db, pg, questions=ECHOES):
    """The acts are committed and visible, not flushed; then the echoes run.
    Which of them were answered before the kill -9?"""
    db.sql("SELECT receive_stock('book', 10), reserve_stock('book', 1, 'o-2'),"
           " reserve_stock('book', 1, 'o-3')")
    with disk_stands_still(pg):
        acts = [Asker(db, act) for act in ACTS]
        wait_until(lambda: db.sql(
            "SELECT state FROM stock_reservations ORDER BY order_id") == [
                ("reserved",), ("confirmed",), ("released",)], 20,
            "others see what is not flushed")
        echoes = [Asker(db, question) for question in questions]
        try:
            wait_until(lambda: waits_for_disk(db, acts + echoes), 10,
                       "all wait for the disk")
        except NotReached:
            pass                        # some did not
        told = [echo.answer for echo in echoes]
        assert not any(act.answer for act in acts)
        pg.power_cut()
    pg.start()
    assert db.sql("SELECT order_id, state FROM stock_reservations"
                  " ORDER BY order_id") == [("o-2", "reserved"),
                                            ("o-3", "reserved")]
    return told


def test_a_replay_waits_for_its_cause(db, pg):
    assert answers_before(db, pg) == [None] * len(ECHOES)


def test_without_the_fence_it_is_answered_and_lost(run):
    """The story: a replay answers "granted", kill -9, the row is gone."""
    pg = mutant(run, "no-fence", NO_FENCE)
    assert answers_before(pg.create_database("control"), pg)[:3] == [True] * 3
    pg.close()


def test_an_error_waits_for_its_cause(db, pg):
    assert answers_before(db, pg, ERRORS) == [None] * len(ERRORS)


def test_without_the_fence_the_error_is_answered_and_lost(run):
    pg = mutant(run, "no-error-fence", NO_ERROR_FENCE)
    assert answers_before(pg.create_database("control"), pg, ERRORS) == list(
        ERRORS.values())
    pg.close()
