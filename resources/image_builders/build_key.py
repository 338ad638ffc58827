"""The build key: everything that an image is made from, as one digest.

It is input-addressed: the same inputs give the same key on any machine, before anything is built, so that a registry
can be asked whether they were built before. Covered are the Dockerfile's and lock's bytes, each source file's path,
executable bit and bytes, the base images' digests, the arguments and the target stage. Not covered are times, owners,
other files of the context and Python's caches.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from resources.errors import ImageError
from resources.identity import Digest
from resources.image_builders.interface import ImageSpec

__all__ = ["build_key"]

_FORM = 1
_CACHES = frozenset({"__pycache__"})
_CACHE_SUFFIXES = (".pyc", ".pyo")


def build_key(spec: ImageSpec, root: Path, base_digests: Mapping[str, Digest | None]) -> Digest:
    """Digest of what the image is made from.

    Args:
        spec: the image.
        root: the project's folder.
        base_digests: digest of each base image by its build argument; None where no registry has answered yet, which
            gives a key of its own (a builder that builds refuses such a base).

    Raises:
        ImageError: the Dockerfile, the lock or a source is missing or unreadable.
    """
    inputs = {
        "form": _FORM,
        "dockerfile": _file_digest(spec, root / spec.dockerfile, "Dockerfile"),
        "lock": _file_digest(spec, root / spec.lock, "lock of dependencies"),
        "sources": dict(_sources(spec, root / spec.context)),
        "bases": {argument: digest and str(digest) for argument, digest in base_digests.items()},
        "arguments": dict(spec.arguments),
        "target": spec.target,
    }
    return Digest.of_bytes(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode())


def _sources(spec: ImageSpec, context: Path) -> Iterator[tuple[str, list[str]]]:
    for source in spec.sources:
        path = context / source
        for file in _files(path) if path.is_dir() else (path,):
            yield file.relative_to(context).as_posix(), _describe(spec, file)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in _CACHES and name not in linked]
        yield from (Path(parent) / name for name in (*names, *linked) if not name.endswith(_CACHE_SUFFIXES))


def _describe(spec: ImageSpec, file: Path) -> list[str]:
    if file.is_symlink():
        return ["link", os.readlink(file)]
    executable = os.access(file, os.X_OK)
    return ["program" if executable else "file", _file_digest(spec, file, "source")]


def _file_digest(spec: ImageSpec, file: Path, role: str) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(
            f"image {spec.name} is made from {file} ({role}), which cannot be read: {error.strerror}",
            next_step=f"restore the file, or correct the {role} in the image's declaration",
        ) from error
