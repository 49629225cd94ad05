# SPDX-License-Identifier: PostgreSQL
"""The programs of examples/, as a test runs them.

PGSTOCK_EXAMPLES names what dev/examples has fetched.
"""

import os
import queue
import re
import subprocess
import threading

from cluster import need
from process import Proxy, as_server

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
EXAMPLES = os.path.join(TOP, "examples")
PYTHON = ("psycopg", "sqlalchemy", "django", "asyncpg")
NAMES = PYTHON


def command(name):
    """The command that runs an example, and its environment."""
    return (["/usr/bin/python3", os.path.join(EXAMPLES, name, "checkout.py")],
            {"PYTHONPATH": os.path.join(need("PGSTOCK_EXAMPLES"), "python")})


class Program:
    """A running example: it answers each line of its input by a line."""

    def __init__(self, name, url, directory):
        words, env = command(name)
        self.log_path = os.path.join(directory, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                as_server(words, "KILL"), cwd=directory, encoding="utf-8",
                env={**os.environ, **env, "DATABASE_URL": url,
                     "HOME": directory},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self.answers = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.answers.put(line.rstrip("\n"))
        self.answers.put(None)                  # it has ended

    def send(self, *fields):
        self.process.stdin.write("\t".join(fields) + "\n")
        self.process.stdin.flush()

    def answer(self, timeout=60):
        """Its next line; its log, if it has none."""
        try:
            found = self.answers.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no answer\n{self.log()}") from None
        assert found is not None, f"it has ended\n{self.log()}"
        return found

    def ask(self, *fields):
        self.send(*fields)
        return self.answer()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        """End of its input: it ends by itself, without an error."""
        self.process.stdin.close()
        code = self.process.wait(30)
        self.reader.join()
        assert code == 0, f"it ended with {code}\n{self.log()}"

    def close(self):
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass                # a line that it has not read


class LostAnswer(Proxy):
    """Once armed, it forwards the next COMMIT, waits for the server's answer,
    and closes the connection instead of delivering it."""

    COMMIT = re.compile(rb"\bcommit\b", re.IGNORECASE)
    armed = False

    def serve(self, client, server):
        lost = threading.Event()
        for pump in (self._requests, self._results):
            threading.Thread(target=pump, args=(client, server, lost),
                             daemon=True).start()

    def _requests(self, client, server, lost):
        try:
            while data := client.recv(self.CHUNK):
                if self.armed and self.COMMIT.search(data):
                    self.armed = False
                    lost.set()
                server.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    def _results(self, client, server, lost):
        try:
            while (data := server.recv(self.CHUNK)) and not lost.is_set():
                client.sendall(data)
        except OSError:
            pass
        self._close(client, server)
