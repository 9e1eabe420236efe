"""The flags of the command line, each of which is also an environment variable.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from ollama_op.base.exits import EXIT_FAILED, EXIT_USAGE
from ollama_op.base.parsing import (
    OFF,
    Address,
    ConfigError,
    Service,
    parse_duration,
    parse_duration_or_off,
    parse_key,
    parse_name,
    parse_namespace,
    parse_networks,
    parse_origins,
    parse_registries,
    parse_switch,
    parse_trace_url,
    parse_url,
)
from ollama_op.base.settings import ENV_PREFIX, RestSettings, Settings, WebhookSettings

F = TypeVar("F", bound=Callable[..., Any])

REST = "rest_"  # prefix of what belongs into RestSettings
WEBHOOK = "webhook_"  # likewise, into WebhookSettings


VARIABLES: set[str] = set()  # by which flags can be set; `flag` adds them
# What Kubernetes sets in every pod for a Service whose name begins as ours do.
_OF_SERVICES = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
    rf"|{ENV_PREFIX}(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_.+)?)"
)
_OF_JUST = frozenset(
    {f"{ENV_PREFIX}PYTHON", f"{ENV_PREFIX}CACHE"}
)  # for the recipes of the sources


class Failure(click.ClickException):
    """A command cannot go on: what failed, and what helps."""

    def __init__(self, message: str, hint: str = "", *, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.hint, self.code = hint, code


class _Parsed(click.ParamType[Any]):
    """A flag whose text one of the functions of `settings` reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002 - click calls it so
    ) -> Any:
        """Read a flag's text; a default that is no text passes as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigError as error:
            flag = f"{param.opts[0]}: " if param else ""
            raise Failure(f"{flag}{error}", error.hint, code=EXIT_USAGE) from error


DURATION_PARAM = _Parsed("duration", parse_duration)
DURATION_OR_OFF = _Parsed("duration", parse_duration_or_off)
ADDRESS = _Parsed("address", Address.parse)
URL = _Parsed("url", parse_url)
SWITCH = _Parsed("true|false", parse_switch)
ORIGINS = _Parsed("origins", parse_origins)
TRACE_URL = _Parsed("url", parse_trace_url)
NAME_PARAM = _Parsed("name", parse_name)
NAMESPACE_NAME = _Parsed("name", parse_namespace)
KEY = _Parsed("key", parse_key)
NETWORKS = _Parsed("networks", parse_networks)
REGISTRIES = _Parsed("hosts", parse_registries)
SERVICE = _Parsed("name.namespace", Service.parse)


def flag(name: str, *dest: str, **how: Any) -> Callable[[F], F]:
    """Declare a flag that can also be set as environment variable OLLAMA_OP_<FLAG>."""
    env = ENV_PREFIX + name.strip("-").replace("-", "_").upper()
    VARIABLES.add(env)
    how = {"show_envvar": True, "show_default": True} | how
    return click.option(name, *dest, envvar=env, **how)


def misspelt(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that look like ours and set no flag, each with what to do."""
    found = []
    for name in sorted(environ):
        is_ours = name.startswith(ENV_PREFIX) and name not in _OF_JUST
        if not is_ours or name in VARIABLES or _OF_SERVICES.fullmatch(name):
            continue
        close = get_close_matches(name, VARIABLES, n=1)
        hint = f"did you mean {close[0]}?" if close else "unset it; see ollama-op run --help"
        found.append((name, hint))
    return found


def switch(name: str, dest: str, **how: Any) -> Callable[[F], F]:
    """Declare a boolean flag; as in Go, `--flag` stands for `--flag=true`."""
    how = {"type": SWITCH, "is_flag": False, "flag_value": "true", "default": "false"} | how
    return flag(name, dest, **how)


KUBECONFIG = flag(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Instead of KUBECONFIG, ~/.kube/config or the pod's own account.",
)
NAMESPACE_OPTION = flag(
    "--namespace", type=NAMESPACE_NAME, help="Watch only this one; default is all."
)
ENABLE_API_SERVER = switch("--enable-api-server", "rest_enabled", help="Serve the REST API.")
KUBERNETES_AUTH = switch(
    "--api-server-kubernetes-auth",
    "rest_kubernetes_auth",
    help="Let bearer tokens in that Kubernetes knows, with the rights that it grants.",
)
METRICS_BIND_ADDRESS = flag(
    "--metrics-bind-address", type=ADDRESS, default=OFF, help="Where /metrics is; 0 is off."
)
METRICS_KUBERNETES_AUTH = switch(
    "--metrics-kubernetes-auth",
    "metrics_kubernetes_auth",
    help="Let only those read them whose bearer token Kubernetes lets get /metrics.",
)
LEADER_ELECT = switch(
    "--leader-elect", "leader_elect", help="Let one of several replicas act, elected by a Lease."
)
LEADER_ELECT_NAMESPACE = flag(
    "--leader-elect-namespace",
    type=NAMESPACE_NAME,
    help="Where the Lease is; default is the pod's own, else --namespace, else default.",
)


