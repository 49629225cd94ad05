# SPDX-License-Identifier: PostgreSQL
"""A request to end a transaction that arrives during a later one.

The race (KIP-890): a request to commit is delayed on its way, librdkafka loses
its connection or times out, repeats it in the same epoch of the producer, and
succeeds. Then the first request arrives and ends the transaction that is open
by now, at whatever point. Two faults may follow: a position is committed
without the events that it passes, which are lost; or events without their
position, which are published twice. The guards: the position is produced when
all its events have arrived (relay/outbox/decide.c), and a repeated commit
request ends the producer, so that its late request meets another epoch
(relay/kafka/transaction.c).
"""

import threading

import pytest

from checks import check_all, duplicates, wait_complete
from frames import END_TXN, PRODUCE, Frames
from load import Clients
from process import wait_until

TURNS = 2
TIMEOUT_MS = 1000
POSITION = "pgstock-position-"


class LateEnds:
    """Holds back a request to commit when `hold` is set, and forwards it at a
    place within the transaction after the one that it belongs to."""

    def __init__(self, how, place):
        self.how, self.place = how, place
        self.hold = threading.Event()
        self.released = 0
        self.held = None            # (link, request)
        self.again = False          # it was sent again
        self.mutex = threading.Lock()

    def on_request(self, link, request):
        with self.mutex:
            if request.number == END_TXN and self.hold.is_set():
                self.hold.clear()
                self.held, self.again = (link, request), False
                if self.how == "reset":
                    link.reset()
                return
            if self.held and self.held[0] is link:
                return              # behind it on the same connection
            if self.held and self.again and self.is_place(request):
                self.release(link, request)
                return
            self.again |= request.number == END_TXN
        link.send(request)

    def is_place(self, request):
        """Sent behind it, or before it at the end."""
        if self.place == "end":
            return request.number == END_TXN
        return (request.number == PRODUCE and
                request.names(POSITION) == (self.place == "position"))

    def release(self, link, request):
        if self.place != "end":
            link.send(request)
            link.wait_answer(request)
        (late_link, late), self.held = self.held, None
        late_link.send(late)
        late_link.wait_answer(late)
        self.released += 1
        if self.place == "end":
            link.send(request)


def publish(cur, name):
    _, client, _ = name.split("-")
    cur.execute("SELECT publish_event('stock-events', %s || i %% 3, '{}')"
                " FROM generate_series(1, 20) i", (f"k{client}-",))


@pytest.mark.parametrize("place", ["middle", "position", "end"])
@pytest.mark.parametrize("how", ["reset", "timeout"])
def test_late_request_to_commit(db, kafka, start_relay, how, place):
    ends = LateEnds(how, place)
    kafka.proxy.serve = Frames(ends.on_request).serve
    relay = start_relay({"outbox": {"mode": "transactional"},
                         "kafka": {"socket.timeout.ms": TIMEOUT_MS}},
                        brokers=kafka.proxied_brokers)
    with Clients(db, 4, publish, every=0.01):
        for turn in range(1, TURNS + 1):
            ends.hold.set()
            wait_until(lambda n=turn: ends.released == n, 60,
                       lambda: f"it is held up, and arrives: {vars(ends)}\n"
                               f"{relay.tail()}")
    with kafka.tail("stock-events") as tail:
        wait_complete(db, tail)
        relay.kill9()               # it resumes from the position
        relay.start()
        check_all(db, tail)
        assert duplicates(tail.read_to_end()) == 0
    assert "the request to commit was sent again" in relay.log()
