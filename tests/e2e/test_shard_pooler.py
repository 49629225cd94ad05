# SPDX-License-Identifier: PostgreSQL
"""A front calls its shards through PgBouncer in transaction mode, with two
sessions in each shard."""

import json
import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import psycopg2
import pytest

import test_front
from cluster import Postgres
from documents import blocks
from load import Threads
from process import server_user, wait_until
from saga_shop import make_shop
from shard_pooler import SHARDS, PooledShards, ShardPooler
from shards import Shards
from test_front import name, outcome

RESERVE = "reserve_stock(%s, 1, %s)"


@pytest.fixture(scope="module", name="other")
def fixture_other(new_dir):
    """A server that a test may kill."""
    server = Postgres(new_dir("postgres-pooled")).init().start()
    yield server
    server.close()


@pytest.fixture(scope="module", name="pooled")
def fixture_pooled(pg, other, new_dir):
    """Four shards, two of them and the front on one server."""
    made = PooledShards(ShardPooler(new_dir("pgbouncer")), pg, other)
    make_shop(made)
    yield made
    made.drop()
    made.pooler.close()


@pytest.mark.parametrize("test", [
    test_front.test_the_books_are_kept_where_the_key_says,
    test_front.test_availability_is_asked_where_the_lines_are,
    test_front.test_a_time_does_not_depend_on_the_style_of_the_session,
    test_front.test_a_time_does_not_depend_on_the_style_of_a_shard,
    test_front.test_an_event_is_found_in_its_shard,
    test_front.test_an_order_has_one_history,
    test_front.test_errors_are_those_of_the_shard,
    test_front.test_trace_and_actor_reach_the_shard,
    test_front.test_rights_are_those_of_the_level,
    test_front.test_every_view_is_on_the_front,
], ids=lambda test: test.__name__)
def test_as_without_a_pooler(pooled, test):
    test(pooled)


@contextmanager
def sessions(front, count):
    """Cursors of so many sessions of the front."""
    with ExitStack() as stack:
        found = [stack.enter_context(closing(front.connect()))
                 for _ in range(count)]
        for conn in found:
            conn.autocommit = True
        yield [conn.cursor() for conn in found]


def test_many_sessions_share_two(pooled):
    """Views have sessions of their own, and an open transaction that has read
    them leaves calls two."""
    (product,) = pooled.products(1)[1]
    with sessions(pooled.front, 10) as cursors:
        for cur in cursors:
            cur.execute("BEGIN; SELECT count(*) FROM stock_levels; SELECT"
                        " count(*) FROM check_availability(%s)", (json.dumps(
                            [{"product_id": product, "quantity": 1}]),))
        assert 1 <= pooled.sessions(pooled.shards[1]) <= 2
        for cur in cursors:
            cur.execute("COMMIT")
            cur.execute(f"SELECT granted FROM {RESERVE}",
                        (product, name("shared")))
            assert cur.fetchone() == (1,)
        assert 1 <= pooled.sessions(pooled.shards[1]) <= 2


def test_roles_do_not_stay_in_a_session(pooled):
    """Two roles in turn, in the same sessions of a shard."""
    (product,) = pooled.products(1)[1]
    seller = pooled.add_role(name("seller"), "app")
    reader = pooled.add_role(name("reader"), "reader")
    taken = []
    for actor in ("a", "", "b"):
        taken.append(name("turn"))
        assert outcome(pooled.front, RESERVE, (product, taken[-1]), user=seller,
                       options=f"-c pgstock.actor={actor}")[0][4] == 1
        assert outcome(pooled.front, RESERVE, (product, name("turn")),
                       user=reader)[0] == "42501"
    assert [pooled.shards[1].value(
        "SELECT actor FROM stock_movements WHERE order_id = %s", (order,))
        for order in taken] == [f"{seller}/a", seller, f"{seller}/b"]


@contextmanager
def locked(shard, product):
    with closing(shard.connect()) as holder:
        holder.cursor().execute(
            "UPDATE pgstock_internal.level SET on_hand = on_hand"
            " WHERE product_id = %s", (product,))
        yield


WAITING = ("SELECT count(*) FROM pg_stat_activity WHERE datname ="
           " current_database() AND wait_event_type = 'Lock'")


def test_a_call_is_canceled(pooled):
    shard = pooled.shards[1]
    (product,) = pooled.products(1)[1]
    before = shard.level(product)
    with locked(shard, product):
        assert outcome(pooled.front, RESERVE, (product, "o"),
                       options="-c statement_timeout=300ms")[0] == "57014"
        wait_until(lambda: shard.value(WAITING) == 0, 10, "it still waits")
    assert shard.level(product) == before


