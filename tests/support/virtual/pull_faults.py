"""What Ollama prints when a pull or a load fails, and what the operator makes of it.

The texts are those of Ollama's source (server/images.go, server/download.go, x/transfer) and of
public bug reports. Each is about the model `hf.co/org/m:q4`, unless `model` says otherwise.
"""

from dataclasses import dataclass
from typing import Final

from crd.names import ModelName
from crd.reasons import Reason
from ollama_op.base.errors import OllamaError
from ollama_op.ollama.pull_errors import load_failed, pull_failed

MANIFEST: Final = "pull model manifest: "
MODEL: Final = "hf.co/org/m:q4"
BLOB: Final = "https://hf.co/v2/org/m/blobs/sha256:" + "4013" * 16
FILE: Final = "/models/blobs/sha256-" + "a403" * 16 + "-partial"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One text, and what follows from it."""

    id: str
    text: str
    reason: Reason
    stalled: bool = False  # at the first time
    says: tuple[str, ...] = ()  # what the message has
    hides: tuple[str, ...] = ()  # what it has not
    wait_s: int = 1  # until the next try, at the least
    model: str = MODEL
    is_load: bool = False  # said of a load, not of a pull

    def error(self) -> OllamaError:
        """Return what the client makes of it."""
        read = load_failed if self.is_load else pull_failed
        return read(self.text, ModelName.parse(self.model))


def _refused(id_: str, answer: str, *says: str) -> Fault:
    return Fault(
        id=id_,
        text=MANIFEST + answer,
        reason=Reason.REGISTRY_REFUSED,
        stalled=True,
        says=says,
        hides=('{"', "errors"),
    )


def _unavailable(
    id_: str, text: str, *says: str, wait_s: int = 1, hides: tuple[str, ...] = ()
) -> Fault:
    reason = Reason.REGISTRY_UNAVAILABLE
    return Fault(id=id_, text=text, reason=reason, says=says, wait_s=wait_s, hides=hides)


def _denied(id_: str, text: str, *says: str) -> Fault:
    reason = Reason.AUTHENTICATION_FAILED
    return Fault(id=id_, text=text, reason=reason, says=("denies access", *says), wait_s=60)


def _disk(id_: str, text: str, *says: str) -> Fault:
    return Fault(id=id_, text=text, reason=Reason.STORAGE_FAILED, says=says, wait_s=300)


FAULTS: Final = (
    # --- the registry's verdict about this model
    Fault(
        id="unknown",
        text=MANIFEST + "file does not exist",
        reason=Reason.MODEL_UNKNOWN,
        stalled=True,
        says=(f"The registry has no {MODEL}.", "Correct spec.name or spec.tag"),
        hides=("OCI",),
    ),
    Fault(
        id="unknown, in a registry of one's own",
        text=MANIFEST + "file does not exist",
        reason=Reason.MODEL_UNKNOWN,
        stalled=True,
        says=("The registry has no ai.example/org/m:q4.", "OCI"),
        model="ai.example/org/m:q4",
    ),
    Fault(
        id="404 with words",
        text=MANIFEST + '404: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"no tag q4"}]}',
        reason=Reason.MODEL_UNKNOWN,
        stalled=True,
        says=("The registry has no", "no tag q4"),
    ),
    Fault(
        id="410",
        text=MANIFEST + '410: {"error":"This repository was removed"}',
        reason=Reason.MODEL_UNKNOWN,
        stalled=True,
        says=("This repository was removed",),
    ),
    Fault(
        id="unknown, by Ollama's other client",
        text=f'model "{MODEL}" not found',
        reason=Reason.MODEL_UNKNOWN,
        stalled=True,
    ),
    _refused(
        "sharded GGUF",
        '400: {"error":"The specified repository contains sharded GGUF. Ollama does not support'
        ' this yet."}',
        "HTTP 400: The specified repository contains sharded GGUF.",
        "request a refresh",
    ),
    _refused(
        "no such quantisation",
        '400: {"error":"The specified tag is not available in the repository. Please use another'
        ' tag or \\"latest\\""}',
        'Please use another tag or "latest"',
    ),
    _refused(
        "no GGUF",
        '400: {"error":"Repository is not GGUF or is not compatible with llama.cpp"}',
        "Repository is not GGUF",
    ),
    _refused(
        "plain words", "400: The specified GGUF file is not here.", "The specified GGUF file is not"
    ),
    _refused("no words", "400: ", "HTTP 400: Bad Request"),
    _refused(
        "405",
        '405: {"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}\n',
        "HTTP 405: The operation is unsupported",
    ),
    _refused(
        "451",
        '451: {"error":"Unavailable For Legal Reasons"}',
        "HTTP 451: Unavailable For Legal Reasons",
    ),
    _refused(
        "two messages",
        '400: {"errors":[{"message":"first thing"},{"message":"second thing"}]}',
        "first thing; second thing",
    ),
    # --- no access
    _denied("401", MANIFEST + '401: {"error":"Invalid username or password."}', "Invalid username"),
    _denied(
        "403",
        MANIFEST + '403: {"errors":[{"code":"DENIED","message":"requested access is denied"}]}',
        "HTTP 403: requested access is denied",
    ),
    _denied("no token", MANIFEST + "unauthorized: access denied"),
    _denied("403 for a file", "403: "),
    _denied("403 for a tensor", "max retries exceeded: status 403"),
    # --- a registry that Ollama cannot pull from
    Fault(
        id="no redirect",
        text="http: no Location header in response",
        reason=Reason.REGISTRY_UNSUPPORTED,
        stalled=True,
        says=("no Location header", "serves the files", "redirect"),
    ),
    Fault(
        id="redirect of another kind",
        text="unexpected status code 302",
        reason=Reason.REGISTRY_UNSUPPORTED,
        stalled=True,
        says=("HTTP 302", "307"),
    ),
    Fault(
        id="login elsewhere",
        text=MANIFEST + 'realm host "login.example" does not match original host "hf.co"',
        reason=Reason.REGISTRY_UNSUPPORTED,
        stalled=True,
        says=("login.example", "logs in"),
    ),
    # --- a registry, or a way to it, in trouble
    _unavailable("rate limit", MANIFEST + '429: {"error":"slow down"}', "slow down", wait_s=300),
    _unavailable("rate limit of files", "max retries exceeded: status 429", "429", wait_s=300),
    _unavailable("503", MANIFEST + "503: Service Unavailable", "HTTP 503"),
    _unavailable("500", MANIFEST + "500: ", "HTTP 500: Internal Server Error"),
    _unavailable("408", MANIFEST + "408: ", "HTTP 408"),
    _unavailable(
        "an error page", MANIFEST + "520: <!DOCTYPE html><html>…", "web page", hides=("<",)
    ),
    _unavailable("a block page", MANIFEST + "403: <html>blocked</html>", "web page", hides=("<",)),
    _unavailable("a page with 400", MANIFEST + "\n400: \n<HTML>…".strip(), hides=("<",)),
    _unavailable(
        "a page with 200",
        MANIFEST + "invalid character '<' looking for beginning of value",
        "web page",
    ),
    _unavailable("nothing with 200", MANIFEST + "unexpected end of JSON input", "No manifest"),
    _unavailable("400 for a file", "400: ", "HTTP 400"),
    _unavailable("a file that is not there", "file does not exist", "lacks a file"),
    _unavailable(
        "redirect blocked",
        'Head "https://cdn.hf.co/x?Signature=s3cret": blocked redirect to a different host',
        "blocked redirect",
        hides=("s3cret",),
    ),
    _unavailable(
        "proxy: forbidden", MANIFEST + f'Get "{BLOB}": Forbidden', "proxy", "answers Forbidden"
    ),
    _unavailable(
        "proxy: bad gateway", MANIFEST + f'Get "{BLOB}": Bad Gateway', "proxy", "Bad Gateway"
    ),
    _unavailable(
        "proxy: password",
        MANIFEST + f'Get "{BLOB}": Proxy Authentication Required',
        "proxy",
        "Proxy Authentication Required",
    ),
    _unavailable(
        "proxy: gone",
        MANIFEST + f'Get "{BLOB}": proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: refused',
        "proxyconnect",
    ),
    _unavailable(
        "unknown host",
        MANIFEST + f'Get "{BLOB}": dial tcp: lookup hf.co on 10.0.0.10:53: no such host',
        "no such host",
        hides=("safetensors",),
    ),
    _unavailable(
        "past the proxy",
        f'max retries exceeded: Get "{BLOB}": dial tcp: lookup hf.co: no such host',
        "no such host",
        "safetensors",
        "HTTPS_PROXY",
    ),
    _unavailable(
        "refused", "dial tcp 127.0.0.1:5000: connect: connection refused", "connection refused"
    ),
    _unavailable("reset", "read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer"),
    _unavailable("timeout", "net/http: TLS handshake timeout", "TLS handshake timeout"),
    _unavailable("deadline", "context deadline exceeded", "deadline"),
    _unavailable("cut off", "max retries exceeded: unexpected EOF", "EOF"),
    _unavailable(
        "certificate",
        MANIFEST
        + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "certificate",
    ),
    _unavailable(
        "no TLS",
        MANIFEST + "http: server gave HTTP response to HTTPS client",
        "HTTP response to HTTPS client",
    ),
    # --- what this server cannot run
    Fault(
        id="too old",
        text=MANIFEST
        + "412: \n\nThe model you are attempting to pull requires a newer version of Ollama.\n\n",
        reason=Reason.SERVER_TOO_OLD,
        stalled=True,
        says=("needs a newer Ollama", "when the version changes"),
    ),
    Fault(
        id="too old, without words",
        text=MANIFEST + "412: ",
        reason=Reason.SERVER_TOO_OLD,
        stalled=True,
    ),
    Fault(
        id="no MLX",
        text="this model requires MLX support, but the MLX runtime is not available",
        reason=Reason.MODEL_UNSUPPORTED,
        stalled=True,
        says=("this model requires MLX support", "when the version changes"),
    ),
    Fault(
        id="unknown architecture",
        text="llama runner process has terminated: unknown model architecture: 'next'",
        reason=Reason.MODEL_UNSUPPORTED,
        stalled=True,
        says=("unknown model architecture: 'next'", "when the version changes"),
        is_load=True,
    ),
    Fault(
        id="no memory",
        text="model requires more system memory (9.1 GiB) than is available (2.0 GiB)",
        reason=Reason.LOAD_FAILED,
        says=("model requires more system memory (9.1 GiB)",),
        wait_s=60,
        is_load=True,
    ),
    # --- its disk
    Fault(
        id="full",
        text=f"write {FILE}: no space left on device",
        reason=Reason.INSUFFICIENT_STORAGE,
        says=("No space left",),
        wait_s=300,
    ),
    Fault(
        id="quota",
        text=f"max retries exceeded: write {FILE}: disk quota exceeded",
        reason=Reason.INSUFFICIENT_STORAGE,
        wait_s=300,
    ),
    Fault(
        id="full, on Windows",
        text=r"write C:\models\blobs\sha256-15cb: There is not enough space on the disk.",
        reason=Reason.INSUFFICIENT_STORAGE,
        wait_s=300,
    ),
    _disk("read-only", f"open {FILE}: read-only file system", "read-only file system", "disk"),
    _disk("failing", f"max retries exceeded: write {FILE}: input/output error", "input/output"),
    _disk("not permitted", "mkdir /models/manifests: permission denied", "permission denied"),
    _disk("stale", f"rename {FILE} {FILE}-0: stale NFS file handle", "stale NFS file handle"),
    # --- what came
    Fault(
        id="mismatch",
        text="digest mismatch, file must be downloaded again: want sha256:a, got sha256:b",
        reason=Reason.DIGEST_MISMATCH,
        says=("does not match its digest",),
    ),
    Fault(
        id="mismatch of a tensor",
        text="max retries exceeded: size mismatch",
        reason=Reason.DIGEST_MISMATCH,
    ),
    # --- the rest
    Fault(
        id="part removed",
        text=f"remove {FILE}-0: no such file or directory",
        reason=Reason.PULL_FAILED,
        says=("no such file or directory",),
    ),
    Fault(
        id="never seen before",
        text="something that nobody has seen before",
        reason=Reason.PULL_FAILED,
        says=("something that nobody has seen before",),
    ),
)
