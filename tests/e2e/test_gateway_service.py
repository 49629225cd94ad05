# SPDX-License-Identifier: PostgreSQL
"""The gateway as a service: what it reports to systemd."""

import signal
from contextlib import closing

import pytest

from gateway import held_up, wait_for_queue

pytestmark = pytest.mark.xdist_group("gateway")


def environment(manager, watchdog_us=1_000_000):
    return {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(watchdog_us)}


@pytest.mark.alone
def test_systemd(gateways, manager, product, shop):
    """READY once the configuration is valid and the addresses are open;
    WATCHDOG well within its interval; a readable status; RELOADING and READY
    again around a reload, a refused one too; STOPPING before a drain, with the
    time that it may take, and WATCHDOG during it."""
    gateway = gateways({"postgres": {"pool": 1}}).start(
        env=environment(manager))
    manager.wait("READY=1")
    manager.wait("STATUS=connecting")
    manager.wait("STATUS=ready")
    assert manager.longest_silence(6) < 0.8
    for good in (True, False):
        if not good:
            gateway.config["gateway"]["queue_max"] = "many"
        manager.seen.clear()
        gateway.reload(good)
        manager.wait("RELOADING=1")
        manager.wait("MONOTONIC_USEC=")
        manager.wait("READY=1")
    with held_up(shop, gateway, product, 5) as (conn, answers):
        wait_for_queue(gateway, 4)
        gateway.signal(signal.SIGTERM)
        manager.wait("STOPPING=1")
        manager.wait("EXTEND_TIMEOUT_USEC=15000000")
        assert manager.longest_silence(2) < 0.8
        conn.rollback()
        # 503: the wait for the lock was over
        assert {answer.status for answer in answers.result()} <= {201, 503}
    assert gateway.wait_end() == 0


def test_ready_without_a_database(gateways, manager):
    """It is a state, not a failed start: systemd must not start the gateway
    again and again because of it."""
    gateway = gateways(port=1).start(wait=None, env=environment(manager))
    manager.wait("READY=1")
    manager.wait("STATUS=connecting")
    assert manager.longest_silence(4) < 0.8
    assert gateway.get("/readyz")[0] == 503
    assert gateway.terminate() == 0
    manager.wait("STOPPING=1")


def test_a_frozen_loop_is_not_notified(gateways, manager):
    """The loop itself sends WATCHDOG=1, no thread beside it."""
    gateway = gateways().start(env=environment(manager, 200_000))
    manager.longest_silence(2)
    gateway.signal(signal.SIGSTOP)
    try:
        before = len(manager.watchdog)
        with closing(gateway.client(timeout=1)) as client, \
                pytest.raises(TimeoutError):
            client.get("/livez")
        assert len(manager.watchdog) <= before + 1
    finally:
        gateway.signal(signal.SIGCONT)
    manager.longest_silence(2)
    assert gateway.terminate() == 0
