# SPDX-License-Identifier: PostgreSQL
"""P3: an incoming event takes effect once, however often it arrives."""

import json
import time

from checks import check_all, inbox_results, of_type
from kafkaio import delivered, send
from process import wait_until

TOPICS = ["order-created", "payment-success", "payment-failed",
          "order-cancelled", "order_failed"]
QUICK = {"inbox": {"retry_delays": "300ms, 300ms, 300ms"}}


def order(number, quantity=1, product="book"):
    return {"order_id": f"o-{number}", "event_id": f"created-{number}",
            "user_id": f"user-{number}",
            "items": [{"product_id": product, "quantity": quantity}]}


def put(kafka, *messages, times=1):
    """Send (topic, value) pairs, keyed by order id."""
    out = kafka.producer()
    for topic, value in messages:
        for _ in range(times):
            send(out, topic, value, key=str(value["order_id"]))
    delivered(out)


def handled(db, count, timeout=20):
    """Wait until this many messages are in the inbox and none waits."""
    wait_until(lambda: db.value("SELECT count(*) FROM stock_inbox"
                                " WHERE result <> 'waiting'") == count,
               timeout, lambda: f"of {count}: {inbox_results(db)}")


def states(db):
    return dict(db.sql("SELECT order_id, state FROM stock_reservations"))


def types_by_key(tail):
    found = {}
    for record in sorted(tail.read_to_end(), key=lambda r: r.sequence):
        if record.header("ce_type") != "StockLevelChanged":
            found.setdefault(record.key.decode(), []).append(
                record.header("ce_type"))
    return found


def test_life_of_orders_everything_twice(db, kafka, start_relay):
    """Each built-in handler, every message twice with one id: one effect, one
    event; the copy is a duplicate and nothing else."""
    db.sql("SELECT receive_stock('book', 100)")
    relay = start_relay(QUICK, topics=TOPICS)
    put(kafka, *[("order-created", order(n)) for n in range(1, 7)], times=2)
    handled(db, 12)
    assert db.level("book") == (100, 6, 94)
    put(kafka, *[("payment-success", {
        "order_id": f"o-{n}", "event_id": f"paid-{n}", "status": "paid",
        "payment_id": f"pay-{n}"}) for n in (1, 4, 5)], times=2)
    handled(db, 18)
    put(kafka,
        ("payment-failed", {"order_id": "o-2", "event_id": "pf-2"}),
        ("order-cancelled", {"order_id": "o-3", "event_id": "oc-3"}),
        ("order-cancelled", {"order_id": "o-4", "event_id": "oc-4"}),
        ("order_failed", {"order_id": "o-5", "event_id": "of-5"}),
        ("order_failed", {"order_id": "o-6", "event_id": "of-6",
                          "failed_reason": "no courier"}), times=2)
    handled(db, 28)
    assert states(db) == {
        "o-1": "confirmed", "o-2": "released", "o-3": "released",
        "o-4": "rolled_back", "o-5": "rolled_back", "o-6": "rolled_back"}
    assert db.level("book") == (99, 0, 99)
    assert inbox_results(db) == {"applied": 14, "duplicate": 14}
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) >= 15, 10, "all events")
        assert types_by_key(tail) == {
            "o-1": ["StockReserved", "StockConfirmed"],
            "o-2": ["StockReserved", "StockReleased"],
            "o-3": ["StockReserved", "StockReleased"],
            "o-4": ["StockReserved", "StockConfirmed", "StockRolledBack"],
            "o-5": ["StockReserved", "StockConfirmed", "StockRolledBack"],
            "o-6": ["StockReserved", "StockRolledBack"]}
        check_all(db, tail)
        for record in tail.records:
            if record.key == b"o-1":
                assert record.json["causation_id"] in ("created-1", "paid-1")
    assert relay.metric("inbox_events_total", result="applied") == 14
    assert relay.metric("inbox_events_total", result="duplicate") == 14
    assert relay.metric("order_answer_seconds_count") == 6
    assert relay.metric("inbox_attempts_count") == 28
    assert relay.metric("inbox_attempts_bucket", le="1") == 28
    assert 0 < relay.metric("order_answer_seconds_sum") < 6 * 20


