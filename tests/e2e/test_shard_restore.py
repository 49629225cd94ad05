# SPDX-License-Identifier: PostgreSQL
"""One shard is restored to an earlier time, the others are not: the queries of
docs/sharding.md find what differs, and its commands mend it."""

import re
import shutil

import pytest

from documents import blocks
from process import run_tool, wait_until
from saga_fleet import Fleet, wanted
from test_front_sale_crash import BUY, held
from test_front_sales import users_of

pytestmark = [pytest.mark.long, pytest.mark.alone]

RESTORED, HOME = 1, 2       # the shard that is restored, that of the sale
SECTION = "Restoring a shard from a backup"


@pytest.fixture(scope="module", name="fleet")
def fixture_fleet(new_dir):
    made = Fleet(new_dir)
    made.receive(100)
    yield made
    made.stop_all()


def type_block(database, text, **values):
    """The answer of the section's block with that text, as rows of texts."""
    (block,) = [block.text for block in blocks("docs/sharding.md", SECTION)
                if text in block.text]
    for name, value in values.items():
        block, count = re.subn(rf"(?m)^\\set {name} .*$",
                               rf"\\set {name} '{value}'", block)
        assert count == 1, name
    out = run_tool([database.pg.bin("psql"), "-XqAt", "-F|", "-v",
                    "ON_ERROR_STOP=1", *database.pg.tool_args(database.name)],
                   input=block)
    return [tuple(line.split("|")) for line in out.splitlines()]


class Backup:
    """The files of a stopped server."""

    def __init__(self, server):
        self.server, self.copy = server, f"{server.data}.backup"
        server.stop()
        run_tool(["cp", "-a", server.data, self.copy])
        self.begin()

    def begin(self):
        self.server.start()

    def restore(self):
        self.server.power_cut()
        shutil.rmtree(self.server.data)
        run_tool(["cp", "-a", self.copy, self.server.data])
        self.begin()


def reserve(fleet, order, items):
    fleet.front.sql("SELECT * FROM reserve_order(%s, %s, ttl => '1 day')",
                    (order, items))


def test_a_shard_is_restored(fleet):
    front, shard = fleet.front, fleet.shards[RESTORED]
    items = fleet.items(1, 2, 3)
    for order in ("kept", "then-released", "then-confirmed"):
        reserve(fleet, order, items)
    backup = Backup(shard.pg)
    fleet.wait_reachable()
    since = front.value("SELECT clock_timestamp()::text")
    for order in ("lost", "lost-confirmed"):
        reserve(fleet, order, items)
    front.sql("SELECT confirm_stock('lost-confirmed')")
    front.sql("SELECT confirm_stock('then-confirmed')")
    front.sql("SELECT release_stock('then-released')")
    # a sale whose pieces have come to the shard and left it
    product = fleet.products(1, "sale")[HOME][0]
    front.sql("SELECT receive_stock(%s, 16)", (product,))
    front.sql("SELECT open_flash_sale('sale', %s, 16, 16)", (product,))
    (buyer,) = users_of(fleet, 0, 1, "buyer")
    assert front.value(BUY, ("sale", buyer, "bought", 15)) == "granted"
    assert held(fleet, product) == (16, 15)

    backup.restore()
    fleet.wait_reachable()
    found = type_block(front, "lines_here", shard=RESTORED, restored_to=since)
    assert sorted(found) == [
        ("lost", "reserved", "{}"), ("lost-confirmed", "confirmed", "{}"),
        ("then-confirmed", "confirmed", "{reserved}"),
        ("then-released", "released", "{reserved}")]
    front.sql("SELECT rollback_stock('lost')")
    front.sql("SELECT confirm_stock('then-confirmed')")
    front.sql("SELECT rollback_stock('then-released')")
    ((part,),) = type_block(fleet.coordinator, "request -> 'items'",
                            order_id="lost-confirmed", shard=RESTORED)
    shard.sql("SELECT reserve_order('lost-confirmed', %s)", (part,))
    front.sql("SELECT confirm_stock('lost-confirmed')")
    assert type_block(front, "lines_here", shard=RESTORED,
                      restored_to=since) == []
    assert {order: fleet.live(order) for order in (
        "kept", "lost", "lost-confirmed", "then-confirmed", "then-released")
            } == {"kept": wanted(items), "lost": [], "then-released": [],
                  "lost-confirmed": wanted(items),
                  "then-confirmed": wanted(items)}

    for other in fleet.shards:
        if other is not shard:
            type_block(other, "SET arrived_at = NULL", shard=RESTORED,
                       restored_to=since)
    ((name, location, pieces),) = type_block(
        front, "'from shard '", shard=RESTORED, restored_to=since)
    assert (name, location, int(pieces) > 0) == (product, "main", True)
    wait_until(lambda: front.sql("SELECT sweep_orders()") and held(
        fleet, product) == (16 + int(pieces), 15), 30,
        lambda: f"{held(fleet, product)}, {pieces}")
    front.sql("SELECT close_flash_sale('sale')")
    front.sql("SELECT adjust_stock(%s, %s, 'restored')",
              (product, -int(pieces)))
    assert held(fleet, product) == (16, 15)
    assert front.sql("SELECT state FROM stock_sagas WHERE under_way IS NOT"
                     " NULL") == []
    fleet.check_books()
