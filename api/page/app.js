// The page at `/`: what it shows in which state, and what its buttons do.

import * as announce from "./announce.js";
import * as api from "./api.js";
import { confirmDelete, prepareAdd } from "./dialogs.js";
import { Stream } from "./stream.js";
import { Table } from "./table.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

const LIVE = {
  loading: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  "signed-out": "signed out",
  failed: "no connection",
};

let state = "loading";
let seenAt = null; // when the data on the page was last known to be true
let trying = false; // a key was just typed in

const table = new Table(drawn);
const stream = new Stream({ onEvent: take, onOpen: opened, onLost: lost });

// Shows one of the states, and nothing of the others.
function show(next) {
  state = next;
  document.body.dataset.state = next;
  $("live-text").textContent = LIVE[next];
  for (const id of ["loading", "signed-out", "failed"]) $(id).hidden = next !== id;
  $("banner").hidden = next !== "reconnecting";
  $("sign-out").hidden = next === "signed-out" || !api.hasKey();
  const withData = next === "live" || next === "reconnecting";
  const any = table.models.length > 0;
  $("models").hidden = !(withData && any);
  $("empty").hidden = !(withData && !any);
}

function drawn(models, shown, orphaned) {
  if (state !== "live" && state !== "reconnecting") return;
  show(state);
  if (orphaned) focusContent();
  if (models.length) $("counts").textContent = words.counts(models, shown);
  $("nothing").hidden = shown > 0;
  $("nothing-text").textContent = `No model matches “${$("filter").value.trim()}”.`;
  announce.changes(models);
}

// -- the stream

function opened() {
  const first = trying;
  trying = false;
  api.keepKey();
  if (state === "reconnecting") show("live");
  if (first) announce.say("Signed in.");
}

function take(kind, data) {
  if (kind === "snapshot") table.replace(data.items ?? []);
  else if (kind === "model") table.set(data);
  else if (kind === "deleted") table.remove(data);
  else return;
  if (state === "live") return;
  const signedIn = $("signed-out").contains(document.activeElement);
  show("live");
  table.now();
  if (signedIn) focusContent();
}

// Where the focus goes when what had it is gone.
function focusContent() {
  if ($("models").hidden) $("empty").querySelector("[data-add]").focus();
  else $("filter").focus();
}

function lost(problem, wait_ms) {
  if (problem.status === 401) signOut(trying ? refusal(problem) : "");
  else if (trying) signOut(problem.detail || problem.title);
  else if (state === "live" || state === "reconnecting") interrupted();
  else fail(problem, wait_ms);
}

function interrupted() {
  if (state === "live") {
    seenAt = new Date();
    $("banner-text").textContent = `Showing data from ${words.clock(seenAt)}. Reconnecting…`;
    announce.say("Connection lost. Reconnecting.");
  }
  show("reconnecting");
}

function fail(problem, wait_ms) {
  $("failed-title").textContent = problem.title;
  $("failed-detail").textContent = problem.detail;
  $("failed-next").textContent = `Trying again in ${words.duration(wait_ms / 1000)}.`;
  link($("failed-help"), problem.help);
  show("failed");
}

const link = (anchor, address) => {
  anchor.hidden = !address;
  if (address) anchor.setAttribute("href", address);
};

// -- the key

const refusal = (problem) =>
  problem.title === api.UNSENDABLE
    ? problem.detail
    : "This key is not accepted. Check it, and try again.";

function signOut(error) {
  trying = false;
  stream.stop();
  api.forgetKey();
  table.replace([]);
  announce.reset();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  show("signed-out");
  $("sign-in").querySelector("button").disabled = false;
  $("key-error").textContent = error;
  $("key").setAttribute("aria-invalid", String(error !== ""));
  $("key").focus();
  $("key").select(); // what is typed next replaces the wrong key
}

function signIn(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!key) {
    $("key-error").textContent = "Enter the key first.";
    $("key").focus();
    return;
  }
  $("key-error").textContent = "";
  $("sign-in").querySelector("button").disabled = true;
  api.useKey(key);
  trying = true;
  stream.start();
}

// -- what a person does

function alertOf(action, problem) {
  if (problem.status === 401) {
    signOut("");
    return;
  }
  const parts = [`${action} failed. ${problem.detail || problem.title} `];
  if (problem.help) {
    const help = document.createElement("a");
    help.href = problem.help;
    help.textContent = "What to do";
    parts.push(help);
  }
  $("alert-text").replaceChildren(...parts);
  $("alert").hidden = false;
}

// Does one thing; says so if it worked, and raises the alarm if not.
async function attempt(button, action, doIt, success) {
  button.setAttribute("aria-disabled", "true");
  $("alert").hidden = true;
  try {
    await doIt();
    announce.say(success);
    return true;
  } catch (problem) {
    alertOf(action, problem);
    return false;
  } finally {
    button.removeAttribute("aria-disabled");
    table.row(button)?.redraw();
  }
}

async function remove(button, model) {
  if (!(await confirmDelete(model))) return;
  const title = words.title(model);
  const doIt = () => api.remove(model);
  if (!(await attempt(button, `Deleting ${title}`, doIt, `${title} is being deleted.`))) return;
  const next = table.neighbour(words.key(model));
  if (next) next.focus();
}

const DEEDS = {
  delete: remove,
  refresh: (button, model) =>
    attempt(button, `Refreshing ${words.title(model)}`, () => api.refresh(model),
      `Refresh of ${words.title(model)} requested.`),
  resume: (button, model) =>
    attempt(button, `Resuming ${words.title(model)}`, () => api.resume(model),
      `${words.title(model)} is being resumed.`),
};

function act(event) {
  const button = event.target.closest("button[data-do]");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  DEEDS[button.dataset.do](button, table.row(button).model);
}

async function copySnippet() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
    announce.say("Copied.");
  } catch {
    getSelection().selectAllChildren($("snippet")); // plain HTTP has no clipboard: Ctrl+C does it
    announce.say("Selected. Press Ctrl+C to copy.");
  }
}

const setFilter = (text) => {
  $("filter").value = text;
  table.filter = text;
};

$("sign-in").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", () => signOut(""));
$("filter").addEventListener("input", () => setFilter($("filter").value));
$("clear").addEventListener("click", () => {
  setFilter("");
  $("filter").focus();
});
$("rows").addEventListener("click", act);
$("retry").addEventListener("click", () => stream.retry());
$("retry-now").addEventListener("click", () => stream.retry());
$("alert-close").addEventListener("click", () => {
  $("alert").hidden = true;
  $("alert-text").replaceChildren();
});
$("copy").addEventListener("click", copySnippet);
prepareAdd((title) => announce.say(`${title} is added.`));
show("loading");
stream.start();
