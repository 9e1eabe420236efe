"""The doctor's look at what it was given: variables and flags, before anything is called."""

from collections.abc import Iterable

from ollama_op.base.parsing import UsageError
from ollama_op.base.proxies import check_proxies
from ollama_op.base.settings import Settings
from ollama_op.cli.doctor.checkup import Finding, doubt, wrong


def check_environment(settings: Settings, unknown: Iterable[tuple[str, str]]) -> list[Finding]:
    """Return what `run` warns of or refuses at the start.

    `unknown` are variables that set nothing, each with what to do.

    Raises: ConfigError for a proxy that cannot be used.
    """
    found = [
        doubt("settings", f"{variable} is not known, and sets nothing", hint)
        for variable, hint in unknown
    ]
    hint = "write hosts, addresses or networks, separated by commas"
    found += [
        doubt("settings", f"{entry!r} in NO_PROXY is not understood, and exempts nothing", hint)
        for entry in check_proxies()
    ]
    try:
        settings.webhook.check()
    except UsageError as error:
        found.append(wrong("settings", str(error), error.hint))
    return found
