# SPDX-License-Identifier: PostgreSQL
"""The gateway: each call of its API, its refusals, and who may call it."""

import json
import os
import socket
import stat
import uuid

import pytest

from gateway import TOKENS
from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


# ---- the life of an order ---------------------------------------------------

def test_an_order_is_reserved_once_and_sold(app, product, shop):
    order = f"order-{product}"
    answer = app.reserve(product, 2, order, user_id="ann")
    assert answer.status == 201
    assert answer.headers["Idempotent-Replayed"] is None
    line, = answer.json["lines"]
    assert (line["status"], line["granted"], line["available"]) == (
        "granted", 2, 8)
    assert line["expires_at"].endswith("Z")

    answer = app.reserve(product, 2, order, user_id="ann")
    assert (answer.status, answer.json["replayed"]) == (200, True)
    assert answer.headers["Idempotent-Replayed"] == "true"

    answer = app.reserve(product, 3, order, user_id="ann")
    assert (answer.status, answer.problem) == (422, "key-reused")

    answer = app.post(f"/orders/{order}/confirm", {"payment_id": "p-1"})
    assert (answer.status, answer.json["lines"][0]["status"]) == (
        200, "confirmed")
    answer = app.post(f"/orders/{order}/release")
    assert (answer.status, answer.problem) == (409, "wrong-state")
    answer = app.get(f"/orders/{order}")
    assert [(line["state"], line["payment_id"])
            for line in answer.json["lines"]] == [("confirmed", "p-1")]
    assert shop.value("SELECT actor FROM stock_movements WHERE order_id = %s "
                      "LIMIT 1", (order,)) == "gateway_app/app-1"


def test_a_whole_order_all_or_nothing(app, product, admin):
    other = f"{product}-b"
    admin.post(f"/products/{other}/stock/receive", {"quantity": 1})
    items = [{"product_id": product, "quantity": 3},
             {"product_id": other, "quantity": 2, "location": "main"}]
    answer = app.post("/orders", {"order_id": f"all-{product}", "items": items})
    assert (answer.status, answer.problem) == (409, "insufficient")
    assert (answer.json["product_id"], answer.json["wanted"],
            answer.json["available"]) == (other, 2, 1)
    assert [line["status"] for line in answer.json["lines"]] == [
        "refused", "insufficient"]
    items[1]["quantity"] = 1
    answer = app.post("/orders", {"order_id": f"all-{product}", "items": items,
                                  "ttl": 0})
    assert answer.status == 201
    assert [line["expires_at"] for line in answer.json["lines"]] == [None, None]


def test_every_verb_of_an_order(app, product):
    def order(name):
        name = f"{name}-{product}"
        assert app.reserve(product, 2, name).status == 201
        return f"/orders/{name}"

    path = order("released")
    answer = app.post(f"{path}/release", {"reason": "changed her mind"})
    assert answer.json["lines"][0]["status"] == "released"
    path = order("rolled-back")
    assert app.post(f"{path}/confirm").status == 200
    answer = app.post(f"{path}/rollback", {"items": [
        {"product_id": product, "quantity": 1}]})
    assert answer.json["lines"][0]["status"] == "rolled_back"
    answer = app.post(f"{path}/return", {"restock": True})
    assert answer.json["lines"][0]["status"] == "returned"
    path = order("extended")
    answer = app.post(f"{path}/extend", {"ttl": 86400})
    assert answer.status == 200
    for verb in ("confirm", "return"):
        answer = app.post(f"/orders/none-{product}/{verb}")
        assert (answer.status, answer.problem) == (404, "unknown-order")
    answer = app.post(f"/orders/none-{product}/release")
    assert (answer.status, answer.problem) == (404, "unknown-order")


def test_stock_on_hand_and_its_version(app, admin, product):
    path = f"/products/{product}/stock"
    answer = app.get(path)
    assert answer.json["levels"][0]["available"] == 10
    tag = answer.headers["ETag"]
    assert admin.post(f"{path}/adjust", {"delta": -3, "reason": "broken"}
                      ).json["on_hand"] == 7
    answer = admin.post(f"{path}/set", {"on_hand": 5}, If_Match=tag)
    assert (answer.status, answer.problem) == (412, "stale-version")
    tag = app.get(path).headers["ETag"]
    assert admin.post(f"{path}/set", {"on_hand": 5}, If_Match=tag
                      ).json["on_hand"] == 5
    assert admin.post(f"{path}/set", {"on_hand": 6}, If_Match="*").status == 200
    answer = admin.post(f"{path}/move", {"quantity": 2, "from_location": "main",
                                         "to_location": "north"})
    assert answer.status == 200
    assert [(level["location"], level["on_hand"])
            for level in app.get(path).json["levels"]] == [
        ("main", 4), ("north", 2)]
    assert "ETag" not in app.get(path).headers
    assert "ETag" in app.get(f"{path}?location=north").headers
    answer = app.get(f"/products/none-{product}/stock")
    assert (answer.status, answer.problem) == (404, "unknown-product")


