"""The files of a model, verified against its data version: the digest of the list of all files.

The list is DVC's object for a directory: JSON with the MD5 and path of each file, sorted by path. A model in MLflow
includes it as ``listing.json``, so the few served files can be verified without the training weights.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.errors import ModelUnavailable
from ml_assets.resources.identity import Digest

__all__ = ["Fetch", "ModelFiles", "cached", "directory_listing", "read_directory", "verified_files"]

EXAMPLE, GRAPH, LISTING, SIGNATURE = "example.json", "model.onnx", "listing.json", "signature.json"
SERVED = (GRAPH, SIGNATURE, EXAMPLE)

Fetch = Callable[[str, str], bytes]
"""Returns a file's bytes by its path and MD5."""


@dataclass(frozen=True)
class ModelFiles:
    """The served files by path, and the digest of the listing."""

    digest: Digest
    files: Mapping[str, bytes]


def verified_files(listing: bytes, fetch: Fetch, *, expected: Digest | None) -> ModelFiles:
    """Fetch the served files and verify each against the listing.

    Args:
        listing: bytes of the listing.
        fetch: returns a file's bytes by path and MD5.
        expected: the model's data version; None accepts the digest of the listing.

    Raises:
        ModelUnavailable: a digest does not match, or a required file is not listed.
    """
    digest = Digest("md5", hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir")
    if expected is not None and digest != expected:
        raise ModelUnavailable(
            f"the model's list of files has the digest {digest}, but the model's data version is {expected}",
            next_step="find out who changed the stored model, then materialize it again",
        )
    sums = _sums(listing)
    if missing := [name for name in SERVED if name not in sums]:
        raise ModelUnavailable(
            f"the model has no {' and no '.join(missing)}, so it cannot be served",
            next_step="materialize it with a version of ml-assets that exports models to ONNX",
        )
    files = {name: fetch(name, sums[name]) for name in SERVED}
    for name, content in files.items():
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != sums[name]:
            raise ModelUnavailable(
                f"{name} has the MD5 {found}, but {sums[name]} is recorded",
                next_step="find out who changed the stored model, then materialize it again",
            )
    return ModelFiles(digest, files)


def read_directory(directory: Path, expected: Digest | None = None) -> ModelFiles:
    """Return the files of a model on disk, verified by its listing if there is one.

    Raises:
        ModelUnavailable: the directory is not a servable model, or its digest does not match.
    """
    try:
        kept = directory / LISTING
        listing = kept.read_bytes() if kept.exists() else directory_listing(directory)
        return verified_files(listing, lambda name, _: (directory / name).read_bytes(), expected=expected)
    except OSError as error:
        raise ModelUnavailable(
            f"cannot read {directory}: {error.strerror}", next_step="pass the directory of a model"
        ) from error


def directory_listing(directory: Path) -> bytes:
    """Return the listing of a directory, byte for byte as DVC writes it (``dvc_data.hashfile.tree.Tree.as_bytes``)."""
    if not directory.is_dir():
        raise ModelUnavailable(f"{directory} is not a directory", next_step="pass the directory of a model")
    paths = {file.relative_to(directory).as_posix(): file for file in directory.rglob("*") if file.is_file()}
    entries = [
        {"md5": hashlib.md5(paths[name].read_bytes(), usedforsecurity=False).hexdigest(), "relpath": name}
        for name in sorted(paths)
    ]
    return json.dumps(entries, sort_keys=True).encode()


def cached(directory: Path, fetch: Fetch) -> Fetch:
    """Return a fetch that caches files in a directory by MD5; corrupt files are fetched again."""

    def get(name: str, md5: str) -> bytes:
        file = directory / md5[:2] / md5[2:]
        try:
            content = file.read_bytes()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                return content
        except OSError:
            pass
        content = fetch(name, md5)
        _keep(file, content)
        return content

    return get


def _keep(file: Path, content: bytes) -> None:
    """Write the file atomically; an unwritable cache is ignored."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            os.replace(temporary, file)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return


def _sums(listing: bytes) -> dict[str, str]:
    try:
        return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(listing)}
    except (ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(f"{LISTING} is malformed: {error}", next_step="materialize the model again") from error
