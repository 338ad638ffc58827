"""The code location of the reference pipeline."""

import dagster as dg

__all__ = ["defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """Return the reference pipeline, bound to the target that the environment names."""
    from ml_assets.flight_delays.definitions import flight_delays_on_target

    return flight_delays_on_target()
