import os
import re

import pytest

from ollama_op.base.declare import ENV_PREFIX
from ollama_op.base.parsing import Address
from ollama_op.cli.flags import VARIABLES, misspelt
from support.virtual.commandline import Ended


@pytest.fixture(autouse=True)
def _of_no_machine(monkeypatch, tmp_path) -> None:
    """Let no setting of this machine count."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no kubeconfig"))


def accepted(ended: Ended) -> bool:
    """Return True if all flags were taken: the next thing that is missing is a kubeconfig."""
    return ended.code == 1 and ended.error[0].startswith("no kubeconfig at ")


# --- help


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["run", "--help"], ["demo", "-h"], ["doctor", "-h"]]
)
def test_help_goes_to_standard_output(ollama_op, arguments):
    """It is what was asked for, so it is no error; and it has an example."""
    ended = ollama_op(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "Examples:" in ended.out


def test_without_a_command_the_help_is_shown_as_it_is(ollama_op):
    """Nobody who types only the name wants to read the word error."""
    ended = ollama_op()
    text = ended.out + ended.err
    assert text.startswith("Usage: ollama-op")
    assert "error:" not in text


def test_the_version_is_the_packages(ollama_op):
    """One line, for scripts and bug reports."""
    assert re.fullmatch(r"ollama-op \d+\.\d+\.\d+\n", ollama_op("--version").out)


def test_help_says_flags_variables_and_defaults(ollama_op):
    """Whoever writes a manifest needs no other page."""
    out = ollama_op("run", "--help").out
    for text in ("--ollama-api-url", "OLLAMA_OP_OLLAMA_API_URL", "http://localhost:11434", ":8081"):
        assert text in out


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["run", "--namespac", "x"], "unknown flag --namespac", "did you mean --namespace?"),
        (["demo", "--kep"], "unknown flag --kep", "did you mean --keep?"),
        (["run", "--xyzzy"], "unknown flag --xyzzy", "ollama-op run --help"),
        (
            ["run", "--health-interval", "0"],
            "--health-interval: '0' is no time to wait",
            "write 90s, 5m or 1h30m",
        ),
        (
            ["run", "--stall-timeout=5"],
            "--stall-timeout: '5' has no unit",
            "write 5s, 5m or 5h",
        ),
        (
            ["run", "--health-probe-bind-address", "8081"],
            "--health-probe-bind-address: '8081' is no address",
            "write :8081, 127.0.0.1:8081, or 0 for off",
        ),
        (
            ["run", "--api-server-bind-address", "9999"],
            "--api-server-bind-address: '9999' is no address",
            "write :9999, 127.0.0.1:9999, or 0 for off",
        ),
        (
            ["run", "--ollama-api-url", "ftp://ollama"],
            "--ollama-api-url: the Ollama URL is no http:// or https:// address",
            "write http://ollama:11434",
        ),
        (
            ["run", "--max-concurrent-pulls", "two"],
            "--max-concurrent-pulls: 'two' is not a whole number of at least 1",
            "write a number in digits; the default is 4",
        ),
        (
            ["run", "--max-concurrent-pulls=0"],
            "--max-concurrent-pulls: '0' is not a whole number of at least 1",
            "write a number in digits; the default is 4",
        ),
        (["run", "extra"], "Got unexpected extra argument (extra)", "ollama-op run --help"),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_2(ollama_op, arguments, message, hint):
    """What is wrong, and what to do; nothing on standard output, and never a traceback."""
    ended = ollama_op(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error == (message, hint)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["rnu", "run"]),
        (["doctor", "--output", "yaml"], ["--output", "yaml", "json"]),
        (["run", "--log-level", "loud"], ["--log-level", "loud", "warning"]),
        (["run", "--stall-timeout"], ["--stall-timeout", "requires an argument"]),
    ],
)
def test_any_other_mistake_is_told_in_the_same_form(ollama_op, arguments, words):
    """With the flag, the value, and what would do."""
    ended = ollama_op(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert all(word in " ".join(ended.error) for word in words)


@pytest.mark.parametrize(
    ("value", "meant"),
    [("warn", "warning"), ("debg", "debug"), ("INFO", "info"), ("eror", "error"), ("loud", None)],
)
def test_a_log_level_that_is_misspelt_is_told_with_the_nearest(ollama_op, value, meant):
    """As Go's and Python's names for it are often another one; all levels are named anyway."""
    ended = ollama_op("run", "--log-level", value)
    error, hint = ended.error
    assert (ended.code, ended.out) == (2, "")
    assert f"{value!r} is not one of 'debug', 'info', 'warning', 'error'" in error
    assert hint == (f"did you mean {meant}?" if meant else "ollama-op run --help")


def test_a_password_in_a_url_is_not_repeated(ollama_op, monkeypatch):
    """Neither from a flag nor from a variable."""
    url = "http://user:hunter2@ollama"
    assert "hunter2" not in ollama_op("run", "--ollama-api-url", url).err
    monkeypatch.setenv("OLLAMA_OP_OLLAMA_API_URL", url)
    ended = ollama_op("run")
    assert (ended.code, "hunter2" in ended.err) == (2, False)


def test_a_line_feed_behind_a_url_is_no_traceback(ollama_op, monkeypatch, tmp_path):
    """Variables are filled from files, which end with one."""
    monkeypatch.setenv("OLLAMA_OP_OLLAMA_API_URL", "http://ollama:11434\n")
    (tmp_path / "no kubeconfig").write_text("")
    assert ollama_op("run").code in (1, 2)


# --- variables


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HEALTH_INTERVAL", "0", "--health-interval: '0' is no time to wait"),
        ("HEALTH_PROBE_BIND_ADDRESS", "x", "--health-probe-bind-address: 'x' is no address"),
        (
            "OLLAMA_API_URL",
            "ftp://x",
            "--ollama-api-url: the Ollama URL is no http:// or https:// address",
        ),
        ("LEADER_ELECT", "maybe", "--leader-elect: 'maybe' is neither true nor false"),
        ("LEADER_ELECT_NAMESPACE", "A", "--leader-elect-namespace: 'A' cannot be a namespace"),
        ("LEADER_ELECT_ID", "a/b", "--leader-elect-id: 'a/b' cannot be a name"),
    ],
)
def test_every_flag_can_be_a_variable(ollama_op, monkeypatch, name, value, message):
    """OLLAMA_OP_ and the flag's name; a mistake in it is told as the flag's."""
    monkeypatch.setenv(f"OLLAMA_OP_{name}", value)
    ended = ollama_op("run")
    assert (ended.code, ended.error[0]) == (2, message)


def test_a_flag_wins_over_a_variable(ollama_op, monkeypatch):
    """The nearer one counts."""
    monkeypatch.setenv("OLLAMA_OP_HEALTH_INTERVAL", "0")
    assert accepted(ollama_op("run", "--health-interval", "90s"))


def test_an_empty_variable_is_none(ollama_op, monkeypatch):
    """As manifests leave them."""
    monkeypatch.setenv("OLLAMA_OP_HEALTH_INTERVAL", "")
    monkeypatch.setenv("OLLAMA_OP_LEADER_ELECT", "")
    assert accepted(ollama_op("run"))


MISSPELT = (
    "OLLAMA_OP_NAMESPCE is not known, and sets nothing",
    "did you mean OLLAMA_OP_NAMESPACE?",
)


def test_a_variable_that_is_misspelt_is_told(ollama_op, monkeypatch):
    """Else an operator for one namespace watches all; the doctor tells it, too."""
    monkeypatch.setenv("OLLAMA_OP_NAMESPCE", "ai")
    said = ollama_op("run").err
    assert "variable is not known, and sets nothing" in said
    assert "did you mean OLLAMA_OP_NAMESPACE?" in said
    ended = ollama_op("doctor", "--ollama-api-url=http://127.0.0.1:1")
    assert all(words in ended.out for words in MISSPELT)


def test_variables_that_kubernetes_sets_for_services_are_not_told():
    """Every pod beside a Service `ollama-op` has them."""
    of_services = {
        f"OLLAMA_OP_{name}": "x"
        for service in ("", "REST_", "WEBHOOK_", "METRICS_")
        for name in (
            f"{service}SERVICE_HOST",
            f"{service}SERVICE_PORT",
            f"{service}SERVICE_PORT_HTTPS",
            f"{service}PORT",
            f"{service}PORT_443_TCP",
            f"{service}PORT_443_TCP_ADDR",
        )
    }
    assert misspelt(of_services | dict.fromkeys(VARIABLES, "x") | {"PATH": "x"}) == []
    assert misspelt({"OLLAMA_OP_XYZZY": ""}) == [
        ("OLLAMA_OP_XYZZY", "unset it; see ollama-op run --help")
    ]


def test_the_doctor_tells_what_run_warns_of(ollama_op, monkeypatch):
    """NO_PROXY has no other form for it."""
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/99,ollama")
    ended = ollama_op("doctor", "--ollama-api-url=http://127.0.0.1:1")
    assert "'10.0.0.0/99' in NO_PROXY is not understood, and exempts nothing" in ended.out
    assert "'ollama' in NO_PROXY" not in ended.out


def test_a_flag_that_run_refuses_keeps_the_doctor_from_no_check(ollama_op):
    """It is one finding among others."""
    ended = ollama_op(
        "doctor", "--webhook-bind-address=:9443", "--ollama-api-url=http://127.0.0.1:1"
    )
    assert ended.code == 1
    assert "the namespace of the webhook's Service is not known" in ended.out
    for check in ("settings", "cluster", "ollama", "tracing"):
        assert check in ended.out


# --- flags of the Go operator

GO_FALSE = ["0", "f", "F", "false", "FALSE", "False"]  # as strconv.ParseBool reads them
GO_TRUE = ["1", "t", "T", "true", "TRUE", "True"]


@pytest.mark.parametrize("value", GO_FALSE)
@pytest.mark.parametrize("flag", ["--enable-api-server", "--leader-elect"])
def test_a_boolean_flag_may_be_false(ollama_op, monkeypatch, flag, value):
    """However Go would spell that; as a flag, and as a variable."""
    assert accepted(ollama_op("run", f"{flag}={value}"))
    monkeypatch.setenv("OLLAMA_OP_" + flag.strip("-").replace("-", "_").upper(), value)
    assert accepted(ollama_op("run"))


@pytest.mark.parametrize("argument", ["", *(f"={value}" for value in GO_TRUE)])
def test_a_boolean_flag_alone_means_true(ollama_op, argument):
    """As in Go; also when another flag follows."""
    assert accepted(ollama_op("run", f"--leader-elect{argument}", "--namespace", "x"))


def test_the_manifest_of_the_go_operator_is_understood(ollama_op):
    """Its flags."""
    ended = ollama_op(
        "run",
        "--ollama-api-url=http://ollama:11434",
        "--enable-api-server=false",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=:0",
        "--leader-elect",
        "--namespace=ai",
    )
    assert accepted(ended)


# --- the doctor


def test_the_doctor_tells_all_and_ends_with_1(ollama_op, tmp_path):
    """What was found is what was asked for, so it goes to standard output."""
    ended = ollama_op("doctor", "--ollama-api-url=http://127.0.0.1:9")
    assert (ended.code, ended.err) == (1, "")
    lines = ended.out.splitlines()
    assert lines[0] == (
        f"fail  cluster  no kubeconfig at {tmp_path / 'no kubeconfig'} (from KUBECONFIG)"
    )
    assert lines[2] == "fail  ollama   http://127.0.0.1:9 refused the connection"
    assert len(lines) == 5


def test_the_doctor_reads_the_variables_of_run(ollama_op, monkeypatch):
    """So that it sees, in the operator's own pod, what that sees."""
    monkeypatch.setenv("OLLAMA_OP_OLLAMA_API_URL", "http://127.0.0.1:8")
    monkeypatch.setenv("OLLAMA_OP_ENABLE_API_SERVER", "true")
    monkeypatch.setenv("OLLAMA_OP_LEADER_ELECT", "false")
    assert "http://127.0.0.1:8 refused" in ollama_op("doctor", "--output=json").out


