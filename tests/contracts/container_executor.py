"""The contract of the executor on every engine; each engine's tests subclass `ContainerExecutorContract`.

The steps are those of `tests.containers.steps`.
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
HARMED = (
    "segfaults",
    "exits_with_three",
    "exits_silently",
    "too_slow",
    "hungry",
    "insatiable",
    "raises_once",
    "in_no_image",
)
ANOTHER_DIGEST = f"sha256:{'f' * 64}"
"""A digest that no image has. containerd reports the first of an image's digests; this one sorts last."""
FOR_EVER = 900
"""Seconds of a step that runs until the test ends it."""
GONE_SECONDS = 600
"""Maximum time for which an ended container is still listed: a kubelet that misses its end cleans up once a minute."""


def variables(image: str) -> dict[str, str]:
    """Return settings that override the fixtures': the steps' image, and pools whose limits are reached quickly."""
    return {
        "ML_ASSETS__CONTAINERS__IMAGE": image,
        "ML_ASSETS__POOLS__SMALL": '{cpus=0.1, memory="300Mi", memory_cap="600Mi", node_selector={pool="cpu"}}',
        "ML_ASSETS__POOLS__BRIEF": '{cpus=0.1, memory="500Mi", run_seconds=8, node_selector={pool="cpu"}}',
        "ML_ASSETS__POOLS__CPU__CONCURRENCY": "4",
    }


@dataclass(frozen=True)
class Launched:
    """Runs that are active at the same time, because each takes seconds to start."""

    numbers: str
    harmed: str
    """Run of the steps in `HARMED`, which cover every kind of failure."""
    by_launchpad: str
    by_tag: str
    on_no_pool: str


@dataclass(frozen=True)
class Canceled:
    """Runs that were canceled after their logs appeared."""

    sleeper: str
    container: Mapping[str, Any]
    """Container of the sleeper's step while it ran."""
    deaf: str


@dataclass(frozen=True)
class TakenOver:
    """An ended run whose worker was removed while its step ran."""

    story: "Story"
    before: str
    """Container id of the step under the first worker."""
    after: str
    """Container id of the step after the successor took over."""


