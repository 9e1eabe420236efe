#!/usr/bin/env bash
# uvicorn, on a socket for both IPv6 and IPv4, believes no proxy that is trusted by its IPv4 address.
#
# Versions:  uvicorn 0.54.0 (PyPI), Python 3.11 or later
# Expected:  forwarded_allow_ips="127.0.0.1" believes X-Forwarded-For of a proxy at 127.0.0.1, on whatever socket.
# Seen:      on a dual-stack socket, as systemd hands one over and socket.create_server(dualstack_ipv6=True) makes,
#            the client is `::ffff:127.0.0.1`, which is not in the list; the header is ignored, and nothing is said.
# Output:    IPv4: 192.0.2.7
#            dual-stack: ::ffff:127.0.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0

cat >"$folder/ask.py" <<'PYTHON'
"""Ask, as a proxy at 127.0.0.1, two servers which client they see."""

import asyncio
import http.client
import socket

import uvicorn


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})


def ask(port):
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    asked.request("GET", "/", headers={"X-Forwarded-For": "192.0.2.7"})
    return asked.getresponse().read().decode()


async def serve(name, sock):
    config = uvicorn.Config(app, lifespan="off", log_config=None, forwarded_allow_ips="127.0.0.1")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    print(f"{name}:", await asyncio.to_thread(ask, sock.getsockname()[1]))
    server.should_exit = True
    await task


async def main():
    await serve("IPv4", socket.create_server(("127.0.0.1", 0)))
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await serve("dual-stack", both)


asyncio.run(main())
PYTHON

seen=$("$folder/venv/bin/python" "$folder/ask.py")
echo "$seen"
expected="IPv4: 192.0.2.7
dual-stack: ::ffff:127.0.0.1"
[ "$seen" = "$expected" ] || { echo "no longer as stated" >&2; exit 1; }
