# SPDX-License-Identifier: PostgreSQL
"""The front of several shards: pgstock's functions, through PL/Proxy."""

import itertools
import json
from contextlib import closing

import psycopg2
import pytest

from process import wait_until

serial = itertools.count(1)


def name(what):
    return f"{what}-{next(serial)}"


def fields(error):
    """The fields of an error that an application receives."""
    diag = error.diag
    return (diag.sqlstate, diag.message_primary, diag.message_detail,
            diag.message_hint)


def outcome(database, call, args=(), **kwargs):
    """The rows of a call, or its error."""
    try:
        return database.sql(f"SELECT * FROM {call}", args, **kwargs)
    except psycopg2.Error as error:
        return fields(error)


def test_functions_are_those_of_pgstock(shards):
    """Names, arguments, defaults and columns are equal in the catalogs."""
    query = """
        SELECT p.proname, pg_get_function_arguments(p.oid), p.proretset,
               coalesce((SELECT string_agg(format('%%s %%s', attname,
                         format_type(atttypid, atttypmod)), ', '
                         ORDER BY attnum)
                  FROM pg_attribute WHERE attrelid = t.typrelid),
                  format_type(p.prorettype, NULL))
          FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
         WHERE pronamespace = 'public'::regnamespace AND proname = ANY (%s)
           AND p.proname NOT IN ('verify_stock', 'repair_stock',
                                 'order_history')"""
    names = [row[0] for row in shards.front.sql(PUBLIC)]
    own = {"sweep_orders", "abandon_saga"}
    assert len(names) > 35 and own < set(names)
    names = [name for name in names if name not in own]
    assert (sorted(shards.front.sql(query, (names,)))
            == sorted(shards.shards[0].sql(query, (names,))))


PUBLIC = """
    SELECT p.proname
      FROM pg_extension x
      JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
                      AND d.refobjid = x.oid AND d.deptype = 'e'
                      AND d.classid = 'pg_proc'::regclass
      JOIN pg_proc p ON p.oid = d.objid
     WHERE x.extname IN ('pgstock', 'pgstock_front')
       AND p.pronamespace = 'public'::regnamespace"""

ONE_DATABASE = {
    "publish_outbox_row": "a trigger of tables in the shard",
    "handle_order_created": "called by the relay of the shard",
    "handle_payment_success": "called by the relay of the shard",
    "handle_payment_failed": "called by the relay of the shard",
    "handle_order_cancelled": "called by the relay of the shard",
    "handle_order_failed": "called by the relay of the shard",
    "set_event_format": "the outbox of each shard is set up there",
    "set_event_profile": "the outbox of each shard is set up there",
    "set_outbox_retention": "the outbox of each shard is set up there",
    "discard_held_event": "names a position in the outbox of one shard",
    "flash_sale_status": "read by a gateway, which serves one database",
    "sale_purchases": "read by the console, which shows one database",
    "stock_activity": "read by the console, which shows one database",
    "stock_report": "read by the console, which shows one database",
    "stock_status": "the state of one database and its relay",
    "reset_stock_statistics": "counts the calls of one server",
}


def test_every_function_is_on_the_front_or_has_a_reason(shards):
    """A function that is added to pgstock is added to the front, or here and
    in docs/sharding.md."""
    pgstock = {name for (name,) in shards.shards[0].sql(PUBLIC)}
    front = {name for (name,) in shards.front.sql(PUBLIC)}
    assert pgstock - front == set(ONE_DATABASE)


VIEWS = """
    SELECT c.relname, array_agg(a.attname || ' '
                      || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
       AND a.attnum > 0
     GROUP BY 1"""


def test_every_view_is_on_the_front(shards):
    """With the same columns, and the number of the shard as the last one.  A
    view that is added to pgstock is added to the front, or taken out here with
    a reason, which is also in docs/sharding.md."""
    pgstock = dict(shards.shards[0].sql(VIEWS))
    front = dict(shards.front.sql(VIEWS))
    assert front.pop("stock_sagas"), "of the front alone"
    assert front == {name: [*columns, "shard integer"]
                     for name, columns in pgstock.items()}
    for view in front:
        shards.front.sql(f"SELECT * FROM {view}")


