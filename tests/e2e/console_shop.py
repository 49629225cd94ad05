# SPDX-License-Identifier: PostgreSQL
"""A shop for the console to show."""

import itertools
import json

offsets = itertools.count(1000)


def fail(shop, value, topic="order-created"):
    """Applies a message as a relay does; the id of the failure."""
    shop.value(
        "SELECT result FROM pgstock_internal.relay_apply(ARRAY[%s], ARRAY[0],"
        " ARRAY[%s::bigint], ARRAY[-1::bigint], ARRAY[NULL::bytea],"
        " ARRAY[%s::bytea], ARRAY[NULL::bytea], %s)",
        (topic, next(offsets), value.encode(), json.dumps({
            "group": "g", "dlq_topic": "{topic}_dlq", "order_wait_ms": 900000,
            "retry_delays_ms": [1000000]})))
    return shop.value("SELECT max(id) FROM stock_failed_events")


def fill(shop, gateway):
    """Something for each page of the console."""
    admin = gateway.client("admin")
    app = gateway.client("app")
    for name, pieces in (("coat-red", 40), ("coat-blue", 12), ("cup", 250),
                         ("lamp", 3), ("sold-out", 0)):
        admin.post(f"/products/{name}/stock/receive", {"quantity": pieces})
    admin.post("/products/cup/stock/receive",
               {"quantity": 60, "location": "north"})
    for i in range(12):
        assert app.post("/orders", {
            "order_id": f"order-{i}", "user_id": f"user-{i % 3}",
            "items": [{"product_id": "coat-red", "quantity": 1 + i % 3},
                      {"product_id": "cup", "quantity": 2}]}).status == 201
    for i in range(6):
        app.post(f"/orders/order-{i}/confirm", {"payment_id": f"pay-{i}"})
    app.post("/orders/order-7/release", {"reason": "changed her mind"})
    app.post("/orders/order-2/return")
    assert app.reserve("lamp", 9, "too-much").status == 409
    fail(shop, '{"order_id": "order-99", "items": []}')
    fail(shop, json.dumps({"order_id": "order-98"}), "payment-success")
    assert admin.post("/sales", {"activity_id": "black-friday",
                                 "product_id": "cup",
                                 "quantity": 50}).status == 201
    for i in range(9):
        assert app.post("/sales/black-friday/purchase", {
            "user_id": f"buyer-{i}", "order_id": f"sale-{i}"}).status == 201
    admin.close()
    app.close()
