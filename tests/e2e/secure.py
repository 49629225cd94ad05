# SPDX-License-Identifier: PostgreSQL
"""A PostgreSQL and a Kafka that speak TLS and want to know who one is.

One of each serves all tests of transports, logins and rights; conftest.py has
the servers' fixtures, and a file of tests takes those below by their names:
"session_kafka = secure.session_kafka". The certificates are made anew for each
run.
"""

import os
import pathlib
import re

import pytest

from cluster import HOST, Kafka, Postgres, need
from kafka_admin import KafkaAdmin
from process import make_dir, run_tool

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
       "-keyout")
USER = "relay"
PASSWORD = "a-password-for-tests"
STRANGE_ADDRESS = "192.0.2.1"
# certificate: (authority, common name, address, valid for days)
CERTIFICATES = {
    "good": ("ca", "good", HOST, 30),
    "expired": ("ca", "expired", HOST, -1),
    "other": ("ca", "other", STRANGE_ADDRESS, 30),
    "unknown": ("stranger", "unknown", HOST, 30),
    "client": ("ca", USER, HOST, 30),
    "client-expired": ("ca", USER, HOST, -1),
    "client-unknown": ("stranger", USER, HOST, 30),
}


@pytest.fixture(scope="module")
def session_kafka(secure_kafka):
    return secure_kafka


@pytest.fixture(autouse=True)
def no_rights(kafka):
    """Each test begins and ends without a right in Kafka."""
    yield
    kafka.forbid_all()


class Certificates:
    """Two authorities, and a key with its certificate for each name."""

    def __init__(self, directory):
        self.directory = make_dir(directory)
        for name in ("ca", "stranger"):
            self.openssl("req", "-x509", *KEY, f"{name}.key", "-out",
                         f"{name}.pem", "-subj", f"/CN={name}", "-days", "30")
        for name, (authority, subject, address, days) in CERTIFICATES.items():
            self.sign(name, authority, f"/CN={subject}", days,
                      f"subjectAltName=IP:{address}")
            # what a broker reads: key and certificate in one file
            run_tool(["sh", "-c", f"cat {name}.key {name}.crt >{name}.store"],
                     cwd=self.directory)

    def sign(self, name, authority, subject, days, *extensions):
        """A key of that name and its certificate; its path without suffix."""
        added = [word for one in extensions for word in ("-addext", one)]
        self.openssl("req", "-new", *KEY, f"{name}.key", "-out", f"{name}.csr",
                     "-subj", subject, *added)
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA",
                     f"{authority}.pem", "-CAkey", f"{authority}.key",
                     "-CAcreateserial", "-days", str(days),
                     "-copy_extensions", "copy", "-out", f"{name}.crt")
        return self.path(name)

    def openssl(self, *args):
        run_tool(["openssl", *args], cwd=self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)


class SecurePostgres(Postgres):
    """Members of needs_password have to use TLS and SCRAM, the role of the
    client certificate that certificate."""

    def __init__(self, directory, certificates):
        super().__init__(directory, {"ssl": "on", "ssl_ca_file": "'ca.pem'",
                                     "ssl_cert_file": "'server.crt'",
                                     "ssl_key_file": "'server.key'"})
        self.certificates = certificates

    def init(self):
        super().init()
        self.copy("ca.pem", "ca.pem")
        self.show("good", reload=False)
        path = pathlib.Path(self.data, "pg_hba.conf")
        path.write_text(
            f"hostssl all {USER} {HOST}/32 cert\n"
            f"host all {USER} {HOST}/32 reject\n"
            f"hostssl all +needs_password {HOST}/32 scram-sha-256\n"
            f"host all +needs_password {HOST}/32 reject\n"
            f"host all all {HOST}/32 trust\n", encoding="ascii")
        return self

    def copy(self, source, target):
        run_tool(["install", "-m", "600", self.certificates.path(source),
                  os.path.join(self.data, target)])

    def show(self, name, reload=True):
        """Present this certificate to connections from now on."""
        self.copy(f"{name}.crt", "server.crt")
        self.copy(f"{name}.key", "server.key")
        if reload:
            self.reload()

    def reload(self):
        run_tool([self.bin("pg_ctl"), "reload", "-D", self.data])


