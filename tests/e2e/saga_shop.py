# SPDX-License-Identifier: PostgreSQL
"""A shop in four shards, and what tests of its orders over shards share."""

import itertools
import json
import threading
from contextlib import closing

import psycopg2
import pytest

from process import wait_until

serial = itertools.count(1)


def make_shop(shards):
    """The shards, with their front as the coordinator; each has two products
    with 100 pieces."""
    shards.set_coordinator(shards.front)
    for product in itertools.chain(*shards.products(2)):
        shards.front.sql("SELECT receive_stock(%s, 100)", (product,))
    return shards


# A test file names these two: fixtures of its own, by the names shop and order.

@pytest.fixture(scope="module", name="shop")
def fixture_shop(shards):
    return make_shop(shards)


@pytest.fixture(name="order")
def fixture_order():
    """An order id."""
    return f"order-{next(serial)}"


def lines(shop, *counts):
    """Items of an order: so many pieces of the first product of each shard."""
    products = [names[0] for names in shop.products(2)]
    return json.dumps([{"product_id": product, "quantity": count}
                       for product, count in zip(products, counts) if count])


def call(shop, function, *args):
    """The rows of a call, as dictionaries."""
    with closing(shop.front.connect()) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            marks = ", ".join(["%s"] * len(args))
            cur.execute(f"SELECT * FROM {function}({marks})", args)
            names = [column.name for column in cur.description]
            return [dict(zip(names, row)) for row in cur.fetchall()]


def statuses(rows):
    return {row["status"] for row in rows}


def states(shop, order):
    """The states of an order's lines in all shards."""
    return sorted(state for (state,) in shop.front.sql(
        "SELECT state FROM stock_reservations WHERE order_id = %s", (order,)))


def saga(shop, order):
    return shop.front.sql("SELECT state, under_way FROM stock_sagas"
                          " WHERE order_id = %s", (order,))


def hold_of_a_session_that_ended(shop, order, items):
    """The row and the holds that a session leaves which dies behind them."""
    shop.front.sql(
        "SELECT pgstock_front.ask_reserve(%s, '{0,1}',"
        " pgstock_front.places_of_items(items), jsonb_build_object('items',"
        " items), '{\"raise\": true, \"user_id\": \"u\", \"strategy\":"
        " \"auto\", \"hold\": \"4s\"}', NULL, NULL)"
        " FROM (SELECT %s::jsonb AS items) i", (order, items))
    shop.front.sql(
        "SELECT pgstock_front.saga_push(pgstock_front.saga_turn(s, 'begun'),"
        " 'hold', s.step - 1) FROM pgstock_front.saga s WHERE order_id = %s",
        (order,))
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now()"
                   " WHERE order_id = %s", (order,))


def fails(sqlstate, function, *args):
    with pytest.raises(psycopg2.Error) as error:
        function(*args)
    assert error.value.pgcode == sqlstate, error.value
    return error.value.diag


def expire(shop, order, part):
    """Lets one line of an order expire, and sells all of its product."""
    item = json.loads(lines(shop, 1, 1))[part]
    shop.shard_of(item["product_id"]).sql(
        "SELECT extend_reservation(%s, '1 millisecond')", (order,))
    wait_until(lambda: shop.front.value(
        "SELECT count(*) = 1 FROM stock_reservations WHERE order_id = %s"
        " AND expires_at < clock_timestamp() AND product_id = %s",
        (order, item["product_id"])), 10, "the line has not expired")
    return item["product_id"]


def in_parallel(*functions):
    """What each of the functions returned or raised, called concurrently."""
    results = [None] * len(functions)

    def run(n, function):
        try:
            results[n] = function()
        except psycopg2.Error as error:
            results[n] = error
    threads = [threading.Thread(target=run, args=pair)
               for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
