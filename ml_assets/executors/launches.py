"""The launches of a run's steps. A launch is one container for one attempt of a step; functions move its state.

===========  ======================================================
state        transitions
===========  ======================================================
waiting      `place`; `order` to ordered
ordered      `accept` to accepted
at work      `run` to running; `succeed` to succeeded; `give_up` to given up
succeeded    `give_up` to given up
open         `fail` to failed; `close` to ending, or to ended if no container was ordered
given up     `finish` to ended, if the step is launched again
ending       `finish` to ended
===========  ======================================================

The states "at work" are ordered, accepted and running. The states "open" are all states except ending and ended: the
attempt is not over. A step has at most one open launch; the container of its previous attempt may still be ending.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.executors.engine import ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.placement import Placement

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionStep

__all__ = ["ContainerLaunch", "LaunchState", "Launches", "SeenContainer", "container_name"]


class LaunchState(StrEnum):
    """The states of a launch."""

    WAITING = "waiting"
    """The launch may be ordered as soon as the limits allow."""
    ORDERED = "ordered"
    """The launch is recorded in the event log; the engine has not confirmed the request."""
    ACCEPTED = "accepted"
    """The engine has accepted the request."""
    RUNNING = "running"
    """The container's process has started."""
    SUCCEEDED = "succeeded"
    """The step reports success. The success counts once the container is known to run the requested image."""
    GIVEN_UP = "given up"
    """The launch has failed and its container is being ended. The reaction follows when the container has ended."""
    FAILED = "failed"
    """The failure is written to the event log; the loop reacts when it reads it there."""
    ENDING = "ending"
    """The attempt is over; its container may still be sending the end of its log."""
    ENDED = "ended"
    """The container is gone."""


_AT_WORK = (LaunchState.ORDERED, LaunchState.ACCEPTED, LaunchState.RUNNING)
_OVER = (LaunchState.ENDING, LaunchState.ENDED)
_OPEN = tuple(state for state in LaunchState if state not in _OVER)


@dataclass
class SeenContainer:
    """Observations of a launch's container."""

    identity: str | None = None
    """The engine's id of the container."""
    image_checked: bool = False
    """True if its image was compared with the requested one."""
    wait_reason: str | None = None
    """The last reported reason why it waits."""


@dataclass
class ContainerLaunch:
    """One container for one attempt of a step.

    Each transition function raises `RuntimeError` if the current state does not allow the transition.
    """

    step: "ExecutionStep"
    number: int
    """Number of earlier containers of the step in this run."""
    name: str
    """Name of the container."""
    state: LaunchState = LaunchState.WAITING
    since: float = field(default_factory=time.monotonic)
    """Time at which it entered its state, on the monotonic clock."""
    where: Placement | None = None
    """Its placement; None until it is known."""
    ordered_at: float | None = None
    """Time at which it was ordered, in seconds since the epoch; None until then."""
    container: SeenContainer = field(default_factory=SeenContainer)
    failure: Failure | None = None
    """The failure for which it was given up."""
    end: dg.DagsterEvent | None = None
    """Event that ends the attempt."""

    @property
    def placement(self) -> Placement:
        """Its placement.

        Raises:
            RuntimeError: the launch has not been placed.
        """
        if self.where is None:
            raise RuntimeError(f"launch {self.name} has no placement")
        return self.where

    @property
    def is_open(self) -> bool:
        """True unless the attempt is over."""
        return self.state not in _OVER

    @property
    def is_at_work(self) -> bool:
        """True if it was ordered and its outcome is open."""
        return self.state in _AT_WORK

    @property
    def was_ordered(self) -> bool:
        """True if a container was ordered for it."""
        return self.ordered_at is not None

    @property
    def has_container(self) -> bool:
        """True if it was ordered and its container may still be there."""
        return self.was_ordered and self.state is not LaunchState.ENDED

    @property
    def is_disowned(self) -> bool:
        """True if its events must be ignored because it ran in the wrong image."""
        return self.failure is not None and self.failure.cause is FailureCause.WRONG_IMAGE

    @property
    def has_succeeded(self) -> bool:
        """True if the attempt succeeded."""
        return self.end is not None and self.end.is_step_success

    def place(self, placement: Placement) -> None:
        """Give a waiting launch its placement."""
        self._move(LaunchState.WAITING, LaunchState.WAITING)
        self.where = placement.model_copy(update={"number": self.number})

    def order(self, at: float) -> None:
        """Mark a waiting launch, which has a placement, as ordered.

        Args:
            at: time, in seconds since the epoch.
        """
        _ = self.placement  # raises if there is none
        self._move(LaunchState.ORDERED, LaunchState.WAITING)
        self.ordered_at = at

    def accept(self) -> None:
        """Mark an ordered launch as accepted by the engine."""
        self._move(LaunchState.ACCEPTED, LaunchState.ORDERED)

    def run(self) -> None:
        """Mark a launch at work as running: its process was observed."""
        self._move(LaunchState.RUNNING, *_AT_WORK)

    def observe(self, status: ContainerStatus) -> None:
        """Update a launch at work from the engine's report: accepted, and maybe running."""
        if status.state is ContainerState.RUNNING:
            self.run()
        elif self.state is LaunchState.ORDERED:
            self.accept()
        self.container.identity = status.identity or self.container.identity

    def succeed(self, event: dg.DagsterEvent) -> None:
        """Record that the step of a launch at work reports success. It counts when the launch is closed."""
        self._move(LaunchState.SUCCEEDED, *_AT_WORK)
        self.end = event

    def give_up(self, failure: Failure) -> None:
        """Give up a launch that is at work or reports success; its container is to be ended."""
        self._move(LaunchState.GIVEN_UP, *_AT_WORK, LaunchState.SUCCEEDED)
        self.failure = failure

    def fail(self) -> None:
        """Mark an open launch as failed: the failure is being written to the event log."""
        self._move(LaunchState.FAILED, *(state for state in _OPEN if state is not LaunchState.FAILED))

    def close(self, event: dg.DagsterEvent) -> None:
        """End the attempt of an open launch. A launch that was ordered has a container, which is then ending.

        Args:
            event: the end of the attempt in the event log.
        """
        self._move(LaunchState.ENDING if self.was_ordered else LaunchState.ENDED, *_OPEN)
        self.end = event

    def finish(self) -> None:
        """Mark an ending launch, or one that was given up and is launched again, as ended: its container is gone."""
        self._move(LaunchState.ENDED, LaunchState.ENDING, LaunchState.GIVEN_UP)

    def _move(self, to: LaunchState, *allowed: LaunchState) -> None:
        if self.state not in allowed:
            raise RuntimeError(f"launch {self.name} is {self.state.value} and cannot become {to.value}")
        if self.state is not to:
            self.state, self.since = to, time.monotonic()


