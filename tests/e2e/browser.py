# SPDX-License-Identifier: PostgreSQL
"""A real Chromium in front of the console.

PGSTOCK_AXE names what dev/axe has fetched.  Screenshots are kept in
PGSTOCK_SCREENSHOTS, or else beside the servers of the run.
"""

import json
import os
import warnings

from selenium import webdriver
from selenium.common.exceptions import (NoSuchElementException,
                                        StaleElementReferenceException)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cluster import HOST, need
from process import make_dir, wait_until

WIDE, NARROW = 1280, 390
AWAY = (NoSuchElementException, StaleElementReferenceException)


class Browser:
    """One window; nothing but this machine can be reached from it."""

    def __init__(self, run):
        self.pictures = make_dir(os.environ.get(
            "PGSTOCK_SCREENSHOTS", os.path.join(run, "screenshots")))
        home = make_dir(os.path.join(run, "browser"))
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for switch in ("headless=new", "no-sandbox", "disable-gpu",
                       "disable-dev-shm-usage", "no-first-run",
                       "disable-background-networking",
                       "force-prefers-reduced-motion",
                       f"user-data-dir={home}/profile",
                       f"host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}"):
            options.add_argument(f"--{switch}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.driver = webdriver.Chrome(options=options, service=Service(
                "/usr/bin/chromedriver", env={**os.environ, "HOME": home}))
        self.base = None

    def close(self):
        self.driver.quit()

    # ---- how it looks ----

    def resize(self, width=WIDE, scheme="light", height=900):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def picture(self, name):
        path = os.path.join(self.pictures, f"{name}.png")
        assert self.driver.get_screenshot_as_file(path)

    def violations(self):
        """What axe finds, WCAG 2.2 AA and good practice."""
        with open(os.path.join(need("PGSTOCK_AXE"), "axe.min.js"),
                  encoding="utf-8") as file:
            self.driver.execute_script(file.read())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run().then((r) => done(r.violations.map((v) => [v.id,"
            " v.nodes.map((n) => n.html + ' ' + n.failureSummary)])));")
        return found

    def overflow(self):
        """By how many pixels the page is wider than the window."""
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth - innerWidth")

    # ---- what a person does ----

    def open(self, gateway, path="", wait="h1"):
        self.base = f"http://{HOST}:{gateway.port}/console/"
        self.driver.get(self.base + path)
        if wait:
            self.find(wait)

    def go(self, path, title=None, settled=True):
        """As a link does."""
        self.driver.execute_script("location.hash = arguments[0]", path)
        if title:
            self.wait_text("h1", title)
        if settled:
            self.settled()

    def settled(self):
        wait_until(lambda: not self.all("main[aria-busy]"), 30, self.text)

    def sign_in(self, gateway, token):
        self.driver.get(f"http://{HOST}:{gateway.port}/livez")
        self.driver.execute_script("sessionStorage.clear()")
        self.open(gateway, wait="input[name=token]")
        self.type("input[name=token]", token, Keys.ENTER)
        self.find("nav")
        self.settled()

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def find(self, selector):
        wait_until(lambda: self.all(selector), 30,
                   lambda: f"{selector}\n{self.text()}")
        return self.all(selector)[0]

    def type(self, selector, *keys):
        self.find(selector).send_keys(*keys)

    def fill(self, **values):
        """The fields of the dialog, by name."""
        for name, value in values.items():
            field = self.find(f"dialog [name={name}]")
            field.clear()
            field.send_keys(value)

    def click(self, selector):
        """Also what is shown anew meanwhile."""
        def clicked():
            try:
                self.find(selector).click()
            except AWAY:
                return False
            return True
        wait_until(clicked, 30, self.text)

    def buttons(self, scope="body"):
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].filter("
            "(one) => one.offsetParent).map((one) => one.innerText)",
            f"{scope} button")

    def press(self, label, scope="main"):
        def pressed():
            for one in self.all(f"{scope} button"):
                try:
                    if one.text == label and one.is_enabled():
                        one.click()
                        return True
                except AWAY:
                    pass
            return False
        wait_until(pressed, 30, lambda: f"{label}\n{self.text()}")

    def submit(self, label, **values):
        """Answers the dialog; it closes."""
        self.fill(**values)
        self.press(label, "dialog")
        wait_until(lambda: not self.all("dialog"), 30, self.text)
        self.settled()

    def submit_new(self, label, **values):
        """The same for what is to be made: it is submitted twice."""
        self.fill(**values)
        self.press(label, "dialog")
        self.wait_text("dialog .error", "yet")
        self.submit(label)

    def text(self, selector="body"):
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map("
            "(one) => one.innerText).join('\\n')", selector)

    def wait_text(self, selector, text):
        wait_until(lambda: text in self.text(selector), 30,
                   lambda: f"{text!r} in {selector}\n{self.text()}")

    def focused(self):
        return self.driver.switch_to.active_element

    def press_key(self, *keys):
        self.focused().send_keys(*keys)

    def errors(self):
        """What the page has complained about, but for requests that failed:
        a database that is away makes some."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")
                and "Failed to load resource" not in entry["message"]]

    def stored(self):
        return json.loads(self.driver.execute_script(
            "return JSON.stringify({...localStorage}) + '|' +"
            " document.cookie").split("|")[0])
