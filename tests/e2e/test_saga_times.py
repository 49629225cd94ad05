# SPDX-License-Identifier: PostgreSQL
"""Times of orders over shards: how long a call waits for other sessions, and
the settings hold, patience and saga_retention."""

from contextlib import closing, contextmanager

import psycopg2
import psycopg2.errors
import pytest

import saga_shop
from process import wait_until
from saga_shop import (call, fails, hold_of_a_session_that_ended, in_parallel,
                       lines, saga, states, statuses)
from shards import LONGEST_WAIT

fixture_shop, fixture_order = saga_shop.fixture_shop, saga_shop.fixture_order


# ---- waiting ----------------------------------------------------------------

@pytest.fixture(name="busy")
def fixture_busy(shop, order):
    """Another session takes an hour to reserve the order."""
    hold_of_a_session_that_ended(shop, order, lines(shop, 1, 1))
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now() + interval"
                   " '1 hour' WHERE order_id = %s", (order,))
    yield order
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now()"
                   " WHERE order_id = %s", (order,))
    shop.front.sql(LONGEST_WAIT % "1 minute")


def arguments(shop, function):
    return {"confirm_stock": [],
            "reserve_order": [lines(shop, 1, 1), "u"]}[function]


@pytest.mark.parametrize("function", ["confirm_stock", "reserve_order"])
def test_a_call_waits_for_a_limited_time(shop, busy, function):
    args = arguments(shop, function)
    shop.front.sql(LONGEST_WAIT % "0.3 s")
    diag = fails("40001", call, shop, function, busy, *args)
    assert diag.message_primary == (
        f'could not begin a step of order "{busy}" in time')
    assert diag.message_detail == (
        "For 0.3 seconds, steps of other sessions were under way.")
    assert "Repeat the call" in diag.message_hint
    assert saga(shop, busy) == [("new", "reserve")]
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now()"
                   " WHERE order_id = %s", (busy,))
    if function == "reserve_order":
        assert statuses(call(shop, function, busy, *args)) == {"granted"}


@pytest.mark.parametrize("function", ["confirm_stock", "reserve_order"])
def test_a_call_that_waits_can_be_canceled(shop, busy, function):
    args = [busy, *arguments(shop, function)]
    marks = ", ".join(["%s"] * len(args))
    with pytest.raises(psycopg2.errors.QueryCanceled):
        shop.front.sql(f"SELECT {function}({marks})", args,
                       options="-c statement_timeout=500")
    assert saga(shop, busy) == [("new", "reserve")]


def test_a_coordinator_that_shuts_down(shop, order):
    """Its error is not taken for one of the front's own session."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")

    def shut_down():
        wait_until(lambda: shop.front.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'pgstock_front' AND wait_event_type = 'Lock'"),
            20, "the call does not wait")
    with closing(shop.front.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT FROM pgstock_front.saga WHERE order_id = %s"
                    " FOR UPDATE", (order,))
        error, _ = in_parallel(lambda: call(shop, "confirm_stock", order),
                               shut_down)
    assert error.pgcode == "08006", error
    assert "Repeat it with the same order id" in error.diag.message_hint
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}


# ---- settings ---------------------------------------------------------------

@contextmanager
def setting(shop, name, value):
    """A setting of the coordinator's database; the test's own is restored."""
    def alter(to):
        shop.front.sql(f'ALTER DATABASE "{shop.front.name}"'
                       f" SET pgstock_front.{name} = '{to}'")
    before = shop.front.value("SELECT current_setting(%s, true)",
                              (f"pgstock_front.{name}",))
    alter(value)
    try:
        yield
    finally:
        alter(before or "")


@pytest.mark.parametrize("name,value,message", [
    ("hold", "0", "must be at least 1ms"),
    ("hold", "1900 ms", "hold must be at least twice patience"),
    ("patience", "-1 s", "must be at least 1ms"),
    ("patience", "2100 ms", "hold must be at least twice patience")])
def test_times_that_do_not_suit(shop, order, name, value, message):
    with setting(shop, name, value):
        diag = fails("22023", call, shop, "reserve_order", order,
                     lines(shop, 1, 1), "u")
        assert name in diag.message_primary
        assert message in diag.message_primary
        assert f" is {value}" in diag.message_detail
        assert states(shop, order) == []
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")


@pytest.mark.parametrize("function,args", [
    ("confirm_stock", ()), ("release_stock", ("r",)),
    ("rollback_stock", ("r",)), ("return_stock", ()),
    ("extend_reservation", ("1 hour",))])
def test_a_bad_patience_stops_settling(shop, order, function, args):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    if function in ("rollback_stock", "return_stock"):
        call(shop, "confirm_stock", order)
    before = states(shop, order)
    with setting(shop, "patience", "2100 ms"):
        diag = fails("22023", call, shop, function, order, *args)
        assert "pgstock_front.patience" in diag.message_primary
        assert states(shop, order) == before
    call(shop, function, order, *args)


def test_a_retention_that_is_too_short(shop, order):
    """Old rows are kept, but sweeping is done."""
    hold_of_a_session_that_ended(shop, order, lines(shop, 1, 1))
    with setting(shop, "saga_retention", "23 hours"):
        diag = fails("22023", shop.front.sql, "SELECT sweep_orders()")
        assert "saga_retention must be at least 1 day" in diag.message_primary
        assert saga(shop, order) == [("abandoned", None)]
    shop.front.sql("SELECT sweep_orders()")
