// SPDX-License-Identifier: PostgreSQL
//
// sales.js - flash sales: the quota, and how fast it sells

import { act, session } from "./api.js";
import { ask, empty, figures, h, id, link, number, pairs, share, state, time,
  to } from "./dom.js";
import { list } from "./list.js";
import { plot } from "./plot.js";

const WINDOW_MS = 60e3; // the least that the plot shows
const POINTS_MAX = 600;

const columns = [
  { title: "Sale", head: true, cell: (sale) =>
    link(to("sales", sale.activity_id), sale.activity_id) },
  { title: "State", cell: (sale) => state(sale.state) },
  { title: "Product", wide: true, cell: (sale) =>
    link(to("stock", sale.product_id), sale.product_id) },
  { title: "Sold", num: true, cell: (sale) => [number(sale.sold),
    sale.sold === null ? null : share(sale.sold, sale.quantity)] },
  { title: "Quota", num: true, cell: (sale) => number(sale.quantity) },
  { title: "Left", num: true, wide: true,
    cell: (sale) => number(sale.remaining) },
  { title: "Begins", class: "tight", wide: true,
    cell: (sale) => time(sale.starts_at) },
  { title: "Ends", class: "tight", wide: true,
    cell: (sale) => time(sale.closed_at ?? sale.ends_at) },
];

async function open(ctx) {
  const done = await ask({
    title: "Open a flash sale",
    text: "The quota is set apart from the product's stock at once.",
    fields: [{ name: "activity_id", label: "Name of the sale" },
      { name: "product_id", label: "Product" },
      { name: "location", label: "Location", value: "main" },
      { name: "quantity", label: "Quota, in pieces", kind: "number", min: 1 },
      { name: "per_user_limit", label: "Pieces of one user at most",
        kind: "number", min: 1, value: 1 },
      { name: "starts_at", label: "Begins", kind: "datetime-local",
        optional: true },
      { name: "ends_at", label: "Ends", kind: "datetime-local",
        optional: true }],
    submit: "Open",
    act: (values) => act("POST", "/sales", {
      activity_id: values.activity_id, product_id: values.product_id,
      location: values.location, quantity: Number(values.quantity),
      per_user_limit: Number(values.per_user_limit),
      starts_at: moment(values.starts_at), ends_at: moment(values.ends_at),
    }),
  });
  if (done) location.hash = to("sales", done.activity_id);
}

function moment(local) {
  return local ? new Date(local).toISOString() : undefined;
}

async function close(ctx, sale) {
  if (await ask({
    title: `Close ${sale.activity_id}`, bad: true,
    text: "What is left of the quota becomes ordinary stock.",
    submit: "Close",
    act: () => act("DELETE",
      `/sales/${encodeURIComponent(sale.activity_id)}`),
  })) ctx.again();
}

async function showList(ctx) {
  const found = await list(ctx, {
    path: "/sales", label: "Flash sales", columns,
    key: (sale) => sale.activity_id,
    nothing: ["No flash sale yet",
      "A flash sale sells a quota that is set apart from the stock."],
  });
  ctx.head("Flash sales", { tools: session.admin ? [h("button", {
    class: "main", onclick: () => open(ctx) }, "Open a sale")] : [] })
    .append(found.element);
  ctx.live((activity) => {
    for (const now of activity.sales) {
      const shown = found.rows.get(now.activity_id)?.row;
      if (shown && (shown.sold !== now.sold || shown.state !== now.state))
        found.update({ ...shown, ...now });
    }
  });
}

// ---- one sale ----

// The sales have no resource of their own: the list is read to this one.
async function find(ctx, name) {
  for (let after = ""; after !== null;) {
    const page = await ctx.load("/sales?limit=1000" +
      (after && `&after=${encodeURIComponent(after)}`));
    const sale = page.rows.find((one) => one.activity_id === name);
    if (sale) return sale;
    after = page.next;
  }
  return null;
}

function numbersOf(sale, rate) {
  return figures([["Sold", number(sale.sold)],
    ["Left", number(sale.remaining)], ["Quota", number(sale.quantity)],
    ["Sold per second", number(rate)]]);
}

// Pieces per second: what the database has of the purchases, and while the sale
// is open what is live.
function speed(name, found) {
  const figure = plot(`Pieces of ${name} sold per second`);
  const seconds = found.seconds ?? 1;
  const width = seconds * 1000;
  const points = found.purchases.map((one) =>
    [Date.parse(one.at), one.pieces / seconds]);
  const show = (from, to) => figure.show([{ name: "Pieces per second",
    second: true, bars: width, points }], [from, to + width]);
  return {
    element: figure.figure,
    whole() {
      show(points[0][0], Math.max(points.at(-1)[0], points[0][0] + WINDOW_MS));
    },
    add(at, pieces) {
      const last = points.at(-1);
      const slot = last ? last[0] + Math.floor((at - last[0]) / width) * width
        : at;
      if (pieces > 0 && slot === last?.[0]) last[1] += pieces / seconds;
      else if (pieces > 0) points.push([slot, pieces / seconds]);
      if (points.length > POINTS_MAX) points.shift();
      show(Math.min(points[0]?.[0] ?? at, at - WINDOW_MS), at);
    },
  };
}

async function showSale(ctx) {
  const [name] = ctx.segments;
  const sale = await find(ctx, name);
  if (!sale) {
    ctx.head(name, { crumb: true }).append(empty("There is no such sale"));
    return;
  }
  const running = sale.closed_at === null;
  const found = await ctx.load(
    `/sales/${encodeURIComponent(name)}/purchases`);
  // A call that closes a sale does not note how much it sold.
  const bought = found.purchases.reduce((sum, one) => sum + one.pieces, 0);
  let box = numbersOf({ ...sale, sold: sale.sold ?? bought }, 0);
  const main = ctx.head(name, { crumb: true, tools: session.admin && running
    ? [h("button", { class: "bad", onclick: () => close(ctx, sale) },
      "Close the sale")] : [] });
  main.append(box, pairs([["State", state(sale.state)],
    ["Product", link(to("stock", sale.product_id), sale.product_id), " at ",
      id(sale.location)],
    ["Pieces of one user at most", number(sale.per_user_limit)],
    ["Begins", time(sale.starts_at)],
    ["Ends", time(sale.closed_at ?? sale.ends_at)]]),
  h("h2", {}, "Sold per second"));
  if (!running && !found.purchases.length) {
    main.append(empty("Nothing was sold",
      "Or it was so long ago that the purchases are not kept any more."));
    return;
  }
  const bars = speed(name, found);
  let last = null;
  main.append(bars.element);
  if (!running) {
    bars.whole();
    return;
  }
  bars.add(Date.now(), 0);
  ctx.live((activity) => {
    const now = activity.sales.find((one) => one.activity_id === name);
    const at = Date.parse(activity.at);
    if (!now || at <= last?.at) {
      if (!now) ctx.refresh();
      return;
    }
    const pieces = Math.max(0, now.sold - (last?.sold ?? now.sold));
    const fresh = numbersOf({ ...sale, ...now }, last
      ? pieces / Math.max(1, (at - last.at) / 1000) : 0);
    bars.add(at, pieces);
    last = { at, sold: now.sold };
    box.replaceWith(fresh);
    box = fresh;
  });
}

export const sales = {
  path: "sales",
  title: "Flash sales",
  show: (ctx) => ctx.segments.length ? showSale(ctx) : showList(ctx),
};
