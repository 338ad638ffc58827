"""Checks before a run is launched: the image exists and can read the request."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from ml_assets.dagster_internals import JobPythonOrigin, RemoteJobOrigin
from ml_assets.reproduction.job import JOB_NAME, OP_NAME
from ml_assets.reproduction.launching import ReproductionRun, reproduce_in_image, require_image
from ml_assets.reproduction.request import ReproductionRequest, parse_request
from ml_assets.resources.errors import ReproductionRefused
from ml_assets.resources.pools import Pool
from ml_assets.resources.provenance import (
    OVERRIDES_TAG,
    ArtifactKind,
    Hardware,
    ImageLabels,
    Launch,
    LaunchKind,
    ProvenanceRecord,
    RunEnvironment,
    Source,
)
from ml_assets.resources.registry.client import RegistryClient
from tests.migrated import Migrated
from tests.oci_registry import OciRegistry

REQUEST = ReproductionRequest(asset="line", storage_id=1, data_version="md5:1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = ProvenanceRecord(
    kind=ArtifactKind.MODEL,
    asset="line",
    data_version="md5:1",
    environment=RunEnvironment(
        target="docker", pool="gpu", image="r/i@sha256:0", environment_digest="sha256:1", python="3", dagster="1"
    ),
    source=Source(),
    code_version="1",
    dagster_run="gone",
    dagster_step="line",
    attempt=0,
    job="j",
    launch=Launch(kind=LaunchKind.USER),
    hardware=Hardware(architecture="a", system="s", processor="p", cpus=1, memory_bytes=1),
    started_at=NOW,
    ended_at=NOW,
    reproducible=True,
)


@pytest.fixture
def registry(tmp_path: Path) -> RegistryClient:
    return RegistryClient(docker_config=tmp_path / "no-config.json", timeout=20)


def _push(oci_registry: OciRegistry, **labels: str) -> str:
    digest = oci_registry.push_image("ml/train", "v1", labels={"ml_assets.build_key": "sha256:1", **labels})
    return f"{oci_registry.host}/ml/train@{digest}"


def test_image_that_reads_the_form_is_taken(oci_registry: OciRegistry, registry: RegistryClient) -> None:
    said: list[str] = []
    require_image(_push(oci_registry, **{ImageLabels.REPRODUCES: "2"}), REQUEST, registry, said.append)
    assert said == []


def test_image_of_others_is_taken_as_it_is(oci_registry: OciRegistry, registry: RegistryClient) -> None:
    digest = oci_registry.push_image("theirs", "v1", labels={"maintainer": "they"})
    require_image(f"{oci_registry.host}/theirs@{digest}", REQUEST, registry, pytest.fail)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, "was built before ml-assets could reproduce, but this request has format 2"),
        ({ImageLabels.REPRODUCES: "1"}, "reads requests of format 1, but this request has format 2"),
    ],
)
def test_image_of_another_time_is_refused_by_name(
    oci_registry: OciRegistry, registry: RegistryClient, labels: dict[str, str], why: str
) -> None:
    image = _push(oci_registry, **labels)
    with pytest.raises(ReproductionRefused, match=f"line: its image {image} {why}"):
        require_image(image, REQUEST, registry, pytest.fail)


def test_image_that_is_gone_is_named(oci_registry: OciRegistry, registry: RegistryClient) -> None:
    image = f"{oci_registry.host}/ml/train@sha256:{'0' * 64}"
    with pytest.raises(ReproductionRefused, match=f"its image {image} is gone from the registry"):
        require_image(image, REQUEST, registry, pytest.fail)


def test_registry_that_does_not_answer_is_left_to_the_engine(registry: RegistryClient) -> None:
    said: list[str] = []
    require_image(f"127.0.0.1:1/ml/train@sha256:{'0' * 64}", REQUEST, registry, said.append)
    assert "cannot check whether the image still exists" in said[0]


def test_pool_that_is_gone_is_refused_and_another_can_be_named(instance: dg.DagsterInstance) -> None:
    pools: dict[str, Any] = {"cpu": Pool()}
    with pytest.raises(ReproductionRefused, match=r"it ran on pool 'gpu', which no longer exists.*--pool: cpu"):
        ReproductionRun.of(REQUEST, RECORD, instance, pools, None)
    with pytest.raises(ReproductionRefused, match="Dagster's database has no run of its code location"):
        ReproductionRun.of(REQUEST, RECORD, instance, pools, "cpu")


@pytest.fixture
def queue(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    """An instance on which runs wait for a daemon."""
    coordinator = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
    with migrated.instance(tmp_path, {"run_coordinator": coordinator}) as found:
        yield found


def _earlier_run(instance: dg.DagsterInstance, image: str, location: str) -> str:
    """Create a run as a code server does, and return its id."""

    @dg.job
    def earlier() -> None:
        pass

    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
    code = RepositoryPythonOrigin("python", ModuleCodePointer("project", "defs"), container_image=image)
    return instance.create_run_for_job(
        earlier,
        tags={".dagster/repository": f"__repository__@{location}"},
        remote_job_origin=RemoteJobOrigin(repository, "earlier"),
        job_code_origin=JobPythonOrigin("earlier", code),
    ).run_id


def test_run_is_like_the_newest_of_its_code_location_and_its_step_is_in_the_past_image(
    queue: dg.DagsterInstance,
) -> None:
    past = _earlier_run(queue, "old", "ours")
    _earlier_run(queue, "new", "ours")
    _earlier_run(queue, "other", "theirs")
    record = RECORD.model_copy(update={"dagster_run": past})
    run = ReproductionRun.of(REQUEST, record, queue, {"gpu": Pool()}, None).create(queue)
    assert run.job_code_origin
    assert run.job_code_origin.repository_origin.container_image == "new"
    assert run.remote_job_origin
    assert (run.job_name, run.remote_job_origin.location_name) == (JOB_NAME, "ours")
    assert json.loads(run.tags[OVERRIDES_TAG]) == {OP_NAME: {"image": "r/i@sha256:0", "pool": "gpu"}}
    assert parse_request(run.run_config["ops"][OP_NAME]["config"]["request"]) == REQUEST


def test_interrupt_cancels_the_run(queue: dg.DagsterInstance) -> None:
    _earlier_run(queue, "new", "ours")

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce_in_image(REQUEST, RECORD, queue, {"gpu": Pool()}, None, say)
    (run,) = queue.get_runs(dg.RunsFilter(job_name=JOB_NAME))
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert said[-1] == f"canceled run {run.run_id}"
