#!/usr/bin/env bash
# kr8s asks again and again, without a pause, for a resourceVersion that the API server has told it is gone.
#
# Versions:  kr8s 0.20.15 (PyPI), httpx 0.28.1, Python 3.11 or later
# Expected:  an ERROR event with code 410 ("too old resource version"), with which kube-apiserver answers a watch
#            whose past is compacted, leads to a new list or to an error; and a pause between two tries.
# Seen:      the same watch is begun anew at once, for ever: hundreds of requests a second on an idle machine. The
#            caller's `async for` neither yields nor raises.
# Output:    events=0 busy=True error=TimeoutError    (busy: more than 20 requests in 10 s)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kr8s==0.20.15 httpx==0.28.1

cat >"$folder/watch.py" <<'PYTHON'
"""Watch ConfigMaps on an API server whose past is gone, for ten seconds."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from sys import argv

import kr8s
from kr8s.asyncio.objects import ConfigMap

GONE = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old resource version: 7 (4711)",
        "reason": "Expired",
        "code": 410,
    },
}
asked = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        is_watch = "watch=" in self.path
        if is_watch:
            asked.append(self.path)
        version = {"major": "1", "minor": "35", "gitVersion": "v1.35.4"}
        body = (json.dumps(GONE if is_watch else version) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def main(url):
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = Path(argv[1]) / "kubeconfig"
    path.write_text(json.dumps(config))
    api = await kr8s.asyncio.api(kubeconfig=str(path), namespace="default")
    events, error = 0, None
    try:
        async with asyncio.timeout(10):
            async for _ in api.watch(ConfigMap, namespace="default", since="7"):
                events += 1
    except Exception as caught:
        error = type(caught).__name__
    print(f"events={events} busy={len(asked) > 20} error={error}")


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
asyncio.run(main(f"http://127.0.0.1:{server.server_port}"))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/watch.py" "$folder")
echo "$seen"
[ "$seen" = "events=0 busy=True error=TimeoutError" ] || { echo "no longer as stated" >&2; exit 1; }
