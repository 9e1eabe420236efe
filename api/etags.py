"""Entity tags in conditions: which versions of an object a client means.

Ours are strong: the resourceVersion and a checksum of what is sent, in quotes. A write needs the
former only, so a bare resourceVersion is taken too. A proxy that compresses makes them weak, or
adds the coding to them, as in `"5.0a1b2c3d-gzip"`. They name the same version of the object still,
which is what a write asks for, so If-Match takes them as well, though RFC 9110 has it compare
strong tags only.

Source: RFC 9110, 8.8.3 and 13.1.1; Apache, mod_deflate; nginx, gzip.
"""

import re
from typing import Final

ANY_ETAG: Final = "*"
_TAG: Final = re.compile(r'\s*((?:W/)?"[^"\x00-\x20\x7f]*"|[0-9]+)\s*(?:,|$)')
_OURS: Final = re.compile(
    r'(?:W/)?"?([0-9]+)(?:\.[0-9a-f]{8})?(?:[-;+](?:gzip|br|deflate|zstd))?"?'
)


class NoTagsError(ValueError):
    """The text is no list of entity tags."""


def versions(text: str) -> list[str]:
    """Return the resourceVersions among the tags of a list; those of others mean nothing here.

    A number without quotes counts as a tag: shells eat the quotes that HTTP wants.

    Raises: NoTagsError.
    """
    tags, at = list[str](), 0
    while at < len(text):
        found = _TAG.match(text, at)
        if found is None:
            raise NoTagsError(text)
        tags.append(found[1])
        at = found.end()
    if not tags:
        raise NoTagsError(text)
    return [ours[1] for tag in tags if (ours := _OURS.fullmatch(tag))]
