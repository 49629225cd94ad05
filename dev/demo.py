# SPDX-License-Identifier: PostgreSQL
"""The story that dev/demo plays, on the servers that it started.

Every line that begins with "ok" is a claim that was checked against the
database or against what a consumer read from Kafka; the first one that is not
true ends the demo with exit code 1.
"""

import json
import os
import shlex
import sys
import threading
import time
from contextlib import closing
from datetime import datetime, timezone
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg2

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(HERE, "tests", "e2e"))

from kafkaio import Tail, delivered, producer, send  # noqa: E402
from process import NotReached, wait_until           # noqa: E402

BUYERS, PIECES, PAYERS = 100, 10, 5
BROKERS = os.environ["BROKERS"]
METRICS = os.environ["METRICS"]
GATEWAY = os.environ["GATEWAY_URL"]
WAIT_S_MAX = 30


# ---- What is printed ------------------------------------------------------

def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def chapter(title):
    chapter.number += 1
    print(f"\n{paint('1', f'{chapter.number:2}. {title}')}")


chapter.number = 0


def note(text):
    print(f"    {text}")


def code(text):
    print("      " + paint("36", text))


def claim(text, truth, found=None):
    """Print the claim if it is true; end the demo if it is not."""
    if truth:
        print(f"    {paint('32', 'ok')}  {text}")
        return
    print(f"    {paint('31', 'NOT SO')}  {text}")
    sys.exit(f"demo: this is not so: {text}; found {found}")


def claim_equal(text, found, expected):
    claim(text, found == expected, f"{found!r}, not {expected!r}")


def table(names, rows):
    """Columns as wide as they need; numbers to the right."""
    cells = [["" if v is None else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells)]
    right = [all(isinstance(row[i], int) for row in rows) and bool(rows)
             for i in range(len(names))]

    def line(values):
        return "      " + "  ".join(
            v.rjust(w) if r else v.ljust(w)
            for v, w, r in zip(values, widths, right)).rstrip()

    print(paint("2", line(names)))
    for row in cells:
        print(line(row))


# ---- What is done ---------------------------------------------------------

def sql(query, args=None):
    """One statement in a transaction of its own; its rows, if any."""
    with closing(psycopg2.connect("")) as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute(query, args)
            return cur.fetchall() if cur.description else []


def one(query, args=None):
    ((value,),) = sql(query, args)
    return value


def levels():
    return sql("SELECT product_id, on_hand, reserved, available"
               " FROM stock_levels ORDER BY product_id DESC")


LEVEL_NAMES = ("product", "on hand", "reserved", "available")


def event(event_id, order_id, **more):
    return {"event_id": event_id, "order_id": order_id,
            "timestamp": datetime.now(timezone.utc).isoformat(), **more}


def send_all(topic, events):
    """Put events into a topic, as another service would."""
    out = producer(BROKERS)
    for value in events:
        send(out, topic, value, key=value["order_id"])
    delivered(out)
    note(f"{len(events)} into topic {topic}:")
    for value in events:
        items = value.get("items", [])
        shown = {k: v for k, v in value.items()
                 if k not in ("timestamp", "items")}
        code(json.dumps(shown)[:-1] + (', "items": [' if items else "}"))
        for item in items:
            code(f"    {json.dumps(item)}"
                 f"{']}' if item is items[-1] else ','}")


def of_type(records, event_type):
    return [r for r in records if r.header("event_type") == event_type]


def await_events(tail, event_type, count):
    """Read on until Kafka has that many events of a type; all of them."""
    started = time.monotonic()
    tail.until(lambda records: len(of_type(records, event_type)) >= count,
               WAIT_S_MAX, f"{count} {event_type} in Kafka")
    found = of_type(tail.records, event_type)
    waited_ms = (time.monotonic() - started) * 1000
    claim(f"{count} {event_type} in Kafka, after {waited_ms:.0f} ms",
          len(found) == count, len(found))
    return found


# ---- The story ------------------------------------------------------------

def pieces_arrive():
    chapter("Ten pieces of one product arrive")
    sql("CREATE TABLE orders (id text PRIMARY KEY, buyer text NOT NULL)")
    code(f"SELECT receive_stock('sneaker', {PIECES});")
    code("SELECT receive_stock('laces', 5);")
    claim_equal(f"the sneaker has {PIECES} pieces on hand",
                one("SELECT receive_stock('sneaker', %s)", (PIECES,)), PIECES)
    sql("SELECT receive_stock('laces', 5)")
    table(LEVEL_NAMES, levels())
    return levels()


