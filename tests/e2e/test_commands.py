# SPDX-License-Identifier: PostgreSQL
"""The commands that an operator types: status, failed, replay, rewind."""

import contextlib
import csv
import io
import json
import os
import re
import subprocess

import pytest

from checks import of_type, wait_complete
from kafkaio import delivered, send
from process import as_server, wait_until

OK, RUNTIME, USAGE = range(3)


def poison(kafka, n=1, value=b"=poison"):
    out = kafka.producer()
    for i in range(n):
        send(out, "order-created", value, key=f"k{i}".encode())
    delivered(out)


def wait_failed(db, n):
    wait_until(lambda: db.value("SELECT count(*) FROM failed_order_archives")
               == n, 20, f"{n} messages are given up")
    return [row for (row,) in
            db.sql("SELECT id FROM failed_order_archives ORDER BY id")]


def published(relay, n):
    wait_until(lambda: relay.metric("outbox_published_total") >= n, 20,
               lambda: relay.get("/metrics")[1])


def actions(db, action):
    return db.sql("SELECT target, reason FROM stock_admin_actions"
                  " WHERE action = %s ORDER BY at", (action,))


def run_ok(relay, *args):
    done = relay.command(*args)
    assert done.returncode == OK, done.stdout + done.stderr
    return done.stdout


# ---- usage ------------------------------------------------------------------

@pytest.mark.parametrize("args, named", [
    (["replay"], "--from"),
    (["replay", "--from", "yesterday"], "yesterday"),
    (["replay", "--from", "7", "--to", "6"], "--to"),
    (["replay", "--from", "1", "--csv"], "--csv"),
    (["redrive"], "--topic"),
    (["redrive", "--topic", "t", "--max", "0"], "0"),
    (["redrive", "--topic", "t", "--limit", "x"], "x"),
    (["rewind", "--topic", "t"], "--to"),
    (["rewind", "--topic", "t", "--to", "-5"], "-5"),
    (["failed"], "failed"),
    (["failed", "fly"], "fly"),
    (["failed", "show"], "ID"),
    (["failed", "show", "x"], "x"),
    (["failed", "show", "1", "2"], "2"),
    (["failed", "list", "--state", "lost"], "lost"),
    (["failed", "list", "--since", "1d"], "1d"),
    (["failed", "retry"], "filter"),
    (["failed", "retry", "1", "--topic", "t"], "filter"),
    (["failed", "discard", "1"], "--reason"),
    (["failed", "discard", "1", "--reason", ""], "reason"),
    (["failed", "handled", "--note", "x"], "ID"),
    (["failed", "export"], "--csv"),
    (["audit", "--from", "x"], "x"),
    (["status", "--jsn"], "--jsn"),
], ids=" ".join)
def test_usage(relays, args, named):
    """A mistake is named, and the correct usage is shown, before anything is
    changed."""
    relay = relays("host=127.0.0.1 port=1 dbname=x user=x", "127.0.0.1:1")
    done = relay.command(*args)
    assert done.returncode == USAGE, done.stderr
    assert named in done.stderr
    assert f" pgstock-relay {args[0]}" in done.stderr.split("Usage:")[1]
    assert not done.stdout


@pytest.mark.parametrize("command", [
    "status", "replay", "rewind", "redrive", "audit", "failed", "failed retry",
    "adopt"])
def test_help(relays, command):
    relay = relays("", "")
    done = relay.run_binary(*command.split(), "--help")
    assert done.returncode == OK
    assert f"Usage: pgstock-relay {command}" in done.stdout
    assert not done.stderr
    assert relay.run_binary("help", *command.split()).stdout == done.stdout


def test_no_password_in_argv(relays):
    relay = relays("", "")
    for command in (["status"], ["audit"], ["failed", "list"]):
        done = relay.run_binary(*command, "--kafka", "127.0.0.1:1",
                                "--postgres", "host=x password=hunter2")
        assert done.returncode == USAGE
        assert "password" in done.stderr and "hunter2" not in done.stderr


