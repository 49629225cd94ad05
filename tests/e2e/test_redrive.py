# SPDX-License-Identifier: PostgreSQL
"""pgstock-relay redrive: dead letters, back to the topics they came from.

Whatever ends the command, a letter is sent back once; and whatever sends a
message back or tries it again, it takes effect once.
"""

import os
import random
import re
import signal
import subprocess
import time
from collections import defaultdict
from contextlib import closing
from datetime import datetime, timezone

import pytest
from confluent_kafka import Consumer, TopicPartition

import schemas
from checks import inbox_results
from kafkaio import delivered, send
from process import as_server, wait_until
from terminal import Terminal

OK, RUNTIME, USAGE = range(3)
HURRY = {"inbox": {"order_wait": "1s", "retry_delays": "1s"}}
LETTERS = "orders_dlq"
SOURCE = "orders"
COUNT = "__dlq.redrive.count"


def redrive(relay, *args, topic=LETTERS, code=OK):
    done = relay.command("redrive", "--topic", topic, *args)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def letter_headers(topic=SOURCE, partition=0, **more):
    named = {"topic": topic, "partition": str(partition), "offset": "7",
             "group": schemas.OTHERS, "message": "no reason", **more}
    return [(f"__dlq.errors.{name.rstrip('_').replace('_', '.')}",
             value.encode())
            for name, value in named.items() if value is not None]


def send_letters(kafka, count, partitions=3, keys=20):
    """Letters as another program writes them, numbered within their key."""
    out = kafka.producer(enable_idempotence=True)   # in order
    for number in range(count):
        key = number % keys
        send(out, LETTERS, b"%d" % number, key=b"k%d" % key,
             headers=[("tenant", b"7"),
                      *letter_headers(partition=key % partitions)])
    delivered(out)


@pytest.fixture
def letters(relays, db, kafka):
    """A relay that does not run, and the two topics."""
    kafka.create_topics(SOURCE, LETTERS)
    relay = relays(db.conninfo(), kafka.brokers)
    relay.write_config()
    return relay


def sent_back(kafka, count):
    """The records of the source topic, at least so many: a transaction is
    visible a little after its commit was acknowledged."""
    with kafka.tail(SOURCE) as tail:
        tail.until(lambda records: len(records) >= count, 30, "the letters")
        return tail.read_to_end()


def check_exactly_once(kafka, count):
    """Each letter once, and those of a key in their order."""
    records = sent_back(kafka, count)
    numbers = [int(record.value) for record in records]
    assert sorted(numbers) == list(range(count))
    by_key = defaultdict(list)
    for record in records:
        by_key[record.key].append(int(record.value))
    assert all(found == sorted(found) for found in by_key.values())


# ---- what pgstock does with a message that comes back ------------------------

def give_up_payments(db, kafka, relay, *orders, **kwargs):
    """Payments whose orders are not there are dead letters."""
    out = kafka.producer()
    before = inbox_results(db)["dead"]
    for name in orders:
        send(out, "payment-success", {"order_id": name}, key=name, **kwargs)
    delivered(out)
    wait_until(lambda: inbox_results(db)["dead"] == before + len(orders), 20,
               lambda: f"{inbox_results(db)}\n{relay.tail()}")
    wait_until(lambda: kafka.count("payment-success_dlq") >= len(orders), 20,
               "the letters are published")


