# SPDX-License-Identifier: PostgreSQL
"""A shop's checkout with pgstock, by psycopg 3.

An order and its reservation are one transaction.  Reads requests from standard
input and prints an answer to each: see ../README.md.  DATABASE_URL names the
database.
"""

import os
import random
import sys
import time

import psycopg
from psycopg.rows import namedtuple_row
from psycopg_pool import ConnectionPool

PIECES_MAX = 5          # the shop's own rule: of one product in an order
TRIES = 8               # 6 seconds in all
RUN_AGAIN = {"40001", "40P01", "57P01", "57P02", "57P03"}


class TooMany(Exception):
    """The order breaks the shop's own rule."""


def checkout(conn, order, user, key, items):
    """Write an order and reserve its stock: both or neither."""
    conn.execute("INSERT INTO orders (id, user_id) VALUES (%s, %s)"
                 " ON CONFLICT (id) DO NOTHING", (order, user))
    lines = conn.execute(
        "SELECT product_id, granted, replayed FROM reserve_order("
        "%s, %s::jsonb, user_id => %s, idempotency_key => %s)",
        (order, items, user, key)).fetchall()
    for line in lines:
        if line.granted > PIECES_MAX:
            raise TooMany(line.product_id)      # undoes all of it
    return lines


def pay(conn, order, payment):
    """The payment has arrived: sell what is reserved, or refund it."""
    lines = conn.execute("SELECT status, replayed FROM confirm_stock(%s, %s)",
                         (order, payment)).fetchall()
    late = any(line.status == "shortfall" for line in lines)
    conn.execute("UPDATE orders SET state = %s WHERE id = %s",
                 ("refund" if late else "paid", order))
    return late, lines[0].replayed


def in_transaction(pool, work, *arguments):
    """Call work(connection, ...) in a transaction, and again if that may help.

    A connection that was lost during COMMIT does not show whether the
    transaction was committed: work must have the same effect once or twice,
    as checkout has by its key, and pay by the order's state.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with pool.connection() as conn:     # COMMIT, or ROLLBACK
                return work(conn, *arguments)
        except psycopg.Error as error:
            if attempt == TRIES or not is_transient(error):
                raise
        time.sleep(random.uniform(0.5, 1) * 0.05 * 2 ** attempt)


def is_transient(error):
    """Whether the same transaction may succeed when it is run again."""
    if error.sqlstate is None:                  # not an answer of the server
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate in RUN_AGAIN or error.sqlstate.startswith("08")


def answer(pool, verb, *arguments):
    """Handle a request; what to tell the customer."""
    try:
        if verb == "checkout":
            lines = in_transaction(pool, checkout, *arguments)
            replayed = lines[0].replayed
            text = "reserved " + ", ".join(
                f"{line.granted} of {line.product_id}" for line in lines)
        else:
            late, replayed = in_transaction(pool, pay, *arguments)
            text = "too late, refund the payment" if late else "paid"
        return text + (", as before" if replayed else "")
    except TooMany as error:
        return f"at most {PIECES_MAX} of {error}, nothing was reserved"
    except psycopg.Error as error:
        if is_transient(error):
            raise
        if error.sqlstate == "SK001":
            return f"not enough stock. {error.diag.message_detail}"
        return f"refused, {error.sqlstate}: {error.diag.message_primary}"


def main():
    with ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=4,
                        kwargs={"row_factory": namedtuple_row},
                        check=ConnectionPool.check_connection) as pool:
        for line in sys.stdin:
            request = line.rstrip("\n").split("\t")
            print(f"{request[1]}: {answer(pool, *request)}", flush=True)


main()
