// Says what changed, in one line, to those who read with their ears: changes of state, and a
// download's quarters. A screen reader speaks it when it has nothing more urgent to say.

import * as words from "./words.js";

const SHOWN_MS = 8_000; // on the screen; a screen reader has it at once
const MOST = 3; // sentences at a time; more would be noise

const NOW = {
  Ready: "is ready",
  Pulling: "is being downloaded",
  Pending: "is waiting",
  Failed: "has failed",
  Paused: "is paused",
  Deleting: "is being deleted",
};

const line = document.getElementById("status");
let known = null;
let timer = 0;

export const say = (text) => {
  line.textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => line.replaceChildren(), SHOWN_MS);
};

// Forgets all: what comes next is news to nobody.
export const reset = () => {
  known = null;
  line.textContent = "";
};

export function changes(models) {
  const seen = new Map(models.map((model) => [words.key(model), snapshot(model)]));
  const before = known;
  known = seen;
  if (before === null) return;
  const news = [...seen.values()].map((now) => sentence(before.get(now.key), now)).filter(Boolean);
  for (const [key, old] of before) if (!seen.has(key)) news.push(`${old.title} is gone.`);
  if (!news.length) return;
  const more = news.length - MOST;
  say(news.slice(0, MOST).join(" ") + (more > 0 ? ` And ${more} more changes.` : ""));
}

function snapshot(model) {
  const percent = words.isDownloading(model) ? (model.progress?.percent ?? 0) : 0;
  return {
    key: words.key(model),
    title: words.title(model),
    word: words.condition(model),
    quarter: Math.floor(percent / 25) * 25,
    remark: words.remark(model),
  };
}

function sentence(old, now) {
  if (!old) return `${now.title} was added.`;
  if (old.word !== now.word) {
    const why = now.word === "Failed" && now.remark ? `: ${now.remark}` : ".";
    return `${now.title} ${NOW[now.word]}${why}`;
  }
  return now.quarter > old.quarter ? `${now.title}: ${now.quarter} % downloaded.` : "";
}
