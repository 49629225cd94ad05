# SPDX-License-Identifier: PostgreSQL
"""wait_for_event: a client learns that Kafka has its event, at the price of one
wake-up, whatever is killed meanwhile (extension/outbox/receipt.c)."""

import os
import re
import resource
import select
import statistics
import threading
import time
from contextlib import closing, contextmanager

import psycopg2
import pytest

from checks import wait_complete
from cluster import Postgres
from kafkaio import delivered, send
from mutant import Mutant
from process import wait_until

MODES = ("idempotent", "transactional")
WAITERS = int(os.environ.get("PGSTOCK_WAITERS", "1000"))
LOOK_AGAIN = 5                  # LOOK_AGAIN_MS of receipt.c

# A waiter that enters while a position is being committed is not woken.
NO_LATE_WAKE = ("outbox/receipt_board.c", "if (!receipt_led->entries[i].seen)",
                "if (false)")


def publish(db, n=1):
    return [row for (row,) in db.sql(
        "SELECT publish_event('stock-events', 'k' || i, '{}')"
        " FROM generate_series(1, %s) i", (n,))]


class Waiter(threading.Thread):
    """A session that waits for an event."""

    def __init__(self, db, event, timeout="50 s"):
        super().__init__(daemon=True)
        self.db, self.event, self.timeout = db, event, timeout
        self.answer = self.seconds = None
        self.start()

    def run(self):
        begun = time.monotonic()
        try:
            self.answer = self.db.value("SELECT wait_for_event(%s, %s)",
                                        (self.event, self.timeout))
        except psycopg2.Error as error:
            self.answer = error.pgcode
        self.seconds = time.monotonic() - begun

    def result(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), "it still waits"
        return self.answer


def sleeping(db, n):
    """Wait until so many sessions wait for an event."""
    wait_until(lambda: db.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        " AND query LIKE 'SELECT wait\\_for\\_event%%'"
        " AND wait_event_type = 'Extension'", (db.name,)) == n, 60,
        f"{n} sessions wait")


@pytest.mark.parametrize("mode", MODES)
def test_a_receipt_is_prompt(db, start_relay, mode):
    """Of the events of one session, each is in Kafka when the wait ends; the
    median is far below the 200 ms after which positions are stored."""
    start_relay({"outbox": {"mode": mode}})
    took = []
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for _ in range(60):
            cur.execute("SELECT publish_event('stock-events', 'k', '{}')")
            ((event,),) = cur.fetchall()
            begun = time.monotonic()
            cur.execute("SELECT wait_for_event(%s, '20 s')", (event,))
            assert cur.fetchone() == (True,)
            took.append(time.monotonic() - begun)
            cur.execute("SELECT state FROM event_status(%s)", (event,))
            assert cur.fetchone() == ("published",)
    assert statistics.median(took) < (0.15 if mode == MODES[1] else 0.05), took


@pytest.mark.parametrize("mode", MODES)
def test_a_receipt_is_for_what_is_committed(db, kafka, start_relay, mode):
    """Whoever reads only committed records gets the event. In transactional
    mode the broker acknowledges a commit before it has written its marks, so
    the reader may have to wait for a moment."""
    with kafka.tail("stock-events") as tail:
        other = kafka.producer(transactional_id="open")
        other.init_transactions(30)
        other.begin_transaction()
        send(other, "stock-events", {})
        delivered(other)
        assert not any(tail.ends().values())    # it is not committed
        other.abort_transaction(30)
        start_relay({"outbox": {"mode": mode}})
        for _ in range(20):
            (event,) = publish(db)
            assert db.value("SELECT wait_for_event(%s, '50 s')", (event,))
            wait_until(lambda: event in [
                record.header("ce_id") for record in tail.read_to_end()],
                       0 if mode == MODES[0] else 30, f"{event} is read")


