# SPDX-License-Identifier: PostgreSQL
"""The relay as an operator meets it: signals, systemd, HTTP, exit codes."""

import contextlib
import json
import re
import signal
import socket
import time

import pytest

from checks import check_all, of_type
from kafkaio import delivered, send
from load import Clients
from process import wait_until


@pytest.mark.alone
def test_systemd(db, kafka, manager, start_relay):
    """READY once the configuration is valid and the loop turns; WATCHDOG well
    within its interval; a readable status; READY again after a reload;
    STOPPING at the end."""
    relay = start_relay(env={"NOTIFY_SOCKET": manager.path,
                             "WATCHDOG_USEC": "1000000"})
    manager.wait("READY=1")
    manager.wait("STATUS=")
    assert manager.longest_silence(12) < 0.8
    relay.signal(signal.SIGHUP)
    manager.wait("RELOADING=1")
    manager.wait("READY=1")
    assert relay.terminate() == 0
    manager.wait("STOPPING=1")


def test_ready_without_peers(db, kafka, manager, relays):
    """An unreachable database is a state, not a failed start: systemd must not
    restart the relay over and over because of it."""
    relay = relays("host=127.0.0.1 port=1 dbname=x user=x", "127.0.0.1:1")
    relay.start(wait="/livez", env={"NOTIFY_SOCKET": manager.path,
                                    "WATCHDOG_USEC": "1000000"})
    manager.wait("READY=1")
    assert manager.longest_silence(12) < 0.8
    assert relay.running
    assert relay.terminate() == 0


def test_sigterm_drains(db, kafka, start_relay):
    """Fetched events are delivered and the position stored, so that the next
    start repeats nothing."""
    db.sql("SELECT receive_stock('book', 1000000)")
    relay = start_relay()
    with Clients(db, 4, lambda cur, name: cur.execute(
            "SELECT reserve_stock('book', 1, %s)", (name,))) as clients:
        for _ in range(5):
            clients.progress(100, 30)
            assert relay.terminate() == 0
            relay.start(wait="/livez")
    total = db.value("SELECT count(*) FROM stock_outbox")
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        assert len(tail.records) == total


def test_second_sigterm_leaves(db, kafka, start_relay):
    """A drain that cannot end (the broker is stalled) is cut short by a second
    SIGTERM; nothing is lost by it."""
    db.sql("SELECT receive_stock('book', 1000)")
    relay = start_relay(brokers=kafka.proxied_brokers)
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 10,
               "the first event")
    kafka.proxy.stall()
    db.sql("SELECT reserve_stock('book', 1, 'o-' || i)"
           " FROM generate_series(1, 50) i")
    wait_until(lambda: relay.metric("outbox_pending_events") >= 50, 20,
               "events are pending")
    relay.signal(signal.SIGTERM)
    wait_until(lambda: "waiting for in-flight messages" in relay.log(), 5,
               lambda: relay.tail())
    for _ in range(20):             # it drains: its loop turns on
        assert relay.get("/livez")[0] == 200, relay.tail()
    relay.terminate(timeout=3)
    kafka.proxy.restore()
    relay.start(wait=None)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(of_type(r, "StockReserved")) >= 50, 20, "all")
        check_all(db, tail)


def test_reload(db, kafka, manager, start_relay):
    """SIGHUP accepts a valid configuration and refuses a wrong one whole: the
    old one stays, the log names the mistake."""
    db.sql(f'ALTER DATABASE "{db.name}" SET pgstock.notify = off')
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay({"outbox": {"poll_interval": "1m"}}, env={
        "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"})
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 10,
               "the first look has been")
    relay.config["outbox"] = {"poll_interval": "50ms", "batch_row": "7"}
    relay.write_config()
    relay.signal(signal.SIGHUP)
    wait_until(lambda: "batch_row" in relay.log(), 5, "the mistake is named")
    assert "batch_rows" in relay.log(), "the nearest known key is named"
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    with kafka.tail("stock-events") as tail:
        manager.longest_silence(10)         # 1 s, 20 times the refused poll
        assert not of_type(tail.read_to_end(), "StockReserved")
        assert relay.get("/readyz")[0] == 200
        del relay.config["outbox"]["batch_row"]
        relay.write_config()
        relay.signal(signal.SIGHUP)
        tail.until(lambda r: of_type(r, "StockReserved"), 5, "the new poll")
        db.sql("SELECT reserve_stock('book', 1, 'o-2')")
        tail.until(lambda r: len(of_type(r, "StockReserved")) == 2, 5, "again")


def test_http(db, kafka, start_relay):
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(topics=["order-created"])
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    out = kafka.producer()
    out.produce("order-created", value=b"poison")
    out.flush()
    wait_until(lambda: relay.metric("outbox_published_total") == 3, 10,
               lambda: relay.get("/metrics")[1])
    wait_until(lambda: relay.metric("outbox_pending_events") == 0, 20,
               "the database's own gauges are read now and then")
    assert relay.metric("outbox_published_total", topic="stock-events") == 2
    assert relay.metric("inbox_events_total", topic="order-created",
                        result="dead") == 1
    assert relay.metric("outbox_commit_to_ack_seconds_count") == 3
    assert relay.metric("leader") == 1
    assert relay.metric("wakeups_total") > 0
    names = {name for name, _, _ in relay.samples()}
    assert {"build_info", "reservations_open", "outbox_table_bytes",
            "outbox_oldest_pending_seconds", "inbox_waiting_keys",
            "archive_open"} <= names
    for line in relay.get("/metrics")[1].splitlines():
        assert re.match(r"(# (HELP|TYPE) )?(pgstock|process)_", line), line
    status, body = relay.get("/status")
    assert status == 200 and json.loads(body)["status"]
    assert relay.get("/livez")[0] == relay.get("/readyz")[0] == 200
    assert relay.get("/nothing")[0] == 404


