"""The commit of the code, and a digest of every difference from it.

Git runs read-only, without ``GIT_…`` variables, hooks, pagers and file monitors. An image holds no repository.
Instead, a file ``source.json`` at the code's root records the source of the image, with digests of the code's folders.
These reveal code that replaced the image's code, such as a bind mount.
"""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError

from ml_assets.resources.errors import SourceError
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Source

__all__ = ["BAKED_SOURCE", "baked_folders", "code_digest", "read_source", "run_git"]

BAKED_SOURCE = "source.json"
"""File at the root of an image's code: a `Source` as JSON; ``code`` holds the `code_digest` of folders beside it."""

_TIMEOUT = 60
_OVERRIDES = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    # The code of this repository already runs, so its files are trusted whoever owns them.
    "safe.directory": "*",
}


def read_source(path: Path) -> Source:
    """Return the source of the code at a path, read afresh on each call.

    Args:
        path: a file or folder. The nearest repository or ``source.json`` at or above it is read.

    Returns:
        The commit, whether files differ from it (staged, unstaged, or untracked and not ignored), the digest of all
        differences (of untracked files only the names, because they may hold any amount of data), and the address of
        the remote ``origin`` without credentials. Every field is None where neither a
        repository nor a ``source.json`` is found; the commit is None in a repository without one.

    Raises:
        SourceError: there is a repository and it cannot be read, or the ``source.json`` is malformed.
    """
    path = path.absolute()
    for folder in (path, *path.parents):
        if (folder / ".git").exists():
            return _read_repository(folder)
        if (folder / BAKED_SOURCE).is_file():
            return _read_baked(folder / BAKED_SOURCE)
    return Source()


def _read_repository(folder: Path) -> Source:
    listing = run_git(folder, "status", "--porcelain=v2", "--branch", "-z", *_EVERYTHING)
    commit, changed = _parse_status(listing)
    return Source(
        commit=commit,
        dirty=bool(changed),
        diff_digest=f"sha256:{_digest(folder, changed)}" if changed else None,
        repository=_without_credentials(run_git(folder, "config", "--get", "remote.origin.url", may_fail=True)),
    )


_EVERYTHING = ("--untracked-files=normal", "--no-renames", "--ignore-submodules=none")


def _parse_status(listing: bytes) -> tuple[str | None, dict[bytes, bool]]:
    """Return the commit and the changed paths from ``git status --porcelain=v2 --branch -z`` (see git-status(1)).

    Each path has True if git tracks it. A folder without any tracked file is one path.
    """
    commit = None
    changed = {}
    # Number of fields before the path, for ordinary and for unmerged entries.
    widths = {b"1": 8, b"u": 10, b"?": 1}
    for entry in listing.split(b"\0"):
        kind = entry[:1]
        if entry.startswith(b"# branch.oid ") and not entry.endswith(b"(initial)"):
            commit = entry.split(b" ")[2].decode()
        elif kind in widths:
            changed[entry.split(b" ", widths[kind])[-1].rstrip(b"/")] = kind != b"?"
    return commit, changed


def _digest(folder: Path, changed: Mapping[bytes, bool]) -> str:
    digest = hashlib.sha256()
    for name, tracked in sorted(changed.items()):
        state = _state(folder / os.fsdecode(name)) if tracked else b"untracked"
        digest.update(b"%d:%s%d:%s" % (len(name), name, len(state), state))
    return digest.hexdigest()


