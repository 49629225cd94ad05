# SPDX-License-Identifier: PostgreSQL
"""P1: levels, ledger and reservations agree, and every answer was true.

Sessions call every function of the stock core at random, in transactions with
savepoints and rollbacks too, over a few products that are always short. Each
answer is compared at once with the order's own past, and at the end with the
ledger: each acknowledged change is one row of it at the version that the
answer named, no other row exists, no answer is older than the versions known
when the call began, and no call was refused while the request fitted.

With retention, all of it happens while old rows are deleted, orders retire and
users are forgotten (model_retention).

A failure names its seed. PGSTOCK_SEED=n runs that one again,
PGSTOCK_OPERATIONS=n is the number of calls.
"""

import os
import random
import time
from collections import defaultdict

import pytest

from model import Effect
from model_calls import LOCATIONS, PRODUCTS, SUPPLY, Caller
from model_retention import PREPARE, OldOrders, Upkeep, is_gone
from model_session import World

pytestmark = pytest.mark.proof

SESSIONS = 8
OPERATIONS = int(os.environ.get("PGSTOCK_OPERATIONS", 100_000))
START = 20


def check_orders(db, world, sessions):
    """The rows of the lines, and the events of each order."""
    lines = defaultdict(dict)
    for order, attempt, product, location, quantity, state, user, until in (
            db.sql("SELECT order_id, attempt, product_id, location, quantity,"
                   " CASE state WHEN 'r' THEN 'reserved' WHEN 'c' THEN"
                   " 'confirmed' WHEN 'l' THEN 'released' WHEN 'b' THEN"
                   " 'rolled_back' WHEN 't' THEN 'returned' WHEN 'e' THEN"
                   " 'expired' WHEN 's' THEN 'shortfall' END, user_id,"
                   " expires_at FROM (SELECT r.*, NULL"
                   " FROM pgstock_internal.reservation r UNION ALL"
                   " TABLE pgstock_internal.reservation_history) l")):
        key = (attempt, product, location)
        assert key not in lines[order], f"twice: {order}, {key}"
        lines[order][key] = (quantity, state, user,
                             until and until.timestamp())
    emitted = defaultdict(list)
    for order, event, items in db.sql(
            "SELECT key, event_type, payload->'items' FROM stock_outbox"
            " WHERE event_type <> 'StockLevelChanged'"
            " AND headers->>'replay_of' IS NULL ORDER BY seq"):
        emitted[order].append((event, frozenset(
            ((i["product_id"], i["location"]), i["quantity"])
            for i in items)))
    now = time.time()
    floor = min(world.floors.values(), default=0)
    for session in sessions:
        for order, ours in session.orders.lines.items():
            theirs = lines.pop(order, {})
            for line in ours:
                found = theirs.pop((line.attempt, *line.level), None)
                if found is None:
                    assert is_gone(line, floor), (order, line)
                    continue
                state = line.state
                if found[1] == "expired":
                    assert line.column(now) == "due", (order, line, found)
                    assert line.level in world.ledger.expired[order]
                    state = "expired"
                assert found == (line.quantity, state, line.user,
                                 line.expires), (order, line, found)
            assert theirs == {}, (order, theirs)
            said = emitted.pop(order)
            assert [x for x in said if x[0] != "StockExpired"] == list(
                session.orders.events[order]), (order, said)
    assert lines == {} and emitted == {}, "orders of no session"


def check_world(db, world, sessions, ledger):
    movements, levels = defaultdict(list), {}
    for product, location, *rest in db.sql(
            "SELECT product_id, location, kind, order_id, on_hand_delta,"
            " reserved_delta, extract(epoch FROM at)::float8"
            f" FROM {ledger} ORDER BY id"):
        movements[product, location].append(tuple(rest))
    for product, location, *rest in db.sql(
            "SELECT product_id, location, on_hand, reserved, version"
            " FROM stock_levels"):
        levels[product, location] = tuple(rest)
    world.ledger.check(movements, levels)
    check_orders(db, world, sessions)
    assert db.drift() == []


def run_sessions(db, mode, kind, calls):
    """(world, sessions), after that many calls of all sessions."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed} PGSTOCK_OPERATIONS={OPERATIONS}")
    db.sql(SUPPLY)
    world = World(db, seed, mode)
    upkeep = kind is OldOrders and Upkeep(world)
    if upkeep:
        db.sql(PREPARE)
        world.floors.update({number: 0.0 for number in range(SESSIONS)})
    for product in PRODUCTS:
        for location in LOCATIONS:
            db.sql("SELECT receive_stock(%s, %s, %s)",
                   (product, START, location))
            world.publish([("effect", (product, location),
                            (1, Effect("received", None, START, 0)))],
                          {(product, location): 1})
    began = time.monotonic()
    sessions = [kind(world, number, calls // SESSIONS)
                for number in range(SESSIONS)]
    for session in [*sessions, *([upkeep] if upkeep else [])]:
        session.start()
    for session in sessions:
        session.join(600)
        assert not session.is_alive(), "a session hangs"
    assert not world.errors, f"seed {seed}: {world.errors}"
    if upkeep:
        upkeep.stop()
        print(upkeep.counts)
    print(f"{time.monotonic() - began:.0f} s; {dict(world.counts)}")
    return world, sessions


@pytest.mark.long
@pytest.mark.parametrize("mode", ["single", "blocks"])
def test_random_calls(db, mode):
    """`single`: every call commits by itself, and then none may ever meet a
    deadlock: there is one lock order. `blocks`: transactions of many calls
    take locks in any order, and may."""
    world, sessions = run_sessions(db, mode, Caller, OPERATIONS // 2)
    check_world(db, world, sessions, "pgstock_internal.movement")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["single", "blocks"])
def test_random_calls_and_retention(db, mode):
    """The same while what is old is deleted, and users are forgotten: what
    remains is what the model knows, and the ledger adds up at each moment."""
    world, sessions = run_sessions(db, mode, OldOrders, OPERATIONS // 8)
    for session in sessions:
        session.check_forgotten(db)
    assert any(session.forgotten for session in sessions)
    check_world(db, world, sessions, "seen_movement")
