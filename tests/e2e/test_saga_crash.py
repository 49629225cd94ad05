# SPDX-License-Identifier: PostgreSQL
"""kill -9 of the front, the coordinator or a shard at each step of an order
over shards.

Whatever is killed: if a client received "reserved", the whole order is
reserved; if no client did, nothing is left of it once its hold has expired.
"""

import pytest

from process import wait_until
from saga_fleet import Caller, Fleet, wanted

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(new_dir):
    made = Fleet(new_dir)
    made.receive(1000)
    yield made
    made.stop_all()


@pytest.fixture(name="order")
def fixture_order(request):
    return request.node.name


RESERVE = "SELECT status FROM reserve_order(%s, %s, 'u')"

# where a step stops: the database, and the row that it is about to write
STEPS = {
    "row": ("coordinator", "r.verb = 'reserve'"),
    "hold": ("shard", "r.step = 1"),
    "keep": ("shard", "r.step = 2"),
    "end": ("coordinator", "r.state = 'reserved' AND r.verb IS NULL"),
}
VICTIMS = ("front", "coordinator", "shard", "other shard")


def server_of(fleet, victim):
    return {"front": fleet.front.pg, "coordinator": fleet.coordinator.pg,
            "shard": fleet.shards[1].pg, "other shard": fleet.shards[0].pg
            }[victim]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("step", STEPS)
def test_reserving(fleet, order, step, victim):
    where, condition = STEPS[step]
    database = fleet.coordinator if where == "coordinator" else fleet.shards[1]
    items = fleet.items(1, 2, 3)
    with fleet.stopped_at(database, condition) as waits:
        caller = Caller(fleet.front, RESERVE, (order, items))
        wait_until(waits, 20, lambda: f"no step stops: {caller.error}")
        server_of(fleet, victim).power_cut()
    caller.join(30)
    assert not caller.is_alive()
    fleet.sweep()
    if caller.rows:
        assert caller.rows == [("granted",)] * 3
        assert fleet.live(order) == wanted(items)
    else:
        # a hold that could not be released at once expires
        wait_until(lambda: fleet.live(order) in ([], wanted(items)), 6,
                   lambda: f"half an order: {fleet.live(order)}")
    fleet.check_books()
    # the same call again has an answer
    caller = Caller(fleet.front, RESERVE, (order, items))
    caller.join(30)
    assert caller.rows == [("granted",)] * 3, caller.error
    assert fleet.live(order) == wanted(items)


def told(caller, status):
    return caller.rows is not None and {row[0] for row in caller.rows} == {
        status}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("verb,status", [
    ("confirm_stock", "confirmed"), ("release_stock", "released"),
    ("rollback_stock", "rolled_back"), ("return_stock", "returned")])
def test_settling(fleet, order, verb, status, victim):
    """A step that one shard has taken reaches all shards, even if the client
    is gone."""
    items = fleet.items(1, 2, 3)
    Caller(fleet.front, RESERVE, (order, items)).join(30)
    if verb == "return_stock":
        Caller(fleet.front, "SELECT status FROM confirm_stock(%s)",
               (order,)).join(30)
    step = 4 if verb == "return_stock" else 3
    with fleet.stopped_at(fleet.shards[1], f"r.step = {step}") as waits:
        caller = Caller(fleet.front, f"SELECT status FROM {verb}(%s)",
                        (order,))
        wait_until(waits, 20, lambda: f"no step stops: {caller.error}")
        server_of(fleet, victim).power_cut()
    caller.join(30)
    fleet.sweep()
    rows = [row for shard in fleet.shards for row in shard.sql(
        "SELECT state, quantity FROM stock_reservations WHERE order_id = %s",
        (order,))]
    assert {state for state, _ in rows} == {status}
    assert len(rows) == 3
    fleet.check_books()
    again = Caller(fleet.front, f"SELECT status FROM {verb}(%s)", (order,))
    again.join(30)
    assert told(again, "already") or verb == "return_stock", again.error


