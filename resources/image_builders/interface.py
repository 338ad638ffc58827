"""The interface of image builders, and their inputs and results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.identity import Digest, ImageReference

__all__ = ["BuiltImage", "ImageBuilder", "ImageSpec"]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The inputs of an image. Paths are relative to the project's folder, with forward slashes.

    Raises:
        DefinitionError: a path is absolute or leaves the project's folder, or the name is empty.
    """

    name: str
    """Name of the image, such as ``train``; also the last part of its repository."""
    dockerfile: str
    context: str = "."
    """Build context folder; ``.dockerignore`` applies."""
    sources: tuple[str, ...]
    """First-party files and folders in the context that the Dockerfile copies."""
    lock: str = "uv.lock"
    """The locked dependencies."""
    bases: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Build argument that takes a base image by digest → the base image's name in the lock of base images."""
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Other build arguments. Never a secret: the image's history shows them."""
    target: str | None = None
    """Stage to build; the last one if left out."""
    environment_stage: str = "environment"
    """Stage with the dependencies and none of the project's code."""
    locked_stage: str = "locked"
    """Stage that holds only the resolved dependencies, as files. If the environment stage uses it, its content
    replaces the lock in the environment digest."""

    def __post_init__(self) -> None:
        if not self.name:
            raise DefinitionError("an image has an empty name", next_step="give the image a name, such as train")
        for path in (self.dockerfile, self.context, self.lock, *self.sources):
            if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise DefinitionError(
                    f"image {self.name} uses {path!r}, which is not a path inside the project's folder",
                    next_step="write the path relative to the project's folder",
                )


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """The result of a build, or an existing image."""

    environment_digest: Digest
    """Data version of the image asset."""
    image: ImageReference | None
    """Image reference; None means "not containerized"."""
    index_digest: Digest | None
    """Digest of the index that contains the image's manifest, if any."""
    build_key: Digest
    """Digest of all inputs of the image, code included; see `ml_assets.resources.image_builders.build_key`."""
    built: bool
    """True if this call built an image; False if no build was needed or possible."""
    explanation: str
    """One sentence for people: the action and its reason."""


class ImageBuilder(ABC):
    """Builds images. With unchanged inputs, it returns the same environment digest and build key again."""

    @abstractmethod
    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        """Build the image, unless it already exists.

        Args:
            spec: inputs of the image.
            log: called with each line of the build's log.

        Raises:
            ImageError: an input of the image is missing or unreadable, or the build failed.
            EngineUnreachable: the builder did not answer.
        """

    @abstractmethod
    def build_key(self, spec: ImageSpec) -> Digest:
        """Return the build key for the current inputs; the image asset is out of date when it differs.

        Raises:
            ImageError: an input of the image is missing or unreadable.
        """

    @abstractmethod
    def environment_digest(self) -> Digest:
        """Return the environment digest of the calling process. Every step calls this, so it takes milliseconds."""
