"""Temporary checkouts of a commit, outside the repository."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_assets.resources.errors import SourceError
from ml_assets.resources.git.source import run_git

__all__ = ["checked_out", "repository_of"]

_SECONDS = 600


def repository_of(folder: Path) -> Path:
    """Return the top folder of the git repository that contains a folder.

    Raises:
        SourceError: it is not in a repository.
    """
    return Path(run_git(folder, "rev-parse", "--show-toplevel").decode())


@contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit until the block ends; the repository is only read.

    The folder is a clone that borrows the repository's objects. A killed process leaves nothing in the repository, and
    any number of checkouts may exist at once.

    Args:
        repository: top of a git repository.
        commit: full id.

    Raises:
        SourceError: the repository does not have the commit, or git fails.
    """
    try:
        run_git(repository, "cat-file", "-e", f"{commit}^{{commit}}")
    except SourceError as error:
        raise SourceError(
            f"the repository {repository} does not have commit {commit}", next_step="fetch it with git, and run again"
        ) from error
    with tempfile.TemporaryDirectory(prefix="ml-assets-checkout-") as folder:
        copy = Path(folder).resolve() / repository.name
        copy.mkdir()
        run_git(copy, "clone", "--quiet", "--shared", "--no-checkout", repository, ".", seconds=_SECONDS)
        run_git(copy, "checkout", "--quiet", "--detach", commit, seconds=_SECONDS)
        yield copy