def test_the_broker_is_away(db, kafka, start_relay):
    """The timeout holds, the event is pending, and waiting does not publish
    it; when the broker is back, those that wait are answered."""
    relay = start_relay(brokers=kafka.proxied_brokers)
    kafka.proxy.cut()
    first, second = publish(db, 2)
    begun = time.monotonic()
    assert db.value("SELECT wait_for_event(%s, '300 ms')", (first,)) is False
    assert 0.3 <= time.monotonic() - begun < 5
    assert db.sql("SELECT state, published_at FROM event_status(%s)",
                  (first,)) == [("pending", None)]
    waiters = [Waiter(db, event) for event in (first, second, second)]
    sleeping(db, 3)
    kafka.proxy.restore()
    assert [waiter.result() for waiter in waiters] == [True] * 3
    assert relay.running


@pytest.mark.parametrize("mode", MODES)
def test_the_relay_is_killed(db, kafka, start_relay, mode):
    """Those that wait learn it, find the next relay by themselves, and are
    answered once Kafka has the events: none is lost, none is true too soon."""
    relay = start_relay({"outbox": {"mode": mode}},
                        brokers=kafka.proxied_brokers)
    kafka.proxy.cut()
    events = publish(db, 5)
    waiters = [Waiter(db, event) for event in events]
    sleeping(db, 5)
    relay.kill9()
    wait_until(lambda: db.value("SELECT count(*) FROM pg_stat_activity"
                                " WHERE application_name ~ '^pgstock-relay'"
                                " AND datname = %s", (db.name,)) == 0, 30,
               "its sessions have ended")
    kafka.proxy.restore()
    assert not any(waiter.answer for waiter in waiters)
    relay.start()
    assert [waiter.result() for waiter in waiters] == [True] * 5
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_waiting_without_a_relay_uses_no_cpu(db, kafka, start_relay):
    """The memory of a session that has ended exists while another session is
    attached to it, and its handle is in the table until another relay leads:
    a waiter that attached to it again and again would never sleep."""
    relay = start_relay(brokers=kafka.proxied_brokers)
    kafka.proxy.cut()
    events = publish(db, 5)
    conns = connect_all(db, 5)
    cursors = [conn.cursor() for conn in conns]
    for cur, event in zip(cursors, events):
        cur.execute("SELECT wait_for_event(%s, '4 s')", (event,))
    sleeping(db, 5)
    pids = [conn.get_backend_pid() for conn in conns]
    used = sum(map(cpu_seconds, pids))
    relay.kill9()
    for conn in conns:
        answered(conn)
    used = sum(map(cpu_seconds, pids)) - used
    assert [cur.fetchone() for cur in cursors] == [(False,)] * 5
    for conn in conns:
        conn.close()
    assert used < 1, used


def test_the_broker_is_killed(db, kafka, start_relay):
    """A receipt is only given for what the broker still has afterwards."""
    start_relay()
    kafka.kill9()
    waiters = [Waiter(db, event) for event in publish(db, 3)]
    sleeping(db, 3)
    kafka.start()
    assert [waiter.result() for waiter in waiters] == [True] * 3
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)


def test_the_server_is_killed(run, kafka, relays):
    """Shared memory is gone then, and its handle in the table with it: an
    event that is committed is waited for in the new life."""
    with closing(Postgres(os.path.join(run, "receipts-kill"))) as server:
        server.init().start()
        db = server.create_database("shop")
        relay = relays(db.conninfo(), kafka.brokers).start()
        (event,) = publish(db)
        assert db.value("SELECT wait_for_event(%s)", (event,))
        server.kill_backend(server.backends("pgstock-relay %")[0])
        (event,) = publish(db)
        assert db.value("SELECT wait_for_event(%s, '30 s')", (event,))
        assert relay.running


