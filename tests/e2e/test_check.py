# SPDX-License-Identifier: PostgreSQL
"""`check` finds each mistake that newcomers make, and none in a sound system.

One database, one broker and one configuration are shared: each case of
check_cases.py alters one thing, checks, and restores it. What needs other
servers is at the end, and in the files of ELSEWHERE.
"""

import grp
import json
import os
import re
import struct
import threading
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from check_cases import Site, found_in
from check_cases_server import CASES
from cluster import HOST, Database, Postgres
from conftest import DLQ, INBOX, OUTBOX
from kafkaio import send
from process import Proxy, run_tool, wait_until
from slow import clock_is_ahead, full_disk, settable_clock

TOP = os.path.join(os.path.dirname(__file__), "..", "..")

# The test cluster's own faults: no fsync, one broker; and it is not preloaded.
KNOWN = {"fsync", "replicas", "preload"}

# Checks that other files cause to fail.
ELSEWHERE = {
    "bindings": "test_bindings.py",
    "other_publisher": "test_other_publisher.py",
    "upkeep": "test_operations.py",
    "settings": "test_transactional_access.py",
    "transactional_id": "test_transactional_access.py",
    "topic_creation": "test_transactional_access.py",
    "group": "test_transactional_access.py",
    "position_topic": "test_transactional.py",
    "auto_create": "test_broker_trouble.py",
    "min_isr": "../unit/test_checks.c",
    "levels_compaction": "test_levels.py",
    "scram": "test_transports.py",
    "postgresql_version": "test_versions.py",
    "kafka_version": "test_versions.py",
    "librdkafka_version": "test_versions.py",
}


@pytest.fixture(scope="module")
def site(pg, session_kafka, new_dir):
    session_kafka.proxy.restore()
    session_kafka.delete_topics(*session_kafka.topics())
    session_kafka.create_topics(*OUTBOX, *INBOX, *DLQ)
    made = Site(pg, session_kafka, new_dir("relay-check"))
    yield made
    made.close()


def documented():
    """{check: severity} of docs/checks.md, which dev/check-options compares
    with the code."""
    with open(os.path.join(TOP, "docs", "checks.md"), encoding="utf-8") as file:
        return dict(re.findall(r"^\| `([a-z_]+)` \| (\w+) \| [0-3] \|",
                               file.read(), re.M))


def test_a_sound_system(site):
    """No finding but those of the test cluster; also while a relay runs."""
    code, found = site.check()
    assert (code, found.keys()) == (0, KNOWN), found
    site.relay.start()
    try:
        code, found = site.check()
        assert (code, found.keys()) == (0, KNOWN), found
    finally:
        site.relay.terminate()


def test_a_relay_on_all_addresses(site):
    """It is recognized by its status page, as one on an address is."""
    with site.configured(http={"listen": f":{site.relay.port}"}):
        site.relay.start(wait="/livez")
        try:
            code, found = site.check()
        finally:
            site.relay.terminate()
    assert (code, found.keys()) == (0, KNOWN), found


@pytest.mark.parametrize("label", CASES)
def test_case(site, label):
    name, code, texts, alter = CASES[label]
    with alter(site):
        done, found = site.check()
    assert name in found, found
    finding = found[name]
    said = f"{finding['what']} {finding['do']}"
    for text in texts:
        assert text in said, finding
    assert finding["severity"] == documented()[name], finding
    assert done == code, found


def test_restored(site):
    """Each case has restored what it altered."""
    code, found = site.check()
    assert (code, found.keys()) == (0, KNOWN), found


def service_group():
    """How check names the group of the packaged service."""
    try:
        return grp.getgrnam("pgstock").gr_name
    except KeyError:
        return "GROUP"


