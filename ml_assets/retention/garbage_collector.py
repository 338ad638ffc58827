"""The garbage collector: reads the deployment, plans what to delete, and deletes it."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import dagster as dg

from ml_assets.dagster_internals import NOT_FINISHED_STATUSES
from ml_assets.dead_runs import fail_dead_runs
from ml_assets.lineage import DeletionLog, LineageGraph, ModelAliases, Node, NodeKind, open_index
from ml_assets.resources.dvc.directory import is_object
from ml_assets.resources.dvc.lease import collection_lease
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import RetentionError, TrackingError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.provenance import ArtifactKind
from ml_assets.resources.registry.client import ManifestParts, RegistryClient
from ml_assets.resources.tracking.artifacts import RunArtifacts
from ml_assets.resources.tracking.model_registry import ModelRegistry
from ml_assets.retention.plan import (
    Plan,
    UnreferencedContent,
    UnreferencedImage,
    UnreferencedRun,
    plan_data,
    unreferenced_images,
)
from ml_assets.retention.policy import Policy, kept_nodes

__all__ = ["GarbageCollector", "Scope"]

_CLAIMS: Final = "keeps"
_BATCH: Final = 1000
_SHOWN: Final = 3
_WAITING: Final = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)


class Scope(StrEnum):
    """The scope of a collection."""

    DATA = "data"
    """The content store."""
    IMAGES = "images"
    MLFLOW = "mlflow"
    CACHE = "cache"
    """This machine's cache of the content store. Everything in it can be fetched again from the store."""


