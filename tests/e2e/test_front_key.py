# SPDX-License-Identifier: PostgreSQL
"""The key and the numbers of the shards stay as they are, whatever
pgstock-shards is given later: with others, stock could not be found, and
verify_stock() would find no difference."""

import itertools
import json

import pytest

from shards import Shards, pgstock_shards
from test_front import outcome

serial = itertools.count(1)

KEY = "split_part(product_id, '/', 1)"
ORDER_KEY = "split_part(order_id, '/', 1)"
PRODUCTS = [f"m{i}/{one}" for i in range(4) for one in "ab"]
STOCK = "SELECT receive_stock(product_id, 5) FROM unnest(%s) product_id"
RESERVE = ("SELECT status FROM unnest(%s) p (id),"
           " reserve_stock(p.id, 1, 'o-' || p.id)")


class Fresh:
    """Two databases with pgstock, which are no shards yet, and no front."""

    def __init__(self, pg, directory):
        number = next(serial)
        Shards.make_front_role(pg)
        self.pg, self.directory, self.fronts = pg, directory, []
        self.shards = [pg.create_database(f"keyed{number}_{i}")
                       for i in range(2)]

    def new_front(self):
        self.fronts.append(self.pg.create_database(
            f"{self.shards[0].name}_front{len(self.fronts)}", extension=False))
        return self.fronts[-1]

    def connections(self, shards=None):
        return json.dumps([
            {"host": shard.pg.host, "port": str(shard.pg.port),
             "dbname": shard.name} for shard in shards or self.shards])

    def create(self, front, *key, shards=None, options=()):
        path = self.directory / "shards.json"
        path.write_text(self.connections(shards))
        return pgstock_shards(front, "create", *options, path, *key)

    def refused(self, *args, **kwargs):
        """The error of a create that fails."""
        done = self.create(*args, **kwargs)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def keys(self):
        """What each shard reports of itself."""
        return [shard.sql("SELECT shard, key FROM pgstock_shard.about()")[0]
                for shard in self.shards]

    def drop(self):
        for database in (*self.fronts, *self.shards):
            database.drop()


@pytest.fixture(name="fresh")
def fixture_fresh(pg, tmp_path):
    made = Fresh(pg, tmp_path)
    yield made
    made.drop()


def ready(done):
    """A create that has succeeded prints the shards and nothing else."""
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and all(lines), lines
    return True


def test_the_key_is_kept(fresh):
    """A later create need not repeat it, and must not change it."""
    front = fresh.new_front()
    assert ready(fresh.create(front, KEY, ORDER_KEY))
    front.sql(STOCK, (PRODUCTS,))
    assert ready(fresh.create(front))
    assert ready(fresh.create(front, KEY))
    known = [(n, [KEY, ORDER_KEY]) for n in range(2)]
    assert fresh.keys() == known
    assert fresh.refused(front, "product_id") == (
        "ERROR:  the key cannot change from"
        f' "{KEY}" (of orders "{ORDER_KEY}") to "product_id" (of orders'
        f' "{ORDER_KEY}")\n'
        "DETAIL:  Stock is in the shards that the key selects.\n"
        "HINT:  Leave out the key to keep it. If the shards have no stock, or"
        " have not been split, set another one with pgstock-shards create"
        " --replace.\n")
    assert "cannot change" in fresh.refused(front, KEY, "")
    assert outcome(front, "pgstock_front.set_shards(%s, 'location')",
                   (fresh.connections(),))[0] == "0A000"
    assert fresh.keys() == known
    assert front.sql(RESERVE, (PRODUCTS,)) == [("granted",)] * 8
    assert front.value("SELECT pgstock_front.order_shard('m1/o') ="
                       " pgstock_front.line_shard('m1/p', 'main')")


