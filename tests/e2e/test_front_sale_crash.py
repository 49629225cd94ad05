# SPDX-License-Identifier: PostgreSQL
"""Flash sales over shards under kill -9.

A piece that moves to another shard is in none for a moment. Whatever is killed
then: it must not be in two shards, nobody may be refused because it is in none,
and it must be for sale again.
"""

import os
import random
import threading
import time
from contextlib import closing

import psycopg2
import pytest

from load import Threads
from process import wait_until
from saga_fleet import Fleet
from test_front_sales import users_of

pytestmark = [pytest.mark.long, pytest.mark.alone]

BUY = "SELECT status FROM purchase_flash_sale(%s, %s, %s, %s)"
SECONDS = float(os.environ.get("PGSTOCK_SALE_SECONDS", 20))
ARRIVES = "to_jsonb(r) ? 'arrived_at' AND NOT to_jsonb(r) ? 'move'"


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(new_dir):
    made = Fleet(new_dir)
    for shard in made.shards:
        shard.sql("CREATE TRIGGER stop BEFORE INSERT ON"
                  " pgstock_shard.stock_arrival"
                  " FOR EACH ROW EXECUTE FUNCTION public.stop()")
    yield made
    made.stop_all()


class Buyer(threading.Thread):
    """One call in a session of its own."""

    def __init__(self, fleet, *args):
        super().__init__(daemon=True)
        self.fleet, self.args, self.answer = fleet, args, None
        self.start()

    def run(self):
        try:
            self.answer = self.fleet.front.value(BUY, self.args)
        except psycopg2.Error as error:
            self.answer = error

    def end(self):
        self.join(60)
        assert not self.is_alive(), "a buyer hangs"
        return self.answer


def open_sale(fleet, sale, quantity, limit=1):
    """A sale of a product of shard 1."""
    product = fleet.products(1, sale)[1][0]
    fleet.front.sql("SELECT receive_stock(%s, %s)", (product, quantity))
    fleet.front.sql("SELECT open_flash_sale(%s, %s, %s, %s)",
                    (sale, product, quantity, limit))
    return product


def held(fleet, product):
    """(on hand, reserved) in all shards."""
    return fleet.front.sql("SELECT sum(on_hand)::int, sum(reserved)::int FROM"
                           " stock_levels WHERE product_id = %s",
                           (product,))[0]


@pytest.mark.parametrize("victim", ["front", "source", "target"])
def test_a_piece_on_the_way(fleet, victim):
    """A buyer's piece has left its shard and has not arrived. Another buyer
    waits for it, and gets it if the first one does not."""
    sale = f"way-{victim}"
    product = open_sale(fleet, sale, 1)
    (first,) = users_of(fleet, 0, 1, "first")
    (second,) = users_of(fleet, 2, 1, "second")
    with fleet.stopped_at(fleet.shards[0], ARRIVES) as waits:
        one = Buyer(fleet, sale, first, f"{sale}-1", 1)
        wait_until(waits, 60, "nothing is on the way")
        assert held(fleet, product) == (0, 0)
        if victim != "target":
            {"front": fleet.all[0],
             "source": fleet.shards[1].pg}[victim].power_cut()
            fleet.revive()
        else:
            fleet.shards[0].pg.power_cut()
    answers = [one.end()]
    fleet.wait_reachable()
    answers.append(Buyer(fleet, sale, second, f"{sale}-2", 1).end())
    again = fleet.front.value(BUY, (sale, first, f"{sale}-1", 1))
    assert held(fleet, product) == (1, 1)
    assert sorted([again, answers[1]]) == ["granted", "insufficient"], answers
    fleet.check_books()


def test_a_buyer_waits_for_a_piece_on_the_way(fleet):
    """It is not refused while another buyer may not get the piece."""
    product = open_sale(fleet, "patient", 1)
    (first,) = users_of(fleet, 0, 1, "first")
    (second,) = users_of(fleet, 2, 1, "second")
    with fleet.stopped_at(fleet.shards[0], ARRIVES) as waits:
        one = Buyer(fleet, "patient", first, "patient-1", 1)
        wait_until(waits, 60, "nothing is on the way")
        two = Buyer(fleet, "patient", second, "patient-2", 1)
        # it looks, waits, and then tries to finish the move itself
        wait_until(lambda: fleet.shards[0].value(
            "SELECT count(*) > 1 FROM pg_stat_activity WHERE datname ="
            " current_database() AND wait_event_type = 'Lock'"), 60,
            lambda: f"the second buyer does not wait: {two.answer}")
        assert two.answer is None
    assert sorted([one.end(), two.end()]) == ["granted", "insufficient"]
    assert held(fleet, product) == (1, 1)


