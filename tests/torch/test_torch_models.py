"""PyTorch's modules, stored and served without PyTorch; `make test-torch` runs this file with PyTorch installed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.artifacts.model_server import ModelServer
from ml_assets.datasets import dataset
from ml_assets.models import TrainedModel, model
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.models.flavors import load_model, predict, save_model
from ml_assets.resources.models.torch import WEIGHTS_FILE
from ml_assets.resources.provenance import record_of
from ml_assets.serving.servable import open_servable
from tests.ml_assets.test_models import storage_in

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch", exc_type=ImportError)

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))


def network(seed: int = 0, outputs: int = 1) -> Any:
    """Return a network whose predictions differ in training mode."""
    torch.manual_seed(seed)
    layers = (torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, outputs))


def test_module_is_served_without_pytorch(tmp_path: Path) -> None:
    trained = network()
    saved = save_model(trained, tmp_path / "model", input_example=FRAME, server=ModelServer())
    assert trained.training
    assert saved.largest_difference is not None
    assert saved.largest_difference < 1e-5
    program = (
        "import sys, json, numpy as np\n"
        "from pathlib import Path\n"
        "from ml_assets.serving.servable import open_servable\n"
        "servable = open_servable(Path(sys.argv[1]))\n"
        "rows = np.array(json.loads(sys.argv[2]))\n"
        "print(servable.predict_columns(dict(zip('abc', rows.T)))['predictions'].tolist())\n"
        "assert 'torch' not in sys.modules\n"
    )
    rows = FRAME.to_numpy().tolist()
    printed = subprocess.check_output([sys.executable, "-c", program, str(tmp_path / "model"), str(rows)], text=True)
    np.testing.assert_allclose(json.loads(printed), predict(trained, FRAME), rtol=1e-4, atol=1e-6)


def test_equal_modules_have_equal_bytes_in_every_process(tmp_path: Path) -> None:
    here = save_model(network(), tmp_path / "here", input_example=FRAME, server=ModelServer()).listing
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ml_assets.artifacts.model_server import ModelServer\n"
        "from ml_assets.resources.models.flavors import save_model\n"
        "from tests.torch.test_torch_models import FRAME, network\n"
        "print(save_model(network(), Path(sys.argv[1]), input_example=FRAME, server=ModelServer()).listing.decode())\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "there")]
    there = subprocess.check_output(command, text=True, cwd=Path(__file__).parents[2])
    assert there.strip() == here.decode()
    assert save_model(network(seed=1), tmp_path / "other", input_example=FRAME, server=ModelServer()).listing != here


def test_several_outputs_are_a_row_of_values(tmp_path: Path) -> None:
    save_model(network(outputs=4), tmp_path / "model", input_example=FRAME, server=ModelServer())
    columns = {name: FRAME[name].to_numpy() for name in FRAME}
    assert open_servable(tmp_path / "model").predict_columns(columns)["predictions"].shape == (50, 4)
    assert load_model(tmp_path / "model").predict(FRAME.head(3)).shape == (3, 4)


def test_training_goes_on_from_the_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_model as load_weights

    trained = network()
    save_model(trained, tmp_path / "model", input_example=FRAME, server=ModelServer())
    again = network(seed=1)
    load_weights(again, str(tmp_path / "model" / WEIGHTS_FILE))
    np.testing.assert_array_equal(predict(again, FRAME), predict(trained, FRAME))


class Sorting(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A module that branches on its values, which no graph can express."""

    def forward(self, rows: Any) -> Any:
        return rows[:, 0] if float(rows.sum()) > 0 else rows[:, 1]


class Pair(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A module that returns two tensors."""

    def forward(self, rows: Any) -> Any:
        return rows[:, 0], rows[:, 1]


@pytest.mark.parametrize(
    ("module", "frame", "reason"),
    [
        (Sorting(), FRAME, "Sorting cannot be converted to ONNX"),
        (Pair(), FRAME, "Pair returns a tuple for 50 rows"),
        (network(), FRAME.assign(d="text"), "the column 'd' has the type .*, but PyTorch modules need numbers"),
        (network(), FRAME[["a"]], "cannot predict its input example"),
    ],
    ids=["control flow", "two outputs", "text", "columns"],
)
def test_what_cannot_be_served_is_refused_when_it_is_trained(
    module: Any, frame: pd.DataFrame, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DefinitionError, match=reason):
        save_model(module, tmp_path / "model", input_example=frame, server=ModelServer())


@dataset()
def rows() -> pd.DataFrame:
    return FRAME


@model(registered_name="network")
def net(rows: pd.DataFrame) -> TrainedModel:
    return TrainedModel(network(), rows)


@dataset()
def scores(net: TrainedModel, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(score=net.predict(rows))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as opened:
        yield opened


def test_model_asset_of_a_module_is_logged_and_used_downstream(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    import mlflow

    storage = storage_in(tmp_path, f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    result = dg.materialize([rows, net, scores], instance=instance, resources={STORAGE_KEY: storage})
    (made,) = result.asset_materializations_for_node("net")
    record = record_of(made.metadata)
    assert record.mlflow is not None
    try:
        mlflow.set_tracking_uri(storage.tracking.tracking_uri)
        served = mlflow.pyfunc.load_model("models:/network/1")
        found = served.predict(FRAME)
    finally:
        mlflow.set_tracking_uri(None)
    values = next(iter(found.values())) if isinstance(found, dict) else found
    np.testing.assert_allclose(np.asarray(values).reshape(-1), predict(network(), FRAME), rtol=1e-4, atol=1e-6)
