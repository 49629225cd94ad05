# SPDX-License-Identifier: PostgreSQL
"""README and guides, typed: the commands and statements work, in their order,
and print the answers that are shown.  documents.py describes the blocks.

A guide is run as its reader runs it: in one terminal, on a server of its own
that has the client authentication of a new Debian.  systemd does not run here;
`systemctl` acts on the same servers, and starts the relay by the unit's own
command, environment and credential.
"""

import filecmp
import os
import re
import shlex
import shutil
import signal

import pytest

from cluster import HOST, Database, Postgres, need
from documents import KINDS, TOP, Terminal, blocks, text_of
from process import Server, make_dir, wait_until, write_private

README = "README.md"
SQL_API = "docs/sql-api.md"
# Pages whose statements stand alone.
REFERENCE = ("docs/operations.md", "docs/runbook.md", "docs/events.md",
             "docs/install.md")
# What the sessions in its sections begin with.
BEFORE = {
    "Stock on hand": """
        SELECT receive_stock('SKU-2', 1) FROM generate_series(1, 3);
        SELECT set_stock('SKU-2', 3, 3)""",
    "Reserving": """
        SELECT receive_stock('SKU-1', 10), receive_stock('SKU-2', 5)""",
    "The same request again": """
        SELECT receive_stock('SKU-1', 10);
        SELECT try_reserve_stock('SKU-1', 1, 'order-5',
                                 idempotency_key => 'click-1')""",
    "Settling": """
        SELECT receive_stock('SKU-1', 10);
        SELECT reserve_stock('SKU-1', 2, 'order-1');
        SELECT confirm_stock('order-1')""",
    "Flash sales": "SELECT receive_stock('SKU-1', 10)",
    "Events": """
        CREATE ROLE shop;
        SELECT grant_stock_access('shop', 'app')""",
    "Handlers": """
        CREATE SCHEMA shop;
        CREATE FUNCTION shop.on_shipped(payload jsonb, message jsonb)
        RETURNS void LANGUAGE sql AS ''""",
    "Proof and access": """
        SELECT receive_stock('SKU-1', 10);
        SELECT reserve_stock('SKU-1', 1, 'order-' || i, 'user-7')
          FROM generate_series(1, 5) i""",
}
TUTORIAL = "docs/tutorial.md"
GUIDES = (TUTORIAL, "docs/migrate.md", "docs/testing.md", "docs/pools.md",
          "docs/maintenance.md")
DOCUMENTS = (README, *GUIDES)
# Blocks that are not run here, or not at all, in all documents.
ELSEWHERE_MAX, NOT_RUN_MAX = 6, 3
COMMAND = re.compile(r"^(?:\$ |=> |sudo |psql |pgstock-relay |SELECT |curl )",
                     re.M)
HBA = """\
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 trust
"""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks(document):
    """Each block says what it is, and none is left out by mistake."""
    for block in blocks(document):
        assert block.kind in KINDS, block
        if block.kind == "text":
            assert not COMMAND.search(block.text), block


def test_few_blocks_are_not_run():
    """Each names the test or script that runs it, or the reason."""
    marks = [(block, *block.mark) for document in DOCUMENTS
             for block in blocks(document) if block.mark]
    elsewhere = [(block, rest) for block, kind, rest in marks
                 if kind == "tested by"]
    for block, path in elsewhere:
        assert os.path.isfile(os.path.join(TOP, path)), block
    assert len(elsewhere) <= ELSEWHERE_MAX
    assert len(marks) - len(elsewhere) <= NOT_RUN_MAX


