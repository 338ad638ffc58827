"""Alternative model servers, each in its own environment, with the same models."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_port

__all__ = ["WORKERS", "Candidate", "ServedModel", "candidates"]

WORKERS = 2
_FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"
# Its parallel inference cannot start on later versions of uvloop.
_MLSERVER = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "mlserver-xgboost==1.7.1", "uvloop<0.22")
_BENTOML = ("bentoml==1.4.39", "pandas<3")
_SERVICE = """
import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers={workers})
class Predictor:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        return self.model.predict(np.array(rows)).tolist()
"""


@dataclass(frozen=True)
class ServedModel:
    """A model in every form that one of the servers needs."""

    name: str
    canonical: Path
    mlflow: Path
    estimator: Path
    """Written by joblib."""
    library: str
    columns: list[str]
    row: list[float]


@dataclass(frozen=True)
class Candidate:
    """A server: how it is started and how it is queried."""

    name: str
    command: list[str]
    port: int
    path: str
    body: dict[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()


def candidates(model: ServedModel, folder: Path) -> list[Candidate | str]:
    """Return ours by both protocols, then the alternatives; a bare name is a server that cannot be installed here."""
    return [*_ours(model), _mlflow(model), _mlserver(model, folder), _bentoml(model, folder)]


def _ours(model: ServedModel) -> list[Candidate]:
    tensor = {"name": "features", "shape": [1, len(model.row)], "datatype": "FP32", "data": model.row}
    split = {"dataframe_split": {"columns": model.columns, "data": [model.row]}}
    found = []
    for protocol, path, body in (
        ("/invocations", "/invocations", split),
        ("v2", "/v2/models/model/infer", {"inputs": [tensor], "outputs": [{"name": "predictions"}]}),
    ):
        port = free_port()
        variables = {"MODEL": f"file:{model.canonical}", "NAME": "model", "PORT": str(port), "WORKERS": str(WORKERS)}
        ours = {f"ML_ASSETS_SERVE_{name}": value for name, value in variables.items()}
        command = [sys.executable, "-m", "ml_assets.serving"]
        found.append(Candidate(f"ml-assets ({protocol})", command, port, path, body, ours))
    return found


def _mlflow(model: ServedModel) -> Candidate:
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model.mlflow), "--port", str(port)),
        *("--env-manager", "local", "--workers", str(WORKERS)),
    ]
    body = {"dataframe_split": {"columns": model.columns, "data": [model.row]}}
    return Candidate("mlflow models serve (/invocations)", command, port, "/invocations", body)


def _mlserver(model: ServedModel, folder: Path) -> Candidate | str:
    name = "MLServer (v2)"
    python = _environment("mlserver", _MLSERVER)
    if python is None:
        return name
    port = free_port()
    folder = folder / "mlserver"
    folder.mkdir()
    runtime = {"sklearn": "mlserver_sklearn.SKLearnModel", "xgboost": "mlserver_xgboost.XGBoostModel"}[model.library]
    weights = model.estimator if model.library == "sklearn" else model.canonical / "model.ubj"
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"parallel_workers": WORKERS, "host": "127.0.0.1", **ports}))
    settings = {"name": "model", "implementation": runtime, "parameters": {"uri": str(weights)}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    tensor = {"name": "features", "shape": [1, len(model.row)], "datatype": "FP32", "data": model.row}
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    return Candidate(name, command, port, "/v2/models/model/infer", {"inputs": [tensor]}, folder=folder)


def _bentoml(model: ServedModel, folder: Path) -> Candidate | str:
    name = "BentoML"
    python = _environment("bentoml", _BENTOML)
    if python is None:
        return name
    port = free_port()
    folder = folder / "bentoml"
    folder.mkdir()
    (folder / "service.py").write_text(_SERVICE.replace("{workers}", str(WORKERS)))
    command = [
        str(python.with_name("bentoml")),
        "serve",
        "service:Predictor",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    variables = {"BENCH_MODEL": str(model.estimator), "BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(folder / "home")}
    return Candidate(name, command, port, "/predict", {"rows": [model.row]}, variables, folder)


def _environment(name: str, distributions: tuple[str, ...]) -> Path | None:
    """Return the interpreter of an environment with these distributions and our versions of the training libraries.

    None if they cannot be installed.
    """
    import importlib.metadata

    folder, wanted = _FOLDER / name, list(distributions)
    for library in ("scikit-learn", "xgboost-cpu", "numpy"):
        if not (name == "mlserver" and library == "xgboost-cpu"):  # MLServer brings its own build of the same version
            wanted.append(f"{library}=={importlib.metadata.version(library)}")
    if name == "mlserver":
        wanted.append(f"xgboost=={importlib.metadata.version('xgboost-cpu')}")
    note = folder / "installed.json"
    python = folder / "bin" / "python"
    if note.exists() and json.loads(note.read_text()) == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.prefix) / "bin" / "uv"
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(uv), "pip", "install", "--quiet", *wanted]):
        environ = {**os.environ, "VIRTUAL_ENV": str(folder)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name} cannot be installed: {done.stderr[-500:]}", file=sys.stderr)
            return None
    note.write_text(json.dumps(wanted))
    return python
