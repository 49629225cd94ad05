# SPDX-License-Identifier: PostgreSQL
"""What docs/pools.md says of PgBouncer's modes and of Pgpool-II.

    PGSTOCK_PGPOOL  the directory of Pgpool-II, as dev/pgpool prints it
"""

import itertools
import os
import re
from contextlib import closing, contextmanager

import psycopg2
import pytest

from cluster import HOST, Postgres, need
from documents import blocks, text_of
from process import Server, wait_until, write_private
from test_standby import Pair

PAGE = "docs/pools.md"
MODES = ("session", "transaction", "statement")
USER = "shop_app"
orders = itertools.count(1)


class Pool(Server):
    """What both pools are: an address in front of a database."""

    def __init__(self, directory, db):
        super().__init__(directory)
        self.port = self.take_port()
        self.db = db

    def connect(self):
        conn = psycopg2.connect(host=HOST, port=self.port, user=USER,
                                dbname=self.db.name, connect_timeout=10)
        conn.autocommit = True
        return closing(conn)

    def answers(self):
        assert self.running, self.tail()
        try:
            with self.connect() as conn, conn.cursor() as cur:
                cur.execute("SELECT 1")
                return True
        except psycopg2.OperationalError:
            return False

    def reserve(self, cur, **more):
        """A piece for another order each time; its id."""
        order = f"order-{next(orders)}"
        arguments = "".join(f", {name} => '{value}'"
                            for name, value in more.items())
        cur.execute(f"SELECT status FROM reserve_stock('book', 1, %s"
                    f"{arguments})", (order,))
        assert cur.fetchall() == [("granted",)]
        return order

    def actor(self, order):
        """Who reserved, by the ledger."""
        return self.db.value("SELECT actor FROM stock_movements"
                             " WHERE order_id = %s", (order,))


class PgBouncer(Pool):
    """One with a single session of the server, which all clients share."""

    def start(self, mode):
        path = os.path.join(self.directory, "pgbouncer.ini")
        users = os.path.join(self.directory, "users")
        write_private(users, f'"{USER}" ""\n')
        write_private(path, f"""\
[databases]
* = host={HOST} port={self.db.pg.port}
[pgbouncer]
listen_addr = {HOST}
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = 1
""")
        self.spawn(["pgbouncer", path])
        wait_until(self.answers, 30, self.tail)
        return self


class Pgpool(Pool):
    """One in front of a primary and a standby; all that may be read there is
    read from the standby."""

    def start(self, pair, **settings):
        path = os.path.join(self.directory, "pgpool.conf")
        for number, server in enumerate((pair.primary, pair.standby)):
            settings |= {f"backend_hostname{number}": HOST,
                         f"backend_port{number}": server.port,
                         f"backend_weight{number}": number}
        settings |= {
            "listen_addresses": HOST, "port": self.port,
            "pcp_port": self.take_port(), "socket_dir": self.directory,
            "unix_socket_directories": self.directory,
            "pcp_socket_dir": self.directory, "logdir": self.directory,
            "pid_file_name": f"{self.directory}/pgpool.pid",
            "backend_clustering_mode": "streaming_replication",
            "load_balance_mode": "on", "num_init_children": 4,
            "sr_check_user": "postgres", "sr_check_period": 1,
            "enable_pool_hba": "off"}
        write_private(path, "".join(f"{name} = '{value}'\n"
                                    for name, value in settings.items()))
        tree = need("PGSTOCK_PGPOOL")
        libraries = f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/usr/lib"
        self.spawn([f"{tree}/usr/sbin/pgpool", "-n", "-f", path],
                   {"LD_LIBRARY_PATH": libraries})
        wait_until(self.answers, 60, self.tail)
        return self

    def server_of(self, query):
        """The port of the server that answers."""
        with self.connect() as conn, conn.cursor() as cur:
            cur.execute(query)
            return cur.fetchone()[-1]


@pytest.fixture
def pool(new_dir, db):
    """A shop, and what makes pools in front of its database."""
    made = []

    def make(kind, of=db):
        made.append(kind(new_dir(kind.__name__.lower()), of))
        return made[-1]

    open_shop(db)
    yield make
    for one in made:
        one.close()


def open_shop(db):
    db.sql("SELECT receive_stock('book', 1000)")
    db.sql(f"DO $$ BEGIN CREATE ROLE {USER} LOGIN; EXCEPTION"
           " WHEN duplicate_object THEN NULL; END $$")
    db.sql(f"SELECT grant_stock_access('{USER}', 'app')")


@contextmanager
def cursor(one):
    with one.connect() as conn, conn.cursor() as cur:
        yield cur


# ---- the rows of PgBouncer's table: what each returns, in the page's words ---

def a_call(one):
    with cursor(one) as cur:
        one.reserve(cur)
    return "works"


def a_transaction(one):
    with cursor(one) as cur:
        try:
            cur.execute("BEGIN")
            one.reserve(cur)
            cur.execute("SELECT 1")
            cur.execute("COMMIT")
        except psycopg2.OperationalError:
            assert "transaction blocks not allowed" in one.log()
            return "refused by PgBouncer"
    return "works"


