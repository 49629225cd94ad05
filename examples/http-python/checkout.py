# SPDX-License-Identifier: PostgreSQL
"""A shop's checkout over HTTP, by Python's own client.

Reads requests from standard input and prints an answer to each: see
../README.md.  GATEWAY_URL names the gateway, GATEWAY_TOKEN is its access token.
"""

import http.client
import json
import os
import random
import sys
import time
from urllib.parse import quote, urlsplit

PIECES_MAX = 5          # the shop's own rule: of one product in an order
TRIES = 8               # about 10 seconds in all
URL = urlsplit(os.environ["GATEWAY_URL"])
CONNECTION = {"http": http.client.HTTPConnection,
              "https": http.client.HTTPSConnection}[URL.scheme]


class Gateway:
    """A connection that is kept open, and opened again where it was lost."""

    def __init__(self):
        self.conn = CONNECTION(URL.netloc, timeout=30)

    def post(self, path, body, key=None):
        """Status and body of the answer, repeating what may be repeated.

        Without an answer it is unknown whether the request took effect: the
        same request, with the same order and key, takes effect once.
        """
        headers = {"Authorization": f"Bearer {os.environ['GATEWAY_TOKEN']}",
                   "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        for attempt in range(1, TRIES + 1):
            wait = random.uniform(0.5, 1) * 0.05 * 2 ** attempt
            try:
                self.conn.request("POST", path, json.dumps(body), headers)
                answer = self.conn.getresponse()
                text = answer.read()
                if answer.status not in (429, 503) or attempt == TRIES:
                    return answer.status, json.loads(text)
                wait = max(wait, int(answer.headers["Retry-After"] or 0))
            except (OSError, http.client.HTTPException):
                self.conn.close()
                if attempt == TRIES:
                    raise
            time.sleep(wait)
        return None


def checkout(gateway, order, user, key, items):
    """Reserve the lines of an order: all of them or none."""
    status, answer = gateway.post("/orders", {
        "order_id": order, "user_id": user, "items": json.loads(items)}, key)
    if status not in (200, 201):
        return refusal(answer)
    for line in answer["lines"]:
        if line["granted"] > PIECES_MAX:
            gateway.post(f"/orders/{quote(order, safe='')}/release",
                         {"reason": "too many"})
            return (f"at most {PIECES_MAX} of {line['product_id']}, "
                    "nothing was reserved")
    return "reserved " + ", ".join(
        f"{line['granted']} of {line['product_id']}"
        for line in answer["lines"]) + again(answer)


def pay(gateway, order, payment):
    """The payment has arrived: sell what is reserved, or refund it."""
    status, answer = gateway.post(f"/orders/{quote(order, safe='')}/confirm",
                                  {"payment_id": payment})
    return "paid" + again(answer) if status == 200 else refusal(answer)


def again(answer):
    return ", as before" if answer["replayed"] else ""


def refusal(problem):
    """What to tell the customer; the type says what it is about."""
    kind = problem["type"].rsplit(":", 1)[1]
    if kind == "insufficient":
        return (f"not enough stock. Product \"{problem['product_id']}\": wanted"
                f" {problem['wanted']}, available {problem['available']}.")
    if kind == "shortfall":
        return "too late, refund the payment"
    return f"refused, {problem.get('sqlstate', kind)}: {problem['detail']}"


def main():
    gateway = Gateway()
    for line in sys.stdin:
        verb, *request = line.rstrip("\n").split("\t")
        work = {"checkout": checkout, "pay": pay}[verb]
        print(f"{request[0]}: {work(gateway, *request)}", flush=True)


main()