def test_a_message_that_comes_back_takes_effect_once(db, kafka, start_relay):
    """A payment arrived before its order, and was given up.  Sent back, it is
    the archived one, tried again; sent back again, a duplicate."""
    relay = start_relay(HURRY, topics=["payment-success"])
    db.sql("SELECT receive_stock('book', 10)")
    give_up_payments(db, kafka, relay, "o-1", "o-2")
    for name in ("o-1", "o-2"):
        db.sql("SELECT reserve_stock('book', 1, %s)", (name,))
    shown = redrive(relay, "--dry-run", topic="payment-success_dlq")
    assert shown.count("would send payment-success_dlq/") == 2
    assert "to payment-success, key o-1, sent back 0 times" in shown
    assert shown.endswith("would send back 2 dead letters, left 0\n")
    assert redrive(relay, topic="payment-success_dlq") == (
        "sent back 2 dead letters, left 0\n")
    wait_until(lambda: db.value("SELECT count(*) FROM stock_reservations"
                                " WHERE state = 'confirmed'") == 2, 20,
               lambda: db.sql("TABLE stock_inbox"))
    assert db.sql("SELECT state, handled FROM pgstock_internal.failed_event"
                  ) == [("retried", True)] * 2
    assert inbox_results(db) == {"applied": 2, "duplicate": 2}
    assert {reason for (reason,) in db.sql(
        "SELECT reason FROM stock_inbox WHERE result = 'duplicate'")} == {
        f"redriven: failed event {number} is tried again"
        for (number,) in db.sql("SELECT id FROM stock_failed_events")}
    assert db.value("SELECT count(*) FROM stock_admin_actions"
                    " WHERE action = 'redrive'") == 2
    assert redrive(relay, topic="payment-success_dlq") == (
        "sent back 0 dead letters, left 0\n")
    # a person moves the group back: each is a duplicate of a retried one
    reset_group(kafka, db, relay, "payment-success_dlq")
    redrive(relay, topic="payment-success_dlq")
    wait_until(lambda: inbox_results(db)["duplicate"] == 4, 20, "again")
    assert db.value("SELECT count(*) FROM stock_inbox"
                    " WHERE reason LIKE '%% is retried'") == 2
    assert db.level("book")[0] == 8
    history = db.sql("SELECT kind, what FROM order_history('o-1')")
    assert ("admin", "redrive") in history


def reset_group(kafka, db, relay, topic):
    """As kafka-consumer-groups.sh --reset-offsets --to-earliest does."""
    group = db.value("SELECT inbox_group FROM pgstock_internal.relay_hello()")
    consumer = Consumer({"bootstrap.servers": kafka.brokers,
                         "group.id": f"{group}-redrive"})
    consumer.commit(offsets=[TopicPartition(topic, n, 0) for n in range(3)],
                    asynchronous=False)
    consumer.close()


def test_retried_by_hand_meanwhile(db, kafka, start_relay):
    """The letter of a message that was retried, handled or discarded in the
    database does nothing, even if its inbox row is purged."""
    relay = start_relay(HURRY, topics=["payment-success"])
    db.sql("SELECT receive_stock('book', 10)")
    names = ["o-1", "o-2", "o-3"]
    give_up_payments(db, kafka, relay, *names)
    for name in names:
        db.sql("SELECT reserve_stock('book', 1, %s)", (name,))
    ids = dict(db.sql("SELECT order_id, id FROM stock_failed_events"))
    db.sql("SELECT retry_failed_event(%s)", (ids["o-1"],))
    db.sql("SELECT mark_failed_event_handled(%s, 'refunded')", (ids["o-2"],))
    db.sql("SELECT discard_failed_event(%s, 'refunded')", (ids["o-3"],))
    wait_until(lambda: inbox_results(db)["applied"] == 1, 20, "retried")
    db.sql("DELETE FROM pgstock_internal.inbox")
    redrive(relay, topic="payment-success_dlq")
    wait_until(lambda: inbox_results(db) == {"duplicate": 3}, 20,
               lambda: db.sql("TABLE stock_inbox"))
    assert dict(db.sql("SELECT order_id, reason FROM stock_inbox")) == {
        name: f"redriven: failed event {ids[name]} is {state}"
        for name, state in zip(names, ("retried", "handled", "discarded"))}
    assert dict(db.sql("SELECT order_id, state FROM stock_reservations")) == {
        "o-1": "confirmed", "o-2": "reserved", "o-3": "reserved"}


def test_the_archive_is_gone(db, kafka, start_relay):
    """Another database, or one restored from before: the message is new, under
    its own id and with its own time, and applied."""
    relay = start_relay(HURRY, topics=["payment-success"])
    db.sql("SELECT receive_stock('book', 10)")
    give_up_payments(db, kafka, relay, "o-1")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    first = db.value("SELECT event_id FROM stock_inbox")
    db.sql("DELETE FROM pgstock_internal.failed_event")
    redrive(relay, topic="payment-success_dlq")
    wait_until(lambda: inbox_results(db)["duplicate"] == 1, 20, "its id")
    db.sql("DELETE FROM pgstock_internal.inbox")
    reset_group(kafka, db, relay, "payment-success_dlq")
    redrive(relay, topic="payment-success_dlq")
    wait_until(lambda: inbox_results(db)["applied"] == 1, 20,
               lambda: db.sql("TABLE stock_inbox"))
    assert db.value("SELECT event_id FROM stock_inbox") == first
    assert db.value("SELECT state FROM stock_reservations") == "confirmed"


