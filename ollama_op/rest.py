"""Serves the REST API beside the operator. Imported only where that is wanted."""

import socket
from functools import partial
from hashlib import sha256

import anyio
import structlog

from api.access import Key, Keys
from api.app import Api, Options, create_api
from api.keyfile import InvalidKeyFileError, follow, load
from ollama_op.gateway import Gateway
from ollama_op.serve import serve
from ollama_op.settings import BadSetting, RestSettings, Settings

log = structlog.get_logger(__name__)

DEFAULT_NAMESPACE = "default"  # as kubectl has it, and the Go operator


def load_keys(settings: RestSettings) -> Keys:
    """Return the keys that are valid at the start.

    Raises: BadSetting.
    """
    digest = sha256((settings.key or "").encode()).digest()
    keys = Keys([Key("api-server-key", digest)] if settings.key else [])
    if settings.key_file is not None:
        try:
            keys.loaded = load(settings.key_file)
        except InvalidKeyFileError as error:
            raise BadSetting(
                f"the key file {settings.key_file} cannot be used: {error}",
                "write `keys:` and under it `- {name: ci, sha256: …}`; see docs/rest.md",
            ) from error
    return keys


async def serve_rest(settings: Settings, keys: Keys, sock: socket.socket, gateway: Gateway) -> None:
    """Serve until cancelled."""
    wanted = settings.rest
    options = Options(
        keys=keys,
        reviewer=gateway if wanted.kubernetes_auth else None,
        locked=wanted.locked,
        local=not wanted.locked and not wanted.insecure,
        cors_origins=wanted.cors_origins,
        namespace=settings.namespace or DEFAULT_NAMESPACE,
        only=settings.namespace,
    )
    api = create_api(gateway, gateway, options)
    if not wanted.locked:
        log.warning("rest api asks for no key", address=str(wanted.address))
    async with anyio.create_task_group() as tasks:
        if wanted.key_file is not None:
            tasks.start_soon(follow, wanted.key_file, keys)
        tasks.start_soon(_close_when_cancelled, api)
        tasks.start_soon(partial(serve, api.app, sock, trusted_proxies=wanted.trusted_proxies))
        log.info("serving rest api", address=str(wanted.address), docs="/docs")


async def _close_when_cancelled(api: Api) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        api.close()
