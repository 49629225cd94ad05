// SPDX-License-Identifier: PostgreSQL
//
// dom.js - elements, numbers and times
//
// All text becomes a text node: an id that looks like markup is shown as it is.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) =>
    child !== undefined && child !== null && child !== false));
  return element;
}

export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

// ---- texts ----

const numbers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric",
  month: "short", year: "numeric" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit",
  minute: "2-digit", second: "2-digit" });

export function number(value) {
  return value === null || value === undefined ? "–"
    : numbers.format(value).replace("-", "−");
}

export function delta(value) {
  return (value > 0 ? "+" : "") + number(value);
}

export function time(text) {
  if (!text || text === "infinity") return h("span", { class: "zero" }, "–");
  const at = new Date(text);
  const today = days.format(at) === days.format(new Date());
  return h("time", { datetime: text, title: text },
    today ? clock.format(at)
      : `${days.format(at).replace(/ \d{4}$/, "")} ${clock.format(at)}`);
}

export function date(text) {
  return h("time", { datetime: text, title: text }, text
    ? `${days.format(new Date(text))} ${clock.format(new Date(text))
      .slice(0, 5)}` : "–");
}

export function day(at) {
  return days.format(at);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${number(seconds / 3600)} h`;
  return `${number(seconds / 86400)} days`;
}

const MOODS = {
  good: ["confirmed", "applied", "published", "open", "ok", "leads", "retried"],
  own: ["reserved", "scheduled", "pending"],
  warn: ["waiting", "expired", "sold_out", "duplicate", "overdue"],
  bad: ["shortfall", "dead", "archived", "held", "failed", "failing"],
};

export function state(word) {
  const mood = Object.keys(MOODS).find((name) => MOODS[name].includes(word));
  return h("span", { class: `state ${mood ?? ""}` },
    String(word ?? "–").replaceAll("_", " "));
}

export function id(text) {
  return h("span", { class: "id" }, text ?? "–");
}

export function link(path, text, props) {
  return h("a", { href: path, class: "id", ...props }, text);
}

// "#/stock/a%2Fb": whatever an id holds
export function to(...segments) {
  return "#/" + segments.map(encodeURIComponent).join("/");
}

// ---- parts of a page ----

export function empty(title, text) {
  return h("div", { class: "empty" }, h("b", {}, title),
    text && h("p", {}, text));
}

function cell(column, row) {
  const classes = [column.num && "num", column.wide && "wide", column.class];
  return h(column.head ? "th" : "td", {
    class: classes.filter(Boolean).join(" ") || null,
    scope: column.head ? "row" : null,
  }, column.cell(row));
}

export function tableRow(columns, row) {
  return h("tr", {}, columns.map((column) => cell(column, row)));
}

// columns: {title, cell(row), num?, wide?: not on a narrow screen, head?}
export function table(label, columns, rows) {
  return h("div", { class: "table", role: "region", "aria-label": label,
    tabindex: 0 },
  h("table", {},
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", {
      scope: "col",
      class: [column.num && "num", column.wide && "wide"]
        .filter(Boolean).join(" ") || null,
    }, column.title)))),
    h("tbody", {}, rows.map((row) => tableRow(columns, row)))));
}

// [[term, text, class?], …]
export function figures(list) {
  return h("dl", { class: "figures" }, list.filter(Boolean).map(
    ([term, value, mood]) => h("div", { class: mood || null },
      h("dt", {}, term),
      h("dd", { class: typeof value === "string" && value.length > 14
        ? "words" : null }, value))));
}

export function pairs(list) {
  return h("dl", { class: "pairs" }, list.filter(Boolean).map(
    ([term, ...value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

export function share(part, all) {
  return svg("svg", { class: "share", viewBox: "0 0 100 4",
    preserveAspectRatio: "none", "aria-hidden": "true" },
  svg("rect", { class: "all", width: 100, height: 4, rx: 1 }),
  svg("rect", { class: "part", height: 4, rx: 1,
    width: all > 0 ? Math.min(100, 100 * part / all) : 0 }));
}

// ---- a question to the person ----

function field(spec) {
  const { name, label, kind = "text", value, options, optional } = spec;
  const common = { name, required: !optional };
  const control = kind === "select"
    ? h("select", common, options.map((option) => h("option", {},
      option)))
    : kind === "note" ? h("textarea", { ...common, rows: 3 })
      : h("input", { ...common, type: kind, value, step: spec.step,
        min: spec.min, autocomplete: "off" });
  return h("label", {}, label + (optional ? " (optional)" : ""), control);
}

// Opens a dialog; act(values) may throw, and its reason is shown.  Resolves to
// what act returned, or to undefined.  What was submitted cannot be canceled:
// the dialog stays until act has ended, and where the browser closes it all the
// same, its result counts.
export function ask({ title, text, fields = [], submit, bad, act }) {
  return new Promise((resolve) => {
    let result;
    let running = null;
    const error = h("p", { class: "error", role: "alert", hidden: true });
    const button = h("button", { class: bad ? "bad" : "main" }, submit);
    const cancel = h("button", { type: "button",
      onclick: () => dialog.close() }, "Cancel");
    const form = h("form", {},
      h("h2", { id: "dialog-title" }, title), text && h("p", {}, text),
      fields.map(field), error,
      h("div", { class: "row" }, cancel, button));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (running) return;
      button.disabled = cancel.disabled = true;
      error.hidden = true;
      try {
        running = act(Object.fromEntries(new FormData(form)));
        result = await running ?? true;
        dialog.close();
      } catch (reason) {
        error.textContent = reason.message;
        error.hidden = false;
      }
      running = null;
      button.disabled = cancel.disabled = false;
    });
    dialog.addEventListener("cancel", (event) => {
      if (running) event.preventDefault();
    });
    dialog.addEventListener("close", async () => {
      dialog.remove();
      await running?.catch(() => {});
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
