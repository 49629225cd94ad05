# SPDX-License-Identifier: PostgreSQL
"""For a proxy: reads Kafka's requests, and can hold one back.

A frame is its length, then the request's number and version and the
correlation id that its answer will carry (Kafka's request header v1).
"""

import socket
import struct
import threading
from dataclasses import dataclass

from process import wait_until

PRODUCE, END_TXN = 0, 26
ANSWER_S = 10


@dataclass(frozen=True)
class Request:
    """One request as it is on the wire."""

    frame: bytes

    @property
    def number(self):
        return struct.unpack_from(">h", self.frame, 4)[0]

    @property
    def id(self):
        return struct.unpack_from(">i", self.frame, 8)[0]

    def names(self, topic):
        return topic.encode() in self.frame


class Link:
    """A client's connection and the broker's end of it."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.answered = set()           # correlation ids
        self.open = True
        self.mutex = threading.Lock()

    def send(self, request):
        with self.mutex:
            self.server.sendall(request.frame)

    def wait_answer(self, request):
        wait_until(lambda: request.id in self.answered or not self.open,
                   ANSWER_S, "the broker answers", step=0.001)

    def reset(self):
        """The client learns that the connection is closed; the broker does
        not: bytes that were sent may still reach it."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.client.shutdown(socket.SHUT_RD)    # wakes its reader
        self.client.close()


def read_frame(source):
    """The next frame, b"" at the end."""
    data = b""
    need = 4
    while len(data) < need:
        more = source.recv(need - len(data))
        if not more:
            return b""
        data += more
        if len(data) == 4:
            need += struct.unpack(">i", data)[0]
    return data


class Frames:
    """Each request goes to `on_request(link, request)`, which forwards it or
    does not; if it waits, only its own connection waits. `serve` is for
    Proxy.serve."""

    def __init__(self, on_request):
        self.on_request = on_request

    def serve(self, client, server):
        link = Link(client, server)
        for work in (self._requests, self._answers):
            threading.Thread(target=work, args=(link,), daemon=True).start()

    def _requests(self, link):
        try:
            while frame := read_frame(link.client):
                self.on_request(link, Request(frame))
        except OSError:
            pass                        # cut, or reset

    def _answers(self, link):
        try:
            while frame := read_frame(link.server):
                link.answered.add(struct.unpack_from(">i", frame, 4)[0])
                try:
                    link.client.sendall(frame)
                except OSError:
                    pass                # reset: the broker does not know
        except OSError:
            pass
        link.open = False
        for end in (link.client, link.server):
            end.close()
