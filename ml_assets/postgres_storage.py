"""Dagster's PostgreSQL storage with the password in a file, such as a mounted Secret.

Only ``dagster.yaml`` names it::

    storage:
      custom:
        module: ml_assets.postgres_storage
        class: PostgresStorage
        config:
          postgres_url: postgresql://ml_assets@postgres:5432/dagster
          password_file: /run/secrets/ml-assets/postgres-password

No other module imports it, because importing dagster_postgres takes as long as importing Dagster.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import Field, StringSource

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.extras import require

require("dagster_postgres")
from dagster_postgres import DagsterPostgresStorage  # noqa: E402  # Dagster would otherwise hide what is missing
from dagster_postgres.auth import PgTokenProvider  # noqa: E402

__all__ = ["PasswordFile", "PostgresStorage"]


class PasswordFile(PgTokenProvider):
    """A password that is read from a file for each connection, so that it can change while processes run.

    Args:
        path: a text file; trailing line ends are not part of the password.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)

    def _fetch_token(self) -> tuple[str, float]:
        try:
            password = self._path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"the database's password cannot be read: {error}",
                next_step=f"mount the Secret at {self._path.parent}, or correct password_file in dagster.yaml",
            ) from error
        if not password:
            raise SettingsError(
                f"the file {self._path} with the database's password is empty", next_step="write the password into it"
            )
        return password, time.time()  # expired at once: the next connection reads the file again


class PostgresStorage(DagsterPostgresStorage):
    """Dagster's runs, events and schedules in PostgreSQL, opened with the password in a file."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the schema of the configuration in ``dagster.yaml``."""
        return {
            "postgres_url": Field(StringSource, description="URL of the database, without a password."),
            "password_file": Field(StringSource, description="File with the password of the URL's user."),
            "should_autocreate_tables": Field(bool, is_required=False, default_value=True),
        }

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "PostgresStorage":
        """Return the storage for a valid configuration."""
        return cls(
            config_value["postgres_url"],
            should_autocreate_tables=config_value["should_autocreate_tables"],
            inst_data=inst_data,
            token_provider=PasswordFile(config_value["password_file"]),
        )
