# SPDX-License-Identifier: PostgreSQL
"""The alert rules, the dashboard and the runbook on what a relay reports: a
Prometheus scrapes a relay that has published, applied, retried, given up and
held. dev/watch-check checks the same files by themselves."""

import json
import math
import os
import re
import subprocess
from contextlib import closing

import pytest

from cluster import HOST
from conftest import INBOX
from kafkaio import delivered, send
from process import as_server, wait_until
from prometheus import (DEPLOY, GATEWAY_RULES, RULES, Prometheus,
                        program)

pytestmark = pytest.mark.watch

DOCS = os.path.join(os.path.dirname(__file__), "../../docs")
# What Grafana fills in.
FILLED_IN = {"$__rate_interval": "1m", "$database": "shop"}


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def filled_in(job, text):
    for name, value in {**FILLED_IN, "$job": job}.items():
        text = text.replace(name, value)
    return text


def dashboard(job):
    return json.loads(read(DEPLOY, f"grafana/{job}.json"))


def expressions(job):
    """[(panel, expression)] of a job's dashboard, its annotations included."""
    found = [(note["name"], note["expr"])
             for note in dashboard(job)["annotations"]["list"]]
    for panel in dashboard(job)["panels"]:
        found += [(panel["title"], target["expr"])
                  for target in panel.get("targets", ())]
    return [(panel, filled_in(job, text)) for panel, text in found]


def legends(server, job):
    """{panel: the names of its lines, as Grafana makes them}"""
    found = {}
    for panel in dashboard(job)["panels"]:
        if panel["type"] != "timeseries":
            continue
        found[panel["title"]] = [
            re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""),
                   target["legendFormat"]).strip()
            for target in panel["targets"]
            for labels, _ in server.query(filled_in(job, target["expr"]))]
    return found


def selectors(text):
    """What an expression reads: each name, with its labels."""
    return set(re.findall(r"\b(?:pgstock_\w+|process_\w+|up)\b(?:{[^}]*})?",
                          text))


