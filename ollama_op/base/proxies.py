"""Which proxy an address is called through: the variables of the environment, as Go reads them.

httpx reads them too, but knows no networks in NO_PROXY; so whoever makes a client asks here.

Source: golang.org/x/net/http/httpproxy, and curl(1) for ALL_PROXY and spaces in NO_PROXY.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ollama_op.base.parsing import LAST_PORT, ConfigError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
PROXY_KINDS: Final = ("http", "https")  # of proxies; socks would need a library more
# The API server, as a pod is told of it. It is beside the pod, never behind a proxy.
API_SERVER_HOST, API_SERVER_PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
API_SERVER_NAMES: Final = frozenset(
    f"kubernetes.default{end}" for end in ("", ".svc", ".svc.cluster.local")
)

_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
_DOMAIN: Final = re.compile(r"(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")

Environ = Mapping[str, str]


def proxy_for(url: str, environ: Environ | None = None) -> str | None:
    """Return the address of the proxy that `url` is called through; None for none.

    It may carry credentials: show it by `shown` only.
    """
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    proxy = environ.get(proxy_variable(url, environ), "").strip()
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    if not proxy or _is_near(host, port, environ) or _is_exempt(host, port, environ):
        return None
    return _with_scheme(proxy)


def proxy_variable(url: str, environ: Environ | None = None) -> str:
    """Return the variable that says which proxy `url` is called through, as it is written."""
    environ = os.environ if environ is None else environ
    scheme = urlsplit(url).scheme
    name = f"{scheme}_proxy" if _variable(environ, f"{scheme}_proxy") else "all_proxy"
    return name if name in environ else name.upper()


def check_proxies(environ: Environ | None = None) -> list[str]:
    """Return the entries of NO_PROXY that are not understood, which exempt nothing.

    Raises: ConfigError for a proxy that cannot be used; its message does not repeat the proxy.
    """
    environ = os.environ if environ is None else environ
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        proxy = _variable(environ, name)
        if proxy and not _is_usable(_with_scheme(proxy)):
            raise ConfigError(
                f"the proxy in {name.upper()} cannot be used: it is no http:// or https:// address",
                "unset it, or give an http:// proxy; NO_PROXY names hosts to reach without it",
            )
    return [entry for entry in _entries(environ) if not _is_understood(entry)]


def shown_proxy(proxy: str) -> str:
    """Return a proxy's address without credentials."""
    parts = urlsplit(proxy)
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], "", "", "").geturl()


def _variable(environ: Environ, name: str) -> str:
    """Read a variable; in lower case it wins, as curl has it."""
    return environ.get(name, environ.get(name.upper(), "")).strip()


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_usable(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy)
        return parts.scheme in PROXY_KINDS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_near(host: str, port: int, environ: Environ) -> bool:
    """Return True for this machine, and for the API server of the cluster that this pod is in."""
    if host == "localhost" or host in API_SERVER_NAMES:
        return True
    server = environ.get(API_SERVER_HOST, "").lower()
    if server and (host, str(port)) == (server, environ.get(API_SERVER_PORT) or "443"):
        return True
    address = _address(host)
    return address is not None and (address.ipv4_mapped or address).is_loopback


def _is_exempt(host: str, port: int, environ: Environ) -> bool:
    return any(_matches(entry, host, port) for entry in _entries(environ))


def _entries(environ: Environ) -> list[str]:
    return re.split(r"[,\s]+", _variable(environ, "no_proxy").strip(", \t").lower())


def _matches(entry: str, host: str, port: int) -> bool:
    """Return True if one entry of NO_PROXY covers a host and port."""
    if entry in ("", "*"):
        return entry == "*"
    address = _address(host)
    if (network := _network(entry)) is not None:
        return address is not None and address in network
    entry, wanted_port = _split(entry)
    if wanted_port not in (None, port):
        return False
    if (exact := _address(entry)) is not None:
        return address == exact
    entry = entry.rstrip(".")
    if entry.startswith(("*.", ".")):  # what is below, and not itself
        return host.endswith(entry.removeprefix("*"))
    return host == entry or host.endswith(f".{entry}")


def _is_understood(entry: str) -> bool:
    if entry in ("", "*") or _network(entry) is not None:
        return True
    host, port = _split(entry)
    if port is not None and not 0 < port <= LAST_PORT:
        return False
    is_number = re.fullmatch(r"[0-9.]+", host) is not None
    return _address(host) is not None or (not is_number and bool(_DOMAIN.fullmatch(host)))


def _split(entry: str) -> tuple[str, int | None]:
    """Part an entry into a host and a port."""
    if _address(entry) is None and (match := _PORT.fullmatch(entry)):
        return match["host"], int(match["port"])
    return entry, None


def _network(entry: str) -> "IPv6Network | None":
    """Read an entry as a network, written as IPv6 whatever it is; host bits are ignored."""
    address, slash, bits = entry.partition("/")
    if not slash or not bits.isdigit():
        return None
    try:
        network = ip_network(f"{address}/{bits}", strict=False)
    except ValueError:
        return None
    shift = 96 if network.version == 4 else 0  # noqa: PLR2004 - the number is IP's
    return IPv6Network((int(_mapped(network.network_address)), network.prefixlen + shift))


def _address(text: str) -> IPv6Address | None:
    """Read an address, written as IPv6 whatever it is; None if it is none."""
    try:
        return _mapped(ip_address(text.strip("[]").partition("%")[0]))
    except ValueError:
        return None


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if address.version == 6 else IPv6Address(f"::ffff:{address}")  # noqa: PLR2004 - see above
