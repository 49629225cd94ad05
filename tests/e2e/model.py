# SPDX-License-Identifier: PostgreSQL
"""The contract of the stock functions, written a second time and more simply.

Orders is one session's knowledge of the orders that only it touches: the
answer to a call, as far as it depends on the order's own past. Whether there
was stock depends on other sessions. Ledger checks that at the end: every
answer names the version of the level that it describes, so the answers of all
sessions can be compared with the ledger, version by version.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

RESERVED, CONFIRMED, RELEASED, ROLLED_BACK, RETURNED, SHORTFALL = (
    "reserved", "confirmed", "released", "rolled_back", "returned",
    "shortfall")
DUE = "due"                     # reserved and due, or expired

# What each verb does in each state of a line: design section 2, row for row.
ACT, RETAKE, ALREADY, AGAIN = "act", "retake", "already", "again"
RULES = {
    "confirm": {RESERVED: ACT, DUE: RETAKE, CONFIRMED: ALREADY,
                RELEASED: "SK005", ROLLED_BACK: "SK005", RETURNED: "SK005",
                SHORTFALL: AGAIN},
    "release": {RESERVED: ACT, DUE: ALREADY, CONFIRMED: "SK005",
                RELEASED: ALREADY, ROLLED_BACK: ALREADY, RETURNED: ALREADY,
                SHORTFALL: ALREADY},
    "rollback": {RESERVED: ACT, DUE: ALREADY, CONFIRMED: ACT,
                 RELEASED: ALREADY, ROLLED_BACK: ALREADY, RETURNED: ALREADY,
                 SHORTFALL: ALREADY},
    "return": {RESERVED: "SK005", DUE: "SK005", CONFIRMED: ACT,
               RELEASED: "SK005", ROLLED_BACK: "SK005", RETURNED: "SK005",
               SHORTFALL: "SK005"},
    "extend": {RESERVED: ACT, DUE: "SK006", CONFIRMED: "SK005",
               RELEASED: "SK005", ROLLED_BACK: "SK005", RETURNED: "SK005",
               SHORTFALL: "SK005"},
}
STATUS = {"confirm": "confirmed", "release": "released",
          "rollback": "rolled_back", "return": "returned", "extend": "granted"}
EVENT = {"confirm": "StockConfirmed", "release": "StockReleased",
         "rollback": "StockRolledBack", "return": "StockReturned"}
KIND = {**STATUS, "extend": "extended"}


class Answer(NamedTuple):
    """A row of stock_result."""
    order: str
    product: Optional[str]
    location: Optional[str]
    requested: int
    granted: int
    status: str
    available: int
    expires: Optional[float]    # seconds since 1970
    version: int
    replayed: bool

    @property
    def level(self):
        return self.product, self.location


@dataclass(frozen=True)
class Line:
    """One product and location of an order."""
    attempt: int
    product: str
    location: str
    quantity: int
    state: str
    user: Optional[str]
    expires: Optional[float]
    since: float = 0.0          # when the call began that set its state

    @property
    def level(self):
        return self.product, self.location

    def rests_since(self, now):
        """It has not changed, or expired, after that; None: it still can
        expire."""
        if self.state == RESERVED and self.column(now) == RESERVED:
            return None
        return max(self.since, self.expires or 0.0) if (
            self.column(now) == DUE) else self.since

    def column(self, now):
        due = (self.state == RESERVED and self.expires is not None
               and self.expires <= now)
        return DUE if due else self.state

    def live(self, now):
        return self.column(now) in (RESERVED, CONFIRMED)


class Effect(NamedTuple):
    """An acknowledged change of a level. None: not known from here."""
    kind: str
    order: Optional[str]
    on_hand_delta: Optional[int]
    reserved_delta: Optional[int]
    expires: Optional[float] = None
    on_hand: Optional[int] = None       # after it


class Reading(NamedTuple):
    """The content of an answer about a level, and when the call began and
    ended."""
    version: int
    floor: int                  # the version that was known when it was asked
    asked: float
    given: float
    available: int
    status: Optional[str] = None
    wanted: int = 0
    on_hand: Optional[int] = None
    reserved: Optional[int] = None
    order: Optional[str] = None


class Refusal(NamedTuple):
    """An error that named the available quantity, at some version in a
    range."""
    first: int
    last: int
    wanted: int
    available: int
    taking: bool                # of a reservation, not of a correction


class Orders:
    """Orders of one session; changes can be undone back to a mark."""

    MISSING = object()

    def __init__(self):
        self.lines = {}         # order: [Line], every attempt
        self.keys = {}          # explicit key: (request, answers)
        self.events = {}          # order: [(event type, {(level, quantity)})]
        self.journal = []

    def put(self, mapping, key, value):
        self.journal.append((mapping, key, mapping.get(key, self.MISSING)))
        mapping[key] = value

    def back_to(self, mark):
        while len(self.journal) > mark:
            mapping, key, value = self.journal.pop()
            if value is self.MISSING:
                del mapping[key]
            else:
                mapping[key] = value

    def latest(self, order):
        lines = self.lines.get(order, ())
        attempt = max((line.attempt for line in lines), default=0)
        return attempt, [line for line in lines if line.attempt == attempt]

    def change(self, order, old, new):
        """Replace `old` by `new`; None: add a line."""
        lines = [line for line in self.lines.get(order, ()) if line != old]
        self.put(self.lines, order, lines + [new])

    def emit(self, order, event, items):
        said = self.events.get(order, ()) + ((event, frozenset(items)),)
        self.put(self.events, order, said)

    def reserve_rule(self, order, asked, user, whole, now):
        """'take', 'replay' or 'SK007'; asked is {level: quantity}."""
        _, lines = self.latest(order)
        live = {line.level: line for line in lines if line.live(now)}
        if not live:
            return "take"
        if not whole and not asked.keys() & live.keys():
            return "take"
        same = all(level in live and live[level].quantity == quantity
                   and live[level].user == user
                   for level, quantity in asked.items())
        return "replay" if same and (not whole or len(live) == len(asked)
                                     ) else "SK007"

    def take(self, order, asked, user, answers, now):
        """A reservation was granted; its effects by level and version."""
        attempt, lines = self.latest(order)
        if not any(line.live(now) for line in lines):
            attempt += 1
        effects = []
        for answer in answers:
            old = next((line for line in lines if line.attempt == attempt
                        and line.level == answer.level), None)
            self.change(order, old, Line(
                attempt, *answer.level, asked[answer.level], RESERVED, user,
                answer.expires, now))
            effects.append((answer.level, answer.version, Effect(
                "reserved", order, 0, asked[answer.level], answer.expires)))
        self.emit(order, "StockReserved", asked.items())
        return effects

    def settle_rule(self, verb, order, items, now):
        """(rule, [(line, quantity)]): the expected result; the rule is an
        SQLSTATE, one of the words above, or unknown_order."""
        _, lines = self.latest(order)
        if not lines:
            return ("unknown_order" if verb in ("release", "rollback")
                    else "SK004"), []
        shares = [(line, line.quantity) for line in lines]
        if items is not None:
            by_level = {line.level: line for line in lines}
            if any(level not in by_level or by_level[level].quantity < quantity
                   for level, quantity in items.items()):
                return "22023", []
            shares = [(by_level[level], quantity)
                      for level, quantity in items.items()]
        by_rule = defaultdict(list)
        for share in shares:
            by_rule[RULES[verb][share[0].column(now)]].append(share)
        if by_rule[ACT] or by_rule[RETAKE]:
            return (RETAKE if by_rule[RETAKE] else ACT,
                    by_rule[ACT] + by_rule[RETAKE])
        if by_rule["SK005"] and (verb != "confirm" or not (
                by_rule[ALREADY] or by_rule[AGAIN])):
            return "SK005", []
        for rule in (ALREADY, AGAIN, "SK006"):
            if by_rule[rule]:
                return rule, by_rule[rule]
        raise AssertionError("no edge")

    def forget(self, user):
        """The user is removed from all lines."""
        for order, lines in list(self.lines.items()):
            if any(line.user == user for line in lines):
                self.put(self.lines, order, [
                    replace(line, user=None) if line.user == user else line
                    for line in lines])

    def settle(self, verb, order, shares, answers, restock, now=0.0):
        """The verb acted; its effects by level and version."""
        effects = []
        by_level = {answer.level: answer for answer in answers}
        shortfall = answers[0].status == "shortfall"
        for line, quantity in shares:
            answer = by_level[line.level]
            on_hand = reserved = 0
            if verb == "confirm":
                on_hand = -quantity
            elif line.state == CONFIRMED and restock:
                on_hand = quantity
            if line.state == RESERVED and verb != "extend":
                reserved = None if verb == "confirm" else -quantity
            new = replace(line, state=SHORTFALL if shortfall else {
                "extend": RESERVED}.get(verb, STATUS[verb]), since=now)
            if verb == "extend":
                new = replace(line, expires=answer.expires, since=now)
            elif quantity < line.quantity:
                new = replace(line, quantity=line.quantity - quantity)
            self.change(order, line, new)
            if not shortfall:
                effects.append((line.level, answer.version, Effect(
                    KIND[verb], order, on_hand, reserved, new.expires)))
        items = {(line.level, quantity) for line, quantity in shares}
        if shortfall:
            self.emit(order, "StockShortfall", items)
        elif verb in EVENT:
            self.emit(order, EVENT[verb], items)
        return effects


class Ledger:
    """Every acknowledged change, compared with the database's ledger."""

    def __init__(self):
        self.effects = defaultdict(dict)    # level: {version: Effect}
        self.readings = defaultdict(list)
        self.refusals = defaultdict(list)
        self.settings = defaultdict(dict)   # level: {version: (safety, limit)}
        self.shortfalls = []                # [(level, Reading)] of one answer
        self.given_up = set()               # (level, version, order) of them
        self.expired = defaultdict(set)     # order: expired levels

    def add(self, entries):
        for kind, level, entry in entries:
            if kind == "effect":
                version, effect = entry
                assert version not in self.effects[level], (
                    f"two answers claim version {version} of {level}:"
                    f" {effect} and {self.effects[level][version]}")
                self.effects[level][version] = effect
            elif kind == "setting":
                version, setting = entry
                self.settings[level][version] = setting
            elif kind == "reading":
                self.readings[level].append(entry)
            elif kind == "refusal":
                self.refusals[level].append(entry)
            else:
                self.shortfalls.append(entry)
                self.given_up.update((level, reading.version, reading.order)
                                     for level, reading in entry)

    def check(self, movements, levels):
        """Both ledgers agree, and every answer was true.

        movements: {level: [(kind, order, on_hand_delta, reserved_delta, at)]}
        by id; levels: {level: (on_hand, reserved, version)}.
        """
        fits = {}
        for level in set(movements) | set(levels) | set(self.effects):
            walk = Walk(self, level, movements.get(level, []))
            walk.run()
            assert walk.state() == levels.get(level), level
            assert not self.effects[level], (
                f"acknowledged and not in the ledger, {level}:"
                f" {self.effects[level]}")
            fits[level] = walk.fits
        for group in self.shortfalls:
            assert not all(fits[level].get(id(reading), False)
                           for level, reading in group), (
                f"a shortfall, though everything could be taken: {group}")


