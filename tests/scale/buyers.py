# SPDX-License-Identifier: PostgreSQL
"""Clients that buy while servers are lost, and record the answers."""

import http.client
import itertools
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg2

from load import Threads
from process import wait_until

serial = itertools.count(1)     # no two buy the same orders
SILENCE_S = 4                   # a longer call is abandoned
CALLS = {
    "reserve": "SELECT granted = 1, replayed, host(inet_server_addr())"
               " FROM reserve_stock('book', 1, %s)",
    "confirm": "SELECT status IN ('confirmed', 'already'), replayed,"
               " host(inet_server_addr()) FROM confirm_stock(%s)",
}


@dataclass(frozen=True)
class Answer:
    """An acknowledged call: when, and by which server."""
    order: str
    call: str
    replayed: bool              # None, as below: not known
    at: float                   # time.time()
    server: str


class Buyers(Threads):
    """Pairs of clients. Both clients of a pair buy the same orders, so half of
    the answers depend on the other's commit. A call without an answer is
    repeated until it has one. Every third order is paid at once."""

    broken = (psycopg2.OperationalError, psycopg2.InterfaceError)

    def __init__(self, group, pairs, user):
        super().__init__()
        self.group, self.user = group, user
        self.name = f"buyers-{next(serial)}"
        self.answers = []
        self.busy = {}          # connection: waiting since
        self.start(*((self._buy, number // 2) for number in range(2 * pairs)),
                   (self._watch,))

    def first_after(self, moment, server=None):
        """The first answer after a time, from that server; None if there is
        none yet."""
        for answer in list(self.answers):
            if answer.at > moment and server in (None, answer.server):
                return answer
        return None

    def wait_first(self, moment, server=None, timeout=60):
        return wait_until(lambda: self.errors or self.first_after(
            moment, server), timeout, self.group.report, step=0.02)

    def progress(self, count, timeout=60):
        goal = len(self.answers) + count
        wait_until(lambda: self.errors or len(self.answers) >= goal, timeout,
                   self.group.report)

    def _watch(self):
        """Ends calls that take too long: a frozen server sends no answer, while
        its kernel keeps the session alive."""
        while not self.ending.wait(0.2):
            now = time.monotonic()
            for conn, since in list(self.busy.items()):
                if now - since > SILENCE_S:
                    self.busy.pop(conn, None)
                    with suppress(psycopg2.Error, OSError):
                        network_end(conn)

    def _buy(self, pair):
        turn = 0
        conn = None
        while not self.ending.is_set():
            order = f"{self.name}-{pair}-{turn}"
            try:
                conn = conn or self._connect()
                self._call(conn, "reserve", order)
                if turn % 3 == 0:
                    self._call(conn, "confirm", order)
                turn += 1
            except self.broken:
                if conn:
                    conn.close()
                conn = None
                self.ending.wait(0.1)
            except Exception as error:      # raised by stop()
                self.errors.append(error)
                break
        if conn:
            conn.close()

    def _connect(self):
        conn = self.group.connect("shop", user=self.user)
        conn.autocommit = True
        return conn

    def _call(self, conn, call, order):
        self.busy[conn] = time.monotonic()
        try:
            with conn.cursor() as cur:
                cur.execute(CALLS[call], (order,))
                (taken, replayed, server), = cur.fetchall()
        finally:
            self.busy.pop(conn, None)
        assert taken, f"{call} {order}"
        self._note(order, call, replayed, server)

    def _note(self, order, call, replayed, server):
        self.answers.append(Answer(order, call, replayed, time.time(),
                                   server))

    def lost(self, db):
        """Acknowledged calls whose effect is missing."""
        states = dict(db.sql("SELECT order_id, state FROM stock_reservations"))
        return [answer for answer in self.answers
                if states.get(answer.order) not in
                (("confirmed",) if answer.call == "confirm" else
                 ("reserved", "confirmed"))]


class Refused(Exception):
    """503: the same request, later, has an answer."""


class WebBuyers(Buyers):
    """The same through a gateway, which does not report the server."""

    broken = (Refused, OSError, http.client.HTTPException)

    def __init__(self, gateway, group, pairs):
        self.gateway = gateway
        self.refusals = []      # (time, the problem's type)
        super().__init__(group, pairs, None)

    def _connect(self):
        return self.gateway.client()

    def _call(self, client, call, order):
        answer = client.reserve("book", 1, order) if call == "reserve" else \
            client.post(f"/orders/{order}/{call}")
        if answer.status == 503:
            self.refusals.append((time.time(), answer.problem))
            raise Refused(answer.problem)
        assert answer.status in (200, 201), answer.text
        self._note(order, call, None, None)

    def refused(self, moment):
        """The kinds of 503 after a time, and when the last one was."""
        found = [(at, why) for at, why in list(self.refusals) if at > moment]
        return sorted({why for _, why in found}), max(found)[0] if found \
            else moment


def network_end(conn):
    """Ends the connection of a session in which a thread waits."""
    with socket.socket(fileno=conn.fileno()) as end:
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()
