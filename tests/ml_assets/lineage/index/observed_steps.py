"""Steps of random projects in several processes, and the content that they read according to the kernel.

Each process has its own content cache, whose files inotify watches. Each content has a unique nonce, so an opened file
identifies the step that wrote it. Neither source uses Dagster's event log or the recorder.
"""

import ctypes
import json
import logging
import os
import re
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import md5
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pandas as pd
from dagster._core.definitions.selector import JobSubsetSelector, PartitionsByAssetSelector
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.placement import Placement, placed
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder, ImageSpec
from ml_assets.resources.provenance import Content
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["StepMarks", "resources", "serve", "work"]

_OPEN: Final = 0x20
_DIRECTORY: Final = 0x40000000
_NONCE: Final = re.compile(rb"nonce[0-9a-f]{16}")


class OpenedFiles:
    """The opened files of a content cache."""

    def __init__(self, cache: Path) -> None:
        self._objects = cache / "files" / "md5"
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watcher = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, str] = {}
        for number in range(256):
            folder = self._objects / f"{number:02x}"
            folder.mkdir(parents=True, exist_ok=True)
            watch = self._libc.inotify_add_watch(self._watcher, os.fsencode(folder), _OPEN)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
            self._folders[watch] = folder.name

    def drain(self) -> set[str]:
        """Return the names of the files opened since the last call; a name is the MD5 under which a file is stored."""
        names = set()
        while True:
            try:
                events = os.read(self._watcher, 1 << 16)
            except BlockingIOError:
                return names
            at = 0
            while at < len(events):
                watch, mask, _, length = struct.unpack_from("iIII", events, at)
                name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                if name and not mask & _DIRECTORY:
                    names.add(self._folders[watch] + name)

    def nonces(self, name: str) -> set[str]:
        """Return the nonces in an opened file, after verifying its hash."""
        content = (self._objects / name[:2] / name[2:]).read_bytes()
        self.drain()
        assert md5(content).hexdigest() == name.removesuffix(".dir")
        return {found.decode() for found in _NONCE.findall(content)}


@dataclass
class _Process:
    """One of the processes that run steps."""

    folder: Path
    number: int
    pipe: Connection
    opened: OpenedFiles
    failures: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    """Latest event of each partition of each asset at the start of the step."""
    image: str | None = None

    @property
    def cache(self) -> Path:
        return self.folder / f"cache{self.number}"

    def pause(self, stage: str, step: str = "") -> None:
        """Wait until the driver continues this process."""
        self.pipe.send(("paused", stage, step))
        assert self.pipe.recv() == "go"

    def latest(self) -> dict[str, int]:
        """Return the id of the latest materialization of each partition of each asset, from Dagster's table."""
        wanted = "SELECT asset_key, partition, max(id) FROM event_logs"
        wanted += " WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY asset_key, partition"
        with closing(sqlite3.connect(self.folder / "dagster" / "history" / "runs" / "index.db", timeout=480)) as log:
            return {f"{'/'.join(json.loads(key))}@{part}": newest for key, part, newest in log.execute(wanted)}

    def note(self, **seen: Any) -> None:
        """Append an observed fact to the file of facts."""
        with (self.folder / "truth.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")


_process: _Process | None = None


def _here() -> _Process:
    assert _process is not None
    return _process


class StepMarks(logging.Handler):
    """Log handler that discards the files opened before a step starts, because they are not the step's own."""

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        if _process is not None and event and event.event_type_value in ("STEP_START", "STEP_RESTARTED"):
            _process.opened.drain()
            _process.before = _process.latest()


class PausingStore(DvcStore):
    """A store that lets other processes run before content is fetched and before it is stored."""

    def fetch(self, version: Digest) -> Path:
        _here().pause("fetch")
        return super().fetch(version)

    def put(self, path: Path) -> Content:
        _here().pause("put")
        return super().put(path)


class MadeUpImages(ImageBuilder):
    """Stand-in for a container engine: it claims to have built the image that the driver chose."""

    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        image = ImageReference.parse(_here().image or "")
        return BuiltImage(
            environment_digest=environment_of(image),
            image=image,
            index_digest=None,
            build_key=Digest.of_bytes(b"key"),
            built=True,
            explanation="made up",
        )

    def build_key(self, spec: ImageSpec) -> Digest:
        return Digest.of_bytes(b"key")

    def environment_digest(self) -> Digest:
        raise AssertionError("every step is placed")


def environment_of(image: ImageReference) -> Digest:
    """Return the environment of an image; several images share one, as images that differ only in code do."""
    return Digest.of_bytes(b"one" if image.digest.hex < "8" else b"another")


def resources() -> dict[str, Any]:
    """Return the resources of the project's assets in this process."""
    here = _here()
    return {
        STORAGE_KEY: ArtifactStorage(
            store=PausingStore(remote=str(here.folder / "remote"), cache=str(here.cache)),
            tracking=MlflowTracking(tracking_uri=f"sqlite:///{here.folder}/mlflow.db", experiment="none"),
            image_builder=MadeUpImages(),
            target="local",
        )
    }


