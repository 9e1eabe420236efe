#!/usr/bin/env bash
# Ollama pulls a tag that is an OCI image index, says success, lists it, and cannot show it.
#
# Versions:  Ollama 0.6.5 (Go module github.com/ollama/ollama), built with Go 1.24 or later, gcc and g++
# Expected:  an index (what `docker buildx` and `oras` push for several platforms) is refused, or resolved to one of
#            its manifests. At the least, a pull that brings no model does not end in success.
# Seen:      the pull's last line is success although nothing but the index was fetched; /api/tags has the model, of
#            the size of nothing; /api/show answers 404 for what the list has just shown. Who trusts a pull's success,
#            or the list, serves a model that is not there.
# Output:    pull=success listed=True show=404 blobs=0
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait 2>/dev/null; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT

mkdir "$folder/build" "$folder/home"
cd "$folder/build"
go mod init example.test/ollama 2>/dev/null
go get github.com/ollama/ollama@v0.6.5 2>/dev/null
CGO_ENABLED=1 go build -o "$folder/ollama" github.com/ollama/ollama

cat >"$folder/pull.py" <<'PYTHON'
"""Serve an index as a model, have Ollama pull it, and ask what came of it."""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OLLAMA = f"http://{os.environ['OLLAMA_HOST']}"
TYPE = "application/vnd.oci.image.index.v1+json"
INDEX = {
    "schemaVersion": 2,
    "mediaType": TYPE,
    "manifests": [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{'0' * 64}",
            "size": 1234,
            "platform": {"architecture": "amd64", "os": "linux"},
        }
    ],
}
blobs = []


class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        if "/blobs/" in self.path:
            blobs.append(self.path)
        body = json.dumps(INDEX).encode() if "/manifests/" in self.path else b"{}"
        self.send_response(200)
        self.send_header("content-type", TYPE)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(OLLAMA + path, data)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


for _ in range(600):
    try:
        ask("/api/version")
        break
    except OSError:
        time.sleep(0.1)
registry = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=registry.serve_forever, daemon=True).start()
name = f"http://127.0.0.1:{registry.server_port}/library/several:latest"
_, lines = ask("/api/pull", {"model": name, "insecure": True})
last = json.loads(lines.splitlines()[-1])
listed = [model["name"] for model in json.loads(ask("/api/tags")[1])["models"]]
shown, _ = ask("/api/show", {"model": listed[0] if listed else name})
print(f"pull={last.get('status') or last} listed={bool(listed)} show={shown} blobs={len(blobs)}")
PYTHON

OLLAMA_HOST=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export OLLAMA_HOST HOME="$folder/home" OLLAMA_MODELS="$folder/models" no_proxy=127.0.0.1
"$folder/ollama" serve >"$folder/log" 2>&1 &
server=$!
seen=$(python3 "$folder/pull.py")
echo "$seen"
[ "$seen" = "pull=success listed=True show=404 blobs=0" ] || { echo "no longer as stated" >&2; exit 1; }
