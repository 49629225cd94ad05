# SPDX-License-Identifier: PostgreSQL
"""Three machines with etcd, Patroni and PostgreSQL each, set up as
docs/high-availability.md says: its commands are typed on each, with stand-ins
for packages and systemd."""

import json
import os
import re

import psycopg2

import schemas
from cluster import Database, Postgres, need, outboxes_faults
from documents import Terminal, blocks
from process import (Server, http_get, make_dir, run_tool, wait_until,
                     write_private)

DEPLOY = os.path.realpath(os.path.join(os.path.dirname(__file__),
                                       "../../deploy/patroni"))
NAMES = ("db-1", "db-2", "db-3")
TTL = 20                        # of deploy/patroni/patroni.yml
PASSWORD = "choose-one"


def guide(text):
    """The command block of the guide that has the text."""
    (block,) = [block for block in blocks(
        "docs/high-availability.md", "From one server to three")
                if block.kind == "sh" and text in block.text]
    return block


class MachineServer(Server):
    """A server on one of the machines."""

    def __init__(self, machine, directory):
        super().__init__(directory)
        self.machine = machine
        self.elsewhere = machine.elsewhere


class Etcd(MachineServer):
    """A member of etcd, by /etc/default/etcd."""

    def __init__(self, machine, directory):
        super().__init__(machine, directory)
        self.config = os.path.join(directory, "default")

    def edit(self, text):
        """The machine's own name and addresses."""
        return re.sub(r"^(ETCD_NAME|ETCD_\w*ADVERTISE\w+)=.*$",
                      lambda line: line[0].replace(NAMES[0],
                                                   self.machine.name),
                      text, flags=re.M)

    def start(self):
        with open(self.config, encoding="utf-8") as file:
            settings = dict(re.findall(r"^(ETCD_\w+)=(.*)$", file.read(),
                                       re.M))
        settings["ETCD_DATA_DIR"] = os.path.join(self.directory, "data")
        program = os.path.join(need("PGSTOCK_PATRONI"), "usr/bin/etcd")
        self.spawn([program], settings)

    def healthy(self):
        status, body = http_get(self.machine.address, 2379, "/health", 2)
        return status == 200 and json.loads(body)["health"] == "true"


class Patroni(MachineServer):
    """Patroni and the PostgreSQL that it starts and stops."""

    def __init__(self, machine, directory):
        super().__init__(machine, directory)
        self.data = os.path.join(directory, "data")
        self.config = make_dir(os.path.join(directory, "config"))
        write_private(os.path.join(self.config, "test.yml"),
                      self.differences())

    def differences(self):
        """The differences from a real machine: the paths, and that the system
        user has another name."""
        bin_dir = os.path.dirname(Postgres.bin("postgres"))
        return json.dumps({
            "postgresql": {
                "data_dir": self.data, "config_dir": self.data,
                "bin_dir": bin_dir,
                "pgpass": os.path.join(self.directory, "pgpass"),
                "parameters": {"unix_socket_directories": self.directory,
                               "shared_buffers": "64MB", "fsync": "off"},
                "pg_hba": [
                    "local all postgres trust",
                    "host replication replicator samenet scram-sha-256",
                    "host all all samenet scram-sha-256"]},
            "watchdog": {"mode": "off"}})

    def start(self):
        self.spawn(["/usr/bin/python3", "-m", "patroni", self.config],
                   python_path())

    def get(self, path):
        """(status, JSON) of its REST API; status 0: no answer."""
        status, body = http_get(self.machine.address, 8008, path, 2)
        return status, json.loads(body) if status else {}

    def leads(self):
        return self.get("/primary")[0] == 200

    def postmaster(self):
        with open(os.path.join(self.data, "postmaster.pid"),
                  encoding="ascii") as file:
            return int(file.readline())


def python_path():
    return {"PYTHONPATH": os.path.join(need("PGSTOCK_PATRONI"), "python")}


class Member:
    """One machine."""

    def __init__(self, machine, directory):
        self.machine = machine
        self.name = machine.name
        self.directory = directory
        self.etcd = Etcd(machine, os.path.join(directory, "etcd"))
        self.patroni = Patroni(machine, os.path.join(directory, "patroni"))

    def type(self, *texts):
        """Types the guide's blocks that have the texts."""
        terminal = Terminal(
            make_dir(os.path.join(self.directory, "home")), {}, {
                "/etc/default/etcd": self.etcd.config,
                "/etc/patroni": self.patroni.config,
                "/etc/systemd/system": self.directory,
                "/opt/patroni": os.path.join(self.directory, "opt"),
                "/opt/patroni/bin/pip": "pip",
                "/usr/share/pgstock/patroni": DEPLOY,
                "/var/lib/postgresql/15/main": self.patroni.data,
                "python3 -m venv": "mkdir", " -o postgres": ""},
            {"systemctl": self.systemctl, "sudoedit": self.sudoedit})
        terminal.send('pip() { [[ $1 == install && -s ${!#} ]]; }\n')
        try:
            for text in texts:
                terminal.run(guide(text))
        finally:
            terminal.close()

    def systemctl(self, *args):
        """PostgreSQL has been stopped before."""
        start = {"restart etcd": self.etcd.start,
                 "enable --now patroni": self.patroni.start}.get(
                     " ".join(args))
        if start:
            start()
        else:
            assert args in (("stop", "etcd"),
                            ("disable", "--now", "postgresql")), args

    def sudoedit(self, *paths):
        """What differs between the machines."""
        for path in paths:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            if path == self.etcd.config:
                text = self.etcd.edit(text)
            elif path.endswith("/node.yml"):
                text = text.replace(NAMES[0], self.name)
            write_private(path, text)

    def start(self):
        self.etcd.start()
        self.patroni.start()

    def kill9(self):
        self.machine.kill9()
        self.etcd.wait_end()
        self.patroni.wait_end()


