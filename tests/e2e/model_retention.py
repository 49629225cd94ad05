# SPDX-License-Identifier: PostgreSQL
"""Retention among the calls of test_model: the ledger is folded and truncated,
confirmed orders retire, ended lines are deleted and users are forgotten.

What is old is decided as of a floor: a time up to which no session cares for
its ended orders any more.  Each session names its own, and Upkeep deletes what
ended before the lowest of them.  So a session knows what the database still
has of the orders that it names: ended lines that are younger than its floor,
and confirmed orders of any age, which are found wherever they are.  Movements
are copied before they are folded, so that the model's ledger has them all.
"""

import threading
import time
from contextlib import closing

from model import CONFIRMED, RESERVED
from model_calls import Caller
from process import wait_until

AGE = 0.3                           # of a floor when it is set, in seconds
PART = "'1 second'"                 # retention of the ledger

COPY = """
INSERT INTO seen_movement
SELECT l.* FROM pgstock_internal.ledger l
 WHERE l.id > 0 AND NOT EXISTS (SELECT FROM seen_movement s WHERE s.id = l.id)
"""
PREPARE = """
CREATE TABLE seen_movement AS TABLE pgstock_internal.ledger WITH NO DATA;
CREATE UNIQUE INDEX ON seen_movement (id)
"""


class OldOrders(Caller):
    """A session that knows which of its orders may be gone, and forgets
    users."""

    weights = {**Caller.weights, "forget": 0.5}

    def __init__(self, *args):
        super().__init__(*args)
        self.floor_time = 0.0
        self.users = 1              # the last of them, by number
        self.forgotten = []

    def transaction(self):
        if self.random.random() < 0.05:
            self.floor_time = time.time() - AGE
            with self.world.mutex:
                self.world.floors[self.number] = self.floor_time
        super().transaction()

    def is_usable(self, order, anew):
        now = time.time()
        _, lines = self.orders.latest(order)
        if not anew and all(line.state == CONFIRMED for line in lines):
            return True
        return all(line.rests_since(now) is None
                   or line.rests_since(now) >= self.floor_time
                   for line in lines)

    def stored_now(self, attempt, answer):
        """A line that has ended and was deleted counts as released."""
        now = super().stored_now(attempt, answer)
        if answer.granted == 0 or any(each.granted for each in now):
            return now
        return now | {answer._replace(granted=0, status="released",
                                      replayed=True)}

    # ---- Users ----

    def pick_user(self):
        return self.random.choice([None, self.user()])

    def user(self):
        return f"user-{self.number}-{self.users}"

    def forget(self):
        """By a call of its own: at READ COMMITTED only, and its locks would
        be held until the end of a block. It gives up where another session
        has an event uncommitted."""
        if self.inside:
            return
        rows, code = self.call("SELECT forget_user(%s, 'requested')",
                               [self.user()], ())
        if code is None:
            assert rows[0][0] >= 0
            self.orders.forget(self.user())
            self.forgotten.append(self.user())
            self.users += 1
        else:
            assert code == "55P03", code

    def check_forgotten(self, db):
        """No table names them, after a last call that nothing disturbs."""
        for user in self.forgotten:
            while db.value("SELECT forget_user(%s, 'again')", (user,)):
                pass
        for table, column in (("stock_reservations", "user_id"),
                              ("stock_outbox", "payload->>'user_id'")):
            assert db.sql(f"SELECT * FROM {table} WHERE {column} = ANY (%s)"
                          " LIMIT 1", (self.forgotten,)) == []


class Upkeep(threading.Thread):
    """What the upkeep does, more often than it does, until stop()."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world = world
        self.ended = threading.Event()
        self.counts = {"folded": 0, "truncated": 0, "retired": 0, "purged": 0}

    def run(self):
        try:
            with closing(self.world.db.connect()) as conn:
                while not self.ended.wait(0.02):
                    self.round(conn)
        except Exception as error:      # the test reports it
            self.world.errors.append(f"upkeep: {error!r}")

    def one(self, conn, name, query, args=()):
        with conn, conn.cursor() as cur:
            cur.execute(query, args)
            ((n,),) = cur.fetchall()
            self.counts[name] += n

    def round(self, conn):
        with self.world.mutex:
            floor = min(self.world.floors.values())
        with conn, conn.cursor() as cur:
            cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cur.execute(COPY)
            cur.execute("SELECT pgstock_internal.movement_rotate("
                        f"{PART}, 1000)")
            self.counts["folded"] += cur.fetchone()[0]
        self.one(conn, "truncated", "SELECT pgstock_internal.movement_empty()")
        self.one(conn, "retired", "SELECT pgstock_internal.retire_orders("
                 "to_timestamp(%s), 1000)", (floor,))
        self.one(conn, "purged", "SELECT pgstock_internal.purge_reservations("
                 "to_timestamp(%s), 1000)", (floor,))
        with conn, conn.cursor() as cur:
            cur.execute("SELECT * FROM verify_stock()")
            assert cur.fetchall() == []

    def stop(self):
        """Once each of its steps has found something."""
        wait_until(lambda: all(self.counts.values()) or self.world.errors, 60,
                   lambda: f"each step works: {self.counts}")
        self.ended.set()
        self.join(60)
        assert not self.is_alive() and not self.world.errors, self.world.errors
        self.world.db.sql(COPY)


def is_gone(line, floor):
    """Whether the database may have deleted the line."""
    now = time.time()
    return (line.state not in (RESERVED, CONFIRMED)
            or line.column(now) != line.state) and (
                line.rests_since(now) < floor)
