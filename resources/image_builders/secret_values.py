"""The secret values that must not appear in a build's log."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ml_assets.resources.errors import ImageError

__all__ = ["secret_values"]

_SHORTEST = 4
_LARGEST_FILE = 65536
_CERTIFICATE = "-----BEGIN CERTIFICATE"
_NETRC_WORDS = re.compile(r"machine|default|login|password|account|macdef")


def secret_values(secrets: Mapping[str, Path]) -> Iterator[str]:
    """Return every text from the secret files that a log must not show: their words, and the credentials in addresses.

    Raises:
        ImageError: a file cannot be read.
    """
    for name, file in secrets.items():
        try:
            text = file.read_text(errors="replace")
        except OSError as error:
            raise ImageError(
                f"the secret {name} cannot be read from {file}: {error.strerror}",
                next_step=f"restore the file, or correct images.secrets.{name}",
            ) from error
        if len(text) > _LARGEST_FILE or _CERTIFICATE in text:
            continue
        for word in text.split():
            yield from (part for part in _parts(word) if len(part) >= _SHORTEST and not _NETRC_WORDS.fullmatch(part))


def _parts(word: str) -> Sequence[str]:
    if "://" not in word:
        return (word,)
    user = urlsplit(word).netloc.rpartition("@")[0]
    return (word, user, *user.split(":")) if user else ()
