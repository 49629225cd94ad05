# SPDX-License-Identifier: PostgreSQL
"""PgBouncer between a front and its shards, with the file that is installed."""

import os
import re
import signal

from cluster import HOST
from process import Server, make_dir, wait_until, write_private
from shards import Shards

SHARDS = os.path.realpath(os.path.join(os.path.dirname(__file__),
                                       "../../deploy/shards"))
PASSWORD = "choose-one"


class ShardPooler(Server):
    """One on the machine of the front."""

    def __init__(self, directory, elsewhere=(), password=PASSWORD):
        super().__init__(directory)
        self.elsewhere = elsewhere
        self.port = self.take_port()
        self.password = password
        self.passfile, self.config, self.userlist = (
            os.path.join(directory, name)
            for name in ("passfile", "pgbouncer.ini", "userlist.txt"))
        self.write_files()

    def write_files(self):
        make_dir(self.directory)
        write_private(self.passfile, f"*:*:*:*:{self.password}\n")
        write_private(self.userlist, f'"pgstock_front" "{self.password}"\n')

    def connection(self):
        return {"host": HOST, "port": str(self.port),
                "passfile": self.passfile}

    def configure(self, addresses, sample=f"{SHARDS}/pgbouncer.ini",
                  **settings):
        """addresses: {name of a shard: "host=... port=..."}."""
        with open(sample, encoding="utf-8") as file:
            text = file.read()
        text, count = re.subn(r"^shop0 = (.*\n)+?\n", "".join(
            f"{name} = {address}\n" for name, address in addresses.items())
            + "\n", text, flags=re.M)
        assert count == 1, text
        for name, value in {
                "listen_port": self.port,
                "auth_file": self.userlist,
                **settings}.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text,
                                  flags=re.M)
            assert count == 1, name
        write_private(self.config, text)

    def start(self):
        begun = (self.log().count("process up")
                 if os.path.exists(self.log_path) else 0)
        self.spawn(["pgbouncer", self.config])
        wait_until(lambda: self.log().count("process up") > begun, 30,
                   self.tail)
        return self

    def restart(self):
        self.signal(signal.SIGTERM)
        self.wait_end()
        self.start()


class PooledShards(Shards):
    """Shards that the front calls through a pooler, with two sessions in each
    shard."""

    def __init__(self, pooler, *servers, **kwargs):
        self.pooler = pooler
        super().__init__(*servers, **kwargs)

    def connection(self, database):
        direct = super().connection(database)
        if database not in self.shards:
            return direct
        return {**direct, "pooler": self.pooler.connection()}

    def set_shards(self, line_key=None, order_key=None):
        if not self.pooler.running:
            self.configure_pooler()
            self.pooler.start()
        super().set_shards(line_key, order_key)

    def configure_pooler(self, *sample):
        self.pooler.configure(
            {shard.name: f"host={shard.pg.host} port={shard.pg.port}"
             for shard in self.shards}, *sample, default_pool_size=2,
            query_wait_timeout=10)  # also on a busy machine

    def sessions(self, shard):
        """The sessions of calls in a shard: those of views are named so."""
        return shard.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            " AND usename = 'pgstock_front'"
            " AND application_name <> 'postgres_fdw'", (shard.name,))
