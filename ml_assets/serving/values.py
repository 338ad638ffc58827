"""Short representations of request values for messages."""

import reprlib
from typing import Any

__all__ = ["shown"]

_LONGEST = 60

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _LONGEST
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """Return the value's Python representation, shortened."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
