"""References to the model to serve."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.identity import Digest, ModelUri

__all__ = ["ModelIdentity", "ModelReference"]


@dataclass(frozen=True)
class ModelReference:
    """A reference to exactly one of: a registered model's version or alias, a data version, or a directory.

    Forms: ``models:/name/version``, ``models:/name@alias``, ``md5:….dir`` and ``file:/directory``, the last with an
    optional ``#md5:….dir`` that the directory must match.
    """

    name: str | None = None
    version: str | None = None
    alias: str | None = None
    digest: Digest | None = None
    directory: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a reference.

        Raises:
            SettingsError: the text has none of these forms.
        """
        with suppress(ValueError):
            model = ModelUri.parse(text)
            return cls(model.name, model.version, model.alias)
        path, digest = _split(text.removeprefix("file:"))
        try:
            if text.startswith("file:") and path:
                path = "/" + path.lstrip("/") if path.startswith("/") else path
                return cls(directory=path, digest=_directory_digest(digest) if digest else None)
            return cls(digest=_directory_digest(text))
        except ValueError as error:
            raise SettingsError(
                f"{text!r} is not a model reference: {error}",
                next_step="write models:/name/version, models:/name@alias, md5:….dir, file:/directory or "
                "file:/directory#md5:….dir",
            ) from error

    @property
    def is_registered(self) -> bool:
        """True if a tracking server must resolve the reference."""
        return self.directory is None

    def __str__(self) -> str:
        if self.directory is not None:
            return f"file:{self.directory}" + (f"#{self.digest}" if self.digest else "")
        if self.name is None:
            return str(self.digest)
        return str(ModelUri(self.name, self.version, self.alias))


@dataclass(frozen=True)
class ModelIdentity:
    """Identity of the served model."""

    name: str
    version: str
    """Version in the registry; the digest's digits for an unregistered model."""
    digest: Digest
    """Data version of the model, as in lineage."""
    registered_name: str | None = None
    """Name in the registry, which may differ from the served name; None for an unregistered model."""

    @property
    def traced_by(self) -> str:
        """The reference for ``ml-assets trace``: ``models:/name/version``, or the data version if there is none."""
        return str(ModelUri(self.registered_name, self.version) if self.registered_name else self.digest)


def _split(directory: str) -> tuple[str, str]:
    """Split a digest from a directory, whose name may contain ``#``."""
    path, mark, digest = directory.rpartition("#")
    is_digest = mark and ":" in digest and "/" not in digest
    return (path, digest) if is_digest else (directory, "")


def _directory_digest(text: str) -> Digest:
    digest = Digest.parse(text)
    if not digest.is_directory:
        raise ValueError(f"a model's data version must end in .dir, got {text}")
    return digest
