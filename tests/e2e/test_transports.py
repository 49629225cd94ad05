# SPDX-License-Identifier: PostgreSQL
"""TLS, logins and their secrets: what docs/transports.md says.

What is right works; each thing that is wrong is reported with the host, the
address, the file and the next step; a password that changes while the relay
runs costs no event and doubles none; and no secret is shown anywhere.
"""

import base64
import json
import os
import pathlib
import resource
import signal
import ssl
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import secure
from checks import check_complete, duplicates, wait_complete
from cluster import HOST
from kafkaio import delivered, send
from process import Proxy, make_dir, wait_until, write_private
from secure import STRANGE_ADDRESS, USER, newer_librdkafka
from test_inbox import order

DB_PASSWORD = "correct-horse-battery"

session_kafka = secure.session_kafka


@pytest.fixture(autouse=True)
def home(run, monkeypatch):
    """libpq looks for certificates there, too."""
    monkeypatch.setenv("HOME", run)


@pytest.fixture
def pg(secure_pg):
    secure_pg.show("good")
    return secure_pg


@pytest.fixture
def role(db):
    """A role with the relay's rights that logs in by a password over TLS."""
    name = f"{db.name}_relay"
    db.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{DB_PASSWORD}'")
    db.require_password(name)
    db.sql("SELECT grant_stock_access(%s, 'relay')", (name,))
    yield name
    db.sql(f"DROP OWNED BY {name}")
    db.sql(f"DROP ROLE {name}")


@pytest.fixture
def certified(db):
    """The role whose name is the client certificate's."""
    db.sql(f"CREATE ROLE {USER} LOGIN")
    db.sql("SELECT grant_stock_access(%s, 'relay')", (USER,))
    yield USER
    db.sql(f"DROP OWNED BY {USER}")
    db.sql(f"DROP ROLE {USER}")


def verified(db, role, **more):
    """conninfo with all that the manual recommends, and more or less."""
    fields = {"user": role, "sslmode": "verify-full",
              "sslrootcert": db.pg.certificates.path("ca.pem"),
              "connect_timeout": 5, **more}
    return db.conninfo(**{key: value for key, value in fields.items()
                          if value is not None})


def passfile(run, role, password):
    path = os.path.join(run, f"pgpass-{role}")
    write_private(path, f"{HOST}:*:*:{role}:{password}\n")
    return path


def refused(relay, conninfo, *said, env=None):
    """check reports the server's name, address and each of these texts."""
    relay.config["postgres"]["conninfo"] = conninfo
    done = relay.command("check", env=env)
    lines = done.stdout.splitlines()
    at = [i for i, line in enumerate(lines) if line.startswith("FAIL  data")]
    assert done.returncode == 1 and at, done.stdout + done.stderr
    found = " / ".join(lines[at[0]:at[0] + 2])
    assert DB_PASSWORD not in done.stdout + done.stderr
    for text in said:
        assert text in found, (text, found)
    return found


# ---- PostgreSQL ------------------------------------------------------------


def test_postgres_is_verified(db, role, kafka, run, start_relay):
    """verify-full, SCRAM bound to the channel, the password in a file."""
    env = {"PGPASSFILE": passfile(run, role, DB_PASSWORD)}
    relay = start_relay({"kafka": {}}, env=env, conninfo=verified(
        db, role, channel_binding="require", require_auth=None))
    db.sql("SELECT receive_stock('book', 10)")
    wait_until(lambda: relay.metric("outbox_published_total") == 1, 10,
               "the event is out")
    assert db.sql("SELECT DISTINCT s.ssl, s.version FROM pg_stat_ssl s"
                  " JOIN pg_stat_activity a USING (pid) WHERE a.usename = %s",
                  (role,)) == [(True, "TLSv1.3")]
    assert relay.command("check", env=env).returncode == 0


