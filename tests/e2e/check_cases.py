# SPDX-License-Identifier: PostgreSQL
"""For test_check.py: the mistakes that newcomers make, one after another.

Each case alters one thing of a sound system, and restores it.
"""

import json
import os
import re
import socket
import time
from contextlib import ExitStack, closing, contextmanager

from confluent_kafka import Consumer, KafkaException, TopicPartition

from cluster import HOST, Database, Relay
from conftest import INBOX
from kafkaio import delivered, send
from process import Proxy, wait_until, write_private
from test_session import Pooler

ROLE = "check_relay"
PLAIN = {"options": "-c default_transaction_read_only=off"}

CASES = {}


class Site:
    """What the cases share: servers, a database, a role, a configuration."""

    def __init__(self, pg, kafka, directory):
        self.pg, self.kafka = pg, kafka
        self.db = pg.create_database("checked")
        self.db.sql(f"CREATE ROLE {ROLE} LOGIN")
        self.db.sql(f"SELECT grant_stock_access('{ROLE}', 'relay')")
        self.relay = Relay(directory, self.db.conninfo(user=ROLE),
                           kafka.brokers,
                           {"inbox": {"topics": ", ".join(INBOX)}})

    def close(self):
        self.relay.close()
        self.db.drop()
        Database(self.pg, "postgres").sql(f"DROP ROLE {ROLE}")

    def check(self, env=None):
        """(exit code, {name: finding}) of what is not as it should be."""
        done = self.relay.command("check", "--json", env=env)
        return found_in(done)

    @contextmanager
    def configured(self, **sections):
        """With other settings in these sections, to the end of the block."""
        before = {name: dict(keys) for name, keys in self.relay.config.items()}
        for name, keys in sections.items():
            self.relay.config.setdefault(name, {}).update(keys)
        try:
            yield
        finally:
            self.relay.config = before

    def conninfo(self, **more):
        return self.configured(postgres={
            "conninfo": self.db.conninfo(**{"user": ROLE, **more})})

    def altered(self, topic, **config):
        return altered(self.kafka, topic, config)

    @contextmanager
    def sql(self, statement, restore, **kwargs):
        self.db.sql(statement)
        try:
            yield
        finally:
            self.db.sql(restore, **kwargs)


def found_in(done):
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    severities = {finding["severity"] for finding in report["findings"]}
    assert report["status"] == ("error" if "error" in severities else
                                "warning" if "warning" in severities else "ok")
    found = {}
    for finding in report["findings"]:
        if finding["severity"] == "ok":
            assert finding.keys() == {"check", "severity", "what"}
            continue
        assert all(finding[key] for key in ("what", "why", "do")), finding
        found.setdefault(finding["check"], finding)
    return done.returncode, found


@contextmanager
def altered(kafka, topic, config):
    def shows(wanted):
        now = kafka.topic_config(topic)
        return all(now[name.replace("_", ".")] == value
                   for name, value in wanted.items())

    before = kafka.topic_config(topic)
    kafka.alter_topic(topic, **config)
    wait_until(lambda: shows(config), 10, "the broker has altered the topic")
    try:
        yield
    finally:
        kafka.alter_topic(topic)
        wait_until(lambda: shows({name: before[name.replace("_", ".")]
                                  for name in config}), 10, "restored")


@contextmanager
def topics(site, **partitions):
    """With more topics to consume, and these alone in the configuration."""
    names = [name.replace("_", "-") for name in partitions]
    for name, count in zip(names, partitions.values()):
        site.kafka.create_topics(name, partitions=count)
    try:
        with site.configured(inbox={"topics": ", ".join(names),
                                    "group": f"group-of-{names[0]}"}):
            yield
    finally:
        site.kafka.delete_topics(*names)


def case(name, code, *texts):
    """What a misconfiguration is to be called; decorates a function that has
    it in force where it yields."""
    def add(function):
        label = function.__name__
        assert label not in CASES
        CASES[label] = (name, code, texts, contextmanager(function))
        return function
    return add


# ---- host --------------------------------------------------------------------

@case("http_port", 2, "cannot listen on", "Address already in use", "ss -ltnp")
def port_is_taken(site):
    with socket.create_server((HOST, site.relay.port)):
        yield


@case("http_port", 2, "another pgstock-relay has it")
def port_is_another_relays(site):
    site.relay.start(wait="/livez")
    try:
        with site.configured(relay={"name": "second"}):
            yield
    finally:
        site.relay.terminate()


