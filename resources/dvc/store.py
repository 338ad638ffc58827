"""The content store: files, directories and tables, stored and fetched by their DVC hash.

Remotes use DVC's layout, and directories use DVC's listing. Therefore plain ``dvc pull`` restores content stored here,
and this store fetches content from ``dvc push``.

::

    store.py        the store: its operations and their order
    remote.py       remotes: their interface, and directories
    server_remote.py  a remote on such a server
    server.py       access to a server, and its errors
    retry.py        repeats requests while a server fails
    directory.py    an object directory: directory remotes, and every cache
    deposit.py      copies files into such a directory, in several processes, and syncs them
    receipts.py     which objects of a cache are verified and unmodified
    scan.py         the files of a directory, and their remembered hashes
    frames.py       pandas frames as Parquet, read back equal
    described_frames.py, frame_columns.py, frame_equality.py
                    what pandas' own metadata does not restore, column by column; the check
    tables.py       Arrow tables as Parquet
    lease.py        keeps writers waiting during deletions
    git.py          content that people track with DVC and git
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from dagster import ConfigurableResource
from pydantic import Field, PrivateAttr

from ml_assets.resources.dvc.directory import Condition, HeldObject, ObjectDirectory, disk_errors, is_intact
from ml_assets.resources.dvc.frames import read_parquet, write_parquet
from ml_assets.resources.dvc.lease import wait_for_collection
from ml_assets.resources.dvc.logical_digest import logical_digest
from ml_assets.resources.dvc.receipts import Receipts
from ml_assets.resources.dvc.remote import Remote, open_remote
from ml_assets.resources.dvc.scan import RememberedHashes, listing, read_listing, salvaged_hashes, scan
from ml_assets.resources.errors import ContentCorrupt, ContentMissing, SettingsError, StoreError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Content

__all__ = ["DvcStore", "Listings"]


class Listings(NamedTuple):
    """The objects of directories.

    Attributes:
        files: objects of each directory; for a damaged listing, the hashes that can still be read in it.
        damaged: reason for each listing that is damaged, or is no listing.
        unknown: damaged listings that may have named other objects too.
    """

    files: Mapping[str, frozenset[str]]
    damaged: Mapping[str, str]
    unknown: frozenset[str]


class DvcStore(ConfigurableResource):  # type: ignore[type-arg]
    """Stores content in a DVC remote and a local cache, by hash.

    Every operation may be interrupted, repeated and run concurrently: objects appear atomically, and a directory's
    listing appears after its files.

    Raises:
        SettingsError: the remote or the cache is neither a URL nor an absolute path.
    """

    remote: str = Field(description="URL of a DVC remote, or the absolute path of a directory")
    options: dict[str, Any] = Field(default={}, description="Options of `dvc remote modify`, such as endpointurl")
    cache: str = Field(description="Absolute path of the directory that holds the content-addressed cache")
    retry_seconds: float = Field(
        default=120.0, ge=0, description="Time for which a request is repeated while the remote's server fails"
    )

    _opened: tuple[object, Remote] | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Reject relative paths, because the working directory changes from step to step."""
        super().model_post_init(context)
        for name, value in (("remote", self.remote), ("cache", self.cache)):
            if not os.path.isabs(value) and not (name == "remote" and "://" in value):
                accepted = "a URL or an absolute path" if name == "remote" else "an absolute path"
                raise SettingsError(
                    f"{name} of the content store must be {accepted}, not {value!r}",
                    next_step=f"correct `{name}` in the settings",
                )

    def put(self, path: Path) -> Content:
        """Store a file or a directory.

        Raises:
            StoreError: the path does not exist, or contains something other than files.
            StoreFull: the remote or the cache cannot be written.
            RemoteUnreachable: the remote does not answer.
        """
        remote = self._open()
        wait_for_collection(remote)
        with disk_errors(f"path {path}", path):
            files = scan(path)
        memory = RememberedHashes(Path(self.cache), path)
        hashes = memory.of(files)
        remembered = [index for index, md5 in enumerate(hashes) if md5]
        absent = remote.not_held(
            [hashes[index] or "" for index in remembered], [files.sizes[index] for index in remembered]
        )
        todo = [index for index, md5 in enumerate(hashes) if md5 is None or md5 in absent]
        stored = remote.store([files.file(index) for index in todo], sum(files.sizes[index] for index in todo), path)
        for index, (md5, size) in zip(todo, stored, strict=True):
            hashes[index], files.sizes[index] = md5, size
        known = [md5 or "" for md5 in hashes]
        memory.replace(files, known)
        if not files.is_directory:
            return Content(format="file", version=f"md5:{known[0]}", size=files.sizes[0], files=1)
        value = remote.store_listing(listing(dict(zip(files.relpaths, known, strict=True))))
        return Content(format="directory", version=f"md5:{value}.dir", size=sum(files.sizes), files=len(known))

    def put_frame(self, frame: pd.DataFrame) -> Content:
        """Store a frame as Parquet; equal frames have equal versions, and `read_frame` returns an equal frame.

        Raises:
            SchemaError: a column, an index or a label cannot be read back equal; a column holds UUIDs; or two columns
                have the same label.
            StoreError: as for `put`.
        """
        values: list[Digest | None] = []

        def write(path: Path) -> None:
            write_parquet(frame, path)
            values.append(logical_digest(path))

        content = self.put_written(write)
        digest = str(values[0]) if values[0] else None
        return content.model_copy(update={"format": "parquet", "rows": len(frame), "values": digest})

    def put_written(self, write: Callable[[Path], None]) -> Content:
        """Store the file or directory that a function writes at the path that it receives.

        Raises:
            StoreError: as for `put`.
        """
        with disk_errors(f"cache {self.cache}"), self._objects().workspace() as folder:
            path = folder / "content"
            write(path)
            return self.put(path)

    def read_frame(self, version: Digest) -> pd.DataFrame:
        """Fetch a table.

        Raises:
            InputError: the content is not Parquet.
            StoreError: as for `fetch`.
        """
        return read_parquet(self.fetch(version))

    def fetch(self, version: Digest) -> Path:
        """Return the path of the content in the cache; it is verified on arrival, and fetched again if it was modified.

        Files are read-only, and shared by all who fetch the same content.

        Raises:
            ContentMissing: the remote does not hold it.
            ContentCorrupt: the remote's content has a different hash, or is not the listing of a directory.
            RemoteUnreachable: the remote does not answer.
            StoreFull: the cache cannot be written.
        """
        value = _dvc_hash(version)
        objects, receipts = self._objects(), Receipts(Path(self.cache))
        if not version.is_directory:
            self._bring([value], receipts)
            return objects.path(value)
        members = self._members(value)
        tree = Path(self.cache) / "trees" / version.hex
        with disk_errors(f"cache {self.cache}"):
            if not _is_intact_tree(tree, members, receipts):
                self._bring(set(members.values()), receipts)
                if not _is_intact_tree(tree, members, receipts):
                    _link_tree(tree, members, objects, receipts)
        return tree

    def checkout(self, version: Digest, destination: Path) -> None:
        """Copy the content to a destination: a file, or a directory that is empty or does not exist.

        Raises:
            StoreError: the destination is not empty; otherwise as for `fetch`.
        """
        with disk_errors(f"directory {destination}"):
            is_empty = destination.is_dir() and version.is_directory and not any(destination.iterdir())
        if os.path.lexists(destination) and not is_empty:
            needed = "a new path or an empty directory" if version.is_directory else "a new path"
            raise StoreError(
                f"{destination} already exists, but {version} needs {needed}",
                next_step="choose another path, or move the existing content away",
            )
        content = self.fetch(version)
        with disk_errors(f"directory {destination.parent}"):
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
                copy = Path(folder) / destination.name
                if version.is_directory:
                    shutil.copytree(content, copy, copy_function=shutil.copyfile)
                else:
                    shutil.copyfile(content, copy)
                copy.rename(destination)

    def has(self, version: Digest) -> bool:
        """Return True if the remote holds the content; for a directory, its listing and every file in it."""
        value = _dvc_hash(version)
        remote = self._open()
        if remote.missing([value]):
            return False
        return not version.is_directory or not remote.missing(self._members(value).values())

    def opened(self) -> Remote:
        """Return the remote itself, for maintenance of its content.

        Raises:
            RemoteUnreachable: it does not answer.
        """
        return self._open()

    def listings(self, values: Iterable[str]) -> Listings:
        """Return the objects of directories, by the directories' DVC hashes, for those whose listing is stored.

        Raises:
            RemoteUnreachable: the remote does not answer.
        """
        wanted = {value for value in values if value.endswith(".dir")}
        files, damaged, unknown = dict[str, frozenset[str]](), dict[str, str](), set[str]()
        for value in sorted(wanted - self._open().missing(wanted)):
            try:
                files[value] = frozenset(self._members(value).values())
            except ContentMissing:
                continue  # Another process deleted it meanwhile.
            except ContentCorrupt as error:
                damaged[value] = error.what
                files[value], is_complete = salvaged_hashes(self._open().read(value), value)
                if not is_complete:
                    unknown.add(value)
        return Listings(files, damaged, frozenset(unknown))

    def cached(self) -> dict[str, HeldObject]:
        """Return the objects in the local cache."""
        with disk_errors(f"cache {self.cache}"):
            return self._objects().held()

    def forget(self, values: Iterable[str]) -> None:
        """Delete objects, and the directories that were assembled from them, from the local cache."""
        with disk_errors(f"cache {self.cache}"):
            self._objects().remove(values := list(values))
            Receipts(Path(self.cache)).remove(values)
            for value in values:
                if value.endswith(".dir"):
                    shutil.rmtree(Path(self.cache) / "trees" / value.removesuffix(".dir"), ignore_errors=True)

    def dvc_file(self, content: Content, name: str, meta: dict[str, str]) -> str:
        """Return the text of the ``.dvc`` file with which ``dvc pull`` restores the content as `name`.

        Args:
            content: the stored content.
            name: its file or directory name beside the ``.dvc`` file.
            meta: its origin; DVC keeps this and ignores it.
        """
        import yaml

        version = Digest.parse(content.version)
        output: dict[str, Any] = {"md5": _dvc_hash(version), "size": content.size}
        if version.is_directory:
            output["nfiles"] = content.files
        tree = {"outs": [output | {"hash": "md5", "path": name}]} | ({"meta": meta} if meta else {})
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)

    def _open(self) -> Remote:
        settings = (self.remote, dict(self.options), self.cache, self.retry_seconds)
        if self._opened is None or self._opened[0] != settings:  # pydantic's copies share it
            remote = open_remote(self.remote, self.options, self._objects(), self.retry_seconds)
            self._opened = (settings, remote)
        return self._opened[1]

    def _objects(self) -> ObjectDirectory:
        return ObjectDirectory(Path(self.cache))

    def _bring(self, values: Iterable[str], receipts: Receipts) -> None:
        """Fetch the objects that the cache does not have; read those that may have been modified."""
        objects, wanted, doubtful = self._objects(), [], []
        with disk_errors(f"cache {self.cache}"):
            places = {value: str(objects.path(value)) for value in values}
            for value, place in places.items():
                if not receipts.cover(value, place):
                    doubtful.append(value)
                    if not is_intact(place) or objects.condition(value) is not Condition.INTACT:
                        wanted.append(value)
        if wanted:
            self._open().fetch(sorted(wanted))
        receipts.add((value, places[value]) for value in doubtful)

    def _members(self, value: str) -> dict[str, str]:
        """Return the files of a directory, and their hashes."""
        objects = self._objects()
        with disk_errors(f"cache {self.cache}"):
            is_here = objects.condition(value) is Condition.INTACT
        if not is_here:
            self._open().fetch([value])
        with disk_errors(f"cache {self.cache}"):
            content = objects.path(value).read_bytes()
        try:
            return read_listing(content)
        except ValueError as error:
            raise ContentCorrupt(
                f"{value} is not the listing of a directory: {error}", next_step="store the directory again"
            ) from error


