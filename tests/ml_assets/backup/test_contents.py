"""The contents of a backup, saved from one deployment's servers and restored to another's."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ml_assets.backup.contents import Backup
from ml_assets.resources.dvc.trees import Tree
from ml_assets.resources.errors import BackupError, StoreError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient
from tests.conftest import require_program
from tests.oci_registry import OciRegistry


@dataclass(frozen=True)
class Deployment:
    """A deployment's storage: directories instead of object storage, and a real registry."""

    folder: Path
    registry: OciRegistry

    def backup(self, folder: Path, reached_at: str | None = None) -> Backup:
        """Return a backup of this deployment; its registry stands in for the registry ``reached_at``."""
        trees = {name: Tree(str(self.folder / name), {}) for name in ("content", "mlflow")}
        known = {reached_at: self.registry.host} if reached_at else {}
        client = RegistryClient(docker_config=self.folder / "no-config.json", reached_at=known)
        return Backup(folder, trees, client)

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[tuple[Deployment, Deployment]]:
    """A deployment with content and an empty one."""
    program = require_program("docker-registry", "docker-registry")
    with (
        OciRegistry.started(program, tmp_path / "registry-1") as first,
        OciRegistry.started(program, tmp_path / "registry-2") as second,
    ):
        full = Deployment(tmp_path / "first", first)
        full.write("content/files/md5/00/11", "data")
        full.write("mlflow/1/run/artifacts/model", "model")
        yield full, Deployment(tmp_path / "second", second)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backup that already contains the databases' dumps."""
    folder = tmp_path / "backup"
    (folder / "databases").mkdir(parents=True)
    for name in ("dagster", "mlflow"):
        (folder / "databases" / f"{name}.dump").write_bytes(b"PGDMP and so on")
    return folder


def image(deployment: Deployment, tag: str = "v1") -> ImageReference:
    digest = deployment.registry.push_image("ml/train", tag, labels={"tag": tag})
    return ImageReference(deployment.registry.host, "ml/train", Digest.parse(digest))


def quiet(line: str) -> None:
    """Discard the line."""


def test_everything_comes_back_in_an_empty_deployment(deployments: tuple[Deployment, Deployment], folder: Path) -> None:
    full, empty = deployments
    reference = image(full)
    told: list[str] = []
    saved = full.backup(folder).save([reference], told.append)
    assert saved.trees == {"content": (1, 4), "mlflow": (1, 5)}
    assert saved.images == {f"{full.registry.host}/ml/train": 1}
    assert told[-1] == f"images of {full.registry.host}/ml/train"
    restored = empty.backup(folder, reached_at=full.registry.host)
    assert restored.restore(quiet) == saved
    assert (empty.folder / "content/files/md5/00/11").read_text() == "data"
    assert (empty.folder / "mlflow/1/run/artifacts/model").read_text() == "model"
    assert restored.registry.labels(reference) == {"tag": "v1"}
    assert restored.restore(quiet) == saved


def test_image_that_the_registry_lost_is_named(deployments: tuple[Deployment, Deployment], folder: Path) -> None:
    full, _ = deployments
    gone = ImageReference(full.registry.host, "ml/train", Digest.of_bytes(b"gone"))
    assert full.backup(folder).save([image(full), gone], quiet).gone == (str(gone),)


def test_without_a_dump_nothing_is_saved(deployments: tuple[Deployment, Deployment], folder: Path) -> None:
    full, _ = deployments
    (folder / "databases" / "mlflow.dump").write_text("")
    with pytest.raises(
        BackupError, match=r"mlflow\.dump is missing, or is not a PostgreSQL dump.* Next: make it first: pg_dump"
    ):
        full.backup(folder).save([], quiet)
    assert not (folder / "content").exists()