def test_no_broker_is_needed(relays, db):
    """Commands that query only the database need no [kafka]."""
    relay = relays("", "")
    for command in (["failed", "list"], ["failed", "export", "--csv"],
                    ["replay", "--from", "1", "--dry-run"], ["adopt"],
                    ["adopt", "--as", "copy", "--execute"]):
        done = relay.run_binary(*command, "--postgres", db.conninfo())
        assert done.returncode == OK, done.stderr
    assert "\nas: copy\n" in done.stdout
    done = relay.run_binary("audit", "--postgres", db.conninfo())
    assert done.returncode == USAGE and "bootstrap.servers" in done.stderr


def test_kerberos_where_it_is_asked_for(relays, db):
    """gssencmode is disable by default, and nothing else is."""
    relay, ask = relays("", ""), ["failed", "list", "--postgres"]
    require = {"PGGSSENCMODE": "require"}
    done = relay.run_binary(*ask, db.conninfo(), env=require)
    assert done.returncode == RUNTIME and "GSSAPI" in done.stderr
    done = relay.run_binary(*ask, db.conninfo() + " gssencmode=disable",
                            env=require)
    assert done.returncode == OK, done.stderr
    done = relay.run_binary(*ask, db.conninfo() + " gssencmode=require")
    assert done.returncode == RUNTIME and "GSSAPI" in done.stderr


def test_away(relays):
    """An unreachable database is no mistake of usage."""
    relay = relays("host=127.0.0.1 port=1 dbname=x user=x", "127.0.0.1:1")
    for command in (["status"], ["audit"], ["failed", "list"],
                    ["replay", "--from", "1"], ["failed", "retry", "1"],
                    ["redrive", "--topic", "t"],
                    ["rewind", "--topic", "t", "--to", "0"]):
        assert relay.command(*command).returncode == RUNTIME


# ---- status -----------------------------------------------------------------

KEYS = {
    "status", "problems", "relay_version", "extension_version", "relay_api",
    "database", "inbox_group", "server_version", "in_recovery", "leader",
    "leader_pid", "leader_since", "epoch", "position_valid",
    "position_trouble", "position_stored_at", "held_topics", "held_trouble",
    "missing_messages", "bindings", "upkeep_trouble",
    "other_publisher_retention", "pending_events",
    "oldest_pending_seconds", "archive_open", "webhook_waiting", "calls",
    "calls_refused", "calls_failed", "failed_waiting", "failed_archived",
    "broker", "missing_topics", "consumers"}


def test_status(db, kafka, start_relay):
    """It reports the same whether or not a relay runs, except the leader."""
    db.sql("SELECT receive_stock('book', 10)")
    relay = start_relay(topics=["order-created"])
    published(relay, 1)
    poison(kafka)
    wait_failed(db, 1)
    wait_until(lambda: json.loads(run_ok(relay, "status", "--json"))
               ["pending_events"] == 0, 20, "all is published")
    known = json.loads(run_ok(relay, "status", "--json"))
    assert set(known) == KEYS
    assert known["status"] == "ok" and known["problems"] == []
    assert known["leader"] and known["leader_pid"] and known["epoch"] == 1
    assert known["failed_archived"] == known["archive_open"] == 1
    assert known["missing_topics"] == []
    assert sum(c["next_offset"] for c in known["consumers"]) == 1
    assert all(c["lag"] == 0 and c["topic"] == "order-created"
               for c in known["consumers"])
    assert relay.terminate() == OK
    db.sql("SELECT receive_stock('book', 10)")
    known = json.loads(run_ok(relay, "status", "--json"))
    assert set(known) == KEYS
    assert known["leader"] is None and known["pending_events"] == 1
    assert known["problems"] == ["no relay leads the outbox"]
    text = run_ok(relay, "status")
    assert "status: failing\n! no relay leads the outbox\n" in text
    assert "\n! leader         none, epoch 1\n" in text
    assert "\n  pending        1 event, the oldest " in text
    assert "\n! dead letters   1, open: 1\n" in text
    assert "\x1b" not in text, "that is for a terminal"


