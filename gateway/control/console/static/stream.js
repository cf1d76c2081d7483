// The live stream (GET /api/resilience/live) over fetch, because EventSource cannot send a token. Lost connections are
// made anew: at once when the gateway said that it ends, else after a pause that doubles up to ten seconds.

import { headers, needToken } from "./access.js";

const LIVE = "api/resilience/live";
const MOST_PAUSE = 10_000;
// An event comes every second. After so long without one the connection is taken for dead.
const SILENCE = 5_000;

/** A merge patch applied (RFC 7396). */
export function patched(document, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const made = document && typeof document === "object" && !Array.isArray(document) ? { ...document } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete made[name];
    else made[name] = patched(made[name], value);
  }
  return made;
}

/** Calls `on(name, data)` for each event, and with `connected` and `lost`. Never ends. */
export async function follow(on) {
  let pause = 500;
  for (;;) {
    try {
      const ended = await once(on, () => { pause = 500; });
      on("lost", ended ? "The gateway starts anew." : "The connection is lost.");
      if (ended) pause = 250;
    } catch (error) {
      on("lost", error.message || "The gateway does not answer.");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, MOST_PAUSE);
  }
}

async function once(on, began) {
  const cut = new AbortController();
  let timer = setTimeout(() => cut.abort(), SILENCE);
  try {
    const answer = await fetch(LIVE, { headers: { Accept: "text/event-stream", ...headers() }, signal: cut.signal, cache: "no-store" });
    if (answer.status === 401) {
      clearTimeout(timer);
      await needToken("This gateway tells only operators how it is.");
      return true;
    }
    if (!answer.ok) throw new Error(await reason(answer));
    began();
    on("connected");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      clearTimeout(timer);
      timer = setTimeout(() => cut.abort(), SILENCE);
      const events = (held + value).split("\n\n");
      held = events.pop();
      for (const text of events) {
        const [name, data] = parsed(text);
        if (name === "end") return true;
        if (name) on(name, data);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw new Error("The gateway has stopped to tell anything.");
    if (error instanceof TypeError) throw new Error("The gateway does not answer.");
    throw error;
  } finally {
    clearTimeout(timer);
    cut.abort();
  }
}

function parsed(text) {
  let name = "";
  let data = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return [name, data ? JSON.parse(data) : null];
}

async function reason(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `The gateway answers ${answer.status}.`;
  }
}
