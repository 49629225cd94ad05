# SPDX-License-Identifier: PostgreSQL
"""The level stream: whoever reads its compacted topic has the levels exactly,
after compaction, and whatever was killed meanwhile; and a hot product costs
only so many records a second.

Sessions reserve, release, receive and configure all the time, in products with
and without slots and in flash sales. The topic is compacted as fast as a broker
can; the reader begins when all is over, and so sees what compaction has left.
The control for the coalescing is the same load with a higher rate.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import closing

import pytest
from confluent_kafka import Consumer

from cluster import Kafka
from kafkaio import delivered
from load import Clients
from process import wait_until
from test_random_kills import Chaos

TOPIC = "stock-levels"
PRODUCTS = [f"p{n}" for n in range(12)]
SECONDS = int(os.environ.get("PGSTOCK_KILL_SECONDS", "20"))
RECORD_BYTES = 400              # fewer than a record, more than other requests
COLUMNS = ("product_id", "location", "on_hand", "reserved", "safety",
           "available", "version")
SMALL = {"cleanup_policy": "compact", "segment_ms": 300,
         "segment_bytes": 1048576, "min_cleanable_dirty_ratio": 0.001,
         "max_compaction_lag_ms": 1000, "delete_retention_ms": 100}


@pytest.fixture(scope="module")
def broker(new_dir):
    """One whose cleaner hardly rests."""
    server = Kafka(new_dir("kafka-levels"),
                   settings="log.cleaner.backoff.ms=100\n"
                            "log.initial.task.delay.ms=100\n")
    yield server.init().start()
    server.close()


@pytest.fixture
def start(broker, db, relays):
    """Starts a relay with a level stream into a new topic."""
    broker.delete_topics(*broker.topics())
    broker.create_topics("stock-events", "stock-freeze-failed")

    def start_one(levels=None, brokers=broker.brokers, **config):
        config["levels"] = {"topic": TOPIC, **(levels or {})}
        return relays(db.conninfo(), brokers, config).start()
    return start_one


def rebuild(broker, isolation="read_uncommitted"):
    """The levels that the topic has, and the number of its records: as the
    recipe in docs/events.md reads them."""
    levels, count = {}, 0
    with closing(Consumer({
            "bootstrap.servers": broker.brokers, "group.id": "rebuild",
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "enable.partition.eof": True, "isolation.level": isolation,
            "log_level": 0})) as consumer:
        consumer.subscribe([TOPIC])
        left = set(consumer.list_topics(TOPIC, timeout=20)
                   .topics[TOPIC].partitions)
        while left:
            message = consumer.poll(20)
            assert message is not None, "the broker is silent"
            if message.error():
                left.discard(message.partition())
            elif message.value() is None:
                levels.pop(message.key(), None)
                count += 1
            else:
                levels[message.key()] = json.loads(message.value())
                count += 1
    return levels, count


def levels_of(db):
    """What the view has, by key."""
    return {f"{row[0]}@{row[1]}".encode(): dict(zip(COLUMNS, row))
            for row in db.sql(f"SELECT {', '.join(COLUMNS)}"
                              "  FROM stock_levels")}


def differences(broker, db, **how):
    """The keys whose level in the topic is not that of the view."""
    there = {key: {name: level[name] for name in COLUMNS}
             for key, level in rebuild(broker, **how)[0].items()}
    return {key: (there.get(key), level) for key, level in
            (levels_of(db) | {k: None for k in there - levels_of(db).keys()}
             ).items() if there.get(key) != level}


def wait_equal(broker, db, timeout=60, **how):
    """Wait until a reader that begins now has the levels."""
    wait_until(lambda: not differences(broker, db, **how), timeout,
               lambda: f"{differences(broker, db, **how)}", step=0.5)


def published(broker):
    """How many records the topic's partitions have had."""
    with broker.tail(TOPIC) as tail:
        return sum(tail.ends().values())


def shop(cur, name):
    """One call of a client: any that changes a level."""
    rng = random.Random(name)
    product = rng.choice(PRODUCTS[:2] + PRODUCTS)
    location = rng.choice(["main", "east"])
    what = rng.random()
    if what < 0.6:
        cur.execute("SELECT try_reserve_stock(%s, 1, %s, location => %s)",
                    (product, name, location))
        if rng.random() < 0.5:
            cur.execute("SELECT release_stock(%s)", (name,))
    elif what < 0.7:
        cur.execute("SELECT receive_stock(%s, 5, %s)", (product, location))
    elif what < 0.75:
        cur.execute("SELECT configure_product(%s, safety => %s, slots => %s)",
                    (product, rng.randint(0, 9), rng.choice([1, 4, 8])))
    elif what < 0.8:
        cur.execute("SELECT receive_stock(%s, 1, %s)",
                    (f"new-{name}", location))
    else:
        cur.execute("SELECT purchase_flash_sale('sale', %s, %s)",
                    (name, name))


