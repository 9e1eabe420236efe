"""How fast the operator is, on a real etcd and kube-apiserver and a scripted Ollama.

Each race has limits that it must keep on two cores; the command fails where one is broken.
`race.py NAME ...` runs some of them only.
"""

import argparse
import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.from_thread

sys.path.insert(0, str(Path(__file__).parents[1]))

from crd import render
from crd.v1alpha1 import API_VERSION, GROUP, KIND, PLURAL
from ollama_op.base.serve import serve
from ollama_op.sandbox.ollama.server import OllamaSandbox
from support.kube.controlplane import ControlPlane, controlplane
from support.process.operator import Operator

MODEL_BYTES = 1_000_000
PATH = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}"
GIVE_UP_S = 300


@dataclass(frozen=True)
class Race:
    """`models` objects of `pull_s` seconds each; `present` ones are on the server already."""

    models: int
    pull_s: float
    present: bool
    limit_s: float  # to all Ready
    writes: float  # per model, at the most


RACES = {
    "pulls": Race(20, 2.0, present=False, limit_s=11.5, writes=4),
    "many": Race(500, 0.05, present=False, limit_s=15, writes=4),
    "present": Race(1000, 0.05, present=True, limit_s=12, writes=2),
}


def main() -> int:
    """Run the races; return 0 if all limits were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*RACES, []], help="which; all by default")
    names = parser.parse_args().names or list(RACES)
    return sum([not run(name, RACES[name]) for name in names])


def run(name: str, race: Race) -> bool:
    """Run one race and print what was seen; tell whether its limits were kept."""
    with scripted_ollama(race) as (ollama, url), controlplane() as cluster:
        _install_crd(cluster)
        if race.present:
            _apply(cluster, race.models)
        began = time.monotonic()
        with Operator(
            cluster.kubeconfig, url, "--log-level=warning", "--health-interval=60s"
        ) as operator:
            if not race.present:
                began = time.monotonic()
                _apply(cluster, race.models)
            ready_s = _all_ready(cluster, race.models) - began
            pid = operator.pid or 0
            seen = {
                "race": name,
                "models": race.models,
                "ready_s": round(ready_s, 1),
                "limit_s": race.limit_s,
                "writes_per_model": _writes(cluster) / race.models,
                "ollama_calls": dict(ollama.calls),
                "most_pulls_at_once": ollama.downloads.most,
                "rss_mib": _rss_mib(pid),
                "cpu_s": _cpu_s(pid),
                "delete_all_s": round(_delete_all(cluster), 1),
            }
    kept = ready_s <= race.limit_s and seen["writes_per_model"] <= race.writes
    print(json.dumps(seen | {"kept": kept}), flush=True)  # noqa: T201 - what a benchmark is for
    return kept


@contextmanager
def scripted_ollama(race: Race) -> Generator[tuple[OllamaSandbox, str]]:
    """Serve an Ollama whose pulls take as long as the race says."""
    speed = MODEL_BYTES / race.pull_s
    ollama = OllamaSandbox(bytes_per_second=speed, tick_s=min(0.06, race.pull_s))
    for i in range(race.models):
        ollama.publish(f"bench{i}:latest", MODEL_BYTES)
        if race.present:
            ollama.preload(f"bench{i}:latest")
    sock = socket.create_server(("127.0.0.1", 0))
    with anyio.from_thread.start_blocking_portal() as portal:
        task, _ = portal.start_task(serve, ollama, sock)
        yield ollama, f"http://127.0.0.1:{sock.getsockname()[1]}"
        task.cancel()


def _install_crd(cluster: ControlPlane) -> None:
    cluster.kubectl("apply", "--server-side", "-f", str(render.PATH))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}")
    for _ in range(100):
        if cluster.client.get(PATH).is_success:
            return
        time.sleep(0.1)


def _apply(cluster: ControlPlane, models: int) -> None:
    def create(i: int) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": f"bench{i}"},
            "spec": {"name": f"bench{i}", "tag": "latest"},
        }
        cluster.client.post(PATH, json=body).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(models)))


def _all_ready(cluster: ControlPlane, models: int) -> float:
    """Wait until all are Ready; return when that was seen."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        body = cluster.client.get(PATH).text
        if body.count('"state":"Ready"') >= models:
            return time.monotonic()
        time.sleep(0.1 if models <= 200 else 1)
    raise SystemExit(f"not all Ready after {GIVE_UP_S} s")


def _delete_all(cluster: ControlPlane) -> float:
    began = time.monotonic()
    cluster.client.delete(PATH).raise_for_status()
    while cluster.get(PATH)["items"] and time.monotonic() - began < GIVE_UP_S:
        time.sleep(0.1)
    return time.monotonic() - began


def _writes(cluster: ControlPlane) -> int:
    """Count the patches of OllamaModels that the API server has answered."""
    count: Counter[str] = Counter()
    for line in cluster.client.get("/metrics").text.splitlines():
        if line.startswith("apiserver_request_total{") and f'resource="{PLURAL}"' in line:
            verb = re.search(r'verb="(\w+)"', line)
            count[verb[1] if verb else ""] += int(float(line.rsplit(" ", 1)[1]))
    return count["PATCH"]


def _rss_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