def test_a_stale_message_stays_stale(db, kafka, start_relay):
    """A cancellation without a time of its own keeps the time at which it was
    sent first: it does not end an attempt that is younger."""
    relay = start_relay(HURRY, topics=["order-cancelled"])
    db.sql("SELECT receive_stock('book', 10)")
    kafka.create_topics(LETTERS)
    out = kafka.producer()
    send(out, LETTERS, {"order_id": "o-1"}, key="o-1", headers=[
        *letter_headers("order-cancelled"), ("__dlq.event.id", b"e-1"),
        ("__dlq.event.source", b"order-cancelled"),
        ("__dlq.event.time", b"2026-01-31T12:00:00.000000Z")])
    delivered(out)
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    db.sql("SELECT release_stock('o-1')")
    db.sql("SELECT reserve_stock('book', 1, 'o-1')")
    redrive(relay)
    wait_until(lambda: inbox_results(db) == {"skipped": 1}, 20,
               lambda: db.sql("TABLE stock_inbox"))
    assert db.value("SELECT reason FROM stock_inbox") == "stale"


def test_a_loop_ends(db, kafka, start_relay):
    """Poison is given up each time; the count in its headers ends that."""
    relay = start_relay(HURRY, topics=["order-created"])
    out = kafka.producer()
    send(out, "order-created", b"poison", key=b"k", headers=[("a", b"1")])
    delivered(out)
    for times in range(1, 4):
        wait_until(lambda: kafka.count("order-created_dlq") == times, 20,
                   lambda: db.sql("TABLE stock_inbox"))
        assert redrive(relay, topic="order-created_dlq").startswith(
            "sent back 1 ")
    wait_until(lambda: kafka.count("order-created_dlq") == 4, 20, "the last")
    with kafka.tail("order-created_dlq") as tail:
        assert [record.header(COUNT) for record in tail.read_to_end()] == [
            None, "1", "2", "3"]
    left = redrive(relay, topic="order-created_dlq", code=RUNTIME)
    assert left.startswith("left order-created_dlq/")
    assert "sent back 3 times already, and --limit is 3" in left
    assert left.endswith("sent back 0 dead letters, left 1\n")
    assert db.sql("SELECT state, attempts FROM stock_failed_events") == [
        ("archived", 1)]
    reset_group(kafka, db, relay, "order-created_dlq")
    assert "sent back 3" in redrive(relay, "--max", "3", "--limit", "4",
                                    topic="order-created_dlq")


def test_order_of_a_key(db, kafka, start_relay):
    """A message of the same batch and key as one that comes back is applied
    behind it, though that one is tried apart."""
    db.sql("CREATE TABLE log (id serial, value text)")
    db.sql("CREATE TABLE broken ()")
    db.sql("CREATE FUNCTION note(payload jsonb, message jsonb) RETURNS void"
           " LANGUAGE plpgsql AS $$ BEGIN"
           " IF payload->>'v' = 'first' AND to_regclass('broken') IS NOT NULL"
           " THEN RAISE 'broken'; END IF;"
           " INSERT INTO log (value) VALUES (payload->>'v'); END $$")
    db.sql("SELECT register_handler('order-created', 'note')")
    relay = start_relay(HURRY, topics=["order-created"])
    out = kafka.producer()
    send(out, "order-created", b'{"v": "first"}', key="k")
    delivered(out)
    wait_until(lambda: kafka.count("order-created_dlq") == 1, 20, "a letter")
    db.sql("DROP TABLE broken")
    relay.terminate()
    redrive(relay, topic="order-created_dlq")
    send(out, "order-created", b'{"v": "second"}', key="k")
    delivered(out)
    relay.start()
    wait_until(lambda: db.value("SELECT count(*) FROM log") == 2, 20,
               lambda: db.sql("TABLE stock_inbox"))
    assert [value for (value,) in db.sql(
        "SELECT value FROM log ORDER BY id")] == ["first", "second"]


# ---- the letters -------------------------------------------------------------

