# SPDX-License-Identifier: PostgreSQL
"""P6: no secret is shown anywhere, and no role has more rights than it
needs."""

import os

import psycopg2
import pytest

from checks import inbox_results, of_type
from kafkaio import delivered, send
from process import wait_until, write_private
from test_inbox import order

PASSWORD = "correct-horse-battery"
BROKER_SECRET = "staple-of-the-broker"
SECRETS = (PASSWORD, BROKER_SECRET)


@pytest.fixture
def role(db, request):
    """A login role that must give its password, with one access level."""
    name = f"{db.name}_{request.param}"
    db.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    db.require_password(name)
    db.sql("SELECT grant_stock_access(%s, %s)", (name, request.param))
    yield name
    db.sql(f"DROP OWNED BY {name}")
    db.sql(f"DROP ROLE {name}")


def denied(db, role, statement):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.sql(statement, user=role, password=PASSWORD)


@pytest.mark.parametrize("role", ["relay"], indirect=True)
def test_relay_level_runs_the_relay(db, role, kafka, start_relay):
    """No superuser, no REPLICATION, no table: the level suffices for both
    directions, and for nothing else."""
    db.sql("SELECT receive_stock('book', 10)")
    relay = start_relay({"inbox": {"topics": "order-created"}},
                        conninfo=db.conninfo(user=role, password=PASSWORD))
    out = kafka.producer()
    send(out, "order-created", order(1), key="o-1")
    send(out, "order-created", b"poison", key="o-1")
    delivered(out)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: of_type(r, "StockReserved"), 15,
                   "the answer's event")
    wait_until(lambda: inbox_results(db) == {"applied": 1, "dead": 1}, 10,
               lambda: f"{inbox_results(db)}")
    assert relay.command("check").returncode == 0
    denied(db, role, "SELECT reserve_stock('book', 1, 'o-9')")
    denied(db, role, "SELECT * FROM stock_levels")
    for (table,) in db.sql("SELECT oid::regclass::text FROM pg_class WHERE"
                           " relnamespace = 'pgstock_internal'::regnamespace"
                           " AND relkind = 'r'"):
        denied(db, role, f"SELECT FROM {table}")
        denied(db, role, f"DELETE FROM {table}")


@pytest.mark.parametrize("role", ["app"], indirect=True)
def test_app_level_reserves_and_no_more(db, role):
    db.sql("SELECT receive_stock('book', 10)")
    mine = {"user": role, "password": PASSWORD}
    db.sql("SELECT reserve_stock('book', 1, 'o-1')", **mine)
    db.sql("SELECT * FROM try_reserve_order('o-2', '[{\"product_id\": \"book\","
           " \"quantity\": 2}]')", **mine)
    db.sql("SELECT confirm_stock('o-1'), release_stock('o-2')", **mine)
    db.sql("SELECT rollback_stock('o-1'), publish_event('t', 'k', '{}')",
           **mine)
    assert db.value("SELECT available FROM stock_levels", **mine) == 10
    assert db.value("SELECT DISTINCT actor FROM stock_movements"
                    " WHERE order_id = 'o-1'") == role, "not the definer"
    denied(db, role, "SELECT receive_stock('book', 1)")
    denied(db, role, "SELECT * FROM stock_movements")
    denied(db, role, "SELECT * FROM stock_outbox")
    denied(db, role, "SELECT pgstock_internal.relay_lead()")
    denied(db, role, "UPDATE pgstock_internal.level SET on_hand = 1000")
    db.sql("SELECT grant_stock_access(%s, 'none')", (role,))
    denied(db, role, "SELECT reserve_stock('book', 1, 'o-3')")


def arguments_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode().replace("\0", " ")


def assert_clean(where, text):
    for secret in SECRETS:
        assert secret not in text, f"{where} shows {secret}"


@pytest.mark.parametrize("role", ["relay"], indirect=True)
def test_no_secret_is_shown(db, role, kafka, start_relay):
    """At log level debug, while all is well, after a wrong password, and after
    a reload with a mistake in the line that holds a secret."""
    good = db.conninfo(user=role, password=PASSWORD)
    relay = start_relay({"relay": {"log_level": "debug"},
                         "kafka": {"sasl.username": "u",
                                   "sasl.password": BROKER_SECRET}},
                        conninfo=good)
    db.sql("SELECT receive_stock('book', 10)")
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 10,
               "the event is out")
    for path in ("/metrics", "/status", "/readyz", "/livez"):
        assert_clean(path, relay.get(path)[1])
    assert_clean("the argument list", arguments_of(relay.pid))
    for args in (["check"], ["config"]):
        done = relay.command(*args)
        assert_clean(args[0], done.stdout + done.stderr)
    relay.config["kafka"]["sasl.pasword"] = BROKER_SECRET
    assert_clean("a wrong key's message", relay.command("run").stderr)
    del relay.config["kafka"]["sasl.pasword"]
    relay.config["postgres"]["conninfo"] = good + f" bogus={PASSWORD}"
    broken = relay.command("run")
    assert broken.returncode == 2
    assert_clean("a wrong conninfo's message", broken.stderr)
    relay.kill9()
    relay.config["postgres"]["conninfo"] = good + "x"
    relay.start(wait="/livez")
    wait_until(lambda: "authentication failed" in relay.log(), 15,
               lambda: f"the wrong password is refused\n{relay.tail()}")
    assert_clean("/readyz", relay.get("/readyz")[1])
    assert_clean("the relay's log", relay.log())
    assert_clean("the server's log", db.pg.log())
    with open(relay.config_path, encoding="utf-8") as file:
        assert PASSWORD in file.read(), "the test looked for what is there"
    assert os.stat(relay.config_path).st_mode & 0o077 == 0


@pytest.mark.parametrize("role", ["relay"], indirect=True)
def test_password_from_a_file(db, role, kafka, start_relay, run):
    """PGPASSFILE works as for every client of libpq."""
    path = os.path.join(run, "passfile")
    write_private(path, f"127.0.0.1:*:*:{role}:{PASSWORD}\n")
    start_relay(conninfo=db.conninfo(user=role), env={"PGPASSFILE": path})
