"""How an Ollama server is reached: by which proxy, trusting which CAs, with which headers.

CAs and headers are in files, which Kubernetes mounts from a ConfigMap or a Secret. Each request
looks whether they have changed. One that cannot be used any more changes nothing, and is logged.
"""

import re
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import structlog

from ollama_op.base.parsing import ConfigError, UsageError
from ollama_op.base.pool import Pool
from ollama_op.base.proxies import proxy_for, shown_proxy
from ollama_op.base.trouble import CA_FILE, blaming_dns
from ollama_op.ollama.failures import TRUSTING, VIA

log = structlog.get_logger(__name__)

T = TypeVar("T")
FileHeaders = tuple[tuple[bytes, bytes], ...]

HEADER_FILE: Final = "--ollama-header-file"
MAX_FILE_BYTES: Final = 1 << 20  # of either file
# What HTTP itself and this operator say in headers.
OURS: Final = frozenset(
    {"connection", "content-length", "content-type", "traceparent", "transfer-encoding"}
)
_HEADER: Final = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[ -~\t]*)")


class OllamaTransport(httpx.AsyncBaseTransport):
    """Connections to the Ollama server at `url`.

    Raises: ConfigError for a file that cannot be used; UsageError.
    """

    def __init__(
        self, url: str, *, ca_file: Path | None = None, header_file: Path | None = None
    ) -> None:
        is_plain = urlsplit(url).scheme == "http"
        if ca_file and is_plain:
            raise UsageError(
                f"{CA_FILE} is given, but --ollama-api-url is without TLS",
                "write https:// in --ollama-api-url",
            )
        self._proxy, self._ca_file = proxy_for(url), ca_file
        near = urlsplit(self._proxy or url)
        self._near = near.hostname or "", near.port or 0  # where connections really go
        self._headers = _Followed(header_file, parse_headers, HEADER_FILE)
        self._trust = _Followed(ca_file, trust, CA_FILE)
        self._trusted = self._trust.current()
        self._pool = self._new_pool()
        if header_file and is_plain:
            log.warning("headers of --ollama-header-file are sent without TLS", server=url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request with the headers of now, trusting the CAs of now."""
        if self._ca_file:
            request.extensions = {**request.extensions, TRUSTING: str(self._ca_file)}
        if self._proxy:
            request.extensions = {**request.extensions, VIA: shown_proxy(self._proxy)}
        # A copy: whoever shows a request, or an error with one, shows none of these headers.
        sent = httpx.Request(
            request.method,
            request.url,
            headers=_with(self._headers.current() or (), request.headers.raw),
            stream=request.stream,
            extensions=request.extensions,
        )
        pool = await self._current()
        async with blaming_dns(*self._near):
            return await pool.send(sent)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.retire()

    async def _current(self) -> Pool:
        trusted = self._trust.current()
        if trusted is not self._trusted:
            self._trusted = trusted
            old, self._pool = self._pool, self._new_pool()
            await old.retire()
        return self._pool

    def _new_pool(self) -> Pool:
        # Pulls are few but long, so nothing waits for a place.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        return Pool(self._trusted or _usual_trust(), self._proxy, limits=limits)


class _Followed(Generic[T]):
    """What a file says; read again when it changes. Without a file that is None.

    The file is told by its inode as well as its time: Kubernetes swaps a link when a Secret moves.

    Raises: ConfigError if it cannot be used at the start.
    """

    def __init__(self, path: Path | None, parse: Callable[[bytes], T], flag: str) -> None:
        self._path, self._parse, self._flag = path, parse, flag
        self._mark, self._value = self._look(), self._read()

    def current(self) -> T | None:
        """Return what the file says, or last said while it could be used."""
        if (mark := self._look()) == self._mark:
            return self._value
        self._mark = mark
        try:
            self._value = self._read()
        except ConfigError as error:
            log.error("file cannot be used, keeping what it said", problem=str(error))  # noqa: TRY400 - the problem is said, no stack
        else:
            log.info("file read again", flag=self._flag, path=str(self._path))
        return self._value

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self) -> T | None:
        if self._path is None:
            return None
        hint = f"see what is mounted there, or go without {self._flag}"
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                raise ValueError("it has more than 1 MiB")  # noqa: TRY301 - told as the others are
            return self._parse(content)
        except OSError as error:
            problem = error.strerror or "it cannot be read"
        except ValueError as error:  # of `parse`: without what the file says
            problem = str(error)
        raise ConfigError(f"{self._flag} {self._path} cannot be used: {problem}", hint)


def _with(ours: FileHeaders, usual: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Put headers of the file in place of those of the same name: `Host` may be there only once."""
    names = {name.lower() for name, _ in ours}
    return [*(each for each in usual if each[0].lower() not in names), *ours]


def parse_headers(content: bytes) -> FileHeaders:
    """Read lines `Name: value`.

    Raises: ValueError, which repeats none of it.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    found: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.lstrip().startswith("#"):
            raise ValueError(f"line {number} begins with #, and a line `Name: value` never does")
        if not line.isascii():
            raise ValueError(
                f"line {number} has a character outside ASCII, which no header can have"
            )
        match = _HEADER.fullmatch(line.rstrip())
        if match is None or not match["value"]:
            raise ValueError(f"line {number} is not of the form `Name: value`")
        if match["name"].lower() in OURS:
            raise ValueError(f"line {number} names a header that the operator sets itself")
        found.append((match["name"].encode(), match["value"].encode()))
    if not found:
        raise ValueError("it has no line `Name: value`")
    return tuple(found)


def trust(content: bytes) -> ssl.SSLContext:
    """Trust the certificates of a PEM file, and no others.

    Raises: ValueError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # An intermediate CA, or a server's own certificate, may be all that there is.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):  # UnicodeDecodeError is one
        raise ValueError("it holds no certificates in PEM") from None
    if not context.cert_store_stats()["x509"]:
        raise ValueError("it holds no certificates in PEM")
    return context


def _usual_trust() -> ssl.SSLContext:
    """Trust what httpx does: SSL_CERT_FILE, SSL_CERT_DIR or the CAs of certifi.

    Raises: ConfigError.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"the CAs in SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error.strerror}",
            "see where they lead, or unset them",
        ) from None
