"""A client for OCI registries: digests and platforms of tags, configurations, labels, referrers.

Each tag is resolved once, here, to a digest. All received content is verified against its requested or announced
digest. Source: the OCI image and distribution specifications 1.1.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.registry.documents import (
    Configuration,
    Descriptor,
    Manifest,
    Tags,
    choose_platform,
    next_page,
    parse_document,
    platform_name,
    platforms_of,
    read_digest,
    verify_body,
)
from ml_assets.resources.registry.session import RegistryResponse, RegistrySession

__all__ = ["ImageConfiguration", "ManifestParts", "PublishedImage", "Referrer", "RegistryClient", "ResolvedImage"]

DEFAULT_PLATFORM = "linux/amd64"
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """The current content of an image name in a registry."""

    reference: ImageReference
    """Digest of the index if the image has one, else of the only manifest."""
    is_index: bool
    platforms: Mapping[str, Digest]
    """Manifest of each platform, by ``system/architecture``, with ``/variant`` if there is one."""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """One platform of an image."""

    reference: ImageReference
    """Digest of the platform's manifest."""
    platform: str
    index_digest: Digest | None
    """Digest of the index that contains the manifest, if any."""


@dataclass(frozen=True, slots=True)
class ImageConfiguration:
    """The configuration that a platform's manifest points to."""

    digest: Digest
    """Digest of the configuration; some runtimes report it as the running image."""
    platform: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Referrer:
    """An artifact attached to an image, such as a signature, an SBOM or an attestation."""

    digest: Digest
    artifact_type: str
    size: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ManifestParts:
    """The parts of a manifest or index."""

    manifests: tuple[Digest, ...]
    """Manifests that an index lists, attestations included."""
    blobs: Mapping[Digest, int]
    """Configuration and layers of a manifest, with their sizes in bytes."""