@dataclass(frozen=True)
class GarbageCollector:
    """Collects everything that no kept materialization of an instance refers to.

    Attributes:
        store: the target's content store.
        registry: reads and deletes images.
        note: receives a line for the user.
    """

    instance: dg.DagsterInstance
    store: DvcStore
    models: ModelRegistry
    registry: RegistryClient
    note: Callable[[str], None] = lambda _: None

    def plan(self, policy: Policy, scopes: Collection[Scope], *, orphans: bool = False) -> Plan:
        """Return what a collection would delete, from current records and contents.

        Args:
            policy: the materializations to keep.
            scopes: the scopes to cover.
            orphans: True to also delete objects that nothing ever referred to.

        Raises:
            LineageError: an event cannot be read, so that its references are unknown.
            StoreError: the remote does not answer.
            RegistryError: a registry does not answer.
            TrackingError: MLflow does not answer, and the policy depends on it.
        """
        cutoff = min([datetime.now(UTC) - policy.grace, *self._unfinished_since()])
        with open_index(self.instance, self.note) as index:
            graph, registered = self._with_model_aliases(index.whole(), policy)
            kept = kept_nodes(graph, policy, registered, cutoff)
            images = self._images(graph, kept) if Scope.IMAGES in scopes else ()
        there = {node.id for node in graph.nodes.values() if node.kind is not NodeKind.MISSING}
        found = Plan(len(there), len(there & kept), images=images)
        if Scope.DATA in scopes or Scope.CACHE in scopes:
            remote = self.store.opened()
            claimed = self._claims()
            data = plan_data(graph, kept, remote.held(), self.store.listings, claimed or (), cutoff.timestamp())
            if claimed is None:
                data = replace(data, collect=(), orphans={})
            cached = self.store.cached() if Scope.CACHE in scopes else {}
            unused = {
                value: each.size
                for value, each in cached.items()
                if value not in data.needed and (each.written or 0) < cutoff.timestamp()
            }
            found = replace(found, data=data if Scope.DATA in scopes else replace(data, collect=(), orphans={}))
            found = replace(found, cached=unused, orphans_go=orphans and Scope.DATA in scopes)
        if Scope.MLFLOW in scopes:
            found = replace(found, runs=self._runs(graph, kept))
        return found

    def collect(self, policy: Policy, agreed: Plan, scopes: Collection[Scope]) -> Iterator[str]:
        """Delete the confirmed plan, as far as it is still valid. Yield a line for each deleted thing.

        Nobody can store content meanwhile. It may be interrupted at any time; another call deletes the rest.

        Raises:
            RetentionError: runs are in progress, which may be storing content of the plan.
            StoreError: another collection is in progress; otherwise as `plan` does.
        """
        with self._while_nothing_runs(scopes) as renew:
            plan = _common(self.plan(policy, scopes, orphans=agreed.orphans_go), agreed)
            if Scope.DATA in scopes:
                self._claim(plan.data.needed)
            gone = [each.version for each in plan.data.collect]
            gone += [digest for each in plan.images for digest in each.manifests]
            DeletionLog(self.instance).add(gone, datetime.now(UTC))
            remote = self.store.opened()
            for batch in _batches(plan.data.collect):
                objects = [value for each in batch for value in each.objects]
                # A directory's files are deleted before its listing, because only the listing names them.
                for is_listing in (False, True):
                    renew()
                    remote.remove([value for value in objects if value.endswith(".dir") is is_listing])
                yield from (f"{each.version} ({each.of[-1]})" for each in batch)
            if plan.orphans_go:
                for start in range(0, len(plan.data.orphans), _BATCH):
                    renew()
                    remote.remove(list(plan.data.orphans)[start : start + _BATCH])
                yield f"{len(plan.data.orphans)} objects that this instance never recorded"
        self.store.forget(plan.cached)
        for image in plan.images:
            reference = ImageReference.parse(image.reference)
            for digest in image.manifests:
                self.registry.delete(replace(reference, digest=Digest.parse(digest)))
            yield image.reference
        artifacts = self._artifacts() if plan.runs else None
        for run in plan.runs:
            if artifacts:
                artifacts.remove(run.run_id, datetime.now(UTC).isoformat())
            yield f"artifacts of MLflow run {run.run_id}"

    @contextmanager
    def _while_nothing_runs(self, scopes: Collection[Scope]) -> Iterator[Callable[[], None]]:
        """Exclude writers of content. A run may have stored content that is not recorded yet, so none may run."""
        if Scope.DATA not in scopes:
            self._require_no_run()
            yield lambda: None
            return
        with collection_lease(self.store.opened()) as renew:
            self._require_no_run()
            yield renew

    def _require_no_run(self) -> None:
        fail_dead_runs(self.instance)
        working = [status for status in NOT_FINISHED_STATUSES if status not in _WAITING]
        runs = self.instance.get_runs(dg.RunsFilter(statuses=working), limit=_SHOWN + 1)
        if runs:
            shown = ", ".join(run.run_id[:8] for run in runs[:_SHOWN]) + (" …" if len(runs) > _SHOWN else "")
            raise RetentionError(
                f"runs are in progress ({shown}), and may be using content to delete",
                next_step="run again when they have ended",
            )

    def _unfinished_since(self) -> list[datetime]:
        """Return the start of the oldest unfinished run. Everything that it reads or stored is kept."""
        unfinished = dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES))
        records = self.instance.get_run_records(unfinished, limit=1, ascending=True)
        return [record.create_timestamp.astimezone(UTC) for record in records]

    def _with_model_aliases(self, graph: LineageGraph, policy: Policy) -> tuple[LineageGraph, frozenset[str]]:
        """Return the graph with deployed models, and the ids of registered ones; of all if MLflow does not say."""
        models = frozenset(node.id for node in graph.nodes.values() if node.mlflow_run or node.model_version)
        if not models:
            return graph, models
        try:
            found = ModelAliases.read(self.models)
            return found.annotate(graph), frozenset(name for name in models if found.versions(graph.nodes[name]))
        except TrackingError as error:
            if not policy.registered:
                raise
            self.note(f"all models are kept, because the registered ones are unknown. {error}")
            return graph, models

    def _images(self, graph: LineageGraph, kept: Collection[str]) -> tuple[UnreferencedImage, ...]:
        going = unreferenced_images(graph, kept)
        stay = {node.image for node in graph.nodes.values() if node.id in kept and node.image}
        stay |= {
            _with_digest(node.image, node.index_digest)
            for node in graph.nodes.values()
            if node.id in kept and node.image and node.index_digest
        }
        stay |= {above for image in stay & _made(graph) for above in _above(image, graph)}
        needed_manifests, needed_blobs = set[str](), set[Digest]()
        for image in sorted(stay) if going else ():
            for reference, parts in self._tree(image):
                needed_manifests.add(reference)
                needed_blobs.update(parts.blobs)
        found = []
        for image, nodes in going.items():
            above = sorted({name for node in nodes for name in _above(image, graph)})
            tree = {reference: parts for name in (*above, image) for reference, parts in self._tree(name)}
            manifests = [reference for reference in tree if reference not in needed_manifests]
            blobs = {blob: size for each in manifests for blob, size in tree[each].blobs.items()}
            size = sum(bytes_ for blob, bytes_ in blobs.items() if blob not in needed_blobs)
            needed_blobs.update(blobs)
            needed_manifests.update(manifests)
            if manifests:
                digests = tuple(reference.rpartition("@")[2] for reference in manifests)
                found.append(UnreferencedImage(image, digests, size, tuple(node.id for node in nodes)))
        return tuple(found)

    def _tree(self, image: str) -> Iterator[tuple[str, ManifestParts]]:
        """Return an image or index with everything that it lists, as far as the registry has them."""
        parts = self.registry.parts(ImageReference.parse(image))
        if parts is not None:
            yield image, parts
            for digest in parts.manifests:
                yield from self._tree(_with_digest(image, str(digest)))

    def _runs(self, graph: LineageGraph, kept: Collection[str]) -> tuple[UnreferencedRun, ...]:
        stay = {node.mlflow_run for node in graph.nodes.values() if node.id in kept}
        going: dict[str, list[str]] = {}
        for node in graph.nodes.values():
            if node.mlflow_run and node.mlflow_run not in stay:
                going.setdefault(node.mlflow_run, []).append(node.id)
        sizes = self._artifacts().sizes(going) if going else {}
        return tuple(UnreferencedRun(run_id, size, tuple(going[run_id])) for run_id, size in sizes.items())

    def _artifacts(self) -> RunArtifacts:
        return RunArtifacts(self.models.uri, self.models.experiment)

    def _claims(self) -> set[str] | None:
        """Return the content that other instances claim in the same remote; None if a claim cannot be read."""
        remote, claimed, is_known = self.store.opened(), set[str](), True
        others = [name for name in remote.notes(_CLAIMS) if name != self._claim_name()]
        for name in others:
            place = f"{_CLAIMS}/{name} in the {remote.name}"
            if not name.endswith(".json"):
                self.note(f"the file {place} is not the claim of an instance; it is skipped")
                continue
            claim = _claim(remote.read_note(f"{_CLAIMS}/{name}"))
            claimed |= claim or set()
            if claim is None:
                is_known = False
                self.note(
                    f"the claim {place} cannot be read, so nothing is deleted from the remote. Next: run ml-assets gc "
                    "--apply in the instance that wrote it, or delete the file if that instance no longer exists"
                )
        if others:
            self.note(f"{len(others)} other instances keep content in the {remote.name}; their content stays")
        return claimed if is_known else None

    def _claim(self, values: Iterable[str]) -> None:
        claimed = sorted(value for value in values if is_object(value))
        self.store.opened().write_note(f"{_CLAIMS}/{self._claim_name()}", json.dumps(claimed).encode())

    def _claim_name(self) -> str:
        storage: Any = self.instance.run_storage
        return f"{storage.get_run_storage_id()}.json"


