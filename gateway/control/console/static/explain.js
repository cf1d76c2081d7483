// What would become of a request now, gate by gate, without sending it.

import { h } from "./dom.js";
import { state } from "./state.js";

const MARKS = { allow: "✓", exempt: "✓", none: "·", wait: "…", refuse: "✕" };
const WORDS = { forwarded: "It would be forwarded.", waits: "It would wait.", refused: "It would be refused.", control_plane: "The control plane would answer it." };

export function explain() {
  const asked = state.explaining;
  return [
    h("form.filters", { "data-do": "explain", "data-key": `explain ${asked.path}` },
      h("label", {}, "Method", h("input", { name: "method", value: asked.method, required: true, size: 7, autocomplete: "off" })),
      h("label.grows", {}, "Path", h("input", { name: "path", value: asked.path, required: true, autocomplete: "off", spellcheck: "false" })),
      h("label", {}, "Host (as yours)", h("input", { name: "host", value: asked.host, autocomplete: "off" })),
      h("label", {}, "Client (you)", h("input", { name: "client", value: asked.client, autocomplete: "off", placeholder: "an IP address" })),
      h("button.primary", { type: "submit" }, "Explain")),
    state.trouble.explained ? h("p.wrong", { role: "alert" }, state.trouble.explained) : state.explained && answer(state.explained),
  ];
}

function answer(found) {
  return h("div", {},
    h("p.verdict", { class: found.outcome }, h("strong", {}, WORDS[found.outcome] ?? found.outcome),
      found.route && ` Route ${found.route}`, found.forwarded && `, as ${found.request.method} ${found.forwarded.path} to ${found.forwarded.upstream}.`,
      found.worker !== null && ` Worker ${found.worker} answers: places in flight are its share.`),
    h("ol.steps", {}, found.steps.map((step) => h("li.step", { class: step.decision },
      h("span.mark", { "aria-hidden": "true" }, MARKS[step.decision]), h("strong", {}, step.policy), h("span.note", {}, ` ${step.decision} `), step.detail,
      step.status && h("span.pill", {}, `${step.status} ${step.reason}`), step.retryAfter !== null && h("span.note", {}, ` again in ${Math.ceil(step.retryAfter)} s`)))),
    found.candidates.length > 1 && h("details", { "data-key": "candidates" }, h("summary", {}, "Other routes"),
      h("ul", {}, found.candidates.filter((each) => !each.matches).map((each) => h("li", {}, h("strong", {}, each.route), ` ${each.host ?? ""}${each.prefix}: ${each.why}`)))));
}
