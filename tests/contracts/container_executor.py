"""What the executor keeps on every engine; each engine's tests subclass `ContainerExecutorContract`.

Steps are those of `tests.containers.steps`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from ml_assets.executors.failures import FailureCause
from ml_assets.resources.provenance import OVERRIDES_TAG, PLACEMENT_METADATA, ProvenanceRecord, record_of
from tests.containers.deployment import Deployment

STEPS = "tests.containers.steps"
ANOTHER_DIGEST = f"sha256:{'f' * 64}"
"""One that no image has. containerd reports the first of an image's digests, and this one sorts last."""
GONE_SECONDS = 150
"""How long what has ended may still be listed: a kubelet that misses a container's end tidies up once a minute."""


def variables(image: str) -> dict[str, str]:
    """Settings over those of the kit: the image that steps run in, and pools that come to their limits soon."""
    return {
        "ML_ASSETS__CONTAINERS__IMAGE": image,
        "ML_ASSETS__POOLS__SMALL": '{cpus=0.1, memory="300Mi", memory_cap="600Mi", node_selector={pool="cpu"}}',
        "ML_ASSETS__POOLS__BRIEF": '{cpus=0.1, memory="500Mi", run_seconds=8, node_selector={pool="cpu"}}',
        "ML_ASSETS__POOLS__CPU__CONCURRENCY": "4",
    }


