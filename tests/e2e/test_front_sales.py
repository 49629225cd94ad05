# SPDX-License-Identifier: PostgreSQL
"""Flash sales over shards: one quota in four shards, and each user in one.

The limit is counted where the user is, so pieces move to the buyers. Then two
things can go wrong: a piece is in two shards, or a buyer is refused while a
piece is left in another one.
"""

import random
import threading
from collections import Counter
from contextlib import closing

import psycopg2

from process import wait_until
from shards import Shards
from test_front import name, outcome

BUY = "purchase_flash_sale(%s, %s, %s, %s)"


def sale_of(shards, pieces, limit=1, shard=1, more=""):
    """The names of an open sale and of its product, which is in one shard."""
    sale = name("sale")
    product = shards.products(1, f"sale{sale}")[shard][0]
    shards.front.sql("SELECT receive_stock(%s, %s)", (product, pieces + 10))
    shards.front.sql(f"SELECT open_flash_sale(%s, %s, %s, %s {more})",
                     (sale, product, pieces, limit))
    return sale, product


def users_of(shards, shard, count=1, prefix="user"):
    """Users who buy in the shard."""
    return [user for (user,) in shards.front.sql(
        "SELECT %s || n FROM generate_series(1, 100 + 20 * %s) n"
        " WHERE pgstock_front.shard_of(%s || n, 4) = %s LIMIT %s",
        (prefix, count, prefix, shard, count))]


def buy(shards, sale, user, order=None, quantity=1):
    ((status,),) = shards.front.sql(f"SELECT status FROM {BUY}",
                                    (sale, user, order or name("order"),
                                     quantity))
    return status


def quotas(shards, sale):
    """What each shard has of an open sale."""
    return [shard.value("SELECT quantity FROM stock_sales WHERE activity_id ="
                        " %s", (sale,)) for shard in shards.shards]


def pieces(shards, product):
    """On hand and reserved in all shards, without what is under way."""
    return shards.front.sql(
        "SELECT sum(on_hand)::int, sum(reserved)::int FROM stock_levels"
        " WHERE product_id = %s", (product,))[0]


def test_the_quota_is_split(shards):
    sale, product = sale_of(shards, 10)
    assert quotas(shards, sale) == [2, 4, 2, 2]
    assert pieces(shards, product) == (20, 0)
    assert shards.front.sql(
        "SELECT product_id, quantity, state, sold, remaining, shard"
        " FROM stock_sales WHERE activity_id = %s", (sale,)
    ) == [(product, 10, "open", 0, 10, None)]
    assert shards.drift() == []
    assert shards.front.value("SELECT close_flash_sale(%s)", (sale,)) == 10
    assert shards.shard_of(product).level(product) == (20, 0, 20)
    assert pieces(shards, product) == (20, 0)


def test_one_user_in_one_shard_buys_all_of_it(shards):
    """Her shard has two pieces; the others come from the other shards."""
    sale, product = sale_of(shards, 10, limit=10)
    (user,) = users_of(shards, 0)
    assert [buy(shards, sale, user) for _ in range(11)] == \
        ["granted"] * 10 + ["over_limit"]
    assert pieces(shards, product) == (20, 10)
    assert quotas(shards, sale) == [10, 0, 0, 0]
    (other,) = users_of(shards, 2)
    assert buy(shards, sale, other) == "insufficient"
    assert shards.front.sql(
        "SELECT state, sold, remaining FROM stock_sales WHERE activity_id = %s",
        (sale,)) == [("sold_out", 10, 0)]
    assert shards.drift() == []


def test_pieces_of_several_shards_are_one_purchase(shards):
    sale, product = sale_of(shards, 8, limit=8)
    (user,) = users_of(shards, 3)
    assert buy(shards, sale, user, quantity=7) == "granted"
    assert shards.front.sql(f"SELECT status, granted, available FROM {BUY}",
                            (sale, users_of(shards, 0)[0], name("order"), 2)
                            ) == [("insufficient", 0, 1)]
    assert buy(shards, sale, users_of(shards, 0)[0]) == "granted"
    assert pieces(shards, product) == (18, 8)


