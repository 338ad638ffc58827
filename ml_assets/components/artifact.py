"""The common part of the components: the function of an artifact, and the attributes of its asset."""

import importlib
import keyword
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

import dagster as dg
from dagster.components.resolved.core_models import AssetSpecUpdateKwargs, resolve_asset_spec_update_kwargs_to_mapping
from pydantic import ConfigDict, Field

from ml_assets.resources.errors import DefinitionError

__all__ = ["ArtifactScaffolder", "AssetOptions", "FunctionArtifact", "asset_options"]

_NO_IDENTIFIER = re.compile(r"\W")


def asset_options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an asset, as Dagster's components name them, as options of a factory."""
    options = dict(attributes)
    if "kinds" in options:
        options["kinds"] = set(options["kinds"])
    if "skippable" in options:
        options["output_required"] = not options.pop("skippable")
    return options


def _resolved_options(context: dg.ResolutionContext, model: Any) -> dict[str, Any]:
    # The default is an empty dictionary, not a model.
    return dict(resolve_asset_spec_update_kwargs_to_mapping(context, model)) if model else {}


def _resolved_function(context: dg.ResolutionContext, path: str) -> Callable[..., Any]:
    load = dg.ComponentLoadContext.from_resolution_context(context)
    full = f"{load.defs_relative_module_name(load.path)}{path}" if path.startswith(".") else path
    module, _, name = full.rpartition(".")
    try:
        function: object = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: a name without a module
        raise DefinitionError(
            f"the function {full} cannot be imported: {error}",
            next_step="write it as package.module.function, or as .module.function for a module beside defs.yaml",
        ) from error
    if not callable(function):
        raise DefinitionError(f"{full} is {function!r}, not a function", next_step="name a function")
    return function


AssetOptions: TypeAlias = Annotated[
    dict[str, Any],
    dg.Resolver(
        _resolved_options,
        model_field_type=AssetSpecUpdateKwargs.model(),
        description="Attributes of the asset: key, group_name, deps, tags, owners, partitions_def and so on.",
        examples=[{"key": "shop/iris", "group_name": "iris"}],
    ),
]
"""Attributes of an asset in YAML; options of a factory in Python."""


class ArtifactScaffolder(dg.Scaffolder[Any]):
    """Writes the component, and a module with its function beside it."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write ``defs.yaml`` or ``component.py``; for YAML also a module with a function of the folder's name."""
        name = _NO_IDENTIFIER.sub("_", request.target_path.name)
        if not name.isidentifier() or keyword.iskeyword(name):
            name = f"make_{name}"
        dg.scaffold_component(request, {"function": f".{name}.{name}"})
        file = request.target_path / f"{name}.py"
        if request.scaffold_format == "yaml" and not file.exists():
            kind = request.type_name.rpartition(".")[2]
            returned = "ml_assets.TrainedModel" if kind == "Model" else "pd.DataFrame"
            imported = "ml_assets" if kind == "Model" else "pandas as pd"
            file.write_text(f"import {imported}\n\n\ndef {name}() -> {returned}:\n    raise NotImplementedError\n")


@dg.scaffold_with(ArtifactScaffolder)
class FunctionArtifact(dg.Component, dg.Model, dg.Resolvable):
    """An artifact that a function makes."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    function: Annotated[
        Callable[..., Any],
        dg.Resolver(
            _resolved_function,
            model_field_type=str,
            description="The function that makes the artifact: package.module.function, or .module.function for a "
            "module beside this file.",
            examples=["shop.features.iris", ".iris.iris"],
        ),
    ]
    image: Annotated[
        str | None,
        dg.Resolver.default(description="Key of the image asset that it runs in, such as images/train."),
    ] = None
    pool: Annotated[str | None, dg.Resolver.default(description="Pool that it runs on.", examples=["gpu"])] = None
    window: Annotated[
        dict[str, int],
        dg.Resolver.default(
            description="Number of upstream partitions to load, by parameter: the last ones up to the asset's own.",
            examples=[{"departures": 6}],
        ),
    ] = Field(default_factory=dict)
    asset: AssetOptions = Field(default_factory=dict)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the artifact's asset."""
        return dg.Definitions(assets=[self.declared()])

    @abstractmethod
    def declared(self) -> dg.AssetsDefinition:
        """Return the asset, as the factory of its kind makes it.

        Raises:
            DefinitionError: the function or an attribute is not accepted.
        """
