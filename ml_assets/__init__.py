"""Dagster plugins for containerized machine learning.

This package exports all names that a project needs. Each is imported on first use::

    import ml_assets as ml


    @ml.dataset
    def flights() -> pd.DataFrame: ...


    @dg.definitions
    def defs() -> dg.Definitions:
        return ml.on_target(dg.Definitions(assets=[flights]))

- kinds of artifact: `dataset`, `feature_set`, `model` (of a `TrainedModel`), `container_image`, `tracked_dataset`
- other model libraries: `Flavor`, and `ScikitLearn` for estimators of one's own
- storage of a type of one's own: `Format`, tested by `ml_assets.testing.FormatTests`
- several artifacts from one function: `multi_asset`
- the kinds as Dagster components, for YAML: `Dataset`, `FeatureSet`, `Model`, `ContainerImage`
- placement of other assets and ops: `runs_in`
- automation: `on_new_data`, `ignoring_images`, `tracked_dataset_sensor`
- deployment: `on_target`, `Target`, `Section`
- recorded results: `ArtifactStorage`, `latest_versions`, `ResolvedInput`, `Lineage`, `ProvenanceRecord`, `record_of`
- errors: `MlAssetsError`, the base class of all others; authors raise `InputError` and `SettingsError`
"""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.artifacts.formats.interface import Format
    from ml_assets.artifacts.inputs import ResolvedInput, latest_versions
    from ml_assets.artifacts.io_manager import ArtifactStorage
    from ml_assets.artifacts.trained_model import TrainedModel
    from ml_assets.automation import ignoring_images, on_new_data
    from ml_assets.components.container_image import ContainerImage
    from ml_assets.components.dataset import Dataset
    from ml_assets.components.feature_set import FeatureSet
    from ml_assets.components.model import Model
    from ml_assets.containers import runs_in
    from ml_assets.datasets import dataset
    from ml_assets.features import feature_set
    from ml_assets.images import container_image
    from ml_assets.lineage import Lineage
    from ml_assets.models import model
    from ml_assets.multi import multi_asset
    from ml_assets.resources.errors import InputError, MlAssetsError, SettingsError
    from ml_assets.resources.models.interface import Flavor
    from ml_assets.resources.models.sklearn import ScikitLearn
    from ml_assets.resources.provenance import ProvenanceRecord, record_of
    from ml_assets.resources.sections import Section
    from ml_assets.target import Target, on_target
    from ml_assets.tracked import tracked_dataset, tracked_dataset_sensor

__all__ = [
    "ArtifactStorage",
    "ContainerImage",
    "Dataset",
    "FeatureSet",
    "Flavor",
    "Format",
    "InputError",
    "Lineage",
    "MlAssetsError",
    "Model",
    "ProvenanceRecord",
    "ResolvedInput",
    "ScikitLearn",
    "Section",
    "SettingsError",
    "Target",
    "TrainedModel",
    "container_image",
    "dataset",
    "feature_set",
    "ignoring_images",
    "latest_versions",
    "model",
    "multi_asset",
    "on_new_data",
    "on_target",
    "record_of",
    "runs_in",
    "tracked_dataset",
    "tracked_dataset_sensor",
]

_MODULES = {
    "ArtifactStorage": "artifacts.io_manager",
    "ContainerImage": "components.container_image",
    "Dataset": "components.dataset",
    "FeatureSet": "components.feature_set",
    "Flavor": "resources.models.interface",
    "Format": "artifacts.formats.interface",
    "InputError": "resources.errors",
    "Lineage": "lineage",
    "MlAssetsError": "resources.errors",
    "Model": "components.model",
    "ProvenanceRecord": "resources.provenance",
    "ResolvedInput": "artifacts.inputs",
    "ScikitLearn": "resources.models.sklearn",
    "Section": "resources.sections",
    "SettingsError": "resources.errors",
    "Target": "target",
    "TrainedModel": "artifacts.trained_model",
    "container_image": "images",
    "dataset": "datasets",
    "feature_set": "features",
    "ignoring_images": "automation",
    "model": "models",
    "multi_asset": "multi",
    "on_new_data": "automation",
    "on_target": "target",
    "record_of": "resources.provenance",
    "latest_versions": "artifacts.inputs",
    "runs_in": "containers",
    "tracked_dataset": "tracked",
    "tracked_dataset_sensor": "tracked",
}
"""The module of each public name. The model server imports this package without most dependencies of these modules."""


if importlib.util.find_spec("antlr4"):  # not in the image of the model server
    from ml_assets.antlr import read_newer_tables

    read_newer_tables()

if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
