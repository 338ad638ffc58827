"""The check of a run's config for secrets, which everyone who can open the Dagster UI can read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_assets.resources.errors import RunConfigRefused

__all__ = ["refuse_secrets"]

_SECRET = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|(?:secret|api|access|private)_?key)$"
    r"|^token$|(?:^|_)(?:access|api|auth|bearer|refresh|session)_?token$"
)
"""Name, in snake case, of a field that holds a secret. Language models have tokens of other kinds: ``eos_token``."""
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-.\s]+")


def refuse_secrets(run_config: Any) -> None:
    """Refuse a run config in which a secret is written out.

    Dagster stores run config as it is, and shows it to every user of the UI. Configuration of Dagster can name an
    environment variable instead: ``{"env": "NAME"}``.

    Args:
        run_config: the config of a run, as Dagster stores it.

    Raises:
        RunConfigRefused: a field with the name of a secret has a text as value. The error does not contain the value.
    """
    found = list(_secrets(run_config, ()))
    if found:
        raise RunConfigRefused(
            f"the run config contains a secret in {', '.join(found)}, which everyone who can open the UI can read",
            next_step='delete the run, change the secret, and launch with {"env": "NAME"} as the value, where NAME is '
            "an environment variable of the step",
        )


def _secrets(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(item, str) and item and _SECRET.search(_BOUNDARY.sub("_", str(name)).lower()):
                yield ".".join((*path, str(name)))
            yield from _secrets(item, (*path, str(name)))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, item in enumerate(value):
            yield from _secrets(item, (*path, str(index)))
