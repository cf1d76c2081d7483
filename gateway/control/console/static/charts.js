// Three small charts in SVG. Colours come from classes, so that they follow the theme.

import { h } from "./dom.js";

const LINE_WIDTH = 240;
const LINE_HEIGHT = 44;

/** Requests a second as an area, and the failed ones of them in front of it. `points` are [requests, failed]. */
export function sparkline(points, label) {
  const most = Math.max(1, ...points.map(([requests]) => requests));
  const x = (at) => (at * LINE_WIDTH) / Math.max(1, points.length - 1);
  const y = (value) => LINE_HEIGHT - 1 - (value / most) * (LINE_HEIGHT - 4);
  const line = (part) => points.map((each, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(each[part]).toFixed(1)}`).join("");
  const area = (part) => `${line(part)}L${LINE_WIDTH} ${LINE_HEIGHT}L0 ${LINE_HEIGHT}Z`;
  return h("svg.spark", { viewBox: `0 0 ${LINE_WIDTH} ${LINE_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    points.length > 1 && [
      h("path.area", { d: area(0) }),
      h("path.line", { d: line(0), "vector-effect": "non-scaling-stroke" }),
      points.some(([, failed]) => failed > 0) && h("path.failed", { d: area(1) }),
    ]);
}

/** A circle: its size is the share of the traffic, its colour the health, and its ring how full the service is. */
export function bubble(share, fill, status, label) {
  const radius = 9 + 17 * Math.sqrt(Math.min(1, share));
  const around = 2 * Math.PI * 31;
  return h("svg.bubble", { viewBox: "0 0 72 72", role: "img", "aria-label": label, class: status },
    h("circle.track", { cx: 36, cy: 36, r: 31 }),
    fill > 0 && h("circle.ring", { cx: 36, cy: 36, r: 31, "stroke-dasharray": `${(around * Math.min(1, fill)).toFixed(1)} ${around.toFixed(1)}`, transform: "rotate(-90 36 36)" }),
    h("circle.disc", { cx: 36, cy: 36, r: radius.toFixed(1) }));
}

/** An hour of a circuit: `parts` are [from, to, state] with instants from 0 to 3600, `failed` the share of requests that
 * failed in each tenth of a minute. */
export function strip(parts, failed, label) {
  const width = 3600 / Math.max(1, failed.length);
  return h("svg.strip", { viewBox: "0 0 3600 26", preserveAspectRatio: "none", role: "img", "aria-label": label },
    parts.map(([from, to, state, title]) => h("rect", { class: `state-${state}`, x: from, y: 0, width: Math.max(6, to - from), height: 14 }, title && h("title", {}, title))),
    failed.map((share, at) => share > 0 && h("rect.failed", { x: (at * width).toFixed(0), y: (26 - 10 * Math.max(0.15, share)).toFixed(1), width: width.toFixed(0), height: (10 * Math.max(0.15, share)).toFixed(1) })));
}
