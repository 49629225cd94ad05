# SPDX-License-Identifier: PostgreSQL
"""The real parts that the end-to-end tests and dev/cluster run.

Postgres, Kafka and Relay each start one real server on a port of its own,
can kill it the hard way, and start it again with what it had. What they need
is named by the environment:

    PGSTOCK_PGROOT  a private PostgreSQL tree with the extension in it
    PGSTOCK_KAFKA   a directory with the broker's jars
    PGSTOCK_RELAY   the relay's binary
    PGSTOCK_LIBRDKAFKA  a newer librdkafka (for the tests of transports)
    PGSTOCK_RUN     where all of them keep their files (default: a fresh
                    directory under /tmp)
"""

import json
import os
import re
import shutil
import signal
import subprocess
import warnings
from contextlib import closing, contextmanager, suppress
from functools import cached_property

import psycopg2
from confluent_kafka.admin import (AdminClient, ConfigResource, NewPartitions,
                                   NewTopic)

import schemas
from kafkaio import Examiner, Tail, producer
from process import (NotReached, Proxy, Server, as_server, http_get,
                     processes_in, run_tool, wait_until, write_private)

HOST = "127.0.0.1"
HINT_LOCK = 0x706f              # base/lock.h


def need(variable):
    """The value of an environment variable that names one of the parts."""
    value = os.environ.get(variable)
    if not value:
        raise RuntimeError(f"{variable} is not set")
    return value


class Postgres(Server):
    """One private cluster. Superuser postgres, trusted on loopback only;
    members of the role needs_password must give a password."""

    pdeathsig = "QUIT"              # immediate shutdown, backends too
    host = HOST
    clients = f"{HOST}/32"          # the addresses that it trusts
    environment = None              # more of it than ours

    def __init__(self, directory, settings=None, detach=False):
        super().__init__(directory, detach)
        self.port = self.take_port()
        self.data = os.path.join(directory, "data")
        self.settings = {
            "listen_addresses": f"'{self.host}'",
            "unix_socket_directories": "''",
            "max_connections": 200,
            "max_prepared_transactions": 20,
            "fsync": "off",         # a killed process loses no page cache
            "shared_buffers": "128MB",
            "log_line_prefix": "'%m [%p] %a@%d '",
            "timezone": "UTC",
            **(settings or {}),
        }

    @staticmethod
    def bin(name):
        pgroot = need("PGSTOCK_PGROOT")
        found = shutil.which(name, path=os.path.join(
            pgroot, "usr/lib/postgresql/15/bin"))
        assert found, f"no {name} under {pgroot}"
        return found

    def init(self):
        run_tool([self.bin("initdb"), "-D", self.data, "-U", "postgres",
                  "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust",
                  "--no-sync", "--no-instructions"])
        with open(os.path.join(self.data, "pg_hba.conf"), "w",
                  encoding="ascii") as file:
            file.write("host all +needs_password"
                       f" {self.clients} scram-sha-256\n"
                       f"host all all {self.clients} trust\n"
                       f"host replication all {self.clients} trust\n")
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a",
                  encoding="ascii") as file:
            file.writelines(f"{name} = {value}\n"
                            for name, value in self.settings.items())
        return self

    def start(self, timeout=180):
        self.spawn([self.bin("postgres"), "-D", self.data,
                    "-p", str(self.port)], self.environment)
        wait_until(self.accepts, timeout,
                   lambda: f"postgres accepts no connection\n{self.tail()}")
        return self

    def close(self):
        """End it; what its outboxes hold is as docs/schemas describes, also on
        a standby."""
        try:
            faults = self.is_readable() and outboxes_faults(self)
        finally:
            if self.running:
                self.power_cut()
            super().close()
        schemas.must_hold(faults, self.directory)

    def is_readable(self):
        """Whether it accepts connections, once it has recovered. If not, a
        warning, which pytest counts, says why."""
        reason = "it was stopped"
        if self.running:
            try:
                return wait_until(self.accepts, 60, self.tail)
            except NotReached as error:
                reason = error
        warnings.warn(f"not checked: {self.directory}: {reason}", stacklevel=3)
        return False

    def accepts(self):
        assert self.running, f"postgres ended\n{self.tail()}"
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self, mode=signal.SIGINT):
        """Fast shutdown by default."""
        if self.running:
            self.signal(mode)
            self.wait_end(60)

    def processes(self):
        """All of the server, also those that a killed postmaster left."""
        return processes_in(os.path.realpath(self.data))

    def kill9(self):
        """Kill the postmaster; its children notice and exit by themselves."""
        super().kill9()
        wait_until(lambda: not self.processes(), 30,
                   "children of a killed postmaster are still there")

    def power_cut(self):
        """Kill all processes: one that waits for the disk, or in PL/Proxy for
        a shard, does not notice that the postmaster is gone."""
        def none_is_left():
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()
        super().kill9()
        wait_until(none_is_left, 30, "processes of the server are still there")

    @contextmanager
    def away(self):
        """Killed, until the end of the block."""
        self.kill9()
        try:
            yield
        finally:
            self.start()

    def restart(self):
        self.stop()
        return self.start()

    def connect(self, db="postgres", **kwargs):
        kwargs = {"user": "postgres", "connect_timeout": 10,
                  "options": "-c statement_timeout=60s", **kwargs}
        return psycopg2.connect(host=self.host, port=self.port, dbname=db,
                                **kwargs)

    def create_database(self, name, extension=True, encoding=None):
        admin = Database(self, "postgres")
        other = f" LOCALE 'C' ENCODING '{encoding}'" if encoding else ""
        admin.sql(f'CREATE DATABASE "{name}" TEMPLATE template0{other}')
        db = Database(self, name)
        if extension:
            db.sql("CREATE EXTENSION pgstock")
        return db

    def tool_args(self, db):
        return ["-h", self.host, "-p", str(self.port), "-U", "postgres",
                "-d", db]

    def dump(self, db, path):
        run_tool([self.bin("pg_dump"), *self.tool_args(db), "-Fc", "-f", path])

    def restore(self, db, path):
        run_tool([self.bin("pg_restore"), *self.tool_args(db),
                  "--exit-on-error", path])

    def started(self):
        """When shared memory was last made: by a start, or after a crash."""
        return Database(self, "postgres").value(
            "SELECT min(backend_start) FROM pg_stat_activity"
            " WHERE backend_type = 'checkpointer'")

    def kill_backend(self, pid):
        """Kill one backend; the postmaster ends all others and recovers."""
        before = self.started()
        os.kill(pid, signal.SIGKILL)

        def recovered():
            try:
                return self.started() not in (before, None)
            except psycopg2.OperationalError:
                return False
        wait_until(recovered, 60, lambda: f"no recovery\n{self.tail()}")

    def backends(self, application_name="%"):
        rows = Database(self, "postgres").sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()", (application_name,))
        return [pid for (pid,) in rows]


