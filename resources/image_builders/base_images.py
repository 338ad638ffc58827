"""The lock of base images, ``images.lock``: the registry's answer for each base image's tag, and its time.

People add a base image by repository and tag; only `update_base_images` writes an answer, and only a registry's own
answer. The settings choose the registry, so that the lock works behind any mirror: the digest, not the address,
identifies the base image.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.errors import ImageError, RegistryError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient

__all__ = [
    "LOCK_FILE",
    "BaseImage",
    "BaseImageAnswer",
    "BaseImageUpdate",
    "base_image_reference",
    "read_base_images",
    "update_base_images",
]

LOCK_FILE = "images.lock"
"""Name of the lock file in the project's folder."""

_LockedDigest = Annotated[
    Digest,
    BeforeValidator(lambda value: Digest.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str, return_type=str),
]


class _LockPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseImageAnswer(_LockPart):
    """The registry's answer for a base image's tag."""

    digest: _LockedDigest
    """Digest of the index if the image has one, else of the only manifest."""
    platforms: dict[str, _LockedDigest]
    """Manifest of each platform, by ``system/architecture[/variant]``."""
    registry: str
    answered_at: datetime


class BaseImage(_LockPart):
    """A base image by repository and tag, and the registry's answer; None if no registry was asked yet."""

    repository: str
    tag: str
    answer: BaseImageAnswer | None = None


@dataclass(frozen=True, slots=True)
class BaseImageUpdate:
    """The result of the update of one base image."""

    name: str
    before: Digest | None
    after: Digest | None
    error: RegistryError | None = None
    """Reason why the registry gave no answer; the lock then keeps its entry."""


class _Lock(_LockPart):
    schema_version: Literal[1]
    images: dict[str, BaseImage]


def read_base_images(lock: Path) -> dict[str, BaseImage]:
    """Return the base images in the lock, by the name that image specs use.

    Raises:
        ImageError: the lock is missing or malformed.
    """
    try:
        return _Lock.model_validate_json(lock.read_bytes()).images
    except OSError as error:
        raise ImageError(
            f"the lock of base images cannot be read: {error}", next_step=f"restore {lock.name} from git"
        ) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ImageError(f"{lock} is malformed: {problems}", next_step="correct it, or restore it from git") from error


def base_image_reference(lock: Path, name: str, registry: str) -> ImageReference:
    """Return the base image to build on: the digest in the lock, at a registry that holds it.

    Raises:
        ImageError: the lock does not name the image, or no registry has answered for it yet.
    """
    images = read_base_images(lock)
    if name not in images:
        raise ImageError(
            f"{lock.name} has no base image {name!r}; it has {', '.join(sorted(images)) or 'none'}",
            next_step=f"add its repository and tag to {lock.name}, then run ml-assets images update",
        )
    image = images[name]
    if image.answer is None:
        raise ImageError(f"base image {name} has no digest yet", next_step="run ml-assets images update")
    return ImageReference(registry, image.repository, image.answer.digest)


def update_base_images(
    lock: Path,
    registry: str,
    client: RegistryClient,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[BaseImageUpdate, ...]:
    """Ask a registry for every base image in the lock, and write its answers.

    An image without an answer keeps its entry and does not block the other updates. An unchanged answer leaves its
    entry, time included, unchanged. The lock is replaced atomically.

    Args:
        lock: the lock file.
        registry: ``host[:port]`` of the registry to ask.
        client: client of the registry.
        now: the time recorded with new answers.

    Raises:
        ImageError: the lock is missing, malformed or cannot be written.
    """
    images = read_base_images(lock)
    updates = []
    answered = dict(images)
    for name, image in images.items():
        before = image.answer.digest if image.answer else None
        try:
            answer = _ask(client, registry, image, now)
        except RegistryError as error:
            updates.append(BaseImageUpdate(name, before, before, error))
            continue
        if image.answer is None or (answer.digest, answer.platforms) != (image.answer.digest, image.answer.platforms):
            answered[name] = image.model_copy(update={"answer": answer})
        updates.append(BaseImageUpdate(name, before, answer.digest))
    if answered != images:
        _write(lock, _Lock(schema_version=1, images=answered))
    return tuple(updates)


def _ask(client: RegistryClient, registry: str, image: BaseImage, now: Callable[[], datetime]) -> BaseImageAnswer:
    name = f"{registry}/{image.repository}:{image.tag}"
    found = client.find(name)
    if found is None:
        raise RegistryError(
            f"the registry does not have {name}",
            next_step="check repository and tag in images.lock, or mirror the image in the registry and run again",
        )
    return BaseImageAnswer(
        digest=found.reference.digest,
        platforms=dict(sorted(found.platforms.items())),
        registry=registry,
        answered_at=now(),
    )


def _write(lock: Path, content: _Lock) -> None:
    text = json.dumps(content.model_dump(mode="json"), indent=2) + "\n"
    try:
        write_atomically(lock, text, durable=True)
    except OSError as error:
        raise ImageError(
            f"the lock of base images cannot be written: {error}", next_step=f"free space, or make {lock} writable"
        ) from error
