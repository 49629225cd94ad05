# SPDX-License-Identifier: PostgreSQL
"""The gateway under stress: many clients, rude clients, a database that is
away, kills."""

import json
import os
import re
import resource
import signal
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPException

import pytest

from cluster import HOST
from conftest import gateway_conninfos
from gateway import TOKENS, held_up, many, raw, wait_for_lock, wait_for_queue
from process import Proxy, state_of, wait_until

pytestmark = pytest.mark.xdist_group("gateway")


# ---- batches ----------------------------------------------------------------

def test_a_hundred_clients_for_ten_pieces(gateway, product, shop):
    answers = many(gateway, 100, lambda client, i: client.reserve(
        product, 1, f"many-{product}-{i}"))
    assert sorted(answer.status for answer in answers) == (
        [201] * 10 + [409] * 90)
    assert {answer.problem for answer in answers
            if answer.status == 409} == {"insufficient"}
    assert shop.level(product)[1] == 10


def test_one_bad_request_fails_alone(gateways, product, admin, shop):
    """What only the database can refuse, among requests of one batch: a key of
    another request.  One session, which a lock holds up, so that they gather.
    """
    admin.post(f"/products/{product}/stock/receive", {"quantity": 90})
    gateway = gateways({"postgres": {"pool": 1}}).start()
    client = gateway.client()
    key = f"taken-{product}"
    assert client.post("/orders", {"order_id": key, "items": [
        {"product_id": product, "quantity": 1}]}, Idempotency_Key=key
        ).status == 201
    client.close()
    with shop.connect() as conn:
        conn.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                              (product, f"holder-{product}"))

        def call(client, i):
            keyed = {"Idempotency_Key": key} if i % 10 == 3 else {}
            return client.post("/orders", {
                "order_id": f"bad-{product}-{i}",
                "items": [{"product_id": product, "quantity": 1}]}, **keyed)

        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(many, gateway, 40, call)
            wait_until(lambda: "queue_requests 3" in
                       gateway.get("/metrics")[1], 30, gateway.tail)
            conn.rollback()
            answers = answers.result()
    assert [answer.status for answer in answers] == [
        422 if i % 10 == 3 else 201 for i in range(40)]
    assert shop.level(product)[1] == 37


def test_two_requests_for_one_order_in_a_batch(gateway, product, shop):
    """The rows of two requests for one order could not be told apart."""
    answers = many(gateway, 20, lambda client, i: client.reserve(
        product, 1 + i % 2, f"same-{product}"))
    taken = [answer for answer in answers if answer.status in (200, 201)]
    assert [answer.status for answer in answers].count(201) == 1
    assert {answer.status for answer in answers} == {200, 201, 422}
    quantity = {answer.json["lines"][0]["granted"] for answer in taken}
    assert quantity == {shop.level(product)[1]}


def test_each_statement_is_prepared_once(gateways, product, shop):
    """Also the one with the settings of a batch, which precedes its own."""
    shop.sql("ALTER ROLE gateway_app SET log_min_duration_statement = 0")
    try:
        gateway = gateways({"postgres": {"pool": 1}}).start()
        before = len(shop.pg.log())
        with closing(gateway.client()) as client:
            for i in range(3):
                answer = client.reserve(product, 1, f"{product}-{i}")
                assert answer.status == 201
    finally:
        shop.sql("ALTER ROLE gateway_app RESET log_min_duration_statement")
    steps = re.findall(r"ms  (parse|execute) (\S+):", shop.pg.log()[before:])
    for statement in ("settings", "reserveStock"):
        assert steps.count(("parse", statement)) == 1, steps
        assert steps.count(("execute", statement)) == 3, steps
    assert ("execute", "<unnamed>") not in steps



def test_a_full_queue_is_refused_at_once(gateways, product, shop):
    gateway = gateways({"postgres": {"pool": 1},
                        "gateway": {"queue_max": 5}}).start()
    with held_up(shop, gateway, product, 30) as (conn, answers):
        wait_until(lambda: 'status="503"' in gateway.get("/metrics")[1], 30,
                   gateway.tail)
        conn.rollback()
        answers = answers.result()
    refused = [answer for answer in answers if answer.status == 503]
    assert refused and {answer.problem for answer in refused} == {"overloaded"}
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert len(answers) - len(refused) >= 5
    # the others have waited for the lock, for longer
    assert statistics.median(answer.seconds for answer in refused) < 0.25


