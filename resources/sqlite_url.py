"""URLs of SQLite files, as SQLAlchemy 2.0 reads them: literally, so ``%20`` is no space, and until a question mark."""

from pathlib import Path
from typing import Final

from ml_assets.resources.errors import SettingsError

__all__ = ["sqlite_file", "sqlite_url"]

_PREFIX: Final = "sqlite:///"


def sqlite_url(file: Path, options: str = "") -> str:
    """Return the URL of a file.

    Args:
        file: path of the database.
        options: the part after ``?``, for the driver.

    Raises:
        SettingsError: the path contains a question mark, which no URL can express that MLflow accepts.
    """
    if "?" in str(file):
        raise SettingsError(
            f"MLflow's database cannot be {file}, because its URL would end at the question mark",
            next_step="set mlflow.tracking_uri to a file in another folder, or to a server",
        )
    return f"{_PREFIX}{file}" + (f"?{options}" if options else "")


def sqlite_file(url: str) -> Path | None:
    """Return the file that a URL names, or None if it is no URL of SQLite."""
    return Path(url.removeprefix(_PREFIX).partition("?")[0]) if url.startswith(_PREFIX) else None
