# SPDX-License-Identifier: PostgreSQL
"""The relay's command line and configuration: every mistake is named, before
anything is touched, with an exit code that systemd can act on."""

import os
import socket
import subprocess

import pytest

from process import PortLock, as_server, wait_until

OK, RUNTIME, USAGE, INCOMPATIBLE = range(4)


@pytest.fixture
def relay(db, kafka, relays):
    return relays(db.conninfo(), kafka.brokers)


@pytest.fixture
def default_port():
    """For a relay without [http] listen."""
    lock = PortLock.wait(29187)
    yield
    lock.release()


@pytest.mark.parametrize("section, key, value, named", [
    ("outbox", "poll_intervall", "1s", "poll_interval"),
    ("inbox", "topic", "a", "topics"),
    ("outbx", "retention", "7d", "outbox"),
    ("outbox", "poll_interval", "10", "poll_interval"),
    ("outbox", "poll_interval", "-1s", "poll_interval"),
    ("outbox", "poll_interval", "1 fortnight", "poll_interval"),
    ("outbox", "mode", "exactly-once", "idempotent"),
    ("outbox", "batch_rows", "0", "batch_rows"),
    ("outbox", "header_profile", "fancy", "cloudevents"),
    ("relay", "log_format", "xml", "json"),
    ("http", "listen", "nowhere", "listen"),
    ("kafka", "linger.mss", "5", "linger.mss"),
    ("kafka", "compression.type", "best", "compression.type"),
    ("kafka", "test.mock.num.brokers", "3", "no event would leave"),
    ("http", "listen", "127.0.0.1:251016", "not a port"),
])
def test_bad_configuration(relay, section, key, value, named):
    relay.config.setdefault(section, {})[key] = value
    done = relay.command("run")
    assert done.returncode == USAGE, done.stderr
    assert named in done.stderr
    assert relay.command("check").returncode == USAGE


@pytest.mark.parametrize("args", [
    [], ["fly"], ["run", "--wings"], ["run", "--config"], ["run", "extra"],
    ["run", "--config", "/nonexistent.conf"]], ids=" ".join)
def test_bad_usage(relay, args):
    done = relay.run_binary(*args)
    assert done.returncode == USAGE
    assert done.stderr


@pytest.mark.usefixtures("default_port")
def test_sample_is_valid(relay):
    """The output of `config` is a whole configuration: every key, its default,
    and nothing that `run` would refuse."""
    done = relay.run_binary("config")
    assert done.returncode == OK
    for key in ("conninfo", "poll_interval", "retry_delays", "order_wait",
                "header_profile", "dlq_topic", "listen", "first_offset"):
        assert key in done.stdout
    relay.write_config()
    with open(relay.config_path, "w", encoding="utf-8") as file:
        file.write(done.stdout)
    checked = relay.run_binary("check", "--config", relay.config_path)
    assert checked.returncode != USAGE, checked.stderr


