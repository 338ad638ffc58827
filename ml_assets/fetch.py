"""Lookup of an artifact's content by asset key and version, for the command line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.formats.interface import format_named
from ml_assets.dagster_internals import DATA_VERSION_TAG
from ml_assets.lineage import DIRTY_MARK
from ml_assets.resources.dvc.git import store_of
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import AmbiguousReference, InputError, UnknownReference
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.provenance import TRACKED_METADATA, Content, ProvenanceRecord, find_record

__all__ = ["StoredArtifact", "find_artifact"]

_PAGE = 500
_SHOWN = 12
_SHORTEST = 6


@dataclass(frozen=True)
class StoredArtifact:
    """One version of one partition of an asset, and the location of its content."""

    artifact: AssetPartition
    data_version: str
    dagster_run: str
    content: Content | None
    """None for an image, whose content is in a registry."""
    storage_id: int
    """Event of Dagster's log that recorded it."""
    record: ProvenanceRecord | None = None
    """None for an observed dataset."""
    tracked: dict[str, Any] | None = None
    """The git repository that tracks it with DVC, for an observed dataset."""

    @property
    def origin(self) -> dict[str, str]:
        """References to its origin that ``ml-assets trace`` accepts, besides asset and partition."""
        recorded = {
            "materialization": f"{self.artifact}#{self.storage_id}",
            "asset": self.artifact.asset,
            "partition": self.artifact.partition,
            "data_version": self.data_version,
            "dagster_run": self.dagster_run,
        }
        if self.record is not None:
            source, mlflow, ran = self.record.source, self.record.mlflow, self.record.environment
            recorded |= {
                "commit": source.commit and f"{source.commit}{DIRTY_MARK if source.dirty else ''}",
                "image": ran.image,
                "environment": ran.environment_digest,
                "mlflow_run": mlflow.run_id if mlflow else None,
                "model_version": mlflow.registered_version if mlflow else None,
            }
        return {name: value for name, value in recorded.items() if value}

    @property
    def file_name(self) -> str:
        """File name for the content: the asset's key with the suffix of its format."""
        form = format_named(self.content.format) if self.content else None
        suffix = form.suffix if form else ""
        return self.artifact.asset.replace("/", "-") + (Path(self.tracked["path"]).suffix if self.tracked else suffix)

    def stored(self) -> Content:
        """Return the content.

        Raises:
            InputError: the artifact is an image.
        """
        if self.content is None:
            raise InputError(
                "the artifact is an image, which has no content in the DVC remote",
                next_step="pull the image from its registry",
                asset=str(self.artifact),
            )
        return self.content

    def store(self, own: DvcStore) -> DvcStore:
        """Return the store that holds the content: the target's, or the remote of the repository that tracks it."""
        if self.tracked is None:
            return own
        return store_of(Path(self.tracked["repository"]), self.tracked["remote"], own.cache)


def find_artifact(instance: dg.DagsterInstance, reference: str) -> StoredArtifact:
    """Return the latest artifact that ``ASSET``, ``ASSET@PARTITION`` or ``ASSET@VERSION`` names.

    The artifact is that of a materialization or observation. A version is ``md5:…`` or ``sha256:…``, or at least the
    first six of its digits.

    Raises:
        UnknownReference: no recorded artifact matches.
        AmbiguousReference: the asset is partitioned and no partition is given, or a shortened version matches several.
    """
    wanted = _parse(reference)
    found = list(_recorded(instance, wanted.asset))
    if not found:
        raise UnknownReference(
            f"no recorded artifact of an asset {wanted.asset!r} has content",
            next_step="list the assets: dagster asset list",
        )
    fitting = _fitting(found, wanted.partition)
    if not fitting:
        known = _several([each.artifact.partition or each.data_version for each in found])
        raise UnknownReference(
            f"{wanted.asset} has no partition or version {wanted.partition}", next_step=f"choose one of: {known}"
        )
    return fitting[0]


def _fitting(found: list[StoredArtifact], wanted: str | None) -> list[StoredArtifact]:
    """Return the artifacts that the part after ``@`` names: a partition first, then a full version, then a prefix."""
    if wanted is None:
        return _only(found, {each.artifact.partition for each in found})
    exact = [each for each in found if each.artifact.partition == wanted]
    exact = exact or [each for each in found if each.data_version == wanted]
    if exact or len(wanted.rpartition(":")[2]) < _SHORTEST:
        return exact
    begun = [each for each in found if wanted in (each.data_version[: len(wanted)], _digits(each)[: len(wanted)])]
    return _only(begun, {each.data_version for each in begun})


def _only(found: list[StoredArtifact], names: set[str | None] | set[str]) -> list[StoredArtifact]:
    if len(names) > 1:
        asset = found[0].artifact.asset
        raise AmbiguousReference(
            f"{len(names)} partitions or versions of {asset} match",
            next_step=f"choose one of: {_several([f'{asset}@{name}' for name in sorted(map(str, names))])}",
        )
    return found


def _several(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more


def _digits(artifact: StoredArtifact) -> str:
    return artifact.data_version.partition(":")[2]


def _parse(reference: str) -> AssetPartition:
    try:
        return AssetPartition.parse(reference)
    except ValueError as error:
        raise UnknownReference(str(error), next_step="write it as ASSET, ASSET@PARTITION or ASSET@VERSION") from error


def _recorded(instance: dg.DagsterInstance, asset: str) -> Iterator[StoredArtifact]:
    """Return all recorded artifacts of the asset, newest first."""
    key = dg.AssetKey.from_user_string(asset)
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        cursor, more = None, True
        while more:
            page = fetch(key, limit=_PAGE, cursor=cursor)
            for event in page.records:
                found = _artifact(event)
                if found is not None:
                    yield found
            cursor, more = page.cursor, page.has_more


def _artifact(event: dg.EventLogRecord) -> StoredArtifact | None:
    recorded = event.asset_event
    if recorded is None:
        return None
    metadata: dict[str, Any] = {name: value.value for name, value in recorded.metadata.items()}
    record = find_record(metadata)
    if record is not None:
        artifact = AssetPartition(record.asset, record.partition)
        return StoredArtifact(
            artifact, record.data_version, record.dagster_run, record.content, event.storage_id, record
        )
    version = (recorded.tags or {}).get(DATA_VERSION_TAG)
    if TRACKED_METADATA not in metadata or version is None:
        return None
    tracked = metadata[TRACKED_METADATA]
    form = "directory" if Digest.parse(version).is_directory else "file"
    content = Content(format=form, version=version, size=tracked["size"], files=tracked["files"])
    return StoredArtifact(
        AssetPartition(recorded.asset_key.to_user_string(), event.partition_key),
        version,
        event.run_id,
        content,
        event.storage_id,
        tracked=tracked,
    )