# ---- the database goes away -------------------------------------------------

@pytest.mark.parametrize("path, body, hint", [
    ("receive", {"quantity": 1}, "Read the stock"),
    ("reserve", {"quantity": 1, "order_id": "unknown"}, "same order_id")])
def test_what_to_do_about_an_unknown_outcome(gateways, product, shop, pg, path,
                                             body, hint):
    """A receipt has no key: repeated, it would be done again.  The log names
    the request: a call, or a part of a batch."""
    with closing(Proxy(pg.port)) as proxy, ThreadPoolExecutor(1) as pool:
        gateway = gateways(port=proxy.port).start()
        with closing(shop.connect()) as conn, \
                closing(gateway.client("admin")) as client:
            conn.cursor().execute("SELECT adjust_stock(%s, 1, 'held')",
                                  (product,))
            answer = pool.submit(client.post,
                                 f"/products/{product}/stock/{path}", body,
                                 X_Request_Id=f"r-{product}")
            wait_for_lock(shop, gateway)
            proxy.cut()
            answer = answer.result()
            conn.rollback()
    assert answer.problem == "outcome-unknown"
    assert hint in answer.json["hint"]
    assert re.search(r"status=503 type=outcome-unknown path=\S+ "
                     f"request_id=r-{product} ", gateway.log())


def test_a_database_that_is_away(gateways, product, shop, pg):
    gateway = gateways().start()
    client = gateway.client()
    assert client.reserve(product, 1, f"away-{product}").status == 201
    pg.kill9()
    gateway.wait_status("/readyz", 503)
    answer = client.reserve(product, 1, f"away-2-{product}")
    assert (answer.status, answer.problem) == (503, "database-away")
    assert json.loads(gateway.get("/health")[1])["checks"]["database"][
        "status"] == "failing"
    pg.start()
    gateway.wait_status("/readyz", 200)
    assert client.reserve(product, 1, f"away-{product}").status == 200
    assert client.reserve(product, 1, f"away-2-{product}").status == 201
    assert shop.level(product)[1] == 2
    client.close()


@contextmanager
def frozen_server(pg):
    """Its processes get no time."""
    os.kill(pg.pid, signal.SIGSTOP)     # first, so that it makes no more
    wait_until(lambda: state_of(pg.pid) == "T", 30, "the postmaster stops")
    pids = pg.processes()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def dropped_packets(proxy):
    proxy.stall()
    try:
        yield
    finally:
        proxy.restore()


def test_the_first_server_is_frozen(gateways, product, shop, pg):
    """It takes connections and answers nothing: the second one, which is the
    primary, is found all the same."""
    with closing(Proxy(pg.port)) as proxy, dropped_packets(proxy):
        found = gateway_conninfos(shop, host=f"{HOST},{HOST}",
                                  port=f"{proxy.port},{pg.port}")
        gateway = gateways({"postgres": {
            "conninfo": found["app"], "reader_conninfo": found["reader"],
            "admin_conninfo": found["admin"]}}).start()
        with closing(gateway.client()) as client:
            assert client.reserve(product, 1, f"o-{product}").status == 201


def answered_within(gateway, seconds):
    """How many answers took the gateway at most so long, and how many there
    were: what the client's turn for a processor takes is no part of it."""
    text = gateway.get("/metrics")[1]
    name = r"^pgstock_gateway_http_request_duration_seconds_"
    return [int(re.search(name + part, text, re.M).group(1)) for part in (
        rf'bucket{{le="{seconds}"}} (\d+)$', r"count (\d+)$")]


