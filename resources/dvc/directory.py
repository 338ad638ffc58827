"""A directory of content-addressed objects in DVC's layout; used for directory remotes and every cache."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ml_assets.resources.dvc import deposit as dvc_deposit
from ml_assets.resources.dvc.deposit import STAMP_NS, Deposit
from ml_assets.resources.errors import ContentCorrupt, ContentMissing, StoreError, StoreFull
from ml_assets.resources.full_disk import full_disk

__all__ = [
    "Condition",
    "HeldObject",
    "ObjectDirectory",
    "corrupt_object",
    "disk_errors",
    "is_intact",
    "is_object",
    "missing_object",
]

_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
_SECONDS_PER_FILE, _SECONDS_PER_BYTE = 6e-5, 4e-9
_WORTH_A_PROCESS = 0.25
_MOST_PROCESSES = 8
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Condition(StrEnum):
    """The condition of an object whose content was read."""

    INTACT = "intact"
    DAMAGED = "damaged"
    """Its content does not match its hash, or cannot be read."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class HeldObject:
    """A stored object."""

    size: int
    """Size in bytes."""
    written: float | None
    """Write time in seconds since 1970; None if the server does not report it."""


class ObjectDirectory:
    """Objects under ``files/md5/ab/cdef…``; each one is read-only and appears atomically.

    Incomplete files are in ``.incoming``; the next process that starts alone deletes leftovers of killed processes.

    Args:
        root: the directory that holds ``files``.
        durable: True if objects must survive a power failure; a cache can be filled again.
    """

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.root = root
        self._durable = durable
        self._objects = str(root / "files" / "md5")

    def path(self, value: str) -> Path:
        """Return the path of the object with this DVC hash; it need not exist."""
        return Path(dvc_deposit.object_path(self._objects, value))

    def missing(self, values: Iterable[str]) -> set[str]:
        """Return the objects that are not in this directory."""
        return {value for value in values if not os.path.exists(dvc_deposit.object_path(self._objects, value))}

    def not_intact(self, values: Iterable[str]) -> set[str]:
        """Return the objects that are missing, were not written by us, or were modified afterwards."""
        return {value for value in values if not is_intact(dvc_deposit.object_path(self._objects, value))}

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        """Return the objects that are not intact or differ from the given size."""
        place = dvc_deposit.object_path
        return {
            value
            for value, size in zip(values, sizes, strict=True)
            if not dvc_deposit.is_held(place(self._objects, value), size)
        }

    def deposit(
        self, sources: Sequence[str], size: int, *, expected: Sequence[str] | None = None, suffix: str = ""
    ) -> list[tuple[str, int]]:
        """Copy files here, each under its MD5, in several processes if the batch is large enough.

        Args:
            sources: paths of files.
            size: approximate total bytes.
            expected: expected MD5 of each; a file with a different one is not stored.
            suffix: ``.dir`` for listings of directories.

        Returns:
            MD5 and size of each source.
        """
        if not sources:
            return []
        with self.workspace() as temporary:
            to = Deposit(self._objects, str(temporary), suffix, self._durable)
            return _in_processes(sources, to, expected, _processes(len(sources), size))

    def write(self, content: bytes, *, suffix: str = "") -> str:
        """Store bytes and return their MD5."""
        with self.workspace() as temporary:
            source = temporary / "content"
            source.write_bytes(content)
            [(md5, _)] = self.deposit([str(source)], len(content), suffix=suffix)
            return md5

    def adopt(self, source: Path, value: str) -> bool:
        """Move a downloaded file here as the object with this hash, unless its content has a different hash."""
        with open(source, "rb", buffering=0) as stream:
            md5, _ = dvc_deposit.md5_of(stream)
            if md5 != value.removesuffix(".dir"):
                return False
            dvc_deposit.publish(stream.fileno(), str(source), str(self.path(value)))
        return True

    def link(self, value: str, destination: str) -> None:
        """Make the object available at a second path, as a hard link if the file system supports it."""
        source = dvc_deposit.object_path(self._objects, value)
        try:
            os.link(source, destination)
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP):
                raise
            shutil.copyfile(source, destination)
            os.chmod(destination, 0o444)
            os.utime(destination, ns=(STAMP_NS, STAMP_NS))

    def held(self) -> dict[str, HeldObject]:
        """Return every object in this directory, by its DVC hash."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._objects) as folders:
            for folder in folders:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder.path) as objects:
                    for each in objects:
                        if not is_object(folder.name + each.name):
                            continue
                        state = each.stat(follow_symlinks=False)
                        # The modification time is our stamp; the inode's change time is the storage time.
                        found[folder.name + each.name] = HeldObject(state.st_size, state.st_ctime)
        return found

    def condition(self, value: str) -> Condition:
        """Read an object and return its condition."""
        try:
            found = dvc_deposit.file_md5(dvc_deposit.object_path(self._objects, value))
        except (FileNotFoundError, NotADirectoryError):
            return Condition.MISSING
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EISDIR):
                raise
            return Condition.DAMAGED
        return Condition.INTACT if found == value.removesuffix(".dir") else Condition.DAMAGED

    def remove(self, values: Iterable[str]) -> None:
        """Delete objects; ignore those that do not exist."""
        for value in values:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dvc_deposit.object_path(self._objects, value))

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a temporary folder on the same file system for incomplete files; it is deleted afterwards."""
        incoming = self.root / ".incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        lock = os.open(incoming, os.O_RDONLY)
        try:
            _remove_abandoned(incoming, lock)
            folder = Path(tempfile.mkdtemp(dir=incoming))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def is_object(value: str) -> bool:
    """Return True if this is the name of an object; others may store files of any name beside objects."""
    return _OBJECT.fullmatch(value) is not None


