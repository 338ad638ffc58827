import numpy as np
import pandas as pd
import pytest

from ml_assets.resources.models.columns import arrays, columns_of, feeds


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1, 2]), np.array([1, 2])),
        (pd.Series([1.5, None]), np.array([1.5, np.nan])),
        (pd.array([1, None], dtype="Int64"), np.array([1.0, np.nan])),
        (pd.array([1, 2], dtype="Int32"), np.array([1, 2], dtype=np.int32)),
        (pd.array([True, None], dtype="boolean"), np.array([True, None])),
        (pd.Series([True, False]), np.array([True, False])),
        (pd.Series(["a", None, np.nan, pd.NA]), np.array(["a", None, None, None])),
        (pd.array(["a", None], dtype="string"), np.array(["a", None])),
        (pd.Categorical(["a", None]), np.array(["a", None])),
        (pd.Categorical([3, 4]), np.array([3, 4])),
    ],
)
def test_missing_values_of_every_type_are_those_of_the_server(column: object, expected: np.ndarray) -> None:
    found = arrays(pd.DataFrame({"a": column}))["a"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_names_are_text() -> None:
    assert list(arrays(pd.DataFrame([[1, 2]], columns=[0, "b"]))) == ["0", "b"]


def test_missing_text_of_a_graph_is_the_servers() -> None:
    frame = pd.DataFrame({"a": ["x", None], "b": [1, 2]})
    text, numbers = feeds(frame, [np.dtype(object), np.dtype(np.float32)], "?")
    assert text.tolist() == [["x"], ["?"]]
    assert (numbers.tolist(), numbers.dtype) == ([[1.0], [2.0]], np.float32)


def test_columns_are_those_of_the_signature() -> None:
    tree = {"inputs": [{"name": "a", "type": "long", "required": False}, {"name": "b", "type": "long"}]}
    assert [(column.name, column.is_whole, column.is_text) for column in columns_of(tree)] == [
        ("a", False, False),
        ("b", True, False),
    ]