@pytest.mark.parametrize("owner", ["relay", "root"])
def test_file_that_all_can_read(site, owner):
    """A secret in it is found, and not shown.  The advice leaves the file
    readable by the relay."""
    with site.conninfo(password="hunter2"):
        site.relay.write_config()
    path = site.relay.config_path
    before = os.stat(path)
    advice = f"chmod o-rwx {path}"
    if owner == "root":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(path, 0, 0)
        advice = f"chgrp {service_group()} {path} && chmod 640 {path}"
    os.chmod(path, 0o644)
    try:
        _, found = found_in(site.relay.run_binary("check", "--json",
                                                  "--config", path))
    finally:
        os.chown(path, before.st_uid, before.st_gid)
        os.chmod(path, 0o600)
    assert "mode 0644" in found["config_file"]["what"]
    assert found["config_file"]["do"].split(", ")[0] == advice
    assert "hunter2" not in json.dumps(found)


def test_url_that_all_can_read(site):
    """The url of a webhook is a secret: its path often holds a token."""
    with site.configured(webhook={"url": "https://192.0.2.7/hunter2"}):
        site.relay.write_config()
    path = site.relay.config_path
    os.chmod(path, 0o644)
    try:
        _, found = found_in(site.relay.run_binary("check", "--json",
                                                  "--config", path))
    finally:
        os.chmod(path, 0o600)
    assert "[webhook] url" in found["config_file"]["what"]
    assert "hunter2" not in json.dumps(found)


def test_text_and_json_agree(site):
    """Each finding of --json is there as text: what, what to do, why."""
    with site.configured(inbox={"topics": "order-created, not-there"}):
        code, found = site.check()
        text = site.relay.command("check")
    assert text.returncode == code == 1
    lines = text.stdout.splitlines()
    labels = {"note": "note  ", "warning": "warn  ", "error": "FAIL  "}
    assert found
    for name, finding in found.items():
        at = lines.index(labels[finding["severity"]] + finding["what"])
        assert lines[at + 1] == f"      {finding['do']}"
        assert lines[at + 2] == f"      {finding['why']} [{name}]"


def test_fresh_topics(site):
    """Topics are made while a check runs, each time some milliseconds later:
    40 times in a row, and none fails."""
    made = []

    def make(*names):
        made.append(site.kafka.admin.create_topics(
            [NewTopic(name, 3, 1) for name in names]))

    for i in range(40):
        name = f"fresh-{i}"
        timer = threading.Timer(i * 0.005, make, [name, f"{name}_dlq"])
        timer.start()
        with site.configured(inbox={"topics": name}):
            code, found = site.check()
        timer.join()
        assert code == 0, found
        assert found.keys() == KNOWN | {"handlers"}, found
    for futures in made:
        for future in futures.values():
            future.result(10)


class Starting(Proxy):
    """A proxy that answers the first connections like a server that starts."""

    FIELDS = (b"SFATAL", b"VFATAL", b"C57P03",
              b"Mthe database system is starting up", b"")

    def __init__(self, port, refusals):
        self.refusals = refusals
        super().__init__(port)

    def serve(self, client, server):
        if self.refusals == 0:
            super().serve(client, server)
            return
        self.refusals -= 1
        client.recv(8)                  # the request of TLS
        client.sendall(b"N")
        client.recv(self.CHUNK)
        text = b"\0".join(self.FIELDS) + b"\0"
        client.sendall(b"E" + struct.pack(">i", 4 + len(text)) + text)
        self._close(client, server)


def test_a_database_that_starts(site):
    with closing(Starting(site.pg.port, 5)) as proxy, \
            site.conninfo(port=proxy.port):
        code, found = site.check()
    assert (code, found.keys()) == (0, KNOWN), found
    assert proxy.refusals == 0


def test_a_broker_that_is_too_old(site):
    """librdkafka's own mock of a broker knows as little as an old one."""
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = mock.list_topics(timeout=10).brokers.values()
    with site.configured(kafka={
            "bootstrap.servers": f"{broker.host}:{broker.port}"}):
        _, found = site.check()
    assert "DescribeConfigs" in found["broker_version"]["what"], found


