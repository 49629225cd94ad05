// SPDX-License-Identifier: PostgreSQL
//
// orders.js - orders, and what each went through

import { act, session } from "./api.js";
import { ask, empty, figures, h, id, link, number, state, table, time, to }
  from "./dom.js";
import { list } from "./list.js";

const STATES = ["reserved", "confirmed", "shortfall", "returned",
  "rolled_back", "released", "expired"];

function orderPath(order) {
  return `/orders/${encodeURIComponent(order)}`;
}

// ---- the list ----

const columns = [
  { title: "Order", head: true,
    cell: (order) => link(to("orders", order.order_id), order.order_id) },
  { title: "State", cell: (order) => [state(order.state),
    order.reason && h("span", { class: "sub" }, order.reason)] },
  { title: "User", wide: true, cell: (order) => order.user_id
    ? id(order.user_id) : "" },
  { title: "Pieces", num: true, cell: (order) => number(order.quantity) },
  { title: "Lines", num: true, wide: true,
    cell: (order) => number(order.lines) },
  { title: "Placed", class: "tight", cell: (order) =>
    time(order.created_at) },
  { title: "Expires", wide: true, class: "tight", cell: (order) =>
    order.state === "reserved" ? time(order.expires_at) : "" },
];

async function showList(ctx) {
  const found = await list(ctx, {
    path: "/orders", label: "Orders", columns,
    key: (order) => order.order_id,
    filters: [{ name: "search", label: "Order begins with", grow: true },
      { name: "state", label: "State", kind: "select",
        options: [["", "any"], ...STATES.map((word) =>
          [word, word.replaceAll("_", " ")])] }],
    nothing: ["No order yet",
      "An order appears when its first line is reserved."],
  });
  const newer = h("button", { hidden: true, onclick: () => {
    newer.hidden = true;
    found.reload();
  } });
  let seen = null;
  ctx.head("Orders", { lead: "The orders that changed last come first.",
    tools: [newer, h("a", { class: "button", href: to("hanging") },
      "Orders that hang")] }).append(found.element);
  ctx.live((activity) => {
    seen ??= activity.movement;
    const changed = activity.movement !== seen && !found.values().search;
    if (changed) seen = activity.movement;
    if (!changed) return;
    newer.textContent = "Orders have changed: show them";
    newer.hidden = false;
  });
}

// ---- one order ----

const lineColumns = [
  { title: "Product", head: true, cell: (line) =>
    link(to("stock", line.product_id), line.product_id) },
  { title: "Location", wide: true, cell: (line) => id(line.location) },
  { title: "Pieces", num: true, cell: (line) => number(line.quantity) },
  { title: "State", cell: (line) => [state(line.state),
    line.reason && h("span", { class: "sub" }, line.reason)] },
  { title: "Reserved", class: "tight", cell: (line) =>
    time(line.created_at) },
  { title: "Expires", wide: true, class: "tight", cell: (line) =>
    line.state === "reserved" ? time(line.expires_at) : "" },
  { title: "Ended", wide: true, class: "tight", cell: (line) =>
    line.ended_at ? time(line.ended_at) : "" },
];

const KINDS = { message: "message from Kafka", failure: "failed message",
  admin: "by hand", reservation: "line", movement: "movement of stock",
  event: "event to Kafka" };

const SHOWN = ["result", "state", "reason", "error", "attempt", "user_id",
  "payment_id", "activity_id", "actor", "topic", "partition", "offset",
  "reference", "target"];

function mood(fact) {
  const words = [fact.detail?.result, fact.detail?.state, fact.what];
  if (fact.kind === "failure" || words.some((word) =>
    ["dead", "shortfall", "archived", "held"].includes(word))) return "bad";
  return fact.kind === "message" || fact.kind === "event" ? "own" : null;
}

function facts(fact) {
  const detail = fact.detail ?? {};
  const pieces = fact.quantity === null ? null
    : [`${number(fact.quantity)} × `, id(fact.product_id)];
  return h("p", { class: "facts" }, pieces && h("span", {}, pieces),
    SHOWN.filter((name) => detail[name] !== undefined &&
      detail[name] !== null && name !== fact.kind)
      .map((name) => h("span", {}, `${name.replaceAll("_", " ")} `,
        h("b", {}, String(detail[name])))),
    detail.expires_at && h("span", {}, "expires ", time(detail.expires_at)));
}

