"""What the tests build: each real part, the version it has, and how it is linked."""

import hashlib
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ("-mod=readonly", "-trimpath")  # readonly: what go.sum does not list fails the build


class BuildError(Exception):
    """The parts cannot be had. The message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Go module, and the commands that are built from it.

    `{version}`, `{major}` and `{minor}` in `stamps` are those of the required `module`; unstamped,
    some commands take themselves for version 0.0.0.
    """

    name: str
    module: str
    commands: Mapping[str, str]
    stamps: tuple[str, ...] = ()
    cgo: bool = False

    @property
    def folder(self) -> Path:
        """Where the part's go.mod is."""
        return HERE / self.name

    @property
    def version(self) -> str:
        """The version that go.mod requires, without its "v"."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^require {re.escape(self.module)} v(\S+)$", text, re.MULTILINE)
        if not found:
            raise BuildError(f"{self.folder}/go.mod does not require {self.module}")
        return found[1]

    @property
    def ldflags(self) -> str:
        """Flags for the linker: no debug symbols, and the version stamped in."""
        major, minor, *_ = self.version.split(".")
        stamps = (s.format(version=self.version, major=major, minor=minor) for s in self.stamps)
        return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in stamps)])

    @property
    def key(self) -> str:
        """Name, version and a hash of all that decides how the binaries come out."""
        ours = sorted(self.folder.rglob("main.go"))
        sums = [
            path.read_text() for path in (self.folder / "go.mod", self.folder / "go.sum", *ours)
        ]
        flags = [*FLAGS, self.ldflags, str(self.cgo), *self.commands, *self.commands.values()]
        return f"{self.name}-{self.version}-{short_hash(*sums, *flags)}"


_STAMP = "k8s.io/component-base/version."
_KUBERNETES_STAMPS = (
    _STAMP + "gitVersion=v{version}",
    _STAMP + "gitMajor={major}",
    _STAMP + "gitMinor={minor}",
)
PARTS = (
    Part(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        commands={"etcd": "go.etcd.io/etcd/server/v3"},
    ),
    Part(
        name="kubernetes",
        module="k8s.io/kubernetes",
        commands={
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
        stamps=_KUBERNETES_STAMPS,
    ),
    # Apart from the two above, whose binaries are kept as they are when this one changes.
    Part(
        name="controllers",
        module="k8s.io/kubernetes",
        commands={"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager"},
        stamps=_KUBERNETES_STAMPS,
    ),
    Part(
        name="ollama",
        module="github.com/ollama/ollama",
        commands={"ollama": "github.com/ollama/ollama"},
        stamps=("github.com/ollama/ollama/version.Version={version}",),
        cgo=True,
    ),
    Part(
        name="jaeger",
        module="github.com/jaegertracing/jaeger",
        commands={"jaeger": "github.com/jaegertracing/jaeger/cmd/all-in-one"},
        stamps=("github.com/jaegertracing/jaeger/pkg/version.latestVersion=v{version}",),
    ),
)
NODE_PARTS = (
    Part(
        name="node",
        module="k8s.io/kubernetes",
        commands={
            **{
                name: f"k8s.io/kubernetes/cmd/{name}"
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kube-proxy",
                    "kubelet",
                )
            },
            "pause": "./pause",
        },
        stamps=_KUBERNETES_STAMPS,
    ),
    Part(
        name="containerd",
        module="github.com/containerd/containerd/v2",
        commands={
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        stamps=("github.com/containerd/containerd/v2/version.Version=v{version}",),
    ),
    Part(
        name="coredns",
        module="github.com/coredns/coredns",
        commands={"coredns": "."},
    ),
    Part(
        name="kube-network-policies",
        module="sigs.k8s.io/kube-network-policies",
        commands={"kube-network-policies": "sigs.k8s.io/kube-network-policies/cmd"},
    ),
)


def short_hash(*texts: str) -> str:
    """Eight hex digits for these texts on this kind of machine."""
    data = "\0".join([*texts, platform.system(), platform.machine()])
    return hashlib.sha256(data.encode()).hexdigest()[:8]