def test_postgres_by_certificate(db, certified, kafka, relays):
    """No password at all; each wrong certificate is reported."""
    certificates = db.pg.certificates
    own = {"sslcert": certificates.path("client.crt"),
           "sslkey": certificates.path("client.key")}
    relay = relays(verified(db, certified, **own), kafka.brokers)
    assert relay.command("check").returncode == 0
    address = f'"{HOST}", port {db.pg.port}'
    refused(relay, verified(db, certified, sslcert="/missing"), address,
            "certificate", "Set sslcert and sslkey in conninfo")
    for name in ("client-expired", "client-unknown"):
        refused(relay, verified(
            db, certified, sslcert=certificates.path(f"{name}.crt"),
            sslkey=certificates.path(f"{name}.key")), address, " alert ",
            "The server refuses the relay's certificate: see sslcert")


def test_wrong_postgres_certificates_are_reported(db, role, kafka, run,
                                                  relays):
    env = {"PGPASSFILE": passfile(run, role, DB_PASSWORD)}
    good = verified(db, role)
    relay = relays(good, kafka.brokers)
    address = f'"{HOST}", port {db.pg.port}'
    ca = f"sslrootcert = {db.pg.certificates.path('ca.pem')}"
    db.pg.show("expired")
    refused(relay, good, address, "certificate has expired: subject CN=expired,"
            " issuer CN=ca, valid until ", ca, "Renew that certificate",
            env=env)
    db.pg.show("unknown")
    refused(relay, good, address, "unable to get local issuer certificate",
            "subject CN=unknown, issuer CN=stranger", ca,
            "Set sslrootcert to a file", env=env)
    # the relay that runs says the same, but for libpq's silence
    relay.config["postgres"]["conninfo"] = good
    relay.start(wait="/livez", env=env)
    wait_until(lambda: "certificate verify failed" in relay.log(), 15,
               relay.tail)
    assert '"pgstock-relay check" reports what is wrong' in relay.log()
    db.pg.show("other")
    refused(relay, good, address, "does not match host name",
            f'"{STRANGE_ADDRESS}"', "Connect by a name that the certificate",
            env=env)
    db.pg.show("good")
    relay.wait_ok("/readyz", 30)


def test_lists_of_revoked_certificates_are_used(db, role, kafka, run, relays):
    """Those that libpq uses: a file, a directory, and the default. Where one
    lacks the authority's list, its setting is named."""
    env = {"PGPASSFILE": passfile(run, role, DB_PASSWORD)}
    relay = relays(verified(db, role), kafka.brokers)
    ca = db.pg.certificates.path("ca.pem")
    empty = make_dir(os.path.join(run, "no-lists"))
    refused(relay, verified(db, role, sslcrldir=empty),
            "unable to get certificate CRL", f"sslcrldir = {empty}",
            "Add the list of revoked certificates", "to sslcrldir", env=env)
    # a certificate is no list, but libpq loads it
    refused(relay, verified(db, role, sslcrl=ca),
            "unable to get certificate CRL", f"sslcrl = {ca}", "to sslcrl,",
            env=env)
    default = os.path.join(make_dir(os.path.join(run, ".postgresql")),
                           "root.crl")
    write_private(default, pathlib.Path(ca).read_text(encoding="ascii"))
    try:
        refused(relay, verified(db, role), f"sslcrl = {default}", env=env)
    finally:
        os.unlink(default)
    assert relay.command("check", env=env).returncode == 0


class Breaking(Proxy):
    """A proxy that answers the second connection, which check_certificate.c
    makes, with a handshake that cannot be, and closes it."""

    def __init__(self, port):
        self.count = 0
        super().__init__(port)

    def serve(self, client, server):
        self.count += 1
        if self.count == 1:
            super().serve(client, server)
            return
        client.recv(8)                  # the request of TLS
        client.sendall(b"S" + bytes.fromhex("160303000414000000"))
        self._close(client, server)


