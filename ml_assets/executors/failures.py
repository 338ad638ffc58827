"""The causes of a container's end, and the reaction to each."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Self

__all__ = ["INTERRUPTED_EXIT", "REPLACED_EXIT", "Failure", "FailureCause", "Reaction"]

REPLACED_EXIT = 75
"""Exit status of a container that finds another container of the same launch (``EX_TEMPFAIL`` of sysexits.h)."""

INTERRUPTED_EXIT = 128 + signal.SIGTERM
"""Exit status of a container that ended on request."""


class Reaction(Enum):
    """The reaction to a cause."""

    MORE_MEMORY = "relaunch with more memory, up to the pool's cap"
    RUN_AGAIN = "relaunch at once; after the pool's number of interruptions, on the fallback pool"
    FALL_BACK = "relaunch on the fallback pool"
    AUTHOR = "the author's retry policy decides"
    FAIL = "fail; a relaunch would not help"


class FailureCause(StrEnum):
    """The causes that end a step's container or keep it from starting."""

    OUT_OF_MEMORY = "out of memory"
    PREEMPTED = "preempted"
    EVICTED = "evicted"
    NODE_LOST = "node lost"
    DELETED = "deleted"
    UNSCHEDULABLE = "unschedulable"
    NOT_STARTED = "not started in time"
    IMAGE_PULL = "image pull"
    CONFIGURATION = "configuration"
    WRONG_IMAGE = "wrong image"
    DEADLINE = "run time limit"
    CRASHED = "crashed"
    SILENT = "ended without a word"

    @property
    def reaction(self) -> Reaction:
        """The reaction to this cause."""
        return _REACTIONS[self]

    @property
    def hint(self) -> str:
        """Advice for the reader, in the imperative."""
        return _HINTS[self]


_REACTIONS = {
    FailureCause.OUT_OF_MEMORY: Reaction.MORE_MEMORY,
    FailureCause.PREEMPTED: Reaction.RUN_AGAIN,
    FailureCause.EVICTED: Reaction.RUN_AGAIN,
    FailureCause.NODE_LOST: Reaction.RUN_AGAIN,
    FailureCause.DELETED: Reaction.RUN_AGAIN,
    FailureCause.UNSCHEDULABLE: Reaction.FALL_BACK,
    FailureCause.NOT_STARTED: Reaction.FALL_BACK,
    FailureCause.IMAGE_PULL: Reaction.FAIL,
    FailureCause.CONFIGURATION: Reaction.FAIL,
    FailureCause.WRONG_IMAGE: Reaction.FAIL,
    FailureCause.DEADLINE: Reaction.AUTHOR,
    FailureCause.CRASHED: Reaction.AUTHOR,
    FailureCause.SILENT: Reaction.AUTHOR,
}

_HINTS = {
    FailureCause.OUT_OF_MEMORY: (
        "raise memory or memory_cap of the pool, or raise this asset's memory in [placement] or in the launchpad"
    ),
    FailureCause.PREEMPTED: "set a fallback pool for steps that must complete, or raise interruptions of the pool",
    FailureCause.EVICTED: "see the events for the resource that the node lacked; request as much as the step uses",
    FailureCause.NODE_LOST: "check the node; set a fallback pool for steps that must complete",
    FailureCause.DELETED: "find out who deleted the container; cancel runs in the Dagster UI instead",
    FailureCause.UNSCHEDULABLE: "compare the pool's resources, node_selector and tolerations with the cluster's nodes",
    FailureCause.NOT_STARTED: (
        "find the reason in the events; raise pending_seconds of the pool if such a wait is normal"
    ),
    FailureCause.IMAGE_PULL: (
        "check that the nodes reach the registry, and that it has this digest and accepts the credentials"
    ),
    FailureCause.CONFIGURATION: (
        "check what the settings refer to: secrets, volumes, service account, runtime class, quota"
    ),
    FailureCause.WRONG_IMAGE: "check for a proxy or mirror between registry and runtime; materialize the image again",
    FailureCause.DEADLINE: "raise run_seconds of the pool, or make the step faster",
    FailureCause.CRASHED: "read the last lines of the log; a native library or a signal ended the process",
    FailureCause.SILENT: (
        "read the last lines of the log; the process may have lost its connection to Dagster's database"
    ),
}


@dataclass(frozen=True)
class Failure:
    """The failure of one container to start or to complete, as the engine reports it."""

    cause: FailureCause
    detail: str
    """The engine's message, in one line."""
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    """Last lines of the container's output."""
    events: tuple[str, ...] = ()
    """The engine's events about the container, oldest first."""

    @classmethod
    def of_exit(cls, exit_code: int, *, detail: str = "") -> Self:
        """Return the failure for the exit status of a process that ended by itself."""
        if exit_code == 0:
            return cls(
                FailureCause.SILENT, detail or "the process exited with status 0 without a success or failure event", 0
            )
        if exit_code == REPLACED_EXIT:
            return cls(FailureCause.DELETED, "another container of the same launch replaced it", exit_code)
        if exit_code == INTERRUPTED_EXIT:
            return cls(FailureCause.DELETED, "the process was asked to end, but not by its run", exit_code)
        return cls(FailureCause.CRASHED, "; ".join(part for part in (_exit(exit_code), detail) if part), exit_code)

    def with_evidence(self, log: Sequence[str], events: Sequence[str]) -> Self:
        """Return the same failure with the container's output and the engine's events."""
        return replace(self, log=tuple(log), events=tuple(events))

    def described(self) -> str:
        """Return a readable description: cause and detail, hint, events, last lines of the log."""
        parts = [f"{self.cause.value}: {self.detail.rstrip('.')}. Next: {self.cause.hint}."]
        if self.events:
            parts.append("Events of the engine:\n" + "\n".join(f"  {line}" for line in self.events))
        if self.log:
            parts.append("Last lines of the log:\n" + "\n".join(f"  {line}" for line in self.log))
        return "\n".join(parts)


def _exit(code: int) -> str:
    number = code - 128 if code > 128 else 0
    try:
        return f"exit status {code} ({signal.Signals(number).name})" if number else f"exit status {code}"
    except ValueError:
        return f"exit status {code}"
