# SPDX-License-Identifier: PostgreSQL
"""The console in a real browser: each act of a person, as administrator and as
reader.  test_console_trouble.py has what happens while something is away."""

import csv
import glob
import json
import os
from urllib.parse import quote

import pytest
from selenium.common.exceptions import JavascriptException

from browser import NARROW, WIDE, Keys
from console_shop import fail, fill
from gateway import TOKENS
from process import make_dir, wait_until

pytestmark = [pytest.mark.console, pytest.mark.xdist_group("gateway"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]

EVIL = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def filled(shop, gateway):
    """A shop with something on each page."""
    fill(shop, gateway)
    return shop


@pytest.fixture(params=["admin", "reader"])
def role(request):
    return request.param


@pytest.fixture
def page(browser, gateway, filled):
    """The console as it is found, signed out."""
    browser.resize(WIDE)
    yield browser
    assert browser.errors() == []


def rows(page):
    """The first cell of each row."""
    return page.driver.execute_script(
        "return [...document.querySelectorAll('main tbody tr')].map("
        "(row) => row.cells[0].innerText)")


# ---- signing in -------------------------------------------------------------

def test_sign_in_and_out(page, gateway):
    page.open(gateway, wait="input[name=token]")
    assert page.focused().get_attribute("name") == "token"
    page.type("input[name=token]", "wrong", Keys.ENTER)
    page.wait_text(".error", "No such token")
    page.find("input[name=token]").clear()
    page.type("input[name=token]", TOKENS["reader"], Keys.ENTER)
    page.wait_text(".who", "reader-1 (reader)")
    page.driver.refresh()                       # it is kept for this tab
    page.wait_text(".who", "reader-1")
    assert page.stored() == {}
    assert TOKENS["reader"] not in page.driver.current_url
    page.press("Sign out", "header")
    page.find("input[name=token]")
    page.driver.refresh()
    page.find("input[name=token]")


def test_a_token_that_is_withdrawn(browser, gateways, filled):
    gateway = gateways().start()
    browser.sign_in(gateway, TOKENS["reader"])
    gateway.tokens["reader"] = "another"
    gateway.reload()
    browser.wait_text(".error", "not valid any more")
    browser.errors()


def test_without_tokens_none_is_asked_for(browser, gateways, filled):
    gateway = gateways({"gateway": {"tokens": ""}}).start()
    browser.resize(WIDE)
    browser.open(gateway)
    browser.wait_text("main tbody", "cup")
    browser.wait_text(".pulse", "live")
    assert browser.buttons("header") == []
    assert browser.buttons("main") == ["Search"]
    assert browser.errors() == []


# ---- how it looks -----------------------------------------------------------

PAGES = [("#/stock", "Stock"), ("#/stock/cup", "cup"), ("#/orders", "Orders"),
         ("#/orders/order-2", "order-2"), ("#/failed", "Failed messages"),
         ("#/failed/1", "Message #1"), ("#/sales", "Flash sales"),
         ("#/sales/black-friday", "black-friday"), ("#/relays", "Relays"),
         ("#/hanging", "Orders that hang"), ("#/acts", "By hand"),
         ("#/report", "Report")]


@pytest.mark.parametrize("path, title", PAGES)
def test_each_page_is_open_to_all(page, gateway, path, title):
    """Wide and narrow, light and dark: axe finds nothing, and nothing sticks
    out."""
    page.sign_in(gateway, TOKENS["admin"])
    page.go(path, title)
    name = path.strip("#/").replace("/", "-")
    for width in (WIDE, NARROW):
        for scheme in ("light", "dark"):
            page.resize(width, scheme)
            page.picture(f"{name}-{width}-{scheme}")
            assert page.violations() == []
            assert page.overflow() <= 0


def acts(page):
    """The buttons of the page that do more than show."""
    return sorted(set(page.buttons("main")) - {
        "Search", "Show", "Show more", "Download", "Download CSV",
        "Orders have changed: show them"})


def figures(page):
    return dict(zip(page.text("main .figures dt").split("\n"),
                    page.text("main .figures dd").split("\n")))


def test_signing_in_and_dialogs_are_open_to_all(page, gateway):
    def check(name):
        for width in (WIDE, NARROW):
            for scheme in ("light", "dark"):
                page.resize(width, scheme)
                page.picture(f"{name}-{width}-{scheme}")
                assert page.violations() == []
                assert page.overflow() <= 0
        page.resize(WIDE)

    page.sign_in(gateway, TOKENS["admin"])
    page.press("Sign out", "header")
    page.type("input[name=token]", "wrong", Keys.ENTER)
    page.wait_text(".error", "No such token")
    check("sign-in")
    page.sign_in(gateway, TOKENS["admin"])
    page.go("#/sales", "Flash sales")
    page.press("Open a sale")
    page.fill(activity_id="a", product_id="none", quantity="1")
    page.press("Open", "dialog")
    page.find("dialog .error:not([hidden])")
    check("dialog")


# ---- each act of a person ---------------------------------------------------

# what an administrator may do on a page; on all others there is nothing to do
OFFERED = {
    "#/stock": ["Receive pieces"],
    "#/stock/cup": ["Correct", "Move", "Receive", "Set"],
    "#/orders/order-1": ["Roll back"],              # confirmed
    "#/orders/order-8": ["Release", "Roll back"],   # reserved
    "#/failed/1": ["Discard", "Handled", "Retry"],
    "#/sales": ["Open a sale"],
    "#/sales/black-friday": ["Close the sale"]}


def test_only_administrators_are_offered_acts(page, gateway, role):
    page.sign_in(gateway, TOKENS[role])
    for path, title in [*PAGES, ("#/orders/order-1", "order-1"),
                        ("#/orders/order-8", "order-8")]:
        page.go(path, title)
        assert acts(page) == (OFFERED.get(path, []) if role == "admin"
                              else []), path


def test_stock_is_searched(page, gateway, role):
    page.sign_in(gateway, TOKENS[role])
    assert {"coat-blue", "coat-red", "cup", "lamp"} <= set(rows(page))
    page.type("input[name=search]", "COAT", Keys.ENTER)
    wait_until(lambda: rows(page) == ["coat-blue", "coat-red"], 30, page.text)
    assert page.driver.current_url.endswith("#/stock?search=COAT")
    page.driver.refresh()                       # the search is in the address
    page.find("main tbody tr")
    assert rows(page) == ["coat-blue", "coat-red"]
    page.find("input[name=search]").clear()
    page.type("input[name=available_max]", "3", Keys.ENTER)
    wait_until(lambda: "coat-red" not in rows(page), 30, page.text)
    assert {"lamp", "sold-out"} <= set(rows(page))
    page.type("input[name=search]", "none", Keys.ENTER)
    page.wait_text(".empty", "Nothing fits")
    assert acts(page) == (["Receive pieces"] if role == "admin" else [])


def test_an_older_answer_is_void(page, gateway):
    """That of a search before the present one, which comes after it."""
    page.sign_in(gateway, TOKENS["reader"])
    page.driver.execute_script("""
        const real = window.fetch;
        window.fetch = async (path, init) => {
          if (!path.includes("search=lamp")) return real(path, init);
          await new Promise((resolve) => { window.letGo = resolve; });
          setTimeout(() => { window.over = true; }, 500);
          return real(path, init);
        };""")
    page.type("input[name=search]", "lamp", Keys.ENTER)
    wait_until(lambda: page.driver.execute_script("return !!window.letGo"), 30,
               page.text)
    page.find("input[name=search]").clear()
    page.type("input[name=search]", "coat", Keys.ENTER)
    wait_until(lambda: rows(page) == ["coat-blue", "coat-red"], 30, page.text)
    page.driver.execute_script("window.letGo()")
    wait_until(lambda: page.driver.execute_script("return window.over"), 30,
               page.text)
    assert rows(page) == ["coat-blue", "coat-red"]


def test_an_address_that_is_no_encoded_text(page, gateway):
    page.sign_in(gateway, TOKENS["reader"])
    page.go("#/orders/%", "Not found")
    page.go("#/%", "Stock")


def test_stock_is_live(page, gateway, app, product):
    page.sign_in(gateway, TOKENS["reader"])
    page.type("input[name=search]", product, Keys.ENTER)
    page.wait_text("main tbody", product)
    assert page.text("main tbody td.num").split("\n")[:2] == ["10", "10"]
    assert app.reserve(product, 4, f"live-{product}").status == 201
    wait_until(lambda: page.text("main tbody td.num").split("\n")[:3] ==
               ["6", "10", "4"], 30, page.text)
    page.go(f"#/stock/{product}", product)
    assert app.post(f"/orders/live-{product}/confirm").status == 200
    wait_until(lambda: figures(page) == {"Available": "6", "On hand": "6",
                                         "Reserved": "0"}, 30, page.text)
    page.wait_text("main", "confirmed")
    assert page.all("main svg .series")


def test_stock_is_changed_by_administrators(page, gateway, product):
    page.sign_in(gateway, TOKENS["admin"])
    page.press("Receive pieces")
    page.submit_new("Receive", product_id=f"new-{product}", quantity="7",
                    reference="note-1")
    page.wait_text("h1", f"new-{product}")
    page.press("Correct")
    page.fill(delta="-9", reason="broken")
    page.press("Correct", "dialog")
    page.wait_text("dialog .error", "stock")    # fewer than there are
    page.submit("Correct", delta="-2", reason="broken")
    wait_until(lambda: figures(page)["On hand"] == "5", 30, page.text)
    page.wait_text("main tbody", "broken")
    page.press("Set")
    page.submit("Set", on_hand="20")
    wait_until(lambda: figures(page)["On hand"] == "20", 30, page.text)
    page.press("Move")
    page.submit_new("Move", quantity="4", to_location="north")
    page.wait_text("main", "north")
    assert figures(page)["On hand"] == "20"


def test_stock_that_changed_meanwhile_is_not_set(page, gateway, admin, product,
                                                 shop):
    """Between reading the version and setting, another one corrects it."""
    page.sign_in(gateway, TOKENS["admin"])
    page.go(f"#/stock/{product}", product)
    page.driver.execute_script(
        "const real = window.fetch; window.fetch = async (path, init) => {"
        " if (init.method === 'POST') { window.fetch = real;"
        " const {'If-Match': _, ...headers} = init.headers;"
        " await real(path.replace('/set', '/adjust'), {...init, headers,"
        " body: '{\"delta\": 1, \"reason\": \"found\"}'}); }"
        " return real(path, init); }")
    page.press("Set")
    page.fill(on_hand="3")
    page.press("Set", "dialog")
    page.wait_text("dialog .error", "changed")
    page.press("Cancel", "dialog")
    assert shop.level(product)[0] == 11


def test_orders_are_found(page, gateway, role):
    page.sign_in(gateway, TOKENS[role])
    page.go("#/orders", "Orders")
    assert "sale-8" in rows(page)
    page.type("input[name=search]", "order-1", Keys.ENTER)
    wait_until(lambda: rows(page) == ["order-1", "order-10", "order-11"], 30,
               page.text)
    page.find("select[name=state]").send_keys("confirmed")
    wait_until(lambda: rows(page) == ["order-1"], 30, page.text)
    page.click("main tbody a")
    page.wait_text("h1", "order-1")
    assert "pay-1" in page.text("main")
    assert acts(page) == (["Roll back"] if role == "admin" else [])
    kinds = [one.text for one in page.all(".timeline .kind")]
    assert kinds.index("movement of stock") < kinds.index("event to Kafka")
    assert "StockConfirmed" in page.text(".timeline .what")


def test_orders_are_settled_by_administrators(page, gateway, app, product,
                                              shop):
    for order in ("a", "b"):
        assert app.reserve(product, 2, f"{order}-{product}").status == 201
    page.sign_in(gateway, TOKENS["admin"])
    page.go(f"#/orders/a-{product}", f"a-{product}")
    assert acts(page) == ["Release", "Roll back"]
    page.press("Release")
    page.submit("Release", reason="she called")
    page.wait_text("main tbody", "released")
    assert "she called" in page.text("main")
    assert acts(page) == []
    assert app.post(f"/orders/b-{product}/confirm").status == 200
    page.go(f"#/orders/b-{product}", f"b-{product}")
    page.press("Roll back")
    page.submit("Roll back", reason="lost")
    page.wait_text("main tbody", "rolled back")
    assert shop.level(product) == (10, 0, 10)
    assert shop.value("SELECT actor FROM stock_movements WHERE order_id = %s "
                      "AND kind = 'rolled_back'", (f"b-{product}",)) == (
        "gateway_admin/admin-1")
    page.go("#/orders/none", "Not found")


def test_orders_that_hang(page, gateway, app, product, shop, role):
    order = f"hangs-{product}"
    assert app.reserve(product, 1, order).status == 201
    shop.sql("UPDATE pgstock_internal.reservation SET created_at = now() -"
             " interval '2 hours' WHERE order_id = %s", (order,))
    page.sign_in(gateway, TOKENS[role])
    page.go("#/orders", "Orders")
    page.click("main a.button")
    page.wait_text("h1", "Orders that hang")
    page.wait_text("main tbody", order)
    assert "neither paid nor canceled" in page.text("main tbody")
    assert page.find("nav a[aria-current]").text == "Orders"
    assert acts(page) == []
    page.click(f"main tbody a[href$='{order}']")
    page.wait_text("h1", order)
    if role == "reader":
        assert acts(page) == []
        return
    page.press("Roll back")
    page.submit("Roll back", reason="it hung")
    page.wait_text("main tbody", "rolled back")
    page.go("#/hanging", "Orders that hang")
    assert order not in page.text("main")


def test_failed_messages_are_looked_at(page, gateway, shop, role):
    number = fail(shop, json.dumps({"order_id": EVIL, "items": []}))
    page.sign_in(gateway, TOKENS[role])
    page.wait_text("nav", "Failed messages")
    page.find("nav .count:not([hidden])")
    page.go("#/failed", "Failed messages")
    assert f"#{number}" in rows(page)
    page.find("select[name=state]").send_keys("waiting")
    wait_until(lambda: rows(page) and f"#{number}" not in rows(page), 30,
               page.text)
    page.type("input[name=order_id]", "order-98", Keys.ENTER)
    wait_until(lambda: len(rows(page)) == 1, 30, page.text)
    page.click("main tbody a")
    page.wait_text("h1", "Message #")
    assert '"order_id": "order-98"' in page.text("pre")
    assert acts(page) == (["Discard", "Retry"] if role == "admin" else [])
    # an attacker chooses ids: they are text
    page.go(f"#/failed/{number}", f"Message #{number}")
    assert page.text("main dl .id").count(EVIL) == 1
    assert not page.all("main img") and page.driver.title != "1"
    page.click("main dl a")                     # there are only messages of it
    page.wait_text("h1", EVIL)
    page.wait_text(".timeline .kind", "failed message")


def test_failed_messages_as_a_file(page, gateway, shop, run):
    fail(shop, '{"order_id": "=cmd", "items": []}')
    for i in range(1001):                       # more than a page
        fail(shop, '{"order_id": "many", "items": []}')
    folder = make_dir(f"{run}/downloads")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {
        "behavior": "allow", "downloadPath": folder})
    page.sign_in(gateway, TOKENS["reader"])
    page.go("#/failed", "Failed messages")
    page.press("Download CSV")
    path = f"{folder}/failed-messages.csv"
    wait_until(lambda: os.path.exists(path), 30, page.text)
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert "'=cmd" in [row["order_id"] for row in found]
    assert [row["order_id"] for row in found].count("many") == 1001
    assert len({row["id"] for row in found}) == len(found)
    page.go("#/report", "Report")
    page.press("Download")
    wait_until(lambda: glob.glob(f"{folder}/pgstock-*.json"), 30, page.text)
    with open(glob.glob(f"{folder}/pgstock-*.json")[0],
              encoding="utf-8") as file:
        assert json.load(file)["failures"]["open"] > 0


