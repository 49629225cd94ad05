# SPDX-License-Identifier: PostgreSQL
"""Slots: one product's stock in several rows. The answers are those of one
row; only which session waits for which differs."""

import random
from contextlib import closing

import psycopg2
import pytest

from load import together

BUYERS, PIECES, SLOTS = 100, 10, 16
STRATEGIES = ["auto", "pessimistic", "optimistic", "advisory"]


def buy_until_answered(cur, order, strategy, quantity=1):
    """40001 is to be run again."""
    while True:
        try:
            cur.execute("SELECT (try_reserve_stock('hot', %s, %s,"
                        " strategy => %s)).granted",
                        (quantity, order, strategy))
            return cur.fetchone()[0]
        except psycopg2.errors.SerializationFailure as error:
            assert error.diag.message_hint
            cur.connection.rollback()


def check_ten_sold(db):
    assert db.level("hot") == (PIECES, PIECES, 0)
    assert db.value("SELECT count(*) FROM stock_outbox"
                    " WHERE event_type = 'StockReserved'") == PIECES
    assert db.drift() == []


@pytest.mark.parametrize("slots", [1, SLOTS])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hundred_buyers_for_ten_pieces(db, strategy, slots):
    """The race: with more slots than pieces a buyer that skips locked rows
    finds nothing, and would be refused although pieces are left."""
    db.sql("SELECT receive_stock('hot', %s)", (PIECES,))
    db.sql("SELECT configure_product('hot', slots => %s)", (slots,))
    answers = together(db, BUYERS, lambda cur, n: buy_until_answered(
        cur, f"order-{n}", strategy))
    assert sorted(answers) == [0] * (BUYERS - PIECES) + [1] * PIECES
    check_ten_sold(db)


@pytest.mark.parametrize("slots", [1, SLOTS])
def test_mixed_strategies_agree(db, slots):
    """Buyers that queue at the row, by product, or not at all share ten
    pieces: each of them locks the row in the end."""
    db.sql("SELECT receive_stock('hot', %s)", (PIECES,))
    db.sql("SELECT configure_product('hot', slots => %s)", (slots,))
    answers = together(db, BUYERS, lambda cur, n: buy_until_answered(
        cur, f"order-{n}", STRATEGIES[n % len(STRATEGIES)]))
    assert sorted(answers) == [0] * (BUYERS - PIECES) + [1] * PIECES
    check_ten_sold(db)


def test_large_orders_from_small_slots(db):
    """The race: two orders that each need several slots take the free ones and
    wait for the other's. No session may get 40P01, and every piece can be
    sold."""
    db.sql("SELECT receive_stock('hot', 160)")
    db.sql("SELECT configure_product('hot', slots => %s)", (SLOTS,))
    answers = together(db, 40, lambda cur, n: buy_until_answered(
        cur, f"order-{n}", "auto", 1 + n % 25))
    assert not [a for a in answers if isinstance(a, psycopg2.Error)]
    sold = sum(answers)
    assert db.level("hot") == (160, sold, 160 - sold)
    smallest = min(1 + n % 25 for n, a in enumerate(answers) if not a)
    assert 160 - sold < smallest
    assert db.drift() == []


EXPECTED = {"SK001", "SK004", "SK005", "SK006", "SK007", "40001"}


def one_of_everything(cur, chance):
    """A call chosen at random; a refusal is an answer."""
    order = f"order-{chance.randrange(60)}"
    calls = [
        ("SELECT try_reserve_stock('hot', %s, %s, strategy => %s,"
         " ttl => %s::interval)",
         (chance.randrange(1, 30), order, chance.choice(STRATEGIES),
          chance.choice(["0", "1 millisecond", "1 hour"]))),
        ("SELECT confirm_stock(%s)", (order,)),
        ("SELECT release_stock(%s)", (order,)),
        ("SELECT rollback_stock(%s)", (order,)),
        ("SELECT return_stock(%s)", (order,)),
        ("SELECT expire_reservations(10)", ()),
        ("SELECT receive_stock('hot', %s)", (chance.randrange(1, 20),)),
        ("SELECT adjust_stock('hot', %s, 'test')",
         (-chance.randrange(1, 20),)),
        ("SELECT configure_product('hot', slots => %s)",
         (chance.randrange(1, 9),)),
        ("SELECT configure_product('hot', safety => %s)",
         (chance.choice([-1, 5, 50]),)),
        ("SELECT configure_product('hot', backorder_limit => %s)",
         (chance.choice([-1, 5, 50]),)),
    ]
    weights = [12, 3, 3, 2, 2, 1, 2, 1, 1, 1, 1]
    try:
        cur.execute(*chance.choices(calls, weights)[0])
    except psycopg2.Error as error:
        if error.pgcode not in EXPECTED:
            raise
        cur.connection.rollback()
        return error.pgcode
    return "ok"


def test_everything_at_once(db):
    """The number of slots changes, settings change, orders begin and end, in
    eight sessions: no deadlock, no drift, and no slot is overcommitted."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    db.sql("SELECT receive_stock('hot', 100)")
    errors = []

    def work(cur, number):
        with closing(db.connect()) as own:
            own.autocommit = True
            chance = random.Random(seed + number)
            for _ in range(250):
                try:
                    one_of_everything(own.cursor(), chance)
                except psycopg2.Error as error:
                    errors.append(error)
        return number

    together(db, 8, work)
    assert errors == []
    assert db.drift() == []
    on_hand, reserved, _ = db.level("hot")
    assert reserved >= 0 and on_hand - reserved >= -50
