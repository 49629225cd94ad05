# SPDX-License-Identifier: PostgreSQL
"""What a front returns while a shard is unavailable, or a role or the setup is
wrong."""

import json
import statistics
import time
from contextlib import closing

import psycopg2
import pytest

from cluster import HOST, Postgres
from process import make_dir, wait_until
from shards import Shards
from test_front import name, outcome


@pytest.fixture(scope="module")
def other(new_dir):
    """A server that a test may stop."""
    server = Postgres(new_dir("postgres-shard")).init().start()
    yield server
    server.close()


@pytest.fixture
def pair(pg, other):
    """Shard 0 and the front on one server, shard 1 on the other one."""
    made = Shards(pg, other, count=2)
    yield made
    made.drop()


def stocked(made):
    """A product with five pieces in each shard."""
    products = [one for (one,) in made.products(1, "trouble")]
    for product in products:
        made.front.sql("SELECT receive_stock(%s, 5)", (product,))
    return products


RESERVE = "reserve_stock(%s, 1, %s)"


def test_a_shard_is_away(pair, other):
    """Its products cannot be reserved; those of other shards can."""
    here, there = stocked(pair)
    with other.away():
        state, message, detail, hint = outcome(pair.front, RESERVE,
                                               (there, "o"))
        assert (state, message) == ("08001", "could not connect to a shard")
        assert "Connection refused" in detail
        assert pair.shards[1].name in detail
        assert hint == ("Nothing was changed there. Try again once the shard"
                        " accepts connections.")
        assert outcome(pair.front, RESERVE, (here, name("o")))[0][4] == 1
        (_, _, _, _, none), (_, database, _, _, error) = pair.front.sql(
            "SELECT * FROM pgstock_front.shard_status()")
        assert none is None and database is None
        assert "Connection refused" in error
    assert outcome(pair.front, RESERVE, (there, name("o")))[0][4] == 1


def test_a_shard_ends_during_a_session(pair, other):
    """The session's next call fails and says that it may have taken effect;
    then the session reconnects."""
    _, there = stocked(pair)
    order = name("o")
    with closing(pair.front.connect()) as conn:
        conn.autocommit = True
        cur = conn.cursor()
        cur.execute("SELECT reserve_stock(%s, 1, 'first')", (there,))
        other.restart()
        with pytest.raises(psycopg2.Error) as lost:
            cur.execute("SELECT reserve_stock(%s, 1, %s)", (there, order))
        assert lost.value.pgcode == "08006"
        assert lost.value.diag.message_primary == (
            "lost the connection to a shard during reserve_stock")
        assert "Repeat it" in lost.value.diag.message_hint
        cur.execute("SELECT granted FROM reserve_stock(%s, 1, %s)",
                    (there, order))
        assert cur.fetchone() == (1,)


def timed(cur, product, quantity):
    """The seconds that a reservation or its refusal takes."""
    began = time.perf_counter()
    try:
        cur.execute("SELECT reserve_stock(%s, %s, %s)",
                    (product, quantity, name("o")))
    except psycopg2.Error as error:
        assert error.pgcode == "SK001", error
    return time.perf_counter() - began


def test_a_refusal_costs_no_connection(shards):
    """PL/Proxy drops a connection whose shard raises an error, and connects
    again, which takes ten milliseconds. A refusal takes less than one more
    than a reservation."""
    (product,) = shards.products(1, "refused")[1]
    shards.front.sql("SELECT receive_stock(%s, 1000)", (product,))
    begun = ("SELECT max(backend_start) FROM pg_stat_activity WHERE datname ="
             " current_database() AND usename = 'pgstock_front'")
    taken, refused = [], []
    with closing(shards.front.connect()) as conn:
        conn.autocommit = True
        cur = conn.cursor()
        timed(cur, product, 1)
        before = shards.shards[1].value(begun)
        for _ in range(200):
            taken.append(timed(cur, product, 1))
            refused.append(timed(cur, product, 5000))
        assert shards.shards[1].value(begun) == before
    taken, refused = statistics.median(taken), statistics.median(refused)
    print(f"a reservation {taken * 1000:.2f} ms, a refusal"
          f" {refused * 1000:.2f} ms")
    assert refused - taken < 0.001


