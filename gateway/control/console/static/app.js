// The page: it follows the stream, draws what it knows once for each event, and does what is clicked.

import { call, know, mayAct, forget, hasToken } from "./access.js";
import * as actions from "./actions.js";
import { fill, h } from "./dom.js";
import { say } from "./dialog.js";
import { begin, load, pause, state, take } from "./state.js";
import { follow } from "./stream.js";
import { connection, foot, problems, tabs, top, VIEWS } from "./frame.js";
import { faults, notices } from "./notices.js";
import { services } from "./services.js";
import { routes } from "./routes.js";
import { limits } from "./limits.js";
import { errors } from "./errors.js";
import { explain } from "./explain.js";
import { configuration } from "./configuration.js";

const DRAWN = { services, routes, limits, errors, explain, configuration };
const place = (id) => document.getElementById(id);
let drawing = 0;
// Once the hour has gone on by a step there is more of it to show.
const HOUR_EVERY = 10_000;
const CLIENTS_EVERY = 3_000;

function draw() {
  drawing = 0;
  const live = state.live;
  document.body.classList.toggle("stale", !state.connected);
  fill(place("connection"), connection());
  fill(place("tabs"), tabs());
  if (!live) return;
  document.title = `${live.gateway.status === "Healthy" ? "" : `${live.gateway.status}: `}${live.gateway.service}`;
  fill(place("top"), top());
  fill(place("problems"), faults(), problems(), notices());
  // The tabs show the name of the view. Who goes from heading to heading needs it in the page, too.
  const { title } = VIEWS.find((each) => each.name === state.view);
  fill(place("main"), h("h2.unseen", { "data-key": "title" }, title), DRAWN[state.view]());
  fill(place("foot"), foot());
}

function redraw() {
  drawing ||= requestAnimationFrame(draw);
}

async function choose(view, { focus = false } = {}) {
  state.view = VIEWS.some((each) => each.name === view) ? view : "services";
  if (location.hash !== `#${state.view}`) history.replaceState(null, "", `#${state.view}`);
  redraw();
  if (focus) document.querySelector("#main input, #main button")?.focus();
  if (state.view === "routes" && state.live) await load("routes", "api/resilience/routes");
  if (state.view === "configuration" && (await mayAct("The configuration is for operators."))) await load("configuration", "api/resilience/configuration");
  if (state.view === "limits") await clients();
  redraw();
}

function mayKnow() {
  return hasToken() || state.settings.acting === "loopback";
}

async function clients() {
  if (mayKnow()) await load("clients", "api/resilience/clients");
}

/** The errors of the client in the filter, where somebody who may know has signed in. */
async function ofClient() {
  const client = state.filters.errors.client.trim();
  if (!client) return;
  await load("ofClient", `api/resilience/errors/recent?${new URLSearchParams({ count: 200, client })}`);
}

const doing = {
  view: ({ view }) => choose(view),
  open({ what }) {
    if (!state.open.delete(what)) state.open.add(what);
  },
  sort({ by }) {
    state.sort = { by, down: state.sort.by === by ? !state.sort.down : by !== "name" };
  },
  pause,
  theme() {
    const next = { auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme];
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("gateway-console-theme", next); } catch { /* the choice is for this page then */ }
  },
  async signin() {
    if (await mayAct("To act, and to see what is for operators.")) await choose(state.view);
  },
  signout() {
    forget();
    state.configuration = state.clients = state.ofClient = null;
    say("The token is forgotten.");
  },
  async explainthis({ path }) {
    state.explaining = { ...state.explaining, method: "GET", path };
    state.explained = null;
    await choose("explain");
    await doing.explain();
  },
  async explain() {
    const asked = Object.entries(state.explaining).filter(([, value]) => value);
    await load("explained", `api/resilience/explain?${new URLSearchParams(asked)}`);
  },
  async ofclient() {
    if (state.filters.errors.client.trim() && (await mayAct("Who the clients are is for operators."))) await ofClient();
    redraw();
  },
  async clients() {
    if (await mayAct("Who the clients are is for operators.")) await clients();
  },
  force: actions.force,
  release: actions.release,
  reset: actions.reset,
  takeout: actions.takeOut,
  enable: actions.enable,
  endfault: actions.endFault,
  reload: actions.reload,
};

document.addEventListener("click", async (event) => {
  const element = event.target.closest("[data-do]");
  if (!element || element.tagName === "FORM") return;
  await doing[element.dataset.do](element.dataset);
  redraw();
});
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-do]");
  if (!form) return;
  event.preventDefault();
  if (form.dataset.do === "explain") state.explaining = Object.fromEntries(new FormData(form));
  await doing[form.dataset.do](form.dataset);
  redraw();
});
document.addEventListener("input", (event) => {
  const { filter } = event.target.dataset;
  if (!filter) return;
  const value = event.target.type === "checkbox" ? event.target.checked : event.target.value;
  const [part, inner] = filter.split(".");
  if (inner) state.filters[part][inner] = value;
  else state.filters[part] = value;
  redraw();
});
document.addEventListener("change", async (event) => {
  if (event.target.dataset.filter === "errors.client") await doing.ofclient();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const view = VIEWS[Number(event.key) - 1];
  if (view) choose(view.name);
  else if (event.key === "/") {
    const field = document.querySelector("#main input[data-filter]");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  }
});
window.addEventListener("hashchange", () => choose(location.hash.slice(1)));

function heard(name, data) {
  if (name === "connected") {
    const again = state.lost !== "";
    state.connected = true;
    state.lost = "";
    // A gateway that was started anew may have another configuration.
    state.routes = null;
    begin().catch(() => {}).finally(redraw);
    load("routes", "api/resilience/routes").finally(redraw);
    if (again) choose(state.view);
  } else if (name === "lost") {
    state.connected = false;
    state.lost = data;
  } else {
    take(name, data);
  }
  redraw();
}

try {
  document.documentElement.dataset.theme = localStorage.getItem("gateway-console-theme") ?? "auto";
} catch { /* a browser that keeps nothing */ }
const settings = await call("GET", "console/settings.json");
know(settings);
state.settings = settings;
state.view = location.hash.slice(1) || "services";
setInterval(() => { if (state.connected && !document.hidden) begin().catch(() => {}).finally(redraw); }, HOUR_EVERY);
setInterval(() => {
  if (!state.connected || document.hidden) return;
  if (state.view === "limits") clients().finally(redraw);
  else if (state.view === "errors" && mayKnow()) ofClient().finally(redraw);
}, CLIENTS_EVERY);
choose(state.view);
follow(heard);