def test_alerts_fire_the_first_time(db, kafka, start_relay):
    """Prometheus sees no increase in a series that did not exist before: the
    first dead payment would raise no alert. All values that labels can have
    exist from the start, and a waiting message counts once, however often it
    is retried."""
    db.sql("CREATE FUNCTION fails(payload jsonb, message jsonb) RETURNS void"
           " LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END'")
    db.sql("SELECT register_handler('payment-success', 'fails')")
    relay = start_relay(topics=["order-created", "payment-success"],
                        config={"inbox": {"retry_delays": "9ms, 9ms, 9ms"}})
    results = ("applied", "skipped", "duplicate", "waiting", "dead")
    first = relay.samples()
    for topic in ("order-created", "payment-success"):
        for result in results:
            assert ("inbox_events_total", {"topic": topic, "result": result},
                    0.0) in first
        for name in ("dlq_total", "archived_total",
                     "inbox_differences_total", "inbox_paid_twice_total"):
            assert (name, {"topic": topic}, 0.0) in first
    assert {"outbox_transactions_total", "leader_changes_total",
            "outbox_publish_errors_total"} <= {name for name, _, _ in first}
    body = relay.get("/metrics")[1]
    assert "A value that the database reports." not in body, \
        "each has HELP of its own"

    out = kafka.producer()
    send(out, "payment-success", {"order_id": "o-9", "payment_id": "p"})
    delivered(out)
    wait_until(lambda: relay.metric("inbox_events_total",
                                    topic="payment-success", result="dead"),
               20, lambda: relay.get("/metrics")[1])
    assert db.value("SELECT attempts FROM failed_order_archives") == 4
    assert relay.metric("inbox_events_total", result="waiting") == 1
    assert relay.metric("inbox_failures_total", reason="retry") == 3
    assert relay.metric("inbox_failures_total", reason="retries") == 1
    assert relay.metric("inbox_failures_total") == 4


def test_a_scrape_sees_the_database_as_it_is(db, manager, start_relay):
    """The relay reads its gauges at the start, and then only when they are
    scraped: the first scrape used to return the values of the start."""
    relay = start_relay(env={"NOTIFY_SOCKET": manager.path,
                             "WATCHDOG_USEC": "4000000"})
    db.sql("SELECT receive_stock('book', 5)")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    manager.longest_silence(4)          # s; values are used for 3
    assert relay.metric("reservations_open") == 1
    assert relay.metric("gauges_age_seconds") < 4


def half_closed(port):
    """Connections to the port whose client has left (CLOSE_WAIT)."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [row for row in rows
            if row[1].endswith(f":{port:04X}") and row[3] == "08"]


def test_http_while_others_drip(start_relay):
    """More clients than the server has places for, none of which ends its
    request: a probe does not fail a healthy relay, and connections of clients
    that left are closed."""
    relay = start_relay()
    clients = []
    for _ in range(150):
        client = socket.create_connection(("127.0.0.1", relay.port))
        client.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        clients.append(client)
    for _ in range(5):
        begun = time.monotonic()
        assert relay.get("/livez")[0] == 200
        assert time.monotonic() - begun < 1
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"x")
    for client in clients:
        client.close()
    wait_until(lambda: not half_closed(relay.port), 10,
               "nothing is left of them")


def test_http_after_ten_thousand_connects(start_relay):
    """Clients that connect and leave, some without a word, some in the middle
    of a request: they take no place, descriptor or memory with them."""
    relay = start_relay()
    before = relay.metric("process_open_fds")
    for number in range(10_000):
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            if number % 3 == 0:
                client.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        if number % 1000 == 0:
            assert relay.get("/livez")[0] == 200
    wait_until(lambda: not half_closed(relay.port), 20,
               "nothing is left of them")
    assert relay.metric("process_open_fds") <= before + 5


def test_a_step_of_the_upkeep_that_fails_is_named(db, kafka, start_relay):
    """The other steps continue, and so does the relay; metric, page and check
    name the cause until the step works again."""
    def failing():
        return relay.metric("upkeep_failing", step="refused_orders")

    db.sql("ALTER TABLE pgstock_internal.refused_order RENAME TO away")
    relay = start_relay({"outbox": {"retention": "8s"}})
    wait_until(failing, 20, relay.tail)
    assert relay.metric("upkeep_failing") == 1
    wait_until(lambda: "upkeep fails: refused_orders"
               in relay.get("/readyz")[1],
               20, lambda: relay.get("/readyz"))
    assert relay.get("/readyz")[0] == 200
    check = relay.command("check")
    assert check.returncode == 1
    assert "FAIL  upkeep: it fails in refused_orders" in check.stdout
    assert "[upkeep]" in check.stdout
    db.sql("ALTER TABLE pgstock_internal.away RENAME TO refused_order")
    wait_until(lambda: not failing(), 20, relay.tail)
    wait_until(lambda: "upkeep" not in relay.get("/readyz")[1], 20,
               lambda: relay.get("/readyz"))
    assert relay.command("check").returncode == 0