def test_what_is_set_in_all_shards_is_seen_of_each(shards):
    """By the views of the front, which also show each shard's statistics."""
    front = shards.front
    every = [(0,), (1,), (2,), (3,)]
    front.sql("SELECT bind_topic('placed', 'order_created')")
    assert front.sql("SELECT shard FROM stock_bindings WHERE topic = 'placed'"
                     " AND handler = 'order_created' ORDER BY 1") == every
    front.sql("SELECT set_event_topic('StockReturned', 'returns')")
    assert front.sql("SELECT shard FROM stock_event_formats WHERE topic ="
                     " 'returns' ORDER BY 1") == every
    ((product,), *_) = shards.products(1, "seen")
    front.sql("SELECT receive_stock(%s, 1)", (product,))
    front.sql("SELECT reserve_stock(%s, 1, %s)", (product, name("o")))
    assert front.value("SELECT sum(calls) FROM stock_statistics WHERE"
                       " function = 'reserve_stock' AND shard = 0") >= 1
    front.sql("SELECT unbind_topic('placed'),"
              " set_event_topic('StockReturned', 'stock-events')",
              options="-c pgstock.front_autonomous=on")


def test_the_books_are_kept_where_the_key_says(shards):
    for products in shards.products(2, "book"):
        for product in products:
            front = shards.front
            assert front.value("SELECT receive_stock(%s, 5)", (product,)) == 5
            order = name("order")
            ((got,),) = front.sql("SELECT status FROM reserve_stock(%s, 2, %s)",
                                  (product, order))
            assert got == "granted"
            shard = shards.shard_of(product)
            assert shard.level(product) == (5, 2, 3)
            assert front.sql("SELECT status FROM confirm_stock(%s)",
                             (order,)) == [("confirmed",)]
            assert shard.level(product) == (3, 0, 3)


def test_availability_is_asked_where_the_lines_are(shards):
    products = [one for (one,) in shards.products(1, "fits")]
    for n, product in enumerate(products):
        shards.front.sql("SELECT receive_stock(%s, %s)", (product, n + 1))
    items = [{"product_id": one, "quantity": 2} for one in products]
    assert shards.front.sql(
        "SELECT * FROM check_availability(%s)", (json.dumps(items),)
    ) == sorted((one, "main", 2, n + 1, n > 0)
                for n, one in enumerate(products))


def test_settings_and_sums_are_those_of_all_shards(shards):
    """A call that is not for one product or order goes to every shard."""
    front = shards.front
    front.sql("SELECT set_event_topic('StockExpired', 'ends')")
    assert [shard.value("SELECT topic FROM pgstock_internal.event_topic"
                        " WHERE event_type = 'StockExpired'")
            for shard in shards.shards] == ["ends"] * 4
    front.sql("SELECT set_event_topic('StockExpired', 'stock-events')")
    for (product,) in shards.products(1, "due"):
        front.sql("SELECT receive_stock(%s, 5)", (product,))
        front.sql("SELECT reserve_stock(%s, 1, %s, ttl => '1ms')",
                  (product, name("due")))
    wait_until(lambda: front.value("SELECT bool_and(expires_at < now()) FROM"
                                   " stock_reservations WHERE order_id LIKE"
                                   " 'due-%%' AND state = 'reserved'"), 10,
               "a reservation is not due")
    assert front.value("SELECT expire_reservations()") == 4


def test_a_time_does_not_depend_on_the_style_of_the_session(shards):
    """A shard would read 28/12 as a day of the 28th month."""
    with closing(shards.front.connect()) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute("SET datestyle = 'SQL, DMY'")
            cur.execute("SELECT purge_history('28/12/2001')")
            assert cur.fetchall() == [(0,)]


def test_a_time_does_not_depend_on_the_style_of_a_shard(shards):
    """Its answer would have the day where the front reads the month."""
    (product,) = shards.products(1, "style")[1]
    shards.front.sql("SELECT receive_stock(%s, 5)", (product,))
    shard = shards.shards[1]
    shard.sql(f'ALTER DATABASE "{shard.name}" SET datestyle = \'SQL, DMY\'')
    try:
        for days in (10, 20, 30):   # one of them is after the 12th
            assert shards.front.value(
                "SELECT abs(extract(epoch FROM expires_at - now()"
                " - %s::interval)) < 3600"
                " FROM reserve_stock(%s, 1, %s, ttl => %s)",
                (f"{days} days", product, name("order"), f"{days} days"))
    finally:
        shard.sql(f'ALTER DATABASE "{shard.name}" RESET datestyle')


def test_what_an_answer_rests_on_is_flushed(shards):
    """A commit waits for its flush only if its transaction wrote WAL, which an
    id alone does not."""
    (product,) = shards.products(1, "fence")[1]
    order = name("order")
    shards.front.sql("SELECT receive_stock(%s, 5)", (product,))
    shards.front.sql("SELECT reserve_stock(%s, 1, %s)", (product, order))
    for read in ("order_lines(%s, true)", "part_look(%s)"):
        with closing(shards.shards[1].connect()) as conn, conn.cursor() as cur:
            cur.execute("SELECT pg_current_wal_insert_lsn()")
            before, = cur.fetchone()
            cur.execute(f"SELECT count(*), pg_current_wal_insert_lsn() > %s"
                        f" FROM pgstock_shard.{read}", (before, order))
            assert cur.fetchone() == (1, True), read


