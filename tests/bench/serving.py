"""Compare the model server with alternatives: ``python -m tests.bench.serving``.

All servers run on one machine in one run, with the same models, the same single rows and the same number of workers.
Debian's ``wrk`` sends the requests. With a Docker engine, the images are compared as well.
"""

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.peers import WORKERS, Candidate, ServedModel, candidates
from tests.bench.serve_images import compressed_sizes

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = (10, 100)
SECONDS = 5
_PATIENCE = 180
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Figures:
    """The measurements of one server; None if a measurement failed."""

    server: str
    ready_seconds: float | None = None
    megabytes_per_worker: float | None = None
    """Proportional set size of all its processes, divided by the number of workers."""
    largest_process_megabytes: float | None = None
    loads: tuple[dict[str, float], ...] = ()
    """For each number of clients: requests per second, and milliseconds at the median and the 99th percentile."""


def main() -> None:
    """Measure everything and write build/bench/serving.json."""
    if not shutil.which("wrk"):
        sys.exit("error: wrk is not installed. Next: apt-get install wrk")
    results: dict[str, Any] = {"workers": WORKERS, "cpus": os.cpu_count(), "load_average": os.getloadavg()}
    with tempfile.TemporaryDirectory(prefix="ml-assets-bench-") as folder:
        for make in (_gradient_boosting, _flight_delay):
            model = make(Path(folder))
            figures = [_measure(each) for each in candidates(model, _made(Path(folder) / model.name / "peers"))]
            _print(model.name, figures)
            results[model.name] = [vars(each) for each in figures]
        smallest = Path(folder) / "gradient-boosting" / "mlflow"
        results["images"] = compressed_sizes(smallest, _made(Path(folder) / "images"))
    _print_images(results["images"])
    file = _made(ROOT / "build" / "bench") / "serving.json"
    file.write_text(json.dumps(results, indent=2) + "\n")


def _measure(candidate: Candidate | str) -> Figures:
    if isinstance(candidate, str):
        return Figures(candidate)
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **candidate.variables}
        environ["PATH"] = f"{Path(candidate.command[0]).parent}{os.pathsep}{environ['PATH']}"
        environ["PYTHONPATH"] = str(ROOT)
        environ["OMP_NUM_THREADS"] = "1"  # single rows on all CPUs at once would slow the other servers down
        process = subprocess.Popen(candidate.command, cwd=candidate.folder, env=environ, stdout=log, stderr=log)
        try:
            while not _answers(candidate):
                if process.poll() is not None or time.perf_counter() - started > _PATIENCE:
                    log.seek(0)
                    print(f"{candidate.name} does not answer: {log.read()[-2000:]}", file=sys.stderr)
                    return Figures(candidate.name)
                time.sleep(0.01)
            ready = time.perf_counter() - started
            try:
                _load(candidate, 10, 2)
                loads = tuple(_load(candidate, clients, SECONDS) for clients in CLIENTS)
            except ValueError as error:
                print(error, file=sys.stderr)
                return Figures(candidate.name)
            total, largest = _memory(process.pid)
            return Figures(candidate.name, ready, total / WORKERS, largest, loads)
        finally:
            # BentoML's workers run in their own sessions.
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


