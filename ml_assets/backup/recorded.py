"""The images that a deployment refers to."""

from collections.abc import Iterator

import dagster as dg

from ml_assets.lineage import open_index
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.settings import Settings

__all__ = ["recorded_images"]


def recorded_images(instance: dg.DagsterInstance, settings: Settings) -> tuple[ImageReference, ...]:
    """Return the images that artifacts were made in, built images, the indexes above them, and images in the settings.

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
        if image and "@" in image:  # otherwise the key of an asset
            yield ImageReference.parse(image)
