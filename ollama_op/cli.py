"""The command line: reads flags, owns the signals, and turns errors into two helpful lines.

Whatever a command needs is imported when it runs, so that help and mistakes are answered at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from ollama_op.settings import (
    ENV_PREFIX,
    LOG_FORMATS,
    LOG_LEVELS,
    OFF,
    Address,
    BadSetting,
    Misuse,
    RestSettings,
    Service,
    Settings,
    WebhookSettings,
    parse_duration,
    parse_name,
    parse_networks,
    parse_origins,
    parse_registries,
    parse_switch,
    parse_trace_url,
    parse_url,
)

F = TypeVar("F", bound=Callable[..., Any])

REST = "rest_"  # prefix of what belongs into RestSettings
WEBHOOK = "webhook_"  # likewise, into WebhookSettings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


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
        except BadSetting as error:
            flag = f"{param.opts[0]}: " if param else ""
            raise Failure(f"{flag}{error}", error.hint, code=EXIT_USAGE) from error


DURATION = _Parsed("duration", parse_duration)
ADDRESS = _Parsed("address", Address.parse)
URL = _Parsed("url", parse_url)
SWITCH = _Parsed("true|false", parse_switch)
ORIGINS = _Parsed("origins", parse_origins)
TRACE_URL = _Parsed("url", parse_trace_url)
NAME = _Parsed("name", parse_name)
NETWORKS = _Parsed("networks", parse_networks)
REGISTRIES = _Parsed("hosts", parse_registries)
SERVICE = _Parsed("name.namespace", Service.parse)


def flag(name: str, *dest: str, **how: Any) -> Callable[[F], F]:
    """Declare a flag that can also be set as environment variable OLLAMA_OP_<FLAG>."""
    env = ENV_PREFIX + name.strip("-").replace("-", "_").upper()
    how = {"show_envvar": True, "show_default": True} | how
    return click.option(name, *dest, envvar=env, **how)


def switch(name: str, dest: str, **how: Any) -> Callable[[F], F]:
    """Declare a boolean flag; as in Go, `--flag` stands for `--flag=true`."""
    how = {"type": SWITCH, "is_flag": False, "flag_value": "true", "default": "false"} | how
    return flag(name, dest, **how)


OLLAMA_API_URL = flag(
    "--ollama-api-url", type=URL, default="http://localhost:11434", help="The Ollama server."
)
KUBECONFIG = flag(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Instead of KUBECONFIG, ~/.kube/config or the pod's own account.",
)
NAMESPACE = flag("--namespace", type=NAME, help="Watch only this one; default is all.")
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
    type=NAME,
    help="Where the Lease is; default is the pod's own, else --namespace, else default.",
)


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
        flag("--api-server-key", "rest_key", help="The key that clients send as X-API-Key."),
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
            help="Origins whose pages may call it, parted by commas; default is none.",
        ),
        flag(
            "--api-server-trusted-proxies",
            "rest_trusted_proxies",
            type=NETWORKS,
            default=(),
            help="Addresses or networks whose X-Forwarded-For is believed; default is none.",
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ollama-op", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep Ollama models, declared as Kubernetes resources, present and healthy.

    \b
    Examples:
      ollama-op demo
      ollama-op run --ollama-api-url http://ollama:11434
    """