def test_the_front_dies_while_a_sale_opens(fleet):
    """The sale is open, and its parts arrive when they are needed."""
    (buyer,) = users_of(fleet, 3, 1, "opening")
    product = fleet.products(1, "opening")[1][0]
    fleet.front.sql("SELECT receive_stock(%s, 8)", (product,))

    def opens():
        try:
            fleet.front.sql("SELECT open_flash_sale('opening', %s, 8, 8)",
                            (product,))
        except psycopg2.Error:
            pass
    with fleet.stopped_at(fleet.shards[0], ARRIVES) as waits:
        thread = threading.Thread(target=opens)
        thread.start()
        wait_until(waits, 60, "nothing is on the way")
        fleet.all[0].power_cut()
        thread.join(60)
    assert fleet.front.value(BUY, ("opening", buyer, "opening-1", 8)) \
        == "granted"
    assert held(fleet, product) == (8, 8)
    fleet.check_books()


def test_a_piece_that_has_left_does_not_come_back(fleet):
    """A shard whose commits are asynchronous dies once its piece is sold in
    another one."""
    product = open_sale(fleet, "lost", 1)
    source = fleet.shards[1]
    source.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    source.sql(f'ALTER DATABASE "{source.name}" SET synchronous_commit = off')
    source.pg.restart()
    (buyer,) = users_of(fleet, 0, 1, "lost")
    assert fleet.front.value(BUY, ("lost", buyer, "lost-1", 1)) == "granted"
    source.pg.power_cut()
    fleet.revive()
    assert held(fleet, product) == (1, 1)
    source.sql(f'ALTER DATABASE "{source.name}" RESET synchronous_commit')
    source.sql("ALTER SYSTEM RESET wal_writer_delay")
    source.pg.restart()


class Buyers(Threads):
    """Users buy and give back, while servers are killed."""

    def __init__(self, fleet, sale, names):
        super().__init__()
        self.fleet, self.sale, self.names = fleet, sale, names
        self.granted = {}               # order: (user, quantity)
        self.unknown = set()
        self.start(*((self.buy, n) for n in range(6)))

    def call(self, *args):
        try:
            with closing(self.fleet.front.connect()) as conn:
                conn.autocommit = True
                with conn.cursor() as cur:
                    cur.execute(*args)
                    return cur.fetchone()[0]
        except psycopg2.Error as error:
            if error.pgcode and error.pgcode[:2] not in ("08", "40", "57",
                                                         "XX", "55"):
                self.errors.append(error)
            return None

    def buy(self, number):
        dice = random.Random(number)
        turn = 0
        while not self.ending.is_set():
            turn += 1
            user = dice.choice(self.names)
            order = f"{self.sale}-{number}-{turn}"
            want = dice.choice((1, 1, 2))
            status = self.call(BUY, (self.sale, user, order, want))
            if status is None:
                self.unknown.add(order)
            elif status == "granted":
                self.granted[order] = (user, want)
                if dice.random() < 0.6:
                    del self.granted[order]
                    self.unknown.add(order)
                    self.call("SELECT status FROM release_stock(%s)", (order,))


def test_random_kills_while_buyers_buy(fleet):
    """At the end all pieces are there, and all of them can be bought."""
    wanted = 60
    product = open_sale(fleet, "storm", wanted, 2)
    names = users_of(fleet, 0, 40, "storm-") + users_of(fleet, 3, 10, "storm-")
    buyers = Buyers(fleet, "storm", names)
    end = time.monotonic() + SECONDS
    kills = 0
    while time.monotonic() < end:
        time.sleep(random.uniform(0.2, 2))
        victim = random.choice([fleet.all[0], *fleet.all[2:]])
        victim.power_cut()
        kills += 1
        victim.start()
    buyers.stop()
    assert kills >= 3
    fleet.check_books()
    live = {order: (user, quantity) for shard in fleet.shards
            for order, user, quantity in shard.sql(
                "SELECT order_id, user_id, quantity FROM stock_reservations"
                " WHERE product_id = %s AND state = 'reserved'", (product,))}
    assert {order: live.get(order) for order in buyers.granted} \
        == buyers.granted
    assert set(live) <= set(buyers.granted) | buyers.unknown
    per_user = {}
    for user, quantity in live.values():
        per_user[user] = per_user.get(user, 0) + quantity
    assert max(per_user.values(), default=0) <= 2
    # each piece that is left can be bought, and no more
    left = wanted - sum(per_user.values())
    new = users_of(fleet, 2, wanted + 5, "after-")
    answers = [fleet.front.value(BUY, ("storm", user, f"after-{user}", 1))
               for user in new[:left + 2]]
    assert answers == ["granted"] * left + ["insufficient"] * 2
    assert held(fleet, product) == (wanted, wanted)
    assert fleet.front.value("SELECT close_flash_sale('storm')") == 0
    fleet.check_books()
