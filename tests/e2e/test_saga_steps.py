# SPDX-License-Identifier: PostgreSQL
"""Steps of orders over shards that are repeated, shared by callers, or meet an
order of another request."""

import json
from contextlib import closing

import pytest

import saga_shop
from cluster import Database
from process import wait_until
from saga_part import take_in
from saga_shop import (call, expire, fails, hold_of_a_session_that_ended, lines,
                       saga, states, statuses)

fixture_shop, fixture_order = saga_shop.fixture_shop, saga_shop.fixture_order


def number_of(shop, order):
    """The number of the order's saga."""
    return shop.front.value("SELECT saga FROM stock_sagas WHERE order_id = %s",
                            (order,))


def short_of_one_line(shop, order):
    """An order with a line that is live, and one that expired and whose
    product is sold; the order that has it."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    product = expire(shop, order, 1)
    rest = shop.front.value("SELECT available FROM stock_levels"
                            " WHERE product_id = %s", (product,))
    call(shop, "reserve_stock", product, rest + 1, f"rest-{order}")
    return f"rest-{order}"


def test_a_compensation_does_not_use_the_key_of_its_call(shop, order):
    rest = short_of_one_line(shop, order)
    for _ in range(2):
        rows = call(shop, "confirm_stock", order, "payment", f"key-{order}")
        assert statuses(rows) == {"shortfall"}
        assert states(shop, order) == ["rolled_back", "shortfall"]
        assert saga(shop, order) == [("shortfall", None)]
    call(shop, "release_stock", rest)


@pytest.mark.parametrize("settled", [None, "confirm_stock"])
def test_an_undo_leaves_the_order_of_another_request(shop, order, settled):
    """Shard 0 has the order without a saga, so it refuses the hold; the undo
    is of what shard 1 holds."""
    call(shop, "reserve_order", order, lines(shop, 1), "u")
    if settled:
        call(shop, settled, order)
    before = states(shop, order)
    hold_of_a_session_that_ended(shop, order, lines(shop, 1, 1))
    assert len(states(shop, order)) == 2
    shop.front.sql("SELECT sweep_orders()")
    assert states(shop, order) == sorted(before + ["released"])
    assert saga(shop, order) == [("abandoned", None)]
    # nor is it taken over by the next request
    fails("SK007", call, shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert before[0] in states(shop, order)


def test_a_keep_needs_its_hold(shop, order):
    """A shard that stopped may have lost the hold, and the order may be
    another request's by now."""
    hold_of_a_session_that_ended(shop, order, lines(shop, 1, 1))
    shard = shop.shards[0]
    shard.sql("SELECT release_stock(%s)", (order,))
    shard.sql("DELETE FROM pgstock_shard.order_part WHERE order_id = %s",
              (order,))
    query = ("SELECT expires_at FROM stock_reservations WHERE order_id = %s"
             " AND state = 'reserved'")
    shard.sql("SELECT reserve_order(%s, %s)", (order, lines(shop, 1)))
    before = shard.value(query, (order,))
    assert take_in(shard, order, "keep", 2, parts=["null"],
                   saga=number_of(shop, order)) == "SK006"
    shop.front.sql("SELECT sweep_orders()")
    assert saga(shop, order) == [("abandoned", None)]
    assert shard.value(query, (order,)) == before
    shard.sql("SELECT release_stock(%s)", (order,))


def test_only_the_hold_does_not_wait_for_its_flush(shop, order):
    shard = shop.shards[0]
    shard.sql("""
        CREATE TABLE public.seen (verb text, setting text);
        CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.seen
            VALUES (NEW.verb, current_setting('synchronous_commit'));
            RETURN NEW;
        END $$;
        CREATE TRIGGER see BEFORE INSERT OR UPDATE
            ON pgstock_shard.order_part
           FOR EACH ROW EXECUTE FUNCTION public.see()""")
    try:
        call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
        call(shop, "confirm_stock", order)
        assert set(shard.sql("SELECT * FROM public.seen")) == {
            ("hold", "off"), ("keep", "on"), ("confirm", "on")}
    finally:
        shard.sql("DROP FUNCTION public.see CASCADE; DROP TABLE public.seen")


