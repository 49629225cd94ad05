# SPDX-License-Identifier: PostgreSQL
"""Alerts: each dead letter is reported to an operator, at least once, and only
to an allowed address."""

import json
import os
import signal
import subprocess
import time

import pytest

from checks import inbox_results
from hooks import Authority, Hook
from kafkaio import delivered, send
from process import wait_until

SECRET = "s3cret of the hook"
QUIET_S = 3                         # between two requests


@pytest.fixture(scope="session")
def authority(run):
    return Authority(os.path.join(run, "authority"))


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.certificate()


@pytest.fixture
def hook(certificate):
    server = Hook(certificate)
    yield server
    server.close()


@pytest.fixture
def webhook(authority, hook):
    """The configuration with the hook's address."""
    def config(**more):
        return {"webhook": {"url": hook.url, "secret": SECRET,
                            "allow": "127.0.0.1", "ca": authority.path,
                            **more}}
    return config


def poison(kafka, *numbers, topic="order-created"):
    out = kafka.producer()
    for number in numbers:
        send(out, topic, b"=poison %d" % number, key=b"k%d" % number,
             headers=[("ce_id", b"bad-%d" % number)])
    delivered(out)


def archived(db, n):
    wait_until(lambda: db.value("SELECT count(*) FROM failed_order_archives")
               == n, 30, lambda: f"{n} are given up: {inbox_results(db)}")


def wait_requests(hook, n, timeout=30):
    wait_until(lambda: len(set(hook.alert_ids())) >= n, timeout,
               lambda: f"{n} alerts: {hook.alert_ids()}")


def waiting(db):
    return db.value("SELECT count(*) FROM pgstock_internal.alert"
                    " WHERE next_try_at IS NOT NULL")


def settled(db, relay):
    wait_until(lambda: waiting(db) == 0, 30, lambda: relay.get("/status"))


def reload(relay):
    relay.write_config()
    relay.signal(signal.SIGHUP)


def keeps_secrets(relay):
    """Neither the url nor the secret appears anywhere."""
    config = relay.command("config").stdout
    assert "url = ********" in config and "secret = ********" in config
    for text in (relay.log(), config, relay.get("/status")[1],
                 relay.get("/metrics")[1], relay.command("check").stdout,
                 relay.command("status").stdout):
        assert "s3cret" not in text, text


