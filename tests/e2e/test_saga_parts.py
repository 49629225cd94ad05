# SPDX-License-Identifier: PostgreSQL
"""The steps of an order in one shard, as a front sends them: each text is
answered, takes effect once, and gains no rights."""

import itertools
import threading
from contextlib import closing

import psycopg2
import pytest

from cluster import Database
from process import wait_until
from saga_part import (BLOCKED, COLUMNS, SETTINGS, Sender, arguments, connect,
                       expires, line, make_shard, send, states, stored, take,
                       text_of)

OTHER = "the call does not match the function of this shard"
OPTIONAL = ("parts", "role", "trace", "actor")
AGAIN = "SELECT * FROM pgstock_shard.order_part WHERE order_id = %s"
serial = itertools.count(1)


@pytest.fixture(scope="module", name="shard")
def fixture_shard(pg):
    """A shard with a product, and a role that may use it."""
    shard = make_shard(pg, "parts")
    Database(pg, "postgres").sql("CREATE ROLE parts_app LOGIN;"
                                 " GRANT parts_app TO pgstock_front")
    shard.sql("SELECT grant_stock_access('parts_app', 'app')")
    yield shard
    shard.drop()
    Database(pg, "postgres").sql("DROP ROLE parts_app")


@pytest.fixture(name="order")
def fixture_order():
    return f"part-{next(serial)}"


@pytest.fixture(name="front")
def fixture_front(shard):
    """A session of a front."""
    with closing(shard.connect(user="pgstock_front")) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            yield cur


# ---- Each step -------------------------------------------------------------

def test_the_steps_of_an_order(shard, front, order):
    """What is stored is the answer, byte by byte."""
    for step, (verb, status, state) in enumerate((
            ("hold", "granted", "reserved"), ("keep", "granted", "reserved"),
            ("extend", "granted", "reserved"),
            ("confirm", "confirmed", "confirmed"),
            ("return", "returned", "returned")), 1):
        for _ in range(2):      # and once more
            sqlstate, _, rows, answer = take(
                front, order, verb, step, role="parts_app",
                args={"restock": True, "payment_id": "x"})
            assert sqlstate is None and f",{status}," in rows[0], answer
            assert stored(shard, order) == [(7, step, verb, answer)]
        assert states(shard, order) == [state]
    assert shard.value("SELECT %s::stock_result::text", (rows[0],)) == rows[0]
    assert shard.sql("SELECT DISTINCT actor FROM stock_movements"
                     " WHERE order_id = %s", (order,)) == [("parts_app",)]


@pytest.mark.parametrize("verb,before,status", [
    ("undo", "reserved", "released"), ("undo", "confirmed", "rolled_back"),
    ("release", "reserved", "released"),
    ("rollback", "confirmed", "rolled_back"),
    ("compensate", "confirmed", "rolled_back")])
def test_how_a_part_ends(shard, front, order, verb, before, status):
    take(front, order, "hold", 1)
    if before == "confirmed":   # in the shard itself, without the saga
        shard.sql("SELECT confirm_stock(%s)", (order,))
    _, _, rows, _ = take(front, order, verb, 2, parts=None,
                         args={"reason": "a test"})
    assert f",{status}," in rows[0]
    assert states(shard, order) == [status]


@pytest.mark.parametrize("undoes,after", [(7, "released"), (6, "reserved"),
                                          (None, "reserved")])
def test_an_undo_of_an_earlier_saga(shard, front, order, undoes, after):
    take(front, order, "hold", 1)
    args = {} if undoes is None else {"undoes": undoes}
    state, _, rows, _ = take(front, order, "undo", 1, saga=8, args=args)
    assert state is None and bool(rows) == (after == "released")
    assert states(shard, order) == [after]


def test_some_lines(shard, front, order):
    take(front, order, "hold", 1, parts=[line("p", 3)])
    for step, parts in enumerate(([line("p", 1)], ["null"]), 2):
        _, _, rows, _ = take(front, order, "release", step, parts=parts)
        assert len(rows) == 1
    assert states(shard, order) == ["released"]


