# SPDX-License-Identifier: PostgreSQL
"""`check` reports why a broker does not answer, and waits for transient
causes.

An expired certificate, one of another host, an unknown authority, a wrong
password and a listener without TLS all read "Local: Broker transport failure";
and right after a broker was started or a topic created, check called a sound
system broken, one run in nine.
"""

import threading
import time

import pytest
from confluent_kafka.admin import NewTopic

from cluster import HOST
from process import wait_until


@pytest.fixture(scope="module")
def session_kafka(secure_kafka):
    return secure_kafka


def check(kafka, relay, listener, ca="ca", **more):
    """(exit code, the line about the broker and the one below, seconds)"""
    if listener in kafka.at:
        relay.config["kafka"] = kafka.client(listener, ca, **more)
    else:
        relay.config["kafka"] = kafka.client("GOOD", ca, **more)
        relay.config["kafka"]["bootstrap.servers"] = listener
    began = time.monotonic()
    done = relay.command("check")
    lines = done.stdout.splitlines()
    found = [i for i, line in enumerate(lines)
             if line.startswith("FAIL  broker")]
    said = " / ".join(lines[found[0]:found[0] + 2]) if found else ""
    assert kafka.password not in done.stdout + done.stderr
    return done.returncode, said, time.monotonic() - began


def test_the_reason_is_named(db, kafka, relays):
    relay = relays(db.conninfo(), kafka.brokers)
    relay.config["inbox"] = {"topics": "order-created"}
    for listener in ("SASL", "MTLS", "GOOD"):
        code, line, _ = check(kafka, relay, listener)
        assert code in (0, 1) and not line, "it answers"
    assert "[auto_create]" in relay.command("check").stdout
    for listener, said, advice, more in (
            ("EXPIRED", "certificate has expired", "Renew that certificate",
             {}),
            ("OTHER", "address mismatch", "Connect by a name", {}),
            ("GOOD", "unable to get local issuer certificate",
             "Set ssl.ca.location to a file", {"ca": "stranger"}),
            ("SASL", "SASL authentication error",
             'See sasl.password of user "relay"', {"sasl_password": "wrong"}),
            ("SASL", "mechanism", "Set sasl.mechanism to one",
             {"sasl_mechanism": "SCRAM-SHA-256"}),
            ("MTLS", "", "The broker requires a client certificate: set"
             " ssl.certificate.location", {"ssl_certificate_location": None,
                                           "ssl_key_location": None}),
            ("MTLS", "", "The broker refuses this relay's certificate",
             {"ssl_certificate_location": kafka.certificates.path(
                 "client-expired.crt"),
              "ssl_key_location": kafka.certificates.path(
                  "client-expired.key")}),
            ("MTLS", "", "The broker refuses this relay's certificate",
             {"ssl_certificate_location": kafka.certificates.path(
                 "client-unknown.crt"),
              "ssl_key_location": kafka.certificates.path(
                  "client-unknown.key")}),
            ("GOOD", "connecting to a SSL listener?", "",
             {"security_protocol": "plaintext"}),
            (kafka.brokers, "does that listener speak TLS?", "", {}),
            (f"{HOST}:1", "Connection refused", "", {})):
        code, line, took = check(kafka, relay, listener, **more)
        assert code == 1 and said in line, (listener, line)
        assert advice in line, (listener, line)
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
