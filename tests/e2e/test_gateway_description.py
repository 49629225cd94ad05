# SPDX-License-Identifier: PostgreSQL
"""The gateway does what /openapi.json describes: schemathesis calls each of
its operations with what the description allows, and with what it does not; and
each answer has the members that are described, and no others."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

import described
from cluster import HOST, need
from console_shop import fail
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


def walk(shop, product):
    """Requests of each operation that answers with JSON, in an order in which
    they succeed."""
    stock, order, sale = f"/products/{product}/stock", f"/orders/{product}", \
        f"/sales/{product}"
    one = [{"product_id": product, "quantity": 1}]
    yield "POST", f"{stock}/receive", {"quantity": 90}
    yield "POST", f"{stock}/adjust", {"delta": 1, "reason": "found"}
    yield "POST", f"{stock}/set", {"on_hand": 99}
    yield "POST", f"{stock}/move", {"quantity": 1, "from_location": "main",
                                    "to_location": "north"}
    yield "POST", f"{stock}/reserve", {"order_id": product, "quantity": 1}
    for step in ("extend", "confirm", "return"):
        yield "POST", f"{order}/{step}", {"ttl": 60} if step == "extend" else {}
    for step in ("release", "rollback"):
        yield "POST", "/orders", {"order_id": f"{product}-{step}", "items": one}
        yield "POST", f"{order}-{step}/{step}", {"reason": "test"}
    yield "GET", order, None
    yield "GET", f"{order}?history=1", None
    event = shop.value("SELECT max(event_id::text) FROM order_history(%s)"
                       " WHERE kind = 'event'", (product,))
    yield "GET", f"/events/{event}", None
    yield "POST", "/sales", {"activity_id": product, "product_id": product,
                             "quantity": 2}
    yield "POST", f"{sale}/purchase", {"user_id": "u",
                                       "order_id": f"{product}-s"}
    yield "GET", f"{sale}/purchases", None
    yield "DELETE", sale, None
    yield "POST", "/availability", {"items": one}
    for action, body in (("retry", {}), ("discard", {"reason": "test"}),
                         ("handled", {"note": "done"})):
        failure = fail(shop, f'{{"order_id": "{product}", "items": []}}')
        yield "GET", f"/failed/{failure}", None
        yield "POST", f"/failed/{failure}/{action}", body
    shop.sql("SELECT reserve_stock(%s, 1, %s)", (product, f"{product}-h"))
    for path in (stock, f"/products/{product}/movements", "/failed",
                 "/products", "/orders", "/transactions",
                 "/transactions?hanging=1", "/sales", "/admin-actions",
                 "/report", "/status", "/health", "/whoami", "/openapi.json"):
        yield "GET", path, None


def test_each_answer_is_described(admin, shop, product):
    """Client.call() holds each one against the description, in all tests."""
    seen = set()
    for method, path, body in walk(shop, product):
        answer = admin.call(method, path, body)
        assert 200 <= answer.status < 300, (method, path, answer.text)
        if "rows" in answer.json:
            assert answer.json["rows"] or "hanging" in path, path
        seen.add(described.find(method, path)[0])
    assert seen == described.with_json()


@pytest.mark.parametrize("text", ['{"product_id": "a"}', '{"product_id": "a",'
                                  ' "levels": [], "more": 1}',
                                  '{"product_id": 1, "levels": []}'])
def test_an_answer_that_is_not_described(text):
    answer = SimpleNamespace(status=200, json=json.loads(text),
                             headers={"Content-Type": "application/json"})
    with pytest.raises(described.fastjsonschema.JsonSchemaException):
        described.check("GET", "/products/a/stock", answer)