class ContainerExecutorContract(ABC):
    """The suite; the subclass of each engine reads its containers."""

    @pytest.fixture(scope="class")
    @classmethod
    @abstractmethod
    def deployment(cls) -> Iterator[Deployment]:
        """A deployment with `STEPS`."""

    @classmethod
    @abstractmethod
    def containers(cls, deployment: Deployment, run_id: str) -> list[Mapping[str, Any]]:
        """Return the existing containers of a run's steps: name, labels, image, memory limit (bytes), running."""

    @classmethod
    @abstractmethod
    def delete_container(cls, deployment: Deployment, run_id: str) -> None:
        """Remove the run's only step container from outside."""

    @classmethod
    @abstractmethod
    def delete_run_worker(cls, deployment: Deployment, run_id: str) -> None:
        """Remove the run's worker from outside."""

    @pytest.fixture(scope="class")
    @classmethod
    def launched(cls, deployment: Deployment) -> Launched:
        """Runs that need no interaction."""
        absent = f"{deployment.image.partition('@')[0]}@{ANOTHER_DIGEST}"
        overrides = {"sleeper": {"pool": "small", "memory": "400Mi"}}
        return Launched(
            numbers=deployment.launch("numbers", "doubled", partition="2026-01-02"),
            harmed=deployment.launch(*HARMED, run_config=overriding("in_no_image", image=absent)),
            by_launchpad=deployment.launch("sleeper", run_config={**sleeping(0), **overriding("*", pool="small")}),
            by_tag=deployment.launch("sleeper", run_config=sleeping(0), tags={OVERRIDES_TAG: json.dumps(overrides)}),
            on_no_pool=deployment.launch("sleeper", run_config={**sleeping(0), **overriding("*", pool="none")}),
        )

    @pytest.fixture(scope="class")
    @classmethod
    def harmed(cls, deployment: Deployment, launched: Launched) -> "Story":
        """The ended run of `HARMED`."""
        deployment.wait(launched.harmed, status="FAILURE")
        return Story(deployment, launched.harmed)

    @pytest.fixture(scope="class")
    @classmethod
    def canceled(cls, deployment: Deployment) -> Canceled:
        """A step that ends on request and one that does not."""
        sleeper = deployment.launch("sleeper", run_config=sleeping(FOR_EVER), tags={"team": "tests"})
        deaf = deployment.launch("deaf")
        cls._wait_for_second(3, deployment, sleeper, "sleeper")
        (container,) = cls.containers(deployment, sleeper)
        cls._wait_for_second(1, deployment, deaf, "deaf")
        for run_id in (sleeper, deaf):
            deployment.terminate(run_id)
        return Canceled(sleeper, container, deaf)

    @pytest.fixture(scope="class")
    @classmethod
    def taken_over(cls, deployment: Deployment) -> Mapping[str, TakenOver]:
        """Runs whose steps continued under a successor of their worker, by asset."""
        with deployment.daemon():
            runs = {
                "sleeper": deployment.launch("sleeper", "after_sleeper", run_config=sleeping(FOR_EVER)),
                "slow_after_retry": deployment.launch("slow_after_retry"),
                "talkative": deployment.launch("talkative", run_config=sleeping(FOR_EVER, "talkative")),
            }
            before, after = {}, {}
            for asset, run_id in runs.items():
                cls._wait_for_second(2, deployment, run_id, asset)
                (before[asset],) = [each for each in cls.containers(deployment, run_id) if each["running"]]
            for run_id in runs.values():
                cls.delete_run_worker(deployment, run_id)
            for asset, run_id in runs.items():
                deployment.wait_until(lambda run=run_id: "Took over" in Story(deployment, run).said(), run_id)
                (after[asset],) = [each for each in cls.containers(deployment, run_id) if each["running"]]
                deployment.release(run_id)
            for run_id in runs.values():
                deployment.wait(run_id)
        return {
            asset: TakenOver(Story(deployment, run_id), before[asset]["id"], after[asset]["id"])
            for asset, run_id in runs.items()
        }

    def test_step_runs_in_its_own_container_and_its_log_outlives_it(
        self, deployment: Deployment, launched: Launched
    ) -> None:
        run = deployment.wait(launched.numbers)
        self._wait_until_gone(deployment, run.run_id)
        out, err = deployment.logs(run.run_id, "numbers")
        assert "numbers of 2026-01-02 are made" in out
        assert "something goes wrong" in err
        records = Story(deployment, run.run_id).records()
        assert [records[name].environment.pool for name in ("numbers", "doubled")] == ["cpu", "gpu"]
        for record in records.values():
            assert record.environment.image == deployment.image
            assert record.environment.target == deployment.target
        assert Story(deployment, run.run_id).said().count("The runtime runs the requested image") == 3

    def test_check_of_its_own_step_runs_in_its_assets_image_on_the_cpu_pool(
        self, deployment: Deployment, launched: Launched
    ) -> None:
        deployment.wait(launched.numbers)
        run = deployment.run(checks=[("numbers", "is_positive")])
        (placement,) = Story(deployment, run.run_id).placements()
        assert (placement["image"], placement["pool"]) == (deployment.image, "cpu")
        assert placement["run_seconds"] == 1800

    def test_running_step_is_labelled_and_its_log_is_there_while_it_runs(
        self, deployment: Deployment, canceled: Canceled
    ) -> None:
        labels = canceled.container["labels"]
        assert labels["ml-assets/asset"] == labels["ml-assets/step"] == "sleeper"
        assert labels["ml-assets/run"] == canceled.sleeper
        assert labels["ml-assets/pool"] == "cpu"
        assert (labels["ml-assets/launch"], labels["ml-assets/attempt"]) == ("0", "0")
        assert canceled.container["memory"] == 2**30
        deployment.wait(canceled.sleeper, status="CANCELED")
        self._wait_until_gone(deployment, canceled.sleeper)

    def test_canceled_step_that_cannot_be_asked_to_end_is_killed(
        self, deployment: Deployment, canceled: Canceled
    ) -> None:
        deployment.wait(canceled.deaf, status="CANCELED")
        self._wait_until_gone(deployment, canceled.deaf)

    def test_step_out_of_memory_gets_more_up_to_the_pools_cap(self, harmed: "Story") -> None:
        assert "hungry" in harmed.succeeded()
        memory = [placement["memory"] for placement in harmed.placements("hungry")]
        assert memory == ["300Mi", "600Mi"]
        assert "Relaunching with 600Mi of memory instead of 300Mi: out of memory" in harmed.said("hungry")

    def test_step_out_of_memory_at_the_cap_fails_as_that(self, harmed: "Story") -> None:
        failure = harmed.failure("insatiable")
        assert failure["cls_name"] == FailureCause.OUT_OF_MEMORY.name
        assert "limit of 600" in failure["message"]
        assert "0 MiB" in failure["message"], "the last lines of its log are shown"

    def test_authors_retry_policy_holds(self, deployment: Deployment, harmed: "Story") -> None:
        assert "raises_once" in harmed.succeeded()
        assert [placement["number"] for placement in harmed.placements("raises_once")] == [0, 1]
        stats = deployment.instance.get_run_step_stats(harmed.run_id, ["raises_once"])
        assert [step.attempts for step in stats] == [2]

    @pytest.mark.parametrize(
        ("asset", "cause", "words"),
        [
            ("segfaults", FailureCause.CRASHED, ["139 (SIGSEGV)", "about to read address zero"]),
            ("exits_with_three", FailureCause.CRASHED, ["exit status 3"]),
            ("exits_silently", FailureCause.SILENT, ["without a success or failure event", "nobody will hear of me"]),
            ("too_slow", FailureCause.DEADLINE, ["still running after 8 seconds"]),
        ],
    )
    def test_end_has_a_cause(
        self, deployment: Deployment, harmed: "Story", asset: str, cause: FailureCause, words: list[str]
    ) -> None:
        failure = harmed.failure(asset)
        assert failure["cls_name"] == cause.name
        for word in (*words, cause.hint):
            assert word in failure["message"], failure["message"]
        printed = [word for word in words if word.startswith(("about", "nobody"))]
        assert all(word in deployment.logs(harmed.run_id, asset)[0] for word in printed), "the log is whole in the UI"

    def test_image_that_does_not_exist_fails_at_once_and_is_not_retried(self, harmed: "Story") -> None:
        failure = harmed.failure("in_no_image")
        assert failure["cls_name"] == FailureCause.IMAGE_PULL.name
        assert "not found" in failure["message"] or "unknown" in failure["message"]
        assert len(harmed.placements("in_no_image")) == 1

    def test_pool_of_another_kind_is_chosen_for_one_run(self, deployment: Deployment, launched: Launched) -> None:
        for run_id in (launched.by_launchpad, launched.by_tag):
            deployment.wait(run_id)
        assert [each["pool"] for each in Story(deployment, launched.by_launchpad).placements()] == ["small"]
        (placement,) = Story(deployment, launched.by_tag).placements()
        assert (placement["pool"], placement["memory"]) == ("small", "400Mi")

    def test_unknown_pool_at_launch_fails_the_step_and_names_those_there_are(
        self, deployment: Deployment, launched: Launched
    ) -> None:
        run = deployment.wait(launched.on_no_pool, status="FAILURE")
        failure = Story(deployment, run.run_id).failure()
        assert failure["cls_name"] == "PlacementError"
        assert "pool 'none' does not exist" in failure["message"]
        assert "gpu-spot" in failure["message"]

    def test_step_whose_container_is_removed_is_run_again_at_once(self, deployment: Deployment) -> None:
        run_id = deployment.launch("sleeper", run_config=sleeping(FOR_EVER))
        self._wait_for_second(2, deployment, run_id, "sleeper")
        self.delete_container(deployment, run_id)
        deployment.wait_until(lambda: len(Story(deployment, run_id).placements()) == 2, run_id)
        deployment.release(run_id)
        deployment.wait(run_id)
        assert [placement["number"] for placement in Story(deployment, run_id).placements()] == [0, 1]
        assert "interruption 1 of 3 on pool cpu" in Story(deployment, run_id).said()
        assert deployment.events(run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []

    def test_same_container_goes_on_under_the_run_workers_successor(
        self, deployment: Deployment, taken_over: Mapping[str, TakenOver]
    ) -> None:
        run = taken_over["sleeper"]
        assert run.after == run.before
        assert [placement["step"] for placement in run.story.placements()] == ["sleeper", "after_sleeper"]
        self._wait_until_gone(deployment, run.story.run_id)

    @pytest.mark.parametrize("asset", ["slow_after_retry", "talkative"])
    def test_successor_takes_over_after_a_delayed_retry_and_beyond_a_page_of_events(
        self, taken_over: Mapping[str, TakenOver], asset: str
    ) -> None:
        assert taken_over[asset].after == taken_over[asset].before

    @classmethod
    def _wait_for_second(cls, number: int, deployment: Deployment, run_id: str, asset: str) -> None:
        """Wait until a counting step has printed a certain second."""
        deployment.wait_until(lambda: f"second {number}" in Story(deployment, run_id).log(asset), run_id)

    @classmethod
    def _wait_until_gone(cls, deployment: Deployment, run_id: str) -> None:
        """Wait until all containers of a run's steps are gone."""
        deployment.wait_until(lambda: not cls.containers(deployment, run_id), run_id, seconds=GONE_SECONDS)


@dataclass(frozen=True)
class Story:
    """The event log of a run."""

    deployment: Deployment
    run_id: str

    def events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        """Return the run's events of a kind, in order."""
        return [entry.dagster_event for entry in self.deployment.events(self.run_id, kind) if entry.dagster_event]

    def placements(self, step: str | None = None) -> list[Mapping[str, Any]]:
        """Return the placement of each launch of all steps, or of one step."""
        events = self.events(dg.DagsterEventType.STEP_WORKER_STARTING)
        found: list[Any] = [event.engine_event_data.metadata[PLACEMENT_METADATA].value for event in events]
        return [placement for placement in found if step in (None, placement["step"])]

    def succeeded(self) -> list[str]:
        """Return the steps that have succeeded."""
        return [str(event.step_key) for event in self.events(dg.DagsterEventType.STEP_SUCCESS)]

    def records(self) -> dict[str, ProvenanceRecord]:
        """Return the provenance records of the run, by asset."""
        found = {}
        for event in self.events(dg.DagsterEventType.ASSET_MATERIALIZATION):
            record = record_of(event.step_materialization_data.materialization.metadata)
            found[record.asset] = record
        return found

    def failure(self, step: str | None = None) -> dict[str, str]:
        """Return the name and message of the only failure of a step; without a step, of the run."""
        events = self.events(dg.DagsterEventType.STEP_FAILURE)
        (event,) = [event for event in events if step in (None, event.step_key)]
        error = event.step_failure_data.error
        assert error
        return {"cls_name": str(error.cls_name), "message": error.message}

    def said(self, step: str | None = None) -> str:
        """Return the messages of the executor, all or those about one step."""
        events = self.events(dg.DagsterEventType.ENGINE_EVENT)
        return "\n".join(event.message or "" for event in events if step in (None, event.step_key))

    def log(self, step: str) -> str:
        """Return what a step has printed, as the UI would show it now."""
        keys = self.deployment.log_keys(self.run_id)
        return self.deployment.logs(self.run_id, step)[0] if step in keys else ""

    def time_of(self, kind: dg.DagsterEventType, words: str = "") -> float:
        """Return the time of the first event of a kind that contains these words, in seconds of the epoch."""
        entries = self.deployment.events(self.run_id, kind)
        return min(entry.timestamp for entry in entries if words in entry.message)


def sleeping(seconds: float, asset: str = "sleeper") -> dict[str, Any]:
    """Return the run config for an asset that runs for a number of seconds."""
    return {"ops": {asset: {"config": {"seconds": seconds}}}}


def overriding(asset: str, **said: Any) -> dict[str, Any]:
    """Return the run config that overrides an asset's placement."""
    return {"execution": {"config": {"overrides": {asset: said}}}}
