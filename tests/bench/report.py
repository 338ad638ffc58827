"""Output of measurements: a printed table and a JSON file."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

__all__ = ["Measurement", "write"]

_FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Measurement:
    """One task, measured for this project and for an alternative in the same run.

    For both figures less is better, such as seconds or bytes.

    Attributes:
        at_most: promised limit of our figure; None if there is none.
        times: promised factor by which ours is better; None if there is none.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    at_most: float | None = None
    times: float | None = None

    @classmethod
    def of_medians(cls, name: str, pairs: Sequence[Sequence[float]], unit: str) -> Self:
        """Return the medians of rounds, each of which measured ours and then theirs."""
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        return cls(name, ours, theirs, unit)

    @property
    def ratio(self) -> float:
        """Factor by which ours is better: theirs divided by ours."""
        return self.theirs / self.ours

    @property
    def verdict(self) -> str:
        """Result of the comparison with the promise; empty if nothing is promised."""
        if self.at_most is None and self.times is None:
            return ""
        promised = f"< {self.at_most:g} {self.unit}" if self.at_most is not None else f"{self.times:g} times better"
        kept = (self.at_most is None or self.ours < self.at_most) and (self.times is None or self.ratio >= self.times)
        return f"{promised}: {'kept' if kept else 'BROKEN'}"


def write(bench_name: str, measurements: Sequence[Measurement], folder: Path = _FOLDER) -> Path:
    """Print a table, write it to ``build/bench/NAME.json`` and return the file's path."""
    table = Table(title=bench_name)
    table.add_column("what")
    for column in ("ours", "theirs", "theirs / ours", "promised"):
        table.add_column(column, justify="right", no_wrap=True)
    for measurement in measurements:
        figures = (f"{value:,.2f} {measurement.unit}" for value in (measurement.ours, measurement.theirs))
        table.add_row(measurement.name, *figures, f"{measurement.ratio:,.2f}", measurement.verdict)
    Console().print(table)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{bench_name}.json"
    entries = [
        asdict(measurement) | {"ratio": measurement.ratio, "verdict": measurement.verdict}
        for measurement in measurements
    ]
    file.write_text(json.dumps(entries, indent=2) + "\n")
    return file
