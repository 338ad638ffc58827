"""Suggestions for mistyped names, for error messages."""

import difflib
from collections.abc import Iterable

__all__ = ["suggestion"]


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return a clause with the most similar names; empty if none is similar."""
    close = difflib.get_close_matches(name, sorted(names))
    return f" (did you mean {' or '.join(close)}?)" if close else ""
