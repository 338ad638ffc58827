"""Store and tracking that read what is there, and keep what is written in a folder that is thrown away."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import Field

from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.mlflow_internals import registry_at
from ml_assets.resources.provenance import Content
from ml_assets.resources.tracking.open_run import TrackedRun
from ml_assets.resources.tracking.runs import MlflowTracking

__all__ = ["ScratchStore", "ScratchTracking"]


class ScratchStore(DvcStore):
    """Fetches from a store, of which only the cache is written to, and keeps what it is given in a folder."""

    folder: str = Field(description="Absolute path of the folder that what is stored goes into")

    @property
    def kept(self) -> DvcStore:
        """The store of what was given."""
        return DvcStore(remote=f"{self.folder}/remote", cache=f"{self.folder}/cache")

    def put(self, path: Path) -> Content:
        """Keep a file or a directory in the folder; as `DvcStore.put`."""
        return self.kept.put(path)

    def put_frame(self, frame: pd.DataFrame) -> Content:
        """Keep a table in the folder; as `DvcStore.put_frame`."""
        return self.kept.put_frame(frame)


class ScratchTracking(MlflowTracking):
    """An MLflow of its own in a folder, for runs and for registered models."""

    @classmethod
    def within(cls, folder: Path, experiment: str) -> Self:
        """One in a folder, which is an absolute path."""
        return cls(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment=experiment)

    @contextmanager
    def run(self, *, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> Iterator[TrackedRun]:
        """As `MlflowTracking.run`; what MLflow's own functions register meanwhile stays in the folder, too."""
        with registry_at(self.tracking_uri), super().run(name=name, tags=tags, parameters=parameters) as tracked:
            yield tracked
