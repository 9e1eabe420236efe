// Ask for a model, wait until it is ready, and delete it again: with Node 20 or later, Deno or Bun.
//   URL=http://localhost:8082 KEY=… node models.mjs llama3.2 1b
const base = process.env.URL ?? "http://localhost:8082";
const [name, tag] = process.argv.slice(2);
if (!name || !tag || !process.env.KEY) {
  console.error(`usage: URL=${base} KEY=<key of the API> node models.mjs <name> <tag>`);
  process.exit(2);
}

async function api(path, options = {}) {
  const headers = { "X-API-Key": process.env.KEY, "Content-Type": "application/json" };
  const answer = await fetch(new URL(path, base), { headers, ...options });
  if (answer.ok) return answer;
  const problem = await answer.json();
  throw new Error(`${problem.title}: ${problem.detail}`);
}

// EventSource cannot send a header, so the stream is read with fetch.
async function* events(path) {
  let held = "";
  for await (const text of (await api(path)).body.pipeThrough(new TextDecoderStream())) {
    const parts = (held + text).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.match(/^data: (.*)$/m);
      if (data) yield JSON.parse(data[1]);
    }
  }
}

const created = await api("/api/v1/models", {
  method: "POST",
  body: JSON.stringify({ name, tag }),
});
const model = created.headers.get("Location");
for await (const seen of events(`${model}/events`)) {
  console.log(seen.state, seen.progress?.text ?? "");
  if (seen.ready || seen.stalled) break;
}
const { items } = await (await api("/api/v1/models")).json();
console.log(items.map((each) => each.name));
await api(model, { method: "DELETE" });