def test_a_brokers_clock_that_is_behind(site):
    """As it looks: an event of this database was written an hour after its
    record; what another one wrote does not count.  The mark of the end of a
    transaction is behind the record."""
    topic = "stock-freeze-failed"
    with site.altered(topic, message_timestamp_type="LogAppendTime"):
        producer = site.kafka.producer(transactional_id="clock")
        producer.init_transactions(30)
        for hours, source in ((-1, "checked"), (2, "another"), (1, "checked")):
            written = datetime.now(timezone.utc) + timedelta(hours=hours)
            producer.begin_transaction()
            send(producer, topic, {}, key=source,
                 headers=[("ce_source", f"/pgstock/{source}".encode()),
                          ("ce_time", written.isoformat().encode())])
            producer.commit_transaction(30)
            _, found = site.check()
            assert ("broker_clock" in found) == (hours == 1), found
    what = found["broker_clock"]["what"]
    assert "a broker's is 3" in what and "s or more behind" in what, what
    assert f"of {topic} was appended before its event" in what


@pytest.fixture(scope="module")
def odd(new_dir):
    """A server with settings that are all wrong."""
    server = Postgres(new_dir("postgres-odd"), {
        "shared_preload_libraries": "pgstock", "max_worker_processes": 1,
        "max_connections": 8, "full_page_writes": "off",
        "synchronous_commit": "off", "max_wal_senders": 2,
        "autovacuum": "off"})
    full_disk(settable_clock(server)).init().start()
    yield server
    server.close()


def test_an_odd_server(site, odd):
    db = odd.create_database("checked")
    role = {"user": "postgres"}
    with clock_is_ahead(odd), site.configured(postgres={
            "conninfo": db.conninfo(**role)}), ExitStack() as sessions:
        while True:
            unused = db.value("SELECT 8 - 3 - count(*) FROM pg_stat_activity"
                              " WHERE backend_type = 'client backend'")
            if unused <= 2:
                break
            sessions.enter_context(closing(db.connect()))
        code, found = site.check()
    assert code == 0, found
    assert found.keys() >= {"fsync", "full_page_writes", "synchronous_commit",
                            "keeper", "connections", "clock", "disk"}, found
    assert "preload" not in found
    assert "base: 2 % unused, pg_wal: 2 % unused" in found["disk"]["what"]
    assert "postgresql.auto.conf, line" in found["synchronous_commit"]["what"]
    assert "max_worker_processes" in found["keeper"]["do"]
    assert "ahead of that of this host" in found["clock"]["what"]
    assert "is 259" in found["clock"]["what"], "a month: 2592000 s"

    db.sql("ALTER SYSTEM SET fsync = on")
    db.sql("ALTER SYSTEM SET full_page_writes = on")
    db.sql("ALTER SYSTEM RESET synchronous_commit")
    db.sql("SELECT pg_reload_conf()")
    wait_until(lambda: db.value("SHOW fsync") == "on", 10, "reloaded")
    with site.configured(postgres={"conninfo": db.conninfo(**role)}):
        _, found = site.check()
    assert not found.keys() & {"fsync", "full_page_writes", "clock",
                               "synchronous_commit"}, found


def test_a_standby(site, odd, run):
    standby = Postgres(os.path.join(run, "postgres-odd-standby"))
    with closing(standby):
        run_tool([odd.bin("pg_basebackup"), "-D", standby.data, "-R",
                  "-h", HOST, "-p", str(odd.port), "-U", "postgres",
                  "--checkpoint=fast", "--no-sync"])
        standby.start()
        with site.configured(postgres={
                "conninfo": Database(standby, "postgres").conninfo()}):
            code, found = site.check()
    assert code == 1 and "hot standby" in found["standby"]["what"], found
    assert f'port {standby.port}' in found["standby"]["what"]
    assert "pg_promote()" in found["standby"]["do"]
    assert "database" not in found, "it is reported once"


def test_each_check_was_seen_to_fail():
    shown = {name for name, *_ in CASES.values()} | ELSEWHERE.keys() | KNOWN
    shown |= {"config_file", "standby", "keeper", "connections", "clock",
              "full_page_writes", "disk", "broker_version", "broker_clock"}
    can_fail = {name for name, severity in documented().items()
                if severity != "ok"}
    assert len(can_fail) >= 50
    assert can_fail == shown
    for name, file in ELSEWHERE.items():
        path = os.path.join(os.path.dirname(__file__), file)
        with open(path, encoding="utf-8") as text:
            assert name in text.read(), f"{name} is not in {file}"