def test_every_byte_is_kept(letters, kafka):
    """Key, value and headers, in their order, whatever they are; those that
    pgstock writes under __dlq. are replaced by the count. The partition is that
    of the message."""
    own = [("a", b"1"), ("a", b"2"), ("null", None), ("empty", b""),
           ("binary", b"\x00\xff"), ("__dlq", b"own"),
           ("__dlq.errors.exception", b"another program's")]
    out = kafka.producer()
    sent = []
    for n, (key, value) in enumerate(((b"k", b"v"), (None, b"v"), (b"", b""),
                                      (b"\x00\xff", None), (b"k", b"w" * 99))):
        sent.append((key, value))
        send(out, LETTERS, value, key=key, partition=0,
             headers=[*own, *letter_headers(partition=n % 3, class_="poison"),
                      *([(COUNT, b"2")] if n == 4 else [])])
    # partition 7 is not there (any more): by its key
    send(out, LETTERS, b"far", key=b"k", partition=0,
         headers=letter_headers(partition=7))
    delivered(out)
    assert redrive(letters) == "sent back 6 dead letters, left 0\n"
    records = sent_back(kafka, 6)
    far = [r for r in records if r.value == b"far"]
    records = [r for r in records if r.value != b"far"]
    assert len(far) == 1 and far[0].headers == ((COUNT, b"1"),)
    assert sorted(((r.key, r.value) for r in records), key=repr) == sorted(
        sent, key=repr)
    for record in records:
        n = sent.index((record.key, record.value))
        assert record.partition == n % 3
        assert record.headers == (*own, (COUNT, b"3" if n == 4 else b"1"))
        assert record.timestamp_ms > (time.time() - 600) * 1000


def test_letters_that_are_left(letters, kafka):
    """Each is named with its place and the reason; the others are sent."""
    kafka.create_topics("narrow", max_message_bytes=1000)
    out = kafka.producer()
    for headers, value in (
            ([("a", b"1")], b"no source"), (None, b"no headers"),
            (letter_headers("gone"), b"gone"),
            (letter_headers("__consumer_offsets"), b"kafka's"),
            (letter_headers(LETTERS), b"a circle"),
            (letter_headers("no/topic"), b"illegal"),
            (letter_headers(incomplete="true"), None),
            ([*letter_headers(), (COUNT, b"many")], b"damaged"),
            ([*letter_headers(), (COUNT, b"3")], b"often enough"),
            (letter_headers("narrow"), b"x" * 5000),
            (letter_headers("narrow"), b"fits"),
            (letter_headers(), b"good")):
        send(out, LETTERS, value, key=b"k", headers=headers, partition=1)
    delivered(out)
    left = redrive(letters, code=RUNTIME)
    lines = left.splitlines()
    assert lines[-1] == "sent back 2 dead letters, left 10"
    for n, (line, reason) in enumerate(zip(lines, (
            "__dlq.errors.topic", "__dlq.errors.topic",
            '"gone" does not exist', "Kafka's own", "dead letters' own",
            '"no/topic" does not exist', "failed retry", "not a number",
            "--limit is 3", 'topic "narrow" refused it'))):
        assert line.startswith(f"left {LETTERS}/1/{n}: ") and reason in line
    assert [r.value for r in sent_back(kafka, 1)] == [b"good"]
    assert [r.value for r in kafka.consume("narrow")] == [b"fits"]
    assert "gone" not in kafka.topics()
    assert redrive(letters) == "sent back 0 dead letters, left 0\n"


def check_refused(letters, kafka, refused, count, size=200, partitions=3):
    """Exactly these letters are left, each by its place; all others are
    sent."""
    kafka.create_topics("narrow", max_message_bytes=1000)
    out = kafka.producer(enable_idempotence=True)
    offsets = defaultdict(int)
    places = []
    for n in range(count):
        partition = n % partitions
        if n in refused:
            places.append(f"{LETTERS}/{partition}/{offsets[partition]}")
        offsets[partition] += 1
        send(out, LETTERS, b"%d" % n + b" " * (5000 if n in refused else size),
             key=b"k", partition=partition,
             headers=letter_headers("narrow" if n in refused else SOURCE))
    delivered(out)
    *lines, last = redrive(letters, code=RUNTIME).splitlines()
    assert last == f"sent back {count - len(refused)} dead letters," \
                   f" left {len(refused)}"
    assert all(' topic "narrow" refused it: ' in line for line in lines)
    assert sorted(line.split()[1].rstrip(":") for line in lines) == sorted(
        places)
    assert sorted(int(r.value) for r in sent_back(
        kafka, count - len(refused))) == sorted(set(range(count))
                                                - refused)


