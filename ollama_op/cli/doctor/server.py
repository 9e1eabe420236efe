"""The doctor's look at Ollama: which it is, what is on it, and what a gateway before it blocks."""

import re
from typing import Final

from crd.names import ModelName
from ollama_op.base.errors import ModelAbsent, ModelBroken, OllamaError
from ollama_op.base.sizes import formatted_size
from ollama_op.cli.doctor.checkup import Finding, doubt, well, wrong
from ollama_op.ollama.client import OllamaClient

OLDEST_OLLAMA: Final = (0, 6, 5)  # what the tests run on
NOBODYS: Final = ModelName.parse("ollama-op-doctor:none")  # asked for where there are no models

_NUMBER: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


async def check_ollama(client: OllamaClient) -> list[Finding]:
    """Ask Ollama for its version and its models, and whether it can be asked about one.

    Raises: OllamaError.
    """
    version, models = await client.version(), await client.tags()
    size = formatted_size(sum(entry.size for entry in models.values()))
    match = _NUMBER.match(version)
    number = tuple(map(int, match.groups())) if match else ()
    found = [well("ollama", f"{client.where} is Ollama {version}")]
    # What is built from source without a version calls itself 0.0.0.
    if any(number) and number < OLDEST_OLLAMA:
        oldest = ".".join(map(str, OLDEST_OLLAMA))
        message = f"{client.where} is Ollama {version}; nothing before {oldest} was tried"
        found = [doubt("ollama", message, "upgrade Ollama, if something does not work")]
    found += await _check_show(client, next(iter(models), NOBODYS))
    found += await _check_memory(client)
    what = f"{size} of models, {len(models)} in all" if models else "no models yet"
    return [*found, well("disk", f"{what}; Ollama does not tell how much room is left")]


async def _check_show(client: OllamaClient, name: ModelName) -> list[Finding]:
    """Ask about one model: without that, none is ever Ready."""
    try:
        await client.show(name)
    except (ModelAbsent, ModelBroken):  # Ollama's own word
        return []
    except OllamaError as error:
        hint = error.hint or _let_through("POST /api/show")
        return [wrong("ollama", f"POST /api/show is not answered: {error.problem}", hint)]
    return []


async def _check_memory(client: OllamaClient) -> list[Finding]:
    """Ask what is in memory, which only `spec.keepAlive` needs."""
    try:
        await client.running()
    except OllamaError as error:
        hint = error.hint or _let_through("GET /api/ps")
        return [doubt("ollama", f"GET /api/ps is not answered: {error.problem}", hint)]
    return []


def _let_through(what: str) -> str:
    return f"let {what} through in what stands before Ollama"
