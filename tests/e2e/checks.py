# SPDX-License-Identifier: PostgreSQL
"""Properties that a consumer may rely on, checked on the records read."""

import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict

from kafkaio import delivered
from process import NotReached, wait_until

POSITION_MS = 200                   # how often the relay stores its position
SLACK_MS = 1000                     # two busy cores: acknowledgements are late


def first_occurrences(records):
    """Each event once, at its first occurrence; in the order of each
    partition."""
    seen = set()
    first = []
    for record in records:
        event = record.header("ce_id")
        if event not in seen:
            seen.add(event)
            first.append(record)
    return first


def duplicates(records):
    """The number of records that repeat an earlier event."""
    return len(records) - len(first_occurrences(records))


def of_type(records, event_type):
    return [record for record in records
            if record.header("ce_type") == event_type]


def wait_complete(db, tail, timeout=60):
    """Read until every event that the outbox holds now is read; on failure,
    report the missing events and the relay's position."""
    missing = {str(event) for (event,) in
               db.sql("SELECT event_id FROM stock_outbox")}
    read = 0

    def complete(records):
        nonlocal read
        missing.difference_update(r.header("ce_id") for r in records[read:])
        read = len(records)
        return not missing

    try:
        tail.until(complete, timeout, "every event of the outbox")
    except NotReached as error:
        rows = db.sql("SELECT seq, xid::text, type, created_at::text"
                      " FROM pgstock_internal.outbox"
                      " WHERE id = ANY (%s::uuid[]) ORDER BY seq",
                      (list(missing),))
        raise NotReached(
            f"not after {timeout} s: {len(rows)} events, first {rows[:5]},"
            f" last {rows[-5:]}; position "
            f"{db.sql('TABLE pgstock_internal.relay_position')}") from error


def wait_stored(db):
    """Wait until the position in the database is behind every event written:
    all of them, and whatever was sent before them, have been acknowledged."""
    wait_until(lambda: db.value(
        "SELECT n FROM pgstock_internal.pending()") == 0, 30,
        "the position is stored")


def check_order(records):
    """Among first occurrences, ce_sequence rises with the offset by key."""
    last = defaultdict(int)
    for record in first_occurrences(records):
        place = (record.topic, record.key)
        assert record.sequence > last[place], (
            f"{place}: {record.sequence} after {last[place]}")
        last[place] = record.sequence


def check_complete(db, records):
    """Kafka holds each event of the outbox, and no other."""
    written = {str(event) for (event,) in
               db.sql("SELECT event_id FROM stock_outbox")}
    read = {record.header("ce_id") for record in records}
    assert written - read == set(), "events are missing in Kafka"
    assert read - written == set(), "Kafka has events that are not committed"


def stored_at_ms(db):
    """When the position that a restart resumes from was stored."""
    return db.value("SELECT floor(extract(epoch FROM stored_at) * 1000)::float8"
                    " FROM pgstock_internal.relay_position")


class Kills:
    """The time of each kill, and the position from which the relay then
    resumes. A kill excuses a repeat if the event was first appended between
    that kill's last position write (less the slack) and the time when the
    victim was up again: the sessions of a killed postmaster go on until they
    notice."""

    LOOKS = 100

    def __init__(self, db):
        self.db = db
        self.times = []
        self.ages = []              # of the position, and the most it may be
        self.bound = POSITION_MS + SLACK_MS
        self.back = 0               # when the last victim was up again

    def watch(self, kafka):
        """Look at the position's age while the relay streams. A position needs
        an acknowledgement and a commit: the longest that another client waits
        for both is the machine's delay, and not the relay's."""
        if "watch" not in kafka.topics():
            kafka.create_topics("watch", partitions=1)
        began = time.time() * 1000
        wait_until(lambda: stored_at_ms(self.db) > began, 60,
                   "a position is stored")
        out, delay, oldest = kafka.producer(), 0, 0
        for _ in range(self.LOOKS):
            began = time.time() * 1000
            out.produce("watch", b"")
            delivered(out)
            self.db.sql("SELECT pg_current_xact_id()")
            stored, now = stored_at_ms(self.db), time.time() * 1000
            oldest, delay = max(oldest, now - stored), max(delay, now - began)
        self.bound = POSITION_MS + SLACK_MS + delay
        self.ages.append((oldest, self.bound))

    def kill(self, action):
        """Run the action; read the position once the database answers."""
        killed = time.time() * 1000
        action()
        stored = stored_at_ms(self.db)
        self.ages.append((killed - max(stored, self.back), self.bound))
        self.back = time.time() * 1000
        self.times.append((min(stored, killed), self.back))

    def check(self, records):
        """For a relay that streamed before each kill, since the one before."""
        for age, bound in self.ages:
            assert age < bound, f"no position for {age} of {bound} ms"
        self.check_repeats(records)

    def check_repeats(self, records, flight_ms=0):
        """The topic's timestamps must be the broker's (LogAppendTime). Records
        in flight at a kill may be appended that long after the broker has
        appended anything again: by a relay that lives and has not noticed yet,
        or out of the socket of a dead one."""
        first_at = {r.header("ce_id"): r.timestamp_ms
                    for r in first_occurrences(records)}
        appended = sorted(r.timestamp_ms for r in records)
        seen = set()

        def landed_at(back):
            after = bisect_left(appended, back)
            if flight_ms and after < len(appended):
                return appended[after] + flight_ms
            return back

        spans = [(stored - SLACK_MS, landed_at(back) + SLACK_MS)
                 for stored, back in self.times]
        for record in records:
            event = record.header("ce_id")
            if event in seen:
                assert any(start <= first_at[event] <= end
                           for start, end in spans), (
                    f"repeated: {record}, first at {first_at[event]};"
                    f" kills: {self.times}")
            seen.add(event)


def check_all(db, tail):
    """Partitions are read one after another: the record that a test waits for
    may arrive before the rest."""
    wait_complete(db, tail)
    records = tail.read_to_end()
    check_complete(db, records)
    check_order(records)
    assert db.drift() == []


def audit(relay):
    """(events, missing, doubled, unknown) of all topics, by the relay's
    audit."""
    done = relay.command("audit")
    assert done.returncode in (0, 1), done.stderr
    topics = [tuple(map(int, counts)) for counts in re.findall(
        r"^topic .*: (\d+) events, .*; (\d+) missing, (\d+) doubled,"
        r" (\d+) unknown$", done.stdout, re.M)]
    assert topics, done.stdout
    total = tuple(map(sum, zip(*topics)))
    assert done.returncode == any(total[1:]), done.stdout
    if any(total[1:]):
        print(done.stdout[-2000:])
    return total


def inbox_results(db, **where):
    """{result: number of incoming messages}"""
    condition = " AND ".join(f"{name} = %s" for name in where) or "true"
    return Counter(dict(db.sql(
        f"SELECT result, count(*) FROM stock_inbox WHERE {condition}"
        " GROUP BY 1", tuple(where.values()))))
