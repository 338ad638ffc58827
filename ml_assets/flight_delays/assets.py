"""The assets of the reference pipeline, with one partition per month."""

import dagster as dg
import pandas as pd

import ml_assets as ml
from ml_assets.flight_delays.features import NEW_YORK, departure_features
from ml_assets.flight_delays.source import FlightSource
from ml_assets.flight_delays.training import TrainConfig, predict, train

__all__ = [
    "GROUP",
    "builder_image",
    "delay_model",
    "departures",
    "flights",
    "month_of",
    "months",
    "predictions",
    "serve_image",
    "train_cuda_image",
    "train_image",
    "weather",
]

GROUP = "flight_delays"

months = dg.MonthlyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01", timezone=NEW_YORK)

_PROJECT = ("pyproject.toml", "README.md", "LICENSE", "deployments", "resources", "ml_assets")

train_image = ml.container_image("train", dockerfile="Dockerfile.train", sources=_PROJECT)
# XGBoost's GPU runtime takes half a gigabyte, so CPU images omit it. [placement] in the settings selects this image.
train_cuda_image = ml.container_image(
    "train_cuda", dockerfile="Dockerfile.train", arguments={"ACCELERATOR": "cuda"}, sources=_PROJECT
)
builder_image = ml.container_image(
    "builder",
    dockerfile="Dockerfile.train",
    target="builder",
    sources=(*_PROJECT, "Dockerfile.train", "Dockerfile.serve", ".dockerignore", "uv.lock", "images.lock"),
)
serve_image = ml.container_image(
    "serve",
    dockerfile="Dockerfile.serve",
    sources=(
        "LICENSE",
        "resources/__init__.py",
        "resources/errors.py",
        "resources/identity.py",
        "resources/machine/__init__.py",
        "resources/machine/limits.py",
        "resources/tracking/__init__.py",
        "resources/tracking/tags.py",
        "ml_assets/__init__.py",
        "ml_assets/serving",
    ),
)


def month_of(partition: str) -> str:
    """Return the month of a partition, as ``YYYY-MM``."""
    return partition[:7]


@ml.dataset(image=train_image, pool="cpu", partitions_def=months, group_name=GROUP)
def flights(context: dg.AssetExecutionContext, flight_source: FlightSource) -> pd.DataFrame:
    """Every flight that was scheduled to leave New York in the month, with its outcome.

    Delays are measured from these records. They include cancelled flights, which have no outcome.
    """
    return flight_source.flights(month_of(context.partition_key))


@ml.dataset(image=train_image, pool="cpu", partitions_def=months, group_name=GROUP)
def weather(context: dg.AssetExecutionContext, flight_source: FlightSource) -> pd.DataFrame:
    """The weather at the three airports in every hour of the month, as their stations reported it.

    Wind, rain and fog are common causes of delays.
    """
    return flight_source.weather(month_of(context.partition_key))


@ml.feature_set(image=train_image, pool="cpu", partitions_def=months, group_name=GROUP)
def departures(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """The facts known about each departure two hours before its schedule, and its delay.

    Models are trained on this table and predict from it. Its features are available in time to warn passengers.
    """
    return departure_features(flights, weather)


@ml.model(
    image=train_image,
    pool="gpu",
    registered_name="flight-delay",
    partitions_def=months,
    window={"departures": 4},
    group_name=GROUP,
)
def delay_model(context: dg.AssetExecutionContext, departures: pd.DataFrame, config: TrainConfig) -> ml.TrainedModel:
    """A model of the departure delay in minutes, trained on the three months before its partition.

    It is retrained every night, so that gate staff and passengers get predictions from recent data. It is evaluated on
    the month of its partition, which it has not seen, against the median of the same carrier, airport and hour.
    """
    return train(departures, month_of(context.partition_key), config)


@ml.dataset(image=train_image, pool="cpu", partitions_def=months, group_name=GROUP)
def predictions(delay_model: ml.TrainedModel, departures: pd.DataFrame) -> pd.DataFrame:
    """The predicted and the actual delay of every flight of the month that the model had not seen.

    These are the predictions that a planner would have received at the time. Reports use them to show their accuracy.
    """
    return predict(delay_model, departures)
