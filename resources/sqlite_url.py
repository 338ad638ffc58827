"""URLs of SQLite files, as SQLAlchemy reads them: literally, so that ``%20`` is no space and ``?`` begins options."""

from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["sqlite_file", "sqlite_url"]

_PREFIX: Final = "sqlite:///"
_FILE, _OPTION = "file:", "uri=true"


def sqlite_url(file: Path, options: str = "") -> str:
    """Return the URL of a file.

    Args:
        file: path of the database.
        options: the part after ``?``, for the driver.
    """
    place = str(file)
    if "?" in place:  # only SQLite's own URIs can express it
        place, options = _FILE + quote(place), "&".join(filter(None, (options, _OPTION)))
    return _PREFIX + place + (f"?{options}" if options else "")


def sqlite_file(url: str) -> Path | None:
    """Return the file that a URL names, or None if it is no URL of SQLite."""
    if not url.startswith(_PREFIX):
        return None
    place, _, options = url.removeprefix(_PREFIX).partition("?")
    if place.startswith(_FILE) and _OPTION in options.split("&"):
        return Path(unquote(place.removeprefix(_FILE)))
    return Path(place)
