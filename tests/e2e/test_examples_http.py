# SPDX-License-Identifier: PostgreSQL
"""The programs of examples/ that call the gateway: they tell the same story as
those that call the database, whatever happens to their requests."""

import pytest

from cluster import HOST
from examples import (LostAnswer, Program, http_command, requests, run_script,
                      text_of)
from gateway import TOKENS, Gateway
from process import make_dir

ONE = '[{"product_id": "SKU-1", "quantity": 1}]'


@pytest.fixture
def gateway(db, new_dir):
    """A gateway to the shop's database, as examples/shop.sql makes it."""
    run_script(db, "shop.sql")
    made = Gateway(new_dir("gateway"), {"app": db.conninfo(user="shop")})
    made.start(wait=None)
    made.wait_status("/readyz", 200)
    yield made
    print(made.tail(60))
    made.close()
    db.sql("DROP OWNED BY shop; DROP ROLE shop")


@pytest.fixture(params=("curl", "python", "node", "go", "typescript"))
def start(request, gateway, new_dir):
    """Starts the example."""
    made = []

    def start_it(port=None):
        directory = make_dir(new_dir(request.param))
        words = http_command(request.param, directory,
                             gateway.get("/openapi.json")[1])
        made.append(Program(words, {
            "GATEWAY_URL": f"http://{HOST}:{port or gateway.port}",
            "GATEWAY_TOKEN": TOKENS["app"]}, directory))
        return made[-1]

    yield start_it
    for program in made:
        program.close()


def states(db, order):
    return db.sql("SELECT product_id, quantity, state FROM stock_reservations"
                  " WHERE order_id = %s ORDER BY 1", (order,))


def test_story(start, db):
    """examples/story.txt is answered by examples/story.expected."""
    program = start()
    for request in requests(text_of("story.txt")):
        program.send(*request)
    expected = text_of("story.expected").splitlines()
    assert [program.answer() for _ in expected] == expected
    assert states(db, "order-1") == [("SKU-1", 2, "confirmed"),
                                     ("SKU-2", 1, "confirmed")]
    assert states(db, "order-3") == [("SKU-1", 6, "released")]
    assert [db.level(f"SKU-{number}")[:2] for number in (1, 2, 3)] == [
        (8, 0), (4, 0), (1, 0)]

    # the payment comes after its stock was sold again
    db.sql("SELECT reserve_stock('SKU-3', 1, 'late', ttl => '1 us')")
    db.sql("SELECT reserve_stock('SKU-3', 1, 'quick', ttl => '0')")
    assert program.ask("pay", "late", "payment-2") \
        == "late: too late, refund the payment"
    odd = "a/b c?d\N{SNOWMAN}"
    assert program.ask("checkout", odd, "user-1", "key-5", ONE) \
        == f"{odd}: reserved 1 of SKU-1"
    assert program.ask("pay", odd, "payment-3") == f"{odd}: paid"
    program.end()


def test_faults(start, gateway, db):
    """What was not answered is asked again, and takes effect once."""
    proxy = LostAnswer(gateway.port)
    program = start(proxy.port)
    try:
        # the answer is lost
        proxy.COMMITTED = b"HTTP/1.1 201 "
        proxy.armed = True
        assert program.ask("checkout", "lost", "user-1", "key-1", ONE) \
            == "lost: reserved 1 of SKU-1, as before"
        assert not proxy.armed
        proxy.COMMITTED = b"HTTP/1.1 200 "
        proxy.armed = True
        assert program.ask("pay", "lost", "payment-1") \
            == "lost: paid, as before"
        assert not proxy.armed

        # the gateway is started again
        gateway.kill9()
        program.send("checkout", "later", "user-1", "key-2", ONE)
        gateway.config["gateway"]["rate_client"] = "1/s"
        gateway.start(wait=None)
        assert program.answer() == "later: reserved 1 of SKU-1"

        # it is asked too often
        for number in (3, 4):
            assert program.ask("checkout", f"order-{number}", "user-1",
                               f"key-{number}", ONE) \
                == f"order-{number}: reserved 1 of SKU-1"
        assert 'status="429"' in gateway.get("/metrics")[1]
        program.end()
    finally:
        proxy.close()
    assert db.level("SKU-1")[:2] == (9, 3)