def buy(conn, number, barrier, answers):
    """One buyer: the shop's own order and the stock, in one transaction."""
    barrier.wait()
    try:
        with conn, conn.cursor() as cur:
            cur.execute("INSERT INTO orders VALUES (%s, %s)",
                        (f"order-{number}", f"buyer-{number}"))
            cur.execute("SELECT status"
                        " FROM reserve_stock('sneaker', 1, %s, %s)",
                        (f"order-{number}", f"buyer-{number}"))
            ((answers[number],),) = cur.fetchall()
    except psycopg2.Error as error:
        answers[number] = error


def buyers_race():
    chapter("A hundred buyers race for one each, in 100 sessions at once")
    code("BEGIN;")
    code("INSERT INTO orders VALUES ('order-N', 'buyer-N');")
    code("SELECT * FROM reserve_stock('sneaker', 1, 'order-N', 'buyer-N');")
    code("COMMIT;")
    connections = [psycopg2.connect("") for _ in range(BUYERS)]
    barrier, answers = threading.Barrier(BUYERS), [None] * BUYERS
    threads = [threading.Thread(target=buy, args=(conn, n, barrier, answers))
               for n, conn in enumerate(connections)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent_ms = (time.monotonic() - started) * 1000
    for conn in connections:
        conn.close()

    winners = [f"order-{n}" for n, a in enumerate(answers) if a == "granted"]
    refused = [a for a in answers if getattr(a, "pgcode", None) == "SK001"]
    claim_equal(f"exactly {PIECES} got one", len(winners), PIECES)
    claim_equal(f"the other {BUYERS - PIECES} were refused with SK001",
                len(refused), BUYERS - PIECES)
    code(f"ERROR:  {refused[0].diag.message_primary}")
    code(f"DETAIL:  {refused[0].diag.message_detail}")
    claim_equal(f"the refused ones' own orders went with it: {PIECES} rows in"
                " orders", one("SELECT count(*) FROM orders"), PIECES)
    claim_equal("0 are left", levels()[0], ("sneaker", PIECES, PIECES, 0))
    note(f"all {BUYERS} were answered within {spent_ms:.0f} ms")
    return winners


def orders_get_paid(tail, paid):
    chapter("Five pay: payment-success comes through Kafka")
    send_all("payment-success", [
        event(order.replace("order", "paid"), order, status="success",
              payment_id=order.replace("order", "pay")) for order in paid])
    confirmed = await_events(tail, "StockConfirmed", len(paid))
    claim_equal("they are those that paid",
                {r.key.decode() for r in confirmed}, set(paid))
    claim_equal(f"{len(paid)} pieces are sold", levels()[0],
                ("sneaker", PIECES - len(paid), PIECES - len(paid), 0))


def order_fails(tail, order):
    chapter("One order fails: order_failed comes through Kafka, twice")
    failed = event("failed-1", order, failedReason="address unknown")
    send_all("order_failed", [failed, failed])

    def both_seen():
        rows = sql("SELECT result FROM stock_inbox WHERE topic ="
                   " 'order_failed' ORDER BY \"offset\"")
        return rows if len(rows) == 2 else None

    results = wait_until(both_seen, WAIT_S_MAX, "both are in the inbox")
    claim_equal("the first was applied, the second known for a duplicate",
                results, [("applied",), ("duplicate",)])
    await_events(tail, "StockRolledBack", 1)
    claim_equal("its piece was given back once", one(
        "SELECT count(*) FROM stock_movements WHERE kind = 'rolled_back'"
        " AND order_id = %s", (order,)), 1)
    claim_equal("1 is available again", levels()[0][3], 1)


def order_is_cancelled(tail, order):
    chapter("One is cancelled: order-cancelled comes through Kafka")
    send_all("order-cancelled",
             [event("cancelled-1", order, reason="changed my mind")])
    await_events(tail, "StockReleased", 1)
    claim_equal("2 are available again", levels()[0][3], 2)


def half_an_order(tail):
    chapter("An order of two products, the second of which lacks stock")
    before = levels()
    items = [{"product_id": "sneaker", "quantity": 1},
             {"product_id": "laces", "quantity": 6}]
    code("SELECT * FROM try_reserve_order('order-both',")
    code(f"    '[{json.dumps(items[0])},")
    code(f"      {json.dumps(items[1])}]');")
    rows = sql("SELECT product_id, requested, granted, status, available"
               " FROM try_reserve_order('order-both', %s) ORDER BY 1 DESC",
               (json.dumps(items),))
    table(("product", "requested", "granted", "status", "available"), rows)
    claim_equal("neither line was granted", [(r[2], r[3]) for r in rows],
                [(0, "refused"), (0, "insufficient")])
    note("the same order, but as order-created through Kafka:")
    send_all("order-created",
             [event("created-1", "order-both", items=items)])
    (record,) = await_events(tail, "StockReserveFailed", 1)
    claim_equal("the answer went to stock-freeze-failed, with the reason",
                (record.topic, record.json["reason"]),
                ("stock-freeze-failed", "insufficient"))
    claim_equal("it took nothing", levels(), before)


def http(path, body=None, token="GATEWAY_TOKEN"):
    """Status and JSON of a request to the gateway, which is shown."""
    shown = (f"curl -H \"Authorization: Bearer ${token}\" "
             + shlex.quote(GATEWAY + path))
    code(shown + (f" -d '{json.dumps(body)}'" if body else ""))
    request = Request(GATEWAY + path,
                      json.dumps(body).encode() if body else None,
                      {"Authorization": "Bearer "
                                        + os.environ[token]})
    try:
        with urlopen(request, timeout=WAIT_S_MAX) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def over_http(before):
    chapter("One buyer comes over HTTP, by the gateway")
    order = {"order_id": "order-http", "quantity": 1, "user_id": "buyer-http"}
    path = "/products/sneaker/stock/reserve"
    status, answer = http(path, order)
    (line,) = answer["lines"]
    claim_equal("201: it is reserved, in a commit that is durable",
                (status, line["granted"], line["available"]), (201, 1, 1))
    status, answer = http(path, order)
    claim_equal("200: the same request again changes nothing",
                (status, answer["replayed"]), (200, True))
    status, answer = http(path, {"order_id": "order-more", "quantity": 5})
    claim_equal("409: a problem that a program can read",
                (status, answer["type"], answer["wanted"],
                 answer["available"]),
                (409, "urn:pgstock:problem:insufficient", 5, 1))
    code(f"    {json.dumps({key: answer[key] for key in ('title', 'hint')})}")
    status, answer = http("/orders/order-http")
    claim_equal("it is in the database as every other order",
                (status, answer["lines"][0]["state"]), (200, "reserved"))
    status, answer = http("/orders?search=order-http",
                          token="GATEWAY_ADMIN_TOKEN")
    claim_equal("the console finds it by this list",
                (status, [row["order_id"] for row in answer["rows"]]),
                (200, ["order-http"]))
    claim_equal("the ledger has who asked for it", one(
        "SELECT actor FROM stock_movements WHERE order_id = 'order-http'"),
        "pgstock_gateway/app-1")
    status, answer = http("/orders/order-http/release", {"reason": "demo"})
    claim_equal("it is given back", (status, levels()), (200, before))


def consumer_sees(tail):
    chapter("What a consumer sees in Kafka")
    written = sql("SELECT event_id::text FROM stock_outbox")
    tail.until(lambda records: len(records) >= len(written), WAIT_S_MAX,
               "every event of the outbox in Kafka")
    records = sorted(tail.read_to_end(), key=lambda r: r.sequence)
    table(("topic", "part", "offset", "key", "event_type", "sequence"),
          [(r.topic, r.partition, r.offset, r.key.decode(),
            r.header("event_type"), r.sequence) for r in records])
    sample = of_type(records, "StockRolledBack")[0]
    note("one of them in full, its headers first:")
    table(("header", "value"), [(name, value.decode())
                                for name, value in sample.headers])
    for line in json.dumps(sample.json, indent=2).splitlines():
        code(line)
    claim_equal(f"Kafka has each of the outbox's {len(written)} events once",
                sorted(r.header("ce_id") for r in records),
                sorted(event_id for (event_id,) in written))
    for record in records:
        same = [r.sequence for r in tail.records
                if (r.topic, r.key) == (record.topic, record.key)]
        if same != sorted(same):
            claim("they are in order for each key", False, (record.key, same))
    claim("they are in order for each key", True)
    return len(written)


def books(before):
    chapter("Stock before and after")
    after = {name: rest for name, *rest in levels()}
    table(("product", "on hand", "reserved", "available", "->",
           "on hand", "reserved", "available"),
          [(name, *was, "->", *after[name]) for name, *was in before])
    claim_equal(f"{PAYERS} are sold, {PIECES - PAYERS - 2} reserved, 2 free",
                after["sneaker"], [PIECES - PAYERS, PIECES - PAYERS - 2, 2])
    claim_equal("the laces were not touched", after["laces"], [5, 0, 5])

    chapter("The ledger: every change of stock, and who made it")
    code("SELECT * FROM stock_movements ORDER BY id;")
    rows = sql("SELECT id, to_char(at, 'HH24:MI:SS.MS'), kind, product_id,"
               " on_hand_delta, reserved_delta, order_id, actor,"
               " coalesce(reason, '') FROM stock_movements ORDER BY id")
    table(("id", "at", "kind", "product", "on_hand", "reserved", "order",
           "actor", "reason"), rows)
    for name, (on_hand, reserved, _) in after.items():
        sums = [sum(r[i] for r in rows if r[3] == name) for i in (4, 5)]
        claim_equal(f"its sums for {name} are the levels", sums,
                    [on_hand, reserved])
    code("SELECT * FROM verify_stock();")
    claim_equal("verify_stock() finds nothing wrong",
                sql("SELECT * FROM verify_stock()"), [])


def samples(prefixes):
    """The lines of /metrics with these names that count something."""
    with urlopen(METRICS, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return [line for line in lines
            if line.startswith(prefixes) and not line.endswith(" 0")]


def metrics(published):
    chapter("The relay's metrics")

    def total():
        return sum(float(line.rsplit(" ", 1)[1]) for line
                   in samples(("pgstock_outbox_published_total",)))

    # a consumer may see a record before the relay hears that it is there
    wait_until(lambda: total() >= published, WAIT_S_MAX,
               f"{published} events published; the metrics say {total()}")
    code(f"curl -s {METRICS}")
    for line in samples(("pgstock_outbox_published_total",
                         "pgstock_inbox_events_total")):
        code(f"    {line}")
    claim_equal(f"it has published {published} events", total(), published)


def look_around(unpaid):
    chapter("Look around")
    host, port, user, database = (
        shlex.quote(os.environ[name])
        for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"))
    for what, command in (
            ("the database", f"psql -h {host} -p {port} -U {user} {database}"),
            ("the events", f"kcat -b {BROKERS} -C -e -q -t stock-events"
                           r" -f '%k %h\n  %s\n'"),
            ("pay an order", f"echo '{{\"order_id\": \"{unpaid}\"}}' | "
                             f"kcat -b {BROKERS} -P -t payment-success"),
            ("the metrics", f"curl -s {METRICS}"),
            ("reserve", f"curl -H 'Authorization: Bearer "
                        f"{os.environ['GATEWAY_TOKEN']}' "
                        f"{GATEWAY}/products/sneaker/stock/reserve -d "
                        "'{\"order_id\": \"mine\", \"quantity\": 1}'"),
            ("the console", f"{GATEWAY}/console/#/orders/mine, with the token"
                            f" {os.environ['GATEWAY_ADMIN_TOKEN']}"),
            ("is it ready?", f"curl -s {METRICS.replace('metrics', 'readyz')}"),
            ("its log", f"less {shlex.quote(os.environ['RELAY_LOG'])}"),
            ("its config", f"less {shlex.quote(os.environ['RELAY_CONFIG'])}"),
            ("the end", ("sudo " if "SUDO_USER" in os.environ else "")
             + "dev/demo-stop")):
        print(f"    {what:14}{paint('36', command)}")
    print()


def main():
    before = pieces_arrive()
    winners = buyers_race()
    with Tail(BROKERS, ["stock-events", "stock-freeze-failed"]) as tail:
        await_events(tail, "StockReserved", PIECES)
        orders_get_paid(tail, winners[:PAYERS])
        order_fails(tail, winners[PAYERS])
        order_is_cancelled(tail, winners[PAYERS + 1])
        half_an_order(tail)
        over_http(levels())
        published = consumer_sees(tail)
    books(before)
    metrics(published)
    look_around(winners[-1])


try:
    main()
except NotReached as error:
    sys.exit(f"demo: {str(error)[:400]}")
