"""A store and a tracking server for isolated runs: they read existing data and write to a temporary folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import Field

from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.provenance import Content
from ml_assets.resources.sqlite_url import sqlite_url
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["ScratchStore", "ScratchTracking"]


class ScratchStore(DvcStore):
    """A store that fetches from another store and writes new content to a folder; only the other's cache changes."""

    folder: str = Field(description="Absolute path of the folder for new content")

    @property
    def kept(self) -> DvcStore:
        """Return the store of the new content."""
        return DvcStore(remote=f"{self.folder}/remote", cache=f"{self.folder}/cache")

    def put(self, path: Path) -> Content:
        """Store a file or a directory in the folder; see `DvcStore.put`."""
        return self.kept.put(path)

    def put_written(self, write: Callable[[Path], None]) -> Content:
        """Store what a function writes in the folder; see `DvcStore.put_written`."""
        return self.kept.put_written(write)


class ScratchTracking(MlflowTracking):
    """A separate MLflow in a folder, for runs and registered models."""

    @classmethod
    def within(cls, folder: Path, experiment: str) -> Self:
        """Return the tracking server of a folder, whose path must be absolute."""
        return cls(tracking_uri=sqlite_url(folder / "mlflow.db"), experiment=experiment)
