#!/usr/bin/env bash
# httpx takes a network in NO_PROXY for a host name, so nothing that is in it is exempt.
#
# Versions:  httpx 0.28.1 (PyPI), Python 3.11 or later
# Expected:  NO_PROXY=10.0.0.0/8 exempts http://10.1.2.3, as curl since 7.86 and Go programs have it. Clusters set
#            such networks for all their pods: those of their Services and pods.
# Seen:      10.1.2.3 is called through the proxy, and nothing is said.
# Output:    10.0.0.0/8 GET http://10.1.2.3/ HTTP/1.1
#            10.1.2.3 called directly
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1

cat >"$folder/ask.py" <<'PYTHON'
"""Call an address that NO_PROXY exempts, and print what a proxy on loopback is asked."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

asked = []


class Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.requestline)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


proxy = HTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
os.environ["HTTP_PROXY"] = f"http://127.0.0.1:{proxy.server_port}"
for no_proxy, url in (
    ("10.0.0.0/8", "http://10.1.2.3/"),
    ("10.1.2.3", "http://10.1.2.3/"),
):
    os.environ["NO_PROXY"] = no_proxy
    asked.clear()
    with contextlib.suppress(httpx.TransportError):  # nobody is there
        httpx.get(url, timeout=1)
    print(no_proxy, *asked or ["called directly"])
PYTHON

unset no_proxy NO_PROXY http_proxy all_proxy ALL_PROXY
seen=$("$folder/venv/bin/python" "$folder/ask.py")
echo "$seen"
expected="10.0.0.0/8 GET http://10.1.2.3/ HTTP/1.1
10.1.2.3 called directly"
[ "$seen" = "$expected" ] || { echo "no longer as stated" >&2; exit 1; }
