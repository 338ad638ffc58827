"""Parsers and checks for the answers of an OCI registry: manifests, indexes, configurations and tags.

Sources: the OCI image and distribution specifications 1.1.
"""

import hashlib
import re
from collections.abc import Collection
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.identity import Digest
from ml_assets.resources.registry.session import RegistryResponse

__all__ = [
    "Configuration",
    "Descriptor",
    "Manifest",
    "Tags",
    "choose_platform",
    "next_page",
    "parse_document",
    "platform_name",
    "platforms_of",
    "read_digest",
    "verify_body",
]


class _Platform(BaseModel):
    os: str = "unknown"
    architecture: str = "unknown"
    variant: str | None = None


class Descriptor(BaseModel):
    """A reference in a manifest or index to one of its parts."""

    digest: str
    size: int = 0
    platform: _Platform | None = None
    artifact_type: str = Field("", alias="artifactType")
    annotations: dict[str, str] = {}


class Manifest(BaseModel):
    """An image manifest (which has a configuration) or an index (which has manifests)."""

    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] | None = None


class Tags(BaseModel):
    """One page of a repository's tags."""

    tags: list[str] | None = None


class _ContainerConfiguration(BaseModel):
    labels: dict[str, str] | None = Field(None, alias="Labels")


class Configuration(_Platform):
    """The configuration of an image: its platform and its labels."""

    config: _ContainerConfiguration | None = None


_Document = TypeVar("_Document", Manifest, Configuration, Tags)


def verify_body(answer: RegistryResponse, version: str, what: str) -> Digest:
    """Return the body's SHA-256 digest, after a comparison with the expected digests.

    Args:
        answer: the registry's answer, which may name a digest in a header.
        version: requested tag or digest.
        what: the requested object, in words.

    Raises:
        RegistryError: it has a different digest.
    """
    digest = Digest.of_bytes(answer.body)
    for expected in (version, answer.headers.get("docker-content-digest")):
        algorithm, separator, value = (expected or "").partition(":")
        if not separator:
            continue
        if algorithm not in ("sha256", "sha512") or hashlib.new(algorithm, answer.body).hexdigest() != value:
            raise RegistryError(
                f"{what} has the digest {digest}, expected {expected}",
                next_step="run again; if it happens again, check the registry and any proxy in between",
            )
    return digest


def parse_document(model: type[_Document], body: bytes, what: str) -> _Document:
    """Parse a registry's answer.

    Raises:
        RegistryError: it has a different form.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RegistryError(
            f"{what} is not a valid answer of an OCI registry ({error.error_count()} format errors)",
            next_step="check the registry's address; a proxy or login page may have answered instead",
        ) from error


def platforms_of(manifests: list[Descriptor]) -> dict[str, Digest]:
    """Return the manifest of each platform that an index lists."""
    found: dict[str, Digest] = {}
    for entry in manifests:
        # BuildKit stores attestations in the index, as manifests of an unknown platform.
        if entry.platform and entry.platform.os != "unknown":
            found.setdefault(platform_name(entry.platform), read_digest(entry.digest))
    return found


def platform_name(platform: _Platform) -> str:
    """Return ``system/architecture``, with ``/variant`` if there is one."""
    return _normal("/".join(part for part in (platform.os, platform.architecture, platform.variant) if part))


def _normal(platform: str) -> str:
    # The specification's only architecture whose usual variant is written by some tools and omitted by others.
    return "linux/arm64" if platform == "linux/arm64/v8" else platform


def choose_platform(platforms: Collection[str], wanted: str) -> str | None:
    """Return the wanted platform; its variant may be left out if there is only one."""
    wanted = _normal(wanted)
    if wanted in platforms:
        return wanted
    variants = [platform for platform in platforms if platform.startswith(f"{wanted}/")]
    return variants[0] if len(variants) == 1 else None


def read_digest(text: str) -> Digest:
    """Return a digest that a registry named.

    Raises:
        RegistryError: it is malformed.
    """
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise RegistryError(f"the registry sent an invalid digest: {text!r}", next_step="check the registry") from error


def next_page(answer: RegistryResponse, base: str) -> str | None:
    """Return the path of the next page of a list, from the header that announces it; None at the end."""
    link = re.match(r'\s*<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
    if not link:
        return None
    query = link[1].partition("?")[2]
    return f"{base}?{query}"
