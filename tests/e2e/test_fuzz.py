# SPDX-License-Identifier: PostgreSQL
"""P3: whatever bytes a message consists of, the process lives and the message
ends as the contract defines.

Messages of every built-in topic, of a registered handler and of none, with
damaged members and bytes, are applied by the real extension, built with the
sanitizers. The expected result of each is computed a second time here, from
the text of the contract and with Python's JSON parser. Databases of other
encodings than UTF8 lack characters, which may make a message poison there.

PGSTOCK_MESSAGES is the number of messages, PGSTOCK_SEED selects them.
"""

import hashlib
import json
import os
import random
import re
import struct
import sys
from contextlib import closing
from datetime import datetime

import pytest

from mixed import TOPICS
from mutant import Sanitized

pytestmark = pytest.mark.proof

MESSAGES = int(os.environ.get("PGSTOCK_MESSAGES") or 10_000)
ENCODINGS = ("UTF8", "LATIN1", "EUC_JP", "SQL_ASCII")
PARTS = ("payment-failed", "order-cancelled")     # may name a part of an order
DEPTH_MAX = 2048
sys.setrecursionlimit(4 * DEPTH_MAX)    # the parser's, which nests
OWN, UNHANDLED = "mine", "without-handler"
QUEUES = "an earlier message of its key waits"
OPTIONS = json.dumps({
    "dlq_topic": "{topic}_dlq", "retry_delays_ms": [10000],
    "order_wait_ms": 900000, "dedup_retention_ms": 604800000, "group": "fuzz"})

# ---- making messages

# Written as they stand: not every one is JSON, or a time.
TIMES = ("1769860800000", "253402300800000", "-5", '"2026-01-31T12:00:00Z"',
         '"2026-01-31t23:59:60.9999999999+14:00"', '"2026-02-30T12:00:00Z"',
         '"2026-01-31 12:00:00-23:59"', '"2026-01-31 12:00:00-99:00"',
         '"2026-1-31T12:00:00Z"', '"2026-01-31T-1:00:00Z"',
         '"2026-01-31TT12:00:00Z"', '"2026-01-31T12:00:00.5e300Z"',
         '"2026-01-31T12:00:00.Z"', '"0000-01-01T00:00:00Z"',
         '"2026-01-31T12:00:00"', '"9999-12-31T23:59:60Z"',
         '"2026-01-31T+1: 2:+3Z"', '"2026-01-31T12:00:00+-1:00"',
         '"2026-01-31T12:00:00+24:00"', '"2026-01-31T12:00:00Z "')
RAW = (*TIMES, "null", "true", "0", "-1", "1", "-0", "9007199254740992",
       "9007199254740993", "9223372036854775807", "9223372036854775808",
       "-9223372036854775809", "1.5", "3.0", "1e6", "1E-7", "1e400", "NaN",
       "-Infinity", "01", "+1", ".5", "[]", "{}", "[[]]", '{"a": {"a": 1}}',
       '{"a": 1, "a": 1}', '""', '"x"', '"a\\u0000b"', '"\\ud800"',
       '"\\ud83d\\ude00"', '"\\udc00x"', '"日本"', '"\\u65e5"',
       '"é\U0001f600"', '"\\/"', '"\\x"', '"\t"', "'x'",
       f'"{"x" * 255}"', f'"{"x" * 256}"', f'"{"é" * 128}"', "[" * 3000,
       "[" * 2000 + "]" * 2000, "[" * 2100 + "]" * 2100, '"paid"', '"failed"',
       '[{"product_id": "book", "quantity": 1}]', "\ufeff", "\0", "2")
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
NAMES = ("event_id", "eventId", "event_type", "eventType", "event_version",
         "timestamp", "order_id", "orderId", "user_id", "userId", "payment_id",
         "paymentId", "status", "reason", "failed_reason", "failedReason",
         "trace_id", "traceId", "items", "productQuantityMap", "product_id",
         "productId", "quantity", "location", "unknown", "", "é", "日", "a\\\\",
         "\\u006frder_id")