def test_a_refusal_where_pgstock_has_a_schema_of_its_own(shop, pg, order):
    """The role of the front may use that schema only as the role that called
    it, and a refusal is the first step of its session."""
    Database(pg, "postgres").sql(f'CREATE ROLE "{order}";'
                                 f' GRANT "{order}" TO pgstock_front')
    shard = pg.create_database(order, extension=False)
    shard.sql("CREATE SCHEMA stock")
    shard.sql("CREATE EXTENSION pgstock SCHEMA stock")
    shard.sql("CREATE EXTENSION pgstock_shard")
    shard.sql("SELECT pgstock_shard.set_shard(0, 1)")
    shard.sql("SELECT stock.grant_stock_access(%s, 'app')", (order,))
    for _ in range(2):
        assert take_in(shard, "o", "hold", 1, parts=[lines(shop, 1)],
                       role=order, user="pgstock_front") == "SK002"
    assert shard.sql("SELECT held, verb FROM pgstock_shard.order_part") == [
        (None, "hold")]
    shard.drop()
    Database(pg, "postgres").sql(f'DROP ROLE "{order}"')


def begin(shop, order, verb, args):
    """A step that a caller begins or joins, as saga_finish() takes it."""
    return shop.front.value(
        "SELECT t::text FROM pgstock_front.ask_settle(%s, '{0,1}', %s, %s,"
        " '{0,1}', ARRAY['null', 'null']::jsonb[]) t",
        (order, verb, json.dumps(args)))


def finish(shop, turn):
    return [status for (status,) in shop.front.sql(
        "SELECT status FROM pgstock_front.saga_finish("
        "%s::pgstock_front.turn)", (turn,))]


def push(shop, turn):
    """The answers of the shards to a step."""
    return shop.front.value(
        "SELECT pgstock_front.saga_push(t, (t).verb, (t).step)::text FROM"
        " (SELECT %s::pgstock_front.turn AS t OFFSET 0) t", (turn,))


@pytest.mark.parametrize("verb,args,after", [
    ("confirm", {}, "shortfall"), ("extend", {"ttl": "1 hour"}, "expired")])
def test_a_caller_that_joined_learns_what_followed(shop, order, verb, args,
                                                   after):
    """Two callers take a step that another one must follow: the second is not
    answered as if none had, whether its shards answered before or behind."""
    rest = short_of_one_line(shop, order)
    first, second = [begin(shop, order, verb, args) for _ in range(2)]
    assert first.startswith("(begun") and second.startswith("(joined")
    answers = push(shop, second)
    if verb == "confirm":
        assert finish(shop, first) == ["shortfall"] * 2
    else:
        fails("SK006", finish, shop, first)
    for query, values in [
            ("saga_next(%s, %s::pgstock_front.answer[])", (second, answers)),
            ("saga_finish(%s)", (second,))]:
        diag = fails("40001", shop.front.sql,
                     f"SELECT pgstock_front.{query}", values)
        assert "another session has ended" in diag.message_primary
    assert saga(shop, order) == [(after, None)]
    call(shop, "release_stock", rest)


def restore(shop, order, **columns):
    """The coordinator's row as it is in an older backup."""
    names = ", ".join(f"{name} = %({name})s" for name in columns)
    shop.front.sql(f"UPDATE pgstock_front.saga SET {names}, due_at = now(),"
                   " history = 'another' WHERE order_id = %(order)s",
                   dict(columns, order=order))


def sweep(shop, order):
    shop.front.sql("SELECT sweep_orders()")
    ((state, verb),) = saga(shop, order)
    assert verb is None
    return state


