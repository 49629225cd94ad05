# SPDX-License-Identifier: PostgreSQL
"""Flash sales end by themselves: by the worker of a server where pgstock is
preloaded, elsewhere by the relay, and after any kill once."""

import pytest

from cluster import Postgres
from process import wait_until

PRELOAD = {"shared_preload_libraries": "pgstock"}


@pytest.fixture(scope="module")
def preloaded(new_dir):
    server = Postgres(new_dir("postgres-sales"), PRELOAD).init().start()
    yield server
    server.close()


@pytest.fixture(params=["preloaded", "relay"])
def either(request):
    """A database with upkeep, one way or the other."""
    if request.param == "preloaded":
        return request.getfixturevalue("preloaded").create_database("by_itself")
    request.getfixturevalue("start_relay")()
    return request.getfixturevalue("db")


def sale(db, name):
    """(closed, left at its end) of a sale."""
    (row,) = db.sql("SELECT closed_at IS NOT NULL, left_at_end"
                    " FROM pgstock_internal.sale WHERE activity_id = %s",
                    (name,))
    return row


def test_a_sale_ends_by_itself(either):
    """Promptly, with what was left; an hour's sale beside it stays open."""
    db = either
    db.sql("SELECT receive_stock('hot', 20)")
    db.sql("SELECT open_flash_sale('long', 'hot', 5,"
           " ends_at => now() + interval '1 h')")
    # in one transaction, so that it is bought from in time
    assert db.value("SELECT open_flash_sale('short', 'hot', 8, 9,"
                    " ends_at => clock_timestamp() + interval '1 s');"
                    " SELECT status FROM purchase_flash_sale('short', 'ann',"
                    " 'o-1', 3)") == "granted"
    wait_until(lambda: sale(db, "short") == (True, 5), 20,
               lambda: f"the sale is {sale(db, 'short')}")
    late = db.value("SELECT extract(epoch FROM closed_at - ends_at)::float8"
                    " FROM pgstock_internal.sale WHERE activity_id = 'short'")
    assert 0 <= late < 10
    assert sale(db, "long") == (False, None)
    assert db.level("hot") == (20, 3, 12)
    assert db.value("SELECT status FROM purchase_flash_sale('short', 'bob',"
                    " 'o-2')") == "not_open"
    assert db.sql("SELECT payload->>'kind', (payload->>'available')::int"
                  " FROM stock_outbox WHERE key = 'hot' ORDER BY seq DESC"
                  " LIMIT 1") == [("sale_closed", 12)]
    assert db.value("SELECT close_flash_sale('short')") == 5


def test_a_sale_ends_after_kills(preloaded):
    """The server is killed while many sales end: each is open, with its whole
    quota, or has ended, and after the restart all have, once."""
    db = preloaded.create_database("sales")
    count, bought = 300, 3
    db.sql("SELECT receive_stock('p-' || i, 10), open_flash_sale('s-' || i,"
           " 'p-' || i, 8, 9, '-infinity', now() + interval '1 h')"
           " FROM generate_series(1, %s) i", (count,))
    db.sql("SELECT count((purchase_flash_sale('s-' || i, 'u', 'o-' || i,"
           " %s)).status) FROM generate_series(1, %s) i", (bought, count))
    # all are due; a line that is due wakes the worker
    db.sql("UPDATE pgstock_internal.sale SET ends_at = now();"
           " SELECT receive_stock('alarm', 1),"
           " reserve_stock('alarm', 1, 'alarm', ttl => '1 ms')")
    ended = "SELECT count(*) FROM pgstock_internal.sale WHERE" \
            " closed_at IS NOT NULL"
    killed = 0
    while killed < 3 and db.value(ended) < count:
        goal = min(count, db.value(ended) + 20)
        wait_until(lambda: db.value(ended) >= goal, 30, "sales that end")
        preloaded.kill9()
        preloaded.start()
        killed += 1
        assert db.drift() == []
    assert killed, "no kill came in between"
    wait_until(lambda: db.value(ended) == count, 60, "all sales ended")
    assert db.sql("SELECT DISTINCT left_at_end FROM pgstock_internal.sale"
                  ) == [(8 - bought,)]
    assert db.sql("SELECT kind, count(*) FROM stock_movements"
                  " WHERE kind ~ '^sale' GROUP BY 1 ORDER BY 1") == [
        ("sale_closed", 2 * count), ("sale_opened", 2 * count)]
    assert db.sql("SELECT DISTINCT on_hand, reserved, available"
                  " FROM stock_levels WHERE product_id <> 'alarm'") == [
        (10, bought, 10 - bought)]
    assert db.value("SELECT count(*) FROM stock_outbox"
                    " WHERE payload->>'kind' = 'sale_closed'") == count
    assert db.drift() == []