def test_a_refusal_moves_nothing(shards):
    """Neither that of the limit, nor one for more pieces than are left."""
    sale, _ = sale_of(shards, 8, limit=5)
    (user,) = users_of(shards, 0)
    assert buy(shards, sale, user, quantity=6) == "over_limit"
    before = quotas(shards, sale)
    assert buy(shards, sale, user, quantity=5) == "granted"
    (other,) = users_of(shards, 1)
    moved = quotas(shards, sale)
    assert before != moved
    assert buy(shards, sale, other, quantity=4) == "insufficient"
    assert quotas(shards, sale) == moved


def test_fewer_pieces_than_shards(shards):
    """Shards without a part know the sale, too."""
    sale, _ = sale_of(shards, 2)
    assert quotas(shards, sale) == [0, 2, 0, 0]
    assert buy(shards, sale, users_of(shards, 0)[0]) == "granted"
    assert buy(shards, sale, users_of(shards, 2)[0]) == "granted"
    assert buy(shards, sale, users_of(shards, 3)[0]) == "insufficient"
    assert buy(shards, sale, users_of(shards, 1)[0]) == "insufficient"


def test_what_is_left_and_returned_goes_home(shards):
    """Also what is returned after the end, by the sweeper."""
    sale, product = sale_of(shards, 8, limit=8)
    (user,) = users_of(shards, 3)
    order = name("order")
    assert buy(shards, sale, user, order, 5) == "granted"
    shards.front.sql("SELECT confirm_stock(%s)", (order,))
    assert shards.front.value("SELECT close_flash_sale(%s)", (sale,)) == 3
    home = shards.shard_of(product)
    assert home.level(product) == (13, 0, 13)
    assert shards.front.sql("SELECT status FROM return_stock(%s)", (order,)
                            ) == [("returned",)]
    assert home.level(product) == (13, 0, 13)
    shards.front.sql("SELECT sweep_orders()")
    assert home.level(product) == (18, 0, 18)
    assert pieces(shards, product) == (18, 0)
    assert shards.drift() == []


def test_the_end_by_itself(shards):
    sale, product = sale_of(shards, 8, more=", ends_at => now() + '1 hour'")
    user, other = users_of(shards, 2, 2)
    assert buy(shards, sale, user) == "granted"
    for shard in shards.shards:
        shard.sql("UPDATE pgstock_internal.sale SET ends_at = now()"
                  " WHERE activity_id = %s", (sale,))
    assert buy(shards, sale, other) == "not_open"
    for shard in shards.shards:
        wait_until(lambda one=shard: one.value(
            "SELECT pgstock_internal.end_sales() > 0 AND state = 'closed'"
            " FROM stock_sales WHERE activity_id = %s", (sale,)), 30,
            "the sale has not ended")
    shards.front.sql("SELECT sweep_orders()")
    assert shards.shard_of(product).level(product) == (17, 0, 17)
    assert shards.front.sql(
        "SELECT state, sold, remaining FROM stock_sales WHERE activity_id = %s",
        (sale,)) == [("closed", 1, 7)]
    assert shards.front.value("SELECT close_flash_sale(%s)", (sale,)) == 7


def test_orders_of_a_sale_are_settled(shards):
    front = shards.front
    sale, product = sale_of(shards, 8, limit=8)
    (user,) = users_of(shards, 0)
    calls = {"confirm_stock(%s)": "confirmed", "release_stock(%s)": "released",
             "rollback_stock(%s)": "rolled_back",
             "extend_reservation(%s, '1 hour')": "granted"}
    for call, status in calls.items():
        order = name("order")
        assert buy(shards, sale, user, order) == "granted"
        assert front.sql(f"SELECT status FROM {call}", (order,)) == [(status,)]
        assert len(front.sql("SELECT * FROM order_history(%s)", (order,))) > 3
    assert pieces(shards, product) == (17, 1)
    assert shards.drift() == []