def stock(db):
    db.sql("SELECT receive_stock(p, 100000, l) FROM unnest(%s) p,"
           " unnest('{main,east}'::text[]) l", (PRODUCTS,))
    db.sql("SELECT open_flash_sale('sale', %s, 50000)", (PRODUCTS[0],))


class Killer(Chaos):
    """Kills for so many seconds, by its own clock."""

    def run(self):
        ending = time.monotonic() + SECONDS
        while time.monotonic() < ending:
            time.sleep(self.random.uniform(0.3, 2))
            self.kill()
        wait_until(self.leader, 60, "no relay leads any more")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_compaction_and_kills_leave_the_levels(db, broker, start, mode):
    seed = int(os.environ.get("PGSTOCK_SEED") or random.randrange(10**6))
    print(f"PGSTOCK_SEED={seed} PGSTOCK_KILL_SECONDS={SECONDS}")
    how = {"isolation": "read_committed" if mode == "transactional"
           else "read_uncommitted"}
    stock(db)
    broker.create_topics(TOPIC, **SMALL)
    found = [start(outbox={"mode": mode}, levels={"max_per_second": 50})
             for _ in range(2)]
    chaos = Killer(db, broker, found, seed)
    with Clients(db, 4, shop, again=True, every=0.01) as clients:
        chaos.run()
        clients.progress(100)
    wait_equal(broker, db, **how)
    # each record begins a new segment now, so the cleaner takes the others
    def compacted():
        db.sql("SELECT receive_stock(p, 1, l) FROM unnest(%s) p,"
               " unnest('{main,east}'::text[]) l", (PRODUCTS,))
        return rebuild(broker, **how)[1] < published(broker) / 2

    wait_until(compacted, 60, "compaction takes nothing", step=0.5)
    wait_equal(broker, db, **how)
    assert differences(broker, db, **how) == {}
    print(f"{dict(chaos.counts)}; {len(clients.acknowledged)} calls,"
          f" {published(broker)} records, {rebuild(broker, **how)[1]} left")


def test_a_stopped_relay_s_record_arrives_late(db, broker, start):
    """The race: a leader is frozen, with a record on its way to the broker.
    Another one leads, and publishes that record and a newer one; then the
    broker gets the first one's record, which is the latest now.  The leader
    reads its topic, finds that it is not the level, and writes it again."""
    stock(db)
    db.sql("SELECT set_event_topic('*', NULL)")     # one request at a time
    old = start(brokers=broker.proxied_brokers)
    wait_equal(broker, db)
    new = start()
    broker.proxy.stall()
    db.sql("SELECT reserve_stock('p1', 1, 'o-late')")
    wait_until(lambda: broker.proxy.held > RECORD_BYTES, 20,
               "its record is on its way")
    old.signal(signal.SIGSTOP)
    wait_until(lambda: new.metric("leader") == 1, 60, "the new one leads")
    wait_equal(broker, db)
    db.sql("SELECT reserve_stock('p1', 1, 'o-newer')")
    wait_equal(broker, db)
    before = published(broker)
    broker.proxy.restore()
    old.signal(signal.SIGCONT)
    wait_until(lambda: published(broker) > before, 60, "the late record")
    wait_equal(broker, db)


def put(broker, *records, database=None):
    """Records of another program, or of a relay of that database."""
    out = broker.producer()
    headers = [("ce_incarnation", database)] if database else None
    for key, value in records:
        out.produce(TOPIC, key=key, value=value, headers=headers)
    delivered(out)


def incarnation(db):
    return db.value("SELECT (pgstock_internal.own_incarnation()).id::text")


def test_records_that_are_not_the_levels(db, broker, start, relays):
    """Whatever another program writes, while a relay runs and while none does,
    also behind compaction; a level that the database had written and does not
    have ends as a tombstone."""
    stock(db)
    relay = start()
    wait_equal(broker, db)
    some = rebuild(broker)[0][b"p1@main"]
    stale = json.dumps({**some, "on_hand": 7}).encode()
    put(broker, (b"p1@main", stale), (b"p2@main", None), (b"p3@main", stale),
        (b"no level", None), (b"\xff@main", None))
    put(broker, (b"lost@main", stale), database=incarnation(db))
    wait_until(lambda: not {b"p1@main", b"p2@main", b"p3@main", b"lost@main"}
               & differences(broker, db).keys(), 30,
               lambda: differences(broker, db))
    assert differences(broker, db) == {}
    relay.terminate()
    put(broker, (b"p1@east", stale), (b"p2@east", None))
    assert differences(broker, db).keys() == {b"p1@east", b"p2@east"}
    relay.start()
    wait_equal(broker, db)
    quiet = published(broker)
    db.sql("SELECT reserve_stock('p4', 1, 'o-1')")
    wait_equal(broker, db)
    assert published(broker) == quiet + 1, "nothing but the change"


