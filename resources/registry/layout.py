"""Images as files: copied from a registry into a folder and back, with unchanged digests.

The folder is an image layout, which other tools (skopeo, crane, ctr) read and write too. Source: the OCI image
specification 1.1, image-layout.md.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ml_assets.resources.atomic_file import replacing, write_atomically
from ml_assets.resources.errors import BackupError, RegistryError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.client import RegistryClient

__all__ = ["ImageLayout"]

_TAG: Final = "org.opencontainers.image.ref.name"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


class ImageLayout:
    """The images of one repository, in a folder.

    Args:
        folder: created if it does not exist.
        client: reads and writes registries.
        registry: the repository's registry, a host with an optional port.
        repository: its name there.
    """

    def __init__(self, folder: Path, client: RegistryClient, registry: str, repository: str) -> None:
        self._folder, self._client = folder, client
        self._registry, self._repository = registry, repository

    def save(self, digests: Iterable[Digest]) -> list[Digest]:
        """Copy these images, with their tags and attached artifacts; return the images that the registry does not have.

        Existing content of the folder is not copied again. The copy may be interrupted at any time.

        Raises:
            RegistryError: the registry did not answer, refused, or sent content with a different digest.
            OSError: the folder cannot be written.
        """
        saved, gone = {}, []
        for digest in digests:
            descriptor = self._save(str(digest))
            if descriptor is None:
                gone.append(digest)
            else:
                saved[str(digest)] = descriptor
        tagged = [
            {**saved[found], "annotations": {_TAG: tag}}
            for tag in self._client.tags(self._registry, self._repository)
            if (found := self._digest_of(tag)) in saved
        ]
        named = {entry["digest"] for entry in tagged}
        attached = [descriptor for name in saved for descriptor in self._attached(name)]
        entries = [*tagged, *(each for name, each in saved.items() if name not in named), *attached]
        self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self._write("index.json", {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries})
        return gone

    def __len__(self) -> int:
        """Return the number of images in the folder, by tag or digest."""
        return len(self._entries())

    def restore(self) -> None:
        """Copy back all images that the registry does not have.

        Raises:
            BackupError: the folder is not an image layout, or is incomplete.
            RegistryError: the registry did not answer, or refused.
        """
        entries = self._entries()
        pushed = set[str]()  # images share layers
        try:
            for entry in entries:
                self._restore(entry["digest"], pushed, (entry.get("annotations") or {}).get(_TAG))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries: list[dict[str, Any]] = json.loads((self._folder / "index.json").read_bytes())["manifests"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        return entries

    def _unreadable(self, error: Exception) -> BackupError:
        return BackupError(
            f"{self._folder} cannot be read as an OCI image layout: {error}",
            next_step="make the backup again, or use an older one",
        )

    def _digest_of(self, tag: str) -> str:
        found = self._client.manifest(self._registry, self._repository, tag)
        return str(Digest.of_bytes(found[1])) if found else ""

    def _attached(self, digest: str) -> Iterator[dict[str, Any]]:
        """Return signatures and similar artifacts, from the registry's list and from cosign's tags named by digest."""
        reference = ImageReference(self._registry, self._repository, Digest.parse(digest))
        for each in self._client.referrers(reference):
            descriptor = self._save(str(each.digest))
            if descriptor:
                yield descriptor
        for suffix in (".sig", ".att", ".sbom"):
            tag = digest.replace(":", "-") + suffix
            descriptor = self._save(tag)
            if descriptor:
                yield {**descriptor, "annotations": {_TAG: tag}}

    def _save(self, version: str) -> dict[str, Any] | None:
        """Copy a manifest, by tag or digest, with all its parts; return None if it does not exist."""
        path = f"/v2/{self._repository}/manifests/{version}"
        found = self._client.manifest(self._registry, self._repository, version)
        if found is None:
            return None
        media_type, body = found
        manifest = json.loads(body)
        for child in manifest.get("manifests") or ():
            if self._save(child["digest"]) is None:
                raise RegistryError(
                    f"{self._registry}{path} lists {child['digest']}, which is missing",
                    next_step="build the image again, or delete it",
                )
        for blob in _blobs(manifest):
            self._save_blob(blob["digest"])
        digest = Digest.of_bytes(body)
        file = self._blob(str(digest))
        if not file.exists():
            write_atomically(file, body)
        return {"mediaType": media_type, "digest": str(digest), "size": len(body)}

    def _save_blob(self, digest: str) -> None:
        file = self._blob(digest)
        if file.exists():
            return
        with replacing(file) as unfinished:
            with unfinished.open("wb") as content:
                self._client.download(self._registry, self._repository, digest, content)
            _verify(unfinished, digest)

    def _restore(self, digest: str, pushed: set[str], tag: str | None = None) -> None:
        body = self._blob(digest).read_bytes()
        _verify(self._blob(digest), digest)
        manifest = json.loads(body)
        for child in manifest.get("manifests") or ():
            self._restore(child["digest"], pushed)
        for blob in {each["digest"] for each in _blobs(manifest)} - pushed:
            _verify(self._blob(blob), blob)
            self._client.push_blob(self._registry, self._repository, blob, self._blob(blob))
            pushed.add(blob)
        media_type = manifest.get("mediaType") or (_INDEX if "manifests" in manifest else _MANIFEST)
        for version in filter(None, (digest, tag)):
            self._client.push_manifest(self._registry, self._repository, version, body, media_type)

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = str(Digest.parse(digest)).partition(":")
        file = self._folder / "blobs" / algorithm / value
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _write(self, name: str, content: dict[str, Any]) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(content, indent=2))


def _blobs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    config = manifest.get("config")
    return [*([config] if config else []), *(manifest.get("layers") or ())]


def _verify(file: Path, digest: str) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if f"sha256:{found}" != digest:
        raise RegistryError(f"{file} does not match the digest {digest}", next_step="remove it, and run again")
