# SPDX-License-Identifier: PostgreSQL
"""The counters of calls in shared memory, with and without preloading:
regress/sql/statistics.sql has what is counted."""

import os
from contextlib import closing

import pytest

from cluster import Postgres
from conftest import serial

PRELOAD = {"shared_preload_libraries": "pgstock"}
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
