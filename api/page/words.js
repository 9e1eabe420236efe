// Words and numbers for people. Nothing here touches the page.

const UNITS = ["KiB", "MiB", "GiB", "TiB"];

export const title = (model) =>
  model.modelName ? `${model.modelName}:${model.tag}` : model.name;

export const key = (model) => `${model.namespace}/${model.name}`;

export function bytes(count) {
  let size = count / 1024;
  let unit = 0;
  for (; size >= 999.95 && unit < UNITS.length - 1; unit++) size /= 1024;
  return `${size.toFixed(size < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const clock = (date) =>
  date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// The sign says the same as the colour, for those who do not see colours.
const SIGNS = {
  Ready: "✔",
  Pulling: "◎",
  Pending: "○",
  Failed: "✗",
  Paused: "‖",
  Deleting: "⊖",
};

// How a model is, in one word: the four states, and what the reason alone tells.
export function condition(model) {
  if (model.deleting) return "Deleting";
  if (model.suspend) return "Paused";
  return SIGNS[model.state] ? model.state : "Pending";
}

export const sign = (word) => SIGNS[word];

const EXPLAINED = /^[A-Z][A-Za-z]{2,40}$/;

// Where the docs say what to do; empty when there is nothing to do.
export const advice = ({ reason = "", stalled, retrying, suspend }) =>
  (stalled || retrying) && !suspend && EXPLAINED.test(reason) ? `docs/reasons#${reason}` : "";

const TRACE_ID = /^[0-9a-f]{32}$/;
const TRACE_URL = document.querySelector('meta[name="trace-url"]')?.content ?? "";

// Where the trace of what was last done for a model can be seen; empty if nowhere.
export const trace = ({ traceID = "" }) =>
  TRACE_URL && TRACE_ID.test(traceID) ? TRACE_URL.replace("{trace_id}", traceID) : "";

export const isDownloading = (model) =>
  model.state === "Pulling" && !model.suspend && !model.deleting;

// What there is to say of a model, beside its state; empty when the state says it all.
export function remark(model) {
  if (model.deleting && model.reason !== "DeletionBlocked") return "Being removed from the server.";
  if (model.suspend) return "Left as it is: not pulled, not checked.";
  if (model.state === "Ready" && !advice(model) && model.reason !== "Refreshing") return "";
  return model.message || model.error || "";
}

// The download in numbers: `0.5 of 1.2 GiB · 31.0 MiB/s · 23 s left`.
export function download({ completedBytes = 0, totalBytes, bytesPerSecond, etaSeconds } = {}) {
  const parts = [];
  if (totalBytes) parts.push(`${bytes(completedBytes)} of ${bytes(totalBytes)}`);
  if (bytesPerSecond) parts.push(`${bytes(bytesPerSecond)}/s`);
  if (bytesPerSecond && etaSeconds) parts.push(`${duration(etaSeconds)} left`);
  return parts.join(" · ");
}

const TOLD = [
  ["ready", "Ready"],
  ["pulling", "Pulling"],
  ["waiting", "Pending"],
  ["paused", "Paused"],
  ["being deleted", "Deleting"],
];

// `4 models: 1 ready · 2 retrying · 1 needs you`
export function counts(models, shown) {
  const words = models.map(condition);
  const many = (word) => words.filter((each) => each === word).length;
  const told = TOLD.filter(([, word]) => many(word));
  const parts = told.map(([text, word]) => `${many(word)} ${text}`);
  const failed = models.filter((model) => condition(model) === "Failed");
  const retrying = failed.filter((model) => model.retrying).length;
  const stuck = failed.length - retrying;
  if (retrying) parts.push(`${retrying} retrying`);
  if (stuck) parts.push(`${stuck} ${stuck === 1 ? "needs" : "need"} you`);
  const all = `${models.length} ${models.length === 1 ? "model" : "models"}`;
  const head = `${all}: ${parts.join(" · ")}`;
  return shown === models.length ? head : `${head} (${shown} shown)`;
}
