# SPDX-License-Identifier: PostgreSQL
"""Each version that README.md names, with the others as in all other tests:
events and messages go through, and a relay killed with SIGKILL among them
loses and doubles nothing.

The list is that of relay/commands/check_versions.c, by which "check" warns of
all other versions.  The stage "versions" of dev/check prepares the parts, in
the directory that PGSTOCK_VERSIONS names:

    pg/16, ...      PostgreSQL with the extension
    kafka           jars of another Kafka
    librdkafka      a librdkafka between Debian's and the newest
    relay-clang     the relay, built by clang
"""

import glob
import os
import re
import shutil
import subprocess

import pytest

from checks import (Kills, check_all, duplicates, inbox_results, of_type,
                    wait_stored)
from cluster import Kafka, Postgres, need
from conftest import DLQ, INBOX, OUTBOX
from kafkaio import delivered, send
from load import Clients
from process import wait_until

pytestmark = pytest.mark.versions

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "../..")
MODES = ("idempotent", "transactional")
ORDERS = 300


def listed(part):
    """The versions of the list in check_versions.c."""
    path = os.path.join(TOP, "relay/commands/check_versions.c")
    with open(path, encoding="utf-8") as file:
        return re.search(rf'^#define TESTED_{part.upper()}\s+"(.*)"$',
                         file.read(), re.M)[1].split(", ")


# what all other tests run with
USUAL = {"postgresql": "15", "kafka": "4.1", "librdkafka": "2.0",
         "compiler": "gcc"}
CASES = [(part, version) for part in ("postgresql", "kafka", "librdkafka")
         for version in listed(part) if version != USUAL[part]]
CASES += [("postgresql", USUAL["postgresql"]), ("compiler", "clang")]


def part_of(name):
    return os.path.join(need("PGSTOCK_VERSIONS"), name)


class OtherPostgres(Postgres):
    """A server of that major version."""

    def __init__(self, directory, version):
        super().__init__(directory)
        self.version = version

    def bin(self, name):
        return os.path.join(part_of("pg"), self.version, "bin", name)


class Parts:
    """Servers by version, each started once; what a relay loads."""

    def __init__(self, pg, kafka, new_dir):
        self.new_dir = new_dir
        self.servers = {("postgresql", USUAL["postgresql"]): pg,
                        ("kafka", USUAL["kafka"]): kafka}
        self.ours = []

    def get(self, part, version):
        if (part, version) not in self.servers:
            directory = self.new_dir(f"{part}-{version}")
            if part == "postgresql":
                server = OtherPostgres(directory, version)
            else:
                server = Kafka(directory)
                server.jars = part_of("kafka")
            self.ours.append(server)
            self.servers[part, version] = server.init().start()
        return self.servers[part, version]

    def librdkafka(self, version):
        """The environment in which a relay loads it."""
        if version == USUAL["librdkafka"]:
            return {}
        newest = listed("librdkafka")[-1]
        path = (need("PGSTOCK_LIBRDKAFKA") if version == newest else
                part_of("librdkafka"))
        return {"LD_LIBRARY_PATH": os.path.join(path, "lib")}

    def close(self):
        for server in self.ours:
            server.close()


@pytest.fixture(scope="module")
def parts(pg, session_kafka, new_dir):
    made = Parts(pg, session_kafka, new_dir)
    yield made
    made.close()


def empty(kafka):
    """The topics of the contract, with the broker's times."""
    kafka.proxy.restore()
    kafka.delete_topics(*kafka.topics())
    kafka.create_topics(*OUTBOX, message_timestamp_type="LogAppendTime")
    kafka.create_topics(*INBOX, *DLQ)
    return kafka


@pytest.fixture
def made(parts, relays, request):
    """A database, a broker and a relay of the versions of a case."""
    (part, version), mode = request.param
    versions = {**USUAL, part: version}
    pg = parts.get("postgresql", versions["postgresql"])
    kafka = empty(parts.get("kafka", versions["kafka"]))
    db = pg.create_database(f"{mode}_{part}_{version}".replace(".", "_"))
    relay = relays(db.conninfo(), kafka.brokers, {
        "outbox": {"mode": mode}, "inbox": {"topics": "order-created"},
        # the killed relay's partitions are assigned anew after this
        "kafka": {"session.timeout.ms": "6000"}})
    if versions["compiler"] == "clang":
        shutil.copy(part_of("relay-clang"), relay.binary)
    yield db, kafka, relay, parts.librdkafka(versions["librdkafka"]), versions
    db.drop()