def test_a_front_without_shards(pg):
    front = pg.create_database(name("bare"), extension=False)
    front.sql("CREATE EXTENSION pgstock_front CASCADE")
    for call in ("reserve_stock('p', 1, 'o')", "verify_stock()",
                 "confirm_stock('o')"):
        state, message, _, hint = outcome(front, call)
        assert (state, message, hint) == (
            "55000", "no shards are configured",
            "Call pgstock_front.set_shards() first."), call
    front.drop()


@pytest.mark.parametrize("shards, message", (
    ('{}', "the shards must be a JSON array of objects"),
    ('["host=a"]', "the shards must be a JSON array of objects"),
    ('[]', "the number of shards must be a power of two, not 0"),
    ('[{"a": "1"}, {"a": "2"}, {"a": "3"}]',
     "the number of shards must be a power of two, not 3"),
    ('[{"host": "a"}, {"host": "a"}]',
     "two shards have the same connection parameters"),
    ('[{"host": "a", "password": "p"}]', "the connection parameters of a shard"
     " must not name a user or a password"),
    ('[{"host": "a", "user": "p"}]', "the connection parameters of a shard"
     " must not name a user or a password"),
    ('[{"host": "a", "pooler": {"host": "b", "password": "p"}}]',
     "the connection parameters of a shard must not name a user or a password"),
    ('[{"host": "a", "pooler": "b"}]',
     "the pooler of a shard must be a JSON object")))
def test_shards_that_cannot_be(shards, pg, message):
    front = pg.create_database(name("cannot"), extension=False)
    front.sql("CREATE EXTENSION pgstock_front CASCADE")
    refused = outcome(front, "pgstock_front.set_shards(%s)", (shards,))
    assert refused[:2] == ("22023", message)
    assert refused[3]
    front.drop()


@pytest.mark.parametrize("error, state, message", (
    ((None, "m"), "22004", "an error needs a SQLSTATE and a message"),
    (("1", "m"), "22023", '"1" is not a SQLSTATE')))
def test_an_error_that_cannot_be_raised(error, state, message, pair):
    assert outcome(pair.front, "pgstock_front.raise(%s, %s, NULL, NULL)",
                   error)[:2] == (state, message)


def test_the_coordinator_has_no_pooler(pair):
    refused = outcome(pair.front, "pgstock_front.set_coordinator(%s)", (
        json.dumps({"host": HOST, "pooler": {"host": HOST}}),))
    assert refused[:2] == ("0A000", "fronts do not connect to the coordinator"
                           " through a pooler")


def test_the_number_of_shards_is_final(pair):
    refused = outcome(pair.front, "pgstock_front.set_shards(%s)", (
        json.dumps([{"host": HOST, "dbname": str(i)} for i in range(4)]),))
    assert refused == (
        "0A000", "the number of shards cannot change from 2 to 4", None,
        "Move shards to further machines instead.")


def test_exchanged_shards_are_found(pair):
    here, _ = stocked(pair)
    pair.shards.reverse()
    pair.set_shards()
    assert outcome(pair.front, RESERVE, (here, "o"))[:3] == (
        "55000", f'database "{pair.shards[0].name}" is not shard 0',
        "It is shard 1.")
    assert [row[-1] for row in pair.front.sql(
        "SELECT * FROM pgstock_front.shard_status()")] == [
            f'database "{shard.name}" is not shard {n}: It is shard {1 - n}.'
            for n, shard in enumerate(pair.shards)]
    pair.shards.reverse()
    pair.set_shards()
    assert outcome(pair.front, RESERVE, (here, name("o")))[0][4] == 1


