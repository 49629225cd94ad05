# SPDX-License-Identifier: PostgreSQL
"""The console and an administrator who is in a hurry."""

import pytest

from browser import Keys
from process import wait_until
from test_console import figures

pytestmark = [pytest.mark.console, pytest.mark.xdist_group("gateway"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_a_name_that_was_mistyped(page, product, shop):
    """It makes neither a product nor a location, unless it is confirmed."""
    page.press("Receive pieces")
    for name, location in ((f"{product} ", "main"), (product, "nroth")):
        page.fill(product_id=name, location=location, quantity="7")
        page.press("Receive", "dialog")
        page.wait_text("dialog .error",
                       f'no product "{name}" at "{location}" yet')
    page.press("Cancel", "dialog")
    assert shop.value("SELECT count(*) FROM stock_levels WHERE starts_with("
                      "product_id, %s) AND on_hand <> 10", (product,)) == 0
    page.press("Receive pieces")
    page.submit("Receive", product_id=product, quantity="7")
    page.wait_text("h1", product)


def test_what_was_submitted_is_not_canceled(page, product):
    """While the gateway takes its time, neither Cancel nor Escape makes a
    person believe that nothing was done."""
    page.go(f"#/stock/{product}", product)
    page.driver.execute_script(
        "const real = window.fetch; window.fetch = async (path, init) => {"
        " if (init.method === 'POST') await new Promise((done) => {"
        " window.go_on = done; });"
        " return real(path, init); }")
    page.press("Receive")
    page.fill(quantity="5")
    page.press("Receive", "dialog")
    wait_until(lambda: page.driver.execute_script("return !!window.go_on"), 30,
               page.text)
    assert not any(one.is_enabled() for one in page.all("dialog button"))
    for _ in range(2):                          # Chromium obeys the second one
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.driver.execute_script("window.go_on()")
    wait_until(lambda: figures(page)["On hand"] == "15", 30, page.text)
    wait_until(lambda: not page.all("dialog"), 30, page.text)
