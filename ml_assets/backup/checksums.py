"""Lists of the checksums of a backup's files, in the format of ``md5sum``, which can verify them too."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ml_assets.resources.atomic_file import write_atomically
from ml_assets.resources.dvc.scan import is_inside

__all__ = ["damaged_files", "read_checksums", "write_checksums"]

_LINE: Final = re.compile(rb"(\\?)([0-9a-f]{32})  (.+)")
_ESCAPES: Final = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
_AT_ONCE: Final = 4


def write_checksums(file: Path, checksums: Mapping[str, str]) -> str:
    """Write a list of checksums; return the SHA-256 of the list.

    Args:
        file: the list.
        checksums: MD5 of each file, by its relative path.
    """
    content = b"".join(_line(name, checksums[name]) for name in sorted(checksums))
    write_atomically(file, content, durable=True)
    return hashlib.sha256(content).hexdigest()


def read_checksums(file: Path, expected: str | None = None) -> dict[str, str]:
    """Read a list of checksums.

    Args:
        file: the list.
        expected: its SHA-256.

    Raises:
        ValueError: the list is damaged.
        OSError: it cannot be read.
    """
    content = file.read_bytes()
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError("it was altered")
    checksums = {}
    for line in content.split(b"\n")[:-1]:
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"it has the line {line!r:.80}")
        name = re.sub(rb"\\[\\nr]", lambda each: _ESCAPES[each[0]], found[3]) if found[1] else found[3]
        checksums[os.fsdecode(name)] = found[2].decode()
    return checksums


def damaged_files(
    folder: Path, checksums: Mapping[str, str], progress: Callable[[int, int], None]
) -> Iterator[tuple[str, str]]:
    """Read all files of a list; yield the name of each damaged one, and what is wrong.

    Args:
        folder: the folder of the files.
        checksums: MD5 of each file, by its relative path.
        progress: called with the number of files read so far, and the total.
    """
    names = sorted(checksums)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        faults = pool.map(lambda name: _fault(folder, name, checksums[name]), names)
        for done, (name, fault) in enumerate(zip(names, faults, strict=True), 1):
            if fault:
                yield name, fault
            progress(done, len(names))


def _fault(folder: Path, name: str, md5: str) -> str | None:
    if not is_inside(name):
        return "its name is not inside the backup"
    try:
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if found == md5 else "it was altered"


def _line(name: str, md5: str) -> bytes:
    encoded = os.fsencode(name)
    escaped = encoded.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != encoded else b"") + md5.encode() + b"  " + escaped + b"\n"
