"""Image specs, and the builder for targets without a container engine."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resources.errors import DefinitionError
from resources.image_builders.environment import (
    InterpreterEnvironment,
    installed_distributions,
    interpreter_environment_digest,
)
from resources.image_builders.interface import ImageBuilder, ImageSpec
from tests.contracts.image_builder import ImageBuilderContract, lock_base, write_project


class TestInterpreterEnvironment(ImageBuilderContract):
    """The suite of every builder, and what is true of this one alone."""

    def make_builder(self, root: Path) -> ImageBuilder:
        return InterpreterEnvironment(root)

    def test_nothing_is_built_and_it_says_so(self, builder: ImageBuilder, spec: ImageSpec) -> None:
        built = builder.build(spec, lambda line: None)
        assert (built.image, built.built) == (None, False)
        assert built.explanation == (
            "not containerized: no container engine on this target; recorded the environment of the interpreter"
        )
        assert built.environment_digest == interpreter_environment_digest()

    def test_base_without_a_digest_has_a_build_key_of_its_own(self, tmp_path: Path) -> None:
        spec = write_project(tmp_path / "project", base=None)
        builder = InterpreterEnvironment(tmp_path / "project")
        without = builder.build(spec, lambda line: None).build_key
        lock_base(tmp_path / "project", b"base")
        assert builder.build_key(spec) != without


def test_environment_digest_changes_if_a_version_changes(tmp_path: Path) -> None:
    _install(tmp_path, "alpha-1.0", "beta-2.0")
    before = interpreter_environment_digest([str(tmp_path)])
    (tmp_path / "beta-2.0.dist-info").rename(tmp_path / "beta-2.1.dist-info")
    assert interpreter_environment_digest([str(tmp_path)]) != before


def test_environment_digest_is_the_same_wherever_the_distributions_are(tmp_path: Path) -> None:
    _install(tmp_path / "one", "alpha-1.0", "beta-2.0")
    _install(tmp_path / "two", "beta-2.0")
    _install(tmp_path / "three", "alpha-1.0")
    one = interpreter_environment_digest([str(tmp_path / "one")])
    assert one == interpreter_environment_digest([str(tmp_path / "two"), str(tmp_path / "three"), "/no/such/folder"])


def test_project_and_installers_are_not_part_of_the_environment(tmp_path: Path) -> None:
    _install(tmp_path, "alpha-1.0", "ml_assets-0.1.0", "pip-25.0", "uv-0.9")
    assert installed_distributions([str(tmp_path)]) == ["alpha==1.0"]


def test_first_distribution_on_the_path_counts(tmp_path: Path) -> None:
    _install(tmp_path / "one", "Some.Name-1.0")
    _install(tmp_path / "two", "some_name-2.0")
    assert installed_distributions([str(tmp_path / "one"), str(tmp_path / "two")]) == ["some-name==1.0"]


def test_distributions_are_those_that_the_import_system_finds() -> None:
    found = {
        f"{re.sub('[-_.]+', '-', each.metadata['Name']).lower()}=={each.version}"
        for each in importlib.metadata.distributions()
    }
    ours = set(installed_distributions(sys.path))
    assert len(ours) > 100
    assert {each for each in found - ours if not each.startswith(("ml-assets==", "pip==", "uv=="))} == set()
    assert ours <= found


def test_environment_digest_is_the_same_in_another_process_and_folder(tmp_path: Path) -> None:
    program = (
        "from resources.image_builders.environment import interpreter_environment_digest as digest; print(digest())"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(interpreter_environment_digest())


@pytest.mark.parametrize(
    "change",
    [{"dockerfile": "/etc/passwd"}, {"dockerfile": ""}, {"context": "../other"}, {"sources": ("a/../../b",)}],
)
def test_path_outside_the_project_is_refused_at_declaration(change: dict[str, object]) -> None:
    arguments: dict[str, object] = {"name": "train", "dockerfile": "Dockerfile", "sources": ()}
    with pytest.raises(DefinitionError, match="not a path inside the project's folder"):
        ImageSpec(**(arguments | change))  # type: ignore[arg-type]


def test_image_without_a_name_is_refused_at_declaration() -> None:
    with pytest.raises(DefinitionError, match="empty name"):
        ImageSpec(name="", dockerfile="Dockerfile", sources=())


def _install(folder: Path, *distributions: str) -> None:
    for distribution in distributions:
        (folder / f"{distribution}.dist-info").mkdir(parents=True)
