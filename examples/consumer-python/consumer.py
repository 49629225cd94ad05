# SPDX-License-Identifier: PostgreSQL
"""A consumer of stock-events, by confluent-kafka and psycopg 3.

Each event takes effect once, however often it arrives: apply_event() in
../consumer.sql stores its id in the transaction of its effect.  The offset is
stored after that, so the consumer may be killed at any moment.  DATABASE_URL
names its database, BROKERS the brokers of Kafka.
"""

import json
import os
import signal
import sys

import psycopg
from confluent_kafka import Consumer

CONFIG = {
    "bootstrap.servers": os.environ["BROKERS"],
    "group.id": "shelf",
    "auto.offset.reset": "earliest",    # a new group begins with the oldest
    "isolation.level": "read_committed",
    # commit what was stored by store_offsets, every 5 s and at the end
    "enable.auto.commit": True,
    "enable.auto.offset.store": False,
}


def handle(conn, message):
    """Apply one record, and report it."""
    if message.value() is None:
        return                          # a tombstone: a user was forgotten
    with conn.transaction():
        (first,) = conn.execute("SELECT apply_event(%s::jsonb)",
                                (message.value().decode(),)).fetchone()
    event = json.loads(message.value())
    print(event["event_type"], message.key().decode()
          + ("" if first else " (seen before)"), flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    consumer = Consumer(CONFIG)
    try:
        consumer.subscribe(["stock-events"])
        # a lost connection ends it; systemd starts it again
        with psycopg.connect(os.environ["DATABASE_URL"],
                             autocommit=True) as conn:
            while True:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():     # a broker is away: it tries again
                    print(message.error(), file=sys.stderr)
                    continue
                handle(conn, message)
                consumer.store_offsets(message)
    finally:
        consumer.close()


main()
