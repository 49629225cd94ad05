# SPDX-License-Identifier: PostgreSQL
"""Requests by their bytes: what is refused, where they end, and the memory that
their bodies have together."""

import json
import re
import socket
import time
from contextlib import closing

import pytest

from cluster import HOST
from console_shop import fail
from gateway import TOKENS, raw
from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


def test_shapes_of_request_smuggling(gateway, app):
    """A request that two servers could cut in two ways is refused whole: its
    second part must not become a request."""
    tail = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (b"Content-Length : 44\r\n", b"Content-Length:\r\n 44\r\n",
                 b"Transfer-Encoding : chunked\r\n", b"X y: 1\r\n"):
        answer = raw(gateway.port, b"POST /orders HTTP/1.1\r\nHost: x\r\n"
                     + head + b"\r\n" + get)
        assert b"200 OK" not in answer, (head, answer)
    for head in (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                 b"Content-Length: 4\r\nContent-Length: 40\r\n",
                 b"Content-Length: -4\r\n", b"Content-Length: 4x\r\n",
                 b"Transfer-Encoding: chunked, identity\r\n",
                 b"Content-Length : 4\r\n"):
        answer = raw(gateway.port, b"POST /orders HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: Bearer token-of-an-app\r\n"
                     + head + b"\r\n" + tail)
        assert b"200 OK" not in answer, (head, answer)
        assert answer.count(b"HTTP/1.1 ") <= 1 or b"Connection: close" in answer
    # where a body by chunks ends is not left to the next request to show:
    # libmicrohttpd takes a line that ends with LF alone
    for version, body in ((b"1.1", b"2\r\n{}\r\n0\r\n\r\n"),
                          (b"1.1", b"2\n{}\r\n0\r\n\r\n"),
                          (b"1.0", b"2\r\n{}\r\n0\r\n\r\n")):
        answer = raw(gateway.port, b"POST /orders/none/release HTTP/" + version
                     + b"\r\nHost: x\r\nConnection: keep-alive\r\n"
                     b"Authorization: Bearer token-of-an-app\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n" + body + get,
                     leave=False)
        assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert b"Connection: close" in answer
        assert answer[9:12] == (b"404" if version == b"1.1" else b"400")
    assert app.get("/livez").status == 200


def test_what_the_server_refuses_is_counted(gateway):
    def count():
        found = re.search(r'http_requests_total\{route="none",method="none",'
                          r'status="431"\} (\d+)', gateway.get("/metrics")[1])
        return int(found.group(1)) if found else 0

    before = count()
    answer = raw(gateway.port, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: "
                 + b"a" * 9000 + b"\r\n\r\n", leave=False)
    assert answer.startswith(b"HTTP/1.1 431") and b'"hint":"' in answer
    assert count() == before + 1


def test_a_head_that_is_refused_is_a_problem(gateway):
    """As the handler's problems are: a type has one title and one SQLSTATE."""
    answer = raw(gateway.port, b"POST /orders HTTP/1.1\r\nHost: x\r\n"
                 b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n",
                 leave=False)
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body) == {
        "type": "urn:pgstock:problem:invalid", "status": 400,
        "title": "The request is not valid", "sqlstate": "22023",
        "detail": "the headers give the length of the body twice",
        "hint": "Send Content-Length or Transfer-Encoding, once."}


def test_rude_bytes(gateway, app):
    for data in (b"", b"\0" * 1000, b"GET", b"GET /livez\r\n\r\n",
                 b"GET /livez HTTP/9.9\r\n\r\n", b"\xff\xfe / HTTP/1.1\r\n\r\n",
                 b"GET /livez HTTP/1.1\r\n\r\n",            # no Host
                 b"GET /livez HTTP/1.1\r\nHost: x\r\n" +
                 b"X-A: " + b"a" * 100000 + b"\r\n\r\n",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET /livez HTTP/1.1\r\nHost: x\r\n" +
                 b"".join(b"X-%d: a\r\n" % i for i in range(5000)) + b"\r\n"):
        answer = raw(gateway.port, data)
        assert not answer or answer.startswith(b"HTTP/1.1 "), data[:40]
    assert app.get("/livez").status == 200


