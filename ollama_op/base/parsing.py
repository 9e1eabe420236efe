"""Reads the values of settings as they are written: addresses, durations, names, URLs.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

import errno
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from crd.durations import InvalidDurationError, parse_seconds
from crd.switches import read_switch

OFF = "0"  # instead of an address, as Kubernetes' own components have it
LAST_PORT = 65535
OLLAMA_PATHS = ("api", "v1")  # of Ollama itself, so no server has them before these
LONGEST_NAME = 253
FIRST_PRINTABLE = 0x20  # characters before it are for control
_ADDRESS = re.compile(r"(?P<host>[^\s/]*):(?P<port>[0-9]{1,5})")
_TRACE_URL = re.compile(r"https?://[^\s<>\"{}/@]+(/[^\s<>\"{}]*)?")
# A port, where nothing before or behind it can be part of a password.
_PORT = re.compile(r"https?://(\[[^\]/@]*\]|[^:/?#@\[]*):(?P<port>[0-9]{1,20})(/[^@]*)?")
_ORIGIN = re.compile(r"https?://[^/\s]+")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NO_TIME = re.compile(r"0+(ms|s|m|h|d|w)?")
_PRINTABLE = re.compile(r"[!-~]+")
_SERVICE = re.compile(
    r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
)
_REGISTRY = re.compile(r"[a-z0-9_][a-z0-9_.:-]*")


class ConfigError(ValueError):
    """An invalid value. The message says what is wrong; `hint`, what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(ConfigError):
    """A mistake on the command line: a value, or values that are invalid together."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host means every address, port 0 any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """Read `host:port` or `:port`; None for `0`, which means not to listen at all.

        Raises: ConfigError.
        """
        if text == OFF:
            return None
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > LAST_PORT:
            port = text if text.isascii() and text.isdigit() and int(text) <= LAST_PORT else "8081"
            hint = f"write :{port}, 127.0.0.1:{port}, or 0 for off"
            raise ConfigError(f"{text!r} is no address", hint)
        return cls(match["host"].strip("[]"), int(match["port"]))

    def bind(self) -> socket.socket:
        """Listen; without a host, or on `::`, for IPv6 and IPv4, as Go does.

        Raises: OSError.
        """
        if self.host in ("", "::"):
            return self._bind_everywhere()
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a name that is none, as `a..b`
            raise socket.gaierror(socket.EAI_NONAME, "no such host") from None
        family, *_, place = min(found, key=lambda each: each[0] != socket.AF_INET)
        return socket.create_server(place[:2], family=family)

    def _bind_everywhere(self) -> socket.socket:
        place = (self.host, self.port)
        try:
            return socket.create_server(place, family=socket.AF_INET6, dualstack_ipv6=True)
        # ValueError: no socket for both. A port that is taken is taken in IPv4, too.
        except (OSError, ValueError) as error:
            if self.host or getattr(error, "errno", None) == errno.EADDRINUSE:
                raise
        return socket.create_server(place)

    def is_loopback(self) -> bool:
        """Return True if only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_switch(text: str) -> bool:
    """Read a boolean, in any of Go's spellings and a few more.

    Raises: ConfigError.
    """
    said = read_switch(text)
    if said is None:
        raise ConfigError(f"{text!r} is neither true nor false", "write true or false")
    return said


def parse_list(text: str) -> tuple[str, ...]:
    """Read texts that are separated by commas."""
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def parse_origins(text: str) -> tuple[str, ...]:
    """Read the origins that browsers may come from.

    Raises: ConfigError.
    """
    origins = parse_list(text)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigError(f"{origin!r} is no origin", "write https://models.example, or *")
    return origins


def parse_networks(text: str) -> tuple[str, ...]:
    """Read addresses or networks.

    Raises: ConfigError.
    """
    networks = parse_list(text)
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise ConfigError(
                f"{network!r} is no address", "write 10.0.0.7 or 10.0.0.0/8"
            ) from None
    return networks


def parse_registries(text: str) -> tuple[str, ...]:
    """Read the hosts of registries, in lower case.

    Raises: ConfigError.
    """
    registries = parse_list(text.lower())
    for registry in registries:
        if not _REGISTRY.fullmatch(registry):
            raise ConfigError(f"{registry!r} is no registry", "write registry.ollama.ai,hf.co")
    return registries


