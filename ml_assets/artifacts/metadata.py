"""The metadata of a materialization in the Dagster UI."""

import base64
import io
import json
import numbers
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.addresses import Addresses
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import (
    RECORD_METADATA,
    InputVersion,
    Observed,
    ProvenanceRecord,
    Source,
)
from ml_assets.resources.usage import Usage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "NOT_CONTAINERIZED",
    "describe_commit",
    "frame_metadata",
    "metadata_of",
    "model_metadata",
    "png",
    "table_metadata",
]

NOT_CONTAINERIZED = "not containerized"
_PREVIEW_ROWS = 5
_MOST_INPUTS = 100
_SIGNIFICANT_DIGITS = 6


def metadata_of(
    record: ProvenanceRecord, details: Mapping[str, Any] | None = None, addresses: Addresses | None = None
) -> dict[str, Any]:
    """Return the metadata of a record: the whole record, plus its most important fields as separate entries.

    Args:
        record: the materialization's provenance record.
        details: metadata of the artifact itself, such as metrics or a preview. The entries are placed after the
            artifact's identity and before its origin, and replace entries of the same name.
        addresses: addresses of the UIs to link to, if any.
    """
    details = details or {}
    entries = {**_identity(record, addresses or Addresses()), **details, **_making(record), **details}
    return {**entries, RECORD_METADATA: dg.MetadataValue.json(record.model_dump(mode="json"))}


def _identity(record: ProvenanceRecord, addresses: Addresses) -> dict[str, dg.MetadataValue[Any]]:
    entries: dict[str, dg.MetadataValue[Any]] = {
        "data version": dg.MetadataValue.text(record.data_version),
        "image": dg.MetadataValue.text(record.made_image or record.environment.image or NOT_CONTAINERIZED),
        "commit": _commit(record.source),
    }
    if record.mlflow is not None:
        url = record.mlflow.url
        entries["MLflow run"] = dg.MetadataValue.url(url) if url else dg.MetadataValue.text(record.mlflow.run_id)
        if reference := record.mlflow.registered_version:
            entries["registered model"] = dg.MetadataValue.text(reference)
            if page := addresses.model_version(reference):
                entries["registered model in MLflow"] = dg.MetadataValue.url(page)
    if page := addresses.trace(_most_exact(record)):
        entries["lineage"] = dg.MetadataValue.url(page)
    return entries


def _most_exact(record: ProvenanceRecord) -> str:
    """Return the most specific reference to the materialization that is known so far."""
    return record.mlflow.run_id if record.mlflow else record.made_image or record.data_version


def _making(record: ProvenanceRecord) -> dict[str, dg.MetadataValue[Any]]:
    entries: dict[str, dg.MetadataValue[Any]] = {}
    if record.parameters:
        entries["parameters"] = _table(
            ("parameter", "value"), [(name, _plain(value)) for name, value in record.parameters.items()]
        )
    if record.inputs:
        entries["inputs"] = _inputs(record.inputs)
    entries |= {
        "launched by": dg.MetadataValue.text(record.launch.described()),
        "reproducible": dg.MetadataValue.bool(record.reproducible),
    }
    if record.not_reproducible_because:
        entries["not reproducible because"] = dg.MetadataValue.text("; ".join(record.not_reproducible_because))
    entries |= {
        "code version": dg.MetadataValue.text(record.code_version),
        "environment": dg.MetadataValue.text(record.environment.environment_digest),
    }
    if record.observed is not None:
        entries |= _observed(record.observed)
    if record.content is not None:
        entries["size in bytes"] = dg.MetadataValue.int(record.content.size)
    return entries | (_usage(record.usage) if record.usage else {})


def _observed(observed: Observed) -> dict[str, dg.MetadataValue[Any]]:
    """Return what ran beyond what the code version covers, and what was not observed."""
    entries: dict[str, dg.MetadataValue[Any]] = {}
    if observed.uncovered:
        rows = [(item.name, item.digest or "unknown") for item in observed.uncovered]
        entries["not covered by the code version"] = _table(("code or file", "digest"), rows)
    if observed.unseen:
        entries["not observed"] = dg.MetadataValue.text("; ".join(observed.unseen))
    return entries


