import os
import re

import pytest

from support.kube.controlplane import ControlPlane
from support.kube.manifests import NAMESPACE, rendered
from support.ollama.server import OllamaServer
from support.process.manual import Page, Terminal
from support.process.operator import Models, wait_until

pytestmark = pytest.mark.real


def test_a_newcomer_reads_the_readme(
    cluster: ControlPlane, ollama: OllamaServer, terminal: Terminal
) -> None:
    """From the demo to the doctor, each command does what is said beside it."""
    models = Models(cluster)
    with Page("README.md", terminal) as page:
        page.put(ollama.url, "http://localhost:11434")
        page.put(terminal.rest, "localhost:8082")

        assert "✔ 6 promises shown\n" in page.run("just demo", **pip(terminal))

        page.run("kubectl apply -k config/with-ollama")
        assert "ollama-op" in cluster.kubectl("-n", NAMESPACE, "get", "deployments")
        assert len(cluster.kubectl("get", "om", "-o", "name").split()) == len(rendered("samples"))

        with page.operator("kubectl apply -k config/crd"):
            (wish,) = page.fenced("yaml")
            cluster.kubectl("apply", "-f", "-", input=wish)
            terminal.run("kubectl wait --for=condition=Ready om/llama3.2-1b --timeout=180s")
            assert "llama3.2:1b" in ollama.digests()
            shown = page.shown("$ kubectl get om").splitlines()[1]
            assert shown.split() == terminal.run("kubectl get om").splitlines()[0].split()

        with page.operator("ollama-op run --enable-api-server"):
            with page.beside("curl -N") as session:
                wait_until(lambda: '"ready":true' in session.log.read_text(), session.tail)
            models.ready("qwen3-0.6b")
            shown = page.shown("cluster  https")
            assert checks(page.run("ollama-op doctor")) == checks(shown)
            models.clear()


def pip(terminal: Terminal) -> dict[str, str]:
    """Have pip put what is missing where it is nobody else's, from where it always has it."""
    folder = terminal.home / "newcomer"
    told = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = f"{folder / 'bin'}:{terminal.env['PATH']}"
    return told | {"PIP_PREFIX": str(folder), "PATH": path}


def checks(found: str) -> list[str]:
    """Return what a doctor looked at, in its order."""
    return re.findall(r"^(?:ok|warn|fail) +(\w+)", found, re.MULTILINE)