def test_a_server_that_hangs_up_while_check_looks(db, role, kafka, run,
                                                  relays):
    """OpenSSL writes to a closed connection: check is not ended by SIGPIPE."""
    env = {"PGPASSFILE": passfile(run, role, DB_PASSWORD)}
    db.pg.show("expired")
    with closing(Breaking(db.pg.port)) as proxy:
        relay = relays(verified(db, role, port=proxy.port), kafka.brokers)
        refused(relay, verified(db, role, port=proxy.port),
                "certificate verify failed", env=env)
        assert proxy.count == 2


def test_other_postgres_refusals_are_reported(db, role, kafka, run, relays):
    env = {"PGPASSFILE": passfile(run, role, "wrong")}
    relay = relays(verified(db, role), kafka.brokers)
    address = f'"{HOST}", port {db.pg.port}'
    refused(relay, verified(db, role), address,
            f'password authentication failed for user "{role}"',
            f'password retrieved from file "{env["PGPASSFILE"]}"',
            "See the password in the password file", env=env)
    refused(relay, verified(db, role), address, "no password supplied",
            "Put the password into the password file",
            env={"PGPASSFILE": "/missing"})
    refused(relay, verified(db, role, sslrootcert="/missing/ca.pem"),
            '"/missing/ca.pem"', "Set sslrootcert in conninfo", env=env)
    refused(relay, verified(db, role, sslmode="disable"), address,
            f'user "{role}"', "Set sslmode = verify-full", env=env)
    refused(relay, db.conninfo(channel_binding="require"), address,
            "channel binding required", "Use TLS, and a password that is")


# ---- Kafka -----------------------------------------------------------------


def rights_of_relay(db, topics=("order-created",)):
    """What a relay in idempotent mode needs."""
    group = db.value("SELECT inbox_group FROM pgstock_internal.relay_hello()")
    return [("TOPIC", "stock-events", "WRITE"),
            ("TOPIC", "stock-freeze-failed", "WRITE"),
            *(("TOPIC", topic, "READ") for topic in topics),
            *(("TOPIC", f"{topic}_dlq", "WRITE") for topic in topics),
            ("GROUP", group, "READ")]


@pytest.fixture
def rights(db, kafka):
    kafka.allow(*rights_of_relay(db))
    yield
    kafka.forbid_all()


def round_trip(db, kafka, relay, name):
    """An order arrives, and its event leaves."""
    out = kafka.producer()
    send(out, "order-created", order(name), key=f"o-{name}")
    delivered(out)
    wait_until(lambda: db.sql("SELECT 1 FROM stock_movements WHERE order_id ="
                              " %s", (f"o-{name}",)), 30, relay.tail)
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
        check_complete(db, tail.records)
        assert duplicates(tail.records) == 0


class TokenServer:
    """Issues tokens of OpenID Connect, unsigned, as the test's broker takes
    them."""

    SECRET = "client-secret-of-the-token-server"

    def __init__(self, certificates):
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):      # the name is http.server's
                tokens.issue(self)

            def log_message(self, *_):
                pass

        self.asked = 0
        self.lifetime = 300             # of a token, seconds
        self.answers = threading.Event()
        self.answers.set()
        self.server = HTTPServer((HOST, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.path("good.crt"),
                                certificates.path("good.key"))
        self.server.socket = context.wrap_socket(self.server.socket,
                                                 server_side=True)
        self.url = f"https://{HOST}:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def issue(self, request):
        request.rfile.read(int(request.headers["Content-Length"]))
        wanted = base64.b64encode(f"{USER}:{self.SECRET}".encode()).decode()
        good = request.headers["Authorization"] == f"Basic {wanted}"
        self.asked += 1
        self.answers.wait()
        body = json.dumps({"access_token": unsigned_token(USER, self.lifetime),
                           "token_type": "Bearer",
                           "expires_in": self.lifetime}
                          if good else {"error": "invalid_client"}).encode()
        request.send_response(200 if good else 401)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self):
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


def unsigned_token(subject, lifetime):
    def part(data):
        text = base64.urlsafe_b64encode(json.dumps(data).encode()).decode()
        return text.rstrip("=")
    now = int(time.time())
    return ".".join((part({"alg": "none"}), part({
        "sub": subject, "iat": now, "exp": now + lifetime}), ""))


