import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.serving.settings import load_serve_settings
from tests.ml_assets.serving.models import COLUMNS, ROWS, write_model
from tests.ml_assets.serving.servers import ROOT, Server, children, serving

SPLIT = {"dataframe_split": {"columns": list(COLUMNS), "data": ROWS}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), f"file:{model_directory}") as started:
        started.wait_until_ready()
        yield started


def _workers(server: Server) -> list[int]:
    [generation] = children(server.process.pid)
    return children(generation)


def test_requests_are_answered_by_all_workers_and_metrics_count_them_together(server: Server) -> None:
    before = _requests(server)
    for _ in range(10):
        assert json.loads(server.ask("/invocations", SPLIT)[2])["predictions"] == pytest.approx([8.005, 48.0])
    # A request is counted after its answer.
    server.wait_until(lambda: _requests(server) == before + 10, "all requests are counted")
    workers = f'ml_assets_serve_workers{{digest="{server.ask("/ping")[1]["ml-assets-model-digest"]}"'
    for line in (workers, 'ml_assets_serve_loads_total{outcome="loaded"} 1.0'):
        server.wait_until(lambda line=line: line in server.ask("/metrics")[2].decode(), line)


def test_worker_that_dies_is_replaced_and_counting_goes_on(server: Server) -> None:
    before, dying = _requests(server), _workers(server)[0]
    os.kill(dying, signal.SIGKILL)
    server.wait_until(lambda: dying not in _workers(server) and len(_workers(server)) == 2, "another worker")
    for _ in range(4):
        assert server.ask("/invocations", SPLIT)[0] == 200
    server.wait_until(lambda: _requests(server) >= before + 4, "all requests are counted")


def test_workers_share_the_models_memory(server: Server) -> None:
    for worker in _workers(server):
        figures = dict(line.split(":") for line in Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()[1:])
        private, resident = (int(figures[name].split()[0]) for name in ("Private_Dirty", "Rss"))
        assert private < resident / 2


