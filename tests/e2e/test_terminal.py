# SPDX-License-Identifier: PostgreSQL
"""Commands on a terminal: colours, progress, and status --watch."""

import os
import re
import signal
import subprocess

import pytest

from kafkaio import delivered, send
from process import as_server, wait_until
from terminal import ENTER, LEAVE, Terminal

OK = 0


def poison(kafka, n):
    out = kafka.producer()
    for i in range(n):
        send(out, "order-created", b"poison", key=b"%d" % i)
    delivered(out)


@pytest.fixture
def terminal(relays, db, kafka):
    """Runs a command of a relay that is configured and does not run."""
    relay = relays(db.conninfo(), kafka.brokers,
                   {"inbox": {"topics": "order-created"}})
    relay.write_config()
    opened = []

    def start(*args, **options):
        opened.append(Terminal([relay.binary, *args, "--config",
                                relay.config_path], **options))
        return opened[-1]

    start.relay = relay
    yield start
    for one in opened:
        one.close()


@pytest.fixture
def watch(terminal):
    """One that has drawn its first screen."""
    def start(*args, **options):
        found = terminal("status", "--watch=1", *args, **options)
        found.wait_screen(lambda screen: "Outbox, to Kafka" in screen,
                          "the first screen")
        return found
    return start


# ---- colours ----------------------------------------------------------------

def test_colours_are_for_terminals(terminal):
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False),
                          ({"NO_COLOR": ""}, True),
                          ({"TERM": "dumb"}, False), ({"TERM": ""}, False)):
        for command, word in (("status", "status: "), ("check", "ok  ")):
            shown = terminal(command, env=env)
            assert shown.wait_end() in (0, 1)
            assert ("\x1b[" in shown.text) == coloured, (env, shown.text)
            assert word in shown.text
    piped = terminal.relay.command("status", env={"TERM": "xterm"})
    assert "\x1b" not in piped.stdout + piped.stderr


# ---- status --watch ---------------------------------------------------------

def test_watch_is_renewed(watch, db, kafka, start_relay):
    """Each look shows what has changed since the last one, as a rate too."""
    shown = watch()
    assert "! no relay leads the outbox\n" in shown.screens()[-1]
    start_relay(topics=["order-created"])
    shown.wait_screen(lambda screen: "status: ok\n" in screen, "a relay leads")
    poison(kafka, 50)
    shown.wait_screen(lambda screen: "dead letters   50, open: 50\n" in screen,
                      "the dead letters")
    since = len(shown.screens())
    poison(kafka, 50)
    screen = shown.wait_screen(
        lambda screen: re.search(r"lag +\S+ messages.*, [1-9]\S*/s applied",
                                 screen), "they are applied", since=since)
    assert re.search(r"rate +\S+/s published, [1-9]\S*/s written\n", screen)
    assert re.search(r"\n  order-created +\d +\d+ +\d+ +\d+ +[1-9]\S*/s\n",
                     screen)
    shown.press(b"q")
    assert shown.wait_end() == OK and shown.is_sane()


@pytest.mark.parametrize("signal_sent", [None, signal.SIGTERM, signal.SIGHUP])
def test_watch_leaves_the_terminal_sane(watch, signal_sent):
    """Settings, screen and cursor are as before, and a shell sees what ended
    the program."""
    shown = watch()
    assert not shown.echoes() and not shown.is_sane()
    if signal_sent is None:
        shown.press(b"\x03")                    # Ctrl-C
    else:
        shown.process.send_signal(signal_sent)
    assert shown.wait_end() == -(signal_sent or signal.SIGINT)
    assert shown.is_sane(), shown.text


def test_watch_is_ended_while_a_server_is_away(terminal):
    """Ctrl-C does not wait for the broker's or the database's time limit."""
    terminal.relay.config["kafka"]["bootstrap.servers"] = "127.0.0.1:1"
    terminal.relay.write_config()
    shown = terminal("status", "--watch")
    wait_until(lambda: ENTER in shown.read(), 20, "it has begun")
    shown.press(b"\x03")
    assert shown.wait_end(4) == -signal.SIGINT and shown.is_sane()


def test_watch_is_suspended(watch):
    """Ctrl-Z gives the terminal back, fg takes it again."""
    shown = watch()
    shown.press(b"\x1a")
    wait_until(shown.stopped, 10, "it is stopped")
    shown.read()
    assert shown.is_sane() and shown.echoes()
    drawn = len(shown.screens())
    shown.process.send_signal(signal.SIGCONT)
    wait_until(lambda: len(shown.screens()) > drawn, 10, "it is drawn again")
    assert not shown.echoes()
    shown.press(b"q")
    assert shown.wait_end() == OK and shown.is_sane()


