# SPDX-License-Identifier: PostgreSQL
"""Who may call the gateway by its Unix socket, and that no log has a secret."""

import getpass
import socket

import pytest

from cluster import HOST
from gateway import TOKENS, LocalClient
from process import server_user, wait_until

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.fixture
def local(gateways):
    """A gateway with a port and a socket, and clients for the socket."""
    made = gateways()
    path = f"{made.directory}/socket"
    made.config["gateway"]["listen"] += f", unix:{path}"
    made.config["gateway"]["admin_users"] = "root"
    made.start()
    clients = []

    def client(role=None):
        clients.append(LocalClient(path, role))
        return clients[-1]
    yield made, client
    for one in clients:
        one.close()


def test_users_of_this_machine(local, shop):
    gateway, connect = local
    # we are the gateway's own user, or root
    user = "root" if server_user() else getpass.getuser()
    client = connect()
    path = "/products/local/stock"
    assert client.post(f"{path}/receive", {"quantity": 3}).status == 200
    assert shop.value("SELECT actor FROM stock_movements WHERE product_id ="
                      " 'local'") == f"gateway_admin/{user}"
    # what others send through a process of ours has not its rights
    for header in ("Origin", "X-Forwarded-For", "Forwarded", "Via",
                   "Sec-Fetch-Site"):
        answer = client.get(path, **{header: "x"})
        assert (answer.status, answer.problem) == (401, "unauthenticated")
    # a token says more than the user
    reader = connect("reader")
    assert reader.get(path).status == 200
    assert reader.post(f"{path}/receive", {"quantity": 1}
                       ).problem == "forbidden"
    # by the port everyone needs a token
    other = gateway.client(None)
    assert other.get(path).problem == "unauthenticated"
    other.headers["Authorization"] = f"Bearer {TOKENS['app']}"
    assert other.get(path).status == 200

    del gateway.config["gateway"]["admin_users"]    # nobody, by default
    gateway.reload()
    assert client.get(path).problem == "unauthenticated"
    other.close()


def test_a_socket_without_tokens(local, shop):
    gateway, connect = local
    gateway.config["gateway"].update(tokens="", admin_users="")
    gateway.terminate()
    gateway.start(wait=None)
    client = connect()

    def is_ready():
        try:
            return client.get("/readyz").status == 200
        except OSError:             # it does not listen yet
            client.close()
            return False
    wait_until(is_ready, 30, gateway.tail)
    shop.sql("SELECT receive_stock('open', 3)")
    assert client.reserve("open", 1, "open-1").status == 201
    assert client.post("/products/open/stock/receive", {"quantity": 1}
                       ).problem == "forbidden"


# ---- secrets ----------------------------------------------------------------

def test_no_log_has_a_secret(local, pg, shop):
    """Not the gateway's, whatever goes wrong, and not the server's."""
    gateway, connect = local
    gateway.config["gateway"].update(log_level="debug")
    gateway.config["postgres"]["conninfo"] += " password=secret-of-the-role"
    gateway.tokens["app"] = TOKENS["app"]
    gateway.reload()
    for role in TOKENS:
        client = gateway.client(role)
        client.reserve("p", 1, "o", Idempotency_Key="key")
        client.get("/orders/%ff")
        client.call("BREW", "/orders")
        client.post("/orders", b"{")
        client.close()
    bad = gateway.client(None)
    bad.headers["Authorization"] = "Bearer secret-but-wrong"
    assert bad.get("/orders/o").status == 401
    bad.close()
    with socket.create_connection((HOST, gateway.port)) as rude:
        rude.sendall(b"GET / HTTP/1.1\r\nAuthorization: Bearer "
                     + TOKENS["app"].encode() + b"\r\nA B: c\r\n\x00\r\n\r\n")
        rude.recv(1000)
    gateway.tokens["nobody"] = "another-secret"     # a fault of the file
    gateway.reload(good=False)
    shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
             "WHERE usename LIKE 'gateway%%'")
    gateway.wait_status("/readyz", 200)
    assert gateway.terminate() == 0
    secrets = [*TOKENS.values(), "secret-of-the-role", "secret-but-wrong",
               "another-secret"]
    for log in (gateway.log(), pg.log()):
        assert [one for one in secrets if one in log] == []
