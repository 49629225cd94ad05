# SPDX-License-Identifier: PostgreSQL
"""docs/migrate.md while the shop sells: no order of the shop fails because of
the move, and none is missed.  test_documents.py types the page as a whole.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from psycopg2 import errors

from cluster import Database
from documents import blocks
from load import Clients
from process import wait_until

DOCUMENT = "docs/migrate.md"


def type_in(db, section):
    """The section's statements, without the copy itself, without that of old
    orders, and without what the shop does after it."""
    for block in blocks(DOCUMENT, section):
        if block.kind != "sql" or block.text.startswith("DO ") or (
                section == "Compare" and "CREATE VIEW" not in block.text):
            continue
        db.sql(block.text.replace("CALL shadow.copy_all();", ""))


@pytest.fixture
def shop(pg):
    """The shop as it is, with the extension."""
    db = pg.create_database("shop", extension=False)
    type_in(db, "The shop as it is")
    type_in(db, "Prepare")
    yield db
    db.drop()
    Database(pg, "postgres").sql("DROP ROLE shop_app")


@pytest.fixture
def shadowed(shop):
    """In shadow mode, nothing copied yet."""
    for section in ("Shadow mode", "Copy the stock", "Compare"):
        type_in(shop, section)
    return shop


class Shop:
    """What the example of docs/migrate.md does all day.  One half of its
    clients write the order before the stock, and cancel the order first."""

    PRODUCTS = 200

    def __init__(self):
        self.open = {}          # client: its orders, with their product

    def work(self, cur, name):
        _, client, turn = map(int, name.replace("o", "0").split("-"))
        mine = self.open.setdefault(client, [])
        changes = []
        if turn % 3 and len(mine) < 20:
            order, product = 10000 + 100000 * client + turn, (
                turn * 7 + client) % self.PRODUCTS + 4
            mine.append((order, product))
            changes = [("UPDATE products SET stock = stock - 1 WHERE id = %s",
                        product),
                       ("INSERT INTO orders VALUES (%s, 1, 'open')", order),
                       (f"INSERT INTO order_lines VALUES (%s, {product}, 1)",
                        order)]
            if client % 2:
                changes.append(changes.pop(0))
        elif mine:
            order, product = mine.pop(turn % len(mine))
            if turn % 2:
                changes = [("UPDATE orders SET state = 'paid' WHERE id = %s",
                            order)]
            else:
                changes = [("UPDATE products SET stock = stock + 1"
                            " WHERE id = %s", product),
                           ("UPDATE orders SET state = 'cancelled'"
                            " WHERE id = %s", order)][::-1 if client % 2
                                                      else 1]
        for statement, number in changes:
            cur.execute(statement, (number,))


def test_while_an_order_is_paid(shadowed):
    """The payment is not committed when the product is copied: its pieces are
    not reserved any more, and not on hand.  The copy does not wait, since the
    payment might need the product next."""
    db = shadowed
    copy = "SELECT shadow.copy_product(1)"
    with closing(db.connect()) as paying, paying.cursor() as cur:
        cur.execute("UPDATE orders SET state = 'paid' WHERE id = 1001")
        with pytest.raises(errors.LockNotAvailable):
            db.sql(copy)
        paying.commit()
    db.sql(copy)
    assert db.level("1") == (10, 1, 9)


def place(cur, order, *products):
    """Another order of one piece of each; its stock is not taken yet."""
    cur.execute("INSERT INTO orders VALUES (%s, 1, 'open')", (order,))
    for product in products:
        cur.execute("INSERT INTO order_lines VALUES (%s, %s, 1)",
                    (order, product))


def take(cur, *products):
    for product in products:
        cur.execute("UPDATE products SET stock = stock - 1 WHERE id = %s",
                    (product,))


@contextmanager
def sessions(db):
    """Two, and threads for what waits, none for ever."""
    options = {"options": "-c lock_timeout=20s"}
    with closing(db.connect(**options)) as one, \
            closing(db.connect(**options)) as other, \
            ThreadPoolExecutor() as threads:
        yield one, other, threads


def waits(db, statement):
    """A session waits for a lock in that statement."""
    return db.value("SELECT count(*) FROM pg_stat_activity WHERE"
                    " wait_event_type = 'Lock' AND query ~ %s", (statement,))


def in_step(db):
    """Both sides, at the end."""
    for view in ("difference", "order_difference", "failure"):
        assert db.sql(f"SELECT * FROM shadow.{view}") == [], view
    assert db.drift() == []


def test_two_orders_of_a_product_that_is_copied(shadowed):
    """The second has the lock of its foreign key, and needs the row next: the
    copy must not wait for the one and keep the other waiting."""
    db = shadowed
    with sessions(db) as (one, other, threads):
        first, second = one.cursor(), other.cursor()
        take(first, 1)
        place(second, 2001, 1)
        copied = threads.submit(db.sql, "SELECT shadow.copy_product(1)")
        wait_until(lambda: waits(db, "copy_product"), 20, "no copy")
        taken = threads.submit(take, second, 1)
        wait_until(lambda: waits(db, "UPDATE products"), 20, "it does not wait")
        place(first, 2002, 1)
        one.commit()
        taken.result(30)
        other.commit()
        copied.result(30)
    db.sql("CALL shadow.copy_all()")
    in_step(db)


def test_a_cancellation_and_an_order(shadowed):
    """One locks the order first, the other the product; neither has pgstock's
    level before it has both."""
    db = shadowed
    db.sql("CALL shadow.copy_all()")
    with sessions(db) as (one, other, threads):
        first, second = one.cursor(), other.cursor()
        first.execute("UPDATE orders SET state = 'cancelled' WHERE id = 1003")
        take(second, 1)
        placed = threads.submit(place, second, 2001, 1)
        wait_until(lambda: placed.done() or waits(db, "order_lines"), 20, "it")
        back = threads.submit(first.execute, "UPDATE products"
                              " SET stock = stock + 1 WHERE id = 1")
        placed.result(30)
        other.commit()
        back.result(30)
        one.commit()
    in_step(db)


def test_lines_in_the_order_of_pgstock(shadowed):
    """However the shop adds them: else a payment of two products, which takes
    them in that order, deadlocks with an order."""
    db = shadowed
    db.sql("INSERT INTO products VALUES (9, 5), (10, 5)")
    db.sql("CALL shadow.copy_all()")
    with sessions(db) as (one, other, threads):
        first, second = one.cursor(), other.cursor()
        first.execute("SELECT reserve_stock('10', 1, 'x')")
        take(second, 9, 10)
        place(second, 2001, 9, 10)
        placed = threads.submit(other.commit)
        wait_until(lambda: placed.done() or waits(db, "COMMIT"), 20, "it")
        assert not placed.done()
        db.sql("SET lock_timeout = '2s'; SELECT reserve_stock('9', 1, 'y')")
        one.rollback()
        placed.result(30)
    db.sql("SELECT rollback_stock('y')")
    in_step(db)


def test_an_order_within_one_transaction(shadowed):
    """Placed and paid, placed and canceled, paid from the start, and another
    line of a paid order."""
    db = shadowed
    db.sql("CALL shadow.copy_all()")
    with closing(db.connect()) as conn, conn.cursor() as cur:
        for order, state in ((2001, "paid"), (2002, "cancelled")):
            take(cur, 1)
            place(cur, order, 1)
            cur.execute("UPDATE orders SET state = %s WHERE id = %s",
                        (state, order))
            if state == "cancelled":
                cur.execute("UPDATE products SET stock = stock + 1"
                            " WHERE id = 1")
            conn.commit()
        take(cur, 1)
        cur.execute("INSERT INTO orders VALUES (2003, 1, 'paid')")
        cur.execute("INSERT INTO order_lines VALUES (2003, 1, 1)")
        conn.commit()
        take(cur, 2)
        cur.execute("INSERT INTO order_lines VALUES (2003, 2, 1)")
        conn.commit()
    in_step(db)
    assert db.level("1")[:2] == (10, 3)
    assert db.sql("SELECT state::text FROM stock_reservations"
                  " WHERE order_id = '2003'") == [("confirmed",)] * 2


@pytest.mark.parametrize("way", ["switch", "back"])
def test_an_order_that_needs_more_locks(shadowed, way):
    """It ends the switch, not the order: both have a table that the other
    needs."""
    db = shadowed
    db.sql("CALL shadow.copy_all()")
    switch, back = [block.text for block in blocks(DOCUMENT)
                    if "SHARE ROW EXCLUSIVE" in block.text]
    steps = [lambda cur: place(cur, 2001, 1), lambda cur: take(cur, 1)]
    if way == "back":
        db.sql(switch)
        db.sql("DROP TRIGGER frozen ON products")
        steps.reverse()
    with closing(db.connect()) as conn, conn.cursor() as cur, \
            ThreadPoolExecutor() as threads:
        steps[0](cur)
        done = threads.submit(db.sql, switch if way == "switch" else back)
        wait_until(lambda: waits(db, "LOCK TABLE"), 20, "it does not wait")
        steps[1](cur)
        conn.commit()
        with pytest.raises(errors.LockNotAvailable):
            done.result(30)


def test_while_the_shop_sells(shadowed):
    """The copy misses no order, and waits for none while others wait for
    it."""
    db = shadowed
    db.sql("INSERT INTO products SELECT i + 3, 100000"
           f" FROM generate_series(1, {Shop.PRODUCTS}) i")
    with Clients(db, 4, Shop().work) as clients:
        clients.progress(200)
        before = len(clients.acknowledged)
        db.sql("CALL shadow.copy_all()")
        assert len(clients.acknowledged) > before, "the shop stood still"
        clients.progress(200)
    in_step(db)
    assert db.value("SELECT count(*) FROM stock_levels") == Shop.PRODUCTS + 3
    assert clients.broken == 0, clients.broken_by
