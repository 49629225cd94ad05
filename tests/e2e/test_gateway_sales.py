# SPDX-License-Identifier: PostgreSQL
"""Flash sales over HTTP: what is refused from memory is refused rightly, and
what a purchase has with it is published."""

import json
import os
import random
import threading
import time
from contextlib import closing, contextmanager

import pytest

pytestmark = pytest.mark.xdist_group("gateway")

SEEN_WITHIN = 0.010             # what a release gives back, in seconds
OPERATIONS = int(os.environ.get("PGSTOCK_OPERATIONS") or 2000)


def metric(gateway, name):
    """A metric without labels."""
    return float(next(line for line in gateway.get("/metrics")[1].splitlines()
                      if line.startswith(f"pgstock_gateway_{name} ")
                      ).split()[1])


@contextmanager
def hammered(pair, path, quantity):
    """Two clients of each gateway that want more than there is, without end:
    the gateways know the sale.  Yields their answers' statuses."""
    statuses, stop = [], threading.Event()

    def hammer(gateway, name):
        n = 0
        with closing(gateway.client()) as client:
            while not stop.is_set():
                n += 1
                answer = client.post(path, {
                    "user_id": f"{name}-{n}", "order_id": f"{name}-{n}",
                    "quantity": quantity})
                statuses.append((answer.status, answer.problem))

    threads = [threading.Thread(target=hammer, args=(gateway, f"bot-{i}-{j}"))
               for i, gateway in enumerate(pair) for j in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Sale:
    """The model: the orders that hold a piece, and since when the sale has had
    one left.  It makes all changes, one after another."""

    def __init__(self, name, quota):
        self.name = name
        self.quota = quota
        self.live = {}                  # order: when it expires, or infinite
        self.bought = {}                # order: when, and by which client
        self.free_since = 0.0           # a piece; no matter while there is none
        self.serial = 0

    def expire(self):
        """What is due counts as free from its time on."""
        for order, due in list(self.live.items()):
            if due <= time.time():
                self.give_back(order, due)

    def give_back(self, order, at):
        if len(self.live) == self.quota:
            self.free_since = at
        del self.live[order]

    def purchase(self, client, order):
        sent = time.time()
        answer = client.post(f"/sales/{self.name}/purchase", {
            "user_id": f"user-{order}", "order_id": order})
        return sent, answer

    def buy(self, client):
        """A piece for a new user: while there was one for long enough, it must
        be granted; while there is none, it must not."""
        self.serial += 1
        order = f"{self.name}-{self.serial}"
        while True:
            self.expire()
            full, since = len(self.live) == self.quota, self.free_since
            soon = min(self.live.values(), default=float("inf"))
            sent, answer = self.purchase(client, order)
            if answer.status == 201:
                assert not full or time.time() >= soon, "sold what was sold"
                self.live[order] = float("inf")
                self.bought[order] = time.time(), client
                self.repeat(client, order)
                return
            assert (answer.status, answer.problem) == (409, "insufficient")
            if full:
                return
            assert sent < since + SEEN_WITHIN, (
                f"sold out, {sent - since:.4f} s after a piece was left")

    def buy_for_a_moment(self, conn):
        """In SQL, a reservation that soon expires."""
        self.expire()
        if len(self.live) == self.quota:
            return
        self.serial += 1
        order = f"{self.name}-{self.serial}"
        cursor = conn.cursor()
        cursor.execute(
            "SET pgstock.reservation_ttl = '1s'; SELECT status,"
            " extract(epoch FROM expires_at)::float8"
            " FROM purchase_flash_sale(%s, %s, %s)",
            (self.name, f"user-{order}", order))
        status, due = cursor.fetchone()
        assert status == "granted"
        self.live[order] = due

    def lasting_order(self):
        """One that does not expire, or None."""
        return random.choice([order for order, due in self.live.items()
                              if due == float("inf")] or [None])

    def release(self, conn, client):
        """By SQL or by HTTP."""
        self.expire()
        order = self.lasting_order()
        if order is None:
            return
        if random.random() < 0.5:
            conn.cursor().execute("SELECT release_stock(%s)", (order,))
        else:
            assert client.post(f"/orders/{order}/release").status == 200
        self.give_back(order, time.time())

    def repeat(self, client, order=None):
        """A purchase that was granted is answered so again, whatever is left:
        by the same gateway at once, by the other one soon."""
        self.expire()
        order = order or self.lasting_order()
        while order is not None:
            sent, answer = self.purchase(client, order)
            at, by = self.bought[order]
            if answer.status == 200:
                return
            assert by is not client and sent < at + SEEN_WITHIN, answer.text


def test_a_sale_is_sold_out_only_while_it_is(gateways, product, admin, shop):
    """Random purchases and releases, over two gateways and in SQL, while bots
    keep what the gateways know of the sale fresh."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    random.seed(seed)
    sale = Sale(f"model-{product}", 2)
    admin.post("/sales", {"activity_id": sale.name, "product_id": product,
                          "quantity": sale.quota, "per_user_limit": 3})
    pair = [gateways().start(), gateways().start()]
    with closing(shop.connect()) as conn, hammered(
            pair, f"/sales/{sale.name}/purchase", 3) as statuses:
        conn.autocommit = True
        clients = [gateway.client() for gateway in pair]
        for _ in range(OPERATIONS):
            client = random.choice(clients)
            choice = random.random()
            if choice < 0.5:
                sale.buy(client)
            elif choice < 0.55:
                sale.buy_for_a_moment(conn)
            elif choice < 0.75:
                sale.release(conn, client)
            elif choice < 0.9:
                sale.repeat(client)
            else:
                for _ in range(random.randrange(20)):   # a look, or none
                    client.get("/livez")
        for client in clients:
            client.close()
    assert set(statuses) == {(409, "insufficient")}
    answered = sum(metric(gateway, "sold_out_answers_total")
                   for gateway in pair)
    assert answered > len(statuses) / 4, "memory was of no use"


def test_the_answer_from_memory_is_the_database_s(gateway, app, admin, product):
    sale = f"same-{product}"
    admin.post("/sales", {"activity_id": sale, "product_id": product,
                          "quantity": 1, "per_user_limit": 1})

    def buy(user, quantity=1):
        return app.post(f"/sales/{sale}/purchase", {
            "user_id": user, "order_id": f"{sale}-{user}",
            "quantity": quantity})

    assert buy("ann").status == 201
    first = buy("bob")
    before = metric(gateway, "sold_out_answers_total")
    deadline = time.time() + 20
    while metric(gateway, "sold_out_answers_total") == before:
        answer = buy("bob")
        assert time.time() < deadline
    assert answer.json == first.json
    assert dict(answer.headers, Date="") == dict(first.headers, Date="")
    # what only the database can tell
    assert buy("ann").status == 200
    assert buy("cid", 2).problem == "user-limit"
    assert admin.call("DELETE", f"/sales/{sale}").status == 200
    closed = time.time()
    while (answer := buy("dan")).problem == "insufficient":
        assert time.time() < closed + 1
    assert answer.problem == "sale-not-open"


def test_the_attributes_of_a_purchase(app, admin, product, shop):
    """They are published as in SQL: with the digits that were sent, and without
    what looks like a card."""
    sale = f"sale-{product}"
    admin.post("/sales", {"activity_id": sale, "product_id": product,
                          "quantity": 5})

    def buy(user, attributes):
        answer = app.post(f"/sales/{sale}/purchase", (
            '{"user_id": "%s", "order_id": "%s-%s", "attributes": %s}'
            % (user, sale, user, attributes)).encode())
        return answer, [found for found, in shop.sql(
            "SELECT (payload->'attributes')::text FROM stock_outbox "
            "WHERE key = %s", (f"{sale}-{user}",))]

    answer, found = buy("ann", '{"price": 9.90, "card_number": "1", '
                               '"to": {"attributes": ["\\u00e9"]}}')
    assert answer.status == 201, answer.text
    assert found and all(json.loads(one) == {
        "price": 9.9, "to": {"attributes": ["é"]}} for one in found)
    assert all("9.90" in one for one in found)
    for user, attributes in (("bob", "{}"), ("cid", "null")):
        answer, found = buy(user, attributes)
        assert answer.status == 201, answer.text
        assert found and set(found) == {None}
    for attributes in ("[]", "1", '"{}"'):
        answer, found = buy("dan", attributes)
        assert (answer.status, answer.problem, found) == (400, "invalid", [])
        assert answer.json["detail"] == '"attributes" must be an object'