class ContainerExecutorContract(ABC):
    """The suite; the engine's class says how to look at it from outside."""

    @pytest.fixture
    @abstractmethod
    def deployment(self) -> Iterator[Deployment]:
        """The target at work with `STEPS`."""

    @abstractmethod
    def containers(self, deployment: Deployment, run_id: str) -> list[Mapping[str, Any]]:
        """What is there of a run's steps: name, labels, image, memory limit (bytes), running."""

    @abstractmethod
    def delete_container(self, deployment: Deployment, run_id: str) -> None:
        """Have the run's only step container removed from outside."""

    @abstractmethod
    def delete_run_worker(self, deployment: Deployment, run_id: str) -> None:
        """Have the run's worker removed from outside."""

    def test_step_runs_in_its_own_container_and_its_log_outlives_it(self, deployment: Deployment) -> None:
        run = deployment.run("numbers", "doubled", partition="2026-01-02")
        deployment.wait_until(lambda: not self.containers(deployment, run.run_id), run.run_id, seconds=GONE_SECONDS)
        out, err = deployment.logs(run.run_id, "numbers")
        assert "numbers of 2026-01-02 are made" in out
        assert "something goes wrong" in err
        records = Story(deployment, run.run_id).records()
        assert [records[name].environment.pool for name in ("numbers", "doubled")] == ["cpu", "gpu"]
        for record in records.values():
            assert record.environment.image == deployment.image
            assert record.environment.target == deployment.target
        assert Story(deployment, run.run_id).said().count("The runtime runs the image that was asked for") == 3

    def test_check_of_its_own_step_runs_in_its_assets_image_on_the_cpu_pool(self, deployment: Deployment) -> None:
        deployment.run("numbers", partition="2026-01-03")
        run = deployment.run(checks=[("numbers", "is_positive")])
        (placement,) = Story(deployment, run.run_id).placements()
        assert (placement["image"], placement["pool"]) == (deployment.image, "cpu")
        assert placement["run_seconds"] == 1800

    def test_running_step_is_labelled_and_its_log_is_there_while_it_runs(self, deployment: Deployment) -> None:
        run_id = deployment.launch("sleeper", run_config=sleeping(60), tags={"team": "tests"})
        deployment.wait_until(lambda: "second 3" in Story(deployment, run_id).log("sleeper"), run_id)
        (container,) = self.containers(deployment, run_id)
        labels = container["labels"]
        assert labels["ml-assets/asset"] == labels["ml-assets/step"] == "sleeper"
        assert labels["ml-assets/run"] == run_id
        assert labels["ml-assets/pool"] == "cpu"
        assert (labels["ml-assets/launch"], labels["ml-assets/attempt"]) == ("0", "0")
        assert container["memory"] == 2**30
        deployment.terminate(run_id)
        deployment.wait(run_id, status="CANCELED")
        deployment.wait_until(lambda: not self.containers(deployment, run_id), run_id, seconds=GONE_SECONDS)

    def test_canceled_step_that_cannot_be_asked_to_end_is_killed(self, deployment: Deployment) -> None:
        run_id = deployment.launch("deaf")
        deployment.wait_until(lambda: "second 1" in Story(deployment, run_id).log("deaf"), run_id)
        deployment.terminate(run_id)
        deployment.wait(run_id, status="CANCELED")
        deployment.wait_until(lambda: not self.containers(deployment, run_id), run_id, seconds=GONE_SECONDS)

    def test_step_out_of_memory_gets_more_up_to_the_pools_cap(self, deployment: Deployment) -> None:
        run = deployment.run("hungry")
        memory = [placement["memory"] for placement in Story(deployment, run.run_id).placements()]
        assert memory == ["300Mi", "600Mi"]
        assert "Running it again with 600Mi instead of 300Mi: out of memory" in Story(deployment, run.run_id).said()

    def test_step_out_of_memory_at_the_cap_fails_as_that(self, deployment: Deployment) -> None:
        run = deployment.run("insatiable", status="FAILURE")
        failure = Story(deployment, run.run_id).failure()
        assert failure["cls_name"] == FailureCause.OUT_OF_MEMORY.name
        assert "limit of 600" in failure["message"]
        assert "0 MiB" in failure["message"], "the last lines of its log are shown"

    def test_authors_retry_policy_holds(self, deployment: Deployment) -> None:
        run = deployment.run("raises_once")
        assert [placement["number"] for placement in Story(deployment, run.run_id).placements()] == [0, 1]
        stats = deployment.instance.get_run_step_stats(run.run_id)
        assert [step.attempts for step in stats] == [2]

    @pytest.mark.parametrize(
        ("asset", "cause", "words"),
        [
            ("segfaults", FailureCause.CRASHED, ["139 (SIGSEGV)", "about to read address zero"]),
            ("exits_with_three", FailureCause.CRASHED, ["exit status 3"]),
            ("exits_silently", FailureCause.SILENT, ["no event of success or failure came", "nobody will hear of me"]),
            ("too_slow", FailureCause.DEADLINE, ["still running after 8 seconds"]),
        ],
    )
    def test_end_has_a_cause(self, deployment: Deployment, asset: str, cause: FailureCause, words: list[str]) -> None:
        run = deployment.run(asset, status="FAILURE")
        failure = Story(deployment, run.run_id).failure()
        assert failure["cls_name"] == cause.name
        for word in (*words, cause.hint):
            assert word in failure["message"], failure["message"]
        printed = [word for word in words if word.startswith(("about", "nobody"))]
        assert all(word in deployment.logs(run.run_id, asset)[0] for word in printed), "the log is whole in the UI"

    def test_image_that_does_not_exist_fails_at_once_and_is_not_retried(self, deployment: Deployment) -> None:
        image = f"{deployment.image.partition('@')[0]}@{ANOTHER_DIGEST}"
        run = deployment.run("raises_once", run_config=overriding("raises_once", image=image), status="FAILURE")
        failure = Story(deployment, run.run_id).failure()
        assert failure["cls_name"] == FailureCause.IMAGE_PULL.name
        assert "not found" in failure["message"] or "unknown" in failure["message"]
        assert len(Story(deployment, run.run_id).placements()) == 1

    def test_pool_of_another_kind_is_chosen_for_one_run(self, deployment: Deployment) -> None:
        by_launchpad = deployment.run("sleeper", run_config={**sleeping(0), **overriding("*", pool="small")})
        by_tag = deployment.run(
            "sleeper",
            run_config=sleeping(0),
            tags={OVERRIDES_TAG: json.dumps({"sleeper": {"pool": "small", "memory": "400Mi"}})},
        )
        assert [each["pool"] for each in Story(deployment, by_launchpad.run_id).placements()] == ["small"]
        (placement,) = Story(deployment, by_tag.run_id).placements()
        assert (placement["pool"], placement["memory"]) == ("small", "400Mi")

    def test_unknown_pool_at_launch_fails_the_step_and_names_those_there_are(self, deployment: Deployment) -> None:
        run = deployment.run("sleeper", run_config={**sleeping(0), **overriding("*", pool="none")}, status="FAILURE")
        failure = Story(deployment, run.run_id).failure()
        assert failure["cls_name"] == "PlacementError"
        assert "no pool 'none'" in failure["message"]
        assert "gpu-spot" in failure["message"]

    def test_step_whose_container_is_removed_is_run_again_at_once(self, deployment: Deployment) -> None:
        run_id = deployment.launch("sleeper", run_config=sleeping(15))
        deployment.wait_until(lambda: "second 2" in Story(deployment, run_id).log("sleeper"), run_id)
        self.delete_container(deployment, run_id)
        deployment.wait(run_id)
        assert [placement["number"] for placement in Story(deployment, run_id).placements()] == [0, 1]
        assert "1. interruption on pool cpu" in Story(deployment, run_id).said()
        assert deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []

    def test_same_container_goes_on_under_the_run_workers_successor(self, deployment: Deployment) -> None:
        with deployment.daemon():
            run_id = deployment.launch("sleeper", "after_sleeper", run_config=sleeping(75))
            deployment.wait_until(lambda: "second 2" in Story(deployment, run_id).log("sleeper"), run_id)
            (before,) = self.containers(deployment, run_id)
            self.delete_run_worker(deployment, run_id)
            deployment.wait_until(lambda: "Took over" in Story(deployment, run_id).said(), run_id)
            (after,) = [each for each in self.containers(deployment, run_id) if each["running"]]
            deployment.wait(run_id)
        assert after["id"] == before["id"]
        assert [placement["step"] for placement in Story(deployment, run_id).placements()] == [
            "sleeper",
            "after_sleeper",
        ]
        deployment.wait_until(lambda: not self.containers(deployment, run_id), run_id, seconds=GONE_SECONDS)

    @pytest.mark.parametrize("asset", ["slow_after_retry", "talkative"])
    def test_successor_takes_over_after_a_delayed_retry_and_beyond_a_page_of_events(
        self, deployment: Deployment, asset: str
    ) -> None:
        config = sleeping(75, asset) if asset == "talkative" else {}
        with deployment.daemon():
            run_id = deployment.launch(asset, run_config=config)
            deployment.wait_until(lambda: "second 2" in Story(deployment, run_id).log(asset), run_id)
            (before,) = [each for each in self.containers(deployment, run_id) if each["running"]]
            self.delete_run_worker(deployment, run_id)
            deployment.wait_until(lambda: "Took over" in Story(deployment, run_id).said(), run_id)
            (after,) = [each for each in self.containers(deployment, run_id) if each["running"]]
            deployment.wait(run_id)
        assert after["id"] == before["id"]


