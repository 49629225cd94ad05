# SPDX-License-Identifier: PostgreSQL
"""Random orders over shards while everything is killed and links are cut.

Four shards, a front and the coordinator have a machine each, and each shard has
two relays. Callers reserve lines in one, two or three shards, and settle most
of the orders. Meanwhile shards, front, coordinator and relays are killed, and
the links of the front with a shard or the coordinator, and of the relays with a
shard or Kafka, are cut, at random moments. Then all is started, and the
sweepers end what is unfinished. The state of each order in the shards must
match the coordinator's, and the last answer that its caller received. Lines of
an order that was not reserved have ended with the hold, or after it by the time
that a server was away. No more is sold than there was, the books are right, and
Kafka has each event of each shard once.

A failure names its seed. PGSTOCK_SAGA_SECONDS is the duration, PGSTOCK_SEED
selects the orders and the kills; PGSTOCK_MODE=idempotent permits events that
are published twice.
"""

import os
import random
import threading
import time
from collections import Counter

import psycopg2
import pytest

from callers import RESERVE, VERBS, Callers, Sweepers
from checks import audit
from fleet import MachineFleet, Troubles
from process import wait_until

SECONDS = float(os.environ.get("PGSTOCK_SAGA_SECONDS", 60))
MODE = os.environ.get("PGSTOCK_MODE", "transactional")
CALLERS = 4
PIECES = int(SECONDS * 20)      # of each product, but for the scarce one
SCARCE = 5
HOLD_S = 4                      # Shards.set_coordinator
CUT_S = 5                       # some holds expire meanwhile
SWEEP_S = 12                    # the sweeper's longest pause, and its waits
CALL_S = 40                     # with a shard that does not respond
SLACK_S = 30                    # where the machine is busy


@pytest.fixture(scope="module")
def fleet(lan, new_dir, broker):
    made = MachineFleet(lan, new_dir)
    made.start_relays(new_dir, broker, MODE)
    yield made
    made.stop_all()


def receive(fleet):
    """The pieces of each product."""
    pieces = {product: PIECES for names in fleet.stocked for product in names}
    pieces[fleet.stocked[0][0]] = SCARCE
    for product, count in pieces.items():
        fleet.front.sql("SELECT receive_stock(%s, %s)", (product, count))
    return pieces


def seen_all(troubles, callers):
    """Whether each thing has happened."""
    counts = callers.counts()
    return len(troubles.counts()) == len(troubles.ways) \
        and {shards for told, shards in counts if told == "confirmed"} \
        >= {1, 2, 3} \
        and {told for told, _ in counts} >= {"refused", *VERBS.values()}


def wait_unfinished(fleet):
    """Waits until no order is unfinished; how long that takes."""
    began = time.monotonic()
    wait_until(lambda: not fleet.under_way(), SWEEP_S + SLACK_S,
               lambda: f"under way: {fleet.under_way()}")
    wait_until(lambda: not any(shard.value(
        "SELECT count(*) FROM stock_reservations WHERE state = 'reserved'"
        " AND expires_at BETWEEN clock_timestamp()"
        " AND clock_timestamp() + interval '1 hour'")
        for shard in fleet.shards), HOLD_S + SLACK_S, "holds have not ended")
    return time.monotonic() - began


def states(fleet):
    """{order: {product: (state, quantity)}} of the lines in all shards."""
    found = {}
    for shard in fleet.shards:
        for order, product, quantity, state in shard.sql(
                "SELECT DISTINCT ON (order_id, product_id) order_id,"
                " product_id, quantity, CASE WHEN state = 'reserved' AND"
                " expires_at < clock_timestamp() THEN 'expired'"
                " ELSE state END FROM stock_reservations"
                " ORDER BY order_id, product_id, created_at DESC"):
            found.setdefault(order, {})[product] = (state, quantity)
    return found


def sagas(fleet):
    """{order: its state in the coordinator}, of those over shards."""
    return dict(fleet.coordinator.sql(
        "SELECT order_id, state FROM pgstock_front.saga"))


def fault(order, have, saga):
    """What is wrong with an order of which the shards have these lines."""
    live = {product: quantity for product, (state, quantity) in have.items()
            if state in ("reserved", "confirmed")}
    if live and live != order.lines:
        return "half of it is reserved"
    if order.shards > 1 and bool(live) != (saga in ("reserved", "confirmed")):
        return "the coordinator has another state"
    if order.told == "reserved" and not live:
        return "it is lost"
    if order.told == "refused" and live:
        return "it is reserved"
    if order.told in VERBS.values() and {order.told} != {
            state for state, _ in have.values()}:
        return "its state is another one"
    return None


