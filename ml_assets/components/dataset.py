"""The component of a dataset."""

from typing import Annotated

import dagster as dg

from ml_assets.components.artifact import FunctionArtifact, asset_options
from ml_assets.datasets import dataset

__all__ = ["Dataset"]


class Dataset(FunctionArtifact):
    """A dataset: source data from which features are computed. See `ml_assets.dataset`.

    ::

        type: ml_assets.Dataset
        attributes:
          function: .iris.iris
          asset:
            group_name: flowers
    """

    seed: Annotated[int | None, dg.Resolver.default(description="Seed of the random generators.")] = None
    tracked: Annotated[bool, dg.Resolver.default(description="Log each attempt to MLflow as a run.")] = False

    def declared(self) -> dg.AssetsDefinition:
        """Return the dataset's asset."""
        return dataset(
            self.function,
            image=self.image,
            pool=self.pool,
            window=self.window,
            seed=self.seed,
            tracked=self.tracked,
            **asset_options(self.asset),
        )
