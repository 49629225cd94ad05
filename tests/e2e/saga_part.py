# SPDX-License-Identifier: PostgreSQL
"""A shard, and the steps of orders that a front sends it."""

import json
import threading
from contextlib import closing

import psycopg2

from process import wait_until
from shards import Shards

COLUMNS = ("shards", "parts", "role", "trace", "actor", "order_id", "saga",
           "step", "order_shards", "verb", "args")
BLOCKED = """SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'
                AND query LIKE '%part_step_call%'"""

# a front connects with them
SETTINGS = "-c search_path=pg_catalog,pg_temp"


def make_shard(pg, name):
    Shards.make_front_role(pg)
    shard = pg.create_database(name)
    shard.sql("CREATE EXTENSION pgstock_shard")
    shard.sql("SELECT pgstock_shard.set_shard(0, 1)")
    shard.sql("SELECT grant_stock_access('pgstock_front', 'admin')")
    shard.sql("SELECT receive_stock('p', 1000)")
    return shard


def arguments(order, verb, step, **changes):
    """The columns of a step, by name."""
    args = {"hold": "1 hour", "ttl": "1 day", "raise": True,
            "strategy": "auto", **changes.pop("args", {})}
    return {"shards": [0], "parts": [line("p", 1)], "role": None,
            "trace": None, "actor": None, "order_id": order, "saga": 7,
            "step": step, "order_shards": [0, 1], "verb": verb,
            "args": json.dumps(args), **changes}


def line(product, quantity):
    return json.dumps([{"product_id": product, "quantity": quantity}])


def text_of(cur, columns):
    """The call, as a front makes it."""
    types = dict.fromkeys(COLUMNS, "text")
    types.update(shards="int[]", parts="jsonb[]", order_shards="int[]",
                 saga="bigint", step="int", args="jsonb")
    row = ", ".join(f"%({name})s::{types[name]}" for name in COLUMNS)
    cur.execute(f"SELECT ROW({row})::text", columns)
    return cur.fetchone()[0]


def send(cur, text):
    """A step: (SQLSTATE or None, message or None, rows, all as text)."""
    cur.execute("""
        SELECT (f).sqlstate, (f).message, (a).rows, a::text, (a).error,
               f::text, (a).shard
          FROM (SELECT a, (a).error::pgstock_shard.failure AS f
                  FROM pgstock_shard.part_step_call(%s) a OFFSET 0) s""",
                (text,))
    state, message, rows, all_of_it, error, same, number = cur.fetchone()
    # as PostgreSQL writes a row, whoever has written it
    assert error == (same if error else None) and number in (0, None)
    assert (error is None) or rows is None
    return state, message, rows, all_of_it


def take(cur, order, verb, step, **changes):
    return send(cur, text_of(cur, arguments(order, verb, step, **changes)))


def connect(shard, options="", user="postgres"):
    """A session of a superuser, with the settings of a front's."""
    return closing(shard.connect(options=f"{SETTINGS} {options}", user=user))


def take_in(shard, order, verb, step, user="postgres", **changes):
    """The SQLSTATE of a step, or None, in a session of its own."""
    with connect(shard, user=user) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            return take(cur, order, verb, step, **changes)[0]


def stored(shard, order):
    return shard.sql("SELECT held, step, verb, answer::text"
                     " FROM pgstock_shard.order_part WHERE order_id = %s",
                     (order,))


def states(shard, order):
    return [state for (state,) in shard.sql(
        "SELECT state FROM stock_reservations WHERE order_id = %s"
        " ORDER BY created_at", (order,))]


def expires(shard, order):
    return shard.value("SELECT expires_at FROM stock_reservations"
                       " WHERE order_id = %s", (order,))


class Sender(threading.Thread):
    """A session that sends one step: its answer, or its error."""

    def __init__(self, shard, order, verb, step, options="", **changes):
        super().__init__(daemon=True)
        self.shard, self.options = shard, options
        self.step, self.changes = (order, verb, step), changes
        self.answer = self.error = None
        self.start()

    def run(self):
        with connect(self.shard, self.options) as conn:
            conn.autocommit = True
            with conn.cursor() as cur:
                try:
                    self.answer = take(cur, *self.step, **self.changes)
                except psycopg2.Error as error:
                    self.error = error

    def wait_blocked(self):
        wait_until(lambda: self.shard.value(BLOCKED), 20,
                   lambda: f"the step does not wait: {self.answer}")

    def finish(self):
        self.join(30)
        assert not self.is_alive()
        return self.answer