class Maker:
    """Messages from a seed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def members(self):
        """The members of a valid message, each value as its text."""
        rng = self.rng
        order_id = rng.choice(('"o-%d"', "%d")) % rng.randint(1, 300)
        members = {"order_id": order_id}
        if rng.random() < 0.7:
            members["event_id"] = f'"e-{rng.randint(1, 3000)}"'
        if rng.random() < 0.5:
            members["items"] = (
                '[{"product_id": "book", "quantity": %d}, {"productId": 7,'
                ' "quantity": 1, "location": "main"}]' % rng.randint(1, 3))
        else:
            members["productQuantityMap"] = '{"book": 1, "7": 2}'
        return members

    def text(self):
        rng = self.rng
        members = list(self.members().items())
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            place = rng.randrange(len(members) + 1)
            change = rng.random()
            if change < 0.2 and place < len(members):
                del members[place]
            elif change < 0.5 and place < len(members):
                members[place] = (members[place][0], rng.choice(RAW))
            elif change < 0.6 and place < len(members):
                name, value = members[place]
                old = rng.choice(("1", "book", "main", "quantity", "7"))
                members[place] = (name, value.replace(
                    old, rng.choice(RAW + NAMES), 1))
            else:
                name = rng.choice(NAMES)
                members.insert(place, (name, rng.choice(
                    TIMES if name == "timestamp" else RAW)))
        comma = rng.choice((",", ", ", "\r\n,\t"))
        return "{" + comma.join(f'"{name}": {value}'
                                for name, value in members) + "}"

    def value(self):
        rng = self.rng
        if rng.random() < 0.02:
            return rng.choice((None, b"", b"null", b"[]", b'"x"', b"7"))
        value = bytearray(self.text().encode("utf-8", "surrogatepass"))
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 4)):
                self.bend(value)
        return bytes(value)

    def bend(self, value):
        rng = self.rng
        place = rng.randrange(len(value) + 1)
        end = place + rng.choice((1, 1, 2, 30))
        new = rng.choice((b"", bytes([rng.randrange(256)]), b'"', b"{", b"]",
                          b",", b"\\", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80",
                          bytes(value[:30]), b"\0"))
        value[place:end if rng.random() < 0.5 else place] = new

    def headers(self):
        rng = self.rng
        packed, found = b"", {}
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            name = rng.choice((b"ce_id", b"event_id", b"id", b"ce_type", b"",
                               b"ce_source", b"traceparent", b"\xff",
                               "日".encode()))
            value = rng.choice((None, b"", b"h-%d" % rng.randint(1, 500),
                                b"x" * 255, b"x" * 256, b"\xff", b"a\0",
                                "日é\U0001f600".encode(), TRACE))
            packed += struct.pack(">H", len(name)) + name + (
                struct.pack(">i", -1) if value is None
                else struct.pack(">i", len(value)) + value)
            found.setdefault(name, value)
        return packed or None, found


# ---- their results

class Poison(Exception):
    """It can never be applied."""


def need(condition):
    if not condition:
        raise Poison


def load(value):
    """As strict as the contract."""
    def pairs(members):
        need(len({name for name, _ in members}) == len(members))
        for name, _ in members:
            text(name)
        return dict(members)

    def text(string):
        need("\0" not in string)
        need(not re.search("[\ud800-\udfff]", string))

    def integer(digits):
        need(-2**63 <= int(digits) < 2**63)
        return int(digits)

    def real(digits):
        need(abs(float(digits)) != float("inf"))
        return float(digits)

    def walk(node):
        todo = [(node, 1)]
        while todo:
            one, depth = todo.pop()
            need(depth <= DEPTH_MAX)
            if isinstance(one, str):
                text(one)
            elif isinstance(one, (dict, list)):
                inner = one.values() if isinstance(one, dict) else one
                todo.extend((each, depth + 1) for each in inner)

    need(value and not value.startswith(b"\xef\xbb\xbf"))
    try:
        root = json.loads(value.decode(), object_pairs_hook=pairs,
                          parse_int=integer, parse_float=real,
                          parse_constant=lambda _: need(False))
    except (ValueError, RecursionError) as error:
        raise Poison from error
    walk(root)
    return root


def same(one, other):
    """Equal, and 1 is neither true nor 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def member(node, snake, camel=None):
    camel = camel or snake
    if snake in node and camel in node:
        need(same(node[snake], node[camel]))
    return node.get(snake, node.get(camel))


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value):
    return is_integer(value) or (isinstance(value, str)
                                 and 0 < len(value.encode()) <= 255)


def check_time(value):
    if is_integer(value):
        need(0 <= value < 253402300800000)
    elif value is not None:
        found = re.fullmatch(
            r"(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?"
            r"([Zz]|[+-](\d\d):(\d\d))?", value, re.ASCII) if isinstance(
                value, str) else None
        need(found)
        date, hour, minute, second, _, _, zone_hour, zone_minute = (
            found.groups("0"))
        try:
            datetime.strptime(date, "%Y-%m-%d")
        except ValueError as error:
            raise Poison from error
        need(int(hour) < 24 and int(minute) < 60 and int(second) < 61)
        need(int(zone_hour) < 24 and int(zone_minute) < 60)


