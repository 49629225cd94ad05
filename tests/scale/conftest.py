# SPDX-License-Identifier: PostgreSQL
"""Databases on several machines; the helpers are those of tests/e2e."""

import itertools
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
sys.path.insert(0, os.path.dirname(__file__))

import network                                  # noqa: E402
from cluster import Kafka                       # noqa: E402
from process import remove_dir, session_dir     # noqa: E402

TOPICS = ("stock-events", "stock-freeze-failed")

serial = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    network.enter(config)


def pytest_collection_modifyitems(items):
    """Removes tests that are to run 0 times."""
    items[:] = [item for item in items if not any(
        "empty parameter set" in str(mark.kwargs.get("reason"))
        for mark in item.iter_markers("skip"))]


@pytest.fixture(scope="session")
def lan(run):
    """The network; a file adds machines of its own."""
    return network.Network(run)


@pytest.fixture(scope="session")
def run(request):
    """The directory of this session's servers; kept if a test fails."""
    path = session_dir()
    yield path
    if not request.session.testsfailed:
        remove_dir(path)


@pytest.fixture(scope="session")
def new_dir(run):
    """Names a directory for a server, another one at each call."""
    return lambda name: os.path.join(run, f"{name}-{next(serial)}")


@pytest.fixture(scope="module")
def broker(new_dir):
    """A broker, with the topics of the shards' events."""
    server = Kafka(new_dir("kafka")).init().start()
    server.create_topics(*TOPICS)
    yield server
    server.close()
