"""Identifiers of artifacts: content digests, image references, asset partitions, versions of registered models.

Frozen values with one written form each. This module only parses and prints; it does no I/O.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

__all__ = ["AssetPartition", "Digest", "ImageReference", "ModelUri"]

_HEX_LENGTHS = {"md5": 32, "sha256": 64}
_DIRECTORY_SUFFIX = ".dir"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_MODEL_VERSION = re.compile(r"models:/([^/]+)/([0-9]+)")
_MODEL_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """The digest of content, written ``algorithm:value``.

    The value is lower-case hexadecimal; the digest of a directory as DVC computes it (MD5 of its listing) ends
    in ``.dir``, as it does in ``.dvc`` files.

    Raises:
        ValueError: the algorithm is unknown or the value does not have the algorithm's form.
    """

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        length = _HEX_LENGTHS.get(self.algorithm)
        if length is None:
            raise ValueError(f"digest algorithm must be one of {', '.join(_HEX_LENGTHS)}, not {self.algorithm!r}")
        if self.is_directory and self.algorithm != "md5":
            raise ValueError(f"only an md5 digest can be a DVC directory, not {self.algorithm}:{self.value}")
        if not re.fullmatch(f"[0-9a-f]{{{length}}}", self.hex):
            raise ValueError(f"a {self.algorithm} digest has {length} hexadecimal digits, not {self.value!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``algorithm:value``."""
        algorithm, separator, value = text.partition(":")
        if not separator:
            raise ValueError(f"a digest is written algorithm:value, not {text!r}")
        return cls(algorithm, value)

    @classmethod
    def of_bytes(cls, content: bytes) -> Self:
        """Return the SHA-256 digest of bytes."""
        return cls("sha256", hashlib.sha256(content).hexdigest())

    @property
    def hex(self) -> str:
        """Return the hexadecimal value without the directory suffix."""
        return self.value.removesuffix(_DIRECTORY_SUFFIX)

    @property
    def is_directory(self) -> bool:
        """Return True if this is the digest of a directory's listing."""
        return self.value.endswith(_DIRECTORY_SUFFIX)

    @property
    def short(self) -> str:
        """Return the first twelve digits, for display only; never stored."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


@dataclass(frozen=True, order=True, slots=True)
class ImageReference:
    """A container image by digest, written ``registry/repository@sha256:…``. Tags are rejected: they can move.

    Raises:
        ValueError: a part is missing or malformed.
    """

    registry: str
    repository: str
    digest: Digest

    def __post_init__(self) -> None:
        if not self.registry or "/" in self.registry or "@" in self.registry:
            raise ValueError(f"a registry is a host with an optional port, not {self.registry!r}")
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError(f"a repository is a lower-case path without a tag, not {self.repository!r}")
        if self.digest.algorithm != "sha256":
            raise ValueError(f"an image is named by its sha256 digest, not {self.digest}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``registry/repository@sha256:…``."""
        name, separator, digest = text.partition("@")
        registry, slash, repository = name.partition("/")
        if not separator or not slash:
            raise ValueError(f"an image reference is written registry/repository@sha256:…, not {text!r}")
        return cls(registry, repository, Digest.parse(digest))

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}@{self.digest}"


@dataclass(frozen=True, order=True, slots=True)
class AssetPartition:
    """An asset, or one partition of it, written ``key/of/asset`` or ``key/of/asset@partition``."""

    asset: str
    partition: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``key`` or ``key@partition``."""
        asset, separator, partition = text.partition("@")
        if not asset or (separator and not partition):
            raise ValueError(f"an asset is written key or key@partition, not {text!r}")
        return cls(asset, partition or None)

    def __str__(self) -> str:
        return self.asset if self.partition is None else f"{self.asset}@{self.partition}"


@dataclass(frozen=True, slots=True)
class ModelUri:
    """A registered model's version, by number (``models:/name/version``) or by alias (``models:/name@alias``).

    The form is MLflow's; its other forms (``models:/name/latest``, ``models:/model-id``) name no registered version.

    Raises:
        ValueError: neither a version nor an alias is given, or both are.
    """

    name: str
    version: str | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        if (self.version is None) is (self.alias is None):
            raise ValueError(f"a model URI has a version or an alias, not {self.version!r} and {self.alias!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``models:/name/version`` or ``models:/name@alias``."""
        if version := _MODEL_VERSION.fullmatch(text):
            return cls(version[1], version=version[2])
        if alias := _MODEL_ALIAS.fullmatch(text):
            return cls(alias[1], alias=alias[2])
        raise ValueError(f"a model URI is written models:/name/version or models:/name@alias, not {text!r}")

    def __str__(self) -> str:
        return f"models:/{self.name}" + (f"@{self.alias}" if self.version is None else f"/{self.version}")