def test_availability_takes_nothing(app, product, shop):
    items = [{"product_id": product, "quantity": 3},
             {"product_id": f"none-{product}", "quantity": 1}]
    answer = app.post("/availability", {"items": items})
    assert answer.json["fits"] is False
    assert {line["product_id"]: (line["available"], line["fits"])
            for line in answer.json["lines"]} == {
        product: (10, True), f"none-{product}": (0, False)}
    assert app.post("/availability", {"items": items[:1]}).json["fits"] is True
    assert shop.level(product) == (10, 0, 10)


def test_the_state_of_an_event(app, product, shop):
    assert app.reserve(product, 1, f"event-{product}").status == 201
    event = shop.value("SELECT event_id FROM stock_outbox WHERE key = %s",
                       (f"event-{product}",))
    answer = app.get(f"/events/{event}")
    assert (answer.status, answer.json["event_id"], answer.json["state"]) == (
        202, str(event), "pending")
    answer = app.get("/events/00000000-0000-0000-0000-000000000000")
    assert (answer.status, answer.problem) == (404, "unknown-event")
    answer = app.get("/events/1")
    assert answer.json["detail"] == '"event_id" must be a UUID'


def test_a_flash_sale(app, admin, product):
    sale = f"sale-{product}"
    answer = admin.post("/sales", {"activity_id": sale, "product_id": product,
                                   "quantity": 2})
    assert answer.status == 201

    def buy(user):
        return app.post(f"/sales/{sale}/purchase",
                        {"user_id": user, "order_id": f"{sale}-{user}"})

    assert buy("ann").status == 201
    assert buy("ann").status == 200
    assert app.post(f"/sales/{sale}/purchase", {
        "user_id": "ann", "order_id": "second"}).problem == "user-limit"
    assert buy("bob").status == 201
    assert buy("cid").problem == "insufficient"
    answer = admin.call("DELETE", f"/sales/{sale}")
    assert (answer.status, answer.json["left"]) == (200, 0)
    # what a look at the sale has found is valid for some milliseconds
    wait_until(lambda: buy("dan").problem == "sale-not-open", 5, "the sale")


def test_keys_and_traces_go_into_the_events(app, product, shop):
    order = f"keyed-{product}"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"order_id": order,
            "items": [{"product_id": product, "quantity": 1}]}
    first = app.post("/orders", body, Idempotency_Key=order, traceparent=trace,
                     X_Request_Id="r-1")
    assert (first.status, first.headers["X-Request-Id"]) == (201, "r-1")
    for key in (order, f'"{order}"'):           # RFC 8941: one key
        again = app.post("/orders", body, Idempotency_Key=key)
        assert (again.status, again.json["replayed"]) == (200, True)
    answer = app.post("/orders", body, Idempotency_Key=f'"{order}')
    assert (answer.status, answer.problem) == (400, "invalid")
    assert "RFC 8941" in answer.json["detail"]
    other = {**body, "order_id": f"{order}-2"}
    answer = app.post("/orders", other, Idempotency_Key=order)
    assert (answer.status, answer.problem) == (422, "key-reused")
    assert shop.sql("SELECT payload->>'trace_id', headers->>'traceparent' "
                    "IS NOT NULL FROM stock_outbox WHERE key = %s",
                    (order,))[0][0] == trace[3:35]
    # what was reserved under the key has ended: it is not granted again
    assert app.post(f"/orders/{order}/release").status == 200
    answer = app.post("/orders", body, Idempotency_Key=order)
    assert (answer.status, answer.problem) == (409, "expired")


