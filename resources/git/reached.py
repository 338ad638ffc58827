"""Comparison of the files that an asset's code reaches with the commits of the repositories that they stand in."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ml_assets.resources.git.source import BAKED_SOURCE, baked_folders, read_source, run_git
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Source

__all__ = ["content_ids", "read_reached_source"]

_PATHS_PER_CALL = 500
_REGULAR = b"blob"
_ids: dict[Path, tuple[tuple[int, int, int], str]] = {}


def content_ids(files: Iterable[Path]) -> dict[Path, str]:
    """Return the git blob id of each file's present content, without filters; files that do not exist are left out.

    Called when the code is loaded, it later shows whether a file has changed since.
    """
    found = {}
    for file in files:
        try:
            found[file] = _content_id(file)
        except OSError:
            continue
    return found


def read_reached_source(path: Path, loaded: Mapping[Path, str]) -> Source:
    """Return the source of the code at a path, with every repository that holds one of the loaded files.

    Args:
        path: the function's file; see `read_source`.
        loaded: result of `content_ids` for all files of the code, when they were loaded.

    Returns:
        As `read_source`; dirty if any of the repositories is, or if a loaded file is in no commit.

    Raises:
        SourceError: a repository or ``source.json`` cannot be read.
    """
    own = _place(path.absolute())
    places: dict[Path | None, dict[str, tuple[Path, str]]] = {}
    for file, content in sorted(loaded.items()):
        real = file.resolve()
        place = _place(real)
        name = real.relative_to(place).as_posix() if place else str(real)
        places.setdefault(place, {})[name] = (file, content)
    source = read_source(path)
    others = {place: read_source(place) for place in places if place not in (own, None)}
    problems = {
        str(file): reason for place, files in places.items() for file, reason in _uncommitted(place, files, own)
    }
    if not problems and not others:
        return source
    changed = list(problems.items())
    facts = [source.diff_digest, [each.diff_digest for each in others.values()]]
    contents = [(name, _now(file), content) for files in places.values() for name, (file, content) in files.items()]
    dirty = bool(changed) or any(each.dirty for each in (source, *others.values()))
    digest = str(Digest.of_bytes(repr([facts, contents if changed else []]).encode())) if dirty else None
    return source.model_copy(
        update={
            "dirty": dirty if source.dirty is not None else None,
            "diff_digest": digest,
            "others": tuple(_named(each, place) for place, each in others.items() if place is not None),
            "uncommitted": tuple(f"{file} {reason}" for file, reason in changed),
        }
    )


def _place(file: Path) -> Path | None:
    """Return the nearest folder with a repository or ``source.json`` at or above a file."""
    for folder in (file, *file.parents):
        if (folder / ".git").exists() or (folder / BAKED_SOURCE).is_file():
            return folder
    return None


def _named(source: Source, folder: Path) -> Source:
    return source if source.repository else source.model_copy(update={"repository": str(folder)})


def _uncommitted(
    place: Path | None, files: Mapping[str, tuple[Path, str]], own: Path | None
) -> Iterator[tuple[Path, str]]:
    """Return the files whose loaded content is in no commit, each with the reason."""
    if place is None:
        # Without any repository, the record says so once.
        if own is not None:
            yield from ((file, "is in no git repository") for file, _ in files.values())
        return
    if not (place / ".git").exists():
        folders = baked_folders(place)
        for name, (file, _) in files.items():
            if name.partition("/")[0] not in folders:
                yield file, f"is not covered by {place / BAKED_SOURCE}"
        return
    committed = _committed(place, list(files))
    differing = {name: each for name, each in files.items() if committed.get(name) != each[1]}
    same = {name: each for name, each in differing.items() if name in committed and _now(each[0]) == each[1]}
    filtered = _filtered(place, list(same))
    ignored = _ignored(place, [name for name in differing if name not in committed])
    hidden = _hidden(place, list(same))
    for name, (file, _) in differing.items():
        if name not in committed:
            yield file, "is ignored by git" if name in ignored else "is in no commit"
        elif name not in same:
            yield file, "was changed after it was loaded"
        elif filtered[name] != committed[name]:
            yield file, f"differs from the commit{hidden.get(name, '')}"


def _committed(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the blob of each file at HEAD; files that it does not have are left out."""
    if not run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True):
        return {}
    found = {}
    for part in _parts(names):
        listed = run_git(folder, "ls-tree", "-z", "--full-tree", "HEAD", "--", *part)
        for entry in filter(None, listed.split(b"\0")):
            facts, _, name = entry.partition(b"\t")
            _, kind, blob = facts.split(b" ")
            if kind == _REGULAR:
                found[os.fsdecode(name)] = blob.decode()
    return found


def _filtered(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the blob that git would store for each file now, with its filters such as those of line ends."""
    blobs = [run_git(folder, "hash-object", "--", *part).decode().split() for part in _parts(names)]
    return dict(zip(names, (blob for part in blobs for blob in part), strict=True))


def _ignored(folder: Path, names: list[str]) -> set[str]:
    options = ("--others", "--ignored", "--exclude-standard", "-z")
    listed = b"\0".join(run_git(folder, "ls-files", *options, "--", *part) for part in _parts(names))
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


def _hidden(folder: Path, names: list[str]) -> dict[str, str]:
    """Return how the index hides changes of files from ``git status``."""
    found = {}
    for part in _parts(names):
        for entry in filter(None, run_git(folder, "ls-files", "-v", "-z", "--", *part).split(b"\0")):
            flag, _, name = entry.partition(b" ")
            if flag.islower():
                found[os.fsdecode(name)] = ", and is marked as assume-unchanged"
            elif flag == b"S":
                found[os.fsdecode(name)] = ", and is marked as skip-worktree"
    return found


def _parts(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + _PATHS_PER_CALL] for start in range(0, len(names), _PATHS_PER_CALL))


def _now(file: Path) -> str | None:
    try:
        return _content_id(file)
    except OSError:
        return None


def _content_id(file: Path) -> str:
    status = file.stat()
    mark = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    known = _ids.get(file)
    if known is None or known[0] != mark:
        content = file.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        known = _ids[file] = (mark, blob)
    return known[1]
