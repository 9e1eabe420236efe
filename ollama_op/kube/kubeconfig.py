"""What a kubeconfig says, read as kubectl reads it: several files are merged, and the first wins.

A path in a kubeconfig is relative to the file that it stands in, so paths are made absolute before
the files are merged. Entries are never merged with each other: of two users with one name, the
second file's is ignored as a whole.

Source: k8s.io/client-go, tools/clientcmd; kubernetes.io, "Organizing Cluster Access Using
kubeconfig Files".
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from ollama_op.base.parsing import ConfigError

T = TypeVar("T", bound="NamedEntry")

# How msgspec names a kind of value, and how a person does.
CONFIG_KINDS: Final = {
    "str": "text",
    "bool": "true or false",
    "object": "a mapping",
    "array": "a list",
}


class ClusterEntry(msgspec.Struct, frozen=True, rename="kebab"):
    """Where a cluster is, and how it is known to be itself."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: tuple["NamedExtension", ...] = ()

    def __repr__(self) -> str:
        return "Cluster(…)"  # the proxy may have a password


class Variable(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """An environment variable of a plugin. Its value may be a secret."""

    name: str = ""
    value: str = ""

    def __repr__(self) -> str:
        return f"Variable({self.name!r})"


class Exec(msgspec.Struct, frozen=True, rename="camel"):
    """A plugin: a program that is asked for credentials."""

    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class AuthProvider(msgspec.Struct, frozen=True):
    """What there was before plugins."""

    name: str = ""
    config: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"AuthProvider({self.name!r})"


class UserEntry(msgspec.Struct, frozen=True, rename="kebab"):
    """The user of a kubeconfig, and whom it acts as."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    username: str = ""
    password: str = ""
    impersonate: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, tuple[str, ...]] = {}
    auth_provider: AuthProvider | None = None
    plugin: Exec | None = msgspec.field(default=None, name="exec")

    def __repr__(self) -> str:
        return "User(…)"


class Context(msgspec.Struct, frozen=True):
    """Which user of which cluster."""

    cluster: str = ""
    user: str = ""


class NamedEntry(msgspec.Struct, frozen=True):
    """An entry of a list in which names are unique."""

    name: str = ""


class NamedCluster(NamedEntry, frozen=True):
    """A cluster and its name."""

    cluster: ClusterEntry = ClusterEntry()


class NamedUser(NamedEntry, frozen=True):
    """A user and its name."""

    user: UserEntry = UserEntry()


class NamedContext(NamedEntry, frozen=True):
    """A context and its name."""

    context: Context = Context()


class NamedExtension(NamedEntry, frozen=True):
    """What somebody else's program reads."""

    extension: Any = None


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    current_context: str = ""
    clusters: tuple[NamedCluster, ...] = ()
    users: tuple[NamedUser, ...] = ()
    contexts: tuple[NamedContext, ...] = ()


@dataclass(frozen=True)
class Kubeconfig:
    """Several files, merged. `where` names them for people."""

    where: str
    current_context: str
    clusters: dict[str, ClusterEntry]
    users: dict[str, UserEntry]
    contexts: dict[str, Context]

    @property
    def is_empty(self) -> bool:
        """True if it says nothing at all."""
        return not (self.current_context or self.clusters or self.users or self.contexts)


def merged_files(paths: Iterable[Path]) -> Kubeconfig | None:
    """Read and merge those of the files that exist; None if none does.

    Raises: ConfigError if one cannot be read, for kubectl refuses that too.
    """
    there = [(path, found) for path in paths if (found := _read(path)) is not None]
    if not there:
        return None
    files = [file for _, file in there]
    return Kubeconfig(
        where=f"the kubeconfig {os.pathsep.join(str(path) for path, _ in there)}",
        current_context=next((f.current_context for f in files if f.current_context), ""),
        clusters=_first({each.name: each.cluster for each in file.clusters} for file in files),
        users=_first({each.name: each.user for each in file.users} for file in files),
        contexts=_first({each.name: each.context for each in file.contexts} for file in files),
    )


YamlValue = TypeVar("YamlValue")


def _first(maps: Iterable[dict[str, YamlValue]]) -> dict[str, YamlValue]:
    """Merge; the first map with a key wins."""
    result: dict[str, YamlValue] = {}
    for each in maps:
        result = each | result
    return result


def _read(path: Path) -> _File | None:
    """Read one file, its paths made absolute.

    Raises: ConfigError.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise _unreadable(path, _why(error)) from None
    if content is not None and not isinstance(content, dict):
        raise _unreadable(path, "it is no kubeconfig: it has no clusters, users and contexts")
    content = _without_nulls(content or {})
    try:
        file = msgspec.convert(content, type=_File)
    except msgspec.ValidationError as error:
        raise _unreadable(path, _in_words(error)) from None
    for kind in (file.clusters, file.users, file.contexts):
        _see_that_names_are_unique(path, kind)
    folder = path.absolute().parent
    return msgspec.structs.replace(
        file,
        clusters=tuple(_absolute_cluster(each, folder) for each in file.clusters),
        users=tuple(_absolute_user(each, folder) for each in file.users),
    )


def _unreadable(path: Path, why: str) -> ConfigError:
    hint = "name one with --kubeconfig; without a cluster: ollama-op demo"
    return ConfigError(f"the kubeconfig {path} cannot be read: {why}", hint)


def _why(error: OSError | UnicodeError | yaml.YAMLError) -> str:
    """Return why a file cannot be read, without repeating any of it."""
    match error:
        case OSError():
            return (error.strerror or "it cannot be opened").lower()
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
            return f"line {mark.line + 1} is no YAML"
        case _:
            return "it is no text"


def _in_words(error: msgspec.ValidationError) -> str:
    """Return where a value is of the wrong kind, without repeating it: it may be a secret."""
    problem, _, place = str(error).partition(" - at `")
    kinds = [words for kind, words in CONFIG_KINDS.items() if f"Expected `{kind}" in problem]
    return f"{place.strip('`').removeprefix('$.') or 'it'} is not {kinds[0] if kinds else 'valid'}"


def _without_nulls(value: Any) -> Any:
    """Drop what is null: for Go, that is as good as not written."""
    match value:
        case dict():
            return {str(k): _without_nulls(v) for k, v in value.items() if v is not None}
        case list():
            return [_without_nulls(each) for each in value if each is not None]
        case _:
            return value


def _see_that_names_are_unique(path: Path, entries: tuple[T, ...]) -> None:
    names = [each.name for each in entries]
    for name in names:
        if names.count(name) > 1:
            raise _unreadable(path, f"it has two entries with the name {name!r} in one list")


def _absolute_cluster(named: NamedCluster, folder: Path) -> NamedCluster:
    cluster = named.cluster
    if not cluster.certificate_authority:
        return named
    path = str(folder / cluster.certificate_authority)
    return NamedCluster(named.name, msgspec.structs.replace(cluster, certificate_authority=path))


def _absolute_user(named: NamedUser, folder: Path) -> NamedUser:
    user = named.user
    paths = {
        field: str(folder / path)
        for field in ("client_certificate", "client_key", "token_file")
        if (path := getattr(user, field))
    }
    plugin = user.plugin
    # A command without a slash is looked for on the PATH.
    if plugin is not None and os.sep in plugin.command:
        command = os.path.normpath(folder / plugin.command)
        plugin = msgspec.structs.replace(plugin, command=command)
    return NamedUser(named.name, msgspec.structs.replace(user, plugin=plugin, **paths))
