// Talks to the REST API: one function per thing a person can do, one kind of error for all of them.

const KEY = "ollama-op.key";
const ROOT = "api/v1"; // beside the page, which may be below a path of a proxy's choice

let key = storedKey();

// A key that is being tried is in memory only; it is stored for the tab once the server takes it.
export const useKey = (value) => {
  key = value;
};

export const hasKey = () => key !== "";

export const keepKey = () => {
  try {
    if (key) sessionStorage.setItem(KEY, key);
  } catch {
    // without storage the key lasts until the page is reloaded
  }
};

export const forgetKey = () => {
  key = "";
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // nothing was stored then
  }
};

export function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

// What went wrong, in words for a person. `status` is 0 when there was no answer at all.
export class Problem extends Error {
  constructor({ status = 0, title, detail = "", type = "", errors = [] }) {
    super(detail || title);
    Object.assign(this, { status, title, detail, errors });
    // Only our own pages are linked, whatever an answer says; they are beside this one.
    this.help = /(?:^|\/)(docs\/[a-z]+#[\w-]+)$/.exec(type)?.[1] ?? "";
  }
}

const UNREACHABLE = {
  title: "The operator does not answer",
  detail: "No connection to it. Check your network, or the port-forward if you use one.",
};

const UNREADABLE = {
  title: "The answer cannot be read",
  detail: "Something between this page and the operator answered in its place.",
};

export const UNSENDABLE = "No such key";

// The form of a Kubernetes token, as `kubectl create token` prints it.
const TOKEN = /^ey[\w-]+\.[\w-]+\.[\w-]+$/;

// HTTP takes no other characters in a header; fetch would throw a TypeError that says little.
const SENDABLE = /^[\x21-\x7e]*$/;

// Sends a request. Resolves with the response if it is a success; rejects with a Problem, or with
// an AbortError when `signal` says stop.
export async function send(method, path, { body, headers = {}, signal } = {}) {
  if (!SENDABLE.test(key)) {
    throw new Problem({ status: 401, title: UNSENDABLE, detail: "A key has no such characters." });
  }
  const sent = { ...headers };
  if (TOKEN.test(key)) sent.Authorization = `Bearer ${key}`;
  else if (key) sent["X-API-Key"] = key;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const response = await reach(ROOT + path, {
    method,
    headers: sent,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  });
  if (!response.ok) throw await problem(response);
  return response;
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE);
  }
}

async function problem(response) {
  const body = await response.json().catch(() => null);
  if (typeof body !== "object" || body === null) {
    return new Problem({ ...UNREADABLE, status: response.status });
  }
  const text = (value) => (typeof value === "string" ? value : "");
  return new Problem({
    status: response.status,
    title: text(body.title) || `The operator answered ${response.status}`,
    detail: text(body.detail) || text(body.error),
    type: text(body.type),
    errors: Array.isArray(body.errors) ? body.errors : [],
  });
}

const place = ({ name, namespace }, verb = "") =>
  `/models/${encodeURIComponent(name)}${verb}?namespace=${encodeURIComponent(namespace)}`;

export const add = async (model) => (await send("POST", "/models", { body: model })).json();
export const remove = (model) => send("DELETE", place(model));
export const refresh = (model) => send("POST", place(model, "/refresh"));
export const resume = (model) => send("POST", place(model, "/resume"));