def test_the_leader_gets_no_memory(run, kafka, relays):
    """As where shared memory is full: events are published all the same, and
    waiters poll.  The next session that leads tries again."""
    with closing(Postgres(os.path.join(run, "receipts-memory"), {
            "dynamic_shared_memory_type": "mmap"})) as server:
        server.init().start()
        db = server.create_database("shop")
        memory = os.path.join(server.data, "pg_dynshmem")
        os.chmod(memory, 0o500)
        relay = relays(db.conninfo(), kafka.brokers).start()
        (event,) = publish(db)
        assert db.value("SELECT wait_for_event(%s, '30 s')", (event,))
        receipts = "SELECT receipts FROM pgstock_internal.relay_epoch"
        assert db.value(receipts) is None
        assert "sessions that wait for events are not woken" in server.tail()
        os.chmod(memory, 0o700)
        db.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
               " WHERE application_name ~ '^pgstock-relay'")
        wait_until(lambda: db.value(receipts) is not None, 30,
                   "a session leads that has the memory")
        (event,) = publish(db)
        assert db.value("SELECT wait_for_event(%s, '30 s')", (event,))
        assert relay.running


def test_it_can_be_ended(db, kafka, start_relay):
    """Cancel, statement_timeout and the session's end; nothing is left of the
    waiter, so the next wait of a session works as the first."""
    start_relay(brokers=kafka.proxied_brokers)
    kafka.proxy.cut()
    (event,) = publish(db)
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("SET statement_timeout = '200ms'")
        for _ in range(3):
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cur.execute("SELECT wait_for_event(%s, '1 min')", (event,))
        # while it reads the state: the session goes on as after any error
        with closing(db.connect()) as other, other.cursor() as lock:
            lock.execute("LOCK TABLE pgstock_internal.outbox")
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cur.execute("SELECT wait_for_event(%s, '1 min')", (event,))
            cur.execute("SELECT 1")
        waiter = Waiter(db, event)
        sleeping(db, 1)
        cur.execute("SET statement_timeout = 0")
        cur.execute("SELECT count(pg_cancel_backend(pid)) FROM"
                    " pg_stat_activity WHERE query ~ '^SELECT wait_for'")
        assert waiter.result() == "57014"
        waiter = Waiter(db, event)
        sleeping(db, 1)
        cur.execute("SELECT count(pg_terminate_backend(pid)) FROM"
                    " pg_stat_activity WHERE query ~ '^SELECT wait_for'")
        assert waiter.result() in ("57P01", None)   # libpq may lose it
        kafka.proxy.restore()
        cur.execute("SELECT wait_for_event(%s, '50 s')", (event,))
        assert cur.fetchone() == (True,)


def test_it_needs_no_rights(db, start_relay):
    """The level app is enough, also behind a pooler of transactions."""
    start_relay()
    db.sql("CREATE ROLE receipts_app LOGIN")
    db.sql("SELECT grant_stock_access('receipts_app', 'app')")
    try:
        event = db.value("SELECT publish_event('app-topic', 'k', '{}')",
                         user="receipts_app")
        assert db.value("SELECT wait_for_event(%s, '30 s')", (event,),
                        user="receipts_app")
        assert db.value("SELECT state FROM event_status(%s)", (event,),
                        user="receipts_app") == "published"
    finally:
        db.sql("SELECT grant_stock_access('receipts_app', 'none')")
        db.sql("DROP ROLE receipts_app")


# ---- another session leads ---------------------------------------------------

@contextmanager
def a_leader(db):
    """A session that leads, without a relay: its cursor and its epoch."""
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("SELECT pgstock_internal.relay_lead()")
        ((epoch,),) = cur.fetchall()
        yield cur, epoch


def store_all(cur, epoch):
    """Store the position behind all events."""
    cur.execute("SELECT pgstock_internal.relay_store_position("
                "pgstock_internal.relay_next_window(p.\"window\"), 0, true,"
                " %s) FROM pgstock_internal.relay_position() p", (epoch,))


def entered(cur, n):
    """Wait until so many sessions wait for this leader."""
    def count():
        cur.execute("SELECT count(*) FROM pgstock_internal.receipt_waiters()")
        return cur.fetchone()[0]
    wait_until(lambda: count() == n, 30, f"{n} sessions wait for this one")