def check_lines(root):
    counts = member(root, "product_quantity_map", "productQuantityMap")
    need(("items" in root) != (counts is not None))
    lines = []
    if counts is None:
        need(isinstance(root["items"], list))
        for item in root["items"]:
            need(isinstance(item, dict))
            location = item.get("location")
            need(location in (None, "") or is_id(location))
            lines.append((member(item, "product_id", "productId"),
                          item.get("quantity")))
    else:
        need(isinstance(counts, dict))
        lines = list(counts.items())
    need(0 < len(lines) <= 1000)
    need(all(is_id(product) and is_integer(quantity) and 0 < quantity <= 2**53
             for product, quantity in lines))
    need(sum(quantity for _, quantity in lines) <= 2**53)


def check_members(topic, root, traced):
    need(isinstance(root, dict))
    need(is_id(member(root, "order_id", "orderId")))
    ids = [("event_id", "eventId"), ("user_id", "userId"),
           ("payment_id", "paymentId")]
    if not traced:                  # by a header, which is read instead
        ids.append(("trace_id", "traceId"))
    for names in ids:
        value = member(root, *names)
        need(value in (None, "") or is_id(value))
    reason = member(root, "failed_reason", "failedReason")
    for value in (member(root, "event_type", "eventType"), root.get("status"),
                  root.get("reason") if reason is None else reason):
        need(value is None or isinstance(value, str))
    version = member(root, "event_version", "eventVersion")
    need(version is None or is_integer(version) and version == 1)
    check_time(root.get("timestamp"))
    if topic == TOPICS[0] or topic in PARTS and (
            root.get("items") is not None or member(
                root, "product_quantity_map", "productQuantityMap")
            is not None):
        check_lines(root)


def outcomes(topic, value, found):
    """The possible results of a new message."""
    if topic == UNHANDLED:
        return {"skipped"}
    try:
        if topic == OWN:
            if value is not None:
                load(value)
            return {"applied"}
        need(value is not None)
        check_members(topic, load(value), found.get(b"traceparent") == TRACE)
    except Poison:
        return {"dead"}
    return {"applied"} if topic == TOPICS[0] else {"applied", "skipped",
                                                   "waiting"}


def holds(encoding, text):
    """Whether a database of that encoding has all of the characters; None: its
    conversion and Python's may differ on them."""
    if text.isascii() or encoding in ("UTF8", "SQL_ASCII"):
        return True
    try:
        text.encode("latin-1" if encoding == "LATIN1" else "euc-jp")
    except UnicodeEncodeError:
        return False
    return True if encoding == "LATIN1" else None


def header_id(found, name, encoding):
    """Readable where it can be; None: by the digest, or there is none."""
    value = found.get(name)
    if not value:
        return None
    try:
        text = value.decode()
    except ValueError:
        text = "\0"
    if len(value) <= 255 and "\0" not in text:
        if holds(encoding, text):
            return text
        if holds(encoding, text) is None:
            return ...
    return "sha256:" + hashlib.sha256(value).hexdigest()


def chosen_source(source):
    """One that could be a topic's name has a prefix that none has."""
    legal = (isinstance(source, str) and source not in (".", "..")
             and re.fullmatch(r"[A-Za-z0-9._-]{1,249}", source))
    return f"ce:{source}" if legal else source


def source_and_id(topic, found, encoding):
    """Of a message that names itself in its headers; ...: undetermined."""
    named = header_id(found, b"ce_id", encoding)
    if named:
        source = header_id(found, b"ce_source", encoding)
        return chosen_source(source) or topic, named
    return topic, (header_id(found, b"event_id", encoding)
                   or header_id(found, b"id", encoding))


def is_plain(value, encoding):
    """Whether the database's encoding makes no difference: it may lack a
    character, and it counts its own bytes."""
    return (value is None or encoding in ("UTF8", "SQL_ASCII")
            or value.isascii() and b"\\u" not in value)


def body_id(topic, value):
    """Of a valid message; None: it has none."""
    root = load(value) if value and topic != UNHANDLED else {}
    if topic == OWN:
        named = root.get("event_id", root.get("eventId")) if isinstance(
            root, dict) else None
        return str(named) if is_id(named) else None
    named = member(root, "event_id", "eventId")
    return None if named in (None, "") else str(named)


# ---- the run

@pytest.fixture(scope="module")
def pg(new_dir):
    server = Sanitized(new_dir("postgres-sanitized"))
    yield server.init().start()
    server.close()


