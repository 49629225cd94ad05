# SPDX-License-Identifier: PostgreSQL
"""The relay's session with the database: when it ends, and which settings
reach it."""

import os
import signal
import time
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import POLL_OK

from checks import check_complete, duplicates, wait_complete
from cluster import HOST, Postgres
from process import Server, wait_until, write_private

MODES = ["idempotent", "transactional"]


# ---- a relay whose process is frozen -----------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_frozen_relay_loses_the_lead(db, kafka, start_relay, mode):
    """The race: the leader is stopped, and its kernel still answers, so no
    keepalive detects it. The server ends a session that is silent for 10 s."""
    config = {"outbox": {"mode": mode}}
    old = start_relay({**config, "relay": {"name": "old"}})
    new = start_relay({**config, "relay": {"name": "new"}})
    db.sql("SELECT publish_event('own', 'k', '{}')")
    wait_until(lambda: old.metric("outbox_published_total") == 1, 30,
               "the old one leads")
    old.signal(signal.SIGSTOP)
    begun = time.monotonic()
    db.sql("SELECT publish_event('own', 'k', '{}')")
    wait_until(lambda: new.metric("outbox_published_total") >= 1, 60,
               "the new one leads")
    took = time.monotonic() - begun
    old.signal(signal.SIGCONT)
    assert took < 30, f"it took {took} s"
    wait_until(lambda: old.metric("leader") == 0, 30, "the old one knows")
    with kafka.tail("own") as tail:
        wait_complete(db, tail)
        if mode == "transactional":
            assert duplicates(tail.read_to_end()) == 0
        check_complete(db, tail.records)


def test_leader_that_does_not_take_its_answer(run):
    """The same while the server has a page to write: its session is not idle
    then. TCP times out by itself, a Unix socket never does."""
    directory = os.path.join(run, "answer")
    server = Postgres(directory, {
        "unix_socket_directories": f"'{directory}'"}).init().start()
    with closing(server):
        with open(os.path.join(server.data, "pg_hba.conf"), "a",
                  encoding="ascii") as file:
            file.write("local all all trust\n")
        db = server.create_database("answer")
        db.sql("SELECT pg_reload_conf()")
        old = psycopg2.connect(
            host=directory, port=server.port, dbname=db.name, user="postgres",
            async_=True, options="-c idle_session_timeout=10000")
        with closing(old):
            wait_until(lambda: old.poll() == POLL_OK, 20, "it connects")
            cur = old.cursor()
            cur.execute("SELECT pgstock_internal.relay_lead()")
            wait_until(lambda: old.poll() == POLL_OK, 20, "it leads")
            cur.execute("SELECT repeat('x', 1000)"
                        " FROM generate_series(1, 100000)")
            assert db.value("SELECT pgstock_internal.relay_lead()") is None
            wait_until(lambda: db.value("SELECT pgstock_internal.relay_lead()"),
                       30, "the new one leads")


@pytest.mark.parametrize("mode", MODES)
def test_idle_relay_keeps_its_session(db, kafka, start_relay, mode):
    """Nothing to publish, and the broker is down: the session lives."""
    relay = start_relay({"outbox": {"mode": mode, "poll_interval": "60s"}},
                        brokers=kafka.proxied_brokers)
    sessions = ("SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pgstock-relay %'"
                " AND datname = current_database()")
    begun_with = db.value(sessions)
    kafka.proxy.cut()
    db.sql("SELECT publish_event('stock-events', 'k', '{}')")
    # The server ends a session that is silent for 10 s (sql/lead.sql). No event
    # shows that one was not ended: so it waits for longer than that.
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 15, 20, "15 s")
    assert db.value(sessions) == begun_with
    assert "could not use the database" not in relay.log()


# ---- a pooler between --------------------------------------------------------

class Pooler(Server):
    """PgBouncer with its usual configuration."""

    def __init__(self, directory, pg, mode, ignores):
        super().__init__(directory)
        self.port = self.take_port()
        self.config = os.path.join(directory, "pgbouncer.ini")
        write_private(self.config, f"""\
[databases]
* = host={HOST} port={pg.port} user=postgres
[pgbouncer]
listen_addr = {HOST}
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = {ignores}
""")

    def start(self):
        self.spawn(["pgbouncer", self.config])
        wait_until(lambda: "process up" in self.log(), 30, self.tail)
        return self


SENTENCE = "a connection pooler stands between the relay and PostgreSQL"


@pytest.mark.parametrize("mode, ignores", [
    ("transaction", "extra_float_digits"),  # refuses a setting of the session
    ("transaction", "options, extra_float_digits"),
    ("session", "options, extra_float_digits")])
def test_pooler_is_refused(db, pg, run, kafka, relays, mode, ignores):
    directory = os.path.join(run, f"pooler-{mode}-{len(ignores)}")
    pooler = Pooler(directory, pg, mode, ignores).start()
    try:
        relay = relays(db.conninfo(port=pooler.port), kafka.brokers)
        relay.start(wait=None)
        assert relay.wait_end() == 2, relay.tail()
        assert SENTENCE in relay.log()
        check = relay.command("check")
        assert check.returncode != 0
        assert f"FAIL  database: {SENTENCE}" in check.stdout
        assert "lead to PostgreSQL itself" in check.stdout
    finally:
        pooler.close()


