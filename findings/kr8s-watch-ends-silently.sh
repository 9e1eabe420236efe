#!/usr/bin/env bash
# kr8s ends a watch without a word when the API server does, which it does every few minutes.
#
# Versions:  kr8s 0.20.15 (PyPI), httpx 0.28.1, Python 3.11 or later
# Expected:  a watch goes on from the last resourceVersion it saw, as client-go's informers do, or raises: the
#            API server ends each watch after its `timeoutSeconds`, by default within an hour, with a plain EOF.
# Seen:      `async for` simply stops after one request. Nothing tells it from "there is nothing left", so a
#            controller that is written as in kr8s' examples stops noticing changes until it is restarted.
# Output:    events=1 requests=1 error=None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kr8s==0.20.15 httpx==0.28.1

cat >"$folder/watch.py" <<'PYTHON'
"""Watch ConfigMaps on an API server that tells of one and ends the watch in order."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from sys import argv

import kr8s
from kr8s.asyncio.objects import ConfigMap

META = {"name": "one", "namespace": "default", "uid": "1", "resourceVersion": "7"}
ADDED = {"type": "ADDED", "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META}}
asked = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        is_watch = "watch=" in self.path
        if is_watch:
            asked.append(self.path)
        version = {"major": "1", "minor": "35", "gitVersion": "v1.35.4"}
        body = (json.dumps(ADDED if is_watch else version) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)  # HTTP/1.0: the connection's end is the body's

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
        async with asyncio.timeout(30):
            async for _ in api.watch(ConfigMap, namespace="default"):
                events += 1
    except Exception as caught:
        error = type(caught).__name__
    print(f"events={events} requests={len(asked)} error={error}")


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
asyncio.run(main(f"http://127.0.0.1:{server.server_port}"))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/watch.py" "$folder")
echo "$seen"
[ "$seen" = "events=1 requests=1 error=None" ] || { echo "no longer as stated" >&2; exit 1; }