def test_ids_of_any_text(app, admin, shop):
    product = 'a/b?c=d&e#f "g" %41 \\ Ω 𝄞'
    quoted = ("a%2Fb%3Fc%3Dd%26e%23f%20%22g%22%20%2541%20%5C%20%CE%A9%20"
              "%F0%9D%84%9E")
    assert admin.post(f"/products/{quoted}/stock/receive",
                      {"quantity": 1}).status == 200
    answer = app.reserve(quoted, 1, 'o"\\\u2028Ω')
    assert answer.status == 201, answer.text
    assert answer.json["lines"][0]["product_id"] == product
    assert shop.value("SELECT order_id FROM stock_reservations WHERE "
                      "product_id = %s", (product,)) == 'o"\\\u2028Ω'


# ---- bad input --------------------------------------------------------------

BAD = [
    ("POST", "/orders", b"", "\"order_id\" is missing"),
    ("POST", "/orders", b"x", "the body is not JSON"),
    ("POST", "/orders", b"[]", "the body is not a JSON object"),
    ("POST", "/orders", b'{"order_id":"a","order_id":"b"}', "not JSON"),
    ("POST", "/orders", b'{"order_id":"\\u0000"}', "not JSON"),
    ("POST", "/orders", b'{"order_id":"\xff"}', "not JSON"),
    ("POST", "/orders", b'{"order_id":"a","order":1}', "no field \"order\""),
    ("POST", "/orders", b'{"order_id":"","items":[]}', "\"order_id\" is empty"),
    ("POST", "/orders", b'{"order_id":1.5}', "a string or an integer"),
    ("POST", "/orders", b'{"order_id":"%s"}' % (b"x" * 256), "longer than 255"),
    ("POST", "/orders", b'{"order_id":"a","items":[]}', "1 to 100000 items"),
    ("POST", "/orders", b'{"order_id":"a","items":[1]}', "not an object"),
    ("POST", "/orders", b'{"order_id":"a","items":[{"quantity":1}]}',
     "\"product_id\" is missing"),
    ("POST", "/orders", b'{"order_id":"a","items":[{"product_id":"p",'
                        b'"quantity":0}]}', "from 1 to 9007199254740992"),
    ("POST", "/orders", b'{"order_id":"a","ttl":-1}', "\"ttl\" must be"),
    ("POST", "/orders", b'{"order_id":"a","ttl":"1h"}', "must be an integer"),
    ("POST", "/products/p/stock/reserve", b'{"order_id":"a","quantity":1.5}',
     "must be an integer"),
    ("POST", "/products/p/stock/reserve",
     b'{"order_id":"a","quantity":9007199254740993}', "must be an integer"),
    ("POST", "/products/%/stock/reserve", b"{}", "percent-encoded"),
    ("POST", "/products/%zz/stock/reserve", b"{}", "percent-encoded"),
    ("POST", "/products/%00/stock/reserve", b"{}", "percent-encoded"),
    ("POST", "/products/%ff/stock/reserve", b"{}", "percent-encoded"),
    ("POST", f"/products/{'x' * 256}/stock/reserve", b"{}", "longer than 255"),
    ("GET", "/products/p/stock?location=%c0%80", None, "percent-encoded"),
    ("GET", "/products/p/stock?location=", None, "is empty"),
]


@pytest.mark.parametrize("method, path, body, detail", BAD)
def test_bad_input_is_named(app, method, path, body, detail):
    answer = app.call(method, path, body)
    assert (answer.status, answer.problem) == (400, "invalid")
    assert detail in answer.json["detail"]
    assert app.get("/livez").status == 200      # on the same connection


def test_numbers_as_json_has_them(app, product):
    """2.0 and 2e0 are integers; ids too may be numbers."""
    for number, order in ((b"2.0", b"1.0"), (b"2e0", b"-9223372036854775808")):
        answer = app.call("POST", f"/products/{product}/stock/reserve",
                          b'{"quantity": %s, "order_id": %s}' % (number, order))
        assert answer.status == 201, answer.text
        assert answer.json["lines"][0]["granted"] == 2
        assert answer.json["order_id"] == str(int(float(order)))
    for number in (b"1e300", b"-1e300", b"0.5", b"9223372036854775807.0"):
        answer = app.call("POST", "/orders", b'{"order_id": %s}' % number)
        assert "a string or an integer" in answer.json["detail"]


