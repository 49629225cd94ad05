# SPDX-License-Identifier: PostgreSQL
"""P2 at length: 50,000 reservations by 32 clients, the relay killed ten times.

After a kill the relay resumes from the position that it last stored, at most
200 ms or 10,000 events ago, and repeats the events acknowledged since and
those in flight; nothing older may arrive twice.
"""

import os

import pytest

from checks import Kills, check_all, duplicates
from load import PgBench
from process import wait_until

CLIENTS, RESERVATIONS, KILLS = 32, 50_000, 10

# Every fourth order is cancelled again, so that a key has a history.
SCRIPT = """\
\\set product random(1, 500)
\\set dice random(1, 4)
SELECT order_id FROM reserve_stock('p' || :product, 1,
    gen_random_uuid()::text) \\gset
\\if :dice = 1
SELECT release_stock(:order_id, 'changed mind');
\\endif
"""


@pytest.mark.alone
def test_fifty_thousand_with_ten_kills(db, run, kafka, start_relay):
    kafka.alter_topic("stock-events", message_timestamp_type="LogAppendTime")
    db.sql("SELECT receive_stock('p' || i, 1000000)"
           " FROM generate_series(1, 500) i")
    relay = start_relay()
    bench = PgBench(db, os.path.join(run, "load.sql"), SCRIPT, CLIENTS,
                    -(-RESERVATIONS // CLIENTS))
    kills = Kills(db)
    with kafka.tail("stock-events") as tail:
        for number in range(KILLS):
            target = (number + 1) * RESERVATIONS // (KILLS + 1)
            tail.until(lambda r, n=target: len(r) - duplicates(r) >= n
                       or not bench.running, 120, "the relay makes progress")
            kills.kill(relay.kill9)
            relay.start(wait=None)
        print(bench.finish())
        check_all(db, tail)
        records = tail.records
    made = db.value("SELECT count(*) FROM stock_movements"
                    " WHERE kind = 'reserved'")
    assert made >= RESERVATIONS
    kills.check(records)
    print(f"{len(records)} records, {duplicates(records)} of them repeated")
    wait_until(lambda: relay.metric("outbox_pending_events") == 0, 20,
               "the gauge of pending events comes down to 0")
