# SPDX-License-Identifier: PostgreSQL
"""A shop's messages in all the disorder that a consumer must expect, and a
model of their effects.

stream() makes the messages from a seed. Shop is the model: it gets the events
in the order of the outbox, and computes the event that each message must
cause. The order of the outbox is that of the locks, so the model's stock must
equal the database's.
"""

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Optional

CREATED, PAID, UNPAID, CANCELLED, FAILED = TOPICS = (
    "order-created", "payment-success", "payment-failed", "order-cancelled",
    "order_failed")
PRODUCTS = 40
STRANGE = "unheard-of"              # a product without a level

# The possible ends of an order, and their weights.
FATES = {
    (PAID,): 45, (): 12, (UNPAID,): 8, (CANCELLED,): 8, (FAILED,): 6,
    (PAID, FAILED): 6, (PAID, CANCELLED): 5, (CANCELLED, PAID): 3,
    (UNPAID, PAID): 2, (PAID, PAID): 2, (PAID, UNPAID): 1, (CREATED, PAID): 2,
}
POISON = (b"", None, b"no", b"[1]", b'{"order_id": {}}', b'{"items": []}',
          b'{"order_id": "o-1", "orderId": "o-2"}', b'{"order_id": "\xff"}',
          b'{"order_id": "o-1", "event_version": 99}', b"\xef\xbb\xbf{}",
          b'{"order_id": "a\\u0000"}', b'{"order_id": 1, "order_id": 1}')


@dataclass
class Message:
    """One message; its copies are the same message."""
    number: int
    topic: str
    order: str
    event_id: Optional[str]         # None: named by its place
    poison: Optional[bytes] = None
    is_poison: bool = False
    lines: dict = field(default_factory=dict)
    paid: bool = True
    late: bool = False              # is held until its order has expired

    def value(self):
        if self.is_poison:
            return self.poison
        body = {"order_id": self.order}
        if self.number % 2 and self.event_id:
            body["event_id"] = self.event_id
        if self.topic == CREATED:
            body["items"] = [{"product_id": product, "quantity": quantity}
                             for product, quantity in self.lines.items()]
        if self.topic == PAID:
            body["payment_id"] = f"payment-{self.number}"
            body["status"] = "paid" if self.paid else "declined"
        return json.dumps(body).encode()

    def headers(self):
        headers = [("number", str(self.number).encode())]
        if self.event_id and (self.is_poison or self.number % 2 == 0):
            headers.append(("ce_id", self.event_id.encode()))
        return headers


class Stream:
    """Messages with the places at which they are sent."""

    def __init__(self, seed, count):
        self.rng = random.Random(seed)
        self.messages = []
        self.sent = []              # (place, message)
        orders = 0
        while len(self.sent) < count:
            self.put_order(f"o-{orders}", 2.0 * orders)
            orders += 1
        self.sent.sort(key=lambda pair: pair[0])

    def one_in(self, n):
        return self.rng.random() < 1 / n

    def put(self, place, topic, order, **more):
        number = len(self.messages)
        named = self.rng.choice((f"e-{number}", f"e-{number}", None))
        message = Message(number, topic, order, named, **more)
        self.messages.append(message)
        self.sent.append((place, message))
        if self.one_in(20):
            self.sent.append((place + self.gap(), message))
        return message

    def gap(self):
        """A few messages, now and then many."""
        return self.rng.expovariate(1 / 200 if self.one_in(20) else 1 / 20)

    def put_order(self, order, place):
        lines = {f"p{self.rng.randrange(PRODUCTS)}": self.rng.randint(1, 3)
                 for _ in range(self.rng.choice((1, 1, 1, 2, 3)))}
        if self.one_in(100):
            lines[STRANGE] = 1
        (fate,) = self.rng.choices(list(FATES), FATES.values())
        born = place
        for topic in fate:
            place += self.gap()
            self.put(place, topic, order, lines=lines if topic == CREATED
                     else {}, late=self.one_in(50), paid=not self.one_in(50))
        if fate and self.one_in(20):
            born = place + self.gap()           # behind all the others
        if not self.one_in(500):                # or it never arrives
            self.put(born, CREATED, order, lines=lines)
        if self.one_in(50):
            self.put(place, self.rng.choice(TOPICS), order, is_poison=True,
                     poison=self.rng.choice(POISON))


