"""Changes to a copy of a scikit-learn estimator, so that skl2onnx converts what the estimator does.

- Columns are selected by position, because converters rename columns, for example those with a slash.
- Vectorizers of text split words as Python does; the converter's own expression knows only ASCII.
- A linear discriminant analysis of two classes has half its weights, because the converter passes the difference of the
  two classes to a softmax of both.
- Missing strings are one text, which the model server feeds for them, because ONNX has no missing string.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["options_of", "prepare"]

_WORDS = r"(?u)\b\w\w+\b"
"""Default of scikit-learn's vectorizers; the other is the same in the syntax of ONNX Runtime."""
_WORDS_OF_ONNX = r"[\pL\pN_]{2,}"


def options_of(estimator: Any) -> dict[int, dict[str, Any]]:
    """Return the converter's options for the estimators in an estimator, by id."""
    return {
        id(each): {"tokenexp": _WORDS_OF_ONNX}
        for each in _estimators(estimator, set())
        if hasattr(each, "vocabulary_") and each.token_pattern == _WORDS and each.analyzer == "word"
    }


def prepare(estimator: Any, missing_text: str) -> None:
    """Change an estimator and all estimators in it."""
    for each in _estimators(estimator, set()):
        if hasattr(each, "transformers_"):
            _select_by_position(each)
        if hasattr(each, "flatten_transform"):
            each.flatten_transform = False  # the converter requires this, and predictions do not use it
        if type(each).__name__ == "LinearDiscriminantAnalysis" and len(each.classes_) == 2:
            each.coef_, each.intercept_ = each.coef_ / 2, each.intercept_ / 2
        if hasattr(each, "categories_"):
            each.categories_ = [_without_missing(categories, missing_text) for categories in each.categories_]
        if hasattr(each, "statistics_") and hasattr(each, "missing_values") and each.statistics_.dtype.kind == "O":
            each.missing_values = missing_text if _is_missing(each.missing_values) else each.missing_values


class _MissingText(float):
    """NaN for scikit-learn's and the converter's comparisons; a text where the converter writes the category."""

    def __new__(cls, text: str) -> "_MissingText":
        made = super().__new__(cls, "nan")
        made.text = text
        return made

    text: str

    def __str__(self) -> str:
        return self.text


def _estimators(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if hasattr(value, "get_params") and not isinstance(value, type):
        yield value
        for part in vars(value).values():
            yield from _estimators(part, seen)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _estimators(part, seen)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _estimators(part, seen)
    elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
        for part in value.reshape(-1):
            yield from _estimators(part, seen)


def _select_by_position(transformer: Any) -> None:
    names = list(getattr(transformer, "feature_names_in_", ()))
    positions = transformer._transformer_to_input_indices if names else {}
    transformer.transformers_ = [
        (name, part, list(positions.get(name, columns))) if names else (name, part, columns)
        for name, part, columns in transformer.transformers_
    ]


def _without_missing(categories: Any, missing_text: str) -> Any:
    if getattr(categories, "dtype", None) is None or categories.dtype.kind != "O":
        return categories
    # The converter gives only NaN the code of a missing value, as scikit-learn does.
    texts = [
        missing_text if value is None else _MissingText(missing_text) if _is_missing(value) else value
        for value in categories
    ]
    return np.array(texts, dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or type(value).__name__ == "NAType"
