# SPDX-License-Identifier: PostgreSQL
"""The contract's table of states, through the front: each cell is called once
there and once in the shard itself, with the same answer."""

import psycopg2
import pytest

from test_front import fields, outcome

STATES = ("reserved", "due", "expired", "sold out", "confirmed", "released",
          "rolled_back", "returned", "shortfall", "unknown")
VERBS = {"confirm": "confirm_stock(%s, 'now')",
         "release": "release_stock(%s, 'now')",
         "rollback": "rollback_stock(%s, 'now')",
         "return": "return_stock(%s)",
         "extend": "extend_reservation(%s, '1 day')"}
# The calls that bring an order from reserved to another state.
ENDS = {"confirmed": ["confirm_stock(%s, 'first')"],
        "released": ["release_stock(%s, 'first')"],
        "rolled_back": ["rollback_stock(%s, 'first')"],
        "returned": ["confirm_stock(%s, 'first')", "return_stock(%s)"]}


def make_due(shard, order):
    shard.sql("UPDATE pgstock_internal.reservation SET due_at = '2020-01-01',"
              " expires_at = '2020-01-01' WHERE order_id = %s", (order,))


def reach(database, shard, product, order, state):
    """Brings an order for 2 of 5 pieces into a state."""
    database.sql("SELECT receive_stock(%s, 5)", (product,))
    if state == "unknown":
        return
    database.sql("SELECT reserve_stock(%s, 2, %s, 'ann')", (product, order))
    if state in ("due", "expired", "sold out", "shortfall"):
        make_due(shard, order)
    if state in ("expired", "sold out", "shortfall"):
        database.sql("SELECT reserve_stock(%s, 5, %s)",
                     (product, f"taker of {order}"))
    if state == "expired":
        database.sql("SELECT release_stock(%s)", (f"taker of {order}",))
    if state == "shortfall":
        database.sql("SELECT confirm_stock(%s, 'first')", (order,))
    for call in ENDS.get(state, ()):
        database.sql(f"SELECT {call}", (order,))


def answer(database, call, order):
    """Rows without times, or the fields of an error, without the order id."""
    try:
        got = database.sql(
            "SELECT requested, granted, status, available, version, replayed,"
            f" expires_at IS NULL FROM {call}", (order,))
    except psycopg2.Error as error:
        got = fields(error)
    return [[value.replace(order, "ORDER") if isinstance(value, str) else value
             for value in (row if isinstance(row, tuple) else (row,))]
            for row in got]


def after(shard, product, order):
    """The state after the call: level, line, ledger and events."""
    return (shard.level(product),
            shard.sql("SELECT state, quantity, reason, payment_id FROM"
                      " stock_reservations WHERE order_id = %s", (order,)),
            shard.sql("SELECT kind, on_hand_delta, reserved_delta FROM"
                      " stock_movements WHERE product_id = %s ORDER BY id",
                      (product,)),
            shard.sql("SELECT event_type FROM stock_outbox WHERE key = %s"
                      " ORDER BY seq", (order,)))


@pytest.mark.parametrize("state", STATES)
def test_a_column_of_the_table(shards, state):
    shard = shards.shards[1]
    for verb, call in VERBS.items():
        products = shards.products(2, f"{verb} {state}")[1]
        got = []
        for database, product in zip((shards.front, shard), products):
            order = f"order of {product}"
            reach(database, shard, product, order, state)
            got.append((answer(database, call, order),
                        after(shard, product, order)))
        assert got[0] == got[1], (state, verb)


def test_the_same_request_again(shards):
    """Key and order are repeated, and reused for a different request."""
    for database in (shards.front, shards.shards[1]):
        product = shards.products(2, "again")[1][database is not shards.front]
        database.sql("SELECT receive_stock(%s, 9)", (product,))
        calls = [f"reserve_stock(%s, {n}, 'o {product}', idempotency_key =>"
                 f" 'k {product}')" for n in (2, 2, 3)]
        first, again, other = [outcome(database, call, (product,))
                               for call in calls]
        assert first[0][-1] is False and again[0][-1] is True
        assert again[0][:5] == first[0][:5]
        assert other[0] == "SK007"