def test_two_databases_share_a_topic(db, broker, start, relays, pg):
    """Each has products of its own, and the topic has those of both: neither
    writes because of a record of the other, nor deletes it."""
    stock(db)
    start()
    other = pg.create_database(f"{db.name}_other")
    try:
        other.sql("SELECT receive_stock('theirs', 1)")
        relay = relays(other.conninfo(), broker.brokers,
                       {"levels": {"topic": TOPIC}}).start()

        def complete():
            levels = rebuild(broker)[0]
            return levels.keys() == levels_of(db).keys() | {b"theirs@main"}

        wait_until(complete, 60, lambda: rebuild(broker)[0].keys())
        quiet = published(broker)
        read = "SELECT sum(next_offset) FROM pgstock_internal.level_read"
        wait_until(lambda: db.value(read) == other.value(read) == quiet, 30,
                   "both have read all of it")
        for each in (db, other):
            assert each.sql("TABLE pgstock_internal.level_difference") == []
        db.sql("SELECT reserve_stock('p1', 1, 'o-1')")
        wait_until(lambda: other.value(read) == quiet + 1, 30, "the change")
        assert complete()
        relay.terminate()
    finally:
        other.drop()


def test_a_reader_that_lags_corrects_nothing(db, broker, start):
    """Stale records, more than the reader takes at once, each followed by the
    level: with one step a second it catches up, and writes nothing."""
    stock(db)
    relay = start({"max_per_second": 1})
    wait_equal(broker, db)
    relay.terminate()
    level = rebuild(broker)[0][b"p1@main"]
    stale = json.dumps({**level, "on_hand": 7}).encode()
    with broker.tail(TOPIC) as tail:
        last = {r.key: r.value for r in tail.read_to_end()}[b"p1@main"]
    put(broker, *[(b"p1@main", stale)] * 20000, (b"p1@main", last))
    quiet = published(broker)
    relay.start()
    read = "SELECT sum(next_offset) FROM pgstock_internal.level_read"
    wait_until(lambda: db.value(read) == quiet, 15, lambda: db.value(read))
    assert db.sql("TABLE pgstock_internal.level_difference") == []
    db.sql("SELECT reserve_stock('p2', 1, 'o-1')")
    wait_equal(broker, db)
    assert published(broker) == quiet + 1, "nothing but the change"


def test_a_hot_product_costs_so_many_records(db, broker, start):
    """Of thousands of changes; a product that changes once has one."""
    stock(db)
    start({"max_per_second": 4})
    wait_equal(broker, db)
    with broker.tail(TOPIC) as tail:
        before = len(tail.read_to_end())
        begin = time.monotonic()

        def sell(cur, name):
            cur.execute("SELECT reserve_stock('p1', 1, %s)", (name,))

        with Clients(db, 4, sell) as clients:
            wait_until(lambda: len(tail.read_to_end()) >= before + 12, 60,
                       "twelve records")
            clients.progress(500)
        wait_equal(broker, db)
        seconds = time.monotonic() - begin
        records = Counter(record.key for record in
                          tail.read_to_end()[before:])
    assert set(records) == {b"p1@main"}
    assert 4 <= records[b"p1@main"] <= 4 * seconds + 1, (records, seconds)
    assert len(clients.acknowledged) > 2 * records[b"p1@main"]
    assert db.value("SELECT count(*) FROM pgstock_internal.level_mark") == 0


def test_off_and_on_again(db, broker, start, relays):
    """Without [levels] there is no mark and no topic, turned off by a second
    try if the first one fails; what changed meanwhile is in the topic after
    the next start, which creates it compacted."""
    stock(db)
    plain = relays(db.conninfo(), broker.brokers).start()
    db.sql("SELECT reserve_stock('p1', 1, 'o-1')")
    assert db.value("SELECT count(*) FROM pgstock_internal.level_mark") == 0
    assert TOPIC not in broker.topics()
    assert plain.metric("levels_behind_seconds") == 0
    plain.terminate()
    relay = start()
    wait_until(lambda: TOPIC in broker.topics(), 30, "no topic")
    assert broker.topic_config(TOPIC)["cleanup.policy"] == "compact"
    wait_equal(broker, db)
    assert relay.metric("levels_behind_seconds") < 5
    relay.terminate()
    db.sql("ALTER FUNCTION pgstock_internal.end_level_stream RENAME TO hidden")
    plain.start()
    wait_until(lambda: db.sql("SELECT step FROM pgstock_internal.upkeep_failure"
                              " WHERE step = 'levels'"), 30, "it fails")
    db.sql("ALTER FUNCTION pgstock_internal.hidden RENAME TO end_level_stream")
    wait_until(lambda: not db.sql("TABLE pgstock_internal.level_stream"), 30,
               "the stream is still on")
    db.sql("SELECT reserve_stock('p2', 7, 'o-2')")
    plain.terminate()
    relay.start()
    wait_equal(broker, db)