def test_failed_messages_are_acted_on(page, gateway, shop):
    first, second, third = (fail(shop, '{"items": 1}') for _ in range(3))
    page.sign_in(gateway, TOKENS["admin"])
    page.go(f"#/failed/{first}", f"Message #{first}")
    page.press("Handled")
    page.submit("Mark as handled", note="called the customer")
    page.wait_text("main dl", "handled")
    assert "gateway_admin/admin-1" in page.text("main dl")
    assert acts(page) == ["Discard", "Retry"]
    page.go(f"#/failed/{second}", f"Message #{second}")
    page.press("Retry")
    page.submit("Retry", reason="fixed")
    page.wait_text("main dl .state", "waiting")
    page.go(f"#/failed/{third}", f"Message #{third}")
    page.press("Discard")
    page.submit("Discard", reason="a test")
    page.wait_text("main dl .state", "discarded")
    assert acts(page) == []
    page.go("#/acts", "By hand")
    for action, number, reason in (
            ("mark_failed_event_handled", first, "called the customer"),
            ("retry_failed_event", second, "fixed"),
            ("discard_failed_event", third, "a test")):
        row = next(row.text for row in page.all("main tbody tr")
                   if f"id {number}" in row.text.split("\n")[0]
                   or f"id {number} " in row.text)
        assert action in row and reason in row
    page.type("input[name=search]", "called the CUSTOMER", Keys.ENTER)
    wait_until(lambda: len(page.all("main tbody tr")) == 1, 30, page.text)


