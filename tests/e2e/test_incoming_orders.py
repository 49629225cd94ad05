# SPDX-License-Identifier: PostgreSQL
"""Messages about orders whose lines are in several shards: the coordinator's
relay reads the order topics, and their handlers call the front.

Each message is answered as by the built-in handlers of one database: by one
event of the whole order, in the coordinator's outbox.
"""

import itertools
import json

import pytest

import incoming_orders
from incoming_orders import Messages, answered_items, answers, failures
from process import wait_until
from saga_fleet import wanted
from saga_shop import call, lines, saga, states

serial = itertools.count(1)


@pytest.fixture(scope="module", name="shop")
def fixture_shop(shards):
    for product in itertools.chain(*shards.products(2)):
        shards.front.sql("SELECT receive_stock(%s, 1000)", (product,))
    return shards


@pytest.fixture(name="orders")
def fixture_orders(pg, shop, kafka):
    """A coordinator that reads messages."""
    kafka.create_topics("order-answers")
    database = pg.create_database(f"orders{next(serial)}")
    incoming_orders.install_front(database)
    shop.set_coordinator(database)
    database.sql("SELECT pgstock_front.bind_orders()")
    yield database
    assert database.drift() == []
    database.drop()


@pytest.fixture(name="relay")
def fixture_relay(orders, kafka, relays):
    return relays(orders.conninfo(), kafka.brokers,
                  incoming_orders.RELAY).start()


@pytest.fixture(name="messages")
def fixture_messages(kafka):
    return Messages(kafka, f"m{next(serial)}")


@pytest.fixture(name="order")
def fixture_order():
    return f"in-{next(serial)}"


def test_an_order_is_reserved_and_paid(shop, orders, relay, messages, order,
                                       kafka):
    items = lines(shop, 1, 2, 3)
    created = messages.created(order, items)
    messages.handled(orders, relay)
    assert states(shop, order) == ["reserved"] * 3
    assert answers(orders, order) == [("StockReserved", None, False)]
    messages.paid(order, "pay-1", times=2)
    messages.handled(orders, relay)
    assert states(shop, order) == ["confirmed"] * 3
    assert saga(shop, order) == [("confirmed", None)]
    assert answers(orders, order)[1:] == [("StockConfirmed", None, False)]
    assert answered_items(orders, order) == [wanted(items)] * 2
    with kafka.tail("order-answers") as tail:
        tail.until(lambda r: len(r) == 2, 30, "two answers")
    assert [record.json["causation_id"] for record in tail.records][0] \
        == created
    assert tail.records[0].json["user_id"] == "u-1"
    assert tail.records[0].json["expires_at"] is not None
    assert tail.records[1].json["payment_id"] == "pay-1"


def test_a_refusal_is_answered_once_and_remembered(shop, orders, relay,
                                                   messages, order):
    """Stock that was received since changes nothing, and a payment of the
    order is to be refunded."""
    messages.created(order, lines(shop, 1, 5000))
    messages.created(f"{order}-unknown", json.dumps(
        json.loads(lines(shop, 1)) + [{"product_id": "none", "quantity": 1}]))
    messages.handled(orders, relay)
    assert answers(orders, order) == [
        ("StockReserveFailed", "insufficient", False)]
    assert answers(orders, f"{order}-unknown") == [
        ("StockReserveFailed", "unknown_product", False)]
    product = json.loads(lines(shop, 0, 1))[0]["product_id"]
    shop.front.sql("SELECT receive_stock(%s, 5000)", (product,))
    messages.created(order, lines(shop, 1, 5000))
    messages.paid(order, "pay-1")
    messages.paid(order, "pay-1")
    messages.put("order-cancelled", order)
    messages.handled(orders, relay)
    assert answers(orders, order)[1:] == [
        ("StockReserveFailed", "insufficient", True),
        ("StockShortfall", "insufficient", False)]
    assert set(states(shop, order)) <= {"released"}
    assert failures(orders) == []


def test_a_payment_waits_for_its_order(shop, orders, relay, messages, order):
    messages.paid(order, "pay-1")
    messages.put("payment-success", f"{order}-one", payment_id="pay-2")
    wait_until(lambda: len(failures(orders)) == 2, 30,
               lambda: f"both wait: {failures(orders)}")
    messages.created(order, lines(shop, 1, 1))
    messages.created(f"{order}-one", lines(shop, 1))
    messages.handled(orders, relay)
    assert states(shop, order) == ["confirmed"] * 2
    assert states(shop, f"{order}-one") == ["confirmed"]
    assert saga(shop, f"{order}-one") == []


