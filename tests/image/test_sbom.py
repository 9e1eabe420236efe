"""The bill of materials: what is locked and here is in it, and nothing else."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.txt"
SITE = Path(sysconfig.get_path("purelib"))
OPERATOR = "pkg:generic/ollama-op@0.1.0"


def write(*arguments: Path, **env: str) -> str:
    command = [sys.executable, ROOT / "config/image/sbom.py", *arguments]
    done = subprocess.run(command, env=os.environ | env, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def text() -> str:
    return write(LOCK)


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    return json.loads(text)


def locked() -> dict[str, set[str]]:
    """Return what the lock lets in, of what is installed here, by its purl."""
    found: dict[str, set[str]] = {}
    for entry in LOCK.read_text().replace("\\\n", "").splitlines():
        if (named := re.match(r"([a-z0-9-]+)==([^ ]+)", entry)) and is_installed(*named.groups()):
            purl = f"pkg:pypi/{named[1]}@{named[2]}"
            found[purl] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def is_installed(name: str, number: str) -> bool:
    try:
        return version(name) == number
    except PackageNotFoundError:
        return False


def test_it_lists_what_is_locked_with_its_hashes(bill: dict[str, Any]) -> None:
    """Each distribution of the lock that is here, none of those for development, none twice."""
    listed = [part["purl"] for part in bill["components"]]
    assert len(listed) == len(set(listed))
    hashes = {
        part["purl"]: {each["content"] for each in part["hashes"]} for part in bill["components"]
    }
    assert hashes == locked()


def test_it_is_a_bill_of_the_operator(bill: dict[str, Any]) -> None:
    """With its licence, and under a name that nobody can take in a registry."""
    root = bill["metadata"]["component"]
    assert root["purl"] == root["bom-ref"] == OPERATOR
    assert root["licenses"] == [{"license": {"id": "Apache-2.0"}}]


def test_it_says_what_needs_what(bill: dict[str, Any]) -> None:
    """Whatever is listed is needed by something that is."""
    needs = {each["ref"]: set(each.get("dependsOn", ())) for each in bill["dependencies"]}
    assert set.union(*needs.values()) == {part["purl"] for part in bill["components"]}
    names = {name.partition("@")[0] for name in needs[OPERATOR]}
    assert {"pkg:pypi/kr8s", "pkg:pypi/litestar", "pkg:pypi/uvloop"} <= names
    assert "pkg:pypi/httpcore" not in names


def install(folder: Path, name: str, *needs: str) -> None:
    lines = [f"Name: {name}", "Version: 1", *(f"Requires-Dist: {each}" for each in needs)]
    (folder / f"{name}-1.dist-info").mkdir(parents=True)
    (folder / f"{name}-1.dist-info/METADATA").write_text("\n".join(lines) + "\n")


def test_extras_are_followed(tmp_path: Path) -> None:
    """What a distribution needs only with an extra is listed where the extra is asked for."""
    install(tmp_path, "ollama_op", "Some.Thing[more]", "nowhere; sys_platform == 'win32'")
    install(tmp_path, "some_thing", "extra-of-it; extra == 'more'", "other; extra == 'else'")
    for name in ("extra_of_it", "other", "nowhere"):
        install(tmp_path, name)
    lock = tmp_path / "lock.txt"
    hashed = f" \\\n    --hash=sha256:{64 * '0'}\n"
    lock.write_text(f"extra-of-it==1{hashed}some-thing==1 ; sys_platform != 'x'{hashed}")
    bill = json.loads(write(lock, tmp_path))
    assert {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]} == {
        "pkg:generic/ollama-op@1": ["pkg:pypi/some-thing@1"],
        "pkg:pypi/some-thing@1": ["pkg:pypi/extra-of-it@1"],
        "pkg:pypi/extra-of-it@1": [],
    }
    lock.write_text(f"some-thing==1{hashed}")
    with pytest.raises(subprocess.CalledProcessError):
        write(lock, tmp_path)


def test_every_licence_is_known(bill: dict[str, Any]) -> None:
    """By its identifier in SPDX, but where a distribution says no more than that."""
    named = {}
    for part in bill["components"]:
        [said] = part["licenses"]
        if name := said.get("license", {}).get("name"):
            named[part["name"]] = name
    assert named == {"cronsim": "BSD License", "protobuf": "3-Clause BSD License"}


def test_it_is_cyclonedx(text: str) -> None:
    """The schema of version 1.6 has nothing against it."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["specVersion"] == "1.6"


def test_the_same_input_gives_the_same_bytes(text: str) -> None:
    """No time but what SOURCE_DATE_EPOCH says, and nothing random."""
    assert text == write(LOCK, PYTHONHASHSEED="1")
    dated = json.loads(write(LOCK, SOURCE_DATE_EPOCH="86400"))
    assert dated["metadata"].pop("timestamp") == "1970-01-02T00:00:00+00:00"
    assert dated == json.loads(text)


def test_no_address_is_in_it(bill: dict[str, Any]) -> None:
    """Where something came from is a matter of who builds."""
    schema = bill.pop("$schema")
    assert "://" not in json.dumps(bill)
    bill["$schema"] = schema


def test_the_system_is_in_it(tmp_path: Path) -> None:
    """Packages by their own versions and their sources, as advisories name them."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"')
    notes = tmp_path / "var/lib/dpkg/status.d"
    notes.mkdir(parents=True)
    note = "Package: {}\nSource: {}\nArchitecture: amd64\nVersion: {}\nDescription: a\n word\n"
    (notes / "libssl3").write_text(note.format("libssl3", "openssl", "3.0.17-1~deb12u2"))
    (notes / "zlib1g").write_text(note.format("zlib1g", "zlib (1.2.13)", "1:1.2.13.dfsg-1"))
    text = write(LOCK, SITE, tmp_path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    parts = [part for part in bill["components"] if not part["bom-ref"].startswith("pkg:pypi/")]
    python = ".".join(map(str, sys.version_info[:3]))
    assert {part["bom-ref"] for part in parts} == {
        "os",
        f"pkg:generic/python@{python}",
        "pkg:deb/debian/libssl3@3.0.17-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib%401.2.13",
    }
    [system] = [part for part in parts if part["type"] == "operating-system"]
    assert (system["name"], system["version"]) == ("debian", "12")
    [needs] = [each["dependsOn"] for each in bill["dependencies"] if each["ref"] == OPERATOR]
    assert {part["bom-ref"] for part in parts} <= set(needs)
