"""A builder for hosts without container engine: the interpreter's environment replaces the image's."""

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ml_assets.resources.errors import ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.build_key import base_digests, build_key
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder, ImageSpec

__all__ = [
    "BAKED_ENVIRONMENT",
    "EXPLANATION",
    "InterpreterEnvironment",
    "installed_distributions",
    "interpreter_environment_digest",
    "running_environment_digest",
]

BAKED_ENVIRONMENT = "environment_digest"
"""File at the root of an image's code: the environment digest of the image at build time."""

EXPLANATION = "not containerized: no container engine on this target; recorded the environment of the interpreter"
_PROJECT = "ml-assets"
_INSTALLERS = frozenset({"pip", "uv"})
_METADATA_SUFFIX = ".dist-info"


class InterpreterEnvironment(ImageBuilder):
    """Builds nothing: every image has the interpreter's environment digest, and no image reference.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        """Record the interpreter's environment for this image."""
        key = self.build_key(spec)
        digest = self.environment_digest()
        log(f"{spec.name}: {EXPLANATION}: {digest}")
        return BuiltImage(
            environment_digest=digest,
            image=None,
            index_digest=None,
            build_key=key,
            built=False,
            explanation=EXPLANATION,
        )

    def build_key(self, spec: ImageSpec) -> Digest:
        """Return the build key for the image's current inputs, although nothing is built."""
        return build_key(spec, self._root, base_digests(spec, self._root))

    def environment_digest(self) -> Digest:
        """Return the environment digest of the process's image, else of the interpreter and installed distributions."""
        return running_environment_digest(self._root)


def running_environment_digest(root: Path) -> Digest:
    """Return the environment digest of this process: that of its image, else the interpreter's.

    Args:
        root: the project's folder; an image's has a file `BAKED_ENVIRONMENT`.

    Raises:
        ImageError: the file holds no digest.
    """
    file = root / BAKED_ENVIRONMENT
    try:
        baked = file.read_text().strip()
    except OSError:
        return interpreter_environment_digest()
    try:
        return Digest.parse(baked)
    except ValueError as error:
        raise ImageError(
            f"{file} does not hold an environment digest: {error}",
            next_step="materialize the image again, or remove the file",
        ) from error


def interpreter_environment_digest(search_path: Iterable[str] | None = None) -> Digest:
    """Return the SHA-256 over the canonical JSON of Python's implementation and version, platform and distributions.

    The digest is equal on all checkouts and machines of one platform with the same interpreter and installed lock.

    Args:
        search_path: folders to look for distributions in; ``sys.path`` if left out.
    """
    environment = {
        "python": [platform.python_implementation(), platform.python_version()],
        "platform": [platform.system(), platform.machine()],
        "distributions": installed_distributions(sys.path if search_path is None else search_path),
    }
    return Digest.of_bytes(json.dumps(environment, sort_keys=True, separators=(",", ":")).encode())


def installed_distributions(search_path: Iterable[str]) -> list[str]:
    """Return every installed distribution as ``name==version``, sorted, without this project and the installers.

    Only the names of the ``*.dist-info`` folders are read. This takes one millisecond; importlib.metadata takes a
    hundred. The first of several on the path counts, as for imports.
    """
    versions: dict[str, str] = {}
    for folder in dict.fromkeys(search_path):
        for entry in _metadata_folders(folder or os.curdir):
            name, _, version = entry.removesuffix(_METADATA_SUFFIX).rpartition("-")
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    left_out = {_PROJECT, *_INSTALLERS}
    return sorted(f"{name}=={version}" for name, version in versions.items() if name not in left_out)


def _metadata_folders(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(_METADATA_SUFFIX))
    except OSError:  # The path may name archives and folders that do not exist.
        return []
