// The rate limits: what they decide, and which clients ask most.

import { h } from "./dom.js";
import { percent, rate } from "./format.js";
import { state } from "./state.js";

export function limits() {
  const found = Object.entries(state.live.limits);
  return [
    h("section.panel", { "aria-label": "Rate limits" }, h("h2", {}, "Decisions a second"),
      h("table", {}, h("thead", {}, h("tr", {}, ["Limit", "Allowed", "Limited", "Share limited", "Exempt"].map((title, at) => h("th", { scope: "col", class: at ? "" : "left" }, title)))),
        h("tbody", {}, found.map(([name, each]) => h("tr", { "data-key": name },
          h("th.left", { scope: "row" }, name), h("td", {}, rate(each.allowed)),
          h("td", { class: each.limited > 0 ? "warn" : "" }, rate(each.limited)),
          h("td", {}, percent(each.limited / Math.max(1e-9, each.allowed + each.limited))), h("td", {}, rate(each.exempt))))))),
    h("section.panel", { "aria-label": "Busiest clients" }, h("h2", {}, "Busiest clients"), clients()),
  ];
}

function clients() {
  if (state.trouble.clients) return h("p.wrong", { role: "alert" }, state.trouble.clients);
  if (!state.clients) return h("p", {}, "Who the clients are is for operators. ", h("button", { type: "button", "data-do": "clients" }, "Show them"));
  if (!state.clients.kept) return h("p", {}, "TOP_CLIENTS=0: no client is kept.");
  const policies = state.clients.policies.filter((each) => each.clients.length);
  if (!policies.length) return h("p", {}, "No client has asked within the last minute.");
  return [
    h("p.note", {}, `Estimated from a sample of the decisions of the last ${Math.round(state.clients.windowSeconds)} s.`),
    policies.map((each) => h("div", { "data-key": each.policy },
      h("h3", {}, each.policy),
      h("table", {}, h("thead", {}, h("tr", {}, ["Client", "Requests/s", "Refused/s", "Share refused"].map((title, at) => h("th", { scope: "col", class: at ? "" : "left" }, title)))),
        h("tbody", {}, each.clients.map((client) => h("tr", { "data-key": client.client },
          h("th.left", { scope: "row" }, client.client), h("td", {}, rate(client.requests)),
          h("td", { class: client.refused > 0 ? "warn" : "" }, rate(client.refused)), h("td", {}, percent(client.refused / Math.max(1e-9, client.requests)))))))))];
}
