"""Remotes: a directory in DVC's layout, or any server that DVC supports."""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.dvc.directory import HeldObject, ObjectDirectory, disk_errors
from ml_assets.resources.dvc.server import dvc_settings, refused, server_errors, without_password, written_at
from ml_assets.resources.errors import (
    ContentCorrupt,
    ContentMissing,
    RemoteUnreachable,
)
from ml_assets.resources.time_limit import within

__all__ = ["Remote", "open_remote"]

_CONTACT_SECONDS = 20.0
_MOST_ASKED_FOR_SIZE = 256
_NOTES = "ml-assets"
"""Folder of a remote for files that are not objects."""
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


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

    def held(self) -> dict[str, HeldObject]:
        """Return every stored object, by its DVC hash."""

    def remove(self, values: Sequence[str]) -> None:
        """Delete objects; ignore those that do not exist."""

    def read_note(self, name: str) -> bytes | None:
        """Return a small file stored beside the objects, which DVC ignores; None if it does not exist."""

    def write_note(self, name: str, content: bytes | None) -> None:
        """Write a note, or delete it."""

    def notes(self, folder: str) -> list[str]:
        """Return the names of the notes in a folder."""


def open_remote(url: str, options: Mapping[str, Any], cache: ObjectDirectory) -> Remote:
    """Open the remote at a URL; a path or ``file:`` URL is a directory.

    Raises:
        SettingsError: DVC has no such kind of remote, or rejects these options.
        RemoteUnreachable: the server does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        return _Server(url, options, cache)
    if options:
        dvc_settings(url, options)
    return _Directory(Path(parts.path), cache)


class _Directory:
    def __init__(self, path: Path, cache: ObjectDirectory) -> None:
        self.name = f"DVC remote {path}"
        self._path = path
        self._objects = ObjectDirectory(path)
        self._cache = cache

    def missing(self, values: Iterable[str]) -> set[str]:
        self._require()
        with disk_errors(self.name):
            return self._objects.missing(values)

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        with disk_errors(self.name):
            return self._objects.not_held(values, sizes)

    def store(self, sources: Sequence[str], size: int, source: Path) -> list[tuple[str, int]]:
        with disk_errors(self.name, source):
            return self._objects.deposit(sources, size)

    def store_listing(self, content: bytes) -> str:
        with disk_errors(self.name):
            return self._objects.write(content, suffix=".dir")

    def fetch(self, values: Sequence[str]) -> None:
        self._require()
        for suffix in ("", ".dir"):
            self._copy([value for value in values if value.endswith(".dir") == bool(suffix)], suffix)

    def held(self) -> dict[str, HeldObject]:
        self._require()
        with disk_errors(self.name):
            return self._objects.held()

    def remove(self, values: Sequence[str]) -> None:
        with disk_errors(self.name):
            self._objects.remove(values)

    def read_note(self, name: str) -> bytes | None:
        with disk_errors(self.name):
            try:
                return (self._path / _NOTES / name).read_bytes()
            except FileNotFoundError:
                return None

    def write_note(self, name: str, content: bytes | None) -> None:
        place = self._path / _NOTES / name
        with disk_errors(self.name):
            if content is None:
                place.unlink(missing_ok=True)
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, content)

    def notes(self, folder: str) -> list[str]:
        with disk_errors(self.name):
            place = self._path / _NOTES / folder
            return sorted(file.name for file in place.iterdir() if file.name[0] != ".") if place.is_dir() else []

    def _require(self) -> None:
        if not self._path.is_dir():
            raise RemoteUnreachable(
                f"the {self.name} does not exist", next_step="mount it, or correct the remote in the settings"
            )

    def _copy(self, values: Sequence[str], suffix: str) -> None:
        paths = [str(self._objects.path(value)) for value in values]
        expected = [value.removesuffix(suffix) for value in values]
        with disk_errors(f"cache {self._cache.root}", self._path):
            size = 0
            for value, path in zip(values, paths, strict=True):
                try:
                    size += Path(path).stat().st_size
                except FileNotFoundError:
                    raise _missing(value, self.name) from None
            copied = self._cache.deposit(paths, size, expected=expected, suffix=suffix)
        for (md5, _), value, path in zip(copied, values, paths, strict=True):
            if md5 != value.removesuffix(suffix):
                raise _corrupt(value, path, self.name)


class _Server:
    def __init__(self, url: str, options: Mapping[str, Any], cache: ObjectDirectory) -> None:
        from dvc_data.hashfile.db import get_odb

        self.name = f"DVC remote {without_password(url)}"
        self._cache = cache
        cls, config, path = dvc_settings(url, options)
        try:
            filesystem = cls(**config)
        except Exception as error:
            raise refused(url, error) from error
        if filesystem.protocol == "s3":
            # Two nested libraries retry: without this, an unreachable address takes 25 attempts.
            filesystem.fs_args.setdefault("config_kwargs", {})["retries"] = {"total_max_attempts": 1}
        self._root = path
        self._objects = get_odb(filesystem, filesystem.join(path, "files", "md5"), hash_name="md5", **config)
        with self._errors():
            within(_CONTACT_SECONDS, lambda: filesystem.exists(path))

    def missing(self, values: Iterable[str]) -> set[str]:
        wanted = set(values)
        with self._errors():
            return wanted.difference(self._objects.oids_exist(wanted)) if wanted else set()

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        missing = self.missing(values)
        held = {value: size for value, size in zip(values, sizes, strict=True) if value not in missing}
        if len(held) > _MOST_ASKED_FOR_SIZE:
            return missing
        with self._errors():
            places = [self._objects.oid_to_path(value) for value in held]
            infos = self._objects.fs.info(places) if places else []
        found = {value: info.get("size") for value, info in zip(held, infos, strict=True)}
        return missing | {value for value, size in found.items() if size not in (None, held[value])}

    def store(self, sources: Sequence[str], size: int, source: Path) -> list[tuple[str, int]]:
        # Copy through the cache, so that the uploaded bytes are the hashed bytes even if a source changes meanwhile.
        with disk_errors(f"cache {self._cache.root}", source):
            stored = self._cache.deposit(sources, size)
        self._upload(sorted(self.not_held([md5 for md5, _ in stored], [size for _, size in stored])))
        return stored

    def store_listing(self, content: bytes) -> str:
        with disk_errors(f"cache {self._cache.root}"):
            md5 = self._cache.write(content, suffix=".dir")
        self._upload([f"{md5}.dir"])
        return md5

    def _upload(self, values: Sequence[str]) -> None:
        from dvc_objects.fs import localfs

        if values:
            paths = [str(self._cache.path(value)) for value in values]
            with self._errors():
                self._objects.add(paths, localfs, list(values), check_exists=False)

    def fetch(self, values: Sequence[str]) -> None:
        from dvc_objects.fs import generic, localfs

        places = [self._objects.oid_to_path(value) for value in values]
        with self._errors(), self._cache.workspace() as folder:
            arrivals = [str(folder / value) for value in values]
            try:
                generic.copy(self._objects.fs, places, localfs, arrivals)
            except FileNotFoundError as error:
                for value in sorted(self.missing(values)):
                    raise _missing(value, self.name) from error
                raise
            for value, place, arrival in zip(values, places, arrivals, strict=True):
                if not self._cache.adopt(Path(arrival), value):
                    raise _corrupt(value, place, self.name)

    def held(self) -> dict[str, HeldObject]:
        filesystem, root = self._objects.fs, self._objects.path
        with self._errors():
            filesystem.fs.invalidate_cache()
            found = filesystem.fs.find(root, detail=True) if filesystem.exists(root) else {}
            filesystem.fs.invalidate_cache()
        held = {}
        for path, info in found.items():
            value = "".join(path.rstrip("/").rsplit("/", 2)[-2:])
            if _OBJECT.fullmatch(value):
                held[value] = HeldObject(int(info.get("size") or 0), written_at(info))
        return held

    def remove(self, values: Sequence[str]) -> None:
        there = sorted(set(values) - self.missing(values))
        with self._errors():
            if there:
                self._objects.fs.remove([self._objects.oid_to_path(value) for value in there])

    def read_note(self, name: str) -> bytes | None:
        with self._errors():
            try:
                content: bytes = self._objects.fs.cat_file(self._note(name))
            except FileNotFoundError:
                return None
            return content

    def write_note(self, name: str, content: bytes | None) -> None:
        filesystem, place = self._objects.fs, self._note(name)
        with self._errors():
            if content is not None:
                filesystem.makedirs(filesystem.parent(place), exist_ok=True)
                filesystem.pipe_file(place, content)
            elif filesystem.exists(place):
                filesystem.remove(place)

    def notes(self, folder: str) -> list[str]:
        filesystem, place = self._objects.fs, self._note(folder)
        with self._errors():
            filesystem.fs.invalidate_cache()
            return (
                sorted(path.rsplit("/", 1)[-1] for path in filesystem.find(place)) if filesystem.exists(place) else []
            )

    def _note(self, name: str) -> str:
        place: str = self._objects.fs.join(self._root, _NOTES, name)
        return place

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return server_errors(self.name, f"cache {self._cache.root}")


def _missing(value: str, remote: str) -> ContentMissing:
    return ContentMissing(
        f"the {remote} does not have the object {value}",
        next_step="materialize the asset again, or restore the object from a backup of the remote",
    )


def _corrupt(value: str, place: str, remote: str) -> ContentCorrupt:
    return ContentCorrupt(
        f"{place} in the {remote} does not match its hash {value}: it was truncated or altered",
        next_step=f"remove {place} and store the content again: materialize the asset, or `dvc push` it",
    )
