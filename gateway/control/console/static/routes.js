// The routes, each as a chain: what it matches, its gates in their order, the upstream, its endpoints.

import { h } from "./dom.js";
import { duration, latency, percent, rate } from "./format.js";
import { fallbacks, hedges } from "./notices.js";
import { state } from "./state.js";

export function routes() {
  if (state.trouble.routes) return h("p.wrong", { role: "alert" }, state.trouble.routes);
  if (!state.routes) return h("p", {}, "Asking…");
  const wanted = state.filters.routes.toLowerCase();
  const found = state.routes.routes.filter((each) => `${each.route} ${each.host ?? ""} ${each.prefix} ${upstreams(each).join(" ")}`.toLowerCase().includes(wanted));
  return [
    h("div.filters", {}, h("label", {}, "Filter", h("input", { type: "search", "data-filter": "routes", placeholder: "name, host, prefix or upstream" })),
      h("span.note", {}, `${found.length} of ${state.routes.count} routes`, state.live.gateway.workersWanted > 1 && `. Caps are those of one worker of ${state.live.gateway.workersWanted}.`)),
    h("ol.chains", {}, found.map(chain)),
  ];
}

function chain(route) {
  const live = state.live.routes[route.route];
  return h("li.chain", { "data-key": `chain-${route.route}` },
    h("h3", {}, route.route, live && h("span.note", {}, ` ${rate(live.requests)}/s, p95 ${latency(live.p95)}`),
      h("button.small", { type: "button", "data-do": "explainthis", "data-path": route.prefix }, "Explain…")),
    h("ol.links", {},
      link("match", "Match", route.prefix, [["host", route.host ?? "any"], ["methods", route.methods?.join(", ") ?? "all"], ...(route.websocket ? [["websocket", "yes"]] : [])]),
      route.gates.map((each) => link("gate", each.perAttempt ? "Gate, each attempt" : "Gate", each.gate, Object.entries(each.settings))),
      upstreams(route).map((name) => upstream(name, route, live)),
      h("li.link.ends", {}, h("span.kind", {}, "Endpoints"), route.endpoints.map((label) => {
        const each = endpoint(route, label);
        return h("span.end", {}, h("span.mark", { "aria-hidden": "true", class: each?.available ? "Healthy" : "Unhealthy" }, each?.available ? "●" : "■"), label, h("span.unseen", {}, each?.available ? " takes requests" : " does not"));
      })),
      live?.hedges && link("gate", "Hedge", live.hedges.after ? `after ${latency(live.hedges.after)}` : "too little is known", [["now", hedges(live.hedges) || "none"]]),
      route.fallback && fallback(route.fallback, live),
      route.mirror && link("gate mirror", "Mirror", route.mirror.upstream, [["copies", `${route.mirror.percent} %`], ["methods", route.mirror.methods?.join(", ") ?? "all"]])));
}

function upstreams(route) {
  return route.split ? Object.keys(route.split.weights) : [route.upstream];
}

function endpoint(route, label) {
  return upstreams(route).map((name) => state.live.services[name]?.endpoints[label]).find(Boolean);
}

/** One upstream of a route; of several, which part of the requests it is to get, and what it gets. */
function upstream(name, route, live) {
  const service = state.live.services[name];
  const pairs = service ? [["circuit", service.circuit.state], ["in flight", `${service.inFlight} / ${service.limit}`]] : [];
  if (!route.split) return link(`upstream ${service?.status ?? ""}`, "Upstream", name, pairs);
  const { weights } = route.split;
  const share = weights[name] / Object.values(weights).reduce((sum, each) => sum + each, 0);
  const part = live?.split?.[name];
  if (part) pairs.unshift(["now", `${rate(part.requests)}/s, ${rate(part.failed)} failed`]);
  return link(`upstream ${service?.status ?? ""}`, `Upstream, ${percent(share)}`, name, pairs);
}

function fallback({ upstreams, on, staleIfError, response }, live) {
  const use = live && Object.keys(live.fallbacks).length ? fallbacks(live) : "not in use";
  return link(use === "not in use" ? "gate" : "gate Degraded", "Fallback", upstreams.join(", then ") || "none asked", [
    ["on", on], ["last good answer", staleIfError ? `for ${duration(staleIfError)}` : "none"], ["fixed response", response ?? "none"], ["now", use]]);
}

function link(kind, what, name, pairs) {
  return h("li.link", { class: kind }, h("span.kind", {}, what), h("strong", {}, name),
    pairs.length > 0 && h("dl.pairs", {}, pairs.map(([key, value]) => h("div", {}, h("dt", {}, key.replaceAll("_", " ")), h("dd", {}, shown(value))))));
}

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  return Array.isArray(value) ? value.join(", ") || "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
}
