// What an operator does: hold a circuit, release it, take an endpoint out, reload. Each asks for what the audit log wants.

import { call, mayAct } from "./access.js";
import { ask, close, list, say, show } from "./dialog.js";
import { h } from "./dom.js";

const TIMES = [["60", "1 minute"], ["300", "5 minutes"], ["900", "15 minutes"], ["3600", "1 hour"], ["14400", "4 hours"], ["86400", "1 day"]];

function times(chosen) {
  return h("label", {}, "For how long", h("select", { name: "duration" }, TIMES.map(([seconds, text]) => h("option", { value: seconds, selected: seconds === chosen }, text))));
}

function why(required = true) {
  return h("label", {}, required ? "Why" : "Why (may be empty)", h("input", { name: "reason", maxlength: 200, required, autocomplete: "off", placeholder: "For the audit log and for whoever looks" }));
}

/** Asks, then calls, and says what came of it. The dialog stays with the gateway's words where it refuses. */
async function act(title, content, button, order, options = {}) {
  if (!(await mayAct("Orders are for operators."))) return;
  const fields = await ask(title, content, button, options);
  if (!fields) return;
  try {
    const done = await order(fields);
    close();
    say(done);
  } catch (error) {
    await failed(title, error);
  }
}

async function failed(title, error) {
  show(`${title}: refused`, h("div", {}, h("p.wrong", { role: "alert" }, error.message),
    error.problem?.problems?.length > 0 && list(error.problem.problems)));
}

function where(scope) {
  return scope === "fleet" ? "in the whole fleet" : "in this process alone, because the store is away";
}

function order(fields) {
  return { duration: Number(fields.duration), reason: fields.reason };
}

const circuit = (service) => `api/resilience/circuit-breakers/${encodeURIComponent(service)}`;

export function force({ service, to }) {
  const open = to === "open";
  return act(`Hold the circuit of ${service} ${to}`, [
    h("p", {}, open ? "Every request to it is refused with 503 until then." : "Every request goes through, whatever fails, until then."),
    times("300"), why(),
  ], `Force ${to}`, async (fields) => {
    const done = await call("POST", `${circuit(service)}/force-${to}`, order(fields));
    return `${service}: held ${to} ${where(done.scope)}.`;
  }, { danger: true });
}

export function release({ service }) {
  return act(`Release the circuit of ${service}`, [h("p", {}, "It is closed then, and judges for itself."), why(false)], "Release", async ({ reason }) => {
    const done = await call("POST", `${circuit(service)}/release`, reason ? { reason } : undefined);
    return `${service}: released ${where(done.scope)}.`;
  });
}

export function reset({ service }) {
  return act(`Reset ${service}`, [h("p", {}, "Its figures are forgotten, and its circuit is closed, in the whole fleet. The recent errors stay.")], "Reset", async () => {
    const done = await call("POST", `api/resilience/metrics/${encodeURIComponent(service)}/reset`);
    return `${service}: figures forgotten ${where(done.figures)}.`;
  }, { danger: true });
}

const endpoints = (service, endpoint) => `api/resilience/upstreams/${encodeURIComponent(service)}/endpoints/${encodeURIComponent(endpoint)}`;

export function takeOut({ service, endpoint, how }) {
  return act(`${how === "drain" ? "Drain" : "Disable"} ${endpoint}`, [
    h("p", {}, `No new requests of ${service} go there. What is under way ends by itself.${how === "drain" ? "" : " There are no health checks either, so the server may be switched off."}`),
    times("3600"), why(),
  ], how === "drain" ? "Drain" : "Disable", async (fields) => {
    const done = await call("POST", `${endpoints(service, endpoint)}/${how}`, order(fields));
    return `${endpoint}: ${done.endpoint.state} ${where(done.scope)}.`;
  }, { danger: true });
}

export function enable({ service, endpoint }) {
  return act(`Enable ${endpoint}`, [h("p", {}, `It takes requests of ${service} again.`), why(false)], "Enable", async ({ reason }) => {
    const done = await call("POST", `${endpoints(service, endpoint)}/enable`, reason ? { reason } : undefined);
    return `${endpoint}: ${done.endpoint.state} ${where(done.scope)}.`;
  });
}

export function endFault({ fault, upstream }) {
  return act(`End the fault of ${upstream}`, [h("p", {}, "No attempt meets it any more, in the whole fleet.")], "End it", async () => {
    await call("DELETE", `api/resilience/faults/${encodeURIComponent(fault)}`);
    return `${upstream}: the fault is over.`;
  });
}

/** What would change comes first; only then it can be done. */
export async function reload() {
  if (!(await mayAct("A reload is for operators."))) return;
  let dry;
  try {
    dry = await call("POST", "api/admin/reload", { dryRun: true });
  } catch (error) {
    await failed("Reload", error);
    return;
  }
  if (dry.underWay) {
    show("Reload", h("p", {}, "The gateway is busy and has not answered yet. Try again."));
    return;
  }
  const notices = dry.notices.length > 0 && h("div", {}, h("h3", {}, "Probably not meant"), list(dry.notices));
  if (!dry.differences.length) {
    show("Reload", h("div", {}, h("p", {}, "Nothing would change: the files say what is in effect."), notices));
    return;
  }
  const done = await ask("Reload", [
    h("p", {}, "These settings would change:"),
    h("pre.diff", { tabindex: 0 }, dry.differences.join("\n")),
    notices,
    h("p.note", {}, "New workers start with it and take over; what is in flight is finished."),
  ], "Reload", { danger: true });
  if (!done) return;
  try {
    const after = await call("POST", "api/admin/reload", {});
    close();
    say(after.underWay ? "The reload is under way." : "The configuration is in effect.");
  } catch (error) {
    await failed("Reload", error);
  }
}