class Database:
    """One database of a cluster."""

    def __init__(self, pg, name):
        self.pg = pg
        self.name = name

    def connect(self, **kwargs):
        return self.pg.connect(self.name, **kwargs)

    def sql(self, query, args=None, **kwargs):
        """Run one statement in a transaction of its own; its rows, if any."""
        with closing(self.connect(**kwargs)) as conn:
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute(query, args)
                return cur.fetchall() if cur.description else None

    def value(self, query, args=None, **kwargs):
        ((value,),) = self.sql(query, args, **kwargs)
        return value

    def conninfo(self, port=None, user="postgres", **more):
        fields = {"host": self.pg.host, "port": port or self.pg.port,
                  "dbname": self.name, "user": user, **more}
        return " ".join(f"{key}={value}" for key, value in fields.items())

    def require_password(self, role):
        """The role must give its password from now on.  The first
        call makes the cluster's role for that, which stays: tests share it."""
        self.sql("DO $$ BEGIN CREATE ROLE needs_password; EXCEPTION"
                 " WHEN duplicate_object THEN NULL; END $$")
        self.sql(f'GRANT needs_password TO "{role}"')

    def level(self, product, location="main"):
        """(on_hand, reserved, available) of one level."""
        (row,) = self.sql("SELECT on_hand, reserved, available"
                          " FROM stock_levels WHERE product_id = %s"
                          " AND location = %s", (product, location))
        return row

    def relay_sleeps(self):
        """Whether the relay's session holds the hint lock (base/lock.h)."""
        return self.value("SELECT count(*) FROM pg_locks JOIN pg_database d"
                          " ON d.oid = database WHERE locktype = 'advisory'"
                          " AND objsubid = %s AND mode = 'ExclusiveLock'"
                          " AND datname = current_database()",
                          (HINT_LOCK,)) == 1

    def drop(self):
        """Drop it; what its outbox holds is as docs/schemas describes."""
        faults = schemas.outbox_faults(self)
        Database(self.pg, "postgres").sql(
            f'DROP DATABASE "{self.name}" WITH (FORCE)')
        schemas.must_hold(faults, self.name)

    def drift(self):
        """The differences that verify_stock() finds: none, if all is well."""
        return self.sql("SELECT * FROM verify_stock()")


def outboxes_faults(server):
    """What is wrong with the outboxes of all databases of a server."""
    return [fault for name, in Database(server, "postgres").sql(
                "SELECT datname FROM pg_database WHERE datallowconn")
            for fault in schemas.outbox_faults(Database(server, name))]


