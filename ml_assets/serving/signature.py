"""The model's inputs according to MLflow's signature: named columns of a table, or tensors."""

import json
from dataclasses import dataclass
from typing import Any

from ml_assets.resources.errors import ModelUnavailable

__all__ = ["Column", "Signature", "read_signature"]

WHOLE_NUMBERS = ("integer", "long")
NUMBERS = ("boolean", *WHOLE_NUMBERS, "float", "double")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """MLflow's type: boolean, integer (32 bits), long, float, double or string."""
    required: bool
    """True if the column is required, with a value in every row."""


@dataclass(frozen=True)
class Signature:
    """The inputs, and the number of dimensions of a prediction."""

    columns: tuple[Column, ...] | None
    """None if the inputs are tensors."""
    prediction_rank: int | None
    """Number of dimensions of the predictions, rows included; None if the signature does not say."""


def read_signature(content: bytes) -> Signature:
    """Parse ``signature.json``.

    Raises:
        ModelUnavailable: it is not a signature, or has types that cannot be served.
    """
    try:
        tree = json.loads(content)
        inputs, outputs = tree["inputs"], tree.get("outputs") or []
        if any(each["type"] == "tensor" for each in inputs):
            return Signature(None, _rank(outputs))
        columns = tuple(Column(each["name"], each["type"], each.get("required", True)) for each in inputs)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(
            f"signature.json is not a model's signature: {type(error).__name__}: {error}",
            next_step="materialize the model again with an input example that has named columns",
        ) from error
    if foreign := [column for column in columns if column.type not in (*NUMBERS, "string")]:
        raise ModelUnavailable(
            f"column {foreign[0].name!r} has the type {foreign[0].type}, which cannot be served",
            next_step=f"use only columns of the types {', '.join(NUMBERS)} and string",
        )
    return Signature(columns, _rank(outputs))


def _rank(outputs: list[dict[str, Any]]) -> int | None:
    if len(outputs) != 1:
        return None
    if outputs[0]["type"] == "tensor":
        return len(outputs[0]["tensor-spec"]["shape"])
    return None if "name" in outputs[0] else 1
