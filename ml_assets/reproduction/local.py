"""Reproduction without containers: a separate process, in a folder with the recorded commit.

The process imports the project from there. It checks by itself that code and environment are those of the record.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from ml_assets.dagster_internals import FileCodePointer
from ml_assets.project import code_locations_in
from ml_assets.reproduction.request import ReproductionRequest
from ml_assets.reproduction.verdict import Verdict
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import ReproductionRefused, SettingsError, SourceError
from ml_assets.resources.git.checkout import checked_out, repository_of
from ml_assets.resources.provenance import ProvenanceRecord
from ml_assets.resources.settings import OVERRIDE_PREFIX, Settings
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["CodeLocationPointer", "WorkerRequest", "WorkerResponse", "reproduce_at_commit"]

_WORKER = "ml_assets.reproduction"
_PATIENCE_SECONDS = 20


class _WorkerMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CodeLocationPointer(_WorkerMessage):
    """The location of the definitions: a module, or a file in the checked-out folder."""

    module: str | None = None
    file: str | None = None
    attribute: str | None = None


class WorkerRequest(_WorkerMessage):
    """The worker's standard input. Workers of past commits read the same field names."""

    request: str
    target: CodeLocationPointer
    instance: str = Field(repr=False)
    """Reference to the Dagster instance, as Dagster serializes it."""
    store: dict[str, Any] = Field(repr=False)
    tracking: dict[str, Any] = Field(repr=False)
    deployment: str
    """Name of the deployment target."""
    thread_variables: dict[str, str] = {}


class WorkerResponse(_WorkerMessage):
    """The worker's standard output: a verdict, or the error that prevented one."""

    verdict: Verdict | None = None
    what: str | None = None
    next_step: str | None = None
    asset: str | None = None


def reproduce_at_commit(
    request: ReproductionRequest,
    record: ProvenanceRecord,
    instance: dg.DagsterInstance,
    settings: Settings,
    artifacts: tuple[DvcStore, MlflowTracking],
    say: Callable[[str], None],
) -> Verdict:
    """Run a recorded materialization again, at its commit, and log the verdict as an observation.

    Args:
        request: the request.
        record: the record that it names.
        instance: the instance of the record; only the observation is written to it.
        settings: settings of the target, whose root is in the project's git repository.
        artifacts: content store and tracking of the target.
        say: receives a line for the user.

    Raises:
        ReproductionRefused: the commit does not exist, or the process refuses.
    """
    if record.source.commit is None:
        raise _refused(
            request, "no commit of its code was recorded", "commit the project's code, and materialize it again"
        )
    try:
        repository = repository_of(settings.root)
        with checked_out(repository, record.source.commit) as copy:
            say(f"checked out commit {record.source.commit[:12]} in {copy}")
            folder = copy / settings.root.resolve().relative_to(repository.resolve())
            _require_worker(request, folder)
            worker_request = WorkerRequest(
                request=request.model_dump_json(),
                target=_pointer(record, instance, folder, settings.root),
                instance=dg.serialize_value(instance.get_ref()),
                store=artifacts[0].model_dump(),
                tracking=artifacts[1].model_dump(),
                deployment=settings.target,
                thread_variables=record.threads.variables,
            )
            response = _response_of(request, worker_request, _command(settings, record, artifacts), folder)
    except SourceError as error:
        raise _refused(request, error.what, error.next_step) from error
    if response.verdict is None:
        what, next_step = response.what or "the process gave no reason", response.next_step or "check its output"
        raise ReproductionRefused(what, next_step=next_step, asset=response.asset or str(request.artifact))
    instance.report_runless_asset_event(response.verdict.observation())
    return response.verdict


def _require_worker(request: ReproductionRequest, folder: Path) -> None:
    """Refuse a commit of ml-assets itself without a worker; for other projects ml-assets is part of the environment."""
    package, *parts = _WORKER.split(".")
    if (folder / package).is_dir() and not (folder / package / Path(*parts) / "__main__.py").exists():
        raise _refused(
            request,
            "its commit is older than the support for reproduction",
            "materialize it at a later commit; later materializations can be reproduced",
        )


def _pointer(record: ProvenanceRecord, instance: dg.DagsterInstance, folder: Path, root: Path) -> CodeLocationPointer:
    """Return the location of the definitions, from the past run, or else from the commit's project files."""
    run = instance.get_run_by_id(record.dagster_run)
    pointer = run.job_code_origin.repository_origin.code_pointer if run and run.job_code_origin else None
    if isinstance(pointer, FileCodePointer):
        file = Path(pointer.working_directory or root) / pointer.python_file
        if file.is_relative_to(root):
            return CodeLocationPointer(file=str(file.relative_to(root)), attribute=pointer.fn_name)
    elif pointer is not None and hasattr(pointer, "module"):
        return CodeLocationPointer(module=pointer.module, attribute=getattr(pointer, "fn_name", None))
    return _pointer_of_project(folder)


def _pointer_of_project(folder: Path) -> CodeLocationPointer:
    try:
        found = code_locations_in(folder)
    except SettingsError as error:
        raise _unknown_location(f"({error.what})") from error
    if len(found) != 1:
        raise _unknown_location(f"(they name {len(found)})")
    (location,) = found
    module = location.module_name or location.package_name
    file = location.python_file and str(Path(location.python_file).relative_to(folder))
    return CodeLocationPointer(module=module, file=file, attribute=location.attribute)


def _unknown_location(why: str) -> ReproductionRefused:
    return ReproductionRefused(
        "the location of its definitions is unknown: its run does not name it, and the files pyproject.toml and "
        f"workspace.yaml of that commit do not name exactly one code location {why}",
        next_step="materialize with `dagster … -m MODULE`, or commit such a file",
    )


def _command(settings: Settings, record: ProvenanceRecord, artifacts: tuple[DvcStore, MlflowTracking]) -> list[str]:
    """Return the process's command, with the recorded number of threads and absolute locations for the settings.

    A past commit reads its own settings, and would resolve relative paths from its own folder.
    """
    store, tracking = artifacts
    locations = {
        "DVC__REMOTE": (settings.dvc.remote, store.remote),
        "DVC__CACHE": (settings.dvc.cache, store.cache),
        "MLFLOW__TRACKING_URI": (settings.mlflow.tracking_uri, tracking.tracking_uri),
        "MLFLOW__ARTIFACT_LOCATION": (settings.mlflow.artifact_location, tracking.artifact_location),
        "HOME": (settings.home, str(settings.path(settings.home))),
    }
    variables = {
        f"{OVERRIDE_PREFIX}{name}": location
        for name, (said, location) in locations.items()
        if location and said != location
    }
    unset = [part for name in settings.thread_variables for part in ("-u", name)]
    own = [f"{name}={value}" for name, value in {**variables, **record.threads.variables}.items()]
    return ["env", *unset, *own, sys.executable, "-m", _WORKER]


def _response_of(
    request: ReproductionRequest, worker_request: WorkerRequest, command: list[str], folder: Path
) -> WorkerResponse:
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            out, _ = process.communicate(worker_request.model_dump_json().encode())
        finally:
            _end(process)
    if process.returncode != 0:
        what = f"the process at its commit ended with status {process.returncode}"
        raise _refused(request, what, "check its output, and run again")
    return WorkerResponse.model_validate_json(out)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process before its folder is deleted."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _refused(request: ReproductionRequest, what: str, next_step: str) -> ReproductionRefused:
    return ReproductionRefused(what, next_step=next_step, asset=str(request.artifact))
