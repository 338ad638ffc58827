"""A directory of content-addressed objects in DVC's layout: a directory remote, and every cache."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.dvc import deposit as dvc_deposit
from ml_assets.resources.dvc.deposit import STAMP_NS, Deposit
from ml_assets.resources.errors import StoreError, StoreFull

__all__ = ["HeldObject", "ObjectDirectory", "disk_errors", "is_intact"]

_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_SECONDS_PER_FILE, _SECONDS_PER_BYTE = 6e-5, 4e-9
_WORTH_A_PROCESS = 0.25
_MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class HeldObject:
    """An object that is kept."""

    size: int
    """Bytes."""
    written: float | None
    """When, in seconds since 1970; None where the server does not say."""


class ObjectDirectory:
    """Objects under ``files/md5/ab/cdef…``, each read-only and whole from the moment that it can be seen.

    What is not whole yet is in ``.incoming``; what a killed process left there goes when the next one starts alone.

    Args:
        root: the directory that holds ``files``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = str(root / "files" / "md5")

    def path(self, value: str) -> Path:
        """Where the object with this DVC hash is, or would be."""
        return Path(dvc_deposit.object_path(self._objects, value))

    def missing(self, values: Iterable[str]) -> set[str]:
        """Those of the objects that are not here."""
        return {value for value in values if not os.path.exists(dvc_deposit.object_path(self._objects, value))}

    def not_intact(self, values: Iterable[str]) -> set[str]:
        """Those of the objects that are not here, or were not put here by us, or were written to since."""
        return {value for value in values if not is_intact(dvc_deposit.object_path(self._objects, value))}

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        """Those of the objects that are not intact, or do not have the size given."""
        place = dvc_deposit.object_path
        return {
            value
            for value, size in zip(values, sizes, strict=True)
            if not dvc_deposit.is_held(place(self._objects, value), size)
        }

    def deposit(
        self, sources: Sequence[str], size: int, *, expected: Sequence[str] | None = None, suffix: str = ""
    ) -> list[tuple[str, int]]:
        """Copy files here, each under its MD5, in as many processes as that is worth.

        Args:
            sources: paths of files.
            size: their bytes, all together, about.
            expected: MD5 that each should have; one that has another is not stored.
            suffix: ``.dir`` for listings of directories.

        Returns:
            MD5 and size of each source.
        """
        if not sources:
            return []
        with self.workspace() as temporary:
            to = Deposit(self._objects, str(temporary), suffix)
            return _in_processes(sources, to, expected, _processes(len(sources), size))

    def write(self, content: bytes, *, suffix: str = "") -> str:
        """Store bytes and return their MD5."""
        with self.workspace() as temporary:
            source = temporary / "content"
            source.write_bytes(content)
            [(md5, _)] = self.deposit([str(source)], len(content), suffix=suffix)
            return md5

    def adopt(self, source: Path, value: str) -> bool:
        """Move a downloaded file here as the object with this hash, unless its content has another."""
        with open(source, "rb", buffering=0) as stream:
            md5, _ = dvc_deposit.md5_of(stream)
            if md5 != value.removesuffix(".dir"):
                return False
            dvc_deposit.publish(stream.fileno(), str(source), str(self.path(value)))
        return True

    def link(self, value: str, destination: str) -> None:
        """Let the object appear in a second place, as a hard link where the file system can."""
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
        """Every object that is here, by its DVC hash."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._objects) as folders:
            for folder in folders:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder.path) as objects:
                    for each in objects:
                        state = each.stat(follow_symlinks=False)
                        # The modification time is a stamp; that of the inode is when the object came here.
                        found[folder.name + each.name] = HeldObject(state.st_size, state.st_ctime)
        return found

    def remove(self, values: Iterable[str]) -> None:
        """Delete objects; those that are not here are left out."""
        for value in values:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dvc_deposit.object_path(self._objects, value))

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder on the same file system for what is not whole yet; it is gone afterwards."""
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


def is_intact(path: str) -> bool:
    """Whether there is an object, or a link to one, that was not written to since it was stamped."""
    try:
        return os.lstat(path).st_mtime_ns == STAMP_NS
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def disk_errors(place: str, source: Path | None = None) -> Iterator[None]:
    """Turn errors of the file system into ours.

    Args:
        place: what was being written or read, as in ``DVC remote /mnt/data``.
        source: the user's file or directory that is being stored; trouble with it is not trouble with the place.
    """
    try:
        yield
    except OSError as error:
        if source is not None and isinstance(error.filename, str) and Path(error.filename).is_relative_to(source):
            raise StoreError(
                f"{error.filename} cannot be read: {error.strerror}",
                next_step="make it readable, or leave it out, and run again",
            ) from error
        detail = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        if error.errno in _NOT_WRITABLE:
            raise StoreFull(
                f"the {place} cannot be written: {detail}",
                next_step="free space there or grant the right to write, and run again; nothing half-written was kept",
            ) from error
        raise StoreError(
            f"the {place} cannot be used: {detail}", next_step="see that it is mounted and healthy, and run again"
        ) from error


def _remove_abandoned(incoming: Path, lock: int) -> None:
    # Whoever has the lock alone knows that all in the folder was left by the dead. Some network file systems have no
    # locks; there leftovers stay, which costs space and nothing else.
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
    """Every process takes each n-th file; this one takes the first share itself."""
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
    # The file is run by its path and isolated: the modules beside it must not hide those of the standard library.
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
            next_step="run again; if it was killed for want of memory, give the step more",
        )
    answer = json.loads(text)
    if "error" in answer:
        number, message, filename = answer["error"]
        raise OSError(number, message, filename)
    return [(md5, size) for md5, size in answer["deposited"]]
