"""Image specs, the builder for targets without a container engine, and the parts of the other that need no engine."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets.resources.errors import DefinitionError, ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.environment import (
    BAKED_ENVIRONMENT,
    InterpreterEnvironment,
    installed_distributions,
    interpreter_environment_digest,
)
from ml_assets.resources.image_builders.environment_digest import EnvironmentRecipe
from ml_assets.resources.image_builders.interface import ImageBuilder, ImageSpec
from ml_assets.resources.image_builders.progress import BuildProgress
from ml_assets.resources.image_builders.secret_values import secret_values
from ml_assets.resources.image_builders.stages import parse_dockerfile
from tests.contracts.image_builder import ImageBuilderContract, lock_base, write_project


class TestInterpreterEnvironment(ImageBuilderContract):
    """The suite of all builders, plus tests of this builder alone."""

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

    def test_process_in_an_image_has_the_environment_digest_that_it_was_built_with(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path
    ) -> None:
        digest = Digest.of_bytes(b"environment")
        (root / BAKED_ENVIRONMENT).write_text(f"{digest}\n")
        assert builder.environment_digest() == digest
        (root / BAKED_ENVIRONMENT).write_text("\n")
        with pytest.raises(ImageError, match=BAKED_ENVIRONMENT):
            builder.environment_digest()


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
        "from ml_assets.resources.image_builders.environment import interpreter_environment_digest as digest;"
        "print(digest())"
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


STAGES = """\
# syntax is not read
ARG BASE
ARG UNUSED=1
FROM ${BASE} AS tools
RUN first && \\
    # a comment in between

    second
FROM tools AS resolved
COPY uv.lock ./
FROM scratch AS locked
COPY --from=resolved /out /
FROM --platform=linux/amd64 ${BASE} AS environment
COPY --chown=1:1 fixed/*.txt ["fixed/a file"] /etc/
RUN --mount=type=bind,from=locked,target=/l --mount=type=bind,source=patch,target=/p <<END
FROM nothing
END
FROM environment
COPY app /app
"""


def test_stages_are_read_as_buildkit_reads_them() -> None:
    read = parse_dockerfile(STAGES, "Dockerfile")
    assert [stage.name for stage in read.stages] == ["tools", "resolved", "locked", "environment", "4"]
    assert [stage.base for stage in read.stages] == ["${BASE}", "tools", "scratch", "${BASE}", "environment"]
    assert read.stages[0].instructions[1].text == "RUN first && second"
    environment = read.stages[3]
    assert environment.draws_on() == {"${BASE}", "locked"}
    assert environment.instructions[-1].body == "FROM nothing\nEND"


def test_stages_needed_for_a_stage_are_those_that_it_draws_on() -> None:
    read = parse_dockerfile(STAGES, "Dockerfile")
    needed = read.needed_for("environment")
    cut = read.needed_for("environment", without=("locked",))
    assert needed is not None
    assert cut is not None
    assert [stage.name for stage in needed] == ["tools", "resolved", "locked", "environment"]
    assert [stage.name for stage in cut] == ["environment"]
    assert read.needed_for("none") is None


@pytest.mark.parametrize("text", ["", "RUN x\n", "FROM\n", "FROM a\nRUN <<END\nx\n", 'FROM a\nCOPY "x y /\n'])
def test_dockerfile_that_cannot_be_read_is_an_image_error(text: str) -> None:
    with pytest.raises(ImageError, match="Dockerfile cannot be read"):
        parse_dockerfile(text, "Dockerfile")


def _recipe(root: Path, dockerfile: str, **change: object) -> Digest:
    (root / "Dockerfile").write_text(dockerfile)
    arguments: dict[str, object] = {"name": "any", "dockerfile": "Dockerfile", "sources": ()}
    recipe = EnvironmentRecipe(ImageSpec(**(arguments | change)), root)  # type: ignore[arg-type]
    locked = {"requirements.txt": Digest.of_bytes(b"alpha")} if recipe.draws_on_locked else None
    return recipe.digest({"BASE": Digest.of_bytes(b"base")}, locked)


def test_environment_digest_follows_files_that_its_stages_copy(tmp_path: Path) -> None:
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "one").write_text("1")
    text = "ARG BASE\nFROM ${BASE} AS environment\nCOPY patch /patch\n"
    before = _recipe(tmp_path, text)
    (tmp_path / "other").write_text("1")
    assert _recipe(tmp_path, text) == before
    (tmp_path / "patch" / "one").write_text("2")
    assert _recipe(tmp_path, text) != before


def test_environment_digest_does_not_follow_how_the_dockerfile_is_laid_out(tmp_path: Path) -> None:
    one = "ARG BASE\nFROM ${BASE} AS environment\nRUN a && b\nFROM environment\nCOPY x /\n"
    other = (
        "# why\nARG BASE\nFROM ${BASE} AS environment\n# because\nRUN a && \\\n      b\nFROM environment\nCOPY y /\n"
    )
    assert _recipe(tmp_path, one) == _recipe(tmp_path, other)


def test_environment_that_takes_the_whole_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="copy the files"):
        _recipe(tmp_path, "FROM scratch AS environment\nCOPY . /\n")


def test_dockerfile_without_an_environment_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no stage named environment"):
        _recipe(tmp_path, "FROM scratch\n")


LOG = """\
#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#2 [code 2/3] RUN --mount=type=cache,target=/c   install everything
#2 0.100 one line
#2 0.200 of pass-word\rof the log
#2 ERROR: process "/bin/sh" did not complete successfully: exit code: 1
------
Dockerfile:7
--------------------
ERROR: failed to solve: process "/bin/sh" did not complete successfully: exit code: 1
"""


def test_build_log_is_what_instructions_are_and_write() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append)
    for line in LOG.splitlines():
        progress.take(line + "\n")
    assert lines[:2] == ["[code 2/3] RUN install everything", "  one line"]
    assert not [line for line in lines if "internal" in line or line.startswith("#")]
    assert progress.is_instruction
    assert progress.failed_step == "[code 2/3] RUN install everything"
    assert progress.dockerfile_line == 7
    assert progress.reason == 'process "/bin/sh" did not complete successfully: exit code: 1'


def test_secrets_are_not_in_the_build_log() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append, ["pass-word", "word"])
    for line in ("#3 [a 1/1] RUN echo pass-word", "#3 0.1 the pass-word", "#3 0.2 a word"):
        progress.take(line)
    assert lines == ["[a 1/1] RUN echo ***", "  the ***", "  a ***"]


def test_secret_values_are_what_gives_a_file_away(tmp_path: Path) -> None:
    netrc, index, bundle = tmp_path / "netrc", tmp_path / "index", tmp_path / "bundle"
    netrc.write_text("machine index.example login somebody password s3cret\n")
    index.write_text("https://user1:t0ken@index.example/simple\n")
    bundle.write_text("-----BEGIN CERTIFICATE-----\nabcdef\n")
    values = set(secret_values({"netrc": netrc, "index_url": index, "ca_bundle": bundle}))
    assert {"s3cret", "t0ken", "user1:t0ken"} <= values
    assert not {"password", "abcdef"} & values


def _install(folder: Path, *distributions: str) -> None:
    for distribution in distributions:
        (folder / f"{distribution}.dist-info").mkdir(parents=True)