def test_status_of_a_foreign_position(db, kafka, start_relay):
    db.sql("SELECT publish_event('stock-events', 'k', '{}')")
    relay = start_relay()
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
    assert relay.terminate() == OK, "and has stored how far it got"
    db.sql("UPDATE pgstock_internal.incarnation SET id = gen_random_uuid()")
    known = json.loads(run_ok(relay, "status", "--json"))
    assert not known["position_valid"]
    assert "another database" in known["position_trouble"]


def test_missing_topic(db, kafka, start_relay):
    """A typo in [inbox] topics is reported; once the topic is created, all is
    well."""
    relay = start_relay(topics=["order-created", "order-creatd"])
    wait_until(lambda: "order-creatd" in relay.get("/readyz")[1], 20,
               lambda: relay.get("/readyz"))
    assert relay.get("/readyz")[0] == 200, "the other topic is consumed"
    assert "order-creatd" in relay.log()
    known = json.loads(run_ok(relay, "status", "--json"))
    assert known["missing_topics"] == ["order-creatd"]
    assert known["status"] == "failing"
    kafka.create_topics("order-creatd")
    wait_until(lambda: "order-creatd" not in relay.get("/readyz")[1], 40,
               lambda: relay.get("/readyz"))


# ---- failed -----------------------------------------------------------------

def test_failed(db, kafka, start_relay):
    relay = start_relay(topics=["order-created"])
    poison(kafka, 3)
    one, two, three = wait_failed(db, 3)
    listed = run_ok(relay, "failed", "list").splitlines()
    assert [line.split("\t")[0] for line in listed] == [
        "id", str(one), str(two), str(three)]
    for filters in (["--state", "archived"], ["--topic", "order-created"],
                    ["--since", "2020-01-31T12:00:00Z"]):
        assert len(run_ok(relay, "failed", "list", *filters).splitlines()) == 4
    for filters in (["--state", "waiting"], ["--topic", "other"],
                    ["--since", "2100-01-31T12:00:00Z"],
                    ["--sqlstate", "22P02"], ["--order", "o-1"]):
        assert len(run_ok(relay, "failed", "list", *filters).splitlines()) == 1
    shown = run_ok(relay, "failed", "show", str(two))
    assert f"id: {two}\n" in shown and "payload: =poison\n" in shown

    run_ok(relay, "failed", "handled", str(one), "--note", "mailed the shop")
    run_ok(relay, "failed", "discard", str(two), "--reason", "a test")
    assert db.sql("SELECT state, handled FROM pgstock_internal.failed_event"
                  " ORDER BY id") == [("archived", True), ("discarded", False),
                                      ("archived", False)]
    assert actions(db, "mark_failed_event_handled") == [
        (f"id {one}", "mailed the shop")]
    assert actions(db, "discard_failed_event") == [(f"id {two}", "a test")]

    done = relay.command("failed", "retry", "999999", str(three))
    assert done.returncode == RUNTIME and "no failed event" in done.stderr
    assert actions(db, "retry_failed_event") == [(f"id {three}", None)], \
        "one that fails does not hinder the next"
    done = relay.command("failed", "show", "999999")
    assert done.returncode == RUNTIME and "999999" in done.stderr


def test_failed_shows_no_more_than_it_is(db, kafka, start_relay):
    """The order id of a message forged a row of `failed list`, and renamed the
    reader's terminal."""
    relay = start_relay(topics=["payment-success"],
                        config={"inbox": {"order_wait": "0s"}})
    out = kafka.producer()
    send(out, "payment-success", {
        "order_id": "o\n99\tarchived\torder-created\to-1\x1b]0;x\x07\u202e"})
    delivered(out)
    failed, = wait_failed(db, 1)
    escaped = "o\\n99\\tarchived\\torder-created\\to-1\\x1b]0;x\\x07\\u{202e}"
    listed = run_ok(relay, "failed", "list").splitlines()
    assert [line.split("\t")[0] for line in listed] == ["id", str(failed)]
    assert listed[1].split("\t")[3] == escaped
    shown = run_ok(relay, "failed", "show", str(failed))
    assert f"order_id: {escaped}\n" in shown
    assert "\x1b" not in shown
    names = [line.partition(": ")[0] for line in shown.splitlines()]
    assert len(set(names)) == len(names) and "99" not in names
    assert "\x1b" not in relay.log()


