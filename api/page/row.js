// One row of the table: made once, and from then on only what differs is touched.

import * as words from "./words.js";

const template = document.getElementById("row");

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const setHidden = (node, hidden) => {
  if (node.hidden !== hidden) node.hidden = hidden;
};

export class Row {
  constructor(model) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.key = words.key(model);
    this.element.dataset.key = this.key;
    this.gone = false;
    this.draw(model);
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  get buttons() {
    return [...this.element.querySelectorAll("button")];
  }

  hasFocus() {
    return this.element.contains(document.activeElement);
  }

  // Puts the focus on the first thing that can be done here.
  focus() {
    this.buttons.find((button) => !button.disabled)?.focus();
  }

  draw(model) {
    this.model = model;
    const word = words.condition(model);
    this.element.dataset.state = word;
    setText(this.#find(".title"), words.title(model));
    setText(this.#find(".place"), this.key);
    setText(this.#find(".sign"), words.sign(word));
    setText(this.#find(".word"), word);
    setText(this.#find(".size"), words.isDownloading(model) ? "" : model.formattedSize || "");
    this.#drawDownload(model);
    this.#drawRemark(model);
    this.#drawTrace(model);
    this.#drawActions(model);
  }

  // Puts right what somebody else has changed of the row.
  redraw() {
    if (!this.gone) this.draw(this.model);
  }

  // Shows that the model is no more, without taking its place away from under the pointer.
  bury() {
    this.gone = true;
    this.element.dataset.state = "Gone";
    setText(this.#find(".sign"), "");
    setText(this.#find(".word"), "Deleted");
    for (const part of [".download", ".remark", ".advice", ".trace"]) setHidden(this.#find(part), true);
    for (const button of this.buttons) button.disabled = true;
  }

  #drawDownload(model) {
    const shown = words.isDownloading(model);
    setHidden(this.#find(".download"), !shown);
    if (!shown) return;
    const { percent } = model.progress ?? {};
    const bar = this.#find("progress");
    bar.setAttribute("aria-label", `Download of ${words.title(model)}`);
    if (percent === undefined || percent === null) bar.removeAttribute("value"); // total unknown
    else if (bar.value !== percent || !bar.hasAttribute("value")) bar.value = percent;
    setText(this.#find(".percent"), Number.isFinite(percent) ? `${percent} %` : "");
    setText(this.#find(".numbers"), words.download(model.progress));
  }

  #drawRemark(model) {
    const told = this.#find(".numbers").textContent !== "" && words.isDownloading(model);
    const remark = told ? "" : words.remark(model);
    setText(this.#find(".remark"), remark);
    setHidden(this.#find(".remark"), remark === "");
    const link = this.#find(".advice");
    const advice = words.advice(model);
    if (!advice && document.activeElement === link) this.focus(); // the link goes; the row stays
    setHidden(link, advice === "");
    if (!advice) return;
    link.setAttribute("href", advice);
    link.setAttribute("aria-label", `What to do about ${words.title(model)}`);
  }

  #drawTrace(model) {
    const link = this.#find(".trace");
    const url = words.trace(model);
    setHidden(link, url === "");
    if (!url) return;
    link.setAttribute("href", url);
    link.setAttribute("aria-label", `Trace of ${words.title(model)}`);
  }

  #drawActions(model) {
    const name = words.title(model);
    const [first, last] = this.buttons;
    const verb = model.suspend ? "Resume" : model.state === "Failed" ? "Retry" : "Refresh";
    first.dataset.do = model.suspend ? "resume" : "refresh";
    const vain = model.refreshInVain && !model.suspend; // the spec or the server has to change
    this.#label(first, verb, name, model.deleting || vain || words.isDownloading(model));
    this.#label(last, "Delete", name, model.deleting);
  }

  // A button that can do nothing now stays where it is, and keeps the focus if it has it.
  #label(button, verb, name, idle) {
    setText(button, verb);
    button.setAttribute("aria-label", `${verb} ${name}`);
    if (idle) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
}
