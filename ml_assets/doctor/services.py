"""Checks that every target needs: Dagster's database, content, MLflow, a registry, the right packages."""

import importlib.metadata
import shutil
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from ml_assets.dagster_internals import SqlEventLogStorage
from ml_assets.dead_runs import dead_runs
from ml_assets.doctor.runner import Finding, clock_finding, fault, ok, warning
from ml_assets.resources.errors import StoreError
from ml_assets.resources.machine.hardware import hardware
from ml_assets.resources.settings import Settings
from ml_assets.resources.sqlite_url import sqlite_file
from ml_assets.resources.tracking.store import check_server, check_uri, public_uri
from ml_assets.target import Target

__all__ = ["content", "database", "gpu", "packages", "registry", "tracking"]

_PACKAGES = ("dagster", "dvc", "mlflow", "dagster-k8s", "dagster-docker", "dagster-postgres")
_LITTLE_SPACE = 2**30
_ANSWER_SECONDS = 5


def database(target: Target) -> Iterator[Finding]:
    """Check that Dagster's database answers, has this version's schema and time, and holds no run that was killed."""
    home = target.settings.path(target.settings.home)
    with target:
        instance = target.instance
        runs = instance.get_runs_count()
        storage = instance.event_log_storage
        if not isinstance(storage, SqlEventLogStorage):
            yield warning(
                f"the event log is stored by {type(storage).__name__}",
                "lineage and usage need PostgreSQL or SQLite: correct dagster.yaml",
            )
            return
        yield ok(f"Dagster's database answers ({home}, {runs} runs)")
        found, head = storage.alembic_version() or (None, None)
        if found != head:
            yield fault(
                f"Dagster's database has the schema {found}, but the installed Dagster needs {head}",
                "back it up, stop the daemon and the webserver, and run dagster instance migrate",
            )
        with storage.index_connection() as connection:
            if connection.dialect.name == "postgresql":
                there: Any = connection.scalar(sql.select(sql.func.clock_timestamp()))
                yield clock_finding("PostgreSQL", there)
        dead = dead_runs(instance)
        if dead:
            named = ", ".join(f"{run.run_id[:8]} of {run.job_name}" for run in dead)
            yield warning(
                f"runs in progress whose processes were killed: {named}",
                "start any run, Dagster's daemon or ml-assets gc --apply: each marks them as failed",
            )


def content(target: Target) -> Iterator[Finding]:
    """Check that the DVC remote can write, read and delete, and that the cache has room."""
    settings = target.settings
    cache = settings.path(settings.dvc.cache)
    yield from _folder("the content cache", cache)
    location = settings.location(settings.dvc.remote)
    if "://" not in location and not Path(location).exists():
        yield warning(
            f"the DVC remote {location} does not exist yet",
            "mount it if it should exist; otherwise the first artifact creates it",
        )
        return
    probe, said = f"doctor-{uuid.uuid4().hex}", b"written by ml-assets doctor; may be deleted"
    remote = target.store.opened()
    try:
        remote.write_note(probe, said)
        read = remote.read_note(probe)
    finally:
        remote.write_note(probe, None)
    if read != said:
        raise StoreError(
            f"the {remote.name} does not return the content that was written", next_step="check its server"
        )
    yield ok(f"the {remote.name} can be written and read, and objects can be deleted")


def tracking(settings: Settings) -> Iterator[Finding]:
    """Check that MLflow answers, and has the version that is installed here."""
    uri = settings.location(settings.mlflow.tracking_uri)
    check_uri(uri)
    file = sqlite_file(uri)
    if file is not None:
        yield from _folder("MLflow's database", file.parent)
        return
    check_server(uri, settings.mlflow.experiment)
    yield ok(f"the MLflow server {public_uri(uri)} answers")
    import requests

    answer = requests.get(f"{uri.rstrip('/')}/version", timeout=_ANSWER_SECONDS)
    here = importlib.metadata.version("mlflow")
    if answer.ok and answer.text.strip() != here:
        yield warning(
            f"the MLflow server has version {answer.text.strip()}, but the client has {here}",
            "run the same minor version on both; upgrade the server first, after mlflow db upgrade",
        )


def registry(target: Target) -> Iterator[Finding]:
    """Check that images can be pulled and pushed."""
    images = target.settings.images
    pushed_to = images.push_registry or images.registry
    client = target.registry_client
    for host in dict.fromkeys(name for name in (images.registry, pushed_to) if name):
        push = host == pushed_to
        client.check_rights(host, f"{images.prefix}/train", push=push)
        yield ok(f"the registry {host} allows pull" + (" and push" if push else ""))


def packages(settings: Settings) -> Iterator[Finding]:
    """Check that the installed packages are the locked ones."""
    lock = settings.root / "uv.lock"
    if not lock.exists():
        yield warning(f"there is no {lock} to compare packages with", "install from a lock, as images do")
        return
    locked = {each["name"]: each.get("version") for each in tomllib.loads(lock.read_text())["package"]}
    installed = {name: _version(name) for name in _PACKAGES if name in locked}
    differing = [
        f"{name} {there} (locked {locked[name]})"
        for name, there in installed.items()
        if there is not None and there != locked[name]
    ]
    if differing:
        yield warning(
            f"installed packages differ from the lock: {', '.join(differing)}",
            "run make setup, or install from the lock",
        )
    else:
        yield ok(
            "installed packages match the lock: "
            + ", ".join(f"{name} {there}" for name, there in installed.items() if there)
        )


def gpu(settings: Settings) -> Iterator[Finding]:
    """Check the driver of this machine's GPUs, if steps are its processes."""
    found = hardware()
    if not found.accelerators:
        yield ok("this machine has no GPU with a driver")
        return
    names = ", ".join(found.accelerators)
    if found.cuda is None:
        yield fault(
            f"{names}: the driver {found.driver} is installed, but libcuda is missing", "install the driver's libraries"
        )
        return
    yield ok(f"{names}: driver {found.driver}, CUDA up to {found.cuda}")
    if shutil.which("nvidia-smi") is None:
        yield warning("nvidia-smi is missing, so GPU usage is not recorded", "install the driver's programs")


def _folder(what: str, path: Path) -> Iterator[Finding]:
    there = next(each for each in (path, *path.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield fault(f"{what} {path} cannot be written: {error.strerror}", f"make {there} writable, or set another path")
        return
    free = shutil.disk_usage(there).free
    if free < _LITTLE_SPACE:
        yield warning(
            f"{what} {path} has {free // 2**20} MiB left", "free space there (ml-assets gc lists unreferenced content)"
        )
    else:
        yield ok(f"{what} {path} can be written ({free / 2**30:.0f} GiB free)")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
