"""Operations on all image assets of a code location at once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.images import container_image, image_specs, make_images, with_build_keys
from ml_assets.resources.errors import ImageError, UnknownReference
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder, ImageSpec
from tests.contracts.image_builder import write_project

ENVIRONMENT = Digest.of_bytes(b"environment")
INDEX = Digest.of_bytes(b"index")


class Registering(InterpreterEnvironment):
    """Stand-in for a builder with an engine: it reports an image with the build key's digest, below an index."""

    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        if spec.name == "broken":
            raise ImageError("image broken was not built", next_step="mend it")
        log(f"building {spec.name}")
        key = self.build_key(spec)
        return BuiltImage(
            environment_digest=ENVIRONMENT,
            image=ImageReference("registry.example", spec.name, key),
            index_digest=INDEX,
            build_key=key,
            built=True,
            explanation="built",
        )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_project(tmp_path / "project")
    (tmp_path / "project" / "Dockerfile.serve").write_text("FROM scratch AS code\n")
    return tmp_path / "project"


@pytest.fixture
def builder(root: Path) -> ImageBuilder:
    return Registering(root)


@pytest.fixture
def definitions(storage: ArtifactStorage, builder: ImageBuilder) -> dg.Definitions:
    return dg.Definitions(
        assets=[
            container_image("train", dockerfile="Dockerfile", sources=["app"]),
            container_image("serve", dockerfile="Dockerfile.serve", sources=["settings.toml"]),
            container_image("broken", dockerfile="Dockerfile", sources=["no-such-file"]),
            plain,
        ],
        resources={STORAGE_KEY: replace(storage, image_builder=builder)},
    )


@dg.asset(code_version="1")
def plain() -> None:
    """Do nothing: an asset that is not an image."""


def test_image_is_the_stage_code_unless_another_is_named() -> None:
    image = container_image("builder", dockerfile="Dockerfile", sources=["app"], target="builder")
    definitions = dg.Definitions([image, container_image("train", dockerfile="Dockerfile", sources=["app"])])
    assert {spec.name: spec.target for spec in image_specs(definitions).values()} == {
        "builder": "builder",
        "train": "code",
    }


def test_code_version_of_an_image_is_its_build_key(
    definitions: dg.Definitions, builder: ImageBuilder, root: Path
) -> None:
    versions = _code_versions(with_build_keys(definitions, builder))
    (root / "app" / "main.py").write_text("print('bye')\n")
    after = _code_versions(with_build_keys(definitions, builder))
    serve = image_specs(definitions)[dg.AssetKey(["images", "serve"])]
    assert versions["images/serve"] == builder.build_key(serve).value
    assert after["images/train"] != versions["images/train"]
    assert after["images/serve"] == versions["images/serve"]
    assert after["plain"] == "1"


def test_image_whose_files_are_elsewhere_has_no_code_version(
    definitions: dg.Definitions, builder: ImageBuilder, root: Path
) -> None:
    """The case of a train image: the builder image, which has the files, would refuse a different code version."""
    (root / "Dockerfile").unlink()
    versions = _code_versions(with_build_keys(definitions, builder))
    assert {name for name, version in versions.items() if version} == {"images/serve", "plain"}


@pytest.fixture
def in_memory() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_image_is_out_of_date_when_its_build_key_changed_and_what_runs_in_it_is_not(
    definitions: dg.Definitions, builder: ImageBuilder, root: Path, in_memory: dg.DagsterInstance
) -> None:
    before = with_build_keys(definitions, builder)
    make_images([before.get_repository_def()], in_memory, ["train"], lambda line: None)
    event = in_memory.get_latest_materialization_event(dg.AssetKey(["images", "train"]))
    assert event is not None
    assert event.asset_materialization is not None
    tags = event.asset_materialization.tags or {}
    assert tags["dagster/code_version"] == _code_versions(before)["images/train"]
    assert tags["dagster/data_version"] == str(ENVIRONMENT)
    (root / "app" / "main.py").write_text("print('bye')\n")
    assert tags["dagster/code_version"] != _code_versions(with_build_keys(definitions, builder))["images/train"]


def test_images_are_made_in_this_process_and_recorded(
    definitions: dg.Definitions, in_memory: dg.DagsterInstance
) -> None:
    lines: list[str] = []
    records = make_images([definitions.get_repository_def()], in_memory, ["train", "serve"], lines.append)
    assert {record.asset for record in records} == {"images/train", "images/serve"}
    assert all(record.made_index_digest == str(INDEX) for record in records)
    assert all(record.made_image and record.made_image.startswith("registry.example/") for record in records)
    assert "building train" in lines
    assert in_memory.get_latest_materialization_event(dg.AssetKey(["images", "train"])) is not None


def test_image_that_does_not_exist_is_told_with_those_that_do(
    definitions: dg.Definitions, in_memory: dg.DagsterInstance
) -> None:
    with pytest.raises(UnknownReference, match=r"has the name other.*broken, serve, train"):
        make_images([definitions.get_repository_def()], in_memory, ["other"], lambda line: None)


def test_image_that_cannot_be_made_is_told(definitions: dg.Definitions, in_memory: dg.DagsterInstance) -> None:
    with pytest.raises(ImageError, match="images/broken: image broken was not built"):
        make_images([definitions.get_repository_def()], in_memory, ["broken"], lambda line: None)


def _code_versions(definitions: dg.Definitions) -> dict[str, str | None]:
    return {spec.key.to_user_string(): spec.code_version for spec in definitions.resolve_all_asset_specs()}