def anchors(document):
    """What a link may have behind "#": titles, as GitHub turns them."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(document), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in titles}


def without_blocks(document):
    return re.sub(r"^```.*?^```$", "", text_of(document), flags=re.M | re.S)


def manual():
    """All pages."""
    for directory, _, names in os.walk(os.path.join(TOP, "docs")):
        yield from (os.path.relpath(os.path.join(directory, name), TOP)
                    for name in names if name.endswith(".md"))
    yield from (name for name in os.listdir(TOP) if name.endswith(".md"))


def test_links():
    """Each link within the manual leads to a page, and to a title in it."""
    dead = []
    for document in manual():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(document)):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            path = os.path.normpath(os.path.join(
                os.path.dirname(document), path)) if path else document
            if not os.path.exists(os.path.join(TOP, path)) or (
                    anchor and anchor not in anchors(path)):
                dead.append((document, target))
    assert dead == []


# ---- a place to run them -----------------------------------------------------

class UnitRelay(Server):
    """A relay that is started as its unit starts it, but for the sandbox."""

    def start(self, terminal):
        unit = terminal.here(text_of("deploy/pgstock-relay.service"))
        ((name, secret),) = re.findall(r"^LoadCredential=(\w+):(.*)$", unit,
                                       re.M)
        (variable,) = re.findall(r"^Environment=(.*)=%d/" + name, unit, re.M)
        (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
        credential = os.path.join(self.directory, name)
        with open(secret, encoding="utf-8") as file:
            write_private(credential, file.read())
        # HOME: that of the unit's user
        self.spawn(shlex.split(command), {variable: credential, "HOME": "/"})


class PgBouncer(Server):
    """As Debian's unit starts it."""

    def restart(self, config):
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait_end()
        begun = self.log().count("process up") if self.process else 0
        self.spawn(["pgbouncer", config])
        wait_until(lambda: self.log().count("process up") > begun, 30,
                   self.tail)


class Machine:
    """What a reader has: a server, a broker, files in /etc, a terminal."""

    def __init__(self, directory, server, kafka):
        self.server = server
        self.edits = {}         # what the reader does in an editor
        self.relay = UnitRelay(os.path.join(directory, "relay"))
        self.pgbouncer = PgBouncer(os.path.join(directory, "pgbouncer"))
        self.bin = make_dir(os.path.join(directory, "bin"))
        shutil.copy(need("PGSTOCK_RELAY"), self.bin)
        self.script("kafka-topics.sh", kafka.java(
            "org.apache.kafka.tools.TopicCommand"))
        self.etc = make_dir(os.path.join(directory, "etc"))
        for name in ("pgstock", "pgbouncer", "cron.d"):
            make_dir(os.path.join(self.etc, name))
        shutil.copy(os.path.join(TOP, "deploy/pgstock-relay.conf"),
                    os.path.join(self.etc, "pgstock"))
        self.terminal = Terminal(
            os.path.join(directory, "home"),
            {"PATH": f"{self.bin}:{os.path.dirname(server.bin('psql'))}:"
                     f"{os.environ['PATH']}",
             "PGHOST": server.directory, "PGPORT": str(server.port),
             "PGUSER": "postgres", "PGDATABASE": "shop"},
            {**{f"/etc/{name}": os.path.join(self.etc, name)
                for name in os.listdir(self.etc)},
             "/etc/postgresql/15/main": server.data, " -o postgres": "",
             "/usr/bin/": f"{self.bin}/",
             "host=localhost": f"host=localhost port={server.port}",
             "localhost:5432": f"localhost:{server.port}",
             "localhost:9092": kafka.brokers,
             "127.0.0.1:29187": f"127.0.0.1:{self.relay.take_port()}",
             "6432": str(self.pgbouncer.take_port()),
             # psycopg2 is Debian's
             "python3 -m": "/usr/bin/python3 -m"},
            {"systemctl": self.systemctl, "sudoedit": self.sudoedit})

    def close(self):
        self.terminal.close()
        self.relay.close()
        self.pgbouncer.close()

    def script(self, name, command):
        """A command that calls another one with its arguments."""
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        os.chmod(path, 0o755)

    def restart_server(self):
        """A person types this seconds after the events are published, when
        their position is stored: none of them comes twice."""
        if self.relay.running:
            shop = Database(self.server, "shop")
            wait_until(lambda: shop.value(
                "SELECT finished AND stored_at > (SELECT max(created_at) FROM"
                " stock_outbox) AND (SELECT n = 0 FROM"
                " pgstock_internal.pending())"
                " FROM pgstock_internal.relay_position"), 30,
                "the position is stored, and no event is behind it")
        self.server.restart()

    def systemctl(self, *args):
        *verb, unit = args
        verb = " ".join(verb)
        if (verb, unit) == ("restart", "postgresql"):
            self.restart_server()
        elif (verb, unit) == ("restart", "pgbouncer"):
            self.pgbouncer.restart(
                self.terminal.here("/etc/pgbouncer/pgbouncer.ini"))
        elif unit == "pgstock-relay":
            if verb in ("restart", "stop"):
                if self.relay.running:
                    self.relay.signal(signal.SIGTERM)
                assert self.relay.wait_end() == 0, self.relay.tail()
            if verb in ("restart", "start", "enable --now"):
                self.relay.start(self.terminal)
        else:
            raise AssertionError(f"systemctl {verb} {unit}: not known here")

    def sudoedit(self, path):
        self.terminal.edit(path, *self.edits[os.path.basename(path)])

    def run(self, document):
        for block in blocks(document):
            if not block.mark:
                self.terminal.run(block)


