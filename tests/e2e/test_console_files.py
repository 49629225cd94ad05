# SPDX-License-Identifier: PostgreSQL
"""What the console consists of, and what it is told live: without a
browser."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from gateway import TOKENS
from process import wait_until

pytestmark = [pytest.mark.xdist_group("gateway"),
              pytest.mark.usefixtures("product")]


def test_the_files(gateway):
    client = gateway.client(None)
    answer = client.get("/console")
    assert (answer.status, answer.headers["Location"]) == (308, "console/")
    answer = client.get("/console/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    names = set(re.findall(r'(?:src|href)="([^"]+)"', answer.text))
    assert {"main.js", "style.css", "icon.svg"} <= names
    for name in names:
        found = client.get(f"/console/{name}")
        assert found.status == 200 and "http" not in re.sub(
            r"http://www\.w3\.org/2000/svg", "", found.text), name
        tag = found.headers["ETag"]
        again = client.get(f"/console/{name}", If_None_Match=tag)
        assert (again.status, again.text) == (304, "")
        assert again.headers["ETag"] == tag
    assert client.call("HEAD", "/console/").text == ""
    for name in ("none.js", "..", "%2e%2e%2fmain.js", "index.html"):
        assert client.get(f"/console/{name}").problem == "no-route"
    client.close()


def test_a_gateway_without_the_console(gateways):
    gateway = gateways({"gateway": {"console": "no"}}).start()
    paths = ("/console", "/console/", "/console/main.js", "/console/style.css")

    def statuses():
        with closing(gateway.client(None)) as client:
            return {client.call(method, path).status
                    for method in ("GET", "HEAD", "POST") for path in paths}

    assert statuses() == {404}
    described = gateway.get("/openapi.json")[1]
    assert "console" not in described and json.loads(described)["paths"]
    gateway.config["gateway"]["console"] = "yes"
    gateway.reload()
    assert statuses() == {200, 308, 405}
    assert "/console/{file}" in json.loads(gateway.get("/openapi.json")[1])[
        "paths"]


def test_what_is_live_costs_one_query_a_second(gateways):
    """However many look on; and nothing when no client does."""
    gateway = gateways().start()

    def look(seconds):
        client, seen = gateway.client("reader"), []
        end = time.monotonic() + seconds
        while not seen or time.monotonic() < end:
            answer = client.get("/live", Last_Event_ID=str((seen or [0])[-1]))
            assert answer.status == 200, answer.text
            assert answer.headers["Content-Type"] == "text/event-stream"
            fields = dict(line.split(": ", 1)
                          for line in answer.text.strip().split("\n"))
            assert json.loads(fields["data"])["movement"] > 0
            assert fields["event"] == "activity"
            seen.append(int(fields["id"]))
        client.close()
        return seen

    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(look, [4] * 20))
    ids = {one for each in seen for one in each}
    assert max(ids) - min(ids) <= 6
    assert all(len(each) >= 3 and sorted(set(each)) == each for each in seen)
    before = look(0)[-1]
    wait_until(lambda start=time.monotonic(): time.monotonic() > start + 3, 30,
               "the time")
    assert look(0)[-1] == before + 1


def test_too_many_clients_look_on(gateways):
    gateway = gateways().start()
    clients = [gateway.client("reader") for _ in range(510)]
    for client in clients:
        client.conn.connect()
    last = re.search(r"id: (\d+)", clients[0].get("/live").text).group(1)
    for client in clients:                      # they wait for the next one
        client.conn.request("GET", "/live", headers={
            **client.headers, "Last-Event-ID": last})
    statuses = [client.conn.getresponse().status for client in clients]
    assert (statuses.count(200), statuses.count(503)) == (500, 10)
    for client in clients:
        client.close()


def test_what_is_live_while_the_database_is_away(gateways, pg):
    gateway = gateways().start()
    client = gateway.client("reader")
    assert client.get("/live").status == 200
    with pg.away():
        wait_until(lambda: client.get("/live").status == 503, 30, gateway.tail)
        assert client.get("/live").problem == "database-away"
    wait_until(lambda: client.get("/live").status == 200, 30, gateway.tail)
    client.close()


def test_who_the_client_is(gateway):
    for role in TOKENS:
        client = gateway.client(role)
        assert client.get("/whoami").json == {"name": f"{role}-1",
                                              "role": role}
        client.close()
    client = gateway.client(None)
    assert client.get("/whoami").problem == "unauthenticated"
    client.close()
