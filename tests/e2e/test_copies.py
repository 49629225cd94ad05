# SPDX-License-Identifier: PostgreSQL
"""Databases that are copies of others, and servers that are being upgraded:
nothing runs in an incomplete database.

One server, preloaded, so that a worker would expire due lines within
milliseconds; a second database of the same server, whose line is due at the
same moment and does expire, shows that the worker has run.
"""

import os
from contextlib import closing

import pytest

from cluster import Database, Postgres
from process import wait_until

SETTINGS = {"shared_preload_libraries": "pgstock", "wal_level": "logical",
            "wal_retrieve_retry_interval": "100ms"}


@pytest.fixture(scope="module")
def server(new_dir):
    one = Postgres(new_dir("postgres-copies"), SETTINGS).init()
    one.start()
    yield one
    one.close()


def reserve(db, order, ttl):
    db.sql("SELECT receive_stock('a', 10)")
    db.sql("SELECT reserve_stock('a', 1, %s, ttl => %s)", (order, ttl))


def states(db):
    """The states that the rows hold."""
    return [state for (state,) in db.sql(
        "SELECT state::text FROM pgstock_internal.reservation ORDER BY 1")]


def wait_expired(db):
    wait_until(lambda: set(states(db)) == {"e"}, 20, lambda: states(db))


def make_due(db):
    db.sql("UPDATE pgstock_internal.reservation SET due_at = now(),"
           " expires_at = now() WHERE state = 'r'")


def adopt(db):
    return dict(db.sql("SELECT * FROM pgstock_internal.relay_adopt(true)"))


def has_been_looked_at(db, name):
    """Wake the keeper, and wait until a later line of another database has
    expired."""
    db.sql("SELECT pgstock_internal.keeper_call()")
    server = db.pg
    other = server.create_database(name)
    reserve(other, "o", "1 ms")
    wait_expired(other)
    other.drop()


def test_nothing_runs_while_pg_upgrade_works(server):
    """It dumps the schema, with the values of the sequences, and then copies
    the files: a row written in between would lie behind its sequence."""
    db = server.create_database("upgraded")
    reserve(db, "o", "1 h")
    make_due(db)
    server.stop()
    before = server.settings
    server.spawn([server.bin("postgres"), "-D", server.data, "-b",
                  "-p", str(server.port)])
    try:
        wait_until(server.accepts, 60, server.tail)
        assert db.sql("SELECT pid FROM pg_stat_activity"
                      " WHERE backend_type ~ 'pgstock'") == []
        assert db.value("SELECT NOT pgstock_internal.keeper_is_here()")
    finally:
        server.stop()
        assert server.settings is before
        server.start()
    wait_expired(db)
    db.drop()


def test_a_dump_is_left_alone_until_it_is_adopted(server):
    origin = server.create_database("origin")
    reserve(origin, "o", "1 h")
    origin.sql("ALTER DATABASE origin SET timezone = 'UTC'")
    path = os.path.join(server.directory, "origin.dump")
    server.dump("origin", path)
    restored = server.create_database("restored", extension=False)
    server.restore("restored", path)
    make_due(restored)
    has_been_looked_at(restored, "meanwhile")
    assert states(restored) == ["r"]
    with pytest.raises(Exception, match="another history"):
        restored.sql("SELECT pgstock_internal.relay_lead()")
    adopt(restored)
    wait_expired(restored)
    assert restored.drift() == []
    restored.drop()
    origin.drop()


def test_a_copy_by_template(server):
    """Each has an identity of its own."""
    origin = server.create_database("template_of")
    reserve(origin, "o", "1 h")
    hello = "SELECT incarnation::text, inbox_group FROM" \
            " pgstock_internal.relay_hello()"
    own = origin.sql(hello)
    Database(server, "postgres").sql(
        'CREATE DATABASE "copied" TEMPLATE "template_of"')
    copy = Database(server, "copied")
    (theirs,), (ours,) = copy.sql(hello), own
    assert theirs[0] != ours[0] and theirs[1] != ours[1]
    assert copy.sql(hello) == [theirs] and origin.sql(hello) == own
    copy.drop()
    origin.drop()


def published(db):
    """The keys of the events that a relay would publish now."""
    return [key for (key,) in db.sql(
        "SELECT s.key FROM pgstock_internal.relay_position() p,"
        ' pgstock_internal.relay_page(p."window", p.seq, 100, 1000000) r'
        " JOIN stock_outbox s USING (seq) ORDER BY r.seq")]


def publish(db, *keys):
    for key in keys:
        db.sql("SELECT publish_event('t', %s, '1')", (key,))