def test_flash_sales(page, gateway, app, product, role):
    sale = f"{role}-{product}"
    admin = gateway.client("admin")
    page.sign_in(gateway, TOKENS[role])
    page.go("#/sales", "Flash sales")
    assert acts(page) == (["Open a sale"] if role == "admin" else [])
    if role == "admin":
        page.press("Open a sale")
        page.submit("Open", activity_id=sale, product_id=product, quantity="5",
                    per_user_limit="2")
    else:
        admin.post("/sales", {"activity_id": sale, "product_id": product,
                              "quantity": 5, "per_user_limit": 2})
        page.go(f"#/sales/{sale}")
    page.wait_text("h1", sale)
    page.wait_text("main dl", "open")
    assert acts(page) == (["Close the sale"] if role == "admin" else [])
    for user in ("ann", "bob"):
        assert app.post(f"/sales/{sale}/purchase", {
            "user_id": user, "order_id": f"{sale}-{user}",
            "quantity": 2}).status == 201
    wait_until(lambda: (figures(page).get("Sold"), figures(page).get("Left")) ==
               ("4", "1"), 30, page.text)
    wait_until(lambda: page.all("main svg .bar"), 30, page.text)
    page.go("#/sales", "Flash sales")
    assert sale in rows(page)
    page.go(f"#/sales/{sale}", sale)
    if role == "admin":
        page.press("Close the sale")
        page.press("Close", "dialog")
    else:
        admin.call("DELETE", f"/sales/{sale}")
    page.wait_text("main dl", "closed")
    wait_until(lambda: page.all("main svg .bar"), 30, page.text)
    assert acts(page) == []
    admin.close()


