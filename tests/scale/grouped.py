# SPDX-License-Identifier: PostgreSQL
"""Four shards, and a group of three servers that has the first of them and the
coordinator, set up as docs/sharding.md and docs/high-availability.md say; a
front that finds the group's leader by HAProxy, with or without PgBouncer before
it; sessions of the front."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass

import psycopg2

from cluster import Database, Postgres, Relay, need
from documents import Terminal
from fleet import MachineFleet
from group import NAMES, PASSWORD, Group
from load import Threads
from process import Server, run_tool, wait_until, write_private
from shard_pooler import ShardPooler

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
SHARDS = os.path.join(TOP, "deploy/shards")
FRONT_PASSFILE = "/etc/pgstock/front.pgpass"    # of the guide


class LeaderProxy(Server):
    """HAProxy on the machine of the front, set up by commands of the guide."""

    def __init__(self, machine, directory):
        super().__init__(directory)
        self.elsewhere = machine.elsewhere
        self.config = os.path.join(self.directory, "haproxy.cfg")

    def type(self, commands):
        terminal = Terminal(
            os.path.join(self.directory, "home"), {}, {
                "/etc/haproxy/haproxy.cfg": self.config,
                "/usr/share/pgstock/shards": SHARDS},
            {"systemctl": self.systemctl, "sudoedit": self.sudoedit})
        try:
            terminal.type(commands)
        finally:
            terminal.close()
        wait_until(lambda: self.log().count(" is DOWN") == len(NAMES) - 1, 30,
                   lambda: f"it has not found the standbys\n{self.tail()}")
        return self

    def sudoedit(self, path):
        """The servers of the group have the names in the file."""
        assert path == self.config
        with open(path, encoding="utf-8") as file:
            assert tuple(re.findall(r"^\s+server (\S+) ", file.read(), re.M)) \
                == NAMES

    def systemctl(self, *args):
        assert args == ("restart", "haproxy")
        tree = need("PGSTOCK_HAPROXY")
        self.spawn([f"{tree}/usr/sbin/haproxy", "-db", "-f", self.config],
                   {"LD_LIBRARY_PATH": f"{tree}/usr/lib/x86_64-linux-gnu"})


class GroupServer(Group):
    """The group, as the server of a database."""

    @property
    def host(self):
        return self.hosts()


class GroupedFleet(MachineFleet):
    """The coordinator is on the servers of the first shard."""

    def __init__(self, lan, new_dir, run):
        super().__init__(lan, new_dir)
        self.group = self.proxy = self.pooler = None
        self.passfile = os.path.join(run, "pgpass")
        write_private(self.passfile, f"*:*:*:*:{PASSWORD}\n")

    def make_coordinator(self, _):
        return self.shards[0].pg.create_database("orders", extension=False)

    def stop_all(self):
        super().stop_all()
        for one in filter(None, (self.proxy, self.pooler)):
            one.close()
        if self.group:
            self.group.close()

    def make_group(self, replication, directory):
        """The first shard's server becomes a group; replication: the SQL that
        the guide runs before."""
        shard = self.shards[0]
        single = shard.pg
        run_tool([single.bin("psql"), *single.tool_args(shard.name),
                  "--set=ON_ERROR_STOP=1"], input=replication)
        for role in ("postgres", "pgstock_front"):
            shard.sql(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        single.stop()
        self.all.remove(single)
        self.group = GroupServer([self.lan.add(name) for name in NAMES],
                                 directory)
        self.group.take_over(single)
        single.close()
        self.shards[0] = Database(self.group, shard.name)
        self.coordinator = Database(self.group, self.coordinator.name)

    def start_proxy(self, directory, commands):
        self.proxy = LeaderProxy(self.front.pg.machine, directory).type(
            commands)

    def start_pooler(self, directory, group):
        """group: the address of HAProxy, as in the guide."""
        self.pooler = ShardPooler(directory, self.front.pg.machine.elsewhere,
                                  PASSWORD)
        self.pooler.configure({
            shard.name: f"host={shard.pg.host} port={shard.pg.port}"
            for shard in self.shards[1:]}
            | {self.shards[0].name: f"host={group['host']}"
                                    f" port={group['port']}"})
        self.pooler.start()

    def type(self, command, entry, directory):
        """Types a command of the guide on the front's machine, in a directory
        with shards.json, in which the first shard has the guide's entry."""
        shards = self.connections()
        entry = entry.replace(FRONT_PASSFILE, self.passfile)
        shards[0] = {**json.loads(entry), "dbname": self.shards[0].name}
        if self.pooler:
            for shard in shards:
                shard["pooler"] = self.pooler.connection()
        write_private(os.path.join(directory, "shards.json"),
                      json.dumps(shards))
        command = command.replace("/usr/share/pgstock/shards", SHARDS)
        front, programs = self.front.pg, os.path.dirname(Postgres.bin("psql"))
        done = subprocess.run(
            [*front.elsewhere, "bash", "-ec", command], cwd=directory,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, env={
                **os.environ, "PATH": f"{programs}:{os.environ['PATH']}",
                "PGHOST": front.host, "PGPORT": str(front.port),
                "PGUSER": "postgres", "PGDATABASE": self.front.name,
                "PGPASSFILE": self.passfile})
        assert done.returncode == 0, f"{command}: {done.stdout}"

    def type_coordinator(self, query):
        """The statement of the guide that sets the coordinator."""
        self.front.sql(query.replace(FRONT_PASSFILE, self.passfile))

    def start_group_relays(self, new_dir, broker, mode):
        """Two, for the shard of the group."""
        conninfo = self.group.conninfo(dbname=self.shards[0].name,
                                       user="postgres", passfile=self.passfile)
        self.pairs.append([Relay(
            new_dir("relay"), conninfo, broker.brokers, {"outbox": {
                "mode": mode, "publish_after": "remote_flush"}}).start()
                           for _ in range(2)])


@dataclass(frozen=True)
class Call:
    """A call: when it began, how long it took, and its error."""
    began: float
    took: float
    sqlstate: str               # None: it was acknowledged


class Buyer(Threads):
    """A session of the front that buys one piece after another, repeats each
    order until it is acknowledged, and never connects again."""

    def __init__(self, front, product):
        super().__init__()
        self.front, self.product = front, product
        self.calls = []
        self.orders = []        # acknowledged
        self.start((self._run,))

    def _run(self):
        try:
            conn = self.front.connect()
            conn.autocommit = True
            while not self.ending.wait(0.05):
                self._buy(conn, f"{self.product}-{len(self.orders)}")
        except Exception as error:      # raised by stop()
            self.errors.append(error)

    def _buy(self, conn, order):
        began, state = time.monotonic(), None
        try:
            with conn.cursor() as cur:
                cur.execute("SELECT granted FROM reserve_stock(%s, 1, %s,"
                            " ttl => '1 day')", (self.product, order))
            self.orders.append(order)
        except psycopg2.Error as error:
            assert not conn.closed, f"the session has ended: {error}"
            state = error.pgcode
        self.calls.append(Call(began, time.monotonic() - began, state))

    def since(self, moment):
        """The calls that had not ended then."""
        return [call for call in list(self.calls)
                if call.began + call.took > moment]

    def first_after(self, moment):
        """When the first call that began after that moment was acknowledged;
        None: not yet."""
        return next((call.began + call.took for call in list(self.calls)
                     if call.began > moment and call.sqlstate is None), None)

    def wait_first(self, moment, timeout, report):
        wait_until(lambda: self.errors or self.first_after(moment), timeout,
                   report)
        assert not self.errors, self.errors[0]
        return self.first_after(moment)