def test_bad_input_of_an_administrator(admin, product):
    path = f"/products/{product}/stock"
    for body, status in (({"delta": 0, "reason": "r"}, 400),
                         ({"delta": -99, "reason": "r"}, 409)):
        assert admin.post(f"{path}/adjust", body).status == status
    for tag in ("7", '"x"', '""', '"'):
        answer = admin.post(f"{path}/set", {"on_hand": 1}, If_Match=tag)
        assert (answer.status, answer.problem) == (400, "invalid")
    answer = admin.post("/sales", {"activity_id": "s", "product_id": product,
                                   "quantity": 1, "ends_at": "tomorrow"})
    assert "must be a time such as" in answer.json["detail"]
    answer = admin.post("/sales", {"activity_id": "s", "product_id": product,
                                   "quantity": 1, "ends_at": "0082-08-26T17:52"
                                                             ":20.42+09:23"})
    assert "ends_at must be after starts_at" in answer.json["detail"]


@pytest.mark.parametrize("path, body, header, advice", [
    ("/products/p/stock/receive", {"quantity": 1}, "Idempotency-Key",
     "read the stock"),
    ("/products/p/stock/adjust", {"delta": 1, "reason": "r"},
     "Idempotency-Key", "read the stock"),
    ("/products/p/stock/move", {"quantity": 1, "from_location": "a",
                                "to_location": "b"},
     "Idempotency-Key", "read the stock"),
    ("/sales/s/purchase", {"user_id": "u", "order_id": "o"},
     "Idempotency-Key", "order_id is its key"),
    ("/products/p/stock/receive", {"quantity": 1}, "If-Match", "/stock/set"),
    ("/orders/o/confirm", {}, "If-Match", "/stock/set")])
def test_headers_that_would_have_no_effect(admin, path, body, header, advice):
    """A client that sends them counts on them."""
    answer = admin.call("POST", path, body, **{header: "7"})
    assert (answer.status, answer.problem) == (400, "invalid")
    assert f'"{header}"' in answer.json["detail"]
    assert advice in answer.json["hint"]
    assert admin.get("/products/p/stock").problem == "unknown-product"
    # what reads takes effect twice without harm
    assert admin.get("/orders/o", Idempotency_Key="7").status == 404


def test_unknown_paths_and_methods(app):
    for path in ("/", "/orders/", "/orders//confirm", "/products/p/stock/",
                 "/orders/a/b/c", "//orders"):
        answer = app.post(path)
        assert (answer.status, answer.problem) == (404, "no-route")
    answer = app.call("PUT", "/orders")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST, GET")
    assert app.call("HEAD", "/livez").text == ""


def test_a_body_that_is_too_long(gateway, app):
    answer = app.post("/orders", b" " * 1048577)
    assert answer.status == 413
    client = gateway.client()
    body = iter([b" " * 65536] * 17)            # its length is not announced
    client.conn.request("POST", "/orders", body, client.headers,
                        encode_chunked=True)
    assert client.conn.getresponse().status == 413
    client.close()


# ---- access -----------------------------------------------------------------

def test_roles(gateway, product):
    """As grant_stock_access has them: what an app may not read in SQL, it may
    not read here."""
    of_all = [f"/products/{product}/stock", "/orders/none", "/products",
              f"/events/{uuid.uuid4()}", "/whoami"]
    of_readers = ["/failed", "/failed/1", "/transactions", "/status", "/orders",
                  f"/products/{product}/movements", "/sales",
                  "/sales/none/purchases", "/admin-actions", "/report",
                  "/live", "/orders/none?history=1", "/transactions?hanging=1"]
    calls = [({"reader", "app", "admin"}, "GET", path) for path in of_all]
    calls += [({"reader", "admin"}, "GET", path) for path in of_readers]
    calls += [({"app", "admin"}, "POST", f"/orders/none-{product}/release"),
              ({"admin"}, "POST", f"/products/{product}/stock/receive")]
    for role in ("reader", "app", "admin"):
        client = gateway.client(role)
        for roles, method, path in calls:
            answer = client.call(method, path, b'{"quantity":1}'
                                 if path.endswith("receive") else None)
            assert (answer.status != 403) == (role in roles), (role, path)
        client.close()


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Bearer ", "Bearer token-of-an-ap",
    "Bearer token-of-an-app ", "Basic dG9rZW4tb2YtYW4tYXBw",
    "token-of-an-app"])
def test_without_a_valid_token(gateway, header):
    client = gateway.client(None)
    headers = {} if header is None else {"Authorization": header}
    answer = client.call("GET", "/orders/o", **headers)
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    for page in ("/livez", "/readyz", "/health", "/metrics", "/openapi.json"):
        assert client.get(page).status == 200
    client.close()


