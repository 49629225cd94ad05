# SPDX-License-Identifier: PostgreSQL
"""What JSON Schema cannot express, and the gateway refuses with status 400: for
schemathesis, which loads this, it is as if the state of the stock did not
allow it."""

import re

import schemathesis

INEXPRESSIBLE = re.compile("|".join((
    "from_location and to_location must differ",
    "ends_at must be after starts_at",
    "since must be before until",
    # the sum of two lines, or of what is there and what is added
    r"quantity must be between 1 and 9007199254740992: It is \d{16,}",
    "would exceed 9007199254740992",
    # 0 pieces are for a product that is new
    "quantity must be between 1 and 9007199254740992: It is 0",
    r'order "(.|\n)*" does not hold \d+ of product',
    'flash sale "(.|\n)*" was opened before',
    # no place on earth has it, and PostgreSQL neither
    "time zone displacement out of range",
    # an "after" that no answer gave
    "invalid input syntax for type json",
    "invalid input syntax for type timestamp with time zone",
    # strings and numbers in an object of any members
    r"\\u0000 is not allowed",
    "NUL byte in object key",
    "too big (negative )?integer",
    "real number overflow",
    # bytes, not characters
    "is longer than (255|2000) bytes",
    # which schemathesis takes off
    "with its quotation marks",
)))


@schemathesis.hook
def after_call(_context, _case, response):
    if response.status_code != 400:
        return
    if INEXPRESSIBLE.search(response.json().get("detail", "")):
        response.status_code = 409


@schemathesis.hook
def map_query(_context, query):
    """No request waits a minute for an event."""
    if query and re.fullmatch(r"\d+m?s", str(query.get("wait", ""))):
        query["wait"] = "10ms"
    return query