@pytest.fixture(params=ENCODINGS)
def db(pg, request):
    database = pg.create_database(request.param.lower(),
                                  encoding=request.param)
    database.encoding = request.param
    yield database
    assert database.drift() == []
    database.drop()


class Inbox:
    """A session that applies messages as the relay's does, and those it has
    seen."""

    def __init__(self, cursor, seed, encoding):
        self.cursor = cursor
        self.encoding = encoding
        self.maker = Maker(seed)
        self.rng = self.maker.rng
        self.seen = set()
        self.waiting = set()        # topics and keys
        self.batches = 0

    def batch(self):
        rows = []
        for offset in range(self.rng.choice((1, 3, 40))):
            packed, found = self.maker.headers()
            key = self.rng.choice((None, b"", b"k-%d" % self.rng.randint(1, 40),
                                   b"\xff\0" * 4000))
            time = self.rng.choice((-1, 0, 1769860800000, 2**63 - 1, -2**63))
            topic = self.rng.choice((*TOPICS, *TOPICS, OWN, UNHANDLED))
            rows.append((topic, offset, time, key, self.maker.value(), packed,
                         found))
        return rows

    def apply(self, rows):
        """As many calls as needed."""
        while rows:
            self.cursor.execute(
                "SELECT sum(n) FROM pgstock_internal.relay_apply(%s::text[],"
                " %s::int[], %s::bigint[], %s::bigint[], %s::bytea[],"
                " %s::bytea[], %s::bytea[], %s)",
                ([row[0] for row in rows], [self.batches] * len(rows),
                 *([row[i] for row in rows] for i in range(1, 6)), OPTIONS))
            ((done,),) = self.cursor.fetchall()
            rows = rows[int(done):]

    def check(self, rows):
        self.cursor.execute(
            'SELECT topic, "offset", source, event_id, result, reason'
            " FROM stock_inbox WHERE partition = %s", (self.batches,))
        ends = {tuple(row[:2]): row[2:] for row in self.cursor.fetchall()}
        assert len(ends) == len(rows)
        dead = 0
        for topic, offset, _, key, value, _, found in rows:
            source, event_id, result, reason = ends[topic, offset]
            what = (f"{topic} {value and value[:500]} {found}: {source}"
                    f" {event_id} {result} {reason}")
            assert (result == "duplicate") == (
                (source, event_id) in self.seen), what
            self.seen.add((source, event_id))
            expected = outcomes(topic, value, found)
            plain = topic == UNHANDLED or is_plain(value, self.encoding)
            by, named = source_and_id(topic, found, self.encoding)
            assert by in (..., source), what
            if (named is None and expected != {"dead"} and topic != UNHANDLED
                    and plain):
                named = body_id(topic, value)
                # its offset and its fingerprint
                assert named or event_id.startswith(
                    f"{topic}/{self.batches}/{offset}/"), what
            assert named in (None, ..., event_id), what
            queues = reason == QUEUES
            if result not in ("duplicate", "dead"):
                assert queues == ((topic, key) in self.waiting), what
            assert (result == "duplicate" or result in expected
                    or queues and expected != {"dead"} or not plain), what
            if result == "waiting" and key:
                self.waiting.add((topic, key))
            dead += result == "dead"
            assert result != "dead" or reason, what
        return dead

    def turn(self):
        rows = self.batch()
        self.apply(rows)
        dead = self.check(rows)
        self.batches += 1
        return len(rows), dead


def test_any_bytes(db):
    """The process that begins is the one that ends."""
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed}")
    db.sql("SELECT receive_stock(p, 1000) FROM unnest('{book,7}'::text[]) p;"
           "CREATE FUNCTION taken(payload jsonb, message jsonb) RETURNS void"
           " LANGUAGE sql AS ''; SELECT register_handler('mine', 'taken')")
    total = dead = 0
    with closing(db.connect()) as session:
        session.autocommit = True
        session.set_client_encoding("UTF8")
        inbox = Inbox(session.cursor(), seed, db.encoding)
        messages = MESSAGES if db.encoding == "UTF8" else MESSAGES // 4
        while total < messages:
            done, more = inbox.turn()
            total, dead = total + done, dead + more
    assert db.sql("SELECT count(*), count(*) FILTER (WHERE archived_at IS NOT"
                  " NULL) FROM failed_order_archives") == [(dead, dead)]
    assert db.value("SELECT count(*) FROM stock_outbox"
                    " WHERE topic LIKE '%\\_dlq'") == dead
    assert messages / 10 < dead < messages
    print(f"{total} messages, {dead} of them dead")
