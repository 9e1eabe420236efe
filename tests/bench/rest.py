"""What watching costs: 200 clients of one event stream, and some that never read.

The operator runs as a process, on a real etcd and kube-apiserver; each change is a PATCH through
the API. Prints what the operator used, and how long a change took to reach all who read.
"""

import asyncio
import json
import re
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import yaml

from crd import render
from support.kube.controlplane import controlplane
from support.process.child import free_port
from support.process.operator import Operator

KEY = "bench"
CLIENTS, STUCK, CHANGES, MODELS = 200, 5, 300, 300
EVENTS = -1  # where a reader counts all events
CHANGE = re.compile(rb'"timeout":"([0-9]+)s"')
HEAD = f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()


def main() -> int:
    """Measure; return 0 if every reader was told of every change."""
    port = free_port()
    with controlplane() as plane:
        plane.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump(render.crd()))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
        flags = ["--enable-api-server", f"--api-server-bind-address=127.0.0.1:{port}"]
        flags += [f"--api-server-key={KEY}"]
        with Operator(plane.kubeconfig, "http://127.0.0.1:9", *flags) as operator:
            result = asyncio.run(_measure(f"http://127.0.0.1:{port}", operator))
            result["errors logged"] = len(operator.bugs())
    print(json.dumps(result, indent=1))  # noqa: T201 - it is what it is for
    return 0 if result["told"] == CLIENTS and not result["errors logged"] else 1


async def _measure(url: str, operator: Operator) -> dict[str, float]:
    headers = {"x-api-key": KEY}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        await _until_up(client)
        for n in range(MODELS):
            body = {"name": f"m{n}", "tag": "1", "suspend": True}
            (await client.post("/api/v1/models", json=body)).raise_for_status()
        before = _used(operator)
        stuck = [_stuck(url) for _ in range(STUCK)]
        arrivals: list[dict[int, float]] = [{} for _ in range(CLIENTS)]
        readers = [asyncio.create_task(_read(url, seen)) for seen in arrivals]
        await asyncio.sleep(3)
        idle = _used(operator)
        sent = []
        for n in range(CHANGES):
            sent.append(time.monotonic())
            change = {"timeout": f"{n + 1}s"}
            (await client.patch("/api/v1/models/m7-1", json=change)).raise_for_status()
        await asyncio.sleep(3)
        after = _used(operator)
        for reader in readers:
            reader.cancel()
        for sock in stuck:
            sock.close()
    told = sum(len(seen) > CHANGES for seen in arrivals)  # and how many events there were
    last = [max(seen[n + 1] for seen in arrivals) - sent[n] for n in range(CHANGES)]
    events = sum(seen[EVENTS] for seen in arrivals)
    return {
        "clients": CLIENTS,
        "told": told,
        "changes": CHANGES,
        "changes a second": round(CHANGES / (sent[-1] - sent[0]), 1),
        "ms until all were told, median": round(statistics.median(last) * 1000, 1),
        "events a client": round(events / CLIENTS, 1),
        "operator CPU us per event and client, all its work": round(
            (after[0] - idle[0]) / events * 1e6, 1
        ),
        "operator RSS MiB before, idle clients, after": (before[1], idle[1], after[1]),
    }


async def _until_up(client: httpx.AsyncClient) -> None:
    for _ in range(300):
        try:
            if (await client.get("/readiness")).is_success:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.1)
    raise TimeoutError("the REST API does not come up")


async def _read(url: str, seen: dict[int, float]) -> None:
    """Note when each change was first told."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    writer.write(HEAD)
    async for line in reader:
        seen[EVENTS] = seen.get(EVENTS, 0) + line.startswith(b"event: model")
        if line.startswith(b"data: {") and (match := CHANGE.search(line)):
            seen.setdefault(int(match[1]), time.monotonic())


def _stuck(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, int(port)))
    sock.sendall(HEAD)
    return sock


def _used(operator: Operator) -> tuple[float, int]:
    """Return seconds of CPU and MiB of memory."""
    process = Path(f"/proc/{operator.pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    pages = int((process / "statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / 100, pages * 4096 >> 20


if __name__ == "__main__":
    sys.exit(main())