def work(context: dg.AssetExecutionContext, form: str, **inputs: Any) -> Any:
    """Read all inputs to the end, record them as facts, and return new content: the function of every asset."""
    here, step = _here(), context.op_execution_context.op.name
    seen = {nonce for value in inputs.values() for nonce in _seen(value)}
    here.pause("work", step)
    opened = here.opened.drain()
    nonce = f"nonce{os.urandom(8).hex()}"
    if context.run.tags.get("constant"):
        nonce = f"nonce{md5(f'{step} {context.has_partition_key and context.partition_key}'.encode()).hexdigest()[:16]}"
    fails = here.failures.get(step, 0) > 0
    here.note(
        run=context.run.run_id,
        step=step,
        assets=[key.to_user_string() for key in context.selected_asset_keys],
        partition=context.partition_key if context.has_partition_key else None,
        attempt=context.retry_number,
        opened={name: sorted(here.opened.nonces(name)) for name in opened},
        seen=sorted(seen),
        nonce=nonce,
        image=here.image,
        commit=_head(here.folder / "project"),
        before=here.before,
        after=here.latest(),
        fails=fails,
    )
    if fails:
        here.failures[step] -= 1
        raise RuntimeError("told to fail")
    return _content(form, here.folder / "made" / f"{context.run.run_id}-{step}", nonce, context)


def _seen(value: Any) -> Iterator[str]:
    if isinstance(value, pd.DataFrame):
        yield from (column for column in value.columns if column != "n")
    elif isinstance(value, dict):
        for each in value.values():
            yield from _seen(each)
    elif isinstance(value, Path):
        files = sorted(value.iterdir()) if value.is_dir() else [value]
        for file in files:
            yield from (found.decode() for found in _NONCE.findall(file.read_bytes()))


def _content(form: str, place: Path, nonce: str, context: dg.AssetExecutionContext) -> Any:
    place.parent.mkdir(exist_ok=True)
    if form == "pd.DataFrame":
        return pd.DataFrame({"n": [1], nonce: [1]})
    if form == "Path":
        place.write_text(nonce)
        return place
    if form == "Folder":
        place.mkdir(exist_ok=True)
        (place / nonce).write_text(nonce)
        return place
    if form == "multi":
        return (dg.MaterializeResult(asset_key=key) for key in sorted(context.selected_asset_keys))
    return None


def _head(repository: Path) -> str:
    reference = (repository / ".git" / "HEAD").read_text().strip().removeprefix("ref: ")
    return (repository / ".git" / reference).read_text().strip()


def serve(folder: Path, number: int, pipe: Connection) -> None:
    """Execute the driver's orders until there are no more."""
    global _process
    cache = folder / f"cache{number}"
    cache.mkdir(exist_ok=True)
    _process = _Process(folder, number, pipe, OpenedFiles(cache))
    sys.path.insert(0, str(folder / "project"))
    import project  # type: ignore[import-not-found]

    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(folder / "dagster")))
        origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="project"), location_name="project")
        workspace = stack.enter_context(WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)))
        job = project.defs.resolve_implicit_global_asset_job_def()
        pipe.send("ready")
        while (order := pipe.recv()) is not None:
            what, image, failures, details = order
            _process.image, _process.failures = image, failures
            with placed(_placement(image)):
                answer = {"run": _run, "backfill": _backfill, "again": _again}[what](instance, workspace, job, details)
            pipe.send(("done", *answer))


def _placement(image: str) -> Placement:
    reference = ImageReference.parse(image)
    return Placement(
        step="any",
        image=image,
        image_asset="images/train",
        environment_digest=str(environment_of(reference)),
        pool="local",
        cpus=1,
        memory="1Gi",
    )


def _run(instance: dg.DagsterInstance, workspace: Any, job: Any, details: Mapping[str, Any]) -> tuple[bool, str]:
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey.from_user_string(key) for key in details["keys"]],
        partition_key=details["partition"],
        tags=details.get("tags"),
        instance=instance,
        raise_on_error=False,
    )
    return result.success, result.run_id


def _backfill(instance: dg.DagsterInstance, workspace: Any, job: Any, details: Mapping[str, Any]) -> tuple[bool, str]:
    graph = workspace.create_request_context().asset_graph
    backfill = PartitionBackfill.from_partitions_by_assets(
        backfill_id=details["id"],
        asset_graph=graph,
        backfill_timestamp=time.time(),
        tags=details["tags"],
        dynamic_partitions_store=instance,
        partitions_by_assets=[
            PartitionsByAssetSelector(asset_key=dg.AssetKey.from_user_string(key)) for key in details["keys"]
        ],
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    for _ in range(100):
        for problem in execute_backfill_iteration(workspace, logging.getLogger("backfill")):
            assert problem is None, problem
        status = instance.get_backfill(details["id"]).status.value  # type: ignore[union-attr]
        if status.startswith(("COMPLETED", "FAILED", "CANCELED")):
            return status == "COMPLETED_SUCCESS", details["id"]
    raise AssertionError(status)


def _again(instance: dg.DagsterInstance, workspace: Any, job: Any, details: Mapping[str, Any]) -> tuple[bool, str]:
    parent = instance.get_run_by_id(details["run"])
    assert parent
    context = workspace.create_request_context()
    (location,) = context.code_locations
    (repository,) = location.get_repositories().values()
    remote = location.get_job(
        JobSubsetSelector(
            location_name=location.name,
            repository_name=repository.name,
            job_name=parent.job_name,
            op_selection=None,
            asset_selection=parent.asset_selection,
            asset_check_selection=parent.asset_check_selection,
        )
    )
    run = instance.create_reexecuted_run(
        parent_run=parent,
        request_context=context,
        code_location=location,
        remote_job=remote,
        strategy=ReexecutionStrategy.FROM_FAILURE,
        use_parent_run_tags=True,
    )
    instance.launch_run(run.run_id, context)
    after = instance.get_run_by_id(run.run_id)
    return bool(after and after.is_success), run.run_id
