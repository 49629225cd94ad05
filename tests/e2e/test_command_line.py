# SPDX-License-Identifier: PostgreSQL
"""What is made of the table of commands: help, versions, suggestions,
completion; no server is needed."""

import os
import re
import subprocess

import pytest

from cluster import need

OK, USAGE = 0, 2
COMMANDS = ["run", "check", "status", "config", "adopt", "audit", "replay",
            "snapshot", "discard", "order", "report", "rewind", "redrive",
            "failed", "help"]
FAILED = ["list", "show", "retry", "discard", "handled", "export"]
COMMON = ["--config", "--postgres", "--kafka", "--help", "--version"]
GATEWAY = ["run", "config", "openapi", "help"]
RELAY_NAME, GATEWAY_NAME = "pgstock-relay", "pgstock-gateway"


def binary(program):
    return os.path.join(os.path.dirname(need("PGSTOCK_RELAY")), program)


def run(program, *args, **more):
    return subprocess.run([binary(program), *args], timeout=20, text=True,
                          stdin=subprocess.DEVNULL,
                          **(more or {"capture_output": True}))


def relay(*args):
    return run(RELAY_NAME, *args)


def gateway(*args):
    return run(GATEWAY_NAME, *args)


def installed(name):
    return os.path.join(need("PGSTOCK_PGROOT"), "usr/share", name)


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_names_the_libraries(option):
    done = relay(option)
    assert (done.returncode, done.stderr) == (OK, "")
    assert re.fullmatch(r"pgstock-relay \d\S* \(relay_api \d+, librdkafka"
                        r" \d+\.\d+\.\d+, libpq \d+\.\d+\)\n", done.stdout)


def test_version_of_the_gateway():
    done = gateway("--version")
    assert (done.returncode, done.stderr) == (OK, "")
    assert re.fullmatch(r"pgstock-gateway \d\S* \(libpq \d+\.\d+\)\n",
                        done.stdout)


def test_help_of_the_gateway():
    done = gateway("help")
    assert (done.returncode, done.stderr) == (OK, "")
    for command in GATEWAY:
        assert re.search(rf"^  {command} ", done.stdout, re.M)
        one = gateway("help", command)
        assert one.stdout.startswith(f"Usage: pgstock-gateway {command}")
    assert done.stdout == gateway("--help").stdout
    done = gateway("help", "opnapi")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert 'the nearest is "openapi"' in done.stderr


def test_a_configuration_that_is_refused():
    done = gateway("config", "--postgres", "password=open-sesame")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "use the configuration file" in done.stderr
    assert "open-sesame" not in done.stderr


@pytest.mark.parametrize("args", [["-h"], ["--help"], ["help"]], ids=" ".join)
def test_help_lists_the_commands(args):
    done = relay(*args)
    assert (done.returncode, done.stderr) == (OK, "")
    for command in COMMANDS + [f"failed {word}" for word in FAILED]:
        assert re.search(rf"^  {command} ", done.stdout, re.M) or \
            command == "failed"
    assert done.stdout == relay("-h").stdout


@pytest.mark.parametrize("program", [RELAY_NAME, GATEWAY_NAME])
@pytest.mark.parametrize("args", [["--version"], ["help"], ["config"]],
                         ids=" ".join)
