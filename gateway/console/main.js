// SPDX-License-Identifier: PostgreSQL
//
// main.js - signing in, the views, and what is live

import { forget, get, listen, persist, session, signIn } from "./api.js";
import { h, number, to } from "./dom.js";
import { acts } from "./acts.js";
import { failed } from "./failed.js";
import { hanging, orders } from "./orders.js";
import { relays } from "./relays.js";
import { report } from "./report.js";
import { sales } from "./sales.js";
import { stock } from "./stock.js";

// those that are a part of another one are not in the bar
const views = [stock, orders, failed, sales, relays, acts, report, hanging];

const crown = h("header", { class: "top" });
const banner = h("div", { class: "banner", role: "alert", hidden: true },
  h("p", {}));
const main = h("main", { id: "main" });
const pulse = h("span", { class: "pulse", role: "status" }, "connecting");
const counts = new Map();

let left = new AbortController(); // the view that is shown
let gone = null; // the stream
let looker = null; // the view's own, for what is live
let latest = null;
let arriving = false; // the title gets the focus when the view is shown

// ---- what is away, and back again ----

// It is announced when it changes, and not every second.
function showPulse(word) {
  if (pulse.textContent === word) return;
  pulse.className = `pulse ${word}`;
  pulse.textContent = word;
}

function showAway(problem) {
  const text = `${problem.message}. ` +
    "What is shown may be old; this page recovers by itself.";
  if (banner.textContent !== text) banner.firstChild.textContent = text;
  banner.hidden = false;
  showPulse("away");
}

function showBack() {
  banner.hidden = true;
  showPulse("live");
}

// ---- the stream ----

function take(activity) {
  showBack();
  latest = activity;
  for (const [name, badge] of counts) {
    const count = activity[name] ?? 0;
    badge.textContent = number(count);
    badge.hidden = count === 0;
  }
  looker?.(activity);
}

function startStream() {
  gone?.abort();
  gone = null;
  if (document.hidden || !session.role) return;
  gone = new AbortController();
  listen(gone.signal, take, (problem) => {
    if (problem.status === 401) leave("Your token is not valid any more.");
    else showAway(problem);
  });
}

// ---- views ----

// What a person has typed may be no encoded text: it is taken as it is.
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  return { segments: path.split("/").filter(Boolean)
    .map(decode), query: new URLSearchParams(query) };
}

function context(view, segments, query) {
  const { signal } = left;
  const place = to(view.path, ...segments);
  return {
    segments, query, signal,
    // tools: to the right of the title
    head(title, { crumb, lead, tools = [] } = {}) {
      document.title = `${title} – pgstock`;
      const heading = h("h1", { tabindex: -1 }, title);
      main.replaceChildren(...[
        crumb && h("p", { class: "crumb" }, crumb === true
          ? h("a", { href: to(view.path) }, `← ${view.title}`) : crumb),
        h("div", { class: "head" }, heading,
          h("div", { class: "tools" }, tools)),
        lead && h("p", { class: "lead" }, lead)].filter(Boolean));
      return main;
    },
    async load(path) {
      const body = await persist(() => get(path, signal), signal, showAway);
      showBack();
      return body;
    },
    live(look) {
      looker = look;
      if (latest) look(latest);
    },
    // the filters become part of the address, without a step of history each
    remember(values) {
      const given = Object.entries(values).filter(([, value]) => value);
      history.replaceState(null, "", place +
        (given.length ? `?${new URLSearchParams(given)}` : ""));
    },
    // after an act of the person
    again() {
      arriving = true;
      return route();
    },
    refresh,
  };
}

function fail(problem) {
  if (problem.status === 401) {
    leave("Your token is not valid any more.");
    return;
  }
  const heading = h("h1", { tabindex: -1 }, problem.status === 404
    ? "Not found" : "This did not work");
  main.replaceChildren(heading, h("p", { class: "error", role: "alert" },
    problem.message));
}

