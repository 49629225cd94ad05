# SPDX-License-Identifier: PostgreSQL
"""The gateway beside a relay: the relay's state, and receipts of events."""

import pytest

from process import wait_until

pytestmark = pytest.mark.xdist_group("gateway")


def test_the_state_of_the_relay(reader, shop, start_relay):
    status = reader.get("/status").json
    assert (status["status"], status["relays"]) == ("failing", [])
    assert status["problems"] == ["no relay leads the outbox"]
    relay = start_relay(conninfo=shop.conninfo())
    wait_until(lambda: reader.get("/status").json["status"] == "ok", 30,
               relay.tail)
    status = reader.get("/status").json
    leader, = [one for one in status["relays"] if one["leads"]]
    assert (leader["name"], leader["pid"]) == (status["leader"],
                                               status["leader_pid"])
    assert leader["since"] == status["leader_since"]
    wait_until(lambda: reader.get("/status").json["pending_events"] == 0, 30,
               relay.tail)
    assert relay.terminate() == 0
    wait_until(lambda: not reader.get("/status").json["relays"], 30,
               relay.tail)
