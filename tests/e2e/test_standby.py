# SPDX-License-Identifier: PostgreSQL
"""P5 with a synchronous standby: an acknowledged result exists after the
primary is killed and the standby promoted, as far as the session's
synchronous_commit guarantees it; and the relay publishes nothing before.

Early lock release lets other sessions see a commit that no standby has. The
link to the standby stalls here, so that this lasts as long as the test needs,
and WAL on its way is lost with the primary; pg_stat_activity shows the
sessions that wait for it.
"""

import os
import time
from contextlib import contextmanager

import psycopg2
import pytest

from checks import check_all, stored_at_ms, wait_complete
from cluster import HOST, Database, Postgres
from load import Clients
from mutant import NO_FENCE, NO_STANDBY, Mutant
from process import Proxy, make_dir, run_tool, wait_until
from test_kills import ECHOES, Asker

pytestmark = pytest.mark.proof

NAME = "mirror"
PROMISES = {"off": False, "local": False, "remote_write": True, "on": True,
            "remote_apply": True}


class Pair:
    """A primary and its standby."""

    def __init__(self, primary, directory, name="shop", synchronous=True):
        self.primary = primary.init().start()
        self.standby = Postgres(directory)
        self.link = Proxy(primary.port)
        make_dir(directory)
        run_tool([primary.bin("pg_basebackup"), "-D", self.standby.data, "-R",
                  "-c", "fast", "-d", f"host={HOST} port={self.link.port}"
                  f" user=postgres application_name={NAME}"])
        self.standby.start()
        if synchronous:
            self.name_standby()
        wait_until(lambda: self.on_primary(
            "SELECT sync_state FROM pg_stat_replication") == [
                ("sync" if synchronous else "async",)], 30,
            "the standby is there")
        self.db = primary.create_database(name)
        self.copy = Database(self.standby, name)
        self.db.sql("SELECT receive_stock('book', 1000000)",
                    options="-c synchronous_commit=remote_apply")

    def both_hosts(self):
        """A conninfo that finds whichever of the two is the primary."""
        return (f"host={HOST},{HOST} port={self.primary.port},"
                f"{self.standby.port} dbname={self.db.name} user=postgres")

    def name_standby(self):
        self.on_primary("ALTER SYSTEM SET synchronous_standby_names ="
                        f" '{NAME}'")
        self.on_primary("SELECT pg_reload_conf()")

    def on_primary(self, query):
        return Database(self.primary, "postgres").sql(query)

    @contextmanager
    def cut_off(self):
        """During the block the standby receives nothing; afterwards, if the
        primary still lives, it does."""
        self.link.stall()
        yield
        if self.primary.running:
            self.link.restore()
        else:
            self.link.cut()

    def waiting(self, *pids):
        """The number of these sessions that wait for the standby."""
        return self.db.value(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"
            " AND wait_event = 'SyncRep'", (list(pids),))

    def fail_over(self):
        """The primary was killed; the database on the promoted standby."""
        wait_until(lambda: Database(self.standby, "postgres").value(
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status ="
            " 'streaming'") == 0, 30, "the receiver sees its end")
        Database(self.standby, "postgres").sql("SELECT pg_promote()")
        return self.copy

    def close(self):
        self.link.close()
        self.primary.close()
        self.standby.close()


