"""What a model asset returns, and what its consumers receive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["TrainedModel"]


@dataclass(frozen=True)
class TrainedModel:
    """A fitted estimator with what is needed to judge it, log it and use it.

    Args:
        estimator: a fitted XGBoost or scikit-learn estimator.
        input_example: a few rows as the model takes them; its columns and types become the signature. None on a model
            that was loaded.
        metrics: figures by name, logged to MLflow and shown in the Dagster UI.
        figures: plots by name, as Matplotlib figures or PNG bytes.
        parameters: what was chosen in training beyond the run config, such as the number of rounds.
    """

    estimator: Any
    input_example: "pd.DataFrame | None" = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    figures: "Mapping[str, Figure | bytes]" = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, frame: "pd.DataFrame") -> Any:
        """What the estimator predicts, one value a row."""
        return self.estimator.predict(frame)
