# SPDX-License-Identifier: PostgreSQL
"""The manual, typed: its commands and statements work, in their order, and
print the answers that are shown.  documents.py describes the blocks.

A page is run as its reader runs it: in one terminal, on a server of its own
that has the client authentication of a new Debian (reader.py).  A guide begins
with nothing; a page for reference with a shop that is in use, and its figures
are not those of the test.
"""

import filecmp
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

import schemas
from cluster import HOST, Database, need
from documents import KINDS, TOP, blocks, text_of
from kafkaio import delivered, send
from process import make_dir, wait_until, write_private
from reader import Machine, new_server

README = "README.md"
SQL_API = "docs/sql-api.md"
EVENTS = "docs/events.md"
INSTALL = "docs/install.md"
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
          "docs/maintenance.md", "docs/sharding.md")
HIGH_AVAILABILITY = "docs/high-availability.md"
REFERENCE = ("docs/gateway.md", "docs/operations.md", "docs/relay.md",
             "docs/runbook.md", EVENTS, HIGH_AVAILABILITY)
# Blocks in all documents that are not typed here, because another test types
# them or does the same, and blocks that are not run at all.
ELSEWHERE_MAX, NOT_RUN_MAX = 30, 4
COMMAND = re.compile(r"^(?:\$ |=> |sudo |psql |pgstock-relay |SELECT |curl )",
                     re.M)


def manual():
    """All pages."""
    for directory, _, names in os.walk(os.path.join(TOP, "docs")):
        yield from (os.path.relpath(os.path.join(directory, name), TOP)
                    for name in names if name.endswith(".md"))
    yield from (name for name in os.listdir(TOP) if name.endswith(".md"))


# Those for users; the others are for who works on pgstock.
DOCUMENTS = (*sorted(set(manual()) - {"docs/HACKING.md", "CONTRIBUTING.md"}),
             "examples/README.md")


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


def test_every_page_is_run():
    """What has blocks to type is typed by a test below, or has none left."""
    run = {README, SQL_API, INSTALL, "docs/transports.md", *GUIDES, *REFERENCE}
    for document in DOCUMENTS:
        for block in blocks(document):
            assert document in run or block.mark or block.kind == "text", block


def test_json():
    """The records in the documents are as their schemas describe."""
    count = 0
    for document in DOCUMENTS:
        for block in blocks(document):
            for value in block.values if block.kind == "json" else ():
                event_type = value.get("event_type") or value.get("eventType")
                name = event_type and schemas.event_name(
                    event_type, "eventId" in value)
                if name:
                    value = schemas.load(json.dumps(value))
                    assert not (wrong := schemas.event_fault(
                        name, event_type, value)), f"{block}: {wrong}"
                    count += 1
    assert count >= 10


def anchors(document):
    """What a link may have behind "#": titles, as GitHub turns them."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(document), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in titles}


def without_blocks(document):
    return re.sub(r"^```.*?^```$", "", text_of(document), flags=re.M | re.S)


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

@pytest.fixture(scope="module")
def server(new_dir):
    one = new_server(new_dir("postgres-documents"))
    yield one
    one.close()


@pytest.fixture
def successor(new_dir, machine, server):
    """A second server, which a document names "new"; the first is "old"."""
    passfile = f"{machine.terminal.directory}/.pgpass"
    write_private(passfile, "*:*:*:postgres:choose-a-third\n")
    one = new_server(new_dir("postgres-new"), {"PGPASSFILE": passfile})
    for name, at in ("old", server), ("new", one):
        Database(at, "postgres").sql(
            "ALTER ROLE postgres PASSWORD 'choose-a-third'")
        machine.terminal.names |= {
            f"-h {name}": f"-h {HOST} -p {at.port}",
            f"host={name}": f"host={HOST} port={at.port}",
            f"{name}:5432": f"{HOST}:{at.port}"}
    yield one
    one.close()


@pytest.fixture
def machine(new_dir, server, session_kafka):
    """The server and the broker as they were before a document."""
    files = [os.path.join(server.data, name)
             for name in ("pg_hba.conf", "postgresql.auto.conf")]
    for path in files:
        shutil.copy(path, f"{path}.before")
    one = Machine(make_dir(new_dir("reader")), server, session_kafka)
    # last: a relay that was killed may just have requested some
    session_kafka.delete_topics(*session_kafka.topics())
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
        db.sql(f'DROP OWNED BY "{name}"')
        db.sql(f'DROP ROLE "{name}"')
    db.sql("ALTER ROLE postgres PASSWORD NULL")


# ---- a shop that is in use ---------------------------------------------------

CONFIG = """\
[postgres]
conninfo = host=localhost dbname=shop user=pgstock_relay

[kafka]
bootstrap.servers = localhost:9092

[inbox]
topics = order-created, payment-success, payment-failed
order_wait = 100ms

[levels]
topic = stock-levels

