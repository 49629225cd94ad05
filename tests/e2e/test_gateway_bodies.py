# SPDX-License-Identifier: PostgreSQL
"""The memory that the bodies of all requests have together."""

import socket
from contextlib import closing

import pytest

from cluster import HOST
from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


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