@pytest.mark.parametrize("counts", [(1, 2, 3, 4), (0, 2)])
def test_messages_that_give_stock_back(shop, orders, relay, messages, order,
                                       counts):
    items = lines(shop, *counts)
    n = len(json.loads(items))
    for what in ("declined", "cancelled", "rolled-back", "failed"):
        messages.created(f"{order}-{what}", items)
    messages.handled(orders, relay)
    messages.paid(f"{order}-rolled-back", "pay-1")
    messages.handled(orders, relay)
    messages.put("payment-failed", f"{order}-declined", reason="no money")
    messages.put("order-cancelled", f"{order}-cancelled")
    messages.put("order-cancelled", f"{order}-cancelled")
    messages.put("order-cancelled", f"{order}-rolled-back")
    messages.put("payment-failed", f"{order}-rolled-back")
    messages.put("order_failed", f"{order}-failed", failed_reason="lost")
    messages.handled(orders, relay)
    for what, state, answer in (
            ("declined", "released", ("StockReleased", "no money", False)),
            ("cancelled", "released", ("StockReleased", None, False)),
            ("rolled-back", "rolled_back", ("StockRolledBack", None, False)),
            ("failed", "rolled_back", ("StockRolledBack", "lost", False))):
        assert states(shop, f"{order}-{what}") == [state] * n
        assert answers(orders, f"{order}-{what}")[-1] == answer
        assert answered_items(orders, f"{order}-{what}")[-1] == wanted(items)
        assert len(answers(orders, f"{order}-{what}")) == (
            3 if what == "rolled-back" else 2)
    assert failures(orders) == []


def test_another_payment_after_a_declined_one(shop, orders, relay, messages,
                                              order):
    """It reserves the lines again; unless the order was cancelled."""
    for name in (order, f"{order}-cancelled"):
        messages.created(name, lines(shop, 1, 1))
        messages.handled(orders, relay)
        messages.put("payment-failed", name)
        messages.handled(orders, relay)
    messages.put("order-cancelled", f"{order}-cancelled")
    messages.handled(orders, relay)
    for name in (order, f"{order}-cancelled"):
        messages.paid(name, "pay-2")
    messages.handled(orders, relay)
    assert states(shop, order).count("confirmed") == 2
    assert answers(orders, order)[-1] == ("StockConfirmed", None, False)
    assert set(states(shop, f"{order}-cancelled")) == {"released"}
    assert answers(orders, f"{order}-cancelled")[-1] == (
        "StockShortfall", "released", False)


def test_payments_that_buy_nothing(shop, orders, relay, messages, order):
    """Each is reported once."""
    messages.created(order, lines(shop, 1, 1))
    messages.handled(orders, relay)
    messages.paid(order, "pay-1")
    messages.handled(orders, relay)
    for payment in ("pay-1", "pay-2", "pay-2"):
        messages.paid(order, payment)
    messages.put("payment-success", order, payment_id="pay-3", status="open")
    messages.handled(orders, relay)
    assert answers(orders, order)[2:] == [
        ("StockConfirmed", "paid_twice", True)]
    messages.put("order-cancelled", order)
    messages.handled(orders, relay)
    for payment in ("pay-4", "pay-4"):
        messages.paid(order, payment)
    messages.handled(orders, relay)
    assert answers(orders, order)[3:] == [
        ("StockRolledBack", None, False),
        ("StockShortfall", "rolled_back", False)]


def test_a_known_order_is_answered_again(shop, orders, relay, messages, order):
    items = lines(shop, 1, 1)
    messages.created(order, items)
    messages.handled(orders, relay)
    messages.created(order, items)
    messages.created(order, lines(shop, 1, 2))
    messages.handled(orders, relay)
    messages.put("order-cancelled", order)
    messages.handled(orders, relay)
    messages.created(order, items)
    messages.handled(orders, relay)
    assert answers(orders, order) == [
        ("StockReserved", None, False), ("StockReserved", None, True),
        ("StockReserved", None, True), ("StockReleased", None, False),
        ("StockReserveFailed", "released", True)]
    assert answered_items(orders, order)[1] == wanted(items)