def test_a_refusal_is_an_answer(shard, front, order):
    """It is stored in place of what it undid, and returned again."""
    for step, state, changes in (
            (1, "SK001", {"parts": [line("p", 100000)]}),
            (2, "SK002", {"parts": [line("none \"(\\", 1)]}),
            (3, "22007", {"args": {"hold": "soon"}}),
            (4, "22P02", {"args": {"raise": "perhaps"}})):
        first = take(front, order, "hold", step, **changes)
        assert first[0] == state
        assert stored(shard, order) == [(None, step, "hold", first[3])]
        assert take(front, order, "hold", step, **changes) == first
    assert states(shard, order) == []


def test_a_hold_that_does_not_raise(front, order):
    state, _, rows, _ = take(front, order, "hold", 1, args={"raise": False},
                             parts=[line("p", 100000)])
    assert state is None and ",insufficient," in rows[0]


# ---- Calls that are none ---------------------------------------------------

@pytest.mark.parametrize("text", [
    "", "()", "(x)", "({0},,,,,,,,,,)", "({0},,,,,o,1,1,{0},hold,{})x",
    "({0},,,,,o,1,1,{0},hold,{)", "({0},{x},,,,o,1,1,{0},hold,{})",
    "({0},,,,,o,1,99999999999,{0},hold,{})",
    "({0},,,,,o,1,1,{0},hold,{},more)"])
def test_a_text_that_is_no_call(shard, front, text):
    """It is answered: a front drops the connection on an error, and reports
    that it could not reach the shard."""
    state, message, _, _ = send(front, text)
    assert (state, message) == ("55000", OTHER)
    assert stored(shard, "o") == []


@pytest.mark.parametrize("name", COLUMNS)
def test_null(shard, front, order, name):
    state, message, rows, _ = send(front, text_of(
        front, {**arguments(order, "hold", 1), name: None}))
    if name == "parts":         # an order without lines
        assert state == "22023" and stored(shard, order) != []
    elif name in OPTIONAL:
        assert state is None and rows
    else:
        assert state == "55000" and message == OTHER
        assert stored(shard, order) == []


@pytest.mark.parametrize("changes,state", [
    ({"verb": "steal"}, "55000"), ({"verb": ""}, "55000"),
    ({"args": {"lock_timeout": "soon"}}, "55000"),
    ({"shards": [1]}, "55000"), ({"shards": [None]}, "55000"),
    ({"role": "no such role"}, "42501"), ({"role": "postgres"}, "42501"),
    ({"role": ""}, "42501")])
def test_before_the_step_itself(shard, front, order, changes, state):
    """An error that is no answer: nothing is stored, and the same step is
    taken later."""
    verb = changes.pop("verb", "hold")
    assert take(front, order, verb, 1, **changes)[0] == state
    assert stored(shard, order) == []
    assert take(front, order, "hold", 1)[0] is None


def test_only_a_front_takes_steps(shard, order):
    with closing(shard.connect(user="parts_app", options=SETTINGS)) as conn, \
            conn.cursor() as cur:
        state, message, _, _ = take(cur, order, "hold", 1)
        assert (state, message) == ("42501",
                                    "permission denied for orders over shards")
        with pytest.raises(psycopg2.Error) as error:
            cur.execute(AGAIN, (order,))
        assert error.value.pgcode == "42501"


# ---- Several sessions ------------------------------------------------------

def test_a_keep_without_its_hold_is_refused_again(shard, front, order):
    """The hold was lost, and the order is another request's by now.  A front
    that does not receive an answer of another shard sends the keep again."""
    shard.sql("SELECT reserve_order(%s, %s)", (order, line("p", 1)))
    before = expires(shard, order)
    for _ in range(3):
        assert take(front, order, "keep", 2)[0] == "SK006"
        assert expires(shard, order) == before


def test_a_hold_of_an_order_of_another_request(shard, front, order):
    shard.sql("SELECT reserve_order(%s, %s, 'u')", (order, line("p", 1)))
    for _ in range(2):
        assert take(front, order, "hold", 1,
                    args={"user_id": "u"})[0] == "SK007"
    assert states(shard, order) == ["reserved"]