def test_output_that_is_lost(program, args):
    """On a full disk: half of a sample, or nothing, is no result."""
    with open("/dev/full", "wb") as full:
        done = run(program, *args, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (
        1, f"{program}: could not write to standard output\n")


@pytest.mark.parametrize("args, named", [
    (["stauts"], 'unknown command "stauts": the nearest is "status"'),
    (["status", "--jsn"], 'unknown option "--jsn": the nearest is "--json"'),
    (["help", "relpay"], 'unknown command "relpay": the nearest is "replay"'),
    (["failed", "lst"], "the nearest is \"failed list\""),
], ids=" ".join)
def test_suggestions(args, named):
    done = relay(*args)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert named in done.stderr and "Usage: pgstock-relay" in done.stderr


def test_errors_of_the_configuration_name_the_line(tmp_path):
    path = tmp_path / "relay.conf"
    path.write_text("[inbox]\ntopics = a\ndlq_topic = a\n[kafka]\n"
                    "bootstrap.servers = b:1\n")
    done = relay("status", "--config", str(path))
    assert done.returncode == USAGE
    assert f'{path}:3: "a" in [inbox] dlq_topic is "a" itself' in done.stderr


# ---- completion -------------------------------------------------------------

def bash(*words, program=RELAY_NAME):
    """What bash offers for the last word."""
    script = ('source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
              f' _{program.replace("-", "_")};'
              ' printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(
        ["bash", "-euc", script,
         installed(f"bash-completion/completions/{program}"),
         program, *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("words, offered", [
    ([""], COMMON + COMMANDS),
    (["re"], ["replay", "report", "rewind", "redrive"]),
    (["failed", ""], COMMON + FAILED),
    (["failed", "ex"], ["export"]),
    (["--config", "failed", "st"], ["status"]),
    (["-c", "x", "status", "--"], ["--json", "--watch"] + COMMON),
    (["status", "--config", "=", "x", "--w"], ["--watch"]),
    (["failed", "list", "--s"], ["--state", "--since", "--sqlstate"]),
    (["failed", "--state", ""], ["waiting", "archived", "retried",
                                 "discarded"]),
    (["failed", "list", "--state", "=", "wa"], ["waiting"]),
    (["failed", "list", "-s", "ar"], ["archived"]),
    (["replay", "--from", ""], []),
    (["failed", "retry", "17", "--rea"], ["--reason"]),
    (["rewind", "--t"], ["--topic", "--to"]),
    (["help", "failed"], []),
], ids=" ".join)
def test_bash(words, offered):
    assert sorted(bash(*words)) == sorted(offered)


@pytest.mark.parametrize("words, offered", [
    (["o"], ["openapi"]),
    (["-c", "x", "run", "--l"], ["--listen"]),
    (["--listen", "run", "con"], ["config"]),
    (["--postgres", ""], []),
], ids=" ".join)
def test_bash_for_the_gateway(words, offered):
    assert sorted(bash(*words, program=GATEWAY_NAME)) == offered


def test_bash_completes_files(tmp_path):
    for name in ("relay.conf", "relay two.conf"):
        (tmp_path / name).write_text("")
    found = bash("status", "--config", f"{tmp_path}/relay")
    assert " ".join(found) in (f"{tmp_path}/relay.conf {tmp_path}/relay two"
                               ".conf", f"{tmp_path}/relay two.conf"
                                        f" {tmp_path}/relay.conf")


def zsh(*words, program=RELAY_NAME):
    """What the function passes to zsh's own, for the last word."""
    script = ('_arguments() { print -rl -- "$@"; };'
              ' _describe() { print -rl -- ${(P)2}; };'
              ' words=("$@"); CURRENT=$#; source "$0";'
              f' _{program.replace("-", "_")}_words ""')
    done = subprocess.run(
        ["zsh", "-fc", script, installed(f"zsh/site-functions/_{program}"),
         program, *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("words, has, has_not", [
    ([""], "*: :_pgstock_relay_words ''", "--json"),
    (["failed", ""], "*: :_pgstock_relay_words 'failed'", "--state"),
    (["status", ""], "--json[", "--state"),
    (["-c", "failed", "status", ""], "--watch=-[", "--state"),
    (["failed", "list", ""],
     "--state=[messages in this state]:STATE:(waiting archived retried"
     " discarded)", "--csv"),
    (["failed", "show", ""], "*:ID:", "--csv"),
    ([""], "-c+[configuration file]:FILE:_files", "--csv"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_zsh(words, has, has_not):
    offered = zsh(*words)
    assert has in offered and has_not not in offered
    for command in COMMANDS:
        assert re.search(rf"^{command}:\w", offered, re.M)


def test_zsh_for_the_gateway():
    offered = zsh("-c", "x", "", program=GATEWAY_NAME)
    assert "*: :_pgstock_gateway_words ''" in offered
    assert "-l+[in place of listen in \\[gateway\\]]:ADDRESS:" in offered
    assert "_pgstock_gateway_words" not in zsh("help", "",
                                               program=GATEWAY_NAME)
    for command in GATEWAY:
        assert re.search(rf"^{command}:\w", offered, re.M)
