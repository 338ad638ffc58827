"""The contents of a backup: content, artifacts, logs and images, beside dumps of the databases.

Backups run online: databases first (Dagster's, then MLflow's), then the content, artifacts and images that they
reference, which are named by digest or run and never change. Content that is added meanwhile is not in the dumps and
does no harm. A restore uses the reverse order.

::

    backup.json                    the summary; written last, when the backup is complete
    databases/dagster.dump         of pg_dump --format=custom
    databases/mlflow.dump
    content/files/md5/…            a DVC remote
    content.md5                    checksums of all files in content/, for md5sum too; so for each tree
    mlflow/…, logs/…               as `[backup] trees` in the settings name them
    images/REGISTRY/REPOSITORY/    an OCI image layout each
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ml_assets.backup.checksums import damaged_files, read_checksums, write_checksums
from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.dvc.deposit import sync_disk
from ml_assets.resources.dvc.directory import disk_errors
from ml_assets.resources.dvc.trees import Tree, digest_in
from ml_assets.resources.errors import BackupError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient
from ml_assets.resources.registry.layout import ImageLayout

__all__ = ["CONTENT", "Backup", "Progress", "Saved"]

CONTENT: Final = "content"
_DATABASES: Final = ("dagster", "mlflow")
_DUMP: Final = b"PGDMP"
_FORM: Final = 1

Progress = Callable[[str], None]
"""Receives the current action, in words."""


class Saved(BaseModel):
    """The summary of a backup.

    Attributes:
        form: format of the backup; raised with any change that an older version cannot restore.
        made: time at which it was finished.
        trees: number of files and their bytes, by tree.
        images: number of manifests in each repository.
        gone: recorded images that the registry no longer had.
        checksums: SHA-256 of each tree's list of checksums; earlier versions wrote none.
        damaged: files that were damaged in the deployment. The backup has an intact copy of those that it had before.
    """

    form: int
    made: datetime
    trees: dict[str, tuple[int, int]]
    images: dict[str, int]
    gone: tuple[str, ...] = ()
    checksums: dict[str, str] = {}
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backup:
    """A folder with a backup.

    Attributes:
        trees: location of each tree in the deployment.
        registry: reads and writes images.
    """

    folder: Path
    trees: Mapping[str, Tree]
    registry: RegistryClient

    def save(self, images: Iterable[ImageReference], progress: Progress) -> Saved:
        """Save everything except the databases, whose dumps must exist. Files in the folder are not copied again.

        Args:
            images: images to save, with their tags and attached artifacts.
            progress: receives the current action.

        Raises:
            BackupError: a dump is missing.
            StoreError: a tree could not be copied.
            RegistryError: a registry did not answer.
        """
        self._require_dumps()
        with disk_errors(f"folder {self.folder}"):
            return self._save(images, progress)

    def restore(self, progress: Progress, *, skip_damaged: bool = False, report: Progress = lambda _: None) -> Saved:
        """Restore everything except the databases. Existing files stay unchanged, except damaged content.

        The whole backup is read and verified first.

        Args:
            progress: receives the current action.
            skip_damaged: True to restore the intact files if others are damaged.
            report: receives each damaged file, with what is wrong.

        Raises:
            BackupError: the backup is incomplete or damaged, has another format, or has a tree that the settings do not
                name.
            StoreError: a tree could not be copied.
            RegistryError: a registry did not answer, or refused.
        """
        saved = self._read()
        self._require_dumps()
        damaged = self._damaged(saved, progress, report)
        number = sum(map(len, damaged.values()))
        if number and not skip_damaged:
            raise BackupError(
                f"damaged or missing files in the backup {self.folder}: {number}",
                next_step="use another backup, or restore all other files with --skip-damaged",
            )
        for name, (files, _) in saved.trees.items():
            found = self.trees[name].restore(self.folder / name, damaged[name], _counting(progress, name))
            if found.files + len(damaged[name]) < files:
                raise self._broken(f"{name} has {found.files} of {files} files")
        for name in saved.images:
            progress(f"images of {name}")
            registry, _, repository = name.partition("/")
            self._layout(registry, repository).restore()
        return saved

    def _damaged(self, saved: Saved, progress: Progress, report: Progress) -> dict[str, set[str]]:
        """Return the damaged files of each tree."""
        damaged: dict[str, set[str]] = {}
        for name in saved.trees:
            damaged[name] = set()
            try:
                checksums = self._checksums(name, saved.checksums.get(name))
            except (OSError, ValueError) as error:
                damaged[name].add(self._list(name).name)
                report(f"{self._list(name).name}: {error}")
                checksums = self._checksums(name, None)
            for file, fault in damaged_files(self.folder / name, checksums, _counting(progress, f"verifying {name}")):
                damaged[name].add(file)
                report(f"{name}/{file}: {fault}")
        return damaged

    def _checksums(self, name: str, expected: str | None) -> dict[str, str]:
        """Return the checksums of a tree's files: from its list, and from the names of content-addressed files."""
        folder = self.folder / name
        files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        named = {file: digest for file in files if (digest := digest_in(file))}
        return named if expected is None else named | read_checksums(self._list(name), expected)

    def _save(self, images: Iterable[ImageReference], progress: Progress) -> Saved:
        # The backup is incomplete from here until the end.
        self._index.unlink(missing_ok=True)
        trees, checksums, damaged = {}, {}, list[str]()
        for name, tree in self.trees.items():
            copied = tree.save(self.folder / name, self._known(name), _counting(progress, name))
            trees[name] = (copied.files, copied.size)
            checksums[name] = write_checksums(self._list(name), copied.checksums)
            damaged += [f"{name}/{file}" for file in copied.damaged]
        repositories = defaultdict[tuple[str, str], set[Digest]](set)
        for image in images:
            repositories[image.registry, image.repository].add(image.digest)
        saved, gone = {}, []
        for (registry, repository), digests in sorted(repositories.items()):
            progress(f"images of {registry}/{repository}")
            layout = self._layout(registry, repository)
            gone += [f"{registry}/{repository}@{digest}" for digest in layout.save(sorted(digests, key=str))]
            saved[f"{registry}/{repository}"] = len(layout)
        done = Saved(
            form=_FORM,
            made=datetime.now(UTC),
            trees=trees,
            images=saved,
            gone=tuple(gone),
            checksums=checksums,
            damaged=tuple(damaged),
        )
        write_atomically(self._index, done.model_dump_json(indent=2), durable=True)
        sync_disk(str(self.folder))
        return done

    def _known(self, name: str) -> dict[str, str]:
        """Return the checksums of an earlier backup in the same folder."""
        try:
            return read_checksums(self._list(name))
        except (OSError, ValueError):
            return {}

    @property
    def _index(self) -> Path:
        return self.folder / "backup.json"

    def _list(self, name: str) -> Path:
        return self.folder / f"{name}.md5"

    def _layout(self, registry: str, repository: str) -> ImageLayout:
        return ImageLayout(self.folder / "images" / registry / repository, self.registry, registry, repository)

    def _read(self) -> Saved:
        try:
            found: dict[str, Any] = json.loads(self._index.read_bytes())
            if found["form"] != _FORM:
                raise BackupError(
                    f"{self.folder} is a backup of format {found['form']}, not {_FORM}",
                    next_step="restore it with the version of ml-assets that made it",
                )
            saved = Saved.model_validate(found)
        except FileNotFoundError as error:
            raise BackupError(
                f"{self.folder} is not a complete backup: it has no {self._index.name}",
                next_step="use another backup, or make it again",
            ) from error
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise self._broken(f"{self._index.name}: {error}") from error
        unknown = sorted(saved.trees.keys() - self.trees.keys())
        if unknown:
            raise BackupError(
                f"{self.folder} contains {', '.join(unknown)}, but the settings have no location for it",
                next_step="set the location in `[backup] trees` of the target's settings",
            )
        return saved

    def _require_dumps(self) -> None:
        for name in _DATABASES:
            file = self.folder / "databases" / f"{name}.dump"
            try:
                with file.open("rb") as content:
                    is_dump = content.read(len(_DUMP)) == _DUMP
            except OSError:
                is_dump = False
            if not is_dump:
                raise BackupError(
                    f"{file} is missing, or is not a PostgreSQL dump",
                    next_step=f"make it first: pg_dump --format=custom --file={file} URL",
                )

    def _broken(self, what: str) -> BackupError:
        return BackupError(
            f"the backup {self.folder} is incomplete: {what}", next_step="use another one, or make it again"
        )


def _counting(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, whole: progress(f"{name}: {done:,} of {whole:,} files")
