"""The names that a project imports from ``ml_assets``. Their types are checked in ``tests/typing``."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ml_assets as ml

SOURCE = Path(ml.__file__)


def test_every_name_is_there_once_and_sorted() -> None:
    assert len(set(ml.__all__)) == len(ml.__all__)
    assert {name: getattr(ml, name).__name__ for name in ml.__all__} == {name: name for name in ml.__all__}
    assert set(ml.__all__) <= set(dir(ml))


def test_names_come_from_where_type_checkers_look_for_them() -> None:
    (typed,) = (
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imported = {
        alias.name: statement.module
        for statement in typed.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imported == {name: f"ml_assets.{module}" for name, module in ml._MODULES.items()}
    assert sorted(imported) == sorted(ml.__all__)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'ml_assets' has no attribute 'datset'"):
        ml.datset  # type: ignore[attr-defined]  # noqa: B018


def test_nothing_is_imported_before_it_is_used() -> None:
    code = "import json, sys; import ml_assets; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert [name for name in loaded if name.startswith("ml_assets.")] == ["ml_assets.antlr"]
    assert not loaded & {"antlr4", "dagster", "pandas", "pydantic", "mlflow"}


def test_types_are_shipped() -> None:
    assert (SOURCE.parent / "py.typed").is_file()