def test_a_shard_whose_function_has_other_arguments(pair):
    here, _ = stocked(pair)
    pair.shards[0].sql("ALTER TYPE pgstock_shard.reserve_stock_call"
                       " DROP ATTRIBUTE a8")
    state, message, _, hint = outcome(pair.front, RESERVE, (here, "o"))
    assert (state, message) == (
        "55000", "the call does not match the function of this shard")
    assert "shard_status()" in hint


def test_a_shard_without_the_extension(pair):
    here, _ = stocked(pair)
    pair.shards[0].sql("DROP EXTENSION pgstock_shard")
    state, message, detail, hint = outcome(pair.front, RESERVE, (here, "o"))
    assert (state, message) == (
        "55000", "a shard has no function pgstock_shard.reserve_stock")
    assert "does not exist" in detail and "pgstock_shard UPDATE" in hint
    assert "does not exist" in pair.front.value(
        "SELECT error FROM pgstock_front.shard_status() WHERE shard = 0")


def test_status_of_a_shard_whose_error_has_no_detail(pair):
    pair.shards[0].sql("REVOKE EXECUTE ON FUNCTION pgstock_shard.about()"
                       " FROM PUBLIC")
    assert pair.front.sql(
        "SELECT shard, error FROM pgstock_front.shard_status()") == [
            (0, "permission denied for function about"), (1, None)]


def test_a_role_without_access(pair):
    """First without a level on the front; then pgstock_front is not a member
    of it."""
    here, _ = stocked(pair)
    role = pair.add_role(name("nobody"), "none")
    assert outcome(pair.front, RESERVE, (here, "o"), user=role)[:2] == (
        "42501", "permission denied for function reserve_stock")
    pair.front.sql("SELECT grant_stock_access(%s, 'app')", (role,))
    pair.shards[0].sql(f'REVOKE "{role}" FROM pgstock_front')
    assert outcome(pair.front, RESERVE, (here, "o"), user=role) == (
        "42501", f'permission denied to set role "{role}"', None,
        f"pgstock-shards role {role} LEVEL makes the role in each shard, and"
        " pgstock_front a member of it.")


def test_a_role_that_a_shard_does_not_know(pair):
    """The grant fails: it does not apply to some of the shards only."""
    role = name("half")
    pair.shards[0].sql(f'CREATE ROLE "{role}"')
    refused = outcome(pair.front, "grant_stock_access(%s, 'app')", (role,))
    assert refused[:2] == ("42704", f'role "{role}" does not exist')
    pair.shards[0].sql(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_a_call_that_is_canceled(pair):
    """The cancel request reaches the shard, which stops waiting for a
    lock."""
    here, _ = stocked(pair)
    shard = pair.shards[0]
    with closing(shard.connect()) as holder:
        holder.cursor().execute(
            "UPDATE pgstock_internal.level SET on_hand = on_hand"
            " WHERE product_id = %s", (here,))
        refused = outcome(pair.front, RESERVE, (here, "o"),
                          options="-c statement_timeout=300ms")
        assert refused[0] == "57014"
        wait_until(lambda: shard.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname ="
            " current_database() AND wait_event_type = 'Lock'") == 0, 10,
            "the shard still waits")
    assert shard.level(here) == (5, 0, 5)


def test_a_front_is_restored_from_its_dump(pair, new_dir, pg):
    """The dump contains servers, mappings, views and the key."""
    here, there = stocked(pair)
    path = f"{make_dir(new_dir('dump'))}/front.dump"
    pg.dump(pair.front.name, path)
    copy = pg.create_database(name("copy"), extension=False)
    pg.restore(copy.name, path)
    for product in here, there:
        assert outcome(copy, RESERVE, (product, name("o")))[0][4] == 1
    assert copy.value("SELECT sum(reserved) FROM stock_levels") == 2
    assert copy.sql("SELECT error FROM pgstock_front.shard_status()") == [
        (None,), (None,)]
    copy.drop()
