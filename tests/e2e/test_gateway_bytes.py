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


AUTH = b"Authorization: Bearer token-of-an-app\r\n"
CLOSE = b"Connection: close\r\n"


@pytest.mark.parametrize("line, headers, statuses", [
    (b"GET http://evil.example/livez", b"", b"404"),
    (b"OPTIONS *", b"", b"404"), (b"OPTIONS /orders", b"", b"405"),
    (b"CONNECT x:80", b"", b"404"), (b"TRACE /livez", b"", b"405"),
    (b"get /livez", b"", b"405"),
    (b"GET /livez", b"Host: y\r\n", b"400"),
    (b"GET /livez", b"Authorization: Bearer x\r\n" + AUTH, b"400"),
    (b"GET /livez", b"X-A: a\r\n b: c\r\n", b"400"),
    (b"GET /livez", b"X-A: a\r\n b\r\n", b"200"),
    (b"GET /livez", b"X\0A: b\r\n", b"400"),
    (b"GET /livez", b"X-A: a\rContent-Length: 2\r\n", b"200"),
    (b"GET /orders/\xff\xfe", AUTH, b"400"),
    (b"GET /orders/%ff", AUTH, b"400"), (b"GET /orders/%2", AUTH, b"400"),
    (b"GET /orders/a\x01b", AUTH, b"404"),
    (b"GET /products?search=%zz", AUTH, b"400"),
    (b"GET /products?search=%00", AUTH, b"400"),
    (b"GET /products?search=a&search=b", AUTH, b"400"),
    (b"GET /products?search", AUTH, b"400"),
    (b"GET /products?&&search=a", AUTH, b"400"),
    (b"HEAD /openapi.json", b"", b"200"),
    (b"GET /livez", b"".join(b"X-%d: a\r\n" % i for i in range(600)), b"431"),
])
def test_heads(gateway, line, headers, statuses):
    """One answer to each, and the connection ends with it."""
    answer = raw(gateway.port, line + b" HTTP/1.1\r\nHost: x\r\n" + headers
                 + CLOSE + b"\r\n", leave=False)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer)[:1] == [statuses], answer
    if line.startswith(b"HEAD"):
        assert answer.endswith(b"\r\n\r\n") and b"Content-Length: " in answer


@pytest.mark.parametrize("headers, body, statuses", [
    (b"Content-Length: 2\r\nExpect: 100-continue\r\n", b"{}", b"100 404 200"),
    (b"Content-Length: 2\r\nExpect: 200-maybe\r\n", b"{}", b"404 200"),
    (b"Content-Length: +2\r\n", b"{}", b"400"),
    (b"Content-Length: 0x2\r\n", b"{}", b"400"),
    (b"Content-Length: 2, 2\r\n", b"{}", b"400"),
    (b"Content-Length: \r\n", b"{}", b"400"),
    (b"Content-Length: 99999999999999999999999\r\n", b"{}", b"413"),
    (b"Transfer-Encoding: xchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"400"),
    (b"Transfer-Encoding: CHUNKED\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"404"),
    (b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n",
     b"2\r\n{}\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\n\r\n", b"404"),
    (b"Transfer-Encoding: chunked\r\n", b"2;a=\"\r\n\"\r\n{}\r\n0\r\n\r\n",
     b"400"),
    (b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"400"),
    (b"Transfer-Encoding: chunked\r\n", b"f" * 18 + b"\r\n{}\r\n", b"413"),
    (b"Idempotency-Key: a\x01\x7f\r\nContent-Length: 2\r\n", b"{}", b"404 200"),
    (b"Idempotency-Key: \xff\r\nContent-Length: 2\r\n", b"{}", b"400 200"),
    (b"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 2\r\n",
     b"{}", b"400"),
    (b"X-Request-Id: a\x1b[2J\r\nContent-Length: 2\r\n", b"{}", b"404 200"),
])
def test_bodies(gateway, headers, body, statuses):
    """What follows a body is a request only where its end is clear."""
    answer = raw(gateway.port, b"POST /orders/none/release HTTP/1.1\r\n"
                 b"Host: x\r\n" + AUTH + headers + b"\r\n" + body
                 + b"GET /livez HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n",
                 leave=False)
    found = re.findall(rb"(?:^|\n)HTTP/1.1 (\d+)", answer)
    # libmicrohttpd sends the head of an answer of its own twice
    if b"<html>" in answer and found[1:] == found[:1]:
        found = found[:1]
    assert b" ".join(found) == statuses, answer
    assert b"[2J" not in answer


@pytest.mark.parametrize("body", [
    b'{"order_id":' + b"[" * 300000 + b"]" * 300000 + b"}",
    b'{"items":' + b'{"a":' * 150000 + b"1" + b"}" * 150001,
    b'{"order_id":"a","ttl":' + b"9" * 200000 + b"}",
    b'{"order_id":"a","items":[{"product_id":"p","quantity":1e400}]}',
    b'{"order_id":"a","items":[{"product_id":"p","quantity":%d}]}' % (
        2**53 + 1),
    b'{"order_id":"a","items":[{"product_id":"p","quantity":%d}]}' % 2**64,
    b'{"order_id":%d,"items":[{"product_id":"p","quantity":1}]}' % 10**30,
    b'{"order_id":"a","items":[{"product_id":"p","product_id":"q"}]}',
    b'{"order_id":"\\ud800","items":[{"product_id":"p","quantity":1}]}',
    b'\xef\xbb\xbf{"order_id":"a","items":[{"product_id":"p","quantity":1}]}',
    b'{"order_id":"a","items":[{"product_id":"p","quantity":1}]} x',
    b'{"order_id":"a"\0,"items":[{"product_id":"p","quantity":1}]}',
], ids=range(12))
def test_bombs(app, body):
    answer = app.post("/orders", body)
    assert (answer.status, answer.problem) == (400, "invalid")
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


@pytest.mark.alone
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
    found = re.search(r"http_connections (\d+)", gateway.get("/metrics")[1])
    assert time.monotonic() - began < 10, "they were closed for their time"
    assert 20 < int(found.group(1)) < 70
    assert len(rest_of(slow[-1])) > 1_000_000 > len(rest_of(slow[0]))
    assert peak(gateway) - before < 100
    for conn in slow:
        conn.close()


def rest_of(conn):
    """What arrives until the end of the answer, or of the connection."""
    answer = b""
    with closing(conn):
        while len(answer) < 1_000_200 and (part := conn.recv(1 << 20)):
            answer += part
    return answer