@pytest.fixture
def token_server(certificates):
    server = TokenServer(certificates)
    yield server
    server.close()


def oidc(server, secret=TokenServer.SECRET, **more):
    return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauthbearer_method": "oidc",
            "sasl_username": None, "sasl_password": None,
            "sasl_oauthbearer_client_id": USER,
            "sasl_oauthbearer_client_secret": secret,
            "sasl_oauthbearer_token_endpoint_url": server.url, **more}


def test_a_stop_does_not_wait_for_tokens(db, kafka, certificates, rights,
                                         relays, token_server, manager):
    """librdkafka cannot close a client while its request to the token server
    is not answered, for up to 20 s: the watchdog allows that for four."""
    token_server.lifetime = 5
    relay = relays(db.conninfo(), kafka.brokers)
    relay.config["kafka"] = kafka.client("SASL", **oidc(
        token_server, https_ca_location=certificates.path("ca.pem")))
    relay.start(env=newer_librdkafka() | {
        "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "60000000"})
    manager.wait("WATCHDOG_USEC=140000000")
    token_server.answers.clear()
    asked = token_server.asked
    wait_until(lambda: token_server.asked > asked, 20, "a token is renewed")
    assert relay.terminate(timeout=12) == 0, relay.tail()


UNSECURED = {"sasl_mechanism": "OAUTHBEARER", "sasl_username": None,
             "sasl_password": None,
             "enable_sasl_oauthbearer_unsecure_jwt": "true",
             "sasl_oauthbearer_config": f"principal={USER}"}
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512"}


@pytest.mark.parametrize("listener, more, newer", [
    ("MTLS", {}, False),
    ("SASL", {}, False),
    ("SASL", SCRAM, True),
    ("SASL", UNSECURED, False),
], ids=["certificate", "plain", "scram", "unsecured-token"])
def test_kafka_transport(db, kafka, rights, relays, listener, more, newer):
    """Both directions, and check."""
    env = newer_librdkafka() if newer else {}
    relay = relays(db.conninfo(), kafka.brokers, {
        "inbox": {"topics": "order-created"}})
    relay.config["kafka"] = kafka.client(listener, **more)
    done = relay.command("check", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    relay.start(env=env)
    db.sql("SELECT receive_stock('book', 10)")
    round_trip(db, kafka, relay, 1)
    assert "repeats the nonce" not in relay.log()


def test_kafka_by_token(db, kafka, certificates, rights, relays, token_server):
    """A token server of OpenID Connect, which Debian's librdkafka lacks."""
    more = {"https_ca_location": certificates.path("ca.pem")}
    relay = relays(db.conninfo(), kafka.brokers, {
        "inbox": {"topics": "order-created"}})
    relay.config["kafka"] = kafka.client("SASL", **oidc(token_server))
    done = relay.command("check")
    assert done.returncode == 2 and "sasl.oauthbearer.method" in done.stderr
    assert "not supported in this build" in done.stderr
    env = newer_librdkafka()
    relay.config["kafka"] = kafka.client("SASL", **oidc(token_server, **more))
    done = relay.command("check", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    relay.start(env=env)
    db.sql("SELECT receive_stock('book', 10)")
    round_trip(db, kafka, relay, 1)
    assert token_server.asked > 0
    relay.terminate()
    relay.config["kafka"] = kafka.client(
        "SASL", **oidc(token_server, "wrong", **more))
    done = relay.command("check", env=env)
    assert done.returncode == 1, done.stdout
    assert f"the token server at {token_server.url}" in done.stdout
    assert "wrong" not in done.stdout + done.stderr


def test_scram_needs_a_newer_librdkafka(db, kafka, rights, relays):
    """check and run say why the right password is refused."""
    relay = relays(db.conninfo(), kafka.brokers)
    relay.config["kafka"] = kafka.client("SASL", **SCRAM)
    done = relay.command("check")
    assert done.returncode == 1
    way_out = ("his librdkafka, 2.0.2, repeats the nonce of SCRAM, which"
               " brokers since Kafka 4.0 refuse as invalid credentials: install"
               " librdkafka 2.6.1 or newer, or use a client certificate")
    assert way_out in done.stdout, done.stdout
    assert "warn  broker: this librdkafka, 2.0.2, repeats" in done.stdout
    assert done.stdout.index("[scram]") < done.stdout.index("[broker]")
    relay.start(wait="/livez")
    assert way_out in relay.log(), relay.log()
    wait_until(lambda: "_AUTHENTICATION: sasl_ssl://" in relay.log(), 20,
               relay.tail)


# ---- a password that changes -----------------------------------------------


def test_postgres_password_changes(db, role, kafka, run, start_relay):
    """In the password file, which libpq reads at each try; then in conninfo,
    by a reload. Sessions of before go on until they end."""
    path = passfile(run, role, DB_PASSWORD)
    relay = start_relay({"inbox": {"topics": "order-created"},
                         "outbox": {"mode": "transactional"}},
                        env={"PGPASSFILE": path}, conninfo=verified(db, role))
    db.sql("SELECT receive_stock('book', 10)")
    round_trip(db, kafka, relay, 1)
    db.sql(f"ALTER ROLE {role} PASSWORD 'the-second'")
    round_trip(db, kafka, relay, 2)
    end_sessions(db, role)
    wait_until(lambda: relay.log().count(
        f'password authentication failed for user "{role}"') >= 2, 20,
        relay.tail)
    assert f'password retrieved from file "{path}"' in relay.log()
    assert "see the password in the password file" in relay.log()
    passfile(run, role, "the-second")
    round_trip(db, kafka, relay, 3)

    relay.config["postgres"]["conninfo"] = verified(db, role,
                                                    password="the-third")
    relay.write_config()
    relay.signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in relay.log(), 10, relay.tail)
    assert "need a restart" not in relay.log()
    db.sql(f"ALTER ROLE {role} PASSWORD 'the-third'")
    end_sessions(db, role)
    round_trip(db, kafka, relay, 4)
    relay.wait_ok("/readyz")
    # another database is not taken over
    relay.config["postgres"]["conninfo"] += " port=1"
    relay.write_config()
    relay.signal(signal.SIGHUP)
    wait_until(lambda: "these need a restart: [postgres] conninfo" in
               relay.log(), 10, relay.tail)
    end_sessions(db, role)
    round_trip(db, kafka, relay, 5)


def end_sessions(db, role):
    db.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
           " WHERE usename = %s", (role,))


@pytest.mark.parametrize("more, newer, mode", [
    ({}, False, "transactional"), (SCRAM, True, "idempotent")],
                         ids=["plain", "scram"])
def test_kafka_password_changes(db, kafka, rights, relays, more, newer, mode):
    """Connections of before go on; new ones are refused, which is reported,
    until a reload brings the new password."""
    kafka.allow(*rights_of_transactions(db))
    relay = relays(db.conninfo(), kafka.brokers, {
        "inbox": {"topics": "order-created"}, "outbox": {"mode": mode}})
    relay.config["kafka"] = kafka.client("SASL", **more)
    relay.start(env=newer_librdkafka() if newer else {})
    db.sql("SELECT receive_stock('book', 10)")
    round_trip(db, kafka, relay, 1)
    old, new = kafka.password, f"changed-{mode}"
    kafka.set_password(new)
    wait_until(lambda: "SASL authentication error" in relay.log() or
               "_AUTHENTICATION" in relay.log(), 30, relay.tail)
    assert f'see sasl.password of user "{USER}"' in relay.log()
    db.sql("SELECT reserve_stock('book', 1, 'meanwhile')")
    relay.config["kafka"]["sasl.password"] = new
    relay.write_config()
    relay.signal(signal.SIGHUP)
    round_trip(db, kafka, relay, 2)
    relay.wait_ok("/readyz", 30)
    assert "need a restart" not in relay.log()
    for secret in (old, new):
        assert secret not in relay.log()


def rights_of_transactions(db):
    name = "pgstock-" + db.value(
        "SELECT id::text FROM pgstock_internal.incarnation")
    position = name.replace("pgstock-", "pgstock-position-")
    return [("TRANSACTIONAL_ID", name, "WRITE"),
            *(("TOPIC", position, operation)
              for operation in ("READ", "WRITE", "CREATE"))]


# ---- secrets ---------------------------------------------------------------


def read_if_allowed(path):
    """A file of /proc: that of a process that cannot be dumped is root's."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except PermissionError:
        return ""


@pytest.mark.parametrize("newer", [False, True], ids=["debian", "newer"])
def test_no_secret_is_shown(db, role, kafka, rights, run, relays, token_server,
                            newer):
    """At the highest level of detail of both libraries, with each kind of
    secret: in use, refused, and mistyped."""
    planted = {"sasl.password": kafka.password,
               "ssl.key.password": "key-pass-phrase",
               "webhook": "secret-of-the-webhook", "wrong": "wrong-by-one",
               "token": TokenServer.SECRET, "database": DB_PASSWORD}
    env = {"PGPASSFILE": passfile(run, role, DB_PASSWORD),
           **(newer_librdkafka() if newer else {})}
    key = os.path.join(run, "encrypted.key")
    db.pg.certificates.openssl(
        "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", "client.key", "-out",
        key, "-passout", f"pass:{planted['ssl.key.password']}")
    text = []

    def use(listener, ok=True, **more):
        relay = relays(verified(db, role), kafka.brokers, {
            "relay": {"log_level": "debug"},
            "inbox": {"topics": "order-created"},
            "webhook": {"url": "https://192.0.2.9/hook-of-the-shop",
                        "secret": planted["webhook"]}})
        relay.config["kafka"] = {**kafka.client(listener, **more),
                                 "debug": "all"}
        relay.start(wait="/readyz" if ok else "/livez", env=env)
        if not ok:
            wait_until(lambda: "_AUTHENTICATION" in relay.log(), 20,
                       relay.tail)
        for command in ("check", "status", "config"):
            done = relay.command(command, env=env)
            text.append((command, done.stdout + done.stderr))
        for path in ("/metrics", "/status", "/readyz", "/livez"):
            text.append((path, relay.get(path)[1]))
        relay.signal(signal.SIGUSR1)
        for name in ("cmdline", "environ"):
            text.append((name, read_if_allowed(f"/proc/{relay.pid}/{name}")))
        assert_no_core(relay)
        text.append((f"log of {listener} {more}", relay.log()))
        return relay

    use("SASL")
    use("MTLS", ssl_key_location=key,
        ssl_key_password=planted["ssl.key.password"])
    if newer:
        use("SASL", **oidc(token_server, https_ca_location=db.pg.certificates
                           .path("ca.pem")))
    relay = use("SASL", ok=False, sasl_password=planted["wrong"])
    relay.config["kafka"]["sasl.pasword"] = planted["wrong"]
    text.append(("a mistyped key", relay.command("run", env=env).stderr))
    text.append(("the server's log", db.pg.log()))
    assert any("debug" in log for _, log in text)
    for where, shown in text:
        for name, secret in planted.items():
            for form in (secret, base64.b64encode(secret.encode()).decode()):
                assert form not in shown, f"{where} shows {name}"
        assert "hook-of-the-shop" not in shown or where == "config", where


def assert_no_core(relay):
    """Its death leaves no core file, whatever the limits allow."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    with open(f"/proc/{relay.pid}/limits", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("Max core")]
    assert line.split()[4:6] == ["0", "0"], (line, limits)
    relay.signal(signal.SIGABRT)
    _, status = os.waitpid(relay.process.pid, 0)
    relay.process.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)
    assert not [name for name in os.listdir(relay.directory)
                if name.startswith("core")]