# ---- a limit that is raised --------------------------------------------------

@pytest.fixture
def limit(pg):
    """Sets pgstock.max_event_bytes for all sessions, also of the next test."""
    def shown(cur):
        cur.execute("SHOW pgstock.max_event_bytes")
        return cur.fetchone()[0]

    def reload(command, size):
        conn = pg.connect()
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute("LOAD 'pgstock'")       # which knows the setting
            cur.execute(f"ALTER SYSTEM {command}")
            cur.execute("SELECT pg_reload_conf()")
            wait_until(lambda: shown(cur) == str(size), 10, "the limit")
        conn.close()

    yield lambda size: reload(f"SET pgstock.max_event_bytes = {size}", size)
    reload("RESET pgstock.max_event_bytes", 1_000_000)


LARGE = "to_jsonb(repeat('x', 2000000))"


def value_of(cur, query):
    cur.execute(query)
    return cur.fetchone()[0]


def wait_limit(db, size):
    wait_until(lambda: db.value(
        "SELECT current_setting('pgstock.max_event_bytes')"
        " FROM pgstock_internal.relay_hello()") == str(size), 10, "the limit")


# As it counts against the limit.
SIZES = """
SELECT s.event_type, jsonb_array_length(s.payload->'items'),
       octet_length(o.payload) + 2 * octet_length(o.aggregateid)
       + 2 * octet_length(o.type) + 512
  FROM stock_outbox s JOIN pgstock_internal.outbox o USING (seq)
 ORDER BY seq"""


def test_pgstock_events_fit_the_smallest_limit(db, limit):
    """An event with one item cannot be made smaller."""
    order, product = "o" * 255, "a" * 255
    limit(1024)
    wait_limit(db, 1024)
    db.sql("SELECT receive_stock(%s, 9)", (product,))
    db.sql("SELECT reserve_stock(%s, 1, %s)", (product, order))
    db.sql("SELECT confirm_stock(%s)", (order,))
    said = [(kind, items, size > 1024)
            for kind, items, size in db.sql(SIZES)]
    assert said == [("StockLevelChanged", None, True),
                    ("StockReserved", 1, True), ("StockConfirmed", 1, True)]


def test_parts_keep_within_the_limit(db, limit):
    """For any remaining size: each key leaves a little less room for items."""
    limit(1600)
    wait_limit(db, 1600)
    db.sql("SELECT count(receive_stock('a-' || i, 900))"
           " FROM generate_series(100, 129) i")
    db.sql("""
        SELECT count(*) FROM generate_series(1, 99) n, reserve_order(
            repeat('o', n), (SELECT jsonb_agg(jsonb_build_object(
                'product_id', 'a-' || i, 'quantity', 1))
                FROM generate_series(100, 129) i))""")
    sizes = [size for _, items, size in db.sql(SIZES) if items and items > 1]
    assert len(sizes) > 400
    assert 1570 < max(sizes) <= 1600


@pytest.mark.parametrize("mode", MODES)
def test_raised_limit_reaches_the_running_relay(db, kafka, start_relay, limit,
                                                mode):
    relay = start_relay({"outbox": {"mode": mode}})
    db.sql("SELECT publish_event('own', 'k', '1')")
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 30,
               "it publishes")
    limit(3_000_000)
    wait_limit(db, 3_000_000)
    db.sql(f"SELECT publish_event('own', 'k', {LARGE})")
    db.sql("SELECT publish_event('own', 'k', '2')")
    with kafka.tail("own") as tail:
        wait_complete(db, tail)
        assert [len(r.value) for r in tail.records] == [1, 2000002, 1]
    assert "topic is held back" not in relay.log()


@pytest.mark.parametrize("mode", MODES)
def test_an_event_is_published_whatever_the_limit_is_by_then(
        db, kafka, start_relay, limit, mode):
    """The race: an event is written under a limit that the relay's session
    does not have, not yet or no longer. Its own size says what was allowed."""
    relay = start_relay({"outbox": {"mode": mode}})
    db.sql("SELECT publish_event('own', 'k', '1')")
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 30,
               "it publishes")
    with closing(db.connect()) as writer, writer.cursor() as cur:
        writer.autocommit = True
        cur.execute("LOAD 'pgstock'")
        cur.execute("ALTER SYSTEM SET pgstock.max_event_bytes = 3000000")
        os.kill(writer.info.backend_pid, signal.SIGHUP)     # no other session
        wait_until(lambda: value_of(
            cur, "SHOW pgstock.max_event_bytes") == "3000000", 10, "the limit")
        cur.execute(f"SELECT publish_event('own', 'k', {LARGE})")
        cur.execute("SELECT publish_event('own', 'k', '2')")
    with kafka.tail("own") as tail:
        wait_complete(db, tail)
        assert [len(r.value) for r in tail.records] == [1, 2000002, 1]
        assert relay.terminate() == 0
        limit(3_000_000)
        wait_limit(db, 3_000_000)
        db.sql(f"SELECT publish_event('own', 'k', {LARGE})")
        limit(1_000_000)
        wait_limit(db, 1_000_000)
        relay.start()
        wait_complete(db, tail)
        assert len(tail.records[-1].value) == 2000002
    assert "topic is held back" not in relay.log()
