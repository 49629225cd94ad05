// SPDX-License-Identifier: PostgreSQL
//
// A shop's checkout with pgstock, by Prisma 7.
//
// An order and its reservation are one transaction.  Reads requests from
// standard input and prints an answer to each: see ../README.md.
// DATABASE_URL names the database.

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient, Prisma } from "./generated/client.ts";

const PIECES_MAX = 5n; // the shop's own rule: of one product in an order
const TRIES = 8; // 6 seconds in all
const RUN_AGAIN = new Set(["40001", "40P01", "57P01", "57P02", "57P03"]);

type Tx = Prisma.TransactionClient;
type Reserved = { product_id: string; granted: bigint; replayed: boolean };
type Confirmed = { status: string; replayed: boolean };

/** The order breaks the shop's own rule. */
class TooMany extends Error {}

/** Writes an order and reserves its stock: both or neither. */
async function checkout(tx: Tx, id: string, userId: string, key: string, items: string) {
  await tx.order.createMany({ data: [{ id, userId }], skipDuplicates: true });
  const lines = await tx.$queryRaw<Reserved[]>`
    SELECT product_id, granted, replayed FROM reserve_order(
      ${id}, ${items}::jsonb, user_id => ${userId}, idempotency_key => ${key})`;
  for (const line of lines) {
    if (line.granted > PIECES_MAX) throw new TooMany(line.product_id); // undoes all of it
  }
  return lines;
}

/** The payment has arrived: sells what is reserved, or has it refunded. */
async function pay(tx: Tx, id: string, payment: string) {
  const lines = await tx.$queryRaw<Confirmed[]>`
    SELECT status, replayed FROM confirm_stock(${id}, ${payment})`;
  const late = lines.some((line) => line.status === "shortfall");
  await tx.order.updateMany({ where: { id }, data: { state: late ? "refund" : "paid" } });
  return { late, replayed: lines[0].replayed };
}

/**
 * Calls work(tx, ...) in a transaction, and again if that may help.
 *
 * A connection that was lost during COMMIT does not show whether the
 * transaction was committed: work must have the same effect once or twice, as
 * checkout has by its key, and pay by the order's state.
 */
async function inTransaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await prisma.$transaction(work, { maxWait: 5_000, timeout: 15_000 });
    } catch (error) {
      if (attempt === TRIES || !isTransient(error)) throw error;
    }
    await pause((0.5 + Math.random() / 2) * 50 * 2 ** attempt);
  }
}

/** The server's error in one of Prisma's: SQLSTATE, message, DETAIL. */
function serverError(error: unknown) {
  const cause = (error as any)?.meta?.driverAdapterError?.cause ?? (error as any)?.cause;
  return cause?.originalCode
    ? { code: cause.originalCode, message: cause.originalMessage, detail: cause.detail }
    : undefined;
}

/** Whether the same transaction may succeed when it is run again. */
function isTransient(error: unknown): boolean {
  if (error instanceof TooMany) return false;
  const code = serverError(error)?.code;
  return code === undefined || RUN_AGAIN.has(code) || code.startsWith("08");
}

/** Handles a request; what to tell the customer. */
async function answer(verb: string, id: string, f: string[]): Promise<string> {
  try {
    if (verb === "checkout") {
      const lines = await inTransaction((tx) => checkout(tx, id, f[0], f[1], f[2]));
      const text = lines.map((line) => `${line.granted} of ${line.product_id}`);
      return `reserved ${text.join(", ")}${lines[0].replayed ? ", as before" : ""}`;
    }
    const { late, replayed } = await inTransaction((tx) => pay(tx, id, f[0]));
    return (late ? "too late, refund the payment" : "paid") + (replayed ? ", as before" : "");
  } catch (error) {
    if (error instanceof TooMany)
      return `at most ${PIECES_MAX} of ${error.message}, nothing was reserved`;
    if (isTransient(error)) throw error;
    const { code, message, detail } = serverError(error)!;
    if (code === "SK001") return `not enough stock. ${detail}`;
    return `refused, ${code}: ${message}`;
  }
}

const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 4 });
const prisma = new PrismaClient({ adapter });
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, id, ...fields] = line.split("\t");
  console.log(`${id}: ${await answer(verb, id, fields)}`);
}
await prisma.$disconnect();