@pytest.fixture
def pair(run, request):
    made = []

    def make(change=None):
        place = os.path.join(run, f"pair-{request.node.nodeid.__hash__()}")
        if change:
            primary = Mutant(f"{place}-primary", *change)
        else:
            primary = Postgres(f"{place}-primary")
        made.append(Pair(primary, f"{place}-standby"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def states(db):
    return dict(db.sql("SELECT order_id, state FROM stock_reservations"))


@pytest.mark.parametrize("setting", PROMISES)
def test_acknowledged_is_on_the_standby(pair, setting):
    """Clients work; the standby is cut off, and either they wait, or they
    continue and their later results are lost."""
    it = pair()

    def work(cur, name):
        cur.execute(f"SET synchronous_commit = {setting}")
        cur.execute("SELECT reserve_stock('book', 1, %s)", (name,))
        if int(name[-1]) % 2:
            cur.execute("SAVEPOINT s")
            cur.execute("SELECT confirm_stock(%s)", (name,))

    with Clients(it.db, 8, work) as clients:
        wait_until(lambda: len(clients.acknowledged) > 300, 60, "a start")
        with it.cut_off():
            if PROMISES[setting]:
                wait_until(lambda: it.waiting(*it.primary.backends()) == 8, 30,
                           "all clients wait for the standby")
            else:
                far = len(clients.acknowledged) + 200
                wait_until(lambda: len(clients.acknowledged) > far, 30,
                           "the clients go on")
            it.primary.kill9()
        clients.ending.set()
    there = states(it.fail_over())
    lost = {name for name in clients.acknowledged if name not in there}
    print(f"{len(clients.acknowledged)} acknowledged, {len(lost)} lost")
    assert bool(lost) != PROMISES[setting]
    assert all((state == "confirmed") == bool(int(name[-1]) % 2)
               for name, state in there.items())
    assert it.copy.drift() == []


def test_without_the_wait_they_are_lost(pair):
    """The control: the extension without its wait for the standby."""
    it = pair(NO_STANDBY)
    with it.cut_off():
        it.db.sql("SELECT reserve_stock('book', 1, 'o-1')")
        it.primary.kill9()
    assert states(it.fail_over()) == {}


def test_remote_apply_is_seen_there(pair):
    it = pair()
    for number in range(30):
        it.db.sql("SELECT reserve_stock('book', 1, %s)", (f"o-{number}",),
                  options="-c synchronous_commit=remote_apply")
        assert f"o-{number}" in states(it.copy)
    Database(it.standby, "postgres").sql("SELECT pg_wal_replay_pause()")
    it.db.sql("SELECT reserve_stock('book', 1, 'flushed')",
              options="-c synchronous_commit=on")
    asker = Asker(it.db, "SET synchronous_commit = remote_apply;"
                  " SELECT status FROM reserve_stock('book', 1, 'applied')")
    wait_until(lambda: it.waiting(asker.pid) == 1, 20, "it waits")
    assert asker.answer is None and "flushed" not in states(it.copy)
    Database(it.standby, "postgres").sql("SELECT pg_wal_replay_resume()")
    asker.join(20)
    assert asker.answer == "granted" and "applied" in states(it.copy)


SELL = """
CREATE PROCEDURE sell(o text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM reserve_stock(o, 1, o);
    COMMIT;
    PERFORM confirm_stock(o);
    COMMIT AND CHAIN;
END $$
"""
# Each commits one reservation of order o, in its own way, and of a product that
# has the same name: a prepared one keeps its lock.
WAYS = {
    "plain": ["SELECT reserve_stock('{o}', 1, '{o}')"],
    "savepoints": ["BEGIN", "SAVEPOINT a",
                   "SELECT reserve_stock('{o}', 1, '{o}')", "SAVEPOINT b",
                   "SELECT reserve_stock('{o}', 2, '{o}-x')", "ROLLBACK TO b",
                   "RELEASE a", "COMMIT"],
    "chain": ["BEGIN", "SELECT reserve_stock('{o}', 1, '{o}')",
              "COMMIT AND CHAIN", "COMMIT"],
    "procedure": ["CALL sell('{o}')"],
    "prepared": ["BEGIN", "SELECT reserve_stock('{o}', 1, '{o}')",
                 "PREPARE TRANSACTION '{o}-p'", "COMMIT PREPARED '{o}-p'"],
    "serializable": ["BEGIN ISOLATION LEVEL SERIALIZABLE",
                     "SELECT reserve_stock('{o}', 1, '{o}')", "COMMIT"],
}



def commands_of(way):
    return [command.format(o=way) for command in WAYS[way]]


class Runner(Asker):
    """A session that runs some commands, one after another."""

    def __init__(self, db, commands):
        self.commands = commands
        self.done = 0
        super().__init__(db, "SHOW synchronous_commit")

    def run(self):
        try:
            with self.conn.cursor() as cur:
                for command in self.commands:
                    cur.execute(command)
                    self.done += 1
        except psycopg2.Error:
            return                      # killed
        super().run()


def test_every_way_to_commit_waits(pair):
    """While it waits its lock is free already, except for a prepared one's;
    the setting is the session's own when it returns."""
    it = pair()
    it.db.sql(SELL)
    it.db.sql("SELECT receive_stock(way, 10) FROM unnest(%s) way",
              (list(WAYS),))
    for way in WAYS:
        with it.cut_off():
            runner = Runner(it.db, commands_of(way))
            wait_until(lambda r=runner: it.waiting(r.pid) == 1, 20, way)
            assert runner.answer is None, way
            if way != "prepared":
                assert way in states(it.db), f"{way}: others see it"
                it.db.sql("SELECT receive_stock(%s, 1)", (way,), options="-c"
                          " synchronous_commit=local -c lock_timeout=5s")
            assert way not in states(it.copy)
        runner.join(20)
        assert runner.answer == "on", way
        wait_until(lambda w=way: w in states(it.copy), 20, "it is applied")
    assert it.db.drift() == []


def test_killed_while_they_wait(pair):
    """No client got an answer, and the promoted standby has none of the
    results."""
    it = pair()
    it.db.sql(SELL)
    it.db.sql("SELECT receive_stock(way, 10) FROM unnest(%s) way",
              (list(WAYS),))
    with it.cut_off():
        runners = {way: Runner(it.db, commands_of(way)) for way in WAYS}
        wait_until(lambda: it.waiting(*(r.pid for r in runners.values()))
                   == len(WAYS), 20, "all wait")
        it.primary.kill9()
    for way, runner in runners.items():
        runner.join(20)
        assert runner.done < len(WAYS[way]) and runner.answer is None, way
    copy = it.fail_over()
    assert states(copy) == {} and copy.drift() == []


def test_cancel_during_the_wait(pair):
    """A commit that is cancelled while it waits has happened, as without the
    extension, and a warning says so; an answer that is cancelled is not
    given."""
    it = pair()
    with it.cut_off():
        act = Runner(it.db, [ACT])
        wait_until(lambda: it.waiting(act.pid) == 1, 20, "the act waits")
        echo = Runner(it.db, [ECHOES[0]])
        wait_until(lambda: it.waiting(echo.pid) == 1, 20, "the echo waits")
        it.db.sql("SELECT pg_cancel_backend(pid) FROM unnest(%s) pid",
                  ([act.pid, echo.pid],))
        act.join(20)
        echo.join(20)
        assert not echo.is_alive(), "the cancel was swallowed"
    assert act.answer == "on" and act.done == 1
    assert any("canceling wait for synchronous replication" in notice
               for notice in act.conn.notices)
    assert echo.done == 0, "an echo that was cancelled is an error"
    again = Runner(it.db, ["SELECT reserve_stock('book', 1, 'o-2')"])
    again.join(20)
    assert again.answer == "on"
    wait_until(lambda: set(states(it.copy)) == {"o-1", "o-2"}, 20,
               "both are there")


def test_the_wait_ends_with_the_setting(pair):
    """The standby is given up (Patroni does so, unless its mode is strict):
    commits that wait for it return, and so do the answers that rest on them.
    What may be published only with a standby is not."""
    it = pair()
    fence = "SELECT lsn FROM pgstock_internal.outbox_fence('{}')"
    with it.cut_off():
        act = Asker(it.db, ACT)
        wait_until(lambda: it.waiting(act.pid) == 1, 20, "the act waits")
        others = [Asker(it.db, text) for text in (
            ECHOES[0], fence.format("auto"), fence.format("remote_flush"))]
        wait_until(lambda: it.waiting(*(one.pid for one in others)) == 3, 20,
                   "all wait")
        it.on_primary("ALTER SYSTEM RESET synchronous_standby_names")
        it.on_primary("SELECT pg_reload_conf()")
        for one in (act, *others):
            one.join(20)
            assert not one.is_alive(), one.question
    echo, local, remote = others
    assert act.answer and echo.answer is True and local.answer
    assert remote.answer == "55000"


ACT = "SELECT reserve_stock('book', 1, 'o-1')"


def answered_and_lost(it):
    """The story: one session reserves and waits for the standby, another
    repeats the request; kill -9, promote. Which answer did the other get?"""
    with it.cut_off():
        act = Asker(it.db, ACT)
        wait_until(lambda: it.waiting(act.pid) == 1, 20, "the act waits")
        echo = Asker(it.db, ECHOES[0])
        wait_until(lambda: it.waiting(echo.pid) == 1 or not echo.is_alive(),
                   20, "the echo waits or is answered")
        it.primary.kill9()
    assert act.answer is None
    assert states(it.fail_over()) == {}
    echo.join(20)
    return echo.answer


def test_a_replay_waits_for_the_standby(pair):
    assert answered_and_lost(pair()) is None


def test_without_the_fence_it_is_answered_and_lost(pair):
    assert answered_and_lost(pair(NO_FENCE)) is True


def test_publish_after_local(pair, kafka, relays):
    """With this setting the relay publishes events that the standby does not
    have yet."""
    it = pair()
    relay = relays(it.db.conninfo(), kafka.brokers,
                   {"outbox": {"publish_after": "local"}}).start()
    with kafka.tail("stock-events") as tail:
        wait_complete(it.db, tail)
        with it.cut_off():
            it.db.sql("SELECT reserve_stock('book', 1, 'early')",
                      options="-c synchronous_commit=local")
            tail.until(lambda r: any(x.key == b"early" for x in r), 10,
                       "it is published")
            assert "early" not in states(it.copy)
            seen = time.time() * 1000
            it.db.sql("SELECT reserve_stock('book', 1, 'more')",
                      options="-c synchronous_commit=local")
            wait_until(lambda: stored_at_ms(it.db) > seen, 10,
                       "the position does not wait for the standby either")
    relay.wait_ok("/readyz")


def test_publish_after_remote_flush(pair, kafka, relays):
    """No event is published that only one server has; the relay reports the
    reason, and continues by itself once a standby is configured."""
    it = pair()
    it.on_primary("ALTER SYSTEM RESET synchronous_standby_names")
    it.on_primary("SELECT pg_reload_conf()")
    relay = relays(it.db.conninfo(), kafka.brokers,
                   {"outbox": {"publish_after": "remote_flush"}}).start(None)
    wait_until(lambda: "no synchronous standby is configured" in relay.log(),
               20, relay.tail)
    with kafka.tail("stock-events") as tail:
        assert tail.read_to_end() == []
        it.name_standby()
        wait_complete(it.db, tail)
    relay.wait_ok("/readyz")


def test_relay_publishes_nothing_before(pair, kafka, relays):
    """The standby is unreachable: events that other sessions already see stay
    unpublished. After a fail-over the relay continues at the new primary, and
    Kafka holds exactly the events of that one."""
    it = pair()
    relay = relays(it.both_hosts(), kafka.brokers).start()
    local = {"options": "-c synchronous_commit=local"}
    with kafka.tail("stock-events") as tail:
        for number in range(50):
            it.db.sql("SELECT reserve_stock('book', 1, %s)", (f"a-{number}",))
        wait_complete(it.db, tail)
        with it.cut_off():
            it.db.sql("SELECT reserve_stock('book', 1, 'late')", **local)
            wait_until(lambda: it.waiting(*it.primary.backends(
                "pgstock-relay%")) >= 1, 20, "the relay waits for the standby")
            before = len(tail.read_to_end())
        wait_complete(it.db, tail)
        assert len(tail.records) == before + 1
        with it.cut_off():
            it.db.sql("SELECT reserve_stock('book', 1, 'never')", **local)
            wait_until(lambda: it.waiting(*it.primary.backends(
                "pgstock-relay%")) >= 1, 20, "the relay waits for the standby")
            it.primary.kill9()
        copy = it.fail_over()
        assert "late" in states(copy) and "never" not in states(copy)
        for number in range(50):
            copy.sql("SELECT reserve_stock('book', 1, %s)", (f"b-{number}",))
        check_all(copy, tail)
    relay.wait_ok("/readyz")
