"""The reasons for an asset's status: why it is stale, missing or failed, and why it last ran. Pure.

Dagster decides whether an asset is stale. This module completes its reasons from the record: the functions that
changed, and the old and new version of an input.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from ml_assets.code_version.uncovered import joined_code_version
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import Launch, Observed, ProvenanceRecord, Uncovered, UncoveredKind

__all__ = [
    "DagsterReason",
    "Facts",
    "LaterRun",
    "LatestEvent",
    "ReasonKind",
    "SharedReason",
    "Status",
    "StatusReason",
    "Summary",
    "Why",
    "explain",
    "summarize",
]

_NEVER: Final = "was never materialized, or was wiped"
_UNSEEN: Final = "not compared by Dagster"
_SAME_VALUES: Final = (
    "its values are the same; only the file differs, for example after an upgrade of the Parquet library"
)


class Status(StrEnum):
    """Status of an asset or partition in Dagster's UI."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"


class ReasonKind(StrEnum):
    """Kind of a reason for the status; the most informative first."""

    RUNNING = "running"
    """A run is in progress."""
    FAILED = "failed"
    """The last run that targeted the asset did not materialize it."""
    MISSING = "missing"
    CODE = "code"
    """Its function, or first-party code that the function uses."""
    DATA = "data"
    """Another version of an input."""
    ENVIRONMENT = "environment"
    """Another version of the image that the step runs in."""
    DEPENDENCIES = "dependencies"
    """An input was added or removed."""


@dataclass(frozen=True)
class DagsterReason:
    """One reason as Dagster gives it.

    Attributes:
        category: ``CODE``, ``DATA`` or ``DEPENDENCIES``.
        text: Dagster's words.
        dependency: the input concerned.
    """

    category: str
    text: str
    dependency: AssetPartition | None = None


@dataclass(frozen=True)
class LatestEvent:
    """The latest materialization, or observation.

    Attributes:
        id: id of the node, as `ml_assets.lineage.graph.Node.id`.
        record: its provenance record; None if no factory of this project made it.
    """

    id: str
    moment: datetime
    run_id: str
    data_version: str | None
    code_version: str | None
    record: ProvenanceRecord | None = None


@dataclass(frozen=True)
class LaterRun:
    """A later run that targeted the asset and has not materialized it.

    Attributes:
        status: status of the run, such as ``FAILURE``.
        is_over: True if the run has ended.
        error: error of the step, or of an upstream step; None if none is recorded.
    """

    run_id: str
    status: str
    is_over: bool
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """All inputs of an explanation.

    Attributes:
        dagster_reasons: Dagster's reasons for the asset being stale.
        code_version: code version of the current definition.
        code: parts of that code version, as `ml_assets.code_version.version.Code.parts`.
        uncovered: code and files that the latest materialization used and its code version does not cover, with their
            current digests.
        current: the current version of each present or former input; None if it has none.
        images: those inputs that are images.
        same_values: those inputs whose version has changed, although their tables hold the same values.
        launch: the launch of the latest materialization's run.
        conditions: the true parts of the automation condition that requested this run.
    """

    artifact: AssetPartition
    status: Status
    dagster_reasons: tuple[DagsterReason, ...] = ()
    latest: LatestEvent | None = None
    later_run: LaterRun | None = None
    code_version: str | None = None
    code: Mapping[str, str] | None = None
    uncovered: tuple[Uncovered, ...] = ()
    current: Mapping[AssetPartition, str | None] | None = None
    images: frozenset[str] = frozenset()
    same_values: frozenset[AssetPartition] = frozenset()
    launch: Launch | None = None
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class StatusReason:
    """A reason for the status.

    Attributes:
        what: the input or run concerned.
        before: the recorded value.
        after: the current value.
        details: further details, such as the changed functions.
        is_shown: True if Dagster's UI shows it too.
    """

    kind: ReasonKind
    text: str
    what: AssetPartition | str | None = None
    before: str | None = None
    after: str | None = None
    details: tuple[str, ...] = ()
    is_shown: bool = True


