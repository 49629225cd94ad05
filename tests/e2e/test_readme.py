# SPDX-License-Identifier: PostgreSQL
"""The README, typed: its commands work, in its order, and print the answers
that it shows."""

import os
import re
import shlex
import subprocess

import pytest

from process import as_server, make_dir, wait_until, write_private

TOP = os.path.join(os.path.dirname(__file__), "../..")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00")


def text_of(name):
    with open(os.path.join(TOP, name), encoding="utf-8") as file:
        return file.read()


def blocks(section, document="README.md"):
    """The blocks of code in a section of the README or another document."""
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)",
                         text_of(document), re.M | re.S)
    return re.findall(r"^```\n(.*?)^```$", body, re.M | re.S)


def commands(section, document="README.md"):
    """The shell's commands in a section, without remarks."""
    lines = "".join(block for block in blocks(section, document)
                    if re.match(r"sudo |sudoedit |make\b|cd ", block))
    lines = lines.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in lines.splitlines()]


def plain(text):
    """Without the parts that differ: times, and the widths of their
    columns."""
    text = TIMESTAMP.sub("TIME", text)
    text = re.sub(r" +", " ", re.sub(r"-{2,}", "--", text))
    return [line.strip() for line in text.splitlines() if line.strip()]


def psql(db, *args, **kwargs):
    return subprocess.run(
        as_server([db.pg.bin("psql"), *db.pg.tool_args(db.name), "-X", "-q",
                   "-P", "footer=off", *args]), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, cwd="/", timeout=60, **kwargs)


def typed(db, session):
    """A printed session, its statements typed again."""
    statements = re.findall(r"^=> (.*;)$", session, re.M)
    assert statements
    # psql does not echo a pipe; mark where each statement stood
    lines = "".join(f"\\echo '=> {number}'\n{statement}\n"
                    for number, statement in enumerate(statements))
    found = psql(db, input=lines)
    for number, statement in enumerate(statements):
        found.stdout = found.stdout.replace(f"=> {number}\n",
                                            f"=> {statement}\n")
    return found.stdout


@pytest.fixture
def empty(pg):
    """A database such as a reader has."""
    database = pg.create_database("readme", extension=False)
    yield database
    database.drop()


@pytest.fixture
def installed(empty):
    """The same after the README's section Install."""
    (create,) = [block for block in blocks("Install")
                 if block.startswith("CREATE EXTENSION")]
    assert psql(empty, "-c", create).returncode == 0
    return empty


def test_first_calls(installed):
    sessions = blocks("The first calls")
    assert len(sessions) >= 3
    for session in sessions:
        assert plain(typed(installed, session)) == plain(session)


@pytest.fixture
def role(installed):
    """The relay's role as the README creates it; it needs its password."""
    (create,) = [block for block in blocks("The relay under systemd")
                 if block.startswith("CREATE ROLE")]
    done = psql(installed, "-v", "ON_ERROR_STOP=1", "-c", create)
    assert done.returncode == 0, done.stdout
    installed.require_password("pgstock_relay")
    yield re.search(r"PASSWORD '(.*)'", create).group(1)
    installed.sql("DROP OWNED BY pgstock_relay")
    installed.sql("DROP ROLE pgstock_relay")


def test_relay_under_systemd(installed, kafka, run, relays, role):
    """Its files in a directory instead of /etc/pgstock; `check` as printed.
    The packages install the configuration: tests/packages/check."""
    etc = make_dir(os.path.join(run, "etc"))
    relay = relays(installed.conninfo(user="pgstock_relay"), kafka.brokers)

    def here(word):
        word = word.replace("/etc/pgstock", etc)
        return relay.binary if word == "pgstock-relay" else word

    steps = commands("The relay under systemd")
    config = os.path.join(etc, "pgstock-relay.conf")
    text = text_of("deploy/pgstock-relay.conf")
    for name, value in (("conninfo", installed.conninfo(user="pgstock_relay")),
                        ("bootstrap.servers", kafka.brokers),
                        ("topics", "order-created, payment-success"),
                        ("listen", f"127.0.0.1:{relay.port}")):
        text, count = re.subn(rf"^#?{re.escape(name)} = .*$",
                              f"{name} = {value}", text, flags=re.M)
        assert count == 1, name
    write_private(config, text)
    write_private(os.path.join(etc, "pgpass"),
                  f"127.0.0.1:{installed.pg.port}:{installed.name}:"
                  f"pgstock_relay:{role}\n")

    (check,) = [step for step in steps if "check" in step]
    assert check[0] == "sudo"
    check = [here(word) for word in check[1:]]

    def run_check(words):
        return subprocess.run(as_server(words), capture_output=True, text=True,
                              cwd="/", timeout=60)
    # a broker that has just made its topics may not yet know their ends
    wait_until(lambda: run_check(check).returncode == 0, 60,
               lambda: run_check(check))
    without = run_check(check[check.index(relay.binary):])
    assert without.returncode == 1 and "password" in without.stdout, without


def test_the_manual_repeats_it():
    """docs/install.md has the same commands, in the same order."""
    manual = [block.strip() for block in blocks("Set up", "docs/install.md")]
    for block in blocks("The relay under systemd"):
        assert any(block.strip() in other for other in manual), block


def test_packages():
    """The packages named for a build are those that dev/setup installs."""
    (install,) = [step for step in commands("From source", "docs/install.md")
                  if "apt-get" in step]
    named = set(install[install.index("install") + 1:])
    setup = text_of("dev/setup")
    (building,) = re.findall(r"# to build.*?\n(.*?)\t#", setup, re.S)
    (running,) = re.findall(r"# to run.*?\n(.*?)\n\)", setup, re.S)
    assert named <= {*building.split(), *running.split()}
    # essential packages, and those that only dev/ needs
    assert set(building.split()) - named <= {"libc6-dev", "rsync"}