def test_the_same_purchase_again(shards):
    sale, _ = sale_of(shards, 4, limit=4)
    (user,) = users_of(shards, 0)
    order = name("order")
    query = f"SELECT status, granted, replayed FROM {BUY}"
    args = (sale, user, order, 3)
    assert shards.front.sql(query, args) == [("granted", 3, False)]
    assert shards.front.sql(query, args) == [("granted", 3, True)]
    assert buy(shards, sale, users_of(shards, 1)[0]) == "granted"
    assert shards.front.sql(query, args) == [("granted", 3, True)]
    assert outcome(shards.front, BUY, (sale, user, order, 2))[0] == "SK007"
    shards.front.sql("SELECT close_flash_sale(%s)", (sale,))
    assert shards.front.sql(query, args) == [("granted", 3, True)]


def sale_errors(product, open_sale, closed):
    return [
        ("open_flash_sale(NULL, %s, 1)", (product,)),
        ("open_flash_sale('', %s, 1)", (product,)),
        ("open_flash_sale('s', NULL, 1)", ()),
        ("open_flash_sale('s', %s, 0)", (product,)),
        ("open_flash_sale('s', %s, 1, 0)", (product,)),
        ("open_flash_sale('s', %s, 1, ends_at => '2000-01-01')", (product,)),
        ("open_flash_sale('s', %s, 99)", (product,)),
        ("open_flash_sale('s', %s, 1)", (product + "?",)),
        ("open_flash_sale('s', %s, 1, location => 'moon')", (product,)),
        ("open_flash_sale(%s, %s, 1)", (open_sale, product)),
        ("open_flash_sale(%s, %s, 1)", (closed, product)),
        ("purchase_flash_sale('none', 'ann', 'o')", ()),
        ("purchase_flash_sale(%s, 'ann', 'o')", (closed,)),
        ("purchase_flash_sale(NULL, 'ann', 'o')", ()),
        ("purchase_flash_sale(%s, NULL, 'o')", (open_sale,)),
        ("purchase_flash_sale(%s, 'ann', NULL)", (open_sale,)),
        ("purchase_flash_sale(%s, 'ann', 'o', 0)", (open_sale,)),
        ("purchase_flash_sale(%s, 'ann', 'o', 3)", (open_sale,)),
        ("purchase_flash_sale(%s, 'ann', 'o', 1, '7')", (open_sale,)),
        ("close_flash_sale(NULL)", ()),
        ("close_flash_sale('none')", ()),
        ("close_flash_sale(%s)", (closed,)),
    ]


def test_answers_are_those_of_one_database(shards, db):
    """Rows and errors equal those of a database without shards."""
    product = shards.products(1, name("errors"))[1][0]
    sales = [name("sale"), name("sale")]
    for database in (db, shards.front):
        database.sql("SELECT receive_stock(%s, 50)", (product,))
        for sale in sales:
            database.sql("SELECT open_flash_sale(%s, %s, 20, 2)",
                         (sale, product))
        assert database.value("SELECT close_flash_sale(%s)", sales[1:]) == 20
    for call, args in sale_errors(product, *sales):
        one = outcome(db, call, args)
        front = outcome(shards.front, call, args)
        if isinstance(one, list):       # the rest is that of the user's shard
            one, front = [[row[:6] for row in rows] for rows in (one, front)]
        assert front == one, call