def _answers(candidate: Candidate) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=30)
    try:
        connection.request("POST", candidate.path, json.dumps(candidate.body), {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _load(candidate: Candidate, clients: int, seconds: int) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n')
        script.write(f"wrk.body = [==[{json.dumps(candidate.body)}]==]\n")
        script.flush()
        url = f"http://127.0.0.1:{candidate.port}{candidate.path}"
        command = [
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "--latency",
            "-s",
            script.name,
            url,
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise ValueError(f"{candidate.name} did not answer all requests: {text}")
    return {
        "clients": clients,
        "per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        "median_ms": _latency(text, "50"),
        "p99_ms": _latency(text, "99"),
    }


def _latency(text: str, percentile: str) -> float:
    found = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
    if found is None:
        raise ValueError(f"wrk said nothing of the {percentile}th percentile: {text}")
    return float(found[1]) * _UNITS[found[2]]


def _memory(process: int) -> tuple[float, float]:
    """Return the megabytes of a process tree, with shared memory counted once, and of its largest process."""
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    figures = [each.memory_full_info() for each in family]
    return sum(each.pss for each in figures) / 1e6, max(each.rss for each in figures) / 1e6


def _gradient_boosting(folder: Path) -> ServedModel:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier

    values, labels = make_classification(20_000, 12, random_state=0)
    frame = pd.DataFrame(values, columns=[f"feature_{index}" for index in range(12)])
    return _written(
        folder / "gradient-boosting",
        "sklearn",
        HistGradientBoostingClassifier(random_state=0).fit(frame, labels),
        frame,
    )


def _flight_delay(folder: Path) -> ServedModel:
    """Return the reference pipeline's model of its first month."""
    from ml_assets.resources.models.flavors import load_model

    place = folder / "pipeline"
    variables = {
        "ML_ASSETS__HOME": f"{place}/dagster",
        "ML_ASSETS__DVC__REMOTE": f"{place}/remote",
        "ML_ASSETS__DVC__CACHE": f"{place}/cache",
        "ML_ASSETS__MLFLOW__TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        "ML_ASSETS__MLFLOW__ARTIFACT_LOCATION": f"{place}/artifacts",
        "DAGSTER_HOME": f"{place}/dagster",
        "PYTHONPATH": str(ROOT),
    }
    for command in (
        ["ml_assets.flight_delays.demo", "--months", "1"],
        ["ml_assets.cli", "data", "get", "delay_model@2013-01-01", str(folder / "fetched")],
    ):
        environ = {**os.environ, **variables}
        subprocess.run([sys.executable, "-m", *command], check=True, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)
    [directory] = (folder / "fetched").iterdir()
    example = json.loads((directory / "example.json").read_text())["inputs"]
    frame = pd.DataFrame(example["data"], columns=example["columns"]).astype(np.float64).fillna(0.0)
    return _written(folder / "flight-delay", "xgboost", load_model(directory), frame)


def _written(folder: Path, library: str, estimator: Any, frame: pd.DataFrame) -> ServedModel:
    import joblib
    import mlflow.sklearn
    import mlflow.xgboost

    from ml_assets.artifacts.model_server import ModelServer
    from ml_assets.resources.models.flavors import save_model

    saved = save_model(estimator, folder / "canonical", input_example=frame, server=ModelServer())
    flavor = {"sklearn": mlflow.sklearn, "xgboost": mlflow.xgboost}[library]
    signature = mlflow.models.infer_signature(frame.head(5), estimator.predict(frame.head(5)))
    options = {"serialization_format": "cloudpickle"} if library == "sklearn" else {}
    packages = ("mlflow", {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}[library])
    needs = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
    flavor.save_model(estimator, folder / "mlflow", signature=signature, pip_requirements=needs, **options)
    joblib.dump(estimator, folder / "model.joblib")
    row = [float(value) for value in frame.iloc[0]]
    return ServedModel(
        folder.name, saved.directory, folder / "mlflow", folder / "model.joblib", library, list(frame.columns), row
    )


def _print(title: str, figures: list[Figures]) -> None:
    table = Table(title=f"{title}, single rows, {WORKERS} workers")
    for name in (
        "server",
        "ready",
        "memory/worker",
        *(f"{n} clients: {what}" for n in CLIENTS for what in ("req/s", "p99")),
    ):
        table.add_column(name, justify="left" if name == "server" else "right")
    for each in figures:
        if each.ready_seconds is None:
            table.add_row(each.server, *["not measured"] * (2 + 2 * len(CLIENTS)))
            continue
        cells = [f"{each.ready_seconds:.2f} s", f"{each.megabytes_per_worker:.0f} MB"]
        cells += [cell for load in each.loads for cell in (f"{load['per_second']:,.0f}", f"{load['p99_ms']:.1f} ms")]
        table.add_row(each.server, *cells)
    Console(width=140).print(table)


def _print_images(megabytes: Mapping[str, Any] | None) -> None:
    table = Table(title="image, compressed")
    for what in ("base of both", "ours", "mlflow models build-docker", "ours / theirs"):
        table.add_column(what, justify="right")
    if megabytes is None:
        table.add_row(*["not measured"] * 4)
    else:
        sizes = (f"{megabytes[what]:.0f} MB" for what in ("base", "ours", "mlflow_build_docker"))
        table.add_row(*sizes, f"{megabytes['ratio']:.2f}")
    Console(width=140).print(table)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _installed(program: str) -> bool:

    return shutil.which(program) is not None


if __name__ == "__main__":
    main()
