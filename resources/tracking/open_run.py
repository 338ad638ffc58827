"""The open MLflow run of a step, and the values it records."""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ml_assets.resources.errors import TrackingError
from ml_assets.resources.identity import AssetPartition, Digest
from ml_assets.resources.models.flavors import SavedModel, log_model
from ml_assets.resources.provenance import InputVersion, MlflowRun
from ml_assets.resources.tracking.patience import Patience

__all__ = ["DESCRIPTION_TAG", "PROVENANCE_FILE", "TrackedRun", "png"]

DESCRIPTION_TAG = "mlflow.note.content"
"""MLflow's own tag of a run's description."""

# Limits of MLflow's stores (mlflow.utils.validation).
_PARAMETERS_PER_BATCH = 100
_PARAMETER_NAME_LENGTH = 250
_PARAMETER_LENGTH = 6000
_BATCH_CHARACTERS = 500_000
_METRICS_PER_BATCH = 1000
_INPUTS_PER_BATCH = 500
_DATASET_DIGEST_LENGTH = 36
_DATASET_NAME_LENGTH = 500

PROVENANCE_FILE = "provenance.json"
_PARAMETERS_FILE = "parameters.json"
_TAG_PREFIX = "ml_assets."


@dataclass(frozen=True)
class TrackedRun:
    """An open MLflow run. Every method raises `TrackingError` if the store rejects a value."""

    client: Any
    """MLflow's client of the store."""
    identity: MlflowRun
    tags: dict[str, str]
    """Tags of the run; its models get the same tags."""
    patience: Patience
    parameters: dict[str, Any] = field(default_factory=dict)
    left_open: dict[str, str] = field(default_factory=dict)
    """Ids of the runs that the step's function left open, and the URI of their store."""

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return self.patience.uri

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Add tags, or replace tags of the same name."""
        from mlflow.entities import RunTag

        for batch in _slices([RunTag(name, value) for name, value in tags.items()], _PARAMETERS_PER_BATCH):
            self._log(tags=batch)
        self.tags.update(tags)

    def describe(self, text: str) -> None:
        """Set the run's description, in Markdown; its models' registered versions get it too."""
        self.set_tags({DESCRIPTION_TAG: text})

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings become dotted names. May be called repeatedly.

        The artifact ``parameters.json`` holds all parameters in full, including those that MLflow cannot store: long
        values, unusual names, a second value for a name (also one from MLflow's own functions). These raise no error.
        """
        from mlflow.entities import Param

        self.parameters.update(parameters)
        written = {name: _text(value) for name, value in _flattened(parameters)}
        fitting = {_parameter_name(name): _cut(value) for name, value in written.items()}
        run_id = self.identity.run_id
        recorded = self._repeat(lambda: self.client.get_run(run_id).data.params)
        kept = {name: value for name, value in fitting.items() if recorded.get(name, value) == value}
        if kept != written:
            whole = json.dumps(self.parameters, default=str, indent=1)
            self._repeat(lambda: self.client.log_text(run_id, whole, _PARAMETERS_FILE))
        for batch in _parameter_batches(kept):
            self._log(params=[Param(*pair) for pair in batch])

    def log_metrics(
        self, metrics: Mapping[str, float], history: Mapping[str, Sequence[float] | Mapping[int, float]] | None = None
    ) -> None:
        """Record the values of metrics.

        Args:
            metrics: final values by name.
            history: values by step of each metric that has several. A final value counts for the last step.
        """
        from mlflow.entities import Metric

        now, entries, last = int(time.time() * 1000), [], {}
        for name, values in (history or {}).items():
            steps = dict(values) if isinstance(values, Mapping) else dict(enumerate(values))
            entries += [Metric(name, float(value), now, int(step)) for step, value in steps.items()]
            last[name] = int(max(steps, default=0))
        # Of several values for the last step, MLflow shows the latest.
        entries += [Metric(name, float(value), now + 1, last.get(name, 0)) for name, value in metrics.items()]
        for batch in _slices(entries, _METRICS_PER_BATCH):
            self._log(metrics=batch)

    def log_inputs(self, inputs: Sequence[InputVersion]) -> None:
        """Record the input versions as MLflow datasets named ``asset@partition``.

        MLflow's digest is the data version, truncated to fit; the dataset's source and tags hold it in full.
        """
        entries = {(item.asset, item.partition, item.data_version): item for item in inputs}
        for batch in _slices([_dataset_input(item) for item in entries.values()], _INPUTS_PER_BATCH):
            self._repeat(partial(self.client.log_inputs, self.identity.run_id, datasets=batch))

    def log_provenance(self, statement: Mapping[str, Any]) -> None:
        """Record the provenance, an in-toto statement, as the artifact ``provenance.json``."""
        text = json.dumps(statement, default=str, indent=1)
        self._repeat(lambda: self.client.log_text(self.identity.run_id, text, PROVENANCE_FILE))

    def log_figures(self, figures: Mapping[str, Any]) -> None:
        """Record figures, each a Matplotlib figure or the bytes of a PNG, as artifacts ``figures/NAME.png``."""
        with TemporaryDirectory() as folder:
            for name, figure in figures.items():
                (Path(folder) / f"{name}.png").write_bytes(png(figure))
            self._repeat(lambda: self.client.log_artifacts(self.identity.run_id, folder, "figures"))

    def log_model(self, saved: SavedModel, registered_name: str | None) -> tuple[str | None, str | None]:
        """Record the model, and register a version of it with this run's tags.

        Tag the run with the data version first, so that the version gets this tag.

        Args:
            saved: result of `ml_assets.resources.models.flavors.save_model`.
            registered_name: name in the model registry; None registers nothing.

        Returns:
            Registered name and version, or None twice.
        """
        tags = {name: value for name, value in self.tags.items() if name.startswith(_TAG_PREFIX)}
        run_id = self.identity.run_id
        model_id = self._repeat(lambda: log_model(saved, run_id=run_id, name="model", tags=tags))
        if registered_name is None:
            return None, None
        return registered_name, self._repeat(lambda: self._register(registered_name, model_id, tags))

    def end(self, status: str) -> None:
        """End the run, whatever MLflow's own functions have made of its status."""
        self._repeat(lambda: self.client.set_terminated(self.identity.run_id, status))

    def _register(self, name: str, model_id: str, tags: dict[str, str]) -> str:
        """Register a version by the run's own client; ``mlflow.register_model`` uses the registry that is set."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # An earlier try may have registered it although its answer was lost.
        source, run_id = f"models:/{model_id}", self.identity.run_id
        found = [each for each in self.client.search_model_versions(f"run_id = '{run_id}'") if each.source == source]
        version = next((each for each in found if each.name == name), None) or self.client.create_model_version(
            name, source, run_id, tags=tags, model_id=model_id
        )
        if text := self.tags.get(DESCRIPTION_TAG):
            self.client.update_model_version(name, version.version, text)
        return str(version.version)

    def _log(self, **values: Any) -> None:
        self._repeat(lambda: self.client.log_batch(self.identity.run_id, **values))

    def _repeat(self, operation: Callable[[], Any]) -> Any:
        return self.patience.repeat(operation)


def _slices(entries: list[Any], size: int) -> Iterator[list[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _flattened(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else str(value)


def _cut(value: str) -> str:
    return value if len(value) <= _PARAMETER_LENGTH else value[: _PARAMETER_LENGTH - 1] + "…"


def _parameter_name(name: str) -> str:
    """Return the name in the characters and length that MLflow accepts; a changed name ends in its digest."""
    plain = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)
    if plain == name and len(name) <= _PARAMETER_NAME_LENGTH:
        return name
    return f"{plain[: _PARAMETER_NAME_LENGTH - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


def _parameter_batches(parameters: dict[str, str]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for pair in parameters.items():
        length = len(json.dumps(pair))
        if batch and (len(batch) == _PARAMETERS_PER_BATCH or size + length > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += length
    if batch:
        yield batch


def _dataset_input(item: InputVersion) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    # MLflow keeps the first source of a name and digest, so the source names only the version. Details that differ
    # from one use to the next are in the tags.
    source = {"asset": item.asset, "partition": item.partition, "data_version": item.data_version}
    tags = {
        MLFLOW_DATASET_CONTEXT: "input" if item.loaded else "dependency",
        "ml_assets.data_version": item.data_version,
        "ml_assets.storage_id": item.storage_id,
        "ml_assets.dagster_run": item.run_id,
    }
    dataset = Dataset(
        name=str(AssetPartition(item.asset, item.partition))[:_DATASET_NAME_LENGTH],
        digest=_dataset_digest(item.data_version),
        source_type="dagster",
        source=json.dumps(source),
    )
    return DatasetInput(dataset, [InputTag(name, str(value)) for name, value in tags.items() if value is not None])


def _dataset_digest(data_version: str) -> str:
    try:
        return Digest.parse(data_version).hex[:_DATASET_DIGEST_LENGTH]
    except ValueError:
        if 0 < len(data_version) <= _DATASET_DIGEST_LENGTH:
            return data_version
        return sha256(data_version.encode()).hexdigest()[:_DATASET_DIGEST_LENGTH]


def png(figure: Any) -> bytes:
    """Return a Matplotlib figure as a PNG file; such a file is returned as it is."""
    if isinstance(figure, bytes):
        return figure
    if not hasattr(figure, "savefig"):
        raise TrackingError(
            f"a figure must be a Matplotlib figure or the bytes of a PNG, not {type(figure).__name__}",
            next_step="return one of these",
        )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
