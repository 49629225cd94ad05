// SPDX-License-Identifier: PostgreSQL

/* Prints records that CloudEvents' library for JavaScript makes, in the form of
 * record.py. Run by dev/record-formats, where require() finds the library. */
"use strict";

const { CloudEvent, CONSTANTS, Kafka } = require("cloudevents");

const order = (id) => ({
    orderId: id, items: [{ productId: "book", quantity: 2 }] });

const event = (id, data = order(id)) => new CloudEvent({
    id, source: "/shop", type: "com.shop.order.placed",
    time: "2026-01-31T12:00:00Z", datacontenttype: "application/json",
    partitionkey: id, data });

const hex = (text) => Buffer.from(text).toString("hex");

function show(what, { key, value, headers }) {
    console.log(JSON.stringify({
        client: "cloudevents", what: `JavaScript, ${what}`,
        key: key ? hex(key) : null, value: hex(value),
        headers: Object.entries(headers)
            .filter(([, text]) => text !== undefined)
            .map(([name, text]) => [name, hex(text)]) }));
}

show("structured", Kafka.structured(event("js-1")));
show("structured, data_base64", Kafka.structured(
    event("js-2", Buffer.from(JSON.stringify(order("js-2"))))));
const binary = Kafka.binary(event("js-3"));
show("binary", { ...binary, value: JSON.stringify(binary.value) });

// the library reads batches, and its events can be written as one
const batch = {
    value: JSON.stringify([event("js-4"), event("js-5")]),
    headers: { "content-type": CONSTANTS.MIME_CE_BATCH } };
if (Kafka.toEvent(batch).length !== 2) {
    throw new Error("the library does not read the batch as two events");
}
show("batch", batch);
