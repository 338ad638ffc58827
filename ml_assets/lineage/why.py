"""Why an asset is as it is: why it is stale, missing or failed, and what made it run last. Pure.

Whether something is stale is Dagster's to say; here its causes are completed by what was recorded: which functions
changed, and which version of an input became which.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import Launch, ProvenanceRecord

__all__ = [
    "Attempt",
    "Cause",
    "CauseKind",
    "Facts",
    "Made",
    "Reason",
    "Status",
    "Summary",
    "SummedCause",
    "Why",
    "explain",
    "summarize",
]

_NEVER: Final = "was never materialized, or was wiped"
_UNSEEN: Final = "which Dagster does not compare"


class Status(StrEnum):
    """What Dagster's UI shows of an asset or partition."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"


class CauseKind(StrEnum):
    """Why something is not as it should be; the most telling first."""

    RUNNING = "running"
    """A run is at work on it."""
    FAILED = "failed"
    """The last run that was to make it did not."""
    MISSING = "missing"
    CODE = "code"
    """Its function, or first-party code that this reaches."""
    DATA = "data"
    """Another version of an input."""
    ENVIRONMENT = "environment"
    """Another version of the image that it runs in."""
    DEPENDENCIES = "dependencies"
    """An input was added or taken away."""


@dataclass(frozen=True)
class Reason:
    """One cause as Dagster gives it.

    Attributes:
        category: ``CODE``, ``DATA`` or ``DEPENDENCIES``.
        text: Dagster's words.
        dependency: the input that it is about.
    """

    category: str
    text: str
    dependency: AssetPartition | None = None


@dataclass(frozen=True)
class Made:
    """The latest materialization, or observation.

    Attributes:
        id: as `ml_assets.lineage.graph.Node.id`.
        record: its provenance record; None for what no factory of this project made.
    """

    id: str
    moment: datetime
    run_id: str
    data_version: str | None
    code_version: str | None
    record: ProvenanceRecord | None = None


@dataclass(frozen=True)
class Attempt:
    """A run that was to materialize it after the latest materialization, and has not.

    Attributes:
        status: of the run, such as ``FAILURE``.
        is_over: whether the run has ended.
        error: of the step, or of one that it waited for; None where none is recorded.
    """

    run_id: str
    status: str
    is_over: bool
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """All that an explanation is made from.

    Attributes:
        reasons: what Dagster gives for being stale.
        code_version: of the definition, now.
        code: parts of that code version, as `ml_assets.code_version.version.Code.parts`.
        current: the current version of each input that is or was read; None where it has none.
        images: those of the inputs that are images.
        launch: what launched the run of the latest materialization.
        conditions: what an automation condition had found true when it asked for that run.
    """

    artifact: AssetPartition
    status: Status
    reasons: tuple[Reason, ...] = ()
    made: Made | None = None
    attempt: Attempt | None = None
    code_version: str | None = None
    code: Mapping[str, str] | None = None
    current: Mapping[AssetPartition, str | None] | None = None
    images: frozenset[str] = frozenset()
    launch: Launch | None = None
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Why it is not as it should be.

    Attributes:
        what: the input or run that it is about.
        before: what was recorded when it was made.
        after: what holds now.
        details: more about it, such as the functions that changed.
        is_shown: whether Dagster's UI shows it too.
    """

    kind: CauseKind
    text: str
    what: AssetPartition | str | None = None
    before: str | None = None
    after: str | None = None
    details: tuple[str, ...] = ()
    is_shown: bool = True


@dataclass(frozen=True)
class Why:
    """The answer about one asset, or one partition of it."""

    artifact: AssetPartition
    status: Status
    causes: tuple[Cause, ...]
    made: Made | None
    launch: Launch | None
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class SummedCause:
    """A cause that several partitions share.

    Attributes:
        what: the input's asset.
        partitions: those that have it, in the order of the asset's partitions.
    """

    kind: CauseKind
    text: str
    what: str | None
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The answer about all partitions of an asset."""

    asset: str
    partitions: int
    statuses: Mapping[Status, int]
    causes: tuple[SummedCause, ...]


def explain(facts: Facts) -> Why:
    """Why an asset, or one partition of it, is as it is, and why it ran."""
    causes = [*_attempts(facts), *_missing(facts), *_stale(facts), *_unseen(facts)]
    order = list(CauseKind)
    return Why(
        artifact=facts.artifact,
        status=facts.status,
        causes=tuple(sorted(causes, key=lambda cause: order.index(cause.kind))),
        made=facts.made,
        launch=facts.launch,
        conditions=facts.conditions,
    )


