"""What servers that hold content have in common: how DVC reaches them, and what their errors mean."""

import contextlib
import errno
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ml_assets.resources.errors import MlAssetsError, RemoteUnreachable, SettingsError, StoreFull

__all__ = ["dvc_settings", "refused", "server_errors", "without_password", "written_at"]

_PLAIN_BOOLEANS = {"cache_regions"}
_WRITTEN = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""What the libraries for different servers call the time at which an object was written."""
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def written_at(info: Mapping[str, Any]) -> float | None:
    """When a file was written, in seconds since 1970, by what fsspec says of it; None where the server does not say."""
    for name in _WRITTEN:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


@contextlib.contextmanager
def server_errors(server: str, directory: str) -> Iterator[None]:
    """Say of whatever goes wrong between a server and a directory of this machine what it was, and what to do.

    Raises:
        StoreFull: there is no room in the directory, or no right to write.
        RemoteUnreachable: anything else.
    """
    try:
        yield
    except MlAssetsError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise StoreFull(
                f"the {directory} cannot be written: {error.strerror}",
                next_step="free space there and run again; nothing half-written was kept",
            ) from error
        raise RemoteUnreachable(
            f"the {server} did not answer, or refused: {type(error).__name__}: {error}",
            next_step="see that the server runs, and that its address, bucket and credentials are right; run again",
        ) from error


def dvc_settings(url: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """DVC's class of file system for a URL, its arguments, and the path there.

    Args:
        url: of a remote, or a path.
        options: as ``dvc remote modify`` takes them.

    Raises:
        SettingsError: DVC has no such kind of remote, or it does not take these options.
    """
    from dvc.fs import get_cloud_fs

    # DVC reads its settings from text files, and wants truth values as it finds them there.
    texts = {
        name: str(value).lower() if isinstance(value, bool) and name not in _PLAIN_BOOLEANS else value
        for name, value in options.items()
    }
    try:
        cls, config, path = get_cloud_fs({}, **texts, url=url)
    except Exception as error:
        raise refused(url, error) from error
    return cls, config, path


def refused(url: str, error: Exception) -> SettingsError:
    """Say that DVC does not take a remote's address or options."""
    return SettingsError(
        f"DVC does not take the remote {without_password(url)} with these options: {error}",
        next_step="correct `remote` and `options` in the settings; options are those of `dvc remote modify`",
    )


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host))
