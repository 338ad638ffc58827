"""Declarations of artifacts: the options of a kind, for a function that makes one artifact or several."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ml_assets.artifacts.annotations import with_generic_types
from ml_assets.artifacts.attempt import Recipe
from ml_assets.artifacts.factory import define_artifact, recording
from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.artifacts.options import (
    container_spec,
    given_code,
    loaded_files,
    output_options,
    refuse_ranges,
    step_options,
)
from ml_assets.artifacts.writer import Writer
from ml_assets.containers import ImageAsset, image_key
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["Declaration", "declare", "define_artifacts"]

_OUTPUT_OPTIONS = frozenset(inspect.signature(dg.AssetOut).parameters) - {"kwargs", "is_required"} | {"output_required"}


@dataclass(frozen=True)
class Declaration:
    """A kind of artifact with its options: a decorator of a function, or one of the outputs of `define_artifacts`.

    Attributes:
        kind: the artifact's kind.
        write: stores the value.
        tracked: True to log each attempt to MLflow as a run.
        check: refuses a function of one artifact whose annotations `write` cannot store.
        options: other arguments of `define_artifact`.
    """

    kind: ArtifactKind
    write: Writer
    tracked: bool = False
    check: Callable[[Callable[..., Any]], None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, function: Callable[..., Any]) -> dg.AssetsDefinition:
        """Return an asset made from a function."""
        if self.check is not None:
            self.check(function)
        return define_artifact(function, kind=self.kind, write=self.write, tracked=self.tracked, **self.options)


def declare(
    function: Callable[..., Any] | None,
    kind: ArtifactKind,
    write: Writer,
    *,
    tracked: bool = False,
    check: Callable[[Callable[..., Any]], None] | None = None,
    **options: Any,
) -> dg.AssetsDefinition | Declaration:
    """Return the asset of a function, or without a function the `Declaration` that decorates one.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    if function is not None and not callable(function):
        raise DefinitionError(
            f"a factory decorates a function, got {function!r}",
            next_step="write @ml_assets.dataset above the function, and pass options by keyword",
        )
    declaration = Declaration(kind, write, tracked, check, options)
    return declaration if function is None else declaration(function)


def define_artifacts(
    function: Callable[..., Any],
    *,
    outs: Mapping[str, Declaration],
    image: ImageAsset | None = None,
    pool: str | None = None,
    window: Mapping[str, int] | None = None,
    seed: int | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Return assets that one function makes.

    Args:
        function: computes the values; a direct call still returns just its values.
        outs: declaration of each asset, by output name.
        image: image asset that the step runs in; becomes a dependency of each asset.
        pool: pool that the step runs on, and the Dagster concurrency pool of that name.
        window: as for `define_artifact`.
        seed: as for `define_artifact`.
        options: every keyword of `dagster.multi_asset` except outs and specs.

    Raises:
        DefinitionError: the function or an option is not accepted.
    """
    if not outs:
        raise DefinitionError(
            "multi_asset has no outputs",
            next_step='declare them, as in outs={"train": ml_assets.dataset()}',
            asset=function.__name__,
        )
    refuse_ranges(function, options)
    spec, given = container_spec(image, pool), options.pop("code_version", None)
    can_subset = options.get("can_subset", False)
    recipes, asset_outs = {}, {}
    for name, declared in outs.items():
        own = _own_options(name, declared, function)
        required, code = own.pop("output_required", True), given_code(function, own.pop("code_version", given))
        loaded = loaded_files(function, code.covered)
        recipes[name] = Recipe(declared.kind, declared.write, spec, code, loaded, seed, declared.tracked, required)
        own = {"io_manager_key": STORAGE_KEY, **own, **output_options(declared.kind, code, own)}
        asset_outs[name] = dg.AssetOut(is_required=required and not can_subset, **own)
    options = with_generic_types(function, options)
    options |= step_options(spec, image, window, options)
    if image is not None and options.get("internal_asset_deps"):
        given_deps = options["internal_asset_deps"]
        options["internal_asset_deps"] = {name: {*keys, image_key(image)} for name, keys in given_deps.items()}
    options["required_resource_keys"] = {STORAGE_KEY, *(options.get("required_resource_keys") or ())}
    assets: dg.AssetsDefinition = dg.multi_asset(outs=asset_outs, **options)(recording(function, recipes))
    return assets


def _own_options(name: str, declared: object, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of one of several outputs.

    Raises:
        DefinitionError: it is no declaration, or has an option of the whole step.
    """
    if not isinstance(declared, Declaration):
        raise DefinitionError(
            f"the output {name!r} is {declared!r}",
            next_step="declare it with a factory without a function, such as ml_assets.dataset()",
            asset=function.__name__,
        )
    unset = {("image", None), ("pool", None), ("window", None), ("seed", None), ("seed", 0)}
    given = {
        option: value
        for option, value in declared.options.items()
        if not any((option, value) == each for each in unset)
    }
    if wrong := sorted(given.keys() - _OUTPUT_OPTIONS):
        raise DefinitionError(
            f"the output {name!r} sets {', '.join(wrong)}, which only the whole step can have",
            next_step="pass it to multi_asset",
            asset=function.__name__,
        )
    return given
