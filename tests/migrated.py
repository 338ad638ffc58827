"""Migrated databases of Dagster and MLflow that tests copy: creating a new one costs a second of alembic's work."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

__all__ = ["Migrated"]


@dataclass(frozen=True)
class Migrated:
    """Templates in a folder, each of which is created on first use."""

    folder: Path

    def mlflow(self, file: Path) -> str:
        """Return the URI of a new MLflow database, which has only MLflow's default experiment."""
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._mlflow, file)
        return f"sqlite:///{file}"

    def dagster(self, home: Path) -> Path:
        """Return the home of a new Dagster instance with empty databases and without a ``dagster.yaml``."""
        shutil.copytree(self._dagster, home, dirs_exist_ok=True)
        return home

    @contextmanager
    def instance(self, home: Path, overrides: dict[str, Any] | None = None) -> Iterator[dg.DagsterInstance]:
        """Yield a new instance in a folder, as `DagsterInstance.local_temp` creates it."""
        with dg.DagsterInstance.local_temp(str(self.dagster(home)), overrides) as instance:
            yield instance

    @cached_property
    def _mlflow(self) -> Path:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        file = self.folder / "mlflow.db"
        SqlAlchemyStore(f"sqlite:///{file}", str(self.folder / "artifacts"))._dispose_engine()
        return file

    @cached_property
    def _dagster(self) -> Path:
        home = self.folder / "dagster"
        home.mkdir()
        with dg.DagsterInstance.local_temp(str(home)) as instance:
            assert (
                instance.get_runs_count() == len(instance.all_asset_keys()) == len(instance.all_instigator_state()) == 0
            )
        return home
