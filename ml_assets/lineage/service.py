"""All questions about the lineage of a Dagster instance in one place, for Python and for the command line."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import dagster as dg

from ml_assets.lineage.code_location import CodeLocation
from ml_assets.lineage.deletion_log import DeletionLog
from ml_assets.lineage.difference import Difference, Origin, differences
from ml_assets.lineage.graph import LineageGraph, NodeKind, Trace
from ml_assets.lineage.impact import Impact, impact_of
from ml_assets.lineage.index.index import open_index
from ml_assets.lineage.model_aliases import ModelAliases
from ml_assets.lineage.questions import NODE_LIMIT, Question
from ml_assets.lineage.staleness import Staleness
from ml_assets.lineage.statement import origin_statement
from ml_assets.lineage.why import Summary, Why, explain, summarize
from ml_assets.resources.errors import LineageError, TrackingError, UnknownReference
from ml_assets.resources.identity import ModelUri
from ml_assets.resources.provenance import ArtifactKind, ProvenanceRecord
from ml_assets.resources.tracking.model_registry import ModelRegistry

__all__ = ["Lineage"]

_Answer = TypeVar("_Answer")


class Lineage:
    """Answers questions about what an instance has recorded.

    Every reference is one that ``ml-assets trace`` takes: an asset key (``key@partition``), data version, image digest,
    MLflow run id, ``models:/name/version``, ``models:/name@alias``, Dagster run id or commit.

    Args:
        instance: what is asked about.
        models: MLflow's model registry, for aliases and for what is deployed; None leaves them out.
        note: takes a line for people, such as that MLflow does not answer.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        models: ModelRegistry | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._instance, self._models, self._note = instance, models, note

    def trace(
        self,
        reference: str,
        *,
        up: bool = True,
        down: bool = True,
        kinds: Iterable[ArtifactKind | NodeKind] = (),
        since: datetime | None = None,
        depth: int | None = None,
        limit: int = NODE_LIMIT,
        aliases: bool = True,
    ) -> Trace:
        """What something came from and what came from it.

        Args:
            reference: what is asked about.
            up: whether to ask what it came from.
            down: whether to ask what came from it.
            kinds: kinds of the nodes to answer with; all if there are none.
            since: answer with what was made at this moment or later.
            depth: how many edges to follow; all if None.
            limit: how many nodes the answer may have.
            aliases: whether to ask MLflow for the aliases of models, which needs its import and a server.

        Raises:
            UnknownReference: nothing recorded has this name.
            AmbiguousReference: different things have it, or begin with it.
            LineageError: the answer is larger than was allowed, or lacks something that cannot be read.
            TrackingError: the reference is an alias, and MLflow does not answer.
        """
        question = Question(reference, up, down, frozenset(kinds), since, depth, limit)
        with open_index(self._instance, self._note) as index:
            find_deletions = DeletionLog(self._instance).find
            found = self._asked(
                reference, lambda named: index.trace(replace(question, reference=named), find_deletions)
            )
        found = replace(found, reference=reference)
        return self._with_aliases(found) if aliases else found

    def impact(self, reference: str, *, limit: int = NODE_LIMIT) -> Impact:
        """What must be made again if something is bad, deployed models first; raises as `trace`."""
        with open_index(self._instance, self._note) as index:
            found, current = self._asked(reference, lambda named: index.affected(named, limit))
        return impact_of(self._with_aliases(replace(found, reference=reference)), current)

    def origin(self, reference: str, *, limit: int = NODE_LIMIT) -> Origin:
        """Where one artifact came from, with its provenance record.

        Raises:
            AmbiguousReference: the reference names several.
            LineageError: as `trace` does.
        """
        with open_index(self._instance, self._note) as index:
            return self._asked(reference, lambda named: index.origin(named, limit))

    def records(self, graph: LineageGraph) -> dict[str, ProvenanceRecord]:
        """The provenance records of a graph's nodes by their ids, of those that a factory of this project made.

        Raises:
            LineageError: a record cannot be read.
        """
        with open_index(self._instance, self._note) as index:
            return index.records(graph.nodes.values())

    def provenance(self, reference: str, *, limit: int = NODE_LIMIT) -> dict[str, Any]:
        """What made one artifact, and all that it came from, as an in-toto statement with a SLSA provenance predicate.

        Raises:
            LineageError: it carries no provenance record; or as `origin` does.
        """
        origin = self.origin(reference, limit=limit)
        if origin.record is None:
            raise LineageError(
                f"{origin.node.id} carries no provenance record: no factory of ml-assets made it, or it is gone",
                next_step=f"see what it came from: ml-assets trace '{origin.node.id}' --up",
            )
        upstream = [node for node in origin.upstream.nodes.values() if node.id != origin.node.id]
        return origin_statement(origin.record, upstream)

    def diff(self, first: str, second: str, *, limit: int = NODE_LIMIT) -> tuple[Difference, ...]:
        """What differs between the origins of two artifacts, the most likely cause first; raises as `origin`."""
        return differences(self.origin(first, limit=limit), self.origin(second, limit=limit))

    def why(self, asset: str, definitions: dg.Definitions) -> Why | Summary:
        """Why an asset is stale, missing or failed, and what made it run last.

        Args:
            asset: ``key`` or ``key@partition``.
            definitions: the code location as it is today.

        Returns:
            Of a partitioned asset without a partition, a summary of all partitions.

        Raises:
            UnknownReference: no such asset or partition is defined.
            LineageError: its record is malformed, or of a later form than this reads.
        """
        staleness = Staleness(self._instance, CodeLocation(definitions))
        artifact = staleness.find(asset)
        if artifact.partition is None and staleness.partitions(artifact.asset):
            return summarize(artifact.asset, staleness.every(artifact.asset))
        return explain(staleness.facts(artifact))

    def _asked(self, reference: str, ask: Callable[[str], _Answer]) -> _Answer:
        """An answer about what a reference names, which is recorded or known to MLflow.

        An alias stands for the version that carries it now. A version that nobody recorded was registered by hand, or
        copied from another name: it stands for what its MLflow run logged.
        """
        named = reference.strip()
        try:
            model = ModelUri.parse(named)
        except ValueError:
            return ask(reference)
        if self._models is None:
            return ask(reference)
        if model.alias is not None:
            named = self._models.version(model.name, model.alias)
        try:
            return ask(named)
        except UnknownReference:
            with suppress(TrackingError):
                if run := self._models.run_of(named):
                    return ask(run)
            raise

    def _with_aliases(self, trace: Trace) -> Trace:
        """The trace with what MLflow says of the models in it; without, and a note, if it does not answer."""
        if self._models is None or not any(
            node.mlflow_run or node.model_version for node in trace.graph.nodes.values()
        ):
            return trace
        try:
            return replace(trace, graph=ModelAliases.read(self._models).annotate(trace.graph))
        except TrackingError as error:
            self._note(f"which models are deployed is not known. {error}")
            return trace
