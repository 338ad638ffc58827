"""Errors of failed image builds, and interrupted builds, which leave nothing behind."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from ml_assets.resources.errors import EngineUnreachable, ImageError, RegistryError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.base_images import LOCK_FILE
from ml_assets.resources.image_builders.buildx import Buildx
from ml_assets.resources.registry.client import RegistryClient
from tests.containers.small_project import DOCKERFILE, Project


def test_failed_build_names_the_instruction_and_its_last_lines(project: Project) -> None:
    path = project.root / "Dockerfile"
    path.write_text(path.read_text().replace("COPY app /app", "RUN echo about to fail; echo why; exit 7"))
    with pytest.raises(ImageError) as caught:
        project.build()
    line = DOCKERFILE.splitlines().index("COPY app /app") + 1
    assert f"Dockerfile:{line}" in str(caught.value)
    assert "exit code: 7" in str(caught.value)
    assert "\n  about to fail\n  why\n" in str(caught.value)
    assert "[code 1/2] RUN echo about to fail" in str(caught.value)


def test_dockerfile_that_buildkit_cannot_read_is_an_image_error(project: Project) -> None:
    path = project.root / "Dockerfile"
    path.write_text(path.read_text() + "FETCH app\n")
    with pytest.raises(ImageError, match="unknown instruction"):
        project.build()


def test_missing_secret_is_an_image_error(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"secret netrc .* images\.secrets\.netrc"):
        project.build(project.builder(secrets={"netrc": tmp_path / "none"}))


def test_base_image_without_a_digest_is_refused(project: Project) -> None:
    lock = project.root / LOCK_FILE
    content = json.loads(lock.read_text())
    content["images"]["python"]["answer"] = None
    lock.write_text(json.dumps(content))
    with pytest.raises(ImageError, match="ml-assets images update"):
        project.build()


def test_base_image_that_the_registry_does_not_hold_is_told(project: Project) -> None:
    lock = project.root / LOCK_FILE
    content = json.loads(lock.read_text())
    content["images"]["python"]["answer"]["digest"] = str(Digest.of_bytes(b"none"))
    lock.write_text(json.dumps(content))
    with pytest.raises(RegistryError, match="base image cannot be pulled"):
        project.build()


def test_engine_that_is_down_is_told(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnreachable, match="start the container engine"):
        project.build()


def test_docker_that_is_not_installed_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match="docker-buildx"):
        project.build()


def test_buildx_that_is_not_installed_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Stands in for a Docker client without the plug-in, whose folders cannot be changed, and prints the same message.
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho \"docker: 'buildx' is not a docker command.\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ImageError, match="docker has no buildx"):
        project.build()


def test_builder_that_does_not_exist_is_told(project: Project) -> None:
    with pytest.raises(ImageError, match="no such builder"):
        project.build(project.builder(Buildx(name="no-such-builder")))


def test_remote_builder_is_made_and_told_when_it_is_down(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    buildx = Buildx(name="far", driver="remote", endpoint="tcp://127.0.0.1:9")
    with pytest.raises(EngineUnreachable, match=r"images\.endpoint"):
        project.build(project.builder(buildx))
    assert (tmp_path / "buildx" / "instances" / "far").exists()


def test_registry_that_is_down_is_told_before_anything_is_built(project: Project) -> None:
    with pytest.raises(RegistryError):
        project.build(project.builder(registry="127.0.0.1:9"))


def test_refused_push_is_told(project: Project, protected: tuple[str, Path], tmp_path: Path) -> None:
    host, config = protected
    project.client = RegistryClient(plain_http=[project.registry], docker_config=config)
    nobody = tmp_path / "nobody" / "config.json"
    nobody.parent.mkdir()
    nobody.write_text("{}")
    with pytest.raises(RegistryError, match=r"refused the push.*images\.docker_config"):
        project.build(project.builder(Buildx(docker_config=nobody), registry=host))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_ends_the_program_that_it_started(project: Project, number: int) -> None:
    path = project.root / "Dockerfile"
    slow = f"RUN echo it began; sleep 600; echo {uuid4().hex}"  # unique, so never cached
    path.write_text(path.read_text().replace("COPY app /app", f"{slow}\nCOPY app /app"))
    program = (
        "import pickle, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "builder, spec = pickle.load(sys.stdin.buffer)\n"
        "builder.build(spec, lambda line: print(line, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps((project.builder(), project.spec)))
        process.stdin.close()
        while b"  it began" not in process.stdout.readline():
            assert process.poll() is None
        children = _children(process.pid)
        assert children
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(30) != 0
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def _children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found] + [each for child in found for each in _children(int(child))]