def test_a_closed_sale(page, gateway, app, product, admin):
    """How it sold stays to be seen; of one without a purchase it says so."""
    sale = f"closed-{product}"
    for name in (sale, f"{sale}-none"):
        admin.post("/sales", {"activity_id": name, "product_id": product,
                              "quantity": 2, "per_user_limit": 2})
    assert app.post(f"/sales/{sale}/purchase", {
        "user_id": "ann", "order_id": sale, "quantity": 2}).status == 201
    for name in (sale, f"{sale}-none"):
        assert admin.call("DELETE", f"/sales/{name}").status == 200
    page.sign_in(gateway, TOKENS["reader"])
    page.go(f"#/sales/{sale}", sale)
    page.wait_text("main dl", "closed")
    wait_until(lambda: page.all("main svg .bar"), 30, page.text)
    assert "now 2" in page.find("main svg").get_attribute("aria-label")
    assert figures(page)["Sold"] == "2"
    assert page.violations() == []
    page.go(f"#/sales/{sale}-none", f"{sale}-none")
    page.wait_text(".empty", "Nothing was sold")


def test_the_report(page, gateway, role):
    page.sign_in(gateway, TOKENS[role])
    page.go("#/report", "Report")
    found = figures(page)
    assert int(found["Orders placed"]) >= 21
    assert int(found["Pieces sold"]) >= 24
    assert page.all("main svg .bar")
    text = page.text("main")
    for part in ("coat-red", "order-created", "insufficient",
                 "reserve_orders"):
        assert part in text
    for name in ("since", "until"):
        page.driver.execute_script(
            "document.querySelector(`input[name=${arguments[0]}]`).value ="
            " '2020-01-02'", name)
    page.press("Show")
    page.wait_text("main", "Nothing was sold")
    assert [one.get_attribute("value") for one in page.all(
        "input[type=date]")] == ["2020-01-02"] * 2
    assert figures(page)["Orders placed"] == "0"