@pytest.mark.parametrize("verb", ["hold", "keep"])
def test_two_sessions_send_a_step_at_the_same_time(shard, front, order, verb):
    """The second waits for the first one's commit, and reports the same.  A
    hold finds no row yet, so it waits for the order itself."""
    number = 1
    if verb == "keep":
        take(front, order, "hold", 1)
        number = 2
    with connect(shard) as conn, conn.cursor() as cur:
        first = take(cur, order, verb, number)
        second = Sender(shard, order, verb, number)
        second.wait_blocked()
        conn.commit()
    state, _, rows, answer = second.finish()
    assert state is None and len(rows) == 1
    if verb == "hold":          # but for "replayed"
        assert rows[0][:-2] == first[2][0][:-2]
    else:
        assert answer == first[3]
    assert stored(shard, order) == [(7, number, verb, answer)]
    assert states(shard, order) == ["reserved"]


def test_a_step_that_waited_sees_what_was_committed(shard, front, order):
    take(front, order, "hold", 1)
    with connect(shard) as conn, conn.cursor() as cur:
        take(cur, order, "confirm", 2)
        sender = Sender(shard, order, "rollback", 3)
        sender.wait_blocked()
        conn.commit()
    state, _, rows, _ = sender.finish()
    assert state is None and ",rolled_back," in rows[0]
    assert states(shard, order) == ["rolled_back"]


def test_a_refusal_that_is_late(shard, front, order):
    """The hold of a new order locks no row.  While it waits for its product,
    the undo ends; then the hold is refused."""
    product = f"product of {order}"
    shard.sql("SELECT receive_stock(%s, 1)", (product,))
    with connect(shard) as conn, conn.cursor() as cur:
        cur.execute("SELECT public.reserve_stock(%s, 1, %s)",
                    (product, f"{order}-b"))
        hold = Sender(shard, order, "hold", 1, parts=[line(product, 1)])
        hold.wait_blocked()
        assert take(front, order, "undo", 3)[0] is None
        conn.commit()
    state, message, _, _ = hold.finish()
    assert state == "40001" and "arrived too late" in message
    assert stored(shard, order)[0][1:3] == (3, "undo")
    assert states(shard, order) == []


def test_a_locked_row(shard, front, order):
    """An error that is no answer; the next try has the effect."""
    take(front, order, "hold", 1)
    with connect(shard) as conn, conn.cursor() as cur:
        cur.execute(AGAIN + " FOR UPDATE", (order,))
        assert take(front, order, "keep", 2,
                    args={"lock_timeout": "50ms"})[0] == "55P03"
        front.execute("SHOW lock_timeout")
        assert front.fetchone() == ("0",)
        canceled = Sender(shard, order, "keep", 2,
                          options="-c statement_timeout=300")
        assert canceled.finish() is None
        assert canceled.error.pgcode == "57014"
    assert stored(shard, order)[0][1] == 1
    assert take(front, order, "keep", 2)[0] is None