def test_no_library_of_training_is_loaded_by_any_process(server: Server) -> None:
    code = (
        "import sys, ml_assets.serving.supervisor, ml_assets.serving.model_process, ml_assets.serving.worker, "
        "ml_assets.serving.openapi; from pathlib import Path; "
        "from ml_assets.serving.servable import open_servable; open_servable(Path(sys.argv[1]));"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'dagster', 'dvc', 'mlflow', 'pandas', 'pydantic', 'sklearn', 'skops', 'xgboost', 'onnx', 'opentelemetry'}))"
    )
    reference = load_serve_settings({"ML_ASSETS_SERVE_MODEL": "file:/m"})
    assert reference.traces_endpoint is None
    model = server.log.parent / "again"
    write_model(model)
    done = subprocess.run([sys.executable, "-c", code, model], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_supervisor_needs_no_numpy_to_start_and_count() -> None:
    code = "import sys, ml_assets.serving.supervisor, ml_assets.serving.metrics; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_supervisor_holds_no_model(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" not in maps


def test_many_connections_are_shared_among_the_workers(server: Server) -> None:
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connections.append(connection)
    held = [_sockets(worker) for worker in _workers(server)]
    for connection in connections:
        connection.close()
    assert min(held) >= 5


def test_head_without_end_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 200_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.ask("/v2")[0] == 200


def test_bytes_that_are_not_http_do_no_harm(server: Server) -> None:
    for content in (
        b"\x00" * 100,
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(content)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.ask("/v2")[0] == 200


def test_log_is_json_with_the_requests_id(server: Server) -> None:
    server.ask("/invocations", b"{", {"X-Request-Id": "to-be-found"})
    server.wait_until(lambda: any(line.get("request_id") == "to-be-found" for line in server.log_lines()), "its line")
    [line] = [line for line in server.log_lines() if line.get("request_id") == "to-be-found"]
    assert (line["status"], line["path"], line["error"]["error_code"]) == (400, "/invocations", "BAD_REQUEST")


def test_health_check_says_whether_it_is_ready(server: Server) -> None:
    def check(port: int) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "ML_ASSETS_SERVE_MODEL": "file:/m", "ML_ASSETS_SERVE_PORT": str(port)}
        command = [sys.executable, "-m", "ml_assets.serving.health"]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert check(server.port).returncode == 0
    assert check(1).returncode == 1


def test_termination_loses_no_request(model_directory: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"file:{model_directory}", stop_delay_seconds=0.5) as server:
        server.wait_until_ready()
        answered, failures, stop = [], [], threading.Event()

        def client() -> None:
            """Keep a connection until asked to open another, as clients do, and end when none is accepted."""
            import http.client

            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=480)
            while not stop.is_set():
                try:
                    if connection.sock is None:
                        connection.connect()
                except ConnectionRefusedError:
                    return
                try:
                    connection.request("POST", "/invocations", json.dumps(SPLIT), {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answered.append(answer.status)
                    answer.read()
                except OSError as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.wait_until(lambda: len(answered) > 50, "answers")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(480) == 0
        stop.set()
        for thread in threads:
            thread.join(480)
    assert not failures
    assert set(answered) == {200}


def test_termination_answers_requests_that_arrive_slowly(model_directory: Path, tmp_path: Path) -> None:
    limits = {"timeout_seconds": 6, "drain_seconds": 9, "stop_delay_seconds": 0.2}
    head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    body = json.dumps(SPLIT).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    with serving(tmp_path, f"file:{model_directory}", **limits) as server:
        server.wait_until_ready()
        slow, endless = (socket.create_connection(("127.0.0.1", server.port), timeout=480) for _ in range(2))
        with slow, endless:
            for connection in (slow, endless):
                connection.sendall(head)
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(2.5)
            slow.sendall(length + b"\r\n" + body[:10])
            endless.sendall(length)
            time.sleep(1)
            slow.sendall(body[10:])
            endless.sendall(b"\r\n" + body[:10])
            assert slow.recv(4096).startswith(b"HTTP/1.1 200")
            assert endless.recv(4096).startswith(b"HTTP/1.1 408")
        assert server.process.wait(480) == 0


def test_nothing_is_left_of_it(model_directory: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"file:{model_directory}") as server:
        server.wait_until_ready()
        workers = _workers(server)
        directory = Path(json.loads(_arguments(children(server.process.pid)[0])[-1])["directory"])
        assert directory.exists()
    assert not directory.exists()
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


def test_supervisor_that_is_killed_takes_its_processes_along(model_directory: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"file:{model_directory}") as server:
        server.wait_until_ready()
        [generation] = children(server.process.pid)
        family = [generation, *children(generation)]
        server.process.kill()
        server.process.wait()
        for process in family:
            _wait_for_end(process)


def test_generation_that_is_killed_is_loaded_again(model_directory: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"file:{model_directory}") as server:
        server.wait_until_ready()
        [generation] = children(server.process.pid)
        os.kill(generation, signal.SIGKILL)
        server.wait_until(lambda: server.log.read_text().count(", loaded in ") == 2, "another generation")
        assert server.ask("/invocations", SPLIT)[0] == 200


def test_model_that_cannot_be_loaded_is_told_and_tried_again(tmp_path: Path) -> None:
    with serving(tmp_path / "server", f"file:{tmp_path / 'model'}") as server:
        server.wait_until(lambda: b"cannot load" in server.ask("/v2/health/ready")[2], "the reason")
        assert server.ask("/v2/health/live")[0] == 200
        assert server.ask("/invocations", SPLIT)[0] == 503
        assert 'loads_total{outcome="failed"}' in server.ask("/metrics")[2].decode()
        write_model(tmp_path / "model")
        server.wait_until_ready()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"model": "flight-delay"}, "is not a model reference"),
        ({"model": "models:/delay/1"}, "no tracking server is set"),
        ({"port": "x"}, "ML_ASSETS_SERVE_PORT must be a whole number"),
    ],
)
def test_wrong_settings_end_it_with_what_to_do(variables: dict[str, str], said: str, tmp_path: Path) -> None:
    given = {"model": "file:/m"} | variables
    ours = {f"ML_ASSETS_SERVE_{name.upper()}": value for name, value in given.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets.serving"],
        cwd=ROOT,
        env=kept | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_port_that_is_taken_is_named(server: Server) -> None:
    environ = {**os.environ, "ML_ASSETS_SERVE_MODEL": "file:/m", "ML_ASSETS_SERVE_PORT": str(server.port)}
    command = [sys.executable, "-m", "ml_assets.serving"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, f"cannot bind 127.0.0.1:{server.port}" in done.stderr) == (2, True)


def _requests(server: Server) -> float:
    text = server.ask("/metrics")[2].decode()
    name = 'ml_assets_serve_requests_total{endpoint="invocations",status="200"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def _arguments(process: int) -> list[str]:
    return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")


def _sockets(process: int) -> int:
    links = [os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir() if each.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


def _wait_for_end(process: int) -> None:
    until = time.monotonic() + 480
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2:3]:
        assert time.monotonic() < until, f"{process} goes on"
        time.sleep(0.05)
