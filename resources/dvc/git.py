"""Content that people track with ``.dvc`` files in a git repository."""

import posixpath
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import InputError, SettingsError
from ml_assets.resources.extras import require
from ml_assets.resources.identity import Digest

__all__ = ["TrackedVersion", "store_of", "tracked_version"]


@dataclass(frozen=True)
class TrackedVersion:
    """The content of a ``.dvc`` file at a commit."""

    commit: str
    version: Digest
    size: int
    """Size of all files in bytes; 0 if the ``.dvc`` file does not record it."""
    files: int
    path: str
    """Path where `dvc pull` puts the content, relative to the same folder as the path of the ``.dvc`` file."""


def tracked_version(repository: Path, dvc_file: str, revision: str = "HEAD") -> TrackedVersion:
    """Read a ``.dvc`` file at a git revision; the working tree is neither read nor changed.

    Args:
        repository: a folder in a git repository.
        dvc_file: path of the ``.dvc`` file from that folder.
        revision: branch, tag or commit.

    Raises:
        InputError: there is no such repository, revision or file, or the file has no hash that identifies content in
            DVC's remote.
    """
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise InputError(
            f"the git repository {repository} has no commit {revision!r}",
            next_step="name an existing branch, tag or commit",
        )
    place = f"{dvc_file} at {revision} ({commit[:12]}) in {repository}"
    text = _git(repository, "show", f"{commit}:./{dvc_file}")
    if text is None:
        raise InputError(
            f"{place} does not exist", next_step="commit the .dvc file that `dvc add` wrote, or correct its path"
        )
    stage, output = _only_output(text, place)
    folder = posixpath.join(posixpath.dirname(dvc_file), stage.get("wdir") or "")
    return TrackedVersion(
        commit=commit,
        version=_version(stage, output, place),
        size=output.get("size") or 0,
        files=output.get("nfiles") or 1,
        path=posixpath.normpath(posixpath.join(folder, output["path"])),
    )


def store_of(repository: Path, remote_name: str | None, cache: str) -> DvcStore:
    """Return a store on the DVC remote of a repository, configured from all of DVC's configuration files there.

    Args:
        repository: a folder in a DVC repository.
        remote_name: one of its remotes; its default remote if left out.
        cache: absolute path of the directory to cache content in.

    Raises:
        SettingsError: it is not a DVC repository, has no such remote, or the remote stores content by cloud versions.
    """
    require("dvc")
    from dvc.config import Config, ConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.fs import get_fs_config
    from dvc.repo import Repo

    try:
        config = Config(Repo.find_dvc_dir(str(repository)))
        name = remote_name or config["core"].get("remote")
        if not name:
            raise SettingsError(
                f"the DVC repository {repository} has no default remote",
                next_step="choose one with `dvc remote default`, or name one of `dvc remote list`",
            )
        options = dict(get_fs_config(config, name=name))
    except NotDvcRepoError as error:
        raise SettingsError(f"{repository} is not a DVC repository", next_step="name a folder inside one") from error
    except ConfigError as error:
        raise SettingsError(
            f"the DVC remote of {repository} cannot be read: {error}",
            next_step="check `dvc remote list` and `dvc config`",
        ) from error
    if options.get("version_aware") or options.get("worktree"):
        raise SettingsError(
            f"the DVC remote {name} of {repository} stores content by the cloud's versions, not by hash",
            next_step="name a remote without `version_aware` and `worktree`",
        )
    return DvcStore(remote=str(options.pop("url")), options=options, cache=cache)


def _git(repository: Path, *arguments: str) -> str | None:
    """Return git's output, or None if git found no object of that name."""
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"git could not be run: {error}", next_step="install git") from error
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    if "not a git repository" in done.stderr or "cannot change to" in done.stderr or "dubious" in done.stderr:
        raise InputError(
            f"{repository} cannot be read as a git repository: {done.stderr.strip().splitlines()[0]}",
            next_step="name the folder of a git repository that this user may read",
        )
    return None


def _only_output(text: str, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    require("dvc")
    from dvc.schema import COMPILED_SINGLE_STAGE_SCHEMA
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    try:
        stage = COMPILED_SINGLE_STAGE_SCHEMA(parse_yaml(text, place))
        [output] = stage["outs"]
    except (Invalid, ParseError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{place} is not a .dvc file with one output: {error}", next_step="name a file that `dvc add` wrote"
        ) from error
    return stage, output


def _version(stage: dict[str, Any], output: dict[str, Any], place: str) -> Digest:
    reason = None
    if any("repo" in dependency for dependency in stage.get("deps", [])):
        reason = "it imports from another repository, whose remote holds the content"
    elif "cloud" in output or "files" in output or "version_id" in output:
        reason = "its content is stored by the cloud's versions"
    elif not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", output.get("md5") or ""):
        reason = "it has no md5"
    elif output.get("hash") != "md5":
        reason = "it was written by DVC 2, which hashes and stores content differently"
    if reason:
        raise InputError(
            f"{place} contains no version that can be fetched: {reason}",
            next_step="track the data itself with `dvc add` and `dvc push` of DVC 3, and commit",
        )
    return Digest("md5", output["md5"])
