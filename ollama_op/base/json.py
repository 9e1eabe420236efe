"""What JSON is in Python, where its form is not known ahead."""

from typing import Any

Object = dict[str, Any]


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied; neither is changed.

    Source: RFC 7386.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