def test_a_leader_that_goes_on_without_the_lead(db):
    """Its memory is not closed, as its session has not ended; a waiter leaves
    it for that of the session that leads now."""
    (event,) = publish(db)
    with a_leader(db) as (former, _):
        waiter = Waiter(db, event)
        entered(former, 1)
        former.execute("SELECT pg_advisory_unlock_all()")
        with a_leader(db) as (cur, epoch):
            entered(cur, 1)
            entered(former, 0)
            store_all(cur, epoch)
            assert waiter.result() is True


def test_a_discarded_event_is_not_waited_for_at_the_leader(db):
    """Each stored position passes it, and would wake its waiter."""
    (event,) = publish(db)
    seq = db.value("SELECT seq FROM event_status(%s)", (event,))
    with a_leader(db) as (cur, epoch):
        cur.execute("SELECT pgstock_internal.relay_hold('stock-events', 'no',"
                    " %s), pgstock_internal.relay_set_aside(ARRAY[%s::bigint],"
                    " %s)", (epoch, seq, epoch))
        store_all(cur, epoch)
        waiter = Waiter(db, event, "20 s")
        entered(cur, 1)
        db.sql("SELECT discard_held_event(%s, 'a test')", (event,))
        entered(cur, 0)
        sleeping(db, 1)
        db.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
               " WHERE query ~ '^SELECT wait_for' AND datname = %s",
               (db.name,))
        assert waiter.result() == "57014"


# ---- the position that is being committed -----------------------------------

@contextmanager
def a_slow_commit(db, cur, epoch, window):
    """A leading session stores a position and waits, in its commit, for a
    standby that does not answer: the position is not visible yet."""
    def standby(name):
        db.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        db.sql("SELECT pg_reload_conf()")

    def store():
        cur.execute("SELECT pgstock_internal.relay_store_position(%s, 0, true,"
                    " %s)", (window, epoch))

    def waiting():
        return db.value("SELECT count(*) FROM pg_stat_activity WHERE"
                        " datname = %s AND wait_event = 'SyncRep'",
                        (db.name,))

    threads = []

    def is_known():
        """A commit before the setting is known does not wait."""
        if not any(thread.is_alive() for thread in threads):
            threads.append(threading.Thread(target=db.sql, args=(
                "SELECT publish_event('t', 'k', '1')",)))
            threads[-1].start()
        return waiting() == 1

    standby("absent")
    try:
        wait_until(is_known, 30, "a commit waits for the standby")
        threads.append(threading.Thread(target=store))
        threads[-1].start()
        wait_until(lambda: waiting() == 2, 30,
                   "the position is being committed")
        yield
    finally:
        standby("")
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def a_late_waiter(db):
    """How long a waiter sleeps that enters when the waiters have been read and
    the position is not visible yet."""
    with a_leader(db) as (cur, epoch):
        (event,) = publish(db)
        cur.execute("SELECT pgstock_internal.relay_next_window(p.\"window\")"
                    " FROM pgstock_internal.relay_position() p")
        ((window,),) = cur.fetchall()
        with a_slow_commit(db, cur, epoch, window):
            waiter = Waiter(db, event)
            sleeping(db, 1)
            woken = time.monotonic()
        assert waiter.result() is True
        return time.monotonic() - woken


def test_a_waiter_that_is_late(db):
    """It enters between the leader's look at the waiters and the moment when
    the position is visible: both have missed each other, and no later position
    may come.  The commit wakes all whom the look has not seen."""
    assert a_late_waiter(db) < LOOK_AGAIN - 2


@pytest.mark.proof
def test_a_late_waiter_would_be_missed(run):
    with closing(Mutant(os.path.join(run, "late-wake"), *NO_LATE_WAKE)
                 ) as server:
        server.init().start()
        assert a_late_waiter(server.create_database("shop")) > LOOK_AGAIN - 2


# ---- many waiters ------------------------------------------------------------

