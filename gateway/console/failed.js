// SPDX-License-Identifier: PostgreSQL
//
// failed.js - messages that failed: look, retry, discard, note what was done

import { act, listPage, query, session } from "./api.js";
import { ask, h, id, link, number, pairs, state, time, to } from "./dom.js";
import { list } from "./list.js";

const PAGE = 1000; // rows, as many as the gateway gives
const STATES = ["waiting", "archived", "retried", "discarded"];

function messageState(message) {
  return message.state === "archived" && message.handled
    ? h("span", { class: "state" }, "handled") : state(message.state);
}

const columns = [
  { title: "Message", head: true, cell: (message) =>
    link(to("failed", String(message.id)), `#${message.id}`) },
  { title: "State", cell: messageState },
  { title: "Topic", wide: true, cell: (message) => id(message.topic) },
  { title: "Order", cell: (message) => message.order_id
    ? link(to("orders", message.order_id), message.order_id) : "" },
  { title: "Error", cell: (message) => message.error },
  { title: "Tries", num: true, wide: true,
    cell: (message) => number(message.attempts) },
  { title: "Failed", class: "tight", wide: true,
    cell: (message) => time(message.first_failed_at) },
];

// ---- what an administrator does ----

function path(message, verb) {
  return `/failed/${message.id}/${verb}`;
}

async function retry(ctx, message) {
  if (await ask({
    title: `Try message #${message.id} again`,
    text: "It is applied at once, as if it had just arrived.",
    fields: [{ name: "reason", label: "Reason", optional: true }],
    submit: "Retry",
    act: ({ reason }) => act("POST", path(message, "retry"),
      reason ? { reason } : {}),
  })) ctx.again();
}

async function discard(ctx, message) {
  if (await ask({
    title: `Discard message #${message.id}`, bad: true,
    text: "It is never applied. It stays in the archive, with the reason.",
    fields: [{ name: "reason", label: "Reason" }],
    submit: "Discard",
    act: (values) => act("POST", path(message, "discard"), values),
  })) ctx.again();
}

async function handle(ctx, message) {
  if (await ask({
    title: `Message #${message.id} is handled`,
    text: "Say what was done about it: the note is kept with your name.",
    fields: [{ name: "note", label: "Note", kind: "note" }],
    submit: "Mark as handled",
    act: (values) => act("POST", path(message, "handled"), values),
  })) ctx.again();
}

function acts(ctx, message) {
  if (!session.admin) return [];
  const open = ["waiting", "archived"].includes(message.state);
  return [
    open && h("button", { class: "main", onclick: () => retry(ctx, message) },
      "Retry"),
    message.state === "archived" && !message.handled &&
      h("button", { onclick: () => handle(ctx, message) }, "Handled"),
    open && h("button", { class: "bad",
      onclick: () => discard(ctx, message) }, "Discard"),
  ].filter(Boolean);
}

// ---- the list, and one message ----

// All pages as one file: each begins with the names of the columns.
async function csvOfAll(values) {
  let csv = "";
  for (let after; after !== null;) {
    const page = await listPage(query("/failed", { ...values, after,
      limit: PAGE }), { Accept: "text/csv" });
    csv += csv ? page.text.slice(page.text.indexOf("\n") + 1) : page.text;
    after = page.next;
  }
  return csv;
}

async function download(values) {
  const csv = await csvOfAll(values);
  const link = h("a", { download: "failed-messages.csv",
    href: URL.createObjectURL(new Blob([csv], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function showList(ctx) {
  const found = await list(ctx, {
    path: "/failed", label: "Failed messages", columns,
    key: (message) => message.id,
    filters: [{ name: "order_id", label: "Order", grow: true },
      { name: "topic", label: "Topic" },
      { name: "state", label: "State", kind: "select",
        options: [["", "any"], ...STATES.map((word) => [word, word])] }],
    nothing: ["No message has failed",
      "Messages that cannot be applied appear here."],
  });
  const error = h("p", { class: "error", role: "alert", hidden: true });
  ctx.head("Failed messages", {
    lead: "Messages from Kafka that could not be applied: those that wait " +
      "for another try, and those that were given up (archived).",
    tools: [h("button", { onclick: () => download(found.values())
      .catch((problem) => {
        error.textContent = problem.message;
        error.hidden = false;
      }) }, "Download CSV")],
  }).append(error, found.element);
  let seen = null;
  ctx.live((activity) => {
    const now = `${activity.failed_waiting} ${activity.failed_open}`;
    if (seen !== null && seen !== now) found.reload();
    seen = now;
  });
}

// As it is, if it is not JSON.
function pretty(payload) {
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}

async function showMessage(ctx) {
  const message = await ctx.load(
    `/failed/${encodeURIComponent(ctx.segments[0])}`);
  ctx.head(`Message #${message.id}`, { crumb: true,
    tools: acts(ctx, message) }).append(
    pairs([["State", messageState(message)],
      ["Error", message.error],
      ["Topic", id(message.topic)],
      message.order_id && ["Order",
        link(to("orders", message.order_id), message.order_id)],
      message.event_id && ["Event", id(message.event_id)],
      message.key && ["Key", id(message.key)],
      ["Tries", number(message.attempts)],
      ["Failed first", time(message.first_failed_at)],
      message.next_retry_at && ["Next try", time(message.next_retry_at)],
      message.archived_at && ["Given up", time(message.archived_at)],
      message.handled && ["Handled", time(message.handled_at), " by ",
        id(message.handled_by)]]),
    h("h2", {}, "Payload"),
    h("pre", { tabindex: 0, "aria-label": "Payload" },
      pretty(message.payload ?? "")));
}

export const failed = {
  path: "failed",
  title: "Failed messages",
  count: "failed_open",
  show: (ctx) => ctx.segments.length ? showMessage(ctx) : showList(ctx),
};
