"""Look at the kubeconfig before kr8s does: what is wrong with it is said in words that help."""

import os
from pathlib import Path
from typing import Any

import yaml

from ollama_op.parsing import BadSetting

POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def check_kubeconfig(path: Path | None) -> None:
    """See that there are credentials to try, and that they can be read.

    Raises: BadSetting.
    """
    source = "--kubeconfig"
    if path is None:
        if POD_TOKEN.exists():
            return
        source = "KUBECONFIG" if os.environ.get("KUBECONFIG") else "the default"
        paths = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
        if len(paths) > 1 and any(Path(each).expanduser().exists() for each in paths):
            return  # what one file lacks another may have; kr8s merges them
        path = Path(paths[0])
    hint = "name one with --kubeconfig; without a cluster: ollama-op demo"
    try:
        content = yaml.safe_load(path.expanduser().read_text())
    except FileNotFoundError:
        raise BadSetting(f"no kubeconfig at {path} (from {source})", hint) from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        why = str(error).splitlines()[0]
        raise BadSetting(f"the kubeconfig {path} cannot be read: {why}", hint) from None
    if not isinstance(content, dict) or not content.get("current-context"):
        raise BadSetting(
            f"the kubeconfig {path} has no current context",
            "kubectl config use-context NAME",
        )
    if hole := _hole(content, path.expanduser().parent):
        raise BadSetting(f"the kubeconfig {path} has no {hole}", "kubectl config view")


def _hole(config: dict[str, Any], folder: Path) -> str | None:
    """Name what the current context needs and does not have; paths are relative to `folder`."""
    context = _entry(config, "context", config["current-context"])
    if context is None:
        return f"context {config['current-context']!r}"
    for kind in ("cluster", "user"):
        entry = _entry(config, kind, context.get(kind))
        if entry is None:
            return f"{kind} {context.get(kind)!r}"
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if (file := entry.get(key)) and not (folder / file).exists():
                return f"file {file}, which is the {key} of {kind} {context[kind]!r}"
    return None


def _entry(config: dict[str, Any], kind: str, name: object) -> dict[str, Any] | None:
    entries = config.get(f"{kind}s")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry[kind] if isinstance(entry.get(kind), dict) else None
    return None