def when(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@dataclass
class Line:
    quantity: int
    state: str = "reserved"         # gone: expired


@dataclass
class Order:
    lines: dict
    state: str                      # of its lines, or refused
    expires: float = 0
    payment: Optional[int] = None   # the message that paid it, or failed to
    why: Optional[str] = None       # of one that was refused, or has no stock
    declined: bool = False          # and released for that: may be paid anew
    surplus: set = field(default_factory=set)   # messages to be refunded
    past: list = field(default_factory=list)    # [(until, state)]

    def is_due(self, now):
        return self.state == "reserved" and (
            self.expires <= now
            or any(line.state == "gone" for line in self.lines.values()))

    def seen(self, now):
        return "expired" if self.is_due(now) else self.state

    def become(self, state, now):
        self.past.append((now, self.state))
        self.state = state


class Shop:
    """The stock and the orders according to the contract."""

    def __init__(self, stock):
        self.on_hand = dict(stock)
        self.reserved = dict.fromkeys(stock, 0)
        self.holds = defaultdict(dict)          # product: {order: Order}
        self.orders = {}
        # those with a cancellation or failure that arrived after their end
        self.given_up = set()

    # Whether there is stock: due lines count as expired.
    def fits(self, lines, now):
        for product, quantity in lines.items():
            if product not in self.on_hand:
                return False
            free = self.on_hand[product] - self.reserved[product]
            if free < quantity:
                free += sum(order.lines[product].quantity
                            for order in self.holds[product].values()
                            if order.expires <= now)
            if free < quantity:
                return False
        return True

    def hold(self, name, product):
        order = self.orders[name]
        self.holds[product][name] = order
        self.reserved[product] += order.lines[product].quantity

    def let_go(self, name, product):
        order = self.holds[product].pop(name)
        self.reserved[product] -= order.lines[product].quantity

    def expire(self, event, now):
        """StockExpired: lines that were reserved and due."""
        name = event["order_id"]
        order = self.orders[name]
        for item in event["items"]:
            line = order.lines[item["product_id"]]
            assert order.state == line.state == "reserved", event
            assert order.expires <= now, event
            assert line.quantity == item["quantity"], event
            self.let_go(name, item["product_id"])
            line.state = "gone"

    def apply(self, message, now, event):
        """The event that this message must cause: its type, reason and lines;
        and its effect on the stock."""
        verb = {CREATED: self.created, PAID: self.paid, UNPAID: self.give_back,
                CANCELLED: self.give_back, FAILED: self.give_back}
        return verb[message.topic](message, now, event)

    def created(self, message, now, event):
        name, order = message.order, self.orders.get(message.order)
        if order is not None:
            state = order.seen(now)
            lines = ({p: line.quantity for p, line in order.lines.items()}
                     if state != "refused" else message.lines)
            if state in ("reserved", "confirmed"):
                return f"Stock{state.capitalize()}", None, lines
            return ("StockReserveFailed",
                    order.why if state == "refused" else state, lines)
        if not self.fits(message.lines, now):
            why = ("unknown_product" if STRANGE in message.lines
                   else "insufficient")
            self.orders[name] = Order({}, "refused", why=why)
            return "StockReserveFailed", why, message.lines
        self.orders[name] = Order(
            {p: Line(quantity) for p, quantity in message.lines.items()},
            "reserved", when(event["expires_at"]))
        for product in message.lines:
            self.hold(name, product)
        return "StockReserved", None, message.lines

    def paid(self, message, now, event):
        assert message.paid
        name, order = message.order, self.orders[message.order]
        lines = {p: line.quantity for p, line in order.lines.items()}
        released = order.state == "released"
        payable = order.state == "reserved" or released and order.declined
        if (payable and name in self.given_up
                and (event["event_type"], event.get("reason"))
                == ("StockShortfall", "released")):
            payable = False         # the cancellation was first
            order.why = "released"
        if not payable:
            assert order.payment != message.number, message
            assert message.number not in order.surplus, message
            order.surplus.add(message.number)
            if order.state == "confirmed":
                return "StockConfirmed", "paid_twice", lines
            return "StockShortfall", order.why or order.state, lines
        gone = {p: line.quantity for p, line in order.lines.items()
                if released or line.state == "gone"}
        why = ("expired" if order.is_due(now)
               or any(line.state == "gone" for line in order.lines.values())
               else "released")
        taken = self.fits(gone, now)
        for product, line in order.lines.items():
            if product not in gone:
                self.let_go(name, product)
            if taken:
                self.on_hand[product] -= line.quantity
                line.state = "reserved"
        order.become("confirmed" if taken else "shortfall", now)
        order.payment = message.number
        if taken:
            return "StockConfirmed", None, lines
        order.why = why
        return "StockShortfall", why, lines

    def give_back(self, message, now, _):
        name, order = message.order, self.orders[message.order]
        confirmed = order.state == "confirmed"
        assert confirmed and message.topic != UNPAID or (
            order.state == "reserved" and order.expires > now), (
            f"{message}: {order}")
        lines = {}
        for product, line in order.lines.items():
            if line.state == "gone":
                continue
            lines[product] = line.quantity
            if confirmed:
                self.on_hand[product] += line.quantity
            else:
                self.let_go(name, product)
        if message.topic == FAILED or confirmed:
            order.become("rolled_back", now)
            return "StockRolledBack", None, lines
        order.become("released", now)
        order.declined = message.topic == UNPAID
        return "StockReleased", None, lines

    def may_skip(self, message, reason, now):
        """Whether, at some moment not before `now`, the order's state was this
        reason to skip the message."""
        order = self.orders.get(message.order)
        if reason == "not_paid":
            return message.topic == PAID and not message.paid
        if order is None:
            return reason == "unknown_order" and message.topic != PAID
        states = {state for until, state in order.past if until >= now}
        states.add(order.state)
        if order.expires <= now or any(
                line.state == "gone" for line in order.lines.values()):
            states.add("expired")
        ended = states & {"released", "rolled_back", "expired", "shortfall"}
        if message.topic == PAID:
            # each payment has its one answer: this is a copy without an id
            return reason in ("already", "shortfall") and (
                order.payment == message.number
                or message.number in order.surplus)
        return (reason == "refused" and "refused" in states
                or reason == "confirmed" and "confirmed" in states
                and message.topic == UNPAID
                or reason == "already" and bool(ended))
