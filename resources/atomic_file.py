"""Files that are either whole or not there: written beside their place, and renamed.

Three parts rename by themselves: `dvc.deposit`, which writes many objects by their descriptors for speed; `dvc.trees`,
whose listings know its unfinished files by name; and the model server, which imports nothing that it does not need.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_atomically"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a path beside a file, at which to write its new content; the content replaces the file at the end.

    Where the block raises, the file stays as it was. Several processes may write one file at once; the last one wins.
    """
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}.unfinished")
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(file: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file so that no reader sees a part of it; its folder must exist.

    Args:
        file: an existing one keeps its permissions.
        content: text is written as UTF-8.
        durable: wait until the content is on disk, so that a power failure leaves the old or the new file.

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    with replacing(file) as unfinished, unfinished.open("xb") as stream:
        if file.exists():
            os.fchmod(stream.fileno(), file.stat().st_mode & 0o777)
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
