"""The connections to one cluster."""

from dataclasses import dataclass
from itertools import count
from typing import Final

import anyio
import structlog

from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import KubeError, LoginFailed
from ollama_op.kube.client import KubeClient, LoggedIn

log = structlog.get_logger(__name__)

CONNECT_RETRY: Final = Backoff(first_s=1, longest_s=30)  # between tries to reach the cluster


@dataclass(frozen=True)
class Cluster:
    """Connections to the Kubernetes API, so that trouble with one leaves the others alone."""

    writes: KubeClient
    watch: KubeClient
    events: KubeClient
    rest: KubeClient | None = None  # for what clients of the REST API write and ask
    lease: KubeClient | None = None  # for the election of a leader


async def connect(login: LoggedIn, *, rest: bool = False, lease: bool = False) -> Cluster:
    """Connect to the cluster, waiting for it as long as it takes."""
    uses = ["writes", "watch", "events", *["rest"] * rest, *["lease"] * lease]
    cluster = Cluster(**{use: KubeClient(login, use) for use in uses})
    await reach(cluster.writes)
    return cluster


async def reach(api: KubeClient, *, quietly: bool = False) -> None:
    """Wait until the cluster answers, as long as it takes."""
    say = log.debug if quietly else log.warning
    for wait_s in map(CONNECT_RETRY.after, count(1)):
        try:
            await api.version()
        except KubeError as error:
            if not isinstance(error, LoginFailed):  # a login tells of itself
                problem = str(error)
                say("cluster not reached, will retry", problem=problem, retry_in_s=wait_s)
        else:
            return
        await anyio.sleep(wait_s)