def test_memory_is_hidden(start_relay):
    """Secrets are in no core file, and not for others of the same user."""
    relay = start_relay()
    assert os.stat(f"/proc/{relay.pid}/environ").st_uid == 0
    with open(f"/proc/{relay.pid}/limits", encoding="utf-8") as limits:
        core, = (line for line in limits if line.startswith("Max core"))
    assert core.split()[4] == "0"


def test_failed_retry_by_filter(db, kafka, start_relay):
    """Messages that failed for a cause which has been removed: all of them
    again, by the same path, and the archive is closed."""
    relay = start_relay(topics=["payment-success"],
                        config={"inbox": {"order_wait": "0s"}})
    out = kafka.producer()
    for i in range(3):
        send(out, "payment-success", {"order_id": f"o-{i}"}, key=b"k%d" % i)
    delivered(out)
    wait_failed(db, 3)
    db.sql("SELECT receive_stock('book', 10)")
    db.sql("SELECT reserve_stock('book', 1, 'o-' || i)"
           " FROM generate_series(0, 2) i")
    run_ok(relay, "failed", "retry", "--topic", "payment-success",
           "--reason", "orders were late")
    wait_until(lambda: db.value(
        "SELECT count(*) FROM stock_reservations WHERE state = 'confirmed'")
        == 3, 20, "all are paid")
    assert [reason for _, reason in actions(db, "retry_failed_event")] == [
        "orders were late"] * 3
    listed = run_ok(relay, "failed", "list", "--state", "archived")
    assert len(listed.splitlines()) == 1


def test_export(db, kafka, start_relay):
    """Safe to open as a spreadsheet, in constant memory for any number of
    rows."""
    relay = start_relay(topics=["order-created"])
    poison(kafka, 1)
    wait_failed(db, 1)
    assert relay.terminate() == OK
    header, row = csv.reader(io.StringIO(
        run_ok(relay, "failed", "export", "--csv"), newline=""))
    found = dict(zip(header, row))
    assert found["payload"] == "'=poison" and found["topic"] == "order-created"
    db.sql("INSERT INTO pgstock_internal.failed_event (topic, partition,"
           ' "offset", event_id, value, attempts, state, class, error,'
           " first_failed_at, handled, source) SELECT 'x', 0, i, 'e',"
           " E'+a\"b,\\n', 1, 'discarded', 'poison', '@x', now(), true, 'x'"
           " FROM generate_series(1, 20000) i")
    done = relay.command("failed", "export", "--csv", "--topic", "x")
    assert not done.stderr, "progress is for a terminal"
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert len(rows) == 20000
    assert {r["payload"] for r in rows} == {"'+a\"b,\n"}
    assert [int(r["offset"]) for r in rows] == list(range(1, 20001))


def test_export_of_many(db, relays, run):
    """Constant memory for any number of rows, and progress on a terminal."""
    relay = relays(db.conninfo(), "127.0.0.1:1")
    relay.write_config()
    db.sql("INSERT INTO pgstock_internal.failed_event (topic, partition,"
           ' "offset", event_id, value, attempts, state, class, error,'
           " first_failed_at, handled, source)"
           " SELECT CASE WHEN i <= 5000 THEN 'few'"
           " ELSE 'many' END, 0, i, 'e', repeat('x', 300)::bytea, 1,"
           " 'discarded', 'poison', 'x', now(), true, 'x'"
           " FROM generate_series(1, 200000) i")
    peaks = []
    for topic, rows in (("few", 5000), ("many", 195000)):
        terminal, end = os.openpty()
        path = os.path.join(run, f"{topic}.csv")
        with open(path, "wb") as file:
            process = subprocess.Popen(
                as_server([relay.binary, "failed", "export", "--csv",
                           "--topic", topic, "--config", relay.config_path]),
                stdout=file, stderr=end, cwd="/",
                env={**os.environ, "TERM": "xterm"})
            os.close(end)
            output = b""
            with contextlib.suppress(OSError):      # its end
                while chunk := os.read(terminal, 65536):
                    output += chunk
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        os.close(terminal)
        assert process.returncode == OK, output
        # the last of its lines stays, with the time that it took
        assert re.search(rb"\r%s rows in [^\n]*/s" % f"{rows:,}".encode(),
                         output) or topic == "few", output
        if topic == "many":
            assert re.search(rb"\r[\d,]+ rows, \d+ %, [\d,]+/s", output), output
        with open(path, "rb") as file:
            assert sum(1 for _ in file) == rows + 1
        os.unlink(path)
        peaks.append(usage.ru_maxrss)
    assert peaks[1] - peaks[0] < 2048, f"KiB at the most: {peaks}"