class RegistryClient:
    """Reads and writes registries; each image's name selects the registry.

    Args:
        plain_http: registries (``host[:port]``) without TLS. Loopback addresses never use it.
        docker_config: Docker's ``config.json`` with credentials; ``~/.docker/config.json`` if left out.
        timeout: seconds to wait for a connection, and for each part of an answer.
        reached_at: registry → ``host[:port]`` at which this process reaches it, if different from its name.
    """

    def __init__(
        self,
        *,
        plain_http: Collection[str] = (),
        docker_config: Path | None = None,
        timeout: float = 30.0,
        reached_at: Mapping[str, str] | None = None,
    ) -> None:
        self._plain_http = frozenset(plain_http)
        self._docker_config = docker_config or Path.home() / ".docker" / "config.json"
        self._timeout = timeout
        self._reached_at = dict(reached_at or {})
        self._sessions: dict[str, RegistrySession] = {}

    def find(self, name: str) -> PublishedImage | None:
        """Look up ``registry/repository:tag`` (or ``@digest``); None if the registry does not have it.

        Raises:
            RegistryError: the name is malformed, the registry did not answer or refused, or its answer is not an
                image or has a different digest.
        """
        target = _Name.parse(name)
        found = self._manifest(target.registry, target.repository, target.version)
        if found is None:
            return None
        digest, manifest = found
        reference = ImageReference(target.registry, target.repository, digest)
        if manifest.manifests is not None:
            return PublishedImage(reference, True, platforms_of(manifest.manifests))
        configuration = self._configuration(reference, manifest)
        return PublishedImage(reference, False, {configuration.platform: digest})

    def resolve(self, name: str, platform: str = DEFAULT_PLATFORM) -> ResolvedImage:
        """Find the manifest that ``registry/repository:tag`` (or ``@digest``) stands for on a platform.

        Raises:
            RegistryError: as `find`, and if the image does not exist or does not support the platform.
        """
        published = self.find(name)
        if published is None:
            raise _missing(name)
        key = choose_platform(published.platforms, platform)
        if key is None:
            raise RegistryError(
                f"{name} does not support {platform}; its platforms: {', '.join(published.platforms) or 'none'}",
                next_step="name one of these platforms, or build the image for yours",
            )
        whole = published.reference
        reference = ImageReference(whole.registry, whole.repository, published.platforms[key])
        return ResolvedImage(reference, key, whole.digest if published.is_index else None)

    def configuration(self, reference: ImageReference) -> ImageConfiguration:
        """Return the configuration of one platform's image.

        Raises:
            RegistryError: as `find`, and if there is no such manifest or it is an index.
        """
        found = self._manifest(reference.registry, reference.repository, str(reference.digest))
        if found is None:
            raise _missing(str(reference))
        if found[1].manifests is not None:
            raise RegistryError(f"{reference} is an index of several platforms", next_step="resolve one platform first")
        return self._configuration(reference, found[1])

    def labels(self, reference: ImageReference) -> Mapping[str, str]:
        """Return the labels of one platform's image; raises as `configuration`."""
        return self.configuration(reference).labels

    def referrers(self, reference: ImageReference, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """Return the artifacts attached to an image or index, of one type if given.

        For registries without the referrers API, its fallback is used: a tag named after the digest.

        Raises:
            RegistryError: the registry did not answer or refused, or its answer cannot be parsed.
        """
        base = f"/v2/{reference.repository}/referrers/{reference.digest}"
        entries: list[Descriptor] = []
        for answer in self._pages(reference.registry, reference.repository, base, accept=_INDEX_TYPES[0]):
            if answer.status == 404:
                fallback = str(reference.digest).replace(":", "-")
                found = self._manifest(reference.registry, reference.repository, fallback)
                entries = list(found[1].manifests or ()) if found else []
            else:
                entries += parse_document(Manifest, answer.body, base).manifests or ()
        return tuple(
            Referrer(read_digest(entry.digest), entry.artifact_type, entry.size, entry.annotations)
            for entry in entries
            if artifact_type in (None, entry.artifact_type)
        )

    def parts(self, reference: ImageReference) -> ManifestParts | None:
        """Return the parts of an image or index; None if the registry holds no such manifest. Raises as `find`."""
        found = self._manifest(reference.registry, reference.repository, str(reference.digest))
        if found is None:
            return None
        manifest = found[1]
        blobs = [*([manifest.config] if manifest.config else []), *manifest.layers]
        return ManifestParts(
            tuple(read_digest(each.digest) for each in manifest.manifests or ()),
            {read_digest(each.digest): each.size for each in blobs},
        )

    def delete(self, reference: ImageReference) -> bool:
        """Delete a manifest or index by its digest, with all its tags; return False if the registry holds none.

        The registry frees the space of its layers when it collects garbage.

        Raises:
            RegistryError: the registry did not answer or refused, or does not support deletion.
        """
        path = f"/v2/{reference.repository}/manifests/{reference.digest}"
        return self._session(reference.registry).delete(path, repository=reference.repository)

    def tags(self, registry: str, repository: str) -> tuple[str, ...]:
        """Return the names of a repository's tags; none if there is no such repository.

        Raises:
            RegistryError: the registry did not answer or refused, or its answer cannot be parsed.
        """
        base = f"/v2/{repository}/tags/list"
        found: list[str] = []
        for answer in self._pages(registry, repository, base, accept="application/json"):
            if answer.status != 404:
                found += parse_document(Tags, answer.body, base).tags or ()
        return tuple(dict.fromkeys(found))

    def manifest(self, registry: str, repository: str, version: str) -> tuple[str, bytes] | None:
        """Return the media type and bytes of a manifest or index by tag or digest; None if absent. Raises as `find`."""
        path = f"/v2/{repository}/manifests/{version}"
        answer = self._get(registry, repository, path, accept=", ".join((*_INDEX_TYPES, *_MANIFEST_TYPES)))
        if answer.status == 404:
            return None
        verify_body(answer, version, f"{registry}{path}")
        return answer.headers.get("content-type", "").partition(";")[0], answer.body

    def download(self, registry: str, repository: str, digest: str, into: BinaryIO) -> None:
        """Write a blob to a file, which the caller verifies.

        Raises:
            RegistryError: as `find`, and if there is no such blob.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        if not self._session(registry).download(path, repository=repository, into=into):
            raise RegistryError(
                f"{registry}/{repository} no longer has {digest}, which is part of an image",
                next_step="build the image again, or delete it",
            )

    def push_blob(self, registry: str, repository: str, digest: str, source: Path) -> None:
        """Push a file, unless the repository holds it; raises as `find`."""
        self._session(registry).upload(digest, repository=repository, source=source)

    def push_manifest(self, registry: str, repository: str, version: str, body: bytes, media_type: str) -> None:
        """Push a manifest, whose parts are already there, under a tag or its digest; raises as `find`."""
        path = f"/v2/{repository}/manifests/{version}"
        self._session(registry).put(path, repository=repository, body=body, media_type=media_type)

    def check_rights(self, registry: str, repository: str, *, push: bool) -> None:
        """Check the rights to pull from and push to a repository, which need not exist. Leaves nothing there.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        self._get(registry, repository, f"/v2/{repository}/tags/list", accept="application/json")
        if push:
            self._session(registry).may_push(repository)

    def _manifest(self, registry: str, repository: str, version: str) -> "tuple[Digest, Manifest] | None":
        found = self.manifest(registry, repository, version)
        if found is None:
            return None
        what = f"{registry}/v2/{repository}/manifests/{version}"
        manifest = parse_document(Manifest, found[1], what)
        if manifest.manifests is None and manifest.config is None:
            raise RegistryError(
                f"{what} is neither an image manifest nor an index of version 2",
                next_step="check the name; build the image again if it has the old format (schema version 1)",
            )
        return Digest.of_bytes(found[1]), manifest

    def _configuration(self, reference: ImageReference, manifest: "Manifest") -> ImageConfiguration:
        if manifest.config is None:
            raise RegistryError(f"{reference} has no configuration", next_step="check that it names an image")
        path = f"/v2/{reference.repository}/blobs/{manifest.config.digest}"
        answer = self._get(reference.registry, reference.repository, path, accept="*/*")
        if answer.status == 404:
            raise RegistryError(f"the configuration of {reference} is missing", next_step="push the image again")
        digest = verify_body(answer, manifest.config.digest, f"{reference.registry}{path}")
        content = parse_document(Configuration, answer.body, f"{reference.registry}{path}")
        return ImageConfiguration(digest, platform_name(content), (content.config and content.config.labels) or {})

    def _pages(self, registry: str, repository: str, base: str, *, accept: str) -> Iterator[RegistryResponse]:
        """Yield each page of a list once; the last one may be a 404, if the list does not exist (any more)."""
        path: str | None = base
        visited: set[str] = set()
        while path and path not in visited:
            visited.add(path)
            answer = self._get(registry, repository, path, accept=accept)
            yield answer
            path = next_page(answer, base) if answer.status == 200 else None

    def _get(self, registry: str, repository: str, path: str, *, accept: str) -> RegistryResponse:
        return self._session(registry).get(path, repository=repository, accept=accept)

    def _session(self, registry: str) -> RegistrySession:
        session = self._sessions.get(registry)
        if session is None:
            session = self._sessions[registry] = RegistrySession(
                registry,
                plain_http=registry in self._plain_http,
                docker_config=self._docker_config,
                timeout=self._timeout,
                reached_at=self._reached_at.get(registry),
            )
        return session


@dataclass(frozen=True, slots=True)
class _Name:
    registry: str
    repository: str
    version: str
    """Tag or digest."""

    @classmethod
    def parse(cls, name: str) -> "_Name":
        registry, _, rest = name.partition("/")
        repository, at, digest = rest.partition("@")
        # A name may have both; the digest then takes precedence.
        repository, _, tag = repository.partition(":")
        try:
            if not at and not _TAG.fullmatch(tag):
                raise ValueError("it has no tag and no digest")
            if not re.search(r"[.:]|^localhost$", registry):
                raise ValueError("it does not start with a registry's host")
            version = str(Digest.parse(digest)) if at else tag
            ImageReference(registry, repository, Digest.of_bytes(b""))
        except ValueError as error:
            raise RegistryError(
                f"{name!r} is not an image name: {error}", next_step="write registry/repository:tag"
            ) from error
        return cls(registry, repository, version)


def _missing(name: str) -> RegistryError:
    return RegistryError(f"the registry does not have {name}", next_step="check the name, or push the image first")
