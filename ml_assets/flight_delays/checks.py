"""What must hold of the reference pipeline's assets: of their form, of a model's quality, and from month to month."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from ml_assets.flight_delays import schemas
from ml_assets.flight_delays.assets import delay_model, departures, flights, months, weather
from ml_assets.flight_delays.drift import DRIFTED, drift
from ml_assets.flight_delays.schemas import Violation, violations
from ml_assets.flight_delays.training import predict
from ml_assets.inputs import ResolvedInput, resolve
from ml_assets.storage import ArtifactStorage
from ml_assets.trained_model import TrainedModel

__all__ = [
    "TOLERATED",
    "WORSE",
    "departures_drift",
    "departures_schema",
    "flights_schema",
    "judge_drift",
    "judge_form",
    "judge_quality",
    "model_quality",
    "weather_schema",
]

TOLERATED = 0.001
"""Share of rows that may break a rule with a warning; more stops what is downstream."""

WORSE = 0.02
"""How much larger a model's error may be than its predecessor's on the same flights before it is worth a warning."""

Check = Callable[[Callable[..., dg.AssetCheckResult]], dg.AssetChecksDefinition]


def _monthly(asset: dg.AssetsDefinition, *, blocking: bool = False) -> Check:
    """A check that runs with each month and is recorded for it."""

    def decorate(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            # Partitioned checks are a preview in Dagster 1.13; a check without partitions would be given every month.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.asset_check(asset=asset, blocking=blocking, partitions_def=months)(function)

    return decorate


@_monthly(flights, blocking=True)
def flights_schema(flights: pd.DataFrame) -> dg.AssetCheckResult:
    """Flights have the published columns, types and sensible values, each once."""
    return judge_form(violations(flights, schemas.flights_schema()))


@_monthly(weather, blocking=True)
def weather_schema(weather: pd.DataFrame) -> dg.AssetCheckResult:
    """The weather has the published columns, types and sensible values, each airport and hour once."""
    return judge_form(violations(weather, schemas.weather_schema()))


@_monthly(departures, blocking=True)
def departures_schema(departures: pd.DataFrame) -> dg.AssetCheckResult:
    """Departures have all features in their ranges, each flight once, with the moment before the departure."""
    return judge_form(violations(departures, schemas.departures_schema()))


@_monthly(departures)
def departures_drift(
    context: dg.AssetCheckExecutionContext, departures: pd.DataFrame, artifacts: ArtifactStorage
) -> dg.AssetCheckResult:
    """The features are distributed as in the month before."""
    previous = _previous(context)
    return judge_drift(drift(artifacts.read(previous, pd.DataFrame), departures) if previous else {})
