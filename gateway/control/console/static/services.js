// The services: a card for each, one dense table sorted by what hurts, and the last hour of every circuit.

import { bubble, sparkline, strip } from "./charts.js";
import { h } from "./dom.js";
import { ago, clock, latency, percent, plural, rate, until } from "./format.js";
import { health } from "./frame.js";
import { fallbacks, hedges, work } from "./notices.js";
import { hurt, state } from "./state.js";

const HOUR = 3600;
const STATES = { Closed: "closed", Open: "open", HalfOpen: "half-open" };

const COLUMNS = [
  ["name", "Service", "left"],
  ["requests", "Req/s", "", "Requests a second on its routes, refused ones included"],
  ["load", "In flight / limit", "", "Requests that hold a place, and how many may"],
  ["p50", "p50", "wide", "Of attempts at the upstream"],
  ["p95", "p95", "", "Of attempts at the upstream"],
  ["p99", "p99", "wide", "Of attempts at the upstream"],
  ["errors", "Errors", "", "The share of requests that ended in a 5xx"],
  ["retries", "Retries/s", "wide", "Attempts beyond the first"],
  ["circuit", "Circuit", "left"],
  ["endpoints", "Endpoints", "wide", "Available, of all"],
  ["shed", "Shed/s", "wide", "Refused because a cap was reached"],
  ["limited", "Limited/s", "wide", "Refused by a rate limit"],
];

const VALUES = {
  hurt: (seen) => hurt(seen),
  requests: (seen) => seen.requests,
  load: (seen) => seen.inFlight / Math.max(1, seen.limit),
  p50: (seen) => seen.p50 ?? 0,
  p95: (seen) => seen.p95 ?? 0,
  p99: (seen) => seen.p99 ?? 0,
  errors: (seen) => seen.errorRate,
  retries: (seen) => seen.retries,
  circuit: (seen) => ["Closed", "HalfOpen", "Open"].indexOf(seen.circuit.state),
  endpoints: (seen) => -up(seen),
  shed: (seen) => seen.shed,
  limited: (seen) => seen.limited,
};

function up(seen) {
  return Object.values(seen.endpoints).filter((each) => each.available).length;
}

/** Names with what is known, in the order that was chosen; those that are equal by name. */
export function sorted() {
  const { by, down } = state.sort;
  const found = Object.entries(state.live.services);
  if (by === "name") return found.sort(([one], [other]) => (down ? -1 : 1) * one.localeCompare(other));
  return found.sort(([one, a], [other, b]) => (down ? 1 : -1) * (VALUES[by](b) - VALUES[by](a)) || one.localeCompare(other));
}

export function services() {
  const found = sorted();
  return [
    h("section.cards", { "aria-label": "Services at a glance" }, found.map(([name, seen]) => card(name, seen))),
    h("section.panel", { "aria-label": "All services" },
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of services" },
        h("table.services", {}, head(), h("tbody", {}, found.map(([name, seen]) => rows(name, seen)))))),
    h("section.panel", { "aria-label": "Circuits of the last hour" }, h("h2", {}, "Circuits, the last hour"), timeline(found)),
    work(),
  ];
}

function most() {
  return Math.max(1, ...Object.values(state.live.services).map((seen) => seen.requests));
}

function card(name, seen) {
  const { circuit } = seen;
  return h("article.card", { "data-key": `card-${name}`, class: seen.status },
    h("h3", {}, h("button.bare", { type: "button", "data-do": "open", "data-what": `service ${name}`, "aria-expanded": String(state.open.has(`service ${name}`)) }, name)),
    h("div.glance", {},
      bubble(seen.requests / most(), seen.inFlight / Math.max(1, seen.limit), seen.status, `${name}: ${seen.status}, ${seen.inFlight} of ${seen.limit} in flight`),
      h("dl", {},
        h("div", {}, h("dt", {}, "req/s"), h("dd", {}, rate(seen.requests))),
        h("div", { class: seen.errorRate > 0 ? "bad" : "" }, h("dt", {}, "errors"), h("dd", {}, percent(seen.errorRate))),
        h("div", {}, h("dt", {}, "p95"), h("dd", {}, latency(seen.p95))))),
    sparkline(state.lines.get(name) ?? [], `${name}: requests a second in the last two minutes`),
    h("p.circuit-line", {}, pill(circuit), h("span", {}, circuitNote(circuit))));
}

function pill(circuit) {
  if (!circuit) return null;
  return h("span.pill", { class: `state-${circuit.state}`, title: circuit.cause || null }, circuit.forced ? `held ${STATES[circuit.state]}` : STATES[circuit.state]);
}

function circuitNote(circuit) {
  if (circuit.forcedUntil) return `for ${until(circuit.forcedUntil, state.now)}`;
  if (circuit.nextProbeTime) return `probe in ${until(circuit.nextProbeTime, state.now)}`;
  if (circuit.state === "HalfOpen") return "probes decide";
  return circuit.since ? `since ${ago(circuit.since, state.now)}` : "";
}

