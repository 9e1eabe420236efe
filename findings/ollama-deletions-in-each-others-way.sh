#!/usr/bin/env bash
# Ollama answers 500, or 404 for a model that it has, when models are deleted at the same time.
#
# Versions:  Ollama 0.6.5 (Go module github.com/ollama/ollama), built with Go 1.24 or later, gcc and g++
# Expected:  deletions of different models have nothing to do with each other: each answers 200, and its model is gone.
# Seen:      each deletion walks through all manifests. Where another one takes a file or a folder away meanwhile, it
#            ends with 500 (lstat, remove: no such file or directory), or with 404, model not found, and the model is
#            listed afterwards. Who takes a 404 for "gone already" leaves the model there. One at a time, all is well.
# Output:    1 at a time: refused=[] listed after a 404=False
#            40 at a time: refused=[404, 500] listed after a 404=True
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait 2>/dev/null; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT

mkdir "$folder/build" "$folder/home"
cd "$folder/build"
go mod init example.test/ollama 2>/dev/null
go get github.com/ollama/ollama@v0.6.5 2>/dev/null
CGO_ENABLED=1 go build -o "$folder/ollama" github.com/ollama/ollama

cat >"$folder/delete.py" <<'PYTHON'
"""Bring one small model, copy it to many names, delete all of them at once, and count what is answered."""

import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OLLAMA = f"http://{os.environ['OLLAMA_HOST']}"
MANY = 40
ROUNDS = 10


def blob(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}", content


def part(kind, digest, content):
    return {"mediaType": kind, "digest": digest, "size": len(content)}


CONFIG = blob(b'{"model_format":"gguf","model_family":"llama"}')
LAYER = blob(b"GGUF" + bytes(1000))
BLOBS = dict([CONFIG, LAYER])
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": TYPE,
    "config": part("application/vnd.docker.container.image.v1+json", *CONFIG),
    "layers": [part("application/vnd.ollama.image.model", *LAYER)],
}


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        part = self.path.rsplit("/", 1)[-1]
        body = BLOBS.get(part) or json.dumps(MANIFEST).encode()
        if part in BLOBS and "storage" not in self.path:  # Ollama wants to be sent elsewhere for a blob
            self.send_response(307)
            self.send_header("location", f"http://localhost:{self.server.server_port}/storage/{part}")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        first, last = 0, len(body) - 1
        if wanted := self.headers.get("range"):
            first, last = (int(each) for each in wanted.removeprefix("bytes=").split("-"))
        self.send_response(206 if wanted else 200)
        self.send_header("content-type", TYPE if part not in BLOBS else "application/octet-stream")
        self.send_header("content-length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[first : last + 1])

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(OLLAMA + path, data, method=method)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


for _ in range(600):
    try:
        ask("GET", "/api/version")
        break
    except OSError:
        time.sleep(0.1)
registry = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=registry.serve_forever, daemon=True).start()
source = f"http://127.0.0.1:{registry.server_port}/library/one:latest"
_, lines = ask("POST", "/api/pull", {"model": source, "insecure": True})
assert b"success" in lines.splitlines()[-1], lines
source = json.loads(ask("GET", "/api/tags")[1])["models"][0]["name"]


def delete(at_once):
    """Delete many copies; return the answers that are no success, and whether a 404 was untrue."""
    names = [f"copy-{n}:latest" for n in range(MANY)]
    for name in names:
        assert ask("POST", "/api/copy", {"source": source, "destination": name})[0] == 200
    with ThreadPoolExecutor(at_once) as pool:
        codes = list(pool.map(lambda name: ask("DELETE", "/api/delete", {"model": name})[0], names))
    left = {each["name"] for each in json.loads(ask("GET", "/api/tags")[1])["models"]} - {source}
    for name in left:
        ask("DELETE", "/api/delete", {"model": name})
    return {*codes} - {200}, any(code == 404 and name in left for name, code in zip(names, codes))


for at_once in (1, MANY):
    rounds = [delete(at_once) for _ in range(ROUNDS)]
    codes = sorted({code for found, _ in rounds for code in found})
    untrue = any(found for _, found in rounds)
    print(f"{at_once} at a time: refused={codes} listed after a 404={untrue}")
PYTHON

OLLAMA_HOST=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export OLLAMA_HOST HOME="$folder/home" OLLAMA_MODELS="$folder/models" no_proxy=127.0.0.1
"$folder/ollama" serve >"$folder/log" 2>&1 &
server=$!
seen=$(python3 "$folder/delete.py")
echo "$seen"
stated="1 at a time: refused=[] listed after a 404=False
40 at a time: refused=[404, 500] listed after a 404=True"
[ "$seen" = "$stated" ] || { echo "no longer as stated" >&2; exit 1; }
