"""Which cluster the operator works on, and as whom: the current context, or the pod's own account.

What cannot be done is refused here, in one line, before anything is called. What kubectl refuses
is refused too; docs/kubeconfig.md has the table.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ollama_op.base.errors import sanitise
from ollama_op.base.parsing import ConfigError
from ollama_op.base.proxies import PROXY_KINDS, proxy_for
from ollama_op.kube.kubeconfig import ClusterEntry, Exec, Kubeconfig, UserEntry, merged_files

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EXEC_GROUP: Final = "client.authentication.k8s.io"
EXEC_VERSIONS: Final = (f"{EXEC_GROUP}/v1", f"{EXEC_GROUP}/v1beta1")
VIEW: Final = "kubectl config view"


@dataclass(frozen=True)
class Access:
    """How to get at a cluster. `who` and `where` are for people; every path is absolute."""

    where: str
    context: str
    who: str
    cluster: ClusterEntry
    user: UserEntry

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self.cluster.server

    @property
    def proxy(self) -> str | None:
        """The proxy that the API server is called through; it may carry a password."""
        return self.cluster.proxy_url or proxy_for(self.server)

    @property
    def is_encrypted(self) -> bool:
        """True if credentials may be sent; kubectl too sends none over plain HTTP."""
        return self.server.startswith("https://")

    @property
    def plugin(self) -> Exec | None:
        """The plugin to ask for credentials, if nothing else in the kubeconfig is one."""
        user = self.user
        given = user.token or user.token_file or user.client_certificate
        is_asked = self.is_encrypted and not (given or user.client_certificate_data)
        return user.plugin if is_asked else None


def find_access(path: Path | None, context: str = "") -> Access:
    """Find out how to get at the cluster, by the kubeconfig at `path` if that is given.

    `context` is used instead of the current one: nobody is to be led to another cluster by a
    `kubectl config use-context` that happens later.

    Raises: ConfigError.
    """
    named = os.environ.get("KUBECONFIG")
    source = "--kubeconfig" if path else "KUBECONFIG" if named else "the default"
    texts = [str(path)] if path else (named or "~/.kube/config").split(os.pathsep)
    config = merged_files(Path(text).expanduser() for text in dict.fromkeys(texts) if text)
    if path is None and (config is None or config.is_empty) and (ACCOUNT / "token").exists():
        return _of_pod()
    if config is None:
        raise ConfigError(
            f"no kubeconfig at {os.pathsep.join(texts)} (from {source})",
            "name one file with --kubeconfig, and several in KUBECONFIG"
            if path and os.pathsep in str(path)
            else "name one with --kubeconfig; without a cluster: ollama-op demo",
        )
    access = _current(config, context or config.current_context)
    for problem, hint in _problems(access):
        raise ConfigError(f"{access.where} {problem}", hint)
    return access


def _of_pod() -> Access:
    host = os.environ.get("KUBERNETES_SERVICE_HOST") or "kubernetes.default.svc"
    port = os.environ.get("KUBERNETES_SERVICE_PORT") or "443"
    return Access(
        where="the pod",
        context="",
        who="the pod's own account",
        cluster=ClusterEntry(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            certificate_authority=str(ACCOUNT / "ca.crt"),
        ),
        user=UserEntry(token_file=str(ACCOUNT / "token")),
    )


def _current(config: Kubeconfig, name: str) -> Access:
    """Look up a context, its cluster and its user.

    Raises: ConfigError.
    """
    if not name:
        hint = "kubectl config use-context NAME"
        raise ConfigError(f"{config.where} has no current context", hint)
    context = config.contexts.get(name)
    if context is None:
        raise ConfigError(f"{config.where} has no context {name!r}", VIEW)
    if not context.cluster:
        raise ConfigError(f"{config.where} has the context {name!r} without a cluster", VIEW)
    cluster, user = config.clusters.get(context.cluster), config.users.get(context.user)
    if cluster is None:
        raise ConfigError(f"{config.where} has no cluster {context.cluster!r}", VIEW)
    if user is None and context.user:
        raise ConfigError(f"{config.where} has no user {context.user!r}", VIEW)
    for problem, hint in _with_server(context.cluster, cluster.server):
        raise ConfigError(f"{config.where} {problem}", hint)
    return Access(
        where=config.where,
        context=name,
        who=f"user {context.user!r} of {config.where}" if context.user else "nobody (no user)",
        cluster=cluster,
        user=user or UserEntry(),
    )


ConfigProblem = tuple[str, str]
"""What is wrong, to be read after the name of the kubeconfig; and what to do."""


def _problems(access: Access) -> Iterator[ConfigProblem]:
    yield from _with_cluster(access.cluster)
    yield from _with_user(access.user)
    if access.plugin is not None:
        yield from _with_plugin(access.plugin)
    # The proxy's connection would be asked for the server's own name.
    if access.cluster.tls_server_name and access.proxy:
        yield (
            "has a tls-server-name, and a proxy is on the way: they cannot be used together",
            "leave out tls-server-name or proxy-url, or name the server in NO_PROXY",
        )


def _with_server(name: str, server: str) -> Iterator[ConfigProblem]:
    if not server:
        yield f"has the cluster {name!r} without a server", f"write one; see it with {VIEW}"
    elif not _is_address(server, ("http", "https")):
        what = f"the server {sanitise(server)!r}, which is no https:// or http:// address"
        hint = "write one as in https://kube.example:6443"
        yield f"has the cluster {name!r} with {what}", hint


def _with_cluster(cluster: ClusterEntry) -> Iterator[ConfigProblem]:
    if cluster.proxy_url and not _is_address(cluster.proxy_url, PROXY_KINDS):
        kind = cluster.proxy_url.partition("://")[0] if "://" in cluster.proxy_url else ""
        what = f"of the kind {sanitise(kind)}://" if kind else "without http://"
        yield f"has a proxy-url {what}, which is not supported", "use an http:// or https:// proxy"
    if cluster.certificate_authority and cluster.certificate_authority_data:
        yield "has certificate-authority and certificate-authority-data", "leave out one of them"
    if cluster.insecure_skip_tls_verify and (
        cluster.certificate_authority or cluster.certificate_authority_data
    ):
        yield "has a certificate authority and insecure-skip-tls-verify", "leave out one of them"
    yield from _missing(certificate_authority=cluster.certificate_authority)


def _with_user(user: UserEntry) -> Iterator[ConfigProblem]:
    if user.username or user.password:
        yield "has a username and password, which Kubernetes no longer takes", "use a token"
    certificate = user.client_certificate or user.client_certificate_data
    if user.client_certificate and user.client_certificate_data:
        yield "has client-certificate and client-certificate-data", "leave out one of them"
    if certificate and user.client_key and user.client_key_data:
        yield "has client-key and client-key-data", "leave out one of them"
    if certificate and not (user.client_key or user.client_key_data):
        yield "has a client certificate without a client-key", VIEW
    if certificate:
        yield from _missing(client_certificate=user.client_certificate, client_key=user.client_key)
    if not user.token:
        yield from _missing(tokenFile=user.token_file)
    if (user.as_uid or user.as_groups or user.as_user_extra) and not user.impersonate:
        yield "has as-uid, as-groups or as-user-extra without as", "say with as: whom to act as"
    yield from _with_provider(user)


def _with_provider(user: UserEntry) -> Iterator[ConfigProblem]:
    provider = user.auth_provider
    if provider is None:
        return
    if user.plugin is not None:
        yield "has an auth-provider and a plugin (exec)", "leave out the auth-provider"
    if provider.name != "oidc" or not provider.config.get("id-token"):
        yield (
            f"has an auth-provider {sanitise(provider.name)!r} that gives no id-token",
            "use a plugin (exec), such as kubelogin",
        )


def _with_plugin(plugin: Exec) -> Iterator[ConfigProblem]:
    """Find what keeps a plugin from being run, by the rules of kubectl."""
    if not plugin.command:
        yield "has a plugin (exec) without a command", VIEW
    name = sanitise(plugin.command)
    if plugin.api_version not in EXEC_VERSIONS:
        version = sanitise(plugin.api_version) or "none"
        yield f"has the plugin {name} with apiVersion {version}", f"use {EXEC_VERSIONS[0]}"
    if any(not variable.name for variable in plugin.env):
        yield f"has an environment variable without a name for the plugin {name}", VIEW
    mode = plugin.interactive_mode
    if mode == "Always":
        yield f"has the plugin {name}, which needs a terminal", "set interactiveMode: IfAvailable"
    elif mode not in ("Never", "IfAvailable") and (mode or plugin.api_version == EXEC_VERSIONS[0]):
        what = f"interactiveMode {sanitise(mode)}" if mode else "no interactiveMode"
        yield f"has {what} for the plugin {name}", "set interactiveMode: IfAvailable"
    if shutil.which(plugin.command) is None:
        hint = sanitise(plugin.install_hint) or "install it, or set PATH so that it is found"
        yield f"asks for the plugin {name}, which is not there", hint


def _missing(**files: str) -> Iterator[ConfigProblem]:
    for key, path in files.items():
        if path and not Path(path).exists():
            yield f"has no file {path}, which is its {key.replace('_', '-')}", VIEW


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