def _dvc_hash(version: Digest) -> str:
    if version.algorithm != "md5":
        raise StoreError(f"{version} is not a DVC hash", next_step="use a version that begins with md5:")
    return version.value


def _is_intact_tree(tree: Path, members: dict[str, str], receipts: Receipts) -> bool:
    """Return True if the directory holds exactly the files of the listing, all verified and unmodified."""
    root = f"{tree}{os.sep}"
    return _holds(tree, members) and all(receipts.cover(md5, root + relpath) for relpath, md5 in members.items())


def _holds(tree: Path, members: dict[str, str]) -> bool:
    root = f"{tree}{os.sep}"
    files = {os.path.join(folder, name).removeprefix(root) for folder, _, names in os.walk(tree) for name in names}
    return tree.is_dir() and files == members.keys()


def _link_tree(tree: Path, members: dict[str, str], objects: ObjectDirectory, receipts: Receipts) -> None:
    with objects.workspace() as folder:
        new = folder / "new"
        new.mkdir()
        for parent in sorted({os.path.dirname(relpath) for relpath in members}):
            (new / parent).mkdir(parents=True, exist_ok=True)
        for relpath, md5 in members.items():
            objects.link(md5, f"{new}/{relpath}")
        tree.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.rename(tree)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not _is_same_tree(tree, new, members):  # Otherwise another process was faster.
                tree.rename(folder / "old")
                new.rename(tree)
    # The links changed the change times of the objects.
    receipts.add((md5, f"{tree}/{relpath}") for relpath, md5 in members.items())


def _is_same_tree(tree: Path, new: Path, members: dict[str, str]) -> bool:
    """Return True if both directories are links to the same objects."""
    return _holds(tree, members) and all(
        os.path.samestat(os.lstat(f"{tree}/{relpath}"), os.lstat(f"{new}/{relpath}")) for relpath in members
    )
