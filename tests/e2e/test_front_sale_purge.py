# SPDX-License-Identifier: PostgreSQL
"""Old moves of flash sales over shards are deleted, and none of them arrives a
second time: the shards that have sent and received them are killed between the
commits that delete them.
"""

import threading

import psycopg2
import psycopg2.extras
import pytest

from process import wait_until
from saga_fleet import LOCK, Fleet
from test_front_sale_crash import BUY, held, open_sale
from test_front_sales import users_of

pytestmark = [pytest.mark.long, pytest.mark.alone]

HOME, GUEST = 1, 0          # the shard of the product, that of the buyer
TABLES = {GUEST: "stock_arrival", HOME: "stock_move"}

# waits where a test has stopped the database
STOP_DELETE = f"""
CREATE FUNCTION public.stop_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.stop_at) THEN
        PERFORM pg_advisory_xact_lock({LOCK});
    END IF;
    RETURN OLD;
END $$"""


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(new_dir):
    made = Fleet(new_dir)
    for shard, table in TABLES.items():
        made.shards[shard].sql(STOP_DELETE)
        made.shards[shard].sql(
            f"CREATE TRIGGER stop BEFORE DELETE ON pgstock_shard.{table}"
            " FOR EACH ROW EXECUTE FUNCTION public.stop_delete()")
    yield made
    made.stop_all()


def sell_out(fleet, sale):
    """A sale of four pieces, all bought in one shard; its product."""
    product = open_sale(fleet, sale, 4, 4)
    (buyer,) = users_of(fleet, GUEST, 1, sale)
    assert fleet.front.value(BUY, (sale, buyer, f"{sale}-1", 4)) == "granted"
    assert held(fleet, product) == (4, 4)
    return product


def age(fleet, days):
    """Lets that time pass for the moves that have arrived."""
    for shard in fleet.shards:
        shard.sql("UPDATE pgstock_shard.stock_move SET arrived_at = arrived_at"
                  " - %s * interval '1 day'", (days,))


def counts(fleet):
    """(moves, arrivals) in all shards."""
    return tuple(sum(shard.value(f"SELECT count(*) FROM pgstock_shard.{table}")
                     for shard in fleet.shards)
                 for table in ("stock_move", "stock_arrival"))


def sweep(fleet):
    fleet.front.sql("SELECT sweep_orders()")


def try_sweep(fleet):
    try:
        sweep(fleet)
    except psycopg2.Error:
        pass                        # its front was killed


def test_old_moves_are_deleted(fleet):
    product = sell_out(fleet, "old")
    moves, arrivals = counts(fleet)
    assert moves == arrivals > 3
    age(fleet, 29)
    sweep(fleet)
    assert counts(fleet) == (moves, arrivals)
    age(fleet, 2)
    sweep(fleet)
    assert counts(fleet) == (0, 0)
    assert held(fleet, product) == (4, 4)


def test_a_move_under_way_is_never_old(fleet):
    """Its shard is away for longer than anything is kept."""
    sale = "waits"
    product = open_sale(fleet, sale, 4, 4)
    home = fleet.shards[HOME]
    with fleet.shards[GUEST].pg.away():
        move = home.value(
            "SELECT pgstock_shard.sale_send(%s, %s, 1)", (sale, GUEST))
        home.sql("UPDATE pgstock_shard.stock_move SET sent_at = sent_at"
                 " - interval '99 days', arrived_at = arrived_at - interval"
                 " '99 days'")
        sweep(fleet)
        assert home.value("SELECT count(*) FROM pgstock_shard.stock_move"
                          " WHERE id = %s", (move["id"],)) == 1
    fleet.wait_reachable()
    wait_until(lambda: sweep(fleet) or held(fleet, product) == (4, 0), 30,
               lambda: f"held: {held(fleet, product)}")
    fleet.check_books()


@pytest.mark.parametrize("victim", ["front", "source", "target"])
@pytest.mark.parametrize("where", [GUEST, HOME])
def test_killed_while_old_moves_are_deleted(fleet, where, victim):
    """The arrivals are not deleted yet, or only the moves are left."""
    product = sell_out(fleet, f"killed-{where}-{victim}")
    age(fleet, 31)
    with fleet.stopped_at(fleet.shards[where], "false") as waits:
        sweeper = threading.Thread(target=try_sweep, args=(fleet,))
        sweeper.start()
        wait_until(waits, 60, "nothing is deleted")
        if where == HOME:
            assert counts(fleet)[1] < counts(fleet)[0]
        {"front": fleet.all[0], "source": fleet.shards[HOME].pg,
         "target": fleet.shards[GUEST].pg}[victim].power_cut()
    fleet.revive()
    sweeper.join(60)
    assert not sweeper.is_alive(), "the sweeper hangs"
    fleet.wait_reachable()
    assert held(fleet, product) == (4, 4)
    wait_until(lambda: sweep(fleet) or counts(fleet) == (0, 0), 60,
               lambda: f"left: {counts(fleet)}")
    assert held(fleet, product) == (4, 4)
    fleet.check_books()


def test_a_mark_that_was_lost(fleet):
    """The source loses commits that are asynchronous. It must not lose that a
    move has arrived whose arrival is deleted."""
    source = fleet.shards[HOME]
    source.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    source.sql(f'ALTER DATABASE "{source.name}" SET synchronous_commit = off')
    source.pg.restart()
    fleet.wait_reachable()
    product = sell_out(fleet, "mark")
    with fleet.stopped_at(source, "false") as waits:
        age(fleet, 31)
        sweeper = threading.Thread(target=try_sweep, args=(fleet,))
        sweeper.start()
        wait_until(waits, 60, "nothing is deleted")
        source.pg.power_cut()
    sweeper.join(60)
    source.sql(f'ALTER DATABASE "{source.name}" RESET synchronous_commit')
    source.sql("ALTER SYSTEM RESET wal_writer_delay")
    source.pg.restart()
    fleet.wait_reachable()
    # what is not marked would be sent again now
    source.sql("UPDATE pgstock_shard.stock_move SET sent_at = sent_at"
               " - interval '1 minute'")
    wait_until(lambda: sweep(fleet) or counts(fleet)[0] == 0, 60,
               lambda: f"left: {counts(fleet)}")
    assert held(fleet, product) == (4, 4)
    fleet.check_books()


def test_a_session_that_was_stopped_for_long(fleet):
    """It delivers a move after its arrival was deleted."""
    product = sell_out(fleet, "stopped")
    ((move,),) = fleet.shards[HOME].sql(
        "SELECT move || jsonb_build_object('sent_at', now() - interval"
        " '2 hours') FROM pgstock_shard.stock_move WHERE move ->> 'target' = %s"
        " AND (move ->> 'quantity')::int > 0 LIMIT 1", (str(GUEST),))
    age(fleet, 31)
    sweep(fleet)
    with pytest.raises(psycopg2.Error) as error:
        fleet.shards[GUEST].sql("SELECT pgstock_shard.sale_receive("
                                "jsonb_build_array(%s::jsonb), NULL)",
                                (psycopg2.extras.Json(move),))
    assert error.value.pgcode == "40001", error.value
    assert held(fleet, product) == (4, 4)
