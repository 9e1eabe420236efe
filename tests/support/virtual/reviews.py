"""Asks the webhook as the API server does."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from crd.v1alpha1 import GROUP, PLURAL
from ollama_op.admission.webhook import Webhook

Object = dict[str, Any]


def review(
    spec: Any = None,
    *,
    old: Any = None,
    operation: str = "CREATE",
    deleting: bool = False,
    **request: Any,
) -> Object:
    """Write an AdmissionReview as the API server does."""
    meta: Object = {"name": "m", "namespace": "ai", "uid": "u-1", "labels": {"a": "b"}}
    meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    asked: Object = {
        "uid": "r-1",
        "kind": {"group": GROUP, "version": "v1alpha1", "kind": "OllamaModel"},
        "resource": {"group": GROUP, "version": "v1alpha1", "resource": PLURAL},
        "operation": operation,
        "userInfo": {"username": "bob"},
        "object": None if spec is None else {"metadata": meta, "spec": spec},
        "oldObject": None if old is None else {"metadata": meta, "spec": old},
        "options": {},
        "dryRun": False,
    }
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": asked | request,
    }


def alone(_name: object, _uid: str) -> int:
    return 0


@asynccontextmanager
async def client(**how: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Be the API server."""
    app = Webhook(**{"sharers": alone} | how)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://hook") as api_server:
        yield api_server
