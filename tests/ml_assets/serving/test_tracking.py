"""Resolution of references, download of files and following of aliases, against a real MLflow server."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.lineage import Lineage
from ml_assets.resources.errors import ModelUnavailable
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import RECORD_METADATA, ArtifactKind, MlflowRun
from ml_assets.serving.reference import ModelReference
from ml_assets.serving.servable import load_servable
from ml_assets.serving.settings import ServeSettings
from ml_assets.serving.tracking import TrackingServer, fetch_model, resolve
from tests.ml_assets.lineage.index.test_event_parser import record as lineage_record
from tests.ml_assets.serving.asgi import application, ask
from tests.ml_assets.serving.registry import Registry, registry
from tests.ml_assets.serving.servers import Server, children, serving

ROW = {"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [0, 1, 0]}]}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


def _settings(mlflow: Registry, reference: str, **more: Any) -> ServeSettings:
    return ServeSettings(model=reference, tracking_uri=mlflow.address, **more)


def _fetch(mlflow: Registry, reference: str, **more: Any) -> Any:
    return fetch_model(ModelReference.parse(reference), _settings(mlflow, reference, **more))


def test_version_alias_and_data_version_name_the_same_model(mlflow: Registry) -> None:
    version = mlflow.register("delay", weights=(1, 2, 3))
    mlflow.alias("delay", "production", version)
    identity, content = _fetch(mlflow, f"models:/delay/{version}")
    assert (identity.name, identity.version) == ("delay", version)
    assert _fetch(mlflow, "models:/delay@production") == (identity, content)
    assert _fetch(mlflow, str(identity.digest)) == (identity, content)
    assert _fetch(mlflow, str(identity.digest), name="another")[0].name == "another"


def test_lineage_traces_an_answers_headers_to_the_materialization_of_the_model(mlflow: Registry) -> None:
    version = mlflow.register("traced model", weights=(1, 2, 3))
    identity, content = _fetch(mlflow, f"models:/traced model/{version}", name="another")
    headers = ask(application(load_servable(content, identity)), "/v2").headers
    with dg.DagsterInstance.ephemeral() as instance:
        run = MlflowRun(
            run_id="3" * 32,
            experiment_id="0",
            tracking_uri=mlflow.address,
            registered_model="traced model",
            model_version=version,
        )
        _materialize(instance, "delay_model", identity.digest, kind=ArtifactKind.MODEL, mlflow=run)
        _materialize(instance, "images/serve", Digest.parse(headers["ml-assets-image-digest"]), kind=ArtifactKind.IMAGE)
        found = {
            name: [node.asset for node in Lineage(instance).trace(headers[name]).graph.nodes.values()]
            for name in ("ml-assets-model", "ml-assets-model-digest", "ml-assets-image-digest")
        }
    assert headers["ml-assets-model"] == f"models:/traced model/{version}"
    assert found == {
        "ml-assets-model": ["delay_model"],
        "ml-assets-model-digest": ["delay_model"],
        "ml-assets-image-digest": ["images/serve"],
    }


def _materialize(instance: dg.DagsterInstance, asset: str, version: Digest, **fields: Any) -> None:
    record = lineage_record(asset, "", **fields).model_copy(update={"data_version": str(version)})
    metadata = {RECORD_METADATA: dg.MetadataValue.json(record.model_dump(mode="json"))}
    key, tags = dg.AssetKey(asset.split("/")), {"dagster/data_version": str(version)}
    instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata, tags=tags))


def test_files_may_be_at_the_root_of_what_was_logged(mlflow: Registry) -> None:
    version = mlflow.register("rooted", weights=(1, 2, 3), subfolder="")
    assert set(_fetch(mlflow, f"models:/rooted/{version}")[1].files) == {"model.onnx", "signature.json", "example.json"}


def test_weights_of_the_training_library_are_not_fetched(mlflow: Registry, tmp_path: Path) -> None:
    version = mlflow.register("lean", weights=(1, 2, 3))
    _fetch(mlflow, f"models:/lean/{version}", cache=str(tmp_path))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tag": "md5:" + "0" * 32 + ".dir"}, "the model's data version is md5:0"),
        ({"tag": "v1"}, "no tag ml_assets.data_version with a digest"),
        ({"spoil": "model.onnx"}, "model.onnx has the MD5"),
        ({"spoil": "listing.json"}, "the model's data version is"),
        ({"subfolder": "elsewhere"}, "cannot fetch listing.json of"),
    ],
)
def test_what_cannot_be_verified_is_refused(mlflow: Registry, changes: dict[str, str], said: str) -> None:
    version = mlflow.register("odd", weights=(1, 2, 3), **changes)
    with pytest.raises(ModelUnavailable, match=said):
        _fetch(mlflow, f"models:/odd/{version}")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("models:/nobody/1", "answered 404"),
        ("models:/nobody@production", "answered 404"),
        ("md5:" + "f" * 32 + ".dir", "no registered model has the data version"),
    ],
)
def test_what_the_registry_does_not_know_is_named(mlflow: Registry, reference: str, said: str) -> None:
    with pytest.raises(ModelUnavailable, match=said):
        resolve(ModelReference.parse(reference), _settings(mlflow, reference))


def test_server_that_does_not_answer_is_named(mlflow: Registry) -> None:
    settings = ServeSettings(model="models:/a/1", tracking_uri="http://127.0.0.1:1")
    with pytest.raises(ModelUnavailable, match=r"http://127.0.0.1:1 did not answer"):
        resolve(ModelReference.parse("models:/a/1"), settings)


def test_credentials_are_sent_as_mlflow_sends_them(mlflow: Registry) -> None:
    from ml_assets.serving.tracking import TrackingServer

    named = TrackingServer.of(_settings(mlflow, "models:/a/1", tracking_username="me", tracking_password="secret"))
    assert named._headers == {"Authorization": "Basic bWU6c2VjcmV0"}
    assert TrackingServer.of(_settings(mlflow, "models:/a/1", tracking_token="t"))._headers == {
        "Authorization": "Bearer t"
    }


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"]
            asked.append((host.partition(":")[0], self.headers["Authorization"]))
            if host.startswith("127.0.0.1"):
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version": {}}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        address = f"http://127.0.0.1:{server.server_port}"
        settings = ServeSettings(model="models:/delay/1", tracking_uri=address, tracking_token="secret")
        try:
            assert TrackingServer.of(settings).version("delay", "1") == {}
        finally:
            server.shutdown()
    assert asked == [("127.0.0.1", "Bearer secret"), ("localhost", None)]


def test_new_version_of_an_alias_is_swapped_in_without_losing_a_request(mlflow: Registry, tmp_path: Path) -> None:
    first = mlflow.register("moving", weights=(0, 1, 0))
    mlflow.alias("moving", "production", first)
    with _following(mlflow, tmp_path, "moving") as server:
        server.wait_until_ready()
        assert server.version() == first
        answers: list[tuple[int, Any, Any]] = []
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                status, _, body = server.ask("/v2/models/moving/infer", ROW)
                tree = json.loads(body)
                answers.append((status, tree.get("model_version"), tree["outputs"][0]["data"][0]))

        threads = [threading.Thread(target=client) for _ in range(3)]
        for thread in threads:
            thread.start()
        second = mlflow.register("moving", weights=(0, 2, 0))
        mlflow.alias("moving", "production", second)
        server.wait_until(lambda: server.version() == second, "the new version")
        count = len(answers)
        server.wait_until(lambda: len(answers) > count + 20, "answers after it")
        stop.set()
        for thread in threads:
            thread.join(480)
        assert not any(thread.is_alive() for thread in threads)
    assert {(status, version, value) for status, version, value in answers} == {(200, first, 1.0), (200, second, 2.0)}


def test_version_that_fails_to_load_leaves_the_old_one_serving_and_says_so(mlflow: Registry, tmp_path: Path) -> None:
    first = mlflow.register("failing", weights=(0, 1, 0))
    mlflow.alias("failing", "production", first)
    with _following(mlflow, tmp_path, "failing") as server:
        server.wait_until_ready()
        second = mlflow.register("failing", weights=(0, 2, 0), spoil="model.onnx")
        mlflow.alias("failing", "production", second)
        server.wait_until(lambda: b"cannot load" in server.ask("/v2/health/ready")[2], "the reason")
        status, _, body = server.ask("/v2/health/ready")
        assert status == 200
        assert f"cannot load models:/failing/{second}, still serving version {first}" in json.loads(body)["detail"]
        assert json.loads(server.ask("/v2/models/failing/infer", ROW)[2])["outputs"][0]["data"] == [1.0]
        assert 'ml_assets_serve_loads_total{outcome="failed"} 1.0' in server.ask("/metrics")[2].decode()
        assert any("cannot load" in line["message"] for line in server.log_lines())
        third = mlflow.register("failing", weights=(0, 3, 0))
        mlflow.alias("failing", "production", third)
        server.wait_until(lambda: server.version() == third, "the version that can be loaded")
        assert "detail" not in json.loads(server.ask("/v2/health/ready")[2])


def test_version_that_loads_while_the_one_that_serves_dies_serves_alone(mlflow: Registry, tmp_path: Path) -> None:
    first = mlflow.register("dying", weights=(0, 1, 0))
    mlflow.alias("dying", "production", first)
    with _following(mlflow, tmp_path, "dying") as server:
        server.wait_until_ready()
        [serving_first] = children(server.process.pid)
        loading = _held_up(mlflow, server, "dying")
        os.kill(serving_first, signal.SIGKILL)
        server.wait_until(
            lambda: any("exited with status" in line["message"] for line in server.log_lines()), "its end"
        )
        server.wait_until(lambda: server.ask("/v2/health/ready")[0] == 503, "no version")
        os.kill(loading, signal.SIGCONT)
        server.wait_until_ready()
        server.wait_until(lambda: len(children(server.process.pid)) == 1, "one generation")
        assert children(server.process.pid) == [loading]
        assert {server.version() for _ in range(20)} == {str(int(first) + 1)}


def test_version_that_served_is_loaded_again_until_it_can_be_whatever_the_alias_means(
    mlflow: Registry, tmp_path: Path
) -> None:
    first = mlflow.register("away", weights=(0, 1, 0))
    mlflow.alias("away", "production", first)
    with _following(mlflow, tmp_path, "away", poll_seconds=600) as server:
        server.wait_until_ready()
        mlflow.alias("away", "production", mlflow.register("away", weights=(0, 2, 0)))
        with mlflow.without_artifacts():
            os.kill(children(server.process.pid)[0], signal.SIGKILL)
            server.wait_until(lambda: b"cannot load" in server.ask("/v2/health/ready")[2], "the reason")
        server.wait_until_ready()
        assert server.version() == first


def test_version_that_served_and_is_gone_for_good_gives_way_to_what_the_alias_means(
    mlflow: Registry, tmp_path: Path
) -> None:
    first = mlflow.register("deleted", weights=(0, 1, 0))
    mlflow.alias("deleted", "production", first)
    with _following(mlflow, tmp_path, "deleted") as server:
        server.wait_until_ready()
        mlflow.client.delete_model_version("deleted", first)
        os.kill(children(server.process.pid)[0], signal.SIGKILL)
        server.wait_until(lambda: b"cannot load" in server.ask("/v2/health/ready")[2], "the reason")
        second = mlflow.register("deleted", weights=(0, 2, 0))
        mlflow.alias("deleted", "production", second)
        server.wait_until_ready()
        assert server.version() == second


def _held_up(mlflow: Registry, server: Server, name: str) -> int:
    """Move the alias to another version, and stop the process that begins to load it."""
    serving_now = set(children(server.process.pid))
    mlflow.alias(name, "production", mlflow.register(name, weights=(0, 2, 0)))
    server.wait_until(lambda: len(children(server.process.pid)) == 2, "another generation")
    [loading] = set(children(server.process.pid)) - serving_now
    os.kill(loading, signal.SIGSTOP)
    return loading


def _following(mlflow: Registry, folder: Path, name: str, **variables: Any) -> Any:
    chosen = {"tracking_uri": mlflow.address, "poll_seconds": 0.2} | variables
    return serving(folder, f"models:/{name}@production", **chosen)
