# SPDX-License-Identifier: PostgreSQL
"""Clients that work while something is killed."""

import subprocess
import sys
import threading
import time

import psycopg2

from process import as_server, wait_until


class Threads:
    """Threads that work until `ending` is set, and leave errors in `errors`."""

    def __init__(self):
        self.errors = []
        self.ending = threading.Event()
        self.threads = []

    def start(self, *calls):
        """calls: a function and its arguments, for each thread."""
        self.threads = [threading.Thread(target=function, args=args,
                                         daemon=True)
                        for function, *args in calls]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Ends them; raises the first error."""
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        assert not self.errors, self.errors[0]


class Clients(Threads):
    """N threads, each with a session, that repeat `work(cursor, name)` until
    stop(), at most once in `every` seconds. A broken session is opened anew;
    an acknowledged call (work and its commit returned) is kept with its
    answer. With `again`, an unacknowledged call is repeated once under the
    same name."""

    def __init__(self, db, count, work, again=False, every=0):
        super().__init__()
        self.db = db
        self.work = work
        self.again = again
        self.every = every
        self.acknowledged = {}
        self.broken = 0
        self.broken_by = None       # the last error of those
        self.start(*((self._run, number) for number in range(count)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def progress(self, calls, timeout=60):
        """Wait until that many more calls are acknowledged."""
        goal = len(self.acknowledged) + calls
        wait_until(lambda: len(self.acknowledged) >= goal or self.errors,
                   timeout, lambda: f"{len(self.acknowledged)} of {goal} calls")

    def _run(self, number):
        turn = due = 0
        conn = None
        while not self.ending.wait(max(0, due - time.monotonic())):
            due = time.monotonic() + self.every
            turn += 1
            name = f"o-{number}-{turn}"
            try:
                if conn is None:
                    conn = self.db.connect()
                with conn, conn.cursor() as cur:
                    answer = self.work(cur, name)
                self.acknowledged[name] = answer
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.broken += 1    # the server went away: not acknowledged
                self.broken_by = sys.exc_info()[1]
                turn -= self.again
                conn = None
                self.ending.wait(0.05)
            except Exception as error:  # raised by stop(), in the main thread
                self.errors.append(error)
                return


def together(db, count, work):
    """Let `count` sessions run work(cursor, number) at the same moment; their
    answers, or the database errors that they got."""
    gate = threading.Barrier(count)
    answers = [None] * count

    def one(number):
        conn = db.connect()
        try:
            with conn, conn.cursor() as cur:
                gate.wait(60)
                answers[number] = work(cur, number)
        except psycopg2.Error as error:
            answers[number] = error
        finally:
            conn.close()

    threads = [threading.Thread(target=one, args=(number,), daemon=True)
               for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a session hangs"
    return answers


class PgBench:
    """One pgbench run in the background."""

    def __init__(self, db, path, script, clients, transactions, jobs=2):
        with open(path, "w", encoding="ascii") as file:
            file.write(script)
        pg = db.pg
        self.process = subprocess.Popen(
            as_server([pg.bin("pgbench"), "-n", "-M", "prepared",
                       "-h", "127.0.0.1", "-p", str(pg.port), "-U", "postgres",
                       "-c", str(clients), "-j", str(jobs),
                       "-t", str(transactions), "-f", path, db.name], "KILL"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd="/")

    @property
    def running(self):
        return self.process.poll() is None

    def finish(self, timeout=120):
        out, _ = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, out
        return out
