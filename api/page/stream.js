// Follows the operator's events. EventSource cannot send a header, and the key must not be in a
// URL, where logs keep it; so this reads the stream with fetch.

import { Problem, send } from "./api.js";

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 40_000; // the server says something every 15 s; longer silence is a dead line

// Takes text as it comes, in pieces cut anywhere, and calls `emit` with each whole event.
export function parser(emit) {
  let rest = "";
  let event = fresh();

  const line = (text) => {
    if (text === "") {
      if (event.data.length) emit({ ...event, data: event.data.join("\n") });
      event = fresh();
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "data") event.data.push(value);
    else if (field === "event") event.kind = value;
    else if (field === "id" && !value.includes("\0")) event.id = value;
  };

  return (text) => {
    // A CR at the very end may be half of a CR LF: it waits for what comes next.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

const fresh = () => ({ kind: "message", id: null, data: [] });

// Half of the wait is certain, half is chance: pages that lost the same server come back spread.
export const waitMs = (failures, chance = Math.random()) => {
  const whole = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.max(0, failures - 1));
  return Math.max(FIRST_WAIT_MS, whole / 2 + (whole / 2) * chance);
};

// Waits for a sign of the server, but not for ever.
async function heard(abort, sign) {
  const watch = setTimeout(() => abort.abort("silence"), SILENCE_MS);
  try {
    return await sign;
  } finally {
    clearTimeout(watch);
  }
}

// Keeps a stream open while the page is seen. `onEvent({kind, id, data})` gets parsed events;
// `onOpen()` and `onLost(problem, wait_ms)` tell how it goes. A 401 ends it: only a key helps.
export class Stream {
  #hooks;
  #abort = null;
  #timer = 0;
  #failures = 0;
  #lastId = "";
  #wanted = false;

  constructor(hooks) {
    this.#hooks = hooks;
    document.addEventListener("visibilitychange", () => this.#seenOrNot());
    addEventListener("online", () => this.retry());
  }

  // Begins anew, with nothing known.
  start() {
    this.#lastId = "";
    this.#wanted = true;
    this.retry();
  }

  // Tries at once, whatever the wait was.
  retry() {
    if (!this.#wanted || document.hidden) return;
    this.#pause();
    this.#connect();
  }

  stop() {
    this.#wanted = false;
    this.#pause();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  #seenOrNot() {
    if (document.hidden) this.#pause();
    else this.retry();
  }

  async #connect() {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      await this.#read(abort);
      throw new Problem({ title: "The connection was closed" });
    } catch (error) {
      // Whoever aborts has something else in mind; only a loss that nobody wanted is told.
      if (abort.signal.aborted && abort.signal.reason !== "silence") return;
      this.#lost(error);
    }
  }

  async #read(abort) {
    const headers = { Accept: "text/event-stream" };
    if (this.#lastId) headers["Last-Event-ID"] = this.#lastId;
    const response = await heard(abort, send("GET", "/events", { headers, signal: abort.signal }));
    this.#hooks.onOpen();
    const feed = parser((event) => this.#take(event));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await heard(abort, reader.read());
      if (done) return;
      feed(value);
      // Not before: a server that opens and says nothing is asked ever more rarely.
      this.#failures = 0;
    }
  }

  #take({ kind, id, data }) {
    this.#hooks.onEvent(kind, JSON.parse(data));
    if (id) this.#lastId = id;
  }

  #lost(error) {
    const told = error instanceof Problem;
    const problem = told ? error : new Problem({ title: "The connection broke" });
    if (problem.status === 401) {
      this.stop();
      this.#hooks.onLost(problem, null);
      return;
    }
    const wait = waitMs(++this.#failures);
    this.#timer = setTimeout(() => this.retry(), wait);
    this.#hooks.onLost(problem, wait);
  }
}
