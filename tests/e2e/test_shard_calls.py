# SPDX-License-Identifier: PostgreSQL
"""Calls that a shard cannot read, and answers that a front cannot: each is an
error, whatever the versions of the extensions are."""

from contextlib import closing

import pytest

from shards import Shards
from test_front import name, outcome

# the session of an administrator has not the settings of a front's
AS_FRONT = "-c search_path=pg_catalog"
OTHER = "the call does not match the function of this shard"


@pytest.fixture(scope="module", name="pair")
def fixture_pair(pg):
    pair = Shards(pg, count=2)
    yield pair
    pair.drop()


def call(cur, call_, arguments):
    cur.execute("SELECT (a).error, (a).rows FROM (SELECT"
                f" pgstock_shard.{call_}_call(%s)::pgstock_shard.answer AS a"
                " OFFSET 0) s", (arguments,))
    return cur.fetchone()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("change", [
    "ALTER ATTRIBUTE a1 TYPE text", "ALTER ATTRIBUTE shards TYPE text[]",
    "ADD ATTRIBUTE a2 text"])
def test_a_type_that_does_not_fit_its_function(pair, known, change):
    """Also in a session that has called the function before."""
    shard = pair.shards[0]
    with closing(shard.connect(options=AS_FRONT)) as conn, conn.cursor() as cur:
        if known:
            assert call(cur, "event_status",
                        "({0},,,,00000000-0000-0000-0000-000000000000)")[1]
        cur.execute(f"ALTER TYPE pgstock_shard.event_status_call {change}")
        for arguments in "({0},,,,text)", "({0},,,,text,)":
            error, rows = call(cur, "event_status", arguments)
            assert OTHER in error and error.startswith("(55000,"), error
            assert rows is None
        conn.rollback()


CALLS = """
    SELECT p.proname, count(*)
      FROM pg_proc p
      JOIN pg_attribute a ON a.attrelid = to_regclass(
           format('pgstock_shard.%I', p.proname)) AND a.attnum > 0
     WHERE p.pronamespace = 'pgstock_shard'::regnamespace
     GROUP BY 1"""

# it reads its arguments first
STEP = ',,,,,o,1,1,"{0,1}",release,{}'


def test_every_call_checks_the_number_of_the_shard(pair):
    """The connections of a front may be exchanged at any time."""
    shard = pair.shards[1]
    names = shard.sql(CALLS)
    assert len(names) > 40
    others = shard.sql("SELECT proname FROM pg_proc WHERE pronamespace ="
                       " 'pgstock_shard'::regnamespace AND proname LIKE"
                       " '%\\_call'")
    assert {name for name, _ in names} == {name for name, in others}
    with closing(shard.connect(user="pgstock_front")) as conn:
        with conn.cursor() as cur:
            for function, columns in names:
                arguments = STEP if function == "part_step_call" else (
                    "," * (columns - 1))
                for numbers in "{0}", '"{0,7}"', "{}":
                    error, rows = call(cur, function[:-len("_call")],
                                       f"({numbers}{arguments})")
                    assert error.startswith("(55000,"), (function, error)
                    assert "is not shard" in error and rows is None, error


def test_a_call_without_a_type(pair):
    with closing(pair.shards[0].connect(
            options=AS_FRONT)) as conn, conn.cursor() as cur:
        cur.execute("ALTER TYPE pgstock_shard.event_status_call RENAME TO x")
        error, _ = call(cur, "event_status", "({0},,,,)")
        assert OTHER in error
        conn.rollback()


def test_functions_change_during_a_call(pair):
    """The session looks up a role and notices that another session has created
    a function."""
    shard = pair.shards[0]
    role = pair.add_role(name("noticing"), "app")
    with closing(shard.connect(user="pgstock_front")) as conn:
        with conn.cursor() as cur:      # one transaction
            for as_role in "", role:
                error, rows = call(cur, "check_availability",
                                   f'({{0}},{as_role},,,"[{{""product_id"": '
                                   '""p"", ""quantity"": 1}]")')
                assert error is None and rows, error
                shard.sql("CREATE OR REPLACE FUNCTION public.noticed() RETURNS"
                          " int LANGUAGE sql AS 'SELECT 1'")


def test_more_rows_than_fit_in_memory(pair):
    with closing(pair.shards[0].connect(
            options=AS_FRONT)) as conn, conn.cursor() as cur:
        cur.execute("""
            CREATE FUNCTION public.many(n int)
            RETURNS TABLE (a int, b text) LANGUAGE sql
            AS 'SELECT i, repeat(''x'', i % 99) FROM generate_series(1, n) i';
            ALTER EXTENSION pgstock ADD FUNCTION public.many(int);
            SELECT pgstock_shard.wrap('public.many(int)'::regprocedure);
            SET LOCAL work_mem = '64kB'""")
        error, rows = call(cur, "many", "({0},,,,200000)")
        assert error is None and len(rows) == 200000
        conn.rollback()


@pytest.mark.parametrize("answer,expected", [
    ("'(0,\"(,boom,,)\",)'",
     ("22004", "an error needs a SQLSTATE and a message")),
    ("NULL", ("55000", "a shard returned no answer"))])
def test_an_answer_that_cannot_be(pair, answer, expected):
    """From a function that is not the extension's."""
    shard = pair.shards[0]
    ((product, *_), _) = pair.products(1, "odd")
    own = "pgstock_shard.receive_stock_call"
    shard.sql(f"ALTER FUNCTION {own}(text) RENAME TO kept")
    shard.sql(f"CREATE FUNCTION {own}(text) RETURNS text LANGUAGE sql"
              f" AS $$SELECT {answer}$$")
    try:
        assert outcome(pair.front, "receive_stock(%s, 1)",
                       (product,))[:2] == expected
    finally:
        shard.sql(f"DROP FUNCTION {own}(text)")
        shard.sql("ALTER FUNCTION pgstock_shard.kept(text) RENAME TO"
                  " receive_stock_call")