def test_an_event_is_found_in_its_shard(shards):
    front = shards.front
    ids = [front.value("SELECT publish_event('news', %s, '{}')",
                       (f"key {n}",)) for n in range(9)]
    assert {front.value("SELECT state FROM event_status(%s)", (one,))
            for one in ids} == {"pending"}
    assert front.value("SELECT state FROM event_status(gen_random_uuid())"
                       ) == "unknown"
    assert front.value("SELECT wait_for_event(%s, '1ms')", (ids[0],)) is False
    per_shard = [shard.value("SELECT count(*) FROM stock_outbox"
                             " WHERE topic = 'news'")
                 for shard in shards.shards]
    assert sum(per_shard) == 9 and max(per_shard) < 9


def test_an_order_has_one_history(shards):
    product = shards.products(1, "history")[2][0]
    front = shards.front
    order = name("order")
    front.sql("SELECT receive_stock(%s, 5)", (product,))
    front.sql("SELECT reserve_stock(%s, 1, %s)", (product, order))
    front.sql("SELECT confirm_stock(%s)", (order,))
    query = "SELECT * FROM order_history(%s)"
    assert front.sql(query, (order,)) == shards.shards[2].sql(query, (order,))
    assert len(front.sql(query, (order,))) > 4


def test_an_order_in_several_shards_needs_a_coordinator(shards):
    products = shards.products(1, "cross")
    items = json.dumps([{"product_id": one, "quantity": 1}
                        for (one,) in products[:2]])
    order = name("order")
    assert outcome(shards.front, "reserve_order(%s, %s)", (order, items)) == (
        "0A000", f'order "{order}" has lines in more than one shard',
        "Its lines are in the shards 0, 1.",
        "Name a database for orders over shards with"
        " pgstock_front.set_coordinator(), or choose a key by which all lines"
        " of an order are in one shard.")


def errors(product, known):
    """Calls that fail, each with another SQLSTATE or text."""
    two = json.dumps([{"product_id": product, "quantity": 1}] * 2)
    return [
        ("reserve_stock(%s, 99, 'o')", (product,)),
        ("reserve_stock(%s, 1, 'o')", (product + "?",)),
        ("reserve_stock(%s, 0, 'o')", (product,)),
        ("reserve_stock(%s, 1, '')", (product,)),
        ("reserve_stock(NULL, 1, 'o')", ()),
        ("reserve_stock(%s, 1, 'o', strategy => 'lucky')", (product,)),
        ("reserve_stock(%s, 3, %s)", (product, known)),
        ("reserve_order('o', '7')", ()),
        ("reserve_order('o', %s)", (two.replace("1", "1.5"),)),
        ("reserve_order('o', NULL)", ()),
        ("confirm_stock('none')", ()),
        ("return_stock(%s)", (known,)),
        ("extend_reservation(%s, '-1s')", (known,)),
        ("release_stock(%s, items => '[]')", (known,)),
        ("set_stock(%s, 9, 7)", (product,)),
        ("adjust_stock(%s, 1, NULL)", (product,)),
        ("receive_stock(%s, -1)", (product,)),
        ("move_stock(%s, 99, 'main', 'east')", (product,)),
        ("configure_product(%s, slots => 99)", (product,)),
        ("publish_event('no topic!', 'k', '{}')", ()),
        ("set_event_topic('Unheard', 'no topic!')", ()),
        ("check_availability('7')", ()),
    ]


def test_errors_are_those_of_the_shard(shards):
    """SQLSTATE, message, detail and hint equal those of the shard itself."""
    product = shards.products(1, "error")[2][0]
    shard = shards.shards[2]
    known = name("known")
    shards.front.sql("SELECT receive_stock(%s, 5)", (product,))
    shards.front.sql("SELECT reserve_stock(%s, 2, %s)", (product, known))
    for call, args in errors(product, known):
        direct = outcome(shard, call, args)
        assert isinstance(direct, tuple), (call, direct)
        assert outcome(shards.front, call, args) == direct, call