async function route() {
  if (!session.role) return;
  const { segments, query } = parse(location.hash);
  const view = views.find((one) => one.path === segments[0]) ?? views[0];
  left.abort();
  left = new AbortController();
  looker = null;
  const { signal } = left;
  for (const link of crown.querySelectorAll("nav a"))
    if (link.hash === to(view.part ?? view.path)) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  main.setAttribute("aria-busy", "true");
  try {
    await view.show(context(view, segments.slice(1), query));
  } catch (problem) {
    if (signal.aborted) return;
    fail(problem);
    if (!problem.status) console.error(problem);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  if (arriving) main.querySelector("h1")?.focus();
  arriving = false;
}

// Shown anew because something has changed: what has the focus keeps it.
async function refresh() {
  const old = document.activeElement;
  const focused = main.contains(old);
  await route();
  if (!focused || main.contains(document.activeElement)) return;
  const same = [...main.querySelectorAll(old.tagName)].find((one) =>
    one.textContent === old.textContent && one.name === old.name);
  (same ?? main.querySelector("h1"))?.focus({ preventScroll: true });
}

// ---- who is there ----

function leave(why) {
  gone?.abort();
  left.abort();
  forget();
  showSignIn(why);
}

function showSignIn(why) {
  document.title = "Sign in – pgstock";
  const error = h("p", { class: "error", role: "alert", hidden: !why },
    why ?? "");
  // a password manager would offer to keep it as a password
  const field = h("input", { type: "password", name: "token", required: true,
    autocomplete: "one-time-code", spellcheck: "false" });
  const button = h("button", { class: "main" }, "Sign in");
  const form = h("form", { class: "sign-in" },
    h("img", { src: "icon.svg", alt: "" }), h("h1", {}, "pgstock"),
    h("p", { class: "note" }, "A token of the role reader may look, one of " +
      "the role admin may act. It is kept until this tab is closed."),
    h("label", {}, "Access token", field), error, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await signIn(field.value.trim());
      enter();
    } catch (problem) {
      error.textContent = problem.status === 401
        ? "No such token is known." : problem.message;
      error.hidden = false;
    }
    button.disabled = false;
  });
  document.body.replaceChildren(h("main", {}, form));
  field.focus();
}

function enter() {
  counts.clear();
  const shown = views.filter((view) => !view.part);
  const nav = h("nav", { "aria-label": "Pages" }, shown.map((view) => {
    const badge = h("span", { class: "count", hidden: true });
    if (view.count) counts.set(view.count, badge);
    return h("a", { href: to(view.path) }, view.title,
      view.count && badge);
  }));
  crown.replaceChildren(h("div", { class: "top-in" },
    h("a", { class: "brand", href: to(views[0].path) },
      h("img", { src: "icon.svg", alt: "" }), "pgstock"),
    nav,
    h("div", { class: "who" }, pulse,
      session.name && h("span", {}, h("b", {}, session.name),
        h("span", { class: "role" }, ` (${session.role})`)),
      session.token && h("button", { class: "small",
        onclick: () => leave() }, "Sign out"))));
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#main", onclick: (event) => {
      event.preventDefault();
      main.querySelector("h1")?.focus();
    } }, "Skip to the page"), crown, banner, main);
  startStream();
  route();
}

// Where the gateway knows no tokens, none is asked for.
async function begin() {
  document.body.replaceChildren(h("main", {},
    h("p", { class: "lead" }, "Connecting …")));
  try {
    await persist(() => signIn(session.token), left.signal, (problem) => {
      document.querySelector(".lead").textContent = `${problem.message}. ` +
        "This page recovers by itself.";
    });
    enter();
  } catch (problem) {
    showSignIn(session.token ? "Your token is not valid any more." : null);
  }
}

addEventListener("hashchange", async () => {
  arriving = true;
  await route();
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", startStream);
begin();
