"""Verification of stored content: every recorded object is read and compared with its hash."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import dagster as dg

from ml_assets.lineage import DeletionLog, open_index
from ml_assets.resources.dvc.directory import Condition, ObjectDirectory, disk_errors
from ml_assets.resources.dvc.scan import read_listing
from ml_assets.resources.errors import ContentMissing
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["FolderPlace", "Place", "Problem", "Verified", "recorded_contents", "verify"]

_PREFIX: Final = "md5:"
_AT_ONCE: Final = 8

_Progress = Callable[[int, int], None]
"""Receives the number of objects read so far, and the total."""


class Place(Protocol):
    """A place that holds objects: a remote, a cache or a backup."""

    name: str

    def condition(self, value: str) -> Condition:
        """Read an object completely and return its condition."""

    def read(self, value: str) -> bytes:
        """Return the bytes of an object; raise `ContentMissing` if the place does not hold it."""


@dataclass
class FolderPlace:
    """A folder of objects.

    Attributes:
        name: name for messages.
        folder: the folder that holds ``files``.
    """

    name: str
    folder: Path

    def condition(self, value: str) -> Condition:
        """Read an object completely and return its condition."""
        with disk_errors(self.name):
            return ObjectDirectory(self.folder).condition(value)

    def read(self, value: str) -> bytes:
        """Return the bytes of an object."""
        try:
            return ObjectDirectory(self.folder).path(value).read_bytes()
        except OSError as error:
            raise ContentMissing(f"the {self.name} has no {value}", next_step="use another place") from error


@dataclass(frozen=True)
class Problem:
    """A damaged or missing object.

    Attributes:
        value: its DVC hash.
        condition: its condition in the verified place.
        of: artifacts that need it.
        repairable_from: names of the places that hold it intact.
    """

    value: str
    condition: Condition
    of: tuple[str, ...]
    repairable_from: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """The result of a verification.

    Attributes:
        place: name of the verified place.
        contents: number of verified contents.
        objects: number of objects that were read.
        problems: objects that are damaged or missing, by hash.
        unlisted: directories whose files are unknown, because no place holds an intact listing.
    """

    place: str
    contents: int
    objects: int
    problems: tuple[Problem, ...]
    unlisted: tuple[str, ...]


def recorded_contents(instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """Return the artifacts of each content that materializations recorded, by DVC hash.

    Content that `ml-assets gc` deleted is left out.

    Raises:
        LineageError: Dagster's log cannot be read.
    """
    found = defaultdict[str, list[str]](list)
    with open_index(instance) as index:
        for node in index.whole().nodes.values():
            version = node.content_version or node.data_version or ""
            is_stored = isinstance(node.kind, ArtifactKind) and node.kind is not ArtifactKind.IMAGE
            if is_stored and version.startswith(_PREFIX):
                found[version].append(node.id)
    deleted = DeletionLog(instance).find(found)
    return {version.removeprefix(_PREFIX): of for version, of in found.items() if version not in deleted}


def verify(
    contents: Mapping[str, Sequence[str]],
    place: Place,
    others: Sequence[Place],
    *,
    is_partial: bool = False,
    progress: _Progress = lambda *_: None,
) -> Verified:
    """Read every object of the contents in one place.

    Args:
        contents: artifacts of each content, by DVC hash.
        place: the place to verify.
        others: places that may hold intact copies of damaged objects.
        is_partial: True if the place need not hold everything, such as a cache; missing objects are then no problem.
        progress: called after each object.

    Raises:
        StoreError: a place cannot be read.
    """
    needed = defaultdict[str, list[str]](list)
    unlisted = []
    for value, of in contents.items():
        needed[value] += of
        if value.endswith(".dir"):
            files = _files(value, (place, *others))
            if files is None and not (is_partial and place.condition(value) is Condition.MISSING):
                unlisted.append(value)
            for each in files or ():
                needed[each] += of
    problems = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        values = sorted(needed)
        for done, (value, condition) in enumerate(zip(values, pool.map(place.condition, values), strict=True), 1):
            if condition is Condition.DAMAGED or (condition is Condition.MISSING and not is_partial):
                sources = tuple(each.name for each in others if each.condition(value) is Condition.INTACT)
                problems.append(Problem(value, condition, tuple(dict.fromkeys(needed[value])), sources))
            progress(done, len(values))
    return Verified(place.name, len(contents), len(values), tuple(problems), tuple(unlisted))


def _files(value: str, places: Iterable[Place]) -> set[str] | None:
    """Return the files of a directory, from the first place with an intact listing."""
    for place in places:
        try:
            if place.condition(value) is Condition.INTACT:
                return set(read_listing(place.read(value)).values())
        except (ContentMissing, ValueError):
            continue
    return None
