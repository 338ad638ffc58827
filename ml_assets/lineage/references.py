"""References: the text that names a materialization, parsed into all its meanings. Nothing is looked up here."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ml_assets.resources.errors import UnknownReference
from ml_assets.resources.identity import Digest, ImageReference, ModelUri

__all__ = ["DIRTY_MARK", "Interpretation", "ParsedReference", "ReferenceKind", "parse_reference"]

DIRTY_MARK: Final = "+dirty"
"""Suffix of a commit whose working tree had changes."""

SHORTEST_VERSION: Final = 6
SHORTEST_COMMIT: Final = 7
SHORTEST_RUN: Final = 8
"""Minimum number of digits of a prefix. Dagster's UI shows eight digits of a run's id, git seven of a commit's."""

_LONGEST: Final = 4096
_SHOWN: Final = 40

_HEX = re.compile(r"[0-9a-f]+")
_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]*")
_SHORTENED = re.compile(r"(md5|sha256):([0-9a-f]*)")


class ReferenceKind(StrEnum):
    """A kind of identifier of materializations; the value is shown to users."""

    EVENT = "materialization"
    ASSET = "asset"
    VERSION = "digest"
    """Data version, or environment or image digest."""
    IMAGE = "image reference"
    MLFLOW_RUN = "MLflow run"
    MODEL_VERSION = "model version"
    DAGSTER_RUN = "Dagster run"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One possible meaning of a reference.

    Attributes:
        is_prefix: True if the value may be a prefix. The prefix of a version may omit its algorithm.
    """

    kind: ReferenceKind
    value: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class ParsedReference:
    """A reference as given, and all its possible meanings."""

    text: str
    interpretations: tuple[Interpretation, ...]


def parse_reference(text: str) -> ParsedReference:
    """Return all possible meanings of a reference.

    These are an asset key (``key/of/asset``, ``key/of/asset@partition``), the id of a materialization as a trace
    shows it (``key@partition#17``), a data version or environment or image digest (``md5:…``, ``sha256:…``, or at least
    six digits of one), an image reference, an MLflow or Dagster run id, ``models:/name/version``, or a commit.

    Raises:
        UnknownReference: the text has no possible meaning.
    """
    text = text.strip()
    if not text:
        raise _malformed("the reference is empty")
    if len(text) > _LONGEST or not _is_text(text):
        raise _malformed(f"{text[:_SHOWN]!r}… cannot be a reference: it is too long or not valid text")
    if text.startswith("models:"):
        return ParsedReference(text, (_model_version(text),))
    exact = [Interpretation(kind, text) for kind in (ReferenceKind.EVENT, ReferenceKind.ASSET, ReferenceKind.VERSION)]
    if _is_image_reference(text):
        exact.append(Interpretation(ReferenceKind.IMAGE, text))
    return ParsedReference(text, tuple(dict.fromkeys(exact + _digits(text.lower()))))


def _is_text(text: str) -> bool:
    """Return True if a database can store the text. A shell may pass bytes that are not valid text."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _model_version(text: str) -> Interpretation:
    try:
        is_version = ModelUri.parse(text).version is not None
    except ValueError:
        is_version = False
    if not is_version:
        raise _malformed(
            f"{text!r} is not a version of a registered model",
            "write it as models:/name/version or models:/name@alias",
        )
    return Interpretation(ReferenceKind.MODEL_VERSION, text)


def _is_image_reference(text: str) -> bool:
    try:
        ImageReference.parse(text)
    except ValueError:
        return False
    return True


def _digits(text: str) -> list[Interpretation]:
    if shortened := _SHORTENED.fullmatch(text):
        if len(shortened[2]) < SHORTEST_VERSION:
            raise _malformed(f"{text!r} is too short for a digest", f"write at least {SHORTEST_VERSION} digits")
        return [Interpretation(ReferenceKind.VERSION, text, is_prefix=not _is_digest(text))]
    if _RUN_ID.fullmatch(text):
        return [Interpretation(ReferenceKind.DAGSTER_RUN, text, is_prefix=True)]
    digits = text.removesuffix(DIRTY_MARK)
    if not _HEX.fullmatch(digits):
        return []
    kinds = [(ReferenceKind.COMMIT, SHORTEST_COMMIT)]
    if digits == text:
        kinds += [
            (ReferenceKind.VERSION, SHORTEST_VERSION),
            (ReferenceKind.MLFLOW_RUN, SHORTEST_RUN),
            (ReferenceKind.DAGSTER_RUN, SHORTEST_RUN),
        ]
    return [Interpretation(kind, digits, is_prefix=True) for kind, shortest in kinds if len(digits) >= shortest]


def _is_digest(text: str) -> bool:
    """Return True if a digest is complete. An MD5 of full length may still be a prefix of a directory's: ``….dir``."""
    try:
        return Digest.parse(text).algorithm == "sha256"
    except ValueError:
        return False


def _malformed(what: str, next_step: str | None = None) -> UnknownReference:
    return UnknownReference(
        what, next_step=next_step or "write an asset, a version, an image, a run, a model version or a commit"
    )
