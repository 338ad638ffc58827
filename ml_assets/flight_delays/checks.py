"""Checks of the reference pipeline's assets: schemas, model quality, and drift from month to month."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import dagster as dg
import pandas as pd

import ml_assets as ml
from ml_assets.flight_delays import schemas
from ml_assets.flight_delays.assets import delay_model, departures, flights, months, weather
from ml_assets.flight_delays.drift import DRIFTED, drift
from ml_assets.flight_delays.schemas import Violation, violations
from ml_assets.flight_delays.training import mean_error, unseen

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
"""Share of rows that may break a rule with only a warning. A larger share blocks downstream assets."""

WORSE = 0.02
"""Relative increase of a model's error over its predecessor's, on the same flights, above which the check warns."""

_Check = Callable[[Callable[..., dg.AssetCheckResult]], dg.AssetChecksDefinition]


# The parameters below have the names of the assets that they receive.
DEPARTURES, DELAY_MODEL = departures.key, delay_model.key


def _monthly(asset: dg.AssetsDefinition, *, blocking: bool = False, also: str | None = None) -> _Check:
    """Return a decorator for a check that runs with each month; ``also`` names another asset that it reads."""

    def decorate(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            # Partitioned checks are a preview in Dagster 1.13. A check without partitions would receive every month.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.asset_check(
                asset=asset,
                blocking=blocking,
                partitions_def=months,
                additional_ins={also: dg.AssetIn(also)} if also else None,
            )(function)

    return decorate


@_monthly(flights, blocking=True)
def flights_schema(flights: pd.DataFrame) -> dg.AssetCheckResult:
    """Flights have the published columns and types, plausible values, and no duplicates."""
    return judge_form(violations(flights, schemas.flights_schema()))


@_monthly(weather, blocking=True)
def weather_schema(weather: pd.DataFrame) -> dg.AssetCheckResult:
    """The weather has the published columns and types, plausible values, and each airport and hour only once."""
    return judge_form(violations(weather, schemas.weather_schema()))


@_monthly(departures, blocking=True)
def departures_schema(departures: pd.DataFrame) -> dg.AssetCheckResult:
    """Departures have all features in their ranges, no duplicates, and a moment of prediction before departure."""
    return judge_form(violations(departures, schemas.departures_schema()))


@_monthly(departures)
def departures_drift(
    context: dg.AssetCheckExecutionContext,
    departures: pd.DataFrame,
    ml_assets_storage: dg.ResourceParam[ml.ArtifactStorage],
) -> dg.AssetCheckResult:
    """The features have the same distribution as in the previous month."""
    previous = _previous(context, DEPARTURES)
    return judge_drift(drift(ml_assets_storage.read(previous, pd.DataFrame), departures) if previous else {})


@_monthly(delay_model, blocking=True, also="departures")
def model_quality(
    context: dg.AssetCheckExecutionContext,
    delay_model: ml.TrainedModel,
    departures: pd.DataFrame,
    ml_assets_storage: dg.ResourceParam[ml.ArtifactStorage],
) -> dg.AssetCheckResult:
    """The model is better than the baseline, and not worse than the previous month's version on the same flights."""
    judged = unseen(delay_model, departures)
    previous = _previous(context, DELAY_MODEL)
    skill = ml.latest_versions(context.instance, DELAY_MODEL, [context.partition_key])[0].metadata["skill"]
    return judge_quality(
        skill,
        mean_error(delay_model, judged),
        mean_error(ml_assets_storage.read(previous, ml.TrainedModel), judged) if previous else None,
    )


def judge_form(found: Sequence[Violation]) -> dg.AssetCheckResult:
    """Pass without violations, warn if their shares are within `TOLERATED`, and fail otherwise."""
    grave = any(violation.share > TOLERATED for violation in found)
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR if grave else dg.AssetCheckSeverity.WARN,
        description="; ".join(violation.message for violation in found) or "the schema holds",
        metadata={"violations": len(found)},
    )


def judge_drift(indices: Mapping[str, float]) -> dg.AssetCheckResult:
    """Warn about features whose stability index reaches `DRIFTED`.

    Args:
        indices: stability index by feature; empty if there is no previous month.
    """
    drifted = [f"{name} ({index:.2f})" for name, index in indices.items() if index >= DRIFTED]
    return dg.AssetCheckResult(
        passed=not drifted,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"stability index of {DRIFTED} or more: {', '.join(drifted)}"
            if drifted
            else "same distribution as in the previous month"
            if indices
            else "no previous month to compare with"
        ),
        metadata={name: dg.MetadataValue.float(index) for name, index in indices.items()},
    )


def judge_quality(skill: float, error: float, previous_error: float | None) -> dg.AssetCheckResult:
    """Fail a model that is not better than the baseline; warn if it is worse than its predecessor by `WORSE`.

    Args:
        skill: share of the baseline's mean absolute error that the model saves.
        error: the model's mean absolute error, in minutes.
        previous_error: the predecessor's mean absolute error on the same flights; None if there is no predecessor.
    """
    useless = skill <= 0
    worse = previous_error is not None and error > previous_error * (1 + WORSE)
    compared = "no previous version" if previous_error is None else f"previous version: {previous_error:.2f}"
    metadata = {"skill": round(skill, 4), "mean error": round(error, 2)}
    return dg.AssetCheckResult(
        passed=not (useless or worse),
        severity=dg.AssetCheckSeverity.ERROR if useless else dg.AssetCheckSeverity.WARN,
        description=f"mean error {error:.2f} minutes ({compared}), {skill:.1%} below the baseline's error",
        metadata=metadata
        if previous_error is None
        else {**metadata, "mean error of the version before": round(previous_error, 2)},
    )


def _previous(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> ml.ResolvedInput | None:
    """Return the asset's previous partition, if it has been materialized."""
    partitions = months.get_partition_keys()
    place = partitions.index(context.partition_key)
    if place == 0:
        return None
    (found,) = ml.latest_versions(context.instance, asset, [partitions[place - 1]])
    return found if found.event else None
