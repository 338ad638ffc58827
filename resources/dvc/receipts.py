"""Receipts of verified objects in a cache.

An object's time stamp does not prove its content: a program may restore it after a write, and a disk may lose content.
A receipt holds size, change time and inode of an object whose content was verified. The kernel sets the change time on
every modification, and no program can choose it. An object that differs from its receipts is read again.
"""

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.dvc.deposit import STAMP_NS

__all__ = ["Receipts"]

_KEPT: Final = 4
"""Receipts for each object, because it may exist several times where hard links are not supported."""

_State = list[int]


class Receipts:
    """The receipts in a cache; a lost receipt only costs another read.

    Args:
        cache: root of the cache.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "receipts"
        self._shards: dict[str, dict[str, list[_State]]] = {}

    def cover(self, value: str, path: str) -> bool:
        """Return True if the file is the verified object, unmodified."""
        state = _state(path)
        return state is not None and state in self._shard(value).get(value, ())

    def add(self, objects: Iterable[tuple[str, str]]) -> None:
        """Add receipts for verified files, given by object and path."""
        changed = defaultdict[str, dict[str, list[_State]]](dict)
        for value, path in objects:
            state = _state(path)
            known = self._shard(value).get(value, [])
            if state is not None and state not in known:
                changed[value[:2]][value] = [state, *known][:_KEPT]
        self._write(changed)

    def remove(self, values: Iterable[str]) -> None:
        """Remove the receipts of objects."""
        changed = defaultdict[str, dict[str, list[_State]]](dict)
        for value in values:
            if value in self._shard(value):
                changed[value[:2]][value] = []
        self._write(changed)

    def _shard(self, value: str) -> dict[str, list[_State]]:
        name = value[:2]
        if name not in self._shards:
            self._shards[name] = _read(self._folder / f"{name}.json")
        return self._shards[name]

    def _write(self, changed: dict[str, dict[str, list[_State]]]) -> None:
        with contextlib.suppress(OSError):
            if changed:
                self._folder.mkdir(parents=True, exist_ok=True)
            for name, entries in changed.items():
                file = self._folder / f"{name}.json"
                # Another process may have added receipts meanwhile.
                shard = {value: states for value, states in (_read(file) | entries).items() if states}
                write_atomically(file, json.dumps(shard, separators=(",", ":")))
                self._shards[name] = shard


def _state(path: str) -> _State | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [found.st_size, found.st_ctime_ns, found.st_ino] if found.st_mtime_ns == STAMP_NS else None


def _read(file: Path) -> dict[str, list[_State]]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(_entries(found)) if isinstance(found, dict) else {}


def _entries(found: dict[str, object]) -> Iterator[tuple[str, list[_State]]]:
    for value, states in found.items():
        if isinstance(states, list):
            yield value, states
