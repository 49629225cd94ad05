// SPDX-License-Identifier: PostgreSQL
//
// stock.js - products, their levels, and what has moved them

import { act, query, readFirst, session } from "./api.js";
import { ask, delta, empty, figures, h, id, link, number, state, table, time,
  to } from "./dom.js";
import { list } from "./list.js";
import { plot } from "./plot.js";

// ---- the list ----

function available(level) {
  return h("span", { class: level.available > 0 ? null : "low" },
    number(level.available));
}

function quantity(value) {
  return value === 0 ? h("span", { class: "zero" }, "0") : number(value);
}

const levelColumns = [
  { title: "Available", num: true, cell: available },
  { title: "On hand", num: true, cell: (level) => quantity(level.on_hand) },
  { title: "Reserved", num: true, cell: (level) => quantity(level.reserved) },
  { title: "Safety", num: true, wide: true,
    cell: (level) => quantity(level.safety) },
  { title: "Version", num: true, wide: true,
    cell: (level) => quantity(level.version) },
];

const listColumns = [
  { title: "Product", head: true, cell: (level) =>
    link(to("stock", level.product_id), level.product_id) },
  { title: "Location", wide: true, cell: (level) => id(level.location) },
  ...levelColumns,
];

function key(level) {
  return JSON.stringify([level.product_id, level.location]);
}

// Levels that are shown follow what is live.
function follow(known, update) {
  return (activity) => {
    for (const level of activity.levels) {
      const shown = known(level);
      if (shown && shown.version !== level.version) update(level);
    }
  };
}

async function showList(ctx) {
  const found = await list(ctx, {
    path: "/products", label: "Products", columns: listColumns, key,
    filters: [{ name: "search", label: "Product contains", grow: true },
      { name: "available_max", label: "Available at most", kind: "number",
        min: 0, placeholder: "any" }],
    nothing: ["No product yet",
      "A product appears with the first pieces that are received."],
    expand: (product) => product.levels.map((level) => ({
      product_id: product.product_id, ...level })),
  });
  ctx.head("Stock", { tools: session.admin ? [h("button", {
    class: "main", onclick: () => receive(ctx) }, "Receive pieces")] : [] })
    .append(found.element);
  ctx.live(follow((level) => found.rows.get(key(level))?.row, found.update));
}

// ---- what an administrator does ----

function path(product, verb) {
  return `/products/${encodeURIComponent(product)}/stock/${verb}`;
}

const product = { name: "product_id", label: "Product" };
const place = { name: "location", label: "Location", value: "main" };

// A mistyped name would make a product or a location: one that is not known is
// to be submitted twice.
function confirmNew() {
  let told = null;
  return async (name, location) => {
    const both = JSON.stringify([name, location]);
    if (both === told) return;
    try {
      await readFirst(query(`/products/${encodeURIComponent(name)}/stock`,
        { location }));
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      told = both;
      throw new Error(`There is no product "${name}" at "${location}" yet. ` +
        "Submit it again to make it");
    }
  };
}

async function receive(ctx, known) {
  const sure = confirmNew();
  const done = await ask({
    title: known ? `Receive pieces of ${known}` : "Receive pieces",
    fields: [known ? null : product,
      { name: "quantity", label: "Pieces", kind: "number", min: 0 }, place,
      { name: "reference", label: "Delivery note", optional: true }]
      .filter(Boolean),
    submit: "Receive",
    act: async (values) => {
      const name = known ?? values.product_id;
      await sure(name, values.location);
      return act("POST", path(name, "receive"), {
        quantity: Number(values.quantity), location: values.location,
        reference: values.reference || undefined });
    },
  });
  if (done && !known) location.hash = to("stock", done.product_id);
  else if (done) ctx.again();
}

async function adjust(ctx, known) {
  if (await ask({
    title: `Correct ${known}`,
    fields: [{ name: "delta", label: "Pieces more, or less (−)",
      kind: "number" }, place, { name: "reason", label: "Reason" }],
    submit: "Correct",
    act: (values) => act("POST", path(known, "adjust"), {
      delta: Number(values.delta), location: values.location,
      reason: values.reason }),
  })) ctx.again();
}

