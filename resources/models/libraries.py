"""The supported model libraries."""

from typing import Any, Final

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.interface import Flavor, class_name
from ml_assets.resources.models.onnx import PyTorch
from ml_assets.resources.models.sklearn import ScikitLearn
from ml_assets.resources.models.xgboost import XGBoost

__all__ = ["FLAVORS", "accepted", "flavor_of"]

# XGBoost's estimators are also scikit-learn estimators, so XGBoost comes first.
FLAVORS: Final[dict[str, Flavor]] = {flavor.name: flavor for flavor in (XGBoost(), ScikitLearn(), PyTorch())}


def flavor_of(estimator: Any) -> Flavor:
    """Return the flavor of an estimator's library.

    Raises:
        DefinitionError: its library is not supported.
    """
    for flavor in FLAVORS.values():
        if flavor.recognises(estimator):
            return flavor
    raise DefinitionError(
        f"expected a model with a predict method, one of {accepted()}; got {class_name(estimator)}",
        next_step="return one of these, or add the library to resources/models/libraries.py",
    )


def accepted() -> str:
    """Return the supported kinds of model, in words."""
    return "; ".join(flavor.accepts for flavor in FLAVORS.values())