@dataclass(frozen=True)
class Why:
    """The answer about one asset or partition.

    Attributes:
        notes: limits of the comparison, such as code that the code version does not cover.
    """

    artifact: AssetPartition
    status: Status
    reasons: tuple[StatusReason, ...]
    latest: LatestEvent | None
    launch: Launch | None
    conditions: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SharedReason:
    """A reason that several partitions share.

    Attributes:
        what: the input's asset.
        partitions: the partitions concerned, in the order of the asset's partitions.
    """

    kind: ReasonKind
    text: str
    what: str | None
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The answer about all partitions of an asset."""

    asset: str
    partitions: int
    statuses: Mapping[Status, int]
    reasons: tuple[SharedReason, ...]


def explain(facts: Facts) -> Why:
    """Return the reasons for the status of an asset or partition, and for its last run."""
    reasons = [*_later_run(facts), *_missing(facts), *_stale(facts), *_beyond_code_version(facts), *_unseen(facts)]
    order = list(ReasonKind)
    return Why(
        artifact=facts.artifact,
        status=facts.status,
        reasons=tuple(sorted(reasons, key=lambda reason: order.index(reason.kind))),
        latest=facts.latest,
        launch=facts.launch,
        conditions=facts.conditions,
        notes=tuple(_notes(facts)),
    )


def summarize(asset: str, every: Iterable[Facts]) -> Summary:
    """Return the number of stale partitions by reason; from facts without records."""
    statuses, shared, count = Counter[Status](), defaultdict[tuple[ReasonKind, str, str | None], list[str]](list), 0
    for facts in every:
        count += 1
        statuses[facts.status] += 1
        for reason in explain(facts).reasons:
            what = reason.what.asset if isinstance(reason.what, AssetPartition) else None
            names = shared[reason.kind, _without_run(reason), what]
            if facts.artifact.partition not in names[-1:]:
                names.append(facts.artifact.partition or "")
    order = list(ReasonKind)
    reasons = [SharedReason(*reason, tuple(names)) for reason, names in shared.items()]
    reasons.sort(key=lambda reason: (order.index(reason.kind), -len(reason.partitions)))
    return Summary(asset, count, {status: statuses[status] for status in Status}, tuple(reasons))


def _without_run(reason: StatusReason) -> str:
    return {ReasonKind.RUNNING: "is being materialized", ReasonKind.FAILED: "the last run failed"}.get(
        reason.kind, reason.text
    )


def _later_run(facts: Facts) -> Iterator[StatusReason]:
    later = facts.later_run
    if later is None:
        return
    if not later.is_over:
        yield StatusReason(ReasonKind.RUNNING, f"run {later.run_id} is materializing it", what=later.run_id)
        return
    text = f"run {later.run_id}, which targeted it, ended with status {later.status.lower()}"
    yield StatusReason(ReasonKind.FAILED, text, what=later.run_id, details=(later.error,) if later.error else ())


def _missing(facts: Facts) -> Iterator[StatusReason]:
    if facts.status is Status.MISSING:
        yield StatusReason(ReasonKind.MISSING, _NEVER)


def _stale(facts: Facts) -> Iterator[StatusReason]:
    recorded = _recorded(facts.latest)
    for given in facts.dagster_reasons:
        if given.category == "CODE":
            before = facts.latest.code_version if facts.latest else None
            details = tuple(_changed_code(facts))
            yield StatusReason(ReasonKind.CODE, given.text, None, before, facts.code_version, details)
        elif given.category == "DATA" and given.dependency is not None:
            yield _changed_input(facts, given.dependency, recorded, given.text)
        else:
            yield StatusReason(ReasonKind.DEPENDENCIES, given.text, given.dependency)


def _beyond_code_version(facts: Facts) -> Iterator[StatusReason]:
    """Return the change of code and files that ran or were read beyond what the code version covers."""
    observed = _observed(facts)
    if observed is None:
        return
    now = {item.name: item.digest for item in facts.uncovered}
    details = tuple(
        f"{item.name} {'changed' if now[item.name] else 'is gone, or can no longer be read'}"
        for item in observed.uncovered
        if item.digest and item.name in now and now[item.name] != item.digest
    )
    if details:
        text = f"code or files that the code version does not cover have changed ({_UNSEEN})"
        after = joined_code_version(facts.code_version or "", facts.uncovered)
        yield StatusReason(ReasonKind.CODE, text, None, observed.code_version, after, details, is_shown=False)


def _notes(facts: Facts) -> Iterator[str]:
    """Return what the comparison of code versions leaves open."""
    observed = _observed(facts)
    if observed is None:
        return
    for item in observed.uncovered:
        verb = "ran" if item.kind is UncoveredKind.CODE else "was read"
        unknown = "" if item.digest else ", and its content at that time is unknown"
        yield f"{item.name} {verb}, but the code version does not cover it{unknown}"
    for unseen in observed.unseen:
        yield f"not observed: {unseen}"


def _observed(facts: Facts) -> Observed | None:
    return facts.latest.record.observed if facts.latest and facts.latest.record else None


def _unseen(facts: Facts) -> Iterator[StatusReason]:
    """Return recorded changes that Dagster misses: it does not compare a hundred partitions or more of an input."""
    named = {given.dependency for given in facts.dagster_reasons}
    current = facts.current or {}
    for artifact, before in _recorded(facts.latest).items():
        now = current.get(artifact)
        if now is not None and now != before and artifact not in named:
            reason = _changed_input(facts, artifact, {artifact: before}, f"has a different version ({_UNSEEN})")
            yield replace(reason, is_shown=False)


def _changed_input(
    facts: Facts, artifact: AssetPartition, recorded: Mapping[AssetPartition, str], text: str
) -> StatusReason:
    kind = ReasonKind.ENVIRONMENT if artifact.asset in facts.images else ReasonKind.DATA
    details = (_SAME_VALUES,) if artifact in facts.same_values else ()
    return StatusReason(kind, text, artifact, recorded.get(artifact), (facts.current or {}).get(artifact), details)


def _recorded(latest: LatestEvent | None) -> dict[AssetPartition, str]:
    """Return the recorded inputs, with the image that the step really ran in."""
    if latest is None or latest.record is None:
        return {}
    ran = latest.record.environment
    return {
        AssetPartition(read.asset, read.partition): ran.environment_digest
        if read.asset == ran.image_asset
        else read.data_version
        for read in latest.record.inputs
    }


def _changed_code(facts: Facts) -> Iterator[str]:
    before = facts.latest.record.code if facts.latest and facts.latest.record else {}
    after = facts.code or {}
    if not before or not after:
        return
    for part in sorted(before.keys() | after.keys()):
        if before.get(part) != after.get(part):
            verb = "changed" if part in before and part in after else "was added" if part in after else "was removed"
            yield f"{_symbol(part)} {verb}"


def _symbol(part: str) -> str:
    """Return a part of a code version as a Python name; without the module if it is the function's own."""
    module, _, name = part.partition(":")
    where = f" of {module}" if module else ""
    if name.startswith("<file "):
        return f"the file {name[6:-1]} beside {module or 'its module'}"
    special = {
        "*": f"the whole module {module}".rstrip(),
        "<main>": f"the program {module}".rstrip(),
        "<statements>": f"a statement with side effects{where}",
    }
    return special.get(name, ".".join(filter(None, (module, name))).replace("<captured values>", "a captured value"))