def test_refused_in_each_partition(letters, kafka):
    """The partitions are read in any order; each refusal is that of the letter
    which was refused."""
    kafka.add_partitions(LETTERS, 12)
    check_refused(letters, kafka, set(range(14, 20)), 60, partitions=12)


def test_refused_before_the_batch_is_full(letters, kafka):
    """The transaction fails while the others of its batch are still sent."""
    check_refused(letters, kafka, {0}, 200, size=100000)


def test_pgstock_s_own_topics_get_no_letter(relays, db, kafka):
    """Who may write a letter cannot forge an event, or the position: not in
    the default topics either, where events go to others."""
    own = ["pgstock-position-11111111-2222-4333-8444-555555555555",
           "stock-events", "stock-freeze-failed", "stock-levels",
           "inventory-events"]
    db.sql("SELECT set_event_profile('inventory')")
    kafka.create_topics(LETTERS, SOURCE, *(set(own) - kafka.topics()))
    relay = relays(db.conninfo(), kafka.brokers,
                   {"levels": {"topic": "stock-levels"}})
    out = kafka.producer()
    for name in [*own, SOURCE]:
        send(out, LETTERS, b"forged", key=b"k", partition=0,
             headers=letter_headers(name))
    delivered(out)
    *lines, last = redrive(relay, code=RUNTIME).splitlines()
    assert last == "sent back 1 dead letters, left 5"
    assert [line.split(": ", 1)[1] for line in lines] == [
        f'its source topic "{name}" is one of pgstock\'s own' for name in own]
    assert [kafka.count(name) for name in own] == [0] * 5


def test_max_and_dry_run(letters, kafka):
    send_letters(kafka, 30)
    shown = redrive(letters, "--dry-run", "--max", "4")
    assert shown.count("would send ") == 5      # and the sum
    assert kafka.count(SOURCE) == 0
    for _ in range(3):
        assert redrive(letters, "--max", "7") == (
            "sent back 7 dead letters, left 0\n")
    assert redrive(letters).startswith("sent back 9 ")
    check_exactly_once(kafka, 30)


def number_letters(kafka, *numbers, partition=0, **how):
    out = kafka.producer()
    for number in numbers:
        send(out, LETTERS, b"%d" % number, key=b"k", partition=partition,
             headers=letter_headers(partition=partition), **how)
    delivered(out)


def test_from_an_offset(letters, kafka):
    """One letter again, without the others; letters passed over are named, and
    never looked at again."""
    number_letters(kafka, *range(6))
    number_letters(kafka, 10, 11, partition=1)
    assert redrive(letters, "--partition", "0", "--max", "4") == (
        "sent back 4 dead letters, left 0\n")
    again = ("--partition", "0", "--from", "1", "--max", "1")
    assert f"would send {LETTERS}/0/1 to" in redrive(letters, "--dry-run",
                                                     *again)
    assert redrive(letters, *again) == "sent back 1 dead letters, left 0\n"
    assert redrive(letters, "--from", "5") == (     # the end of partition 1
        f"passed over {LETTERS}/0/4 to 4: they are before --from\n"
        "sent back 1 dead letters, left 0\n")
    assert redrive(letters) == "sent back 2 dead letters, left 0\n"
    assert sorted(int(r.value) for r in sent_back(kafka, 8)) == [
        0, 1, 1, 2, 3, 5, 10, 11]


def test_from_a_time(letters, kafka):
    now = int(time.time())
    number_letters(kafka, 1, timestamp=(now - 2) * 1000)
    number_letters(kafka, 2, timestamp=(now - 1) * 1000)
    at = datetime.fromtimestamp(now - 1, timezone.utc).isoformat()
    assert redrive(letters, "--from", at.replace("+00:00", "Z")) == (
        f"passed over {LETTERS}/0/0 to 0: they are before --from\n"
        "sent back 1 dead letters, left 0\n")
    assert redrive(letters, "--from", "2000-01-01T00:00:00Z") == (
        "sent back 2 dead letters, left 0\n")
    assert redrive(letters, "--from", "2999-01-01T00:00:00Z") == (
        "sent back 0 dead letters, left 0\n")
    assert sorted(r.value for r in sent_back(kafka, 3)) == [b"1", b"2", b"2"]