// What was counted is set only if nothing has changed since it was read.
async function count(ctx, known) {
  if (await ask({
    title: `Set ${known} to what was counted`,
    text: "It is refused if the stock changes before it is set.",
    fields: [{ name: "on_hand", label: "Pieces on hand", kind: "number",
      min: 0 }, place],
    submit: "Set",
    act: async (values) => {
      const read = await readFirst(query(
        `/products/${encodeURIComponent(known)}/stock`,
        { location: values.location }));
      return act("POST", path(known, "set"), {
        on_hand: Number(values.on_hand), location: values.location,
      }, { "If-Match": read.tag });
    },
  })) ctx.again();
}

async function move(ctx, known) {
  const sure = confirmNew();
  if (await ask({
    title: `Move pieces of ${known}`,
    fields: [{ name: "quantity", label: "Pieces", kind: "number", min: 1 },
      { name: "from_location", label: "From", value: "main" },
      { name: "to_location", label: "To" }],
    submit: "Move",
    act: async (values) => {
      await sure(known, values.to_location);
      return act("POST", path(known, "move"), { ...values,
        quantity: Number(values.quantity) });
    },
  })) ctx.again();
}

// ---- one product ----

const movementColumns = [
  { title: "Time", class: "tight", cell: (one) => time(one.at) },
  { title: "Movement", cell: (one) => [state(one.kind),
    one.reason && h("span", { class: "sub" }, one.reason)] },
  { title: "Location", wide: true, cell: (one) => id(one.location) },
  { title: "On hand", num: true, cell: (one) => one.on_hand_delta === 0
    ? h("span", { class: "zero" }, "0") : delta(one.on_hand_delta) },
  { title: "Reserved", num: true, cell: (one) => one.reserved_delta === 0
    ? h("span", { class: "zero" }, "0") : delta(one.reserved_delta) },
  { title: "Order", cell: (one) => one.order_id
    ? link(to("orders", one.order_id), one.order_id)
    : one.reference ? id(one.reference) : "" },
  { title: "By", wide: true, cell: (one) => id(one.actor) },
];

function sum(levels, name) {
  return levels.reduce((total, level) => total + level[name], 0);
}

// Back from what is there now, movement by movement.  The newest is first.
// Movements of the same time are one step: they belong together.
function pointsBefore(movements, now, name) {
  const points = [];
  let value = now;
  movements.forEach((one, i) => {
    if (one.at !== movements[i - 1]?.at)
      points.unshift([Date.parse(one.at), value]);
    value -= one[name];
  });
  return points;
}

function drawMovements(figure, levels, movements) {
  const onHand = pointsBefore(movements, sum(levels, "on_hand"),
    "on_hand_delta");
  const reserved = pointsBefore(movements, sum(levels, "reserved"),
    "reserved_delta");
  figure.show([{ name: "On hand", points: onHand },
    { name: "Reserved", points: reserved, second: true }],
  [onHand[0][0], Math.max(Date.now(), onHand[0][0] + 1000)]);
}

async function showProduct(ctx) {
  const [known] = ctx.segments;
  const base = `/products/${encodeURIComponent(known)}`;
  const { levels } = await ctx.load(`${base}/stock`);
  const found = await ctx.load(query(`${base}/movements`, { limit: 200 }));
  const acts = session.admin ? [["Receive", receive], ["Correct", adjust],
    ["Set", count], ["Move", move]].map(([title, what]) =>
    h("button", { onclick: () => what(ctx, known) }, title)) : [];
  const columns = [{ title: "Location", head: true,
    cell: (level) => id(level.location) }, ...levelColumns];

  ctx.head(known, { crumb: true, tools: acts }).append(
    figures([["Available", number(sum(levels, "available"))],
      ["On hand", number(sum(levels, "on_hand"))],
      ["Reserved", number(sum(levels, "reserved"))]]),
    table("Levels", columns, levels), h("h2", {}, "Movements"));
  showMovements(document.getElementById("main"), known, levels, found);
  ctx.live(follow(
    (level) => level.product_id === known &&
      levels.find((one) => one.location === level.location), ctx.refresh));
}

function showMovements(main, known, levels, found) {
  const movements = found.rows;
  if (!movements.length) {
    main.append(empty("No movement is stored",
      "Older ones have been added up: see pgstock.history_retention."));
    return;
  }
  const figure = plot(`Stock of ${known} over time`);
  main.append(figure.figure, table("Movements", movementColumns, movements));
  drawMovements(figure, levels, movements);
  main.append(h("p", { class: "note" }, found.next
    ? "These are the latest 200 movements." : `${movements.length} shown`));
}

export const stock = {
  path: "stock",
  title: "Stock",
  show: (ctx) => ctx.segments.length ? showProduct(ctx) : showList(ctx),
};