def test_folder_that_cannot_be_written_is_one_clear_error(
    deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, _ = deployments
    (folder / "images").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be used: .*images.*Next: check that it is mounted"):
        full.backup(folder).save([image(full)], quiet)


def test_backup_that_was_interrupted_is_none(deployments: tuple[Deployment, Deployment], folder: Path) -> None:
    full, empty = deployments
    full.backup(folder).save([], quiet)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        full.backup(folder).save([], interrupt)
    with pytest.raises(BackupError, match="is not a complete backup"):
        empty.backup(folder).restore(quiet)
    full.backup(folder).save([], quiet)
    empty.backup(folder).restore(quiet)


def test_backup_that_lost_a_file_is_refused(deployments: tuple[Deployment, Deployment], folder: Path) -> None:
    full, empty = deployments
    full.backup(folder).save([], quiet)
    (folder / "content/files/md5/00/11").unlink()
    told: list[str] = []
    with pytest.raises(BackupError, match=r"damaged or missing files in the backup .*: 1\. Next: use another"):
        empty.backup(folder).restore(quiet, report=told.append)
    assert told == ["content/files/md5/00/11: it is missing"]


def test_restore_names_every_damaged_file_and_leaves_it_out_if_told_so(
    deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, empty = deployments
    md5 = hashlib.md5(b"object").hexdigest()
    names = [f"content/files/md5/{md5[:2]}/{md5[2:]}", "content/files/md5/00/11", "mlflow/1/run/artifacts/model"]
    full.write(names[0], "object")
    full.write("mlflow/1/run/artifacts/other", "other")
    full.backup(folder).save([], quiet)
    for name in names:
        (folder / name).write_text("x" * (folder / name).stat().st_size)
    told: list[str] = []
    with pytest.raises(BackupError, match=r": 3\. Next: .*--skip-damaged"):
        empty.backup(folder).restore(quiet, report=told.append)
    assert sorted(told) == sorted(f"{name}: it was altered" for name in names)
    assert not empty.folder.joinpath("content").exists()
    empty.backup(folder).restore(quiet, skip_damaged=True)
    assert (empty.folder / "mlflow/1/run/artifacts/other").read_text() == "other"
    assert not any((empty.folder / name).exists() for name in names)


def test_object_that_was_altered_in_the_deployment_leaves_the_intact_copy(
    deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, empty = deployments
    md5 = hashlib.md5(b"object").hexdigest()
    name = f"content/files/md5/{md5[:2]}/{md5[2:]}"
    full.write(name, "object")
    full.backup(folder).save([], quiet)
    full.write(name, "OBJECT")
    os.utime(full.folder / name, (2e9, 2e9))
    assert full.backup(folder).save([], quiet).damaged == (name,)
    empty.backup(folder).restore(quiet)
    assert (empty.folder / name).read_text() == "object"


def test_list_of_checksums_that_was_altered_is_a_damage(
    deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, empty = deployments
    full.backup(folder).save([], quiet)
    (folder / "mlflow.md5").write_text("")
    told: list[str] = []
    with pytest.raises(BackupError, match="damaged or missing"):
        empty.backup(folder).restore(quiet, report=told.append)
    assert told == ["mlflow.md5: it was altered"]


def test_tree_that_the_settings_do_not_name_is_refused(
    deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, empty = deployments
    full.backup(folder).save([], quiet)
    trees = {"content": Tree(str(empty.folder / "content"), {})}
    with pytest.raises(BackupError, match="contains mlflow, but the settings have no location for it"):
        Backup(folder, trees, RegistryClient()).restore(quiet)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"form": 2}, "is a backup of format 2, not 1"),
        ({"trees": 3}, "is incomplete: backup.json"),
        (None, "is incomplete: backup.json"),
    ],
)
def test_listing_that_cannot_be_read_is_refused(
    change: dict[str, object] | None, refusal: str, deployments: tuple[Deployment, Deployment], folder: Path
) -> None:
    full, empty = deployments
    full.backup(folder).save([], quiet)
    file = folder / "backup.json"
    file.write_text("{" if change is None else json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BackupError, match=refusal):
        empty.backup(folder).restore(quiet)
