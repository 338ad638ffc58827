"""Settings of the reference pipeline."""

import ml_assets as ml

__all__ = ["FlightDelaySettings"]


class FlightDelaySettings(ml.Section, table="flight_delays"):
    """The section ``[flight_delays]`` of ``settings.toml``."""

    landing: str | None = None
    """Directory in which months arrive as ``flights-YYYY-MM.csv``; None reads the package's whole year."""
    nightly: str = "15 3 * * *"
    """Cron expression of the nightly training, in New York's time zone.

    03:15 exists exactly once on every day, even when the clock changes (at 02:00)."""
