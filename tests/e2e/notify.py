# SPDX-License-Identifier: PostgreSQL
"""What a daemon reports to systemd."""

import os
import socket
import threading
import time
import uuid

from process import wait_until


class NotifySocket:
    """The service manager's end of sd_notify, read at once: a daemon blocks
    where its messages are not read."""

    def __init__(self, directory):
        self.path = os.path.join(directory, f"n{uuid.uuid4().hex[:8]}")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.seen = []              # lines
        self.watchdog = []          # times of WATCHDOG=1
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while data := self.socket.recv(65536):
            lines = data.decode().splitlines()
            self.seen += lines
            if "WATCHDOG=1" in lines:
                self.watchdog.append(time.monotonic())

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.path)
        self.reader.join()
        self.socket.close()

    def longest_silence(self, count):
        """Wait for that many of WATCHDOG=1 after the next one, which a daemon
        sends in each quarter of WATCHDOG_USEC; the longest time between
        two."""
        self.seen.clear()
        self.watchdog.clear()
        wait_until(lambda: len(self.watchdog) > count, 60,
                   lambda: f"WATCHDOG=1: {self.watchdog}")
        return max(later - earlier for earlier, later
                   in zip(self.watchdog, self.watchdog[1:]))

    def wait(self, text, timeout=10):
        wait_until(lambda: any(x.startswith(text) for x in self.seen),
                   timeout, lambda: f"{text} in {self.seen}")
