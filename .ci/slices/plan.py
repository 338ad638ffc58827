"""Plan of a run: the order of the parts, the parts to leave, and the result of the run. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from slices.table import Part

FIRST = 2
"""Number of slices that run first because commits touch them. The order of the others rotates."""
HALF_LIFE = 10
"""Number of commits after which a change counts half."""


@dataclass(frozen=True)
class Limits:
    """Seconds since the start of the run."""

    deadline: float = 4300
    """No slice starts later."""
    finish: float = 5000
    """A slice starts only if its estimated end is before this."""
    stop: float = 5250
    """Any running part is ended before this."""
    grace: float = 90
    """Time before `stop` in which an interrupted part can write its report."""

    @property
    def interrupt(self) -> float:
        """Time at which a running part is interrupted."""
        return self.stop - self.grace

    @classmethod
    def of(cls, deadline: float) -> "Limits":
        """Return the limits for another deadline, at the same distances from it."""
        return cls(deadline, deadline + cls.finish - cls.deadline, deadline + cls.stop - cls.deadline)


@dataclass(frozen=True)
class Counts:
    """Results of tests."""

    passed: int = 0
    failed: int = 0
    skipped: tuple[str, ...] = ()
    """Each with its reason."""

    @property
    def total(self) -> int:
        """Number of tests."""
        return self.passed + self.failed + len(self.skipped)


class State(Enum):
    """How far a part has run."""

    ENDED = "ended"
    NOT_FINISHED = "not finished"
    LEFT = "left"


@dataclass(frozen=True)
class Outcome:
    """The result of a part."""

    part: Part
    state: State = State.LEFT
    seconds: float = 0
    code: int = 0
    counts: Counts = field(default_factory=Counts)


def in_order(slices: Sequence[Part], commits: Sequence[Sequence[str]], turn: int) -> list[Part]:
    """Return slices in the order in which they run: those that commits touch, then the others in rotation.

    Args:
        slices: all slices.
        commits: the changed paths of each commit, the newest commit first.
        turn: a number that grows by one with each commit.
    """
    first = turn % len(slices) if slices else 0
    turned = [*slices[first:], *slices[:first]]
    scores = {each.name: _score(each, commits) for each in slices}
    touched = sorted((each for each in turned if scores[each.name]), key=lambda each: -scores[each.name])[:FIRST]
    return touched + [each for each in turned if each not in touched]


def pace(outcomes: Sequence[Outcome]) -> float:
    """Return the factor by which this machine exceeded the budgets of tests so far; at least 1."""
    known = [each for each in outcomes if each.part.tests and each.state is State.ENDED]
    expected = sum(each.part.seconds for each in known)
    return max(1.0, sum(each.seconds for each in known) / expected) if expected else 1.0


def may_run(part: Part, outcomes: Sequence[Outcome], elapsed: float, limits: Limits) -> bool:
    """Return True if a part may run after these outcomes.

    Args:
        part: a mandatory part may run until the interrupt. A slice may run if it starts before the deadline and, at the
            pace so far, ends in time. Neither may run once a required part has failed.
        outcomes: outcomes of the earlier parts.
        elapsed: seconds since the start.
        limits: seconds since the start.
    """
    if any(each.part.required and (each.code or each.state is not State.ENDED) for each in outcomes):
        return False
    if part.mandatory:
        return elapsed < limits.interrupt
    return elapsed < limits.deadline and elapsed + part.seconds * pace(outcomes) <= limits.finish


def faults(outcomes: Sequence[Outcome]) -> list[str]:
    """Return why a run has failed; nothing if it has passed. A slice that was left or not finished is not a fault."""
    return [fault for outcome in outcomes for fault in _faults_of(outcome)]


def _faults_of(outcome: Outcome) -> Iterator[str]:
    part, counts = outcome.part, outcome.counts
    if outcome.state is not State.ENDED:
        if part.mandatory:
            yield f"{part.name} is mandatory, and was {outcome.state.value}"
        if counts.failed:
            yield f"{part.name}: {counts.failed} tests failed before it was interrupted"
    elif outcome.code:
        yield f"{part.name} failed with exit code {outcome.code}"
    elif counts.failed:
        yield f"{part.name}: {counts.failed} tests failed"
    elif part.tests and not counts.total:
        yield f"{part.name} reported no test"
    if part.complete and counts.skipped:
        yield f"{part.name}: {len(counts.skipped)} of {counts.total} tests were skipped, which is not allowed"


def _score(part: Part, commits: Sequence[Sequence[str]]) -> float:
    globs = (*part.sources, *part.files)
    return sum(
        math.exp2(-age / HALF_LIFE)
        for age, paths in enumerate(commits)
        if any(fnmatchcase(path, glob) for path in paths for glob in globs)
    )
