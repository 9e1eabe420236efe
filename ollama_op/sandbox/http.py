"""The little of HTTP that the sandbox needs on top of ASGI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.base.json import Object
from ollama_op.sandbox.status import ApiError, bad_request

MAX_BODY_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True)
class SandboxRequest:
    """One request, its body read."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def flag(self, name: str) -> bool:
        """Return True if a boolean query parameter is set, in any of Go's spellings."""
        return self.query.get(name, "").lower() in ("1", "t", "true")

    def number(self, name: str) -> int | None:
        """Read a whole number from the query; None where it is absent or empty.

        Raises: ApiError 400.
        """
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdigit():
            raise bad_request(f'Invalid value: "{text}": {name} is no whole number')
        return int(text)

    def accepts(self, form: str) -> bool:
        """Return True if the client would take this form of the answer, such as Table."""
        return f"as={form}" in self.headers.get("accept", "")

    def json(self) -> Any:
        """Read the body.

        Raises: ApiError 400; 415 if it says itself that it is no JSON.
        """
        if "json" not in self.headers.get("content-type", "json"):
            message = "the body of the request was in an unknown format - accepted media types"
            raise ApiError(415, "UnsupportedMediaType", f"{message} include: application/json")
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from error

    def json_object(self) -> Object:
        """Read a body that must be a JSON object.

        Raises: ApiError 400.
        """
        body = self.json()
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized: not a JSON object")
        return body


async def read_request(scope: Message, receive: Receive) -> SandboxRequest:
    """Collect a request, and no more of it than the real server would.

    Raises: ApiError 413; ConnectionError if the client has gone.
    """
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionAbortedError("the client has gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            limit = f"limit is {MAX_BODY_BYTES}"
            raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {limit}")
    return SandboxRequest(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
        headers={k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
        body=bytes(body),
    )


async def send_start(send: Send, code: int, headers: Mapping[str, str] | None = None) -> None:
    """Send the head of a JSON answer."""
    fields = {"content-type": "application/json", **(headers or {})}
    raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in fields.items()]
    await send({"type": "http.response.start", "status": code, "headers": raw})


async def answer(
    send: Send, code: int, body: object, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole JSON answer; None is an empty one."""
    raw = b"" if body is None else msgspec.json.encode(body)
    await send_start(send, code, {"content-length": str(len(raw)), **(headers or {})})
    await send({"type": "http.response.body", "body": raw, "more_body": False})


async def chunk(send: Send, raw: bytes, *, more: bool = True) -> None:
    """Send a part of a body that streams."""
    await send({"type": "http.response.body", "body": raw, "more_body": more})
