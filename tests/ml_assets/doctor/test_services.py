"""The services of every target, intact and really broken: dead ports, read-only folders, a read-only registry."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_assets.doctor import services
from ml_assets.doctor.runner import Check, Finding, Severity, run_checks
from ml_assets.resources.settings import load_settings
from ml_assets.target import Target
from tests.conftest import require_program
from tests.oci_registry import OciRegistry
from tests.ports import free_port

PROJECT = Path(__file__).parents[3]
OF_TARGETS = (services.content, services.database, services.registry)
"""Checks of objects that the target creates; the other checks read settings."""


def target_in(folder: Path, **overrides: str) -> Target:
    given = {
        "DAGSTER_HOME": str(folder / "dagster"),
        "ML_ASSETS__DVC__REMOTE": str(folder / "remote"),
        "ML_ASSETS__DVC__CACHE": str(folder / "cache"),
        "ML_ASSETS__MLFLOW__TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
    }
    return Target(load_settings({**given, **overrides}, PROJECT))


def findings(look: Any, target: Target) -> list[Finding]:
    subject = target if look in OF_TARGETS else target.settings
    return run_checks([Check("it", lambda: look(subject))], seconds=480)


def worst(look: Any, target: Target) -> Finding:
    return max(findings(look, target), key=lambda each: list(Severity).index(each.severity))


def test_a_new_home_has_a_database_that_answers(tmp_path: Path) -> None:
    (found,) = findings(services.database, target_in(tmp_path))
    assert found.what == f"Dagster's database answers ({tmp_path}/dagster, 0 runs)"


def test_a_home_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "dagster").write_text("a file")
    found = worst(services.database, target_in(tmp_path))
    assert found.severity is Severity.FAULT
    assert "cannot use the Dagster home" in found.what


def test_a_database_that_does_not_answer_is_a_fault_that_says_why(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    url = f"postgresql://a:b@127.0.0.1:{free_port()}/x"
    (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n")
    target = target_in(tmp_path)
    check = Check("database", lambda: services.database(target), needs=("dagster_postgres",))
    (found,) = run_checks([check], seconds=3)
    assert found.severity is Severity.FAULT
    assert "Connection refused" in found.what


def test_a_remote_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    found = findings(services.content, target_in(tmp_path))
    assert [each.severity for each in found] == [Severity.OK, Severity.OK]
    assert found[1].what == f"the DVC remote {remote} can be written and read, and objects can be deleted"
    assert [file for file in remote.rglob("*") if file.is_file()] == []


def test_a_remote_that_is_not_there_yet_is_told_and_not_made(tmp_path: Path) -> None:
    assert worst(services.content, target_in(tmp_path)).severity is Severity.WARNING
    assert not (tmp_path / "remote").exists()


def test_a_remote_or_cache_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("a file")
    assert worst(services.content, target_in(tmp_path)).severity is Severity.FAULT
    (tmp_path / "remote").unlink()
    cache = worst(services.content, target_in(tmp_path, ML_ASSETS__DVC__CACHE="/proc/cache"))
    assert cache.what.startswith("the content cache /proc/cache cannot be written")


def test_a_remote_server_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    target = target_in(
        tmp_path,
        ML_ASSETS__DVC__REMOTE="s3://bucket/content",
        ML_ASSETS__DVC__OPTIONS=(
            f'{{ endpointurl = "http://127.0.0.1:{free_port()}", access_key_id = "a", secret_access_key = "b" }}'
        ),
    )
    found = worst(services.content, target)
    assert (found.severity, "s3://bucket/content" in found.what) == (Severity.FAULT, True)


def test_an_mlflow_server_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    target = target_in(tmp_path, ML_ASSETS__MLFLOW__TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    found = worst(services.tracking, target)
    assert found.severity is Severity.FAULT
    assert found.next_step == "start the server, or correct mlflow.tracking_uri, and run again"


@contextmanager
def answering(version: str) -> Iterator[str]:
    """Run a stand-in for an MLflow server of another version, which cannot be installed next to this one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_version = self.path == "/version"
            self.send_response(200 if is_version else 404)
            self.end_headers()
            self.wfile.write(version.encode() if is_version else b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}')

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_mlflow_server_of_another_version_is_told(tmp_path: Path) -> None:
    with answering("1.2.3") as address:
        found = worst(services.tracking, target_in(tmp_path, ML_ASSETS__MLFLOW__TRACKING_URI=address))
    assert found.severity is Severity.WARNING
    assert "has version 1.2.3, but the client" in found.what


def buildkit(folder: Path, registry: str) -> Target:
    return target_in(folder, ML_ASSETS__IMAGES__BUILDER="buildkit", ML_ASSETS__IMAGES__REGISTRY=registry)


def test_a_registry_gives_and_takes_and_keeps_nothing_of_the_question(
    tmp_path: Path, oci_registry: OciRegistry
) -> None:
    (found,) = findings(services.registry, buildkit(tmp_path, oci_registry.host))
    assert found.what == f"the registry {oci_registry.host} allows pull and push"
    assert [file for file in oci_registry.storage.rglob("*") if file.name in ("data", "startedat", "link")] == []


def test_a_registry_that_takes_nothing_is_a_fault(tmp_path: Path) -> None:
    program = require_program("docker-registry", "docker-registry")
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "r")}, "maintenance": {"readonly": {"enabled": True}}}
    with OciRegistry.started(program, tmp_path / "registry", settings={"storage": storage}) as registry:
        found = worst(services.registry, buildkit(tmp_path, registry.host))
    assert found.severity is Severity.FAULT


def test_a_registry_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    found = worst(services.registry, buildkit(tmp_path, f"127.0.0.1:{free_port()}"))
    assert (found.severity, "did not answer" in found.what) == (Severity.FAULT, True)


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    assert worst(services.packages, target_in(tmp_path)).severity is Severity.OK
    target = Target(target_in(tmp_path).settings.model_copy(update={"root": tmp_path}))
    assert worst(services.packages, target).what.startswith("there is no ")
    (tmp_path / "uv.lock").write_text('[[package]]\nname = "dagster"\nversion = "0.1"\n')
    found = worst(services.packages, target)
    assert found.severity is Severity.WARNING
    assert "(locked 0.1)" in found.what