def connect_all(db, n):
    """Sessions, of which 20 at a time log in."""
    conns = []
    while len(conns) < n:
        some = [psycopg2.connect(db.conninfo(), async_=1)
                for _ in range(min(20, n - len(conns)))]
        for conn in some:
            answered(conn)
        conns += some
    return conns


def answered(conn, timeout=60):
    """Wait until an asynchronous connection has done what it was given."""
    until = time.monotonic() + timeout
    while (state := conn.poll()) != psycopg2.extensions.POLL_OK:
        left = until - time.monotonic()
        assert left > 0, "no answer"
        poll = select.poll()        # select() knows descriptors below 1024
        poll.register(conn, select.POLLIN if state ==
                      psycopg2.extensions.POLL_READ else select.POLLOUT)
        poll.poll(left * 1000)


@pytest.fixture
def many_files():
    """As many descriptors as waiters need, in place of a default of 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = WAITERS + 500
    assert before[1] == resource.RLIM_INFINITY or before[1] >= needed, before
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], needed),
                                                before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def switches(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(),
                             re.M).group(1))


def test_waiters_sleep_while_others_are_done(db):
    """A hundred positions are stored that do not pass their event."""
    with a_leader(db) as (cur, epoch):
        cur.execute("SELECT pgstock_internal.relay_next_window(p.\"window\")"
                    " FROM pgstock_internal.relay_position() p")
        ((window,),) = cur.fetchall()
        (event,) = publish(db)
        conns = connect_all(db, 5)
        cursors = [conn.cursor() for conn in conns]
        for waiter in cursors:
            waiter.execute("SELECT wait_for_event(%s, '1 min')", (event,))
        entered(cur, 5)
        sleeping(db, 5)
        pids = [conn.get_backend_pid() for conn in conns]
        slept = [switches(pid) for pid in pids]
        for _ in range(100):
            cur.execute("SELECT pgstock_internal.relay_store_position(%s, 0,"
                        " true, %s)", (window, epoch))
        woken = [switches(pid) - was for pid, was in zip(pids, slept)]
        store_all(cur, epoch)
        for conn in conns:
            answered(conn)
        assert [waiter.fetchone() for waiter in cursors] == [(True,)] * 5
        for conn in conns:
            conn.close()
        assert max(woken) < 10, woken           # each looks again in a while


@pytest.mark.alone
@pytest.mark.usefixtures("many_files")
def test_many_waiters_are_woken_once_each(run, kafka, relays):
    """A waiter runs when its own event is done, and hardly more often."""
    with closing(Postgres(os.path.join(run, "receipts-many"),
                          {"max_connections": WAITERS + 50})) as server:
        server.init().start()
        db = server.create_database("shop")
        relay = relays(db.conninfo(), kafka.proxied_brokers).start()
        kafka.proxy.stall()
        before, events = publish(db, 300), publish(db, WAITERS)
        conns = connect_all(db, WAITERS)
        cursors = [conn.cursor() for conn in conns]
        for cur, event in zip(cursors, events):
            cur.execute("SELECT wait_for_event(%s, '1 min')", (event,))
        sleeping(db, WAITERS)
        pids = [conn.get_backend_pid() for conn in conns]
        slept = [switches(pid) for pid in pids]
        begun = time.monotonic()
        kafka.proxy.restore()
        for conn in conns:
            answered(conn)
        took = time.monotonic() - begun
        woken = [switches(pid) - was for pid, was in zip(pids, slept)]
        assert [cur.fetchone() for cur in cursors] == [(True,)] * WAITERS
        for conn in conns:
            conn.close()
        print(f"{WAITERS} waiters: {took:.2f} s, woken"
              f" {statistics.mean(woken):.2f} times on average,"
              f" {max(woken)} at most")
        # its own event, and the next command of its client; more are waits for
        # a lock that another one has, of which a busy machine makes some
        assert statistics.median(woken) <= 3, woken
        assert max(woken) <= 50, woken
        assert db.value("SELECT wait_for_event(%s)", (before[0],))
        assert relay.running
