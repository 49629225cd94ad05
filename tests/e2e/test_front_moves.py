# SPDX-License-Identifier: PostgreSQL
"""Pieces of flash sales that move between shards: what holds one move up does
not hold up others, and none stays where it does not belong."""

import json
from contextlib import closing, contextmanager

import psycopg2
import pytest

from process import wait_until
from shards import LONGEST_WAIT
from test_front import name
from test_front_sales import buy, pieces, sale_of, users_of

HOME, GUEST = 1, 3          # of the product, of the buyer


def returned(shards, count=1):
    """The products of sales that have ended, of which five pieces each were
    returned since in a shard that is not the product's; sorted."""
    sales = [sale_of(shards, 8, limit=8, shard=HOME) for _ in range(count)]
    orders = [name("order") for _ in sales]
    for (sale, _), order in zip(sales, orders):
        assert buy(shards, sale, users_of(shards, GUEST)[0], order,
                   5) == "granted"
        shards.front.sql("SELECT confirm_stock(%s)", (order,))
    for sale, _ in sales:
        shards.front.sql("SELECT close_flash_sale(%s)", (sale,))
    for order in orders:
        shards.front.sql("SELECT return_stock(%s)", (order,))
    for _, product in sales:
        assert shards.shards[HOME].level(product) == (13, 0, 13)
        assert pieces(shards, product) == (18, 0)
    return [product for _, product in sales]


def sweep(shards):
    return shards.front.sql("SELECT sweep_orders()")


def test_two_products_arrive_in_two_transactions(shards):
    """In one, they would be locked in another order than by an order of
    both."""
    products = returned(shards, 2)
    sweep(shards)
    moves = [move for (move,) in shards.shards[GUEST].sql(
        "SELECT id::text FROM pgstock_shard.stock_move WHERE activity_id IS"
        " NULL AND move ->> 'product_id' = ANY (%s)", (products,))]
    assert shards.shards[HOME].sql(
        "SELECT count(*), count(DISTINCT xmin::text) FROM"
        " pgstock_shard.stock_arrival WHERE id = ANY (%s::uuid[])",
        (moves,)) == [(2, 2)]


def test_a_shard_that_takes_nothing_delays_no_other(shards):
    receive = "ALTER FUNCTION pgstock_shard.{}(text) RENAME TO {}"
    shards.shards[0].sql(receive.format("sale_receive_call", "away"))
    try:
        sale, _ = sale_of(shards, 8, shard=HOME)
        assert [shard.value("SELECT count(*) FROM stock_sales WHERE"
                            " activity_id = %s", (sale,))
                for shard in shards.shards] == [0, 1, 1, 1]
        assert shards.shards[HOME].value(
            "SELECT count(*) FROM pgstock_shard.stock_move WHERE activity_id"
            " = %s AND arrived_at IS NULL", (sale,)) == 1
    finally:
        shards.shards[0].sql(receive.format("away", "sale_receive_call"))
    assert buy(shards, sale, users_of(shards, 0)[0]) == "granted"


def test_a_locked_level_does_not_stop_the_sweeper(shards):
    (product,) = returned(shards)
    home = shards.shards[HOME]
    with closing(home.connect()) as conn, conn.cursor() as cur:
        # a sweeper that waits gets it then
        cur.execute("SET idle_in_transaction_session_timeout = '60s'")
        cur.execute("SELECT FROM pgstock_internal.level WHERE product_id = %s"
                    " FOR UPDATE", (product,))
        sweep(shards)
        assert home.level(product) == (13, 0, 13)
    wait_until(lambda: sweep(shards) and home.level(product) == (18, 0, 18),
               30, lambda: home.sql("TABLE stock_levels"))


def test_a_safety_stock_does_not_keep_pieces_away_from_home(shards):
    (product,) = returned(shards)
    shards.shards[GUEST].sql("SELECT configure_product(%s, safety => 5)",
                             (product,))
    sweep(shards)
    assert shards.shards[HOME].level(product) == (18, 0, 18)
    assert pieces(shards, product) == (18, 0)
    assert shards.drift() == []


def test_a_sale_that_has_just_arrived_is_sold_out(shards):
    """The shard of the user did not know the sale when it was asked; since
    then, the sale has arrived and its last piece is sold."""
    sale, product = sale_of(shards, 1, shard=HOME)
    assert buy(shards, sale, users_of(shards, 2)[0]) == "granted"
    unknown = json.dumps({"order_id": "late", "requested": 1, "granted": 0,
                          "status": "not_open", "available": 0, "version": 0,
                          "replayed": False})
    assert shards.front.sql(
        "SELECT product_id, status FROM pgstock_front.sale_find(0, %s, %s,"
        " 'late', 1, NULL, jsonb_populate_record("
        "NULL::pgstock_front.stock_result, %s))",
        (sale, users_of(shards, 0)[0], unknown)) == [(product, "insufficient")]


