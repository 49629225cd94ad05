# SPDX-License-Identifier: PostgreSQL
"""Two fronts before the same shards, which share the coordinator."""

import json
from contextlib import closing

import psycopg2
import pytest

from saga_shop import in_parallel, lines, make_shop, saga, states
from test_front import name

ORDERS = 10


@pytest.fixture(name="fronts", scope="module")
def fixture_fronts(pg, shards):
    """The first one is the coordinator, too."""
    shop = make_shop(shards)
    other = pg.create_database(name("second"), extension=False)
    other.sql("CREATE EXTENSION pgstock_front CASCADE")
    other.sql("SELECT pgstock_front.set_shards(%s)",
              (json.dumps(shop.connections()),))
    other.sql("SELECT pgstock_front.set_coordinator(%s)",
              (json.dumps(shop.connection(shop.front)),))
    yield shop.front, other
    other.drop()


def at_once(fronts, function, *args):
    """What a call returns that is made at both fronts at once: a list of
    (status, replayed) for each, or the SQLSTATE."""
    marks = ", ".join(["%s"] * len(args))

    def ask(front):
        with closing(front.connect()) as conn, conn.cursor() as cur:
            conn.autocommit = True
            cur.execute(f"SELECT status, replayed FROM {function}({marks})",
                        args)
            return cur.fetchall()
    return [got.pgcode if isinstance(got, psycopg2.Error) else got
            for got in in_parallel(*[lambda front=front: ask(front)
                                     for front in fronts])]


def levels(shop):
    """On hand and reserved of the first product of the first two shards."""
    return [shop.shards[n].level(shop.products(2)[n][0])[:2] for n in (0, 1)]


@pytest.mark.parametrize("counts, in_shards", [((2,), 1), ((2, 3), 2)])
def test_one_order_at_two_fronts(shards, fronts, counts, in_shards):
    """Reserved, and then paid: it is one order."""
    before = levels(shards)
    items = lines(shards, *counts)
    for _ in range(ORDERS):
        order = name("twice")
        both = at_once(fronts, "reserve_order", order, items, "u")
        assert sorted(both) == [[("granted", False)] * in_shards,
                                [("granted", True)] * in_shards]
        assert states(shards, order) == ["reserved"] * in_shards
        both = at_once(fronts, "confirm_stock", order, "payment")
        assert {status for rows in both for status, _ in rows} <= {
            "confirmed", "already"}
        assert states(shards, order) == ["confirmed"] * in_shards
        assert saga(shards, order) == [("confirmed", None)] * (in_shards - 1)
    assert levels(shards) == [
        (on_hand - ORDERS * count, reserved) for (on_hand, reserved), count in
        zip(before, (*counts, 0))]
    assert shards.drift() == []