def test_the_connection_survives_a_refusal(shards):
    """The same session of the shard answers before and after it."""
    product = shards.products(1, "keep")[1][0]
    shard = shards.shards[1]

    def sessions():
        return shard.sql(
            "SELECT pid, backend_start FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()", (shard.name,))
    wait_until(lambda: sessions() == [], 20, sessions)
    with closing(shards.front.connect()) as conn:
        conn.autocommit = True
        cur = conn.cursor()
        cur.execute("SELECT receive_stock(%s, 1)", (product,))
        before = sessions()
        assert len(before) == 1
        for _ in range(3):
            with pytest.raises(psycopg2.Error) as refused:
                cur.execute("SELECT reserve_stock(%s, 9, 'o')", (product,))
            assert refused.value.pgcode == "SK001"
        assert sessions() == before


def test_a_transaction_block_is_refused(shards):
    product = shards.products(1, "block")[0][0]
    front = shards.front
    front.sql("SELECT receive_stock(%s, 5)", (product,))
    front.sql("CREATE TABLE IF NOT EXISTS mine (n int)")
    with closing(front.connect()) as conn, conn.cursor() as cur:
        with pytest.raises(psycopg2.Error) as refused:
            cur.execute("SELECT reserve_stock(%s, 1, %s)",
                        (product, name("order")))
        assert fields(refused.value) == (
            "25001",
            "reserve_stock cannot run inside a transaction block of the front",
            "The call commits in its shard at once; a ROLLBACK here would not"
            " undo it.",
            "Call it outside a transaction block. If your own tables belong to"
            " the same commit, connect to the shard. To have each call commit"
            " by itself, SET pgstock.front_autonomous = on.")
        conn.rollback()
        cur.execute("SELECT * FROM check_availability(%s)", (json.dumps(
            [{"product_id": product, "quantity": 1}]),))
        assert cur.fetchone()[-1]
    assert shards.shard_of(product).level(product) == (5, 0, 5)


@pytest.mark.parametrize("block", (
    "INSERT INTO mine VALUES (1); PERFORM reserve_stock(p, 1, 'w');",
    "BEGIN PERFORM reserve_stock(p, 1, 'w');"
    " EXCEPTION WHEN division_by_zero THEN NULL; END;"))
def test_also_where_it_is_hidden(shards, block):
    """Also after a write of the same statement, and in a subtransaction."""
    product = shards.products(1, "hidden")[0][0]
    front = shards.front
    front.sql("SELECT receive_stock(%s, 5)", (product,))
    front.sql("CREATE TABLE IF NOT EXISTS mine (n int)")
    with pytest.raises(psycopg2.Error) as refused:
        front.sql(f"DO $$ DECLARE p text := '{product}'; BEGIN {block} END $$")
    assert refused.value.pgcode == "25001"
    assert shards.shard_of(product).level(product)[1] == 0


def test_a_session_may_accept_autonomous_calls(shards):
    product = shards.products(1, "own")[3][0]
    front = shards.front
    front.sql("SELECT receive_stock(%s, 5)", (product,))
    with closing(front.connect()) as conn, conn.cursor() as cur:
        cur.execute("SET pgstock.front_autonomous = on")
        cur.execute("SELECT reserve_stock(%s, 1, %s)", (product, name("order")))
        conn.rollback()
    assert shards.shard_of(product).level(product) == (5, 1, 4)
    assert outcome(front, "reserve_stock(%s, 1, 'o')", (product,),
                   options="-c pgstock.front_autonomous=maybe") == (
        "22023", 'parameter "pgstock.front_autonomous" requires a Boolean'
        ' value', None, "Use on or off.")


def test_trace_and_actor_reach_the_shard(shards):
    product = shards.products(1, "trace")[1][0]
    role = shards.add_role(name("clerk"), "admin")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    shards.front.sql(
        "SELECT receive_stock(%s, 5)", (product,), user=role,
        options=f"-c pgstock.trace_id={trace} -c pgstock.actor=till-7")
    shard = shards.shard_of(product)
    assert shard.sql("SELECT actor FROM stock_movements WHERE product_id = %s",
                     (product,)) == [(f"{role}/till-7",)]
    assert shard.value("SELECT payload ->> 'trace_id' FROM stock_outbox"
                       " WHERE key = %s", (product,)) == trace


def test_rights_are_those_of_the_level(shards):
    product = shards.products(1, "rights")[0][0]
    shards.front.sql("SELECT receive_stock(%s, 5)", (product,))
    app = shards.add_role(name("shop"), "app")
    assert outcome(shards.front, "reserve_stock(%s, 1, %s)",
                   (product, name("order")), user=app)[0][5] == "granted"
    refused = outcome(shards.front, "receive_stock(%s, 1)", (product,),
                      user=app)
    assert refused[:2] == ("42501",
                           "permission denied for function receive_stock")