def test_watch_fits_the_terminal(watch, db):
    """A resize draws anew; no line is wider, and no screen higher, than the
    terminal is."""
    db.sql("INSERT INTO pgstock_internal.inbox_offset (topic, partition,"
           " next_offset) SELECT 'order-created', i, 0"
           " FROM generate_series(0, 99) i")
    shown = watch()
    for lines, columns in ((24, 50), (60, 120)):
        shown.resize(lines, columns)
        screen = shown.wait_screen(
            lambda screen, limit=lines:
            limit - 2 <= len(screen.splitlines()) <= limit
            and "partitions with less lag" in screen,
            f"a screen of {lines} lines")
        assert max(map(len, screen.splitlines())) <= columns


def test_watch_lives_through_an_outage(watch, db, pg):
    """The database ends the session: the next look connects again."""
    shown = watch()
    db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
           " WHERE datname = current_database() AND pid <> pg_backend_pid()")
    screen = shown.wait_screen(lambda screen: "Outbox" not in screen,
                               "the error")
    assert "terminating connection" in screen
    shown.wait_screen(lambda screen: "Outbox, to Kafka" in screen, "it is back")
    assert shown.process.poll() is None


def test_watch_into_a_pipe(terminal):
    """One text after the other, or one JSON object a line, nothing else."""
    relay = terminal.relay
    for args, ends in ((["--json"], "}\n"), ([], "\n")):
        process = subprocess.Popen(
            as_server([relay.binary, "status", "--watch=1", *args, "--config",
                       relay.config_path]), stdout=subprocess.PIPE, text=True,
            cwd="/", env={**os.environ, "TERM": "xterm"})
        lines = []
        while len([line for line in lines if "no relay leads" in line]) < 2:
            lines.append(process.stdout.readline())
            assert lines[-1], "it has ended"
        process.terminate()
        process.stdout.close()
        assert process.wait(20) == -signal.SIGTERM
        assert lines[-1].endswith(ends) and "\x1b" not in "".join(lines)


# ---- progress ---------------------------------------------------------------

@pytest.fixture
def many(db):
    """Rows enough for a command to take some time."""
    db.sql("INSERT INTO pgstock_internal.failed_event (topic, partition,"
           ' "offset", event_id, value, attempts, state, class, error,'
           " first_failed_at, handled, source) SELECT CASE WHEN i > 1500"
           " THEN 'x' ELSE 'y' END, 0, i, 'e', 'x', 1, 'archived', 'poison',"
           " 'x', now(), false, 'x' FROM generate_series(1, 31500) i")


LINE = r"\r([\d,]+) %s(, \d+ %%)?, [\d,.]+/s"


def test_progress(terminal, many, run):
    """Count, share and rate, over one line, which stays as a summary."""
    output = os.path.join(run, "progress.out")
    for topic, args, what, total in (
            ("x", ["failed", "list"], "rows", "30,000"),
            ("y", ["failed", "retry"], "messages", "1,500")):
        with open(output, "wb") as file:
            shown = terminal(*args, "--topic", topic, stdout=file)
            code = shown.wait_end(60)
        assert code == OK, shown.text
        counts = re.findall(LINE % what, shown.text)
        assert counts and all(share for _, share in counts), shown.text
        assert re.search(r"\r%s %s in .*/s\x1b\[K\r\n$" % (total, what),
                         shown.text), shown.text
        assert shown.text.count("\n") == 1
    os.unlink(output)


def test_progress_and_rows_on_one_terminal(terminal, many):
    """A row begins a line of its own; the progress is cleared before it."""
    shown = terminal("failed", "list", "--topic", "x")
    assert shown.wait_end(60) == OK
    assert re.search(LINE % "rows", shown.text), "it took long enough"
    behind = re.search(r" rows,[^\r\n]*\x1b\[K[^\r]", shown.text)
    assert behind is None, behind


def test_progress_of_a_dumb_terminal(terminal, many, run):
    """Nothing is written over; a command that takes seconds writes nothing."""
    with open(os.devnull, "wb") as file:
        shown = terminal("failed", "list", stdout=file, env={"TERM": "dumb"})
        assert shown.wait_end(60) == OK
    assert "\r" not in shown.text.replace("\r\n", "") \
        and "\x1b" not in shown.text


def test_waiting_is_shown(terminal, db):
    """A statement that waits for a lock: for what, and for how long."""
    blocker = db.connect()
    blocker.cursor().execute("LOCK TABLE pgstock_internal.failed_event")
    shown = terminal("failed", "list")
    wait_until(lambda: "\rwaiting for PostgreSQL, 0:0" in shown.read(), 20,
               lambda: shown.text)
    blocker.close()
    assert shown.wait_end() == OK
    assert shown.text.endswith("\r\x1b[K"), "and is cleared"


def test_check_waits_visibly(terminal):
    terminal.relay.config["kafka"]["bootstrap.servers"] = "127.0.0.1:1"
    terminal.relay.write_config()
    shown = terminal("check")
    wait_until(lambda: "\rwaiting for the broker, 0:0" in shown.read(), 20,
               lambda: shown.text)
    assert shown.wait_end() == 1
    assert "127.0.0.1:1" in shown.text.rpartition("FAIL")[2]
    assert LEAVE not in shown.text
