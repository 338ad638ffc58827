"""Compare storing 50,000 files of 4 KB in a directory remote with ``dvc add`` and ``dvc push``.

Two more rows show the cost of durability and of verification: the same copy with and without syncing the disk, and a
fetch of cached content with receipts against a read of everything.

Both run in turn in this process, with their libraries loaded, each on its own directory with the same content. The best
time of each counts. Dirty pages are written out beforehand, so that neither side pays for the other's. At the end, both
remotes must hold the same objects.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dvc.repo import Repo

from ml_assets.resources.dvc.deposit import file_md5
from ml_assets.resources.dvc.directory import ObjectDirectory
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Content
from tests.bench.report import Measurement, write

_FILES = 50_000
_SIZE = 4096
_FILES_PER_FOLDER = 1000
_ROUNDS = 2
_TIMES_AGAIN = 3


def main(files: int = _FILES) -> None:
    """Measure, print and write ``build/bench/store.json``."""
    first: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []
    synced: list[tuple[float, float]] = []
    fetched: list[tuple[float, float]] = []
    for seed in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for side in ("ours", "theirs"):
                _make_files(place / side / "data", files, seed)
            ours, theirs = _Ours(place / "ours"), _Dvc(place / "theirs")
            first.append((_seconds(ours.store), _seconds(theirs.store)))
            again += [(_seconds(ours.store_again), _seconds(theirs.store_again)) for _ in range(_TIMES_AGAIN)]
            _require_equal(place / "ours" / "remote", place / "theirs" / "remote")
            synced.append((_copy_seconds(place, durable=True), _copy_seconds(place, durable=False)))
            fetched += ours.fetch_seconds(_TIMES_AGAIN)
    files_of = f"{files:,} files of {_SIZE // 1024} KB"
    write(
        "store",
        [
            Measurement(f"store {files_of} (dvc add + push)", *_best(first), "s"),
            Measurement("store them again unchanged (dvc add)", *_best(again), "s"),
            Measurement("copy them and sync the disk (copy alone)", *_best(synced), "s"),
            Measurement("fetch them from the cache again (read them all)", *_best(fetched), "s"),
        ],
    )


class _Ours:
    def __init__(self, place: Path) -> None:
        self._data = place / "data"
        self._store = DvcStore(remote=str(place / "remote"), cache=str(place / "cache"))

    def store(self) -> Content:
        return self._store.put(self._data)

    store_again = store

    def fetch_seconds(self, times: int) -> list[tuple[float, float]]:
        """Return the seconds of a fetch from the cache, and of reading the same files."""
        version = Digest.parse(self.store().version)
        tree = self._store.fetch(version)
        return [(_seconds(lambda: self._store.fetch(version)), _seconds(lambda: _read_all(tree))) for _ in range(times)]


class _Dvc:
    def __init__(self, place: Path) -> None:
        self._data = str(place / "data")
        os.chdir(place)
        with Repo.init(str(place), no_scm=True).config.edit() as config:
            config["core"] = {"remote": "store", "no_scm": True, "site_cache_dir": str(place / "site")}
            config["remote"] = {"store": {"url": str(place / "remote")}}
        self._repo = Repo(str(place))

    def store(self) -> None:
        self._repo.add(self._data)
        self._repo.push()

    def store_again(self) -> None:
        self._repo.add(self._data)


def _make_files(folder: Path, files: int, seed: int) -> None:
    generator = random.Random(seed)
    for number in range(files):
        parent = folder / f"{number // _FILES_PER_FOLDER:03d}"
        if number % _FILES_PER_FOLDER == 0:
            parent.mkdir(parents=True)
        (parent / f"{number:06d}.bin").write_bytes(generator.randbytes(_SIZE))


def _copy_seconds(place: Path, *, durable: bool) -> float:
    files = [str(file) for file in (place / "ours" / "data").rglob("*.bin")]
    objects = ObjectDirectory(place / f"durable-{durable}", durable=durable)
    return _seconds(lambda: objects.deposit(files, len(files) * _SIZE))


def _read_all(folder: Path) -> None:
    for file in folder.rglob("*.bin"):
        file_md5(str(file))


def _seconds(do: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def _best(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    ours, theirs = zip(*pairs, strict=True)
    return min(ours), min(theirs)


def _require_equal(ours: Path, theirs: Path) -> None:
    objects = [{str(file.relative_to(place)) for file in (place / "files").rglob("*/*/*")} for place in (ours, theirs)]
    if objects[0] != objects[1]:
        sys.exit("the two remotes do not hold the same objects")


if __name__ == "__main__":
    main()