@pytest.mark.parametrize("how", ["frozen", "cut off"])
def test_the_breaker(gateways, product, shop, pg, how):
    """The database is there and does not answer: what is under way is told so
    after 3 s, what comes then at once, until an attempt to connect succeeds.
    """
    with closing(Proxy(pg.port)) as proxy:
        gateway = gateways(port=proxy.port).start()
        client = gateway.client()
        assert client.reserve(product, 1, f"before-{product}").status == 201
        with frozen_server(pg) if how == "frozen" else dropped_packets(proxy):
            began = time.monotonic()
            answer = client.reserve(product, 1, f"during-{product}")
            assert answer.problem == "outcome-unknown"
            assert 3 <= time.monotonic() - began < 6
            times = []
            before = answered_within(gateway, 0.005)
            for i in range(1000):
                began = time.monotonic()
                answer = client.reserve(product, 1, f"{i}-{product}")
                times.append(time.monotonic() - began)
                assert (answer.status, answer.problem) == (
                    503, "database-away")
                assert answer.headers["Retry-After"] == "1"
            assert sorted(times)[500] < 0.005, times
            quick, count = (now - was for now, was in zip(
                answered_within(gateway, 0.005), before))
            assert count >= 1000 and quick >= 0.95 * count, (quick, count)
            checks = json.loads(gateway.get("/health")[1])["checks"]
            assert checks["database"]["status"] == "failing"
            # an attempt begins, and is given up
            for state in ("half-open", "open"):
                wait_until(lambda: json.loads(gateway.get("/health")[1])[
                    "checks"]["database"]["breaker"] == state, 8, gateway.tail)
            assert 'breaker{pool="app"} 0' not in gateway.get("/metrics")[1]
        gateway.wait_status("/readyz", 200, timeout=10)
        assert client.reserve(product, 1, f"during-{product}").status in (
            200, 201)
        assert client.reserve(product, 1, f"before-{product}").status == 200
        assert shop.level(product)[1] == 2
        assert 'breaker{pool="app"} 0' in gateway.get("/metrics")[1]
        client.close()


def test_one_frozen_session_opens_no_breaker(gateways, product, shop):
    """Others are answered meanwhile, and it is waited for."""
    gateway = gateways({"postgres": {"pool": 3}}).start()
    with held_up(shop, gateway, product, 1) as (_, answers):
        backend, = shop.sql("SELECT pid FROM pg_stat_activity WHERE "
                            "wait_event_type = 'Lock' AND application_name = "
                            "'pgstock-gateway'")[0]
        os.kill(backend, signal.SIGSTOP)
        try:
            until = time.monotonic() + 5
            with closing(gateway.client()) as client:
                while time.monotonic() < until:
                    assert client.post("/orders/none/release").status == 404
            assert not answers.done()
            assert backend in shop.pg.backends("pgstock-gateway")
        finally:
            os.kill(backend, signal.SIGCONT)
        answer, = answers.result()
        assert answer.problem == "conflict"         # its lock's time is over


def kill(what, pg, gateway):
    """Kills it with signal 9, and starts it again."""
    if what == "gateway":
        gateway.kill9()
        gateway.start(wait=None)
    elif what == "postmaster":
        pg.kill9()
        pg.start()
    else:
        backends = wait_until(lambda: pg.backends("pgstock-gateway"), 30,
                              "no session of a gateway")
        pg.kill_backend(backends[-1])


