"""A program that materializes a zoo of partitionings and a small month of the reference pipeline.

Run as ``python -m tests.deterministic FOLDER [models]``, it prints each data version as JSON. The versions depend on
the data alone, so they are equal whatever the hash seed, time zone, locale and number of threads of the process.
"""

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

import ml_assets as ml
from ml_assets.addresses import Addresses
from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.provenance import record_of
from ml_assets.resources.tracking.runs import MlflowTracking

DAYS = dg.DailyPartitionsDefinition(start_date="2024-03-30", end_date="2024-04-01", timezone="Europe/Berlin")
REGIONS = dg.StaticPartitionsDefinition(["us", "eu", "asia"])
CUSTOMERS = dg.DynamicPartitionsDefinition(name="customers")
NAMES = ["zoe", "anna", "bo"]
BOTH = dg.MultiPartitionsDefinition({"region": REGIONS, "day": DAYS})


def _rows(partition: str) -> pd.DataFrame:
    names = sorted({f"{partition}-{letter}" for letter in "häß"})
    times = pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Berlin")
    return pd.DataFrame({"name": names, "kind": pd.Categorical(names), "time": times})


@ml.dataset(partitions_def=BOTH)
def both(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return _rows(context.partition_key)


@ml.dataset(partitions_def=REGIONS)
def region(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return _rows(context.partition_key)


@ml.dataset(partitions_def=CUSTOMERS)
def customer(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return _rows(context.partition_key)


@ml.feature_set(partitions_def=DAYS)
def of_day(both: pd.DataFrame) -> pd.DataFrame:
    return both


@ml.feature_set(partitions_def=REGIONS)
def of_region(both: pd.DataFrame, region: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([both, region])


@ml.feature_set()
def of_all(both: pd.DataFrame, region: pd.DataFrame, customer: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([both, region, *customer.values()])


@ml.dataset()
def folder(of_all: pd.DataFrame) -> Path:
    place = Path("folder")
    place.mkdir()
    for name in {"b", "a", "ä", "B"}:
        (place / name).write_text(f"{len(of_all)}\n")
    return place


@ml.model(registered_name="small")
def small(of_all: pd.DataFrame) -> ml.TrainedModel:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows = of_all[["name"]].astype(str)
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["name"]))
    estimator = make_pipeline(encoder, LogisticRegression())
    return ml.TrainedModel(estimator.fit(rows, [number % 2 for number in range(len(rows))]), rows, {"mae": 0.0})


ZOO: list[Any] = [both, region, customer, of_day, of_region, of_all, folder, small]


def main(place: Path, models: bool) -> None:
    """Materialize in a folder and print the data versions by asset and partition.

    Args:
        place: the folder.
        models: True to include the models, whose libraries take most of the time.
    """
    storage = ArtifactStorage(
        store=DvcStore(remote=str(place / "remote"), cache=str(place / "cache")),
        tracking=MlflowTracking(tracking_uri=f"sqlite:///{place}/mlflow/mlflow.db", experiment="tests"),
        image_builder=InterpreterEnvironment(Path(__file__).parents[1]),
        target="local",
        addresses=Addresses(),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("customers", NAMES)
        for asset in ZOO if models else ZOO[:-1]:
            definition = asset.partitions_def
            keys = definition.get_partition_keys(dynamic_partitions_store=instance) if definition else [None]
            for key in keys:
                dg.materialize(
                    ZOO, selection=[asset], partition_key=key, instance=instance, resources={STORAGE_KEY: storage}
                )
        print(json.dumps({**_versions(instance), **(_reference(storage) if models else {})}, sort_keys=True))


def _versions(instance: dg.DagsterInstance) -> dict[str, str]:
    found = {}
    for asset in ZOO:
        for event in instance.fetch_materializations(asset.key, limit=100).records:
            record = record_of(event.asset_materialization.metadata)  # type: ignore[union-attr]
            found[str(AssetPartition(record.asset, record.partition))] = record.data_version
    return found


def _reference(storage: ArtifactStorage) -> dict[str, str]:
    """Return the versions of three days of the reference pipeline, whose functions are called directly."""
    from ml_assets.flight_delays.features import departure_features
    from ml_assets.flight_delays.source import read_flights, read_weather
    from ml_assets.flight_delays.training import TARGET, TrainConfig, fit, predictors
    from ml_assets.resources.models.flavors import save_model

    flights, weather = read_flights("2013-01").head(2500), read_weather("2013-01").head(600)
    departures = departure_features(flights, weather)
    left = departures[departures[TARGET].notna()]
    fitted = fit(left, TrainConfig(n_estimators=5))
    saved = save_model(fitted, Path("model"), input_example=predictors(left).head(100))
    frames = {"flights": flights, "weather": weather, "departures": departures}
    versions = {name: storage.store.put_frame(frame).version for name, frame in frames.items()}
    return {**versions, "delay_model": storage.store.put(saved.directory).version}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["models"])
