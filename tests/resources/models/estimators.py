"""The table of estimators in ``docs/models.md``: each is trained on sixty rows, and saved to be served.

``make models-table`` writes it. The outcomes do not depend on the machine, so no numbers are in it.
"""

import inspect
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.artifacts.model_server import ModelServer
from ml_assets.resources.errors import MlAssetsError
from ml_assets.resources.models.flavors import save_model

DOCUMENT = Path(__file__).parents[3] / "docs" / "models.md"
BEGIN, END = "<!-- begin: written by make models-table -->", "<!-- end -->"

_RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(_RANDOM.normal(size=(60, 3)), columns=["a", "b", "c"])
POSITIVE = ROWS.abs() + 0.1
NUMBERS = POSITIVE.a * 2 + POSITIVE.b + 0.3 * POSITIVE.c
CLASSES = (NUMBERS.rank() // 21).astype(int)
"""Three classes."""
COUNTS = (POSITIVE * 3).astype(int)

Outcome = str


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| estimator | as a served model |", "| --- | --- |"]
    for name, train in {**scikit_learn(), **xgboost()}.items():
        lines.append(f"| {name} | {'; '.join(dict.fromkeys(_outcomes(train)))} |")
    return "\n".join(lines)


_Train = Callable[[], Iterator[tuple[str, Any, pd.DataFrame]]]
"""Trains an estimator in one or more ways, and yields what is special, the estimator and its rows."""


def scikit_learn() -> dict[str, _Train]:
    """Return every estimator of scikit-learn with ``predict``."""
    from sklearn.utils import all_estimators

    return {f"`{name}`": _trainer(name, kind) for name, kind in all_estimators() if hasattr(kind, "predict")}


def _trainer(name: str, kind: Any) -> _Train:
    def train() -> Iterator[tuple[str, Any, pd.DataFrame]]:
        from sklearn.base import is_classifier

        rows = _rows(name)
        if name in ("ClassifierChain", "MultiOutputClassifier"):
            yield "", _made(kind).fit(rows, np.c_[CLASSES > 0, ROWS.a > 0].astype(int)), rows
        elif name.startswith("MultiTask") or name in ("CCA", "MultiOutputRegressor", "PLSCanonical", "RegressorChain"):
            yield "", _made(kind).fit(rows, np.c_[NUMBERS, ROWS.a]), rows
        elif is_classifier(_made(kind)):
            names = np.array(["late", "early", "on time"], dtype=object)
            yield "two classes", _made(kind).fit(rows, names[np.where(CLASSES > 0, 0, 2)]), rows
            if "Threshold" not in name:
                yield "three classes", _made(kind).fit(rows, names[CLASSES]), rows
        else:
            yield "", _made(kind).fit(rows, NUMBERS), rows

    return train


def _rows(name: str) -> pd.DataFrame:
    if name == "IsotonicRegression":
        return ROWS[["a"]]
    if name in ("CategoricalNB", "ComplementNB", "MultinomialNB"):
        return COUNTS
    return POSITIVE if name in ("GammaRegressor", "PoissonRegressor", "TweedieRegressor") else ROWS


def _made(kind: Any) -> Any:
    """Return an unfitted estimator, with few trees and iterations."""
    from sklearn.linear_model import LogisticRegression, Ridge

    inner = Ridge() if "Regress" in kind.__name__ or kind.__name__ in ("RFE", "RFECV") else LogisticRegression()
    needed: dict[str, Any] = {
        "estimator": inner,
        "estimators": [("first", inner), ("second", type(inner)(fit_intercept=False))],
        "param_grid": {"fit_intercept": [True]},
        "param_distributions": {"fit_intercept": [True]},
        "steps": [("only", inner)],
    }
    parameters = inspect.signature(kind).parameters
    options: dict[str, Any] = {name: needed[name] for name in parameters if name in needed and _is_needed(kind, name)}
    small = {"n_estimators": 5, "random_state": 0, "cv": 2, "novelty": True, "max_subpopulation": 100}
    small |= {"RandomizedSearchCV": {"n_iter": 1}}.get(kind.__name__, {})
    small |= {"max_iter": 3} if kind.__name__.startswith("HistGradient") else {}
    options |= {name: value for name, value in small.items() if name in parameters}
    return kind(**options)


def _is_needed(kind: Any, name: str) -> bool:
    return (
        inspect.signature(kind).parameters[name].default is inspect.Parameter.empty
        or kind.__name__ == "SelfTrainingClassifier"
    )


def xgboost() -> dict[str, _Train]:
    """Return every estimator of XGBoost, and a booster for every objective."""
    import xgboost as library

    trainers: dict[str, _Train] = {}
    for name in ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "XGBRanker"):
        trainers[f"`xgboost.{name}`"] = _xgboost_estimator(getattr(library, name))
    for objective in OBJECTIVES:
        trainers[f"`xgboost.Booster`, `{objective}`"] = _booster(objective)
    for booster in ("dart", "gblinear"):
        trainers[f"`xgboost.Booster`, booster `{booster}`"] = _booster("reg:squarederror", booster=booster)
    return trainers


