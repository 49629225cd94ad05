# SPDX-License-Identifier: PostgreSQL
"""The gateway where something takes long: a lock, a read, a queue.  What has
nothing to do with it goes on."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from cluster import HOST
from gateway import TOKENS, held_up, many, wait_for_queue
from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


def test_a_held_product_stops_no_other(gateways, admin, product, shop):
    """Another session holds a product and does not end.  Requests for it are a
    conflict, each of which the log names; other products are reserved, alone or
    in an order, in batches that meet requests for it; reading and settling go
    on."""
    other = f"{product}-other"
    admin.post(f"/products/{other}/stock/receive", {"quantity": 100000})
    gateway = gateways({"postgres": {"pool": 2}}).start()
    until = time.monotonic() + 5
    conflicts, waits = {}, []

    def want_held(client, i):
        n = 0
        while time.monotonic() < until:
            order = f"held-{product}-{i}-{n}"
            conflicts[order] = client.post(
                f"/products/{product}/stock/reserve",
                {"quantity": 1, "order_id": order}, X_Request_Id=order).problem
            n += 1

    def want_other(client, i):
        n = 0
        while time.monotonic() < until:
            n += 1
            order = f"other-{product}-{i}-{n}"
            began = time.monotonic()
            answer = client.reserve(other, 1, order) if i else client.post(
                "/orders", {"order_id": order, "items": [
                    {"product_id": other, "quantity": 1}]})
            waits.append(time.monotonic() - began)
            assert answer.status == 201, answer.text

    def call(client, i):
        if i < 4:
            want_other(client, i)
        elif i < 8:
            want_held(client, i)
        else:
            while time.monotonic() < until:
                assert client.get("/orders/none").status == 404

    with closing(shop.connect()) as conn:
        conn.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                              (product, f"holder-{product}"))
        many(gateway, 9, call)
        conn.rollback()
    assert set(conflicts.values()) == {"conflict"}
    log = gateway.log()
    assert all(f"request_id={order} sqlstate=55P03" in log
               for order in conflicts)
    waits.sort()
    # the first batches find out which product it is
    assert waits[-1] < 1.5 and waits[-13] < 0.2, waits[-20:]
    assert len(waits) > 200
    with closing(gateway.client()) as client:
        assert client.reserve(product, 1, f"free-{product}").status == 201


def test_a_queue_of_readers_keeps_no_reservation_out(gateways, product, shop):
    """A table that only readers need is locked."""
    gateway = gateways({"postgres": {"pool": 1},
                        "gateway": {"queue_max": 5}}).start()
    with closing(shop.connect()) as conn, ThreadPoolExecutor(1) as pool:
        conn.cursor().execute("LOCK TABLE pgstock_internal.admin_action")
        answers = pool.submit(many, gateway, 20, lambda client, i: client.get(
            "/admin-actions", Authorization=f"Bearer {TOKENS['reader']}"))
        wait_until(lambda: 'status="503"' in gateway.get("/metrics")[1], 30,
                   gateway.tail)
        with closing(gateway.client()) as client:
            for i in range(10):
                assert client.reserve(product, 1,
                                      f"past-{product}-{i}").status == 201
        assert not answers.done()
        conn.rollback()
        assert "overloaded" in {answer.problem for answer in answers.result()
                                if answer.status == 503}


def test_the_health_of_each_role(gateways):
    """Without sessions for readers, reservations go on."""
    gateway = gateways({"postgres": {
        "reader_conninfo": "host=127.0.0.1 port=1 dbname=none"}})
    gateway.start(wait=None)
    gateway.wait_status("/readyz", 200)

    def states():
        checks = json.loads(gateway.get("/health")[1])["checks"]
        return {name: check["status"] for name, check in checks.items()}

    wait_until(lambda: states() == {
        "database": "ok", "database_reader": "failing", "database_admin": "ok",
        "database_receipts": "ok", "queue": "ok"}, 30, states)
    status, body = gateway.get("/health")
    assert status == 200 and json.loads(body)["status"] == "failing"


def test_locks_one_behind_the_other(gateways, admin, product, shop):
    """A statement that waits for two, each for less than may be, takes longer
    than the breaker's time: the database ends it, and no session is lost."""
    other = f"{product}-other"
    admin.post(f"/products/{other}/stock/receive", {"quantity": 5})
    gateway = gateways().start()
    order = f"locks-{product}"
    backends = shop.pg.backends("pgstock-gateway")
    with closing(gateway.client()) as client, ThreadPoolExecutor(1) as pool:
        assert client.post("/orders", {"order_id": order, "items": [
            {"product_id": name, "quantity": 1} for name in (product, other)
            ]}).status == 201
        with closing(shop.connect()) as one, closing(shop.connect()) as two:
            one.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                                 (product, f"one-{product}"))
            two.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                                 (other, f"two-{product}"))
            answer = pool.submit(client.post, f"/orders/{order}/release")
            wait_until(lambda: shop.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type ="
                " 'Lock' AND application_name = 'pgstock-gateway' AND "
                "clock_timestamp() - query_start > '1.5 s'"), 30, gateway.tail)
            one.rollback()
            assert answer.result().problem == "timeout"
        assert answer.result().json["sqlstate"] == "57014"
        assert client.post(f"/orders/{order}/release").status == 200
    assert set(backends) <= set(shop.pg.backends("pgstock-gateway"))


def test_who_has_left_reserves_nothing(gateways, admin, product, shop):
    """A client closes its connection while its request waits for a session."""
    other = f"{product}-other"
    admin.post(f"/products/{other}/stock/receive", {"quantity": 5})
    gateway = gateways({"postgres": {"pool": 1}}).start()
    with held_up(shop, gateway, product, 1) as (conn, answers):
        body = json.dumps({"order_id": f"gone-{product}", "quantity": 1})
        with socket.create_connection((HOST, gateway.port)) as client:
            client.sendall((
                f"POST /products/{other}/stock/reserve HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {TOKENS['app']}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
            wait_for_queue(gateway, 1)
        conn.rollback()
        assert answers.result()[0].status == 201
    with closing(gateway.client()) as client:
        assert client.reserve(other, 1, f"after-{product}").status == 201
    assert shop.level(other)[1] == 1


def test_a_read_that_takes_too_long(gateways, product, shop):
    """It ends alone: other reads go on in their sessions.  One that waits for
    its session meanwhile waits for 10 s."""
    gateway = gateways({"postgres": {"pool": 1}}).start()
    backends = shop.pg.backends("pgstock-gateway")
    kept = shop.value("SELECT pg_get_functiondef('stock_report'::regproc)")
    shop.sql(re.sub(r"AS \$function\$.*\$function\$", "AS $function$"
                    " SELECT to_jsonb(pg_sleep(60)::text) $function$", kept,
                    flags=re.S))
    try:
        with closing(gateway.client("reader")) as client, closing(
                gateway.client("reader")) as other, ThreadPoolExecutor(
                    1) as pool:
            began = time.monotonic()
            report = pool.submit(client.get, "/report")
            wait_until(lambda: 'busy_sessions{pool="reader"} 1' in
                       gateway.get("/metrics")[1], 30, gateway.tail)
            answer = other.get(f"/products/{product}/stock")
            assert answer.problem == "overloaded"
            assert "waited too long" in answer.json["detail"]
            assert 10 < time.monotonic() - began < 12
            assert report.result().problem == "timeout"
            assert 12 < time.monotonic() - began < 13
            assert other.get(f"/products/{product}/stock").status == 200
    finally:
        shop.sql(kept)
    assert set(backends) <= set(shop.pg.backends("pgstock-gateway"))