def test_a_part_of_an_order(shop, orders, relay, messages, order):
    """Pieces that the order does not have are ignored."""
    items = lines(shop, 3, 3)
    messages.created(order, items)
    messages.handled(orders, relay)
    first = json.loads(items)[0]
    messages.put("order-cancelled", order, items=[{**first, "quantity": 2}])
    messages.handled(orders, relay)
    messages.put("order-cancelled", order, items=[{**first, "quantity": 9}])
    messages.put("order-cancelled", order, items=[
        {"product_id": "none", "quantity": 9}])
    messages.handled(orders, relay)
    assert answered_items(orders, order)[1:] == [
        [(first["product_id"], 2)], [(first["product_id"], 1)]]
    assert sorted(shop.front.sql(
        "SELECT state, quantity FROM stock_reservations WHERE order_id = %s",
        (order,)))[-1] == ("reserved", 3)


def test_what_is_not_a_message_is_a_dead_letter(orders, relay, messages,
                                                order):
    messages.put("order-created", order, items="all")
    messages.put("payment-success", order, order_id=7.5)
    messages.handled(orders, relay)
    assert {row[2] for row in failures(orders)} == {"archived"}
    assert '"items" is not an array' in sorted(failures(orders))[0][4]


def test_an_order_whose_id_names_another_shard(shop, orders, relay, messages,
                                               order):
    """No other try helps."""
    orders.sql("SELECT pgstock_front.set_shards(%s, NULL, %s, true)", (
        json.dumps(shop.connections()), "substring(order_id, '^named-.*')"))
    messages.created(f"named-{order}", lines(shop, 1, 1))
    messages.created(order, lines(shop, 1, 1))
    messages.handled(orders, relay)
    ((_, name, state, attempts, error),) = failures(orders)
    assert (name, state, attempts) == (f"named-{order}", "archived", 1)
    assert "lines in more than one shard" in error
    assert states(shop, order) == ["reserved"] * 2


def test_trace_and_role(shop, orders, kafka, relays, messages, order):
    """The relay's role needs level relay here and level app in the shards,
    whose events have the trace of the message."""
    role = shop.add_role(f"relay_{orders.name}", "app")
    orders.sql("SELECT grant_stock_access(%s, 'relay')", (role,))
    relay = relays(orders.conninfo(user=role), kafka.brokers,
                   incoming_orders.RELAY).start()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    messages.created(order, lines(shop, 1, 1), headers=[
        ("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())])
    messages.created(f"{order}-two", lines(shop, 1, 1), trace_id=trace)
    messages.handled(orders, relay)
    for name in (order, f"{order}-two"):
        assert shop.front.sql(
            "SELECT payload ->> 'trace_id', count(*) FROM stock_outbox"
            " WHERE key = %s GROUP BY 1", (name,)) == [(trace, 2)]
        assert orders.sql("SELECT payload ->> 'trace_id' FROM stock_outbox"
                          " WHERE key = %s", (name,)) == [(trace,)]
    assert shop.front.sql("SELECT DISTINCT actor FROM stock_movements"
                          " WHERE order_id = %s", (order,)) == [(role,)]


def test_calls_by_hand(shop, orders, order):
    """The handlers are functions, too, for one of your own to call."""
    payload = json.dumps({"order_id": order, "user_id": "u",
                          "items": json.loads(lines(shop, 1, 1))})
    orders.sql("SELECT pgstock_front.order_created(%s, '{}')", (payload,))
    assert states(shop, order) == ["reserved"] * 2
    call(shop, "release_stock", order)


def test_a_message_that_is_sent_back(shop, orders, order):
    """Another record with the same topic, source and id is the same message;
    the same id of another source is another one."""
    items = json.loads(lines(shop, 5, 5))
    call(shop, "reserve_order", order, json.dumps(items))
    payload = json.dumps({"order_id": order, "items": [
        {**item, "quantity": 1} for item in items]})

    def cancel(offset, **headers):
        message = {"topic": "order-cancelled", "partition": 0,
                   "offset": offset, "event_id": f"{order}-cancelled",
                   "timestamp": f"2026-01-01T00:00:{offset}Z",
                   "headers": headers}
        orders.sql("SELECT pgstock_front.order_cancelled(%s, %s)",
                   (payload, json.dumps(message)))
        return shop.front.value(
            "SELECT sum(quantity) FROM stock_reservations WHERE order_id = %s"
            " AND state = 'reserved'", (order,))

    assert cancel(10) == 8
    assert cancel(20, **{"__dlq.redrive.count": "1"}) == 8
    assert cancel(30, ce_source="another") == 6
