#!/usr/bin/env bash
# Ollama writes a model whose pull was cut off while it was verified, after it has said that there is none.
#
# Versions:  Ollama 0.6.5 (Go module github.com/ollama/ollama), built with Go 1.24 or later, gcc and g++
# Expected:  to close the connection of a pull ends it, as it does while bytes come: what was not there then does not
#            come later by itself.
# Seen:      once "verifying sha256 digest" has been sent, closing the connection changes nothing. DELETE answers 404
#            meanwhile, the list is empty; and when the digests are verified, after a second or a minute by the size,
#            the model is in the list. Who cancels a pull and then deletes the model has it all the same.
# Output:    delete=404 listed_before=False listed_after=True
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait 2>/dev/null; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT

mkdir "$folder/build" "$folder/home"
cd "$folder/build"
go mod init example.test/ollama 2>/dev/null
go get github.com/ollama/ollama@v0.6.5 2>/dev/null
CGO_ENABLED=1 go build -trimpath -o "$folder/ollama" github.com/ollama/ollama

cat >"$folder/pull.py" <<'PYTHON'
"""Serve a large model, leave while Ollama verifies it, delete it, and look whether it comes."""

import hashlib
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT = os.environ["OLLAMA_HOST"].split(":")
OLLAMA = f"http://{HOST}:{PORT}"
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = json.dumps({"model_format": "gguf", "model_family": "llama", "rootfs": {}}).encode()
WEIGHTS = bytes(400_000_000)


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


BLOBS = {digest(data): data for data in (CONFIG, WEIGHTS)}


def layer(data, kind):
    return {"mediaType": f"application/vnd.{kind}", "digest": digest(data), "size": len(data)}


MANIFEST = {
    "schemaVersion": 2,
    "mediaType": TYPE,
    "config": layer(CONFIG, "docker.container.image.v1+json"),
    "layers": [layer(WEIGHTS, "ollama.image.model")],
}


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if "/manifests/" in self.path:
            return self.answer(200, json.dumps(MANIFEST).encode(), {"content-type": TYPE})
        data = BLOBS[name]
        if self.command == "GET" and "/blobs/" in self.path:  # Ollama wants to be sent elsewhere
            port = self.server.server_port
            return self.answer(307, b"", {"location": f"http://localhost:{port}/data/{name}"})
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", "")):
            return self.answer(206, data[int(found[1]) : int(found[2]) + 1])
        return self.answer(200, data)

    def answer(self, code, body, headers=()):
        self.send_response(code)
        for each in dict(headers).items():
            self.send_header(*each)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(OLLAMA + path, data, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def listed():
    return bool(json.loads(ask("GET", "/api/tags")[1])["models"])


for _ in range(600):
    try:
        ask("GET", "/api/version")
        break
    except OSError:
        time.sleep(0.1)
registry = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=registry.serve_forever, daemon=True).start()
name = f"http://127.0.0.1:{registry.server_port}/library/large:latest"
body = json.dumps({"model": name, "insecure": True}).encode()
said = b""
with socket.create_connection((HOST, int(PORT))) as pull:
    head = f"POST /api/pull HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len(body)}\r\n\r\n"
    pull.sendall(head.encode() + body)
    while b"verifying" not in said:
        more = pull.recv(65536)
        if not more or b"error" in more:
            raise SystemExit(f"the pull ended: {(said + more)[-500:]!r}")
        said = (said + more)[-1000:]
deleted, _ = ask("DELETE", "/api/delete", {"model": name})
before = listed()
deadline = time.monotonic() + 60
while not listed() and time.monotonic() < deadline:
    time.sleep(0.1)
print(f"delete={deleted} listed_before={before} listed_after={listed()}")
PYTHON

OLLAMA_HOST=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export OLLAMA_HOST HOME="$folder/home" OLLAMA_MODELS="$folder/models" no_proxy=127.0.0.1,localhost
"$folder/ollama" serve >"$folder/log" 2>&1 &
server=$!
seen=$(python3 "$folder/pull.py")
echo "$seen"
[ "$seen" = "delete=404 listed_before=False listed_after=True" ] || { echo "no longer as stated" >&2; exit 1; }
