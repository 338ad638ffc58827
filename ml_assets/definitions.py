"""The code location of the reference pipeline."""

import dagster as dg

from ml_assets.target import Target

__all__ = ["defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The reference pipeline on the target that the environment names."""
    from ml_assets.flight_delays.definitions import flight_delays

    target = Target.from_environment()
    settings = target.settings
    landing = settings.flight_delays.landing
    return target.bind(flight_delays(settings.flight_delays.nightly, settings.path(landing) if landing else None))