@case("http_address", 1, "192.0.2.7", "Cannot assign requested address")
def address_is_anothers(site):
    with site.configured(http={"listen": "192.0.2.7:9187"}):
        yield


# ---- session -----------------------------------------------------------------

@case("database", 1, "no-such-host.invalid", "getent hosts")
def host_is_unknown(site):
    with site.conninfo(host="no-such-host.invalid"):
        yield


@case("database", 1, "Connection refused", "listen_addresses")
def nothing_listens(site):
    with site.conninfo(port=1):
        yield


@case("database", 1, 'database "shopp" does not exist', "dbname")
def database_is_misspelled(site):
    with site.conninfo(dbname="shopp"):
        yield


@case("database", 1, 'role "nobody_here" does not exist', "CREATE ROLE")
def role_is_missing(site):
    with site.conninfo(user="nobody_here"):
        yield


@case("database", 1, "password authentication failed", "in conninfo; a")
def password_is_wrong(site):
    site.db.require_password(ROLE)
    site.db.sql(f"ALTER ROLE {ROLE} PASSWORD 'right'")
    with site.conninfo(password="wrong"):
        yield
    site.db.sql(f"REVOKE needs_password FROM {ROLE}")


@case("database", 1, "no password supplied", "PGPASSFILE")
def password_is_missing(site):
    site.db.require_password(ROLE)
    yield
    site.db.sql(f"REVOKE needs_password FROM {ROLE}")


@case("database", 1, "no pg_hba.conf entry", "pg_hba.conf")
def host_is_not_allowed(site):
    path = os.path.join(site.pg.data, "pg_hba.conf")
    with open(path, encoding="ascii") as file:
        before = file.read()

    def put(text):
        write_private(path, text)
        site.db.sql("SELECT pg_reload_conf()")

    put(f"host all postgres {HOST}/32 trust\n")
    wait_until(lambda: site.check()[0] == 1, 10, "the server reads it")
    yield
    put(before)
    wait_until(lambda: site.check()[0] == 0, 10, "the server reads it")


@case("database", 1, "too many connections for role", "CONNECTION LIMIT")
def role_has_no_session_left(site):
    with site.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0",
                  f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"):
        yield


@case("connection_limit", 1, "CONNECTION LIMIT 1", "ALTER ROLE")
def role_has_one_session(site):
    with site.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1",
                  f"ALTER ROLE {ROLE} CONNECTION LIMIT -1"):
        yield


@case("extension", 1, "not installed in database plain", "CREATE EXTENSION")
def extension_is_missing(site):
    plain = site.pg.create_database("plain", extension=False)
    with site.conninfo(dbname="plain"):
        yield
    plain.drop()


@case("extension_update", 3, "version 0.9", "ALTER EXTENSION pgstock UPDATE")
def extension_is_old(site):
    version = site.db.value("SELECT extversion FROM pg_extension"
                            " WHERE extname = 'pgstock'")
    with site.sql("UPDATE pg_extension SET extversion = '0.9'"
                  " WHERE extname = 'pgstock'",
                  f"UPDATE pg_extension SET extversion = '{version}'"
                  " WHERE extname = 'pgstock'"):
        yield


@case("access", 1, ROLE, "public.grant_stock_access", "'relay'")
def role_has_no_rights(site):
    with site.sql(f"SELECT grant_stock_access('{ROLE}', 'none')",
                  f"SELECT grant_stock_access('{ROLE}', 'relay')"):
        yield


@case("access", 1, ROLE, "'relay'")
def role_has_another_level(site):
    with site.sql(f"SELECT grant_stock_access('{ROLE}', 'app')",
                  f"SELECT grant_stock_access('{ROLE}', 'relay')"):
        yield


@case("rights", 1, "relay_retry", "grant_stock_access")
def one_right_is_missing(site):
    with site.sql("REVOKE ALL ON FUNCTION pgstock_internal.relay_retry"
                  f" FROM {ROLE}",
                  f"SELECT grant_stock_access('{ROLE}', 'relay')"):
        yield


def replaced(site, function, body):
    """With another body of a function of the extension."""
    before = site.db.value("SELECT pg_get_functiondef(%s::regprocedure)",
                           (f"pgstock_internal.{function}",))
    head = before[:before.index("\n LANGUAGE")]
    return site.sql(f"{head} LANGUAGE sql SECURITY DEFINER AS $${body}$$",
                    before)


