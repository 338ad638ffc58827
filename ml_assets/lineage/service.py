"""All questions about the lineage of a Dagster instance, for Python and for the command line."""

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
    """Answers questions about the recorded lineage of an instance.

    A reference is any that ``ml-assets trace`` accepts: an asset key (``key@partition``), data version, image digest,
    MLflow run id, ``models:/name/version``, ``models:/name@alias``, Dagster run id or commit.

    Args:
        instance: the instance to query.
        models: MLflow's model registry, for aliases and deployments; None omits them.
        note: called with a line for the user, for example if MLflow does not answer.
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
        """Return the inputs and uses of an artifact, transitively.

        Args:
            reference: the artifact.
            up: True to include its origins.
            down: True to include its uses.
            kinds: kinds of the nodes to return; all if empty.
            since: return only nodes made at this moment or later.
            depth: number of edges to follow; all if None.
            limit: maximum number of nodes in the answer.
            aliases: True to fetch model aliases from MLflow, which needs an import of MLflow and a server.

        Raises:
            UnknownReference: no recorded artifact matches the reference.
            AmbiguousReference: several different artifacts match the reference.
            LineageError: the answer is larger than allowed, or one of its events cannot be read.
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
        """Return the artifacts to rebuild if one is bad, deployed models first; raises as `trace`."""
        with open_index(self._instance, self._note) as index:
            found, current = self._asked(reference, lambda named: index.affected(named, limit))
        return impact_of(self._with_aliases(replace(found, reference=reference)), current)

    def origin(self, reference: str, *, limit: int = NODE_LIMIT) -> Origin:
        """Return the origin of one artifact, with its provenance record.

        Raises:
            AmbiguousReference: the reference names several artifacts.
            LineageError: as `trace` does.
        """
        with open_index(self._instance, self._note) as index:
            return self._asked(reference, lambda named: index.origin(named, limit))

    def records(self, graph: LineageGraph) -> dict[str, ProvenanceRecord]:
        """Return the provenance records of the nodes that a factory of this project made, by node id.

        Raises:
            LineageError: a record cannot be read.
        """
        with open_index(self._instance, self._note) as index:
            return index.records(graph.nodes.values())

    def provenance(self, reference: str, *, limit: int = NODE_LIMIT) -> dict[str, Any]:
        """Return the origin of one artifact as an in-toto statement with a SLSA provenance predicate.

        Raises:
            LineageError: the artifact has no provenance record; or as `origin` does.
        """
        origin = self.origin(reference, limit=limit)
        if origin.record is None:
            raise LineageError(
                f"{origin.node.id} has no provenance record: no factory of ml-assets made it, or its event was deleted",
                next_step=f"show its upstream instead: ml-assets trace '{origin.node.id}' --up",
            )
        upstream = [node for node in origin.upstream.nodes.values() if node.id != origin.node.id]
        return origin_statement(origin.record, upstream)

    def diff(self, first: str, second: str, *, limit: int = NODE_LIMIT) -> tuple[Difference, ...]:
        """Return the differences between two artifacts' origins, the most likely cause first; raises as `origin`."""
        return differences(self.origin(first, limit=limit), self.origin(second, limit=limit))

    def why(self, asset: str, definitions: dg.Definitions) -> Why | Summary:
        """Return why an asset is stale, missing or failed, and why it last ran.

        Args:
            asset: ``key`` or ``key@partition``.
            definitions: the current code location.

        Returns:
            A summary of all partitions for a partitioned asset without a partition, otherwise the explanation.

        Raises:
            UnknownReference: no such asset or partition is defined.
            LineageError: its record is malformed, or has a newer form than this version reads.
        """
        staleness = Staleness(self._instance, CodeLocation(definitions))
        artifact = staleness.find(asset)
        if artifact.partition is None and staleness.partitions(artifact.asset):
            return summarize(artifact.asset, staleness.every(artifact.asset))
        return explain(staleness.facts(artifact))

    def _asked(self, reference: str, ask: Callable[[str], _Answer]) -> _Answer:
        """Return the answer about a reference that the event log or MLflow's model registry contains.

        An alias stands for the version that currently has it. A version that is not in the event log was registered
        manually, or copied from another name. It stands for the model that its MLflow run logged.
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
        """Return the trace with model data from MLflow; if MLflow does not answer, omit the data and note the error."""
        if self._models is None or not any(
            node.mlflow_run or node.model_version for node in trace.graph.nodes.values()
        ):
            return trace
        try:
            return replace(trace, graph=ModelAliases.read(self._models).annotate(trace.graph))
        except TrackingError as error:
            self._note(f"the answer omits model aliases and deployments: {error}")
            return trace