OBJECTIVES = (
    "binary:hinge", "binary:logistic", "binary:logitraw", "count:poisson", "multi:softmax", "multi:softprob",
    "rank:map", "rank:ndcg", "rank:pairwise", "reg:absoluteerror", "reg:gamma", "reg:logistic",
    "reg:pseudohubererror", "reg:quantileerror", "reg:squarederror", "reg:squaredlogerror", "reg:tweedie",
    "survival:aft", "survival:cox",
)  # fmt: skip


def _xgboost_estimator(kind: Any) -> _Train:
    def train() -> Iterator[tuple[str, Any, pd.DataFrame]]:
        made = lambda: kind(n_estimators=3, n_jobs=1, max_depth=3)  # noqa: E731
        if kind.__name__ == "XGBRanker":
            yield "", made().fit(ROWS, CLASSES, qid=np.arange(60) // 20), ROWS
        elif kind.__name__.endswith("Classifier"):
            yield "two classes", made().fit(ROWS, (CLASSES > 0).astype(int)), ROWS
            yield "three classes", made().fit(ROWS, CLASSES), ROWS
        else:
            yield "", made().fit(ROWS, NUMBERS), ROWS

    return train


def _booster(objective: str, **options: Any) -> _Train:
    def train() -> Iterator[tuple[str, Any, pd.DataFrame]]:
        import xgboost as library

        target: Any = NUMBERS
        if objective.startswith(("binary", "reg:logistic", "rank:map")):
            target = CLASSES > 0
        elif objective.startswith(("multi", "rank")):
            target = CLASSES
        matrix = library.DMatrix(ROWS, target)
        settings = {"objective": objective, "nthread": 1, "max_depth": 3, **options}
        if objective.startswith("multi"):
            settings["num_class"] = 3
        elif objective.startswith("rank"):
            matrix.set_group([20, 20, 20])
        elif objective == "reg:quantileerror":
            settings["quantile_alpha"] = [0.1, 0.9]
        elif objective == "survival:aft":
            matrix.set_float_info("label_lower_bound", NUMBERS)
            matrix.set_float_info("label_upper_bound", NUMBERS + 1)
        yield "", library.train(settings, matrix, num_boost_round=3), ROWS

    return train


def _outcomes(train: _Train) -> Iterator[Outcome]:
    from threadpoolctl import threadpool_limits

    outcomes: dict[str, str] = {}
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        for special, estimator, rows in train():
            outcomes[special] = _outcome(estimator, rows)
    if len(set(outcomes.values())) == 1:
        yield next(iter(outcomes.values()))
    else:
        yield from (f"{special}: {outcome}" for special, outcome in outcomes.items())


def _outcome(estimator: Any, rows: pd.DataFrame) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        try:
            save_model(estimator, Path(folder), input_example=rows, server=ModelServer())
        except MlAssetsError as error:
            # Numbers differ between machines, and addresses between processes.
            reason = error.what.partition(" cannot be served as ONNX: ")[2] or error.what
            output, differs, _ = reason.partition(" differs for ")
            return f"refused: {output} would differ" if differs else f"refused: {reason.partition(' Name:')[0]}"
        outputs = json.loads((Path(folder) / "example.json").read_text())["outputs"]
        return "served with " + ", ".join(
            f"`{name}`" for name in sorted(outputs, key=lambda name: (name != "predictions", name))
        )


def write() -> None:
    """Replace the table in the document."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write()
