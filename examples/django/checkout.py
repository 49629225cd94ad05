# SPDX-License-Identifier: PostgreSQL
"""A shop's checkout with pgstock, by Django (with psycopg 3).

An order and its reservation are one transaction.  Reads requests from standard
input and prints an answer to each: see ../README.md.  DATABASE_URL names the
database.  In a project, the settings are in settings.py and the model in an
app's models.py.
"""

import os
import random
import sys
import time

import django
from django.conf import settings
from django.db import Error, connection, models, transaction
from psycopg.conninfo import conninfo_to_dict

PIECES_MAX = 5          # the shop's own rule: of one product in an order
TRIES = 8               # 6 seconds in all
RUN_AGAIN = {"40001", "40P01", "57P01", "57P02", "57P03"}

url = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": url.pop("dbname"),
    "OPTIONS": url,
    "CONN_MAX_AGE": 600,
    "CONN_HEALTH_CHECKS": True,
}})
django.setup()


class Order(models.Model):
    id = models.TextField(primary_key=True)
    user_id = models.TextField()
    state = models.TextField(default="new")

    class Meta:
        app_label = "shop"
        db_table = "orders"
        managed = False


class TooMany(Exception):
    """The order breaks the shop's own rule."""


def checkout(order, user, key, items):
    """Write an order and reserve its stock: both or neither."""
    Order.objects.bulk_create([Order(id=order, user_id=user)],
                              ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT product_id, granted, replayed FROM reserve_order("
            "%s, %s::jsonb, user_id => %s, idempotency_key => %s)",
            (order, items, user, key))
        lines = cursor.fetchall()
    for product, granted, _ in lines:
        if granted > PIECES_MAX:
            raise TooMany(product)              # undoes all of it
    return lines


def pay(order, payment):
    """The payment has arrived: sell what is reserved, or refund it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT status, replayed FROM confirm_stock(%s, %s)",
                       (order, payment))
        lines = cursor.fetchall()
    late = any(status == "shortfall" for status, _ in lines)
    Order.objects.filter(id=order).update(state="refund" if late else "paid")
    return late, lines[0][1]


def in_transaction(work, *arguments):
    """Call work(...) in a transaction, and again if that may help.

    A connection that was lost during COMMIT does not show whether the
    transaction was committed: work must have the same effect once or twice,
    as checkout has by its key, and pay by the order's state.  With
    ATOMIC_REQUESTS the transaction is the request's, and cannot be run again
    here: decorate such a view with transaction.non_atomic_requests.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with transaction.atomic(durable=True):   # COMMIT, or ROLLBACK
                return work(*arguments)
        except Error as error:
            if attempt == TRIES or not is_transient(error):
                raise
            connection.close()                  # the next use opens a new one
        time.sleep(random.uniform(0.5, 1) * 0.05 * 2 ** attempt)


def sqlstate(error):
    """The server's code; None if the server did not answer."""
    return getattr(error.__cause__, "sqlstate", None)


def is_transient(error):
    """Whether the same transaction may succeed when it is run again."""
    code = sqlstate(error)
    if code is None:
        return isinstance(error, (django.db.OperationalError,
                                  django.db.InterfaceError))
    return code in RUN_AGAIN or code.startswith("08")


def answer(verb, *arguments):
    """Handle a request; what to tell the customer."""
    try:
        if verb == "checkout":
            lines = in_transaction(checkout, *arguments)
            replayed = lines[0][2]
            text = "reserved " + ", ".join(
                f"{granted} of {product}" for product, granted, _ in lines)
        else:
            late, replayed = in_transaction(pay, *arguments)
            text = "too late, refund the payment" if late else "paid"
        return text + (", as before" if replayed else "")
    except TooMany as error:
        return f"at most {PIECES_MAX} of {error}, nothing was reserved"
    except Error as error:
        if is_transient(error):
            raise
        diagnosis = error.__cause__.diag
        if sqlstate(error) == "SK001":
            return f"not enough stock. {diagnosis.message_detail}"
        return f"refused, {sqlstate(error)}: {diagnosis.message_primary}"


def main():
    for line in sys.stdin:
        request = line.rstrip("\n").split("\t")
        print(f"{request[1]}: {answer(*request)}", flush=True)


main()