def test_relays(page, gateway, shop, product, start_relay, role):
    page.sign_in(gateway, TOKENS[role])
    page.go("#/relays", "Relays")
    page.wait_text("main .error", "No relay leads")
    assert figures(page)["Leader"] == "none"
    wait_until(lambda: figures(page).get("Events that wait", "0") != "0", 20,
               page.text)
    relay = start_relay(conninfo=shop.conninfo(), topics=["order-created"])
    wait_until(lambda: figures(page).get("Events that wait") == "0", 60,
               page.text)
    page.wait_text("main .table", "leads")
    assert "pgstock-relay" in figures(page)["Leader"]
    assert not page.all("main .error")
    page.picture(f"relay-{role}")
    assert page.violations() == []
    relay.terminate()
    page.wait_text("main .error", "No relay leads")
    assert acts(page) == []


# ---- the keyboard -----------------------------------------------------------

def test_the_keyboard_alone(page, gateway, product):
    page.sign_in(gateway, TOKENS["admin"])
    page.driver.refresh()
    page.find("main tbody")
    page.type("body", Keys.TAB)
    assert page.focused().text == "Skip to the page"
    page.press_key(Keys.ENTER)
    assert page.focused().tag_name == "h1"
    page.press_key(Keys.TAB)
    assert page.focused().text == "Receive pieces"
    page.press_key(Keys.ENTER)
    page.find("dialog[open]")
    assert page.focused().get_attribute("name") == "product_id"
    page.press_key(Keys.ESCAPE)
    wait_until(lambda: not page.all("dialog"), 30, page.text)
    assert page.focused().text == "Receive pieces"
    page.press_key(Keys.ENTER)
    page.press_key(product, Keys.TAB, "3", Keys.ENTER)
    page.wait_text("h1", product)
    assert figures(page)["On hand"] == "13"
    wait_until(lambda: page.focused().tag_name == "h1", 30, page.text)
    page.find("nav a[href='#/report']").send_keys(Keys.ENTER)
    page.wait_text("h1", "Report")
    assert page.find("nav a[aria-current]").text == "Report"


