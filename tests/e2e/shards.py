# SPDX-License-Identifier: PostgreSQL
"""Shards of one private cluster, and the front before them.

Every shard is a database of its own with pgstock in it, and the front is a
database without: as on several machines, except that one server runs all.
"""

import itertools
import json
import os
import subprocess
from pathlib import Path

from cluster import HOST, Database

SCRIPT = Path(__file__).parents[2] / "deploy/shards/pgstock-shards"

serial = itertools.count(1)

# how long a front repeats what other sessions disturb
LONGEST_WAIT = ("CREATE OR REPLACE FUNCTION pgstock_front.longest_wait()"
                " RETURNS interval LANGUAGE sql IMMUTABLE"
                " RETURN '%s'::interval")


def pgstock_shards(front, *args):
    """Runs the command for a front; returns what it has done."""
    path = f"{Path(front.pg.bin('psql')).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPT, *args], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=60,
        env={**os.environ, "PATH": path, "PGHOST": HOST,
             "PGPORT": str(front.pg.port), "PGUSER": "postgres",
             "PGDATABASE": front.name})


class Shards:
    """`count` shard databases and a front; on `servers`, in turn, if there are
    several."""

    timeouts = {}       # connection parameters of shards and coordinator

    def __init__(self, *servers, count=4, line_key="product_id",
                 order_key=None, front_server=None):
        number = next(serial)
        self.servers = servers
        self.shards = [servers[i % len(servers)].create_database(
            f"shard{number}_{i}") for i in range(count)]
        self.front = (front_server or servers[0]).create_database(
            f"front{number}", extension=False)
        for server in {*servers, self.front.pg}:
            self.make_front_role(server)
        for i, shard in enumerate(self.shards):
            shard.sql("CREATE EXTENSION pgstock_shard")
            shard.sql("SELECT pgstock_shard.set_shard(%s, %s, %s, %s)",
                      (i, count, line_key, order_key))
            shard.sql("SELECT grant_stock_access('pgstock_front', 'admin')")
        self.front.sql("CREATE EXTENSION pgstock_front CASCADE")
        self.set_shards(line_key, order_key)
        self.roles = []

    @staticmethod
    def make_front_role(server):
        Database(server, "postgres").sql(
            "DO $$ BEGIN CREATE ROLE pgstock_front LOGIN NOINHERIT;"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$")

    def connections(self):
        """The connection parameters of each shard."""
        return [self.connection(shard) for shard in self.shards]

    def connection(self, database):
        return {"host": database.pg.host, "port": str(database.pg.port),
                "dbname": database.name, **self.timeouts}

    def set_shards(self, line_key=None, order_key=None):
        """Sets the present connection parameters; keeps the key."""
        self.front.sql("SELECT pgstock_front.set_shards(%s, %s, %s)",
                       (json.dumps(self.connections()), line_key, order_key))

    def set_coordinator(self, database):
        """Sets the database that stores the orders over several shards, and
        short times, which pass within a test."""
        self.make_front_role(database.pg)
        if database is not self.front:
            database.sql("CREATE EXTENSION IF NOT EXISTS pgstock_front CASCADE")
            database.sql("SELECT pgstock_front.set_shards(%s)",
                         (json.dumps(self.connections()),))
        database.sql(f'ALTER DATABASE "{database.name}"'
                     " SET pgstock_front.hold = '4s'")
        database.sql(f'ALTER DATABASE "{database.name}"'
                     " SET pgstock_front.patience = '1s'")
        for name in {self.front, database}:
            name.sql("SELECT pgstock_front.set_coordinator(%s)",
                     (json.dumps(self.connection(database)),))

    def add_role(self, name, level):
        """Creates a role in the front and each shard, with an access level."""
        for server in self.servers:
            Database(server, "postgres").sql(
                f'CREATE ROLE "{name}" LOGIN; GRANT "{name}" TO pgstock_front')
        self.roles.append(name)
        self.front.sql("SELECT grant_stock_access(%s, %s)", (name, level))
        return name

    def shard_of(self, product, location="main"):
        """The database that has the product."""
        return self.shards[self.front.value(
            "SELECT pgstock_front.line_shard(%s, %s)", (product, location))]

    def products(self, per_shard=1, prefix="SKU"):
        """Names of products, so many for each shard: [[name, ...], ...]."""
        found = [[] for _ in self.shards]
        for i in itertools.count():
            shard = self.shards.index(self.shard_of(f"{prefix}-{i}"))
            if len(found[shard]) < per_shard:
                found[shard].append(f"{prefix}-{i}")
            if all(len(names) == per_shard for names in found):
                return found

    def drift(self):
        """The differences that verify_stock() finds in any shard."""
        return self.front.drift()

    def drop(self):
        for database in (self.front, *self.shards):
            database.drop()
        for name in self.roles:
            for server in self.servers:
                Database(server, "postgres").sql(f'DROP ROLE "{name}"')
