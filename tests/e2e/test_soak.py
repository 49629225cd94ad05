# SPDX-License-Identifier: PostgreSQL
"""Flat memory: relay and gateway under a steady load, for seconds in CI and
for PGSTOCK_SOAK_SECONDS=n elsewhere.

The time has eight parts of the same load.  In the first two, pools, queues and
librdkafka's buffers reach their size.  From part to part of the others, a call
that leaks makes the peak of what is allocated grow each time; a burst raises it
for good, but once (by 1.4 MB in five minutes).  So it is the median of the
growths that is judged.  The longer the parts, the less a call can leak without
being noticed: in CI, some hundred bytes.
"""

import json
import os
import statistics
import threading
import time
from collections import Counter
from contextlib import closing

import pytest

from load import Threads
from process import wait_until

pytestmark = [pytest.mark.xdist_group("gateway"), pytest.mark.long]

SECONDS = float(os.environ.get("PGSTOCK_SOAK_SECONDS", "24"))
PARTS, WARM_UP = 8, 2
GROWTH_KB_MAX = 256             # of a process, from part to part
CALLERS = 4
RESENT = 10                     # each so many orders a message is repeated


def allocated_kb(pid):
    """What is resident and not a file's."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(file.read().split("RssAnon:")[1].split()[0])


class Load(Threads):
    """Clients of the gateway, and messages about their orders."""

    def __init__(self, gateway, product, out):
        super().__init__()
        self.gateway, self.product, self.out = gateway, product, out
        self.calls = Counter()          # by HTTP status
        self.messages = 0
        self.mutex = threading.Lock()
        self.start(*((self.run, n) for n in range(CALLERS)))

    def send(self, topic, order, **fields):
        with self.mutex:
            self.messages += 1
            self.out.produce(topic, key=order, value=json.dumps(
                {"event_id": f"{topic}-{order}", "order_id": order, **fields}))
            self.out.poll(0)

    def order(self, client, order, n):
        """Every way that an order may take, and requests that are refused."""
        def count(answer):
            self.calls[answer.status] += 1
        count(client.reserve(self.product, 1, order))
        if n % 3 == 0:
            self.send("payment-success", order, payment_id=f"p-{order}")
            if n % RESENT == 0:
                self.send("payment-success", order, payment_id=f"p-{order}")
        elif n % 3 == 1:
            count(client.post(f"/orders/{order}/release"))
        else:
            self.send("order-cancelled", order, reason="soak")
        count(client.reserve(self.product, 10**9, f"{order}-big"))
        count(client.get(f"/orders/{order}"))
        count(client.get(f"/products/{self.product}/stock"))
        count(client.call("POST", "/orders", b"{"))

    def run(self, number):
        try:
            with closing(self.gateway.client()) as client:
                n = 0
                while not self.ending.is_set():
                    n += 1
                    self.order(client, f"soak-{number}-{n}", n)
                    if n % 100 == 0:
                        client.close()          # and connects again
        except Exception as error:      # raised by stop()
            self.errors.append(error)


def peaks(pids, load, until):
    """{name: the most that the process had allocated} until that time."""
    most = dict.fromkeys(pids, 0)

    def look():
        assert not load.errors, load.errors[0]
        for name, pid in pids.items():
            most[name] = max(most[name], allocated_kb(pid))
        return time.monotonic() > until
    wait_until(look, SECONDS + 60, "the part's end", step=0.1)
    return most


def test_memory_is_flat(gateways, admin, product, shop, kafka, start_relay):
    admin.post(f"/products/{product}/stock/receive", {"quantity": 10**8})
    relay = start_relay({"inbox": {"topics": "payment-success,"
                                             " order-cancelled"}},
                        conninfo=shop.conninfo())
    gateway = gateways().start()
    pids = {"relay": relay.pid, "gateway": gateway.pid}
    begun = time.monotonic()
    load = Load(gateway, product, kafka.producer())
    try:
        parts = [peaks(pids, load, begun + SECONDS * (n + 1) / PARTS)
                 for n in range(PARTS)][WARM_UP:]
    finally:
        load.stop()
    load.out.flush()
    print(parts, dict(load.calls), load.messages)
    assert set(load.calls) == {200, 201, 400, 409}, load.calls
    wait_until(lambda: relay.metric("inbox_events_total") == load.messages, 60,
               relay.tail)
    wait_until(lambda: relay.metric("outbox_pending_events") == 0, 60,
               relay.tail)
    for name in pids:
        growth = statistics.median(
            later[name] - earlier[name]
            for earlier, later in zip(parts, parts[1:]))
        assert growth <= GROWTH_KB_MAX, (name, parts)
