"""How measurements are printed and kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