class Kafka(Server):
    """One KRaft node, broker and controller in one JVM.

    Two listeners: `brokers` directly, `proxied_brokers` through `proxy`, whose
    address the broker advertises there, so that clients stay on it.
    """

    jars = None                     # another version's

    def __init__(self, directory, detach=False, proxied=True, settings="",
                 short=True):
        super().__init__(directory, detach)
        self.settings = settings
        self.format_args = ()
        self.short = short      # lives for a test: compiles little
        self.port, self.inner_port, self.controller_port = (
            self.take_port() for _ in range(3))
        self.proxy = Proxy(self.inner_port) if proxied else None
        self.brokers = f"{HOST}:{self.port}"
        self.proxied_brokers = f"{HOST}:{self.proxy.port}" if proxied else None
        self.config = os.path.join(directory, "server.properties")

    def java(self, main, *args):
        compiler = ["-XX:TieredStopAtLevel=1"] if self.short else []
        return ["java", "-Xmx512m", "-Xms128m", "-XX:+UseSerialGC",
                *compiler, "-Xshare:auto",
                "-cp", os.path.join(self.jars or need("PGSTOCK_KAFKA"), "*"),
                main, *args]

    def listeners(self):
        """[(name, address, advertised address, protocol)]"""
        inner = f"{HOST}:{self.inner_port}"
        return [("DIRECT", self.brokers, self.brokers, "PLAINTEXT"),
                ("PROXIED", inner, self.proxied_brokers or inner, "PLAINTEXT")]

    def init(self):
        listeners = self.listeners()
        controller = f"{HOST}:{self.controller_port}"
        bound = ",".join(f"{name}://{at}" for name, at, _, _ in listeners)
        public = ",".join(f"{name}://{at}" for name, _, at, _ in listeners)
        kinds = ",".join(f"{name}:{kind}" for name, _, _, kind in listeners)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners={bound},CONTROLLER://{controller}
