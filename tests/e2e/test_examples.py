# SPDX-License-Identifier: PostgreSQL
"""The programs of examples/: all of them tell the same story, by the same
lines and with the same effect, whatever happens to their connections."""

import uuid
from contextlib import closing

import pytest

from cluster import HOST
from examples import (NAMES, LostAnswer, Program, command, consumer_command,
                      requests, run_script, text_of)
from kafkaio import Tail, delivered, producer, send
from process import make_dir, wait_until

ONE = '[{"product_id": "SKU-1", "quantity": 1}]'


def url(db, user, port=None):
    return f"postgresql://{HOST}:{port or db.pg.port}/{db.name}?user={user}"


@pytest.fixture
def shop(db):
    """The shop's database, as examples/shop.sql makes it."""
    run_script(db, "shop.sql")
    yield db
    db.sql("DROP OWNED BY shop; DROP ROLE shop")


@pytest.fixture(params=NAMES)
def start(request, shop, new_dir):
    """Starts the example."""
    made = []

    def start_it(port=None):
        name = request.param
        directory = make_dir(new_dir(name))
        words, env = command(name, directory)
        made.append(Program(words, {**env, "DATABASE_URL": url(
            shop, "shop", port)}, directory))
        return made[-1]

    yield start_it
    for program in made:
        program.close()


@pytest.fixture
def proxy(pg):
    made = LostAnswer(pg.port)
    yield made
    made.close()


def orders(db):
    return db.sql("SELECT id, user_id, state FROM orders ORDER BY id")


def outbox(db):
    """The events that are no deliveries."""
    return db.sql("SELECT topic, key, event_type FROM stock_outbox"
                  " WHERE event_type <> 'StockLevelChanged' ORDER BY seq")


def levels(db):
    return [db.level(f"SKU-{number}")[:2] for number in (1, 2, 3)]


def test_story(start, shop):
    """examples/story.txt is answered by examples/story.expected."""
    program = start()
    for request in requests(text_of("story.txt")):
        program.send(*request)
    expected = text_of("story.expected").splitlines()
    assert [program.answer() for _ in expected] == expected
    assert orders(shop) == [("order-1", "user-7", "paid")]
    assert levels(shop) == [(8, 0), (4, 0), (1, 0)]
    assert outbox(shop) == [
        ("stock-events", "order-1", "StockReserved"),
        ("stock-events", "order-1", "StockConfirmed")]
    assert shop.sql("SELECT order_id, product_id, quantity, state, payment_id"
                    " FROM stock_reservations ORDER BY product_id") == [
        ("order-1", "SKU-1", 2, "confirmed", "payment-1"),
        ("order-1", "SKU-2", 1, "confirmed", "payment-1")]

    # The payment comes after its stock was sold again: the shop notes that it
    # must refund, in the transaction that publishes StockShortfall.
    shop.sql("INSERT INTO orders VALUES ('late', 'user-1')")
    shop.sql("SELECT reserve_stock('SKU-3', 1, 'late', ttl => '1 us')")
    shop.sql("SELECT reserve_stock('SKU-3', 1, 'quick', ttl => '0')")
    late = "late: too late, refund the payment"
    assert program.ask("pay", "late", "payment-2") == late
    assert program.ask("pay", "late", "payment-2") == f"{late}, as before"
    program.end()
    assert orders(shop)[0] == ("late", "user-1", "refund")
    assert [event for _, key, event in outbox(shop) if key == "late"] == [
        "StockReserved", "StockExpired", "StockShortfall"]


JSON = "22P02: invalid input syntax for type json"
ITEMS = "22P02: items are not valid"
BAD = [
    ("", JSON),
    ("[{", JSON),
    ("{}", "22P02: items must be a JSON array"),
    ("[]", "22023: items must have between 1 and 1000 elements"),
    ('[{"quantity": 1}]', ITEMS),
    ('[{"product_id": "SKU-1", "quantity": 0}]', ITEMS),
    ('[{"product_id": "SKU-1", "quantity": 1.5}]', ITEMS),
    ('[{"product_id": "SKU-1", "quantity": "x"}]', ITEMS),
    ('[{"product_id": "SKU-1", "quantity": 9007199254740993}]', ITEMS),
    ('[{"product_id": "SKU-1\\u0000", "quantity": 1}]',
     "22P05: unsupported Unicode escape sequence"),
    ('[{"product_id": "nothing", "quantity": 1}]',
     'SK002: there is no product "nothing" at location "main"'),
]


def test_bad_input(start, shop):
    """It is refused, with the server's words, and nothing is written."""
    program = start()
    for items, refusal in BAD:
        assert program.ask("checkout", "bad", "user-1", f"key-{items}",
                           items) == f"bad: refused, {refusal}"
    assert program.ask("checkout", "", "user-1", "key", ONE) \
        == ": refused, 22023: order_id must not be empty"
    assert program.ask("checkout", "bad", "user-1", "", ONE) \
        == "bad: refused, 22023: idempotency_key must not be empty"
    odd = "'); DROP TABLE orders; -- \N{SNOWMAN} %s $1 :order ?"
    assert program.ask("checkout", odd, odd, odd, ONE) \
        == f"{odd}: reserved 1 of SKU-1"
    program.end()
    assert orders(shop) == [(odd, odd, "new")]
    assert outbox(shop) == [("stock-events", odd, "StockReserved")]


def blocked(shop):
    """The pid of the shop's session, once it waits for a lock."""
    def find():
        rows = shop.sql("SELECT pid FROM pg_stat_activity WHERE usename ="
                        " 'shop' AND wait_event_type = 'Lock'")
        return rows and rows[0][0]
    return wait_until(find, 30, "the shop does not wait for the lock")


