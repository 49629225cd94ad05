# SPDX-License-Identifier: PostgreSQL
"""The extension changes while a gateway runs.  What its sessions have prepared
is not valid any more; they prepare it anew, and no client notices."""

import itertools
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from conftest import GATEWAY_ROLES
from gateway import many
from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


def test_a_result_gets_another_column(gateways, app, product, shop):
    """An update may give a view one: "cached plan must not change result type"
    in each session that has read it."""
    gateway = gateways({"postgres": {"pool": 3}}).start()
    order = f"wide-{product}"
    assert app.reserve(product, 1, order).status == 201

    def read(_, i):
        with closing(gateway.client("reader")) as client:
            client.described = False
            return client.get(f"/transactions?limit={i + 1}")

    assert {one.status for one in many(gateway, 12, read)} == {200}
    view = shop.value("SELECT pg_get_viewdef('stock_orders'::regclass)")
    shop.sql("CREATE OR REPLACE VIEW stock_orders AS SELECT v.*, 7 AS wider "
             f"FROM ({view.rstrip(';')}) v")
    answers = many(gateway, 12, read)
    assert {one.status for one in answers} == {200}
    assert {row["wider"] for one in answers for row in one.json["rows"]} == {7}
    assert "request failed" not in gateway.log()


def test_a_session_has_forgotten_its_statements(gateways, admin, product, shop):
    """As a pooler between gateway and server may have it do.  The reading
    request and the batch of reservations that meet it are sent again, and take
    effect once."""
    gateway = gateways({"postgres": {"pool": 1, "reader_conninfo": ""}}).start()
    items = [{"product_id": product, "quantity": 1}]
    kept = shop.value(
        "SELECT pg_get_functiondef('check_availability'::regproc)")
    forgetful = re.sub(
        r"LANGUAGE c.*", "LANGUAGE plpgsql ROWS 10 AS $f$ BEGIN "
        "EXECUTE 'DEALLOCATE ALL'; END $f$", kept, flags=re.S)
    orders = itertools.count(1)
    with closing(gateway.client()) as client:
        client.described = False
        calls = ((lambda: client.get(f"/products/{product}/stock"), 200),
                 (lambda: client.reserve(
                     product, 1, f"{product}-{next(orders)}"), 201))
        shop.sql(forgetful)
        try:
            for call, status in calls:
                assert call().status == status      # it is prepared
                assert client.post("/availability",
                                   {"items": items}).status == 200
                assert call().status == status
        finally:
            shop.sql(kept)
    assert shop.level(product)[1] == 2
    assert "request failed" not in gateway.log()


def test_an_error_that_lasts_is_not_tried_again(gateways, product, shop):
    """It looks like that of a statement which is not valid any more, but
    preparing it anew does not help: each request ran three times, and had all
    sessions prepare anew for each try."""
    gateway = gateways().start()
    kept = shop.value(
        "SELECT pg_get_functiondef('check_availability'::regproc)")
    failing = re.sub(
        r"LANGUAGE c.*", "LANGUAGE plpgsql ROWS 10 AS $f$ BEGIN "
        "PERFORM nextval('public.tries'); "
        "RAISE undefined_function; END $f$", kept, flags=re.S)
    shop.sql("CREATE SEQUENCE public.tries; "
             "GRANT USAGE ON SEQUENCE public.tries TO PUBLIC")
    shop.sql(failing)
    items = {"items": [{"product_id": product, "quantity": 1}]}
    began = time.monotonic()
    with closing(gateway.client()) as client:
        try:
            for _ in range(20):
                assert client.post("/availability", items).status == 500
            renewals = 1 + (time.monotonic() - began) // 5
            assert 20 < shop.value("SELECT last_value FROM public.tries") \
                <= 20 + renewals
            # not those of other statements
            assert client.reserve(product, 1, f"{product}-1").status == 201
        finally:
            shop.sql(kept)
            shop.sql("DROP SEQUENCE public.tries")
        assert client.post("/availability", items).status == 200


def recreate(shop, product):
    """All in one transaction; False if it met the clients' locks."""
    with closing(shop.connect()) as conn:
        cursor = conn.cursor()
        try:
            cursor.execute("DROP EXTENSION pgstock; CREATE EXTENSION pgstock")
        except psycopg2.errors.DeadlockDetected:
            return False
        for level, role in GATEWAY_ROLES.items():
            cursor.execute("SELECT grant_stock_access(%s, %s)", (role, level))
        cursor.execute("SELECT receive_stock(%s, 1000)", (product,))
        conn.commit()
    return True


def test_the_extension_is_dropped_and_created(gateways, product, shop):
    """Clients are at work meanwhile: each is answered, or may repeat its
    request; none hears of an internal failure."""
    gateway = gateways({"postgres": {"pool": 3}}).start()
    over = threading.Event()

    def work(client, i):
        answers, n = [], 0
        while not over.is_set():
            n += 1
            answers.append(
                client.get(f"/products/{product}/stock") if i % 2 else
                client.reserve(product, 1, f"{product}-{i}-{n}"))
        return answers

    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(many, gateway, 8, work)
        try:
            for _ in range(3):
                wait_until(lambda: recreate(shop, product), 60, gateway.tail)
        finally:
            over.set()
        answers = [one for each in answers.result() for one in each]
    refused = {one.problem for one in answers if one.status >= 400}
    assert refused <= {"conflict", "insufficient", "database-away", "timeout"}
    assert gateway.get("/readyz")[0] == 200
    with closing(gateway.client()) as client:
        assert client.reserve(product, 1, f"after-{product}").status == 201
        assert client.get(f"/orders/after-{product}").status == 200


def test_the_extension_is_missing(gateways, product, shop):
    """It is as if the database was away, until it is there again."""
    gateway = gateways().start()
    with closing(gateway.client()) as client:
        assert client.reserve(product, 1, f"missing-{product}").status == 201
        shop.sql("DROP EXTENSION pgstock")
        wait_until(lambda: client.reserve(product, 1, "x").problem ==
                   "database-away", 30, gateway.tail)
        gateway.wait_status("/readyz", 503)
        assert "CREATE EXTENSION pgstock" in gateway.log()
        shop.sql("CREATE EXTENSION pgstock")
        for level, role in GATEWAY_ROLES.items():
            shop.sql("SELECT grant_stock_access(%s, %s)", (role, level))
        gateway.wait_status("/readyz", 200)
        shop.sql("SELECT receive_stock(%s, 5)", (product,))
        assert client.reserve(product, 1, f"again-{product}").status == 201