def test_kills_of_everything(gateways, product, admin, shop, pg):
    """The story: a hundred buyers over two gateways, of ten pieces and of ten
    in a flash sale, which others hold first and release two by two, each time
    before a gateway, a backend or the postmaster is killed.  Each buyer repeats
    the same request until the kills are over, at the other gateway where there
    is no answer, or 503.  A reservation that was acknowledged stays; and what
    is reserved then is what was acknowledged."""
    sale = f"kill-{product}"
    admin.post(f"/products/{product}/stock/receive", {"quantity": 10})
    assert admin.post("/sales", {"activity_id": sale, "product_id": product,
                                 "quantity": 10}).status == 201
    shop.sql("SELECT reserve_stock(%s, 1, 'held-' || i || '-' || %s), "
             "purchase_flash_sale(%s, 'held-' || i, 'sale-' || i || '-' || %s) "
             "FROM generate_series(0, 9) i", (product, sale, sale, sale))
    pair = [gateways().start(), gateways().start()]
    over = threading.Event()

    def ask(client, i):
        order = f"{sale}-{i}"
        if i % 3 == 0:
            return client.reserve(product, 1, order)
        if i % 3 == 1:
            return client.post("/orders", {"order_id": order, "items": [
                {"product_id": product, "quantity": 1}]}, Idempotency_Key=order)
        return client.post(f"/sales/{sale}/purchase",
                           {"order_id": order, "user_id": order})

    def buy(client, i):
        """Whether the buyer has a piece at the end."""
        has, turn, answer = False, i, None
        until = time.monotonic() + 180
        while answer is None or not over.is_set():
            assert time.monotonic() < until, "no gateway answers"
            try:
                answer = ask(client, i)
            except (OSError, HTTPException):
                answer = None
            if answer is None or answer.status == 503:
                answer = None
                client.close()          # and connects again when it is used
                turn += 1
                client.conn.port = pair[turn % 2].port
            else:
                assert answer.status in ((200,) if has else (201, 200, 409)), (
                    answer.text)
                has = answer.status != 409
        return has

    with ThreadPoolExecutor(1) as pool:
        bought = pool.submit(many, pair[0], 100, buy)
        try:
            for n, what in enumerate(("gateway", "backend", "postmaster",
                                      "gateway", "postmaster")):
                shop.sql("SELECT release_stock(kind || i || '-' || %s) FROM "
                         "generate_series(%s, %s) i, unnest('{held-,sale-}'"
                         "::text[]) kind", (sale, 2 * n, 2 * n + 1))
                kill(what, pg, pair[n % 2])
        finally:
            over.set()
        bought = bought.result()
    assert bought.count(True) == 20
    assert {order for order, in shop.sql(
        "SELECT order_id FROM stock_reservations WHERE product_id = %s AND "
        "state = 'reserved'", (product,))} == {
            f"{sale}-{i}" for i, has in enumerate(bought) if has}
    assert shop.level(product)[1] == 20


def test_a_drain_loses_no_request(gateways, product, shop):
    gateway = gateways({"postgres": {"pool": 1}}).start()
    with held_up(shop, gateway, product, 8) as (conn, answers):
        wait_for_queue(gateway, 7)
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: gateway.get("/livez")[0] == 0, 30, gateway.tail)
        conn.rollback()
        answers = answers.result()
    assert {answer.status for answer in answers} == {201}
    assert {answer.headers["Connection"] for answer in answers} == {"close"}
    assert gateway.wait_end() == 0


def test_a_second_sigterm_ends_it_at_once(gateways, product, shop):
    """What waits is answered: whether it took effect is not known."""
    gateway = gateways({"postgres": {"pool": 1}}).start()
    with held_up(shop, gateway, product, 8) as (_, answers):
        wait_for_queue(gateway, 7)
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: "shutting down" in gateway.log(), 30, gateway.tail)
        gateway.signal(signal.SIGTERM)
        answers = answers.result()
    assert {answer.status for answer in answers} == {503}
    assert {answer.problem for answer in answers} <= {
        "outcome-unknown", "database-away"}
    assert gateway.wait_end() == 1


# ---- rude clients -----------------------------------------------------------

def test_pipelined_requests_are_answered_in_order(gateway, product):
    """Each begins when the one before it is answered, and at once then."""
    requests = b""
    for i in range(30):
        body = b'{"order_id":"piped-%s-%d","quantity":1}' % (
            product.encode(), i % 15)
        requests += (b"POST /products/%s/stock/reserve HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: Bearer token-of-an-app\r\n%s"
                     b"Content-Length: %d\r\n\r\n%s" % (
                         product.encode(), b"Connection: close\r\n"
                         if i == 29 else b"", len(body), body))
    began = time.monotonic()
    answer = raw(gateway.port, requests, leave=False)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == (
        [b"201"] * 10 + [b"409"] * 5 + [b"200"] * 10 + [b"409"] * 5)
    assert time.monotonic() - began < 10, "one waited for another's event"


HALF_OPEN = 10_000


def open_half(port, connections):
    """Connections that each send the begin of a request, and no more."""
    while len(connections) < HALF_OPEN:
        conn = socket.create_connection((HOST, port), timeout=20)
        connections.append(conn)
        try:
            conn.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\n")
        except ConnectionError:
            pass                        # it has made room for another one


