#!/usr/bin/env bash
# kr8s ignores `as` and `as-groups` in a kubeconfig, and so acts with all the rights of who stands behind them.
#
# Versions:  kr8s 0.20.15 (PyPI), httpx 0.28.1, Python 3.11 or later
# Expected:  a user with `as: alice` is sent as `Impersonate-User: alice`, as kubectl does; or the file is refused.
#            An administrator writes `as` into a kubeconfig to have fewer rights.
# Seen:      the requests carry the administrator's token and no such header, and nothing is said.
# Output:    authorization=Bearer admin impersonate-user=None impersonate-group=None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kr8s==0.20.15 httpx==0.28.1

cat >"$folder/who.py" <<'PYTHON'
"""Ask an API server for its version as alice, and print who asked."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from sys import argv

import kr8s

WHO = ("authorization", "impersonate-user", "impersonate-group")
asked = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append({name: self.headers.get(name) for name in WHO})
        body = json.dumps({"major": "1", "minor": "35", "gitVersion": "v1.35.4"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def main(url):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "admin", "as": "alice", "as-groups": ["staff"]}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = Path(argv[1]) / "kubeconfig"
    path.write_text(json.dumps(config))
    api = await kr8s.asyncio.api(kubeconfig=str(path))
    await api.version()
    print(*(f"{name}={value}" for name, value in asked[-1].items()))


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
asyncio.run(main(f"http://127.0.0.1:{server.server_port}"))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/who.py" "$folder")
echo "$seen"
expected="authorization=Bearer admin impersonate-user=None impersonate-group=None"
[ "$seen" = "$expected" ] || { echo "no longer as stated" >&2; exit 1; }