def test_faults(start, shop, proxy):
    """What was not committed is done again; what was, is not done twice."""
    program = start(proxy.port)

    # the server asks to run it again, twice
    shop.sql("""CREATE SEQUENCE tries;
        CREATE FUNCTION fail() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql
        AS $$ DECLARE try bigint := nextval('tries'); BEGIN
            IF try <= 2 THEN
                RAISE 'not now' USING
                    errcode = (ARRAY['40001', '40P01'])[try];
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON orders FOR EACH ROW
            EXECUTE FUNCTION fail()""")
    assert program.ask("checkout", "again", "user-1", "key-1", ONE) \
        == "again: reserved 1 of SKU-1"
    assert shop.value("SELECT last_value FROM tries") == 3
    shop.sql("DROP TRIGGER fail ON orders")

    # a double click: the first one is not yet committed
    with closing(shop.connect()) as first, first.cursor() as cur:
        cur.execute("INSERT INTO orders VALUES ('twice', 'user-1');"
                    "SELECT reserve_order('twice', %s, 'user-1',"
                    " idempotency_key => 'key-2')", (ONE,))
        program.send("checkout", "twice", "user-1", "key-2", ONE)
        blocked(shop)
        first.commit()
    assert program.answer() == "twice: reserved 1 of SKU-1, as before"

    # the connection is lost after COMMIT was sent and done
    proxy.armed = True
    assert program.ask("checkout", "lost", "user-1", "key-3", ONE) \
        == "lost: reserved 1 of SKU-1, as before"
    assert not proxy.armed
    proxy.armed = True
    assert program.ask("pay", "lost", "payment-1") == "lost: paid, as before"
    assert not proxy.armed

    # the server's process is killed before
    with closing(shop.connect()) as other, other.cursor() as cur:
        cur.execute("SELECT reserve_stock('SKU-1', 1, 'other')")
        program.send("checkout", "killed", "user-1", "key-4", ONE)
        shop.pg.kill_backend(blocked(shop))
    assert program.answer() == "killed: reserved 1 of SKU-1"
    program.end()

    assert orders(shop) == [
        ("again", "user-1", "new"), ("killed", "user-1", "new"),
        ("lost", "user-1", "paid"), ("twice", "user-1", "new")]
    assert levels(shop)[0] == (9, 3)
    assert outbox(shop) == [
        ("stock-events", "again", "StockReserved"),
        ("stock-events", "twice", "StockReserved"),
        ("stock-events", "lost", "StockReserved"),
        ("stock-events", "lost", "StockConfirmed"),
        ("stock-events", "killed", "StockReserved")]


@pytest.fixture
def shelf(pg):
    """The database of a consumer, as examples/consumer.sql makes it."""
    database = pg.create_database("shelf", extension=False)
    run_script(database, "consumer.sql")
    yield database
    database.drop()


@pytest.fixture(params=("consumer-python", "consumer-java"))
def consume(request, kafka, shelf, new_dir):
    """Starts the consumer."""
    made = []

    def start_it():
        directory = make_dir(new_dir(request.param))
        words, env = consumer_command(request.param, directory)
        made.append(Program(words, {
            **env, "DATABASE_URL": url(shelf, "postgres"),
            "BROKERS": kafka.brokers}, directory))
        return made[-1]

    yield start_it
    for program in made:
        program.close()


def test_consumer(consume, shelf, db, kafka, start_relay):
    """Each event takes effect once, and of a level the highest version wins,
    whatever arrives again, out of order or late."""
    def is_level():
        return shelf.sql("TABLE shelf ORDER BY product_id") == db.sql(
            "SELECT product_id, location, available, version"
            " FROM stock_levels ORDER BY product_id")

    start_relay()
    db.sql("SELECT receive_stock('SKU-1', 10), receive_stock('SKU-2', 5)")
    db.sql("SELECT reserve_order('order-1', %s)", (
        '[{"product_id": "SKU-1", "quantity": 2},'
        ' {"product_id": "SKU-2", "quantity": 1}]',))
    db.sql("SELECT confirm_stock('order-1')")
    db.sql("SELECT reserve_stock('SKU-1', 3, 'order-2')")
    db.sql("SELECT release_stock('order-2')")
    program = consume()
    first = sorted(program.answer() for _ in range(6))
    assert first == [
        "StockConfirmed order-1", "StockLevelChanged SKU-1",
        "StockLevelChanged SKU-2", "StockReleased order-2",
        "StockReserved order-1", "StockReserved order-2"]
    assert is_level()

    # all of them again, in another order, and a tombstone
    with Tail(kafka.brokers, ["stock-events"]) as tail:
        records = list(tail.read_to_end())
    assert len(records) == 6
    again = producer(kafka.brokers)
    for record in reversed(records):
        send(again, "stock-events", record.value, key=record.key)
    send(again, "stock-events", None, key="user-1")
    delivered(again)
    assert sorted(program.answer() for _ in range(6)) \
        == [f"{line} (seen before)" for line in first]

    # killed; then an event that is older than what is known
    program.close()
    (record,) = [one for one in records if one.key == b"SKU-1"]
    send(again, "stock-events", {**record.json, "event_id": str(uuid.uuid4()),
                                 "available": 1000}, key="SKU-1")
    delivered(again)
    program = consume()
    while (line := program.answer()) != "StockLevelChanged SKU-1":
        assert line.endswith(" (seen before)")
    program.stop()
    assert is_level()
    assert shelf.sql("TABLE demand ORDER BY product_id") == [
        ("SKU-1", 5), ("SKU-2", 1)]
    assert shelf.value("SELECT count(*) FROM seen") == 7
