# SPDX-License-Identifier: PostgreSQL
"""The counters of calls in shared memory, with and without preloading:
regress/sql/statistics.sql has what is counted."""

import json
import os
import subprocess
from contextlib import closing

import pytest

from cluster import Database, Postgres, need
from conftest import serial
from process import wait_until

PRELOAD = {"shared_preload_libraries": "pgstock"}
YEAR = "2020-01-01T00:00:00Z"
UNRESERVED_DATABASES_MAX = 8    # extension/base/statistics.c


@pytest.fixture
def server(run):
    """Starts a cluster with these settings."""
    servers = []

    def start(**settings):
        name = f"postgres-statistics-{next(serial)}"
        servers.append(Postgres(os.path.join(run, name), settings).init())
        return servers[-1].start()

    yield start
    for one in servers:
        one.close()


def calls(db):
    return db.value("SELECT sum(calls) FROM stock_statistics")


def test_preloaded(server):
    """The counters begin with the server's start, and each database has its
    own; a crash sets them to 0, and counting goes on."""
    pg = server(**PRELOAD)
    db, other = pg.create_database("one"), pg.create_database("two")
    db.sql("SELECT receive_stock('book', 1)")
    assert (calls(db), calls(other)) == (1, 0)
    with closing(db.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT receive_stock('book', 1), pg_backend_pid()")
        pg.kill_backend(cur.fetchone()[1])
    assert calls(db) == 0
    db.sql("SELECT receive_stock('book', 1)")
    assert calls(db) == 1


def test_the_report_of_a_week_counts_across_a_restart(server, tmp_path):
    """The upkeep keeps what the counters were; by SQL and as a file."""
    def reserve():
        return db.value("SELECT status FROM try_reserve_stock('book', 2, 'o')")

    def kept():
        """The worker may be at it meanwhile: then this step does nothing."""
        db.sql("SELECT pgstock_internal.keeper_purge(10)")
        return db.value("SELECT sum(refused) FROM pgstock_internal.call_day")

    def refusals(report):
        return report["calls"]["refusals"].get("insufficient")

    pg = server(**PRELOAD)
    db = pg.create_database("one")
    db.sql("SELECT receive_stock('book', 1)")
    assert reserve() == "insufficient"
    wait_until(kept, 30, "the upkeep keeps what was counted")
    pg.restart()
    assert calls(db) == 0
    assert (reserve(), reserve()) == ("insufficient", "insufficient")
    assert refusals(db.value("SELECT stock_report()")) == 3
    path = tmp_path / "report.json"
    args = [need("PGSTOCK_RELAY"), "report", "--postgres", db.conninfo()]
    for more in (["--output", path], ["--output", path, "--since", YEAR]):
        done = subprocess.run([*args, *more], capture_output=True, text=True,
                              timeout=30, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert refusals(json.loads(path.read_text())) == 3
    done = subprocess.run([*args, "--until", YEAR], capture_output=True,
                          text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert refusals(json.loads(done.stdout)) is None
    for more, code, words in (
            (["--since", YEAR, "--until", YEAR], 1, "since must be before"),
            (["--since", "monday"], 2, "--since"),
            (["--output", tmp_path], 1, f"could not write to {tmp_path}")):
        done = subprocess.run([*args, *more], capture_output=True, text=True,
                              timeout=30, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr


def test_databases_that_are_not_counted(server):
    """Without preloading there is room for a few databases. The calls of
    another one work and are not counted, until one of them is dropped."""
    pg = server()
    made = [pg.create_database(f"d{number}")
            for number in range(UNRESERVED_DATABASES_MAX + 1)]
    for db in made:
        db.sql("SELECT receive_stock('book', 1)")
    assert [calls(db) for db in made] == [1] * UNRESERVED_DATABASES_MAX + [None]
    metrics = ("SELECT count(*) FROM pgstock_internal.relay_metrics()"
               " WHERE name = 'calls_total'")
    assert made[-1].value(metrics) == 0
    assert made[0].value(metrics) > 20
    made[3].drop()
    made[-1].sql("SELECT receive_stock('book', 1)")
    assert calls(made[-1]) == 1
    assert [calls(db) for db in made[4:8]] == [1] * 4


FREE = ("SELECT allocated_size::int FROM pg_shmem_allocations"
        " WHERE name IS NULL")


def use_up_shared_memory(pg):
    """Locks grow into what the server keeps free, in steps of 8 kB, and then
    their second holders, in steps of 4 kB. What is left, in bytes."""
    lock = ("DO $$ BEGIN FOR i IN 1..10000000 LOOP"
            " PERFORM pg_advisory_lock_shared(i); END LOOP;"
            " EXCEPTION WHEN out_of_memory THEN NULL; END $$")
    with closing(pg.connect()) as one, closing(pg.connect()) as other:
        for conn in (one, other):
            conn.cursor().execute(lock)
        other.cursor().execute("SELECT pg_advisory_unlock_all()")
        with one.cursor() as cur:
            cur.execute("SELECT pg_advisory_unlock_all()")
            cur.execute(FREE)
            return cur.fetchone()[0]


def test_no_shared_memory(server):
    """Without preloading the memory may be used up before the first call,
    for example by locks. The calls work and are not counted."""
    pg = server()
    left = use_up_shared_memory(pg)
    for number in range(200, 230):
        if left < 1000:     # a directory needs more
            break
        Database(pg, "postgres").sql(
            f"ALTER SYSTEM SET max_connections = {number}")
        pg.restart()
        left = use_up_shared_memory(pg)
    assert left < 1000
    db = pg.create_database("one")
    with closing(db.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT receive_stock('book', 1)")
        cur.execute("SELECT status FROM reserve_stock('book', 1, 'a')")
        assert cur.fetchone() == ("granted",)
        conn.commit()
    assert calls(db) is None
