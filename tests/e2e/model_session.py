# SPDX-License-Identifier: PostgreSQL
"""Random transactions of one session of test_model, with savepoints and
rollbacks, and the answer to each of its calls."""

import random
import threading
import time
from collections import Counter
from contextlib import closing

import psycopg2

from model import Ledger, Orders, Reading, Refusal


class Conflict(Exception):
    """The server asks to repeat the whole transaction."""


class World:
    """The state that all sessions share."""

    def __init__(self, db, seed, mode):
        self.db, self.seed, self.mode = db, seed, mode
        self.ledger = Ledger()
        self.known = {}         # level: the highest version in an answer
        self.mutex = threading.Lock()
        self.errors = []
        self.counts = Counter()
        self.floors = {}        # session: what ended before may be gone

    def publish(self, entries, seen):
        with self.mutex:
            self.ledger.add(entries)
            for level, version in seen.items():
                self.known[level] = max(version, self.known.get(level, 0))


class Session(threading.Thread):
    """One connection, with orders of its own.  A subclass has the calls."""

    weights = {}                # {method that makes a call: how often}

    def __init__(self, world, number, calls):
        super().__init__(daemon=True)
        self.world, self.number, self.calls = world, number, calls
        self.random = random.Random(f"{world.seed}/{number}")
        self.orders = Orders()
        self.names = 0
        self.conn = world.db.connect()
        self.conn.autocommit = True
        self.cur = self.conn.cursor()
        self.cur.execute("SET deadlock_timeout = '10ms'")
        self.entries = []       # of this transaction
        self.seen = {}
        self.inside = False     # a transaction block
        self.floor_at_start = None
        self.doing = None

    def run(self):
        try:
            with closing(self.conn):
                while self.calls > 0 and not self.world.errors:
                    self.transaction()
        except Exception as error:      # the test reports it
            self.world.errors.append(
                f"session {self.number}, {self.doing}: {error!r}")

    # ---- Transactions ----

    def transaction(self):
        """One call by itself, or several in a block, parts of it rolled
        back."""
        alone = self.world.mode == "single" or self.random.random() < 0.5
        isolation = self.random.choice(["", "", " ISOLATION LEVEL REPEATABLE"
                                        " READ", " ISOLATION LEVEL"
                                        " SERIALIZABLE"])
        self.entries, self.seen = [], {}
        mark = len(self.orders.journal)
        commit = True
        try:
            if alone:
                self.step()
            else:
                self.cur.execute("BEGIN" + isolation)
                self.inside = True
                if isolation:           # it reads as of its first statement
                    with self.world.mutex:
                        self.floor_at_start = dict(self.world.known)
                    self.cur.execute("SELECT 1")
                for _ in range(self.random.randint(1, 5)):
                    self.part()
                commit = self.random.random() < 0.8
                self.cur.execute("COMMIT" if commit else "ROLLBACK")
        except Conflict:
            commit = False
            self.world.counts["conflict"] += 1
        except psycopg2.errors.SerializationFailure:
            commit = False              # at COMMIT
            self.world.counts["conflict"] += 1
        if self.inside and self.conn.info.transaction_status:
            self.cur.execute("ROLLBACK")
        self.inside, self.floor_at_start = False, None
        if commit:
            self.orders.journal.clear()
            self.world.publish(self.entries, self.seen)
        else:
            self.orders.back_to(mark)

    def part(self):
        """A call, within a savepoint that is now and then rolled back to."""
        if self.random.random() < 0.7:
            self.step()
            return
        kept = (len(self.orders.journal), len(self.entries), dict(self.seen))
        self.cur.execute("SAVEPOINT part")
        for _ in range(self.random.randint(1, 2)):
            self.step()
        if self.random.random() < 0.5:
            self.cur.execute("RELEASE SAVEPOINT part")
        else:
            self.cur.execute("ROLLBACK TO SAVEPOINT part")
            self.orders.back_to(kept[0])
            del self.entries[kept[1]:]
            self.seen = kept[2]

    def step(self):
        self.calls -= 1
        call, = self.random.choices(list(self.weights),
                                    list(self.weights.values()))
        getattr(self, call)()
        self.world.counts[call] += 1

    # ---- One call ----

    def floor(self, level):
        known = (self.world.known if self.floor_at_start is None
                 else self.floor_at_start)
        return max(known.get(level, 0), self.seen.get(level, 0)
                   if self.inside else 0)

    def call(self, query, args, levels):
        """(rows, SQLSTATE). The known versions of the levels are noted
        before."""
        self.doing = self.cur.mogrify(query, args).decode()
        self.floors = {level: self.floor(level) for level in levels}
        self.asked = time.time()
        rows, code, self.error = None, None, None
        try:
            self.cur.execute(("SAVEPOINT call; " if self.inside else "")
                             + self.doing)
            rows = self.cur.fetchall()
        except psycopg2.Error as error:
            code, self.error = error.pgcode, error
            if code == "40P01" and self.world.mode == "single":
                raise
            if code in ("40001", "40P01"):
                raise Conflict from error
            if self.inside:
                self.cur.execute("ROLLBACK TO SAVEPOINT call")
        self.given = time.time()
        self.world.counts[code or "answered"] += 1
        return rows, code

    def note(self, kind, level, entry):
        self.entries.append((kind, level, entry))

    def effect(self, level, version, effect):
        self.note("effect", level, (version, effect))
        self.see(level, version)

    def see(self, level, version):
        self.seen[level] = max(version, self.seen.get(level, 0))

    def read(self, answer, taken=False):
        self.note("reading", answer.level, Reading(
            answer.version, self.floors[answer.level], self.asked, self.given,
            answer.available, answer.status, answer.requested,
            order=answer.order if taken else None))
        self.see(answer.level, answer.version)

    def refused(self, level, wanted, taking):
        """The error named no version: it was one up to the present one."""
        detail = self.error.diag.message_detail
        available = int(detail.rsplit("available ", 1)[1].rstrip("."))
        self.cur.execute("SELECT max(version) FROM stock_levels WHERE"
                         " (product_id, location) = (%s, %s)", level)
        ((last,),) = self.cur.fetchall()
        self.note("refusal", level, Refusal(
            self.floors[level], last, wanted, available, taking))
