"""What a reverse proxy says about a request, if it is one that is trusted."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ollama_op.base.asgi import PREFIX, App

LONGEST_PREFIX: Final = 256
MAPPED: Final = "::ffff:"  # IPv4 in IPv6
_HEADER: Final = b"x-forwarded-prefix"
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def forwarded(app: App, trusted: Sequence[str]) -> App:
    """Wrap an application: it sees clients, and the path it is below, as trusted proxies say.

    `trusted` are addresses or networks. IPv4 clients of a socket for both IPv6 and IPv4 are shown
    by their own address.
    """
    networks = [ip_network(each) for each in trusted]
    wrapped: Any = app  # uvicorn's types are narrower than ASGI's
    inner = ProxyHeadersMiddleware(wrapped, list(trusted)) if trusted else wrapped

    async def serve_forwarded(scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if client and client[0].startswith(MAPPED):
            client = scope["client"] = (client[0].removeprefix(MAPPED), client[1])
        if networks and client and _is_in(client[0], networks):
            scope[PREFIX] = prefix([value for name, value in scope["headers"] if name == _HEADER])
        await inner(scope, receive, send)

    return serve_forwarded


def prefix(values: Sequence[bytes]) -> str:
    """Return the path that is meant; of several proxies each adds its own. Nonsense is none.

    It becomes a part of links: nothing that leads elsewhere, such as `//host`, passes.
    """
    parts = b",".join(values).decode("latin-1").split(",")
    path = "".join(part.strip().rstrip("/") for part in parts)
    return path if _PATH.fullmatch(path) and len(path) <= LONGEST_PREFIX else ""


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