def families(body):
    """The metrics of /metrics, with their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", body, re.M))


def work(db, kafka, relay):
    """Let each thing happen that has a figure."""
    kafka.create_topics("small", max_message_bytes=2000)
    db.sql("SELECT receive_stock('book', 1000)")
    db.sql("SELECT publish_event('small', 'k', jsonb_build_object("
           "'fill', repeat('x', 10000)))")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    db.sql("SELECT confirm_stock('o-1')")
    db.sql("SELECT verify_stock()")
    out = kafka.producer()
    for number in range(20):
        send(out, "order-created", {"order_id": f"m-{number}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=b"%d" % number)
    send(out, "payment-success", b"poison", key=b"p")
    send(out, "payment-success", {"order_id": "later", "payment_id": "p"},
         key=b"q")
    delivered(out)

    def done():
        return (relay.metric("inbox_events_total", topic="order-created",
                             result="applied") == 20
                and relay.metric("inbox_events_total", result="dead") == 1
                and relay.metric("inbox_events_total", result="waiting") == 1
                and relay.metric("outbox_held_events") == 1
                and relay.metric("archive_open") == 1)
    wait_until(done, 60, lambda: f"{relay.get('/metrics')}\n{relay.tail()}")


@pytest.fixture
def watched(new_dir, db, kafka, start_relay):
    """(relay, Prometheus) after some work, with figures from before it."""
    relay = start_relay(topics=INBOX)
    server = Prometheus(new_dir("prometheus"), relay).start()
    try:
        wait_until(lambda: server.query("pgstock_leader == 1"), 30,
                   lambda: f"no scrape: {server.api('targets')}")
        work(db, kafka, relay)
        wait_until(lambda: server.query("pgstock_archive_open == 1"), 30,
                   "the figures of the work")
        yield relay, server
    finally:
        server.close()


def check_metrics(daemon):
    """promtool finds nothing: names, types, HELP."""
    status, body = daemon.get("/metrics")
    assert status == 200
    done = subprocess.run(
        as_server([program("promtool"), "check", "metrics"]), input=body,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (0, "")
    return body


def check_dashboard(server, body, job):
    """Every expression is valid and returns a number, every line has a name
    of its own, and every metric is somewhere on the dashboard."""
    bad = []
    for panel, text in expressions(job):
        status, answer = server.get("/api/v1/query", query=text)
        rows = json.loads(answer)["data"]["result"] if status == 200 else []
        values = [float(row["value"][1]) for row in rows]
        if status != 200 or all(map(math.isnan, values)):
            bad.append(f"{panel}: {text}: {answer}")
    assert not bad, "\n".join(bad)
    for panel, names in legends(server, job).items():
        assert all(names) and len(set(names)) == len(names), (panel, names)
    drawn = " ".join(text for _, text in expressions(job))
    absent = {name for name in families(body) if name not in drawn}
    assert absent == set(), f"on no panel: {absent}"


def check_rules(server, files):
    """Every rule is evaluated without an error, and reads what is there."""
    rules = [rule for group in server.api("rules")["groups"]
             for rule in group["rules"]]
    names = re.findall(r"- alert: (\w+)", "".join(
        read(DEPLOY, "prometheus", name) for name in files))
    assert sorted(rule["name"] for rule in rules) == sorted(names)
    for rule in rules:
        assert rule["health"] == "ok", rule
        for selector in selectors(rule["query"]):
            assert server.query(selector), f"{rule['name']}: {selector}"


def check_alerts(server):
    """What went wrong raises its alerts, with texts, and nothing else does.
    Some depend on how long the test takes."""
    names = {"PgstockArchivedOrder", "PgstockTopicHeld", "PgstockPaymentDead",
             "PgstockEventsDelayed", "PgstockDiskUnwatched"}
    slow = {"PgstockEventsStuck", "PgstockProducerLostOften",
            "PgstockOrderAnswerSlow"}
    wait_until(lambda: names <= set(server.alerts()), 60, server.alerts)
    assert set(server.alerts()) <= names | slow
    for alerts in server.alerts().values():
        for text in alerts[0]["annotations"].values():
            assert "<error" not in text and "<no value>" not in text, text
    (held,) = server.alerts()["PgstockTopicHeld"]
    assert held["labels"]["topic"] == "small"
    assert held["labels"]["database"] == "shop"


def check_runbook(db, relay):
    """Every statement and command within its sentences: the role that the
    runbook names may run it, and the relay knows it.  Its blocks are run by
    test_documents.py."""
    text = re.sub(r"```.*?```", "", read(DOCS, "runbook.md"), flags=re.S)
    statements = re.findall(r"`(SELECT \w+\(\);)`", text)
    commands = re.findall(r"`pgstock-relay ([^`]*--config \$conf[^`]*)`", text)
    assert statements and len(commands) > 3
    db.sql("CREATE ROLE operator LOGIN")
    try:
        db.sql("SELECT grant_stock_access('operator', 'admin')")
        for statement in statements:
            db.sql(statement, user="operator")
    finally:
        db.sql("DROP OWNED BY operator; DROP ROLE operator")
    for command in commands:
        args = command.replace("--config $conf", "").split()
        args = [{"ID": "1", "17": "1", "TEXT": "tried"}.get(arg, arg)
                for arg in args]
        done = relay.command(*args)
        assert done.returncode != 2, f"{command}: {done.stderr}"


def test_watch_kit(watched, db):
    relay, server = watched
    body = check_metrics(relay)
    check_rules(server, RULES)
    check_alerts(server)
    check_dashboard(server, body, "pgstock")
    check_runbook(db, relay)


def fail_requests(gateway, shop):
    """Let a request fail, and another one be refused."""
    client, admin = gateway.client(), gateway.client("admin")
    admin.post("/products/book/stock/receive", {"quantity": 9})
    assert client.reserve("book", 1, "o-1").status == 201
    shop.sql("ALTER FUNCTION confirm_stock RENAME TO lost")
    assert client.post("/orders/o-1/confirm").status == 500
    shop.sql("ALTER FUNCTION lost RENAME TO confirm_stock")
    with closing(shop.pg.connect()) as conn:
        conn.autocommit = True
        conn.cursor().execute(
            f"ALTER DATABASE {shop.name} ALLOW_CONNECTIONS false")
        conn.cursor().execute("SELECT pg_terminate_backend(pid) FROM "
                              "pg_stat_activity WHERE datname = %s",
                              (shop.name,))
    client.close()
    admin.close()


def is_refused(gateway):
    """Whether a request is; a rate needs more than one."""
    with closing(gateway.client()) as client:
        return client.reserve("book", 1, "o-2").status == 503


def test_watch_kit_of_gateways(gateways, new_dir, shop, pg):
    """The same for the gateway: its rules and its dashboard."""
    gateway = gateways().start()
    server = Prometheus(new_dir("prometheus"), gateway, job="pgstock-gateway",
                        rules=GATEWAY_RULES).start()
    try:
        wait_until(lambda: server.query("pgstock_gateway_ready == 1"), 30,
                   lambda: f"no scrape: {server.api('targets')}")
        fail_requests(gateway, shop)
        names = {"PgstockGatewayFails", "PgstockNoGatewayReady",
                 "PgstockGatewayRefuses"}
        wait_until(lambda: is_refused(gateway)
                   and names <= set(server.alerts()), 60, server.alerts)
        assert set(server.alerts()) <= names | {"PgstockGatewayBreakerOpen",
                                                "PgstockGatewaySlow"}
        check_rules(server, GATEWAY_RULES)
        check_dashboard(server, check_metrics(gateway), "pgstock-gateway")
    finally:
        server.close()
        with closing(pg.connect()) as conn:
            conn.autocommit = True
            conn.cursor().execute(
                f"ALTER DATABASE {shop.name} ALLOW_CONNECTIONS true")


def sampled(body):
    """The families of which /metrics has a sample."""
    names = set(re.findall(r"^(\w+)(?:{.*})? \S+$", body, re.M))
    return {family for family, kind in families(body).items()
            if (f"{family}_count" if kind == "histogram" else family) in names}


def test_first_scrape(relays):
    """A relay that reaches neither database nor broker reports all families;
    those without a sample are what only the database or the broker knows, as
    docs/operations.md says. (Their list only shrinks.)"""
    relay = relays(f"host={HOST} port=1 dbname=none", f"{HOST}:1",
                   {"inbox": {"topics": "order-created"}})
    relay.start(wait=None)
    wait_until(lambda: relay.get("/metrics")[0] == 200, 30, relay.tail)
    known = {f"pgstock_{name}" for name in re.findall(
        r"`(\w+?)(?:{[\w,]+})?`", "\n".join(
            line.split("|")[1] for line in section("## Metrics").splitlines()
            if line.count("|") > 3))}
    body = check_metrics(relay)
    process = {name for name in families(body) if name.startswith("process_")}
    assert set(families(body)) == known | process
    assert process == {f"process_{name}" for name in (
        "cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes",
        "start_time_seconds", "threads", "virtual_memory_bytes")}
    assert known - sampled(body) == {f"pgstock_{name}" for name in (
        "call_duration_seconds", "call_refusals_total",
        "call_transactions_total", "calls_total", "consumer_lag",
        "data_directory_bytes", "database_info", "held_tries_total",
        "inbox_histories_total", "inbox_missing_messages_total",
        "orders_hanging", "outbox_held_events", "outbox_held_oldest_seconds",
        "outbox_published_total", "reservation_confirm_seconds",
        "upkeep_failing")}
    assert relay.metric("ready") == 0
    assert math.isnan(relay.metric("reservations_open"))
    assert relay.metric("inbox_failures_total", topic="order-created") == 0
    assert "pgstock_outbox_publish_errors_total{" in body


def test_first_scrape_of_a_new_database(db, start_relay):
    """What can be counted is at 0 before it happens, for the first increase
    from nothing is not visible to increase()."""
    relay = start_relay(topics=INBOX)
    wait_until(lambda: "pgstock_consumer_lag{" in relay.get("/metrics")[1], 30,
               "the broker has reported the ends of the partitions")
    body = check_metrics(relay)
    known = set(families(body))
    assert "A value that the database reports" not in body
    assert known - sampled(body) == {f"pgstock_{name}" for name in (
        "held_tries_total", "outbox_held_events",
        "outbox_held_oldest_seconds")}
    for name, labels in (("calls_total", {"function": "confirm_stock"}),
                         ("call_refusals_total", {"function": "reserve_stock",
                                                  "status": "insufficient"}),
                         ("call_duration_seconds_count",
                          {"function": "reserve_stock"}),
                         ("call_transactions_total", {"outcome": "committed"}),
                         ("outbox_published_total", {"topic": "stock-events"}),
                         ("inbox_failures_total", {"topic": "order-created",
                                                   "reason": "poison"})):
        values = [value for found, have, value in relay.samples()
                  if found == name and labels.items() <= have.items()]
        assert values == [0], name
    assert relay.metric("ready") == 1
    db.sql("SELECT receive_stock('book', 1)")
    db.sql("SELECT status FROM try_reserve_stock('book', 2, 'o')")
    wait_until(lambda: relay.metric("calls_total",
                                    function="try_reserve_stock") == 1, 30,
               relay.tail)
    assert relay.metric("call_refusals_total", function="try_reserve_stock",
                        status="insufficient") == 1
    assert relay.metric("call_refusals_total", status="insufficient") == 1
    (count,) = [value for name, have, value in relay.samples()
                if name == "call_duration_seconds_bucket" and have
                == {"function": "try_reserve_stock", "le": "+Inf"}]
    assert count == 1


def section(heading):
    """The table of metrics in docs/operations.md."""
    text = read(DOCS, "operations.md")
    start = text.index(f"\n{heading}\n")
    return text[start:text.index("\nCommon queries", start)]
