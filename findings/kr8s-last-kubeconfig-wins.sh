#!/usr/bin/env bash
# kr8s merges the files of KUBECONFIG the other way round: the last one wins, and not the first.
#
# Versions:  kr8s 0.20.15, httpx 0.28.1, kubernetes 37.0.2 (PyPI), Python 3.11 or later
# Expected:  of two files that give one name to two clusters, the first one decides, as the Kubernetes documentation
#            ("Merging kubeconfig files": the first file to set a value wins) has it, and kubectl, and the official client.
# Seen:      with KUBECONFIG=first:second, kr8s talks to the cluster of the second file, without a word. What is
#            meant for one cluster is done on another.
# Output:    kubernetes: first
#            kr8s: second
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kr8s==0.20.15 httpx==0.28.1 kubernetes==37.0.2

cat >"$folder/merge.py" <<'PYTHON'
"""Ask for the version of the cluster `c`, about which two kubeconfigs disagree."""

import asyncio
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from sys import argv

import kr8s
import kubernetes


TEXTS = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.4"} | dict.fromkeys(TEXTS, "x")


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.server.server_port)
        body = json.dumps(VERSION).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


asked, names, paths = [], {}, []
for name in ("first", "second"):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names[server.server_port] = name
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    paths.append(Path(argv[1]) / name)
    paths[-1].write_text(json.dumps(config))

both = os.pathsep.join(map(str, paths))
kubernetes.config.load_kube_config(both)
kubernetes.client.VersionApi().get_code()
print("kubernetes:", names[asked[-1]])


async def main():
    api = await kr8s.asyncio.api(kubeconfig=both)
    await api.version()


asyncio.run(main())
print("kr8s:", names[asked[-1]])
PYTHON

seen=$("$folder/venv/bin/python" "$folder/merge.py" "$folder")
echo "$seen"
[ "$seen" = $'kubernetes: first\nkr8s: second' ] || { echo "no longer as stated" >&2; exit 1; }