def test_slow_clients_slow_nobody_down(gateway, product):
    """Many more half-open connections than the gateway holds: while they come,
    and while they are there, a client that is connected and one that connects
    are answered as ever."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (
        max(HALF_OPEN + 1000, files[0]), max(HALF_OPEN + 1000, files[1])))
    slow, times = [], []
    with ThreadPoolExecutor(1) as pool, closing(gateway.client()) as client:
        opened = pool.submit(open_half, gateway.port, slow)
        while not opened.done() or len(times) < 1000:
            order = f"slow-{product}-{len(times)}"
            one = client if len(times) % 10 else gateway.client(timeout=5)
            began = time.monotonic()
            assert one.post(f"/orders/{order}/release").status == 404
            times.append(time.monotonic() - began)
            if one is not client:
                one.close()
        opened.result()
    for conn in slow:
        conn.close()
    times.sort()
    assert times[len(times) * 99 // 100] < 0.2, times[-20:]
    assert len(slow) == HALF_OPEN


DRIPPING = 300


def drip(connections, rounds):
    """A byte of each one's body, now and again."""
    pause = threading.Event()
    for _ in range(rounds):
        for conn in connections:
            try:
                conn.sendall(b" ")
            except ConnectionError:
                pass                    # its time is over
        pause.wait(0.05)


def test_slow_bodies_slow_nobody_down(gateway, product):
    """Their heads are complete, and what has arrived of them is kept."""
    head = (f"POST /orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            f"{TOKENS['app']}\r\nContent-Length: 100000\r\n\r\n").encode()
    slow, times = [], []
    try:
        for _ in range(DRIPPING):
            slow.append(socket.create_connection((HOST, gateway.port),
                                                 timeout=20))
            slow[-1].sendall(head + b"{")
        wait_until(lambda: int(re.search(
            r"_http_connections (\d+)", gateway.get("/metrics")[1])[1]
            ) >= DRIPPING, 30, gateway.tail)
        with ThreadPoolExecutor(1) as pool, closing(gateway.client()) as client:
            dripping = pool.submit(drip, slow, 20)
            while not dripping.done() or len(times) < 100:
                order = f"drip-{product}-{len(times)}"
                answer = client.post(f"/orders/{order}/release")
                assert answer.status == 404
                times.append(answer.seconds)
            dripping.result()
    finally:
        for conn in slow:
            conn.close()
    assert max(times) < 1, sorted(times)[-30:]


def of_another_address(gateway, timeout=5):
    """A connection that comes from 127.0.0.2."""
    return socket.create_connection((HOST, gateway.port), timeout=timeout,
                                    source_address=("127.0.0.2", 0))


def test_one_address_does_not_take_all_connections(gateways):
    """Each of its connections, beyond those that there may be, takes the place
    of one of its own."""
    gateway = gateways().start()
    friends = [of_another_address(gateway) for _ in range(3)]
    flood = []
    try:
        for _ in range(4500):
            flood.append(socket.create_connection((HOST, gateway.port)))
        wait_until(lambda: "http_connections 4096" in
                   gateway.get("/metrics")[1], 30, gateway.tail)
        for friend in friends:
            friend.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert friend.recv(12) == b"HTTP/1.1 200"
    finally:
        for conn in flood + friends:
            conn.close()


def test_one_address_does_not_take_all_waiting_places(gateways, shop):
    """What waits is bounded as a sum, and for one address below it: reads that
    wait behind a lock, more of them than may."""
    gateway = gateways({"postgres": {"pool": 1},
                        "gateway": {"queue_max": 3000}}).start()
    request = (f"GET /admin-actions HTTP/1.1\r\nHost: x\r\nAuthorization: "
               f"Bearer {TOKENS['reader']}\r\n\r\n").encode()
    flood = []
    with closing(shop.connect()) as conn:
        conn.cursor().execute("LOCK TABLE pgstock_internal.admin_action")
        for _ in range(2688):
            flood.append(socket.create_connection((HOST, gateway.port)))
            flood[-1].sendall(request)
        wait_until(lambda: "queue_requests 2687" in gateway.get("/metrics")[1],
                   30, gateway.tail)
        with closing(gateway.client("reader")) as client:
            answer = client.get("/admin-actions")
            assert (answer.status, answer.problem) == (503, "overloaded")
            assert client.get("/livez").status == 200
        with of_another_address(gateway) as friend:
            friend.sendall(request)
            wait_until(lambda: "queue_requests 2688" in
                       gateway.get("/metrics")[1], 30, gateway.tail)
            conn.rollback()
            assert friend.recv(12) == b"HTTP/1.1 200"
    for one in flood:
        one.close()
