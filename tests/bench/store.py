"""Compare storing 50,000 files of 4 KB in a directory remote with ``dvc add`` and ``dvc push``.

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

from ml_assets.resources.dvc.store import DvcStore
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
    for seed in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for side in ("ours", "theirs"):
                _make_files(place / side / "data", files, seed)
            ours, theirs = _Ours(place / "ours"), _Dvc(place / "theirs")
            first.append((_seconds(ours.store), _seconds(theirs.store)))
            again += [(_seconds(ours.store_again), _seconds(theirs.store_again)) for _ in range(_TIMES_AGAIN)]
            _require_equal(place / "ours" / "remote", place / "theirs" / "remote")
    files_of = f"{files:,} files of {_SIZE // 1024} KB"
    write(
        "store",
        [
            Measurement(f"store {files_of} (dvc add + push)", *_best(first), "s"),
            Measurement("store them again unchanged (dvc add)", *_best(again), "s"),
        ],
    )


class _Ours:
    def __init__(self, place: Path) -> None:
        self._data = place / "data"
        self._store = DvcStore(remote=str(place / "remote"), cache=str(place / "cache"))

    def store(self) -> Content:
        return self._store.put(self._data)

    store_again = store


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
