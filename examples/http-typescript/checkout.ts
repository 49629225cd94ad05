// SPDX-License-Identifier: PostgreSQL
/*
 * A shop's checkout over HTTP, by a client that is generated from the gateway's
 * description of itself: paths, members and their types are checked by tsc.
 *
 * Reads requests from standard input and prints an answer to each: see
 * ../README.md.  GATEWAY_URL names the gateway, GATEWAY_TOKEN is its access
 * token.
 */

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import createClient from 'openapi-fetch';
import type { components, paths } from './gateway.d.ts';

type Problem = components['schemas']['Problem'];

const PIECES_MAX = 5;           // the shop's own rule: of one product in an order
const TRIES = 8;                // about 10 seconds in all

/*
 * Repeats what may be repeated.  Without an answer it is unknown whether the
 * request took effect: the same request, with the same order and key, takes
 * effect once.
 */
async function persistentFetch(request: Request): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let wait = (0.5 + Math.random() / 2) * 50 * 2 ** attempt;
    try {
      const answer = await fetch(request.clone(), {
        signal: AbortSignal.timeout(30000),
      });
      if (![429, 503].includes(answer.status) || attempt === TRIES) {
        return answer;
      }
      await answer.body?.cancel();
      wait = Math.max(wait, 1000 * Number(answer.headers.get('Retry-After')));
    } catch (error) {
      if (attempt === TRIES) {
        throw error;
      }
    }
    await sleep(wait);
  }
}

const gateway = createClient<paths>({
  baseUrl: process.env.GATEWAY_URL,
  headers: { Authorization: `Bearer ${process.env.GATEWAY_TOKEN}` },
  fetch: persistentFetch,
});

/* Reserves the lines of an order: all of them or none. */
async function checkout(order: string, user: string, key: string,
  items: string): Promise<string> {
  const { data, error } = await gateway.POST('/orders', {
    params: { header: { 'Idempotency-Key': key } },
    body: { order_id: order, user_id: user, items: JSON.parse(items) },
  });
  if (error) {
    return refusal(error);
  }
  for (const line of data.lines) {
    if ((line.granted ?? 0) > PIECES_MAX) {
      await gateway.POST('/orders/{order_id}/release', {
        params: { path: { order_id: order } },
        body: { reason: 'too many' },
      });
      return `at most ${PIECES_MAX} of ${line.product_id}, `
        + 'nothing was reserved';
    }
  }
  return 'reserved ' + data.lines
    .map((line) => `${line.granted} of ${line.product_id}`)
    .join(', ') + again(data.replayed);
}

/* The payment has arrived: sell what is reserved, or refund it. */
async function pay(order: string, payment: string): Promise<string> {
  const { data, error } = await gateway.POST('/orders/{order_id}/confirm', {
    params: { path: { order_id: order } },
    body: { payment_id: payment },
  });
  return error ? refusal(error) : 'paid' + again(data.replayed);
}

const again = (replayed: boolean) => (replayed ? ', as before' : '');

/* What to tell the customer; the type says what it is about. */
function refusal(problem: Problem): string {
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
  const [verb, order, ...rest] = line.split('\t');
  const text = verb === 'checkout'
    ? await checkout(order, rest[0], rest[1], rest[2])
    : await pay(order, rest[0]);
  console.log(`${order}: ${text}`);
}
