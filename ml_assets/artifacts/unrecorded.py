"""Trained models that are in the store but not in MLflow, because its server did not answer when training ended.

The next attempt at the same step records such a model without training again. The event log links the two: an
observation of the asset names the content, and the key of everything that decided it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import dagster as dg
import pandas as pd

from ml_assets.artifacts.trained_model import TrainedModel
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import MlAssetsError
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.models.flavors import SavedModel
from ml_assets.resources.provenance import Content
from ml_assets.resources.tracking.open_run import png

__all__ = ["UNRECORDED_METADATA", "Unrecorded", "result_key"]

UNRECORDED_METADATA = "ml_assets/unrecorded"
"""Metadata entry of an observation: a trained model that is stored but not recorded in MLflow, as JSON."""

_AGE_LIMIT: Final = timedelta(days=1)
_EVENTS: Final = 10
"""Latest observations of a partition that are searched; others are verdicts of reproductions."""
_FIGURES: Final = "figures"


def result_key(**decisive: Any) -> str:
    """Return the digest of everything that decides what a step computes."""
    return sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Unrecorded:
    """A trained model in the store, with everything that MLflow should hold.

    Attributes:
        run_id: the Dagster run that trained it.
    """

    saved: SavedModel
    content: Content
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    figures: Mapping[str, Any]
    history: Mapping[str, Sequence[float] | Mapping[int, float]]
    run_id: str = ""

    def model(self) -> TrainedModel:
        """Return the model as its function returned it, but loaded from the store and without an input example."""
        from ml_assets.resources.models.flavors import load_model

        estimator = load_model(self.saved.directory)
        return TrainedModel(
            estimator,
            metrics=self.metrics,
            figures=self.figures,
            parameters=self.parameters,
            history=self.history,
            directory=self.saved.directory,
        )

    def observation(self, key: str, artifact: AssetPartition, store: DvcStore) -> dg.AssetObservation | None:
        """Store what is not in the store yet, and return the event that names it; None if it cannot be kept.

        Raises:
            StoreError: the store does not answer.
        """
        others = {each.name: getattr(self.saved, each.name) for each in fields(self.saved) if each.name != "directory"}
        frames = {name: value for name, value in others.items() if isinstance(value, pd.DataFrame)}
        payload = {
            "key": key,
            "content": self.content.model_dump(mode="json"),
            "saved": {name: value for name, value in others.items() if name not in frames},
            "frames": {name: store.put_frame(frame).version for name, frame in frames.items()},
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "history": {name: list(_by_step(values).items()) for name, values in self.history.items()},
            "figures": self._store_figures(store),
            "run_id": self.run_id,
        }
        try:
            json.dumps(payload)
        except TypeError:
            return None
        payload["parameters"] = json.loads(json.dumps(self.parameters, default=str))
        metadata = {UNRECORDED_METADATA: dg.MetadataValue.json(payload)}
        text = "The model is trained and stored, but not recorded in MLflow. The next attempt records it."
        return dg.AssetObservation(
            dg.AssetKey.from_user_string(artifact.asset), text, metadata, partition=artifact.partition
        )

    @classmethod
    def find(cls, instance: dg.DagsterInstance, key: str, artifact: AssetPartition, store: DvcStore) -> Self | None:
        """Return the unrecorded model of the same key, if nothing was materialized since and it is at most a day old.

        Also return None if its content cannot be read any more.
        """
        asset = dg.AssetKey.from_user_string(artifact.asset)
        partitions = [artifact.partition] if artifact.partition else None
        wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=partitions)
        for record in instance.fetch_observations(wanted, limit=_EVENTS).records:
            entry = record.asset_observation.metadata.get(UNRECORDED_METADATA) if record.asset_observation else None
            payload: Any = entry.value if entry else {}
            if payload.get("key") != key:
                continue
            if datetime.now(UTC) - datetime.fromtimestamp(record.timestamp, UTC) > _AGE_LIMIT:
                return None
            latest = instance.fetch_materializations(wanted, limit=1).records
            if latest and latest[0].storage_id > record.storage_id:
                return None
            try:
                return cls._read(payload, store)
            except (MlAssetsError, KeyError, TypeError, ValueError):
                return None
        return None

    def _store_figures(self, store: DvcStore) -> str | None:
        if not self.figures:
            return None
        with TemporaryDirectory(prefix="ml-assets-figures-") as folder:
            place = Path(folder) / _FIGURES
            place.mkdir()
            for name, figure in self.figures.items():
                (place / f"{name}.png").write_bytes(png(figure))
            return store.put(place).version

    @classmethod
    def _read(cls, payload: Mapping[str, Any], store: DvcStore) -> Self:
        content = Content.model_validate(payload["content"])
        others: dict[str, Any] = dict(payload["saved"])
        others |= {name: store.read_frame(Digest.parse(version)) for name, version in payload["frames"].items()}
        saved = SavedModel(directory=store.fetch(Digest.parse(content.version)), **others)
        figures = payload["figures"]
        files = sorted(store.fetch(Digest.parse(figures)).iterdir()) if figures else []
        return cls(
            saved,
            content,
            payload["metrics"],
            payload["parameters"],
            {file.name.removesuffix(".png"): file.read_bytes() for file in files},
            {name: dict(values) for name, values in payload["history"].items()},
            payload["run_id"],
        )


def _by_step(values: Sequence[float] | Mapping[int, float]) -> dict[int, float]:
    steps = values.items() if isinstance(values, Mapping) else enumerate(values)
    return {int(step): float(value) for step, value in steps}
