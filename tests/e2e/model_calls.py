# SPDX-License-Identifier: PostgreSQL
"""The calls of test_model's sessions: every function of the stock core, with
random arguments; each answer is compared with what the model expects."""

import json
import time
from collections import defaultdict

from model import (ACT, AGAIN, ALREADY, DUE, RETAKE, STATUS, Answer, Effect,
                   Reading)
from model_session import Session
from process import wait_until

PRODUCTS = [f"p{n}" for n in range(6)]
LOCATIONS = ["main", "east", "west"]
SOON = "3 milliseconds"         # a ttl that ends before the next call

SUPPLY = """
CREATE FUNCTION supply(command text, product text, OUT location text,
    OUT on_hand bigint, OUT reserved bigint, OUT available bigint,
    OUT version bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN QUERY SELECT l.location, l.on_hand, l.reserved, l.available,
        l.version FROM stock_levels l WHERE l.product_id = product;
END $$
"""


class Caller(Session):
    """A session, and every call that it makes."""

    weights = {"one": 25, "many": 14, "batch": 4, "confirm": 12, "release": 8,
               "rollback": 7, "give_back": 6, "extend": 5, "expire": 1,
               "receive": 8, "adjust": 3, "set_level": 1, "move": 3,
               "configure": 1, "verify": 0.1}

    # ---- Taking ----

    def pick_level(self):
        return self.random.choice(PRODUCTS), self.random.choice(LOCATIONS)

    def is_usable(self, order, anew):
        """Whether a call may name the order; anew: to reserve it."""
        return True

    def pick_order(self, anew=False):
        """One of our orders, usually a late one, or an unknown one; never one
        that is about to become due."""
        known = list(self.orders.lines)
        for _ in range(20):
            if not known or self.random.random() < 0.02:
                break
            order = self.random.choice(
                known[-30:] if self.random.random() < 0.8 else known)
            self.wait_due(order)
            if self.is_usable(order, anew):
                return order
        return f"unknown-{self.number}-{self.random.randrange(10**6)}"

    def wait_due(self, order):
        soon = time.time() + 10
        ends = [line.expires for line in self.orders.lines.get(order, ())
                if line.expires and line.expires < soon]
        if ends:
            wait_until(lambda: time.time() > max(ends) + 0.0002, 20,
                       "it is due", step=0.001)

    def new_name(self):
        self.names += 1
        return f"o-{self.number}-{self.names}"

    def pick_user(self):
        return self.random.choice([None, "ann"])

    def pick_request(self):
        """(order, user, {level: quantity}); now and then an earlier one."""
        if self.orders.lines and self.random.random() < 0.2:
            order = self.pick_order(anew=True)
            _, lines = self.orders.latest(order)
            asked = {line.level: line.quantity for line in lines}
            if asked and self.random.random() < 0.8:
                return order, lines[0].user, asked
        else:
            order = self.new_name()
        asked = {self.pick_level(): self.random.randint(1, 6)
                 for _ in range(self.random.randint(1, 3))}
        return order, self.pick_user(), asked

    def pick_terms(self):
        return (self.random.choice([None, None, "0", "1 hour", SOON]),
                self.random.choice(["auto", "auto", "pessimistic",
                                    "optimistic", "advisory"]))

    def pick_key(self):
        """(key, the answer stored for it), mostly none."""
        dice = self.random.random()
        if dice < 0.85:
            return None, None
        keys = list(self.orders.keys)
        key = self.random.choice(keys) if dice > 0.92 and keys else None
        if key and self.is_usable(self.orders.keys[key][0][0], True):
            return key, self.orders.keys[key]
        return f"k-{self.new_name()}", None

    def one(self):
        self.reserve(whole=False)

    def many(self):
        self.reserve(whole=True)

    def reserve(self, whole):
        raising = self.random.random() < 0.3
        order, user, asked = self.pick_request()
        key, stored = self.pick_key()
        if stored and self.random.random() < 0.7:
            order, user, asked, was_whole = stored[0]
            whole = was_whole if len(asked) == 1 else True
            asked = dict(asked)
        self.wait_due(order)
        if not whole:
            level = self.random.choice(sorted(asked))
            asked = {level: asked[level]}
        ttl, strategy = self.pick_terms()
        verb = "reserve" if raising else "try_reserve"
        if whole:
            query = f"SELECT * FROM {verb}_order(%s, %s, %s, %s, %s, %s)"
            args = [order, items_of(asked, self.random), user]
        else:
            ((product, location), quantity), = asked.items()
            query = (f"SELECT * FROM {verb}_stock(%s, %s, %s, %s, %s,"
                     " %s, %s, %s)")
            args = [product, quantity, order, user, location]
        rows, code = self.call(query, args + [ttl, strategy, key], asked)
        request = (order, user, tuple(sorted(asked.items())), whole)
        if stored and stored[0][:3] != request[:3]:
            assert code == "SK007", code
            return
        if stored:
            self.check_stored(*stored[1:], rows, code, raising)
            return
        rule = self.orders.reserve_rule(order, asked, user, whole, self.asked)
        answers = answers_of(rows)
        self.check_reserve(rule, order, user, asked, answers, code, raising)
        if key and answers:
            self.orders.put(self.orders.keys, key, (
                request, answers, self.orders.latest(order)[0]))

    def stored_now(self, attempt, answer):
        """The present form of a stored answer: the rest of its line, while
        that lives. Two answers where another line may have taken its place."""
        again = answer._replace(replayed=True)
        if answer.granted == 0:
            return {again}
        line, = (line for line in self.orders.lines[answer.order]
                 if (line.attempt, line.level) == (attempt, answer.level))
        ended = {again._replace(granted=0, status=status) for status in (
            "released", "rolled_back", "returned", "expired", "shortfall")}
        if line.live(self.asked):
            left = again._replace(granted=min(again.granted, line.quantity))
            return {left} | (ended if line.expires != answer.expires
                             else set())
        status = line.column(self.asked)
        return {a for a in ended
                if a.status == ("expired" if status == DUE else status)}

    def check_stored(self, stored, attempt, rows, code, raising):
        if raising and stored[0].granted == 0:
            assert code in ("SK001", "SK002"), code
            return
        wanted = [self.stored_now(attempt, a) for a in stored]
        if code is not None:
            assert raising and code in ("SK005", "SK006"), code
            assert any(a.status == "expired" if code == "SK006" else
                       a.granted == 0 and a.status != "expired"
                       for each in wanted for a in each), (code, wanted)
            return
        assert all(a in each for a, each in zip(answers_of(rows), wanted,
                                                strict=True)), wanted
        assert not raising or all(a.granted for a in answers_of(rows))

    def check_reserve(self, rule, order, user, asked, answers, code, raising):
        if rule == "SK007":
            assert code == "SK007", (code, answers)
            return
        if code:
            assert raising and rule == "take" and code == "SK001", (rule, code)
            product = self.error.diag.message_detail.split('"')[1]
            wanted = int(self.error.diag.message_detail
                         .split("wanted ")[1].split(",")[0])
            levels = [level for level in asked if level[0] == product
                      and f'"{level[1]}"' in self.error.diag.message_primary]
            assert len(levels) == 1 and asked[levels[0]] == wanted
            self.refused(levels[0], wanted, taking=True)
            return
        assert {a.level: a.requested for a in answers} == asked
        assert {a.order for a in answers} == {order}
        assert [a.level for a in answers] == sorted(asked)
        if rule == "replay":
            lines = {line.level: line
                     for line in self.orders.latest(order)[1]}
            for a in answers:
                assert (a.granted, a.status, a.replayed, a.expires) == (
                    a.requested, "granted", True, lines[a.level].expires), a
                self.read(a)
            return
        assert not any(a.replayed for a in answers)
        if answers[0].granted == 0:
            assert not raising
            assert all(a.granted == 0 for a in answers)
            words = {a.status for a in answers}
            assert "insufficient" in words, words
            assert words <= {"insufficient", "refused"}, words
            for a in answers:
                self.read(a)
            return
        for a in answers:
            assert a.granted == a.requested, a
            assert a.status in ("granted", "backordered"), a
            self.read(a, taken=True)
        for level, version, effect in self.orders.take(
                order, asked, user, answers, self.asked):
            self.effect(level, version, effect)

    def batch(self):
        requests = {}
        for _ in range(self.random.randint(1, 5)):
            order, user, asked = self.pick_request()
            requests[order] = (user, asked)
        for order in requests:
            self.wait_due(order)
        levels = {level for _, asked in requests.values() for level in asked}
        rows, code = self.call("SELECT * FROM reserve_orders(%s)", [json.dumps(
            [{"order_id": order, "items": json.loads(
                items_of(asked, self.random)),
              **({"user_id": user} if user else {})}
             for order, (user, asked) in requests.items()])], levels)
        assert code is None, code
        by_order = defaultdict(list)
        for a in answers_of(rows):
            by_order[a.order].append(a)
        assert list(by_order) == list(requests)
        for order, (user, asked) in requests.items():
            rule = self.orders.reserve_rule(order, asked, user, True,
                                            self.asked)
            if rule != "SK007":
                self.check_reserve(rule, order, user, asked, by_order[order],
                                   None, False)
                continue
            for a in by_order[order]:
                assert (a.granted, a.status) == (0, "already"), a

    # ---- The end of an order ----

    def confirm(self):
        self.settle("confirm", "SELECT * FROM confirm_stock(%s, 'P')")

    def release(self):
        self.settle("release", "SELECT * FROM release_stock(%s, 'R', %s)")

    def rollback(self):
        self.settle("rollback", "SELECT * FROM rollback_stock(%s, 'B', %s)")

    def give_back(self):
        restock = self.random.random() < 0.7
        self.settle("return", "SELECT * FROM return_stock(%s, %s,"
                    f" {restock})", restock)

    def extend(self):
        ttl = self.random.choice(["1 hour", "0", SOON])
        self.settle("extend", "SELECT * FROM extend_reservation(%s,"
                    f" '{ttl}')")

    def settle(self, verb, query, restock=True):
        order = self.pick_order()
        items = None
        _, lines = self.orders.latest(order)
        if query.count("%s") == 2 and lines and self.random.random() < 0.3:
            items = {line.level: self.random.randint(1, line.quantity)
                     for line in self.random.sample(
                         lines, self.random.randint(1, len(lines)))}
            if self.random.random() < 0.03:
                items[self.pick_level()] = 7
        args = [order]
        if query.count("%s") == 2:
            args.append(items and items_of(items, self.random))
        rows, code = self.call(query, args, {line.level for line in lines})
        rule, shares = self.orders.settle_rule(verb, order, items, self.asked)
        answers = answers_of(rows)
        if rule in (ACT, RETAKE, ALREADY, AGAIN):
            assert code is None, (rule, code)
            self.check_settle(verb, rule, order, shares, answers, restock)
        elif rule == "unknown_order":
            assert [(a.order, a.product, a.status) for a in answers] == [
                (order, None, "unknown_order")]
        else:
            assert code == rule, (code, rule)

    def check_settle(self, verb, rule, order, shares, answers, restock):
        assert ({a.level: a.requested for a in answers}
                == {line.level: quantity for line, quantity in shares})
        words = {a.status for a in answers}
        assert len(words) == 1
        word, = words
        if rule in (ALREADY, AGAIN):
            assert word == ("already" if rule == ALREADY else "shortfall")
            assert all(a.replayed for a in answers)
            for a in answers:
                self.read(a._replace(status=None))
            return
        assert not any(a.replayed for a in answers)
        assert word == STATUS[verb] or (rule == RETAKE and word == "shortfall")
        if word == "shortfall":
            assert not any(a.granted for a in answers)
            self.note("shortfall", None, [(a.level, Reading(
                a.version, self.floors[a.level], self.asked, self.given,
                a.available, "shortfall", a.requested, order=order))
                for a in answers])
            for a in answers:
                self.see(a.level, a.version)
        else:
            assert all(a.granted == a.requested for a in answers)
            for a in answers:
                self.read(a._replace(status=None))
        for level, version, effect in self.orders.settle(
                verb, order, shares, answers, restock, self.asked):
            self.effect(level, version, effect)

    def expire(self):
        rows, code = self.call("SELECT expire_reservations(%s)",
                               [self.random.randint(1, 20)], ())
        assert code is None and rows[0][0] <= 20

    # ---- What is on hand ----

    def supply(self, query, args, product):
        """Run it and read the product's levels; {location: Reading}."""
        rows, code = self.call(
            "SELECT * FROM supply(%s, %s)",
            [self.cur.mogrify(query, args).decode(), product],
            [(product, location) for location in LOCATIONS])
        found = {}
        for location, on_hand, reserved, available, version in rows or ():
            level = (product, location)
            found[location] = Reading(
                version, self.floors[level], self.asked, self.given, available,
                on_hand=on_hand, reserved=reserved)
            self.note("reading", level, found[location])
            self.see(level, version)
        return found, code

    def receive(self):
        (product, location), quantity = self.pick_level(), self.random.randint(
            1, 12)
        found, code = self.supply("SELECT receive_stock(%s, %s, %s, 'note')",
                                  [product, quantity, location], product)
        assert code is None, code
        self.effect((product, location), found[location].version,
                    Effect("received", None, quantity, 0))

    def adjust(self):
        product, location = self.pick_level()
        delta = self.random.choice([-8, -3, -1, 1, 2])
        found, code = self.supply("SELECT adjust_stock(%s, %s, 'count', %s)",
                                  [product, delta, location], product)
        if code:
            assert code == "SK001" and delta < 0
            self.refused((product, location), -delta, taking=False)
            return
        self.effect((product, location), found[location].version,
                    Effect("adjusted", None, delta, 0))

    def set_level(self):
        """Compare and set: with a known version, which may be old."""
        product, location = self.pick_level()
        on_hand = self.random.randint(0, 40)
        version = self.floor((product, location))
        given = self.random.choice([None, version])
        found, code = self.supply("SELECT set_stock(%s, %s, %s, %s)",
                                  [product, on_hand, given, location], product)
        if code == "SK011":
            assert given is not None
            return
        if code:
            assert code == "SK001", code
            return
        assert given in (None, found[location].version - 1), "not as expected"
        self.effect((product, location), found[location].version,
                    Effect("set", None, None, 0, on_hand=on_hand))

    def move(self):
        product = self.random.choice(PRODUCTS)
        here, there = self.random.sample(LOCATIONS, 2)
        quantity = self.random.randint(1, 8)
        found, code = self.supply("SELECT move_stock(%s, %s, %s, %s)",
                                  [product, quantity, here, there], product)
        if code:
            assert code == "SK001", code
            self.refused((product, here), quantity, taking=False)
            return
        for location, delta in ((here, -quantity), (there, quantity)):
            self.effect((product, location), found[location].version,
                        Effect("moved", None, delta, 0))

    def configure(self):
        product = self.random.choice(PRODUCTS)
        safety, limit = (self.random.choice([None, None, -1, 2, 5])
                         for _ in range(2))
        found, code = self.supply("SELECT configure_product(%s, %s, %s)",
                                  [product, safety, limit], product)
        if code:
            assert code == "SK001" and limit is not None, code
            return
        for location in LOCATIONS:
            self.note("setting", (product, location),
                      (found[location].version, (safety, limit)))

    def verify(self):
        """It holds at every moment, whichever calls are under way."""
        rows, code = self.call("SELECT * FROM verify_stock(%s)",
                               [self.random.choice([None] + PRODUCTS)], ())
        assert code is None and rows == [], rows


def items_of(asked, rng):
    """Items as JSON, in any order, now and then one in two parts."""
    items = []
    for (product, location), quantity in asked.items():
        parts = [quantity]
        if quantity > 1 and rng.random() < 0.2:
            parts = [1, quantity - 1]
        for part in parts:
            items.append({"product_id": product, "quantity": part,
                          **({"location": location} if location != "main"
                             or rng.random() < 0.5 else {})})
    rng.shuffle(items)
    return json.dumps(items)


def answers_of(rows):
    return [Answer(*row[:7], row[7] and row[7].timestamp(), *row[8:])
            for row in rows or ()]