advertised.listeners={public}
listener.security.protocol.map={kinds},CONTROLLER:PLAINTEXT
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
log.dirs={self.directory}/data
auto.create.topics.enable=false
num.partitions=3
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=2097152
message.max.bytes=4194304
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
{self.settings}""")
        run_tool(self.java("kafka.tools.StorageTool", "format", "-t",
                           "4L6g3nShT-eMCtK--X86sw", "-c", self.config,
                           *self.format_args))
        return self

    def start(self, timeout=180):
        self.spawn(self.java("kafka.Kafka", self.config))
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=180):
        def up():
            assert self.running, f"kafka ended\n{self.tail()}"
            try:
                return self.admin.list_topics(timeout=1).brokers
            except Exception:       # the client has no narrower class
                return False
        wait_until(up, timeout, lambda: f"kafka is not up\n{self.tail()}")

    def stop(self):
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait_end(60)

    def close(self):
        """End it; its records are as docs/schemas describes. One that was
        stopped is started again for that."""
        try:
            if self.process and not self.running:
                self.start()
            faults = self.running and self.faults(*self.topics())
        finally:
            super().close()
            if self.proxy:
                self.proxy.close()
        schemas.must_hold(faults, self.directory)

    def faults(self, *topics):
        """What is wrong with the records of these topics."""
        if not topics:
            return []
        with Examiner(self.brokers, topics) as examiner:
            examiner.read_to_end(240)
            return examiner.faults

    @cached_property
    def admin(self):
        """One client for all requests: its requests die with it."""
        return AdminClient({"bootstrap.servers": self.brokers, "log_level": 0,
                            "reconnect.backoff.max.ms": 200})

    def topics(self):
        names = self.admin.list_topics(timeout=10).topics
        return {name for name in names if not name.startswith("__")}

    def create_topics(self, *names, partitions=3, **config):
        config = {key.replace("_", "."): str(value)
                  for key, value in config.items()}
        futures = self.admin.create_topics(
            [NewTopic(name, partitions, 1, config=config) for name in names])
        for future in futures.values():
            future.result(30)
        wait_until(lambda: self.topics() >= set(names), 30,
                   f"the broker does not know {names}")

    def delete_topics(self, *names):
        """Delete them; their records are as docs/schemas describes."""
        if not names:
            return
        faults = self.faults(*names)
        for future in self.admin.delete_topics(list(names)).values():
            future.result(30)
        wait_until(lambda: not self.topics() & set(names), 30,
                   f"topics {names} are still there")
        schemas.must_hold(faults, self.directory)

    def add_partitions(self, name, count):
        """Wait until the topic has so many."""
        for future in self.admin.create_partitions(
                [NewPartitions(name, count)]).values():
            future.result(30)

    def alter_topic(self, name, **config):
        resource = ConfigResource("topic", name, set_config={
            key.replace("_", "."): str(value) for key, value in config.items()})
        for future in self.admin.alter_configs([resource]).values():
            future.result(30)

    def topic_config(self, name):
        resource = ConfigResource("topic", name)
        (future,) = self.admin.describe_configs([resource]).values()
        return {entry.name: entry.value for entry in future.result(30).values()}

    def acl(self, *args):
        """The equivalent of kafka-acls.sh."""
        run_tool(self.java("org.apache.kafka.tools.AclCommand",
                           "--bootstrap-server", self.brokers, *args))

    def delete_records(self, place):
        """Let a partition begin at an offset, as retention does."""
        path = os.path.join(self.directory, "delete-records.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "partitions": [
                {"topic": place.topic, "partition": place.partition,
                 "offset": place.offset}]}, file)
        os.chmod(path, 0o644)
        run_tool(self.java("org.apache.kafka.tools.DeleteRecordsCommand",
                           "--bootstrap-server", self.brokers,
                           "--offset-json-file", path))

    def producer(self, **config):
        return producer(self.brokers, **config)

    def tail(self, *topics, lines=25):
        """A reader of these topics from their start; of the log without
        topics."""
        return Tail(self.brokers, topics) if topics else super().tail(lines)

    def ends(self, *topics):
        """{(topic, partition): the next offset}"""
        with self.tail(*topics) as tail:
            return tail.ends()

    def count(self, topic):
        """The number of records of a topic."""
        return sum(self.ends(topic).values())

    def consume(self, *topics):
        """All records that these topics hold now."""
        with self.tail(*topics) as tail:
            return tail.read_to_end()


class Relay(Server):
    """One relay, run from a copy of the binary that the account can reach."""

    def __init__(self, directory, conninfo, brokers, config=None,
                 detach=False):
        super().__init__(directory, detach)
        self.port = self.take_port()
        self.config = {"relay": {}, "postgres": {}, "kafka": {}, "outbox": {},
                       "inbox": {}, "http": {}}
        self.config["postgres"]["conninfo"] = conninfo
        self.config["kafka"]["bootstrap.servers"] = brokers
        self.config["http"]["listen"] = f"{HOST}:{self.port}"
        for section, keys in (config or {}).items():
            self.config.setdefault(section, {}).update(keys)
        self.config_path = os.path.join(directory, "relay.conf")
        self.binary = os.path.join(directory, "pgstock-relay")
        shutil.copy(need("PGSTOCK_RELAY"), self.binary)

    def write_config(self):
        write_private(self.config_path, "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n"
                                       for key, value in keys.items())
            for section, keys in self.config.items()))

    def start(self, wait="/readyz", timeout=30, env=None):
        self.write_config()
        self.spawn([self.binary, "run", "--config", self.config_path], env)
        if wait:
            self.wait_ok(wait, timeout)
        return self

    def wait_ok(self, path, timeout=30):
        def ok():
            assert self.running, f"the relay ended\n{self.tail()}"
            return self.get(path)[0] == 200
        wait_until(ok, timeout, lambda: f"{path}: {self.get(path)}\n"
                                        f"{self.tail()}")

    def command(self, *args, env=None):
        """Run another subcommand with this configuration."""
        self.write_config()
        return self.run_binary(*args, "--config", self.config_path, env=env)

    def run_binary(self, *args, env=None, timeout=60):
        return subprocess.run(
            as_server([self.binary, *args]), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=timeout, cwd="/",
            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})

    def terminate(self, timeout=30):
        """SIGTERM: drain; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_end(timeout)

    def get(self, path):
        """(status, body) of one HTTP request; status 0: no server answers."""
        return http_get(HOST, self.port, path, timeout=5)

    def peak_kb(self):
        """The most memory it has had resident."""
        with open(f"/proc/{self.pid}/status", encoding="utf8") as file:
            return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))

    SAMPLE = re.compile(r'^pgstock_(\w+?)(?:\{(.*)\})? (\S+)$')
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def samples(self):
        """[(name without prefix, labels, value)] of /metrics."""
        status, body = self.get("/metrics")
        assert status == 200, body
        found = []
        for line in body.splitlines():
            match = self.SAMPLE.match(line)
            if match:
                name, labels, value = match.groups()
                found.append((name, dict(self.LABEL.findall(labels or "")),
                              float(value)))
        return found

    def metric(self, name, **labels):
        """The sum of the samples with this name and these labels."""
        return sum(value for sample, have, value in self.samples()
                   if sample == name and labels.items() <= have.items())