def test_archived_orders_are_reported(db, kafka, start_relay, hook, webhook):
    """With all fields, signed; and once, if nothing is killed."""
    relay = start_relay(webhook(), topics=["order-created", "payment-success"])
    out = kafka.producer()
    send(out, "payment-success", {"order_id": "o-7", "quantity": 1,
                                  "items": "no list", "status": 7},
         key=b"o-7", headers=[("ce_id", b"paid-7"), ("traceparent",
         b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    delivered(out)
    poison(kafka, 1)
    archived(db, 2)
    wait_requests(hook, 2)
    settled(db, relay)
    assert sorted(hook.alert_ids()) == [1, 2]
    alerts = {a["event_id"]: a for r in hook.requests for a in r.alerts}
    for row in db.sql("SELECT id, order_id, topic, event_id, reason, attempts,"
                      " trace_id FROM failed_order_archives"):
        alert = alerts[row[3]]
        assert row == tuple(alert[name] for name in (
            "failed_id", "order_id", "topic", "event_id", "reason",
            "attempts", "trace_id"))
        assert alert["kind"] == "archived" and alert["state"] == "archived"
    assert alerts["paid-7"]["order_id"] == "o-7"
    assert "0af7651916cd43dd8448eb211c80319c" in alerts["paid-7"]["trace_id"]
    for request in hook.requests:
        assert request.path == "/very/s3cret/path"
        assert request.json["relay"] == "main"
        assert request.is_signed(SECRET.encode())
        assert not request.is_signed(b"another")
        request.body += b" "
        assert not request.is_signed(SECRET.encode())
    assert relay.metric("webhook_total", result="sent") == len(hook.requests)
    assert relay.metric("webhook_total", result="failed") == 0
    keeps_secrets(relay)
    check = relay.command("check")
    assert "ok    webhook: format json, signed, only where" in check.stdout


def test_a_stop_does_not_wait_for_alerts(db, kafka, start_relay, hook,
                                         webhook):
    """An alert is sent, and the database does not answer when that is to be
    recorded: the relay ends when all drains end."""
    relay = start_relay(webhook(), topics=["order-created"])
    hook.talking.clear()
    poison(kafka, 1)
    wait_requests(hook, 1)
    blocker = db.connect()
    blocker.cursor().execute("LOCK TABLE pgstock_internal.alert")
    hook.talking.set()
    wait_until(lambda: "alerts sent" in relay.log(), 10, relay.tail)
    begun = time.monotonic()
    assert relay.terminate() == 0
    assert time.monotonic() - begun < 13, relay.tail()
    blocker.close()
    relay.start()
    settled(db, relay)          # its session had the lock, or it is sent again


def test_off_by_default(db, kafka, start_relay):
    """Without a url nothing is written, and nothing is sent later."""
    relay = start_relay(topics=["order-created"])
    poison(kafka, 1)
    archived(db, 1)
    assert db.value("SELECT count(*) FROM pgstock_internal.alert") == 0
    assert relay.metric("webhook_total", result="sent") == 0
    assert json.loads(relay.get("/status")[1])["components"]["webhook"] == {
        "status": "ok", "detail": "no url: sends no alerts"}


def test_one_transaction(db, kafka, start_relay, hook, webhook):
    """An archive row, its dead letter and its alert, or none of the three."""
    hook.answer = (500, b"")
    poison(kafka, *range(50))
    relay = start_relay(webhook(), topics=["order-created"])
    archived(db, 50)
    relay.kill9()
    rows = db.sql("SELECT f.xmin::text, a.xmin::text, o.xid::text"
                  " FROM pgstock_internal.failed_event f"
                  " JOIN pgstock_internal.alert a ON a.failed_id = f.id"
                  " JOIN pgstock_internal.outbox o ON o.aggregateid = f.key"
                  " WHERE o.type = 'DeadLetter' AND a.attempts = 0")
    assert rows and all(len(set(row)) == 1 for row in rows)
    hook.answer = (200, b"")
    relay.start()
    wait_requests(hook, 50)


def test_reported_at_least_once(db, kafka, start_relay, hook, webhook):
    """The receiver fails, hangs, redirects; the relay is killed meanwhile.
    Every alert arrives, and the pauses outlive the relay."""
    relay = start_relay(webhook(), topics=["order-created"])
    hook.answer = (503, b"")
    poison(kafka, 1)
    wait_until(lambda: relay.metric("webhook_total", result="failed") >= 1, 30,
               lambda: relay.get("/metrics")[1])
    wait_until(lambda: db.value("SELECT attempts FROM pgstock_internal.alert")
               == 1, 10, "the failure is noted")
    assert db.value("SELECT next_try_at > clock_timestamp()"
                    " FROM pgstock_internal.alert")
    assert json.loads(relay.get("/status")[1])["components"]["webhook"] == {
        "status": "failing", "detail": "request: HTTP status 503"}
    assert relay.get("/readyz")[0] == 200, "stock does not depend on it"
    wait_until(lambda: relay.metric("webhook_waiting") == 1, 10,
               "gauges are up to 3 s old")
    relay.kill9()
    hook.answer = (302, b"")
    hook.headers = {"Location": f"{hook.url}/elsewhere"}
    relay.start()
    wait_until(lambda: db.value("SELECT attempts FROM pgstock_internal.alert")
               == 2, 30, "a redirect is a failure")
    assert {r.path for r in hook.requests} == {"/very/s3cret/path"}
    first, second = hook.requests
    assert second.at - first.at > 4, "a restart does not hurry it"
    hook.talking.clear()
    db.sql("UPDATE pgstock_internal.alert SET next_try_at = now()")
    wait_until(lambda: len(hook.requests) == 3, 30, "the third try")
    relay.kill9()
    hook.answer, hook.headers = (200, b""), {}
    hook.talking.set()
    relay.start()
    settled(db, relay)
    assert set(hook.alert_ids()) == {1} and len(hook.requests) == 4
    keeps_secrets(relay)


@pytest.mark.alone
def test_a_receiver_that_hangs_delays_nothing(db, kafka, start_relay, hook,
                                             webhook):
    """5 s, and meanwhile events are published and consumed as usual."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(webhook(), topics=["order-created"])
    hook.talking.clear()
    poison(kafka, 1)
    wait_until(lambda: hook.requests, 20, "the request")
    began = time.monotonic()
    out = kafka.producer()
    for n in range(20):
        send(out, "order-created", {"order_id": f"o-{n}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=b"o-%d" % n)
        delivered(out)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) >= 21, 20, "all orders are answered")
    assert time.monotonic() - began < 5, "while the request hangs"
    wait_until(lambda: relay.metric("webhook_total", result="failed") == 1, 20,
               lambda: relay.get("/metrics")[1])
    assert 4 < time.monotonic() - hook.requests[0].at < 8
    assert "Timeout was reached" in relay.log()


def test_a_resolver_that_hangs_delays_nothing(db, kafka, start_relay, run):
    """A thread looks up the name, and no caller waits for its end."""
    library = os.path.join(run, "slow_names.so")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library,
                    os.path.join(os.path.dirname(__file__), "slow_names.c"),
                    "-ldl"], check=True)
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay({"webhook": {"url": "https://alerts.slow/s3cret"}},
                        topics=["order-created"], env={"LD_PRELOAD": library})
    poison(kafka, 1)
    took = []

    def failed():
        began = time.monotonic()
        assert relay.get("/livez")[0] == 200
        took.append(time.monotonic() - began)
        return relay.metric("webhook_total", result="failed")

    wait_until(failed, 60, relay.tail)
    assert max(took) < 4, "else it is some 20 s"
    db.sql("SELECT receive_stock('book', 1)")
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 2, 10, "both events")
    assert "Timeout was reached" in relay.log()
    assert relay.terminate() == 0


def test_many_at_once(db, kafka, start_relay, hook, webhook):
    """A flood of bad messages is no flood of requests."""
    relay = start_relay(webhook(), topics=["order-created"])
    poison(kafka, *range(250))
    archived(db, 250)
    wait_requests(hook, 251)        # and the backlog
    settled(db, relay)
    assert len(hook.requests) <= 6
    for earlier, later in zip(hook.requests, hook.requests[1:]):
        assert later.at - earlier.at > QUIET_S - 0.2
    assert len(hook.alert_ids()) == 251, "none twice"
    (backlog,) = [a for r in hook.requests for a in r.alerts
                  if a["kind"] == "backlog"]
    assert backlog["backlog"] == 10 and backlog["archive_open"] > 10


def test_backlog(db, kafka, start_relay, hook, webhook):
    """Reported when it becomes too long, and again only after it was short."""
    relay = start_relay(webhook(backlog="2"), topics=["order-created"])

    def backlogs():
        return [a for r in list(hook.requests) for a in r.alerts
                if a["kind"] == "backlog"]

    poison(kafka, 1, 2)
    wait_requests(hook, 2)
    settled(db, relay)
    assert not backlogs(), "2 are not more than 2"
    poison(kafka, 3)
    wait_until(lambda: len(backlogs()) == 1, 20, "the backlog is reported")
    assert backlogs()[0]["archive_open"] == 3
    poison(kafka, 4)
    wait_requests(hook, 5)
    settled(db, relay)
    ids = [row for (row,) in db.sql("SELECT id FROM failed_order_archives"
                                    " ORDER BY id")]
    for one in ids[:2]:
        relay.command("failed", "handled", str(one), "--note", "done")
    relay.command("failed", "discard", str(ids[2]), "--reason", "done")
    wait_until(lambda: db.value("SELECT count(*) FROM pgstock_internal.alert")
               == 0, 20, "it is short again")
    assert len(backlogs()) == 1
    poison(kafka, 5, 6)
    wait_until(lambda: len(backlogs()) == 2, 20, "it is reported again")


def test_only_the_leader_reports(db, kafka, start_relay, hook, webhook):
    """Two relays consume; one sends alerts. When it dies the other one
    does."""
    both = [start_relay(webhook(), topics=["order-created"]) for _ in "ab"]
    wait_until(lambda: sum(r.metric("leader") for r in both) == 1, 20,
               "one leads")
    leader, other = sorted(both, key=lambda r: -r.metric("leader"))
    poison(kafka, *range(8))
    wait_requests(hook, 8)
    settled(db, leader)
    assert other.metric("webhook_total", result="sent") == 0
    assert "the relay that leads" in other.get("/status")[1]
    hook.answer = (500, b"")
    poison(kafka, 8)
    wait_until(lambda: leader.metric("webhook_total", result="failed"), 30,
               "the next one fails")
    leader.kill9()
    hook.answer = (200, b"")
    wait_requests(hook, 9)
    settled(db, other)
    assert other.metric("webhook_total", result="sent") == 1


@pytest.mark.parametrize("change, why", [
    ({"allow": ""}, "the address is not allowed"),
    ({"allow": "10.0.0.0/8"}, "the address is not allowed"),
    ({"ca": ""}, "certificate"),
    ({"url": "https://localhost:{port}/s3cret", "allow": "localhost"},
     "the address is not allowed"),
    ({"url": "https://localhost:{port}/s3cret", "allow": "127.0.0.0/8, ::1"},
     "the certificate is another host's"),
    ({"url": "https://nowhere.invalid/s3cret"}, "resolve"),
], ids=lambda value: ",".join(value) if isinstance(value, dict) else None)
def test_what_is_not_allowed(db, kafka, start_relay, hook, webhook, change,
                             why):
    """No byte of an alert goes to an address that is not allowed, or to a
    server that cannot prove its identity; and the log names the reason."""
    change = {key: value.format(port=hook.port)
              for key, value in change.items()}
    relay = start_relay(webhook(**change), topics=["order-created"])
    poison(kafka, 1)
    result = "refused" if "allowed" in why else "failed"
    wait_until(lambda: relay.metric("webhook_total", result=result) == 1, 30,
               lambda: relay.get("/metrics")[1] + relay.tail())
    assert why in relay.log() and why in relay.get("/status")[1]
    assert not hook.requests
    keeps_secrets(relay)


def test_plain_http(db, kafka, start_relay):
    """Only where it is allowed by name."""
    hook = Hook()
    try:
        relay = start_relay({"webhook": {
            "url": hook.url, "allow": "127.0.0.0/8", "allow_http": "yes"}},
            topics=["order-created"])
        poison(kafka, 1)
        wait_requests(hook, 1)
        assert "X-Pgstock-Signature" not in hook.requests[0].headers
        settled(db, relay)
    finally:
        hook.close()


@pytest.mark.parametrize("kind", ["dingtalk", "wecom", "slack"])
def test_chats(db, kafka, start_relay, hook, webhook, kind):
    """A message for people, which no sender of messages can turn into a
    command; an error with status 200 is an error."""
    relay = start_relay(webhook(format=kind, backlog="1000"),
                        topics=["order-created"])
    hook.answer = (200, b'{"errcode":310000,"errmsg":"sign not match"}')
    out = kafka.producer()
    for n in range(30):
        send(out, "order-created",
             {"order_id": f"<!channel>\n{n}", "items": 7}, key=b"k%d" % n)
    delivered(out)
    archived(db, 30)
    if kind != "slack":
        wait_until(lambda: relay.metric("webhook_total", result="failed"), 30,
                   lambda: relay.get("/metrics")[1])
        assert relay.metric("webhook_total", result="sent") == 0
    hook.answer = (200, b'{"errcode": 0, "errmsg":"ok"}')
    settled(db, relay)
    for request in hook.requests:
        body = request.json
        text = body["text"] if kind == "slack" else body["text"]["content"]
        assert kind == "slack" or body["msgtype"] == "text"
        assert text.startswith("pgstock (main): ")
        assert "<" not in text and "(!channel) " in text
        assert len(text.encode()) <= 2048
        assert request.is_signed(SECRET.encode())
        assert ("timestamp=" in request.path) == (kind == "dingtalk")


def test_reload(db, kafka, start_relay, hook, webhook):
    """A reload starts alerts, and a wrong configuration changes nothing."""
    relay = start_relay(topics=["order-created"])
    poison(kafka, 1)
    archived(db, 1)
    relay.config["webhook"] = webhook()["webhook"]
    reload(relay)
    wait_until(lambda: "configuration reloaded" in relay.log(), 10, "reloaded")
    poison(kafka, 2)
    wait_requests(hook, 1)
    assert [a["event_id"] for a in hook.requests[0].alerts] == ["bad-2"]
    relay.config["webhook"]["url"] = "http://elsewhere/s3cret"
    reload(relay)
    wait_until(lambda: "keeping the old configuration" in relay.log(), 10,
               "refused")
    assert '"url" in [webhook] must begin with https://' in relay.log()
    poison(kafka, 3)
    wait_requests(hook, 2)
    refused = relay.command("check")
    assert refused.returncode == 2 and "s3cret" not in refused.stderr
    relay.config["webhook"] = webhook()["webhook"]
    relay.write_config()
    keeps_secrets(relay)
