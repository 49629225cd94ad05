# SPDX-License-Identifier: PostgreSQL
"""The console in a real browser while something is in trouble: each act of an
administrator with the database going away in between, a gateway that is away,
and a topic that Kafka refuses."""

from contextlib import closing
from typing import NamedTuple

import pytest

from browser import WIDE
from console_shop import fail
from gateway import TOKENS
from kafkaio import delivered, send
from process import wait_until

pytestmark = [pytest.mark.console, pytest.mark.xdist_group("gateway"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]


# ---- Kafka ------------------------------------------------------------------

def cells(page, label):
    """The rows of one table of the page."""
    return page.driver.execute_script(
        "return [...document.querySelectorAll(`[aria-label='${arguments[0]}']"
        " tbody tr`)].map((row) => [...row.cells].map((one) =>"
        " one.innerText))", label)


def test_an_order_from_kafka_and_a_held_topic(browser, gateway, shop, kafka,
                                              product, start_relay):
    """The timeline goes from the message to the event; the relays' page shows
    how far the messages are read, and the topic that the broker refuses."""
    order = f"kafka-{product}"
    kafka.create_topics("small", partitions=1, max_message_bytes=2000)
    start_relay(conninfo=shop.conninfo(), topics=["order-created"])
    browser.resize(WIDE)
    browser.sign_in(gateway, TOKENS["reader"])
    browser.go("#/relays", "Relays")
    browser.wait_text("main .table", "leads")
    assert cells(browser, "Held topics") == []
    producer = kafka.producer()
    send(producer, "order-created", {"order_id": order, "items": [
        {"product_id": product, "quantity": 3}]}, partition=2)
    delivered(producer)
    wait_until(lambda: shop.value(
        "SELECT count(*) FROM stock_outbox WHERE key = %s AND"
        " (event_status(event_id)).state = 'published'", (order,)) == 1, 60,
        "the order's event is in Kafka")
    browser.go(f"#/orders/{order}", order)
    kinds = [one.text for one in browser.all(".timeline .kind")]
    assert kinds == ["message from Kafka", "line", "movement of stock",
                     "event to Kafka"]
    shop.sql("SELECT publish_event('small', 'k', jsonb_build_object('fill',"
             " repeat('x', 10000)))")
    browser.go("#/relays", "Relays")
    wait_until(lambda: cells(browser, "Held topics"), 60, browser.text)
    wait_until(lambda: shop.value("SELECT count(*) FROM"
                                  " pgstock_internal.held_event") == 1, 60,
               "the event is set aside")
    browser.driver.refresh()                    # it counts them once
    browser.wait_text("main .table", "small")
    (held,) = cells(browser, "Held topics")
    assert held[:2] == ["small", "1"] and "MSG_SIZE_TOO_LARGE" in held[4]
    assert ["order-created", "2", "1"] in cells(
        browser, "Positions in incoming topics")
    assert browser.violations() == []
    browser.picture("relay-held")
    assert browser.errors() == []


# ---- the database goes away -------------------------------------------------

def test_the_database_goes_away(browser, gateway, app, pg, product):
    """What is shown stays, and says that it may be old; a page that is opened
    meanwhile appears by itself afterwards."""
    browser.resize(WIDE)
    browser.sign_in(gateway, TOKENS["reader"])
    assert app.reserve(product, 1, f"order-{product}").status == 201
    browser.go(f"#/stock/{product}", product)
    with pg.away():
        browser.wait_text(".banner", "The database is away")
        assert "On hand\n10" in browser.text(".figures")
        browser.picture("away")
        assert browser.violations() == []
        browser.go("#/orders", settled=False)
    browser.wait_text("h1", "Orders")
    browser.wait_text("main tbody", f"order-{product}")
    wait_until(lambda: not browser.find(".banner").is_displayed(), 30,
               browser.text)
    browser.wait_text(".pulse", "live")
    browser.errors()


class Act(NamedTuple):
    """What an administrator does on a page: its button, and the dialog."""
    page: str               # its address; "{0.order}": what Subject makes
    button: str
    submit: str
    fields: dict
    shown: tuple            # afterwards: where, and what


ACTS = [
    Act("#/stock/{0.product}", "Receive", "Receive", {"quantity": "5"},
        (".figures", "On hand\n15")),
    Act("#/stock/{0.product}", "Correct", "Correct",
        {"delta": "-2", "reason": "broken"}, (".figures", "On hand\n8")),
    Act("#/stock/{0.product}", "Set", "Set", {"on_hand": "20"},
        (".figures", "On hand\n20")),
    Act("#/stock/{0.product}", "Move", "Move",
        {"quantity": "4", "to_location": "north"}, ("main tbody", "north")),
    Act("#/orders/{0.order}", "Release", "Release", {"reason": "she called"},
        ("main tbody", "released")),
    Act("#/orders/{0.order}", "Roll back", "Roll back", {"reason": "lost"},
        ("main tbody", "rolled back")),
    Act("#/failed/{0.message}", "Retry", "Retry", {"reason": "fixed"},
        ("main dl .state", "waiting")),
    Act("#/failed/{0.message}", "Discard", "Discard", {"reason": "a test"},
        ("main dl .state", "discarded")),
    Act("#/failed/{0.message}", "Handled", "Mark as handled",
        {"note": "called the customer"}, ("main dl .state", "handled")),
    Act("#/sales", "Open a sale", "Open",
        {"activity_id": "opened-late", "product_id": "{0.product}",
         "quantity": "1"}, ("h1", "opened-late")),
    Act("#/sales/{0.sale}", "Close the sale", "Close", {},
        ("main dl .state", "closed"))]


class Subject:
    """What acts are about, each made when an address names it."""

    def __init__(self, gateway, shop, product):
        self.gateway, self.shop, self.product = gateway, shop, product

    @property
    def order(self):
        with closing(self.gateway.client()) as app:
            assert app.reserve(self.product, 2,
                               f"away-{self.product}").status == 201
        return f"away-{self.product}"

    @property
    def message(self):
        return fail(self.shop, '{"items": 1}')

    @property
    def sale(self):
        with closing(self.gateway.client("admin")) as admin:
            assert admin.post("/sales", {
                "activity_id": f"away-{self.product}",
                "product_id": self.product, "quantity": 3}).status == 201
        return f"away-{self.product}"


@pytest.mark.parametrize("act", ACTS, ids=[act.button for act in ACTS])
def test_an_act_while_the_database_is_away(browser, gateway, shop, pg, product,
                                           act):
    """It says that nothing was changed, and keeps what was typed: the same
    button does it once the database is back."""
    browser.resize(WIDE)
    browser.sign_in(gateway, TOKENS["admin"])
    subject = Subject(gateway, shop, product)
    browser.go(act.page.format(subject))
    browser.press(act.button)
    browser.fill(**{name: value.format(subject)
                    for name, value in act.fields.items()})
    with pg.away():
        browser.wait_text(".banner", "The database is away")
        browser.press(act.submit, "dialog")
        browser.wait_text("dialog .error", "Nothing was changed")
        assert browser.violations() == []
    gateway.wait_sessions()
    if act.button == "Move":                    # the location is new
        browser.submit_new(act.submit)
    else:
        browser.submit(act.submit)
    browser.wait_text(*act.shown)
    wait_until(lambda: not browser.find(".banner").is_displayed(), 30,
               browser.text)
    browser.errors()


def test_the_gateway_goes_away(browser, gateways):
    gateway = gateways().start()
    browser.sign_in(gateway, TOKENS["reader"])
    gateway.terminate()
    browser.wait_text(".banner", "The gateway does not answer")
    gateway.start()
    browser.wait_text(".pulse", "live")
    assert not browser.find(".banner").is_displayed()
    browser.errors()
