"""Runs steps of a random project in several processes at once: ``python -m … FOLDER RUNS SEED…``.

Processes pause before they fetch content, when their function has read its inputs, and before they store their result.
A seeded random generator chooses which process continues. It also lets another process materialize exactly the input
that a paused one has read.
"""

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.ml_assets.lineage.index.observed_steps import serve
from tests.ml_assets.lineage.index.random_project import PARTITIONS, RandomAsset, commit, random_project

CONSTANT: Final = {"constant": "yes"}
"""Tags of a run in which the content of each asset's partition is the same as in every such run."""

_PROCESSES: Final = 3
_DAGSTER: Final = """
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
python_logs:
  dagster_handler_config:
    handlers:
      marks: {class: tests.ml_assets.lineage.index.observed_steps.StepMarks, level: DEBUG}
"""


@dataclass
class _Worker:
    folder: Path
    number: int
    pid: int = 0
    pipe: Connection | None = None
    paused: tuple[str, str] | None = None
    """Pause point: the stage, and the step if it is known."""
    is_busy: bool = False
    last: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        ours, theirs = Pipe()
        self.pid = _forked(functools.partial(serve, self.folder, self.number, theirs))
        theirs.close()
        self.pipe, self.paused, self.is_busy = ours, None, False
        assert ours.recv() == "ready"

    def order(self, what: str, image: str, failures: dict[str, int], details: dict[str, Any]) -> None:
        assert self.pipe
        self.is_busy, self.last = True, {"what": what, **details}
        self.pipe.send((what, image, failures, details))

    def go_on(self) -> None:
        assert self.pipe
        self.paused = None
        self.pipe.send("go")

    def wait(self) -> tuple[Any, ...] | None:
        """Wait until the process pauses again; return the answer to its order if that is done."""
        assert self.pipe
        what, *rest = self.pipe.recv()
        if what == "paused":
            self.paused = (rest[0], rest[1])
            return None
        self.is_busy = False
        return tuple(rest)

    def finish(self) -> tuple[Any, ...]:
        while (answer := self.wait()) is None:
            self.go_on()
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.start()

    def end(self) -> None:
        assert self.pipe
        self.pipe.send(None)
        _, status = os.waitpid(self.pid, 0)
        assert status == 0


