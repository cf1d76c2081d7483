// The live tail of errors and refusals. Each unfolds into what it means, and leads to `explain`.

import { h } from "./dom.js";
import { clock, plural } from "./format.js";
import { meaning } from "./reasons.js";
import { identity, state } from "./state.js";

const SHOWN = 200;

export function errors() {
  const { service, reason, id, client } = state.filters.errors;
  const fits = (text, wanted) => text.toLowerCase().includes(wanted.trim().toLowerCase());
  // The stream does not say who the clients are. Of one client they are asked for, by operators alone.
  const records = client.trim() ? (state.ofClient?.errors ?? []).filter((each) => fits(each.client ?? "", client)) : state.errors;
  const found = records.filter((each) => fits(each.service, service) && fits(`${each.reason} ${each.category} ${each.status ?? ""}`, reason) && fits(`${each.requestId} ${each.correlationId}`, id));
  return [
    h("div.filters", {},
      filter("service", "Service"), filter("reason", "Reason, category or status"), filter("id", "Request or correlation id"), filter("client", "Client (for operators)"),
      h("button", { type: "button", "data-do": "pause", "aria-pressed": String(state.paused) }, state.paused ? `Go on (${state.held.length} new)` : "Pause"),
      h("span.note", {}, `${plural(found.length, "record")}${found.length > SHOWN ? `, the latest ${SHOWN} shown` : ""}`)),
    client.trim() && !state.ofClient && h("p", {}, "Press Enter to ask for the errors of this client."),
    client.trim() && state.trouble.ofClient && h("p.wrong", { role: "alert" }, state.trouble.ofClient),
    found.length ? h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of errors" }, h("table.errors", {},
      h("thead", {}, h("tr", {}, ["Time", "Service", "Reason", "Status", "Attempt", "What happened"].map((title) => h("th.left", { scope: "col" }, title)))),
      h("tbody", {}, found.slice(0, SHOWN).map(row)))) : h("p.calm", {}, "No errors and no refusals."),
  ];
}

function filter(name, label) {
  return h("label", { "data-key": `filter-${name}` }, label, h("input", { type: "search", "data-filter": `errors.${name}`, autocomplete: "off", spellcheck: "false" }));
}

function row(each) {
  const key = `error ${identity(each)}`;
  const opened = state.open.has(key);
  return [
    h("tr", { "data-key": key, class: each.status === null || each.status >= 500 ? "Unhealthy" : "Degraded" },
      h("td.left.time", {}, h("time", { datetime: each.time, title: each.time }, clock(each.time))),
      h("td.left", {}, each.service),
      h("td.left", {}, h("button.bare.unfold", { type: "button", "data-do": "open", "data-what": key, "aria-expanded": String(opened) }, each.reason)),
      h("td.left", {}, each.status ?? "none"),
      h("td.left", {}, each.attempt || "–"),
      h("td.left.message", {}, each.message, each.more && h("span.note", {}, " (and others, more than can be told in a second)"))),
    opened && h("tr.detail", { "data-key": `detail ${key}` }, h("td", { colspan: 6 }, h("div.unfolded", {},
      h("p", {}, meaning(each)),
      h("dl.pairs", {}, pair("request", each.requestId), pair("correlation", each.correlationId), pair("category", each.category), each.client && pair("client", each.client)),
      h("div.acts", {}, h("button", { type: "button", "data-do": "explainthis", "data-path": prefix(each.service) }, `Explain a request to ${each.service}…`))))),
  ];
}

function pair(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/** The records have no path: the prefix of a route of this service is a beginning. */
function prefix(service) {
  return state.routes?.routes.find((each) => each.upstream === service)?.prefix ?? "/";
}
