# SPDX-License-Identifier: PostgreSQL
"""The programs of examples/, as a test runs them.

PGSTOCK_EXAMPLES names what dev/examples has fetched.
"""

import os
import queue
import shutil
import signal
import subprocess
import threading

from cluster import need
from process import Proxy, as_server, run_tool

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
EXAMPLES = os.path.join(TOP, "examples")
PYTHON = ("psycopg", "sqlalchemy", "django", "asyncpg")
NODE = {"node-pg": "checkout.mjs", "prisma": "checkout.ts"}
JAVA = {"jdbc": "Checkout", "hibernate": "Checkout",
        "spring": "com.example.checkout.Checkout"}
NAMES = (*PYTHON, *NODE, "pgx", *JAVA)


def text_of(name):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as file:
        return file.read()


def requests(text):
    return [line.split("\t") for line in text.splitlines()]


def run_script(db, name):
    """Run a script of examples/ as its reader does."""
    done = subprocess.run(
        as_server([db.pg.bin("psql"), *db.pg.tool_args(db.name), "-X", "-q",
                   "-v", "ON_ERROR_STOP=1"]), input=text_of(name),
        capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr


def fetched(*path):
    return os.path.join(need("PGSTOCK_EXAMPLES"), *path)


def java(program, source, directory, jars):
    """The command that runs a class, compiled into the directory."""
    run_tool(["javac", "--release", "17", "-Xlint:all", "-Werror",
              "-cp", jars, "-d", directory,
              os.path.join(source, program.split(".")[-1] + ".java")])
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", f"{directory}:{jars}", program]


def command(name, directory):
    """The command that runs an example, and its environment.  The directory
    is for what must be made first."""
    source = os.path.join(EXAMPLES, name)
    if name in PYTHON:
        return (["/usr/bin/python3", os.path.join(source, "checkout.py")],
                {"PYTHONPATH": fetched("python")})
    if name in NODE:
        # Node.js looks for modules beside the file that needs them
        program = os.path.join(directory, NODE[name])
        shutil.copy(os.path.join(source, NODE[name]), program)
        for entry in ("node_modules", "generated"):
            os.symlink(fetched(name, entry), os.path.join(directory, entry))
        return [fetched("bin", "node"), program], {}
    if name in JAVA:
        return java(JAVA[name], source, directory, fetched(name, "*")), {}
    return [fetched("bin", name)], {}


def http_command(name, directory, description):
    """The same of a client of the gateway, which has that description."""
    source = os.path.join(EXAMPLES, f"http-{name}")
    if name == "curl":
        return [os.path.join(source, "checkout.sh")]
    if name == "python":
        return ["/usr/bin/python3", os.path.join(source, "checkout.py")]
    if name == "node":
        return [fetched("bin", "node"), os.path.join(source, "checkout.mjs")]
    if name == "go":
        return [fetched("bin", "http-go")]
    return typescript_command(source, directory, description)


def typescript_command(source, directory, description):
    """Generates the client, and checks that the example fits to it."""
    node = fetched("bin", "node")
    os.symlink(fetched("http-typescript", "node_modules"),
               os.path.join(directory, "node_modules"))
    for name in ("checkout.ts", "package.json", "tsconfig.json"):
        shutil.copy(os.path.join(source, name), directory)
    with open(os.path.join(directory, "openapi.json"), "w",
              encoding="utf-8") as file:
        file.write(description)
    for words in (["openapi-typescript/bin/cli.js", "openapi.json", "-o",
                   "gateway.d.ts"], ["typescript/bin/tsc", "-p", "."]):
        run_tool([node, os.path.join("node_modules", words[0]), *words[1:]],
                 cwd=directory)
    return [node, os.path.join(directory, "checkout.ts")]


def consumer_command(name, directory):
    """The same of a consumer, by clients that other tests need too."""
    source = os.path.join(EXAMPLES, name)
    if name == "consumer-python":
        return (["/usr/bin/python3", os.path.join(source, "consumer.py")],
                {"PYTHONPATH": ":".join((fetched("python"), os.path.join(
                    need("PGSTOCK_LIBRDKAFKA"), "python")))})
    jars = ":".join((fetched("jdbc", "*"),
                     os.path.join(need("PGSTOCK_KAFKA"), "*")))
    return java("StockConsumer", source, directory, jars), {}


class Program:
    """A running example: it answers each line of its input by a line."""

    def __init__(self, words, env, directory):
        self.log_path = os.path.join(directory, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                as_server(words, "KILL"), cwd=directory, encoding="utf-8",
                env={**os.environ, **env, "HOME": directory},
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

    def answer(self, timeout=180):
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

    def stop(self):
        """Ask it to end."""
        self.process.terminate()
        code = self.process.wait(60)
        assert code in (0, 128 + signal.SIGTERM), self.log()

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
    """Once armed, it closes the connection instead of delivering the next
    answer that a transaction is committed."""

    COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"     # CommandComplete
    armed = False

    def serve(self, client, server):
        for target, args in ((self._pump, (client, server)),
                             (self._answers, (server, client))):
            threading.Thread(target=target, args=args, daemon=True).start()

    def _answers(self, server, client):
        try:
            while data := server.recv(self.CHUNK):
                if self.armed and self.COMMITTED in data:
                    self.armed = False
                    break
                client.sendall(data)
        except OSError:
            pass                # the other direction has ended
        self._close(client, server)
