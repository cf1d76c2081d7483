// Who acts. The token is asked for once and is kept in memory alone: a reload of the page forgets it.

import { ask, close } from "./dialog.js";
import { h } from "./dom.js";

let token = "";
let settings = { reading: "everybody", acting: "token" };
let pending = null;

export function know(found) {
  settings = found;
}

export function known() {
  return settings;
}

export function hasToken() {
  return token !== "";
}

export function forget() {
  token = "";
}

/** What a request of somebody who may act has in its head. */
export function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Asks for the token, unless it is known. Resolves to whether it is. */
export async function mayAct(why) {
  if (settings.acting !== "token" || token) return true;
  return needToken(why);
}

export function needToken(why) {
  token = "";
  pending ??= asked(why).finally(() => { pending = null; });
  return pending;
}

async function asked(why) {
  const fields = await ask("Sign in", [
    h("p", {}, why),
    h("label", {}, "ADMIN_TOKEN", h("input", { name: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" })),
    h("p.note", {}, "It stays in the memory of this page, and is forgotten with it."),
  ], "Sign in");
  if (!fields) return false;
  token = fields.token.trim();
  close();
  return token !== "";
}

/** An answer of the API. Raises an Error with the gateway's own words. Asks for the token where it is needed. */
export async function call(method, path, body = undefined) {
  for (;;) {
    const answer = await fetch(path, {
      method,
      cache: "no-store",
      headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers() },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    if (answer.status === 401 && (await needToken(token ? "The token is wrong." : "This is for operators."))) continue;
    const error = new Error(found.detail ?? `The gateway answers ${answer.status}.`);
    error.problem = found;
    throw error;
  }
}
