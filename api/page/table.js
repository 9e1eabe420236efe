// The table of models. Draws at most four times a second, and never moves a row that somebody
// points at or works in: order and removals wait until they have left.

import { Row } from "./row.js";
import * as words from "./words.js";

const FRAME_MS = 250;

const isTrouble = (model) =>
  words.condition(model) === "Failed" || model.reason === "DeletionBlocked";

const compare = new Intl.Collator("en", { numeric: true }).compare;

const byTroubleThenName = (a, b) =>
  isTrouble(b.model) - isTrouble(a.model) ||
  compare(words.title(a.model), words.title(b.model)) ||
  compare(a.key, b.key);

export class Table {
  #body = document.getElementById("rows");
  #rows = new Map();
  #models = new Map();
  #filter = "";
  #pointed = false;
  #timer = 0;
  #drawnAt = -FRAME_MS;
  #onDrawn;

  // `onDrawn(models, shown, orphaned)` is called after each drawing; orphaned if the focus was in a
  // row that is gone, and no other row was there to take it.
  constructor(onDrawn) {
    this.#onDrawn = onDrawn;
    this.#body.addEventListener("pointerenter", (event) => {
      this.#pointed = event.pointerType === "mouse";
    });
    this.#body.addEventListener("pointerleave", () => {
      this.#pointed = false;
      this.soon();
    });
    this.#body.addEventListener("focusout", () => this.soon());
  }

  get models() {
    return [...this.#models.values()];
  }

  replace(models) {
    this.#models = new Map(models.map((model) => [words.key(model), model]));
    this.soon();
  }

  set(model) {
    this.#models.set(words.key(model), model);
    this.soon();
  }

  remove(model) {
    this.#models.delete(words.key(model));
    this.soon();
  }

  set filter(text) {
    this.#filter = text.trim().toLowerCase();
    this.now();
  }

  row(element) {
    return this.#rows.get(element.closest("tr")?.dataset.key);
  }

  // The row to go on with once `key` is gone: the next one, else the one before.
  neighbour(key) {
    const shown = this.#inOrder().filter((row) => !row.element.hidden && !row.gone);
    const at = shown.findIndex((row) => row.key === key);
    return at < 0 ? undefined : (shown[at + 1] ?? shown[at - 1]);
  }

  soon() {
    if (this.#timer) return;
    const wait = Math.max(0, this.#drawnAt + FRAME_MS - performance.now());
    this.#timer = setTimeout(() => this.now(), wait);
  }

  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawnAt = performance.now();
    this.#update();
    const orphaned = this.#drop();
    if (!this.#isHeld()) this.#sort();
    this.#onDrawn(this.models, this.#applyFilter(), orphaned);
  }

  #isHeld() {
    return this.#pointed || (document.hasFocus() && this.#body.contains(document.activeElement));
  }

  #inOrder() {
    return [...this.#body.children].map((element) => this.#rows.get(element.dataset.key));
  }

  #update() {
    for (const [key, model] of this.#models) {
      const row = this.#rows.get(key);
      if (row?.model === model && !row.gone) continue;
      if (row && !row.gone) {
        row.draw(model);
        continue;
      }
      const made = new Row(model); // also where an earlier model of the same name has just gone
      if (row) row.element.replaceWith(made.element);
      else this.#body.append(made.element);
      this.#rows.set(key, made);
    }
  }

  #drop() {
    let orphaned = false;
    for (const [key, row] of this.#rows) {
      if (this.#models.has(key)) continue;
      const focused = row.hasFocus();
      const next = focused ? this.neighbour(key) : null;
      if (!row.gone) row.bury();
      next?.focus();
      orphaned ||= focused && !next;
      if (this.#pointed) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    return orphaned;
  }

  #sort() {
    let place = this.#body.firstElementChild;
    for (const row of [...this.#rows.values()].sort(byTroubleThenName)) {
      if (row.element === place) place = place.nextElementSibling;
      else this.#body.insertBefore(row.element, place);
    }
  }

  #applyFilter() {
    let shown = 0;
    for (const row of this.#rows.values()) {
      const { model } = row;
      const text = [words.title(model), row.key, words.condition(model), model.reason ?? ""];
      const fits = text.join("\n").toLowerCase().includes(this.#filter);
      row.element.hidden = !fits;
      if (fits && !row.gone) shown += 1;
    }
    return shown;
  }
}
