// SPDX-License-Identifier: PostgreSQL
//
// plot.js - lines over time, in SVG

import { day, h, number, svg } from "./dom.js";

const LEFT = 52;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 24;
const DAY_MS = 86400e3;

// Round steps: about `count` of them up to `max`.
function ticks(max, count) {
  const raw = Math.max(max, 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, power * [1, 2, 5, 10].find(
    (factor) => factor * power >= raw));
  const list = [];
  for (let at = 0; at < max + step; at += step) list.push(at);
  return list;
}

function timeLabel(at, span) {
  if (span > 3 * 86400e3) return day(at).replace(/ \d{4}$/, "");
  return new Intl.DateTimeFormat("en-GB", span > 600e3
    ? { hour: "2-digit", minute: "2-digit" }
    : { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at);
}

// As many as there is room for; of days, whole ones.
function timeTicks(from, to, width) {
  const count = Math.max(2, Math.min(8, Math.floor(width / 130)));
  const days = (to - from) / DAY_MS;
  if (days <= 3)
    return Array.from({ length: count }, (_, i) =>
      from + (to - from) * i / (count - 1));
  const list = [];
  for (let at = from; at < to; at += Math.ceil(days / count) * DAY_MS)
    list.push(at);
  return list;
}

// Each value holds until the next one.
function stepPath(points, x, y, end) {
  let path = "";
  points.forEach(([at, value], i) => {
    path += i === 0 ? `M${x(at)} ${y(value)}` : `H${x(at)}V${y(value)}`;
  });
  return path + `H${x(end)}`;
}

function valueAt({ points, bars }, at) {
  let found = bars ? 0 : points[0]?.[1];
  for (const [when, value] of points) {
    if (when > at) break;
    if (!bars) found = value;
    else found = at < when + bars ? value : 0;
  }
  return found;
}

function draw(root, width, height, series, range) {
  const max = Math.max(1, ...series.flatMap((one) =>
    one.points.map((point) => point[1])));
  const marks = ticks(max, 4);
  const top = marks[marks.length - 1];
  const [from, to] = range;
  const span = Math.max(1, to - from);
  const x = (at) => +(LEFT + (width - LEFT - RIGHT) * (at - from) / span)
    .toFixed(1);
  const y = (value) => +(height - BOTTOM -
    (height - TOP - BOTTOM) * value / top).toFixed(1);

  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  root.replaceChildren(...marks.map((value) => svg("g", {},
    svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value),
      y2: y(value) }),
    svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" },
      number(value)))));
  for (const at of timeTicks(from, to, width))
    root.append(svg("text", { x: x(at), y: height - 6, "text-anchor":
      at === from ? "start" : at === to ? "end" : "middle" },
    timeLabel(at, span)));
  for (const one of series) {
    if (!one.points.length) continue;
    if (one.bars) {
      root.append(...one.points.map(([at, value]) => svg("rect", {
        class: one.second ? "bar second" : "bar", x: x(at), y: y(value),
        width: Math.max(1, x(at + one.bars) - x(at) - 2),
        height: Math.max(0, y(0) - y(value)), rx: 1.5 })));
      continue;
    }
    const path = stepPath(one.points, x, y, to);
    if (!one.second)
      root.append(svg("path", { class: "area", d: path +
        `V${y(0)}H${x(one.points[0][0])}Z` }));
    root.append(svg("path", {
      class: one.second ? "series second" : "series", d: path }));
  }
  return { from, span, width };
}

// series: [{name, points: [[ms, value], …], second?, bars?}, …]; of the second
// ones the line is dashed; bars: bars, so many milliseconds wide.  Returns the figure, and what draws it anew.
export function plot(label) {
  const root = svg("svg", { role: "img", "aria-label": label });
  const caption = h("figcaption", {});
  const readout = h("output", {});
  const figure = h("figure", { class: "plot" }, caption, root);
  let shown = { series: [], range: [0, 1] };
  let scale = null;

  function redraw() {
    const box = root.getBoundingClientRect();
    if (box.width > 0)
      scale = draw(root, box.width, box.height, shown.series, shown.range);
  }

  function point(event) {
    if (!scale) return;
    const box = root.getBoundingClientRect();
    const at = scale.from + scale.span * (event.clientX - box.left - LEFT) /
      (box.width - LEFT - RIGHT);
    if (at < scale.from || at > scale.from + scale.span) return;
    root.querySelector(".cross")?.remove();
    root.append(svg("line", { class: "cross", x1: event.clientX - box.left,
      x2: event.clientX - box.left, y1: TOP, y2: box.height - BOTTOM }));
    readout.textContent = [timeLabel(at, scale.span),
      ...shown.series.map((one) =>
        `${one.name} ${number(valueAt(one, at))}`)].join("  ·  ");
  }

  root.addEventListener("pointermove", point);
  root.addEventListener("pointerleave", () => {
    root.querySelector(".cross")?.remove();
    readout.textContent = "";
  });
  new ResizeObserver(redraw).observe(root);
  return {
    figure,
    show(series, range) {
      shown = { series, range };
      caption.replaceChildren(...series.map((one) => h("span", {
        class: ["key", one.second && "second", one.bars && "bars"]
          .filter(Boolean).join(" ") }, one.name)), readout);
      root.setAttribute("aria-label", `${label}: ` + series.map((one) =>
        `${one.name} now ${number(one.points.at(-1)?.[1])}`).join(", "));
      redraw();
    },
  };
}
