"""Writes the bill of materials of the image: `sbom.py LOCK [PACKAGES [ROOT]]`.

CycloneDX 1.6 in JSON, to standard output: the operator, which is what the bill is of; whatever it
needs of the folder PACKAGES, or else of what runs this, with the hashes that LOCK demands; and of
the folder ROOT, which rootfs.py has filled, the system and those packages of it that files were
copied from. The same input gives the same bytes: there is no serial number, and no time but that of
SOURCE_DATE_EPOCH.
"""

import os
import platform
import re
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_string
from importlib.metadata import Distribution, distributions, version
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "ollama-op"
HERE = Path(sysconfig.get_path("purelib"))
LIBRARY = "cyclonedx-python-lib"
ENTRY = r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+).*(?P<hashes>(?:\n +--hash=.*)+)"
LOCKED = re.compile(ENTRY, re.MULTILINE)
SHA256 = re.compile(r"sha256:(\w{64})")
OSI = "License :: OSI Approved :: "

Hashes = dict[tuple[str, str], list[HashType]]


def main(lock: Path, packages: Path = HERE, root: Path | None = None) -> None:
    """Print the bill.

    Raises: KeyError for a package that the lock does not have.
    """
    found = {canonicalize_name(each.name): each for each in distributions(path=[str(packages)])}
    needs = _needs(found)
    hashes = _hashes(lock.read_text())
    about = {name: _describe(found[name], hashes) for name in needs}
    system = [*_system(root)] if root else []

    bom = Bom(components=[part for name, part in about.items() if name != ROOT] + system)
    bom.serial_number = None  # as for the time: the library would make one up
    bom.metadata.timestamp = _time()
    bom.metadata.component = about[ROOT]
    bom.metadata.properties.add(Property(name="cdx:reproducible", value="true"))
    writer = Component(name=LIBRARY, version=version(LIBRARY), type=ComponentType.LIBRARY)
    bom.metadata.tools.components.add(writer)
    for name, part in about.items():
        below = [about[each] for each in sorted(needs[name])]
        bom.register_dependency(part, below + (system if name == ROOT else []))
    print(JsonV1Dot6(bom).output_as_string(indent=1))  # noqa: T201 - it is what it is for


def _needs(found: dict[str, Distribution]) -> dict[str, set[str]]:
    """Follow what each distribution needs, from the operator on; what is not there is left out."""
    needs: dict[str, set[str]] = {}
    todo, seen = [(ROOT, "")], set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen or name not in found:
            continue
        seen.add((name, extra))
        needs.setdefault(name, set())
        for need in map(Requirement, found[name].requires or ()):
            below = canonicalize_name(need.name)
            wanted = need.marker is None or need.marker.evaluate({"extra": extra})
            if wanted and below in found:
                needs[name].add(below)
                todo += [(below, each) for each in ("", *need.extras)]
    return needs


def _hashes(lock: str) -> Hashes:
    """Return all that the lock lets in for a name and a version: one is of what was installed."""
    return {
        (canonicalize_name(entry["name"]), entry["version"]): [
            HashType(alg=HashAlgorithm.SHA_256, content=each)
            for each in SHA256.findall(entry["hashes"])
        ]
        for entry in LOCKED.finditer(lock)
    }


def _describe(found: Distribution, hashes: Hashes) -> Component:
    name = canonicalize_name(found.name)
    is_root = name == ROOT  # which no registry has
    purl = PackageURL("generic" if is_root else "pypi", name=name, version=found.version)
    return Component(
        name=name,
        version=found.version,
        type=ComponentType.APPLICATION if is_root else ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        licenses=_licenses(found),
        hashes=[] if is_root else hashes[name, found.version],
    )


def _licenses(found: Distribution) -> list[License]:
    """Return what it says of its licence: an identifier of SPDX if it can be, or else its words."""
    factory = LicenseFactory()
    if expression := found.metadata.get("License-Expression"):
        return [factory.make_from_string(expression)]
    # What came before: a few words or the whole text, whose first line is its title; classifiers.
    words = (found.metadata.get("License") or "").strip().splitlines()[:1]
    said = found.metadata.get_all("Classifier") or []
    words += [each.removeprefix(OSI) for each in said if each.startswith(OSI)]
    for each in words:
        made = factory.make_from_string(each.removesuffix(" License"))
        if isinstance(made, LicenseExpression) or made.id:
            return [made]
    return [factory.make_with_name(each) for each in words[:1]]


def _system(root: Path) -> Iterator[Component]:
    """Name the system, what was copied of its packages, and an interpreter that is none of them."""
    lines = (root / "etc/os-release").read_text()
    release = dict(each.split("=", 1) for each in shlex.split(lines, comments=True))
    name, number = release["ID"], release.get("VERSION_ID", "")
    yield Component(name=name, version=number, type=ComponentType.OPERATING_SYSTEM, bom_ref="os")
    notes = sorted(root.glob("var/lib/dpkg/status.d/*"))
    for note in notes:
        fields = message_from_string(note.read_text())
        source, _, source_version = fields.get("Source", fields["Package"]).partition(" ")
        upstream = f"{source}@{source_version.strip('()')}" if source_version else source
        where = {"arch": fields["Architecture"], "distro": f"{name}-{number}", "upstream": upstream}
        yield _part(PackageURL("deb", name, fields["Package"], fields["Version"], where))
    now = platform.python_version()
    if not any(note.name.startswith("python3") for note in notes):
        interpreter = _part(PackageURL("generic", name="python", version=now))
        interpreter.cpe = f"cpe:2.3:a:python:python:{now}:*:*:*:*:*:*:*"
        interpreter.type = ComponentType.PLATFORM
        yield interpreter


def _part(purl: PackageURL) -> Component:
    kind = ComponentType.LIBRARY
    return Component(name=purl.name, version=purl.version, type=kind, bom_ref=str(purl), purl=purl)


def _time() -> datetime | None:
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