def parse_duration(text: str) -> float:
    """Read a duration as Go writes it, `90s` or `1h30m`, into seconds.

    Raises: ConfigError.
    """
    try:
        return parse_seconds(text)
    except InvalidDurationError as error:
        what, _, hint = str(error).partition("; ")
        raise ConfigError(what, hint) from None


def parse_duration_or_off(text: str) -> float:
    """Read a duration likewise; 0, with a unit or without, is none at all.

    Raises: ConfigError.
    """
    return 0 if _NO_TIME.fullmatch(text) else parse_duration(text)


def parse_url(text: str) -> str:
    """Check the address of an Ollama server; an `http://` that is missing is put before it.

    Raises: ConfigError. Its message never repeats what could be a password.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url if _PRINTABLE.fullmatch(url) else "")
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if not port_is_fine and (match := _PORT.fullmatch(url)):
        raise ConfigError(
            f"port {match['port']} is not between 1 and {LAST_PORT}", "write http://ollama:11434"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ConfigError(
            "the Ollama URL is no http:// or https:// address", "write http://ollama:11434"
        )
    if parts.query or parts.fragment:
        raise ConfigError("the Ollama URL has a query or a fragment", "write http://ollama:11434")
    if parts.username or parts.password:
        raise ConfigError(
            "the Ollama URL carries credentials, which would end up in process lists and manifests",
            "put a proxy that adds them before Ollama, and give the proxy's address here",
        )
    base, _, last = url.rstrip("/").rpartition("/")
    if last in OLLAMA_PATHS and not base.endswith("/"):
        raise ConfigError(
            f"the Ollama URL ends with /{last}, which the operator adds by itself"
            if last == "api"
            else f"the Ollama URL ends with /{last}, which is for other programs",
            f"leave /{last} off",
        )
    return url.rstrip("/")


def parse_trace_url(text: str) -> str:
    """Read the address of a trace, with `{trace_id}` in the place of its id.

    Raises: ConfigError.
    """
    plain = text.replace("{trace_id}", "")
    if text and (plain == text or not _TRACE_URL.fullmatch(plain)):
        raise ConfigError(
            "that is no address of a trace", "write https://jaeger.example/trace/{trace_id}"
        )
    return text


def parse_key(text: str) -> str:
    """Read a key without the line feed at its end, with which files end and no header can.

    Raises: ConfigError. Its message never repeats the key.
    """
    key = text.rstrip("\r\n")
    if text and not key.strip():
        raise ConfigError("the key is empty", "write one, for example from `openssl rand -hex 32`")
    if any(ord(char) < FIRST_PRINTABLE for char in key):
        raise ConfigError(
            "the key has a line feed or another control character in it, which no header can have",
            "write a key of one line",
        )
    return key


def parse_namespace(text: str) -> str:
    """Check the name of a namespace, which is one DNS label.

    Raises: ConfigError.
    """
    if not _NAMESPACE.fullmatch(text):
        raise ConfigError(
            f"{text!r} cannot be a namespace", "write one name of a-z, 0-9 and -, as in my-team"
        )
    return text


def parse_name(text: str) -> str:
    """Check the name of an object of Kubernetes.

    Raises: ConfigError.
    """
    if not _NAME.fullmatch(text) or len(text) > LONGEST_NAME:
        raise ConfigError(f"{text!r} cannot be a name", "write a-z, 0-9, - and . as in ollama-op")
    return text


@dataclass(frozen=True, slots=True)
class Service:
    """The Kubernetes Service at which something of ours is found."""

    name: str
    namespace: str

    @classmethod
    def parse(cls, text: str) -> "Service":
        """Read `name.namespace`.

        Raises: ConfigError.
        """
        match = _SERVICE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is no Service", "write ollama-op-webhook.my-namespace")
        return cls(*match.groups())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its names in DNS; and this machine's own, for an operator outside the cluster."""
        base = f"{self.name}.{self.namespace}"
        return (f"{base}.svc", f"{base}.svc.cluster.local", base, "localhost", "127.0.0.1")