def test_known_order_is_answered_again(db, kafka, start_relay):
    """An order-created with a new id for a known order changes nothing, but
    its sender gets the last result, marked as replayed."""
    db.sql("SELECT receive_stock('book', 1)")
    start_relay(topics=TOPICS)
    put(kafka, ("order-created", order(1)), ("order-created", order(2)))
    handled(db, 2)
    put(kafka, *[("order-created", {**order(n), "event_id": f"again-{n}"})
                 for n in (1, 2)])
    handled(db, 4)
    assert db.level("book") == (1, 1, 0)
    assert sum(db.value(
        "SELECT array_agg(quantity) FROM stock_reservations")) == 1
    with kafka.tail("stock-events", "stock-freeze-failed") as tail:
        tail.until(lambda r: len(r) >= 5, 10, "four answers")
        answers = [r.json for r in tail.read_to_end()
                   if r.header("ce_type") != "StockLevelChanged"]
    by_cause = {answer["causation_id"]: answer for answer in answers}
    assert len(by_cause) == len(answers) == 4
    for number in (1, 2):
        first, again = (by_cause[f"{kind}-{number}"]
                        for kind in ("created", "again"))
        assert again["event_type"] == first["event_type"]
        assert again["replayed"] is True and not first.get("replayed")
    assert {a["event_type"] for a in answers} == {
        "StockReserved", "StockReserveFailed"}


def test_payment_before_its_order(db, kafka, start_relay):
    """Topics have no order among each other: a payment may arrive first. It
    waits, delays no other message, and is applied once the order exists."""
    db.sql("SELECT receive_stock('book', 10)")
    start_relay(QUICK, topics=TOPICS)
    put(kafka, ("payment-success", {"order_id": "o-1", "event_id": "paid-1"}))
    wait_until(lambda: inbox_results(db) == {"waiting": 1}, 10,
               lambda: f"the payment waits: {inbox_results(db)}")
    assert db.value("SELECT state FROM stock_failed_events") == "waiting"
    put(kafka, ("order-created", order(2)),
        ("payment-success", {"order_id": "o-2", "event_id": "paid-2"}))
    wait_until(lambda: states(db) == {"o-2": "confirmed"}, 15,
               lambda: f"others flow: {states(db)}")
    put(kafka, ("order-created", order(1)))
    wait_until(lambda: states(db).get("o-1") == "confirmed", 15,
               lambda: f"the payment is applied: {states(db)}")
    handled(db, 4)
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(r) == 5, 10, "all events")
        assert types_by_key(tail)["o-1"] == ["StockReserved", "StockConfirmed"]


def test_order_that_never_comes(db, kafka, start_relay):
    """The wait has an end: a payment without an order is money without
    stock and is dead-lettered, a cancellation of nothing is skipped."""
    start_relay({"inbox": {**QUICK["inbox"], "order_wait": "1s"}},
                topics=TOPICS)
    put(kafka, ("payment-success", {"order_id": "no", "event_id": "paid"}),
        ("order_failed", {"order_id": "no", "event_id": "failed"}),
        ("order-cancelled", {"order_id": "no", "event_id": "cancelled"}))
    handled(db, 3)
    assert dict(db.sql("SELECT topic, result FROM stock_inbox")) == {
        "payment-success": "dead", "order_failed": "skipped",
        "order-cancelled": "skipped"}
    assert set(db.sql("SELECT reason FROM stock_inbox"
                      " WHERE result = 'skipped'")) == {("unknown_order",)}
    with kafka.tail("payment-success_dlq") as tail:
        (dead,) = tail.until(list, 10, "the dead letter")
        assert json.loads(dead.value)["event_id"] == "paid"