def check_orders(orders, found, saga, pieces):
    wrong = [f"{name}: {why}: {order}, {found.get(name)}, {saga.get(name)}"
             for name, order in orders.items()
             if (why := fault(order, found.get(name, {}), saga.get(name)))]
    assert not wrong, f"{len(wrong)} of {len(orders)}: {wrong[:5]}"
    sold = Counter()
    for order in orders.values():
        if order.told in ("reserved", "confirmed"):
            sold.update(order.lines)
    assert not sold - Counter(pieces), "more is sold than there was"


def undone_lines(fleet, orders, saga):
    """The lines of orders that were not reserved: (order, when it was held,
    when that ended)."""
    undone = [name for name, order in orders.items() if order.shards > 1
              and saga.get(name) in ("refused", "abandoned")]
    return [line for shard in fleet.shards for line in shard.sql(
        "SELECT order_id, extract(epoch FROM created_at)::float,"
        " extract(epoch FROM least(ended_at, expires_at))::float"
        " FROM stock_reservations WHERE order_id = ANY(%s)", (undone,))]


def check_holds(fleet, orders, saga, troubles):
    """No such line has outlived its hold; if a server that the order needs was
    away meanwhile, by that time and the sweeper's longest pause at most."""
    places = {product: shard.pg.machine.name for shard, products in
              zip(fleet.shards, fleet.stocked) for product in products}
    found = []
    for name, began, ended in undone_lines(fleet, orders, saga):
        away = troubles.lasted({"front", "coordinator", *map(
            places.get, orders[name].lines)}, began, ended)
        found.append((ended - began - away - (SWEEP_S if away else 0),
                      ended - began, away, name))
    late = [line for line in found if line[0] > HOLD_S]
    print(f"{len(found)} lines were not reserved; the longest lasted"
          f" {max(line[1] for line in found):.1f} s")
    assert not late, f"{len(late)} outlived their hold: {sorted(late)[-5:]}"


def check_audit(shard, relay):
    """Kafka has each event of the shard. An open transaction of another shard
    in the topic hides committed events from readers until it ends."""
    def is_complete():
        events, missing, doubled, unknown = audit(relay)
        assert unknown == 0, shard.name
        assert doubled == 0 or MODE == "idempotent", shard.name
        return events > 0 and missing == 0
    wait_until(is_complete, 2 * SLACK_S, f"events of {shard.name} are missing",
               step=0.5)


def check_relays(fleet):
    for relay in fleet.relays():
        assert relay.running and "SK020" not in relay.log(), relay.tail()
        relay.wait_ok("/readyz", SLACK_S)
    for shard, (relay, _) in zip(fleet.shards, fleet.pairs):
        wait_until(lambda: shard.value(
            "SELECT n FROM pgstock_internal.pending()") == 0, 2 * SLACK_S,
            relay.tail)
        check_audit(shard, relay)


def test_random_orders(fleet, broker):
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed} PGSTOCK_SAGA_SECONDS={SECONDS:g}")
    pieces = receive(fleet)
    troubles = Troubles(fleet, broker, seed, CUT_S)
    callers, sweepers = Callers(fleet, CALLERS, seed), Sweepers(fleet)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or not seen_all(troubles, callers):
        assert not callers.errors, callers.errors[0]
        assert time.monotonic() < end + 300, callers.counts()
        troubles.turn()
    callers.stop()
    print(f"{dict(troubles.counts())}; {len(callers.orders)} orders, the last"
          f" of them ended after {wait_unfinished(fleet):.1f} s")
    sweepers.stop()
    check_orders(callers.orders, states(fleet), sagas(fleet), pieces)
    check_holds(fleet, callers.orders, sagas(fleet), troubles)
    fleet.check_books()
    check_relays(fleet)


def test_no_answer_from_a_shard(fleet):
    """The link is cut while a shard works. Its kernel has acknowledged the
    request: only keepalives, which the front sets, show that no answer will
    come."""
    fleet.timeouts = {}
    fleet.set_shards()
    receive(fleet)
    front, shard = fleet.front.pg.machine, fleet.shards[1]
    errors = []

    def reserve():
        try:
            fleet.front.sql(RESERVE, ("no-answer", fleet.items(1, 1, 1)))
        except psycopg2.Error as error:
            errors.append(error)

    with fleet.stopped_at(shard, "r.step = 1"):
        threading.Thread(target=reserve, daemon=True).start()
        # longer than a kernel delays an acknowledgement
        wait_until(lambda: shard.value(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event ="
            " 'advisory' AND query_start < clock_timestamp() - interval '1s'"),
            SLACK_S, "the shard works")
        front.cut_from(shard.pg.machine)
        try:
            wait_until(lambda: errors, CALL_S + SLACK_S, "the call has ended")
        finally:
            front.join_with(shard.pg.machine)
    assert errors[0].pgcode == "08006", errors[0]
    fleet.sweep()
    wait_until(lambda: not fleet.live("no-answer"), HOLD_S + SLACK_S,
               "the hold has not ended")
    fleet.check_books()
