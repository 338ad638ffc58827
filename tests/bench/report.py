"""How measurements are printed and kept."""

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
    """One thing, done by this project and by what people would use instead, in the same run.

    Both figures are of a kind where less is better: seconds, bytes.

    Attributes:
        at_most: what is promised of ours; None if nothing is.
        times: how many times better than theirs is promised; None if nothing is.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    at_most: float | None = None
    times: float | None = None

    @classmethod
    def of_medians(cls, name: str, pairs: Sequence[Sequence[float]], unit: str) -> Self:
        """Of rounds that measured ours and theirs, in this order."""
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        return cls(name, ours, theirs, unit)

    @property
    def ratio(self) -> float:
        """How many times better ours is: theirs divided by ours."""
        return self.theirs / self.ours

    @property
    def verdict(self) -> str:
        """Whether what is promised was kept; empty where nothing is."""
        if self.at_most is None and self.times is None:
            return ""
        promised = f"< {self.at_most:g} {self.unit}" if self.at_most is not None else f"{self.times:g} times better"
        kept = (self.at_most is None or self.ours < self.at_most) and (self.times is None or self.ratio >= self.times)
        return f"{promised}: {'kept' if kept else 'BROKEN'}"


def write(bench_name: str, measurements: Sequence[Measurement], folder: Path = _FOLDER) -> Path:
    """Print a table and write the same to ``build/bench/NAME.json``; returns the file's path."""
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
