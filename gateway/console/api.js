// SPDX-License-Identifier: PostgreSQL
//
// api.js - the gateway's API, and who uses it
//
// The token is kept for this tab only, and sent as a header: another site's
// page cannot use it.

const KEY = "pgstock-token";
const RETRY_MS = 1500;

// What a person reads, without what is meant for programs.
const TEXTS = {
  "gateway-away": "The gateway does not answer",
  "database-away": "The database is away",
  overloaded: "The gateway has too much to do",
  rate: "There are too many requests with this token",
};

export class Problem extends Error {
  constructor(status, problem) {
    const name = String(problem.type ?? "").split(":").pop();
    super(TEXTS[name] ?? [problem.detail || problem.title, problem.hint]
      .filter(Boolean).map((text) => text.replace(/\.$/, "")).join(". "));
    this.status = status;
    this.name = name;
  }

  // the same request may succeed later
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

export const session = {
  token: sessionStorage.getItem(KEY),
  name: null,
  role: null,
  get admin() { return this.role === "admin"; },
};

export function forget() {
  sessionStorage.removeItem(KEY);
  Object.assign(session, { token: null, name: null, role: null });
}

async function send(method, path, { body, headers, signal } = {}) {
  const init = { method, signal, cache: "no-store",
    headers: { ...headers } };
  if (session.token) init.headers.Authorization = `Bearer ${session.token}`;
  if (body !== undefined) init.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, init);
  } catch (reason) {
    if (signal?.aborted) throw reason;
    throw new Problem(0, { type: "gateway-away" });
  }
  if (response.ok) return response;
  let problem = { title: `Status ${response.status}` };
  try {
    problem = await response.json();
  } catch { /* not of this API: a proxy's page */ }
  throw new Problem(response.status, problem);
}

export async function call(method, path, options) {
  const response = await send(method, path, options);
  return { body: await response.json(),
    tag: response.headers.get("ETag") };
}

export async function get(path, signal) {
  return (await call("GET", path, { signal })).body;
}

// A page of a list that is no JSON, and what the next one comes after, or null.
// The header has it percent-encoded: query() encodes it again.
export async function listPage(path, headers) {
  const response = await send("GET", path, { headers });
  const next = response.headers.get("Next-After");
  return { text: await response.text(),
    next: next === null ? null : decodeURIComponent(next) };
}

// An administrator's request has no key: after a broken connection it is
// unknown whether it took effect.
async function tell(method, path, options) {
  try {
    return await call(method, path, options);
  } catch (problem) {
    if (method !== "GET" &&
        (problem.name === "outcome-unknown" || problem.status === 0))
      problem.message = "The connection broke before the answer came: look " +
        "whether it was done before you repeat it";
    else if (problem.passes)
      problem.message = `Nothing was changed: ${problem.message}`;
    throw problem;
  }
}

export async function act(method, path, body, headers) {
  return (await tell(method, path, { body, headers })).body;
}

// What an act reads before it changes something.
export function readFirst(path) {
  return tell("GET", path);
}

// "/products?search=a", without what is empty
export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) =>
    value !== undefined && value !== null && value !== "");
  return given.length
    ? path + (path.includes("?") ? "&" : "?") + new URLSearchParams(given)
    : path;
}

export async function signIn(token) {
  session.token = token;
  try {
    Object.assign(session, await get("/whoami"));
    if (token) sessionStorage.setItem(KEY, token);
  } catch (problem) {
    if (!problem.passes) forget();
    throw problem;
  }
}

export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

// Calls until it succeeds or fails for good; away(problem) each time that it
// is in vain.
export async function persist(attempt, signal, away) {
  for (;;) {
    try {
      return await attempt();
    } catch (problem) {
      if (signal.aborted || !problem.passes) throw problem;
      away(problem);
      await pause(RETRY_MS, signal);
      if (signal.aborted) throw problem;
    }
  }
}

// ---- what happens meanwhile: server-sent events ----

// The fields of an event that its lines give.
function parseEvent(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0)
      event[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
  }
  return event;
}

async function readEvents(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream())
    .getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    blocks.map(parseEvent).forEach(take);
  }
}

// EventSource cannot send a token, so this does what it would do: read the
// stream, and ask again with the last event's id.
export async function listen(signal, take, away) {
  let last = "";
  while (!signal.aborted) {
    try {
      const response = await send("GET", "/live", { signal,
        headers: { "Last-Event-ID": last } });
      await readEvents(response, (event) => {
        last = event.id ?? last;
        if (event.data) take(JSON.parse(event.data));
      });
    } catch (problem) {
      if (signal.aborted) return;
      away(problem);
      if (problem.status === 401) return;
      await pause(RETRY_MS, signal);
    }
  }
}
