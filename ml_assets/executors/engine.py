"""The interface of container engines, implemented for Docker and Kubernetes."""

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
    """A request to an engine to start the container of a step's launch."""

    name: str
    """Unique name for the run, the step and the launch: at most 63 characters of ``[a-z0-9-]``."""
    image: str
    """Image reference by digest."""
    command: Sequence[str]
    placement: Placement
    pool: Pool
    labels: Mapping[str, str]
    """Short values by which containers are found."""
    annotations: Mapping[str, str]
    """The same values in full."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContainerStatus:
    """The current status of a container, as the engine reports it."""

    state: ContainerState
    identity: str | None = None
    """The pod's uid or the container's id. A different id under the same name means another process."""
    node: str | None = None
    scheduled_at: float | None = None
    """Time at which it was assigned to a node, in seconds since the epoch; None if the engine does not schedule."""
    started_at: float | None = None
    """Time at which its process started, in seconds since the epoch."""
    image_id: str | None = None
    """The running image, as the runtime reports it."""
    failure: Failure | None = None
    """Why it failed, or why it cannot start."""
    waiting: str | None = None
    """The reason why a pending container waits."""
    unschedulable: bool = False

    @property
    def has_ended(self) -> bool:
        """True if its process has ended."""
        return self.state in (ContainerState.SUCCEEDED, ContainerState.FAILED)


class ContainerEngine(ABC):
    """Starts, observes and removes containers; raises `EngineUnreachable` if the engine does not answer."""

    name: str
    """Display name of the engine."""
    noun: str
    """The engine's term for a step's container, such as ``Job``."""

    @abstractmethod
    def start(self, request: ContainerRequest) -> None:
        """Start a container, unless one of this name already exists.

        Raises:
            EngineRefused: the engine rejects the container permanently.
        """

    @abstractmethod
    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        """Return every container of a run, by name."""

    @abstractmethod
    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        """Return the last lines that a container printed and the engine's events about it; empty if they are gone."""

    @abstractmethod
    def pull_seconds(self, name: str) -> float | None:
        """Return the pull time of a running container's image; 0 if it was present, None if it is unknown."""

    @abstractmethod
    def why_gone(self, name: str) -> Failure | None:
        """Return why a started container no longer exists, as far as the engine knows; None if it exists."""

    @abstractmethod
    def stop(self, name: str) -> bool:
        """Stop and remove a container; return True if it is gone or its node is unreachable. Repeat until True."""

    def stop_all(self, names: Collection[str], seconds: float) -> set[str]:
        """Stop and remove containers; return those that still exist after the given time."""
        left, patience = set(names), time.monotonic() + seconds
        while left and time.monotonic() < patience:
            left = {name for name in left if not self.stop(name)}
            time.sleep(_STOPPING_SECONDS if left else 0)
        return left

    @abstractmethod
    def remove(self, name: str, *, succeeded: bool) -> None:
        """Remove a container that has ended; a failed one may be kept for a while for inspection."""

    @abstractmethod
    def all_runs(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all step containers, by run."""


def container_labels(run_id: str) -> dict[str, str]:
    """Return the labels of every container of a run."""
    return {MANAGED_BY: MANAGER, RUN_LABEL: run_id}