class _History:
    def __init__(self, folder: Path, seed: int, runs: int) -> None:
        self.folder, self.random, self.runs = folder, Random(seed), runs
        self.project = random_project(self.random, 8)
        self.images: list[str] = []
        self.failed: list[str] = []
        self.is_killed = False

    def write(self) -> None:
        """Write a project, backfill it, run random orders, and finally materialize an asset with its first content."""
        self.project.write(self.folder / "project")
        (self.folder / "dagster").mkdir()
        (self.folder / "dagster" / "dagster.yaml").write_text(_DAGSTER)
        declared = {
            key: {"loads": asset.loads, "follows": asset.follows, "image": asset.runs_in_image}
            for asset in self.project.assets
            for key in asset.keys
        }
        (self.folder / "declared.json").write_text(json.dumps(declared))
        self.workers = [_Worker(self.folder, number) for number in range(_PROCESSES)]
        for worker in self.workers:
            worker.start()
        first = self.workers[0]
        self.make_image(first)
        keys = [key for asset in self.project.assets for key in asset.keys]
        first.order("backfill", self.images[0], {}, {"id": "all", "keys": keys, "tags": CONSTANT})
        first.finish()
        commit(self.folder / "project")
        runs = self.runs
        while runs or any(worker.is_busy for worker in self.workers):
            runs -= self.step(runs)
        repeated = self.random.choice([asset for asset in self.project.assets if self.readers(asset)])
        first.order("backfill", self.images[-1], {}, {"id": "again", "keys": list(repeated.keys), "tags": CONSTANT})
        first.finish()
        for worker in self.workers:
            worker.end()

    def step(self, runs: int) -> int:
        """Let one or several processes continue; return the number of started runs."""
        idle = [worker for worker in self.workers if not worker.is_busy]
        busy = [worker for worker in self.workers if worker.is_busy]
        if not busy and self.random.random() < 0.3:
            commit(self.folder / "project")
        chosen, started = [], 0
        for worker in self.random.sample(self.workers, self.random.choice([1, 1, 1, _PROCESSES])):
            if worker.is_busy:
                chosen.append(worker)
        for worker in idle:
            if started < runs and (not chosen or self.random.random() < 0.5):
                started += 1
                if not self.overtake(worker, busy):
                    self.launch(worker)
                    chosen.append(worker)
        for worker in chosen:
            if worker.paused:
                if not self.is_killed and runs < self.runs // 2 and worker.paused[0] == "put":
                    self.is_killed = True
                    worker.kill()
                    continue
                worker.go_on()
        for worker in chosen:
            if worker.is_busy:
                answer = worker.wait()
                if answer and not answer[0]:
                    self.failed.append(answer[1])
        return started

    def overtake(self, worker: _Worker, busy: list[_Worker]) -> bool:
        """While a process is paused, materialize completely an asset that it has read or is about to read."""
        reading = [other.last for other in busy if other.paused and other.last["what"] == "run"]
        if not reading or self.random.random() < 0.3:
            return False
        last = self.random.choice(reading)
        read = [key for key in self.by_key(last["keys"][0]).loads if key not in last["keys"]]
        if not read:
            return False
        asset = self.by_key(self.random.choice(read))
        theirs = PARTITIONS[asset.partitions]
        partition = last["partition"] if last["partition"] in theirs else self.random.choice(theirs)
        worker.order("run", self.random.choice(self.images), {}, {"keys": list(asset.keys), "partition": partition})
        worker.finish()
        return True

    def launch(self, worker: _Worker) -> None:
        """Order a run of any asset, or the re-execution of a failed run."""
        if self.random.random() < 0.1:
            self.make_image(worker)
        image = self.random.choice(self.images)
        if self.failed and self.random.random() < 0.7:
            worker.order("again", image, {}, {"run": self.failed.pop()})
            return
        asset, partition = self.any_asset()
        keys = list(asset.keys)
        if self.random.random() < 0.3:
            keys += self.readers(asset)
        failures = (
            {asset.keys[0].partition("_")[0]: self.random.choice([1, 1, 2])} if self.random.random() < 0.5 else {}
        )
        tags = CONSTANT if self.random.random() < 0.3 else {}
        worker.order("run", image, failures, {"keys": keys, "partition": partition, "tags": tags})

    def readers(self, asset: RandomAsset) -> list[str]:
        same = [each for each in self.project.assets if each.partitions == asset.partitions and each is not asset]
        return [key for each in same if set(each.loads) & set(asset.keys) for key in each.keys]

    def any_asset(self) -> tuple[RandomAsset, str | None]:
        asset = self.random.choice(self.project.assets)
        return asset, self.random.choice(PARTITIONS[asset.partitions])

    def by_key(self, key: str) -> RandomAsset:
        return next(asset for asset in self.project.assets if key in asset.keys)

    def make_image(self, worker: _Worker) -> None:
        """Make a new image, or an earlier one again."""
        image = f"registry.example/train@sha256:{sha256(str(self.random.random()).encode()).hexdigest()}"
        if self.images and self.random.random() < 0.2:
            image = self.random.choice(self.images)
        worker.order("run", image, {}, {"keys": ["images/train"], "partition": None})
        done, _ = worker.finish()
        assert done
        self.images.append(image)


def _forked(do: Callable[[], None]) -> int:
    """Run a function in a forked process, which inherits the loaded modules, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        do()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(folder: Path, seeds: list[int], runs: int) -> None:
    for seed in seeds:
        print("seed", seed, flush=True)
        place = folder / str(seed)
        place.mkdir()
        _, status = os.waitpid(_forked(_History(place, seed, runs).write), 0)
        assert status == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), list(map(int, sys.argv[3:])), int(sys.argv[2]))
