"""Serves the admission webhook: reads what the API server asks, over TLS, and answers it.

What is decided, `admission` knows. The certificate comes from a folder, where for example
cert-manager renews it, or else the operator makes its own (`trust`).
"""

import socket
import ssl
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec
import structlog

from crd.v1alpha1 import UNREADABLE
from ollama_op.admission.asked import AdmissionLog, ObserveReview, asked, nobody
from ollama_op.admission.review import AdmissionRequest, AdmissionResponse, Review, Ruling
from ollama_op.admission.rules import Sharers, judge, mutate
from ollama_op.base.asgi import JSON, Answer, Receive, Scope, Send
from ollama_op.base.parsing import ConfigError
from ollama_op.base.pem import load_pair
from ollama_op.base.serve import serve
from ollama_op.base.settings import Settings
from ollama_op.kube.client import KubeClient, LoggedIn
from ollama_op.kube.cluster import reach

log = structlog.get_logger(__name__)

MAX_REVIEW: Final = 8 << 20  # two versions of an object, of which Kubernetes takes 3 MiB at most
DEADLINE_S: Final = 5.0  # after which the API server has given up
# The API server gives up a connection after 90 s; if we did so first, it could just be sending.
WEBHOOK_KEEP_ALIVE_S: Final = 120
CERT_CHECK_S: Final = 10.0  # between looks at the files
CERTIFICATE, KEY_FILE = "tls.crt", "tls.key"

_review = msgspec.json.Decoder(Review)


class Webhook:
    """An ASGI application: /validate and /mutate.

    `registries` are the hosts that models may come from, none for all; `sharers` counts the others
    who name a model.
    """

    def __init__(
        self,
        *,
        registries: Collection[str] = (),
        sharers: Sharers,
        observe: ObserveReview = nobody,
    ) -> None:
        self._observe = observe
        self._decisions: dict[str, Callable[[AdmissionRequest], AdmissionResponse]] = {
            "/validate": partial(judge, registries=frozenset(registries), sharers=sharers),
            "/mutate": mutate,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with asked(scope, self._observe) as question:
            answer = await self._answer(scope, receive, question)
            if answer is not None:
                question.answered(answer.status)
                await answer(scope, receive, send)

    async def _answer(
        self, scope: Scope, receive: Receive, question: AdmissionLog
    ) -> Answer | None:
        decide = self._decisions.get(scope["path"])
        if decide is None:
            return _told(404, "only /validate and /mutate are here")
        if scope["method"] != "POST":
            return _told(405, "an AdmissionReview is sent with POST").having((b"allow", b"POST"))
        with anyio.move_on_after(DEADLINE_S) as deadline:
            body = await _read(receive)
        if deadline.cancelled_caught:
            return _told(408, f"the body did not come within {DEADLINE_S:g} s")
        if body is None:
            return None  # whoever asked has gone
        if len(body) > MAX_REVIEW:
            return _told(413, f"a body has {MAX_REVIEW >> 20} MiB at most")
        try:
            request = _review.decode(body).request
            response = decide(request)
        except UNREADABLE:
            return _told(400, "the body is no AdmissionReview of admission.k8s.io/v1")
        question.decided(request, response)
        return Answer(200, msgspec.json.encode(Ruling(response)), [JSON])


class Certificate:
    """What is served with, and can be another from one connection to the next."""

    def __init__(self) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.loaded = anyio.Event()
        self.expires_at: datetime | None = None  # of what is served with
        self._current: tuple[bytes, bytes] | None = None

    def install(self, certificate: bytes, key: bytes) -> None:
        """Serve with another certificate from now on; the old one stays if this is none.

        Raises: ConfigError if certificate and key are none, or not of each other.
        """
        if self._current == (certificate, key):
            return
        try:
            # OpenSSL would forget the old key before it finds fault with the new one.
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        except ssl.SSLError as error:
            raise ConfigError(
                f"certificate and key cannot be used: {error.reason or 'they are no PEM'}",
                f"{CERTIFICATE} and {KEY_FILE} have to be PEM, and belong to each other",
            ) from None
        load_pair(self.context, certificate, key)
        from ollama_op.admission.certificates import end_of  # noqa: PLC0415 - where there is one

        self._current, self.expires_at = (certificate, key), end_of(certificate)
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            log.warning("webhook certificate has expired", expired_at=self.expires_at.isoformat())
        self.loaded.set()

    def install_from(self, folder: Path) -> None:
        """Serve with what is in a folder.

        Raises: ConfigError.
        """
        try:
            self.install(*((folder / name).read_bytes() for name in (CERTIFICATE, KEY_FILE)))
        except OSError as error:
            raise ConfigError(
                f"the certificate in {folder} cannot be read: {error.strerror}",
                f"put {CERTIFICATE} and {KEY_FILE} there, or go without --webhook-cert-dir",
            ) from None

    async def follow(self, folder: Path) -> None:
        """Install what is in a folder, for ever, when it changes."""
        problem = ""
        while True:
            await anyio.sleep(CERT_CHECK_S)
            before = self._current
            try:
                self.install_from(folder)
            except ConfigError as error:
                # Once: halfway through a change the two may not belong to each other.
                if str(error) != problem:
                    log.warning("webhook certificate not renewed, will retry", problem=str(error))
                problem = str(error)
                continue
            problem = ""
            if self._current != before:
                log.info("webhook certificate renewed", folder=str(folder))


async def serve_webhook(
    settings: Settings,
    sock: socket.socket,
    certificate: Certificate,
    *,
    login: LoggedIn,
    sharers: Sharers,
    ready: Callable[[], None],
    observe: ObserveReview | None = None,
) -> None:
    """Serve until cancelled; `ready` is called once there is a certificate to serve with."""
    wanted = settings.webhook
    registries = wanted.allowed_registries
    webhook = Webhook(registries=registries, sharers=sharers, observe=observe or nobody)
    async with anyio.create_task_group() as tasks:
        if wanted.cert_dir is not None:
            tasks.start_soon(certificate.follow, wanted.cert_dir)
        else:
            tasks.start_soon(_keep_own, login, settings, certificate)
        await certificate.loaded.wait()
        ready()
        log.info("serving webhook", address=str(wanted.bind_address))
        await serve(webhook, sock, tls=certificate.context, keep_alive_s=WEBHOOK_KEEP_ALIVE_S)


async def _keep_own(login: LoggedIn, settings: Settings, certificate: Certificate) -> None:
    from ollama_op.admission.trust import CertRotator  # noqa: PLC0415 - others go without

    api = KubeClient(login, "webhook")
    await reach(api, quietly=True)  # the operator waits too, and says so
    await CertRotator(api, settings.webhook.named_service(), certificate.install).run()


async def _read(receive: Receive) -> bytes | None:
    """Read a body, or the beginning of one that is too long; None if it never ends."""
    parts, size, more = [], 0, True
    while more and size <= MAX_REVIEW:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
    return b"".join(parts)


def _told(status: int, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode(), [(b"content-type", b"text/plain")])