class Walk:
    """One level from its first version to its last."""

    def __init__(self, ledger, level, movements):
        self.ledger, self.level = ledger, level
        self.movements = iter(movements)
        self.count = len(movements) + len(ledger.settings[level])
        self.effects = ledger.effects[level]
        self.settings = ledger.settings[level]
        self.on_hand = self.reserved = self.safety = self.limit = 0
        self.version = 0
        self.held = {}          # order: [quantity, expires]
        self.history = [(0, 0, 0, 0, 0)]
        self.fits = {}          # id of a shortfall's reading: it would do
        self.released = set()

    def state(self):
        return ((self.on_hand, self.reserved, self.version)
                if self.version else None)

    @property
    def free(self):
        return self.on_hand - self.reserved - self.safety

    def due(self, at):
        return sum(quantity for quantity, expires in self.held.values()
                   if expires is not None and expires <= at)

    def run(self):
        readings = defaultdict(list)
        for reading in self.ledger.readings[self.level]:
            readings[reading.version].append(reading)
        for group in self.ledger.shortfalls:
            for level, reading in group:
                if level == self.level:
                    readings[reading.version].append(reading)
        for reading in readings.pop(0, ()):
            assert reading.status == "unknown_product" and reading.floor == 0, (
                f"{self.level}: {reading}")
        while self.version < self.count:
            self.version += 1
            before = self.free
            if self.version in self.settings:
                self.set(*self.settings[self.version])
            else:
                self.move(*next(self.movements))
            for reading in readings.pop(self.version, ()):
                self.read(reading, before)
            soon = sum(quantity for quantity, expires in self.held.values()
                       if expires is not None)
            self.history.append((self.free + self.limit, soon, self.on_hand,
                                 self.reserved, self.version))
        assert not readings, f"no such version of {self.level}: {readings}"
        for refusal in self.ledger.refusals[self.level]:
            self.refuse(refusal)

    def set(self, safety, limit):
        if safety is not None:
            self.safety = max(0, safety)
        if limit is not None:
            self.limit = max(0, limit)

    def move(self, kind, order, on_hand_delta, reserved_delta, at):
        where = (f"{self.level} version {self.version}: {kind} {on_hand_delta}"
                 f" {reserved_delta} {order}")
        held = self.held.get(order)
        self.on_hand += on_hand_delta
        self.reserved += reserved_delta
        if kind == "expired":
            assert held and held[0] == -reserved_delta, where
            assert held[1] is not None and held[1] <= at, f"too early: {where}"
            assert on_hand_delta == 0
            self.ledger.expired[order].add(self.level)
        else:
            effect = self.claim(kind, order)
            assert effect, f"no answer claims it: {where}"
            wanted = effect.reserved_delta
            if wanted is None:          # it may have expired before
                wanted = -held[0] if held else 0
            assert (effect.kind, effect.order) == (kind, order), (
                f"{where}, answered {effect}")
            assert wanted == reserved_delta, f"{where}, answered {effect}"
            assert effect.on_hand_delta in (None, on_hand_delta), (
                f"{where}, answered {effect}")
            assert effect.on_hand in (None, self.on_hand), (
                f"{where}, answered {effect}")
        if order is not None:
            quantity = (held[0] if held else 0) + reserved_delta
            assert quantity >= 0, f"more given back than taken: {where}"
            self.held.pop(order, None)
            if quantity:
                expires = (effect.expires if kind in ("reserved", "extended")
                           else held[1])
                self.held[order] = (quantity, expires)
        taken = on_hand_delta < reserved_delta
        assert self.reserved >= 0, where
        assert not taken or self.on_hand - self.reserved >= -self.limit, (
            f"oversold: {where}")

    def claim(self, kind, order):
        """The answer that claims this version: a shortfall does where the line
        was still reserved."""
        key = (self.level, self.version, order)
        if kind == "released" and key in self.ledger.given_up:
            self.released.add(key)
            return Effect(kind, order, 0, None)
        return self.effects.pop(self.version, None)

    def read(self, reading, before):
        """An answer that names this version."""
        where = f"{self.level}: {reading}, free {self.free}"
        assert reading.version >= reading.floor, f"a look back: {where}"
        reach = self.free + self.limit
        if reading.status == "shortfall":
            held = (self.level, self.version, reading.order) in self.released
            self.fits[id(reading)] = held or (
                reach + self.due(reading.asked) >= reading.wanted)
        if reading.status in ("insufficient", "refused"):
            fits = reach + self.due(reading.asked) >= reading.wanted
            cannot = reach + self.due(reading.given) < reading.wanted
            if reading.status == "refused":
                assert not cannot, where
                assert reading.available == max(0, reach), where
            else:
                assert not fits, f"refused, though it fits: {where}"
                assert (max(0, reach + self.due(reading.asked))
                        <= reading.available
                        <= max(0, reach + self.due(reading.given))), where
            return
        assert reading.available == max(0, reach), where
        if reading.status == "granted" and reading.order:
            assert before >= reading.wanted, f"not backordered: {where}"
        if reading.status == "backordered":
            assert before < reading.wanted, f"backordered: {where}"
        if reading.on_hand is not None:
            assert (reading.on_hand, reading.reserved) == (
                self.on_hand, self.reserved), where

    def refuse(self, refusal):
        """An error's "available" was true at one of its versions."""
        for reach, soon, on_hand, reserved, _ in self.history[
                refusal.first:refusal.last + 1]:
            if not refusal.taking:
                if max(0, on_hand - reserved) == refusal.available:
                    return
            elif max(0, reach) <= refusal.available <= max(0, reach + soon):
                return
        raise AssertionError(f"never so: {self.level} {refusal}, "
                             f"{self.history[refusal.first:refusal.last + 1]}")
