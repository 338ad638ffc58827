"""Names that a mistyped one may have been meant for, as errors suggest them."""

import difflib
from collections.abc import Iterable

__all__ = ["suggestion"]


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return a clause with the names that one may have been meant for; empty where nothing is like it."""
    close = difflib.get_close_matches(name, sorted(names))
    return f" (did you mean {' or '.join(close)}?)" if close else ""
