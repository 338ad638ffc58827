"""The interface of flavors, and their registry."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.columns import InputColumn
from ml_assets.resources.models.outputs import PREDICTIONS, Method

__all__ = ["FLAVORS", "Conversion", "Flavor", "class_name"]

Conversion = Callable[[], Any]
"""Returns an ONNX model, with one input for all columns (named ``features``) or one for each, in their order."""


class Flavor(ABC):
    """The operations for the models of one library; a subclass is registered when it is defined.

    ::

        class Rules(ml.Flavor):
            name = "rules"
            types = (RuleModel,)
            file = "rules.json"

            def write(self, estimator: RuleModel, file: Path, example: pd.DataFrame) -> None:
                file.write_text(json.dumps(estimator.rules, sort_keys=True))

            def read(self, file: Path, class_name: str) -> RuleModel:
                return RuleModel(json.loads(file.read_text()))

    The name is recorded with each model, and loading finds the flavor by it. The module must therefore be imported
    where models are loaded: import it in the code location, or name it in the entry point group ``ml_assets.flavors``
    of its package. A model without `conversions` must be declared with ``served=False``.
    """

    name: ClassVar[str]
    """Recorded with each model; never changes."""
    types: ClassVar[tuple[type | str, ...]] = ()
    """Classes of its models. A class of an optional library is text, such as ``lightgbm.basic.Booster``, so that the
    library is imported only by projects that use it."""
    file: ClassVar[str] = "model"
    """Name of the weights file."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """Packages that loading needs, for MLflow's requirements."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not inspect.isabstract(cls):
            _register(cls)

    @abstractmethod
    def write(self, estimator: Any, file: Path, example: pd.DataFrame) -> None:
        """Write the weights, with equal bytes for equal weights; other files may stand beside them.

        Raises:
            DefinitionError: the library's format cannot store the estimator.
        """

    @abstractmethod
    def read(self, file: Path, class_name: str) -> Any:
        """Load the estimator from a file, given the name of its class."""

    def recognises(self, estimator: Any) -> bool:
        """Return True if an estimator belongs to this library and can predict."""
        names = {kind if isinstance(kind, str) else _name(kind) for kind in self.types}
        return any(_name(kind) in names for kind in type(estimator).__mro__)

    def predict(self, estimator: Any, frame: pd.DataFrame) -> Any:
        """Return one value or row of values for each row of a frame."""
        return estimator.predict(frame)

    def methods(self, estimator: Any) -> Mapping[str, Method]:
        """Return the functions that compute the estimator's outputs for a frame, by output.

        ``predictions`` is required. Others are ``probabilities`` (rows by classes), ``decision_function``,
        ``transform`` and ``score_samples``.
        """
        return {PREDICTIONS: lambda frame: np.asarray(self.predict(estimator, frame))}

    def conversions(self, estimator: Any, columns: Sequence[InputColumn], missing_text: str) -> Iterator[Conversion]:
        """Return the conversions to ONNX to try, best first; none if the library has no ONNX form.

        Each is accepted only if the model server then returns the estimator's outputs. They may change the estimator.

        Args:
            estimator: result of `read`.
            columns: columns of its input.
            missing_text: the text that the server feeds for a missing string.
        """
        yield from ()

    def write_for_mlflow(self, estimator: Any, directory: Path, path: str, **options: Any) -> None:
        """Write the directory that MLflow can serve, with the arguments of MLflow's own ``save_model``.

        MLflow then loads the model from its canonical directory with this flavor.
        """
        import mlflow.pyfunc

        loader = "ml_assets.resources.models.mlflow_loader"
        mlflow.pyfunc.save_model(path, loader_module=loader, data_path=str(directory), **options)


FLAVORS: Final[dict[str, Flavor]] = {}
"""The registered flavors by name."""


def class_name(estimator: Any) -> str:
    """Return the module and name of an estimator's class."""
    return _name(type(estimator))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _register(cls: type[Flavor]) -> None:
    name = getattr(cls, "name", "")
    known = FLAVORS.get(name)
    if not name or (known is not None and _name(type(known)) != _name(cls)):
        taken = f"the name {name!r} is that of {_name(type(known))}" if known else "it has no name"
        raise DefinitionError(f"the flavor {_name(cls)} cannot be registered: {taken}", next_step="set another name")
    FLAVORS[name] = cls()
