// What stands around every view: the head, the tabs, what is wrong, and whether the figures are those of now.

import { hasToken } from "./access.js";
import { h } from "./dom.js";
import { clock, duration, latency, plural, rate } from "./format.js";
import { state } from "./state.js";

export const VIEWS = [
  { name: "services", title: "Services" },
  { name: "errors", title: "Errors" },
  { name: "routes", title: "Routes" },
  { name: "limits", title: "Limits" },
  { name: "explain", title: "Explain" },
  { name: "configuration", title: "Configuration" },
];

const MARKS = { Healthy: "●", Degraded: "▲", Unhealthy: "■" };

/** A word of health with a mark, so that the colour is not all there is. */
export function health(status) {
  return h("span.health", { class: status }, h("span.mark", { "aria-hidden": "true" }, MARKS[status]), status);
}

export function top() {
  const { gateway } = state.live;
  // By the caps of the gateway, and by the bulkheads of the services.
  const shed = Object.values(state.live.services).reduce((sum, seen) => sum + (seen.refused.bulkhead_full ?? 0), gateway.shed);
  const full = gateway.limit ? gateway.inFlight / gateway.limit : 0;
  return [
    h("div.title", {},
      h("h1", {}, gateway.service, h("span.version", {}, ` ${gateway.version}`)),
      health(gateway.status)),
    h("dl.facts", {},
      fact("requests/s", rate(gateway.requests)),
      fact("failed/s", rate(gateway.failed), gateway.failed > 0 && "bad"),
      fact("429/s", rate(gateway.tooMany), gateway.tooMany > 0 && "warn"),
      fact("shed/s", rate(shed), shed > 0 && "bad"),
      fact("in flight", `${gateway.inFlight} / ${gateway.limit}`, full >= 0.9 ? "bad" : full >= 0.7 && "warn"),
      fact("p50", latency(gateway.p50)),
      fact("p99", latency(gateway.p99)),
      fact("connections", gateway.connections),
      fact(...store(gateway.store)),
      fact(...workers(gateway))),
    h("div.tools", {},
      hasToken()
        ? h("button", { type: "button", "data-do": "signout", title: "Forget the token" }, "Sign out")
        : state.settings.acting === "token" && h("button", { type: "button", "data-do": "signin" }, "Sign in"),
      h("button", { type: "button", "data-do": "reload", title: "Read the configuration anew; what would change comes first" }, "Reload…"),
      h("button.icon", { type: "button", "data-do": "theme", title: `Theme: ${document.documentElement.dataset.theme}`, "aria-label": `Theme: ${document.documentElement.dataset.theme}` }, "◐")),
  ];
}

function fact(name, value, kind = "") {
  return h("div.fact", { class: kind || "", "data-key": `fact-${name}` }, h("dt", {}, name), h("dd", {}, value));
}

function store(found) {
  if (!found) return ["store", "none"];
  const since = duration((state.now - Date.parse(found.since)) / 1000);
  if (found.kind === "embedded") return ["store", found.up ? "embedded" : `embedded, away for ${since}`, found.up ? "" : "bad"];
  return ["Redis", found.up ? `up, ${plural(found.replicas, "replica")}` : `away for ${since}`, found.up ? "" : "bad"];
}

function workers({ workers: each, workersWanted }) {
  const ready = Object.values(each).filter((worker) => worker.state === "ready").length;
  return ["workers", `${ready} / ${workersWanted}`, ready < workersWanted ? "bad" : ""];
}

export function tabs() {
  return VIEWS.map(({ name, title }, at) => h("button", {
    type: "button", "data-do": "view", "data-view": name, "data-key": `tab-${name}`, title: `Key ${at + 1}`,
    "aria-current": state.view === name ? "page" : null,
  }, title, name === "errors" && state.errors.length > 0 && h("span.count", {}, state.errors.length)));
}

export function connection() {
  if (state.connected) return null;
  const since = state.live ? ` The figures are those of ${clock(state.live.time)}.` : "";
  return h("p", {}, state.lost ? `${state.lost}${since} Trying again…` : "Connecting…");
}

export function problems() {
  const { status, reasons } = state.live.gateway;
  if (!reasons.length) return h("p.calm", {}, h("span.mark", { "aria-hidden": "true" }, "●"), status === "Healthy" ? " Nothing is wrong." : ` ${status}.`);
  return h("div.wrongs", { class: status },
    h("h2", {}, status === "Unhealthy" ? "Act now" : "Look into this"),
    h("ul", {}, reasons.map((reason) => h("li", {}, linked(reason)))));
}

/** A path of the API within a sentence is a link. */
export function linked(reason) {
  const found = /(\/api\/[\w/?=&.-]*[\w=])/.exec(reason);
  if (!found) return reason;
  return [reason.slice(0, found.index), h("a", { href: found[1].slice(1) }, found[1]), reason.slice(found.index + found[1].length)];
}

export function foot() {
  const { gateway, time, windowSeconds } = state.live;
  const workers = Object.entries(gateway.workers);
  return [
    h("p", {},
      `Up ${duration((state.now - Date.parse(gateway.since)) / 1000)}. Rates are of the last ${Math.max(1, Math.round(windowSeconds))} s, at ${clock(time)}. `,
      workers.map(([name, worker]) => h("span.worker", { "data-key": name, class: worker.state === "ready" ? "" : "warn" },
        `worker ${name.split("-")[0]}: ${worker.state === "ready" ? "" : `${worker.state}, `}${rate(worker.requests)}/s, lag ${latency(worker.eventLoopLag)}`))),
    h("p.links", {},
      state.settings.dashboardsUrl && h("a", { href: state.settings.dashboardsUrl, rel: "noreferrer" }, "Dashboards"),
      h("a", { href: "api/docs" }, "API"),
      h("a", { href: "metrics" }, "Metrics"),
      h("a", { href: "api/resilience/alerts" }, plural(gateway.activeAlerts, "active alert")),
      h("span", {}, "Keys: 1–6 views, / filter")),
  ];
}
