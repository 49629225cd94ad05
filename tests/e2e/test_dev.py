# SPDX-License-Identifier: PostgreSQL
"""dev/'s commands, by owner of the checkout and its servers."""

import os
import shutil
import subprocess

import pytest

from process import as_server, make_dir

DEV = os.path.join(os.path.dirname(__file__), "../../dev")


@pytest.fixture
def checkout(run):
    """A checkout that has no more than dev/, and belongs to the servers'
    account."""
    path = make_dir(os.path.join(run, "checkout"))
    shutil.copytree(DEV, os.path.join(path, "dev"), dirs_exist_ok=True)
    yield path
    os.chmod(path, 0o755)
    shutil.rmtree(path)


def command(checkout, name, **more):
    """Run a command there, as the servers' account, with no run directory
    named, and more in its environment; it has a few seconds."""
    env = {key: value for key, value in os.environ.items()
           if key not in ("PGSTOCK_RUN", "PGSTOCK_MARK")} | more
    return subprocess.run(as_server([os.path.join(checkout, "dev", name)]),
                          capture_output=True, text=True, cwd="/", timeout=20,
                          env=env)


@pytest.mark.parametrize("name", ["demo", "check", "pgroot"])
def test_checkout_that_cannot_be_written(checkout, name):
    """Reported at once, and not after the packages and a build."""
    os.chmod(checkout, 0o555)
    done = command(checkout, name)
    assert done.returncode == 1
    assert f"cannot write {os.path.realpath(checkout)}" in done.stderr, done
    assert not os.path.lexists(os.path.join(checkout, ".run"))


def test_servers_of_another_user(checkout, run):
    """They are neither stopped nor lost: no new run directory replaces the one
    that holds their pids.  Only root can make such a directory."""
    theirs = os.path.join(run, "theirs")
    shutil.rmtree(theirs, ignore_errors=True)
    os.makedirs(os.path.join(theirs, "demo/postgres"))
    for name, text in (("checkout", os.path.realpath(checkout)),
                       ("demo/postgres/pid", str(os.getpid()))):
        with open(os.path.join(theirs, name), "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    link = os.path.join(checkout, ".run")
    os.symlink(theirs, link)
    if os.geteuid() == 0:
        for name, words in (("demo-stop", "started the demo: end it as root"),
                            ("demo", "servers of root run in")):
            done = command(checkout, name)
            assert done.returncode == 1 and words in done.stderr, done
        assert os.path.isdir(os.path.join(theirs, "demo"))
    assert os.readlink(link) == theirs


def test_no_demo(checkout):
    """Stopping a demo that does not run is no error, but is reported."""
    done = command(checkout, "demo-stop")
    assert done.returncode == 0 and "no demo runs" in done.stderr, done


def test_no_newer_librdkafka(checkout, run):
    """Where apt knows no mirror, that is reported, and no half of it is kept
    for the next build."""
    settings, cache = os.path.join(run, "apt.conf"), os.path.join(run, "cache")
    with open(settings, "w", encoding="ascii") as file:
        file.write('Dir::Etc::SourceList "/dev/null";\n'
                   'Dir::Etc::SourceParts "/dev/null";\n')
    os.chmod(settings, 0o644)
    make_dir(cache)
    done = command(checkout, "librdkafka-static", APT_CONFIG=settings,
                   PGSTOCK_CACHE=cache)
    assert done.returncode == 1 and done.stdout == "", done
    assert "apt has no mirror of Debian here" in done.stderr, done
    assert "could not fetch a newer librdkafka" in done.stderr, done
    assert os.listdir(cache) == ["lock"]
