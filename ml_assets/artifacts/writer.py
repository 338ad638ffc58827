"""What a kind of artifact implements: a function that stores the value that an asset's function returned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ml_assets.artifacts.io_manager import ArtifactStorage
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.provenance import Content
from ml_assets.resources.tracking.open_run import TrackedRun

__all__ = ["Stored", "WriteContext", "Writer"]


@dataclass(frozen=True)
class WriteContext:
    """What a writer knows of the step whose value it stores."""

    artifact: AssetPartition
    storage: ArtifactStorage
    tracked: TrackedRun | None
    """MLflow run of the attempt, where it has one."""
    log: Callable[[str], None]


@dataclass(frozen=True)
class Stored:
    """A stored value: its data version, its content, and metadata for people."""

    data_version: Digest
    content: Content | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    registered: tuple[str, str] | None = None
    """Name and version in the model registry."""
    image: str | None = None
    """Image reference that was made, and the digest of the index above it, if any."""
    index_digest: str | None = None


class Writer(Protocol):
    """Stores the value that a function returned; one for each kind of artifact."""

    def __call__(self, value: Any, context: WriteContext) -> Stored:
        """Store a value.

        Raises:
            SchemaError: this kind of artifact does not take values of that type.
            StoreError: it could not be stored.
        """
        ...
