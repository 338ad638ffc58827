"""File trees, copied between a folder and any server that DVC supports."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from ml_assets.resources.dvc.directory import HeldObject
from ml_assets.resources.dvc.server import dvc_settings, server_errors, without_password, written_at

__all__ = ["Copied", "Tree"]

_AT_ONCE: Final = 8
_UNFINISHED: Final = ".unfinished"


class Copied(NamedTuple):
    """The result of a copy.

    Attributes:
        files: number of files, including those that existed already.
        size: their total bytes.
        copied: number of files that were copied.
    """

    files: int
    size: int
    copied: int


class Tree:
    """The files below a URL or in a directory.

    A file is copied unless the other side has a file of equal size that was written later: content-addressed files
    never change, and growing files get larger. A copy may be interrupted at any time; the next copy completes it.

    Args:
        url: their location; a path is a directory.
        options: those of DVC's ``remote modify`` for this kind of server.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.name = without_password(url)
        self._url, self._options = url, options

    def save(self, folder: Path, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Copied:
        """Copy all files into a folder.

        Args:
            folder: created if it does not exist; other files in it stay.
            progress: called with the number of files copied so far, and the total.

        Raises:
            StoreFull: the folder has no space.
            RemoteUnreachable: the server did not answer.
        """
        here = _files_in(folder)

        def copy(name: str) -> None:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = file.with_name(file.name + _UNFINISHED)
            self._files.get_file(self._path(name), str(whole))
            written = there[name].written
            if written is not None:
                os.utime(whole, (written, written))
            whole.replace(file)

        with server_errors(self.name, f"folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            there = self._there()
            return _copy(there, here, copy, progress)

    def restore(self, folder: Path, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Copied:
        """Copy all files of a folder back; arguments and errors are those of `save`."""

        def copy(name: str) -> None:
            place = self._path(name)
            self._files.makedirs(self._files.parent(place), exist_ok=True)
            self._files.put_file(str(folder / name), place)

        with server_errors(self.name, f"folder {folder}"):
            return _copy(_files_in(folder), self._there(), copy, progress)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        kind, config, path = dvc_settings(self._url, self._options)
        return kind(**config), path

    @property
    def _files(self) -> Any:
        return self._opened[0]

    def _path(self, name: str) -> str:
        path: str = self._files.join(self._opened[1], *name.split("/"))
        return path

    def _there(self) -> dict[str, HeldObject]:
        root = self._opened[1].rstrip("/")
        if self._files.protocol == "local":
            return _files_in(Path(root))
        if not self._files.exists(root):
            return {}
        self._files.fs.invalidate_cache()
        found = self._files.fs.find(root, detail=True)
        return {
            path[len(root) :].lstrip("/"): HeldObject(int(info.get("size") or 0), written_at(info))
            for path, info in found.items()
        }


def _files_in(folder: Path) -> dict[str, HeldObject]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.endswith(_UNFINISHED):
            status = file.stat()
            found[file.relative_to(folder).as_posix()] = HeldObject(status.st_size, status.st_mtime)
    return found


def _copy(
    source: Mapping[str, HeldObject],
    destination: Mapping[str, HeldObject],
    copy: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Copied:
    wanted = [name for name, file in source.items() if not _is_same(file, destination.get(name))]
    progress(0, len(wanted))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copying = [pool.submit(copy, name) for name in wanted]
        try:
            for done, each in enumerate(copying, 1):
                each.result()
                progress(done, len(wanted))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Copied(len(source), sum(file.size for file in source.values()), len(wanted))


def _is_same(file: HeldObject, other: HeldObject | None) -> bool:
    if other is None or other.size != file.size:
        return False
    return file.written is not None and other.written is not None and other.written >= file.written
