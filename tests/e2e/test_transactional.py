# SPDX-License-Identifier: PostgreSQL
"""P2 in transactional mode: a consumer that reads only committed records sees
each event once, in the order of its key, whatever is killed, cut off or
frozen.

The tails read as such a consumer does (isolation.level is read_committed by
default). Nearly always a commit is under way, for the next one begins right
behind it. So each kill happens within a transaction.
"""

import json
import random
import signal
import time

import pytest

from checks import check_all, duplicates, wait_complete
from kafkaio import delivered, send
from load import Clients
from process import wait_until

MODE = {"outbox": {"mode": "transactional"}}
KILLS, KILLS_OF_BROKER = 5, 3          # a broker takes its time to start
PAUSE = 0.01                            # of a client


def publish(cur, name):
    """A transaction of one to four events; each client has keys of its own."""
    _, client, _ = name.split("-")
    cur.execute("SELECT publish_event('stock-events', %s || i %% 3, '{}')"
                " FROM generate_series(1, %s) i",
                (f"k{client}-", random.randint(1, 4)))


def check_once(db, kafka):
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        assert duplicates(tail.records) == 0
        return len(tail.records)


def position_topic(db):
    return "pgstock-position-" + db.value(
        "SELECT id::text FROM pgstock_internal.incarnation")


def progress(relay, events=200):
    """Wait until the relay has published that many more events."""
    begun = relay.metric("outbox_published_total")
    wait_until(lambda: relay.metric("outbox_published_total") > begun + events,
               60, lambda: f"it publishes nothing\n{relay.tail()}")


# ---- kills -------------------------------------------------------------------

def kill_relay(relay, pg, kafka):
    relay.kill9()
    relay.start(wait="/livez")


def kill_broker(relay, pg, kafka):
    kafka.kill9()
    kafka.start()


def cut_link(relay, pg, kafka):
    kafka.proxy.cut()
    time.sleep(random.random())         # the answer to EndTxn may be lost
    kafka.proxy.restore()


def kill_session(relay, pg, kafka):
    pid = random.choice(pg.backends("pgstock-relay %"))
    with pg.connect() as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_terminate_backend(%s)", (pid,))
    conn.close()


def kill_postmaster(relay, pg, kafka):
    pg.kill9()
    pg.start()


def kill_everything(relay, pg, kafka):
    kafka.kill9()
    relay.kill9()
    pg.kill9()
    pg.start()
    kafka.start()
    relay.start(wait="/livez")


@pytest.mark.long
@pytest.mark.parametrize("kill", [kill_relay, kill_broker, cut_link,
                                  kill_session, kill_postmaster,
                                  kill_everything],
                         ids=lambda kill: kill.__name__)
def test_once_under(db, pg, kafka, start_relay, kill):
    relay = start_relay(MODE, brokers=kafka.proxied_brokers)
    with Clients(db, 4, publish, every=PAUSE):
        for _ in range(KILLS_OF_BROKER if kill in (kill_broker, kill_everything)
                       else KILLS):
            progress(relay)
            time.sleep(random.random() / 5)     # anywhere in a transaction
            kill(relay, pg, kafka)
            begun = time.monotonic()
            progress(relay)
            print(f"it went on after {time.monotonic() - begun:.1f} s")
    events = check_once(db, kafka)
    print(f"{events} events, {relay.metric('outbox_transactions_total')}"
          " transactions since the last start")


def test_frozen_leader(db, pg, kafka, start_relay):
    """The race: a leader is frozen within a transaction, and its session ends;
    another leads. Thawed, the old one continues with its events: its commit
    must fail, and it must not fence the new leader before it notices."""
    relays = [start_relay({**MODE, "relay": {"name": name}})
              for name in ("old", "new")]
    old, new = relays
    with Clients(db, 4, publish, every=PAUSE):
        for _ in range(3):
            progress(old)
            old.signal(signal.SIGSTOP)
            name = old.config["relay"]["name"]
            for pid in pg.backends(f"pgstock-relay {name}"):
                db.sql("SELECT pg_terminate_backend(%s)", (pid,))
            wait_until(lambda n=new: n.metric("leader") == 1, 30,
                       "a new leader")
            progress(new)
            lost = new.metric("outbox_publish_errors_total")
            old.signal(signal.SIGCONT)
            wait_until(lambda o=old: o.metric("leader") == 0, 30,
                       "the old one knows")
            old.wait_ok("/readyz")
            progress(new)
            assert new.metric("leader") == 1
            assert new.metric("outbox_publish_errors_total") == lost
            old, new = new, old
    check_once(db, kafka)