def publish_all(db):
    """What a relay does, without Kafka."""
    with closing(db.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("SELECT pgstock_internal.relay_hello()")
        cur.execute("SELECT pgstock_internal.relay_lead()")
        cur.execute(
            "SELECT pgstock_internal.relay_store_position("
            ' pgstock_internal.relay_next_window(p."window"), 0, true, %s)'
            " FROM pgstock_internal.relay_position() p", cur.fetchone())


@pytest.fixture
def original(server):
    """It has published one event, and not the next; a third one is held."""
    db = server.create_database("original")
    publish(db, "before")
    publish_all(db)
    publish(db, "pending", "held")
    db.sql("INSERT INTO pgstock_internal.held_topic (topic, reason)"
           " VALUES ('t', 'refused')")
    db.sql("INSERT INTO pgstock_internal.held_event SELECT o.* FROM"
           " pgstock_internal.outbox o JOIN stock_outbox s USING (seq)"
           " WHERE s.key = 'held'")
    db.sql("INSERT INTO pgstock_internal.alert (made_at, attempts,"
           " next_try_at) VALUES (now(), 0, now())")
    yield db
    db.drop()


def copy_of(original, name):
    Database(original.pg, "postgres").sql(
        f'CREATE DATABASE "{name}" TEMPLATE "{original.name}"')
    return Database(original.pg, name)


def adopt_as(db, origin=None, execute=True):
    return dict(db.sql("SELECT * FROM pgstock_internal.relay_adopt(%s, %s)",
                       (execute, origin)))


def held(db):
    return [db.value(f"SELECT count(*) FROM pgstock_internal.{name}")
            for name in ("held_event", "held_topic", "alert")]


def test_a_copy_leaves_what_was_pending_to_its_original(original):
    """Also what is held, and alerts; and publishes what was written in it,
    before it was adopted too."""
    copy = copy_of(original, "copied")
    publish(copy, "ours")
    with pytest.raises(Exception, match="another history"):
        published(copy)
    for execute in (False, True):
        found = adopt_as(copy, execute=execute)
        assert (found["as"], found["events to publish"],
                found["left to the original"]) == ("copy", "1", "3"), found
    assert published(copy) == ["ours"] and held(copy) == [0, 0, 0]
    assert "copy, 1 events" in copy.value(
        "SELECT reason FROM stock_admin_actions WHERE action = 'adopt'")
    publish_all(copy)
    publish(copy, "later")
    assert copy.value("SELECT n FROM pgstock_internal.pending()") == 1
    assert held(original) == [1, 1, 1]
    assert original.value("SELECT n FROM pgstock_internal.pending()") == 2
    copy.drop()


@pytest.mark.parametrize("alter", [
    "GRANT CONNECT ON DATABASE altered TO postgres",
    "ALTER DATABASE altered CONNECTION LIMIT 50"])
def test_a_copy_that_was_altered_loses_no_event(original, alter):
    """The row of pg_database does not show any more when the copy was made:
    what may be the original's is published twice, and no event by neither."""
    copy = copy_of(original, "altered")
    copy.sql("ALTER DATABASE altered SET timezone = 'UTC'")
    assert adopt_as(copy, execute=False)["left to the original"] == "3"
    publish(copy, "ours")
    copy.sql(alter)
    publish(copy, "later")
    for execute in (False, True):
        found = adopt_as(copy, execute=execute)
        assert (found["as"], found["events to publish"]) == ("copy", "4")
        assert found["left to the original"].startswith(
            "0: ALTER DATABASE or GRANT hides which they are"), found
    assert published(copy) == ["pending", "held", "ours", "later"]
    assert held(copy) == [1, 1, 0]
    copy.drop()


def test_a_copy_that_replaces_its_original(original):
    """As its administrator says, or because the original is gone."""
    told = copy_of(original, "told")
    found = adopt_as(told, "restored")
    assert found["as"] == "restored"
    assert published(told) == ["pending", "held"] and held(told) == [1, 1, 1]
    told.drop()
    alone = copy_of(original, "alone")
    original.drop()
    assert adopt_as(alone)["as"] == "restored"
    assert published(alone) == ["pending", "held"]
    alone.drop()
    original.pg.create_database("original")     # which the fixture drops


def test_a_restored_copy_beside_its_original(original, server):
    """It replaces the original, unless it is said to be a copy; then nothing
    that was in the dump is published."""
    path = os.path.join(server.directory, "beside.dump")
    for origin, keys in ((None, ["pending", "held", "late"]), ("copy", [])):
        db = server.create_database("beside", extension=False)
        publish(original, "late")   # its xid follows that of the database
        server.dump("original", path)
        server.restore("beside", path)
        adopt_as(db, origin)
        assert published(db) == keys
        publish_all(db)
        publish(db, "later")
        assert db.value("SELECT n FROM pgstock_internal.pending()") == 1
        db.drop()
    with pytest.raises(Exception, match='cannot be adopted as "clone"'):
        adopt_as(original, "clone")


def subscribe(origin, copy):
    """docs/maintenance.md, within one server: there the slot exists before."""
    origin.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    origin.sql("SELECT pg_create_logical_replication_slot('copies',"
               " 'pgoutput')")
    copy.sql("TRUNCATE pgstock_internal.own_columns")   # CREATE EXTENSION's
    copy.sql("CREATE SUBSCRIPTION copies CONNECTION"
             f" '{origin.conninfo()}' PUBLICATION everything"
             " WITH (create_slot = false, slot_name = 'copies')")


def wait_copied(copy):
    wait_until(lambda: copy.value("SELECT count(*) FROM pg_subscription_rel"
                                  " WHERE srsubstate <> 'r'") == 0, 60,
               "it is not in step")


def unsubscribe(copy):
    with closing(copy.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute("ALTER SUBSCRIPTION copies DISABLE")
        cur.execute("ALTER SUBSCRIPTION copies SET (slot_name = NONE)")
        cur.execute("DROP SUBSCRIPTION copies")


def drop_slot(origin):
    """Once the subscription's process has left it."""
    wait_until(lambda: not origin.value("SELECT active FROM"
                                        " pg_replication_slots"), 30, "a slot")
    origin.sql("SELECT pg_drop_replication_slot('copies')")


def test_a_subscriber_takes_over(server):
    """While the subscription writes, nothing else does; then the sequences are
    copied, and the identity is the subscriber's own."""
    origin = server.create_database("publisher")
    reserve(origin, "o", "1 h")
    origin.sql("SELECT count(publish_event('t', 'k', '1'))"
               " FROM generate_series(1, 40)")
    copy = server.create_database("subscriber")
    own = copy.value("SELECT incarnation FROM pgstock_internal.relay_hello()")
    subscribe(origin, copy)
    count = "SELECT count(*) FROM pgstock_internal.outbox"
    wait_until(lambda: copy.value(count) == origin.value(count)
               and states(copy) == ["r"], 60, lambda: copy.value(count))
    wait_copied(copy)
    make_due(copy)
    has_been_looked_at(copy, "meanwhile")
    assert states(copy) == ["r"]
    assert own == copy.value(
        "SELECT incarnation FROM pgstock_internal.relay_hello()")
    for call in ("relay_adopt(true)", "relay_lead()"):
        with pytest.raises(Exception, match="written by a subscription"):
            copy.sql(f"SELECT pgstock_internal.{call}")
    unsubscribe(copy)
    adopt(copy)
    wait_expired(copy)
    copy.sql("SELECT receive_stock('a', 10)")
    copy.sql("SELECT reserve_stock('a', 1, 'p')")
    assert copy.drift() == []
    drop_slot(origin)
    copy.drop()
    origin.drop()


def test_a_part_that_is_added_during_replication(server):
    """The subscription waits until the copy has the part, and then omits the
    part's rows until it is refreshed: docs/maintenance.md."""
    origin = server.create_database("publisher")
    copy = server.create_database("subscriber")
    subscribe(origin, copy)
    wait_copied(copy)
    origin.sql("SELECT pgstock_internal.outbox_add_part(7)")
    origin.sql("INSERT INTO pgstock_internal.outbox_part (part, state)"
               " VALUES (7, 'w')")
    origin.sql("SELECT publish_event('t', 'k', '1')")
    wait_until(lambda: '"pgstock_internal.outbox_7" does not exist'
               in server.log(), 30, server.tail)
    copy.sql("SELECT pgstock_internal.outbox_add_part(7)")
    origin.sql("SELECT receive_stock('a', 1)")
    wait_until(lambda: copy.sql("SELECT * FROM stock_levels"), 30, server.tail)
    copy.sql("ALTER SUBSCRIPTION copies REFRESH PUBLICATION")
    wait_copied(copy)
    events = "SELECT event_id::text FROM stock_outbox ORDER BY seq"
    assert copy.sql(events) == origin.sql(events)
    assert copy.value("SELECT count(*) FROM pgstock_internal.outbox_7") == 2
    unsubscribe(copy)
    drop_slot(origin)
    copy.drop()
    origin.drop()
