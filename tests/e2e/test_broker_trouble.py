# SPDX-License-Identifier: PostgreSQL
"""`check` reports why a broker does not answer, and waits for transient
causes.

An expired certificate, one of another host, an unknown authority, a wrong
password and a listener without TLS all read "Local: Broker transport failure";
and right after a broker was started or a topic created, check called a sound
system broken, one run in nine.
"""

import os
import pathlib
import threading
import time

import pytest
from confluent_kafka.admin import NewTopic

from cluster import HOST, Kafka
from process import make_dir, run_tool, wait_until

USER, PASSWORD = "relay", "a-password-for-tests"
LISTENERS = ("GOOD", "EXPIRED", "OTHER", "SASL")


def make_certificates(directory):
    """A CA, and a key with its certificate for each listener, by openssl."""
    make_dir(directory)

    def openssl(*args):
        run_tool(["openssl", *args], cwd=directory)

    def new_ca(name):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                "-days", "30")

    new_ca("ca")
    new_ca("stranger")
    for name, address, days in (("good", HOST, "30"), ("expired", HOST, "-1"),
                                ("other", "192.0.2.1", "30")):
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName=IP:{address}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem",
                "-CAkey", "ca.key", "-CAcreateserial", "-days", days,
                "-copy_extensions", "copy", "-out", f"{name}.crt")
        chain = "".join(
            pathlib.Path(directory, f"{name}{end}").read_text("ascii")
            for end in (".key", ".crt"))
        pathlib.Path(directory, f"{name}.keystore").write_text(chain, "ascii")


class TlsKafka(Kafka):
    """A broker with listeners that speak TLS, some of them badly
    configured."""

    def init(self):
        super().init()
        self.certificates = os.path.join(self.directory, "tls")
        make_certificates(self.certificates)
        self.at = {name: f"{HOST}:{self.take_port()}" for name in LISTENERS}
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        for key, value in (
                ("listeners=", "{name}://{at},"),
                ("advertised.listeners=", "{name}://{at},"),
                ("listener.security.protocol.map=", "{name}:{protocol},")):
            for name, at in self.at.items():
                text = text.replace(f"\n{key}", f"\n{key}" + value.format(
                    name=name, at=at,
                    protocol="SASL_SSL" if name == "SASL" else "SSL"), 1)
        for name in LISTENERS:
            store = {"SASL": "good"}.get(name, name.lower())
            prefix = f"listener.name.{name.lower()}.ssl.keystore"
            text += (f"{prefix}.type=PEM\n{prefix}.location="
                     f"{self.certificates}/{store}.keystore\n")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text + f"""\
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{USER}="{PASSWORD}";
""")
        return self


@pytest.fixture(scope="module")
def session_kafka(new_dir):
    server = TlsKafka(new_dir("kafka-tls"),
                      settings="auto.create.topics.enable=true\n")
    server.init().start()
    yield server
    server.close()


def check(kafka, relay, listener, ca="ca", **more):
    relay.config["kafka"] = {
        "bootstrap.servers": kafka.at.get(listener, listener),
        "security.protocol": "ssl",
        "ssl.ca.location": os.path.join(kafka.certificates, f"{ca}.pem"),
        **{name.replace("_", "."): value for name, value in more.items()}}
    began = time.monotonic()
    done = relay.command("check")
    line = next((line for line in done.stdout.splitlines()
                 if line.startswith("FAIL  broker")), "")
    assert PASSWORD not in done.stdout + done.stderr
    return done.returncode, line, time.monotonic() - began


def test_the_reason_is_named(db, kafka, relays):
    relay = relays(db.conninfo(), kafka.brokers)
    relay.config["inbox"] = {"topics": "order-created"}
    sasl = {"security_protocol": "sasl_ssl", "sasl_mechanism": "PLAIN",
            "sasl_username": USER}
    assert check(kafka, relay, "GOOD")[0] == 0
    assert "[auto_create]" in relay.command("check").stdout
    assert check(kafka, relay, "SASL", **sasl, sasl_password=PASSWORD)[0] == 0
    for listener, said, more in (
            ("EXPIRED", "certificate has expired", {}),
            ("OTHER", "address mismatch", {}),
            ("GOOD", "unable to get local issuer certificate",
             {"ca": "stranger"}),
            ("SASL", "SASL authentication error", {
                **sasl, "sasl_password": "wrong"}),
            ("GOOD", "connecting to a SSL listener?",
             {"security_protocol": "plaintext"}),
            (kafka.brokers, "does that listener speak TLS?", {}),
            (f"{HOST}:1", "Connection refused", {})):
        code, line, took = check(kafka, relay, listener, **more)
        assert code == 1 and said in line, (listener, line)
        assert kafka.at.get(listener, listener) in line, "the address"
        assert took < 12
        if "certificate" in said or "mismatch" in said:
            assert "ssl.ca.location = " in line and ".pem" in line, "the file"
            assert "subject CN=" in line and took < 4
    # a missing file is named before any query
    code, line, _ = check(kafka, relay, "GOOD", ca="missing")
    assert code == 1 and "missing.pem" in line, line
    # without verification no certificate matters
    assert check(kafka, relay, "EXPIRED", **{
        "enable_ssl_certificate_verification": "false"})[0] == 0
    done = relay.command("status")
    assert "\n  Kafka          answers, 1 broker\n" in done.stdout
    relay.config["kafka"].pop("enable.ssl.certificate.verification")
    relay.write_config()
    done = relay.command("status")
    assert "certificate has expired" in done.stderr, done.stderr
    # and so does the relay that runs, now and then
    relay.start(wait="/livez")
    wait_until(lambda: "certificate has expired" in relay.log(), 20,
               lambda: relay.tail())
    wait_until(lambda: "Broker transport failure" in relay.get("/readyz")[1]
               or relay.get("/readyz")[0] == 503, 20, "it is not ready")
    assert relay.log().count("certificate has expired") < 3


def test_a_topic_that_was_just_made(db, kafka, relays):
    """Each check meets a topic within milliseconds of its creation."""
    relay = relays(db.conninfo(), kafka.brokers)
    for i in range(12):
        name = f"fresh-{i}"
        relay.config["inbox"] = {"topics": name}
        futures = kafka.admin.create_topics(
            [NewTopic(topic, 3, 1) for topic in (name, f"{name}_dlq")])
        done = relay.command("check")
        assert done.returncode == 0, done.stdout
        for future in futures.values():
            future.result(10)


def test_a_broker_that_starts(db, kafka, relays):
    """check runs before the broker is up: that is transient."""
    relay = relays(db.conninfo(), kafka.brokers)
    kafka.create_topics("early")
    relay.config["inbox"] = {"topics": "early"}
    kafka.stop()
    done = []

    def look():
        while len(done) < 8 and not (done and "ok    broker" in
                                     done[-1].stdout):
            done.append(relay.command("check"))

    looks = threading.Thread(target=look)
    looks.start()
    kafka.start()
    looks.join()
    assert done[-1].returncode == 0, done[-1].stdout
