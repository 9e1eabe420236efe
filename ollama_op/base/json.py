"""What JSON is in Python, where its form is not known ahead."""

from typing import Any

Object = dict[str, Any]
