"""Remotes: a directory in DVC's layout, or any server that DVC supports."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.dvc.directory import (
    Condition,
    HeldObject,
    ObjectDirectory,
    corrupt_object,
    disk_errors,
    missing_object,
)
from ml_assets.resources.dvc.server import dvc_settings
from ml_assets.resources.errors import RemoteUnreachable

__all__ = ["Remote", "open_remote"]

_NOTES = "ml-assets"
"""Folder of a remote for files that are not objects."""
_MARKER = f"{_NOTES}/remote"
_MARKED = b"This file marks a content store. While it is missing, ml-assets takes the store's disk as not mounted.\n"


class Remote(Protocol):
    """The operations that a store needs from a remote."""

    name: str
    """Name for messages, without passwords."""

    def missing(self, values: Iterable[str]) -> set[str]:
        """Return the objects that the remote does not hold."""

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        """Return the objects that the remote does not hold, or that must be stored again."""

    def store(self, sources: Sequence[str], size: int, source: Path) -> list[tuple[str, int]]:
        """Store the files, which belong to `source` and have `size` bytes in total; return the MD5 and size of each."""

    def store_listing(self, content: bytes) -> str:
        """Store the listing of a directory whose files are already stored; return its MD5."""

    def fetch(self, values: Sequence[str]) -> None:
        """Download the objects into the cache and verify each one.

        Raises:
            ContentMissing: the remote does not hold one.
            ContentCorrupt: the hash of one differs from its name.
        """

    def read(self, value: str) -> bytes:
        """Return the bytes of a small object, unverified.

        Raises:
            ContentMissing: the remote does not hold it.
        """

    def condition(self, value: str) -> Condition:
        """Read an object completely and return its condition."""

    def held(self) -> dict[str, HeldObject]:
        """Return every stored object, by its DVC hash; files with other names are left out."""

    def remove(self, values: Sequence[str]) -> None:
        """Delete objects; ignore those that do not exist."""

    def read_note(self, name: str) -> bytes | None:
        """Return a small file stored beside the objects, which DVC ignores; None if it does not exist."""

    def note_written(self, name: str) -> float | None:
        """Return a note's write time by the clock of the store, in seconds since 1970; None if it is unknown."""

    def write_note(self, name: str, content: bytes | None) -> None:
        """Write a note, or delete it."""

    def notes(self, folder: str) -> list[str]:
        """Return the names of the notes in a folder."""


def open_remote(url: str, options: Mapping[str, Any], cache: ObjectDirectory, retry_seconds: float) -> Remote:
    """Open the remote at a URL; a path or ``file:`` URL is a directory.

    Args:
        url: its location.
        options: those of ``dvc remote modify``.
        cache: the cache that it fills.
        retry_seconds: time for which a failing request to a server is repeated.

    Raises:
        SettingsError: DVC has no such kind of remote, or rejects these options.
        RemoteUnreachable: the server does not answer.
    """
    path = _local_path(url)
    if path is None:
        from ml_assets.resources.dvc.server_remote import ServerRemote

        return ServerRemote(url, options, cache, retry_seconds)
    if options:
        dvc_settings(url, options)
    return _Directory(path, cache)


def _local_path(url: str) -> Path | None:
    """Return the path of a directory, read literally as DVC does: ``#``, ``?`` and ``%`` are part of its name."""
    if url.startswith("file://"):
        return Path("/" + url.removeprefix("file://").partition("/")[2])
    return Path(url) if os.path.isabs(url) else None