# ---- ids of any text --------------------------------------------------------

def test_ids_are_text(page, gateway, admin, app):
    """An attacker chooses the ids of orders."""
    product, order = f"{EVIL}/\u202e&%2F", f"'\"><script>{EVIL}"
    path = f"/products/{quote(product, safe='')}/stock"
    assert admin.post(f"{path}/receive", {"quantity": 5}).status == 200
    assert app.post("/orders", {"order_id": order, "user_id": EVIL, "items": [
        {"product_id": product, "quantity": 1}]}).status == 201
    page.sign_in(gateway, TOKENS["reader"])
    page.type("input[name=search]", EVIL, Keys.ENTER)
    wait_until(lambda: len(page.all("main tbody a")) == 1, 30, page.text)
    page.click("main tbody a")
    page.wait_text("h1", EVIL)
    page.click("main tbody a[href^='#/orders']")
    page.wait_text("h1", order)
    assert EVIL in page.text("main .figures")
    for path in ("#/orders", "#/report"):
        page.go(path)
        assert not page.all("main img, main script")
    assert page.driver.title == "Report – pgstock"


def test_the_policy_holds(page, gateway):
    """What a mistake in these files would let in is refused by the
    browser."""
    page.sign_in(gateway, TOKENS["reader"])
    for script in ("document.body.innerHTML = '<b>x</b>'",
                   "document.body.append(Object.assign("
                   "document.createElement('script'), {text: 'x'}))"):
        with pytest.raises(JavascriptException, match="TrustedHTML|"
                                                      "TrustedScript"):
            page.driver.execute_script(script)
    assert page.driver.execute_async_script(
        "const done = arguments[0]; fetch('http://localhost:1/')"
        ".then(() => done('reached'), (e) => done(e.name))") == "TypeError"
    assert any("Content Security Policy" in line for line in page.errors())
