# SPDX-License-Identifier: PostgreSQL
"""What a reader of the documents has: a server, a broker, the daemons and
their files in /etc, and a terminal.

systemd does not run here: `systemctl` acts on the same servers, and starts a
daemon by its unit's own command, environment and credential. `journalctl`
checks its options, and shows what the daemon has logged.
"""

import getpass
import os
import re
import shlex
import shutil
import signal

from cluster import HOST, Database, Postgres, need
from documents import TOP, Terminal, blocks, text_of
from process import (Server, http_get, make_dir, server_user, wait_until,
                     write_private)
from prometheus import DEPLOY, program

# A new Debian's, with a map: the system user of the tests is not postgres.
HBA = """\
local all all peer map=reader
host all all 127.0.0.1/32 scram-sha-256
local replication all peer map=reader
host replication all 127.0.0.1/32 scram-sha-256
"""
# The packages' users, which a test may not be.
OWNERS = (" -o postgres", " -g pgstock-gateway", " -g pgstock")
DAEMONS = ("pgstock-relay", "pgstock-gateway")
SWEEPER = "pgstock-sweeper"
INSTANCES = [f"pgstock-relay@{name}" for name in (
    "orders", "shop0", "shop1", "shop2", "shop3")]


class UnitDaemon(Server):
    """A daemon that is started as its unit, or an instance of it, starts it,
    but for the sandbox."""

    account = {}                # how PostgreSQL finds out who it is

    def __init__(self, directory, name):
        super().__init__(directory)
        self.name = name

    def unit(self, _):
        """Its file, which the package installs."""
        template, at, instance = self.name.partition("@")
        return text_of(f"deploy/{template}{at}.service").replace(
            "%i", instance)

    def start(self, terminal):
        unit = terminal.here(self.unit(terminal)).replace("\\\n", "")
        ((name, secret),) = re.findall(r"^LoadCredential=(\w+):(.*)$", unit,
                                       re.M)
        ((_, default),) = re.findall(r"^SetCredential=(\w+):(.*)$", unit, re.M)
        (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
        if os.path.exists(secret):
            with open(secret, encoding="utf-8") as file:
                default = file.read()
        write_private(os.path.join(self.directory, name), default)
        settings = dict(
            one.replace("%d", self.directory).split("=", 1)
            for line in re.findall(r"^Environment=(.*)$", unit, re.M)
            for one in shlex.split(line))
        write_private(os.path.join(self.directory, "input"), "".join(
            line.replace("\\\\", "\\") + "\n" for line in
            re.findall(r"^StandardInputText=(.*)$", unit, re.M)))
        # HOME: that of the unit's user
        self.spawn(["sh", "-c", 'exec "$@" <input', "sh", *(
            re.sub(r"\$\{(\w+)\}", lambda found: settings[found[1]], word)
            for word in shlex.split(command))],
                   {**settings, **self.account, "HOME": "/"})

    def stop(self, _):
        if self.running:
            self.signal(signal.SIGTERM)
        assert self.wait_end() == 0, self.tail()

    def restart(self, terminal):
        self.stop(terminal)
        self.start(terminal)

    def reload(self, _):
        self.signal(signal.SIGHUP)


class Sweeper(UnitDaemon):
    """psql, by the unit that the reader has installed."""

    def __init__(self, directory, server):
        super().__init__(directory, SWEEPER)
        self.server = server
        self.account = {"PGUSER": SWEEPER, "PGPORT": str(server.port)}

    def unit(self, terminal):
        with open(terminal.here(f"/etc/systemd/system/{SWEEPER}.service"),
                  encoding="utf-8") as file:
            return file.read().replace("/run/postgresql",
                                       self.server.directory)

    def stop(self, _):
        self.signal(signal.SIGTERM)
        assert self.wait_end() == -signal.SIGTERM, self.tail()


class PgBouncer(Server):
    """As Debian's unit starts it."""

    def restart(self, terminal):
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait_end()
        begun = self.log().count("process up") if self.process else 0
        self.spawn(["pgbouncer",
                    terminal.here("/etc/pgbouncer/pgbouncer.ini")])
        wait_until(lambda: self.log().count("process up") > begun, 30,
                   self.tail)


class Prometheus(Server):
    """As Debian's unit starts it."""

    def __init__(self, directory):
        super().__init__(directory)
        self.port = self.take_port()

    def restart(self, terminal):
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait_end()
        self.spawn([program("prometheus"), "--config.file",
                    terminal.here("/etc/prometheus/prometheus.yml"),
                    f"--storage.tsdb.path={self.directory}/data",
                    f"--web.listen-address={HOST}:{self.port}"],
                   {"GOMAXPROCS": "1"})
        wait_until(lambda: "Server is ready" in self.log(), 30, self.tail)

    def reload(self, _):
        self.signal(signal.SIGHUP)


class NodeExporter(Server):
    """Figures of this machine."""

    def __init__(self, directory):
        super().__init__(directory)
        self.port = self.take_port()

    def start(self, _):
        self.spawn([program("prometheus-node-exporter"),
                    f"--web.listen-address={HOST}:{self.port}"])
        wait_until(lambda: http_get(HOST, self.port, "/", 5)[0] == 200, 30,
                   self.tail)


class Machine:
    """One machine with all parts."""

    def __init__(self, directory, server, kafka):
        self.server = server
        self.edits = {}         # what the reader does in an editor
        self.units = {name: UnitDaemon(os.path.join(directory, name), name)
                      for name in (*DAEMONS, *INSTANCES)}
        self.units[SWEEPER] = Sweeper(os.path.join(directory, SWEEPER), server)
        self.units["pgbouncer"] = PgBouncer(
            os.path.join(directory, "pgbouncer"))
        self.units["prometheus"] = Prometheus(
            os.path.join(directory, "prometheus"))
        self.node_exporter = NodeExporter(
            os.path.join(directory, "node-exporter"))
        self.units["prometheus-node-exporter"] = self.node_exporter
        self.relay = self.units["pgstock-relay"]
        self.bin = make_dir(os.path.join(directory, "bin"))
        for name in DAEMONS:
            shutil.copy(os.path.join(os.path.dirname(need("PGSTOCK_RELAY")),
                                     name), self.bin)
        os.symlink(server.bin("psql"), os.path.join(self.bin, "psql"))
        self.script("kafka-topics.sh", kafka.java(
            "org.apache.kafka.tools.TopicCommand"))
        self.etc = make_dir(os.path.join(directory, "etc"))
        for name in ("pgstock", "pgbouncer", "cron.d", "prometheus",
                     "systemd/system"):
            make_dir(os.path.join(self.etc, name))
        self.terminal = Terminal(
            os.path.join(directory, "home"),
            {"PATH": f"{self.bin}:{os.path.dirname(server.bin('psql'))}:"
                     f"{os.path.dirname(program('promtool'))}:"
                     f"{os.environ['PATH']}",
             "PGHOST": server.directory, "PGPORT": str(server.port),
             "PGUSER": "postgres", "PGDATABASE": "shop",
             "LOGS": directory},
            self.names(server, kafka),
            {"systemctl": self.systemctl, "sudoedit": self.sudoedit})
        for name in DAEMONS:
            with open(os.path.join(TOP, f"deploy/{name}.conf"),
                      encoding="utf-8") as sample:
                self.terminal.write(f"/etc/pgstock/{name}.conf", sample.read())

    def names(self, server, kafka):
        """What has another name here."""
        relay_port = self.relay.take_port()
        return {**{f"/etc/{name}": os.path.join(self.etc, name)
                   for name in os.listdir(self.etc)},
                **dict.fromkeys(OWNERS, ""),
                "/etc/postgresql/15/main": server.data,
                "/usr/share/pgstock/": os.path.realpath(DEPLOY) + "/",
                "/usr/bin/": f"{self.bin}/",
                "host=localhost": f"host=localhost port={server.port}",
                "localhost:5432": f"localhost:{server.port}",
                "localhost:9092": kafka.brokers,
                "127.0.0.1:29187": f"{HOST}:{relay_port}",
                "127.0.0.1:8087":
                    f"{HOST}:{self.units['pgstock-gateway'].take_port()}",
                "127.0.0.1:9090": f"{HOST}:{self.units['prometheus'].port}",
                "127.0.0.1:9100": f"{HOST}:{self.node_exporter.port}",
                # a port for each of four relays
                "s/29187/2919$n/": f"s/{relay_port}/$(set -- %s %s %s %s;"
                                   " shift $n; echo $1)/" % tuple(
                    self.relay.take_port() for _ in range(4)),
                "6432": str(self.units["pgbouncer"].take_port()),
                # psycopg2 is Debian's
                "python3 -m": "/usr/bin/python3 -m"}

    def close(self):
        self.terminal.close()
        for unit in self.units.values():
            unit.close()

    def script(self, name, command):
        """A command that calls another one with its arguments."""
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        os.chmod(path, 0o755)

    def restart_server(self):
        """A person types this seconds after the events are published, when
        their position is stored: none of them comes twice."""
        if self.relay.running:
            shop = Database(self.server, "shop")
            wait_until(lambda: shop.value(
                "SELECT finished AND stored_at > (SELECT max(created_at) FROM"
                " stock_outbox) AND (SELECT n = 0 FROM"
                " pgstock_internal.pending())"
                " FROM pgstock_internal.relay_position"), 30,
                "the position is stored, and no event is behind it")
        self.server.restart()

    def systemctl(self, *args):
        *verb, name = args
        verb = {"enable --now": "start", "disable --now": "stop"}.get(
            " ".join(verb), " ".join(verb))
        if (verb, name) == ("restart", "postgresql"):
            self.restart_server()
        elif verb == "status":
            return 0 if self.units[name].running else 3
        else:
            getattr(self.units[name], verb)(self.terminal)
        return 0

    def sudoedit(self, path):
        self.terminal.edit(path, *self.edits[os.path.basename(path)])

    def run(self, document, before=None):
        """Type all of it; before: what is done first in a section."""
        before = dict(before or {})
        for block in blocks(document):
            before.pop(block.section, lambda: None)()
            if not block.mark:
                self.terminal.run(block)
        assert not before, f"{document} has no section {set(before)}"


class DebianPostgres(Postgres):
    """A server with the client authentication of a new Debian.  The test is
    its superuser on the socket only."""

    def __init__(self, directory, environment=None):
        super().__init__(directory, {
            "unix_socket_directories": f"'{directory}'",
            "wal_level": "logical"})
        self.host = directory
        self.environment = environment

    def init(self):
        super().init()
        users = {getpass.getuser()}
        if server_user():
            users.add(server_user().pw_name)
        for name, text in (("pg_hba.conf", HBA), ("pg_ident.conf", "".join(
                f"reader {user} {role}\n" for user in sorted(users)
                for role in ("postgres", SWEEPER)))):
            with open(os.path.join(self.data, name), "w",
                      encoding="ascii") as file:
                file.write(text)
        return self


def new_server(directory, environment=None):
    return DebianPostgres(directory, environment).init().start()
