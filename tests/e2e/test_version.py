# SPDX-License-Identifier: PostgreSQL
"""A library and a script of two versions: refused by name, by the server and
by the relay, and right again without a restart of either.

Story: a package replaces the library, and ALTER EXTENSION UPDATE changes the
tables, at different moments, while sessions and relays are connected. A library
that wrote to the tables of another version could leave columns empty. These
tests change the version in pg_extension, as an update does; test_upgrade.py
runs the real one, test_keeper.py has the case of a preloaded library, and the
regression test "version" all texts.
"""

import psycopg2
import pytest

from process import wait_until

MISMATCH = 'extension "pgstock" has version'


def set_version(db, version):
    """Change it as ALTER EXTENSION UPDATE does: with a function."""
    db.sql(f"UPDATE pg_extension SET extversion = '{version}'"
           " WHERE extname = 'pgstock';"
           " CREATE OR REPLACE FUNCTION public.of_the_next_version()"
           " RETURNS int LANGUAGE sql AS 'SELECT 1'")


@pytest.fixture
def ours(db):
    return db.value("SELECT extversion FROM pg_extension"
                    " WHERE extname = 'pgstock'")


def test_a_session_in_use_is_ended(db, ours):
    """It cannot load the other library, so its pool must replace it."""
    conn = db.connect()
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute("SELECT receive_stock('a', 1)")
        set_version(db, "99")
        with pytest.raises(psycopg2.OperationalError, match="version 99"):
            cur.execute("SELECT receive_stock('a', 1)")
        with pytest.raises(psycopg2.OperationalError):
            cur.execute("SELECT 1")
        assert conn.closed
    set_version(db, ours)
    assert db.value("SELECT receive_stock('a', 1)") == 2


def test_check_says_it(db, ours, relays, kafka):
    relay = relays(db.conninfo(), kafka.brokers)
    for version, hint in (("0.9", "ALTER EXTENSION pgstock UPDATE"),
                          ("99", "Install the package of version 99")):
        set_version(db, version)
        for command, code in (("check", 3), ("status", 1), ("failed list", 1)):
            done = relay.command(*command.split())
            said = done.stdout + done.stderr
            assert done.returncode == code, said
            assert f"{MISMATCH} {version}" in said
            assert hint in said
    set_version(db, ours)
    assert relay.command("check").returncode == 0


def test_a_relay_waits_for_the_other_half(db, ours, start_relay, kafka):
    """Its sessions are ended like all others. It names the versions, stays,
    and goes on by itself when they agree."""
    relay = start_relay(topics=["payment-success"])
    set_version(db, "99")
    wait_until(lambda: f"{MISMATCH} 99" in relay.log(), 20,
               lambda: f"the relay names the versions\n{relay.tail()}")
    wait_until(lambda: MISMATCH in relay.get("/readyz")[1], 20,
               lambda: relay.get("/readyz"))
    assert relay.get("/readyz")[0] == 503
    set_version(db, ours)
    db.sql("SELECT receive_stock('a', 1)")
    with kafka.tail("stock-events") as tail:
        tail.until(len, 20, "the event")
    relay.wait_ok("/readyz")
    assert relay.running
