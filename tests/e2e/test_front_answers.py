# SPDX-License-Identifier: PostgreSQL
"""What the functions of a front do and return, where test_front.py does not
look: the rows and sums of several shards, and calls with a key of another
kind."""

import hashlib
import itertools
import json

import pytest

from shards import Shards
from test_front import name, outcome

BOTH = 1, 2             # the shards of an order that is in two of them


@pytest.fixture(name="by_place", scope="module")
def fixture_by_place(pg):
    """Two shards with the location as the key, and a location of each."""
    made = Shards(pg, count=2, line_key="location")
    made.places = [next(f"place-{i}" for i in itertools.count()
                        if made.front.value(
                            "SELECT pgstock_front.line_shard('p', %s)",
                            (f"place-{i}",)) == shard) for shard in (0, 1)]
    yield made
    drift = made.drift()
    made.drop()
    assert drift == []


def test_differences_of_all_shards_are_found_and_repaired(shards):
    front, products = shards.front, shards.products(5, "damaged")
    damaged = [(min(products[2]), shards.shards[2]),
               (max(products[1]), shards.shards[1])]
    assert damaged[0][0] < damaged[1][0], "not sorted by shard"
    for n, (product, shard) in enumerate(damaged):
        front.sql("SELECT receive_stock(%s, 5)", (product,))
        shard.sql("UPDATE pgstock_internal.level SET on_hand = on_hand + %s"
                  " WHERE product_id = %s", (n + 1, product))
    found = [row for _, shard in damaged for row in shard.drift()]
    assert [row[0] for row in found] == [product for product, _ in damaged]
    assert front.drift() == found
    product, shard = damaged[1]
    assert front.sql("SELECT * FROM verify_stock(%s)", (product,)) == [found[1]]
    assert front.sql("SELECT * FROM repair_stock(%s, 'counted')",
                     (product,)) == [found[1]]
    assert shard.level(product) == (5, 0, 5)
    assert front.drift() == [found[0]]
    assert front.sql("SELECT shard, reason FROM stock_admin_actions WHERE"
                     " action = 'repair_stock' AND target LIKE %s",
                     (f"%{product}%",)) == [
                         (shards.shards.index(shard), "counted")]
    front.sql("SELECT repair_stock(%s, 'counted')", (damaged[0][0],))
    assert front.drift() == []
    assert outcome(front, "repair_stock('no such', 'counted')") == outcome(
        shard, "repair_stock('no such', 'counted')")


def would_purge(shard):
    """How many movements purge_history() deletes there; nothing is changed."""
    with shard.connect() as conn, conn.cursor() as cur:
        cur.execute("SELECT purge_history(now() - interval '100 days')")
        (count,) = cur.fetchone()
        conn.rollback()
    conn.close()
    return count


def test_the_history_of_all_shards_is_purged(shards):
    front = shards.front
    for (product,), times in zip(shards.products(1, "old"), (2, 3, 4, 5)):
        for _ in range(times):
            front.sql("SELECT receive_stock(%s, 1)", (product,))
    for shard in shards.shards:
        shard.sql("UPDATE pgstock_internal.movement SET at = now()"
                  " - interval '1 year' WHERE product_id LIKE 'old-%'")
    counts = [would_purge(shard) for shard in shards.shards]
    assert counts[0] > 0 and counts == sorted(set(counts))
    assert front.value("SELECT purge_history(now() - interval '100 days')"
                       ) == sum(counts)
    assert [would_purge(shard) for shard in shards.shards] == [0] * 4
    assert front.drift() == []


def publish(shard):
    """Records that Kafka has all events of the shard, as its relay does."""
    with shard.connect() as conn, conn.cursor() as cur:
        cur.execute("SELECT pgstock_internal.relay_lead()")
        cur.execute("SELECT pgstock_internal.relay_store_position("
                    "pgstock_internal.relay_next_window(p.\"window\"), 0, true,"
                    " %s) FROM pgstock_internal.relay_position() p",
                    cur.fetchone())
    conn.close()


def test_an_order_in_two_shards_is_shown_and_sent_as_one(shards):
    """Its history is sorted by time, and its events are sent by both."""
    front, order = shards.front, name("shown")
    products = [shards.products(1, "shown")[shard][0] for shard in BOTH]
    for product in products[1], products[0], products[1]:
        front.sql("SELECT receive_stock(%s, 5)", (product,))
        front.sql("SELECT reserve_stock(%s, 1, %s)", (product, order))
    rows = front.sql("SELECT * FROM order_history(%s)", (order,))
    each = [row for shard in BOTH for row in shards.shards[shard].sql(
        "SELECT * FROM order_history(%s)", (order,))]
    assert rows != each and sorted(map(str, rows)) == sorted(map(str, each))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    for shard in BOTH:
        publish(shards.shards[shard])
    assert front.value("SELECT resend_events(%s, 'lost')", (order,)) == 2
    assert [shard.value("SELECT count(*) FROM stock_outbox WHERE key = %s",
                        (order,)) for shard in shards.shards] == [0, 2, 2, 0]