def set_local(one):
    within = a_transaction(one) == "works"
    with cursor(one) as cur:
        if within:
            cur.execute("BEGIN")
        cur.execute("SET LOCAL pgstock.actor = 'checkout'")
        order = one.reserve(cur)
        if within:
            cur.execute("COMMIT")
    if one.actor(order) == f"{USER}/checkout":
        return "works"
    return "has no effect: it needs a transaction"


def set_session(one):
    """Works if the next client does not have it."""
    with cursor(one) as first:
        first.execute("SET pgstock.actor = 'first'")
        one.reserve(first)
    with cursor(one) as second:
        order = one.reserve(second)
    if one.actor(order) == USER:
        return "works"
    return "no: it would apply to the next client"


def set_by_role(one):
    one.db.sql(f"ALTER ROLE {USER} IN DATABASE {one.db.name}"
               " SET pgstock.actor = 'role'")
    one.db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
               " WHERE usename = %s", (USER,))
    wait_until(one.answers, 30, one.tail)
    with cursor(one) as cur:
        order = one.reserve(cur)
    return "works" if one.actor(order) == f"{USER}/role" else "no"


def advisory(one):
    with cursor(one) as cur:
        one.reserve(cur, strategy="advisory")
        held = one.db.value("SELECT count(*) FROM pg_locks WHERE"
                            " locktype = 'advisory' AND database = (SELECT oid"
                            " FROM pg_database WHERE datname ="
                            " current_database())")
    return "works" if held == 0 else "no"


ROWS = {
    "a call as a statement of its own": a_call,
    "calls and your own statements between BEGIN and COMMIT": a_transaction,
    "`SET LOCAL pgstock.trace_id`, `pgstock.actor`": set_local,
    "`SET pgstock.…`": set_session,
    "settings by `ALTER ROLE … SET`, `ALTER DATABASE … SET`": set_by_role,
    "`strategy => 'advisory'`: its lock ends with the transaction": advisory,
}


def table():
    """{row: {mode: what the page says}}"""
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in re.findall(r"^\|(?:[^|\n]+\|){4}$", text_of(PAGE),
                                   re.M)]
    (head,) = [row for row in rows if row[1] == "`pool_mode = session`"]
    assert [cell.strip("`") for cell in head[2:]] == list(MODES[1:])
    return {row[0]: dict(zip(MODES, row[1:])) for row in rows if row != head}


def check_relay(one, relays, kafka, expected):
    """The relay's check in front of a pool fails, and says why."""
    relay = relays(f"host={HOST} port={one.port} dbname={one.db.name}"
                   f" user=postgres", kafka.brokers)
    done = relay.command("check")
    assert done.returncode != 0 and expected in done.stdout, done.stdout
    return "refused"


@pytest.mark.parametrize("mode", MODES)
def test_pgbouncer(pool, relays, kafka, mode):
    one = pool(PgBouncer).start(mode)
    said = table()
    for row, check in ROWS.items():
        assert said[row][mode].startswith(check(one).split(":")[0]), row
    assert check_relay(one, relays, kafka, "a connection pooler") \
        == said["the relay"][mode]


@pytest.fixture
def pair(new_dir):
    found = Pair(Postgres(new_dir("primary")), new_dir("standby"),
                 synchronous=False)
    open_shop(found.db)
    found.on_primary("SELECT pg_create_restore_point('caught up')")
    wait_until(lambda: found.on_primary(
        "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication")
        == [(True,)], 30, "the standby has replayed it")
    yield found
    found.close()


def writing_functions(db):
    """The answer of the page's statement."""
    (statement,) = [block.text for block in blocks(PAGE, "Pgpool-II")
                    if block.kind == "sql"]
    return db.value(statement)


def check_reads(one, pair):
    """A view, and a function that writes nothing, are read from the standby."""
    for query in ("SELECT available, inet_server_port() FROM stock_levels",
                  "SELECT fits, inet_server_port() FROM check_availability("
                  "'[{\"product_id\": \"book\", \"quantity\": 1}]')"):
        assert one.server_of(query) == pair.standby.port, query


def test_pgpool(pair, pool, relays, kafka):
    """By the catalog, by a list that has pgstock's functions, and by one that
    has not: then a call reaches the standby."""
    for settings, reason in (
            ({}, "a connection pooler"),
            ({"write_function_list":
              f"nextval,{writing_functions(pair.db)}"}, "notifications")):
        one = pool(Pgpool, pair.db).start(pair, **settings)
        check_reads(one, pair)
        a_call(one)
        check_relay(one, relays, kafka, reason)
    one = pool(Pgpool, pair.db).start(pair, write_function_list="nextval")
    with pytest.raises(psycopg2.Error) as caught:
        a_call(one)
    assert caught.value.pgcode == "25006"
    assert "cannot execute reserve_stock() in a read-only" in str(caught.value)
