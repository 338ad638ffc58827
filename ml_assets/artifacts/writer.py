"""The interface of an artifact kind: a function that stores the value returned by an asset's function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.artifacts.unrecorded import Unrecorded
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.provenance import Content
from ml_assets.resources.tracking.open_run import TrackedRun

__all__ = ["Stored", "WriteContext", "Writer"]


@dataclass(frozen=True)
class WriteContext:
    """The step's context that a writer receives."""

    artifact: AssetPartition
    storage: ArtifactStorage
    mlflow_run: TrackedRun | None
    """MLflow run of the attempt, if it has one."""
    log: Callable[[str], None]
    earlier: Unrecorded | None = None
    """Model that an earlier attempt stored and could not record; the value was loaded from it."""
    keep: Callable[[Unrecorded], None] = lambda _: None
    """Receives a model as soon as it is stored."""


@dataclass(frozen=True)
class Stored:
    """A stored value: its data version, its content, and metadata for people."""

    data_version: Digest
    content: Content | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    registered: tuple[str, str] | None = None
    """Name and version in the model registry."""
    image: str | None = None
    """Reference of the image made, and the digest of its index, if any."""
    index_digest: str | None = None


class Writer(Protocol):
    """Stores the value returned by a function; one for each kind of artifact."""

    def __call__(self, value: Any, context: WriteContext) -> Stored:
        """Store a value.

        Raises:
            SchemaError: this kind of artifact does not accept values of that type.
            StoreError: the value could not be stored.
        """
        ...
