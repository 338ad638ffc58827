"""Copy files into an object directory, each under its MD5; runs as a separate program.

It imports only the standard library, so that a process starts in a few hundredths of a second.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from io import FileIO
from typing import NamedTuple

__all__ = ["STAMP_NS", "Deposit", "deposit", "is_held", "md5_of", "object_path", "publish"]

_SMALL = 1 << 16
_CHUNK = 1 << 20
_READ_ONLY = 0o444

STAMP_NS = 946_684_800 * 10**9
"""Modification time of every object (the first second of 2000); a different time reveals a modified object without a
read. Objects that DVC stored lack it; storing them again replaces them with equal ones."""


class Deposit(NamedTuple):
    """The destination and form of a batch of objects."""

    objects: str
    """Directory with DVC's layout: ``ab/cdef…``."""
    temporary: str
    """Directory on the same file system for incomplete files."""
    suffix: str = ""
    """``.dir`` for listings of directories."""


def deposit(sources: Sequence[str], to: Deposit, expected: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """Copy each source to the object named by its MD5, unless that is there already.

    A rename publishes each object, complete and read-only. The hash covers the written bytes, even if a source changes
    meanwhile.

    Args:
        sources: paths of files.
        to: their destination.
        expected: expected MD5 of each source; a source with a different one is not stored.

    Returns:
        The actual MD5 and size in bytes of each source.
    """
    wanted = expected or [""] * len(sources)
    return [_deposit(source, to, md5) for source, md5 in zip(sources, wanted, strict=True)]


def object_path(objects: str, md5: str) -> str:
    """Return the path of an object in DVC's layout."""
    return f"{objects}/{md5[:2]}/{md5[2:]}"


def is_held(path: str, size: int) -> bool:
    """Return True if an object of this size exists, has our timestamp, and is unmodified."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return found.st_size == size and found.st_mtime_ns == STAMP_NS


def md5_of(stream: FileIO) -> tuple[str, int]:
    """Return the MD5 and size of the unread rest of a file."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _deposit(source: str, to: Deposit, expected: str) -> tuple[str, int]:
    with open(source, "rb", buffering=0) as stream:
        content = stream.read(_SMALL)
        if len(content) < _SMALL:
            md5, size = hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content)
        else:
            stream.seek(0)
            md5, size = md5_of(stream)
        if expected and md5 != expected:
            return md5, size
        target = object_path(to.objects, md5) + to.suffix
        if is_held(target, size):
            return md5, size
        temporary = f"{to.temporary}/{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY)
        try:
            if len(content) < _SMALL:
                _write(descriptor, content)
            else:
                stream.seek(0)
                md5, size = _copy(stream, descriptor)
                target = object_path(to.objects, md5) + to.suffix
            publish(descriptor, temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
    return md5, size


def _copy(stream: FileIO, descriptor: int) -> tuple[str, int]:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        _write(descriptor, chunk)
    return digest.hexdigest(), size


def _write(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, content[written:])


def publish(descriptor: int, temporary: str, target: str) -> None:
    """Publish a finished file as an object, by rename; the descriptor is the file's."""
    os.fchmod(descriptor, _READ_ONLY)
    os.utime(descriptor, ns=(STAMP_NS, STAMP_NS))
    try:
        os.rename(temporary, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(temporary, target)


def _main() -> None:
    order = json.load(sys.stdin)
    answer: dict[str, object]
    try:
        answer = {"deposited": deposit(order["sources"], Deposit(*order["to"]), order["expected"])}
    except OSError as error:
        answer = {"error": [error.errno, error.strerror, error.filename]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