def in_readme(part, version):
    """Whether the row of the part has exactly that version."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
        (row,) = re.findall(rf"^\| {part} \|(.*)\|$", file.read(), re.M)
    return version in re.split(r"[ |,]+", row)


def check_versions(db, kafka, relay, env, versions):
    """The parts are those of the case; README.md and check name them."""
    server = db.value("SHOW server_version").split()[0]
    assert server.split(".")[0] == versions["postgresql"]
    if versions["postgresql"] != USUAL["postgresql"]:   # Debian's is updated
        assert in_readme("PostgreSQL", server), server
    (jar,) = glob.glob(os.path.join(kafka.jars or need("PGSTOCK_KAFKA"),
                                    "kafka_2.13-*.jar"))
    broker = re.search(r"-(\d[\d.]*)\.jar", jar)[1]
    assert in_readme("Kafka", broker), broker
    assert broker.startswith(f"{versions['kafka']}.")
    loaded = re.search(r"librdkafka ([\d.]+)",
                       relay.run_binary("--version", env=env).stdout)[1]
    assert loaded.startswith(f"{versions['librdkafka']}.")
    assert in_readme("librdkafka", loaded), loaded

    done = relay.command("check", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [f"PostgreSQL {server}", f"librdkafka {loaded}"]
    if versions["kafka"] != USUAL["kafka"]:     # 4 does not report it
        found.append(f"Kafka {versions['kafka']}")
    for what in found:
        assert f"{what}: tested with this release" in done.stdout, done.stdout


def reserve(cur, name):
    cur.execute("SELECT reserve_stock('book', 1, %s)", (name,))


def order(source, number):
    """A message as a shop sends it."""
    name = f"message-{number}"
    send(source, "order-created", {
        "order_id": name, "items": [{"product_id": "book", "quantity": 1}]},
        key=name)


def reserved(tail, names):
    """Wait for StockReserved of each of these orders."""
    names = {name.encode() for name in names}
    tail.until(lambda records: names <= {
        record.key for record in of_type(records, "StockReserved")}, 60,
        f"StockReserved of {len(names)} orders")


@pytest.mark.parametrize(
    "made", [(case, mode) for case in CASES for mode in MODES], indirect=True,
    ids=[f"{part}-{version}-{mode}" for part, version in CASES
         for mode in MODES])
def test_nothing_is_lost_or_doubled(made):
    """Story: the relay dies while clients reserve and a shop sends orders.
    What it had sent or applied and not noted must neither be forgotten nor be
    done again."""
    db, kafka, relay, env, versions = made
    check_versions(db, kafka, relay, env, versions)
    db.sql("SELECT receive_stock('book', 1000000)")
    relay.start(env=env)
    kills, source = Kills(db), kafka.producer()
    with kafka.tail("stock-events") as tail:
        db.sql("SELECT reserve_stock('book', 1, 'first')")
        order(source, 0)
        reserved(tail, ["first", "message-0"])

        with Clients(db, 4, reserve, every=0.01) as clients:
            for number in range(1, ORDERS):
                order(source, number)
                source.poll(0)
                if number == ORDERS // 2:
                    clients.progress(50)
                    kills.kill(relay.kill9)
            delivered(source)
            relay.start(env=env)
            clients.progress(50)
        reserved(tail, clients.acknowledged)
        reserved(tail, [f"message-{number}" for number in range(ORDERS)])
        check_all(db, tail)
        wait_stored(db)

        if "transactional" in db.name:
            assert duplicates(tail.read_to_end()) == 0
        else:
            kills.check_repeats(tail.read_to_end())
    wait_until(lambda: inbox_results(db) == {"applied": ORDERS}, 30,
               lambda: inbox_results(db))
    total = 1 + len(clients.acknowledged) + ORDERS
    assert db.level("book")[1] == total
    assert db.value("SELECT count(*) FROM stock_reservations") == total
    assert db.drift() == []


def test_other_versions_are_reported(parts, relays, run):
    """A warning each, and no more: postgresql_version, kafka_version,
    librdkafka_version."""
    library = os.path.join(run, "other_versions.so")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library,
                    os.path.join(HERE, "other_versions.c"), "-ldl"],
                   check=True)
    kafka = empty(parts.get("kafka", listed("kafka")[0]))
    db = parts.get("postgresql", USUAL["postgresql"]).create_database("other")
    relay = relays(db.conninfo(), kafka.brokers)
    done = relay.command("check", env={"LD_PRELOAD": library})
    assert done.returncode == 0, done.stdout + done.stderr
    for part, version in (("PostgreSQL", "99.1"), ("Kafka", "3.8"),
                          ("librdkafka", "3.0.0")):
        assert re.search(
            rf"^warn  {part} {version}: not tested with this release\n"
            rf" +Use one of .*{', '.join(listed(part))}.*\n"
            rf".*\[{part.lower()}_version\]$", done.stdout, re.M), done.stdout
    db.drop()
