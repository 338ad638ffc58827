"""Recognition of a full disk, whichever library reports it."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from typing import Final

__all__ = ["full_disk"]

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


def full_disk(error: BaseException) -> str | None:
    """Return what is full, in words, if a full disk caused this error; None for any other cause."""
    for each in _causes(error):
        if isinstance(each, OSError) and each.errno in _FULL:
            place = f" ({each.filename})" if each.filename else ""
            return f"{os.strerror(each.errno)}{place}"
        if isinstance(each, sqlite3.Error) and getattr(each, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return "No space left for an SQLite database"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
