"""How each part of a node is set up, and the objects that a cluster has before anybody uses it."""

import json
from pathlib import Path
from typing import Any

from support.kube.controlplane import ADMIN_TOKEN
from support.node.box import Box
from support.node.images import PAUSE
from support.process.operator import Object

NAME = "node"
API_PORT = 6443  # where most clusters have it, and so what network policies let out
DISKS = "disks"  # the folder in which they are
_HOW_MANY_DISKS = 3
_MASTERS = "system:masters"
PEOPLE = {  # who calls the API, under which name, and in which group if it has its rights by that
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
    "kube-controller-manager": ("system:kube-controller-manager",),
    "kube-scheduler": ("system:kube-scheduler",),
    "kube-proxy": ("system:kube-proxy",),
    "network": ("network", _MASTERS),
}
# The name in the certificate by which the kubelet knows the API; see `support.kube.certificate`.
_APISERVER = "ollama-op tests"


def apiserver_flags(made: Box) -> list[str]:
    """Return what the kube-apiserver of a cluster with nodes is told, beyond one without."""
    tokens = made.folder / "tokens.csv"
    people = {ADMIN_TOKEN: ("admin", _MASTERS), **PEOPLE}
    rows = [",".join([who, user, user, *group]) for who, (user, *group) in people.items()]
    tokens.write_text("\n".join(rows))
    return [
        f"--advertise-address={made.address}",
        "--endpoint-reconciler-type=lease",
        f"--token-auth-file={tokens}",
        "--authorization-mode=Node",  # and RBAC, which is asked for anyway
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={made.folder / 'certificate.pem'}",
        f"--kubelet-client-key={made.folder / 'key.pem'}",
    ]


def kubelet(made: Box) -> Object:
    """Return a kubelet's configuration."""
    (made.folder / "resolv.conf").touch()
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": made.address,
        "healthzBindAddress": made.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(made.folder / "certificate.pem")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": made.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,  # they are as it wants them; it must not set them
        "clusterDomain": "cluster.local",
        "clusterDNS": [made.address],
        "resolvConf": str(made.folder / "resolv.conf"),
        # A disk that is nearly full is no reason to refuse a test.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }


def kube_proxy(made: Box, kubeconfig: Path) -> Object:
    """Return a kube-proxy's configuration: nftables, and no setting of the kernel's."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": made.pods,
        "hostnameOverride": NAME,
        "bindAddress": made.address,
        "healthzBindAddress": f"{made.address}:10256",
        "metricsBindAddress": f"{made.address}:10249",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def network(made: Box) -> Object:
    """Return what CNI makes of a pod's network: a cable to the node, on which all is routed."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": made.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}]}


def containerd(made: Box) -> str:
    """Return containerd's configuration; all else is as it is by default."""
    return f"""
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true  # root need not be allowed to shield its processes
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
  conf_dir = "{made.folder / "cni"}"
"""


def coredns(made: Box, kubeconfig: Path) -> str:
    """Return CoreDNS' configuration: it knows the cluster's names, and no others."""
    return f"""
.:53 {{
    bind {made.address}
    errors
    ready {made.address}:8181
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
    }}
}}
"""


def objects(made: Box) -> list[Object]:
    """Return what the cluster's administrator sets up: rights, disks and modesty."""
    return [
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            "kube-apiserver-to-kubelet",
            roleRef={
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:kubelet-api-admin",
            },
            subjects=[{"kind": "User", "name": _APISERVER}],
        ),
        _object(
            "storage.k8s.io/v1",
            "StorageClass",
            "local",
            annotations={"storageclass.kubernetes.io/is-default-class": "true"},
            provisioner="kubernetes.io/no-provisioner",
            volumeBindingMode="WaitForFirstConsumer",
        ),
        *(_disk(made.folder / DISKS / str(number)) for number in range(_HOW_MANY_DISKS)),
        *_modesty(),
    ]


def _disk(path: Path) -> Object:
    path.mkdir(parents=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
    return _object(
        "v1",
        "PersistentVolume",
        f"disk-{path.name}",
        spec={
            "storageClassName": "local",
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    )


def _modesty() -> list[Object]:
    """Return a policy by which containers ask for less than they do: two CPUs are all there are."""
    containers = "object.spec.containers"
    asking = (
        f"[0, 1, 2, 3].filter(i, i < size({containers}) && has({containers}[i].resources)"
        f" && has({containers}[i].resources.requests))"
    )
    path = '"/spec/containers/" + string(i) + "/resources/requests"'
    patches = [
        f'{asking}.map(i, JSONPatch{{op: "add", path: {path} + "/{what}", value: "{little}"}})'
        for what, little in (("cpu", "10m"), ("memory", "32Mi"))
    ]
    api = "admissionregistration.k8s.io/v1"
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    return [
        _object(
            api,
            "MutatingAdmissionPolicy",
            "small-machine",
            spec={
                "matchConstraints": {"resourceRules": [pods]},
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [
                    {"patchType": "JSONPatch", "jsonPatch": {"expression": " + ".join(patches)}}
                ],
            },
        ),
        _object(
            api,
            "MutatingAdmissionPolicyBinding",
            "small-machine",
            spec={"policyName": "small-machine"},
        ),
    ]


def _object(
    api: str, kind: str, name: str, annotations: dict[str, str] | None = None, **rest: Any
) -> Object:
    metadata = {"name": name, "annotations": annotations or {}}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def written(path: Path, content: Object | str) -> Path:
    """Write a configuration; JSON is YAML too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
