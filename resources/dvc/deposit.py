"""Copy files into an object directory, each under its MD5, and sync them; runs as a separate program.

It imports only the standard library, so that a process starts in a few hundredths of a second.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import NamedTuple

__all__ = [
    "STAMP_NS",
    "Deposit",
    "deposit",
    "file_md5",
    "is_held",
    "md5_of",
    "object_path",
    "publish",
    "sync",
    "sync_disk",
]

_SMALL = 1 << 16
_CHUNK = 1 << 20
_READ_ONLY = 0o444
_BATCH_FILES, _BATCH_BYTES = 1 << 14, 1 << 27
"""Files and bytes that are synced together."""
_FEW = 32
"""Up to this number, files are synced one by one; more with one call for the whole file system."""

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
    durable: bool = False
    """True if an object must survive a power failure once `deposit` has returned."""


def deposit(sources: Sequence[str], to: Deposit, expected: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """Copy each source to the object named by its MD5, unless that exists with the same content.

    A rename publishes each object, complete, read-only and, if wanted, synced. The hash covers the written bytes, even
    if a source changes meanwhile.

    Args:
        sources: paths of files.
        to: their destination.
        expected: expected MD5 of each source; a source with a different one is not stored.

    Returns:
        The actual MD5 and size in bytes of each source.
    """
    wanted = expected or [""] * len(sources)
    batch = _Batch(to)
    try:
        stored = [batch.add(source, md5) for source, md5 in zip(sources, wanted, strict=True)]
        batch.publish()
    except BaseException:
        batch.abandon()
        raise
    return stored


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


def file_md5(path: str) -> str:
    """Return the MD5 of a file."""
    with open(path, "rb", buffering=0) as stream:
        return md5_of(stream)[0]


class _Batch:
    """Finished files that are not objects yet: they are synced together, then renamed together."""

    def __init__(self, to: Deposit) -> None:
        self._to = to
        self._waiting: list[tuple[str, str]] = []
        self._size = 0
        self._number = 0

    def add(self, source: str, expected: str) -> tuple[str, int]:
        """Copy one source; return its MD5 and size."""
        with open(source, "rb", buffering=0) as stream:
            content = stream.read(_SMALL)
            if len(content) < _SMALL:
                md5, size = hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content)
            else:
                stream.seek(0)
                md5, size = md5_of(stream)
            if (expected and md5 != expected) or _is_stored(self._target(md5), size, md5):
                return md5, size
            temporary = f"{self._to.temporary}/{os.getpid()}.{self._number}"
            self._number += 1
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY)
            try:
                if len(content) < _SMALL:
                    _write(descriptor, content)
                else:
                    stream.seek(0)
                    md5, size = _copy(stream, descriptor)
                _finish(descriptor)
            except BaseException:
                _unlink(temporary)
                raise
            finally:
                os.close(descriptor)
        self._waiting.append((temporary, self._target(md5)))
        self._size += size
        if not self._to.durable or self._size >= _BATCH_BYTES or len(self._waiting) >= _BATCH_FILES:
            self.publish()
        return md5, size

    def publish(self) -> None:
        """Turn the waiting files into objects. Files are synced before their names, so no name lacks its content."""
        if self._to.durable:
            sync([temporary for temporary, _ in self._waiting])
        changed = {os.path.dirname(target) for _, target in self._waiting}
        for temporary, target in self._waiting:
            changed.update(_move(temporary, target))
        if self._to.durable:
            sync(sorted(changed))
        self._waiting, self._size = [], 0

    def abandon(self) -> None:
        """Delete the waiting files."""
        for temporary, _ in self._waiting:
            _unlink(temporary)

    def _target(self, md5: str) -> str:
        return object_path(self._to.objects, md5) + self._to.suffix


def sync(paths: Sequence[str]) -> None:
    """Wait until these files or folders, which are on one file system, are on disk.

    Raises:
        OSError: the disk reported an error.
    """
    if len(paths) > _FEW:
        sync_disk(paths[0])
        return
    for path in paths:
        with _opened(path) as descriptor:
            os.fsync(descriptor)


def sync_disk(path: str) -> None:
    """Wait until everything that was written to the file system of this path is on disk.

    Raises:
        OSError: the disk reported an error.
    """
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "syncfs"):  # Only Linux has it.
        os.sync()
        return
    with _opened(path) as descriptor:
        if system.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def publish(descriptor: int, temporary: str, target: str) -> None:
    """Publish a finished file as an object, by rename; the descriptor is the file's."""
    _finish(descriptor)
    _move(temporary, target)


def _is_stored(target: str, size: int, md5: str) -> bool:
    """Return True if the object exists; its content is compared, because storing again must heal a damaged object."""
    try:
        return is_held(target, size) and file_md5(target) == md5
    except OSError:  # It cannot be read, so it is replaced.
        return False


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


def _finish(descriptor: int) -> None:
    os.fchmod(descriptor, _READ_ONLY)
    os.utime(descriptor, ns=(STAMP_NS, STAMP_NS))


def _move(temporary: str, target: str) -> list[str]:
    """Rename a file to its object; return the folders that have a new entry for a folder."""
    try:
        os.rename(temporary, target)
    except FileNotFoundError:
        folder = os.path.dirname(target)
        changed = [parent := os.path.dirname(folder)]
        while not os.path.exists(parent):
            changed.append(parent := os.path.dirname(parent))
        os.makedirs(folder, exist_ok=True)
        os.rename(temporary, target)
        return changed
    return []


def _unlink(file: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(file)


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
