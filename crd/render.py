"""Renders the CustomResourceDefinition from the structs: `python -m crd.render`, or `just crd`.

There is no CEL (`x-kubernetes-validations`), on purpose. What the schema lets in and is wrong all
the same is the spelling of a name, and that is let in so that the object's own status can say what
is wrong: what made the object (GitOps, the REST API) may never show the API server's answer. And
the first rule would add to whatever the schema refuses that "some rules were not checked".
"""

from pathlib import Path
from typing import Any

import yaml

from crd.structural import Schema, structural
from crd.v1alpha1 import GROUP, KIND, PLURAL, VERSION, OllamaModelSpec, OllamaModelStatus

PATH = Path(__file__).parents[1] / "config" / "crd" / f"{GROUP}_{PLURAL}.yaml"

_HEADER = "# Generated from crd/v1alpha1.py by `just crd`. Do not edit.\n---\n"
_DESCRIPTION = "One model that is to be present on an Ollama server, downloaded and able to answer."
_READY = '.status.conditions[?(@.type=="Ready")]'
_WIDE = 1  # priority of a column that only `kubectl get -o wide` prints
_LINE = 80  # characters; a longer text becomes a block


def crd() -> dict[str, Any]:
    """Build the manifest, in the order in which a person would read it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["om"],
                "categories": ["ollama"],
            },
            "versions": [_version()],
        },
    }


def manifest() -> str:
    """Return the manifest as the text of its YAML file."""
    body = yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=_LINE, allow_unicode=True)
    return _HEADER + body


def main() -> None:
    """Write the manifest into `config/crd`."""
    PATH.write_text(manifest(), encoding="utf-8")


def _version() -> dict[str, Any]:
    """Build the one version that is served and stored."""
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
        "schema": {"openAPIV3Schema": _schema()},
    }


def _schema() -> Schema:
    """Build the schema of a whole object. The API server adds apiVersion, kind and metadata."""
    # Until the operator has come by, -1 tells kstatus that nobody has looked at the spec yet:
    # without it, an untouched object counts as up to date.
    untouched: Schema = {"type": "object", "default": {"observedGeneration": -1}}
    return {
        "type": "object",
        "description": _DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "spec": structural(OllamaModelSpec),
            "status": untouched | structural(OllamaModelStatus),
        },
    }


def _columns() -> list[dict[str, Any]]:
    """Build the columns of `kubectl get`, which prints the name before them.

    Scripts read the first four by position: what is new goes behind them.
    """
    return [
        _column("Tag", ".spec.tag", "Tag of the model."),
        _column("State", ".status.state", "Pending, Pulling, Ready or Failed."),
        _column("Size", ".status.formattedSize", "Size of the model on the server."),
        _column("Age", ".metadata.creationTimestamp", "Time since creation.", kind="date"),
        _column("Ready", f"{_READY}.status", "Whether the model is present and answers."),
        _column("Reason", f"{_READY}.reason", "One word for why it is ready or not."),
        _column("Progress", ".status.progress.text", "How far the download is."),
        _column("Model", ".spec.name", "Name of the model.", priority=_WIDE),
        _column("Remote", ".status.remoteHost", "Where a cloud model runs.", priority=_WIDE),
        _column("Message", f"{_READY}.message", "What is true, what is next.", priority=_WIDE),
    ]


def _column(
    name: str, path: str, description: str, *, kind: str = "string", priority: int = 0
) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "description": description}
    if priority:
        column["priority"] = priority
    return column | {"jsonPath": path}


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks, which read and diff better than quoted lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = ">" if len(text) > _LINE else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)

if __name__ == "__main__":
    main()