def test_a_restored_row_does_not_use_a_step_number_again(shop, order):
    """The shards have confirmed the order as step 3, which the row does not
    know."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    call(shop, "confirm_stock", order)
    restore(shop, order, state="reserved", step=2, verb=None)
    fails("SK005", call, shop, "release_stock", order)
    assert statuses(call(shop, "rollback_stock", order)) == {"rolled_back"}
    assert states(shop, order) == ["rolled_back"] * 2


def test_a_restored_row_of_an_order_that_one_shard_has_confirmed(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert take_in(shop.shards[0], order, "confirm", 3, parts=["null"],
                   saga=number_of(shop, order)) is None
    restore(shop, order, state="new", step=2, verb="reserve")
    assert sweep(shop, order) == "reserved"
    assert states(shop, order) == ["confirmed", "reserved"]
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}
    assert states(shop, order) == ["confirmed"] * 2


@pytest.mark.parametrize("verb,state", [
    ("confirm", "reserved"), ("undo", "reserved"), ("reserve", "new")])
def test_a_restored_row_of_which_the_shards_know_more(shop, order, verb,
                                                      state):
    """A step that a later one has followed was taken by every shard."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    call(shop, "confirm_stock", order)
    call(shop, "return_stock", order)
    if verb == "undo":          # the order is live again
        call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    before = states(shop, order)
    old = {"saga": 1} if verb == "undo" else {}
    for ends in (lambda: sweep(shop, order),
                 lambda: fails("SK005", call, shop, "return_stock", order)):
        restore(shop, order, state=state, step=2 if verb == "reserve" else 3,
                verb=verb, args=json.dumps({"outcome": "abandoned"}), **old)
        ends()
        assert states(shop, order) == before
        assert saga(shop, order)[0][1] is None
        if verb != "undo":
            break