def missing_object(value: str, remote: str) -> ContentMissing:
    """Return the error for an object that a remote does not hold."""
    return ContentMissing(
        f"the {remote} does not have the object {value}",
        next_step="materialize the asset again, or restore the object from a backup of the remote",
    )


def corrupt_object(value: str, place: str, remote: str) -> ContentCorrupt:
    """Return the error for an object at a place in a remote whose content has another hash."""
    return ContentCorrupt(
        f"{place} in the {remote} does not match its hash {value}: it was truncated or altered",
        next_step=f"remove {place} and store the content again: materialize the asset, or `dvc push` it",
    )


def is_intact(path: str) -> bool:
    """Return True if an object, or a link to one, exists and is unmodified since it was stamped."""
    try:
        return os.lstat(path).st_mtime_ns == STAMP_NS
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def disk_errors(place: str, source: Path | None = None) -> Iterator[None]:
    """Convert file system errors into ours.

    Args:
        place: the place being written or read, as in ``DVC remote /mnt/data``.
        source: the user's file or directory that is being stored; its errors are not blamed on the place.
    """
    try:
        yield
    except OSError as error:
        if source is not None and isinstance(error.filename, str) and Path(error.filename).is_relative_to(source):
            raise StoreError(
                f"{error.filename} cannot be read: {error.strerror}",
                next_step="make it readable, or leave it out, and run again",
            ) from error
        full = full_disk(error)
        detail = full or f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        if full or error.errno in _NOT_WRITABLE:
            raise StoreFull(
                f"the {place} cannot be written: {detail}",
                next_step="free space there or grant write permission, and run again; no partial file remains",
            ) from error
        raise StoreError(
            f"the {place} cannot be used: {detail}", next_step="check that it is mounted and healthy, and run again"
        ) from error


def _remove_abandoned(incoming: Path, lock: int) -> None:
    # A process with the exclusive lock knows that all files here are leftovers. Some network file systems have no
    # locks; leftovers stay there and only cost space.
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in incoming.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH)


def _processes(files: int, size: int) -> int:
    seconds = files * _SECONDS_PER_FILE + size * _SECONDS_PER_BYTE
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, files, int(seconds / _WORTH_A_PROCESS), _MOST_PROCESSES))


def _in_processes(
    sources: Sequence[str], to: Deposit, expected: Sequence[str] | None, processes: int
) -> list[tuple[str, int]]:
    """Run the copies in several processes: each takes every n-th file, and this process takes the first share."""
    shares = [slice(start, None, processes) for start in range(processes)]
    deposited: list[tuple[str, int]] = [("", 0)] * len(sources)
    with contextlib.ExitStack() as started:
        others = [
            (share, _start(started, sources[share], to, expected[share] if expected else None)) for share in shares[1:]
        ]
        deposited[shares[0]] = dvc_deposit.deposit(sources[shares[0]], to, expected[shares[0]] if expected else None)
        for share, process in others:
            deposited[share] = _answer(process)
    return deposited


def _start(
    started: contextlib.ExitStack, sources: Sequence[str], to: Deposit, expected: Sequence[str] | None
) -> "subprocess.Popen[str]":
    # Run the file by its path in isolated mode, so that the modules beside it do not hide the standard library's.
    process = started.enter_context(
        subprocess.Popen(
            [sys.executable, "-I", "-S", dvc_deposit.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    started.callback(process.kill)
    assert process.stdin is not None  # noqa: S101  # for the type checker: it is a pipe
    with contextlib.suppress(BrokenPipeError), process.stdin as order:
        json.dump({"sources": sources, "to": to, "expected": expected}, order)
    return process


def _answer(process: "subprocess.Popen[str]") -> list[tuple[str, int]]:
    assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
    text = process.stdout.read()
    if process.wait() != 0 or not text:
        raise StoreError(
            f"a process that copied files ended with status {process.returncode}",
            next_step="run again; if it was killed because memory ran out, give the step more memory",
        )
    answer = json.loads(text)
    if "error" in answer:
        number, message, filename = answer["error"]
        raise OSError(number, message, filename)
    return [(md5, size) for md5, size in answer["deposited"]]
