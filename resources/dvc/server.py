"""Access to remote servers through DVC, and their errors."""

import contextlib
import errno
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ml_assets.resources.errors import MlAssetsError, RemoteUnreachable, SettingsError, StoreFull
from ml_assets.resources.extras import require
from ml_assets.resources.full_disk import full_disk

__all__ = ["dvc_settings", "limit_attempts", "refused", "server_errors", "without_password", "written_at"]

_PLAIN_BOOLEANS = {"cache_regions"}
_WRITTEN = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""Names that the server libraries use for an object's write time."""


def written_at(info: Mapping[str, Any]) -> float | None:
    """Return a file's write time in seconds since 1970, from fsspec's metadata; None if the server reports none."""
    for name in _WRITTEN:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


@contextlib.contextmanager
def server_errors(server: str, directory: str) -> Iterator[None]:
    """Convert errors of transfers between a server and a local directory into ours, with a next step.

    Raises:
        StoreFull: the directory has no space, or is not writable.
        RemoteUnreachable: anything else.
    """
    try:
        yield
    except MlAssetsError:
        raise
    except Exception as error:
        reason = full_disk(error)
        if reason is None and isinstance(error, OSError) and error.errno == errno.EROFS:
            reason = error.strerror
        if reason is not None:
            raise StoreFull(
                f"the {directory} cannot be written: {reason}",
                next_step="free space there and run again; no partial file remains",
            ) from error
        raise RemoteUnreachable(
            f"the {server} did not answer, or refused the request: {type(error).__name__}: {error}",
            next_step="check that the server runs and that address, bucket and credentials are correct, then run again",
        ) from error


def dvc_settings(url: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """Return DVC's file system class for a URL, its arguments, and the path there.

    Args:
        url: of a remote, or a path.
        options: those of ``dvc remote modify``.

    Raises:
        SettingsError: DVC has no such kind of remote, or rejects these options.
        MissingPackage: the remote needs an extra.
    """
    require("dvc")
    if url.startswith("s3://"):
        require("dvc_s3")
    from dvc.fs import get_cloud_fs

    # DVC reads its settings from text files and expects booleans in that form.
    texts = {
        name: str(value).lower() if isinstance(value, bool) and name not in _PLAIN_BOOLEANS else value
        for name, value in options.items()
    }
    try:
        cls, config, path = get_cloud_fs({}, **texts, url=url)
    except Exception as error:
        raise refused(url, error) from error
    return cls, config, path


def limit_attempts(filesystem: Any) -> None:
    """Limit the attempts of S3's nested libraries: without this, an unreachable address takes 25.

    Args:
        filesystem: DVC's file system, before its first request.
    """
    if filesystem.protocol == "s3":
        config = filesystem.fs_args.setdefault("config_kwargs", {})
        config["retries"] = {"total_max_attempts": 3, "mode": "standard"}
        filesystem.fs.retries = 2


def refused(url: str, error: Exception) -> SettingsError:
    """Return the error for a remote address or options that DVC rejects."""
    return SettingsError(
        f"DVC rejects the remote {without_password(url)} with these options: {error}",
        next_step="correct `remote` and `options` in the settings; options are those of `dvc remote modify`",
    )


def without_password(url: str) -> str:
    """Return a URL without its password, safe to show."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host))
