# SPDX-License-Identifier: PostgreSQL
"""How a sleeping relay is woken: extension/outbox/wakeup.c.

A writer that finds it awake sends no wake-up. If the relay fell asleep between
the writer's look at that and its commit, the relay would not learn of that
commit: the event would wait for the next poll.
"""

import os
import random
import signal
import threading
import time
from contextlib import closing, contextmanager

from checks import check_all, wait_complete
from cluster import Postgres
from load import Clients
from mutant import Mutant
from process import wait_until
from slow import SETTINGS, disk_stands_still, slow_disk

NO_FLUSH = {"options": "-c synchronous_commit=off"}

# The writer does not keep the lock until it is visible.
UNCOUNTED = ("outbox/wakeup.c",
             "\treturn compat_try_lock(&tag, ShareLock, false);\n",
             "\tif (!compat_try_lock(&tag, ShareLock, false))"
             "\n\t\treturn false;\n"
             "\tLockRelease(&tag, ShareLock, false);\n\treturn true;\n")


def waiting_for(db, event):
    return db.value("SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event ~ %s AND datname = %s"
                    " AND backend_type = 'client backend'",
                    (event, db.name)) == 1


@contextmanager
def caught_in_commit(db):
    """A writer that has looked at the flag and is not visible yet: it waits
    for a standby that does not answer."""
    def standby(name):
        db.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        db.sql("SELECT pg_reload_conf()")

    writers = []

    def is_caught():
        # a commit before the setting is known does not wait
        if not any(writer.is_alive() for writer in writers):
            writers.append(threading.Thread(target=db.sql, args=(
                "SELECT publish_event('t', 'k', '1')",)))
            writers[-1].start()
        return waiting_for(db, "^SyncRep")

    standby("absent")
    try:
        wait_until(is_caught, 20, "no writer is caught")
        yield
    finally:
        standby("")
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()


@contextmanager
def relay_session(db):
    """A session that listens, and the window before all events."""
    with closing(db.connect()) as relay, relay.cursor() as cur:
        relay.autocommit = True
        cur.execute("LISTEN pgstock_outbox;"
                    " SELECT pgstock_internal.first_window()")
        yield relay, cur, cur.fetchone()[0]


def next_window(cur, window):
    cur.execute("SELECT pgstock_internal.relay_next_window(%s)", (window,))
    return cur.fetchone()[0]


def relay_sleep(cur, window):
    cur.execute("SELECT * FROM pgstock_internal.relay_sleep(%s)", (window,))
    return cur.fetchone()


def notifications(relay):
    """Not by a statement, which would wake it."""
    relay.poll()
    return len(relay.notifies)


def unseen(db, window):
    """Events behind the end of that window."""
    return db.value("SELECT count(*) FROM pgstock_internal.outbox WHERE NOT"
                    " pg_visible_in_snapshot(xid,"
                    " (%s::pgstock_internal.outbox_window).s2)", (window,))


def a_silent_commit(db):
    """A relay looks and finds nothing while a writer commits that found it
    awake: whether it sleeps then, and the window after which it does."""
    with relay_session(db) as (relay, cur, window):
        # its fence would wait for that standby too
        cur.execute("SET synchronous_commit = local")
        with caught_in_commit(db):
            window, asleep = relay_sleep(cur, next_window(cur, window))
        if not asleep:
            window, slept = relay_sleep(cur, window)
            assert not slept            # because it found an event
            window, slept = relay_sleep(cur, window)
            assert slept
        assert notifications(relay) == 0
        return asleep, unseen(db, window)


def test_nothing_is_slept_through(db):
    assert a_silent_commit(db) == (False, 0)


def test_the_control_sleeps_through_it(run):
    """Without the lock that the writer keeps, the relay sleeps, and gets no
    wake-up: the test above can fail."""
    server = Mutant(os.path.join(run, "uncounted"), *UNCOUNTED).init().start()
    try:
        assert a_silent_commit(server.create_database("u")) == (True, 1)
    finally:
        server.close()


def test_woken_by_a_commit_while_it_looks(run):
    """The snapshot is taken, and the answer not returned, for the disk stands
    still: a commit now is not in the window, so its writer must have found the
    relay asleep."""
    server = Postgres(os.path.join(run, "postgres-wakeup"), SETTINGS).init()
    slow_disk(server).start()
    db = server.create_database("wakeup")
    db.sql("CREATE TABLE something (n int)")
    answers = []
    with closing(server), relay_session(db) as (relay, cur, window):
        window = next_window(cur, window)
        looker = threading.Thread(
            target=lambda: answers.append(relay_sleep(cur, window)))
        with disk_stands_still(server):
            db.sql("INSERT INTO something VALUES (1)", **NO_FLUSH)
            looker.start()
            wait_until(lambda: waiting_for(db, "^WAL"), 20, "it looks")
            db.sql("SELECT publish_event('t', 'k', '1')", **NO_FLUSH)
        looker.join(30)
        (window, asleep), = answers
        assert asleep and unseen(db, window) == 1
        wait_until(lambda: notifications(relay) > 0, 10, "a wake-up")


