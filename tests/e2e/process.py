# SPDX-License-Identifier: PostgreSQL
"""Processes, ports and waiting: the base of every server of the cluster.

A server never runs as root, never outlives the test run that started it
(PR_SET_PDEATHSIG, by setpriv), and is only ever ended by its own pid. The
detached form, for dev/cluster, is the exception to the second rule.
"""

import http.client
import os
import pwd
import random
import signal
import socket
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress

UNPRIVILEGED = ("postgres", "nobody")

# The thread that runs the tests, and ends with the process.  In a worker of
# xdist it need not be the main one.
RUNNER = threading.current_thread()


class NotReached(AssertionError):
    """The condition of wait_until was not reached."""


def wait_until(cond, timeout, what, step=0.02):
    """Return the first true answer of cond(); fail with `what` if none
    arrives.

    `what` may be a function, so that the failure can report the progress.
    The longer it lasts, the rarer the questions, for they cost the machine
    time that others wait for.
    """
    deadline = time.monotonic() + timeout
    rarest = 5 * step
    while True:
        answer = cond()
        if answer:
            return answer
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise NotReached(f"not after {timeout} s: {text}")
        time.sleep(step)
        step = min(step * 1.05, rarest)


def server_user():
    """The account that servers run as: our own, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError(f"root needs one of the users {UNPRIVILEGED}")


def make_dir(path):
    """Make a directory that belongs to the servers' account."""
    os.makedirs(path, exist_ok=True)
    user = server_user()
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def write_private(path, text):
    """Write a file that only the servers' account may read."""
    with open(path, "w", encoding="utf-8") as file:
        os.chmod(path, 0o600)
        file.write(text)
    user = server_user()
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)


def run_dir():
    """The directory of all servers' files; the servers' account can reach
    it."""
    path = os.environ.get("PGSTOCK_RUN")
    if not path:
        path = tempfile.mkdtemp(prefix="pgstock-e2e-", dir="/tmp")
        os.chmod(path, 0o755)
    return make_dir(path)


def session_dir():
    """A directory below it for one session of tests, of which several may run
    beside each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "one")
    path = tempfile.mkdtemp(prefix=f"{worker}-", dir=run_dir())
    os.chmod(path, 0o755)
    return make_dir(path)


def remove_dir(path):
    shutil.rmtree(path, ignore_errors=True)


def as_server(cmd, pdeathsig=None):
    """The command line that runs cmd as the servers' account."""
    prefix = []
    if pdeathsig:
        prefix += ["--pdeathsig", pdeathsig]
    user = server_user()
    if user:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}",
                   "--clear-groups"]
    return ["setpriv", *prefix, "--", *cmd] if prefix else list(cmd)


def run_tool(cmd, cwd="/", **kwargs):
    """Run a short-lived tool to its end; fail with its output."""
    done = subprocess.run(as_server(cmd), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=cwd,
                          **kwargs)
    if done.returncode != 0:
        raise RuntimeError(f"{cmd[0]} ended with {done.returncode}:\n"
                           f"{done.stdout}")
    return done.stdout


def http_get(host, port, path, timeout):
    """(status, body) of one HTTP request; status 0: no server answers."""
    conn = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        conn.request("GET", path)
        answer = conn.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        conn.close()


