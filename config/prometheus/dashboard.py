"""Writes dashboard.json, the Grafana dashboard: `just dashboard`."""

import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
JOB = '{job=~"$job"}'


def query(expr: str, legend: str = "__auto") -> prometheus.Dataquery:
    """Ask Prometheus."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE).ref_id("A")


def number(title: str, expr: str, *, unit: str = "short", bad: bool = False) -> stat.Panel:
    """Show one number; if it counts what is bad, in red unless it is zero."""
    steps = [Threshold(color="green", value=None), Threshold(color="red", value=1)]
    colours = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps if bad else steps[:1])
    panel = stat.Panel().title(title).datasource(SOURCE).unit(unit).span(4).height(4)
    return panel.thresholds(colours).color_mode(BigValueColorMode.VALUE).with_target(query(expr))


def lines(title: str, *queries: tuple[str, str], unit: str = "short") -> timeseries.Panel:
    """Draw lines over time, from pairs of expression and legend."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).span(12).height(8)
    panel = panel.min(0).fill_opacity(10)
    for letter, (expr, legend) in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(query(expr, legend).ref_id(letter))
    return panel


def rate(metric: str, by: str) -> str:
    """Return the expression for how often something happens in a second."""
    return f"sum by ({by}) (rate({metric}{JOB}[$__rate_interval]))"


def p95(metric: str, by: str) -> str:
    """Return the expression for the time in which 95 % are done, from a histogram."""
    return f"histogram_quantile(0.95, {rate(f'{metric}_bucket', f'le, {by}')})"


def state() -> Iterator[stat.Panel | timeseries.Panel | table.Panel]:
    """Show how things are."""
    yield number("Servers down", f"sum(1 - ollama_op_server_up{JOB})", bad=True)
    yield number("Models", f"sum(ollama_op_models{JOB})")
    yield number("Failed", 'sum(ollama_op_models{job=~"$job", state="Failed"})', bad=True)
    yield number("On disk", f"sum(ollama_op_model_size_bytes{JOB})", unit="bytes")
    failed = '{job=~"$job", result!~"success|cancelled"}[1h]'
    yield number("Failed pulls, 1 h", f"sum(increase(ollama_op_pulls_total{failed}))", bad=True)
    crashes = f"sum(increase(ollama_op_task_crashes_total{JOB}[1h]))"
    yield number("Crashes, 1 h", crashes, bad=True)
    yield lines("Models by state", (f"sum by (state) (ollama_op_models{JOB})", "{{state}}"))
    expr = (
        f"max by (model_namespace, model, state) (ollama_op_model_state{JOB})"
        f" and on (model_namespace, model) ollama_op_model_ready{JOB} == 0"
    )
    not_ready = table.Panel().title("Not ready").datasource(SOURCE).span(12).height(8)
    yield not_ready.with_target(query(expr).format(PromQueryFormat.TABLE).instant())


def downloads() -> Iterator[timeseries.Panel]:
    """Show what is being pulled."""
    arriving = rate("ollama_op_pulled_bytes_total", "server")
    yield lines("Bytes arriving", (arriving, "{{server}}"), unit="Bps")
    yield lines(
        "Under way and waiting",
        (f"sum(ollama_op_pulls_in_progress{JOB})", "under way"),
        (f"sum(ollama_op_pulls_waiting{JOB})", "waiting"),
    )
    ended = f"sum by (result) (increase(ollama_op_pulls_total{JOB}[$__rate_interval]))"
    yield lines("Ended, by result", (ended, "{{result}}"))
    took = p95("ollama_op_pull_duration_seconds", "result")
    yield lines("Time of pulls, 95 %", (took, "{{result}}"), unit="s")


def ollama() -> Iterator[timeseries.Panel]:
    """Show the calls of Ollama."""
    calls = rate("ollama_op_ollama_requests_total", "endpoint, code")
    yield lines("Calls", (calls, "{{endpoint}} {{code}}"), unit="reqps")
    took = p95("ollama_op_ollama_request_duration_seconds", "endpoint")
    yield lines("Time of calls, 95 %", (took, "{{endpoint}}"), unit="s")


def operator() -> Iterator[timeseries.Panel]:
    """Show what the operator does."""
    failures = rate("ollama_op_failures_total", "reason")
    yield lines("Failures by reason", (failures, "{{reason}}"), unit="ops")
    took = p95("ollama_op_reconcile_duration_seconds", "action")
    yield lines("Time from decision to end, 95 %", (took, "{{action}}"), unit="s")
    yield lines(
        "Kubernetes",
        (rate("ollama_op_status_writes_total", "result"), "status writes: {{result}}"),
        (rate("ollama_op_watch_restarts_total", "cause"), "watch begun anew: {{cause}}"),
        unit="ops",
    )
    memory = f"process_resident_memory_bytes{JOB}"
    yield lines("Memory", (memory, "{{instance}}"), unit="bytes")


def rest() -> Iterator[timeseries.Panel]:
    """Show the requests to the REST API."""
    served = rate("ollama_api_requests_total", "method, route, code")
    yield lines("Requests", (served, "{{method}} {{route}} {{code}}"), unit="reqps")
    took = p95("ollama_api_request_duration_seconds", "route")
    yield lines("Time of requests, 95 %", (took, "{{route}}"), unit="s")


ROWS = {
    "State": state,
    "Downloads": downloads,
    "Ollama": ollama,
    "Operator": operator,
    "REST API": rest,
}


def build() -> Dashboard:
    """Put the panels together."""
    source = DatasourceVariable("source").label("Source").type("prometheus")
    job = QueryVariable("job").label("Job").datasource(SOURCE)
    job = job.query("label_values(ollama_op_build_info, job)").include_all(True).multi(True)
    dashboard = (
        Dashboard("ollama-op")
        .uid("ollama-op")
        .tags(["ollama", "kubernetes"])
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(source)
        .with_variable(job)
    )
    for title, panels in ROWS.items():
        dashboard = dashboard.with_row(Row(title))
        for panel in panels():
            dashboard = dashboard.with_panel(panel)
    return dashboard


def render() -> str:
    """Return the text of dashboard.json."""
    return json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