def test_everything_at_once(db, pg, kafka, start_relay):
    """Two relays that take turns, over a link that breaks."""
    relays = [start_relay({**MODE, "relay": {"name": name}},
                          brokers=kafka.proxied_brokers)
              for name in ("one", "two")]
    with Clients(db, 4, publish, every=PAUSE):
        for turn in range(6):
            time.sleep(random.random())
            relay = relays[turn % 2]
            if turn % 4 == 3:
                kafka.kill9()
                kafka.start()
            elif turn % 3 == 2:
                cut_link(relay, pg, kafka)
            else:
                kill_relay(relay, pg, kafka)
        wait_until(lambda: sum(r.metric("leader") for r in relays) == 1, 30,
                   "one leads")
    check_once(db, kafka)


# ---- the position ------------------------------------------------------------

def test_from_mode_to_mode(db, kafka, start_relay):
    """After idempotent mode the database's position is the further one, after
    a kill in transactional mode Kafka's. A relay that used the other one would
    publish events again."""
    modes = ("idempotent", "transactional", "idempotent", "transactional",
             "transactional", "transactional", "idempotent")
    relay = start_relay({"outbox": {"mode": modes[0]}})
    for number, mode in enumerate(modes):
        relay.config["outbox"]["mode"] = mode
        if not relay.running:
            relay.start()
        db.sql("SELECT publish_event('stock-events', 'k' || i % 7, '{}')"
               " FROM generate_series(1, 500) i")
        with kafka.tail("stock-events") as tail:
            wait_complete(db, tail)
            assert duplicates(tail.records) == 0, f"{number}: {mode}"
        if modes[number:number + 2] == ("transactional", "transactional"):
            relay.kill9()
        else:
            relay.terminate()
    check_once(db, kafka)


def test_row_that_is_behind_and_row_that_was_adopted(db, kafka, start_relay):
    """An old row is no reason to publish again, for Kafka's position is later;
    but a position that was adopted by hand is later than Kafka's."""
    relay = start_relay(MODE)
    db.sql("SELECT publish_event('stock-events', 'a', '{}')")
    check_once(db, kafka)
    for adopted in (False, True):
        relay.terminate()
        db.sql('UPDATE pgstock_internal.position_even SET "window" ='
               " pgstock_internal.first_window(), finished = true")
        if adopted:
            assert relay.command("adopt", "--execute").returncode == 0
        relay.start()
        db.sql("SELECT publish_event('stock-events', 'b', '{}')")
        with kafka.tail("stock-events") as tail:
            wait_complete(db, tail)
            assert duplicates(tail.read_to_end()) == 2 * adopted


BAD = {
    "no JSON": b"hello",
    "another thing": b'{"a": 1}',
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
    "no window": json.dumps({"window": "(1)", "seq": 1, "finished": True,
                             "epoch": 1}).encode(),
    "no number": json.dumps({"window": None, "seq": "x", "finished": True,
                             "epoch": 1}).encode(),
}