def _claim(content: bytes | None) -> set[str] | None:
    """Return the objects of a claim; None if it is damaged."""
    if content is None:  # Deleted meanwhile.
        return set()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return set(found) if isinstance(found, list) and all(isinstance(value, str) for value in found) else None


def _made(graph: LineageGraph) -> set[str]:
    return {node.image for node in graph.nodes.values() if node.image}


def _above(image: str, graph: LineageGraph) -> Iterator[str]:
    """Return the indexes above an image, from the records of the materializations that made it."""
    for node in _makers(image, graph):
        if node.index_digest:
            yield _with_digest(image, node.index_digest)


def _makers(image: str, graph: LineageGraph) -> list[Node]:
    return [node for node in graph.nodes.values() if node.image == image and node.kind is ArtifactKind.IMAGE]


def _with_digest(image: str | None, digest: str) -> str:
    return str(replace(ImageReference.parse(image or ""), digest=Digest.parse(digest)))


def _common(now: Plan, agreed: Plan) -> Plan:
    """Return the part of the confirmed plan that is still valid."""
    contents = {each.version for each in agreed.data.collect}
    images, runs = {each.reference for each in agreed.images}, {each.run_id for each in agreed.runs}
    data = replace(
        now.data,
        collect=tuple(each for each in now.data.collect if each.version in contents),
        orphans={value: size for value, size in now.data.orphans.items() if value in agreed.data.orphans},
    )
    return replace(
        now,
        data=data,
        images=tuple(each for each in now.images if each.reference in images),
        runs=tuple(each for each in now.runs if each.run_id in runs),
    )


def _batches(contents: Iterable[UnreferencedContent]) -> Iterator[list[UnreferencedContent]]:
    batch: list[UnreferencedContent] = []
    for each in contents:
        batch.append(each)
        if sum(len(one.objects) for one in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
