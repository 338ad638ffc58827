"""The worker process at a past commit: it reads a `WorkerRequest` from standard input and writes a `WorkerResponse`."""

import os
import signal
import sys
from pathlib import Path

import dagster as dg

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.dagster_internals import CodePointer, InstanceRef, get_loadable_targets, repository_def_from_target_def
from ml_assets.reproduction.local import CodeLocationPointer, WorkerRequest, WorkerResponse
from ml_assets.reproduction.reproduce import reproduce
from ml_assets.reproduction.request import parse_request
from ml_assets.reproduction.verdict import Verdict
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import MlAssetsError, ReproductionRefused
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["main"]


def main() -> None:
    """Answer the request on standard input."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # clean up before the end
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the project's own output is not part of the response
    worker_request = WorkerRequest.model_validate_json(sys.stdin.buffer.read())
    try:
        response = WorkerResponse(verdict=_reproduced(worker_request))
    except MlAssetsError as error:
        response = WorkerResponse(what=error.what, next_step=error.next_step, asset=error.asset)
    with output:
        output.write(response.model_dump_json())


def _reproduced(worker_request: WorkerRequest) -> Verdict:
    request = parse_request(worker_request.request)
    storage = ArtifactStorage(
        store=DvcStore(**worker_request.store),
        tracking=MlflowTracking(**worker_request.tracking),
        image_builder=InterpreterEnvironment(Path.cwd()),
        target=worker_request.deployment,
        thread_variables=worker_request.thread_variables,
    )
    with dg.DagsterInstance.from_ref(dg.deserialize_value(worker_request.instance, InstanceRef)) as instance:
        return reproduce(request, _repository(worker_request.target), instance, storage, _say)


def _repository(target: CodeLocationPointer) -> dg.RepositoryDefinition:
    # Dagster leaves out the first entry, which is the folder of the program.
    sys.path.insert(1, str(Path.cwd() / "src"))
    try:
        attribute = target.attribute or _only_attribute(target)
        if target.file:
            pointer: CodePointer = CodePointer.from_python_file(target.file, attribute, str(Path.cwd()))
        else:
            pointer = CodePointer.from_module(target.module or "", attribute, str(Path.cwd()))
        repository = repository_def_from_target_def(pointer.load_target())
    except Exception as error:
        where = target.module or target.file
        raise ReproductionRefused(
            f"its definitions cannot be loaded from {where} at its commit: {type(error).__name__}: {error}",
            next_step="run in the environment of the record, or install what is missing",
        ) from error
    if repository is None:
        raise ReproductionRefused(
            f"{attribute} of {target.module or target.file} has no definitions",
            next_step="name the code location in workspace.yaml",
        )
    return repository


def _only_attribute(target: CodeLocationPointer) -> str:
    (found,) = get_loadable_targets(
        python_file=target.file,
        module_name=target.module,
        package_name=None,
        autoload_defs_module_name=None,
        working_directory=str(Path.cwd()),
        attribute=None,
        resolve_lazy_defs=False,
    )
    return str(found.attribute)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