def test_another_front_takes_the_key_over(fresh):
    """A new front, or one that is created again."""
    assert ready(fresh.create(fresh.new_front(), KEY))
    fresh.fronts[0].sql(STOCK, (PRODUCTS,))
    front = fresh.new_front()
    error = fresh.refused(front, "product_id")
    assert "the key cannot change" in error, error
    assert "could not set up shard 0" in error, error
    assert ready(fresh.create(front))
    assert front.sql(RESERVE, (PRODUCTS,)) == [("granted",)] * 8
    assert front.sql("SELECT line_key, order_key FROM pgstock_front.key") == [
        (KEY, "")]


def test_fronts_with_different_keys_are_found(fresh):
    """Also before a split, which would delete other products in each shard."""
    assert ready(fresh.create(fresh.new_front(), KEY))
    front = fresh.new_front()
    front.sql("CREATE EXTENSION pgstock_front CASCADE")
    front.sql("SELECT pgstock_front.set_shards(%s)", (fresh.connections(),))
    error = f'its key is "{KEY}", that of the front is "product_id"'
    assert front.sql("SELECT error FROM pgstock_front.shard_status()") == [
        (error,), (error,)]
    for shard in fresh.shards:
        shard.sql("SELECT receive_stock('m0/a', 5)")
    for command in "status", "split":
        done = pgstock_shards(front, command)
        assert done.returncode == 1 and f"shard 1: {error}" in done.stderr
    fresh.shards[1].sql("DELETE FROM pgstock_shard.key")
    done = pgstock_shards(fresh.fronts[0], "split")
    assert "shard 1: its key is not set, that of the front is" in done.stderr
    assert outcome(fresh.shards[1], "pgstock_shard.keep_own()")[:2] == (
        "55000", "this database has no shard number or no key")
    assert [shard.level("m0/a") for shard in fresh.shards] == [(5, 0, 5)] * 2


def test_the_numbers_of_the_shards_are_kept(fresh):
    """A file with the shards in another order, or with a shard of other ones,
    changes nothing."""
    front = fresh.new_front()
    assert ready(fresh.create(front))
    front.sql(STOCK, (PRODUCTS,))
    first, second = fresh.shards
    error = fresh.refused(front, shards=[second, first])
    assert f'database "{second.name}" is shard 1 of 2, not shard 0 of 2' in (
        error)
    assert "Give the shards in the order of their numbers" in error
    assert "is shard 1 of 2, not shard 0 of 1" in fresh.refused(
        fresh.new_front(), shards=[second])
    assert [number for number, _ in fresh.keys()] == [0, 1]
    assert front.sql(RESERVE, (PRODUCTS,)) == [("granted",)] * 8


def test_all_is_replaced_on_request(fresh):
    front = fresh.new_front()
    assert ready(fresh.create(front, KEY, ORDER_KEY))
    fresh.shards.reverse()
    assert ready(fresh.create(front, "location", "", options=["--replace"]))
    assert fresh.keys() == [(0, ["location", ""]), (1, ["location", ""])]
    assert front.value("SELECT pgstock_front.product_shard('p')") is None


def test_a_key_that_is_no_expression(fresh):
    """It reaches no shard, so the right one can be given afterwards."""
    front = fresh.new_front()
    assert "syntax error" in fresh.refused(front, "split_part(product_id, '/'")
    assert 'column "sku" does not exist' in fresh.refused(front, "sku")
    assert ready(fresh.create(front, KEY))


def test_a_split_is_by_the_key(fresh):
    for shard in fresh.shards:      # copies of one database
        shard.sql(STOCK, (PRODUCTS,))
    front = fresh.new_front()
    assert ready(fresh.create(front, KEY))
    done = pgstock_shards(front, "split")
    assert done.returncode == 0 and "pgstock_internal.level: " in done.stdout
    assert pgstock_shards(front, "split", KEY).returncode == 1
    assert front.value("SELECT count(*) FROM stock_levels") == len(PRODUCTS)
    assert front.sql(RESERVE, (PRODUCTS,)) == [("granted",)] * 8
    assert front.drift() == []