def test_forms_of_a_message(db, kafka, start_relay):
    """The forms that senders write: camelCase, a map of quantities, integers
    for ids, the id in a header, times in milliseconds; unknown members are
    passed on in the answer."""
    db.sql("SELECT receive_stock(p, 10) FROM unnest('{book,7}'::text[]) p")
    start_relay(topics=TOPICS)
    out = kafka.producer()
    send(out, "order-created",
         {"orderId": 41, "eventId": "e-41", "userId": 5, "channel": "app",
          "productQuantityMap": {"book": 2, "7": 1},
          "timestamp": int(time.time() * 1000)}, key="41")
    for copy in range(3):           # the id of the header, whatever the body
        send(out, "order-created", {**order(42), "event_id": f"body-{copy}"},
             key="42", headers=[("ce_id", b"header-42")])
    delivered(out)
    handled(db, 4)
    assert set(db.sql("SELECT order_id, product_id, quantity, user_id"
                      " FROM stock_reservations")) == {
        ("41", "book", 2, "5"), ("41", "7", 1, "5"),
        ("o-42", "book", 1, "user-42")}
    put(kafka, ("payment-success", {"order_id": 41, "paymentId": "p",
                                    "status": "declined"}))
    handled(db, 5)
    assert db.sql("SELECT result, reason FROM stock_inbox"
                  " WHERE topic = 'payment-success'") == [
        ("skipped", "not_paid")]
    with kafka.tail("stock-events") as tail:
        tail.until(lambda r: len(of_type(r, "StockReserved")) == 2, 10,
                   "the answers")
        answer = {r.key: r.json for r in of_type(tail.records,
                                                 "StockReserved")}
    assert answer[b"41"]["attributes"] == {"channel": "app"}
    assert answer[b"41"]["causation_id"] == "e-41"
    assert answer[b"o-42"]["causation_id"] == "header-42"


def test_replay_of_whole_topics(db, kafka, start_relay):
    """Offsets reset to 0, by hand or by a restored backup: everything is read
    again, nothing takes effect again, not even messages without an id."""
    db.sql("SELECT receive_stock('book', 300)")
    relay = start_relay(QUICK, topics=TOPICS)
    messages = [("order-created", order(n)) for n in range(200)]
    messages += [("payment-success", {"order_id": f"o-{n}"})
                 for n in range(0, 200, 2)]
    messages += [("order_failed", {"order_id": f"o-{n}"})
                 for n in range(0, 200, 5)]
    put(kafka, *messages)
    wait_until(lambda: sum(inbox_results(db).values()) == len(messages)
               and not inbox_results(db)["waiting"], 30,
               lambda: f"all handled: {inbox_results(db)}")
    relay.terminate()
    before = (db.level("book"), states(db),
              db.value("SELECT count(*) FROM stock_outbox"),
              db.value("SELECT count(*) FROM stock_movements"))
    moved = db.sql("UPDATE pgstock_internal.inbox_offset SET next_offset = 0"
                   " RETURNING topic")
    assert {topic for (topic,) in moved} >= {"order-created", "order_failed"}
    relay.start()
    wait_until(lambda: relay.metric("inbox_events_total", result="duplicate")
               == len(messages), 30, lambda: f"{relay.get('/metrics')[1]}")
    assert before == (db.level("book"), states(db),
                      db.value("SELECT count(*) FROM stock_outbox"),
                      db.value("SELECT count(*) FROM stock_movements"))


def test_a_stop_beside_a_broker_that_stalls(db, kafka, start_relay):
    """It keeps its connections open and answers nothing: librdkafka waits up
    to a minute for the answer to a commit of offsets before it destroys a
    consumer."""
    db.sql("SELECT receive_stock('book', 9)")
    relay = start_relay(topics=TOPICS, brokers=kafka.proxied_brokers)
    put(kafka, ("order-created", order(1)))
    handled(db, 1)
    kafka.proxy.stall()
    begun = time.monotonic()
    assert relay.terminate() == 0
    assert time.monotonic() - begun < 14, relay.tail()


def test_differences_are_counted(db, kafka, start_relay):
    """An order that comes again with other lines, and a second payment of
    another id: a person must see both."""
    db.sql("SELECT receive_stock('book', 9)")
    relay = start_relay(QUICK, topics=TOPICS)
    put(kafka, ("order-created", order(1)))
    handled(db, 1)
    put(kafka, ("order-created", {**order(1, 2), "event_id": "again"}))
    handled(db, 2)
    put(kafka, *[("payment-success", {
        "order_id": "o-1", "event_id": f"paid-{n}", "payment_id": f"pay-{n}"})
        for n in (1, 2)])
    handled(db, 4)
    wait_until(lambda: (relay.metric("inbox_differences_total"),
                        relay.metric("inbox_paid_twice_total")) == (1, 1), 10,
               lambda: relay.get("/metrics")[1])
    assert db.level("book") == (8, 0, 8)