def new_server(directory):
    one = Postgres(directory, {"unix_socket_directories": f"'{directory}'",
                               "wal_level": "logical"}).init()
    with open(os.path.join(one.data, "pg_hba.conf"), "w",
              encoding="ascii") as file:
        file.write(HBA)
    return one.start()


@pytest.fixture(scope="module")
def server(new_dir):
    one = new_server(new_dir("postgres-documents"))
    yield one
    one.close()


@pytest.fixture
def successor(new_dir, machine, server):
    """A second server, which a document names "new"; the first is "old"."""
    one = new_server(new_dir("postgres-new"))
    for name, at in ("old", server), ("new", one):
        machine.terminal.names |= {
            f"-h {name}": f"-h {at.directory} -p {at.port}",
            f"host={name}": f"host={HOST} port={at.port}",
            f"{name}:5432": f"{HOST}:{at.port}"}
    yield one
    one.close()


@pytest.fixture
def machine(new_dir, server, session_kafka):
    """The server and the broker as they were before a document."""
    session_kafka.delete_topics(*session_kafka.topics())
    files = [os.path.join(server.data, name)
             for name in ("pg_hba.conf", "postgresql.auto.conf")]
    for path in files:
        shutil.copy(path, f"{path}.before")
    one = Machine(make_dir(new_dir("reader")), server, session_kafka)
    yield one
    one.close()
    if not all(filecmp.cmp(path, f"{path}.before", shallow=False)
               for path in files):
        for path in files:
            shutil.copyfile(f"{path}.before", path)
        server.restart()
    clean(Database(server, "postgres"))


