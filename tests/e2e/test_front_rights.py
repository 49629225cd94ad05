# SPDX-License-Identifier: PostgreSQL
"""P6 on a front: no role gains another role's rights there or in a shard, and
no secret is shown."""

import json

import psycopg2
import pytest

from shards import Shards, pgstock_shards
from test_front import name, outcome


@pytest.fixture(scope="module")
def made(pg):
    """Two shards of its own: a test may change what all roles of a server
    see."""
    shards = Shards(pg, count=2)
    for level in ("reader", "app", "admin"):
        setattr(shards, level, shards.add_role(name(level), level))
    yield shards
    shards.drop()


def stocked(made):
    ((product, *_), _) = made.products(1, "rights")
    made.front.sql("SELECT receive_stock(%s, 5)", (product,))
    return product


def refused(database, statement, role):
    """The SQLSTATE of a statement; None if it succeeds."""
    try:
        database.sql(statement, user=role)
    except psycopg2.Error as error:
        return error.pgcode
    return None


FORBIDDEN = (
    # to act as another role in a shard
    "CREATE USER MAPPING FOR CURRENT_USER SERVER pgstock_shards"
    " OPTIONS (user 'postgres')",
    "CREATE USER MAPPING FOR CURRENT_USER SERVER pgstock_shard_0"
    " OPTIONS (user 'postgres')",
    "ALTER SERVER pgstock_shards OPTIONS (SET p0 'host=evil')",
    "ALTER USER MAPPING FOR postgres SERVER pgstock_shards"
    " OPTIONS (SET user 'postgres')",
    "CREATE SERVER mine FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '')",
    # to run its own query there
    "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE plproxy AS"
    " $$ CLUSTER 'pgstock_shards'; RUN ON ALL; SELECT 1; $$",
    "CREATE FOREIGN TABLE pg_temp.t (n int) SERVER pgstock_shard_0",
    # to choose the calling role, or the shard
    "SELECT pgstock_front.receive_stock('{0}', 'postgres', NULL, NULL, 'p',"
    " 1, 'main', NULL)",
    "SELECT * FROM pgstock_front.stock_levels_0",
    "SELECT pgstock_front.grant_here(current_user, 'admin')",
    "SELECT pgstock_front.set_shards('[]')",
    "SELECT pgstock_front.set_key('1', '1', 1)",
    "SELECT pgstock_front.make_function('f', '', 'void', 'all_shards()', true,"
    " '')",
    "SELECT pgstock_front.make_shard_calls('f', '{}')",
    "CREATE FUNCTION pgstock_front.shards_of_line(text) RETURNS int"
    " LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION reserve_stock OWNER TO CURRENT_USER",
    "SELECT * FROM pg_user_mapping",
)


@pytest.mark.parametrize("level", ("reader", "app", "admin"))
def test_a_level_leads_nowhere_else(made, level):
    role = getattr(made, level)
    for statement in FORBIDDEN:
        assert refused(made.front, statement, role) == "42501", statement


@pytest.mark.parametrize("level, allowed, denied", (
    ("reader", ("verify_stock()", "stock_outbox", "order_history('o')",
                "check_availability('[]')"),
     ("reserve_stock('p', 1, 'o')", "confirm_stock('o')",
      "expire_reservations()", "pgstock_front.shard_status()")),
    ("app", ("stock_levels", "try_reserve_stock('p', 1, 'o')",
             "release_stock('o')", "pgstock_front.line_shard('p', 'main')"),
     ("stock_outbox", "verify_stock()", "receive_stock('p', 1)",
      "grant_stock_access('postgres', 'app')")),
    ("admin", ("stock_outbox", "receive_stock('p', 1)", "verify_stock()",
               "pgstock_front.shard_status()"), ())))
def test_a_level_is_that_of_pgstock(made, level, allowed, denied):
    role = getattr(made, level)
    for call in allowed:
        got = outcome(made.front, call, user=role)
        assert isinstance(got, list) or got[0] != "42501", (call, got)
    for call in denied:
        assert outcome(made.front, call, user=role)[0] == "42501", call


def test_the_shard_decides_too(made):
    """A right that was granted only on the front has no effect."""
    product = stocked(made)
    made.shards[0].sql("SELECT grant_stock_access(%s, 'none')", (made.app,))
    assert outcome(made.front, "reserve_stock(%s, 1, 'o')", (product,),
                   user=made.app)[:2] == (
        "42501", "permission denied for function reserve_stock")
    made.front.sql("SELECT grant_stock_access(%s, 'app')", (made.app,))
    assert outcome(made.front, "reserve_stock(%s, 1, %s)",
                   (product, name("o")), user=made.app)[0][4] == 1


def test_the_ledger_names_the_role_that_calls(made):
    product = stocked(made)
    order = name("o")
    member = made.add_role(name("member"), "none")
    made.front.sql(f'GRANT "{made.app}" TO "{member}"')
    made.front.sql("SELECT reserve_stock(%s, 1, %s)", (product, order),
                   user=member, options=f"-c role={made.app}"
                   " -c pgstock.actor=till")
    made.front.sql("SELECT confirm_stock(%s)", (order,))
    assert made.shards[0].sql(
        "SELECT actor FROM stock_movements WHERE order_id = %s ORDER BY id",
        (order,)) == [(f"{made.app}/till",), ("pgstock_front/postgres",)]


EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.alarm() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql
    AS 'SELECT evil.alarm()';
CREATE FUNCTION evil.eq(int, int) RETURNS boolean LANGUAGE sql
    AS 'SELECT evil.alarm()';
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR evil.<> (FUNCTION = evil.eq, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.> (FUNCTION = evil.eq, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql
    AS 'SELECT evil.alarm()::text';
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql
    AS 'SELECT evil.alarm()::text';
CREATE FUNCTION evil.cardinality(anyarray) RETURNS int LANGUAGE sql
    AS 'SELECT evil.alarm()::int';
CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql
    AS 'SELECT $1[1] WHERE evil.alarm()';
CREATE FUNCTION evil.md5(text) RETURNS text LANGUAGE sql
    AS 'SELECT evil.alarm()::text';
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.alarm());
GRANT USAGE ON SCHEMA evil TO PUBLIC;
ALTER DATABASE "{}" SET search_path = evil, public, pg_catalog;
"""


def test_names_of_others_take_no_part(made):
    """A search path finds functions, operators and types of another user
    first, in the front and in the shards; none of them is used."""
    (product, *_), (other, *_) = made.products(1, "rights")
    stocked(made)
    made.front.sql("SELECT receive_stock(%s, 5)", (other,))
    made.set_coordinator(made.front)
    for database in (made.front, *made.shards):
        for statement in EVIL.format(database.name).split(";\n"):
            if statement.strip():
                database.sql(statement + ";")
    order = name("o")
    both = name("o")
    items = json.dumps([{"product_id": product, "quantity": 1}])
    over = json.dumps([{"product_id": one, "quantity": 1}
                       for one in (product, other)])
    for call, args in (("reserve_stock(%s, 1, %s)", (product, order)),
                       ("reserve_order(%s, %s)", (name("o"), items)),
                       ("confirm_stock(%s)", (order,)),
                       ("reserve_order(%s, %s)", (both, over)),
                       ("confirm_stock(%s)", (both,)),
                       ("stock_sagas", ()),
                       ("check_availability(%s)", (items,)),
                       ("stock_levels", ())):
        got = outcome(made.front, "public." + call, args, user=made.app,
                      options="-c pgstock.actor=a -c pgstock.trace_id=b")
        assert isinstance(got, list), (call, got)
    assert made.front.value("SELECT pgstock_front.line_shard(%s, 'main')",
                            (product,), user=made.app) == 0
    assert outcome(made.front, "public.reserve_stock('none', 1, 'o')",
                   user=made.app)[0] == "SK002"
    for database in (made.front, *made.shards):
        database.sql(f'ALTER DATABASE "{database.name}" RESET search_path;'
                     " DROP SCHEMA evil CASCADE",
                     options="-c search_path=pg_catalog")


STOLEN = """
ALTER SCHEMA public RENAME TO moved;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA moved TO PUBLIC;
CREATE FUNCTION public.evil(anyelement) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
CREATE DOMAIN public.stock_result AS text CHECK (public.evil(VALUE));
CREATE DOMAIN public.availability AS text CHECK (public.evil(VALUE));
"""


def test_the_owner_of_the_schema_gains_nothing(made):
    """The database's owner may rename the schema of the public functions and
    create types of its own under the old name: functions with the rights of
    the extension's owner use none of them."""
    product = stocked(made)
    front = made.front
    owner = made.add_role(name("owner"), "none")
    front.sql(f'ALTER DATABASE "{front.name}" OWNER TO "{owner}"')
    front.sql(STOLEN, user=owner)
    items = json.dumps([{"product_id": product, "quantity": 1}])
    for call, args in (("reserve_stock(%s, 1, %s)", (product, name("o"))),
                       ("reserve_order(%s, %s)", (name("o"), items)),
                       ("check_availability(%s)", (items,))):
        got = outcome(front, "moved." + call, args, user=made.app)
        assert isinstance(got, list), (call, got)
    front.sql("DROP SCHEMA public CASCADE")
    front.sql("ALTER SCHEMA moved RENAME TO public")


def test_no_catalog_shows_a_secret(made):
    """A role can read the connection parameters; none is a password."""
    rows = made.front.sql(
        "SELECT srvoptions::text FROM pg_foreign_server UNION ALL"
        " SELECT umoptions::text FROM pg_user_mappings", user=made.app)
    assert len(rows) > 3
    assert not [row for row in rows if row[0] and "password=" in row[0]]


def test_the_command_makes_no_superuser_a_caller(made):
    """The role pgstock_front of each shard would become a member of it."""
    done = pgstock_shards(made.front, "role", "postgres", "app")
    assert done.returncode != 0 and "is a superuser" in done.stderr
    assert not made.shards[0].value(
        "SELECT pg_has_role('pgstock_front', 'postgres', 'MEMBER')")
    done = pgstock_shards(made.front, "role", made.app, "app")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_fails_if_it_cannot_read_the_shards(made):
    done = pgstock_shards(made.shards[0], "split")
    assert done.returncode != 0 and "pgstock_front" in done.stderr