def test_an_order_that_names_its_shard(pg):
    """Then all purchases are in the shard of the product."""
    made = Shards(pg, count=2, line_key="split_part(product_id, '/', 1)",
                  order_key="split_part(order_id, '/', 1)")
    front = made.front
    shops = {made.shards.index(made.shard_of(f"m{n}/SKU")): f"m{n}"
             for n in range(20)}
    front.sql("SELECT receive_stock(%s, 5)", (f"{shops[0]}/SKU",))
    front.sql("SELECT open_flash_sale('friday', %s, 2, 2)",
              (f"{shops[0]}/SKU",))
    assert buy(made, "friday", "ann", f"{shops[0]}/1") == "granted"
    assert buy(made, "friday", "bob", f"{shops[0]}/2") == "granted"
    assert buy(made, "friday", "cid", f"{shops[0]}/3") == "insufficient"
    assert buy(made, "saturday", "cid", f"{shops[1]}/3") == "not_open"
    assert outcome(front, "purchase_flash_sale('friday', 'ann', %s)",
                   (f"{shops[1]}/1",))[:3] == (
        "0A000", f'order "{shops[1]}/1" and flash sale "friday" are in'
        " different shards", "The sale is in shard 0, but shard 1 is named by"
        " the order id.")
    assert front.sql("SELECT status FROM confirm_stock(%s)",
                     (f"{shops[0]}/1",)) == [("confirmed",)]
    assert front.value("SELECT close_flash_sale('friday')") == 0
    assert made.drift() == []
    made.drop()


def test_rights_are_those_of_the_level_for_sales(shards):
    sale, product = sale_of(shards, 4)
    app = shards.add_role(name("buyer"), "app")
    (user,) = users_of(shards, 3, prefix="rights-")
    query = f"SELECT status FROM {BUY}"
    assert [shards.front.sql(query, (sale, other, name("order"), 1), user=app)
            for other in users_of(shards, 3, 4, "rights-")] == \
        [[("granted",)]] * 4
    assert shards.front.sql(query, (sale, user, name("order"), 1), user=app
                            ) == [("over_limit",)]
    for call, args in (("close_flash_sale(%s)", (sale,)),
                       ("open_flash_sale('x', %s, 1)", (product,))):
        assert outcome(shards.front, call, args, user=app)[0] == "42501"
    shard = shards.shards[0]
    refused = outcome(shard, "pgstock_shard.sale_receive('[]', NULL)",
                      user=app)
    assert refused[:2] == ("42501", "permission denied for orders over shards")


def test_sales_are_not_bought_in_a_transaction_block(shards):
    sale, product = sale_of(shards, 4)
    with closing(shards.front.connect()) as conn, conn.cursor() as cur:
        for call, args in ((BUY, (sale, "ann", "o", 1)),
                           ("close_flash_sale(%s)", (sale,)),
                           ("open_flash_sale('x', %s, 1)", (product,))):
            try:
                cur.execute(f"SELECT {call}", args)
            except psycopg2.Error as error:
                assert error.pgcode == "25001"
            else:
                raise AssertionError(f"{call} was not refused")
            conn.rollback()


def test_a_name_is_used_once(shards):
    """Also for products of different shards."""
    sale, _ = sale_of(shards, 4)
    other = shards.products(1, "second")[3][0]
    shards.front.sql("SELECT receive_stock(%s, 5)", (other,))
    assert outcome(shards.front, "open_flash_sale(%s, %s, 1)",
                   (sale, other))[:2] == (
        "22023", f'flash sale "{sale}" was opened before')


def test_a_sale_of_one_shard(shards):
    """It was opened there, or is older than the shards."""
    product = shards.products(1, name("one"))[2][0]
    shards.front.sql("SELECT receive_stock(%s, 5)", (product,))
    sale = name("sale")
    shards.shards[2].sql("SELECT open_flash_sale(%s, %s, 2, 2)",
                         (sale, product))
    (user,) = users_of(shards, 0)
    assert buy(shards, sale, user) == "granted"
    assert buy(shards, sale, user, quantity=2) == "over_limit"
    assert buy(shards, sale, users_of(shards, 1)[0]) == "granted"
    assert buy(shards, sale, users_of(shards, 2)[0]) == "insufficient"
    assert buy(shards, sale, users_of(shards, 3)[0]) == "insufficient"
    assert shards.shards[2].level(product) == (5, 2, 3)
    assert shards.front.value("SELECT close_flash_sale(%s)", (sale,)) == 0