class Launches:
    """All launches of one run, by step.

    Args:
        run_id: the run.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._of_step: dict[str, list[ContainerLaunch]] = {}

    def __iter__(self) -> Iterator[ContainerLaunch]:
        """Iterate over a copy, so that launches may be added meanwhile; steps with the newest launch come last."""
        return iter([launch for launches in self._of_step.values() for launch in launches])

    def add(self, step: "ExecutionStep", placement: Placement | None = None) -> ContainerLaunch:
        """Add a waiting launch of a step.

        Args:
            step: the step.
            placement: its placement, if known; the launch takes its number.

        Raises:
            RuntimeError: the step has an open launch.
        """
        if (opened := self.open(step.key)) is not None:
            raise RuntimeError(f"step {step.key} has an open launch, {opened.name}")
        before = [launch for launch in self._of_step.pop(step.key, ()) if launch.was_ordered]
        number = before[-1].number + 1 if before else 0
        if placement is not None:
            number = placement.number
        launch = ContainerLaunch(step, number, container_name(self._run_id, step.key, number), where=placement)
        self._of_step[step.key] = [*before, launch]
        return launch

    def relaunch(self, launch: ContainerLaunch, placement: Placement) -> ContainerLaunch:
        """Finish a launch that was given up, and add the next one of the same attempt."""
        launch.finish()
        return self.add(launch.step, placement)

    def forget(self, step_key: str) -> None:
        """Drop all launches of a step, as if they had never existed."""
        del self._of_step[step_key]

    def open(self, step_key: str) -> ContainerLaunch | None:
        """Return the open launch of a step; None if it has none."""
        return next((launch for launch in self._of_step.get(step_key, ()) if launch.is_open), None)

    def find(self, step_key: str, number: int) -> ContainerLaunch | None:
        """Return the launch of a step that has a number; None if there is none."""
        return next((launch for launch in self._of_step.get(step_key, ()) if launch.number == number), None)

    def ending(self, step_key: str | None = None) -> list[ContainerLaunch]:
        """Return the launches, of one step if it is given, whose attempt is over and whose container is not gone."""
        launches = self if step_key is None else self._of_step.get(step_key, ())
        return [launch for launch in launches if launch.state is LaunchState.ENDING]

    def under_way(self) -> list[ContainerLaunch]:
        """Return the open launches that were ordered."""
        return [launch for launch in self if launch.is_open and launch.has_container]


def container_name(run_id: str, step_key: str, number: int) -> str:
    """Return the name of a launch's container, which is readable and deterministic."""
    digest = hashlib.sha256(f"{run_id} {step_key}".encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9]+", "-", step_key.lower()).strip("-")[:36].rstrip("-")
    return f"step-{readable}-{digest}-{number}"
