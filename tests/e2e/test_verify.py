# SPDX-License-Identifier: PostgreSQL
"""verify_stock() is a proof that can be run on a shop with a history."""

import time

import pytest

pytestmark = pytest.mark.proof

PRODUCTS, MOVEMENTS_EACH = 10_000, 100
LIMIT_S = 60

# Each product: 1000 received, 49 orders of one piece, confirmed and released
# by turns, and one that is still reserved.
HISTORY = """
CREATE TEMP TABLE step AS
SELECT k, CASE WHEN k = 1 THEN 'received' WHEN k % 2 = 0 THEN 'reserved'
          WHEN k % 4 = 3 THEN 'confirmed' ELSE 'released' END AS kind
  FROM generate_series(1, 100) k;
INSERT INTO pgstock_internal.movement (at, kind, product_id, location,
    on_hand_delta, reserved_delta, order_id, actor)
SELECT now(), kind, 'p' || p, 'main',
       CASE kind WHEN 'received' THEN 1000 WHEN 'confirmed' THEN -1 ELSE 0 END,
       CASE kind WHEN 'received' THEN 0 WHEN 'reserved' THEN 1 ELSE -1 END,
       CASE WHEN k > 1 THEN format('o-%s-%s', p, k / 2) END, 'history'
  FROM step, generate_series(1, 10000) p ORDER BY k;
INSERT INTO pgstock_internal.reservation (order_id, attempt, product_id,
    location, slot, quantity, state, created_at)
SELECT format('o-%s-%s', p, k / 2), 1, 'p' || p, 'main', 0, 1,
       CASE WHEN k = 100 THEN 'r' WHEN k % 4 = 2 THEN 'c' ELSE 'l' END, now()
  FROM step, generate_series(1, 10000) p WHERE kind = 'reserved';
INSERT INTO pgstock_internal.level
SELECT 'p' || p, 'main', 0, 975, 1, 0, 0, 1, 100, 1, false
  FROM generate_series(1, 10000) p;
"""


@pytest.mark.long
def test_a_million_movements_in_a_minute(db):
    db.sql(HISTORY)
    assert db.value("SELECT count(*) FROM stock_movements") == (
        PRODUCTS * MOVEMENTS_EACH)
    began = time.monotonic()
    assert db.drift() == []
    took = time.monotonic() - began
    print(f"verify_stock() took {took:.1f} s")
    assert took < LIMIT_S
    # the real history of a product that is still sold
    db.sql("SELECT reserve_stock('p7', 1, 'new'), confirm_stock('o-8-50')")
    assert db.drift() == []
    db.sql("UPDATE pgstock_internal.movement SET reserved_delta = 2"
           " WHERE order_id = 'o-5000-20' AND kind = 'reserved'")
    assert db.drift() == [("p5000", "main", "reserved: ledger and level", 2,
                           1)]
    db.sql("UPDATE pgstock_internal.movement SET reserved_delta = 1"
           " WHERE order_id = 'o-5000-20' AND kind = 'reserved'")
