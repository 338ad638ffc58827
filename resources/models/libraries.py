"""The supported model libraries: the built-in flavors, and those of projects and packages."""

import functools
from importlib.metadata import entry_points
from typing import Any, Final

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.interface import FLAVORS, Flavor, class_name
from ml_assets.resources.models.onnx import PyTorch
from ml_assets.resources.models.sklearn import ScikitLearn
from ml_assets.resources.models.xgboost import XGBoost

__all__ = ["flavor_named", "flavor_of"]

# XGBoost's estimators are also scikit-learn estimators, so XGBoost comes first.
_BUILT_IN: Final = (XGBoost, ScikitLearn, PyTorch)
_ENTRY_POINTS: Final = "ml_assets.flavors"


def flavor_of(estimator: Any) -> Flavor:
    """Return the flavor of an estimator's library: of the project first, then a built-in one.

    Raises:
        DefinitionError: its library is not supported.
    """
    _load()
    built_in = [FLAVORS[cls.name] for cls in _BUILT_IN]
    others = [flavor for flavor in FLAVORS.values() if flavor.types]
    for flavor in (*others, *built_in):
        if flavor.recognises(estimator):
            return flavor
    raise DefinitionError(
        "expected a model with a predict method, one of XGBoost boosters and estimators, scikit-learn estimators and "
        f"pipelines, PyTorch modules (without a predict method), or of a flavor's types; got {class_name(estimator)}",
        next_step="return one of these, or add a flavor for your type: a subclass of ml_assets.Flavor",
    )


def flavor_named(name: str) -> Flavor:
    """Return the flavor with a name.

    Raises:
        DefinitionError: no such flavor is registered.
    """
    _load()
    if name not in FLAVORS:
        raise DefinitionError(
            f"the flavor {name!r} is not registered; the known flavors are {', '.join(sorted(FLAVORS))}",
            next_step=f"import its module in the code location, or name it in the entry points {_ENTRY_POINTS}",
        )
    return FLAVORS[name]


@functools.cache
def _load() -> None:
    for entry in entry_points(group=_ENTRY_POINTS):
        entry.load()
