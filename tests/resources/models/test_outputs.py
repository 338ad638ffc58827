import numpy as np
import pytest

from ml_assets.resources.models.outputs import first_mismatch, largest_difference

LABELS = np.array(["late", "on time"], dtype=object)


def outputs(**values: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("trained", "served"),
    [
        ({"predictions": [1.0, 1000.0]}, {"predictions": [1.005, 1000.09]}),
        ({"predictions": [np.nan, np.inf]}, {"predictions": [np.nan, np.inf]}),
        (
            {"predictions": [1], "probabilities": [[0.3, 0.7]]},
            {"predictions": [1], "probabilities": [[0.30009, 0.69991]]},
        ),
        ({"predictions": [1], "probabilities": [[0.49998, 0.50002]]}, {"predictions": [0]}),
        ({"predictions": [1], "decision_function": [0.00005]}, {"predictions": [-1]}),
        ({"predictions": [1], "transform": [[3.0, 3.00005, 9.0]]}, {"predictions": [0]}),
        ({"predictions": [1.0]}, {"predictions": [1.0], "other": [5.0]}),
    ],
    ids=["numbers", "not finite", "probabilities", "tie", "tie of a score", "tie of distances", "no such method"],
)
def test_difference_within_the_tolerance_is_none(trained: dict[str, object], served: dict[str, object]) -> None:
    assert first_mismatch(outputs(**trained), outputs(**served), outputs(**trained)) is None


@pytest.mark.parametrize(
    ("trained", "served", "output", "row"),
    [
        ({"predictions": [1.0, 2.0]}, {"predictions": [1.0, 2.001]}, "predictions", 1),
        ({"predictions": [1.0, np.nan]}, {"predictions": [1.0, 2.0]}, "predictions", 1),
        ({"predictions": [True]}, {"predictions": [False]}, "predictions", 0),
        ({"predictions": [1], "probabilities": [[0.4, 0.6]]}, {"predictions": [0]}, "predictions", 0),
        (
            {"predictions": [1], "probabilities": [[0.4, 0.6]]},
            {"predictions": [1], "probabilities": [[0.4002, 0.5998]]},
            "probabilities",
            0,
        ),
        ({"predictions": [1.0]}, {"predictions": [[1.0, 2.0]]}, "predictions", 0),
    ],
    ids=["numbers", "missing", "booleans", "labels", "probabilities", "shape"],
)
def test_difference_beyond_the_tolerance_is_named(
    trained: dict[str, object], served: dict[str, object], output: str, row: int
) -> None:
    found = first_mismatch(outputs(**trained), outputs(**served), outputs(**trained))
    assert found is not None
    assert (found.output, found.row) == (output, row)


def test_texts_are_compared_as_they_are() -> None:
    found = first_mismatch({"predictions": LABELS}, {"predictions": LABELS[::-1]}, {"predictions": LABELS})
    assert found is not None
    assert (found.trained, found.served) == ("late", "on time")


def test_large_values_of_strange_rows_do_not_hide_differences_of_ordinary_ones() -> None:
    ordinary, strange = outputs(predictions=[1.0]), outputs(predictions=[1e9])
    assert first_mismatch(ordinary, outputs(predictions=[1.01]), ordinary) is not None
    assert first_mismatch(strange, outputs(predictions=[1e9 + 1e4]), ordinary) is None


def test_largest_difference_is_absolute_and_ignores_what_is_not_finite() -> None:
    assert largest_difference(outputs(predictions=[1.0, np.inf]), outputs(predictions=[1.5, np.inf])) == 0.5
    assert largest_difference({"predictions": LABELS}, {"predictions": LABELS}) == 0.0