def test_port_is_taken(relay):
    """The address is named, and systemd does not try again and again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        relay.config["http"]["listen"] = address
        done = relay.command("run")
    assert done.returncode == USAGE, done.stderr
    assert f'could not listen on "{address}": Address already in use' in \
        done.stderr
    assert '"listen" in [http]' in done.stderr


def test_address_is_not_assigned(relay):
    """It may be assigned later, so systemd does try again."""
    relay.config["http"]["listen"] = "192.0.2.7:29187"
    done = relay.command("run")
    assert done.returncode == RUNTIME, done.stderr
    assert 'could not listen on "192.0.2.7:29187": Cannot assign' in \
        done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="looks into the relay's /proc")
def test_closed_streams(relay):
    """A socket must not get the number of standard error: the log would be
    written to a server."""
    relay.write_config()
    process = subprocess.Popen(as_server([
        "sh", "-c", 'exec "$0" run --config "$1" <&- >&- 2>&-', relay.binary,
        relay.config_path]), cwd="/")
    try:
        wait_until(lambda: relay.get("/readyz")[0] == 200, 20, "it is ready")
        assert {os.readlink(f"/proc/{process.pid}/fd/{n}")
                for n in range(3)} == {"/dev/null"}
    finally:
        process.terminate()
        assert process.wait(20) == OK


@pytest.mark.parametrize("limit", [4, 8])
def test_too_few_descriptors(relay, limit):
    """It is no crash: systemd starts the relay again, and the log has why."""
    relay.write_config()
    done = subprocess.run(as_server([
        "sh", "-c", f'ulimit -n {limit}; exec "$0" run --config "$1"',
        relay.binary, relay.config_path]), cwd="/", timeout=30, text=True,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert done.returncode == RUNTIME, done.stderr
    assert "Too many open files" in done.stderr


def test_version(relay):
    done = relay.run_binary("--version")
    assert done.returncode == OK
    assert done.stdout.startswith("pgstock-relay ")


@pytest.mark.usefixtures("default_port")
def test_check_of_a_good_one(relay, db, kafka):
    """And without a file: two options suffice."""
    done = relay.command("check")
    assert done.returncode == OK, done.stdout + done.stderr
    done = relay.run_binary("check", "--postgres", db.conninfo(),
                            "--kafka", kafka.brokers)
    assert done.returncode == OK, done.stdout + done.stderr


def test_check_of_what_is_away(relay, kafka):
    """An unreachable peer is not a wrong configuration."""
    relay.config["postgres"]["conninfo"] = \
        "host=127.0.0.1 port=1 dbname=x user=x"
    done = relay.command("check")
    assert done.returncode == RUNTIME, done.stdout + done.stderr


def test_check_names_missing_topics(relay, kafka):
    relay.config["inbox"]["topics"] = "order-created, not-there"
    done = relay.command("check")
    assert done.returncode == RUNTIME, done.stdout + done.stderr
    assert "not-there" in done.stdout + done.stderr


def test_password_in_arguments_is_refused(relay, kafka):
    """Every user of the machine can read arguments, in ps."""
    for conninfo in ("host=127.0.0.1 password=hunter2",
                     "postgresql://x:hunter2@127.0.0.1/x"):
        done = relay.run_binary("check", "--postgres", conninfo,
                                "--kafka", kafka.brokers)
        assert done.returncode == USAGE
        assert "hunter2" not in done.stdout + done.stderr


def test_no_secret_in_what_librdkafka_logs(relay):
    """With all that its "debug" has, its configuration included, and where the
    command for a ticket of Kerberos fails; it masks its own passwords only."""
    relay.config["relay"]["log_level"] = "debug"
    relay.config["kafka"] |= {
        "debug": "all", "sasl.password": "hunter2",
        "ssl.key.password": "hunter2", "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "GSSAPI",
        "sasl.kerberos.kinit.cmd": "false hunter2"}
    relay.start(wait="/livez")
    wait_until(lambda: "client.id = " in relay.log(), 20, relay.tail)
    wait_until(lambda: "warning producer: SASLREFRESH" in relay.log(), 20,
               relay.tail)
    relay.terminate()
    assert "hunter2" not in relay.log()


def test_incompatible_extension(relay, db):
    """Another relay_api means other functions: exit at once, with its number,
    and with a code after which systemd does not restart."""
    definition = db.value("SELECT pg_get_functiondef("
                          "'pgstock_internal.relay_hello()'::regprocedure)")
    assert "SELECT 1, " in definition
    db.sql(definition.replace("SELECT 1, ", "SELECT 4711, "))
    relay.start(wait=None)
    assert relay.wait_end(15) == INCOMPATIBLE, relay.tail()
    named = "speaks relay_api 4711, but pgstock-relay"
    assert named in relay.log()
    for command in ("check", "status"):
        done = relay.command(command)
        assert done.returncode == INCOMPATIBLE
        assert named in done.stdout + done.stderr


def test_no_extension_yet(pg, relays, kafka):
    """The database exists, CREATE EXTENSION has not run: the error says so."""
    relay = relays("", kafka.brokers)
    db = pg.create_database("bare", extension=False)
    try:
        relay.config["postgres"]["conninfo"] = db.conninfo()
        done = relay.command("check")
        assert done.returncode in (RUNTIME, INCOMPATIBLE)
        assert "pgstock" in done.stdout + done.stderr
    finally:
        db.drop()


def test_missing_topics_are_asked_for(relay, db, kafka):
    """A topic to publish to is created with the broker's defaults; one to
    consume is not: a typo in [inbox] must not create an empty topic."""
    kafka.delete_topics("stock-events", "stock-freeze-failed",
                        "payment-success")
    relay.config["inbox"]["topics"] = "order-created, payment-success"
    relay.start(wait="/livez")
    db.sql("SELECT receive_stock('book', 1)")
    with_events = {"stock-events", "stock-freeze-failed"}
    wait_until(lambda: with_events <= kafka.topics(), 10, "topics are made")
    with kafka.tail("stock-events") as tail:
        tail.until(len, 10, "the event")
    assert "payment-success" not in kafka.topics()
    wait_until(lambda: "payment-success" in relay.log(), 10,
               lambda: f"the log names what is not there\n{relay.tail()}")
