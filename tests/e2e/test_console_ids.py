# SPDX-License-Identifier: PostgreSQL
"""The console and ids of any text: each list that shows one, each link that
leads to it, each page that follows it, and what an administrator does to it."""

import json
from urllib.parse import quote

import pytest

from browser import AWAY, Keys
from console_shop import fail
from process import wait_until

pytestmark = [pytest.mark.console, pytest.mark.xdist_group("gateway"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ODD = "ü/%&?# +%41;=a\"'<b>\\"


@pytest.fixture
def odd(admin, app, product, shop):
    """The id of a product, a sale and an order, which has two lines; and of
    an order that a message waits for."""
    name = f"{ODD} {product}"
    path = quote(name, safe="")
    for location in ("main", name):
        assert admin.post(f"/products/{path}/stock/receive", {
            "quantity": 20, "location": location}).status == 200
    assert app.post("/orders", {"order_id": name, "user_id": name, "items": [
        {"product_id": name, "quantity": 1},
        {"product_id": name, "quantity": 2, "location": name}]}).status == 201
    assert admin.post("/sales", {"activity_id": name, "product_id": name,
                                 "quantity": 5}).status == 201
    assert app.post(f"/sales/{path}/purchase", {
        "user_id": name, "order_id": f"{name} sold"}).status == 201
    fail(shop, json.dumps({"order_id": f"{name} late"}), "payment-success")
    return name


def follow(page, text, title):
    """The link with the text, in the page's lists."""
    def followed():
        try:
            for one in page.all("main a.id"):
                if one.text == text:
                    one.click()
                    return True
        except AWAY:                            # it is shown anew
            pass
        return False
    wait_until(followed, 30, lambda: f"{text}\n{page.text()}")
    page.wait_text("h1", title)
    page.settled()
    assert page.text("h1") == title


def test_each_link_leads_to_it(page, odd):
    page.type("input[name=search]", odd, Keys.ENTER)
    follow(page, odd, odd)                      # the product
    assert page.text("main .figures").startswith("Available")
    follow(page, odd, odd)                      # its order, by a movement
    page.wait_text("main", "What it went through")
    follow(page, odd, odd)                      # the product, by a line
    page.wait_text("main", "Movements")
    page.go("#/orders", "Orders")
    page.type("input[name=search]", odd, Keys.ENTER)
    follow(page, f"{odd} sold", f"{odd} sold")
    page.go("#/sales", "Flash sales")
    follow(page, odd, odd)
    page.wait_text("main", "Sold per second")
    assert page.text("main .figures").startswith("Sold")
    page.go("#/failed", "Failed messages")
    page.type("input[name=order_id]", f"{odd} late", Keys.ENTER)
    wait_until(lambda: len(page.all("main tbody tr")) == 1, 30, page.text)
    follow(page, f"{odd} late", f"{odd} late")
    page.wait_text("main", "failed message")
    page.driver.back()
    page.wait_text("h1", "Failed messages")
    page.driver.refresh()                       # the search is in the address
    wait_until(lambda: len(page.all("main tbody tr")) == 1, 30, page.text)


def test_an_order_that_hangs(page, odd, shop):
    shop.sql("UPDATE pgstock_internal.reservation SET created_at = now() -"
             " interval '2 hours' WHERE order_id = %s", (odd,))
    page.go("#/hanging", "Orders that hang")
    follow(page, odd, odd)


def test_the_report_leads_to_a_product(page, app, odd):
    assert app.post(f"/orders/{quote(odd, safe='')}/confirm").status == 200
    page.go("#/report", "Report")
    follow(page, odd, odd)
    page.wait_text("main", "Movements")


def test_each_act(page, odd, shop):
    page.go(f"#/stock/{quote(odd, safe='')}", odd)
    for act, values in (
            ("Receive", {"quantity": "5", "location": odd}),
            ("Correct", {"delta": "-1", "location": odd, "reason": odd})):
        page.press(act)
        page.submit(act, **values)
    page.press("Move")
    page.submit_new("Move", quantity="1", from_location=odd,
                    to_location=f"{odd} new")
    assert shop.sql("SELECT on_hand FROM stock_levels WHERE product_id = %s "
                    "AND location = %s", (odd, odd)) == [(23,)]
    page.press("Set")
    page.submit("Set", on_hand="30", location=f"{odd} new")
    page.wait_text("main", "30")
    page.go(f"#/orders/{quote(odd, safe='')}", odd)
    page.press("Release")
    page.submit("Release", reason=odd)
    page.wait_text("main tbody", "released")
    page.go(f"#/sales/{quote(odd, safe='')}", odd)
    page.press("Close the sale")
    page.press("Close", "dialog")
    page.wait_text("main dl", "closed")


def test_a_new_product(page, product):
    name = f"new {ODD} {product}"
    page.press("Receive pieces")
    page.submit_new("Receive", product_id=name, quantity="7")
    page.wait_text("h1", name)


def test_a_list_goes_on_behind_it(page, product, shop):
    """Each page ends with such an id: shown as rows, and read as CSV."""
    shop.sql("SELECT receive_stock(%s || ' ' || to_char(i, 'FM000'), 1) "
             "FROM generate_series(1, 120) i", (f"{ODD} {product}",))
    page.type("input[name=search]", f"{ODD} {product}", Keys.ENTER)
    page.wait_text("main .note", "50 shown, there are more")
    for note in ("100 shown, there are more", "120 shown"):
        page.press("Show more")
        page.wait_text("main .note", note)
    assert page.driver.execute_async_script(
        """const [search, done] = arguments;
        (async () => {
          const { listPage, query } = await import("/console/api.js");
          let lines = 0;
          for (let after; after !== null;) {
            const page = await listPage(query("/products",
              { search, after, limit: 50 }), { Accept: "text/csv" });
            lines += page.text.trim().split("\\r\\n").length - 1;
            after = page.next;
          }
          return lines;
        })().then(done, (reason) => done(String(reason)));""",
        f"{ODD} {product}") == 120
