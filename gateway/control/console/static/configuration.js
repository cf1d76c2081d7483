// Every setting in effect, and where it comes from.

import { h } from "./dom.js";
import { state } from "./state.js";

export function configuration() {
  if (state.trouble.configuration) return h("p.wrong", { role: "alert" }, state.trouble.configuration);
  if (!state.configuration) return h("p", {}, "The configuration is for operators. ", h("button", { type: "button", "data-do": "view", "data-view": "configuration" }, "Show it"));
  const { settings: wanted, changed } = state.filters;
  const found = state.configuration.settings.filter((each) => (!changed || !each.isDefault) && `${each.setting} ${each.value} ${each.source}`.toLowerCase().includes(wanted.toLowerCase()));
  return [
    h("div.filters", {},
      h("label", {}, "Filter", h("input", { type: "search", "data-filter": "settings", placeholder: "name, value or source" })),
      h("label.check", {}, h("input", { type: "checkbox", "data-filter": "changed", checked: true }), "Only what is no default"),
      h("span.note", {}, `${found.length} of ${state.configuration.count} settings. Secrets are masked. `, state.configuration.configHash && `Configuration ${state.configuration.configHash.slice(0, 12)}.`)),
    h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of settings" }, h("table.settings", {},
      h("thead", {}, h("tr", {}, ["Setting", "Value", "From"].map((title) => h("th.left", { scope: "col" }, title)))),
      h("tbody", {}, found.map((each) => h("tr", { "data-key": each.setting }, h("th.left", { scope: "row" }, each.setting), h("td.left.value", {}, each.value), h("td.left", {}, each.source)))))),
  ];
}
