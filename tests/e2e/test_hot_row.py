# SPDX-License-Identifier: PostgreSQL
"""The cost of a hot product while other sessions hold snapshots."""

from contextlib import closing

SELL = ("DO $$ BEGIN FOR i IN 1..%s LOOP"
        " PERFORM reserve_stock('p', 1, %s || i); COMMIT;"
        " END LOOP; END $$")


def blocks_of_sales(db, connection, count, prefix):
    """How many blocks of the level's table and index so many sales visit."""
    query = ("SELECT heap_blks_hit + idx_blks_hit FROM pg_statio_all_tables"
             " WHERE relid = 'pgstock_internal.level'::regclass")
    before = db.value(query)
    with connection.cursor() as cursor:
        cursor.execute(SELL, (count, prefix))
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")
    return db.value(query) - before


def test_a_held_snapshot_does_not_make_sales_dearer(db):
    """A snapshot (pg_dump, a report) keeps every version of the hot row.  A
    sale must not walk them, neither to find the row nor to enter its new
    version into the index."""
    db.sql("SELECT receive_stock('p', 1000000)")
    with closing(db.connect()) as holder, closing(db.connect()) as seller:
        holder.cursor().execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        seller.autocommit = True
        first = blocks_of_sales(db, seller, 1000, "a")
        blocks_of_sales(db, seller, 40000, "b")
        last = blocks_of_sales(db, seller, 1000, "c")
        assert first > 0
        assert last < 1.5 * first, (first, last)
    assert db.drift() == []
