# SPDX-License-Identifier: PostgreSQL
"""P1, P2: after any kill -9 nothing is lost or invented.

Clients reserve, confirm and release all the time; one part is killed with
SIGKILL and started again, several times. Then Kafka must hold exactly the
events that the database committed, in the order of each key, and every order
that was acknowledged to a client must exist.
"""

import random

import pytest

from checks import Kills, check_all, duplicates
from load import Clients

PRODUCTS = 20
ROUNDS = 3
PAUSE = 0.01                    # of a client: the reader holds all records


def work(cur, name):
    """One order, and for most of them its end."""
    product = f"p{hash(name) % PRODUCTS}"
    cur.execute("SELECT reserve_stock(%s, 1, %s)", (product, name))
    cur.connection.commit()
    what = random.choice(("confirm_stock", "release_stock", None))
    if what:
        cur.execute(f"SELECT {what}(%s)", (name,))
    return product


def kill_relay(relay, pg, kafka):
    relay.kill9()
    relay.start(wait=None)


def kill_backend(relay, pg, kafka):
    pg.kill_backend(random.choice(pg.backends()))


def kill_postmaster(relay, pg, kafka):
    pg.kill9()
    pg.start()


def kill_broker(relay, pg, kafka):
    kafka.kill9()
    kafka.start()


def kill_everything(relay, pg, kafka):
    pg.kill9()
    kafka.kill9()
    relay.kill9()
    relay.start(wait="/livez")
    pg.start()
    kafka.start()


@pytest.mark.long
@pytest.mark.parametrize("kill", [kill_relay, kill_backend, kill_postmaster,
                                  kill_broker, kill_everything],
                         ids=lambda kill: kill.__name__[5:])
def test_kill_9_under_load(db, pg, kafka, start_relay, kill):
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(0, %s) i", (PRODUCTS - 1,))
    kafka.alter_topic("stock-events", message_timestamp_type="LogAppendTime")
    relay = start_relay()
    kills = Kills(db)
    with Clients(db, 8, work, every=PAUSE) as clients:
        for _ in range(ROUNDS):
            clients.progress(200)
            caught_up(relay)
            kills.watch(kafka)
            kills.kill(lambda: kill(relay, pg, kafka))
        clients.progress(100)
    check_acknowledged(db, clients)
    with kafka.tail("stock-events") as tail:
        check_all(db, tail)
        print(f"{len(tail.records)} records, {duplicates(tail.records)} of"
              f" them repeated, {clients.broken} broken sessions")
        kills.check(tail.records)
    if kill in (kill_backend, kill_postmaster):
        assert clients.broken > 0


def caught_up(relay):
    """Wait until the relay streams again after the kill before."""
    relay.wait_ok("/readyz", 60)


def check_acknowledged(db, clients):
    """Every acknowledged order exists, for its product."""
    there = dict(db.sql("SELECT order_id, product_id FROM stock_reservations"))
    for name, product in clients.acknowledged.items():
        assert there.get(name) == product, f"{name} was acknowledged"