def test_a_wake_up_blocks_no_session(db):
    """A writer that found the relay asleep waits for its standby.  NOTIFY
    would hold a lock of all databases meanwhile, and occupy a queue that may
    be full; a writer that waits for less is not delayed."""
    with relay_session(db) as (relay, cur, window):
        cur.execute("SET synchronous_commit = local")
        window, asleep = relay_sleep(cur, next_window(cur, window))
        assert asleep
        with caught_in_commit(db):
            assert db.relay_sleeps()
            assert db.sql("SELECT pid FROM pg_locks WHERE locktype = 'object'"
                          " AND classid = 'pg_database'::regclass") == []
            db.sql("SELECT publish_event('t', 'k', '2')", options="-c"
                   " synchronous_commit=local -c statement_timeout=10s")
            wait_until(lambda: notifications(relay) > 0, 10, "it is woken")
        assert db.value("SELECT pg_notification_queue_usage()") == 0
        assert unseen(db, window) >= 2


def test_a_full_lock_table(run):
    """A writer then gets no lock to say that it is not visible yet, and its
    commit must neither fail nor be slept through."""
    server = Postgres(os.path.join(run, "postgres-locks")).init().start()
    db = server.create_database("locks")
    with closing(server), relay_session(db) as (relay, cur, window), \
            closing(db.connect()) as writer:
        window = next_window(cur, window)
        for asleep in (False, True):
            if asleep:
                window, slept = relay_sleep(cur, window)
                assert slept and notifications(relay) == 0
            writer.cursor().execute("SELECT publish_event('t', 'k', '1')")
            with no_lock_is_free(db):
                writer.commit()
            if not asleep:
                assert notifications(relay) == 0
                window, slept = relay_sleep(cur, window)
                assert not slept and unseen(db, window) == 0
        wait_until(lambda: notifications(relay) > 0, 10, "a wake-up")


@contextmanager
def no_lock_is_free(db):
    with closing(db.connect()) as other, other.cursor() as cur:
        cur.execute("""
            DO $$ BEGIN
                FOR n IN 1 .. 10000000 LOOP PERFORM pg_advisory_lock(n);
                END LOOP;
            EXCEPTION WHEN out_of_memory THEN END $$""")
        yield
        cur.execute("SELECT pg_advisory_unlock_all()")


def test_stopped_relay_costs_one_hint(db, kafka, start_relay):
    """The relay's process is stopped. Its session reads the first notification
    without it, and from then on no writer sends one."""
    relay = start_relay()
    db.sql("SELECT receive_stock('book', 100)")
    wait_until(db.relay_sleeps, 10, "the relay sleeps")
    os.kill(relay.pid, signal.SIGSTOP)
    try:
        db.sql("SELECT reserve_stock('book', 1, 'first')")
        wait_until(lambda: not db.relay_sleeps(), 10, "its session is awake")
        with closing(db.connect()) as other:
            other.autocommit = True
            with other.cursor() as cur:
                cur.execute("LISTEN pgstock_outbox")
                for number in range(50):
                    cur.execute("SELECT reserve_stock('book', 1, %s)",
                                (f"o-{number}",))
                cur.execute("SELECT 1")
            assert other.notifies == []
    finally:
        os.kill(relay.pid, signal.SIGCONT)
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 10)
        check_all(db, tail)


def test_a_notification_of_another_channel(db, kafka, start_relay):
    """The session releases the hint lock when it reads a notification of
    another channel, of which the relay learns nothing: the session must notify
    the relay, or the relay sleeps on and no writer wakes it."""
    relay = start_relay({"outbox": {"poll_interval": "60s"}})
    for number in range(5):
        wait_until(db.relay_sleeps, 10, "the relay sleeps")
        before = relay.metric("wakeups_total", cause="notify")
        db.sql("NOTIFY other_channel")
        wait_until(lambda n=before: relay.metric(
            "wakeups_total", cause="notify") > n, 10, "the relay is awake")
        db.sql("SELECT publish_event('stock-events', %s, '{}')",
               (f"e-{number}",))
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 10)


def test_late_only_by_a_few_ms(db, kafka, start_relay):
    """Gaps around the time that the relay stays awake, from many sessions, and
    a poll that is no help: an event that was missed would arrive a minute
    late."""
    db.sql("SELECT receive_stock('book', 100000)")
    relay = start_relay({"outbox": {"poll_interval": "60s"}})

    def work(cur, name):
        cur.execute("SELECT publish_event('stock-events', %s, '{}')", (name,))
        time.sleep(random.uniform(0, 0.04))

    def woken(cause):
        return relay.metric("wakeups_total", cause=cause)

    with Clients(db, 4, work) as clients:
        wait_until(lambda: len(clients.acknowledged) > 1000 and
                   woken("notify") > 20 and woken("awake") > 20, 60,
                   lambda: relay.get("/metrics")[1])
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 20)
        check_all(db, tail)
    wait_until(db.relay_sleeps, 10, "the relay sleeps again")
    print({cause: woken(cause)
           for cause in ("notify", "poll", "awake", "writers")})


def test_awake_under_load(db, kafka, start_relay):
    """While events arrive without a pause no writer sends a wake-up."""
    relay = start_relay({"outbox": {"poll_interval": "60s"}})

    def work(cur, name):
        cur.execute("SELECT publish_event('stock-events', %s, '{}')", (name,))

    def notified():
        return relay.metric("wakeups_total", cause="notify")

    with Clients(db, 16, work) as clients:
        wait_until(lambda: len(clients.acknowledged) > 500, 20, "no load")
        before, done = notified(), len(clients.acknowledged)
        wait_until(lambda: len(clients.acknowledged) > done + 5000, 60,
                   "no progress")
        assert notified() - before < 100
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail, 20)
        check_all(db, tail)
