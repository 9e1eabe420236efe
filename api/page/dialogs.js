// The two dialogs. They are native: Escape closes them, the focus stays inside while they are open
// and goes back to where it came from.

import * as api from "./api.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

const FIELDS = ["name", "tag", "namespace"];

// What is asked for. A tag may be in the name, as people paste it: the API says what that means. A
// colon before the last slash is of a port.
export function wish(name, tag) {
  if (tag) return { name, tag };
  return name.lastIndexOf(":") > name.lastIndexOf("/") ? { name } : { name, tag: "latest" };
}

const sentence = (message) =>
  (/^(is|has|needs) /.test(message) ? `This field ${message}` : message)
    .replace(/^./, (first) => first.toUpperCase())
    .replace(/\.?$/, ".");

function showErrors(problem) {
  const texts = { name: "", tag: "", namespace: "", rest: [] };
  for (const { field, message } of problem?.errors ?? []) {
    if (FIELDS.includes(field)) texts[field] = sentence(message);
    else texts.rest.push(`${field}: ${message}`);
  }
  for (const field of FIELDS) {
    $(`add-${field}-error`).textContent = texts[field];
    $(`add-${field}`).setAttribute("aria-invalid", String(texts[field] !== ""));
  }
  const told = FIELDS.some((field) => texts[field]);
  const whole = problem && !told ? problem.detail || problem.title : "";
  $("add-error").textContent = texts.rest.join(" ") || whole;
  FIELDS.map((field) => $(`add-${field}`))
    .find((input) => input.getAttribute("aria-invalid") === "true")
    ?.focus();
}

// What was said of a field counts until the field changes.
function forgetError(field) {
  $(`add-${field}-error`).textContent = "";
  $(`add-${field}`).setAttribute("aria-invalid", "false");
  $("add-error").textContent = "";
}

async function submitAdd(event, onAdded) {
  event.preventDefault();
  const wanted = wish($("add-name").value.trim(), $("add-tag").value.trim());
  if (!wanted.name) {
    showErrors({ errors: [{ field: "name", message: "is needed" }] });
    return;
  }
  const button = event.submitter ?? $("add-form").querySelector("[type=submit]");
  button.disabled = true;
  try {
    const namespace = $("add-namespace").value.trim();
    const added = await api.add(namespace ? { ...wanted, namespace } : wanted);
    $("add").close();
    onAdded(words.title(added));
  } catch (problem) {
    showErrors(problem);
  } finally {
    button.disabled = false;
  }
}

// Prepares the dialog that adds a model; `onAdded(title)` is told of success.
export function prepareAdd(onAdded) {
  for (const button of document.querySelectorAll("[data-add]")) {
    button.addEventListener("click", () => {
      $("add-form").reset();
      showErrors(null);
      $("add").showModal();
      $("add-name").focus();
    });
  }
  for (const field of FIELDS) {
    $(`add-${field}`).addEventListener("input", () => forgetError(field));
  }
  $("add").querySelector("[data-cancel]").addEventListener("click", () => $("add").close());
  $("add-form").addEventListener("submit", (event) => submitAdd(event, onAdded));
}

function consequence(model) {
  if (model.deletionPolicy === "Retain") return "The model itself stays on the Ollama server.";
  const others = model.sharedWith ?? 0;
  if (others === 1) return "One other object names this model, so it stays on the Ollama server.";
  if (others) return `${others} other objects name this model, so it stays on the Ollama server.`;
  return "It is removed from the Ollama server. Adding it again means downloading it again.";
}

// Asks whether a model shall be deleted. Resolves with the answer; Escape is no.
export function confirmDelete(model) {
  const dialog = $("delete");
  $("delete-title").textContent = `Delete ${words.title(model)}?`;
  $("delete-place").textContent = words.key(model);
  $("delete-text").textContent = consequence(model);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = () => resolve(dialog.returnValue === "delete");
    dialog.addEventListener("close", answer, { once: true });
  });
}