def test_refused_behind_from(letters, kafka):
    """After a letter was refused, the run goes on where it was, and not at the
    group's offset, which is behind all letters."""
    kafka.create_topics("narrow", max_message_bytes=1000)
    number_letters(kafka, 1)
    out = kafka.producer()
    send(out, LETTERS, b"x" * 5000, key=b"k", partition=0,
         headers=letter_headers("narrow"))
    delivered(out)
    number_letters(kafka, 2)
    for _ in range(2):
        shown = redrive(letters, "--from", "0", "--partition", "0",
                        code=RUNTIME)
        assert shown.count('topic "narrow" refused it') == 1
        assert shown.endswith("sent back 2 dead letters, left 1\n")


@pytest.mark.parametrize("args, code, why", [
    (["--from", "soon"], USAGE, "neither a number nor a time"),
    (["--from", "-1"], USAGE, "neither a number nor a time"),
    (["--partition", "x"], USAGE, "--partition"),
    (["--partition", "3"], RUNTIME, "has no partition 3, only 0 to 2"),
])
def test_bad_from(letters, args, code, why):
    done = letters.command("redrive", "--topic", LETTERS, *args)
    assert (done.returncode, why in done.stderr) == (code, True), done.stderr


def test_progress(letters, kafka):
    """On a terminal: count, share and rate, and a summary that stays."""
    send_letters(kafka, 40000)
    with open(os.devnull, "wb") as file, closing(Terminal(
            [letters.binary, "redrive", "--topic", LETTERS, "--config",
             letters.config_path], stdout=file)) as shown:
        assert shown.wait_end(60) == OK, shown.text
    assert re.search(r"\r[\d,]+ dead letters, \d+ %, [\d,.]+/s", shown.text)
    assert re.search(r"\r40,000 dead letters in .*/s\x1b\[K\r\n$", shown.text)
    print(shown.text[-60:])


def test_there_is_no_such_topic(letters):
    done = letters.command("redrive", "--topic", "nothing_dlq")
    assert done.returncode == RUNTIME
    assert 'topic "nothing_dlq" does not exist' in done.stderr


# ---- interruptions -----------------------------------------------------------

def spawn(relay, *args):
    return subprocess.Popen(
        as_server([relay.binary, "redrive", "--topic", LETTERS, *args,
                   "--config", relay.config_path]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        stdin=subprocess.DEVNULL)


def kill_at(kafka, relay, number, seconds):
    """The command, and its end by a signal so long after its first letters."""
    before = kafka.count(SOURCE)
    process = spawn(relay)
    wait_until(lambda: process.poll() is not None
               or kafka.count(SOURCE) > before, 30, "it sends", step=0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def test_kills(letters, kafka):
    """kill -9 at any moment: no letter is lost, none is seen twice."""
    count = 60000
    send_letters(kafka, count)
    random.seed(8)
    codes = [kill_at(kafka, letters, signal.SIGKILL, random.random() * 0.2)[0]
             for _ in range(5)]
    assert codes.count(-signal.SIGKILL) >= 3, codes
    wait_until(lambda: letters.command("redrive", "--topic", LETTERS
                                       ).returncode == OK, 60, "the rest")
    check_exactly_once(kafka, count)


def test_ctrl_c(letters, kafka):
    """It ends with what it has committed, and says how to go on."""
    count = 60000
    send_letters(kafka, count)
    code, out, errors = kill_at(kafka, letters, signal.SIGINT, 0.05)
    assert code == RUNTIME and "run it again for the others" in errors
    done = int(out.split()[2])
    assert out == f"sent back {done} dead letters, left 0\n"
    assert 0 < done < count
    assert len(sent_back(kafka, done)) == done
    assert redrive(letters).startswith(f"sent back {count - done} ")
    check_exactly_once(kafka, count)


def test_two_at_once(letters, kafka):
    """The second fences the first; together they send each letter once."""
    count = 60000
    send_letters(kafka, count)
    first = spawn(letters)
    wait_until(lambda: kafka.count(SOURCE) > 0, 30, "the first one sends")
    second = spawn(letters)
    _, errors = first.communicate(timeout=60)
    out, _ = second.communicate(timeout=60)
    assert first.returncode == RUNTIME
    assert "another redrive of this topic has begun" in errors
    assert second.returncode == OK and out.startswith("sent back ")
    check_exactly_once(kafka, count)
