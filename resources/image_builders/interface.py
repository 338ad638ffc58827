"""What every image builder takes and gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.identity import Digest, ImageReference

__all__ = ["BuiltImage", "ImageBuilder", "ImageSpec"]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What an image is made from. Paths are relative to the project's folder, with forward slashes.

    Raises:
        DefinitionError: a path is absolute or leaves the project's folder, or the name is empty.
    """

    name: str
    """Name of the image, such as ``train``; also the last part of its repository."""
    dockerfile: str
    context: str = "."
    """Folder that the build may read, as far as ``.dockerignore`` lets it."""
    sources: tuple[str, ...]
    """First-party files and folders in the context that the Dockerfile copies."""
    lock: str = "uv.lock"
    """The locked dependencies."""
    bases: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Build argument that takes a base image by digest → the base image's name in the lock of base images."""
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Other build arguments that choose what is built. Never a secret: these end up in the image's history."""
    target: str | None = None
    """Stage to build; the last one when left out."""
    environment_stage: str = "environment"
    """Stage that holds the dependencies and none of the project's code."""
    locked_stage: str = "locked"
    """Stage that holds just the resolved dependencies, as files; where the Dockerfile has one that the environment
    stage draws on, its content stands for the lock in the environment digest."""

    def __post_init__(self) -> None:
        if not self.name:
            raise DefinitionError("an image has an empty name", next_step="give the image a name, such as train")
        for path in (self.dockerfile, self.context, self.lock, *self.sources):
            if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise DefinitionError(
                    f"image {self.name} is made from {path!r}, which is not a path inside the project's folder",
                    next_step="write the path relative to the project's folder",
                )


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """What a builder made, or found made already."""

    environment_digest: Digest
    """Data version of the image asset."""
    image: ImageReference | None
    """None means "not containerized"."""
    index_digest: Digest | None
    """The index that stands above the image's manifest, if any."""
    build_key: Digest
    """What the image was made from, code included; see `ml_assets.resources.image_builders.build_key`."""
    built: bool
    """Whether this call built something; False where nothing had to be built, or nothing can."""
    explanation: str
    """What was done and why, as one sentence for people."""


class ImageBuilder(ABC):
    """Makes images. Called again with unchanged inputs, it gives the same environment digest and build key."""

    @abstractmethod
    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        """Make the image, unless it exists already.

        Args:
            spec: what to make it from.
            log: takes each line of the build's log as it comes.

        Raises:
            ImageError: something that the image is made from is missing or unreadable, or the build failed.
            EngineUnreachable: what builds images did not answer.
        """

    @abstractmethod
    def build_key(self, spec: ImageSpec) -> Digest:
        """What the image would be made from now, as one digest: the image asset is out of date when it differs.

        Raises:
            ImageError: something that the image is made from is missing or unreadable.
        """

    @abstractmethod
    def environment_digest(self) -> Digest:
        """Environment digest of the process that asks. Every step calls it, so it takes milliseconds."""