# ---- replay -----------------------------------------------------------------

def test_replay(db, kafka, start_relay):
    """Again through the outbox: the same event under the same id, marked,
    behind the existing records; new events keep their order."""
    relay = start_relay()
    db.sql("SELECT receive_stock('book', 100)")
    db.sql("SELECT reserve_stock('book', 1, 'o-' || i)"
           " FROM generate_series(1, 10) i")
    db.sql("SELECT publish_event('stock-events', 'o-1', '{\"a\": 1}',"
           " headers => '{\"h\": \"v\"}')")
    published(relay, 12)
    first, last = db.sql("SELECT min(seq), max(seq) FROM stock_outbox")[0]
    wait_until(lambda: json.loads(run_ok(relay, "status", "--json"))
               ["pending_events"] == 0, 20, "the position is stored")
    output = run_ok(relay, "replay", "--from", str(first + 1), "--dry-run")
    assert output.startswith("would replay 11 events")
    assert db.value("SELECT count(*) FROM stock_outbox") == 12
    assert not actions(db, "replay")
    output = run_ok(relay, "replay", "--from", str(first + 1), "--to",
                  str(first + 2), "--reason", "a reader lost its disk")
    assert output.startswith("replayed 2 events")
    output = run_ok(relay, "replay", "--from", str(last), "--topic",
                  "stock-events")
    assert output.startswith("replayed 1 events")
    run_ok(relay, "replay", "--from", "1", "--topic", "other")
    db.sql("SELECT reserve_stock('book', 1, 'o-11')")
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
        tail.until(lambda r: len(r) == 16, 20, "all and the copies")
        copies = [r for r in tail.records if r.header("replay_of")]
        originals = {r.sequence: r for r in tail.records
                     if not r.header("replay_of")}
    assert sorted(int(r.header("replay_of")) for r in copies) == [
        first + 1, first + 2, last]
    for copy in copies:
        original = originals[int(copy.header("replay_of"))]
        assert (copy.key, copy.value) == (original.key, original.value)
        for name in ("ce_id", "ce_time", "ce_type", "h"):
            assert copy.header(name) == original.header(name)
        assert copy.sequence > last
    assert [reason for _, reason in actions(db, "replay")] == [
        "a reader lost its disk", None]


def test_replay_by_time(db, kafka, start_relay):
    """--to is included; copies are not copied again; unpublished events are
    left out, for they are published anyway."""
    relay = start_relay()
    for i in range(3):
        db.sql("SELECT publish_event('stock-events', 'k', '%s')", (i,))
    published(relay, 3)
    wait_until(lambda: json.loads(run_ok(relay, "status", "--json"))
               ["pending_events"] == 0, 20, "the position is stored")
    moments = [row for (row,) in db.sql(
        "SELECT to_char(created_at AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM stock_outbox ORDER BY seq")]
    output = run_ok(relay, "replay", "--from", moments[1], "--to", moments[1])
    assert output.startswith("replayed 1 events")
    published(relay, 4)
    assert relay.terminate() == OK
    db.sql("SELECT publish_event('stock-events', 'k', '3')")
    output = run_ok(relay, "replay", "--from", "1", "--dry-run")
    assert output.startswith("would replay 3 events")
    assert len(actions(db, "replay")) == 1


