"""File trees, copied between a folder and any server that DVC supports."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from ml_assets.resources.dvc.deposit import file_md5, sync_disk
from ml_assets.resources.dvc.retry import repeated
from ml_assets.resources.dvc.scan import is_inside
from ml_assets.resources.dvc.server import dvc_settings, limit_attempts, server_errors, without_password, written_at

__all__ = ["Copied", "Tree", "digest_in"]

_AT_ONCE: Final = 8
_UNFINISHED: Final = ".unfinished"
_BY_DIGEST: Final = re.compile(r"files/md5/([0-9a-f]{2})/([0-9a-f]{30})(?:\.dir)?")
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')

_Result = TypeVar("_Result")

_Progress = Callable[[int, int], None]
"""Receives the number of files copied so far, and the total."""


class Copied(NamedTuple):
    """The result of a copy.

    Attributes:
        files: number of intact files, including those that existed already.
        size: their total bytes.
        copied: number of files that were copied.
        checksums: MD5 of each file in the folder, by its name.
        damaged: files whose content does not match the digest in their name, or whose name is unsafe; not copied.
    """

    files: int
    size: int
    copied: int
    checksums: Mapping[str, str] = {}
    damaged: tuple[str, ...] = ()


class _File(NamedTuple):
    size: int
    written: float | None
    checksum: str = ""


class Tree:
    """The files below a URL or in a directory.

    A file is copied unless the other side has a file of equal size that was written later: content-addressed files
    never change, and growing files get larger. A content-addressed file is verified when it is copied; a damaged one
    never replaces another. A copy may be interrupted at any time; the next copy completes it.

    Args:
        url: their location; a path is a directory.
        options: those of DVC's ``remote modify`` for this kind of server.
        retry_seconds: time for which a failing request to the server is repeated.
    """

    def __init__(self, url: str, options: Mapping[str, Any], retry_seconds: float = 120.0) -> None:
        self.name = without_password(url)
        self._url, self._options, self._seconds = url, options, retry_seconds

    def save(
        self, folder: Path, checksums: Mapping[str, str] = MappingProxyType({}), progress: _Progress = lambda *_: None
    ) -> Copied:
        """Copy all files into a folder, and sync it.

        Args:
            folder: created if it does not exist; other files in it stay.
            checksums: those of the files that the folder holds already, as the last copy returned them.
            progress: called with the number of files copied so far, and the total.

        Raises:
            StoreFull: the folder has no space.
            RemoteUnreachable: the server did not answer.
        """
        here = _files_in(folder)
        new: dict[str, str] = {}

        def copy(name: str) -> bool:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = file.with_name(file.name + _UNFINISHED)
            self._repeated(lambda: self._files.get_file(self._path(name), str(whole)))
            md5 = file_md5(str(whole))
            if md5 != (digest_in(name) or md5):
                whole.unlink()
                return False
            written = there[name].written
            if written is not None:
                os.utime(whole, (written, written))
            whole.replace(file)
            new[name] = md5
            return True

        with server_errors(self.name, f"folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            there = self._there()
            unsafe = {name for name in there if not is_inside(name)}
            there = {name: file for name, file in there.items() if name not in unsafe}
            wanted = [name for name, file in there.items() if not _is_same(file, here.get(name))]
            damaged = _copy(wanted, copy, progress)
            found = _files_in(folder)
            sums = {
                name: new.get(name) or digest_in(name) or checksums.get(name) or file_md5(str(folder / name))
                for name in found
            }
            sync_disk(str(folder))
        saved = there.keys() & found.keys()
        return Copied(
            len(saved),
            sum(found[name].size for name in saved),
            len(wanted) - len(damaged),
            sums,
            tuple(sorted(unsafe.union(damaged))),
        )

    def restore(self, folder: Path, skip: Collection[str] = (), progress: _Progress = lambda *_: None) -> Copied:
        """Copy all files of a folder back, except those to skip.

        A content-addressed file on the other side that is damaged is replaced.

        Raises:
            StoreFull: the tree has no space.
            RemoteUnreachable: the server did not answer.
        """

        def copy(name: str) -> bool:
            place = self._path(name)

            def put() -> None:
                self._files.makedirs(self._files.parent(place), exist_ok=True)
                self._files.put_file(str(folder / name), place)

            self._repeated(put)
            return True

        with server_errors(self.name, f"folder {folder}"):
            here = {name: file for name, file in _files_in(folder).items() if name not in skip}
            there = self._there()
            wanted = [
                name
                for name, file in here.items()
                if not _is_same(file, there.get(name)) or self._is_damaged(name, there[name])
            ]
            _copy(wanted, copy, progress)
            if self._files.protocol == "local" and wanted:
                sync_disk(self._opened[1])
        return Copied(len(here), sum(file.size for file in here.values()), len(wanted))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        kind, config, path = dvc_settings(self._url, self._options)
        filesystem = kind(**config)
        limit_attempts(filesystem)
        return filesystem, path

    @property
    def _files(self) -> Any:
        return self._opened[0]

    def _path(self, name: str) -> str:
        path: str = self._files.join(self._opened[1], *name.split("/"))
        return path

    def _repeated(self, operation: Callable[[], _Result]) -> _Result:
        return repeated(operation, self._seconds, self.name)

    def _there(self) -> dict[str, _File]:
        root = self._opened[1].rstrip("/")
        if self._files.protocol == "local":
            return _files_in(Path(root))

        def find() -> dict[str, Any]:
            self._files.fs.invalidate_cache()
            found: dict[str, Any] = self._files.fs.find(root, detail=True) if self._files.exists(root) else {}
            return found

        return {
            path[len(root) :].lstrip("/"): _File(
                int(info.get("size") or 0), written_at(info), str(info.get("ETag", ""))
            )
            for path, info in self._repeated(find).items()
        }

    def _is_damaged(self, name: str, file: _File) -> bool:
        """Return True if a content-addressed file has other content; a server's checksum is trusted if it is an MD5."""
        digest = digest_in(name)
        if digest is None:
            return False
        if self._files.protocol == "local":
            return file_md5(self._path(name)) != digest
        checksum = _MD5.fullmatch(file.checksum)
        return checksum is not None and checksum[1] != digest


def digest_in(name: str) -> str | None:
    """Return the MD5 in the name of a content-addressed file; None for other files."""
    found = _BY_DIGEST.fullmatch(name)
    return found[1] + found[2] if found else None


def _files_in(folder: Path) -> dict[str, _File]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.endswith(_UNFINISHED):
            status = file.stat()
            found[file.relative_to(folder).as_posix()] = _File(status.st_size, status.st_mtime)
    return found


def _copy(names: Sequence[str], copy: Callable[[str], bool], progress: _Progress) -> list[str]:
    """Copy files, several at once; return those that were not copied."""
    refused = []
    progress(0, len(names))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copying = [pool.submit(copy, name) for name in names]
        try:
            for done, (name, each) in enumerate(zip(names, copying, strict=True), 1):
                if not each.result():
                    refused.append(name)
                progress(done, len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return refused


def _is_same(file: _File, other: _File | None) -> bool:
    if other is None or other.size != file.size:
        return False
    return file.written is not None and other.written is not None and other.written >= file.written