class SecureKafka(Kafka):
    """A broker with a listener for each kind of transport, and an authorizer.

    Clients without a name (plain text, or TLS without a certificate) may do
    everything; user relay only what it was granted.
    """

    LISTENERS = {"GOOD": "SSL", "EXPIRED": "SSL", "OTHER": "SSL",
                 "MTLS": "SSL", "SASL": "SASL_SSL"}

    def __init__(self, directory, certificates):
        super().__init__(directory)
        self.certificates = certificates
        self.at = {name: f"{HOST}:{self.take_port()}"
                   for name in self.LISTENERS}
        self.format_args = ("--add-scram", f"SCRAM-SHA-512=[name={USER},"
                                           f"password={PASSWORD}]")
        self.password = PASSWORD
        self.rights = None

    def init(self):
        self.settings = self.security()
        super().init()
        return self

    def security(self):
        """The settings besides the listeners."""
        text = f"""\
auto.create.topics.enable=true
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
listener.name.mtls.ssl.client.auth=required
listener.name.mtls.ssl.truststore.type=PEM
listener.name.mtls.ssl.truststore.location={self.certificates.path("ca.pem")}
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={self.plain_users(PASSWORD)}
listener.name.sasl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
"""
        for name in self.LISTENERS:
            store = {"EXPIRED": "expired", "OTHER": "other"}.get(name, "good")
            prefix = f"listener.name.{name.lower()}.ssl.keystore"
            text += (f"{prefix}.type=PEM\n{prefix}.location="
                     f"{self.certificates.path(store)}.store\n")
        return text

    def listeners(self):
        return [*super().listeners(),
                *((name, self.at[name], self.at[name], protocol)
                  for name, protocol in self.LISTENERS.items())]

    @staticmethod
    def plain_users(password):
        return ("org.apache.kafka.common.security.plain.PlainLoginModule"
                f' required user_{USER}="{password}";')

    def start(self, timeout=180):
        super().start(timeout)
        if not self.rights:
            self.rights = KafkaAdmin(self.brokers, os.path.join(
                need("PGSTOCK_LIBRDKAFKA"), "python"))
        return self

    def close(self):
        if self.rights:
            self.rights.close()
        super().close()

    def allow(self, *grants):
        """Grants: (resource, name, operation), as TOPIC, t, READ."""
        self.rights.send("allow", grants=grants, user=USER)

    def forbid(self, *grants):
        self.rights.send("forbid", grants=grants, user=USER)

    def forbid_all(self):
        self.rights.send("forbid_all")

    def set_password(self, password):
        """Of PLAIN and of SCRAM, for logins after a restart; this is one."""
        self.rights.send("scram", user=USER, password=password)
        self.password = password
        path = pathlib.Path(self.config)
        path.write_text(re.sub(f'user_{USER}=".*"',
                               f'user_{USER}="{password}"',
                               path.read_text("utf-8")), "utf-8")
        self.stop()
        self.start()

    def client(self, listener, ca="ca", **more):
        """[kafka] of a relay that uses this listener."""
        found = {
            "bootstrap.servers": self.at[listener],
            "security.protocol": self.LISTENERS[listener].lower(),
            "ssl.ca.location": self.certificates.path(f"{ca}.pem")}
        if listener == "MTLS":
            found |= {
                "ssl.certificate.location": self.certificates.path(
                    "client.crt"),
                "ssl.key.location": self.certificates.path("client.key")}
        if listener == "SASL":
            found |= {"sasl.mechanism": "PLAIN", "sasl.username": USER,
                      "sasl.password": self.password}
        found |= {name.replace("_", "."): value
                  for name, value in more.items()}
        return {name: value for name, value in found.items()
                if value is not None}


def newer_librdkafka():
    """The environment of a relay that uses it in place of Debian's."""
    return {"LD_LIBRARY_PATH": os.path.join(need("PGSTOCK_LIBRDKAFKA"),
                                            "lib")}