def test_a_shard_that_is_down_does_not_hold_up_the_others(fleet, order):
    """Holds in the other shards are released at once; an order that is
    confirmed while a shard is down is confirmed there once it is up again."""
    items = fleet.items(1, 1, 1)
    with fleet.shards[2].pg.away():
        caller = Caller(fleet.front, RESERVE, (order, items))
        caller.join(30)
        assert caller.error.pgcode == "08006", caller.error
        assert fleet.shards[0].value(
            "SELECT count(*) FROM stock_reservations WHERE order_id = %s"
            " AND state = 'reserved'", (order,)) == 0
    Caller(fleet.front, RESERVE, (order, items)).join(30)
    with fleet.shards[2].pg.away():
        caller = Caller(fleet.front, "SELECT * FROM confirm_stock(%s)",
                        (order,))
        caller.join(30)
        assert caller.error.pgcode == "08006", caller.error
        assert "repeated until every shard" in caller.error.diag.message_hint
        ((_, verb, error),) = fleet.under_way()
        assert verb == "confirm" and "could not reach shard 2" in error
    fleet.sweep()
    assert fleet.live(order) == wanted(items)
    assert fleet.coordinator.value("SELECT state FROM stock_sagas"
                                   " WHERE order_id = %s", (order,)) \
        == "confirmed"


def test_a_keep_that_finds_its_hold_expired(fleet, order):
    """The keep waits in one shard until the hold in the other has expired."""
    items = fleet.items(1, 1)
    fleet.coordinator.sql("ALTER DATABASE coordinator"
                          " SET pgstock_front.patience = '150ms'")
    fleet.coordinator.sql("ALTER DATABASE coordinator"
                          " SET pgstock_front.hold = '300ms'")
    try:
        with fleet.stopped_at(fleet.shards[0], "r.step = 1") as waits:
            caller = Caller(fleet.front, RESERVE, (order, items))
            wait_until(waits, 20, "no step stops")
            wait_until(lambda: fleet.shards[1].value(
                "SELECT count(*) = 1 FROM stock_reservations"
                " WHERE order_id = %s AND expires_at < clock_timestamp()",
                (order,)), 20, "the hold has not ended")
        caller.join(30)
        assert caller.error.pgcode == "40001", caller.error
        assert fleet.live(order) == [] and fleet.under_way() == []
    finally:
        fleet.coordinator.sql("ALTER DATABASE coordinator"
                              " SET pgstock_front.patience = '1s'")
        fleet.coordinator.sql("ALTER DATABASE coordinator"
                              " SET pgstock_front.hold = '4s'")


def test_a_caller_that_is_late_is_not_told_that_it_reserved(fleet, order):
    """The sweeper has undone its saga while the caller waited to end it."""
    items = fleet.items(1, 1)
    with fleet.stopped_at(fleet.shards[1], "r.step = 2") as waits:
        caller = Caller(fleet.front, RESERVE, (order, items))
        wait_until(waits, 20, "no step stops")
        wait_until(lambda: fleet.coordinator.value(
            "SELECT due_at < clock_timestamp() FROM pgstock_front.saga"
            " WHERE order_id = %s", (order,)), 20, "it is not late")
        sweeper = Caller(fleet.front, "SELECT sweep_orders()", ())
        wait_until(lambda: fleet.coordinator.value(
            "SELECT verb = 'undo' FROM pgstock_front.saga"
            " WHERE order_id = %s", (order,)), 20, "it is not undone")
    sweeper.join(30)
    caller.join(30)
    assert caller.error.pgcode == "40001", (caller.error, caller.rows)
    fleet.sweep()
    assert fleet.live(order) == []


@pytest.mark.parametrize("kept", [True, False])
def test_a_coordinator_restored_from_a_backup(fleet, order, kept):
    """The backup was taken while the order was being reserved.  If every shard
    has kept it, its client may have received "reserved"."""
    items = fleet.items(1, 1)
    Caller(fleet.front, RESERVE, (order, items)).join(30)
    fleet.coordinator.sql(
        "UPDATE pgstock_front.saga SET state = 'new', verb = 'reserve',"
        " history = 'another', due_at = now() WHERE order_id = %s", (order,))
    if not kept:
        fleet.shards[1].sql("UPDATE pgstock_shard.order_part SET step = 1,"
                            " verb = 'hold'"
                            " WHERE order_id = %s", (order,))
    with fleet.shards[0].pg.away():
        fleet.front.sql("SELECT sweep_orders()")
        assert [verb for _, verb, _ in fleet.under_way()] == ["reserve"]
    fleet.sweep()
    assert fleet.live(order) == (wanted(items) if kept else [])
