# SPDX-License-Identifier: PostgreSQL
"""Orders over shards under kill -9: each shard, the front and the coordinator
have a server of their own, so that each can be killed alone.

A trigger that waits for an advisory lock stops a step where it writes its row,
so that a test can kill a server at a known point.
"""

import json
import threading
from contextlib import closing, contextmanager

import psycopg2

from cluster import Postgres
from process import wait_until
from shards import Shards

LOCK = 4711

# in a shard: its part of an order; in the coordinator: the order
STOP = """
CREATE TABLE public.stop_at (condition text);
CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stops boolean;
    c text := (SELECT condition FROM public.stop_at);
BEGIN
    IF c IS NOT NULL THEN
        EXECUTE 'SELECT ' || c || ' FROM (SELECT ($1).*) r'
           INTO stops USING NEW;
        IF stops THEN
            PERFORM pg_advisory_xact_lock(LOCK);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stop BEFORE INSERT OR UPDATE ON TABLE_
   FOR EACH ROW EXECUTE FUNCTION public.stop()""".replace("LOCK", str(LOCK))

SMALL = {"shared_buffers": "16MB", "max_connections": 60, "fsync": "off"}


class Fleet(Shards):
    """Servers whose shards have two products each."""

    def __init__(self, new_dir, count=4):
        self.all = [self.new_server(name, new_dir(name)) for name in (
            "front", "coordinator", *[f"shard-{n}" for n in range(count)])]
        for server in self.all:
            server.init().start()
        super().__init__(*self.all[2:], count=count,
                         front_server=self.all[0])
        self.coordinator = self.make_coordinator(self.all[1])
        self.set_coordinator(self.coordinator)
        self.coordinator.sql(STOP.replace("TABLE_", "pgstock_front.saga"))
        for shard in self.shards:
            shard.sql(STOP.replace("TABLE_",
                                   "pgstock_shard.order_part"))
        self.stocked = self.products(2)

    @staticmethod
    def new_server(_, directory):
        return Postgres(directory, SMALL)

    @staticmethod
    def make_coordinator(server):
        return server.create_database("coordinator", extension=False)

    def stop_all(self):
        for server in self.all:
            server.close()

    def revive(self):
        for server in self.all:
            if not server.running:
                server.start()

    def wait_reachable(self):
        """Waits until the front has an answer of every shard."""
        wait_until(lambda: self.front.value(
            "SELECT count(*) FROM pgstock_front.shard_status()"
            " WHERE error IS NULL") == len(self.shards), 60, "a shard is away")

    def receive(self, quantity):
        for names in self.stocked:
            for product in names:
                self.front.sql("SELECT receive_stock(%s, %s)",
                               (product, quantity))

    def items(self, *counts):
        """Items: so many pieces of the first product of each shard."""
        return json.dumps([{"product_id": names[0], "quantity": count}
                           for names, count in zip(self.stocked, counts)
                           if count])

    @staticmethod
    def stopped(database):
        """How many steps wait there."""
        return database.value(
            "SELECT count(*) FROM pg_locks JOIN pg_database d"
            " ON d.oid = database WHERE locktype = 'advisory' AND NOT granted"
            " AND objid = %s AND datname = current_database()", (LOCK,))

    @contextmanager
    def stopped_at(self, database, condition):
        """A step whose row meets the condition waits until the block ends;
        `waits` is true once one does."""
        with closing(database.connect()) as conn:
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
                cur.execute("INSERT INTO public.stop_at VALUES (%s)",
                            (condition,))
            yield lambda: self.stopped(database) > 0
            try:
                with conn.cursor() as cur:
                    cur.execute("DELETE FROM public.stop_at")
            except psycopg2.Error:
                pass                # it was killed
        self.revive()
        database.sql("DELETE FROM public.stop_at")

    def sweep(self, timeout=60):
        """Sweeps until no step is under way."""
        def done():
            self.front.sql("SELECT sweep_orders()")
            return not self.under_way()
        wait_until(done, timeout, lambda: f"under way: {self.under_way()}")

    def under_way(self):
        return self.coordinator.sql(
            "SELECT order_id, verb, error FROM pgstock_front.saga"
            " WHERE verb IS NOT NULL")

    def live(self, order):
        """The order's lines that are reserved or confirmed: (product,
        quantity), as in its items."""
        found = []
        for shard in self.shards:
            found += shard.sql(
                "SELECT product_id, quantity FROM stock_reservations"
                " WHERE order_id = %s AND (state = 'confirmed' OR"
                " state = 'reserved' AND expires_at > clock_timestamp())",
                (order,))
        return sorted(found)

    def check_books(self):
        for shard in self.shards:
            assert shard.drift() == []
            assert shard.sql("SELECT * FROM stock_levels"
                             " WHERE on_hand < reserved OR on_hand < 0") == []


class Caller(threading.Thread):
    """A client that makes one call: its rows, or None."""

    def __init__(self, front, query, args):
        super().__init__(daemon=True)
        self.front, self.query, self.args = front, query, args
        self.rows = self.error = None
        self.start()

    def run(self):
        try:
            with closing(self.front.connect()) as conn:
                conn.autocommit = True
                with conn.cursor() as cur:
                    cur.execute(self.query, self.args)
                    self.rows = cur.fetchall()
        except psycopg2.Error as error:
            self.error = error


def wanted(items):
    return sorted((item["product_id"], item["quantity"])
                  for item in json.loads(items))