def test_headers_near_the_limit(gateway):
    """Each is answered, whatever room it leaves for the answer."""
    statuses = {}
    for size in [*range(7800, 8400, 50), *range(8400, 32000, 200),
                 *range(33000, 70000, 1000)]:
        head = (b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                b"Authorization: Bearer token-of-an-app\r\n"
                b"Connection: close\r\n"
                b"X-A: \r\n\r\n")
        head = head.replace(b"X-A: ", b"X-A: " + b"a" * (size - len(head)))
        answer = raw(gateway.port, head + b"{}", leave=False)
        assert answer.startswith(b"HTTP/1.1 "), size
        statuses[size] = int(answer[9:12])
    assert {size: status for size, status in statuses.items()
            if status != (400 if size <= 8192 else 431)} == {}


@pytest.mark.parametrize("head", ["GET /livez", "POST /orders",
                                  "GET /console/style.css"])
def test_bodies_of_strangers_take_no_memory(gateways, head):
    """64 clients without a token, whose bodies would fill what all bodies may
    have together: those of clients with a token are kept."""
    gateway = gateways().start()
    size = 1048570
    body = b" " * size
    request = (f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {size + 2}"
               "\r\n\r\n").encode()
    strangers = []
    for _ in range(64):
        conn = socket.create_connection((HOST, gateway.port), timeout=20)
        strangers.append(conn)
        conn.sendall(request + body)
    with closing(gateway.client()) as client:
        for _ in range(50):
            answer = client.post("/orders/none/release", {"reason": "x" * 999})
            assert answer.problem == "unknown-order"
    for conn in strangers:
        conn.sendall(b"{}")
        assert conn.recv(12) == (b"HTTP/1.1 401" if "orders" in head
                                 else b"HTTP/1.1 200")
        conn.close()


def test_full_memory_of_bodies(gateways):
    gateway = gateways().start()
    clients = []
    for _ in range(65):
        conn = socket.create_connection((HOST, gateway.port), timeout=20)
        clients.append(conn)
        conn.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: Bearer token-of-an-app\r\n"
                     b"Content-Length: 1048576\r\n\r\n" + b" " * 1048570)
    with closing(gateway.client()) as client:
        wait_until(lambda: client.post("/orders", b" " * 99999).status == 503,
                   30, gateway.tail)
        answer = client.post("/orders", b" " * 99999)
    assert answer.headers["Retry-After"] == "1"
    assert answer.problem == "overloaded" and "Repeat" in answer.json["hint"]
    for conn in clients:
        conn.close()


def peak(gateway):
    """The most memory that it has had, in MiB."""
    with open(f"/proc/{gateway.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) >> 10


def test_answers_that_nobody_reads(gateways, shop):
    """100 clients ask for 1 MB each and do not read it.  Those that were to
    read it first are closed, long before their 10 s are over; one that reads
    has all of it."""
    gateway = gateways().start()
    number = fail(shop, "{" + "x" * 1_000_000)
    request = (f"GET /failed/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: "
               f"Bearer {TOKENS['reader']}\r\n\r\n").encode()
    before = peak(gateway)
    began = time.monotonic()
    slow = []
    for _ in range(100):
        conn = socket.socket()
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        conn.connect((HOST, gateway.port))
        slow.append(conn)
        conn.sendall(request)
        assert conn.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
    with closing(gateway.client("reader")) as client:
        assert len(client.get(f"/failed/{number}").json["payload"]) == 1_000_001
    whole = [len(rest_of(conn)) > 1_000_000 for conn in slow]
    assert time.monotonic() - began < 10, "they were closed for their time"
    assert 30 < whole.count(False) < 90 and all(whole[-10:])
    assert peak(gateway) - before < 100


def rest_of(conn):
    """What arrives until the end of the answer, or of the connection."""
    answer = b""
    with closing(conn):
        while len(answer) < 1_000_200 and (part := conn.recv(1 << 20)):
            answer += part
    return answer
