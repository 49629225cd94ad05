# SPDX-License-Identifier: PostgreSQL
"""The gateway's TLS, and the certificates of its clients."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from contextlib import closing

import pytest

from cluster import HOST
from conftest import gateway_conninfos
from gateway import TOKENS, Client, Gateway
from process import wait_until, write_private

SPIFFE = "spiffe://shop.example/web"
CLIENT = "extendedKeyUsage=clientAuth"


def context(certificates, client=None, authority="ca"):
    made = ssl.create_default_context(cafile=certificates.path(
        f"{authority}.pem"))
    if client:
        made.load_cert_chain(certificates.path(f"{client}.crt"),
                             certificates.path(f"{client}.key"))
    return made


class SecureClient(Client):
    """The same over TLS."""

    def __init__(self, gateway, tls, role=None, host=HOST):
        super().__init__(gateway.port, role)
        self.conn = http.client.HTTPSConnection(host, gateway.port, timeout=30,
                                                context=tls)


class SecureGateway(Gateway):
    """One gateway with TLS."""

    def __init__(self, *args, certificates, **more):
        super().__init__(*args, **more)
        self.certificates = certificates
        self.extra_tokens = ""
        self.config["gateway"].update(
            tls_certificate=f"{self.directory}/crt",
            tls_key=f"{self.directory}/key",
            tls_client_ca=certificates.path("ca.pem"))
        self.use("good")

    def use(self, name):
        """The certificate of that name takes the place of the one before."""
        for kind in ("crt", "key"):
            with open(self.certificates.path(f"{name}.{kind}"),
                      encoding="ascii") as file:
                write_private(f"{self.directory}/{kind}", file.read())

    def write_config(self):
        super().write_config()
        with open(self.tokens_path, "a", encoding="ascii") as file:
            file.write(self.extra_tokens)

    def get(self, path):
        client = SecureClient(self, context(self.certificates))
        try:
            answer = client.get(path)
            return answer.status, answer.text
        except OSError as error:
            return 0, str(error)
        finally:
            client.close()


@pytest.fixture(scope="module")
def names(certificates):
    """Certificates of clients, besides those that all tests have."""
    certificates.sign("web", "ca", "/O=shop", 30, CLIENT,
                      f"subjectAltName=URI:{SPIFFE}")
    certificates.sign("stock", "ca", "/O=shop/CN=stock", 30, CLIENT)
    certificates.sign("a-server", "ca", "/CN=stock", 30,
                      "extendedKeyUsage=serverAuth")
    return certificates


@pytest.fixture
def secure(new_dir, shop, names):
    made = SecureGateway(
        new_dir("gateway"), gateway_conninfos(shop), certificates=names)
    made.extra_tokens = (f"app web cert:{SPIFFE}\nadmin stock cert:stock\n"
                         "reader relay cert:relay\n")
    yield made.start()
    print(made.tail(60))
    made.close()


def refused(client, reason):
    """The connection ends for this reason, which the client sees: unless its
    request arrives behind the end, which resets the connection; it asks again
    then."""
    def alert():
        with closing(client):
            try:
                client.get("/livez")
            except (ssl.SSLEOFError, ConnectionError):
                return None
            except ssl.SSLError as error:
                return str(error).replace(" ", "_").lower()
            raise AssertionError("it was answered")

    assert reason in wait_until(alert, 30, "reset at each attempt")


def test_requests_over_tls(secure, names):
    client = SecureClient(secure, context(names), "app")
    for _ in range(3):                          # on one connection
        assert client.get("/orders/o").status == 404
    body = {"order_id": "x" * 100, "items": [
        {"product_id": f"p{i}" * 20, "quantity": 1} for i in range(1000)]}
    for _ in range(3):                          # larger than one record
        answer = client.post("/orders", body)
        assert (answer.status, answer.problem) == (404, "unknown-product")
        assert len(answer.json["lines"]) == 1000
    assert client.conn.sock.version() == "TLSv1.3"
    client.close()

    old = context(names)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client = SecureClient(secure, old, "app")
    assert client.get("/orders/o").status == 404
    client.close()
    # its cipher is allowed, and its version is not
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{HOST}:{secure.port}", "-tls1_1",
         "-cipher", "DEFAULT:@SECLEVEL=0"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    # without TLS: no answer, and no harm
    with socket.create_connection((HOST, secure.port), timeout=30) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1" not in plain.recv(1000)
    assert secure.get("/livez")[0] == 200


def test_a_client_knows_which_gateway_it_is(secure, names):
    refused(SecureClient(secure, context(names, authority="stranger")),
            "certificate_verify_failed")
    refused(SecureClient(secure, context(names), host="localhost"),
            "hostname_mismatch")
    for name, reason in (("expired", "certificate_has_expired"),
                         ("other", "ip_address_mismatch")):
        secure.use(name)
        secure.reload()
        refused(SecureClient(secure, context(names)), reason)


@pytest.mark.parametrize("client, role, actor", [
    ("web", "app", "gateway_app/web"),
    ("stock", "admin", "gateway_admin/stock"),
    ("client", "reader", None), (None, None, None), ("good", None, None)])
def test_a_certificate_has_a_role(secure, names, shop, client, role, actor):
    caller = SecureClient(secure, context(names, client))
    product = f"tls-{client}"
    shop.sql("SELECT receive_stock(%s, 10)", (product,))
    path = f"/products/{product}/stock"
    roles = [None, "reader", "app", "admin"]
    for least, call in (
            ("reader", lambda: caller.get(path)),
            ("app", lambda: caller.reserve(product, 1, f"o-{product}")),
            ("admin", lambda: caller.post(f"{path}/receive", {"quantity": 1}))):
        answer = call()
        if role is None:
            assert (answer.status, answer.problem) == (401, "unauthenticated")
        else:
            allowed = roles.index(role) >= roles.index(least)
            assert (answer.status != 403) == allowed, least
    assert caller.get("/livez").status == 200
    if actor:
        assert actor in [row[0] for row in shop.sql(
            "SELECT actor FROM stock_movements WHERE product_id = %s",
            (product,))]
    # a token counts more than the certificate
    caller.headers["Authorization"] = f"Bearer {TOKENS['reader']}"
    assert caller.reserve(product, 1, "o-2").problem == "forbidden"
    caller.headers["Authorization"] = "Bearer another"
    assert caller.get(path).problem == "unauthenticated"
    caller.close()


@pytest.mark.parametrize("headers, served", [
    ({}, True),
    ({"Origin": "https://127.0.0.1:PORT"}, True),
    ({"Origin": "https://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"},
     True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "https://127.0.0.1:1"}, False),
    ({"Origin": "http://127.0.0.1:PORT"}, False),
    ({"Origin": "null"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False)])
def test_a_page_of_another_site_has_no_certificate(secure, names, shop, headers,
                                                   served):
    """The browser of an administrator sends it, whoever wrote the page."""
    headers = {name: value.replace("PORT", str(secure.port))
               for name, value in headers.items()}
    product = f"csrf-{secure.port}"
    with closing(SecureClient(secure, context(names, "stock"))) as client:
        answer = client.post(f"/products/{product}/stock/receive",
                             {"quantity": 1}, **headers)
    assert answer.status == (200 if served else 403)
    if not served:
        assert answer.problem == "forbidden"
        assert "token" in answer.json["hint"]
    assert shop.value("SELECT count(*) FROM stock_levels WHERE product_id = %s",
                      (product,)) == (1 if served else 0)
    # a token is in no browser but of whom it was given to
    with closing(SecureClient(secure, context(names), "admin")) as client:
        assert client.get("/orders/o", **headers).status == 404


@pytest.mark.parametrize("client, reason, logged", [
    ("client-expired", "certificate_expired", "expired"),
    ("client-unknown", "unknown_ca", "issuer is unknown"),
    ("a-server", "bad_certificate", "intended purpose")])
def test_a_certificate_that_is_not_valid(secure, names, client, reason, logged):
    refused(SecureClient(secure, context(names, client)), reason)
    # the client may have the answer before the log has its line
    wait_until(lambda: re.search(
        f"refused the certificate of a client.*{logged}", secure.log(),
        re.IGNORECASE), 30, secure.tail)
    assert secure.get("/livez")[0] == 200


def test_files_are_read_again(secure, names):
    def subject(client):
        return dict(one[0] for one in client.conn.sock.getpeercert()["subject"]
                    )["commonName"]

    open_one = SecureClient(secure, context(names), "app")
    assert open_one.get("/orders/o").status == 404
    assert subject(open_one) == "good"
    names.sign("renewed", "ca", "/CN=renewed", 9, f"subjectAltName=IP:{HOST}")
    secure.use("renewed")
    secure.config["gateway"]["tls_client_ca"] = names.path("stranger.pem")
    secure.reload()
    assert open_one.get("/orders/o").status == 404      # not interrupted
    other = SecureClient(secure, context(names, "client-unknown"))
    assert other.get("/orders/o").status == 404         # of the stranger now
    assert subject(other) == "renewed"
    expires = float(re.search(
        r"^pgstock_gateway_tls_certificate_expiry_timestamp_seconds (\S+)$",
        secure.get("/metrics")[1], re.MULTILINE).group(1))
    assert expires - time.time() == pytest.approx(9 * 86400, abs=900)
    refused(SecureClient(secure, context(names, "client")), "unknown_ca")

    for file, content, sentence in (
            ("key", "nonsense", "are not a certificate and its key"),
            ("key", None, "could not read")):
        path = f"{secure.directory}/{file}"
        os.unlink(path)
        if content:
            write_private(path, content)
        secure.reload(good=False)
        assert sentence in secure.tail(3)
        fresh = SecureClient(secure, context(names), "app")
        assert fresh.get("/orders/o").status == 404
        assert subject(fresh) == "renewed"
        fresh.close()
    open_one.close()
    other.close()


def test_a_handshake_that_never_ends(secure):
    """It gives its place back, as a request that never ends does."""
    begun = time.monotonic()
    silent = socket.create_connection((HOST, secure.port), timeout=30)
    half = socket.create_connection((HOST, secure.port), timeout=30)
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for one in (silent, half):
        assert one.recv(1) == b""
        assert 9 < time.monotonic() - begun < 15
        one.close()
    assert secure.get("/livez")[0] == 200


def test_a_drain_over_tls(secure, names, shop):
    client = SecureClient(secure, context(names), "app")
    assert client.get("/orders/o").status == 404
    shop.sql("SELECT receive_stock('drained', 10)")
    with closing(shop.connect()) as holder:
        holder.cursor().execute("SELECT reserve_stock('drained', 1, 'h')")
        client.conn.request("POST", "/products/drained/stock/reserve",
                            b'{"quantity": 1, "order_id": "drained"}',
                            client.headers)
        wait_until(lambda: shop.value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = "
            "'Lock' AND application_name = 'pgstock-gateway'"), 30, secure.tail)
        secure.signal(signal.SIGTERM)
        wait_until(lambda: secure.get("/livez")[0] == 0, 30, secure.tail)
        holder.rollback()
    assert client.conn.getresponse().status == 201
    assert secure.wait_end() == 0
    client.close()


WRONG = [
    ({"tls_key": ""}, 'give "tls_certificate" and "tls_key", or neither'),
    ({"tls_certificate": "", "tls_key": ""},
     '"tls_client_ca" needs "tls_certificate"'),
    ({"tokens": ""}, '"tls_client_ca" needs "tokens"'),
    ({"tls_certificate": "/nowhere"}, 'could not read "/nowhere"'),
    ({"tls_client_ca": "/dev/null"}, "there is no certificate in"),
    ({"admin_users": "no-such-user"}, 'could not find the user "no-such-user"'),
    ({"listen": ","}, '"listen" must have 1 to 8 addresses'),
]


@pytest.mark.parametrize("keys, sentence", WRONG)
def test_options_that_do_not_fit(new_dir, shop, names, keys, sentence):
    made = SecureGateway(new_dir("gateway"), gateway_conninfos(shop),
                         certificates=names)
    made.config["gateway"].update(keys)
    done = made.command("run", "--config", made.config_path)
    made.close()
    assert done.returncode == 2
    assert sentence in done.stderr
