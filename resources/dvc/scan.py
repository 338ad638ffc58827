"""The files of a file or directory to store, and their remembered hashes."""

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.errors import StoreError

__all__ = ["RememberedHashes", "Scan", "is_inside", "listing", "read_listing", "salvaged_hashes", "scan"]

_RACY_NS = 2 * 10**9
_STATES_KEPT = 256
_MD5 = re.compile(r"[0-9a-f]{32}")
_LONGEST_NAME = 255
"""Limit of Linux for a part of a path, in bytes."""


class Scan:
    """The files of a directory at scan time; the n-th entry of each list belongs to the n-th file.

    Plain lists, because garbage collection of fifty thousand small objects would take longer than the scan.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started_ns = time.time_ns()
        self.relpaths: list[str] = []
        self.sizes: list[int] = []
        self.changed_ns: list[int] = []
        """The later of modification time and change time."""
        self.signatures: list[str] = []
        """Values that differ whenever the file may have changed."""
        self.is_directory = path.is_dir()

    def file(self, index: int) -> str:
        """Return the path of a file."""
        return f"{self.path}/{self.relpaths[index]}" if self.is_directory else str(self.path)

    def add(self, relpath: str, found: os.stat_result) -> None:
        """Add one file."""
        if self.is_directory and found.st_mode & stat.S_IXUSR and stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"{self.path / relpath} is executable, which DVC's listings of directories do not record",
                next_step=f"run `find {self.path} -type f -exec chmod a-x {{}} +`, or store an archive, which keeps it",
            )
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"{self.path / relpath} is not a regular file",
                next_step="replace links to directories with the directories, and leave out sockets, pipes and devices",
            )
        modified, changed, size = found.st_mtime_ns, found.st_ctime_ns, found.st_size
        self.relpaths.append(relpath)
        self.sizes.append(size)
        self.changed_ns.append(max(modified, changed))
        self.signatures.append(f"{modified} {changed} {size} {found.st_ino} {relpath}")


def scan(path: Path) -> Scan:
    """Return all files of a directory at any depth, or the one file; symbolic links to files count as the files.

    Raises:
        StoreError: an entry is neither a file nor a directory, or is something that DVC leaves out: a link to a
            directory, an empty folder, or the executable bit of a file in a directory.
    """
    files = Scan(path)
    if not files.is_directory:
        files.add(path.name, path.stat())
        return files
    folders = [""]
    while folders:
        prefix = folders.pop()
        is_empty = True
        with os.scandir(f"{path}/{prefix}") as entries:
            for entry in entries:
                is_empty = False
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                else:
                    files.add(prefix + entry.name, entry.stat())
        if is_empty and prefix:
            raise StoreError(
                f"{path / prefix} is an empty folder, which DVC's listings of directories do not record",
                next_step="remove it, or put a file into it",
            )
    return files


def listing(hashes: dict[str, str]) -> bytes:
    """Return the listing object of a directory, byte for byte as DVC writes it.

    Args:
        hashes: MD5 of each file by its path in the directory, with ``/`` between the parts.
    """
    quoted = json.encoder.encode_basestring_ascii
    entries = (f'{{"md5": "{hashes[relpath]}", "relpath": {quoted(relpath)}}}' for relpath in sorted(hashes))
    return f"[{', '.join(entries)}]".encode()


def read_listing(content: bytes) -> dict[str, str]:
    """Read a listing; the inverse of `listing`. Every field is checked, because other programs may have written it.

    Raises:
        ValueError: it is not a listing, has an invalid hash, or names a path that cannot be a file in the directory.
    """
    try:
        entries = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it is not a list of files and their hashes")
    hashes: dict[str, str] = {}
    for entry in entries:
        relpath, md5 = entry.get("relpath"), entry.get("md5")
        if not isinstance(relpath, str) or not is_inside(relpath):
            raise ValueError(f"it names {relpath!r:.200}, which is not inside the directory")
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            raise ValueError(f"the hash of {relpath!r:.200} is {md5!r:.200}, which is not an MD5")
        if relpath in hashes:
            raise ValueError(f"it names {relpath!r:.200} twice")
        hashes[relpath] = md5
    parents = {parent for folder in {os.path.dirname(each) for each in hashes} for parent in _with_parents(folder)}
    if both := parents & hashes.keys():
        raise ValueError(f"it names {min(both)!r:.200} as a file and as a folder")
    return hashes


def salvaged_hashes(content: bytes, value: str) -> tuple[frozenset[str], bool]:
    """Return the hashes that a damaged listing still contains, and True if it cannot have contained others.

    Args:
        content: its bytes.
        value: the hash that it should have.
    """
    found = frozenset(each.decode() for each in re.findall(rb"[0-9a-f]{32}", content))
    is_as_stored = hashlib.md5(content, usedforsecurity=False).hexdigest() == value.removesuffix(".dir")
    # A damaged listing is empty, overwritten with zeros, or still begins like a list; all else never was a listing.
    return found, is_as_stored or content[:1] not in (b"", b"\0", b"[")


def is_inside(relpath: str) -> bool:
    """Return True if a path with ``/`` between its parts names a file below any folder, and the kernel accepts it."""
    try:
        encoded = os.fsencode(relpath)
    except UnicodeEncodeError:
        return False
    parts = encoded.split(b"/")
    return {b"", b".", b".."}.isdisjoint(parts) and b"\0" not in encoded and max(map(len, parts)) <= _LONGEST_NAME


def _with_parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = os.path.dirname(folder)


class RememberedHashes:
    """Cached MD5s of the files of one directory from its previous scan.

    A file counts as unchanged if modification time, change time, size and inode are the same. A file modified less than
    two seconds before the scan is not remembered: it might change again within the clock's resolution. The cache is
    safe to lose and to write from two processes: each entry names its file and the file's state.
    """

    def __init__(self, cache: Path, path: Path) -> None:
        self._file = cache / "state" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.json"
        self._hashes: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            self._hashes = json.loads(self._file.read_bytes())

    def of(self, files: Scan) -> list[str | None]:
        """Return the MD5 of each unchanged file."""
        return [self._hashes.get(signature) for signature in files.signatures]

    def replace(self, files: Scan, hashes: Sequence[str]) -> None:
        """Store these hashes and drop the others; a failure only makes the next scan slower."""
        settled = files.started_ns - _RACY_NS
        entries = zip(files.signatures, hashes, files.changed_ns, strict=True)
        new = {signature: md5 for signature, md5, changed_ns in entries if changed_ns < settled}
        with contextlib.suppress(OSError):
            if new == self._hashes:
                if new:
                    os.utime(self._file)
                return
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(new))
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        states = sorted(self._file.parent.iterdir(), key=lambda state: state.stat().st_mtime_ns, reverse=True)
        for state in states[_STATES_KEPT:]:
            state.unlink(missing_ok=True)
