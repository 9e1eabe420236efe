"""The command line: reads flags, owns the signals, and turns errors into two helpful lines.

Whatever a command needs is imported when it runs, so that help and mistakes are answered at once.
"""

import os
import sys
from typing import Any, Literal

import click

from ollama_op.base.declare import OneOf
from ollama_op.base.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from ollama_op.base.parsing import ConfigError, UsageError
from ollama_op.cli.flags import flag_options, misspelt, read_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ollama-op", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep Ollama models, declared as Kubernetes resources, present and healthy.

    \b
    Examples:
      ollama-op demo
      ollama-op run --ollama-api-url http://ollama:11434
    """


@cli.command(short_help="Run the operator against a cluster.", params=flag_options())
def run(**values: Any) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    \b
    Examples:
      ollama-op run --ollama-api-url http://ollama:11434
      ollama-op run --namespace ai --log-level debug
    """
    _do_without(*UNUSED_BY_RUN)
    from ollama_op.app import process as service  # noqa: PLC0415 - help needs neither
    from ollama_op.base import logs  # noqa: PLC0415 - help needs neither

    settings = read_settings(values)
    logs.set_up_logging(settings.log_level, settings.log_format)
    for variable, hint in misspelt(os.environ):
        service.log.warning("variable is not known, and sets nothing", variable=variable, hint=hint)
    sys.exit(service.run_operator(settings))


@cli.command(short_help="Look for what keeps it from working.", params=flag_options(doctor=True))
@click.option("--output", "-o", type=OneOf(("text", "json")), default="text", show_default=True)
def doctor(*, output: Literal["text", "json"], **values: Any) -> None:
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
    sys.exit(practice.run_doctor(read_settings(values), output, misspelt(os.environ)))


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

    sys.exit(show.run_demo(keep=keep))


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
    except ConfigError as error:
        _say(str(error), error.hint)
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
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