def _state(path: Path) -> bytes:
    """Return the current mode and content of a path."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return b"120000 " + os.fsencode(path.readlink())
        if stat.S_ISREG(status.st_mode):
            mode = b"100755 " if status.st_mode & stat.S_IXUSR else b"100644 "
            with path.open("rb") as file:
                return mode + hashlib.file_digest(file, "sha256").digest()
        if (path / ".git").exists():
            nested = _read_repository(path)
            return f"160000 {nested.commit} {nested.diff_digest}".encode()
        return f"{stat.S_IFMT(status.st_mode):o}".encode()
    except (FileNotFoundError, NotADirectoryError):
        return b"deleted"
    except OSError as error:
        raise SourceError(
            f"{path} differs from the commit and cannot be read: {error}",
            next_step="make it readable, or add it to .gitignore",
        ) from error


def run_git(
    folder: Path, command: str, *arguments: str | Path, may_fail: bool = False, seconds: float = _TIMEOUT
) -> bytes:
    """Run git in a folder and return its output.

    Args:
        folder: git's working directory.
        command: git's command, such as ``status``.
        arguments: arguments of the command.
        may_fail: whether to return the output even if git fails.
        seconds: time limit.

    Raises:
        SourceError: git is not installed, fails, or exceeds the time limit.
    """
    program = shutil.which("git")
    if program is None:
        raise SourceError(
            f"git is not installed, so the repository {folder} cannot be read",
            next_step="install git",
        )
    overrides = [part for key, value in _OVERRIDES.items() for part in ("-c", f"{key}={value}")]
    try:
        done = subprocess.run(
            [program, "--no-pager", "--no-optional-locks", *overrides, "-C", folder, command, *arguments],
            env=_environment(program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"git {command} in {folder}: {error}", next_step="run it there by hand, and fix the cause"
        ) from error
    if done.returncode and not may_fail:
        said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise SourceError(f"git {command} in {folder}: {said}", next_step="run it there by hand, and fix the cause")
    return done.stdout.strip(b"\n")


def _environment(program: str) -> dict[str, str]:
    """Return a clean environment: git reads the user's configuration (filters, global ignores), not their variables."""
    environment = {
        "PATH": os.pathsep.join((str(Path(program).parent), os.defpath)),
        "LC_ALL": "C",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        environment["HOME"] = str(Path.home())
    except RuntimeError:
        environment["GIT_CONFIG_GLOBAL"] = os.devnull
    return environment


def _without_credentials(remote: bytes) -> str | None:
    """Return a remote's address without password, token and query; ``git@host:path`` has none and is unchanged."""
    address = remote.decode(errors="replace")
    if "://" not in address:
        return address or None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    user, _, host = parts.netloc.rpartition("@")
    if user and parts.scheme not in ("http", "https"):
        host = f"{user.partition(':')[0]}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class _Baked(Source):
    code: dict[str, str] = Field(default_factory=dict)
    """The `code_digest` of each folder."""


def code_digest(folder: Path) -> str:
    """Return the digest of all files in a folder, by path and content; bytecode is excluded.

    Raises:
        OSError: one of them cannot be read.
    """
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
        digest.update(f"{len(name)}:{name}".encode() + hashlib.sha256(file.read_bytes()).digest())
    return str(Digest("sha256", digest.hexdigest()))


def baked_folders(root: Path) -> frozenset[str]:
    """Return the folders that the ``source.json`` at an image's root covers.

    Raises:
        SourceError: it is malformed.
    """
    return frozenset(_parse_baked(root / BAKED_SOURCE)[0].code)


def _read_baked(file: Path) -> Source:
    baked, code = _parse_baked(file)
    source = Source(**baked.model_dump(exclude={"code"}))
    if code == baked.code:
        return source
    difference = str(Digest.of_bytes(repr(sorted(code.items())).encode()))
    return source.model_copy(update={"dirty": True, "diff_digest": difference})


def _parse_baked(file: Path) -> tuple[_Baked, dict[str, str]]:
    try:
        baked = _Baked.model_validate_json(file.read_bytes())
        code = {folder: code_digest(file.parent / folder) for folder in baked.code}
    except (OSError, ValidationError) as error:
        raise SourceError(
            f"{file}, which records the source of the code, cannot be read: {error}",
            next_step="materialize the image again, or remove the file",
        ) from error
    return baked, code