def ollama_flags(command: F) -> F:
    """Add the flags of the Ollama server."""
    flags = [
        flag(
            "--ollama-api-url",
            type=URL,
            default="http://localhost:11434",
            help="The Ollama server.",
        ),
        flag(
            "--ollama-ca-file",
            type=click.Path(path_type=Path),
            help="File of CAs to trust for an https:// Ollama, instead of the usual ones; read"
            " again when it changes.",
        ),
        flag(
            "--ollama-header-file",
            type=click.Path(path_type=Path),
            help="File of headers for each call of Ollama, lines `Name: value`, as for a token;"
            " read again when it changes.",
        ),
    ]
    for each in reversed(flags):
        command = each(command)
    return command


def webhook_flags(command: F) -> F:
    """Add the flags of the webhook; their values go by `webhook_` and the name in its settings."""
    flags = [
        flag(
            "--webhook-bind-address",
            type=ADDRESS,
            default=OFF,
            help="Where the admission webhook is, over TLS: :9443; 0 is off.",
        ),
        flag(
            "--webhook-cert-dir",
            type=click.Path(path_type=Path),
            help="Folder with its tls.crt and tls.key, read again when they change; without it the"
            " operator makes its own.",
        ),
        flag(
            "--webhook-service",
            type=SERVICE,
            help="Service for which it makes them; default is ollama-op-webhook, in its namespace.",
        ),
    ]
    for each in reversed(flags):
        command = each(command)
    return command


ALLOWED_REGISTRIES = flag(
    "--allowed-registries",
    "webhook_allowed_registries",
    type=REGISTRIES,
    default=(),
    help="Hosts of which the webhook, and nothing else, lets models in; default is all.",
)


def rest_flags(command: F) -> F:
    """Add the flags of the REST API; their values go by `rest_` and the name in RestSettings."""
    flags = [
        ENABLE_API_SERVER,
        flag(
            "--api-server-bind-address",
            "rest_bind_address",
            type=ADDRESS,
            default=":8082",
            help="Where the REST API is, with a page at / and docs at /docs.",
        ),
        flag(
            "--api-server-key",
            "rest_key",
            type=KEY,
            help="The key that clients send as X-API-Key.",
        ),
        flag(
            "--api-server-key-file",
            "rest_key_file",
            type=click.Path(path_type=Path),
            help="File of several keys, with scopes and namespaces; read again when it changes.",
        ),
        KUBERNETES_AUTH,
        switch(
            "--api-server-insecure",
            "rest_insecure",
            help="Let everybody in when there is no key, also from other machines.",
        ),
        flag(
            "--api-server-cors-origins",
            "rest_cors_origins",
            type=ORIGINS,
            default=(),
            help="Origins whose pages may call it, separated by commas; default is none.",
        ),
        flag(
            "--api-server-trusted-proxies",
            "rest_trusted_proxies",
            type=NETWORKS,
            default=(),
            help="Addresses or networks whose X-Forwarded-For and X-Forwarded-Prefix are believed;"
            " default is none.",
        ),
        flag(
            "--trace-url-template",
            "rest_trace_url_template",
            type=TRACE_URL,
            default="",
            help="Where the page links to for a trace: https://jaeger.example/trace/{trace_id}",
        ),
    ]
    for each in reversed(flags):
        command = each(command)
    return command


def read_settings(flags: dict[str, Any]) -> Settings:
    """Put the values of flags into settings."""
    rest, webhook = _taken(flags, REST), _taken(flags, WEBHOOK)
    return Settings(**flags, rest=RestSettings(**rest), webhook=WebhookSettings(**webhook))


def _taken(flags: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take out the flags with a prefix, and leave that out."""
    names = [name for name in flags if name.startswith(prefix)]
    return {name.removeprefix(prefix): flags.pop(name) for name in names}
