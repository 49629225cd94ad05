# SPDX-License-Identifier: PostgreSQL
"""How fast stock is: see bench/run.

Everything is compared with something else in the same run, in turns (A B A
B ...), and the medians are taken. The rate depends on what else the machine
does; the CPU time of the server's processes for a call much less.
"""

import os
import re
import statistics
import subprocess
from contextlib import closing, contextmanager

from cluster import Postgres
from process import as_server, children_of

SECONDS = int(os.environ.get("SECONDS_EACH", "8"))
LONG_SECONDS = int(os.environ.get("SECONDS_LONG", "60"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CLIENTS = 32
PRODUCTS = 10_000
SLICES = 6                          # of a long run
HERE = os.path.dirname(os.path.abspath(__file__))

ORDER = "\\set o random(1, 1000000000000000)\n"
MANY = ORDER + f"\\set p random(1, {PRODUCTS})\n"
HOT = ORDER + "SELECT reserve_stock('p1', 1, 'o' || :o);"
BARE = "UPDATE bare SET n = n + 1 WHERE id = 1;"
HOLD = "BEGIN;\n%s\n\\sleep 5 ms\nCOMMIT;"
BATCH = f"""SELECT count(*) FROM reserve_orders((SELECT jsonb_agg(
 jsonb_build_object('order_id', gen_random_uuid()::text, 'items',
  jsonb_build_array(jsonb_build_object('product_id',
   'p' || 1 + (random() * {PRODUCTS - 1})::int, 'quantity', 1))))
 FROM generate_series(1, 50)));"""
BY_HAND = {
    "bare UPDATE": BARE,
    "FOR UPDATE, then UPDATE": "BEGIN;\nSELECT n FROM bare WHERE id = 1"
        " FOR UPDATE;\n" + BARE + "\nCOMMIT;",
    "advisory lock": "BEGIN;\nSELECT pg_advisory_xact_lock(1);\n"
        + BARE + "\nCOMMIT;",
    "version column": "SELECT version AS v FROM bare WHERE id = 1 \\gset\n"
        "UPDATE bare SET n = n + 1, version = version + 1"
        " WHERE id = 1 AND version = :v;",
}


def cpu_seconds(pid, reaped=False):
    """CPU time of a process; with that of the children it has buried."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11:15 if reaped else 13])) \
        / os.sysconf("SC_CLK_TCK")


class Arm:
    """One of the things compared: a script, and how many of what it does
    one transaction is."""

    def __init__(self, script, options="", each=1, counted=None):
        self.script = script
        self.options = options
        self.each = each
        self.counted = counted      # a query that counts what was done


class Bench:
    """pgbench against one server, and a table of what came out."""

    def __init__(self, directory):
        self.directory = directory
        self.pg = Postgres(os.path.join(directory, "pg"), {"fsync": "on"})
        self.pg.init().start()
        self.db = self.pg.create_database("bench")
        self.points = []

    def flush(self, us):
        """Start again, with a flush that takes that long; None: its own."""
        self.pg.stop()
        self.pg.environment = us and {"LD_PRELOAD": self.slow_wal(),
                                      "SLOW_WAL_FLUSH_US": str(us)}
        self.pg.start()

    def slow_wal(self):
        library = os.path.join(self.directory, "slow_wal.so")
        if not os.path.exists(library):
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library,
                            os.path.join(HERE, "../tests/e2e/slow_wal.c"),
                            "-ldl"], check=True)
        return library

    def server_cpu(self):
        children = children_of(self.pg.pid)
        return cpu_seconds(self.pg.pid, True) + sum(map(cpu_seconds, children))

    def run(self, arm, seconds):
        """(done in a second, us of the server's CPU for each)"""
        path = os.path.join(self.directory, "script.sql")
        with open(path, "w", encoding="utf8") as file:
            file.write(arm.script)
        os.chmod(path, 0o644)
        cpu = self.server_cpu()
        before = arm.counted and self.db.value(arm.counted)
        done = subprocess.run(
            as_server([Postgres.bin("pgbench"), "-n", "-M", "prepared", "-c",
                       str(CLIENTS), "-j", "2", "-T", str(seconds), "-f", path,
                       "-h", "127.0.0.1", "-p", str(self.pg.port), "-U",
                       "postgres", self.db.name]),
            env={**os.environ, "PGOPTIONS": arm.options},
            capture_output=True, text=True, check=True)
        count = int(re.search(r"processed: (\d+)", done.stdout).group(1))
        rate = float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))
        share = arm.each
        if arm.counted:
            share = (self.db.value(arm.counted) - before) / count
        return (rate * share,
                (self.server_cpu() - cpu) / (count * share) * 1e6)

    def compare(self, what, ours, others):
        """In turns; a line for each of the others, {name: arm}."""
        arms = {"": ours, **others}
        runs = {name: [] for name in arms}
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                runs[name].append(self.run(arm, SECONDS))
        for name in others:
            self.line(what, name, runs[""], runs[name])

    def figures(self, what, name, ours, others):
        """Medians, kept for a plot: both rates, their ratio, CPU of each."""
        a, a_cpu = (statistics.median(column) for column in zip(*ours))
        b, b_cpu = (statistics.median(column) for column in zip(*others))
        ratio = statistics.median(x[0] / y[0] for x, y in zip(ours, others))
        self.points.append((what, name, a, b, ratio, a_cpu, b_cpu))
        return a, b, ratio, a_cpu, b_cpu

    def line(self, what, name, ours, others):
        a, b, ratio, a_cpu, b_cpu = self.figures(what, name, ours, others)
        cell(f"{what} : {name}", f"{a:,.0f}/s", f"{b:,.0f}/s",
             f"{ratio:.2f}x", f"{a_cpu:.0f} us", f"{b_cpu:.0f} us")

    def over_time(self, what, arm):
        """The rate of each slice of a long run, and the last against the
        first."""
        rates = []
        for number in range(SLICES):
            rate, cpu = self.run(arm, max(1, LONG_SECONDS // SLICES))
            rates.append(rate)
            self.points.append((what, number, rate, "", rate / rates[0], cpu,
                                ""))
        cell(f"{what}, {LONG_SECONDS} s: first, last sixth",
             f"{rates[0]:,.0f}/s", f"{rates[-1]:,.0f}/s",
             f"{rates[-1] / rates[0]:.2f}x", f"{cpu:.0f} us")

    @contextmanager
    def held_snapshot(self):
        with closing(self.db.connect()) as connection:
            connection.cursor().execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
                " SELECT count(*) FROM bare")
            yield

    @contextmanager
    def stopped_relay(self):
        """One that leads and went to sleep, and gets no time since."""
        with closing(self.db.connect()) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(
                "LISTEN pgstock_outbox; SELECT pgstock_internal.relay_lead();"
                ' SELECT "window" FROM pgstock_internal.relay_position()')
            asleep = False
            while not asleep:
                cursor.execute("SELECT w, s.* FROM pgstock_internal"
                               ".relay_next_window(%s) w, LATERAL"
                               " pgstock_internal.relay_sleep(w) s",
                               (cursor.fetchone()[0],))
                asleep = cursor.fetchone()[2]
            yield

    def save(self, path):
        with open(path, "w", encoding="utf8") as file:
            file.write("# what\tagainst or slice\trate\ttheirs\tratio\t"
                       "cpu us\ttheirs\n")
            for point in self.points:
                file.write("\t".join(map(str, point)) + "\n")
        print(f"for a plot: {path}")


def cell(what, *cells):
    print(f"{what:66}" + "".join(f"{text:>12}" for text in cells), flush=True)


def goal(what, target, reached, is_reached):
    """A figure to reach, and whether it is."""
    cell(f"goal: {what}", target, reached, "reached" if is_reached
         else "missed")


def prepare(bench):
    bench.db.sql("SELECT receive_stock('p' || i, 1000000000)"
                 f" FROM generate_series(1, {PRODUCTS}) i")
    with open(os.path.join(HERE, "by_hand.sql"), encoding="utf8") as file:
        bench.db.sql(file.read())
    bench.db.sql("CREATE TABLE bare (id int PRIMARY KEY, n bigint, version"
                 " bigint) WITH (fillfactor = 30);"
                 " INSERT INTO bare VALUES (1, 0, 0)")


def many(bench):
    call = "reserve_stock('p' || :p, 1, 'o' || :o);"
    bench.compare("reserve over 10,000 products",
                  Arm(MANY + "SELECT " + call),
                  {"the same writes in PL/pgSQL, no NOTIFY": Arm(
                      MANY + "SELECT by_hand." + call.replace("_stock", ""))})


def wake_up(bench, flush):
    reserve = MANY + "SELECT reserve_stock('p' || :p, 1, 'o' || :o);"
    with bench.stopped_relay():
        bench.compare(f"a relay listens, flush {flush}", Arm(reserve),
                      {"pgstock.notify off":
                       Arm(reserve, "-c pgstock.notify=off")})


def hot(bench, flush):
    others = {name: Arm(script, counted="SELECT n FROM bare")
              for name, script in BY_HAND.items()}
    bench.compare(f"one hot product, flush {flush}", Arm(HOT), others)


def others(bench):
    bench.compare("one hot product, held 5 ms",
                  Arm(ORDER + HOLD % HOT.removeprefix(ORDER)),
                  {"bare UPDATE": Arm(HOLD % BARE)})
    slots = HOT.removeprefix(ORDER).replace("'p1'", "'p3'")
    bench.db.sql("SELECT configure_product('p3', slots => 16)")
    bench.compare("one hot product of 16 slots, held 5 ms",
                  Arm(ORDER + HOLD % slots),
                  {"of one": Arm(ORDER + HOLD % HOT.removeprefix(ORDER))})
    bench.compare("refusals",
                  Arm(ORDER + "SELECT try_reserve_stock('p2', 10000000000,"
                      " 'o' || :o);"), {"SELECT 1": Arm("SELECT 1;")})
    bench.compare("reserve_orders, 50 orders a batch", Arm(BATCH, each=50),
                  {"reserve_stock, one by one": Arm(
                      MANY + "SELECT reserve_stock('p' || :p, 1,"
                      " 'o' || :o);")})


def counting(bench):
    """The price of stock_statistics: refusals, the cheapest calls, and calls
    that reserve."""
    off = "-c pgstock.track_calls=off"
    for what, script in (
            ("refusals", "SELECT try_reserve_stock('p2', 10000000000,"
             " 'o' || :o);"),
            ("reserve over 10,000 products", "\\set p random(1, "
             f"{PRODUCTS})\nSELECT reserve_stock('p' || :p, 1, 'o' || :o);")):
        bench.compare(f"{what}, counted", Arm(ORDER + script),
                      {"not counted": Arm(ORDER + script, off)})


def long_runs(bench):
    bench.over_time("one hot product", Arm(HOT))
    with bench.held_snapshot():
        bench.over_time("one hot product, a snapshot held", Arm(HOT))
        bench.over_time("bare UPDATE, a snapshot held", Arm(BARE))


def stock(directory):
    bench = Bench(directory)
    prepare(bench)
    cell(f"stock, {CLIENTS} clients, {ROUNDS} rounds of {SECONDS} s",
         "pgstock", "against", "ratio", "CPU/call", "against")
    many(bench)
    others(bench)
    counting(bench)
    hot(bench, "own")
    for us in (100, 1000):
        bench.flush(us)
        hot(bench, f"{us / 1000} ms")
        wake_up(bench, f"{us / 1000} ms")
    bench.flush(None)
    long_runs(bench)
    assert bench.db.drift() == []
    bench.save(os.path.join(directory, "stock.tsv"))
    bench.pg.stop()
