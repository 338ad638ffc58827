"""What an engine that runs containers must be able to do; Docker and Kubernetes are the two there are."""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ml_assets.executors.failures import Failure
from ml_assets.placement import Placement
from ml_assets.resources.pools import Pool

__all__ = ["RUN_LABEL", "ContainerEngine", "ContainerRequest", "ContainerState", "ContainerStatus", "container_labels"]

RUN_LABEL = "ml-assets/run"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "ml-assets"
_STOPPING_SECONDS = 0.5


class ContainerState(StrEnum):
    """A phase in the life of a step's container, as engines report it."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class ContainerRequest:
    """A container to start: what an engine is given for one launch of a step."""

    name: str
    """Unique for the run, the step and the launch: at most 63 characters of ``[a-z0-9-]``."""
    image: str
    """Image reference by digest."""
    command: Sequence[str]
    placement: Placement
    pool: Pool
    labels: Mapping[str, str]
    """Short values that containers are found by."""
    annotations: Mapping[str, str]
    """The same facts in full."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContainerStatus:
    """What an engine reports of a container at this moment."""

    state: ContainerState
    identity: str | None = None
    """Pod's uid or container's id: another one under the same name is another process."""
    node: str | None = None
    scheduled_at: float | None = None
    """When it had a machine, in seconds of the epoch; None where the engine schedules nothing."""
    started_at: float | None = None
    """When its process began, in seconds of the epoch."""
    image_id: str | None = None
    """The image that the runtime says it runs, in its own words."""
    failure: Failure | None = None
    """Why it failed, or what makes it hopeless to wait for its start."""
    waiting: str | None = None
    """What a pending container waits for."""
    unschedulable: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self.state in (ContainerState.SUCCEEDED, ContainerState.FAILED)


class ContainerEngine(ABC):
    """Starts, observes and removes containers. What it cannot reach raises `EngineUnreachable`."""

    name: str
    """What people call it."""
    noun: str
    """What it calls a step's container, such as ``Job``."""

    @abstractmethod
    def start(self, request: ContainerRequest) -> None:
        """Start a container, unless one of this name exists already.

        Raises:
            EngineRefused: the engine will not have it, now or later.
        """

    @abstractmethod
    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        """Every container of a run, by name."""

    @abstractmethod
    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        """The last lines that a container printed, and the engine's events about it; empty where they are gone."""

    @abstractmethod
    def pull_seconds(self, name: str) -> float | None:
        """How long the image of a container that runs was pulled; 0 where it was there, None where nobody can say."""

    @abstractmethod
    def why_gone(self, name: str) -> Failure | None:
        """Why a started container is not there any more, as far as the engine remembers; None if it is there."""

    @abstractmethod
    def stop(self, name: str) -> bool:
        """Have a container end, and remove it; whether it is gone (or its node out of reach). Called until it is."""

    def stop_all(self, names: Collection[str], seconds: float) -> set[str]:
        """Have containers end, and remove them; those that are not gone although they were given some time."""
        left, patience = set(names), time.monotonic() + seconds
        while left and time.monotonic() < patience:
            left = {name for name in left if not self.stop(name)}
            time.sleep(_STOPPING_SECONDS if left else 0)
        return left

    @abstractmethod
    def remove(self, name: str, *, succeeded: bool) -> None:
        """Remove a container that has ended; one that failed may be kept for a while to be looked at."""

    @abstractmethod
    def all_runs(self) -> Mapping[str, Sequence[str]]:
        """Names of all containers that steps run in, by run."""


def container_labels(run_id: str) -> dict[str, str]:
    """The labels that every container of a run has."""
    return {MANAGED_BY: MANAGER, RUN_LABEL: run_id}
