// SPDX-License-Identifier: PostgreSQL
//
// report.js - the week, or another period

import { query } from "./api.js";
import { date, empty, figures, h, id, link, number, table, to }
  from "./dom.js";
import { plot } from "./plot.js";

const DAY_MS = 86400e3;

function movement(report, kind) {
  return report.movements.find((one) => one.kind === kind) ??
    { orders: 0, pieces: 0 };
}

function ordersOf(report) {
  return figures([
    ["Orders placed", number(movement(report, "reserved").orders)],
    ["Orders paid", number(movement(report, "confirmed").orders)],
    ["Pieces sold", number(movement(report, "confirmed").pieces)],
    ["Expired", number(movement(report, "expired").orders)],
    ["Released", number(movement(report, "released").orders +
      movement(report, "rolled_back").orders)],
    ["Returned pieces", number(movement(report, "returned").pieces)],
    ["Messages failed", number(report.failures.failed)],
    ["Not handled yet", number(report.failures.open),
      report.failures.open > 0 ? "bad" : null]]);
}

function dayOf(time) {
  return Date.parse(time.slice(0, 10));
}

function daysOf(report) {
  if (!report.days.length)
    return empty("Nothing was sold", "No order changed in this period.");
  const figure = plot("Orders by day");
  const series = (name, title, second) => ({ name: title, second,
    bars: DAY_MS, points: report.days.map((one) => [Date.parse(one.day), one[name]]) });
  figure.show([series("reserved", "Placed"),
    series("confirmed", "Paid", true)],
  [dayOf(report.since),
    Math.ceil(Date.parse(report.until) / DAY_MS) * DAY_MS]);
  return figure.figure;
}

const productColumns = [
  { title: "Product", head: true, cell: (one) =>
    link(to("stock", one.product_id), one.product_id) },
  { title: "Sold", num: true, cell: (one) => number(one.sold) },
  { title: "Orders", num: true, cell: (one) => number(one.orders) },
  { title: "Returned", num: true, cell: (one) => number(one.returned) },
];

const callColumns = [
  { title: "Function", head: true, cell: (one) => id(one.function) },
  { title: "Calls", num: true, cell: (one) => number(one.calls) },
  { title: "Refused", num: true, cell: (one) => number(one.refused) },
  { title: "Failed", num: true, wide: true,
    cell: (one) => number(one.failed) },
  { title: "Mean, ms", num: true, cell: (one) => number(one.mean_ms) },
  { title: "p95, ms", num: true, wide: true,
    cell: (one) => number(one.p95_ms) },
  { title: "p99, ms", num: true, cell: (one) => number(one.p99_ms) },
];

const refusalColumns = [
  { title: "Refused because", head: true, cell: ([word]) =>
    word.replaceAll("_", " ") },
  { title: "Times", num: true, cell: ([, count]) => number(count) },
];

const failureColumns = [
  { title: "Topic", head: true, cell: (one) => id(one.topic) },
  { title: "Kind of failure", cell: (one) => one.class },
  { title: "Messages", num: true, cell: (one) => number(one.messages) },
];

function save(report) {
  const link = h("a", { download: `pgstock-${report.until.slice(0, 10)}.json`,
    href: URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)],
      { type: "application/json" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The period that the address names; whole days, in UTC.
function period(ctx) {
  const until = ctx.query.get("until");
  const since = ctx.query.get("since");
  return {
    since: since ? `${since}T00:00:00Z` : "",
    until: until ? new Date(Date.parse(until) + DAY_MS).toISOString() : "",
  };
}

async function show(ctx) {
  const report = await ctx.load(query("/report", period(ctx)));
  const dates = h("form", { class: "filters" },
    ["since", "until"].map((name) => h("label", {},
      name === "since" ? "From" : "To", h("input", { type: "date", name,
        value: ctx.query.get(name) ?? report[name].slice(0, 10) }))),
    h("button", {}, "Show"));
  dates.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = query(to("report"),
      Object.fromEntries(new FormData(dates)));
  });
  ctx.head("Report", { tools: [h("button", {
    onclick: () => save(report) }, "Download")] }).append(
    h("p", { class: "lead" }, "From ", date(report.since), " to ",
      date(report.until), "."), dates, ordersOf(report), daysOf(report),
    h("h2", {}, "What sold most"), report.products.length
      ? table("What sold most", productColumns, report.products)
      : empty("Nothing was sold"),
    h("h2", {}, "Messages that failed"), report.failures.topics.length
      ? table("Messages that failed", failureColumns, report.failures.topics)
      : empty("No message failed"),
    h("h2", {}, "Refusals and latencies"),
    h("p", { class: "note" }, report.calls.since
      ? ["Whole days in UTC, counted since ", date(report.calls.since), "."]
      : "Whole days in UTC."));
  const main = document.getElementById("main");
  const refusals = Object.entries(report.calls.refusals);
  if (refusals.length)
    main.append(table("Refusals", refusalColumns, refusals), h("p", {}));
  main.append(report.calls.functions.length
    ? table("Latencies", callColumns, report.calls.functions)
    : empty("No call was counted", "Nothing was called in this period."));
}

export const report = { path: "report", title: "Report", show };