@contextmanager
def sessions_are_busy(pooled, shard, product):
    """Two calls wait for a lock, and keep both sessions, until the block
    ends."""
    with ThreadPoolExecutor(2) as pool, locked(shard, product):
        for _ in range(2):
            pool.submit(outcome, pooled.front, RESERVE, (product, name("o")))
        wait_until(lambda: shard.value(WAITING) == 2, 20, "none waits")
        yield


def test_a_call_is_canceled_while_it_waits_for_a_session(pooled):
    """PgBouncer forwards the request to nobody, and the call takes effect:
    repeated, it does so once."""
    shard = pooled.shards[1]
    product, other = pooled.products(2)[1]
    _, reserved, _ = shard.level(other)
    order = name("canceled")
    with ThreadPoolExecutor(1) as pool:
        with sessions_are_busy(pooled, shard, product):
            canceled = pool.submit(outcome, pooled.front, RESERVE,
                                   (other, order),
                                   options="-c statement_timeout=300ms")
            wait_until(lambda: pooled.front.value(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s"
                " AND pid <> pg_backend_pid() AND state = 'active'"
                " AND clock_timestamp() - query_start > '1 s'",
                (f"%{order}%",)) == 1, 10, "the call has ended")
        assert canceled.result()[0] == "57014"
    assert outcome(pooled.front, RESERVE, (other, order))[0][4] == 1
    assert shard.level(other)[1] == reserved + 1


def test_a_call_waits_too_long_for_a_session(pooled):
    """It fails and has no effect."""
    shard = pooled.shards[1]
    product, other = pooled.products(2)[1]
    before = shard.level(other)
    with sessions_are_busy(pooled, shard, product):
        state, _, detail, _ = outcome(pooled.front, RESERVE, (other, name("o")))
        assert state == "08006" and "query_wait_timeout" in detail
    assert shard.level(other) == before


