"""The component of an image."""

from typing import Annotated, Any

import dagster as dg
from pydantic import Field

from ml_assets.components.artifact import AssetOptions, asset_options
from ml_assets.images import container_image

__all__ = ["ContainerImage"]


class _ImageScaffolder(dg.Scaffolder[Any]):
    """Writes a component for a Dockerfile of the project."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name = request.target_path.name
        dg.scaffold_component(request, {"name": name, "dockerfile": f"Dockerfile.{name}", "sources": ["src"]})


def _resolved_arguments(context: dg.ResolutionContext, given: dict[str, Any]) -> dict[str, str]:
    # Dagster would render the text "3.10" as the number 3.1.
    return {name: str(context.resolve_value(value) if "{{" in str(value) else value) for name, value in given.items()}


@dg.scaffold_with(_ImageScaffolder)
class ContainerImage(dg.Component, dg.Model, dg.Resolvable):
    """An image that other assets run in. Its key is ``images/<name>``. See `ml_assets.container_image`.

    ::

        type: ml_assets.ContainerImage
        attributes:
          name: train
          dockerfile: Dockerfile.train
          sources: [src]
    """

    name: Annotated[str, dg.Resolver.default(description="Name of the image, and last part of its repository.")]
    dockerfile: Annotated[str, dg.Resolver.default(description="Dockerfile, relative to the project's folder.")]
    sources: Annotated[
        list[str], dg.Resolver.default(description="First-party files and folders that the Dockerfile copies.")
    ]
    bases: Annotated[
        dict[str, str], dg.Resolver.default(description="Build argument → name of the base image in images.lock.")
    ] = Field(default_factory=dict)
    arguments: Annotated[
        dict[str, str],
        dg.Resolver(
            _resolved_arguments,
            model_field_type=dict[str, str | int | float | bool],
            description="Other build arguments, never a secret. Quote versions, such as '3.10'.",
        ),
    ] = Field(default_factory=dict)
    target: Annotated[
        str | None, dg.Resolver.default(description="Stage of the Dockerfile to build; null for the last one.")
    ] = "code"
    asset: AssetOptions = Field(default_factory=dict)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the image's asset.

        Raises:
            DefinitionError: an attribute is not accepted.
        """
        image = container_image(
            self.name,
            dockerfile=self.dockerfile,
            sources=self.sources,
            bases=self.bases,
            arguments=self.arguments,
            target=self.target,
            **asset_options(self.asset),
        )
        return dg.Definitions(assets=[image])