def clean(db):
    """Drop what a document has left in the server."""
    for (name,) in db.sql("SELECT datname FROM pg_database WHERE datname !~"
                          " '^(postgres|template[01])$'"):
        db.sql(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
        db.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    for (name,) in db.sql("SELECT rolname FROM pg_roles WHERE rolname !~"
                          " '^(postgres$|pg_)'"):
        db.sql(f'DROP ROLE "{name}"')


# ---- the documents -----------------------------------------------------------

def test_readme(machine, server, session_kafka):
    """The packages install the configuration: tests/packages/check."""
    session_kafka.create_topics("order-created", "payment-success")
    text = text_of("deploy/pgstock-relay.conf")
    for name, value in (("conninfo", "host=localhost dbname=shop"
                                     " user=pgstock_relay"),
                        ("topics", "order-created, payment-success")):
        text, count = re.subn(rf"^#?{re.escape(name)} = .*$",
                              f"{name} = {value}", text, flags=re.M)
        assert count == 1, name
    machine.edits = {"pgstock-relay.conf": (text, 0o644), "pgpass": (
        "localhost:5432:shop:pgstock_relay:choose-one\n", 0o600)}
    server.create_database("shop", extension=False)
    machine.run(README)
    without = machine.terminal.type(
        "pgstock-relay check --config /etc/pgstock/pgstock-relay.conf",
        may_fail=True)
    assert "password" in without


@pytest.mark.parametrize("guide", GUIDES)
def test_guide(request, machine, server, guide):
    if "-h new" in text_of(guide):
        request.getfixturevalue("successor")
    if guide != TUTORIAL:           # which creates it
        server.create_database("shop", extension=False)
    machine.run(guide)


@pytest.mark.parametrize("section", BEFORE)
def test_sql_api(machine, server, section):
    """Its sessions, each section in a database of its own."""
    db = server.create_database("shop")
    db.sql(BEFORE[section])
    sessions = [block for block in blocks(SQL_API, section)
                if block.kind == "psql"]
    assert sessions
    for block in sessions:
        machine.terminal.run(block)


@pytest.mark.parametrize("page", REFERENCE)
def test_statements(machine, server, page):
    """Each block of SQL, in a session of its own."""
    server.create_database("shop", extension=page != "docs/install.md")
    statements = [block for block in blocks(page) if block.kind == "sql"]
    assert statements
    for block in statements:
        machine.terminal.run(block)


def signatures(document):
    """{function: [arguments]} of the signatures in bold type."""
    found = re.findall(r"\*\*(\w+)\*\*\(((?:[^()]|\(\))*)\)",
                       " ".join(text_of(document).split()))
    return {name: arguments.split(", ") if arguments else []
            for name, arguments in found if "…" not in arguments}


def test_signatures(db):
    """docs/sql-api.md has the arguments, types and defaults of each function,
    and the columns of each view."""
    named = signatures(SQL_API)
    assert len(named) > 25
    short = {"integer": "int", "timestamp with time zone": "timestamptz",
             "'00:00:05'": "'5s'"}
    for name, count, arguments in db.sql(
            "SELECT proname, pronargs, pg_get_function_arguments(oid)"
            " FROM pg_proc WHERE pronamespace = 'public'::regnamespace"):
        have = arguments.split(", ")[:count]
        for one, other in (*short.items(), (" DEFAULT ", " = ")):
            have = [text.replace(one, other) for text in have]
        have = [re.sub(r"::[\w ]+", "", text) for text in have]
        assert named.get(name, have) == have, name
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$",
                           text_of(SQL_API), re.M))
    for view, columns in db.sql(
            "SELECT relname, array_agg(attname::text) FROM pg_attribute"
            " JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 AND"
            " relkind = 'v' AND relnamespace = 'public'::regnamespace"
            " GROUP BY 1"):
        assert [x for x in columns if x not in rows[view]] == [], view


def test_what_writes_is_volatile(db):
    """docs/pools.md: so a balancer finds the functions that write.  PostgreSQL
    keeps SQL and PL/pgSQL functions that are not volatile from writing; one in
    C only reads (regress/sql/availability.sql)."""
    assert db.sql("SELECT proname FROM pg_proc p JOIN pg_language l ON"
                  " l.oid = prolang WHERE lanname = 'c' AND provolatile <> 'v'"
                  " AND probin LIKE '%pgstock' AND pronamespace <>"
                  " 'pgstock_internal'::regnamespace") == [
                      ("check_availability",)]
    assert db.value("SELECT provolatile FROM pg_proc"
                    " WHERE proname = 'reserve_stock'") == "v"


def test_the_manual_repeats_it():
    """docs/install.md has the same commands, in the same order."""
    manual = [block.text.strip()
              for block in blocks("docs/install.md", "Set up")]
    for block in blocks(README, "The relay under systemd"):
        assert any(block.text.strip() in other for other in manual), block


def test_packages():
    """The packages named for a build are those that dev/setup installs."""
    (install,) = [block.text.replace("\\\n", " ") for block
                  in blocks("docs/install.md", "From source")
                  if "apt-get" in block.text]
    words = shlex.split(install.splitlines()[0])
    named = set(words[words.index("install") + 1:])
    setup = text_of("dev/setup")
    lists = dict(re.findall(r"^(\w+)=\(\n(.*?)^\)", setup, re.M | re.S))
    building, running = (set(lists[name].split())
                         for name in ("packages", "running"))
    assert named <= building | running
    # essential packages, and those that only dev/ needs
    assert building - named <= {"libc6-dev", "rsync"}