def in_sessions(shards, count, calls):
    """The answers to all calls (query, arguments), made by so many sessions
    at the same time; an error is an answer too."""
    calls = list(enumerate(calls))
    answers = [None] * len(calls)

    def run():
        with closing(shards.front.connect()) as conn:
            conn.autocommit = True
            with conn.cursor() as cur:
                while True:
                    try:
                        n, (query, args) = calls.pop()
                    except IndexError:
                        return
                    try:
                        cur.execute(query, args)
                        answers[n] = cur.fetchone()[0]
                    except psycopg2.Error as error:
                        answers[n] = error
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a buyer hangs"
    return answers


def test_a_hundred_buyers_for_a_few_pieces(shards):
    """Most users are of one shard, which has a quarter of the pieces."""
    wanted = 30
    sale, product = sale_of(shards, wanted, limit=2)
    users = users_of(shards, 0, 84, "hot-") + users_of(shards, 2, 8, "cold-") \
        + users_of(shards, 3, 8, "cool-")
    calls = [(f"SELECT status FROM {BUY}", (sale, user, f"{user}-{turn}", 1))
             for user in users for turn in range(3)]
    random.shuffle(calls)
    answers = Counter(in_sessions(shards, 16, calls))
    assert set(answers) <= {"granted", "insufficient", "over_limit"}, answers
    assert answers["granted"] == wanted
    assert pieces(shards, product) == (wanted + 10, wanted)
    assert shards.front.value(
        "SELECT max(n) FROM (SELECT sum(quantity) AS n FROM stock_reservations"
        " WHERE product_id = %s GROUP BY user_id) q", (product,)) <= 2
    assert shards.drift() == []


def test_no_buyer_is_refused_while_pieces_are_left(shards):
    """As many pieces as the buyers want: so each refusal would be false."""
    for turn in range(2):
        wants = [random.choice((1, 1, 1, 2, 3)) for _ in range(80)]
        sale, product = sale_of(shards, sum(wants), limit=3)
        users = users_of(shards, turn, 60, f"near{turn}-") \
            + users_of(shards, 3, 20, f"far{turn}-")
        calls = [(f"SELECT status FROM {BUY}",
                  (sale, user, f"{sale}-{user}", want))
                 for user, want in zip(users, wants)]
        answers = Counter(map(str, in_sessions(shards, 16, calls)))
        assert answers == {"granted": len(wants)}
        assert pieces(shards, product) == (sum(wants) + 10, sum(wants))
        assert shards.front.value("SELECT close_flash_sale(%s)", (sale,)) == 0
    assert shards.drift() == []


def test_two_buyers_for_the_last_piece(shards):
    """It is in a third shard."""
    for _ in range(5):
        sale, product = sale_of(shards, 1)
        calls = [(f"SELECT status FROM {BUY}",
                  (sale, users_of(shards, shard)[0], name("last"), 1))
                 for shard in (0, 2)]
        assert sorted(in_sessions(shards, 2, calls)) == ["granted",
                                                         "insufficient"]
        assert pieces(shards, product) == (11, 1)
    assert shards.drift() == []


def test_a_closed_sale_sells_nothing_more(shards):
    """Buyers and moves are under way while it closes; all pieces are either
    sold or at home. There are enough for all buyers, so none is refused for
    another reason."""
    for _ in range(2):
        sale, product = sale_of(shards, 70)
        users = users_of(shards, 0, 60, "closing")
        calls = [(f"SELECT status FROM {BUY}",
                  (sale, user, f"{sale}-{user}", 1)) for user in users]
        calls.insert(30, ("SELECT 'left'||close_flash_sale(%s)", (sale,)))
        answers = Counter(map(str, in_sessions(shards, 12, calls)))
        sold = answers["granted"]
        assert set(answers) <= {"granted", "not_open", f"left{70 - sold}"}
        shards.front.sql("SELECT sweep_orders()")
        assert shards.shard_of(product).level(product)[2] == 80 - sold
        assert pieces(shards, product) == (80, sold)
        assert buy(shards, sale, users_of(shards, 3)[0]) == "not_open"
    assert shards.drift() == []
