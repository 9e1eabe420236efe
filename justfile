# What a developer does here. `just` alone lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Each process of the tests reads what an earlier one has compiled.
export PYTHONDONTWRITEBYTECODE := ""

python := env("OLLAMA_OP_PYTHON", "python3")
bin := justfile_directory() / ".venv/bin"

# Side by side: one test on each core; or more than two cores can bear, of those that mostly wait.
# The tests of a file stay together where they share what takes long to start, the longest ahead.
spread := "--numprocesses=auto --dist=worksteal"
waiting := "--numprocesses=3 --dist=worksteal"
by_file := "--numprocesses=3 --dist=loadfile --no-loadscope-reorder"

_list:
    @just --list --unsorted

# See the operator at work, without a cluster; `just demo --keep` leaves it running
[no-exit-message]
demo *flags: venv
    @{{ bin }}/ollama-op demo {{ flags }}

# The demo with its traces in a real Jaeger, at http://127.0.0.1:16686; Ctrl-C draws them and ends both
[no-exit-message]
jaeger: venv assets
    @{{ bin }}/python tests/assets/traced.py

# Everything that must pass: checks, then all tests, then the quick ones on the newest Python
test: check unit golden simulation process prometheus crash property contract e2e browser newest

# The quick tests: what you run each time you save a file
unit *flags: venv (_pytest "tests/unit" spread flags)

# Hours, days and years of the operator, in virtual time
simulation *flags: venv (_pytest "tests/simulation" spread flags)

# Servers, sockets and processes of this machine, and the bill of materials; no cluster
process *flags: venv (_pytest "tests/process tests/image/test_sbom.py" spread flags)

# What users see of each story, word for word; `just golden --write-golden` keeps what is seen now
golden *flags: venv (_pytest "tests/golden" spread flags)

# All tests of a folder; but where `flags` name some by path, only those, and one after the other
_pytest folder side_by_side *flags:
    {{ bin }}/pytest {{ if flags =~ '(^| )tests/' { "" } else { folder + " " + side_by_side } }} {{ flags }}

# Random steps and a few simulated hours
property *flags: venv
    {{ bin }}/pytest tests/property {{ flags }}

# 500 runs of up to 200 random steps each, new ones each time
verify-property *flags: venv
    {{ bin }}/python tests/property/verify.py {{ flags }}

# A simulated day of random steps: what the process holds at its end, and held at its beginning
verify-soak *flags: venv
    {{ bin }}/python tests/property/soak.py {{ flags }}

# Kill, cut off and refuse the operator at every write of every story, and see the same end
verify-crash *flags: venv
    @{{ bin }}/python tests/crash/verify.py {{ flags }}

# The crash sweep as tests, and the proof that it sees
crash *flags: venv (_pytest "tests/crash" spread flags)

# The same assertions on the sandbox and on the real parts
contract *flags: venv assets (_pytest "tests/contract" waiting flags)

# The operator on real etcd, kube-apiserver and Ollama
e2e *flags: venv assets (_pytest "tests/e2e" by_file flags)

# What the operator may do and what it really asks for, as a table, on a real kube-apiserver
permissions *flags: venv assets
    {{ bin }}/pytest tests/e2e/test_permissions.py --quiet -rP {{ flags }}

# The page in a real headless Chromium
browser *flags: venv browser-install (_pytest "tests/browser" by_file flags)

# Metrics and alerts, as Prometheus' own tool reads them
prometheus *flags: venv promtool-install
    {{ bin }}/pytest tests/prometheus {{ flags }}

# Install Debian's promtool, unless there is one
promtool-install:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v promtool >/dev/null && exit 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: promtool is not on the PATH" >&2
        echo "hint: sudo apt-get install prometheus" >&2
        exit 2
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus

# Install Debian's Chromium and its driver, unless they are there
browser-install:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: chromium and chromedriver are not on the PATH" >&2
        echo "hint: sudo apt-get install chromium chromium-driver" >&2
        exit 2
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver

# Unit tests, and contract tests on the sandbox, on the newest Python of this machine, if it is another
newest: venv
    #!/usr/bin/env bash
    set -euo pipefail
    found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python 2>/dev/null || true)
    found+=$'\n'$(uv python find '>=3.11' 2>/dev/null || true)
    found+=$'\n'$(command -v python3.15 python3.14 python3.13 python3.12 || true)
    newest=$(while read -r each; do
        [ -x "$each" ] && "$each" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3], sys.executable)' || true
    done <<<"$found" | sort -V | tail -n 1 | cut -d' ' -f2-)
    if [ "$("$newest" -V)" = "$({{ bin }}/python -V)" ]; then
        echo "the newest Python here is the one already tested: $("$newest" -V)"
        exit 0
    fi
    echo "on $("$newest" -V)"
    just venv .venv-newest "$newest"
    .venv-newest/bin/pytest tests/unit tests/simulation tests/process tests/contract -m "not real" {{ spread }}  # the real parts are the same on any Python

# Put the CRD into the current cluster, for an operator that runs elsewhere
install:
    @"$(just _kubectl)" apply -k config/crd

# Delete the CRD and with it EVERY OllamaModel; an operator must run, to take their models from Ollama
[confirm("This deletes every OllamaModel of the cluster, and their models from Ollama. Go on? [y/N]")]
[no-exit-message]
uninstall *flags:
    #!/usr/bin/env bash
    set -euo pipefail
    kubectl=$(just _kubectl)
    "$kubectl" delete -k config/crd --ignore-not-found --timeout=5m {{ flags }} && exit 0
    echo "error: OllamaModels are left; each waits for an operator to take its model from Ollama" >&2
    echo "hint: let one run, or see docs/install.md for how to go without" >&2
    exit 1

