"""The component of a model."""

from typing import Annotated

import dagster as dg

from ml_assets.components.artifact import FunctionArtifact, asset_options
from ml_assets.models import model

__all__ = ["Model"]


class Model(FunctionArtifact):
    """A model: a trained estimator with its metrics and figures. See `ml_assets.model`.

    ::

        type: ml_assets.Model
        attributes:
          function: .iris_model.iris_model
          registered_name: iris
          pool: gpu
    """

    registered_name: Annotated[
        str | None, dg.Resolver.default(description="Name in the model registry; without it, it is not registered.")
    ] = None
    served: Annotated[bool, dg.Resolver.default(description="True if the model server must be able to run it.")] = True
    seed: Annotated[int | None, dg.Resolver.default(description="Seed of the random generators.")] = 0

    def declared(self) -> dg.AssetsDefinition:
        """Return the model's asset."""
        return model(
            self.function,
            image=self.image,
            pool=self.pool,
            window=self.window,
            seed=self.seed,
            registered_name=self.registered_name,
            served=self.served,
            **asset_options(self.asset),
        )
