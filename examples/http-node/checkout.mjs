// SPDX-License-Identifier: PostgreSQL
/*
 * A shop's checkout over HTTP, by Node's own client.
 *
 * Reads requests from standard input and prints an answer to each: see
 * ../README.md.  GATEWAY_URL names the gateway, GATEWAY_TOKEN is its access
 * token.
 */

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const PIECES_MAX = 5;           // the shop's own rule: of one product in an order
const TRIES = 8;                // about 10 seconds in all
const { GATEWAY_URL, GATEWAY_TOKEN } = process.env;

/*
 * Status and body of the answer, repeating what may be repeated.
 *
 * Without an answer it is unknown whether the request took effect: the same
 * request, with the same order and key, takes effect once.
 */
async function post(path, body, key) {
  const headers = {
    Authorization: `Bearer ${GATEWAY_TOKEN}`,
    'Content-Type': 'application/json',
    ...(key !== undefined && { 'Idempotency-Key': key }),
  };
  for (let attempt = 1; ; attempt++) {
    let wait = (0.5 + Math.random() / 2) * 50 * 2 ** attempt;
    try {
      const answer = await fetch(new URL(path, GATEWAY_URL), {
        method: 'POST', headers, body: JSON.stringify(body),
        signal: AbortSignal.timeout(30000),
      });
      const content = await answer.json();
      if (![429, 503].includes(answer.status) || attempt === TRIES) {
        return { status: answer.status, content };
      }
      wait = Math.max(wait, 1000 * Number(answer.headers.get('Retry-After')));
    } catch (error) {
      if (attempt === TRIES) {
        throw error;
      }
    }
    await sleep(wait);
  }
}

/* Reserves the lines of an order: all of them or none. */
async function checkout(order, user, key, items) {
  const { status, content } = await post('/orders', {
    order_id: order, user_id: user, items: JSON.parse(items),
  }, key);
  if (status !== 200 && status !== 201) {
    return refusal(content);
  }
  for (const line of content.lines) {
    if (line.granted > PIECES_MAX) {
      await post(`/orders/${encodeURIComponent(order)}/release`,
        { reason: 'too many' });
      return `at most ${PIECES_MAX} of ${line.product_id}, `
        + 'nothing was reserved';
    }
  }
  return 'reserved ' + content.lines
    .map((line) => `${line.granted} of ${line.product_id}`)
    .join(', ') + again(content);
}

/* The payment has arrived: sell what is reserved, or refund it. */
async function pay(order, payment) {
  const { status, content } = await post(
    `/orders/${encodeURIComponent(order)}/confirm`, { payment_id: payment });
  return status === 200 ? 'paid' + again(content) : refusal(content);
}

const again = (content) => (content.replayed ? ', as before' : '');

/* What to tell the customer; the type says what it is about. */
function refusal(problem) {
  const kind = problem.type.split(':').at(-1);
  if (kind === 'insufficient') {
    return `not enough stock. Product "${problem.product_id}": wanted `
      + `${problem.wanted}, available ${problem.available}.`;
  }
  if (kind === 'shortfall') {
    return 'too late, refund the payment';
  }
  return `refused, ${problem.sqlstate ?? kind}: ${problem.detail}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...request] = line.split('\t');
  const work = { checkout, pay }[verb];
  console.log(`${request[0]}: ${await work(...request)}`);
}
