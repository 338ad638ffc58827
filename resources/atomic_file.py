"""Atomic file writes: content is written to a temporary file beside the target, then renamed.

Three modules rename files themselves: `dvc.deposit` writes many objects by descriptor for speed, `dvc.trees` recognises
its unfinished files by name, and the model server keeps its imports to a minimum.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_atomically"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; the content written there replaces the file when the block ends.

    If the block raises, the file is unchanged. Several processes may write one file at once; the last one wins.
    """
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}.unfinished")
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(file: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file atomically, so that readers never see partial content; its folder must exist.

    Args:
        file: an existing file keeps its permissions.
        content: text is written as UTF-8.
        durable: wait until the content is on disk, so that a power failure leaves the old or the new file.

    Raises:
        OSError: the file cannot be written; it is unchanged.
    """
    with replacing(file) as unfinished, unfinished.open("xb") as stream:
        if file.exists():
            os.fchmod(stream.fileno(), file.stat().st_mode & 0o777)
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