function timeline(history) {
  return h("ol", { class: "timeline" }, history.map((fact) =>
    h("li", { class: mood(fact) }, time(fact.at),
      h("span", { class: "what" }, fact.kind === "failure"
        ? fact.detail?.topic ?? fact.what
        : String(fact.what).replaceAll("_", " ")),
      h("span", { class: "kind" }, KINDS[fact.kind] ?? fact.kind),
      facts(fact))));
}

async function settle(ctx, order, verb, title, bad) {
  if (await ask({
    title: `${title} ${order}`, bad,
    text: verb === "release"
      ? "Reserved pieces become available again."
      : "Reserved or sold pieces become available again.",
    fields: [{ name: "reason", label: "Reason" }],
    submit: title,
    act: ({ reason }) => act("POST", `${orderPath(order)}/${verb}`,
      { reason }),
  })) ctx.again();
}

async function showOrder(ctx) {
  const [order] = ctx.segments;
  const found = await ctx.load(`${orderPath(order)}?history=1`);
  const lines = found.lines ?? [];
  const states = new Set(lines.map((line) => line.state));
  const first = lines[0] ?? {};
  const acts = [];
  if (session.admin && states.has("reserved"))
    acts.push(h("button", { onclick: () =>
      settle(ctx, order, "release", "Release") }, "Release"));
  if (session.admin && (states.has("reserved") || states.has("confirmed")))
    acts.push(h("button", { class: "bad", onclick: () =>
      settle(ctx, order, "rollback", "Roll back", true) }, "Roll back"));
  const main = ctx.head(order, { crumb: true, tools: acts });
  if (lines.length)
    main.append(figures([
      ["State", [...states].map((word) => [state(word), " "])],
      ["Pieces", number(lines.reduce((total, line) =>
        total + line.quantity, 0))],
      ["Lines", number(lines.length)],
      first.user_id && ["User", first.user_id],
      first.payment_id && ["Payment", first.payment_id]]),
    h("h2", {}, "Lines"), table("Lines", lineColumns, lines));
  main.append(h("h2", {}, "What it went through"),
    found.history?.length ? timeline(found.history)
      : empty("Nothing is stored any more"));
  ctx.live((activity) => {
    const now = activity.orders.find((one) => one.order_id === order);
    const last = found.history?.at(-1)?.at;
    if (now && last && Date.parse(now.at) > Date.parse(last)) ctx.refresh();
  });
}

// ---- orders that hang ----

const hangingColumns = [
  { title: "Order", head: true, cell: (one) => one.order_id
    ? link(to("orders", one.order_id), one.order_id) : "" },
  { title: "Because", cell: (one) => one.reason },
  { title: "What", wide: true, cell: (one) => one.kind },
  { title: "Since", class: "tight", cell: (one) => time(one.since) },
  { title: "Topic", wide: true, cell: (one) => one.topic
    ? id(one.topic) : "" },
];

async function showHanging(ctx) {
  const found = await list(ctx, {
    path: "/transactions?hanging=1", label: "Orders that hang",
    columns: hangingColumns,
    key: (one) => `${one.kind} ${one.order_id} ${one.event_id}`,
    nothing: ["No order hangs", "Reservations and messages that wait for " +
      "longer than pgstock.hanging_after appear here."],
  });
  ctx.head("Orders that hang", {
    crumb: h("a", { href: to("orders") }, "← Orders"),
    lead: "Neither paid nor canceled, or waiting for their message, for " +
      "too long. An administrator can roll each one back.",
  }).append(found.element);
}

export const hanging = {
  path: "hanging",
  title: "Orders that hang",
  part: "orders",
  show: showHanging,
};

export const orders = {
  path: "orders",
  title: "Orders",
  show: (ctx) => ctx.segments.length ? showOrder(ctx) : showList(ctx),
};
