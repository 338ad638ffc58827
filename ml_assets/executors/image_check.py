"""Check that a runtime runs the requested image.

Runtimes identify an image by the digest of its index, of its platform's manifest, or of its configuration. The registry
tells which of these digests belong together.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ml_assets.placement import Placement
from ml_assets.resources.errors import RegistryError
from ml_assets.resources.identity import ImageReference

if TYPE_CHECKING:
    from ml_assets.resources.registry.client import RegistryClient

__all__ = ["image_check"]


def image_check(registry: "RegistryClient") -> Callable[[str, Placement], bool | None]:
    """Return a function that compares a runtime's image id with a placement: None if the registry cannot tell."""
    known: dict[str, frozenset[str]] = {}

    def ran(image_id: str, placement: Placement) -> bool | None:
        digest = re.search(r"sha256:[0-9a-f]{64}", image_id)
        if digest is None:
            return None
        asked = {str(ImageReference.parse(placement.image).digest), placement.index_digest}
        if digest[0] in asked:
            return True
        try:
            if placement.image not in known:
                known[placement.image] = _names(registry, placement.image)
        except RegistryError:
            return None
        return digest[0] in known[placement.image]

    return ran


def _names(registry: "RegistryClient", image: str) -> frozenset[str]:
    """Return every digest by which a runtime may identify an image: its platforms' manifests and configurations."""
    published = registry.find(image)
    if published is None:
        return frozenset()
    where = published.reference
    manifests = [ImageReference(where.registry, where.repository, digest) for digest in published.platforms.values()]
    configurations = [registry.configuration(manifest).digest for manifest in manifests]
    return frozenset(str(digest) for digest in (*published.platforms.values(), *configurations))
