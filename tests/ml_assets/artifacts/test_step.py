"""The state of a running step is one object, found by Dagster's context and freed with it."""

import gc
from typing import Any
from weakref import ref

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts import step as steps
from ml_assets.artifacts.inputs import resolve_inputs
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.artifacts.step import running_step
from ml_assets.datasets import dataset
from ml_assets.features import feature_set


@dataset()
def numbers() -> pd.DataFrame:
    return pd.DataFrame({"value": [1]})


@feature_set()
def doubled(numbers: pd.DataFrame) -> pd.DataFrame:
    return numbers * 2


def test_inputs_are_resolved_once_a_step(
    resources: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        steps, "resolve_inputs", lambda context: asked.append(context.step.key) or resolve_inputs(context)
    )
    assert dg.materialize([numbers, doubled], instance=instance, resources=resources).success
    assert asked == ["numbers", "doubled"]


def test_state_is_forgotten_with_its_step() -> None:
    class Context:
        """Stands in for Dagster's context, which holds its inputs' values."""

    context: Any = Context()
    forgotten = ref(running_step(context))
    assert forgotten() is not None
    del context
    gc.collect()
    assert forgotten() is None


def test_step_has_one_state(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    found = []

    @dg.asset(ins={"numbers": dg.AssetIn(input_manager_key=STORAGE_KEY)})
    def foreign(context: dg.AssetExecutionContext, numbers: pd.DataFrame) -> None:
        step = context.op_execution_context.get_step_execution_context()
        found.extend([running_step(step), running_step(step)])
        assert [entry.artifact.asset for entries in found[0].inputs.values() for entry in entries] == ["numbers"]

    assert dg.materialize([numbers, foreign], instance=instance, resources=resources).success
    first, again = found
    assert first is again
    assert first.has_foreign_record
