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
    """

    name: str
    ours: float
    theirs: float
    unit: str

    @classmethod
    def of_medians(cls, name: str, pairs: Sequence[Sequence[float]], unit: str) -> Self:
        """Of rounds that measured ours and theirs, in this order."""
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        return cls(name, ours, theirs, unit)

    @property
    def ratio(self) -> float:
        """How many times better ours is: theirs divided by ours."""
        return self.theirs / self.ours


def write(bench_name: str, measurements: Sequence[Measurement], folder: Path = _FOLDER) -> Path:
    """Print a table and write the same to ``build/bench/NAME.json``; returns the file's path."""
    table = Table(title=bench_name)
    table.add_column("what")
    for column in ("ours", "theirs", "theirs / ours"):
        table.add_column(column, justify="right")
    for measurement in measurements:
        figures = (f"{value:,.2f} {measurement.unit}" for value in (measurement.ours, measurement.theirs))
        table.add_row(measurement.name, *figures, f"{measurement.ratio:,.2f}")
    Console().print(table)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{bench_name}.json"
    entries = [asdict(measurement) | {"ratio": measurement.ratio} for measurement in measurements]
    file.write_text(json.dumps(entries, indent=2) + "\n")
    return file
