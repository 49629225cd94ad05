# SPDX-License-Identifier: PostgreSQL
"""The gateway does what /openapi.json describes: schemathesis calls each of
its operations with what the description allows, and with what it does not."""

import os
import subprocess

import pytest

from cluster import HOST, need
from gateway import TOKENS
from process import as_server, make_dir

pytestmark = pytest.mark.xdist_group("description")
FOLDER = os.path.realpath(os.path.join(os.path.dirname(__file__),
                                       "../description"))
SECONDS = os.environ.get("PGSTOCK_DESCRIPTION_SECONDS", "60")


@pytest.mark.long
def test_schemathesis(gateways, new_dir):
    """PGSTOCK_DESCRIPTION_SECONDS: how long it looks for a difference."""
    gateway = gateways().start()
    directory = make_dir(new_dir("schemathesis"))
    done = subprocess.run(
        as_server(["/usr/bin/python3", "-m", "schemathesis.cli", "--no-color",
                   "--config-file", f"{FOLDER}/schemathesis.toml", "run",
                   f"http://{HOST}:{gateway.port}/openapi.json",
                   "--checks", "all", "--max-time", SECONDS,
                   "--request-timeout", "90", "--generation-database", "none",
                   "--continue-on-failure", "--header",
                   f"Authorization: Bearer {TOKENS['admin']}"]),
        env={**os.environ, "HOME": directory, "SCHEMATHESIS_HOOKS": "refusals",
             "PYTHONPATH": f"{need('PGSTOCK_SCHEMATHESIS')}:{FOLDER}"},
        cwd=directory, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=int(SECONDS) + 300, check=False)
    print(done.stdout[-50000:], done.stderr)
    assert done.returncode == 0
    assert gateway.running
    assert "Test cases:" in done.stdout
