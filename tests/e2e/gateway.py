# SPDX-License-Identifier: PostgreSQL
"""One gateway as a server of the cluster, and clients for it."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import described
from cluster import HOST, need
from process import (Server, as_server, http_get, wait_until, write_private)

TOKENS = {"reader": "token-of-a-reader", "app": "token-of-an-app",
          "admin": "token-of-an-admin"}


class Answer:
    """Status, headers and body of a response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()
        self.seconds = None             # that the client has waited for it

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def problem(self):
        """The last part of the problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        return self.json["type"].rsplit(":", 1)[1]


class Client:
    """One connection that is kept alive, with the token of a role.  Each answer
    is validated against the gateway's description."""

    def __init__(self, port, role="app", timeout=30):
        self.conn = http.client.HTTPConnection(HOST, port, timeout=timeout)
        self.headers = {}
        self.described = True       # False: a test has changed the database
        if role:
            self.headers["Authorization"] = f"Bearer {TOKENS[role]}"

    def call(self, method, path, body=None, **headers):
        """body: bytes, or what becomes JSON; headers: with _ for -."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {name.replace("_", "-"): value
                   for name, value in headers.items()}
        began = time.monotonic()
        self.conn.request(method, path, body, {**self.headers, **headers})
        answer = Answer(self.conn.getresponse())
        answer.seconds = time.monotonic() - began
        if self.described:
            described.check(method, path, answer)
        return answer

    def get(self, path, **headers):
        return self.call("GET", path, **headers)

    def post(self, path, body=None, **headers):
        return self.call("POST", path, body if body is not None else {},
                         **headers)

    def reserve(self, product, quantity, order, **more):
        return self.post(f"/products/{product}/stock/reserve",
                         {"quantity": quantity, "order_id": order, **more})

    def close(self):
        self.conn.close()


class LocalClient(Client):
    """The same by a Unix socket."""

    def __init__(self, path, role=None):
        super().__init__(0, role)
        self.conn.connect = self.connect
        self.path = path

    def connect(self):
        self.conn.sock = socket.socket(socket.AF_UNIX)
        self.conn.sock.settimeout(30)
        self.conn.sock.connect(self.path)


def raw(port, data, timeout=20, leave=True):
    """What the gateway answers to these bytes, up to the connection's end;
    leave: the client's side of it ends first."""
    with socket.create_connection((HOST, port), timeout=timeout) as conn:
        answer = b""
        try:
            conn.sendall(data)
            if leave:
                conn.shutdown(socket.SHUT_WR)
            while part := conn.recv(65536):
                answer += part
        except (ConnectionError, OSError):
            pass                        # it was closed on us
        return answer


class Gateway(Server):
    """One gateway, run from a copy of the binary that the account can reach."""

    def __init__(self, directory, conninfos, config=None, detach=False):
        """conninfos: by role; those of "app" are called conninfo."""
        super().__init__(directory, detach)
        self.port = self.take_port()
        self.tokens_path = os.path.join(directory, "tokens")
        self.config_path = os.path.join(directory, "gateway.conf")
        self.config = {"gateway": {"listen": f"{HOST}:{self.port}",
                                   "tokens": self.tokens_path},
                       "postgres": {
                           "conninfo" if role == "app" else f"{role}_conninfo":
                           conninfo for role, conninfo in conninfos.items()}}
        for section, keys in (config or {}).items():
            self.config[section].update(keys)
        self.tokens = dict(TOKENS)
        self.binary = os.path.join(directory, "pgstock-gateway")
        shutil.copy(os.path.join(os.path.dirname(need("PGSTOCK_RELAY")),
                                 "pgstock-gateway"), self.binary)

    def write_config(self):
        write_private(self.tokens_path, "# role name hash\n" + "".join(
            f"{role} {role}-1 {hashlib.sha256(token.encode()).hexdigest()}\n"
            for role, token in self.tokens.items()))
        write_private(self.config_path, "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n"
                                       for key, value in keys.items())
            for section, keys in self.config.items()))

    def start(self, wait="/readyz", timeout=30, env=None):
        self.write_config()
        self.spawn([self.binary, "run", "--config", self.config_path], env)
        if wait:
            self.wait_status(wait, 200, timeout)
            self.wait_sessions(timeout)
        return self

    def wait_sessions(self, timeout=30):
        """Those of readers and administrators are no part of /readyz."""
        pools = [role for role in ("reader", "admin")
                 if self.config["postgres"].get(f"{role}_conninfo")]
        wait_until(lambda: not [
            pool for pool in pools if not re.search(
                r'_gateway_sessions\{pool="%s"\} [1-9]' % pool,
                self.get("/metrics")[1])], timeout, self.tail)

    def wait_status(self, path, status, timeout=30):
        def reached():
            assert self.running, f"the gateway ended\n{self.tail()}"
            return self.get(path)[0] == status
        wait_until(reached, timeout, lambda: f"{path}: {self.get(path)}\n"
                                             f"{self.tail()}")

    def get(self, path):
        return http_get(HOST, self.port, path, timeout=5)

    def client(self, role="app", **more):
        return Client(self.port, role, **more)

    def reload(self, good=True):
        """The log line that ends it is awaited; good: it is done."""
        end = "configuration reloaded" if good else \
            "keeping the old configuration"
        before = self.log().count(end)
        self.write_config()
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.log().count(end) > before, 30, self.tail)

    def terminate(self, timeout=30):
        self.signal(signal.SIGTERM)
        return self.wait_end(timeout)

    def command(self, *args):
        self.write_config()
        return subprocess.run(
            as_server([self.binary, *args]), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=60, cwd="/",
            stdin=subprocess.DEVNULL, check=False)


# ---- many clients, and a product that another session holds -----------------

def many(gateway, count, call):
    """The answers of that many clients that call at once."""
    barrier = threading.Barrier(count)

    def one(i):
        client = gateway.client()
        barrier.wait()
        try:
            return call(client, i)
        finally:
            client.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@contextmanager
def held_up(shop, gateway, product, count):
    """A session that holds a product, and the answers to come of clients that
    each want a piece of it for an order of their own.  The first client waits
    for the lock before the others send; where the gateway has one session,
    every one of them waits in its queue."""
    def reserve(client, i):
        return client.reserve(product, 1, f"held-up-{product}-{i}")

    def the_others(first):
        answers = many(gateway, count - 1,
                       lambda client, i: reserve(client, i + 1))
        return [*first.result(), *answers]

    with closing(shop.connect()) as conn, ThreadPoolExecutor(2) as pool:
        conn.cursor().execute("SELECT reserve_stock(%s, 1, %s)",
                              (product, f"holder-{product}"))
        first = pool.submit(many, gateway, 1, reserve)
        wait_for_lock(shop, gateway)
        yield conn, pool.submit(the_others, first) if count > 1 else first


def wait_for_queue(gateway, requests):
    """Until as many requests wait for a session."""
    wait_until(lambda: re.search(r"_queue_requests %d$" % requests,
                                 gateway.get("/metrics")[1], re.M),
               30, gateway.tail)


def wait_for_lock(shop, gateway):
    """Until a session of the gateway's waits for one."""
    wait_until(lambda: shop.value(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = "
        "'Lock' AND application_name = 'pgstock-gateway'"), 30, gateway.tail)