@cli.command(short_help="Run the operator against a cluster.")
@OLLAMA_API_URL
@KUBECONFIG
@NAMESPACE
@flag(
    "--health-interval",
    "health_interval_s",
    type=DURATION,
    default="60s",
    help="Time between looks at Ollama.",
)
@flag(
    "--stall-timeout",
    "stall_timeout_s",
    type=DURATION,
    default="5m",
    help="Longest time that a pull may show no progress.",
)
@flag("--max-concurrent-pulls", type=click.IntRange(1), default=4, help="Downloads at a time.")
@flag(
    "--health-probe-bind-address",
    type=ADDRESS,
    default=":8081",
    help="Where /healthz and /readyz are; 0 is off.",
)
@flag("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="Least important lines.")
@flag(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="auto",
    help="auto is text on a terminal, JSON elsewhere.",
)
@rest_flags
@METRICS_BIND_ADDRESS
@switch(
    "--metrics-per-model",
    "metrics_per_model",
    default="true",
    help="Have series for each single model among the metrics.",
)
@METRICS_KUBERNETES_AUTH
@webhook_flags
@ALLOWED_REGISTRIES
@LEADER_ELECT
@LEADER_ELECT_NAMESPACE
@flag("--leader-elect-id", type=NAME, default="ollama-op", help="Name of the Lease.")
def run(*, log_level: str, log_format: str, **settings: Any) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    \b
    Examples:
      ollama-op run --ollama-api-url http://ollama:11434
      ollama-op run --namespace ai --log-level debug
    """
    from ollama_op import service, telemetry  # noqa: PLC0415

    telemetry.set_up_logging(log_level, log_format)
    try:
        sys.exit(service.run(_read(settings)))
    except Misuse as error:
        raise Failure(str(error), error.hint, code=EXIT_USAGE) from error
    except BadSetting as error:
        raise Failure(str(error), error.hint) from error


@cli.command(short_help="Look for what keeps it from working.")
@OLLAMA_API_URL
@KUBECONFIG
@NAMESPACE
@ENABLE_API_SERVER
@KUBERNETES_AUTH
@METRICS_BIND_ADDRESS
@METRICS_KUBERNETES_AUTH
@webhook_flags
@LEADER_ELECT
@LEADER_ELECT_NAMESPACE
@click.option(
    "--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def doctor(*, output: Literal["text", "json"], **settings: Any) -> None:
    """Check cluster, CRD, rights, Ollama and tracing, with the flags that `run` is given.

    Ends with 1 if something fails; what is only doubtful is a warning. Changes nothing.

    \b
    Examples:
      ollama-op doctor
      ollama-op doctor --ollama-api-url http://ollama:11434 --namespace ai --output json
    """
    from ollama_op import doctor as practice  # noqa: PLC0415 - help needs it not
    from ollama_op import telemetry  # noqa: PLC0415 - likewise

    telemetry.set_up_logging("error", "text")
    try:
        sys.exit(practice.run(_read(settings), output))
    except BadSetting as error:
        raise Failure(str(error), error.hint) from error


@cli.command(short_help="See it work, on a sandbox that needs no cluster.")
@click.option("--keep", is_flag=True, help="Leave it running, to try kubectl on it.")
def demo(*, keep: bool) -> None:
    """Show the operator at work in under half a minute. Nothing leaves this machine.

    With OLLAMA_HOST set, the real Ollama there plays its part: it pulls two small models and
    deletes them again.

    \b
    Examples:
      ollama-op demo
      ollama-op demo --keep
    """
    from ollama_op.sandbox import demo as show  # noqa: PLC0415

    try:
        sys.exit(show.run(keep=keep))
    except BadSetting as error:
        raise Failure(str(error), error.hint) from error


def _read(flags: dict[str, Any]) -> Settings:
    """Put the values of flags into settings."""
    rest, webhook = _taken(flags, REST), _taken(flags, WEBHOOK)
    return Settings(**flags, rest=RestSettings(**rest), webhook=WebhookSettings(**webhook))


def _taken(flags: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take out the flags with a prefix, and leave that out."""
    names = [name for name in flags if name.startswith(prefix)]
    return {name.removeprefix(prefix): flags.pop(name) for name in names}


# What libraries import if it is there and a process on asyncio never uses: a third of the start.
UNUSED = ("trio", "httpx._main")


def main() -> None:
    """Run the command line; every expected error becomes two lines and an exit code."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # makes its import fail
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except Failure as failure:
        _say(failure.message, failure.hint)
        sys.exit(failure.code)
    except click.exceptions.NoArgsIsHelpError as help_text:
        click.echo(help_text.format_message(), err=True)
        sys.exit(EXIT_USAGE)
    except click.ClickException as error:
        _say(*_explain(error))
        sys.exit(error.exit_code)


def _explain(error: click.ClickException) -> tuple[str, str]:
    ctx = getattr(error, "ctx", None)
    command = ctx.command_path if ctx else "ollama-op"
    hint = f"{command} --help"
    match error:
        case click.NoSuchOption():
            if error.possibilities:
                hint = f"did you mean {error.possibilities[0]}?"
            return f"unknown flag {error.option_name}", hint
        case _:
            return error.format_message().rstrip("."), hint


def _say(message: str, hint: str) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
