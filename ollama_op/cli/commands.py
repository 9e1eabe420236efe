"""The command line: reads flags, owns the signals, and turns errors into two helpful lines.

Whatever a command needs is imported when it runs, so that help and mistakes are answered at once.
"""

import os
import sys
from typing import Any, Literal

import click

from ollama_op.base.exits import EXIT_INTERRUPTED, EXIT_USAGE
from ollama_op.base.parsing import ConfigError
from ollama_op.base.settings import LOG_FORMATS, LOG_LEVELS, UsageError
from ollama_op.cli.flags import (
    ADDRESS,
    ALLOWED_REGISTRIES,
    DURATION_OR_OFF,
    DURATION_PARAM,
    ENABLE_API_SERVER,
    KUBECONFIG,
    KUBERNETES_AUTH,
    LEADER_ELECT,
    LEADER_ELECT_NAMESPACE,
    METRICS_BIND_ADDRESS,
    METRICS_KUBERNETES_AUTH,
    NAME_PARAM,
    NAMESPACE_OPTION,
    Failure,
    flag,
    misspelt,
    ollama_flags,
    read_settings,
    rest_flags,
    switch,
    webhook_flags,
)


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
@ollama_flags
@KUBECONFIG
@NAMESPACE_OPTION
@flag(
    "--health-interval",
    "health_interval_s",
    type=DURATION_PARAM,
    default="60s",
    help="Time between looks at Ollama.",
)
@flag(
    "--stall-timeout",
    "stall_timeout_s",
    type=DURATION_PARAM,
    default="5m",
    help="Longest time that a pull may show no progress.",
)
@flag("--max-concurrent-pulls", type=click.IntRange(1), default=4, help="Downloads at a time.")
@flag(
    "--deletion-grace",
    "deletion_grace_s",
    type=DURATION_OR_OFF,
    default="0",
    help="How long a model stays on Ollama, under another name, after its last object has gone, for"
    " an object made anew; 0 removes it at once.",
)
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
@flag("--leader-elect-id", type=NAME_PARAM, default="ollama-op", help="Name of the Lease.")
def run(*, log_level: str, log_format: str, **settings: Any) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    \b
    Examples:
      ollama-op run --ollama-api-url http://ollama:11434
      ollama-op run --namespace ai --log-level debug
    """
    _do_without(*UNUSED_BY_RUN)
    from ollama_op.app import process as service  # noqa: PLC0415 - help needs neither
    from ollama_op.base import logs  # noqa: PLC0415 - help needs neither

    logs.set_up_logging(log_level, log_format)
    for variable, hint in misspelt(os.environ):
        service.log.warning("variable is not known, and sets nothing", variable=variable, hint=hint)
    try:
        sys.exit(service.run_operator(read_settings(settings)))
    except UsageError as error:
        raise Failure(str(error), error.hint, code=EXIT_USAGE) from error
    except ConfigError as error:
        raise Failure(str(error), error.hint) from error


@cli.command(short_help="Look for what keeps it from working.")
@ollama_flags
@KUBECONFIG
@NAMESPACE_OPTION
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
    from ollama_op.base import logs  # noqa: PLC0415 - likewise
    from ollama_op.cli.doctor import command as practice  # noqa: PLC0415 - help needs it not

    logs.set_up_logging("error", "text")
    try:
        sys.exit(practice.run_doctor(read_settings(settings), output, misspelt(os.environ)))
    except ConfigError as error:
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
    from ollama_op.demo import command as show  # noqa: PLC0415 - likewise

    try:
        sys.exit(show.run_demo(keep=keep))
    except ConfigError as error:
        raise Failure(str(error), error.hint) from error


# What libraries import if it is there and a process on asyncio never uses: a third of the start.
UNUSED = ("trio", "httpx._main")
UNUSED_BY_RUN = ("rich",)  # for tracebacks of structlog, which ours are not


def main() -> None:
    """Run the command line; every expected error becomes two lines and an exit code."""
    _do_without(*UNUSED)
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


def _do_without(*names: str) -> None:
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # makes its import fail


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