# --- what fails later


def test_no_cluster_is_exit_code_1_and_a_way_out(ollama_op, tmp_path):
    """The file that was looked for is named, and what works without a cluster."""
    ended = ollama_op("run")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error == (
        f"no kubeconfig at {tmp_path / 'no kubeconfig'} (from KUBECONFIG)",
        "name one with --kubeconfig; without a cluster: ollama-op demo",
    )


@pytest.mark.parametrize("content", ["", "{}", "apiVersion: v1"])
def test_a_kubeconfig_without_a_context_is_told(ollama_op, tmp_path, content):
    """With the command that helps."""
    config = tmp_path / "config"
    config.write_text(content)
    ended = ollama_op("run", "--kubeconfig", str(config))
    assert (ended.code, ended.error) == (
        1,
        (f"the kubeconfig {config} has no current context", "kubectl config use-context NAME"),
    )


@pytest.mark.parametrize("content", [b": : :", b"\xff\xfe\x00"])
def test_a_kubeconfig_that_cannot_be_read_is_told(ollama_op, tmp_path, content):
    """In two lines, however long the parser's complaint is."""
    config = tmp_path / "config"
    config.write_bytes(content)
    ended = ollama_op("run", "--kubeconfig", str(config))
    assert (ended.code, f"the kubeconfig {config} cannot be read" in ended.error[0]) == (1, True)


def test_a_busy_port_is_told(run):
    """With the flag that helps."""
    with Address("127.0.0.1", 0).bind() as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        ended = run("--health-probe-bind-address", address)
    assert (ended.code, ended.error) == (
        1,
        (
            f"cannot listen on {address} for health probes: Address already in use",
            "set --health-probe-bind-address to a free port, or to 0 for none",
        ),
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b"])
def test_a_host_that_is_none_is_told(run, host):
    """In words, not as an unknown error."""
    ended = run("--health-probe-bind-address", f"{host}:0")
    assert ended.code == 1
    assert re.match(rf"cannot listen on {host}:0 for health probes: [a-zN]", ended.error[0])
    assert "Unknown error" not in ended.error[0]
