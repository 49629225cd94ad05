// SPDX-License-Identifier: PostgreSQL
//
// list.js - a list that is searched, and read page by page

import { query } from "./api.js";
import { empty, h, table, tableRow } from "./dom.js";

const PAGE = 50;

function control(spec, value) {
  const { name, kind = "search", options } = spec;
  if (kind !== "select")
    return h("input", { name, value, type: kind, min: spec.min,
      placeholder: spec.placeholder, autocomplete: "off" });
  const select = h("select", { name }, options.map(([word, title]) =>
    h("option", { value: word }, title)));
  select.value = value ?? "";
  return select;
}

function filterForm(ctx, specs, submit) {
  const controls = specs.map((spec) =>
    control(spec, ctx.query.get(spec.name)));
  const form = h("form", { class: "filters", role: "search" },
    specs.map((spec, i) => h("label", { class: spec.grow ? "grow" : null },
      spec.label, controls[i])), h("button", {}, "Search"));
  const values = () => Object.fromEntries(controls.map((one) =>
    [one.name, one.value.trim()]));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ctx.remember(values());
    submit();
  });
  for (const one of controls)
    if (one.tagName === "SELECT")
      one.addEventListener("change", () => form.requestSubmit());
  return { form, values };
}

// {path, label, columns, filters, key(row), nothing: [title, text],
// expand(row)?}: the element, and its rows by key: {row, element}.
export async function list(ctx, spec) {
  const { path, label, columns, filters = [], key } = spec;
  const expand = spec.expand ?? ((row) => [row]);
  const results = h("div", {});
  const note = h("p", { class: "note", role: "status" });
  const rows = new Map();
  const { form, values } = filterForm(ctx, filters, () =>
    load().catch(fail));
  let body = null;
  let latest = 0; // the number of the last request: an older one is void

  function fail(problem) {
    if (!ctx.signal.aborted)
      results.replaceChildren(h("p", { class: "error", role: "alert" },
        problem.message));
  }

  function add(row) {
    if (rows.has(key(row))) return;
    const element = tableRow(columns, row);
    rows.set(key(row), { row, element });
    body.append(element);
  }

  function begin(found) {
    rows.clear();
    if (found.rows.length) {
      results.replaceChildren(table(label, columns, []));
      body = results.querySelector("tbody");
    } else if (Object.values(values()).some(Boolean))
      results.replaceChildren(empty("Nothing fits", "Try with fewer words."));
    else
      results.replaceChildren(empty(...spec.nothing));
  }

  async function load(after) {
    const own = ++latest;
    const found = await ctx.load(query(path, { ...values(), after,
      limit: PAGE }));
    if (own !== latest) return;
    if (!after) begin(found);
    found.rows.flatMap(expand).forEach(add);
    note.textContent = !found.rows.length && !after ? "Nothing fits"
      : `${rows.size} shown${found.next ? ", there are more" : ""}`;
    results.querySelector(".more")?.remove();
    if (found.next)
      results.append(h("p", { class: "more" }, h("button", {
        onclick: () => load(found.next).catch(fail) }, "Show more")));
  }

  await load();
  return {
    element: h("div", {}, filters.length ? form : null, results, note),
    rows,
    reload: () => load().catch(fail),
    values,
    // a row that is shown, with other values
    update(row) {
      const known = rows.get(key(row));
      if (!known) return;
      const element = tableRow(columns, row);
      element.className = "changed";
      known.element.replaceWith(element);
      rows.set(key(row), { row, element });
    },
  };
}