@dataclass(frozen=True)
class Story:
    """What the event log tells of a run."""

    deployment: Deployment
    run_id: str

    def events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        """Its events of a kind, in order."""
        return [entry.dagster_event for entry in self.deployment.events(self.run_id, kind) if entry.dagster_event]

    def placements(self) -> list[Mapping[str, Any]]:
        """Where each launch of its steps was placed."""
        events = self.events(dg.DagsterEventType.STEP_WORKER_STARTING)
        found: list[Any] = [event.engine_event_data.metadata[PLACEMENT_METADATA].value for event in events]
        return found

    def records(self) -> dict[str, ProvenanceRecord]:
        """The provenance records that it wrote, by asset."""
        found = {}
        for event in self.events(dg.DagsterEventType.ASSET_MATERIALIZATION):
            record = record_of(event.step_materialization_data.materialization.metadata)
            found[record.asset] = record
        return found

    def failure(self) -> dict[str, str]:
        """Name and text of the only failure of a step."""
        (event,) = self.events(dg.DagsterEventType.STEP_FAILURE)
        error = event.step_failure_data.error
        assert error
        return {"cls_name": str(error.cls_name), "message": error.message}

    def said(self) -> str:
        """Everything that the executor has said."""
        return "\n".join(event.message or "" for event in self.events(dg.DagsterEventType.ENGINE_EVENT))

    def log(self, step: str) -> str:
        """What a step has printed, as the UI would show it now."""
        keys = self.deployment.log_keys(self.run_id)
        return self.deployment.logs(self.run_id, step)[0] if step in keys else ""

    def time_of(self, kind: dg.DagsterEventType, words: str = "") -> float:
        """When the first event of a kind that has these words in it was written, in seconds of the epoch."""
        entries = self.deployment.events(self.run_id, kind)
        return min(entry.timestamp for entry in entries if words in entry.message)


def sleeping(seconds: float, asset: str = "sleeper") -> dict[str, Any]:
    """Run config for the assets that take a number of seconds."""
    return {"ops": {asset: {"config": {"seconds": seconds}}}}


def overriding(asset: str, **said: Any) -> dict[str, Any]:
    """Run config that places an asset elsewhere."""
    return {"execution": {"config": {"overrides": {asset: said}}}}
