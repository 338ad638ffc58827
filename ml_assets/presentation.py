"""What an analyst sees of a materialization in the Dagster UI."""

import base64
import io
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.provenance import RECORD_METADATA, ProvenanceRecord, Source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["NOT_CONTAINERIZED", "describe_commit", "frame_metadata", "model_metadata", "png", "shown"]

NOT_CONTAINERIZED = "not containerized"
_PREVIEW_ROWS = 5


def shown(record: ProvenanceRecord) -> dict[str, dg.MetadataValue[Any]]:
    """The record, and those of its fields that people look for, each where it can be seen."""
    entries: dict[str, dg.MetadataValue[Any]] = {
        RECORD_METADATA: dg.MetadataValue.json(record.model_dump(mode="json")),
        "data version": dg.MetadataValue.text(record.data_version),
        "image": dg.MetadataValue.text(record.made_image or record.environment.image or NOT_CONTAINERIZED),
        "environment": dg.MetadataValue.text(record.environment.environment_digest),
        "commit": _commit(record.source),
        "code version": dg.MetadataValue.text(record.code_version),
        "launched by": dg.MetadataValue.text(_launched_by(record)),
        "reproducible": dg.MetadataValue.bool(record.reproducible),
    }
    if record.not_reproducible_because:
        entries["not reproducible because"] = dg.MetadataValue.text("; ".join(record.not_reproducible_because))
    if record.parameters:
        entries["parameters"] = dg.MetadataValue.json(record.parameters)
    if record.content is not None:
        entries["size in bytes"] = dg.MetadataValue.int(record.content.size)
    if record.mlflow is not None:
        url = record.mlflow.url
        entries["MLflow run"] = dg.MetadataValue.url(url) if url else dg.MetadataValue.text(record.mlflow.run_id)
        if record.mlflow.registered_model:
            reference = f"models:/{record.mlflow.registered_model}/{record.mlflow.model_version}"
            entries["registered model"] = dg.MetadataValue.text(reference)
    return entries


def describe_commit(commit: str | None, dirty: bool | None) -> str:
    """A commit for people, ``+dirty`` where the checkout differed from it."""
    return f"{commit[:12]}{'+dirty' if dirty else ''}" if commit else "no commit"


def frame_metadata(frame: "pd.DataFrame") -> dict[str, Any]:
    """Row count, column schema, share of missing values and the first rows of a frame."""
    return {
        "dagster/row_count": len(frame),
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    str(name), str(kind), constraints=dg.TableColumnConstraints(nullable=bool(frame[name].isna().any()))
                )
                for name, kind in frame.dtypes.items()
            ]
        ),
        "preview": _preview(frame),
    }


def model_metadata(metrics: Mapping[str, float], figures: "Mapping[str, Figure | bytes]") -> dict[str, Any]:
    """Metrics (Dagster plots them over time) and figures of a model."""
    plots = {
        name: dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})")
        for name, figure in figures.items()
    }
    return {**{name: dg.MetadataValue.float(float(value)) for name, value in metrics.items()}, **plots}


def png(figure: "Figure | bytes") -> bytes:
    """A figure as PNG, small enough for an event log."""
    if isinstance(figure, bytes):
        return figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()


def _commit(source: Source) -> dg.MetadataValue[Any]:
    if source.commit and source.repository and source.repository.startswith("https://") and not source.dirty:
        return dg.MetadataValue.url(f"{source.repository.removesuffix('.git')}/commit/{source.commit}")
    return dg.MetadataValue.text(f"{source.commit}{'+dirty' if source.dirty else ''}" if source.commit else "no commit")


def _launched_by(record: ProvenanceRecord) -> str:
    launch = record.launch
    return " ".join(part for part in (launch.kind.value, launch.name, launch.tick) if part)


def _preview(frame: "pd.DataFrame") -> dg.MetadataValue[Any]:
    rows = [
        dg.TableRecord({str(name): _cell(value) for name, value in row.items()})
        for row in frame.head(_PREVIEW_ROWS).to_dict(orient="records")
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(str(name), str(kind)) for name, kind in frame.dtypes.items()])
    return dg.MetadataValue.table(rows, schema)


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return None if number != number else number
    return str(value)