def test_a_deadlock(shard, front, order):
    """The step is the victim, and holds no lock afterwards."""
    other = f"{order}-b"
    for one in order, other:
        take(front, one, "hold", 1)
    with connect(shard) as conn, conn.cursor() as cur, \
            connect(shard, "-c deadlock_timeout=100ms") as mine:
        cur.execute("SET deadlock_timeout = '60s'")
        cur.execute(AGAIN + " FOR UPDATE", (order,))
        with mine.cursor() as step:
            step.execute(AGAIN + " FOR UPDATE", (other,))
            waiting = threading.Thread(daemon=True, target=cur.execute, args=(
                AGAIN + " FOR UPDATE", (other,)))
            waiting.start()
            wait_until(lambda: shard.value(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"), 20,
                "the other session does not wait")
            assert take(step, order, "keep", 2)[0] == "40P01"
            mine.rollback()
        waiting.join(30)
        conn.rollback()
    assert take(front, order, "keep", 2)[0] is None


def test_a_refusal_that_another_version_has_stored(shard, front, order):
    """Without the number of the shard."""
    assert take(front, order, "keep", 2)[0] == "SK006"
    shard.sql("UPDATE pgstock_shard.order_part SET answer = ROW(NULL,"
              " (answer).error, NULL) WHERE order_id = %s", (order,))
    shard.sql("SELECT reserve_order(%s, %s)", (order, line("p", 1)))
    before = expires(shard, order)
    assert take(front, order, "keep", 2)[0] == "SK006"
    assert expires(shard, order) == before


SEE = """
    CREATE TABLE public.seen (verb text, setting text, role text);
    GRANT INSERT ON public.seen TO PUBLIC;
    CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.seen VALUES (
            NEW.verb, current_setting('synchronous_commit'), current_user);
        RETURN NEW;
    END $$;
    CREATE TRIGGER see BEFORE INSERT OR UPDATE ON pgstock_shard.order_part
       FOR EACH ROW EXECUTE FUNCTION public.see()"""


@pytest.fixture(name="seen")
def fixture_seen(shard):
    """What holds where a step writes its row: (verb, whether the commit is
    durable, role)."""
    shard.sql(SEE)
    yield lambda: set(shard.sql("SELECT * FROM public.seen"))
    shard.sql("DROP FUNCTION public.see CASCADE; DROP TABLE public.seen")


@pytest.mark.parametrize("setting", ["off", "on", "local"])
def test_which_commits_are_durable(shard, seen, order, setting):
    """Also of refusals, and of steps that were taken before."""
    with connect(shard, f"-c synchronous_commit={setting}") as conn, \
            conn.cursor() as cur:
        conn.autocommit = True
        for verb, step, state in (("hold", 1, None), ("keep", 2, None),
                                  ("return", 3, "SK005")):
            for _ in range(2):
                assert take(cur, order, verb, step)[0] == state
        assert take(cur, f"{order}-b", "hold", 1,
                    parts=[line("none", 1)])[0] == "SK002"
        cur.execute("SHOW synchronous_commit")
        assert cur.fetchone() == (setting,)
    assert {found[:2] for found in seen()} == {
        ("hold", "off"), ("keep", "on"), ("return", "on")}


# what holds a refusal before it is stored, and what fails then
GATE = """
    CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.answer).error IS NOT NULL THEN
            %s
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER gate BEFORE INSERT ON pgstock_shard.order_part
       FOR EACH ROW EXECUTE FUNCTION public.gate()"""
WAIT = """PERFORM pg_advisory_lock(77);
          PERFORM pg_advisory_unlock(77);"""


@pytest.fixture(name="gate")
def fixture_gate(shard):
    """Does something in each write of a refusal."""
    yield lambda body: shard.sql(GATE % body)
    shard.sql("DROP FUNCTION public.gate CASCADE")


@pytest.mark.parametrize("verb", ["hold", "return"])
def test_a_refusal_does_not_replace_an_answer(shard, front, order, gate, verb):
    """One session is refused; the cause ends; another session takes the same
    step; then the first one stores its refusal.  Both return what is stored.
    A refused hold has no row to lock."""
    parts, step = [line("p", 1)], 1
    if verb == "hold":
        parts = [line(f"product of {order}", 1)]
    else:
        take(front, order, "hold", 1)
        step = 2
    gate(WAIT)
    with connect(shard) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(77)")
        conn.commit()
        refused = Sender(shard, order, verb, step, parts=parts)
        refused.wait_blocked()
        if verb == "hold":
            shard.sql("SELECT receive_stock(%s, 1)", (f"product of {order}",))
        else:
            shard.sql("SELECT confirm_stock(%s)", (order,))
        other = Sender(shard, order, verb, step, parts=parts)
        wait_until(lambda: not other.is_alive()
                   or shard.value(BLOCKED) == 2, 20, "the other session")
        cur.execute("SELECT pg_advisory_unlock(77)")
        conn.commit()
    answer = other.finish()
    assert refused.finish() == answer
    assert answer[0] == (None if verb == "hold" else "SK005")
    assert stored(shard, order)[0][3] == answer[3]
    assert take(front, order, verb, step, parts=parts) == answer


def test_a_refusal_waits_no_longer_than_the_step(shard, front, order, gate):
    gate(WAIT)
    with connect(shard) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(77)")
        conn.commit()
        assert take(front, order, "hold", 1, parts=[line("none", 1)],
                    args={"lock_timeout": "50ms"})[0] == "55P03"
        front.execute("SHOW lock_timeout")
        assert front.fetchone() == ("0",)
        cur.execute("SELECT pg_advisory_unlock(77)")
        conn.commit()
    assert stored(shard, order) == []


@pytest.mark.parametrize("state", ["22012", "SK009"])
def test_a_refusal_that_cannot_be_stored(shard, front, order, gate, state):
    """It is no refusal, so the step is sent again."""
    gate(f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}';")
    assert take(front, order, "hold", 1,
                parts=[line("none", 1)])[:2] == ("55000", "no")
    assert stored(shard, order) == []


def test_an_undo_that_meets_a_hold(shard, front, order):
    """It finds no row yet, and so releases nothing: it is sent again."""
    with connect(shard) as conn, conn.cursor() as cur:
        assert take(cur, order, "hold", 1)[0] is None
        undo = Sender(shard, order, "undo", 3)
        undo.wait_blocked()
        conn.commit()
    assert undo.finish()[0] == "40001"
    assert states(shard, order) == ["reserved"]
    assert take(front, order, "undo", 3)[0] is None
    assert states(shard, order) == ["released"]


# ---- What a session has looked up ------------------------------------------

def test_the_extension_is_created_again(pg):
    """In a session that has kept plans of the old table."""
    shard = make_shard(pg, "parts_again")
    with connect(shard) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for number in range(3):
            order = f"o-{number}"
            assert take(cur, order, "hold", 1)[0] is None
            assert take(cur, order, "keep", 2)[0] is None
            assert take(cur, order, "confirm", 3)[0] is None
            if number == 0:
                cur.execute("DROP EXTENSION pgstock_shard")
                cur.execute("CREATE EXTENSION pgstock_shard")
            else:
                shard.sql("DROP EXTENSION pgstock_shard")
                shard.sql("DROP EXTENSION pgstock CASCADE")
                shard.sql("CREATE EXTENSION pgstock")
                shard.sql("CREATE EXTENSION pgstock_shard")
                shard.sql("SELECT receive_stock('p', 1000)")
    shard.drop()


def test_the_table_is_away(shard, front, order):
    assert take(front, order, "hold", 1)[0] is None
    shard.sql("ALTER TABLE pgstock_shard.order_part RENAME TO away")
    with connect(shard) as conn, conn.cursor() as new:
        for cur in front, new:
            assert take(cur, order, "keep", 2)[0] == "55000"
    shard.sql("ALTER TABLE pgstock_shard.away RENAME TO order_part")
    assert take(front, order, "keep", 2)[0] is None


def test_functions_of_other_sessions(shard, front, order):
    """Each creation makes this session look up what it calls."""
    take(front, order, "hold", 1)
    for step in range(2, 6):
        shard.sql("CREATE OR REPLACE FUNCTION public.other() RETURNS int"
                  " LANGUAGE sql AS 'SELECT 1'")
        assert take(front, order, "extend", step)[0] is None


def test_the_function_of_the_extension_is_meant(shard, front, order):
    """Not one of the same name and arguments in another schema."""
    shard.sql("CREATE SCHEMA a; GRANT USAGE ON SCHEMA a TO PUBLIC;"
              " CREATE FUNCTION a.try_reserve_order(text, jsonb, text,"
              " interval, text, text) RETURNS SETOF stock_result"
              " LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a'; END $$")
    try:
        assert take(front, order, "hold", 1, args={"raise": False})[0] is None
    finally:
        shard.sql("DROP SCHEMA a CASCADE")


@pytest.mark.parametrize("setting", ["search_path = public", "datestyle = SQL",
                                     "intervalstyle = iso_8601"])
def test_a_session_without_the_settings_of_a_front(shard, order, setting):
    with connect(shard) as conn, conn.cursor() as cur:
        cur.execute(f"SET {setting}")
        state, message, _, _ = take(cur, order, "hold", 1)
        assert state == "55000" and "settings" in message
    assert stored(shard, order) == []


def test_a_schema_of_another_owner(shard, front, order):
    """He could put a table of his own in the place of the shard's, whose
    triggers a step would run with the rights of the extension's owner."""
    shard.sql("ALTER SCHEMA pgstock_shard OWNER TO parts_app")
    try:
        state, message, _, _ = take(front, order, "hold", 1)
        assert state == "55000"
        assert "does not belong to the owner" in message
    finally:
        shard.sql("ALTER SCHEMA pgstock_shard OWNER TO postgres")
    assert take(front, order, "hold", 1)[0] is None


TRAP = """
    CREATE SCHEMA trap AUTHORIZATION parts_app;
    SET ROLE parts_app;
    CREATE TABLE trap.ran (role text);
    CREATE FUNCTION trap.run() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO trap.ran VALUES (current_user);
        RETURN NEW;
    END $$;
    RESET ROLE"""
SPRING = """
    SET ROLE parts_app;
    CREATE TRIGGER run BEFORE INSERT OR UPDATE ON pgstock_shard.order_part
       FOR EACH ROW EXECUTE FUNCTION trap.run();
    RESET ROLE"""


@pytest.fixture(name="trap")
def fixture_trap(shard):
    """The roles as which a trigger of parts_app has run."""
    shard.sql(TRAP)
    yield lambda: set(shard.sql("SELECT * FROM trap.ran"))
    shard.sql("DROP SCHEMA trap CASCADE")


def test_the_table_gets_another_owner(shard, front, order, trap):
    """A session that has taken a step of the earlier owner's does not run
    triggers of the new one with the earlier one's rights."""
    take(front, order, "hold", 1)
    shard.sql("ALTER TABLE pgstock_shard.order_part OWNER TO parts_app;"
              + SPRING)
    try:
        assert take(front, order, "keep", 2)[0] is None
        assert trap() == {("parts_app",)}
    finally:
        shard.sql("DROP TRIGGER run ON pgstock_shard.order_part;"
                  " ALTER TABLE pgstock_shard.order_part OWNER TO postgres")


def test_another_table_in_the_place_of_the_row(shard, front, order, trap):
    take(front, order, "hold", 1)
    shard.sql("ALTER TABLE pgstock_shard.order_part RENAME TO put_away;"
              " CREATE TABLE pgstock_shard.order_part"
              " (LIKE pgstock_shard.put_away INCLUDING INDEXES);"
              " ALTER TABLE pgstock_shard.order_part OWNER TO parts_app;"
              + SPRING)
    try:
        state, message, _, _ = take(front, order, "keep", 2)
        assert state == "55000" and "has no table" in message
        assert trap() == set()
    finally:
        shard.sql("DROP TABLE pgstock_shard.order_part;"
                  " ALTER TABLE pgstock_shard.put_away RENAME TO order_part")
    assert take(front, order, "keep", 2)[0] is None


def test_the_owner_of_the_schema_is_no_superuser_now(shard, front, order):
    shard.sql("CREATE ROLE parts_admin SUPERUSER;"
              " ALTER SCHEMA pgstock_shard OWNER TO parts_admin")
    try:
        assert take(front, order, "hold", 1)[0] is None
        shard.sql("ALTER ROLE parts_admin NOSUPERUSER")
        state, message, _, _ = take(front, order, "keep", 2)
        assert state == "55000"
        assert "does not belong to the owner" in message
    finally:
        shard.sql("ALTER SCHEMA pgstock_shard OWNER TO postgres;"
                  " DROP ROLE parts_admin")
    assert take(front, order, "keep", 2)[0] is None


def test_the_rights_of_a_step(front, seen, order):
    """The row is written with the rights of the table's owner, and the
    function is called with those of the role; a step leaves neither."""
    for parts, state in ([line("none", 1)], "SK002"), ([line("p", 1)], None):
        assert take(front, order, "hold", 1, role="parts_app",
                    parts=parts)[0] == state
        front.execute("SELECT current_user")
        assert front.fetchone() == ("pgstock_front",)
        order += "-b"
    assert seen() == {("hold", "off", "postgres")}


def test_the_books_agree(shard):
    assert shard.drift() == []
