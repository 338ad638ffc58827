"""A remote on any server that DVC supports. Each request is repeated while the server fails for a moment."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from ml_assets.resources.dvc.directory import (
    Condition,
    HeldObject,
    ObjectDirectory,
    corrupt_object,
    disk_errors,
    is_object,
    missing_object,
)
from ml_assets.resources.dvc.retry import repeated
from ml_assets.resources.dvc.server import (
    dvc_settings,
    limit_attempts,
    refused,
    server_errors,
    without_password,
    written_at,
)
from ml_assets.resources.time_limit import within

__all__ = ["ServerRemote"]

_CONTACT_SECONDS: Final = 20.0
_MOST_ASKED_FOR_STATE: Final = 256
_AT_ONCE: Final = 16
_NOTES: Final = "ml-assets"
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ServerRemote:
    """A remote on a server; see `Remote`.

    Args:
        url: its location.
        options: those of ``dvc remote modify``.
        cache: uploads and downloads pass through it.
        retry_seconds: time for which a failing request is repeated.

    Raises:
        SettingsError: DVC has no such kind of remote, or rejects these options.
        RemoteUnreachable: the server does not answer.
    """

    def __init__(self, url: str, options: Mapping[str, Any], cache: ObjectDirectory, retry_seconds: float) -> None:
        from dvc_data.hashfile.db import get_odb

        self.name = f"DVC remote {without_password(url)}"
        self._cache = cache
        self._seconds = retry_seconds
        cls, config, path = dvc_settings(url, options)
        try:
            filesystem = cls(**config)
        except Exception as error:
            raise refused(url, error) from error
        limit_attempts(filesystem)
        self._root = path
        self._objects = get_odb(filesystem, filesystem.join(path, "files", "md5"), hash_name="md5", **config)
        contact = min(_CONTACT_SECONDS, retry_seconds)
        with server_errors(self.name, f"cache {cache.root}"):
            within(_CONTACT_SECONDS, lambda: repeated(lambda: filesystem.exists(path), contact, self.name))

    def missing(self, values: Iterable[str]) -> set[str]:
        """See `Remote.missing`."""
        wanted = set(values)
        if len(wanted) > _MOST_ASKED_FOR_STATE:
            return wanted.difference(self._ask(lambda: self._objects.oids_exist(wanted)))
        return {value for value, state in self._states(sorted(wanted)).items() if state is None}

    def not_held(self, values: Sequence[str], sizes: Sequence[int]) -> set[str]:
        """See `Remote.not_held`. Sizes and checksums are compared for at most 256 objects."""
        if len(values) > _MOST_ASKED_FOR_STATE:
            return self.missing(values)
        wanted = dict(zip(values, sizes, strict=True))
        return {value for value, state in self._states(list(wanted)).items() if not self._is(value, wanted, state)}

    def store(self, sources: Sequence[str], size: int, source: Path) -> list[tuple[str, int]]:
        """See `Remote.store`. Files are copied through the cache, so that the uploaded bytes are the hashed bytes."""
        with disk_errors(f"cache {self._cache.root}", source):
            stored = self._cache.deposit(sources, size)
        self._upload(sorted(self.not_held([md5 for md5, _ in stored], [size for _, size in stored])))
        return stored

    def store_listing(self, content: bytes) -> str:
        """See `Remote.store_listing`."""
        with disk_errors(f"cache {self._cache.root}"):
            md5 = self._cache.write(content, suffix=".dir")
        self._upload([f"{md5}.dir"])
        return md5

    def fetch(self, values: Sequence[str]) -> None:
        """See `Remote.fetch`."""
        with server_errors(self.name, f"cache {self._cache.root}"), self._cache.workspace() as folder:
            self._each(values, lambda value: self._download(value, folder / value))

    def read(self, value: str) -> bytes:
        """See `Remote.read`."""

        def read() -> bytes:
            try:
                content: bytes = self._objects.fs.cat_file(self._objects.oid_to_path(value))
            except FileNotFoundError as error:
                raise missing_object(value, self.name) from error
            return content

        return self._ask(read)

    def condition(self, value: str) -> Condition:
        """See `Remote.condition`. The object is downloaded."""
        place = self._objects.oid_to_path(value)

        def read() -> str:
            digest = hashlib.md5(usedforsecurity=False)
            with self._objects.fs.open(place, "rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
            return digest.hexdigest()

        try:
            found = repeated(read, self._seconds, self.name)
        except FileNotFoundError:
            return Condition.MISSING
        except Exception as error:
            with server_errors(self.name, f"cache {self._cache.root}"):
                raise error
        return Condition.INTACT if found == value.removesuffix(".dir") else Condition.DAMAGED

    def held(self) -> dict[str, HeldObject]:
        """See `Remote.held`."""
        return {
            value: HeldObject(int(info.get("size") or 0), written_at(info))
            for path, info in self._find(self._objects.path).items()
            if is_object(value := "".join(path.rstrip("/").rsplit("/", 2)[-2:]))
        }

    def remove(self, values: Sequence[str]) -> None:
        """See `Remote.remove`."""
        there = [self._objects.oid_to_path(value) for value in sorted(set(values) - self.missing(values))]

        def remove() -> None:
            try:
                self._objects.fs.remove(there)
            except FileNotFoundError:  # An earlier attempt deleted some.
                for place in there:
                    if self._objects.fs.exists(place):
                        self._objects.fs.remove(place)

        if there:
            self._ask(remove)

    def read_note(self, name: str) -> bytes | None:
        """See `Remote.read_note`."""

        def read() -> bytes | None:
            try:
                content: bytes = self._objects.fs.cat_file(self._note(name))
            except FileNotFoundError:
                return None
            return content

        return self._ask(read)

    def note_written(self, name: str) -> float | None:
        """See `Remote.note_written`."""

        def read() -> float | None:
            self._objects.fs.fs.invalidate_cache()
            try:
                return written_at(self._objects.fs.info(self._note(name)))
            except FileNotFoundError:
                return None

        return self._ask(read)

    def write_note(self, name: str, content: bytes | None) -> None:
        """See `Remote.write_note`."""
        filesystem, place = self._objects.fs, self._note(name)

        def write() -> None:
            if content is not None:
                filesystem.makedirs(filesystem.parent(place), exist_ok=True)
                filesystem.pipe_file(place, content)
            else:
                filesystem.fs.invalidate_cache()
                if filesystem.exists(place):
                    filesystem.remove(place)

        self._ask(write)

    def notes(self, folder: str) -> list[str]:
        """See `Remote.notes`."""
        return sorted(path.rsplit("/", 1)[-1] for path in self._find(self._note(folder)))

    def _states(self, values: Sequence[str]) -> dict[str, Mapping[str, Any] | None]:
        """Return the server's description of each object; None for one that it does not hold."""

        def state(value: str) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = self._objects.fs.fs.info(self._objects.oid_to_path(value))
            except FileNotFoundError:
                return None
            return found

        if values:
            self._objects.fs.fs.invalidate_cache()
        with server_errors(self.name, f"cache {self._cache.root}"):
            return dict(zip(values, self._each(values, state), strict=True))

    def _is(self, value: str, sizes: Mapping[str, int], state: Mapping[str, Any] | None) -> bool:
        if state is None or state.get("size") not in (None, sizes[value]):
            return False
        checksum = _MD5.fullmatch(str(state.get("ETag", "")))
        # S3's checksum is the MD5, except of an object that the server encrypts with its own keys.
        if checksum is None or checksum[1] == value.removesuffix(".dir"):
            return True
        return self.condition(value) is Condition.INTACT

    def _upload(self, values: Sequence[str]) -> None:
        filesystem = self._objects.fs
        # Without a limit, a single large object is sent in parallel parts.
        single = {} if len(values) == 1 or not hasattr(filesystem.fs, "max_concurrency") else {"max_concurrency": 1}

        def upload(value: str) -> None:
            place = self._objects.oid_to_path(value)
            filesystem.makedirs(filesystem.parent(place), exist_ok=True)
            filesystem.put_file(str(self._cache.path(value)), place, **single)

        with server_errors(self.name, f"cache {self._cache.root}"):
            self._each(values, upload)

    def _download(self, value: str, arrival: Path) -> None:
        place = self._objects.oid_to_path(value)
        try:
            self._objects.fs.get_file(place, str(arrival))
        except FileNotFoundError as error:
            raise missing_object(value, self.name) from error
        if not self._cache.adopt(arrival, value):
            raise corrupt_object(value, place, self.name)

    def _find(self, root: str) -> dict[str, Any]:
        filesystem = self._objects.fs

        def find() -> dict[str, Any]:
            filesystem.fs.invalidate_cache()
            found: dict[str, Any] = filesystem.fs.find(root, detail=True) if filesystem.exists(root) else {}
            filesystem.fs.invalidate_cache()
            return found

        return self._ask(find)

    def _each(self, items: Sequence[_Item], operation: Callable[[_Item], _Result]) -> list[_Result]:
        """Return the results of an operation on each item; several run at once, and each is repeated by itself."""

        def run(item: _Item) -> _Result:
            return repeated(lambda: operation(item), self._seconds, self.name)

        return list(_in_threads(items, run))

    def _ask(self, operation: Callable[[], _Result]) -> _Result:
        with server_errors(self.name, f"cache {self._cache.root}"):
            return repeated(operation, self._seconds, self.name)

    def _note(self, name: str) -> str:
        place: str = self._objects.fs.join(self._root, _NOTES, name)
        return place


def _in_threads(items: Sequence[_Item], run: Callable[[_Item], _Result]) -> Iterator[_Result]:
    if len(items) < 2:  # one needs no thread
        yield from map(run, items)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(run, item) for item in items]
        try:
            for each in running:
                yield each.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