@contextmanager
def never_arrives(shards, sale):
    """A move of one piece that its shard does not mark as arrived."""
    home = shards.shards[HOME]
    home.sql("SELECT pgstock_shard.sale_send(%s, %s, 1)", (sale, GUEST))
    home.sql("CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql"
             " AS 'BEGIN RETURN NULL; END';"
             " CREATE TRIGGER skip BEFORE UPDATE OF arrived_at ON"
             " pgstock_shard.stock_move FOR EACH ROW EXECUTE FUNCTION"
             " public.skip()")
    try:
        yield
    finally:
        home.sql("DROP FUNCTION public.skip() CASCADE")
        shards.front.sql(LONGEST_WAIT % "1 minute")


def close(shards, sale, **more):
    with pytest.raises(psycopg2.Error) as error:
        shards.front.sql("SELECT close_flash_sale(%s)", (sale,), **more)
    return error.value


def test_a_sale_is_being_closed_for_a_limited_time(shards):
    sale, product = sale_of(shards, 8, shard=HOME)
    with never_arrives(shards, sale):
        error = close(shards, sale, options="-c statement_timeout=1000")
        assert error.pgcode == "57014"
        shards.front.sql(LONGEST_WAIT % "0.3 s")
        error = close(shards, sale)
        assert error.pgcode == "40001", error
        assert error.diag.message_primary == (
            f'could not close flash sale "{sale}" in all shards in time')
        assert error.diag.message_hint.startswith("The sweeper delivers them.")
    wait_until(lambda: sweep(shards)
               and shards.shards[HOME].level(product) == (18, 0, 18), 30,
               lambda: shards.front.sql("TABLE stock_levels"))
    assert close(shards, sale).pgcode == "SK008"


def guests(shards, product):
    """The shards that know the product as one of another shard."""
    return [n for n, shard in enumerate(shards.shards) if shard.value(
        "SELECT count(*) FROM pgstock_shard.guest_level WHERE product_id = %s",
        (product,))]


def let_pass(shards, days):
    for shard in shards.shards:
        shard.sql("UPDATE pgstock_shard.guest_level SET needed_at = needed_at"
                  " - %s * interval '1 day', looked_at = looked_at - %s *"
                  " interval '1 day'", (days, days))


def test_a_guest_is_forgotten_when_nothing_can_come_back(shards):
    """Not before: a shard in which an order has bought may get pieces back,
    and one whose history goes back further may have such an order there."""
    sale, product = sale_of(shards, 8, limit=8, shard=HOME)
    order = name("order")
    assert buy(shards, sale, users_of(shards, GUEST)[0], order) == "granted"
    shards.front.sql("SELECT confirm_stock(%s)", (order,))
    let_pass(shards, 70)
    sweep(shards)
    assert guests(shards, product) == [0, 2, GUEST]     # it is open
    shards.front.sql("SELECT close_flash_sale(%s)", (sale,))
    let_pass(shards, 20)
    sweep(shards)
    assert guests(shards, product) == [0, 2, GUEST]
    shards.shards[2].sql("SELECT pgstock_internal.history_add_month(now()"
                         " - interval '70 days')")
    let_pass(shards, 50)
    sweep(shards)
    assert guests(shards, product) == [2, GUEST]
    ((month,),) = shards.shards[2].sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent ="
        " 'pgstock_internal.reservation_history'::regclass")
    shards.shards[2].sql(f"DROP TABLE {month}")
    let_pass(shards, 2)
    sweep(shards)
    assert guests(shards, product) == [GUEST]
    shards.front.sql("SELECT return_stock(%s)", (order,))
    sweep(shards)
    assert shards.shards[HOME].level(product) == (18, 0, 18)


def test_a_guest_that_was_forgotten_comes_again(shards):
    sale, product = sale_of(shards, 8, shard=HOME)
    shards.front.sql("SELECT close_flash_sale(%s)", (sale,))
    let_pass(shards, 32)
    sweep(shards)
    assert guests(shards, product) == []
    sale = name("sale")
    shards.front.sql("SELECT open_flash_sale(%s, %s, 8)", (sale, product))
    assert buy(shards, sale, users_of(shards, GUEST)[0]) == "granted"
    assert guests(shards, product) == [0, 2, GUEST]
