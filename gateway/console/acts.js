// SPDX-License-Identifier: PostgreSQL
//
// acts.js - what was done by hand

import { h, id, time } from "./dom.js";
import { list } from "./list.js";

const columns = [
  { title: "Time", class: "tight", cell: (one) => time(one.at) },
  { title: "Action", head: true, cell: (one) => id(one.action) },
  { title: "Target", cell: (one) => id(one.target) },
  { title: "Reason", cell: (one) => one.reason ?? "" },
  { title: "By", wide: true, cell: (one) => id(one.actor) },
];

async function show(ctx) {
  const found = await list(ctx, {
    path: "/admin-actions", label: "What was done by hand", columns,
    key: (one) => `${one.at} ${one.action} ${one.target}`,
    filters: [{ name: "search", label: "Contains", grow: true }],
    nothing: ["Nothing was done by hand",
      "What administrators do about messages, settings and rights is " +
      "recorded here."],
  });
  ctx.head("By hand", { lead: "What administrators did. Changes of stock " +
    "are movements of the product." }).append(found.element);
}

export const acts = { path: "acts", title: "By hand", show };
