"""Which images a deployment refers to."""

from collections.abc import Iterator

import dagster as dg

from ml_assets.lineage import open_index
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.settings import Settings

__all__ = ["recorded_images"]


def recorded_images(instance: dg.DagsterInstance, settings: Settings) -> tuple[ImageReference, ...]:
    """Images that anything was made in, or that were made, with the indexes above them, and those that settings name.

    Raises:
        LineageError: Dagster's log cannot be read.
    """
    with open_index(instance) as index:
        nodes = list(index.whole().nodes.values())
    found = set(_pinned(settings))
    for node in nodes:
        if node.image:
            image = ImageReference.parse(node.image)
            found.add(image)
            if node.index_digest:
                found.add(ImageReference(image.registry, image.repository, Digest.parse(node.index_digest)))
    return tuple(sorted(found, key=str))


def _pinned(settings: Settings) -> Iterator[ImageReference]:
    given = [settings.containers.image, settings.containers.builder_image]
    given += [override.image for override in settings.placement.values()]
    for image in given:
        if image and "@" in image:  # else the key of an asset
            yield ImageReference.parse(image)
