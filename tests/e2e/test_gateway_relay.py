# SPDX-License-Identifier: PostgreSQL
"""The gateway beside a relay: the relay's state, and receipts of events."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


def test_the_state_of_the_relay(reader, shop, start_relay):
    status = reader.get("/status").json
    assert (status["status"], status["relays"]) == ("failing", [])
    assert status["problems"] == ["no relay leads the outbox"]
    relay = start_relay(conninfo=shop.conninfo())
    wait_until(lambda: reader.get("/status").json["status"] == "ok", 30,
               relay.tail)
    status = reader.get("/status").json
    leader, = [one for one in status["relays"] if one["leads"]]
    assert (leader["name"], leader["pid"]) == (status["leader"],
                                               status["leader_pid"])
    assert leader["since"] == status["leader_since"]
    wait_until(lambda: reader.get("/status").json["pending_events"] == 0, 30,
               relay.tail)
    assert relay.terminate() == 0
    wait_until(lambda: not reader.get("/status").json["relays"], 30,
               relay.tail)


# ---- receipts ---------------------------------------------------------------

def publish(shop, n=1):
    return [event for (event,) in shop.sql(
        "SELECT publish_event('stock-events', 'k' || i, '{}')"
        " FROM generate_series(1, %s) i", (n,))]


def receive(gateway, event, wait="20s"):
    """The answer to a client of its own, and how long it took."""
    with closing(gateway.client(timeout=60)) as client:
        begun = time.monotonic()
        answer = client.get(f"/events/{event}?wait={wait}")
        return answer, time.monotonic() - begun


def waiting_sessions(shop):
    return shop.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE"
                      " '%%wait_for_event(%%' AND application_name ="
                      " 'pgstock-gateway' AND state = 'active'")


def test_a_receipt_is_prompt(gateway, shop, start_relay):
    """Whatever the relay's 200 ms between positions are."""
    start_relay(conninfo=shop.conninfo())
    took = []
    for _ in range(40):
        event, = publish(shop)
        answer, seconds = receive(gateway, event)
        assert (answer.status, answer.json["state"]) == (200, "published")
        took.append(seconds)
    assert statistics.median(took) < 0.08, took
    answer, seconds = receive(gateway, event)       # published before
    assert (answer.json["state"], seconds < 2) == ("published", True)


def test_many_wait_and_take_one_session(gateway, shop, app, product,
                                        start_relay):
    events = publish(shop, 150)
    with ThreadPoolExecutor(len(events)) as pool:
        answers = pool.map(lambda event: receive(gateway, event, "60s"), events)
        wait_until(lambda: waiting_sessions(shop) == 1, 30, gateway.tail)
        assert app.reserve(product, 1, f"beside-{product}").status == 201
        relay = start_relay(conninfo=shop.conninfo())
        states = [answer.json["state"] for answer, _ in answers]
    assert states == ["published"] * len(events), relay.tail()
    wait_until(lambda: waiting_sessions(shop) == 0, 30, gateway.tail)


def test_a_wait_that_is_over(gateways, shop):
    gateway = gateways().start()
    event, = publish(shop)
    answer, seconds = receive(gateway, event, "300ms")
    assert (answer.status, answer.json["state"]) == (202, "pending")
    assert seconds >= 0.3
    nothing = "00000000-0000-0000-0000-000000000000"
    answer, seconds = receive(gateway, nothing, "300ms")
    assert (answer.problem, seconds >= 0.3) == ("unknown-event", True)
    for wait in ("2m", "5", "-1s", "x", "1h"):
        answer, _ = receive(gateway, event, wait)
        assert (answer.status, answer.problem) == (400, "invalid"), wait
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(receive, gateway, event, "60s")
        wait_until(lambda: waiting_sessions(shop) == 1, 30, gateway.tail)
        assert gateway.terminate() == 0
        assert answer.result()[0].json["state"] == "pending"


def test_the_session_that_asks_is_killed(gateways, shop):
    """Those that wait are told so at once, and the next ones wait again."""
    gateway = gateways().start()
    event, = publish(shop)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(receive, gateway, event, "60s")
        wait_until(lambda: waiting_sessions(shop) == 1, 30, gateway.tail)
        shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE application_name = 'pgstock-gateway' AND"
                 " usename = 'gateway_app'")
        answer, seconds = answer.result()
    assert (answer.status, answer.problem) == (503, "database-away")
    assert answer.headers["Retry-After"] and seconds < 30
    gateway.wait_status("/readyz", 200)
    wait_until(lambda: receive(gateway, event, "100ms")[0].status == 202, 30,
               gateway.tail)