# Put CRD and operator into the current cluster; overlay is default, with-ollama or with-webhook
deploy overlay="default" image="ollama-op:0.1.0":
    #!/usr/bin/env bash
    set -euo pipefail
    kubectl=$(just _kubectl)
    "$kubectl" kustomize "config/{{ overlay }}" | sed "s|image: ollama-op:0.1.0$|image: {{ image }}|" |
        "$kubectl" apply -f -

# Delete the operator, and the Ollama of with-ollama with its disk; CRD and OllamaModels stay as they are
[no-exit-message]
undeploy *flags:
    #!/usr/bin/env bash
    set -euo pipefail
    kubectl=$(just _kubectl)
    # Without the operator, an object there would keep the namespace for ever.
    models=$("$kubectl" --namespace=ollama-op-system get ollamamodels --output=name 2>/dev/null || true)
    if [ -n "$models" ]; then
        echo "error: there are OllamaModels in the namespace ollama-op-system, which goes too" >&2
        echo "hint: kubectl --namespace=ollama-op-system delete ollamamodels --all" >&2
        exit 1
    fi
    "$kubectl" delete namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding,validatingwebhookconfiguration,mutatingwebhookconfiguration --selector=app.kubernetes.io/part-of=ollama-op {{ flags }}

# Print the path of kubectl: the PATH's, or else the one that is built
_kubectl:
    @command -v kubectl || { folder=$(just assets | tail -n 1); echo "$folder/kubectl"; }

# ruff, mypy and the import contracts
check: venv
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy
    {{ bin }}/lint-imports

# Put the code into shape
fmt: venv
    {{ bin }}/ruff check --fix .
    {{ bin }}/ruff format .

# Render config/crd from the structs
crd: venv
    {{ bin }}/python -m crd.render

# Render the Grafana dashboard config/prometheus/dashboard.json
dashboard: venv
    {{ bin }}/python config/prometheus/dashboard.py

# Render the reference of flags, fields, reasons, events and metrics into docs/reference.md
reference: venv
    {{ bin }}/python docs/reference.py

# Draw docs/demo.svg, a moment of the demo, for the README
picture: venv
    {{ bin }}/python docs/picture.py

# Render the page /docs/reasons from docs/reasons.md
guide: venv
    {{ bin }}/python docs/guide.py

# Build the real etcd, kube-apiserver, kubectl, Ollama and Jaeger; ends with the folder they are in
assets: venv
    @{{ bin }}/python tests/assets/build.py

# Build the image with buildah, as root, and try it: no part of `just test`, as not every machine can
image *flags: venv assets image-install
    {{ bin }}/pytest tests/image {{ flags }}

# Print the bill of materials of what is locked, in CycloneDX; the image has its own, see docs/image.md
sbom: venv
    @{{ bin }}/python config/image/sbom.py requirements.txt

# Install Debian's buildah and debootstrap, unless they are there
image-install:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v buildah >/dev/null && command -v debootstrap >/dev/null && exit 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: buildah and debootstrap are not on the PATH, or this is not root" >&2
        echo "hint: sudo apt-get install buildah debootstrap; sudo just image" >&2
        exit 2
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap

# Install everything on a real node and use it, as root: no part of `just test`, as not every machine can
node *flags: venv assets image-install node-install
    @{{ bin }}/python tests/assets/build.py node
    {{ bin }}/pytest tests/node {{ flags }}

# Install Debian's runc, nft, iptables and plugins of CNI, unless they are there
node-install:
    #!/usr/bin/env bash
    set -euo pipefail
    packages="runc nftables iptables containernetworking-plugins"
    command -v runc >/dev/null && command -v nft >/dev/null && command -v iptables >/dev/null &&
        { [ -x /opt/cni/bin/ptp ] || [ -x /usr/lib/cni/ptp ]; } && exit 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: runc, nft, iptables and the plugins of CNI are not here, or this is not root" >&2
        echo "hint: sudo apt-get install $packages; sudo just node" >&2
        exit 2
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages

# Measure the operator on a real kube-apiserver, against limits
bench *flags: venv assets
    {{ bin }}/python tests/bench/race.py {{ flags }}

# Try the REST API against its own description, with more than 20,000 cases
verify-api *flags="--max-examples 2400": venv
    {{ bin }}/python tests/verify/rest.py {{ flags }}

# Pause, kill and end the leader of two real operators, again and again; a round takes about 15 s
verify-leader *flags: venv assets
    {{ bin }}/python tests/verify/leader.py {{ flags }}

# Make the virtual environment, anew whenever the lock or the Python changes
venv folder=".venv" interpreter=python:
    #!/usr/bin/env bash
    set -euo pipefail
    want=$(cat requirements-dev.txt pyproject.toml; "{{ interpreter }}" -V)
    [ "$want" = "$(cat "{{ folder }}/.made-from" 2>/dev/null || true)" ] && exit 0
    "{{ interpreter }}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $("{{ interpreter }}" -V) is too old; Python 3.11 or later is needed" >&2
        echo "hint: OLLAMA_OP_PYTHON=/path/to/python just …" >&2
        exit 2
    }
    uv venv --quiet --clear --python "$("{{ interpreter }}" -c 'import sys; print(sys.executable)')" "{{ folder }}"
    uv pip sync --quiet --require-hashes --compile-bytecode --python "{{ folder }}" requirements-dev.txt
    uv pip install --quiet --no-deps --no-build-isolation --python "{{ folder }}" -e .
    echo "$want" >"{{ folder }}/.made-from"

# Bring the locks up to date: hashes, and no address to download from
lock:
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade pyproject.toml -o requirements.txt
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade pyproject.toml --group dev -o requirements-dev.txt
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --group build -o requirements-build.txt