def test_tokens_are_rotated_by_a_reload(gateways):
    gateway = gateways().start()
    client = gateway.client()
    assert client.get("/orders/o").status == 404
    gateway.tokens["app"] = "another"
    gateway.reload()
    assert client.get("/orders/o").status == 401
    client.headers["Authorization"] = "Bearer another"
    assert client.get("/orders/o").status == 404
    # not a role: all that was in force stays, the other options too
    gateway.tokens = {"nobody": "x"}
    gateway.config["gateway"]["rate_client"] = "1/m"
    gateway.reload(good=False)
    assert ":2: the role must be reader, app or admin" in gateway.log()
    for _ in range(3):
        assert client.get("/orders/o").status == 404
    assert not any(token in gateway.log() for token in TOKENS.values())
    client.close()


def test_each_token_is_in_one_line(gateways):
    """Which of two roles it had would depend on the order of the lines."""
    gateway = gateways()
    for tokens, fault in (({"reader": "x", "app": "y", "admin": "x"}, "4"),
                          ({"reader": "x", "app": "x"}, "3")):
        gateway.tokens = tokens
        done = gateway.command("run", "--config", gateway.config_path)
        assert done.returncode == 2
        assert f":{fault}: an earlier line has the same token or" in done.stderr


def test_rates_by_client_user_and_sale(gateways, product):
    gateway = gateways({"gateway": {"rate_user": "1/m", "rate_sale": "1/m"}})
    gateway.start()
    client, admin = gateway.client(), gateway.client("admin")

    def reserve(order, user):
        return client.reserve(product, 1, f"{order}-{product}", user_id=user)

    assert reserve("a", "ann").status == 201
    answer = reserve("b", "ann")
    assert (answer.status, answer.problem) == (429, "rate")
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    assert "of this user" in answer.json["detail"]
    assert reserve("c", "bob").status == 201
    assert client.reserve(product, 1, f"d-{product}").status == 201

    sale = f"rate-{product}"
    assert admin.post("/sales", {"activity_id": sale, "product_id": product,
                                 "quantity": 1}).status == 201
    answers = [client.post(f"/sales/{sale}/purchase", {
        "user_id": f"u{i}", "order_id": f"{sale}-{i}"}).status
        for i in range(3)]
    assert answers == [201, 429, 429]

    gateway.config["gateway"]["rate_client"] = "1/m"
    gateway.reload()
    assert client.get("/orders/o").status == 404
    assert client.get("/orders/o").problem == "rate"
    assert client.get("/livez").status == 200
    assert admin.get("/orders/o").status == 404     # another token
    gateway.config["gateway"]["rate_client"] = "1/h"
    gateway.write_config()
    done = gateway.command("config", "--config", gateway.config_path)
    assert done.returncode == 2
    assert '"rate_client": "1/h" is not a rate' in done.stderr
    # above the maximum: an error too, also while the gateway runs
    gateway.config["gateway"]["rate_client"] = "1000001/s"
    done = gateway.command("run", "--config", gateway.config_path)
    assert done.returncode == 2
    assert '"rate_client": "1000001/s" is not a rate' in done.stderr
    gateway.reload(good=False)
    assert client.get("/orders/o").problem == "rate"
    client.close()
    admin.close()


def test_without_tokens_only_this_machine_is_served(gateways):
    gateway = gateways({"gateway": {"tokens": ""}}).start()
    client = gateway.client(None)
    assert client.get("/orders/o").status == 404
    assert client.get("/failed").status == 200      # a reader and an app
    assert client.post("/orders/o/release").problem == "unknown-order"
    assert client.post("/products/p/stock/receive",
                       {"quantity": 1}).problem == "forbidden"
    assert client.get("/orders/o", Origin="http://evil.example"
                      ).problem == "forbidden"
    client.close()
    gateway = gateways({"gateway": {"tokens": "", "listen": "0.0.0.0:1"}})
    done = gateway.command("run", "--config", gateway.config_path)
    assert done.returncode == 2
    assert "name a file of tokens" in done.stderr


def test_a_file_in_the_place_of_the_socket_stays(gateways):
    gateway = gateways()
    path = f"{gateway.directory}/file"
    gateway.config["gateway"]["listen"] = f"unix:{path}"
    with open(path, "w", encoding="ascii") as file:
        file.write("mine")
    assert gateway.command("run", "--config",
                           gateway.config_path).returncode == 2
    with open(path, encoding="ascii") as file:
        assert file.read() == "mine"


