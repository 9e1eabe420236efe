"""An operator in a world, and what is measured of it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from ollama_op.metrics.recorder import Metrics
from support.virtual.unruly import UnrulyApi
from support.virtual.world import World, world

Labels = dict[str, str]


@dataclass
class Measured:
    """A world whose operator is measured."""

    w: World
    metrics: Metrics
    api: UnrulyApi

    def text(self) -> str:
        """Scrape."""
        return self.metrics.scrape()().decode()

    def all(self, name: str) -> list[tuple[Labels, float]]:
        """Scrape; return the samples of one name."""
        families = text_string_to_metric_families(self.text())
        samples = [s for family in families for s in family.samples if s.name == name]
        return [(dict(s.labels), s.value) for s in samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Scrape; return the sum of the samples with these labels, None if there is none."""
        found = [v for has, v in self.all(name) if labels.items() <= has.items()]
        return sum(found) if found else None


@asynccontextmanager
async def measured() -> AsyncGenerator[Measured]:
    """Run a measured operator."""
    apis: list[UnrulyApi] = []

    def through(app):
        if not apis:  # the first is Kubernetes
            apis.append(UnrulyApi(app))
            return apis[0]
        return app

    async with world(through) as w:
        w.observer = metrics = Metrics(lambda: w.health.engine, now=w.now)
        transport = w.ollama_http._transport
        w.ollama_http = metrics.client(transport=transport, base_url="http://ollama:11434")
        w.start()
        yield Measured(w, metrics, apis[0])
