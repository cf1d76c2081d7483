// What the page knows. Views read it and change nothing.

import { call } from "./access.js";
import { patched } from "./stream.js";

const LINE_SECONDS = 120;
const MOST_ERRORS = 500;

export const state = {
  live: null,
  settings: {},
  connected: false,
  lost: "",
  now: Date.now(),
  view: "services",
  open: new Set(),
  sort: { by: "hurt", down: true },
  lines: new Map(),
  hour: null,
  errors: [],
  paused: false,
  held: [],
  filters: { errors: { service: "", reason: "", id: "", client: "" }, routes: "", settings: "", changed: true },
  routes: null,
  configuration: null,
  clients: null,
  ofClient: null,
  explained: null,
  explaining: { method: "GET", path: "/", host: "", client: "" },
  trouble: {},
};

/** One event of the stream. */
export function take(name, data) {
  if (name === "snapshot") state.live = data;
  else if (name === "patch") state.live = patched(state.live, data);
  else if (name === "errors") return tail(data);
  state.now = Date.parse(state.live.time);
  // The first look knows no rates yet.
  if (!state.live.windowSeconds) return;
  for (const [service, seen] of Object.entries(state.live.services)) {
    const line = state.lines.get(service) ?? [];
    line.push([seen.requests, seen.failed]);
    state.lines.set(service, line.slice(-LINE_SECONDS));
  }
  for (const service of state.lines.keys()) if (!(service in state.live.services)) state.lines.delete(service);
}

function tail({ errors, more }) {
  const known = new Set([...state.errors.slice(0, 200), ...state.held.slice(0, 200)].map(identity));
  const fresh = errors.filter((each) => !known.has(identity(each))).reverse();
  if (more && fresh.length) fresh[0] = { ...fresh[0], more: true };
  if (state.paused) state.held = [...fresh, ...state.held].slice(0, MOST_ERRORS);
  else state.errors = [...fresh, ...state.errors].slice(0, MOST_ERRORS);
}

function between(counts, at) {
  const first = Math.max(0, Math.floor(at));
  const next = Math.min(counts.length - 1, first + 1);
  return counts[first] + (counts[next] - counts[first]) * Math.max(0, at - first);
}

export function identity(each) {
  return `${each.time} ${each.requestId} ${each.attempt} ${each.reason}`;
}

export function pause() {
  state.paused = !state.paused;
  if (state.paused) return;
  state.errors = [...state.held, ...state.errors].slice(0, MOST_ERRORS);
  state.held = [];
}

/** The lines of two minutes begin with what the gateway has counted before this page looked. */
export async function begin() {
  const found = await call("GET", "api/resilience/history");
  state.hour = found;
  for (const [service, { requests, failed }] of Object.entries(found.services)) {
    const step = found.stepSeconds;
    const before = [];
    // From the middle of one step to that of the next, as the rates of the stream would have gone.
    for (let second = 0; second < LINE_SECONDS; second += 1) {
      const at = Math.min(requests.length - 1, requests.length - LINE_SECONDS / step + second / step - 0.5);
      before.push([between(requests, at) / step, between(failed, at) / step]);
    }
    const since = state.lines.get(service) ?? [];
    state.lines.set(service, [...before.slice(0, Math.max(0, before.length - since.length)), ...since].slice(-LINE_SECONDS));
  }
}

/** Fetches a part that does not come with the stream. What goes wrong is shown in its place. */
export async function load(part, path) {
  try {
    state[part] = await call("GET", path);
    delete state.trouble[part];
  } catch (error) {
    state.trouble[part] = error.message;
  }
}

/** How much a service hurts: the larger, the further up. In steps, so that rows do not change places all the time. */
export function hurt(seen) {
  const status = { Unhealthy: 1000, Degraded: 500, Healthy: 0 }[seen.status];
  const out = Object.values(seen.endpoints).filter((each) => !each.available).length;
  return status + Math.ceil(seen.errorRate * 10) * 20 + out * 10 + (seen.shed > 0 ? 8 : 0) + (seen.limited > 0 ? 4 : 0) + (seen.retries > 0 ? 2 : 0);
}