def test_a_step_is_not_answered_by_another_one_of_its_number(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    assert take_in(shop.shards[0], order, "release", 2, parts=["null"],
                   saga=number_of(shop, order)) == "40001"
    call(shop, "release_stock", order)


def test_a_copy_of_the_coordinator_has_another_history(shop):
    """pg_restore into another database of the same server."""
    copy = shop.front.pg.create_database("copy", extension=False)
    copy.sql("CREATE EXTENSION pgstock_front CASCADE")
    query = "SELECT pgstock_front.saga_history()"
    assert copy.value(query) != shop.front.value(query)
    copy.drop()


def test_an_order_whose_id_names_its_shard_has_no_lines_elsewhere(shop, order):
    """The calls that settle it would go to the shard that the id names."""
    front = shop.front
    front.sql("CREATE OR REPLACE FUNCTION pgstock_front.order_shard("
              "order_id text) RETURNS int LANGUAGE sql IMMUTABLE RETURN 0")
    try:
        for function, args in [
                ("reserve_order", (order, lines(shop, 1, 1))),
                ("try_reserve_order", (order, lines(shop, 1, 1))),
                ("reserve_orders", (json.dumps([{
                    "order_id": order,
                    "items": json.loads(lines(shop, 1, 1))}]),))]:
            diag = fails("0A000", call, shop, function, *args)
            assert "named by its id" in diag.message_detail
        assert states(shop, order) == []
        rows = call(shop, "reserve_order", order, lines(shop, 1))
        assert statuses(rows) == {"granted"}
    finally:
        shop.set_shards()
    call(shop, "release_stock", order)


def test_a_key_makes_a_partial_call_repeatable(shop, order):
    call(shop, "reserve_order", order, lines(shop, 3, 3), "u")
    call(shop, "confirm_stock", order)
    args = (order, lines(shop, 2, 2), True, f"key-{order}")
    for _ in range(2):
        rows = call(shop, "return_stock", *args)
        assert statuses(rows) == {"returned"}
    fails("22023", call, shop, "return_stock", order, lines(shop, 1, 2), True,
          f"other-{order}")
    rows = call(shop, "return_stock", order)
    assert [row["granted"] for row in rows] == [1, 1]


@pytest.mark.parametrize("key,second", [({}, "(other"), (
    {"idempotency_key": "joined"}, "(joined")])
def test_two_partial_calls_are_one_only_by_their_key(shop, order, key, second):
    call(shop, "reserve_order", order, lines(shop, 3, 3), "u")
    args = {"items": True, **key}
    assert begin(shop, order, "release", args).startswith("(begun")
    assert begin(shop, order, "release", args).startswith(second)
    call(shop, "abandon_saga", order, "a test")
    call(shop, "release_stock", order)


def test_a_call_that_no_shard_allows_leaves_no_step(shop, order):
    """The role has a right on the front that the shards refuse."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    role = shop.add_role(f"front-only-{order}", "app")
    for shard in shop.shards:
        shard.sql("SELECT grant_stock_access(%s, 'none')", (role,))
    fails("42501", lambda: shop.front.sql(
        f"SELECT confirm_stock('{order}')", user=role))
    assert saga(shop, order) == [("reserved", None)]
    assert statuses(call(shop, "confirm_stock", order)) == {"confirmed"}


def test_a_step_that_was_tried_for_days(shop, order):
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u")
    begin(shop, order, "release", {})
    shop.front.sql("UPDATE pgstock_front.saga SET due_at = now(), tries = 20000"
                   " WHERE order_id = %s", (order,))
    assert sweep(shop, order) == "released"


def test_a_locked_row_does_not_stop_the_sweeper(shop, order):
    """Nor does a caller whose sweep is canceled delay other orders."""
    orders = [f"{order}-{n}" for n in range(2)]
    for one in orders:
        call(shop, "reserve_order", one, lines(shop, 1, 1), "u")
        begin(shop, one, "release", {})
        shop.front.sql("UPDATE pgstock_front.saga SET due_at = now()"
                       " WHERE order_id = %s", (one,))
    with closing(shop.shards[0].connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT FROM pgstock_shard.order_part WHERE order_id = %s"
                    " FOR UPDATE", orders[:1])
        fails("57014", lambda: shop.front.sql(
            "SELECT sweep_orders()", options="-c statement_timeout=500"))
        assert shop.front.value("SELECT tries FROM stock_sagas"
                                " WHERE order_id = %s", orders[1:]) == 0
        wait_until(lambda: shop.front.sql(
            "SELECT sweep_orders()", options="-c statement_timeout=20000")
            and saga(shop, orders[1]) == [("released", None)], 20,
            "the second order is not released")
        wait_until(lambda: shop.front.sql("SELECT sweep_orders()")
                   and "lock timeout" in (shop.front.value(
                       "SELECT error FROM stock_sagas WHERE order_id = %s",
                       orders[:1]) or ""), 30, "no error is noted")
    wait_until(lambda: shop.front.sql("SELECT sweep_orders()")
               and saga(shop, orders[0]) == [("released", None)], 30,
               "the first order is not released")


def test_what_is_deleted(shop, order):
    """A row of the coordinator, and the parts in the shards, after the
    retention, which is the coordinator's: a session does not choose it."""
    for one in (order, f"{order}-b"):
        call(shop, "reserve_order", one, lines(shop, 1, 1), "u")
        call(shop, "release_stock", one)
    shop.front.sql("UPDATE pgstock_front.saga SET begun_at = now() - interval"
                   " '40 days', changed_at = now() - interval '40 days'"
                   " WHERE order_id = %s", (order,))
    for days, one in (40, order), (10, f"{order}-b"):
        shop.shards[0].sql(
            "UPDATE pgstock_shard.order_part SET changed_at = now() - %s *"
            " interval '1 day', saga = saga - %s * 86400000000"
            " WHERE order_id = %s", (days, days, one))
    shop.front.sql("SELECT sweep_orders()",
                   options="-c pgstock_front.saga_retention=2days")
    assert saga(shop, order) == []
    assert shop.shards[0].sql(
        "SELECT order_id FROM pgstock_shard.order_part WHERE order_id = ANY"
        " (%s)", ([order, f"{order}-b"],)) == [(f"{order}-b",)]


def test_an_order_that_moved_leaves_its_old_lines(shop, order):
    """It expired over shards 0 and 1 and was reserved anew over 1 and 2."""
    call(shop, "reserve_order", order, lines(shop, 1, 1), "u", "1 second")
    wait_until(lambda: shop.front.value(
        "SELECT bool_and(expires_at < clock_timestamp())"
        " FROM stock_reservations WHERE order_id = %s", (order,)), 10,
        "the order has not expired")
    call(shop, "reserve_order", order, lines(shop, 0, 1, 1), "u")
    rows = call(shop, "confirm_stock", order)
    assert statuses(rows) == {"confirmed"} and len(rows) == 2
    assert states(shop, order).count("confirmed") == 2


TABLES = """
    SELECT c.oid::regclass::text FROM pg_class c
     WHERE c.relkind IN ('r', 'm') AND c.relnamespace::regnamespace::text
           NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"""


def tables_with(database, needle):
    """The tables that have the text, or its bytes in hex, in a row."""
    return {table for (table,) in database.sql(TABLES) if database.value(
        f"SELECT count(*) FROM {table} t WHERE t::text LIKE ANY (%s)",
        ([f"%{needle}%", f"%{needle.encode().hex()}%"],))}


def forget(shop, user):
    """Until nothing is left; the number of rows of the first call."""
    counts = []
    while not counts or counts[-1]:
        counts.append(shop.front.value("SELECT forget_user(%s, 'request 17')",
                                       (user,)))
        assert len(counts) < 9, counts
    return counts[0]


def test_a_user_is_forgotten(shop, order):
    """In the shards and in the coordinator, wherever a call leaves the id."""
    user = f"user-of-{order}"
    actor = f"-c pgstock.actor={user}"
    items = json.dumps([{**line, "for": user}       # pgstock ignores "for"
                        for line in json.loads(lines(shop, 1, 1))])
    for number in range(2):
        shop.front.sql("SELECT reserve_order(%s, %s, %s, idempotency_key =>"
                       " %s)", (f"{order}-{number}", items, user,
                                f"{user} {number}"), options=actor)
    shop.front.sql("SELECT release_stock(%s, %s, idempotency_key => %s)",
                   (f"{order}-0", f"asked for by {user}", f"{user} 2"),
                   options=actor)
    shop.front.sql("UPDATE pgstock_front.saga SET error = %s, step_parts ="
                   " ARRAY[to_jsonb(%s::text)] WHERE order_id = %s",
                   (f"given up by {user}: {user}", user, f"{order}-0"))
    assert tables_with(shop.front, user) == {"pgstock_front.saga"}
    assert all(tables_with(shard, user) for shard in shop.shards[:2])
    assert forget(shop, user) > 4
    assert tables_with(shop.front, user) == set()
    assert [tables_with(shard, user) for shard in shop.shards] == [set()] * 4
    assert shop.front.sql(
        "SELECT DISTINCT args ->> 'actor', args ->> 'reason' FROM"
        " pgstock_front.saga WHERE order_id LIKE %s ORDER BY 1, 2",
        (f"{order}-%",)) == [
            ("postgres/forgotten", "asked for by forgotten"),
            ("postgres/forgotten", None)]
    # as in one database, it can be paid and returned
    assert statuses(call(shop, "confirm_stock", f"{order}-1")) == {"confirmed"}


def test_a_step_keeps_its_user_until_it_ends(shop, order):
    """The shards that have not taken it get the same arguments."""
    user = f"user-of-{order}"
    call(shop, "reserve_order", order, lines(shop, 1, 1), user)
    turn = begin(shop, order, "release", {"reason": user})
    forget(shop, user)
    assert tables_with(shop.front, user) == {"pgstock_front.saga"}
    finish(shop, turn)
    assert forget(shop, user) > 0
    for database in (shop.front, *shop.shards):
        assert tables_with(database, user) == set()


def test_what_names_a_user_is_the_same_in_both(shop):
    """forget_text() is in the front and in pgstock."""
    query = "SELECT pg_get_function_sqlbody(%s::regproc)"
    assert (shop.front.value(query, ("pgstock_front.forget_text",))
            == shop.shards[0].value(query, ("pgstock_internal.forget_text",)))


@pytest.mark.parametrize("args,expected", [
    # of a superuser, and of a role
    ({"actor": "ann/ann"}, {"actor": "ann/forgotten"}),
    ({"actor": "ann"}, {"actor": "ann"}),
    ({"actor": "ann", "role": "shop"}, {"actor": "forgotten", "role": "shop"}),
    ({"user_id": "ann", "reason": "ann, anna"}, {"reason": "forgotten, anna"}),
    ({"user_id": "anna", "idempotency_key": "k-7"},
     {"user_id": "anna", "idempotency_key": "k-7"}),
    ({"idempotency_key": "ann/7", "payment_id": "ann"}, {"payment_id": "ann"})])
def test_what_a_step_keeps_of_its_arguments(shop, args, expected):
    assert shop.front.value("SELECT pgstock_front.forget_args(%s, 'ann')",
                            (json.dumps(args),)) == expected
