"""What the operator shows to a cluster: headers and a TLS context, made from the kubeconfig."""

import base64
import binascii
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx

from ollama_op.base.errors import LoginFailed
from ollama_op.base.pem import load_pair
from ollama_op.kube.access import Access
from ollama_op.kube.kubeconfig import ClusterEntry, UserEntry
from ollama_op.kube.plugin import Given, ask

NO_CREDENTIALS: Final = Given("", "", "", None)
# What the name of a header may have; the rest, and %, is written as %xx.
_IN_HEADER_NAMES: Final = "!#$&'*+-.^_`|~"

HeaderMap = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Identity:
    """What a TLS context is made of. All PEM."""

    authority: bytes = b""  # b"" is the authorities that everybody trusts
    certificate: bytes = b""
    key: bytes = b""
    insecure: bool = False
    server_name: str = ""

    def __repr__(self) -> str:
        return "Identity(…)"


@dataclass(frozen=True, eq=False)
class Credentials:
    """What one login gave. Compared by identity: each login gives others."""

    headers: HeaderMap
    identity: Identity
    tls: ssl.SSLContext
    expires_at: datetime | None = None
    from_files: bool = False  # which somebody may renew at any time

    def __repr__(self) -> str:
        return f"Credentials(expires_at={self.expires_at})"


async def log_in(access: Access, before: Credentials | None) -> Credentials:
    """Read files and ask the plugin. A TLS context that is still right is used again.

    Raises: LoginFailed.
    """
    try:
        given = await ask(access, access.plugin) if access.plugin else NO_CREDENTIALS
        identity = _identity(access.cluster, access.user, given)
        same = before is not None and before.identity == identity
        return Credentials(
            headers=_headers(access, given),
            identity=identity,
            tls=before.tls if before and same else tls_context(identity),
            expires_at=given.expires_at,
            from_files=_reads_files(access.user),
        )
    except _Unusable as error:
        raise LoginFailed(f"{access.who}: {error}") from None
    except OSError as error:
        file = f" {error.filename}" if error.filename else ""
        raise LoginFailed(f"{access.who}: cannot read{file}: {error.strerror}") from None


class _Unusable(Exception):
    """Something in the credentials is not what it should be; the message does not repeat it."""


def _reads_files(user: UserEntry) -> bool:
    return bool(user.token_file or user.client_certificate or user.client_key)


# --- headers


def _headers(access: Access, given: Given) -> HeaderMap:
    user = access.user
    token = (given.token or _token(user)).strip() if access.is_encrypted else ""
    headers = [("Authorization", f"Bearer {token}")] if token else []
    if user.impersonate:
        headers.append(("Impersonate-User", user.impersonate))
        headers += [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
        headers += [("Impersonate-Group", group) for group in user.as_groups]
        for key, values in sorted(user.as_user_extra.items()):
            name = f"Impersonate-Extra-{quote(key.lower(), safe=_IN_HEADER_NAMES)}"
            headers += [(name, value) for value in values]
    return tuple((name.encode(), _printable(name, value)) for name, value in headers)


def _printable(name: str, value: str) -> bytes:
    if not value.isprintable():
        what = "token" if name == "Authorization" else name.removeprefix("Impersonate-").lower()
        raise _Unusable(f"the {what} has a character that cannot be sent in a header")
    return value.encode()


def _token(user: UserEntry) -> str:
    """Read the token; a file that can be read is newer than what stands in the kubeconfig."""
    if user.token_file:
        try:
            return Path(user.token_file).read_text()
        except (OSError, UnicodeError):
            if not user.token:
                raise
    if user.auth_provider and not user.token:
        return user.auth_provider.config.get("id-token", "")
    return user.token


# --- TLS


def _identity(cluster: ClusterEntry, user: UserEntry, given: Given) -> Identity:
    def pem(what: str, file: str, data: str) -> bytes:
        return Path(file).read_bytes() if file else _decoded(what, data)

    return Identity(
        authority=pem(
            "certificate-authority-data",
            cluster.certificate_authority,
            cluster.certificate_authority_data,
        ),
        certificate=given.certificate.encode()
        or pem("client-certificate-data", user.client_certificate, user.client_certificate_data),
        key=given.key.encode() or pem("client-key-data", user.client_key, user.client_key_data),
        insecure=cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
    )


def _decoded(what: str, data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        raise _Unusable(f"{what} is not base64") from None


def tls_context(identity: Identity) -> ssl.SSLContext:
    """Make a TLS context.

    Raises: _Unusable.
    """
    if identity.authority:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=identity.authority.decode())
        except (ssl.SSLError, UnicodeError):
            raise _Unusable("the certificate authority is not PEM") from None
    else:
        context = httpx.create_ssl_context()
    if identity.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity.certificate:
        try:
            load_pair(context, identity.certificate, identity.key)
        except ssl.SSLError:
            raise _Unusable(
                "the client certificate and its key are not PEM, or not of each other"
            ) from None
    return context