function head() {
  return h("thead", {}, h("tr", {}, COLUMNS.map(([by, title, kind, hint]) => h("th", { scope: "col", class: kind, "aria-sort": state.sort.by === by ? (state.sort.down ? "descending" : "ascending") : null },
    h("button.bare", { type: "button", "data-do": "sort", "data-by": by, title: hint ?? null }, title, state.sort.by === by && h("span.arrow", { "aria-hidden": "true" }, state.sort.down ? " ↓" : " ↑")))),
  h("th.right", { scope: "col" }, h("button.bare", { type: "button", "data-do": "sort", "data-by": "hurt", title: "What hurts first" }, "worst first", state.sort.by === "hurt" && h("span.arrow", { "aria-hidden": "true" }, " ↓")))));
}

function rows(name, seen) {
  const opened = state.open.has(`service ${name}`);
  const total = Object.keys(seen.endpoints).length;
  const available = up(seen);
  const full = seen.inFlight / Math.max(1, seen.limit);
  return [
    h("tr", { "data-key": `row-${name}`, class: seen.status },
      h("th.left", { scope: "row" }, h("button.bare.unfold", { type: "button", "data-do": "open", "data-what": `service ${name}`, "aria-expanded": String(opened) },
        h("span.mark", { "aria-hidden": "true", class: seen.status }, { Healthy: "●", Degraded: "▲", Unhealthy: "■" }[seen.status]), name, h("span.unseen", {}, `, ${seen.status}`))),
      number(rate(seen.requests)),
      h("td.load", { class: full >= 0.9 ? "bad" : full >= 0.7 ? "warn" : "" },
        h("meter", { min: 0, max: Math.max(1, seen.limit), value: seen.inFlight, low: seen.limit * 0.7, high: seen.limit * 0.9, optimum: 0, "aria-label": `${name}: in flight` }),
        `${seen.inFlight} / ${seen.adaptive?.mode === "enforce" ? "~" : ""}${seen.limit}${seen.queued ? ` +${seen.queued}` : ""}`),
      number(latency(seen.p50), "wide"),
      number(latency(seen.p95)),
      number(latency(seen.p99), "wide"),
      number(percent(seen.errorRate), seen.errorRate >= 0.5 ? "bad" : seen.errorRate > 0.05 ? "warn" : ""),
      number(rate(seen.retries), `wide ${seen.retries > 0 ? "warn" : ""}`),
      h("td.left", {}, pill(seen.circuit)),
      number(`${available} / ${total}`, `wide ${available === 0 ? "bad" : available < total ? "warn" : ""}`),
      number(rate(seen.shed), `wide ${seen.shed > 0 ? "bad" : ""}`),
      number(rate(seen.limited), `wide ${seen.limited > 0 ? "warn" : ""}`),
      h("td.right", {}, h("button.small", { type: "button", "data-do": "open", "data-what": `service ${name}`, "aria-label": `${opened ? "Fold" : "Unfold"} ${name}` }, opened ? "less" : "more"))),
    opened && h("tr.detail", { "data-key": `detail-${name}` }, h("td", { colspan: COLUMNS.length + 1 }, detail(name, seen))),
  ];
}

function number(text, kind = "") {
  return h("td", { class: kind }, text);
}

function detail(name, seen) {
  const { circuit } = seen;
  const refused = Object.entries(seen.refused);
  return h("div.unfolded", {},
    seen.reasons.length > 0 && h("ul.reasons", {}, seen.reasons.map((each) => h("li", {}, each))),
    h("div.acts", {},
      h("span", {}, health(seen.status), " ", pill(circuit), " ", circuitNote(circuit), circuit.cause && `: ${circuit.cause}`),
      h("span.buttons", {},
        act("force", { service: name, to: "open" }, "Force open…"),
        act("force", { service: name, to: "closed" }, "Force closed…"),
        circuit.forced && act("release", { service: name }, "Release…"),
        act("reset", { service: name }, "Reset…"))),
    h("div.columns", {},
      h("div", {}, h("h4", {}, "Endpoints"), h("table.inner", {}, h("tbody", {}, Object.entries(seen.endpoints).map(([label, each]) => endpoint(name, label, each))))),
      h("div", {}, h("h4", {}, "Routes"), h("table.inner", {},
        h("thead", {}, h("tr", {}, ["Route", "Req/s", "p95", "Failed/s", "429/s", "Fallback"].map((title, at) => h("th", { scope: "col", class: at ? "" : "left" }, title)))),
        h("tbody", {}, ofService(name).map(([route, each]) => routeRow(name, route, each))))),
      h("div", {}, h("h4", {}, "Attempts and refusals"), h("dl.pairs", {},
        pair("attempts", `${rate(seen.attempts)}/s`),
        pair("failed attempts", `${rate(seen.failedAttempts)}/s`),
        pair("breaker's window", `${circuit.failedCalls} of ${plural(circuit.calls, "call")} failed`),
        refused.map(([reason, value]) => pair(reason, `${rate(value)}/s`)),
        Object.entries(seen.refusedPriorities).map(([priority, value]) => pair(`refused of priority ${priority}`, `${rate(value)}/s`)),
        ofService(name).filter(([, each]) => each.hedges).map(([route, each]) => pair(`hedges of ${route}`, hedges(each.hedges) || "none")),
        seen.adaptive && adaptive(seen.adaptive)))));
}

