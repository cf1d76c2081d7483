// One dialog at a time, and short messages that go by themselves.

import { fill, h } from "./dom.js";

const dialog = document.getElementById("dialog");
const toasts = document.getElementById("toasts");
let settle = null;

// Not at the event `close`: it comes later, when the next dialog may be open already.
dialog.addEventListener("cancel", left);
dialog.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) left();
});

function left() {
  const asked = settle;
  settle = null;
  close();
  asked?.(null);
}

/** Asks with a form. Resolves to its fields, or to null when it was left. The dialog stays open until `close`. */
export function ask(title, content, action, { danger = false } = {}) {
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title),
    content,
    h("p.wrong", { role: "alert" }),
    h("div.buttons", {},
      h("button", { type: "button", "data-close": true }, "Cancel"),
      h("button.primary", { type: "submit", class: danger ? "danger" : "" }, action)));
  return new Promise((resolve) => {
    settle?.(null);
    settle = resolve;
    dialog.replaceChildren(form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const done = settle;
      settle = null;
      done?.(Object.fromEntries(new FormData(form)));
    });
    if (!dialog.open) dialog.showModal();
    form.querySelector("input, select, textarea")?.focus();
  });
}

/** Shows something to read, with one button to close it. */
export function show(title, content) {
  settle?.(null);
  settle = null;
  dialog.replaceChildren(h("div", {}, h("h2", { id: "dialog-title" }, title), content,
    h("div.buttons", {}, h("button.primary", { type: "button", "data-close": true }, "Close"))));
  if (!dialog.open) dialog.showModal();
}

export function close() {
  if (dialog.open) dialog.close();
}

export function say(text, kind = "good") {
  const toast = h("p.toast", { class: kind }, text);
  toasts.append(toast);
  setTimeout(() => toast.remove(), 6000);
}

export function list(items) {
  const holder = h("ul.plain");
  fill(holder, items.map((each) => h("li", {}, each)));
  return holder;
}