@case("extension_api", 3, "relay_api 4711", "Install the pgstock-relay")
def extension_is_incompatible(site):
    before = site.db.value("SELECT pg_get_functiondef("
                           "'pgstock_internal.relay_hello()'::regprocedure)")
    with site.sql(before.replace("SELECT 1, ", "SELECT 4711, "), before):
        yield


@case("pooler", 2, "connection pooler", "lead to PostgreSQL itself")
def pooler_is_between(site):
    pooler = Pooler(os.path.join(site.relay.directory, "pooler"), site.pg,
                    "transaction", "options, extra_float_digits").start()
    with closing(pooler), site.conninfo(port=pooler.port):
        yield


class Rewriter(Proxy):
    """A proxy that replaces bytes of what the server sends, by as many."""

    def __init__(self, port, pattern, replacement):
        self.change = re.compile(pattern), replacement
        super().__init__(port)

    def _pump(self, source, sink):
        pattern, replacement = self.change
        try:
            while data := source.recv(self.CHUNK):
                sink.sendall(pattern.sub(replacement, data))
        except OSError:
            pass
        self._close(source, sink)


@contextmanager
def server_says(site, pattern, replacement):
    with closing(Rewriter(site.pg.port, pattern, replacement)) as proxy, \
            site.conninfo(port=proxy.port):
        yield


@case("server_version", 3, "older than 15", "pg_upgrade")
def server_is_old(site):
    with server_says(site, rb"(server_version\0)15", rb"\g<1>14"):
        yield


@case("server_update", 0, "version 15.9", "15.13 or later")
def server_is_not_updated(site):
    with server_says(site, rb"(server_version\0)15\.\d\d", rb"\g<1>15.09"):
        yield


# ---- the extension -----------------------------------------------------------

@case("superuser", 0, "postgres is a superuser", "CREATE ROLE pgstock_relay")
def relay_is_superuser(site):
    with site.conninfo(user="postgres"):
        yield


@case("extension_schema", 0, "schema stock", "search_path")
def extension_is_elsewhere(site):
    other = site.pg.create_database("other", extension=False)
    other.sql("CREATE SCHEMA stock")
    other.sql("CREATE EXTENSION pgstock SCHEMA stock")
    other.sql(f"SELECT stock.grant_stock_access('{ROLE}', 'relay')")
    with site.conninfo(dbname="other"):
        yield
    other.drop()


@case("publication", 0, "publication all_of_it", "ALTER PUBLICATION")
def publication_covers_the_tables(site):
    with site.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES",
                  "DROP PUBLICATION all_of_it"):
        yield


@case("notifications", 1, "none arrived")
def notifications_are_lost(site):
    with replaced(site, "relay_echo()", ""):
        yield


@case("relay_name", 0, "4 sessions", "[relay] name")
def two_relays_have_one_name(site):
    with ExitStack() as sessions:
        for _ in range(4):
            sessions.enter_context(closing(site.db.connect(
                application_name="pgstock-relay main")))
        yield


@case("position", 1, "belongs to another history", "adopt")
def database_was_restored(site):
    with site.sql("UPDATE pgstock_internal.incarnation SET restored = true",
                  "UPDATE pgstock_internal.incarnation SET restored = false"):
        yield


# ---- the broker --------------------------------------------------------------

@case("broker", 1, "no-such-host.invalid:9092", "getent hosts")
def broker_is_unknown(site):
    with site.configured(kafka={
            "bootstrap.servers": "no-such-host.invalid:9092"}):
        yield


@case("broker", 1, f"{HOST}:1", "Connection refused", "listeners")
def broker_does_not_listen(site):
    with site.configured(kafka={"bootstrap.servers": f"{HOST}:1"}):
        yield


@case("broker_address", 1, "Connection refused", "advertised.listeners")
def advertised_address_is_wrong(site):
    proxy = site.kafka.proxy
    proxy.cut()
    with site.configured(kafka={
            "bootstrap.servers": f"{HOST}:{site.kafka.inner_port}"}):
        yield
    proxy.restore()


# ---- topics to publish to ----------------------------------------------------

@case("topic_bytes", 0, "stock-events: max.message.bytes=500000",
      "pgstock.max_event_bytes is 1000000", "--add-config max.message.bytes=")
def topic_takes_small_events(site):
    with site.altered("stock-events", max_message_bytes="500000"):
        yield


