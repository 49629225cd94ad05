# SPDX-License-Identifier: PostgreSQL
"""Failed messages through the front: each shard numbers its own, so the ids of
the front name the shard too."""

import pytest

from test_front import name, outcome

ARCHIVED = """
    INSERT INTO pgstock_internal.failed_event (topic, partition, "offset",
        event_id, order_id, attempts, state, class, error, first_failed_at,
        archived_at, handled, source)
    VALUES ('order-created', 0, 7, %s, %s, 4, 'archived', 'permanent',
        'broken', now(), now(), false, 'order-created')"""


@pytest.fixture(name="failed")
def fixture_failed(shards):
    """An archived message of the same order in the shards 1 and 3: their ids
    on the front."""
    order = name("order")
    for shard in (shards.shards[1], shards.shards[3]):
        shard.sql(ARCHIVED, (order, order))
    found = shards.front.sql("SELECT id, shard FROM stock_failed_events"
                             " WHERE order_id = %s ORDER BY shard", (order,))
    assert [shard for _, shard in found] == [1, 3]
    assert found == shards.front.sql(
        "SELECT id, shard FROM failed_order_archives WHERE order_id = %s"
        " ORDER BY shard", (order,))
    return order, [number for number, _ in found]


def states(shards, order):
    return [state for (state,) in shards.front.sql(
        "SELECT state FROM stock_failed_events WHERE order_id = %s"
        " ORDER BY shard", (order,))]


def test_one_message_is_retried_or_discarded(shards, failed):
    order, (first, second) = failed
    front = shards.front
    front.sql("SELECT retry_failed_event(%s, reason => 'repaired')", (second,))
    assert states(shards, order) == ["archived", "waiting"]
    front.sql("SELECT discard_failed_event(%s, 'a test')", (first,))
    assert states(shards, order) == ["discarded", "waiting"]
    assert front.sql("SELECT action, reason, shard FROM stock_admin_actions"
                     " WHERE action LIKE '%%failed_event' ORDER BY shard") == [
        ("discard_failed_event", "a test", 1),
        ("retry_failed_event", "repaired", 3)]


def test_all_messages_of_an_order_are_retried(shards, failed):
    order, _ = failed
    shards.front.sql("SELECT retry_failed_event(order_id => %s)", (order,))
    assert states(shards, order) == ["waiting", "waiting"]


def test_a_message_is_handled(shards, failed):
    order, (_, second) = failed
    shards.front.sql("SELECT mark_failed_event_handled(%s, 'refunded')",
                     (second,))
    assert shards.front.sql(
        "SELECT id, handled, handled_by FROM failed_order_archives"
        " WHERE order_id = %s AND handled", (order,)) == [
        (second, True, "pgstock_front/postgres")]


def test_errors_name_the_id_that_was_given(shards):
    for call in ("discard_failed_event(4711, 'why')",
                 "mark_failed_event_handled(4711, 'why')",
                 "retry_failed_event(4711)", "retry_failed_event()",
                 "retry_failed_event(order_id => 'none')",
                 "retry_failed_event(1, 'both')",
                 "retry_failed_event(order_id => '')",
                 "discard_failed_event(4711, '')",
                 "discard_failed_event(NULL, 'why')",
                 "mark_failed_event_handled(NULL, 'why')"):
        one = outcome(shards.shards[0], call)
        assert isinstance(one, tuple), call
        assert outcome(shards.front, call) == one, call