/** The routes of which requests go to a service. */
function ofService(name) {
  return Object.entries(state.live.routes).filter(([, each]) => (each.split ? name in each.split : each.service === name));
}

/** A route of a service; of one that splits its requests, what went to this service of it. */
function routeRow(name, route, each) {
  const part = each.split?.[name];
  const counts = part
    ? [h("td", {}, rate(part.requests), h("span.note", {}, ` of ${rate(each.requests)}`)), number("–"), number(rate(part.failed)), number("–"), number("–")]
    : [number(rate(each.requests)), number(latency(each.p95)), number(rate(each.failed)), number(rate(each.tooMany)),
      number(fallbacks(each) || "–", Object.keys(each.fallbacks).length ? "warn" : "")];
  return h("tr", { "data-key": route }, h("th.left", { scope: "row" }, route), counts);
}

/** How the limit is found: the times of nine of ten answers, lately beside usually. */
function adaptive({ mode, limit, most: ceiling, groups }) {
  const times = Object.entries(groups).filter(([, each]) => each.recent > 0);
  return [
    pair("adaptive limit", `${limit} of at most ${ceiling}${mode === "observe" ? ", only observed" : ""}`),
    times.map(([name, each]) => pair(name === "default" ? "answers lately (usually)" : `answers of ${name}`, `${latency(each.recent)} (${latency(each.usual)})`)),
  ];
}

function pair(name, value) {
  return h("div", { "data-key": `pair-${name}` }, h("dt", {}, name), h("dd", {}, value));
}

function act(what, data, title) {
  const attributes = Object.fromEntries(Object.entries(data).map(([name, value]) => [`data-${name}`, value]));
  return h("button", { type: "button", "data-do": what, ...attributes }, title);
}

function endpoint(service, label, each) {
  const words = each.state !== "enabled" ? `${each.state} for ${until(each.until, state.now)}${each.reason ? `: ${each.reason}` : ""}`
    : !each.healthy ? "fails its health check" : each.ejected ? "ejected for a while: it keeps failing" : "takes requests";
  return h("tr", { "data-key": label },
    h("th.left", { scope: "row" }, h("span.mark", { class: each.available ? "Healthy" : "Unhealthy", "aria-hidden": "true" }, each.available ? "●" : "■"), label),
    h("td.left", {}, words),
    number(`${each.inFlight} in flight`),
    h("td.right", {}, each.state === "enabled"
      ? [act("takeout", { service, endpoint: label, how: "drain" }, "Drain…"), act("takeout", { service, endpoint: label, how: "disable" }, "Disable…")]
      : act("enable", { service, endpoint: label }, "Enable…")));
}

function timeline(found) {
  const began = Math.max(0, HOUR - (state.now - Date.parse(state.live.gateway.since)) / 1000);
  return [
    h("div.axis", { "aria-hidden": "true" }, [60, 45, 30, 15].map((minutes) => h("span", {}, `−${minutes} min`)), h("span", {}, "now")),
    found.map(([name, seen]) => h("div.hour", { "data-key": `hour-${name}` },
      h("span.name", {}, name),
      strip(parts(seen.circuit, began), failures(name), `${name}: ${plural(seen.circuit.transitions.length, "change")} of its circuit within the last hour`),
      seen.circuit.transitions.length > 0 && h("details", { "data-key": `changes-${name}` },
        h("summary", {}, plural(seen.circuit.transitions.length, "change"), ", the last one ", ago(seen.circuit.transitions.at(-1).time, state.now)),
        h("ol.changes", {}, [...seen.circuit.transitions].reverse().map((each) => h("li", {},
          h("time", { datetime: each.time }, clock(each.time)), " ", STATES[each.fromState], " → ",
          h("span.pill", { class: `state-${each.toState}` }, each.forced ? `held ${STATES[each.toState]}` : STATES[each.toState]), " ", each.cause)))))),
    h("p.legend", {}, Object.entries(STATES).map(([key, word]) => h("span", {}, h("span.swatch", { class: `state-${key}` }), word)),
      h("span", {}, h("span.swatch.failed"), "share of requests that failed")),
  ];
}

function parts(circuit, began) {
  const at = (instant) => HOUR - (state.now - Date.parse(instant)) / 1000;
  const found = began > 0 ? [[0, began, "none", "not running"]] : [];
  let from = began;
  let word = circuit.transitions[0]?.fromState ?? circuit.state;
  let cause = "";
  for (const each of circuit.transitions) {
    const to = Math.max(from, at(each.time));
    found.push([from, to, word, `${STATES[word]}${cause}`]);
    [from, word, cause] = [to, each.toState, each.cause && `: ${each.cause}`];
  }
  found.push([from, HOUR, word, `${STATES[word]}${cause}`]);
  return found;
}

function failures(name) {
  const hour = state.hour?.services[name];
  if (!hour) return [];
  return hour.requests.map((requests, at) => (requests ? hour.failed[at] / requests : 0));
}