@case("dead_letter_bytes", 0, "order-created_dlq", "4194304")
def dead_letters_must_be_small(site):
    with site.altered("order-created_dlq", max_message_bytes="2000000"):
        yield


@case("old_events", 0, "stock-events", "message.timestamp.before.max.ms")
def old_events_are_refused(site):
    with site.altered("stock-events", message_timestamp_before_max_ms="1000"):
        yield


@case("isr_impossible", 1, "stock-events: min.insync.replicas=2",
      "it has 1 replicas", "min.insync.replicas=1")
def more_replicas_are_needed(site):
    with site.altered("stock-events", min_insync_replicas="2"):
        yield


@case("unclean_election", 0, "stock-events", "--add-config unclean.leader")
def leader_may_lack_records(site):
    with site.altered("stock-events", unclean_leader_election_enable="true"):
        yield


@case("compaction", 0, "stock-events", "cleanup.policy=delete")
def events_are_compacted(site):
    with site.altered("stock-events", cleanup_policy="compact"):
        yield


@case("compaction", 0, "order-created", "cleanup.policy=delete")
def messages_are_compacted(site):
    with site.altered("order-created", cleanup_policy="compact"):
        yield


# ---- topics to consume -------------------------------------------------------

@case("topic_missing", 1, "payment-sucess: missing",
      "kafka-topics.sh --bootstrap-server")
def topic_is_misspelled(site):
    with site.configured(inbox={"topics": "order-created, payment-sucess"}):
        yield


@contextmanager
def members(site, *client_ids):
    """Other clients in the relay's group, which have joined it."""
    group = site.relay.config["inbox"]["group"]
    names = site.relay.config["inbox"]["topics"].split(", ")
    with ExitStack() as stack:
        consumers = []
        for client_id in client_ids:
            consumers.append(Consumer({
                "bootstrap.servers": site.kafka.brokers, "group.id": group,
                "client.id": client_id, "log_level": 0}))
            stack.callback(consumers[-1].close)
            consumers[-1].subscribe(names)

        def joined():
            for consumer in consumers:
                consumer.poll(0.05)
            try:
                found = site.kafka.admin.list_groups(group, timeout=10)
            except KafkaException:
                return False            # the coordinator is loading
            return [(one.state, len(one.members)) for one in found] == \
                [("Stable", len(client_ids))]
        wait_until(joined, 30, "they are members")
        yield


@case("group_members", 0, "1 of its 1 members", '"billing"', "[inbox] group")
def group_has_other_members(site):
    with topics(site, order_created_2=3), members(site, "billing"):
        yield


@case("partitions", 0, "2 relays", "at most 1 partitions", "--partitions 2")
def partitions_are_too_few(site):
    with topics(site, narrow=1), \
            members(site, "pgstock-relay-a", "pgstock-relay-b"):
        yield


@case("group_offsets", 0, "offset 1 is committed", "has not read that topic")
def group_had_another_use(site):
    with topics(site, used=1):
        producer = site.kafka.producer()
        send(producer, "used", {})
        delivered(producer)
        with closing(Consumer({
                "bootstrap.servers": site.kafka.brokers, "log_level": 0,
                "group.id": site.relay.config["inbox"]["group"]})) as consumer:
            consumer.commit(offsets=[TopicPartition("used", 0, 1)],
                            asynchronous=False)
        yield


@case("retention", 0, "order-created: retention.ms=2592000000",
      "dedup_retention = 720h", "604800000")
def messages_outlive_their_ids(site):
    with site.altered("order-created", retention_ms="2592000000"):
        yield


@case("retention", 0, "for ever")
def messages_are_kept_for_ever(site):
    with site.altered("order-created", retention_ms="-1"):
        yield


@case("timestamps", 0, "order-created", "CreateTime")
def broker_sets_the_times(site):
    with site.altered("order-created",
                      message_timestamp_type="LogAppendTime"):
        yield


@case("message_times", 0, "offset 0 of partition 0", "ahead of this host",
      "that record's producer")
def producers_clock_is_ahead(site):
    with topics(site, future=1):
        producer = site.kafka.producer()
        send(producer, "future", {},
             timestamp=int(time.time() * 1000) + 600000)
        delivered(producer)
        yield


@case("loop", 0, "stock-events", "published to")
def events_are_read_back(site):
    with site.configured(inbox={"topics": "stock-events"}):
        yield


@case("handlers", 0, "unheard", "register_handler", "bind_topic")
def nothing_handles_a_topic(site):
    with topics(site, unheard=1):
        yield
