"""The container spec: what an asset says of where it runs, and its encoding in op tags."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import dagster as dg
from dagster._core.definitions.assets.definition.assets_definition import stringify_asset_key_to_input_name

from resources.errors import DefinitionError
from resources.provenance import CONTAINER_TAG

__all__ = ["IMAGES_GROUP", "ContainerSpec", "ImageAsset", "image_key", "placed_image"]

IMAGES_GROUP = "images"
"""Group that all image assets stand in, so that automation, jobs and schedules can leave them out."""

ImageAsset = dg.AssetsDefinition | dg.AssetKey | str
"""An image asset, or its key."""


@dataclass(frozen=True)
class ContainerSpec:
    """Where an asset runs: in which image asset, on which pool.

    Either may be None: the target's settings decide then.
    """

    image: str | None = None
    pool: str | None = None

    def to_tags(self) -> dict[str, str]:
        """The spec as an op tag; no tag when it says nothing."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {CONTAINER_TAG: json.dumps(fields, sort_keys=True)} if fields else {}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """The spec that op tags carry."""
        return cls(**json.loads(tags.get(CONTAINER_TAG, "{}")))


def placed_image(spec: ContainerSpec, asset: dg.AssetsDefinition) -> dg.AssetKey | None:
    """The key of a spec's image among an asset's dependencies.

    It differs from the spec's where assets were given a prefix when they were loaded: Dagster renames dependencies, and
    knows nothing of op tags.
    """
    if spec.image is None:
        return None
    declared = dg.AssetKey.from_user_string(spec.image)
    return asset.keys_by_input_name.get(stringify_asset_key_to_input_name(declared), declared)


def image_key(image: ImageAsset) -> dg.AssetKey:
    """The key of an image asset.

    Raises:
        DefinitionError: the assets definition given makes no image.
    """
    if not isinstance(image, dg.AssetsDefinition):
        return dg.AssetKey.from_user_string(image) if isinstance(image, str) else image
    if image.group_names_by_key.get(image.key) != IMAGES_GROUP:
        raise DefinitionError(
            f"image={image.key.to_user_string()} is not an image asset",
            next_step="pass what ml_assets.images.container_image returned",
        )
    return image.key