def test_a_socket_of_the_file_system(gateways):
    gateway = gateways()
    path = f"{gateway.directory}/socket"
    gateway.config["gateway"]["listen"] = f"unix:{path}"
    gateway.start(wait=None)

    def answer():
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except OSError:
                return b""
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            return client.recv(1000)
    wait_until(lambda: b"200 OK" in answer(), 30, gateway.tail)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    gateway.kill9()                             # and the socket is left behind
    gateway.start(wait=None)
    wait_until(lambda: b"200 OK" in answer(), 30, gateway.tail)
    assert gateway.terminate() == 0


# ---- what it says of itself -------------------------------------------------

def test_its_description_is_the_table_of_routes(gateway):
    described = json.loads(gateway.get("/openapi.json")[1])
    assert described["openapi"] == "3.1.0"
    operations = {(method.upper(), path): one
                  for path, methods in described["paths"].items()
                  for method, one in methods.items()}
    assert len(operations) >= 20
    assert len({one["operationId"] for one in operations.values()}
               ) == len(operations)
    reserve = operations["POST", "/products/{product_id}/stock/reserve"]
    schema = reserve["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(schema["required"]) == ["order_id", "quantity"]
    assert {one["name"] for one in reserve["parameters"]} == {
        "product_id", "Idempotency-Key"}
    assert gateway.command("openapi").stdout == gateway.get("/openapi.json")[1]


def test_the_statuses_that_it_describes(gateway):
    """Each has one meaning, and is there where the answer may be it."""
    described = json.loads(gateway.get("/openapi.json")[1])
    problems = described["components"]["responses"]
    meanings = {}
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            for status, answer in one["responses"].items():
                if "$ref" in answer:
                    answer = problems[answer["$ref"].rpartition("/")[2]]
                meanings.setdefault(status, {}).setdefault(
                    answer["description"], []).append((method, path))
    assert set(meanings) == {
        "200", "201", "202", "304", "308", "400", "401", "403", "404", "409",
        "412", "422", "429", "503", "default"}
    # 503 may be an answer about the gateway's own state
    assert {status: len(found) for status, found in meanings.items()
            if status != "200"} == {
                **dict.fromkeys(set(meanings) - {"200"}, 1), "503": 2}
    later, = meanings["202"].values()
    assert later == [("get", "/events/{event_id}"),
                     ("post", "/failed/{id}/retry")]
    new, = meanings["201"].values()
    again = meanings["200"]["It was done before: nothing changed"]
    assert ("post", "/sales") in new and set(again) < set(new)
    assert set(meanings["503"]["Requests cannot be answered now"]) == {
        ("get", "/readyz"), ("get", "/health")}


@pytest.mark.parametrize("method, path, statuses", [
    ("post", "/products/{product_id}/stock/reserve",
     "400 401 403 404 409 422 429 503"),
    ("post", "/products/{product_id}/stock/set",
     "400 401 403 404 409 412 429 503"),
    ("post", "/sales/{activity_id}/purchase",
     "400 401 403 404 409 422 429 503"),
    ("get", "/orders/{order_id}", "400 401 403 404 429 503"),
    ("get", "/status", "400 401 403 429 503"),
    ("get", "/whoami", "400 401 403 429"),
    ("get", "/livez", "400")])
def test_the_problems_that_it_describes(gateway, method, path, statuses):
    described = json.loads(gateway.get("/openapi.json")[1])
    found = {status: answer["$ref"] for status, answer in
             described["paths"][path][method]["responses"].items()
             if "$ref" in answer}
    assert sorted(found) == [*statuses.split(), "default"]
    for status, ref in found.items():
        name = "Problem" + status.replace("default", "")
        assert ref == f"#/components/responses/{name}"
        assert described["components"]["responses"][name]["content"] == {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"}}}


def test_its_command_line(gateway):
    done = gateway.command("--help")
    assert done.returncode == 0 and "serve requests" in done.stdout
    assert gateway.command("--version").stdout.startswith("pgstock-gateway ")
    assert gateway.command("run", "--postgres", "password=x").returncode == 2
    assert gateway.command("nonsense").returncode == 2
    done = gateway.command("config", "--config", gateway.config_path)
    assert "gateway_app" not in done.stdout     # conninfo may hold a secret
    assert "listen = 127.0.0.1" in done.stdout


def test_a_port_that_is_taken(gateway, gateways):
    other = gateways()
    other.config["gateway"]["listen"] = gateway.config["gateway"]["listen"]
    done = other.command("run", "--config", other.config_path)
    assert done.returncode == 2
    assert "to an address that is free" in done.stderr
