"""The container spec, which declares where an asset runs, and its encoding in op tags."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar, cast

import dagster as dg

from ml_assets.dagster_internals import asset_with, op_with, stringify_asset_key_to_input_name
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import CONTAINER_TAG

__all__ = ["IMAGES_GROUP", "ContainerSpec", "ImageAsset", "image_key", "placed_image", "runs_in"]

_Definition = TypeVar("_Definition", bound=dg.AssetsDefinition | dg.OpDefinition)

IMAGES_GROUP = "images"
"""Group of all image assets, so that automation, jobs and schedules can exclude them."""

ImageAsset = dg.AssetsDefinition | dg.AssetKey | str
"""An image asset, or its key."""


@dataclass(frozen=True)
class ContainerSpec:
    """The image asset and the pool that an asset runs on.

    If either is None, the target's settings decide.
    """

    image: str | None = None
    pool: str | None = None

    def to_tags(self) -> dict[str, str]:
        """Return the spec as an op tag; no tag if it is empty."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {CONTAINER_TAG: json.dumps(fields, sort_keys=True)} if fields else {}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """Return the spec in op tags."""
        return cls(**json.loads(tags.get(CONTAINER_TAG, "{}")))


def placed_image(spec: ContainerSpec, asset: dg.AssetsDefinition) -> dg.AssetKey | None:
    """Return the key of a spec's image among an asset's dependencies.

    It differs from the spec's key if assets got a prefix when they were loaded: Dagster renames the dependencies but
    not the op tags.
    """
    if spec.image is None:
        return None
    declared = dg.AssetKey.from_user_string(spec.image)
    return asset.keys_by_input_name.get(stringify_asset_key_to_input_name(declared), declared)


def image_key(image: ImageAsset) -> dg.AssetKey:
    """Return the key of an image asset.

    Raises:
        DefinitionError: the given assets definition is not an image asset.
    """
    if not isinstance(image, dg.AssetsDefinition):
        return dg.AssetKey.from_user_string(image) if isinstance(image, str) else image
    if image.group_names_by_key.get(image.key) != IMAGES_GROUP:
        raise DefinitionError(
            f"image={image.key.to_user_string()} is not an image asset",
            next_step="pass the return value of ml_assets.container_image",
        )
    return image.key


def runs_in(image: ImageAsset | None = None, pool: str | None = None) -> Callable[[_Definition], _Definition]:
    """Declare where a plain Dagster asset, multi-asset, check or op runs. Put this above Dagster's decorator.

    ::

        @runs_in(train_image, pool="gpu")
        @dg.asset
        def report(): ...

    An asset gets the image asset as a dependency, like assets of the factories.

    Args:
        image: image asset that it runs in.
        pool: pool that it runs on, and the Dagster concurrency pool of that name.

    Raises:
        DefinitionError: the decorated object has no step of its own, or the image is not an image asset.
    """
    key = image_key(image) if image is not None else None
    spec = ContainerSpec(key.to_user_string() if key else None, pool)

    def place(definition: _Definition) -> _Definition:
        if isinstance(definition, dg.OpDefinition):
            return cast("_Definition", op_with(definition, spec.to_tags(), spec.pool))
        if not isinstance(definition, dg.AssetsDefinition) or not isinstance(definition.node_def, dg.OpDefinition):
            raise DefinitionError(
                f"runs_in cannot place {definition!r}, which has no step of its own",
                next_step="put runs_in above @asset, @multi_asset, @asset_check or @op; in a graph, above each op",
            )
        attributes: dict[str, Any] = {"node_def": op_with(definition.node_def, spec.to_tags(), spec.pool)}
        if key is not None and definition.keys:
            attributes |= _depending_on(key, definition, attributes["node_def"])
        return cast("_Definition", asset_with(definition, attributes))

    return place


def _depending_on(image: dg.AssetKey, definition: dg.AssetsDefinition, op: dg.OpDefinition) -> dict[str, Any]:
    """Return the attributes that change when an asset gets one more dependency.

    Dagster's ``map_asset_specs`` refuses to add a dependency if the function takes the value of another.
    """
    name = stringify_asset_key_to_input_name(image)
    ins = {each.name: dg.In.from_definition(each) for each in op.input_defs}
    return {
        "node_def": op.with_replaced_properties(op.name, ins={**ins, name: dg.In(dg.Nothing)}),
        "keys_by_input_name": {**definition.node_keys_by_input_name, name: image},
        "specs": [spec.replace_attributes(deps=[*spec.deps, image]) for spec in definition.specs],
    }