def test_damaged_position(db, kafka, start_relay):
    """The relay stops with an error: the database's position may be behind, so
    continuing from there would publish events twice without notice."""
    relay = start_relay(MODE)
    db.sql("SELECT publish_event('stock-events', 'a', '{}')")
    topic = position_topic(db)
    wait_until(lambda: relay.metric("outbox_transactions_total") == 1, 30,
               "one transaction")
    relay.terminate()
    writer = kafka.producer()
    for what, value in BAD.items():
        send(writer, topic, value, key="outbox")
        delivered(writer)
        relay.start(wait=None)
        assert relay.wait_end() == 1, what
        said = relay.log().rsplit("starts version", 1)[1]
        assert "the outbox position in Kafka is damaged: " in said, what
        assert "delete the topic" in said, what
        check = relay.command("check")
        assert check.returncode == 1
        assert "the outbox position in Kafka is damaged" in check.stdout
    # a record with another key, and a tombstone, are no positions
    send(writer, topic, b"hello", key="other")
    send(writer, topic, None, key="outbox")
    delivered(writer)
    relay.start()
    db.sql("SELECT publish_event('stock-events', 'b', '{}')")
    assert check_once(db, kafka) == 2
    relay.terminate()
    kafka.delete_topics(topic)
    relay.start()
    db.sql("SELECT publish_event('stock-events', 'c', '{}')")
    assert check_once(db, kafka) == 3


def test_position_topic(db, kafka, start_relay):
    """It is compacted, in small segments, and has one partition; check names
    any deviation."""
    topic = position_topic(db)
    relay = start_relay(MODE, wait="/livez")
    wait_until(lambda: topic in kafka.topics(), 30, "the topic")
    relay.wait_ok("/readyz")
    config = kafka.topic_config(topic)
    assert config["cleanup.policy"] == "compact"
    assert int(config["segment.bytes"]) == 1 << 20
    check = relay.command("check")
    assert check.returncode == 0, check.stdout
    assert f"ok    position topic {topic}\n" in check.stdout
    relay.terminate()
    check = relay.command("check")
    assert "ok    transactional.id pgstock-" in check.stdout

    kafka.delete_topics(topic)
    check = relay.command("check")
    assert check.returncode == 0
    assert (f"ok    topic {topic}: missing, will be created at start\n"
            in check.stdout)

    kafka.create_topics(topic, partitions=3)
    check = relay.command("check")
    assert check.returncode == 1
    assert (f"FAIL  position topic {topic}: 3 partitions, cleanup.policy"
            " delete\n" in check.stdout)
    assert "[position_topic]" in check.stdout
    relay.start(wait=None)
    wait_until(lambda: "has 3 partitions" in relay.log(), 30, "it says why")
    assert relay.get("/readyz")[0] == 503
    kafka.delete_topics(topic)
    relay.wait_ok("/readyz")


# ---- how it goes -------------------------------------------------------------

def test_standby_is_ready_and_the_leader_reports(db, kafka, start_relay):
    relay = start_relay(MODE)
    other = start_relay({**MODE, "relay": {"name": "other"}})
    assert other.get("/readyz")[0] == 200
    assert other.metric("leader") == 0
    db.sql("SELECT publish_event('stock-events', 'a', '{}')"
           " FROM generate_series(1, 100)")
    assert check_once(db, kafka) == 100
    wait_until(lambda: relay.metric("outbox_published_total",
                                    topic="stock-events") == 100, 10,
               "as many as are there are counted")
    assert relay.metric("outbox_published_total") == 100
    assert relay.metric("outbox_commit_to_ack_seconds_count") == 100
    assert relay.metric("outbox_transactions_total") >= 1
    status = json.loads(relay.command("status", "--json").stdout)
    wait_until(lambda: json.loads(relay.command("status", "--json").stdout)
               ["pending_events"] == 0, 10, "nothing is pending")
    assert status["status"] == "ok"
    outbox = json.loads(relay.get("/status")[1])["components"]["outbox"]
    assert outbox["mode"] == "transactional"


def test_dead_letters_are_once_too(db, kafka, start_relay):
    relay = start_relay(MODE, topics=["order-created"])
    writer = kafka.producer()
    send(writer, "order-created", b"no JSON", key="k")
    delivered(writer)
    with kafka.tail("order-created_dlq") as tail:
        tail.until(len, 30, "the dead letter")
        relay.kill9()
        relay.start()
        assert len(tail.read_to_end()) == 1
    audit = relay.command("audit")
    assert audit.returncode == 0, audit.stdout
