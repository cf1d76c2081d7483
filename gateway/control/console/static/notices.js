// What an operator has to know before anything else, although nothing of it is a judgement of health: that trouble is
// made on purpose, that fallbacks answer, and that work waits for somebody.

import { h } from "./dom.js";
import { duration, plural, rate, until } from "./format.js";
import { linked } from "./frame.js";
import { state } from "./state.js";

const TO = { stale: "last good answers", response: "the fixed response" };

/** A banner for each fault on demand, with why, and how long it lasts. */
export function faults() {
  const found = Object.entries(state.live.faults);
  return found.length > 0 && h("div.faults", {},
    // Read out once, and not again each second with the time that is left.
    h("div", { role: "alert" }, h("h2", {}, "Faults on demand are active")),
    h("ul", {}, found.map(([id, fault]) => h("li", { "data-key": `fault-${id}` },
      h("span", {}, h("strong", {}, fault.upstream), `: ${fault.does}, for ${fault.percent} % of the attempts${where(fault)}. `,
        h("strong.left", {}, `${until(fault.until, state.now)} left`), `. Why: ${fault.reason} (${fault.by}).`),
      h("button", { type: "button", "data-do": "endfault", "data-fault": id, "data-upstream": fault.upstream }, "End it…")))));
}

function where(fault) {
  const parts = [
    fault.route && `on route ${fault.route}`,
    fault.endpoint && `at ${fault.endpoint}`,
    fault.clientHeader && `of ${fault.clientPercent} % of the clients (${fault.clientHeader})`,
  ].filter(Boolean);
  return parts.length ? ` ${parts.join(", ")}` : "";
}

/** What goes on beside that, a line each. */
export function notices() {
  const { outbox, workflows, routes } = state.live;
  const found = Object.entries(routes).filter(([, each]) => Object.keys(each.fallbacks).length)
    .map(([name, each]) => [`fallback-${name}`, `${name}: its fallback is in use (${fallbacks(each)}).`]);
  if (workflows?.stuck) found.push(["stuck", `${plural(workflows.stuck, "workflow run")} stuck: only an operator can go on. See /api/resilience/sagas?state=stuck or `, "gateway sagas list --state stuck"]);
  if (outbox?.dead) found.push(["dead", `${plural(outbox.dead, "message")} of the outbox given up. See /api/resilience/outbox?state=dead or `, "gateway outbox list --state dead"]);
  return found.length > 0 && h("ul.notices", {}, found.map(([key, text, command]) => h("li", { "data-key": key }, linked(text), command && h("code", {}, command))));
}

/** Whom requests of a route went on to, and how often. */
export function fallbacks(route) {
  return Object.entries(route.fallbacks).map(([to, value]) => `${TO[to] ?? to} ${rate(value)}/s`).join(", ");
}

/** What came of the hedges of a route, and why others were left out; nothing where there are none now. */
export function hedges({ made, notMade }) {
  const told = (rates) => Object.entries(rates).map(([word, value]) => `${word} ${rate(value)}/s`).join(", ");
  return [told(made), told(notMade) && `left out: ${told(notMade)}`].filter(Boolean).join("; ");
}

/** Outbox and workflows, where there are any. */
export function work() {
  const { outbox, workflows } = state.live;
  if (!outbox && !workflows) return null;
  const states = (runs) => ["running", "compensating", "stuck"].map((word) => h("td", { class: word === "stuck" && runs[word] ? "bad" : "" }, runs[word] ?? 0));
  return h("section.panel.work", { "aria-label": "Work in the journal" },
    h("h2", {}, "Work in the journal"),
    outbox && h("p", {}, `Outbox: ${plural(outbox.pending, "message")} to be delivered${outbox.pending ? `, the oldest for ${duration(outbox.oldestSeconds)}` : ""}, `,
      h("span", { class: outbox.dead ? "bad" : "" }, `${outbox.dead} given up`), "."),
    workflows && h("p", {}, `Workflows: ${plural(workflows.open, "run")} open${workflows.open > workflows.stuck ? `, the oldest that goes on for ${duration(workflows.oldestSeconds)}` : ""}.`),
    workflows && h("table.inner", {},
      h("thead", {}, h("tr", {}, ["Workflow", "Running", "Compensating", "Stuck"].map((title, at) => h("th", { scope: "col", class: at ? "" : "left" }, title)))),
      h("tbody", {}, Object.entries(workflows.runs).map(([name, runs]) => h("tr", { "data-key": name }, h("th.left", { scope: "row" }, name), states(runs))))));
}