def test_a_transaction_from_before(db, broker, start):
    """One that was open when the stream was turned on marks nothing, and the
    fill waits for it."""
    stock(db)
    with closing(db.connect()) as early:
        early.cursor().execute("SELECT reserve_stock('p3', 3, 'o-early')")
        start()
        wait_until(lambda: db.sql(
            "SELECT ready_at FROM pgstock_internal.level_stream"
            " WHERE ready_at IS NOT NULL"), 30, "the stream is not on")
        db.sql("SELECT reserve_stock('p4', 4, 'o-late')")
        wait_until(lambda: b"p4@main" in rebuild(broker)[0], 30,
                   "a change that is marked does not wait")
        assert b"p3@main" not in rebuild(broker)[0]
        early.commit()
    wait_equal(broker, db)


def test_snapshot(db, broker, start):
    """Fills a topic that has lost its records, while a stream is on; and any
    other one without a stream."""
    stock(db)
    relay = start()
    wait_equal(broker, db)
    broker.delete_topics(TOPIC)
    broker.create_topics(TOPIC, cleanup_policy="compact")
    assert rebuild(broker)[0] == {}
    done = relay.command("snapshot")
    assert (done.returncode, done.stdout) == (
        0, f"wrote {2 * len(PRODUCTS)} levels to the outbox, for topic"
           f" {TOPIC}\n"), done.stderr
    wait_equal(broker, db)
    broker.create_topics("other")
    assert relay.command("snapshot", "--topic", "other").returncode == 0
    with broker.tail("other") as tail:
        tail.until(lambda records: len(records) == 2 * len(PRODUCTS), 30,
                   "the records")
    done = relay.command("snapshot", "--topic", "stock-events")
    assert done.returncode == 1 and "Stock events go to it" in done.stderr
    assert db.sql("SELECT action, target FROM stock_admin_actions ORDER BY at"
                  ) == [("snapshot", f"topic {TOPIC}"),
                        ("snapshot", "topic other")]
    assert differences(broker, db) == {}


def test_check(db, broker, start):
    """levels_compaction: the topic is compacted, and nothing but that."""
    relay = start()
    wait_until(lambda: TOPIC in broker.topics(), 30, "no topic")

    def found():
        lines = relay.command("check").stdout
        return [line for line in lines.splitlines() if TOPIC in line]

    assert not any("cleanup.policy" in line for line in found()), found()
    for policy in ("compact,delete", "delete"):
        broker.alter_topic(TOPIC, cleanup_policy=policy)
        wait_until(lambda: any("is not compact" in line for line in found()),
                   20, lambda: "\n".join(found()))
        assert relay.command("check").returncode == 1


def test_a_copy_of_the_database(db, broker, start, relays, pg):
    """It begins the stream anew: its levels are in the topic, also those that
    the topic had otherwise."""
    stock(db)
    relay = start()
    wait_equal(broker, db)
    relay.terminate()
    db.sql("SELECT reserve_stock('p5', 5, 'o-source')")
    copy = f"{db.name}_copy"
    with closing(pg.connect()) as conn:
        conn.autocommit = True
        conn.cursor().execute(f"CREATE DATABASE {copy} TEMPLATE {db.name}")
    other = type(db)(pg, copy)
    try:
        other.sql("DELETE FROM pgstock_internal.level_mark")
        again = relays(other.conninfo(), broker.brokers,
                       {"levels": {"topic": TOPIC}})
        assert again.command("adopt", "--execute").returncode == 0
        again.start()
        wait_equal(broker, other)
        again.terminate()
    finally:
        other.drop()


def test_bad_settings(db, broker, relays):
    """A topic that cannot be one, or that has other records."""
    for topic, why in (("a b", "cannot be the name of a topic"),
                       ("stock-events", "has stock events"),
                       ("order-created", "is consumed")):
        relay = relays(db.conninfo(), broker.brokers, {
            "levels": {"topic": topic}, "inbox": {"topics": "order-created"}})
        done = relay.command("check")
        assert done.returncode == 2 and why in done.stderr, done.stderr
