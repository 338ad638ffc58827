"""The build key: one digest over all inputs of an image.

The key is input-addressed: the same inputs give the same key on any machine, before a build. A look-up in the registry
then tells whether they were built before. The key covers the bytes of Dockerfile and lock; path, executable bit and
bytes of each source file, declared or copied by name; the base images' digests, the arguments, the target stage and the
platforms. It does not cover times, owners, other files of the context and Python's caches.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ml_assets.resources.errors import ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.base_images import LOCK_FILE, read_base_images
from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.image_builders.stages import is_pattern, read_dockerfile

__all__ = ["base_digests", "build_key", "described_files"]

_FORM = 1
_CACHES = frozenset({"__pycache__"})
_CACHE_SUFFIXES = (".pyc", ".pyo")


def build_key(
    spec: ImageSpec, root: Path, base_digests: Mapping[str, Digest | None], platforms: Iterable[str] = ()
) -> Digest:
    """Return the digest of an image's inputs.

    Args:
        spec: the image.
        root: the project's folder.
        base_digests: digest of each base image by its build argument; None if no registry has answered yet, which
            gives a key of its own (a builder that builds rejects such a base).
        platforms: platforms of the image, as ``system/architecture``; none if nothing is built.

    Raises:
        ImageError: the Dockerfile, the lock or a source is missing or unreadable.
    """
    inputs = {
        "form": _FORM,
        "dockerfile": _file_digest(spec, root / spec.dockerfile, "Dockerfile"),
        "lock": _file_digest(spec, root / spec.lock, "lock of dependencies"),
        "sources": dict(described_files(spec, root / spec.context, {*spec.sources, *_copied(spec, root)})),
        "bases": {argument: digest and str(digest) for argument, digest in base_digests.items()},
        "arguments": dict(spec.arguments),
        "target": spec.target,
        "platforms": sorted(platforms),
    }
    return Digest.of_bytes(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode())


def _copied(spec: ImageSpec, root: Path) -> Iterator[str]:
    """Return the paths that the Dockerfile copies by name, so that files left out of the declaration count too."""
    dockerfile = read_dockerfile(root / spec.dockerfile)
    for stage in dockerfile.needed_for(spec.target or dockerfile.stages[-1].name) or ():
        yield from (path for path in stage.context_paths() if not is_pattern(path))


def base_digests(spec: ImageSpec, root: Path) -> dict[str, Digest | None]:
    """Return the digest of each of the image's base images by its build argument, from the lock of base images.

    Raises:
        ImageError: the lock is missing or malformed, or does not name one of them.
    """
    images = read_base_images(root / LOCK_FILE)
    unknown = sorted(set(spec.bases.values()) - images.keys())
    if unknown:
        raise ImageError(
            f"image {spec.name} is based on {', '.join(unknown)}, which is not in {LOCK_FILE}",
            next_step=f"add repository and tag to {LOCK_FILE}, then run ml-assets images update",
        )
    answers = {argument: images[name].answer for argument, name in spec.bases.items()}
    return {argument: answer.digest if answer else None for argument, answer in answers.items()}


def described_files(spec: ImageSpec, context: Path, paths: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Return each file at or below some paths with its content description, without Python's caches.

    Raises:
        ImageError: one of them is missing or unreadable.
    """
    for source in paths:
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
            f"image {spec.name} needs {file} ({role}), which cannot be read: {error.strerror}",
            next_step=f"restore the file, or correct the {role} in the image's declaration",
        ) from error
