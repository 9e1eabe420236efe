"""Files that change as those of a mounted Secret do."""

from pathlib import Path


def swap(folder: Path, version: str, **files: bytes) -> None:
    """Put all files of a version there at once: their folder is a link, which is swapped.

    As the kubelet's atomic writer does. A name's `_` stands for a dot.
    """
    data = folder / f"..{version}"
    data.mkdir(parents=True)
    for key, content in files.items():
        name = key.replace("_", ".")
        (data / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").rename(folder / "..data")