[http]
listen = 127.0.0.1:29187
"""
READY = ("curl -fsS --retry 20 --retry-delay 1 --retry-all-errors"
         " http://127.0.0.1:29187/readyz")
GATEWAY_CONFIG = """\
[gateway]
listen = 127.0.0.1:8087

[postgres]
conninfo = dbname=shop user=postgres
"""


def open_shop(machine, kafka):
    """A database with orders, topics, and what a relay needs."""
    shop = machine.server.create_database("shop")
    shop.sql("""
        CREATE ROLE pgstock_relay LOGIN PASSWORD 'choose-one';
        SELECT grant_stock_access('pgstock_relay', 'relay');
        CREATE ROLE operator LOGIN;
        SELECT grant_stock_access('operator', 'admin');
        SELECT receive_stock('SKU-1', 10);
        SELECT setval(pg_get_serial_sequence('pgstock_internal.failed_event',
                                             'id'), 17, false)""")
    kafka.create_topics("order-created", "payment-success", "payment-failed",
                        "stock-events", "stock-freeze-failed", "parcels")
    terminal = machine.terminal
    terminal.write("/etc/pgstock/pgstock-relay.conf", CONFIG)
    terminal.write("relay.conf", CONFIG)
    write_private(terminal.here("/etc/pgstock/pgpass"), terminal.here(
        "localhost:5432:shop:pgstock_relay:choose-one\n"))
    terminal.type("export PGPASSFILE=/etc/pgstock/pgpass")
    return shop


def sell(machine, kafka, shop):
    """Orders, and payments whose orders do not arrive: failed messages 17 to
    20, the first of order-7."""
    machine.systemctl("start", "pgstock-relay")
    out = kafka.producer()
    for number in range(10):
        send(out, "order-created", {"order_id": f"o-{number}", "items": [
            {"product_id": "SKU-1", "quantity": 1}]}, key=b"%d" % number)
    for number in range(7, 11):
        send(out, "payment-success", {"order_id": f"order-{number}"},
             key=b"order-%d" % number)
        delivered(out)
        wait_until(lambda: kafka.count("payment-success_dlq") == number - 6
                   if "payment-success_dlq" in kafka.topics() else False, 30,
                   machine.relay.tail)
    wait_until(lambda: shop.value("SELECT count(*) FROM stock_inbox WHERE"
                                  " result = 'applied'") == 10, 30,
               machine.relay.tail)


def prepare_gateway(machine, kafka):
    shop = open_shop(machine, kafka)
    shop.sql("DROP OWNED BY operator; DROP ROLE operator")
    shop.sql("SELECT setval(pg_get_serial_sequence("
             "'pgstock_internal.failed_event', 'id'), 16, false)")
    for offset in 40, 41:
        shop.sql("SELECT pgstock_internal.relay_apply(ARRAY['order-created'],"
                 " ARRAY[0], ARRAY[%s::bigint], ARRAY[-1::bigint],"
                 " ARRAY['4711'::bytea], ARRAY['[]'::bytea],"
                 " ARRAY[NULL::bytea], %s)", (offset, json.dumps({
                     "group": "g", "dlq_topic": "{topic}_dlq",
                     "order_wait_ms": 9000, "retry_delays_ms": [1000]})))


def prepare_operations(machine, kafka):
    """The relay has stopped: rewind needs that."""
    sell(machine, kafka, open_shop(machine, kafka))
    machine.restart_server()
    machine.systemctl("stop", "pgstock-relay")
    terminal = machine.terminal
    terminal.type("cp /usr/share/pgstock/prometheus/prometheus.yml"
                  " /usr/share/pgstock/prometheus/*.rules.yml"
                  " /etc/prometheus/; SECRET=secret")
    terminal.write("body.json", "{}")
    machine.systemctl("restart", "prometheus")


def prepare_relay(machine, kafka):
    shop = open_shop(machine, kafka)
    shop.sql("SELECT reserve_stock('SKU-1', 2, '4711', 'ann');"
             "SELECT confirm_stock('4711')")

    def start():
        machine.systemctl("start", "pgstock-relay")
        machine.terminal.type(READY)
    return {"HTTP": start}


# A symptom that this shop has not is not found.
GREP = """\
grep()
{
    local code=0
    command grep "$@" || code=$?
    ((code == 1)) && request nothing_found "${!#}" || return "$code"
}
"""


def nothing_found(*words):
    """The exit code: 0 if a daemon can print what the page looks for."""
    literals = [found for part in ("common", "relay", "gateway", "extension")
                for path in Path(TOP, part).rglob("*.[ch]")
                for found in re.findall(r'"((?:[^"\\\n]|\\.)+)"',
                                        path.read_text("utf-8"))]
    printed = re.sub(r"%[sdu]", "N", "\n".join(literals))
    return 0 if all(re.sub(r"\d+", "N", one) in printed
                    for one in " ".join(words).split("|")) else 1


def prepare_runbook(machine, kafka):
    """As the role that the page names."""
    shop = open_shop(machine, kafka)
    shop.sql("ALTER ROLE operator PASSWORD 'choose-another'")
    sell(machine, kafka, shop)
    terminal = machine.terminal
    terminal.requests["nothing_found"] = nothing_found
    terminal.type(GREP)
    terminal.write("/etc/pgstock/pgstock-gateway.conf", GATEWAY_CONFIG)
    terminal.type("echo '*:*:*:operator:choose-another' >>/etc/pgstock/pgpass;"
                  " export PGHOST=127.0.0.1 PGUSER=operator;"
                  " openssl req -x509 -newkey ec -nodes -subj /CN=gateway"
                  " -pkeyopt ec_paramgen_curve:P-256 -keyout /dev/null"
                  " -out /etc/pgstock/gateway.crt 2>/dev/null")
    machine.systemctl("start", "pgstock-gateway")
    machine.systemctl("start", "prometheus-node-exporter")


def prepare_high_availability(machine, kafka):
    open_shop(machine, kafka)


def prepare_events(machine, kafka):
    open_shop(machine, kafka).sql(
        "CREATE TABLE my_outbox (id uuid, aggregatetype text, aggregateid"
        " text, type text, payload jsonb)")


# ---- the documents -----------------------------------------------------------

def configured(machine, kafka):
    """What the reader of README types into an editor."""
    kafka.create_topics("order-created", "payment-success")
    text = text_of("deploy/pgstock-relay.conf")
    for name, value in (("conninfo", "host=localhost dbname=shop"
                                     " user=pgstock_relay"),
                        ("topics", "order-created, payment-success")):
        text, count = re.subn(rf"^#?{re.escape(name)} = .*$",
                              f"{name} = {value}", text, flags=re.M)
        assert count == 1, name
    machine.edits = {"pgstock-relay.conf": (text, 0o644), "pgpass": (
        "localhost:5432:shop:pgstock_relay:choose-one\n", 0o600)}
    machine.server.create_database("shop", extension=False)


@pytest.mark.parametrize("document", (README, INSTALL))
def test_installed(machine, session_kafka, document):
    """The packages install the configuration: tests/packages/check."""
    configured(machine, session_kafka)
    machine.run(document)
    without = machine.terminal.type(
        "pgstock-relay check --config /etc/pgstock/pgstock-relay.conf",
        may_fail=True)
    assert "password" in without


@pytest.mark.parametrize("page", REFERENCE)
def test_reference(machine, session_kafka, page):
    machine.terminal.figures = False
    name = os.path.basename(page).removesuffix(".md").replace("-", "_")
    before = globals()[f"prepare_{name}"](machine, session_kafka)
    machine.run(page, before)


def test_parts_of_configurations(machine):
    """docs/transports.md, whose tests are test_transports.py.  Tokens need a
    newer librdkafka."""
    lib = os.path.join(need("PGSTOCK_LIBRDKAFKA"), "lib")
    machine.terminal.type(f"export LD_LIBRARY_PATH={lib}")
    machine.run("docs/transports.md")


@pytest.mark.parametrize("guide", GUIDES)
def test_guide(request, machine, server, guide):
    before = {}
    if "-h new" in text_of(guide):
        request.getfixturevalue("successor")
        # the reader becomes the system user that has the passwords
        before["Upgrade PostgreSQL"] = lambda: machine.terminal.type(
            "cat .pgpass >>/etc/pgstock/pgpass")
    if guide != TUTORIAL:           # which creates it
        server.create_database("shop", extension=False)
    machine.run(guide, before)


@pytest.mark.parametrize("section", BEFORE)
def test_sql_api(machine, server, section):
    """Its sessions, each section in a database of its own."""
    db = server.create_database("shop")
    db.sql(BEFORE[section])
    sessions = [block for block in blocks(SQL_API, section)
                if block.kind == "psql" and not block.mark]
    assert sessions
    for block in sessions:
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
    functions = db.sql(
        "SELECT proname, pronargs, pg_get_function_arguments(oid)"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert set(named) <= {name for name, _, _ in functions}
    for name, count, arguments in functions:
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
              for block in blocks(INSTALL, "Set up")]
    for block in blocks(README, "The relay under systemd"):
        assert any(block.text.strip() in other for other in manual), block


def test_packages():
    """The packages named for a build are those that dev/setup installs."""
    (install,) = [line for block in blocks(INSTALL, "From source")
                  for line in block.text.replace("\\\n", " ").splitlines()
                  if "apt-get" in line]
    words = shlex.split(install)
    named = set(words[words.index("install") + 1:])
    setup = text_of("dev/setup")
    lists = dict(re.findall(r"^(\w+)=\(\n(.*?)^\)", setup, re.M | re.S))
    building, running = (set(lists[name].split())
                         for name in ("packages", "running"))
    assert named <= building | running
    # essential packages, and those that only dev/ needs
    assert building - named <= {"libc6-dev", "rsync"}
