"""The contract of every image builder; a builder's test subclasses `ImageBuilderContract`."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ml_assets.resources.errors import ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.base_images import LOCK_FILE
from ml_assets.resources.image_builders.interface import ImageBuilder, ImageSpec


def write_project(root: Path, *, base: bytes | None = b"base") -> ImageSpec:
    """Write a small project with everything that an image needs; its base image has the digest of ``base``."""
    (root / "app").mkdir(parents=True)
    (root / "app" / "main.py").write_text("print('hello')\n")
    (root / "settings.toml").write_text("answer = 42\n")
    (root / "notes.txt").write_text("not copied\n")
    (root / "uv.lock").write_text("version = 1\n")
    (root / "Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS environment\nFROM environment AS code\nCOPY app ./app\n"
    )
    lock_base(root, base)
    return ImageSpec(
        name="train",
        dockerfile="Dockerfile",
        sources=("app", "settings.toml"),
        bases={"BASE_IMAGE": "python"},
        arguments={"ACCELERATOR": "cpu"},
    )


def lock_base(root: Path, base: bytes | None) -> None:
    """Write a lock in which the base image has the digest of some bytes, or no digest."""
    answer = base and {
        "digest": str(Digest.of_bytes(base)),
        "platforms": {},
        "registry": "registry.example",
        "answered_at": "2026-01-01T00:00:00Z",
    }
    images = {"python": {"repository": "library/python", "tag": "slim", "answer": answer}}
    (root / LOCK_FILE).write_text(json.dumps({"schema_version": 1, "images": images}))


class ImageBuilderContract(ABC):
    """The suite; `make_builder` selects the builder."""

    @abstractmethod
    def make_builder(self, root: Path) -> ImageBuilder:
        """Return a builder for the project in a folder."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "project"

    @pytest.fixture
    def spec(self, root: Path) -> ImageSpec:
        return write_project(root)

    @pytest.fixture
    def builder(self, root: Path) -> ImageBuilder:
        return self.make_builder(root)

    def test_unchanged_inputs_give_the_same_image(self, builder: ImageBuilder, spec: ImageSpec) -> None:
        first, second = builder.build(spec, _ignore), builder.build(spec, _ignore)
        assert first.environment_digest == second.environment_digest
        assert first.build_key == second.build_key == builder.build_key(spec)
        assert first.image == second.image
        assert not second.built

    def test_build_key_is_the_same_in_another_checkout(self, spec: ImageSpec, root: Path, tmp_path: Path) -> None:
        other = tmp_path / "another" / "checkout"
        assert self.make_builder(root).build_key(spec) == self.make_builder(other).build_key(write_project(other))

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: (root / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS environment\n"),
            lambda root: (root / "uv.lock").write_text("version = 2\n"),
            lambda root: (root / "app" / "main.py").write_text("print('bye')\n"),
            lambda root: (root / "app" / "main.py").chmod(0o755),
            lambda root: (root / "app" / "main.py").rename(root / "app" / "renamed.py"),
            lambda root: (root / "app" / "new.py").touch(),
            lambda root: (root / "app" / "link").symlink_to("main.py"),
            lambda root: (root / "settings.toml").write_text("answer = 43\n"),
            lambda root: lock_base(root, b"another base"),
        ],
        ids=["Dockerfile", "lock", "source", "executable bit", "name", "new file", "link", "single file", "base"],
    )
    def test_build_key_changes_if_an_input_changes(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path, change: Callable[[Path], object]
    ) -> None:
        before = builder.build_key(spec)
        change(root)
        assert builder.build_key(spec) != before

    @pytest.mark.parametrize(
        "change",
        [{"arguments": {"ACCELERATOR": "cuda"}}, {"target": "environment"}, {"sources": ("app",)}],
        ids=["arguments", "target", "sources"],
    )
    def test_build_key_changes_if_the_declaration_changes(
        self, builder: ImageBuilder, spec: ImageSpec, change: dict[str, object]
    ) -> None:
        assert builder.build_key(replace(spec, **change)) != builder.build_key(spec)  # type: ignore[arg-type]

    def test_build_key_leaves_out_caches_and_files_that_are_not_copied(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path
    ) -> None:
        before = builder.build_key(spec)
        (root / "notes.txt").write_text("changed\n")
        (root / "app" / "__pycache__").mkdir()
        (root / "app" / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"cache")
        assert builder.build_key(spec) == before

    def test_build_key_follows_what_the_dockerfile_copies_even_if_it_is_not_declared(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path
    ) -> None:
        spec = replace(spec, sources=())
        before = builder.build_key(spec)
        (root / "app" / "main.py").write_text("print('bye')\n")
        assert builder.build_key(spec) != before

    def test_environment_digest_does_not_follow_the_projects_code(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path
    ) -> None:
        before = builder.build(spec, _ignore)
        (root / "app" / "main.py").write_text("print('bye')\n")
        after = builder.build(spec, _ignore)
        assert after.environment_digest == before.environment_digest
        assert after.build_key != before.build_key

    @pytest.mark.parametrize("missing", ["Dockerfile", "uv.lock", "settings.toml"])
    def test_missing_input_is_an_image_error_that_names_it(
        self, builder: ImageBuilder, spec: ImageSpec, root: Path, missing: str
    ) -> None:
        (root / missing).unlink()
        with pytest.raises(ImageError, match=missing):
            builder.build(spec, _ignore)

    def test_base_that_the_lock_does_not_name_is_an_image_error(self, builder: ImageBuilder, spec: ImageSpec) -> None:
        with pytest.raises(ImageError, match="cuda"):
            builder.build(replace(spec, bases={"BASE_IMAGE": "cuda"}), _ignore)

    def test_what_was_done_is_explained_and_logged(self, builder: ImageBuilder, spec: ImageSpec) -> None:
        log: list[str] = []
        built = builder.build(spec, log.append)
        assert built.explanation
        assert built.explanation in "\n".join(log)

    def test_only_an_image_in_a_registry_has_been_built(self, builder: ImageBuilder, spec: ImageSpec) -> None:
        built = builder.build(spec, _ignore)
        if built.image is None:
            assert not built.built
            assert built.index_digest is None
            assert "not containerized" in built.explanation

    def test_process_has_one_environment_digest(self, builder: ImageBuilder) -> None:
        assert builder.environment_digest() == builder.environment_digest()


def _ignore(line: str) -> None:
    pass