class Group:
    """The machines, as one server that psycopg2 and libpq find."""

    def __init__(self, machines, directory):
        self.machines = machines
        self.members = {machine.name: Member(
            machine, make_dir(os.path.join(directory, machine.name)))
                        for machine in self.machines}
        self.port = 5432

    def close(self):
        """The processes of the machines end with them; what the outboxes hold
        is as docs/schemas describes."""
        try:
            self.leader()
            faults = outboxes_faults(self)
        finally:
            for member in self.members.values():
                member.kill9()
        schemas.must_hold(faults, "the group")

    # ---- sessions ----

    def hosts(self):
        return ",".join(NAMES)

    def conninfo(self, **more):
        """The connection string of docs/high-availability.md."""
        fields = {"host": self.hosts(), "dbname": "shop",
                  "target_session_attrs": "read-write", "connect_timeout": 2,
                  **more}
        return " ".join(f"{key}={value}" for key, value in fields.items())

    def connect(self, db="postgres", **more):
        """A superuser's session, for cluster.Database."""
        return psycopg2.connect(self.conninfo(**{
            "dbname": db, "user": "postgres", "password": PASSWORD,
            "tcp_user_timeout": 5000, **more}))

    # ---- the state of the group ----

    def view(self):
        """{name: (role, state)}, as a member that responds reports it."""
        for member in self.members.values():
            status, answer = member.patroni.get("/cluster")
            if status == 200:
                return {one["name"]: (one["role"], one["state"])
                        for one in answer["members"]}
        return {}

    def leader(self, other_than=None, timeout=90):
        """The member that leads."""
        def one():
            return [member for member in self.members.values()
                    if member is not other_than and member.patroni.leads()]
        return wait_until(one, timeout, self.report, step=0.1)[0]

    def standbys(self):
        leader = self.leader()
        return [one for one in self.members.values() if one is not leader]

    def is_sound(self):
        roles = sorted(self.view().values())
        return roles == [("leader", "running"),
                         ("quorum_standby", "streaming"),
                         ("quorum_standby", "streaming")
                         ] and self.streaming() == 2

    def streaming(self):
        """The number of standbys that the leader waits for."""
        try:
            return Database(self, "postgres").value(
                "SELECT count(*) FROM pg_stat_replication WHERE state ="
                " 'streaming' AND sync_state = 'quorum'")
        except psycopg2.OperationalError:
            return 0

    def wait_sound(self, timeout=300):
        """Waits until one leads, and its commits wait for the others."""
        wait_until(self.is_sound, timeout, self.report, step=0.2)

    def report(self):
        return f"{self.view()}\n" + "\n".join(
            f"--- {one.name}\n{one.patroni.tail(12)}"
            for one in self.members.values())

    def patronictl(self, success, *args, answers=""):
        """Runs it, and expects a text in its output."""
        program = os.path.join(need("PGSTOCK_PATRONI"), "python/bin/patronictl")
        said = run_tool(["/usr/bin/python3", program, "-c",
                         self.members[NAMES[0]].patroni.config, *args],
                        env={**os.environ, **python_path()}, input=answers)
        assert success in said, said

    def etcdctl(self, *args):
        """Runs it on the first machine; what it prints."""
        program = os.path.join(need("PGSTOCK_PATRONI"), "usr/bin/etcdctl")
        return run_tool([program, *args], env={
            **os.environ, "ETCDCTL_ENDPOINTS": f"{NAMES[0]}:2379"})

    def type(self, command, success, answers=""):
        """Runs a command as the manual has it, and answers its questions."""
        (line,) = [line for line in command.splitlines()
                   if not line.startswith("#")]
        _, found, args = line.partition("patronictl -c /etc/patroni ")
        assert found, line
        self.patronictl(success, *args.split(), answers=answers)

    # ---- the beginning ----

    def take_over(self, single):
        """A server that was stopped becomes the first of the three."""
        first = self.members[NAMES[0]].patroni
        os.rename(single.data, first.data)
        os.chmod(first.data, 0o700)
        # a new Debian has neither file in the data directory
        write_private(os.path.join(first.data, "postgresql.auto.conf"), "")
        os.remove(os.path.join(first.data, "postgresql.conf"))
        for member in self.members.values():
            member.type("etcd-server")
        wait_until(lambda: all(one.etcd.healthy() for one in
                               self.members.values()), 60,
                   lambda: self.members[NAMES[0]].etcd.tail(), step=0.1)
        for member in self.members.values():
            member.type("python3-venv")
        self.members[NAMES[0]].type("touch ")
        self.leader()
        for name in NAMES[1:]:
            make_dir(self.members[name].patroni.data)
            self.members[name].type("main.unused")
        self.wait_sound()
