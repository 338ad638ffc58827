"""Existing clients, unchanged: Triton's, for the Open Inference Protocol, and MLflow's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import unavailable
from tests.ml_assets.serving.models import COLUMNS, ROWS
from tests.ml_assets.serving.servers import Server, serving

PREDICTED = [8.005, 48.0]
_TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
rows = json.loads(sys.argv[2])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("linear")
metadata = client.get_model_metadata("linear")
kinds = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}
found = {}
for binary in (True, False):
    inputs = []
    for spec, values in zip(metadata["inputs"], zip(*rows)):
        array = np.array(values, dtype=kinds[spec["datatype"]]).reshape(-1, 1)
        inputs.append(triton.InferInput(spec["name"], list(array.shape), spec["datatype"]))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput("predictions", binary_data=binary)]
    for packed in (None, "gzip", "deflate"):
        options = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
        answer = client.infer("linear", inputs, outputs=outputs, request_id="one", **options)
        assert answer.get_response()["id"] == "one"
        found[f"{binary} {packed}"] = answer.as_numpy("predictions").tolist()
version = metadata["versions"][0]
found["by version"] = client.infer("linear", inputs, model_version=version).as_numpy("predictions").tolist()
try:
    client.infer("nobody", inputs)
except triton.InferenceServerException as error:
    found["refusal"] = [error.status(), error.message()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), f"file:{model_directory}", name="linear") as started:
        started.wait_until_ready()
        yield started


def test_client_of_triton(server: Server, tmp_path: Path) -> None:
    found = _in_an_environment_of_its_own(tmp_path, _TRITON, f"127.0.0.1:{server.port}", json.dumps(ROWS))
    status, message = found.pop("refusal")
    assert (status, message) == ("404", "model 'nobody' is not served. Next: request model linear.")
    assert len(found) == 7
    for predictions in found.values():
        np.testing.assert_allclose(predictions, PREDICTED, rtol=1e-5)


def test_client_of_mlflow(server: Server) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=480)
    answer = client.invoke(pd.DataFrame(ROWS, columns=list(COLUMNS)))
    np.testing.assert_allclose(np.asarray(answer.get_predictions()).reshape(-1), PREDICTED, rtol=1e-5)


def test_params_of_mlflow_are_ignored_and_the_log_says_so(server: Server) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    frame = pd.DataFrame(ROWS, columns=list(COLUMNS))
    answer = ScoringServerClient("127.0.0.1", server.port).invoke(frame, params={"temperature": 1})
    np.testing.assert_allclose(np.asarray(answer.get_predictions()).reshape(-1), PREDICTED, rtol=1e-5)
    server.wait_until(lambda: any("params are ignored" in line["message"] for line in server.log_lines()), "its line")


def _in_an_environment_of_its_own(folder: Path, program: str, *arguments: str) -> Any:
    """Return a program's output from a separate environment: the client needs older releases than this project's."""
    uv = [Path(sys.prefix) / "bin" / "uv", "--quiet"]
    locked = ["--require-hashes", "--requirements", Path(__file__).with_name("clients.txt")]
    environment = folder / "client"
    try:
        for command in (
            ["venv", "--python", sys.executable, environment],
            ["pip", "install", "--python", environment, *locked],
        ):
            # Run in another folder: in this project's folder, uv would apply this project's constraints.
            subprocess.run([*uv, *command], cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        unavailable(f"the clients cannot be installed: {getattr(error, 'stderr', error)}")
    run = [environment / "bin" / "python", "-c", program, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