# ---- rewind -----------------------------------------------------------------

def test_rewind(db, kafka, start_relay):
    """Read again: a remembered message is a duplicate, a forgotten one takes
    effect; refused while a relay consumes."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(topics=["order-created"])
    out = kafka.producer()
    for i in range(9):
        send(out, "order-created", {"order_id": f"o-{i}", "items": [
            {"product_id": "book", "quantity": 1}]}, key=b"k%d" % i)
    delivered(out)
    wait_until(lambda: db.value("SELECT count(*) FROM stock_reservations")
               == 9, 20, "all are reserved")
    done = relay.command("rewind", "--topic", "order-created", "--to", "0")
    assert done.returncode == RUNTIME and "stop it first" in done.stderr
    assert not actions(db, "rewind")
    assert relay.terminate() == OK

    done = relay.command("rewind", "--topic", "no-such-topic", "--to", "0")
    assert done.returncode == RUNTIME and "no-such-topic" in done.stderr
    output = run_ok(relay, "rewind", "--topic", "order-created", "--to",
                  "2100-01-01T00:00:00Z")
    assert "0 offsets" in output, "nothing is as late as that"
    output = run_ok(relay, "rewind", "--topic", "order-created", "--to", "1000")
    assert "0 offsets" in output
    output = run_ok(relay, "rewind", "--topic", "order-created", "--to",
                  "2020-01-01T00:00:00Z", "--reason", "a test")
    assert "9 offsets" in output
    assert "0 offsets" in run_ok(relay, "rewind", "--topic", "order-created",
                                 "--to", "2"), "never on"
    assert actions(db, "rewind")[-2] == (
        "topic order-created", "to 2020-01-01T00:00:00Z: a test")
    db.sql("DELETE FROM pgstock_internal.inbox WHERE order_id = 'o-4'")
    relay.start()
    wait_until(lambda: relay.metric("inbox_events_total",
                                    result="duplicate") == 8, 20,
               lambda: relay.get("/metrics")[1])
    assert db.value("SELECT count(*) FROM stock_reservations") == 9
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
        assert len(of_type(tail.read_to_end(), "StockReserved")) == 10


def test_rewind_after_kill(db, kafka, start_relay):
    """A relay that was killed is a member until the group forgets it."""
    relay = start_relay(topics=["order-created"])
    poison(kafka)
    wait_failed(db, 1)
    relay.kill9()
    wait_until(lambda: relay.command("rewind", "--topic", "order-created",
                                     "--to", "0").returncode == OK,
               30, "the group is free")


def test_as_the_relays_role(db, kafka, start_relay):
    """The level `relay` suffices for every command, and the act is recorded
    under that role's name."""
    role = f"relay_{db.name}"
    db.sql(f"CREATE ROLE {role} LOGIN")
    db.sql("SELECT grant_stock_access(%s, 'relay')", (role,))
    db.sql("SELECT receive_stock('book', 10)")
    relay = start_relay(topics=["order-created"],
                        conninfo=db.conninfo(user=role))
    published(relay, 1)
    poison(kafka)
    (one,) = wait_failed(db, 1)
    run_ok(relay, "failed", "export", "--csv")
    run_ok(relay, "failed", "show", str(one))
    run_ok(relay, "failed", "handled", str(one), "--note", "x")
    run_ok(relay, "failed", "discard", str(one), "--reason", "x")
    wait_until(lambda: json.loads(run_ok(relay, "status", "--json"))
               ["pending_events"] == 0, 20, "all is published")
    run_ok(relay, "replay", "--from", "1")
    assert relay.terminate() == OK
    run_ok(relay, "rewind", "--topic", "order-created", "--to", "0")
    run_ok(relay, "audit")
    assert {actor for (actor,) in db.sql(
        "SELECT actor FROM stock_admin_actions"
        " WHERE action <> 'grant_stock_access'")} == {role}
    db.sql("SELECT grant_stock_access(%s, 'none')", (role,))
    db.sql(f"DROP ROLE {role}")
