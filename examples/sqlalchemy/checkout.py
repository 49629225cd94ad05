# SPDX-License-Identifier: PostgreSQL
"""A shop's checkout with pgstock, by SQLAlchemy 2 (with psycopg 3).

An order and its reservation are one transaction.  Reads requests from standard
input and prints an answer to each: see ../README.md.  DATABASE_URL names the
database.
"""

import os
import random
import sys
import time

from sqlalchemy import create_engine, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

PIECES_MAX = 5          # the shop's own rule: of one product in an order
TRIES = 8               # 6 seconds in all
RUN_AGAIN = {"40001", "40P01", "57P01", "57P02", "57P03"}

# :: after a parameter would be read as part of its name: CAST
RESERVE = text(
    "SELECT product_id, granted, replayed FROM reserve_order("
    ":order, CAST(:items AS jsonb), user_id => :user, idempotency_key => :key)")
CONFIRM = text("SELECT status, replayed FROM confirm_stock(:order, :payment)")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    state: Mapped[str]


class TooMany(Exception):
    """The order breaks the shop's own rule."""


def checkout(session, order, user, key, items):
    """Write an order and reserve its stock: both or neither."""
    session.execute(insert(Order).values(id=order, user_id=user)
                    .on_conflict_do_nothing())
    lines = session.execute(RESERVE, {"order": order, "items": items,
                                      "user": user, "key": key}).all()
    for line in lines:
        if line.granted > PIECES_MAX:
            raise TooMany(line.product_id)      # undoes all of it
    return lines


def pay(session, order, payment):
    """The payment has arrived: sell what is reserved, or refund it."""
    lines = session.execute(CONFIRM, {"order": order,
                                      "payment": payment}).all()
    late = any(line.status == "shortfall" for line in lines)
    session.execute(update(Order).where(Order.id == order)
                    .values(state="refund" if late else "paid"))
    return late, lines[0].replayed


def in_transaction(sessions, work, *arguments):
    """Call work(session, ...) in a transaction, and again if that may help.

    A connection that was lost during COMMIT does not show whether the
    transaction was committed: work must have the same effect once or twice,
    as checkout has by its key, and pay by the order's state.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with sessions.begin() as session:   # COMMIT, or ROLLBACK
                return work(session, *arguments)
        except DBAPIError as error:
            if attempt == TRIES or not is_transient(error):
                raise
        time.sleep(random.uniform(0.5, 1) * 0.05 * 2 ** attempt)


def is_transient(error):
    """Whether the same transaction may succeed when it is run again."""
    sqlstate = error.orig.sqlstate              # the driver's own error
    if sqlstate is None:                        # not an answer of the server
        return isinstance(error, OperationalError)
    return sqlstate in RUN_AGAIN or sqlstate.startswith("08")


def answer(sessions, verb, *arguments):
    """Handle a request; what to tell the customer."""
    try:
        if verb == "checkout":
            lines = in_transaction(sessions, checkout, *arguments)
            replayed = lines[0].replayed
            found = "reserved " + ", ".join(
                f"{line.granted} of {line.product_id}" for line in lines)
        else:
            late, replayed = in_transaction(sessions, pay, *arguments)
            found = "too late, refund the payment" if late else "paid"
        return found + (", as before" if replayed else "")
    except TooMany as error:
        return f"at most {PIECES_MAX} of {error}, nothing was reserved"
    except DBAPIError as error:
        if is_transient(error):
            raise
        if error.orig.sqlstate == "SK001":
            return f"not enough stock. {error.orig.diag.message_detail}"
        return (f"refused, {error.orig.sqlstate}:"
                f" {error.orig.diag.message_primary}")


def main():
    url = os.environ["DATABASE_URL"].replace("postgresql:",
                                             "postgresql+psycopg:", 1)
    sessions = sessionmaker(create_engine(url, pool_pre_ping=True))
    for line in sys.stdin:
        request = line.rstrip("\n").split("\t")
        print(f"{request[1]}: {answer(sessions, *request)}", flush=True)


main()
