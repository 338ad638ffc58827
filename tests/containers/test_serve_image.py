"""The serve image on a real engine, with a cluster's restrictions: no privileges, a read-only file system, no shell."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from ml_assets.resources.image_builders.interface import ImageSpec
from tests.containers.ground import Ground
from tests.containers.train_image import project_build
from tests.ml_assets.serving.models import COLUMNS, ROWS, write_model
from tests.ports import free_port

SPLIT = {"dataframe_split": {"columns": list(COLUMNS), "data": ROWS}}


@dataclass(frozen=True)
class Container:
    """A running server container."""

    name: str
    port: int
    image: str

    def ask(self, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()


@pytest.fixture(scope="module")
def serve_image(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    from ml_assets.flight_delays.assets import serve_image as asset

    return str(project_build(ground, tmp_path_factory.mktemp("project"), cast(ImageSpec, asset()))().image)


@pytest.fixture(scope="module")
def container(serve_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder / "linear")
    folder.chmod(0o755)
    (folder / "linear").chmod(0o755)
    port = free_port()
    command = [
        *("docker", "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--publish", f"127.0.0.1:{port}:8080", "--volume", f"{folder}:/models:ro", "--health-interval", "1s"),
        *("--env", "ML_ASSETS_SERVE_MODEL=file:/models/linear", "--env", f"ML_ASSETS_SERVE_IMAGE={serve_image}"),
        serve_image,
    ]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        started = Container(name, port, serve_image)
        _wait_until_healthy(started)
        yield started
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=True)


def test_model_is_served_without_privileges_on_a_read_only_root(container: Container) -> None:
    status, headers, body = container.ask("/invocations", SPLIT)
    assert (status, json.loads(body)) == (200, {"predictions": pytest.approx([8.005, 48.0])})
    assert headers["ml-assets-image-digest"] == container.image.rpartition("@")[2]
    assert b"ml_assets_serve_requests_total" in container.ask("/metrics")[2]
    processes = _run("docker", "top", container.name, "-eo", "pid,uid,args")
    assert {line.split()[1] for line in processes.splitlines()[1:]} == {"10001"}
    assert "/bin/sh" not in processes


def test_image_holds_no_package_of_training_and_no_model(container: Container) -> None:
    program = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    names = set(json.loads(_run("docker", "exec", container.name, "python", "-c", program)))
    assert not names & {
        "dagster",
        "dvc",
        "mlflow",
        "onnx",
        "pandas",
        "pydantic",
        "scikit-learn",
        "skops",
        "xgboost-cpu",
        "pip",
    }
    found = _run("docker", "run", "--rm", "--entrypoint", "python", container.image, "-c", _FIND_MODELS)
    assert found.strip() == "[]"


def test_it_stops_by_itself_when_it_is_told_to(container: Container) -> None:
    _run("docker", "stop", "--time", "30", container.name)
    assert _run("docker", "inspect", "--format", "{{.State.ExitCode}}", container.name).strip() == "0"


_FIND_MODELS = (
    "import pathlib; print([str(f) for f in pathlib.Path('/app').rglob('*') "
    "if f.suffix in ('.onnx', '.ubj', '.skops', '.pkl', '.joblib')])"
)


def _wait_until_healthy(container: Container) -> None:
    until = time.monotonic() + 600
    while True:
        state = json.loads(_run("docker", "inspect", "--format", "{{json .State}}", container.name))
        if state["Health"]["Status"] == "healthy":
            return
        logs = subprocess.run(["docker", "logs", container.name], capture_output=True, text=True, check=True)
        assert state["Running"], logs.stderr
        assert time.monotonic() < until, logs.stderr
        time.sleep(0.2)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