class _Directory:
    def __init__(self, path: Path, cache: ObjectDirectory) -> None:
        self.name = f"DVC remote {path}"
        self._path = path
        self._objects = ObjectDirectory(path, durable=True)
        self._cache = cache
        self._known = cache.root / "remotes" / hashlib.sha256(os.fsencode(path)).hexdigest()
        """A file in the cache that exists once this cache has seen the remote's marker."""

    def missing(self, values: Iterable[str]) -> set[str]:
        self._require()
        with disk_errors(self.name):
            return self._objects.missing(values)

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        with disk_errors(self.name):
            return self._objects.not_held(values, sizes)

    def store(self, sources: Sequence[str], size: int, source: Path) -> list[tuple[str, int]]:
        self._require_marker()
        with disk_errors(self.name, source):
            return self._objects.deposit(sources, size)

    def store_listing(self, content: bytes) -> str:
        self._require_marker()
        with disk_errors(self.name):
            return self._objects.write(content, suffix=".dir")

    def fetch(self, values: Sequence[str]) -> None:
        self._require()
        for suffix in ("", ".dir"):
            self._copy([value for value in values if value.endswith(".dir") == bool(suffix)], suffix)

    def read(self, value: str) -> bytes:
        self._require()
        with disk_errors(self.name):
            try:
                return self._objects.path(value).read_bytes()
            except FileNotFoundError as error:
                raise missing_object(value, self.name) from error

    def condition(self, value: str) -> Condition:
        self._require()
        with disk_errors(self.name):
            return self._objects.condition(value)

    def held(self) -> dict[str, HeldObject]:
        self._require()
        with disk_errors(self.name):
            return self._objects.held()

    def remove(self, values: Sequence[str]) -> None:
        self._require()
        with disk_errors(self.name):
            self._objects.remove(values)

    def read_note(self, name: str) -> bytes | None:
        with disk_errors(self.name):
            try:
                return (self._path / _NOTES / name).read_bytes()
            except FileNotFoundError:
                return None

    def note_written(self, name: str) -> float | None:
        with disk_errors(self.name):
            try:
                return (self._path / _NOTES / name).stat().st_mtime
            except FileNotFoundError:
                return None

    def write_note(self, name: str, content: bytes | None) -> None:
        place = self._path / _NOTES / name
        with disk_errors(self.name):
            if content is None:
                place.unlink(missing_ok=True)
                return
        if self._known.exists():
            self._require()
        with disk_errors(self.name):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, content)

    def notes(self, folder: str) -> list[str]:
        with disk_errors(self.name):
            place = self._path / _NOTES / folder
            return sorted(file.name for file in place.iterdir() if file.name[0] != ".") if place.is_dir() else []

    def _require(self) -> None:
        """Refuse a directory that does not exist, or has lost its marker: its disk is not mounted."""
        if not self._path.is_dir():
            raise RemoteUnreachable(f"the {self.name} does not exist", next_step=self._how_to_mount())
        if self._known.exists() and not (self._path / _MARKER).exists():
            raise RemoteUnreachable(
                f"the {self.name} has no file {_MARKER}, which it had before, so its disk is not mounted",
                next_step=self._how_to_mount(),
            )

    def _require_marker(self) -> None:
        """Refuse as `_require` does, but mark a directory that was never used, and create it if it does not exist."""
        marker = self._path / _MARKER
        if self._known.exists():
            self._require()
            return
        with disk_errors(self.name):
            if not marker.exists():
                marker.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(marker, _MARKED, durable=True)
        with disk_errors(f"cache {self._cache.root}"):
            self._known.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._known, f"{self._path}\n")

    def _how_to_mount(self) -> str:
        begin_anew = f"; if it was deleted on purpose, also delete {self._known}" if self._known.exists() else ""
        return f"mount it, or correct the remote in the settings{begin_anew}"

    def _copy(self, values: Sequence[str], suffix: str) -> None:
        paths = [str(self._objects.path(value)) for value in values]
        expected = [value.removesuffix(suffix) for value in values]
        with disk_errors(f"cache {self._cache.root}", self._path):
            size = 0
            for value, path in zip(values, paths, strict=True):
                try:
                    size += Path(path).stat().st_size
                except FileNotFoundError:
                    raise missing_object(value, self.name) from None
            copied = self._cache.deposit(paths, size, expected=expected, suffix=suffix)
        for (md5, _), value, path in zip(copied, values, paths, strict=True):
            if md5 != value.removesuffix(suffix):
                raise corrupt_object(value, path, self.name)