def test_an_event_that_kafka_has(shards):
    """Both functions ask the shard of the event, whichever it is."""
    for n in range(9):
        event = shards.front.value("SELECT publish_event('news', %s, '{}')",
                                   (f"had {n}",))
        shard = shards.shards[shard_of(f"had {n}")]
        publish(shard)
        status = "SELECT * FROM event_status(%s)"
        assert shards.front.sql(status, (event,)) == shard.sql(status, (event,))
        assert shards.front.sql(status, (event,))[0][2] == "published"
        assert shards.front.value("SELECT wait_for_event(%s)", (event,)) is True


def shard_of(key, shards=4):
    return int(hashlib.md5(key.encode()).hexdigest()[:8], 16) % shards


def test_bytes_are_published_by_the_shard_of_their_key(shards):
    for n in range(9):
        event = shards.front.value("SELECT publish_bytes('raw', %s, '\\x00ff')",
                                   (f"raw {n}",))
        assert [shard.value("SELECT count(*) FROM stock_outbox WHERE event_id"
                            " = %s AND key = %s", (event, f"raw {n}"))
                for shard in shards.shards] == [
                    int(i == shard_of(f"raw {n}")) for i in range(4)]


def test_a_handler_is_registered_in_all_shards(shards):
    front, handlers = shards.front, "SELECT shard FROM stock_handlers" \
        " WHERE topic = 'parcels' ORDER BY 1"
    bound = handlers.replace("handlers", "bindings")
    for shard in shards.shards:
        shard.sql("CREATE FUNCTION public.parcel(payload jsonb, message jsonb)"
                  " RETURNS void LANGUAGE sql AS ''")
    front.sql("SELECT register_handler('parcels', 'public.parcel')")
    assert front.sql(handlers) == [(n,) for n in range(4)]
    front.sql("SELECT register_handler('parcels', NULL)")
    assert front.sql(handlers) == []
    front.sql("SELECT bind_topic('parcels', 'order_created')")
    assert front.sql(bound) == [(n,) for n in range(4)]
    front.sql("SELECT unbind_topic('parcels')")
    assert front.sql(bound) == []


def test_corrections_return_what_is_on_hand(shards):
    front = shards.front
    for (product,) in shards.products(1, "correct"):
        shard = shards.shard_of(product)
        front.sql("SELECT receive_stock(%s, 5)", (product,))
        assert front.value("SELECT adjust_stock(%s, 2, 'found')",
                           (product,)) == 7
        assert front.value("SELECT set_stock(%s, 9)", (product,)) == 9
        front.sql("SELECT move_stock(%s, 4, 'main', 'east')", (product,))
        front.sql("SELECT configure_product(%s, safety => 1)", (product,))
        assert shard.level(product) == (5, 0, 4)
        assert shard.level(product, "east") == (4, 0, 3)


def test_locations_in_different_shards(by_place):
    """A product is configured wherever it is, and stock does not cross."""
    front, (here, there) = by_place.front, by_place.places
    for place in here, there:
        front.sql("SELECT receive_stock('wide', 5, %s)", (place,))
    front.sql("SELECT receive_stock('narrow', 5, %s)", (there,))
    for product in "wide", "narrow":
        front.sql("SELECT configure_product(%s, safety => 2)", (product,))
    items = json.dumps([
        {"product_id": product, "location": place, "quantity": 3}
        for product in ("wide", "narrow") for place in (here, there)])
    assert front.sql("SELECT product_id, location, available, fits FROM"
                     " check_availability(%s)", (items,)) == sorted([
                         ("narrow", here, 0, False), ("narrow", there, 3, True),
                         ("wide", here, 3, True), ("wide", there, 3, True)])
    assert outcome(front, "move_stock('wide', 1, %s, %s)", (here, there)) == (
        "0A000", "cannot move stock between shards",
        f'Locations "{here}" and "{there}" of product "wide" are in different'
        " shards.", "Take it out of one with adjust_stock, then add it to the"
        " other with receive_stock.")
    assert [shard.level("wide", place) for shard, place in zip(
        by_place.shards, (here, there))] == [(5, 0, 3)] * 2
    for shard in by_place.shards:
        shard.sql("UPDATE pgstock_internal.level SET on_hand = 7"
                  " WHERE product_id = 'wide'")
    found = front.drift()
    assert sorted(row[:2] for row in found) == sorted(
        ("wide", place) for place in (here, there))
    assert sorted(front.sql("SELECT * FROM repair_stock('wide', 'counted')")
                  ) == sorted(found)
    assert outcome(front, "configure_product('no such', safety => 1)")[0] == (
        outcome(by_place.shards[0],
                "configure_product('no such', safety => 1)")[0])
