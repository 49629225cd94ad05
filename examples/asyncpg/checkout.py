# SPDX-License-Identifier: PostgreSQL
"""A shop's checkout with pgstock, by asyncpg.

An order and its reservation are one transaction.  Reads requests from standard
input and prints an answer to each: see ../README.md.  DATABASE_URL names the
database.
"""

import asyncio
import os
import random
import sys

import asyncpg

PIECES_MAX = 5          # the shop's own rule: of one product in an order
TRIES = 8               # 6 seconds in all
RUN_AGAIN = {"40001", "40P01", "57P01", "57P02", "57P03"}


class TooMany(Exception):
    """The order breaks the shop's own rule."""


async def checkout(conn, order, user, key, items):
    """Write an order and reserve its stock: both or neither."""
    await conn.execute("INSERT INTO orders (id, user_id) VALUES ($1, $2)"
                       " ON CONFLICT (id) DO NOTHING", order, user)
    lines = await conn.fetch(
        "SELECT product_id, granted, replayed FROM reserve_order("
        "$1, $2::jsonb, user_id => $3, idempotency_key => $4)",
        order, items, user, key)
    for line in lines:
        if line["granted"] > PIECES_MAX:
            raise TooMany(line["product_id"])   # undoes all of it
    return lines


async def pay(conn, order, payment):
    """The payment has arrived: sell what is reserved, or refund it."""
    lines = await conn.fetch(
        "SELECT status, replayed FROM confirm_stock($1, $2)", order, payment)
    late = any(line["status"] == "shortfall" for line in lines)
    await conn.execute("UPDATE orders SET state = $2 WHERE id = $1", order,
                       "refund" if late else "paid")
    return late, lines[0]["replayed"]


async def in_transaction(pool, work, *arguments):
    """Call work(connection, ...) in a transaction, and again if that may help.

    A connection that was lost during COMMIT does not show whether the
    transaction was committed: work must have the same effect once or twice,
    as checkout has by its key, and pay by the order's state.
    """
    for attempt in range(1, TRIES + 1):
        try:
            async with pool.acquire() as conn, conn.transaction():
                return await work(conn, *arguments)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) \
                as error:
            if attempt == TRIES or not is_transient(error):
                raise
        await asyncio.sleep(random.uniform(0.5, 1) * 0.05 * 2 ** attempt)


def is_transient(error):
    """Whether the same transaction may succeed when it is run again."""
    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate in RUN_AGAIN or error.sqlstate.startswith("08")
    # the connection was lost, unless an argument has the wrong type
    return not isinstance(error, asyncpg.DataError)


async def answer(pool, verb, *arguments):
    """Handle a request; what to tell the customer."""
    try:
        if verb == "checkout":
            lines = await in_transaction(pool, checkout, *arguments)
            replayed = lines[0]["replayed"]
            text = "reserved " + ", ".join(
                f"{line['granted']} of {line['product_id']}" for line in lines)
        else:
            late, replayed = await in_transaction(pool, pay, *arguments)
            text = "too late, refund the payment" if late else "paid"
        return text + (", as before" if replayed else "")
    except TooMany as error:
        return f"at most {PIECES_MAX} of {error}, nothing was reserved"
    except asyncpg.PostgresError as error:
        if is_transient(error):
            raise
        if error.sqlstate == "SK001":
            return f"not enough stock. {error.detail}"
        return f"refused, {error.sqlstate}: {error.message}"


async def main():
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1,
                                   max_size=4) as pool:
        for line in sys.stdin:
            request = line.rstrip("\n").split("\t")
            print(f"{request[1]}: {await answer(pool, *request)}", flush=True)


asyncio.run(main())