SETTINGS = {"search_path": "public, pg_catalog", "datestyle": "SQL, DMY",
            "intervalstyle": "sql_standard"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_session_without_the_settings_is_refused(pooled, setting):
    """As in a shard whose set_shard() was called before the role existed; the
    call that repairs it is the one that the error names."""
    shard = pooled.shards[1]
    (product,) = pooled.products(1)[1]
    before = shard.level(product)
    shard.sql(f'ALTER DATABASE "{shard.name}" SET {setting} ='
              f' {SETTINGS[setting]}')
    shard.sql(f'ALTER ROLE pgstock_front IN DATABASE "{shard.name}"'
              f" RESET {setting}")
    try:
        pooled.pooler.restart()
        state, message, detail, hint = outcome(pooled.front, RESERVE,
                                               (product, name("o")))
        assert (state, message) == (
            "55000", "the session does not have the settings that a call needs")
        assert detail.lower().startswith(f'"{setting}" is "')
        assert "pgstock_shard.set_shard() sets it" in detail
        assert hint == ("Run pgstock-shards create again, then restart the"
                        " pooler.")
        assert [error is None for (error,) in pooled.front.sql(
            "SELECT error FROM pgstock_front.shard_status()")] == [
                True, False, True, True]
        assert shard.level(product) == before
        shard.sql("SELECT pgstock_shard.set_shard(1, 4)")
        pooled.pooler.restart()
        assert outcome(pooled.front, RESERVE, (product, name("o")))[0][4] == 1
    finally:
        shard.sql(f'ALTER DATABASE "{shard.name}" RESET {setting}')


class Buyers(Threads):
    """Sessions that reserve orders over two shards and confirm half of them;
    each call is repeated until it has an answer."""

    def __init__(self, pooled, count):
        super().__init__()
        self.pooled = pooled
        self.products = [names[0] for names in pooled.products(1, "crash")]
        self.reserved, self.confirmed, self.repeated = {}, set(), 0
        self.start(*((self.run, number) for number in range(count)))

    def call(self, query, *args):
        while True:
            try:
                return self.pooled.front.sql(query, args)
            except psycopg2.Error as error:
                if error.pgcode[:2] not in ("08", "40"):
                    raise
            self.repeated += 1
            assert not self.ending.wait(0.1) or self.repeated < 10000

    def run(self, number):
        chance = random.Random(number)
        turn = 0
        try:
            while not self.ending.is_set():
                turn += 1
                order = f"crash-{number}-{turn}"
                items = {product: chance.randint(1, 3) for product in
                         chance.sample(self.products, chance.choice((1, 2)))}
                rows = self.call("SELECT granted FROM reserve_order(%s, %s,"
                                 " ttl => '1 day')", order, json.dumps([
                                     {"product_id": product, "quantity": count}
                                     for product, count in items.items()]))
                assert sorted(rows) == sorted(
                    (count,) for count in items.values()), (order, rows)
                self.reserved[order] = items
                if chance.random() < 0.5:
                    self.call("SELECT status FROM confirm_stock(%s)", order)
                    self.confirmed.add(order)
        except Exception as error:      # raised by stop()
            self.errors.append(error)

    def progress(self, count):
        goal = len(self.reserved) + count
        wait_until(lambda: len(self.reserved) >= goal or self.errors, 90,
                   lambda: f"{len(self.reserved)} of {goal} orders")


def test_pooler_and_shards_are_killed(pooled, other):
    """Nothing is lost, and nothing is done twice."""
    for (product,) in pooled.products(1, "crash"):
        pooled.front.sql("SELECT receive_stock(%s, 1000000)", (product,))
    buyers = Buyers(pooled, 4)
    try:
        for turn in range(6):
            buyers.progress(10)
            if turn % 3 < 2:
                pooled.pooler.kill9()
            if turn % 3 > 0:
                other.power_cut()
                other.start()
            if not pooled.pooler.running:
                pooled.pooler.start()
        buyers.progress(10)
    finally:
        buyers.stop()
    assert buyers.repeated > 0
    wait_until(lambda: pooled.front.sql("SELECT sweep_orders()") and
               pooled.front.value("SELECT count(*) FROM stock_sagas WHERE"
                                  " under_way IS NOT NULL") == 0, 60,
               "a step is under way")
    check_orders(pooled, buyers)


def check_orders(pooled, buyers):
    found = {}
    for order, product, quantity, state in pooled.front.sql(
            "SELECT order_id, product_id, quantity, state FROM"
            " stock_reservations WHERE order_id LIKE 'crash-%%' AND state IN"
            " ('reserved', 'confirmed')"):
        assert state == "confirmed" or order not in buyers.confirmed
        assert found.setdefault(order, {}).setdefault(product,
                                                      quantity) == quantity
    assert found == buyers.reserved
    for product in buyers.products:
        on_hand, reserved, _ = pooled.shard_of(product).level(product)
        assert 1000000 - on_hand + reserved == sum(
            items.get(product, 0) for items in buyers.reserved.values())
    assert pooled.drift() == []


PAGE, SECTION = "docs/sharding.md", "A pooler before the shards"
# what the guide's commands do on a machine of their own
MACHINE = """
sudo() { "$@"; }
sudoedit() { test -w "$1"; }
systemctl() { test "$*" = "restart pgbouncer"; }
"""


def documented(kind, text):
    """The only block of the guide with that text."""
    (found,) = [block.text for block in blocks(PAGE, SECTION)
                if block.kind == kind and text in block.text]
    return found


def type_guide(pooled, text):
    """Types commands of the guide in the pooler's directory."""
    command = documented("sh", text)
    user = server_user()
    for name_, here in (("/usr/share/pgstock/shards", SHARDS),
                        ("/etc/pgbouncer", pooled.pooler.directory),
                        (" -o postgres", user and f" -o {user.pw_name}" or "")):
        command = command.replace(name_, here)
    front, programs = pooled.front, os.path.dirname(Postgres.bin("psql"))
    done = subprocess.run(
        ["bash", "-ec", MACHINE + command], cwd=pooled.pooler.directory,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, env={
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": front.pg.host, "PGPORT": str(front.pg.port),
            "PGUSER": "postgres", "PGDATABASE": front.name})
    assert done.returncode == 0, f"{command}: {done.stdout}"


def write_shards(pooled, with_pooler):
    """shards.json with the members that the guide's entry has."""
    entry = json.loads(documented("text", '"pooler"').strip(" ,\n"))
    assert entry["pooler"] == {"host": "127.0.0.1", "port": "6432"}
    found = [{**Shards.connection(pooled, shard),
              "passfile": pooled.pooler.passfile} for shard in pooled.shards]
    assert {*entry} == {*found[0], "pooler"}
    for one in found if with_pooler else ():
        one["pooler"] = {**entry["pooler"], "port": str(pooled.pooler.port)}
    path = os.path.join(pooled.pooler.directory, "shards.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


def test_the_guide(pooled):
    """The front changes from the pooler to direct sessions, and back."""
    (product,) = pooled.products(1)[1]
    buy = partial(outcome, pooled.front, RESERVE, (product, name("guide")))
    pooled.pooler.kill9()
    assert buy()[0] == "08001"
    write_shards(pooled, False)
    type_guide(pooled, "pgstock-shards create")
    assert buy()[0][4] == 1
    shutil.rmtree(pooled.pooler.directory)
    pooled.pooler.write_files()
    os.remove(pooled.pooler.userlist)
    type_guide(pooled, "userlist.txt")
    pooled.configure_pooler(os.path.join(pooled.pooler.directory,
                                         "pgbouncer.ini"))
    pooled.pooler.start()
    write_shards(pooled, True)
    type_guide(pooled, "pgstock-shards create")
    assert buy()[0][4] == 1
    pooled.pooler.kill9()
    assert buy()[0] == "08001"
    pooled.pooler.start()
