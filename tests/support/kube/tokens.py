"""Tokens that expire: a webhook that tells a kube-apiserver whose they are, and until when."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Review(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answer a TokenReview; a good token is `until-` and a moment that has not come."""
        asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        head, _, until = asked["spec"]["token"].rpartition("-")
        is_good = head == "until" and time.time() < float(until)
        user = {"username": "short-lived", "groups": ["system:masters"]}
        status = {"authenticated": True, "user": user} if is_good else {"authenticated": False}
        review = {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "status": status}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the library names it
        """Say nothing."""


@contextmanager
def expiring_tokens(folder: Path) -> Iterator[tuple[str, ...]]:
    """Judge tokens while the block runs; yields what a kube-apiserver is to be told."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Review) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "clusters": [
                {"name": "w", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
            ],
            "users": [{"name": "w", "user": {}}],
            "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
            "current-context": "w",
        }
        path = folder / "webhook.kubeconfig"
        path.write_text(json.dumps(config))
        yield (
            f"--authentication-token-webhook-config-file={path}",
            "--authentication-token-webhook-cache-ttl=0s",
        )
        server.shutdown()