def summarize(asset: str, every: Iterable[Facts]) -> Summary:
    """How many partitions are stale, and for what; of facts without records."""
    statuses, shared, count = Counter[Status](), defaultdict[tuple[CauseKind, str, str | None], list[str]](list), 0
    for facts in every:
        count += 1
        statuses[facts.status] += 1
        for cause in explain(facts).causes:
            what = cause.what.asset if isinstance(cause.what, AssetPartition) else None
            names = shared[cause.kind, _without_run(cause), what]
            if facts.artifact.partition not in names[-1:]:
                names.append(facts.artifact.partition or "")
    order = list(CauseKind)
    causes = [SummedCause(*cause, tuple(names)) for cause, names in shared.items()]
    causes.sort(key=lambda cause: (order.index(cause.kind), -len(cause.partitions)))
    return Summary(asset, count, {status: statuses[status] for status in Status}, tuple(causes))


def _without_run(cause: Cause) -> str:
    return {CauseKind.RUNNING: "is being made", CauseKind.FAILED: "the last run failed"}.get(cause.kind, cause.text)


def _attempts(facts: Facts) -> Iterator[Cause]:
    attempt = facts.attempt
    if attempt is None:
        return
    if not attempt.is_over:
        yield Cause(CauseKind.RUNNING, f"run {attempt.run_id} is at work on it", what=attempt.run_id)
        return
    text = f"run {attempt.run_id}, which was to make it, ended as {attempt.status.lower()}"
    yield Cause(CauseKind.FAILED, text, what=attempt.run_id, details=(attempt.error,) if attempt.error else ())


def _missing(facts: Facts) -> Iterator[Cause]:
    if facts.status is Status.MISSING:
        yield Cause(CauseKind.MISSING, _NEVER)


def _stale(facts: Facts) -> Iterator[Cause]:
    recorded = _recorded(facts.made)
    for reason in facts.reasons:
        if reason.category == "CODE":
            before = facts.made.code_version if facts.made else None
            details = tuple(_changed_code(facts))
            yield Cause(CauseKind.CODE, reason.text, None, before, facts.code_version, details)
        elif reason.category == "DATA" and reason.dependency is not None:
            yield _changed_input(facts, reason.dependency, recorded, reason.text)
        else:
            yield Cause(CauseKind.DEPENDENCIES, reason.text, reason.dependency)


def _unseen(facts: Facts) -> Iterator[Cause]:
    """What has changed by the record, while Dagster compares only some inputs (a hundred partitions are too many)."""
    named = {reason.dependency for reason in facts.reasons}
    current = facts.current or {}
    for artifact, before in _recorded(facts.made).items():
        now = current.get(artifact)
        if now is not None and now != before and artifact not in named:
            cause = _changed_input(facts, artifact, {artifact: before}, f"has another version, {_UNSEEN}")
            yield Cause(cause.kind, cause.text, cause.what, before, now, is_shown=False)


def _changed_input(facts: Facts, artifact: AssetPartition, recorded: Mapping[AssetPartition, str], text: str) -> Cause:
    kind = CauseKind.ENVIRONMENT if artifact.asset in facts.images else CauseKind.DATA
    return Cause(kind, text, artifact, recorded.get(artifact), (facts.current or {}).get(artifact))


def _recorded(made: Made | None) -> dict[AssetPartition, str]:
    """What was read, the image being the environment that the step really ran in."""
    if made is None or made.record is None:
        return {}
    ran = made.record.environment
    return {
        AssetPartition(read.asset, read.partition): ran.environment_digest
        if read.asset == ran.image_asset
        else read.data_version
        for read in made.record.inputs
    }


def _changed_code(facts: Facts) -> Iterator[str]:
    before = facts.made.record.code if facts.made and facts.made.record else {}
    after = facts.code or {}
    if not before or not after:
        return
    for part in sorted(before.keys() | after.keys()):
        if before.get(part) != after.get(part):
            verb = "changed" if part in before and part in after else "is new" if part in after else "is gone"
            yield f"{_symbol(part)} {verb}"


def _symbol(part: str) -> str:
    """A part of a code version as one writes it in Python; of the function's own module by its name alone."""
    module, _, name = part.partition(":")
    where = f" of {module}" if module else ""
    special = {"*": f"something{where}", "<statements>": f"a statement{where} that acts by itself"}
    return special.get(name, ".".join(filter(None, (module, name))).replace("<captured values>", "a captured value"))
