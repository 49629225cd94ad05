// SPDX-License-Identifier: PostgreSQL
//
// A shop's checkout with pgstock, by node-pg.
//
// An order and its reservation are one transaction.  Reads requests from
// standard input and prints an answer to each: see ../README.md.
// DATABASE_URL names the database.

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";

const PIECES_MAX = 5; // the shop's own rule: of one product in an order
const TRIES = 8; // 6 seconds in all
const RUN_AGAIN = new Set(["40001", "40P01", "57P01", "57P02", "57P03"]);

/** The order breaks the shop's own rule. */
class TooMany extends Error {}

/** Writes an order and reserves its stock: both or neither. */
async function checkout(client, order, user, key, items) {
  await client.query(
    "INSERT INTO orders (id, user_id) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    [order, user],
  );
  // items is JSON text: an array would be sent as a PostgreSQL array
  const { rows } = await client.query(
    `SELECT product_id, granted, replayed FROM reserve_order(
       $1, $2::jsonb, user_id => $3, idempotency_key => $4)`,
    [order, items, user, key],
  );
  for (const line of rows) {
    // bigint arrives as text
    if (Number(line.granted) > PIECES_MAX) throw new TooMany(line.product_id); // undoes all of it
  }
  return rows;
}

/** The payment has arrived: sells what is reserved, or has it refunded. */
async function pay(client, order, payment) {
  const { rows } = await client.query(
    "SELECT status, replayed FROM confirm_stock($1, $2)",
    [order, payment],
  );
  const late = rows.some((line) => line.status === "shortfall");
  await client.query("UPDATE orders SET state = $2 WHERE id = $1", [
    order,
    late ? "refund" : "paid",
  ]);
  return { late, replayed: rows[0].replayed };
}

/**
 * Calls work(client, ...) in a transaction, and again if that may help.
 *
 * A connection that was lost during COMMIT does not show whether the
 * transaction was committed: work must have the same effect once or twice, as
 * checkout has by its key, and pay by the order's state.
 */
async function inTransaction(pool, work, ...args) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tryOnce(pool, work, args);
    } catch (error) {
      if (attempt === TRIES || !isTransient(error)) throw error;
    }
    await pause((0.5 + Math.random() / 2) * 50 * 2 ** attempt);
  }
}

async function tryOnce(pool, work, args) {
  const client = await pool.connect();
  let lost;
  // without a listener, a connection lost between two queries ends the process
  const onError = (error) => (lost = error);
  client.on("error", onError);
  try {
    await client.query("BEGIN");
    const result = await work(client, ...args);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch((failure) => (lost ??= failure));
    throw error;
  } finally {
    client.off("error", onError);
    client.release(lost); // a lost one is not used again
  }
}

/** Whether the same transaction may succeed when it is run again. */
function isTransient(error) {
  if (error instanceof TooMany) return false;
  if (!(error instanceof pg.DatabaseError)) return true; // no answer of the server
  return RUN_AGAIN.has(error.code) || error.code.startsWith("08");
}

/** Handles a request; what to tell the customer. */
async function answer(pool, verb, ...args) {
  try {
    if (verb === "checkout") {
      const lines = await inTransaction(pool, checkout, ...args);
      const text = lines.map((line) => `${line.granted} of ${line.product_id}`);
      return `reserved ${text.join(", ")}${lines[0].replayed ? ", as before" : ""}`;
    }
    const { late, replayed } = await inTransaction(pool, pay, ...args);
    return (late ? "too late, refund the payment" : "paid") + (replayed ? ", as before" : "");
  } catch (error) {
    if (error instanceof TooMany)
      return `at most ${PIECES_MAX} of ${error.message}, nothing was reserved`;
    if (isTransient(error)) throw error;
    if (error.code === "SK001") return `not enough stock. ${error.detail}`;
    return `refused, ${error.code}: ${error.message}`;
  }
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
pool.on("error", (error) => console.error(`idle connection lost: ${error.message}`));
for await (const line of createInterface({ input: process.stdin })) {
  const request = line.split("\t");
  console.log(`${request[1]}: ${await answer(pool, ...request)}`);
}
await pool.end();