def _usage(usage: Usage) -> dict[str, dg.MetadataValue[Any]]:
    """Return the usage as numbers, which Dagster plots over time, and as a time breakdown."""
    numbers: dict[str, float | None] = {
        "compute seconds": usage.seconds.compute,
        "CPU seconds": usage.cpu_seconds,
        "memory in MiB": usage.memory_needed_bytes / 2**20,
        "cost": usage.cost,
    }
    if usage.gpus:
        numbers |= {
            "GPU utilization in percent": sum(gpu.utilization_mean for gpu in usage.gpus) / len(usage.gpus),
            "GPU memory in MiB": max(gpu.memory_peak_bytes for gpu in usage.gpus) / 2**20,
        }
    seconds = usage.seconds.model_dump(exclude_none=True)
    return {
        **{name: dg.MetadataValue.float(_rounded(value)) for name, value in numbers.items() if value is not None},
        "time spent": _table(("phase", "seconds"), [(name, f"{value:.3f}") for name, value in seconds.items()]),
    }


def describe_commit(commit: str | None, dirty: bool | None) -> str:
    """Return a readable commit, with ``+dirty`` if the checkout differed from it."""
    return f"{commit[:12]}{'+dirty' if dirty else ''}" if commit else "no commit"


def frame_metadata(frame: "pd.DataFrame") -> dict[str, Any]:
    """Return row count, column schema (columns with missing values are nullable) and first rows of a frame."""
    columns = [
        (str(name), str(kind), bool(frame.iloc[:, i].isna().any()))
        for i, (name, kind) in enumerate(frame.dtypes.items())
    ]
    head = frame.head(_PREVIEW_ROWS)
    head = head.set_axis([name for name, _, _ in columns], axis="columns")
    return table_metadata(len(frame), columns, head.to_dict(orient="records"))


def table_metadata(
    rows: int, columns: Sequence[tuple[str, str, bool]], head: Sequence[Mapping[Hashable, Any]]
) -> dict[str, Any]:
    """Return row count, column schema and first rows of a table.

    Args:
        rows: number of all rows.
        columns: name and type of each column, and True if it has missing values.
        head: first rows.
    """
    constraints = [dg.TableColumnConstraints(nullable=nullable) for _, _, nullable in columns]
    described = [
        dg.TableColumn(name, kind, constraints=each) for (name, kind, _), each in zip(columns, constraints, strict=True)
    ]
    records = [dg.TableRecord({str(name): _cell(value) for name, value in row.items()}) for row in head]
    plain = dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind, _ in columns])
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns=described),
        "preview": dg.MetadataValue.table(records, plain),
    }


def model_metadata(metrics: Mapping[str, float], figures: "Mapping[str, Figure | bytes]") -> dict[str, Any]:
    """Return a model's metrics, which Dagster plots, to six significant digits, and its figures as ``plot NAME``."""
    plots = {
        f"plot {name}": dg.MetadataValue.md(
            f"![{name}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})"
        )
        for name, figure in figures.items()
    }
    return {**{name: dg.MetadataValue.float(_rounded(value)) for name, value in metrics.items()}, **plots}


def png(figure: "Figure | bytes") -> bytes:
    """Return a figure as PNG, small enough for an event log."""
    if isinstance(figure, bytes):
        return figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()


def _commit(source: Source) -> dg.MetadataValue[Any]:
    page = source.repository_page
    if page and source.commit and not source.dirty:
        return dg.MetadataValue.url(f"{page}/commit/{source.commit}")
    return dg.MetadataValue.text(f"{source.commit}{'+dirty' if source.dirty else ''}" if source.commit else "no commit")


def _inputs(inputs: tuple[InputVersion, ...]) -> dg.MetadataValue[Any]:
    rows = [(str(AssetPartition(one.asset, one.partition)), one.data_version) for one in inputs[:_MOST_INPUTS]]
    if len(inputs) > _MOST_INPUTS:
        rows.append((f"{len(inputs) - _MOST_INPUTS} more in the provenance record", ""))
    return _table(("input", "data version"), rows)


def _table(columns: tuple[str, str], rows: list[tuple[str, str]]) -> dg.MetadataValue[Any]:
    # All columns are declared as text, so that the UI aligns them the same way.
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns])
    return dg.MetadataValue.table([dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows], schema)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _rounded(value: float) -> float:
    return float(f"{float(value):.{_SIGNIFICANT_DIGITS}g}")


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return None if number != number else number
    return str(value)