def state_of(pid):
    """The letter that ps prints; X where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def pid_alive(pid):
    """Whether pid runs; a zombie has ended."""
    return state_of(pid) not in "ZX"


def children_of(pid):
    """The pids of the direct children of pid."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii") as stat:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def processes_in(directory):
    """The pids of the processes whose working directory it is."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):     # it has ended, or is another user's
            if os.readlink(f"/proc/{name}/cwd") == directory:
                found.append(int(name))
    return found


class Server:
    """One long-running child: its log, its pid, the ways that it can end."""

    pdeathsig = "KILL"
    elsewhere = ()                  # a command that starts it on a machine

    def __init__(self, directory, detach=False):
        self.directory = make_dir(directory)
        self.log_path = os.path.join(directory, "log")
        self.pid_path = os.path.join(directory, "pid")
        self.detach = detach
        self.process = None
        self.locks = []

    def take_port(self):
        """A port of our own until close()."""
        self.locks.append(PortLock())
        return self.locks[-1].port

    def close(self):
        """End whatever still runs, at once, and give the ports back."""
        if self.running:
            self.kill9()
        while self.locks:
            self.locks.pop().release()

    def spawn(self, cmd, env=None):
        """Start cmd with its output appended to the log.

        From the thread that runs the tests only: the death signal is sent when
        the thread that made the child ends, not when the process does.
        """
        assert threading.current_thread() is RUNNER
        assert not self.running
        pdeathsig = None if self.detach else self.pdeathsig
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.elsewhere, *as_server(cmd, pdeathsig)],
                env={**os.environ, **(env or {})},
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=self.detach)
        with open(self.pid_path, "w", encoding="ascii") as file:
            file.write(f"{self.process.pid}\n")

    @property
    def pid(self):
        """Our child's pid, or the one that an earlier run left detached."""
        if self.process:
            return self.process.pid if self.process.poll() is None else None
        try:
            with open(self.pid_path, encoding="ascii") as file:
                pid = int(file.read())
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except (OSError, ValueError):
            return None
        ours = os.path.realpath(cwd).startswith(
            os.path.realpath(self.directory))
        return pid if ours and pid_alive(pid) else None

    @property
    def running(self):
        return self.pid is not None

    def signal(self, number):
        pid = self.pid
        assert pid, f"{self.directory}: no process to signal"
        os.kill(pid, number)

    def wait_end(self, timeout=30):
        """Wait for the process to end; its exit code if it is our child."""
        wait_until(lambda: not self.running, timeout,
                   lambda: f"{self.directory} has not ended\n{self.tail()}")
        return self.process.returncode if self.process else None

    def kill9(self):
        self.signal(signal.SIGKILL)
        self.wait_end()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])


class PortLock:
    """A port that is ours, among all runs on this machine, until release().

    The lock is an abstract Unix socket a port, so two runs of any users never
    choose the same one even while neither has bound it (a server that is being
    restarted).
    """

    FIRST, LAST = 20000, 29999      # below the ephemeral range

    def __init__(self, *ports):
        """One of the ports; of all, if none is named."""
        every = range(self.FIRST, self.LAST + 1)
        for port in ports or random.sample(every, len(every)):
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.bind(f"\0pgstock-port-{port}")
                self._try_bind(port)
            except OSError:
                self.socket.close()
                continue
            self.port = port
            return
        raise RuntimeError("no free port")

    @staticmethod
    def _try_bind(port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))

    @classmethod
    def wait(cls, port):
        """That port, once no other test uses it."""
        def lock():
            with suppress(RuntimeError):
                return cls(port)
            return None
        return wait_until(lock, 120, f"port {port} is in use")

    def release(self):
        self.socket.close()


class Proxy:
    """A TCP proxy before one server, to cut or to stall the link.

    Threads pump bytes; the state is read before every chunk. After cut() a
    connection is refused as if no server listened; after stall() bytes stay
    where they are, as on a network that drops every packet.
    """

    CHUNK = 65536

    def __init__(self, target_port):
        self.target = ("127.0.0.1", target_port)
        self.lock = PortLock()
        self.port = self.lock.port
        self.flowing = threading.Event()
        self.flowing.set()
        self.held = 0                # the longest chunk since stall()
        self.pairs = set()
        self.mutex = threading.Lock()
        self.listener = None
        self.restore()

    def restore(self):
        """Accept connections and forward bytes again."""
        self.flowing.set()
        if self.listener:
            return
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,),
                         daemon=True).start()

    def close(self):
        self.cut()
        self.lock.release()

    def cut(self):
        """Close open connections and refuse new ones."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.mutex:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            self._close(*pair)
        self.flowing.set()

    def stall(self):
        """Keep the connections and forward nothing."""
        self.held = 0
        self.flowing.clear()

    @staticmethod
    def _close(*sockets):
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass                 # the peer was first
            one.close()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return               # cut
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.mutex:
                self.pairs.add((client, server))
            self.serve(client, server)

    def serve(self, client, server):
        """Pump; another function in its place may inspect the bytes."""
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(self.CHUNK):
                if not self.flowing.is_set():
                    self.held = max(self.held, len(data))
                self.flowing.wait()
                sink.sendall(data)
        except OSError:
            pass                     # cut
        self._close(source, sink)
