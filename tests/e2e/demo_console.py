# SPDX-License-Identifier: PostgreSQL
"""The console as a newcomer opens it, with the address and the token that
dev/demo has printed: demo_console.py ADDRESS TOKEN.  dev/stage calls it, after
the request that the demo shows, for the order that the address names."""

import os
import sys

from browser import NARROW, WIDE, Browser, Keys


def main():
    address, token = sys.argv[1:]
    page = Browser(os.environ["PGSTOCK_RUN"])
    try:
        page.resize(WIDE)
        page.driver.get(address)
        page.type("input[name=token]", token, Keys.ENTER)
        page.wait_text("h1", address.rpartition("/")[2])
        page.wait_text("main", "reserved")
        page.wait_text("main", "sneaker")
        page.picture("demo")
        page.resize(NARROW)
        assert page.overflow() <= 0
        page.driver.find_element("css selector", "nav a").click()
        page.wait_text("main tbody", "laces")
        assert page.errors() == []
    finally:
        page.close()


main()
