// SPDX-License-Identifier: PostgreSQL
//
// relays.js - who publishes, how far, and what holds it up

import { duration, empty, figures, h, id, number, pairs, state, table, time }
  from "./dom.js";

const heldColumns = [
  { title: "Topic", head: true, cell: (one) => id(one.topic) },
  { title: "Events", num: true, cell: (one) => number(one.events) },
  { title: "Since", class: "tight", cell: (one) => time(one.since) },
  { title: "Tries", num: true, wide: true, cell: (one) => number(one.tries) },
  { title: "Reason", cell: (one) => one.reason },
];

const gapColumns = [
  { title: "Topic", head: true, cell: (one) => id(one.topic) },
  { title: "Partition", num: true, cell: (one) => number(one.partition) },
  { title: "Offsets", num: true, cell: (one) =>
    `${one.first_offset} to ${one.last_offset}` },
  { title: "Found", class: "tight", cell: (one) => time(one.found_at) },
  { title: "Reason", cell: (one) => one.reason },
];

const relayColumns = [
  { title: "Relay", head: true, cell: (one) => id(one.name) },
  { title: "State", cell: (one) => one.leads ? state("leads") : state("waits") },
  { title: "Connected since", class: "tight", cell: (one) =>
    time(one.since) },
];

const offsetColumns = [
  { title: "Topic", head: true, cell: (one) => id(one.topic) },
  { title: "Partition", num: true, cell: (one) => number(one.partition) },
  { title: "Next offset", num: true, cell: (one) =>
    number(one.next_offset) },
];

const bindingColumns = [
  { title: "Topic", head: true, cell: (one) => id(one.topic) },
  { title: "Type", wide: true, cell: (one) => one.event_type ?? "all" },
  { title: "Applied by", cell: (one) => id(one.handler) },
];

function pending(count, most) {
  return number(count) + (most && count >= most ? "+" : "");
}

function numbersOf(status, activity) {
  const leader = activity ? activity.leader : status.leader;
  const count = activity ? activity.pending : status.pending_events;
  return figures([
    ["Leader", leader ?? "none", leader ? null : "bad"],
    ["Events that wait", pending(count, activity?.pending_counted_up_to)],
    ["The oldest waits", duration((activity
      ? activity.oldest_pending_seconds : status.oldest_pending_seconds) ?? 0)],
    ["Messages that wait", number(activity
      ? activity.failed_waiting : status.failed_waiting)],
    ["Held topics", number(activity
      ? activity.held_topics : status.held_topics?.length)]]);
}

async function show(ctx) {
  const status = await ctx.load("/status");
  const held = status.held_topics ?? [];
  const gaps = status.missing_messages ?? [];
  const { relays: sessions = [], offsets = [], problems = [],
    bindings = [] } = status;
  let box = numbersOf(status);
  ctx.head("Relays").append(...problems.map((problem) =>
    h("p", { class: "error" }, problem)), box,
    sessions.length ? table("Relays", relayColumns, sessions)
      : empty("No relay is connected",
        "Events wait in the outbox until one is."),
    h("h2", {}, "Position"),
    pairs([["Leads since", time(status.leader_since)],
      ["Position", status.position_valid ? state("ok")
        : h("span", { class: "low" }, status.position_trouble)],
      ["Position stored", time(status.position_stored_at)],
      ["Epoch", number(status.epoch)],
      status.upkeep_trouble && ["Upkeep",
        h("span", { class: "low" }, status.upkeep_trouble)],
      ["PostgreSQL", id(status.server_version)]]),
    h("h2", {}, "Held topics"), held.length
      ? table("Held topics", heldColumns, held)
      : empty("No topic is held", "Kafka accepts the events of all topics."),
    h("h2", {}, "Messages that are missing"), gaps.length
      ? table("Messages that are missing", gapColumns, gaps)
      : empty("No message is missing"),
    h("h2", {}, "Positions in incoming topics"), offsets.length
      ? table("Positions in incoming topics", offsetColumns, offsets)
      : empty("No message has arrived"),
    h("h2", {}, "Who applies incoming messages"), bindings.length
      ? table("Who applies incoming messages", bindingColumns, bindings)
      : empty("No topic has a handler"));
  ctx.live((activity) => {
    const fresh = numbersOf(status, activity);
    box.replaceWith(fresh);
    box = fresh;
    if (activity.held_topics !== held.length ||
        activity.leader !== status.leader) ctx.refresh();
  });
}

export const relays = { path: "relays", title: "Relays", show };
